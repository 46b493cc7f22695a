//! API keys as text: `PREFIX` `ID` `_` `SECRET` `CHECKSUM`, made so that a scanner of sources finds one that leaked.
//!
//! | part | characters | what for |
//! | --- | --- | --- |
//! | prefix | as configured, `nlk_` | says whose key it is: what secret scanners look for |
//! | id | 10 of base 62 | finds the key; no secret |
//! | `_` | 1 | |
//! | secret | 32 of base 62, 190 bits | proves who holds it; kept nowhere but with its holder |
//! | checksum | 6 of base 62 | CRC-32 (ISO-HDLC) of all before it: a typo, or a key that somebody made up, costs no look-up |
//!
//! The regular expression `nlk_[0-9A-Za-z]{10}_[0-9A-Za-z]{38}` matches every key and little else; the checksum removes
//! the rest. It is no secret and proves nothing.

/// Characters of an id.
pub const ID: usize = 10;

/// Characters of a secret.
pub const SECRET: usize = 32;

/// Characters of a checksum: 62^6 is more than 2^32.
const CHECKSUM: usize = 6;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A key whose form and checksum are right. That it is known, and whose it is, is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written<'a> {
    /// By which it is found.
    pub id: &'a str,
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It does not begin with the prefix.
    Prefix,
    /// Its length, its separator or one of its characters is wrong.
    Form,
    /// Its checksum is wrong.
    Checksum,
}

impl Flaw {
    /// What the audit entry says.
    pub const fn cause(self) -> &'static str {
        match self {
            Flaw::Prefix => "the API key has another prefix",
            Flaw::Form => "the API key is malformed",
            Flaw::Checksum => "the checksum of the API key is wrong",
        }
    }
}

/// Reads a key.
pub fn parse<'a>(text: &'a str, prefix: &str) -> Result<Written<'a>, Flaw> {
    let rest = text.strip_prefix(prefix).ok_or(Flaw::Prefix)?;
    let (id, tail) = rest.split_at_checked(ID).ok_or(Flaw::Form)?;
    let tail = tail.strip_prefix('_').ok_or(Flaw::Form)?;
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if tail.len() != SECRET + CHECKSUM || !plain(id) || !plain(tail) {
        return Err(Flaw::Form);
    }
    let (body, checksum) = text.split_at_checked(text.len() - CHECKSUM).ok_or(Flaw::Form)?;
    let right = checksum_of(body);
    if right.as_slice() == checksum.as_bytes() { Ok(Written { id }) } else { Err(Flaw::Checksum) }
}

/// Writes a key from random bytes, which must come from a good source and serve this key only. `None` where they do not
/// suffice, which happens once in very many times; then new ones are needed.
pub fn make(prefix: &str, random: &[u8]) -> Option<String> {
    // What is above the last multiple of 62 is left out, so that all digits are equally likely.
    let mut digits = random.iter().filter(|byte| **byte < 248).filter_map(|byte| digit(u32::from(*byte)));
    let mut text = String::with_capacity(prefix.len() + ID + 1 + SECRET + CHECKSUM);
    text.push_str(prefix);
    for _ in 0..ID {
        text.push(digits.next()?);
    }
    text.push('_');
    for _ in 0..SECRET {
        text.push(digits.next()?);
    }
    let checksum = checksum_of(&text);
    checksum.iter().for_each(|byte| text.push(char::from(*byte)));
    Some(text)
}

/// Whether a text can be the prefix of keys: a few letters, digits and `_` that begin with a letter and end with `_`.
pub fn is_prefix(text: &str) -> bool {
    (2..=20).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.ends_with('_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn digit(number: u32) -> Option<char> {
    DIGITS.get((number % 62) as usize).map(|byte| char::from(*byte))
}

fn checksum_of(text: &str) -> [u8; CHECKSUM] {
    let mut rest = crc32(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM];
    for place in digits.iter_mut().rev() {
        *place = digit(rest).map_or(b'0', |digit| digit as u8);
        rest /= 62;
    }
    digits
}

/// CRC-32 as in ISO/IEC 8802-3, zip and PNG: polynomial 0x04C11DB7, reflected.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1));
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926, "the check value of CRC-32/ISO-HDLC");
        assert_eq!(crc32(b""), 0);
        assert_eq!(std::str::from_utf8(&checksum_of("")).unwrap(), "000000");
    }

    #[test]
    fn a_key_has_one_form() {
        let key = make("nlk_", &[7; 64]).unwrap();
        assert_eq!(key.len(), 4 + 10 + 1 + 32 + 6);
        assert_eq!(parse(&key, "nlk_"), Ok(Written { id: "7777777777" }));
        let changed = |from: &str, to: &str| key.replacen(from, to, 1);
        for (text, flaw) in [
            (changed("nlk_", "nlq_"), Flaw::Prefix),
            (String::new(), Flaw::Prefix),
            ("nlk_".to_owned(), Flaw::Form),
            (format!("{key}0"), Flaw::Form),
            (key[..key.len() - 1].to_owned(), Flaw::Form),
            (changed("7_7", "777"), Flaw::Form),
            (changed("_77", "_7-"), Flaw::Form),
            (changed("_77", "_7\u{e9}"), Flaw::Form),
            (changed("_77", "_78"), Flaw::Checksum),
            (changed("nlk_7", "nlk_8"), Flaw::Checksum),
        ] {
            assert_eq!(parse(&text, "nlk_"), Err(flaw), "{text}");
        }
        assert_eq!(make("nlk_", &[7; 41]), None, "too few bytes");
        assert_eq!(make("nlk_", &[250; 200]), None, "bytes that would favour some digits");
    }

    #[test]
    fn prefixes() {
        for (text, fine) in [
            ("nlk_", true),
            ("nl_live_", true),
            ("a_", true),
            ("_", false),
            ("nlk", false),
            ("1k_", false),
            ("n-k_", false),
        ] {
            assert_eq!(is_prefix(text), fine, "{text}");
        }
    }

    proptest! {
        /// What is made is read; one character elsewhere is not.
        #[test]
        fn one_wrong_character_is_seen(random in prop::collection::vec(0..248u8, 42..60), at in 4..53usize, to in 0..62u32) {
            let key = make("nlk_", &random).unwrap();
            prop_assert!(parse(&key, "nlk_").is_ok());
            let mut changed = key.clone().into_bytes();
            changed[at] = digit(to).unwrap() as u8;
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_eq!(parse(&changed, "nlk_").is_ok(), changed == key);
        }

        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = parse(&text, "nlk_");
            let _ = parse(&format!("nlk_{text}"), "nlk_");
        }
    }
}
