//! The path of a request: one canonical spelling, or a refusal where two readers could arrive at different resources.
use crate::refusal::{Code, Refusal};
use std::borrow::Cow;

/// Greatest length of a path in bytes, as sent and in canonical form.
pub const MAX_PATH: usize = 8 * 1024;
/// Greatest number of segments of a path.
pub const MAX_SEGMENTS: usize = 128;
/// Greatest length of a query in bytes.
pub const MAX_QUERY: usize = 8 * 1024;

/// The canonical spelling of a raw path (RFC 3986, 6.2.2): percent-encoded unreserved characters are decoded, all other
/// percent-encoding is kept with upper-case hex, and `[ ] ^ |`, which browsers send raw, are encoded.
///
/// Refused with `request.ambiguous`, raw or encoded: slashes and backslashes inside a segment, dots that are encoded,
/// dot segments, empty segments other than the last, path parameters (`;`), control characters, text that is not
/// UTF-8, percent signs that would decode twice, and characters that some readers fold to slash, backslash or dot.
/// `request.malformed`: raw characters that RFC 3986 has no place for; `request.too-large`: see the limits above.
///
/// The result is a fixed point: the canonical path of a canonical path is itself.
pub fn canonical(raw: &str) -> Result<Cow<'_, str>, Refusal> {
    if raw.len() > MAX_PATH {
        return Err(too_large("path is too long"));
    }
    let mut plain = true;
    for byte in raw.bytes() {
        match class(byte) {
            Class::Plain => {}
            Class::Percent | Class::Encode => plain = false,
            Class::Ambiguous(cause) => return Err(ambiguous(cause)),
            Class::Malformed(cause) => return Err(malformed(cause)),
        }
    }
    let path = if plain { Cow::Borrowed(raw) } else { Cow::Owned(rewrite(raw)?) };
    if path.len() > MAX_PATH {
        return Err(too_large("path is too long"));
    }
    segments(&path)?;
    Ok(path)
}

/// Checks a raw query, which is kept as sent.
///
/// Allowed are the characters of RFC 3986, 3.4 and `[ ] { } | ^` and the backtick, which browsers send raw and which no
/// parser takes for a delimiter of the request. Refused are control characters, spaces, non-ASCII, `" < >`, `#`, raw
/// backslashes, invalid percent-encoding, and `%00`, which ends a string for some readers.
pub fn check_query(raw: &str) -> Result<(), Refusal> {
    if raw.len() > MAX_QUERY {
        return Err(too_large("query is too long"));
    }
    let mut rest = raw.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'%' => {
                let (value, after) = triplet(tail).ok_or_else(|| ambiguous("invalid percent-encoding in query"))?;
                if value == 0 {
                    return Err(ambiguous("NUL in query"));
                }
                rest = after;
            }
            b'?' | b';' | b'[' | b']' | b'{' | b'}' | b'|' | b'^' | b'`' => {}
            b'#' => return Err(ambiguous("fragment in target")),
            b'\\' => return Err(ambiguous("backslash in query")),
            0x80.. => return Err(ambiguous("non-ASCII character in query")),
            _ if matches!(class(*byte), Class::Plain) => {}
            _ => return Err(malformed("invalid character in query")),
        }
    }
    Ok(())
}

