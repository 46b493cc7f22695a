//! `application/x-www-form-urlencoded` (OAuth 2.0 appendix B), read strictly: a name that stands twice is refused.

/// Most fields of one form that is read.
const MAX_FIELDS: usize = 64;

/// Names and values, encoded; everything but unreserved characters (RFC 3986, 2.3) is percent-encoded.
pub fn encode<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        escape(&mut text, name);
        text.push('=');
        escape(&mut text, value);
    }
    text
}

/// One value, encoded as in a form.
pub fn encoded(value: &str) -> String {
    let mut text = String::new();
    escape(&mut text, value);
    text
}

fn escape(text: &mut String, part: &str) {
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// The values of these names, each `None` where the form does not hold it. `Err` where a wanted name stands twice, where
/// it cannot be read, or where there are more than 64 fields: of two values, two readers may take different ones.
pub fn fields<const N: usize>(form: &str, names: [&str; N]) -> Result<[Option<String>; N], &'static str> {
    let mut found: [Option<String>; N] = std::array::from_fn(|_| None);
    for (name, value) in pairs(form)? {
        if let Some(place) = names.iter().position(|wanted| *wanted == name).and_then(|at| found.get_mut(at))
            && place.replace(value).is_some()
        {
            return Err("a parameter stands twice");
        }
    }
    Ok(found)
}

/// All names and values in order, decoded. `Err` where one is not UTF-8 behind its percent-encoding, or where there are more
/// than 64.
pub fn pairs(form: &str) -> Result<Vec<(String, String)>, &'static str> {
    let mut all = Vec::new();
    for pair in form.split('&').filter(|pair| !pair.is_empty()) {
        if all.len() >= MAX_FIELDS {
            return Err("too many parameters");
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        all.push((decode(name)?, decode(value)?));
    }
    Ok(all)
}

fn decode(text: &str) -> Result<String, &'static str> {
    const BROKEN: &str = "a parameter is not percent-encoded text";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit().ok_or(BROKEN)?, digit().ok_or(BROKEN)?);
                u8::try_from(high * 16 + low).map_err(|_| BROKEN)?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).map_err(|_| BROKEN)
}
