//! The few pieces of JSON that an entry needs, appended to a buffer without allocation.
use crate::digits::{self, decimal};
use core::net::IpAddr;

/// Longest string of an entry in bytes; what is longer is cut and says so.
pub(super) const MAX_TEXT: usize = 1024;

/// Appends `lead` (comma, key, colon, quote) and then the value as the rest of a JSON string.
///
/// Escapes are the shortest that keep a line whole: quote, backslash and control characters. A value longer than
/// 1 KiB is cut at a character and ends in `…(+N)`, N being the bytes left out.
pub(super) fn text(out: &mut Vec<u8>, lead: &str, value: &str) {
    out.extend_from_slice(lead.as_bytes());
    if value.len() <= MAX_TEXT {
        escaped(out, value);
    } else {
        let kept = value.get(..value.floor_char_boundary(MAX_TEXT)).unwrap_or_default();
        escaped(out, kept);
        out.extend_from_slice("…(+".as_bytes());
        decimal(out, (value.len() - kept.len()) as u64);
        out.push(b')');
    }
    out.push(b'"');
}

/// The same, uncut, for texts that are ours and bounded.
pub(super) fn whole_text(out: &mut Vec<u8>, lead: &str, value: &str) {
    out.extend_from_slice(lead.as_bytes());
    escaped(out, value);
    out.push(b'"');
}

/// The same where there is a value; nothing at all where there is none.
pub(super) fn optional(out: &mut Vec<u8>, lead: &str, value: Option<&str>) {
    if let Some(value) = value {
        text(out, lead, value);
    }
}

/// Appends `lead`, which ends with a quote, and a word of ours, which has nothing to escape.
pub(super) fn word(out: &mut Vec<u8>, lead: &str, word: &str) {
    out.extend_from_slice(lead.as_bytes());
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

/// Appends `lead` and a list of strings.
pub(super) fn list<T: AsRef<str>>(out: &mut Vec<u8>, lead: &str, values: &[T]) {
    const MAX_ITEMS: usize = 64;
    out.extend_from_slice(lead.as_bytes());
    out.push(b'[');
    for (i, value) in values.iter().take(MAX_ITEMS).enumerate() {
        text(out, if i == 0 { "\"" } else { ",\"" }, value.as_ref());
    }
    if let Some(more) = values.len().checked_sub(MAX_ITEMS).filter(|more| *more > 0) {
        out.extend_from_slice(",\"…(+".as_bytes());
        decimal(out, more as u64);
        out.extend_from_slice(b")\"");
    }
    out.push(b']');
}

/// Appends `lead` and a number.
pub(super) fn number(out: &mut Vec<u8>, lead: &str, value: u64) {
    out.extend_from_slice(lead.as_bytes());
    decimal(out, value);
}

/// Appends `lead` and `true` or `false`.
pub(super) fn boolean(out: &mut Vec<u8>, lead: &str, value: bool) {
    out.extend_from_slice(lead.as_bytes());
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Appends `lead`, which ends with a quote, and an address as the rest of a string.
pub(super) fn address(out: &mut Vec<u8>, lead: &str, value: IpAddr) {
    out.extend_from_slice(lead.as_bytes());
    digits::address(out, value);
    out.push(b'"');
}

/// Appends lowercase hex.
pub(super) fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(2 * bytes.len());
    bytes.iter().for_each(|byte| out.extend_from_slice(&digits::pair(*byte)));
}

/// Nearly every value is plain, and copied whole.
fn escaped(out: &mut Vec<u8>, value: &str) {
    let mut rest = value.as_bytes();
    if is_plain(rest) {
        out.extend_from_slice(rest);
        return;
    }
    while let Some(at) = rest.iter().position(|byte| is_special(*byte)) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, after)) = special.split_first() else { return };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits::pair(*other));
            }
        }
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// Whether nothing of a text is to be escaped in a string of JSON, and nothing of it could end a line.
pub fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    // The last eight bytes are most of a word that was looked at, or there are no eight.
    let found = words.iter().chain(text.last_chunk::<8>()).fold(0, |found, word| found | specials(*word));
    found == 0 && (!words.is_empty() || !rest.iter().any(|byte| is_special(*byte)))
}

/// Not 0 where one of eight bytes is special: each is subtracted from, and what borrows was one. A borrow may spoil the bytes
/// behind it, but only where there is one.
const fn specials(word: [u8; 8]) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const fn zeros(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word
    }
    let word = u64::from_le_bytes(word);
    let control = word.wrapping_sub(0x20 * ONES) & !word;
    let others = zeros(word ^ (b'"' as u64 * ONES)) | zeros(word ^ (b'\\' as u64 * ONES)) | zeros(word ^ (0x7f * ONES));
    (control | others) & (0x80 * ONES)
}

fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_long_text_is_cut_at_a_character_and_says_how_much_is_missing() {
        let value = "é".repeat(600);
        let mut out = Vec::new();
        text(&mut out, "\"", &format!("x{value}"));
        let read: String = serde_json::from_slice(&out).unwrap();
        assert_eq!(read, format!("x{}…(+178)", "é".repeat(511)));
    }

    #[test]
    fn what_is_special_is_found_wherever_it_stands() {
        for byte in 0..=255 {
            for length in 1..20 {
                for at in 0..length {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = byte;
                    assert_eq!(is_plain(&bytes), !is_special(byte), "{byte} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn a_long_list_is_cut() {
        let mut out = Vec::new();
        list(&mut out, "", &vec!["r"; 70]);
        let read: Vec<String> = serde_json::from_slice(&out).unwrap();
        assert_eq!((read.len(), read.last().map(String::as_str)), (65, Some("…(+6)")));
    }

    proptest! {
        #[test]
        fn any_string_stays_on_its_line_and_comes_back(value in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
            let mut out = Vec::new();
            text(&mut out, "\"", &value);
            prop_assert!(out.iter().all(|b| *b >= 0x20 && *b != 0x7f));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), value);
        }
    }
}
