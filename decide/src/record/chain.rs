//! The hash chain: how the bytes of one entry become a line that names its predecessor and its own hash.
use super::json;
use crate::digits;
use aws_lc_rs::digest;

/// What every line begins with.
pub(super) const SEQ: &[u8] = b"{\"seq\":";
/// Between sequence number and predecessor's hash.
pub(super) const PREV: &[u8] = b",\"prev\":\"";
/// Between predecessor's hash and body.
pub(super) const BODY: &[u8] = b"\",";
/// Between body and own hash; the hash covers everything before these bytes.
pub(super) const HASH: &[u8] = b",\"hash\":\"";
/// What every line ends with.
pub(super) const END: &[u8] = b"\"}\n";

/// Bytes that a line has besides its body: 20 digits, two hashes and the punctuation.
pub const LINE_OVERHEAD: usize = SEQ.len() + 20 + PREV.len() + 64 + BODY.len() + HASH.len() + 64 + END.len();

/// A SHA-256 value: of an entry, or 32 zero bytes before the first one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// SHA-256 of some bytes.
    pub fn of(bytes: &[u8]) -> Hash {
        let mut hash = Hash::default();
        let digest = digest::digest(&digest::SHA256, bytes);
        for (to, from) in hash.0.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        hash
    }

    /// Reads 64 lowercase hex digits; `None` for anything else.
    pub fn parse(hex: &[u8]) -> Option<Hash> {
        let (pairs, []) = hex.as_chunks::<2>() else { return None };
        let mut hash = Hash::default();
        if pairs.len() != hash.0.len() {
            return None;
        }
        for (to, [high, low]) in hash.0.iter_mut().zip(pairs) {
            *to = nibble(*high)? << 4 | nibble(*low)?;
        }
        Some(hash)
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Where a chain stands: the last entry's sequence number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Chain {
    /// Sequence number of the last entry; 0 before the first.
    pub seq: u64,
    /// Its hash; zeros before the first.
    pub hash: Hash,
}

impl Chain {
    /// Appends the line for `body` (members without braces, as [`super::Entry::write`] makes them) and moves on.
    ///
    /// The line is `{"seq":N,"prev":"<hex>",BODY,"hash":"<hex>"}` and a newline. The hash is SHA-256 over the bytes of
    /// the line before `,"hash":`.
    pub fn seal(&mut self, body: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        self.seq += 1;
        out.reserve(body.len() + LINE_OVERHEAD);
        out.extend_from_slice(SEQ);
        digits::decimal(out, self.seq);
        out.extend_from_slice(PREV);
        json::hex(out, &self.hash.0);
        out.extend_from_slice(BODY);
        out.extend_from_slice(body);
        self.hash = Hash::of(out.get(start..).unwrap_or_default());
        out.extend_from_slice(HASH);
        json::hex(out, &self.hash.0);
        out.extend_from_slice(END);
    }
}

/// The body of a line that [`Chain::seal`] made; `None` where it does not have that form. Its hash is not looked at.
pub fn body(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(SEQ)?;
    let rest = rest.get(rest.iter().position(|byte| !byte.is_ascii_digit())?..)?;
    let rest = rest.strip_prefix(PREV)?.get(64..)?.strip_prefix(BODY)?;
    let (body, tail) = rest.split_at_checked(rest.len().checked_sub(HASH.len() + 64 + END.len())?)?;
    (tail.starts_with(HASH) && tail.ends_with(END)).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_as_documented() {
        let mut chain = Chain::default();
        let mut out = Vec::new();
        chain.seal(b"\"time\":\"t\"", &mut out);
        chain.seal(b"\"time\":\"u\"", &mut out);
        let bodies: Vec<_> = out.split_inclusive(|byte| *byte == b'\n').map(body).collect();
        assert_eq!(bodies, [Some(&b"\"time\":\"t\""[..]), Some(b"\"time\":\"u\"")]);
        assert!((0..out.len() / 2).all(|end| body(&out[..end]).is_none()));
        let zeros = "0".repeat(64);
        let first = format!("{{\"seq\":1,\"prev\":\"{zeros}\",\"time\":\"t\"");
        let one = Hash::of(first.as_bytes());
        let second = format!("{{\"seq\":2,\"prev\":\"{one}\",\"time\":\"u\"");
        let two = Hash::of(second.as_bytes());
        let expected = format!("{first},\"hash\":\"{one}\"}}\n{second},\"hash\":\"{two}\"}}\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(chain, Chain { seq: 2, hash: two });
    }

    #[test]
    fn a_hash_has_one_spelling() {
        let hash = Hash::of(b"x");
        let text = hash.to_string();
        assert_eq!(Hash::parse(text.as_bytes()), Some(hash));
        assert_eq!(Hash::parse(text.to_uppercase().as_bytes()), None);
        assert_eq!(Hash::parse(&text.as_bytes()[1..]), None);
        assert_eq!(Hash::parse(&text.as_bytes()[2..]), None);
    }
}
