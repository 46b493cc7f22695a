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
//!
//! Keys of a set in the state engine are **marked**: the last 6 characters of the secret are a keyed hash of what stands before them,
//! so that of what somebody made up only one in 62^6 costs a look-up. 26 characters, 154 bits, stay random.

/// Characters of an id.
pub const ID: usize = 10;

/// Characters of a secret.
pub const SECRET: usize = 32;

/// Characters of a checksum: 62^6 is more than 2^32.
const CHECKSUM: usize = 6;

/// Characters of a mark: the last ones of a marked key's secret.
const MARK: usize = 6;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The greatest cost of a bcrypt hash that is taken over: a second or more of a processor.
pub const MAX_COST: u32 = 14;

/// Fewest characters by which an imported key is found: fewer are no id, but a guess.
pub const MIN_IMPORTED: usize = 4;

/// A key whose form and checksum are right. That it is known, and whose it is, is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written<'a> {
    /// By which it is found.
    pub id: &'a str,
    /// What a mark is made of: all before it.
    pub draft: &'a str,
    /// Where the mark stands, if the key has one.
    mark: &'a str,
}

impl Written<'_> {
    /// Whether it is marked by this keyed hash of its draft.
    pub fn is_marked(&self, tag: &[u8; 32]) -> bool {
        mark_of(tag).iter().zip(self.mark.bytes()).fold(0, |differs, (right, there)| differs | (right ^ there)) == 0
    }
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
    if checksum_of(body).as_slice() != checksum.as_bytes() {
        return Err(Flaw::Checksum);
    }
    let (draft, mark) = body.split_at_checked(body.len() - MARK).ok_or(Flaw::Form)?;
    Ok(Written { id, draft, mark })
}

/// Writes a key from random bytes, which must come from a good source and serve this key only. `None` where they do not
/// suffice, which happens once in very many times; then new ones are needed.
pub fn make(prefix: &str, random: &[u8]) -> Option<String> {
    draft(prefix, random, SECRET).map(checked)
}

/// The same with a mark: `tag` is the keyed hash of what it is given.
pub fn make_marked(prefix: &str, random: &[u8], tag: impl FnOnce(&str) -> [u8; 32]) -> Option<String> {
    let mut text = draft(prefix, random, SECRET - MARK)?;
    mark_of(&tag(&text)).iter().for_each(|byte| text.push(char::from(*byte)));
    Some(checked(text))
}

fn draft(prefix: &str, random: &[u8], secret: usize) -> Option<String> {
    // What is above the last multiple of 62 is left out, so that all digits are equally likely.
    let mut digits = random.iter().filter(|byte| **byte < 248).filter_map(|byte| digit(u32::from(*byte)));
    let mut text = String::with_capacity(prefix.len() + ID + 1 + SECRET + CHECKSUM);
    text.push_str(prefix);
    for _ in 0..ID {
        text.push(digits.next()?);
    }
    text.push('_');
    for _ in 0..secret {
        text.push(digits.next()?);
    }
    Some(text)
}

fn checked(mut text: String) -> String {
    let checksum = checksum_of(&text);
    checksum.iter().for_each(|byte| text.push(char::from(*byte)));
    text
}

/// Whether a text can be the prefix of keys: a few letters, digits and `_` that begin with a letter and end with `_`.
pub fn is_prefix(text: &str) -> bool {
    (2..=20).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.ends_with('_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether a text can be what an imported key begins with.
pub fn is_imported_id(text: &str) -> bool {
    text.len() >= MIN_IMPORTED && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether a text is a bcrypt hash of a cost that can be borne: `$2b$12$` and 53 characters.
pub fn is_bcrypt(text: &str) -> bool {
    let version = ["$2a$", "$2b$", "$2y$"].into_iter().find_map(|version| text.strip_prefix(version));
    let Some((cost, rest)) = version.and_then(|rest| rest.split_once('$')) else { return false };
    let cost_fine = cost.len() == 2 && cost.parse::<u32>().is_ok_and(|cost| (4..=MAX_COST).contains(&cost));
    cost_fine && rest.len() == 53 && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/')
}

fn digit(number: u32) -> Option<char> {
    DIGITS.get((number % 62) as usize).map(|byte| char::from(*byte))
}

fn checksum_of(text: &str) -> [u8; CHECKSUM] {
    in_base_62(u64::from(crc32(text.as_bytes())))
}

fn mark_of(tag: &[u8; 32]) -> [u8; MARK] {
    in_base_62(tag.first_chunk().map_or(0, |first| u64::from_be_bytes(*first)))
}

/// The last six digits of a number.
fn in_base_62(mut rest: u64) -> [u8; 6] {
    let mut digits = [b'0'; 6];
    for place in digits.iter_mut().rev() {
        *place = digit(u32::try_from(rest % 62).unwrap_or_default()).map_or(b'0', |digit| digit as u8);
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
    fn a_mark_is_of_all_before_it_and_of_one_key() {
        let tag = |draft: &str| {
            assert_eq!((draft.len(), &draft[..15]), (4 + 10 + 1 + 26, "nlk_7777777777_"));
            [9; 32]
        };
        let key = make_marked("nlk_", &[7; 64], tag).unwrap();
        assert_eq!(key.len(), make("nlk_", &[7; 64]).unwrap().len(), "no scanner tells them apart");
        let written = parse(&key, "nlk_").unwrap();
        assert_eq!(written.draft, &key[..41]);
        let mut other = [9; 32];
        other[7] = 8;
        assert!(written.is_marked(&[9; 32]) && !written.is_marked(&other));
        let plain = make("nlk_", &[7; 64]).unwrap();
        assert!(!parse(&plain, "nlk_").unwrap().is_marked(&[9; 32]));
    }

    #[test]
    fn a_key_has_one_form() {
        let key = make("nlk_", &[7; 64]).unwrap();
        assert_eq!(key.len(), 4 + 10 + 1 + 32 + 6);
        assert_eq!(parse(&key, "nlk_").unwrap().id, "7777777777");
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
