//! Signed heads: a C2SP signed note that says how long the chain is and what its last hash is.
//!
//! The note has the form of a C2SP `tlog-checkpoint`: origin, size, base64 root, here followed by one extension line
//! `time …`, an empty line and `— NAME BASE64(key id, signature)`. The root is the hash of the last entry of a *chain*,
//! not of an RFC 6962 tree; the origin begins with `moat.audit/` so that nobody mistakes one for the other.
use super::chain::Hash;
use super::time;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::fmt::Write;

/// Signature algorithm byte of Ed25519 in C2SP `signed-note`.
const ED25519_ID: u8 = 1;

/// What a signed head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which log: `moat.audit/NODE`.
    pub origin: String,
    /// Number of entries covered, which is the sequence number of the last of them.
    pub size: u64,
    /// Hash of that entry.
    pub root: Hash,
    /// When it was signed, milliseconds since the Unix epoch.
    pub time_ms: u64,
}

/// The origin of a node's log; what a note cannot hold (blank, plus, control characters) becomes `-`.
pub fn origin(node: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    format!("moat.audit/{}", node.chars().map(plain).collect::<String>())
}

/// Why a head does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It is not a note of ours.
    #[error("the head is not a note of the documented form")]
    Malformed,
    /// No signature is by a key that we were given.
    #[error("the head is not signed by a known key")]
    UnknownKey,
    /// A signature by a known key does not fit.
    #[error("the signature of the head is not valid")]
    BadSignature,
}

impl Head {
    /// The signed text: everything before the empty line.
    pub fn text(&self) -> String {
        let root = BASE64.encode(self.root.0);
        format!("{}\n{}\n{root}\ntime {}\n", self.origin, self.size, time::format(self.time_ms))
    }

    /// The whole note, given the signature over [`Head::text`].
    pub fn note(&self, key: &VerifyKey, signature: &[u8]) -> String {
        let mut note = self.text();
        let signed = [key.id.as_slice(), signature].concat();
        // Writing to a String cannot fail.
        let _ = writeln!(note, "\n— {} {}", key.name, BASE64.encode(signed));
        note
    }

    /// Reads a note and checks its signature. Signatures by keys that are not in `keys` are passed over, so that a note
    /// may carry more than one; at least one must be by a known key, and none of those may be wrong.
    pub fn open(note: &str, keys: &VerifyKeys) -> Result<Head, HeadError> {
        let (head, text, signatures) = Head::parse(note).ok_or(HeadError::Malformed)?;
        let mut known = 0;
        for line in signatures.split_terminator('\n') {
            let (name, signed) = signature_line(line).ok_or(HeadError::Malformed)?;
            let (id, signature) = signed.split_first_chunk::<4>().ok_or(HeadError::Malformed)?;
            if let Some(key) = keys.0.iter().find(|key| key.name == name && key.id == *id) {
                let public = UnparsedPublicKey::new(&ED25519, &key.public);
                public.verify(text.as_bytes(), signature).map_err(|_| HeadError::BadSignature)?;
                known += 1;
            }
        }
        if known == 0 { Err(HeadError::UnknownKey) } else { Ok(head) }
    }

    /// Reads a note without looking at its signature.
    fn parse(note: &str) -> Option<(Head, &str, &str)> {
        let (body, signatures) = note.split_once("\n\n")?;
        let text = note.get(..body.len() + 1)?;
        let mut lines = body.split('\n');
        let origin = lines.next().filter(|origin| origin.starts_with("moat.audit/"))?.to_owned();
        let size_text = lines.next()?;
        let size: u64 = size_text.parse().ok()?;
        let root = Hash(BASE64.decode(lines.next()?).ok()?.try_into().ok()?);
        let time_ms = time::parse(lines.next()?.strip_prefix("time ")?)?;
        let head = Head { origin, size, root, time_ms };
        // One spelling only: `+7` and `007` are not sizes.
        (lines.next().is_none() && head.text() == text && signatures.ends_with('\n'))
            .then_some((head, text, signatures))
    }
}

fn signature_line(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, signed) = line.strip_prefix("— ")?.split_once(' ')?;
    Some((name, BASE64.decode(signed).ok()?))
}

/// A public key that heads are checked with, in C2SP's form `NAME+HEXID+BASE64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyKey {
    name: String,
    id: [u8; 4],
    public: [u8; 32],
}

