//! How applications read a path: five models, from taking it as it is to taking it apart as servlet containers do.

/// The paths that the models make of a request target.
pub fn readings(target: &str) -> [String; 6] {
    let raw = target.split(['?', '#']).next().unwrap_or_default().to_owned();
    let once = decode(&raw);
    let twice = decode(&once);
    let folded = dots(&fold(&twice).replace('\\', "/"));
    let windows = dots(&once.replace('\\', "/"));
    let without: Vec<&str> = raw.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    let servlet = dots(&decode(&without.join("/"))).to_lowercase();
    [raw, once, twice, windows, folded, servlet]
}

/// Whether a model reads the target as the page, or as something below it.
pub fn any_below(target: &str, page: &str) -> bool {
    readings(target).iter().any(|path| {
        // What follows NUL or the end of a line is lost to some.
        let path = path.split(['\0', '\r', '\n']).next().unwrap_or_default().trim_end_matches([' ', '\t', '.']);
        path.strip_prefix(page).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Decodes `%XX` and `%uXXXX`, and leaves the rest; overlong forms are what careless decoders make of them.
fn decode(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        let number = |digits: Option<&[u8]>| u32::from_str_radix(str::from_utf8(digits?).ok()?, 16).ok();
        match (first, tail) {
            (b'%', [b'u' | b'U', ..]) if let Some(c) = number(tail.get(1..5)).and_then(char::from_u32) => {
                out.extend(c.to_string().bytes());
                rest = &tail[5..];
            }
            (b'%', _) if let Some(byte) = number(tail.get(..2)) => {
                out.push(byte as u8);
                rest = &tail[2..];
            }
            _ => out.push(*first),
        }
    }
    overlong(&out)
}

/// Reads UTF-8 as decoders did that did not refuse what is too long.
fn overlong(bytes: &[u8]) -> String {
    if let Ok(text) = str::from_utf8(bytes) {
        return text.to_owned();
    }
    let (mut out, mut at) = (String::new(), 0);
    while at < bytes.len() {
        let (bits, more) = match bytes[at] {
            byte @ 0xc0..0xe0 => (byte & 0x1f, 1),
            byte @ 0xe0..0xf0 => (byte & 0x0f, 2),
            byte @ 0xf0..0xf8 => (byte & 0x07, 3),
            byte => (byte, 0),
        };
        let rest = bytes.get(at + 1..at + 1 + more).unwrap_or_default();
        let code = rest.iter().fold(u32::from(bits), |sum, byte| sum << 6 | u32::from(byte & 0x3f));
        out.push(char::from_u32(code).unwrap_or('?'));
        at += 1 + more;
    }
    out
}

/// Full-width forms and other look-alikes, as compatibility forms make them plain (UAX #15).
fn fold(text: &str) -> String {
    let plain = |c: char| match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{2044}' | '\u{2215}' | '\u{29f8}' => '/',
        '\u{2216}' | '\u{fe68}' => '\\',
        '\u{2024}' | '\u{fe52}' => '.',
        other => other,
    };
    text.replace('\u{2025}', "..").chars().map(plain).collect()
}

/// Removes dot segments and empty ones.
fn dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

#[test]
fn the_models_read_what_applications_read() {
    for target in [
        "/admin",
        "/admin/x?y",
        "/public/../admin",
        "/%61dmin",
        "/%2561dmin/x",
        "/public/..%2fadmin",
        "/public\\..\\admin",
        "/public/..;/admin",
        "/ADMIN/x",
        "//admin",
        "/x/..%c0%afadmin",
        "/\u{ff41}dmin",
        "/admin;x=y/z",
        "/admin%00.html",
        "/./admin",
        "/public/%2e%2e/admin",
        "/admin%20",
        "/%u0061dmin",
    ] {
        assert!(any_below(target, "/admin"), "{target}: {:?}", readings(target));
    }
    for target in ["/", "/public", "/administrator", "/x?/admin", "/public/admin", "/adm", "/x/../y"] {
        assert!(!any_below(target, "/admin"), "{target}: {:?}", readings(target));
    }
}
