//! Sealing of what is kept about people: AES-256-GCM (NIST SP 800-38D), bound to what a record is, whose, and where it lies.
//!
//! ```text
//! version 1 (1) | key id (4) | nonce (12) | ciphertext | tag (16)
//! ```
//!
//! The associated data are kind, tenant and key of the record, each with its length in front: a record that is copied to
//! another tenant, another key or another kind of state does not open. Nonces are random; one key may seal 2^32 records
//! before two of them have the same nonce with a chance worth naming (SP 800-38D, 8.3), so a busy gateway changes keys within
//! years, not days.
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use aws_lc_rs::rand;
use std::fmt;

const VERSION: u8 = 1;
/// Bytes before the ciphertext.
const HEAD: usize = 1 + 4 + NONCE_LEN;

/// What a sealed value belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// What kind of record it is, e.g. `session`.
    pub kind: &'a str,
    /// The tenant; empty where there is none.
    pub tenant: &'a str,
    /// Under which key it lies.
    pub key: &'a [u8],
}

/// Why something does not open, or could not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is no sealed value of ours.
    #[error("the value is not sealed")]
    NotSealed,
    /// It was sealed with a key that is not in the ring.
    #[error("the key that the value was sealed with is unknown")]
    UnknownKey,
    /// It was changed, or belongs elsewhere.
    #[error("the seal is broken, or belongs to another tenant or place")]
    Broken,
    /// There is no key, or no random bytes.
    #[error("nothing can be sealed")]
    CannotSeal,
}

/// Keys: the first seals, all of them open. Also makes the marks by which handles of ours are known without a store.
pub struct Keyring {
    keys: Vec<Key>,
}

struct Key {
    id: [u8; 4],
    seal: LessSafeKey,
    mark: hmac::Key,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({})", self.keys.len())
    }
}

impl Keyring {
    /// A ring of these keys, the one that seals first. Each is used for nothing itself: what seals and what marks are derived
    /// from it.
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k [u8; 32]>) -> Keyring {
        let keys = keys.into_iter().filter_map(|key| {
            let master = hmac::Key::new(hmac::HMAC_SHA256, key);
            let derive = |label: &[u8]| hmac::sign(&master, label);
            let seal = UnboundKey::new(&AES_256_GCM, derive(b"moat seal 1").as_ref()).ok()?;
            Some(Key {
                id: derive(b"moat key id 1").as_ref().first_chunk().copied()?,
                seal: LessSafeKey::new(seal),
                mark: hmac::Key::new(hmac::HMAC_SHA256, derive(b"moat mark 1").as_ref()),
            })
        });
        Keyring { keys: keys.collect() }
    }

    /// Whether there is nothing to seal with.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Seals a value for its place.
    pub fn seal(&self, place: Place<'_>, value: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.keys.first().ok_or(SealError::CannotSeal)?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| SealError::CannotSeal)?;
        let mut sealed = Vec::with_capacity(HEAD + value.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(&nonce);
        let mut body = value.to_vec();
        key.seal
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound(place)), &mut body)
            .map_err(|_| SealError::CannotSeal)?;
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Opens a value that was sealed for this place.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (head, body) = sealed.split_at_checked(HEAD).ok_or(SealError::NotSealed)?;
        let (VERSION, rest) = head.split_first().map(|(v, rest)| (*v, rest)).ok_or(SealError::NotSealed)? else {
            return Err(SealError::NotSealed);
        };
        let (id, nonce) = rest.split_first_chunk::<4>().ok_or(SealError::NotSealed)?;
        let nonce: [u8; NONCE_LEN] = nonce.try_into().map_err(|_| SealError::NotSealed)?;
        let aad = bound(place);
        let mut error = SealError::UnknownKey;
        // Ids are short: two keys may share one.
        for key in self.keys.iter().filter(|key| key.id == *id) {
            let mut buffer = body.to_vec();
            let nonce = Nonce::assume_unique_for_key(nonce);
            match key.seal.open_in_place(nonce, Aad::from(&aad), &mut buffer) {
                Ok(value) => {
                    let length = value.len();
                    buffer.truncate(length);
                    return Ok(buffer);
                }
                Err(_) => error = SealError::Broken,
            }
        }
        Err(error)
    }

    /// Whether a sealed value is by the key that seals now; what is not should be sealed anew before its key goes.
    pub fn seals_like(&self, sealed: &[u8]) -> bool {
        self.keys.first().is_some_and(|key| sealed.get(1..5) == Some(&key.id[..]))
    }

    /// A mark of 16 bytes that only who has the first key can make.
    pub fn mark(&self, place: Place<'_>) -> Result<[u8; 16], SealError> {
        let key = self.keys.first().ok_or(SealError::CannotSeal)?;
        hmac::sign(&key.mark, &bound(place)).as_ref().first_chunk().copied().ok_or(SealError::CannotSeal)
    }

    /// What the records of somebody are found by: a keyed hash, so that whoever reads the store cannot try names. The first is
    /// what new records have; those that were written under another key of the ring have one of the others.
    pub fn indices(&self, place: Place<'_>) -> Vec<[u8; 32]> {
        let bound = bound(place);
        let tags = self.keys.iter().map(|key| hmac::sign(&key.mark, &bound));
        tags.filter_map(|tag| tag.as_ref().try_into().ok()).collect()
    }

    /// The same for a user of an issuer's in a tenant.
    pub fn of_user(&self, kind: &str, issuer: &str, tenant: Option<&str>, subject: &str) -> Vec<[u8; 32]> {
        let mut key = Vec::with_capacity(8 + issuer.len() + subject.len());
        key.extend_from_slice(&(issuer.len() as u64).to_be_bytes());
        key.extend_from_slice(issuer.as_bytes());
        key.extend_from_slice(subject.as_bytes());
        self.indices(Place { kind, tenant: tenant.unwrap_or_default(), key: &key })
    }

    /// Whether some key of the ring has made this mark for this place. Takes as long for wrong marks as for right ones.
    pub fn is_marked(&self, place: Place<'_>, mark: &[u8; 16]) -> bool {
        let bound = bound(place);
        self.keys.iter().fold(false, |found, key| {
            let tag = hmac::sign(&key.mark, &bound);
            let same = tag.as_ref().iter().zip(mark).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0;
            found | same
        })
    }
}