/// What a raw byte of a path means.
enum Class {
    /// Stands for itself: `pchar` without `%` and `;`, or the slash between segments.
    Plain,
    /// Begins a percent-encoded byte.
    Percent,
    /// Means itself to every reader, but belongs encoded.
    Encode,
    Ambiguous(&'static str),
    Malformed(&'static str),
}

#[inline]
fn class(byte: u8) -> Class {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => Class::Plain,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => Class::Plain,
        b'%' => Class::Percent,
        b'[' | b']' | b'^' | b'|' => Class::Encode,
        b'\\' => Class::Ambiguous("backslash in path"),
        b';' => Class::Ambiguous("path parameter"),
        b'#' => Class::Ambiguous("fragment in target"),
        0x80.. => Class::Ambiguous("non-ASCII character in path"),
        0..=0x1f | 0x7f => Class::Malformed("control character in path"),
        b' ' | b'"' | b'<' | b'>' | b'?' | b'`' | b'{' | b'}' => Class::Malformed("invalid character in path"),
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn rewrite(raw: &str) -> Result<String, Refusal> {
    let mut out = String::with_capacity(raw.len() + 8);
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let value = match class(*byte) {
            Class::Percent => {
                let (value, after) = triplet(tail).ok_or_else(|| ambiguous("invalid percent-encoding in path"))?;
                rest = after;
                match value {
                    b'/' => return Err(ambiguous("encoded slash")),
                    b'\\' => return Err(ambiguous("encoded backslash")),
                    b'.' => return Err(ambiguous("encoded dot")),
                    b';' => return Err(ambiguous("path parameter")),
                    0..=0x1f | 0x7f => return Err(ambiguous("encoded control character")),
                    _ => value,
                }
            }
            Class::Plain => {
                out.push(char::from(*byte));
                decoded.push(*byte);
                continue;
            }
            Class::Encode | Class::Ambiguous(_) | Class::Malformed(_) => *byte,
        };
        decoded.push(value);
        if value.is_ascii_alphanumeric() || matches!(value, b'-' | b'_' | b'~') {
            out.push(char::from(value));
        } else {
            out.push('%');
            for nibble in [value >> 4, value & 0xf] {
                out.extend(HEX.get(usize::from(nibble)).copied().map(char::from));
            }
        }
    }
    let decoded = std::str::from_utf8(&decoded).map_err(|_| ambiguous("path is not UTF-8"))?;
    check_decoded(decoded)?;
    Ok(out)
}

/// What only the decoded text shows.
fn check_decoded(decoded: &str) -> Result<(), Refusal> {
    let mut rest = decoded;
    while let Some((_, after)) = rest.split_once('%') {
        if triplet(after.as_bytes()).is_some() {
            return Err(ambiguous("double percent-encoding"));
        }
        rest = after;
    }
    for c in decoded.chars().filter(|c| !c.is_ascii()) {
        if c.is_control() {
            return Err(ambiguous("encoded control character"));
        }
        if looks_like_delimiter(c) {
            return Err(ambiguous("look-alike of slash, backslash or dot"));
        }
    }
    // Readers that trim white space see dot segments here; `segments` sees the raw ones.
    let padded = |s: &str| matches!(s.trim(), "." | ".." | "") && s.trim().len() != s.len();
    if decoded.split('/').any(padded) {
        return Err(ambiguous("segment of white space and dots"));
    }
    Ok(())
}

/// Characters whose compatibility form (UAX #15, NFKC) or best-fit mapping holds a slash, a backslash or a whole dot segment.
fn looks_like_delimiter(c: char) -> bool {
    match c {
        // solidus: fraction, division, big, fullwidth, box drawing diagonal, and the letter pairs a/c, a/s, c/o, c/u
        '\u{2044}' | '\u{2215}' | '\u{29f8}' | '\u{ff0f}' | '\u{2571}' | '\u{2100}' | '\u{2101}' | '\u{2105}'
        | '\u{2106}' => true,
        // backslash: set minus, operator, big, small, fullwidth, box drawing diagonal
        '\u{2216}' | '\u{29f5}' | '\u{29f9}' | '\u{fe68}' | '\u{ff3c}' | '\u{2572}' => true,
        // full stop: one dot leader, two dot leader (also vertical), small, fullwidth
        '\u{2024}' | '\u{2025}' | '\u{fe30}' | '\u{fe52}' | '\u{ff0e}' => true,
        _ => false,
    }
}

fn segments(path: &str) -> Result<(), Refusal> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(malformed("target is not a path"));
    };
    let (mut count, mut length, mut dots) = (1usize, 0usize, 0usize);
    for byte in rest.bytes() {
        if byte != b'/' {
            length += 1;
            dots += usize::from(byte == b'.');
            continue;
        }
        if length == 0 {
            return Err(ambiguous("empty segment"));
        }
        if length == dots && length <= 2 {
            return Err(ambiguous("dot segment"));
        }
        (count, length, dots) = (count + 1, 0, 0);
    }
    if length == dots && (1..=2).contains(&length) {
        return Err(ambiguous("dot segment"));
    }
    if count > MAX_SEGMENTS {
        return Err(too_large("path has too many segments"));
    }
    Ok(())
}

