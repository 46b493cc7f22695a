//! API keys as compiled: those of files, found by id, with who each of them is; and sets of those in the state engine.
use aws_lc_rs::hmac;
use decide::facts::Identity;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A set of keys in the state engine.
#[derive(Debug)]
pub struct KeySet {
    /// Its name.
    pub name: Arc<str>,
    /// What keys begin with.
    pub prefix: Box<str>,
    /// What keys are hashed with. What they are sealed, found and marked with is derived from it.
    pub pepper: hmac::Key,
}

impl KeySet {
    /// The keyed hash of a key.
    pub fn hash(&self, key: &str) -> [u8; 32] {
        keyed(&self.pepper, key)
    }

    /// Whether this is its pepper.
    pub fn has_pepper(&self, pepper: &hmac::Key) -> bool {
        self.hash("") == keyed(pepper, "")
    }

    /// What a key of this set is marked with ([`decide::api_key::make_marked`]).
    pub fn mark(&self, draft: &str) -> [u8; 32] {
        self.apart("mark", draft)
    }

    /// Where the last use of a key is kept.
    pub fn use_place(&self, id: &str) -> [u8; 32] {
        self.apart("last use", id)
    }

    /// What its records are sealed with. The secret goes for all sets of one pepper: names are in what is bound to it.
    pub fn sealing_key(&self) -> [u8; 32] {
        keyed(&self.pepper, "seal\0")
    }

    /// A hash that is no key's, since no key holds a NUL, and no other set's, since no name does.
    fn apart(&self, what: &str, text: &str) -> [u8; 32] {
        keyed(&self.pepper, &format!("{what}\0{}\0{text}", self.name))
    }
}

fn keyed(pepper: &hmac::Key, text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.iter_mut().zip(hmac::sign(pepper, text.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

/// The keys of one file.
#[derive(Debug)]
pub struct ApiKeys {
    /// The file, as it is named in the configuration.
    pub name: Arc<str>,
    /// What keys begin with.
    pub prefix: Box<str>,
    /// What keys are hashed with.
    pub pepper: hmac::Key,
    /// Keys by id; of imported ones, by what they begin with.
    pub keys: HashMap<Box<str>, Arc<ApiKey>>,
    /// Lengths of the ids of imported keys, the longest first.
    pub imported: Vec<usize>,
}

/// One key.
#[derive(Debug)]
pub struct ApiKey {
    /// Who it is, and until when.
    pub identity: Arc<Identity>,
    /// By what it is recognised.
    pub hash: KeyHash,
    /// Whether it was revoked.
    pub revoked: bool,
    /// When it last let somebody in, seconds since the epoch; 0 for never.
    pub used_s: AtomicU64,
}

impl ApiKey {
    /// Whether an identity came from this key, as it is or as it was before its entry was changed.
    pub fn is_of(&self, identity: &Identity) -> bool {
        self.identity.session == identity.session && self.identity.issued_at == identity.issued_at
    }
}

/// By what a key is recognised.
#[derive(Debug)]
pub enum KeyHash {
    /// HMAC-SHA-256 of the key with the pepper.
    Hmac([u8; 32]),
    /// What another program made of it.
    Bcrypt {
        /// The hash, `$2b$…`.
        hash: Box<str>,
        /// HMAC-SHA-256 of the key with the pepper, once it was seen: from then on only this is compared.
        seen: OnceLock<[u8; 32]>,
    },
}

impl ApiKeys {
    /// The key of this id.
    pub fn key(&self, id: &str) -> Option<&Arc<ApiKey>> {
        self.keys.get(id)
    }

    /// The keyed hash of a key.
    pub fn hash(&self, key: &str) -> [u8; 32] {
        keyed(&self.pepper, key)
    }

    /// Where the last use of a key is kept: under a hash that is no key's, since no key holds a NUL.
    pub fn use_place(&self, id: &str) -> [u8; 32] {
        self.hash(&format!("last use\0{id}"))
    }

    /// Takes over what the same keys have learnt under an older snapshot.
    pub fn inherit(&self, before: &ApiKeys) {
        for (id, key) in &self.keys {
            let Some(old) = before.keys.get(id) else { continue };
            key.used_s.fetch_max(old.used_s.load(Ordering::Relaxed), Ordering::Relaxed);
            let (KeyHash::Bcrypt { hash, seen }, KeyHash::Bcrypt { hash: was, seen: known }) = (&key.hash, &old.hash)
            else {
                continue;
            };
            // With another pepper, what was seen means nothing.
            if let Some(known) = known.get().filter(|_| hash == was && self.same_pepper(before)) {
                let _ = seen.set(*known);
            }
        }
    }

    fn same_pepper(&self, other: &ApiKeys) -> bool {
        self.hash("") == other.hash("")
    }
}