impl VerifyKey {
    /// An Ed25519 key by name, which is the origin of the log that it signs.
    pub fn new(name: String, public: [u8; 32]) -> VerifyKey {
        let input = [name.as_bytes(), b"\n", &[ED25519_ID], &public].concat();
        let [a, b, c, d, ..] = Hash::of(&input).0;
        VerifyKey { name, id: [a, b, c, d], public }
    }

    /// Reads `NAME+HEXID+BASE64`; the id must fit name and key.
    pub fn parse(line: &str) -> Option<VerifyKey> {
        let (name, rest) = line.split_once('+')?;
        let (_, encoded) = rest.split_once('+')?;
        let decoded = BASE64.decode(encoded).ok()?;
        let (algorithm, public) = decoded.split_first()?;
        let key = VerifyKey::new(name.to_owned(), public.try_into().ok()?);
        (*algorithm == ED25519_ID && !name.is_empty() && key.to_string() == line).then_some(key)
    }

    /// Name and id, as they are written where a key is mentioned.
    pub fn label(&self) -> String {
        format!("{}+{:08x}", self.name, u32::from_be_bytes(self.id))
    }
}

impl std::fmt::Display for VerifyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let encoded = BASE64.encode([[ED25519_ID].as_slice(), &self.public].concat());
        write!(f, "{}+{encoded}", self.label())
    }
}

/// The keys of one log: the newest and those before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyKeys(pub Vec<VerifyKey>);

impl VerifyKeys {
    /// Reads one key per line; empty lines and lines that begin with `#` are passed over. Returns the number of the
    /// first line that is neither.
    pub fn parse(text: &str) -> Result<VerifyKeys, usize> {
        let lines = text.lines().map(str::trim).enumerate();
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        keys.map(|(i, line)| VerifyKey::parse(line).ok_or(i + 1)).collect::<Result<_, _>>().map(VerifyKeys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    fn pair(seed: u8) -> (Ed25519KeyPair, VerifyKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        (pair, VerifyKey::new(origin("gw 1"), public))
    }

    fn head() -> Head {
        Head { origin: origin("gw 1"), size: 42, root: Hash::of(b"x"), time_ms: 1_700_000_000_123 }
    }

    #[test]
    fn a_note_opens_with_its_key_only() {
        let (signer, key) = pair(1);
        let (_, other) = pair(2);
        let note = head().note(&key, signer.sign(head().text().as_bytes()).as_ref());
        let expected = "moat.audit/gw-1\n42\nLXEWQrcmsEQBYnyp+6wy9cjz3G+c+UDEJsRQUfl7hkE=\n\
                        time 2023-11-14T22:13:20.123Z\n\n— moat.audit/gw-1 ";
        assert!(note.starts_with(
            &expected.replace("LXEWQrcmsEQBYnyp+6wy9cjz3G+c+UDEJsRQUfl7hkE=", &BASE64.encode(head().root.0))
        ));
        assert_eq!(Head::open(&note, &VerifyKeys(vec![other.clone(), key.clone()])), Ok(head()));
        assert_eq!(Head::open(&note, &VerifyKeys(vec![other])), Err(HeadError::UnknownKey));
        // A second signature by somebody else does no harm.
        let cosigned = format!("{note}— witness {}\n", BASE64.encode([7; 68]));
        assert_eq!(Head::open(&cosigned, &VerifyKeys(vec![key])), Ok(head()));
    }

    #[test]
    fn every_flipped_bit_of_a_note_is_found() {
        let (signer, key) = pair(1);
        let note = head().note(&key, signer.sign(head().text().as_bytes()).as_ref()).into_bytes();
        let keys = VerifyKeys(vec![key]);
        for bit in 0..note.len() * 8 {
            let mut changed = note.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let Ok(text) = String::from_utf8(changed) else { continue };
            assert!(Head::open(&text, &keys).is_err(), "bit {bit}: {text}");
        }
    }

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let (_, key) = pair(1);
        let text = format!("# first\n\n{key}\n");
        assert_eq!(VerifyKeys::parse(&text), Ok(VerifyKeys(vec![key.clone()])));
        assert_eq!(VerifyKeys::parse(&format!("{key}\nnonsense\n")), Err(2));
        let written = key.to_string();
        for bit in 0..written.len() * 8 {
            let mut changed = written.clone().into_bytes();
            changed[bit / 8] ^= 1 << (bit % 8);
            let Ok(text) = String::from_utf8(changed) else { continue };
            assert_ne!(VerifyKey::parse(&text).as_ref(), Some(&key));
        }
    }
}