/// Reads the two hex digits after a percent sign.
fn triplet(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, rest @ ..] = bytes else { return None };
    let value = char::from(*high).to_digit(16)? << 4 | char::from(*low).to_digit(16)?;
    Some((u8::try_from(value).ok()?, rest))
}

fn malformed(cause: &'static str) -> Refusal {
    Refusal::new(Code::RequestMalformed, cause)
}

fn ambiguous(cause: &'static str) -> Refusal {
    Refusal::new(Code::RequestAmbiguous, cause)
}

fn too_large(cause: &'static str) -> Refusal {
    Refusal::new(Code::RequestTooLarge, cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(raw: &str) -> String {
        match canonical(raw) {
            Ok(path) => path.into_owned(),
            Err(refusal) => format!("{}: {}", refusal.code.id(), refusal.cause),
        }
    }

    #[test]
    fn one_spelling_of_a_path() {
        for (raw, expected) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/a/b.txt", "/a/b.txt"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a..b/...", "/a..b/..."),
            ("/A", "/A"),
            ("/%41%62%7e%2D%5f", "/Ab~-_"),
            ("/a%20b", "/a%20b"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/%e6%97%a5", "/%E6%97%A5"),
            ("/%3a%40%2b", "/%3A%40%2B"),
            ("/:@!$&'()*+,=", "/:@!$&'()*+,="),
            ("/100%25", "/100%25"),
            ("/100%25/x", "/100%25/x"),
            ("/%25g1", "/%25g1"),
            ("/[id]", "/%5Bid%5D"),
            ("/a|b^c", "/a%7Cb%5Ec"),
            ("/%3f%23", "/%3F%23"),
            ("/wait%E2%80%A6", "/wait%E2%80%A6"),
        ] {
            assert_eq!(read(raw), expected, "{raw}");
            assert_eq!(read(expected), expected, "canonical form of {raw} is a fixed point");
        }
    }

    #[test]
    fn a_path_that_is_refused() {
        for (raw, expected) in [
            // RFC 3986, 5.2.4: whoever removes dot segments reads another path than whoever does not.
            ("/.", "request.ambiguous: dot segment"),
            ("/..", "request.ambiguous: dot segment"),
            ("/./a", "request.ambiguous: dot segment"),
            ("/a/../b", "request.ambiguous: dot segment"),
            ("/a/..", "request.ambiguous: dot segment"),
            ("/a/./", "request.ambiguous: dot segment"),
            ("/%2e%2e/b", "request.ambiguous: encoded dot"),
            ("/.%2E/b", "request.ambiguous: encoded dot"),
            ("/a%2ejs", "request.ambiguous: encoded dot"),
            ("/..%20/", "request.ambiguous: segment of white space and dots"),
            ("/%20", "request.ambiguous: segment of white space and dots"),
            ("/%C2%A0..", "request.ambiguous: segment of white space and dots"),
            ("/a%2fb", "request.ambiguous: encoded slash"),
            ("/a%2Fb", "request.ambiguous: encoded slash"),
            ("/a%5cb", "request.ambiguous: encoded backslash"),
            ("/a\\b", "request.ambiguous: backslash in path"),
            ("//", "request.ambiguous: empty segment"),
            ("//evil", "request.ambiguous: empty segment"),
            ("/a//b", "request.ambiguous: empty segment"),
            ("/a//", "request.ambiguous: empty segment"),
            ("/a;v=1", "request.ambiguous: path parameter"),
            ("/a/..;/b", "request.ambiguous: path parameter"),
            ("/a%3bv", "request.ambiguous: path parameter"),
            ("/%00", "request.ambiguous: encoded control character"),
            ("/%0d%0aX:", "request.ambiguous: encoded control character"),
            ("/%7f", "request.ambiguous: encoded control character"),
            ("/%C2%85", "request.ambiguous: encoded control character"),
            ("/\0", "request.malformed: control character in path"),
            ("/\r\n", "request.malformed: control character in path"),
            ("/\x7f", "request.malformed: control character in path"),
            ("/a b", "request.malformed: invalid character in path"),
            ("/<a>", "request.malformed: invalid character in path"),
            ("/\"", "request.malformed: invalid character in path"),
            ("/{id}", "request.malformed: invalid character in path"),
            ("/a#b", "request.ambiguous: fragment in target"),
            ("/café", "request.ambiguous: non-ASCII character in path"),
            ("/%", "request.ambiguous: invalid percent-encoding in path"),
            ("/%4", "request.ambiguous: invalid percent-encoding in path"),
            ("/%zz", "request.ambiguous: invalid percent-encoding in path"),
            ("/%u002f", "request.ambiguous: invalid percent-encoding in path"),
            ("/%+4", "request.ambiguous: invalid percent-encoding in path"),
            ("/%252e", "request.ambiguous: double percent-encoding"),
            ("/%25%32f", "request.ambiguous: double percent-encoding"),
            ("/%25%32%66", "request.ambiguous: double percent-encoding"),
            ("/%2541", "request.ambiguous: double percent-encoding"),
            ("/%25%2541", "request.ambiguous: double percent-encoding"),
            ("/%ff", "request.ambiguous: path is not UTF-8"),
            ("/%c0%af", "request.ambiguous: path is not UTF-8"),
            ("/%c0%ae%c0%ae", "request.ambiguous: path is not UTF-8"),
            ("/%ed%a0%80", "request.ambiguous: path is not UTF-8"),
            ("/%EF%BC%8F", "request.ambiguous: look-alike of slash, backslash or dot"),
            ("/%E2%88%95", "request.ambiguous: look-alike of slash, backslash or dot"),
            ("/%E2%81%84", "request.ambiguous: look-alike of slash, backslash or dot"),
            ("/%E2%A7%B8", "request.ambiguous: look-alike of slash, backslash or dot"),
            ("/%EF%BC%8E%EF%BC%8E", "request.ambiguous: look-alike of slash, backslash or dot"),
            ("/%E2%80%A4", "request.ambiguous: look-alike of slash, backslash or dot"),
            ("/%E2%80%A5/x", "request.ambiguous: look-alike of slash, backslash or dot"),
            ("/%EF%BC%BC", "request.ambiguous: look-alike of slash, backslash or dot"),
            ("/%EF%B9%A8", "request.ambiguous: look-alike of slash, backslash or dot"),
            ("/%EF%B9%92", "request.ambiguous: look-alike of slash, backslash or dot"),
            ("/%E2%84%80", "request.ambiguous: look-alike of slash, backslash or dot"),
            ("", "request.malformed: target is not a path"),
            ("a", "request.malformed: target is not a path"),
            ("*", "request.malformed: target is not a path"),
        ] {
            assert_eq!(read(raw), expected, "{raw}");
        }
    }

    #[test]
    fn limits_are_inclusive() {
        let longest = format!("/{}", "a".repeat(MAX_PATH - 1));
        assert_eq!(read(&longest), longest);
        assert_eq!(read(&format!("{longest}a")), "request.too-large: path is too long");
        assert_eq!(read(&longest.replacen('a', "|", 1)), "request.too-large: path is too long", "grown by encoding");
        let deepest = "/a".repeat(MAX_SEGMENTS);
        assert_eq!(read(&deepest), deepest);
        assert_eq!(read(&format!("{deepest}/")), "request.too-large: path has too many segments");
    }

    #[test]
    fn a_query_is_kept_or_refused() {
        for (raw, expected) in [
            ("", Ok(())),
            ("a=1&b=2", Ok(())),
            ("a=b/c?d:@;,", Ok(())),
            ("filter[x]={a|b}^`c`", Ok(())),
            ("text=a%0D%0Ab", Ok(())),
            ("legacy=%E9", Ok(())),
            ("u=https%3A%2F%2Fa%2F..%2Fb", Ok(())),
            ("a=%00", Err("request.ambiguous: NUL in query")),
            ("a=100%", Err("request.ambiguous: invalid percent-encoding in query")),
            ("a=%u0041", Err("request.ambiguous: invalid percent-encoding in query")),
            ("a#b", Err("request.ambiguous: fragment in target")),
            ("a\\b", Err("request.ambiguous: backslash in query")),
            ("a b", Err("request.malformed: invalid character in query")),
            ("a\tb", Err("request.malformed: invalid character in query")),
            ("a\r\n", Err("request.malformed: invalid character in query")),
            ("a\0", Err("request.malformed: invalid character in query")),
            ("<script>", Err("request.malformed: invalid character in query")),
            ("é", Err("request.ambiguous: non-ASCII character in query")),
        ] {
            let read = check_query(raw).map_err(|r| format!("{}: {}", r.code.id(), r.cause));
            assert_eq!(read, expected.map_err(str::to_owned), "{raw}");
        }
        assert!(check_query(&"a".repeat(MAX_QUERY)).is_ok());
        assert_eq!(check_query(&"a".repeat(MAX_QUERY + 1)).map_err(|r| r.code), Err(Code::RequestTooLarge));
    }

    /// Paths made of the pieces that attacks are made of.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-z0-9._~/;:@|^-]{1,3}",
            any::<u8>().prop_map(|b| format!("%{b:02x}")),
            any::<u8>().prop_map(|b| format!("%{b:02X}")),
            any::<char>().prop_map(|c| c.to_string().bytes().map(|b| format!("%{b:02x}")).collect()),
            Just("%25".to_owned()),
            Just("%".to_owned()),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn canonical_is_a_fixed_point(raw in hostile()) {
            if let Ok(path) = canonical(&raw) {
                prop_assert_eq!(canonical(&path).map(Cow::into_owned), Ok(path.clone().into_owned()));
            }
        }

        /// What the gate accepts has no second reading: decoding once, as an application does, changes no boundary.
        #[test]
        fn an_accepted_path_splits_alike_before_and_after_decoding(raw in hostile()) {
            if let Ok(path) = canonical(&raw) {
                let mut decoded = Vec::new();
                let mut rest = path.as_bytes();
                while let [byte, tail @ ..] = rest {
                    let (value, after) = if *byte == b'%' { triplet(tail).unwrap() } else { (*byte, tail) };
                    decoded.push(value);
                    rest = after;
                }
                let decoded = String::from_utf8(decoded).unwrap();
                prop_assert_eq!(decoded.split('/').count(), path.split('/').count());
                prop_assert!(decoded.split('/').all(|s| s != "." && s != ".."));
                prop_assert!(!decoded.contains(|c: char| c.is_control() || c == '\\' || c == ';'));
                prop_assert!(!decoded.contains("//"));
            }
        }

        #[test]
        fn any_text_is_decided(raw in "\\PC{0,60}|/.{0,60}") {
            let _ = (canonical(&raw), check_query(&raw));
        }

        /// Spelling an unreserved character in percent-encoding changes nothing.
        #[test]
        fn encoding_a_letter_changes_nothing(raw in "/[a-z0-9_~-]{1,20}", at in 1usize..20) {
            let at = 1 + at % (raw.len() - 1);
            let spelt = format!("{}%{:02x}{}", &raw[..at], raw.as_bytes()[at], &raw[at + 1..]);
            prop_assert_eq!(canonical(&spelt).map(Cow::into_owned), Ok(raw));
        }
    }
}