/// The place as bytes, in one way only.
fn bound(place: Place<'_>) -> Vec<u8> {
    let parts = [place.kind.as_bytes(), place.tenant.as_bytes(), place.key];
    let mut all = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        all.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        all.extend_from_slice(part);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERE: Place<'static> = Place { kind: "session", tenant: "acme", key: b"k1" };

    fn ring(keys: &[u8]) -> Keyring {
        let keys: Vec<[u8; 32]> = keys.iter().map(|k| [*k; 32]).collect();
        Keyring::new(&keys)
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let ring = ring(&[1]);
        let sealed = ring.seal(HERE, b"ada").unwrap();
        assert_eq!(ring.open(HERE, &sealed).unwrap(), b"ada");
        for elsewhere in [
            Place { tenant: "globex", ..HERE },
            Place { kind: "family", ..HERE },
            Place { key: b"k2", ..HERE },
            Place { tenant: "acmek", key: b"1", ..HERE },
            Place { tenant: "", ..HERE },
        ] {
            assert_eq!(ring.open(elsewhere, &sealed), Err(SealError::Broken), "{elsewhere:?}");
        }
        assert!(!sealed.windows(3).any(|w| w == b"ada"), "it cannot be read where it lies");
        assert_ne!(ring.seal(HERE, b"ada").unwrap(), sealed, "each nonce is another");
    }

    #[test]
    fn the_first_key_seals_and_the_others_open() {
        let (old, new, both) = (ring(&[1]), ring(&[2]), ring(&[2, 1]));
        let sealed = old.seal(HERE, b"ada").unwrap();
        assert_eq!(both.open(HERE, &sealed).unwrap(), b"ada");
        assert_eq!(new.open(HERE, &sealed), Err(SealError::UnknownKey));
        assert_eq!(new.open(HERE, &both.seal(HERE, b"bob").unwrap()).unwrap(), b"bob");
        assert!(old.seals_like(&sealed) && !both.seals_like(&sealed) && !both.seals_like(b""));
        assert_eq!(ring(&[]).seal(HERE, b"ada"), Err(SealError::CannotSeal));
    }

    #[test]
    fn marks_are_of_their_place_and_of_any_key() {
        let (old, both) = (ring(&[1]), ring(&[2, 1]));
        let mark = old.mark(HERE).unwrap();
        assert!(both.is_marked(HERE, &mark) && old.is_marked(HERE, &mark));
        assert!(!both.is_marked(Place { tenant: "globex", ..HERE }, &mark));
        assert!(!ring(&[2]).is_marked(HERE, &mark) && !ring(&[]).is_marked(HERE, &mark));
    }

    #[test]
    fn an_index_is_of_its_place_and_its_key() {
        let (old, both) = (ring(&[1]), ring(&[2, 1]));
        let (before, after) = (old.indices(HERE), both.indices(HERE));
        assert_eq!((before.len(), after.len()), (1, 2));
        assert_eq!(before[0], after[1], "what was written before the key was added is still found");
        assert_ne!(after[0], after[1]);
        assert_ne!(old.indices(Place { tenant: "globex", ..HERE }), before);
        assert!(ring(&[]).indices(HERE).is_empty());
    }

    proptest! {
        #[test]
        fn one_changed_bit_breaks_the_seal(value in prop::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let ring = ring(&[1, 2]);
            let mut sealed = ring.seal(HERE, &value).unwrap();
            prop_assert_eq!(ring.open(HERE, &sealed).unwrap(), value);
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(ring.open(HERE, &sealed).is_err());
        }

        #[test]
        fn nothing_made_up_opens(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(ring(&[1, 2]).open(HERE, &bytes).is_err());
        }
    }
}
