//! Tokens that verified a moment ago: a bounded table, so that a signature is checked once and not per request.
//!
//! **Key.** An entry is found by GMAC (NIST SP 800-38D) over the whole token, under a key that the process makes at
//! random and tells nobody. Callers choose their tokens, so that the key must withstand deliberate collisions: whoever
//! makes two tokens collide would be served as somebody else. Of two tokens of at most 16 KiB, whatever they are, 1,025 in
//! 2^128 such keys make the same (McGrew and Viega, "The Security and Performance of the Galois/Counter Mode", 2004,
//! lemma 2), and no tag ever leaves the process, so that nobody learns from it. SHA-256 does as well and takes 0.35 us
//! longer for a token of 900 bytes. The table never holds the token itself.
//!
//! **End.** An entry serves at most five minutes and never at or past `exp`; it serves one key set of one issuer's
//! settings only, told by the epoch under which it was verified. Whatever changes the keys or the settings changes
//! the epoch, and with it all older entries are as good as gone.
//!
//! **What is not kept.** Refused tokens: every sender can make any number of them, and would flush the table of those
//! that are worth keeping. A refusal costs its sender one verification on our side, and the address limits bound it.
//!
//! **Bound.** Sets of eight, which do not grow beyond the capacity: 64 bytes per place, plus the identity of those in use.
use super::sets::Sets;
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hmac, rand};
use decide::facts::Identity;
use std::sync::{Arc, LazyLock};

/// Longest service of an entry, in seconds.
const MAX_AGE_S: u64 = 300;

/// What a token is found by. It shows itself to nobody.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenKey([u8; 16]);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

/// The key of all tags of this process; `None` where the system has no randomness.
static SECRET: LazyLock<Option<LessSafeKey>> = LazyLock::new(|| {
    let mut key = [0; 16];
    rand::fill(&mut key).ok()?;
    Some(LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?))
});

impl TokenKey {
    /// The tag of a token; `None` where none can be made, and then nothing is remembered.
    pub fn of(token: &str) -> Option<TokenKey> {
        // One nonce for all is what makes equal tokens have equal tags. What it gives away of a message that is
        // encrypted, or of a tag that is shown, it does not give away here: there is neither.
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let tag = SECRET.as_ref()?.seal_in_place_separate_tag(nonce, Aad::from(token.as_bytes()), &mut []).ok()?;
        Some(TokenKey(tag.as_ref().try_into().ok()?))
    }

    /// HMAC-SHA256 of the token, cut to 128 bits, which may be short enough to be guessed from its plain hash.
    pub fn keyed(key: &hmac::Key, token: &str) -> TokenKey {
        let mut found = [0; 16];
        found.iter_mut().zip(hmac::sign(key, token.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
        TokenKey(found)
    }

    /// A number that is spread as the key is.
    pub(super) fn number(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// The table of verified tokens.
pub struct Tokens(Sets<Entry>);

struct Entry {
    key: TokenKey,
    epoch: u64,
    from_s: u64,
    until_s: u64,
    identity: Arc<Identity>,
}

impl Tokens {
    /// A table for about `capacity` tokens (rounded up to whole sets); 0 remembers nothing.
    pub fn new(capacity: u64) -> Tokens {
        Tokens(Sets::new(capacity))
    }

    /// What a token is found by; `None` where nothing is remembered.
    pub fn key(&self, token: &str) -> Option<TokenKey> {
        if self.capacity() == 0 { None } else { TokenKey::of(token) }
    }

    /// The identity of a token that verified under `epoch`, if it may still serve at `now_s`. A clock that went back
    /// behind the verification finds nothing.
    pub fn find(&self, key: &TokenKey, epoch: u64, now_s: u64) -> Option<Arc<Identity>> {
        let serves = |e: &Entry| e.key == *key && e.epoch == epoch && (e.from_s..e.until_s).contains(&now_s);
        self.0.find(key.number(), |entry| serves(entry).then(|| Arc::clone(&entry.identity)))
    }

    /// Remembers a token that verified under `epoch` at `now_s`.
    pub fn insert(&self, key: TokenKey, epoch: u64, now_s: u64, identity: Arc<Identity>) {
        self.insert_for(MAX_AGE_S, key, epoch, now_s, identity);
    }

    /// The same for at most so many seconds.
    pub fn insert_for(&self, max_age_s: u64, key: TokenKey, epoch: u64, now_s: u64, identity: Arc<Identity>) {
        let until_s = identity.expires_at.min(now_s.saturating_add(max_age_s));
        let entry = Entry { key, epoch, from_s: now_s, until_s, identity };
        self.0.insert(key.number(), entry, |e| e.key == key, |e| now_s >= e.until_s);
    }

    /// How many entries stand in the table, serving or not.
    pub fn count(&self) -> usize {
        self.0.count(|_| true)
    }

    /// How many entries, serving or not, are of identities like this.
    pub fn matching(&self, like: impl Fn(&Identity) -> bool) -> u64 {
        self.0.count(|entry| like(&entry.identity)) as u64
    }

    /// The number of places.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::fixtures::identity;
    use crate::serve::sets::WAYS;
    use proptest::prelude::*;

    const NOW: u64 = 1_000;

    fn key(token: &str) -> TokenKey {
        TokenKey::of(token).unwrap()
    }

    fn until(expires_at: u64) -> Arc<Identity> {
        Arc::new(identity("idp", "user", expires_at))
    }

    #[test]
    fn a_key_is_of_every_bit_of_a_token_and_of_where_it_ends() {
        let token: Vec<u8> = (0..900).map(|i| b'A' + i as u8 % 26).collect();
        let of = |bytes: &[u8]| key(std::str::from_utf8(bytes).unwrap());
        assert_eq!(of(&token), of(&token.clone()));
        let mut seen = std::collections::HashSet::from([of(&token)]);
        for at in 0..token.len() {
            let mut other = token.clone();
            other[at] ^= 1;
            assert!(seen.insert(of(&other)), "byte {at}");
        }
        for length in 0..token.len() {
            assert!(seen.insert(of(&token[..length])), "the first {length} bytes");
        }
        // Blocks are filled up with zeros: what looks the same then has another length.
        assert!(seen.insert(of(b"A\0")) && !seen.insert(of(b"A")) && !seen.insert(of(b"")));
    }

    #[test]
    fn an_entry_serves_its_time_its_keys_and_its_token() {
        let tokens = Tokens::new(100);
        let (short, long) = (key("short"), key("long"));
        tokens.insert(short, 1, NOW, until(NOW + 10));
        tokens.insert(long, 1, NOW, until(NOW + 10_000));
        for (key, epoch, now, found) in [
            (short, 1, NOW, true),
            (short, 1, NOW + 9, true),
            (short, 1, NOW + 10, false),
            (short, 1, NOW - 1, false),
            (short, 2, NOW, false),
            (long, 1, NOW + 299, true),
            (long, 1, NOW + 300, false),
            (long, 1, u64::MAX, false),
            (key("other"), 1, NOW, false),
        ] {
            assert_eq!(tokens.find(&key, epoch, now).is_some(), found, "{epoch} {now}");
        }
        tokens.insert(long, 2, NOW + 300, until(NOW + 10_000));
        assert!(tokens.find(&long, 2, NOW + 400).is_some());
        assert!(tokens.find(&long, 1, NOW + 400).is_none(), "one entry per token");
        assert_eq!(tokens.count(), 2);
    }

    #[test]
    fn the_entry_used_longest_ago_makes_room() {
        let tokens = Tokens::new(1);
        let keys: Vec<TokenKey> = (0..=WAYS).map(|i| key(&i.to_string())).collect();
        for key in &keys[..WAYS] {
            tokens.insert(*key, 1, NOW, until(NOW + 100));
        }
        assert!(tokens.find(&keys[0], 1, NOW).is_some());
        tokens.insert(keys[WAYS], 1, NOW, until(NOW + 100));
        let kept: Vec<bool> = keys.iter().map(|key| tokens.find(key, 1, NOW).is_some()).collect();
        assert_eq!(kept, [true, false, true, true, true, true, true, true, true]);
    }

    #[test]
    fn without_capacity_nothing_is_remembered() {
        let tokens = Tokens::new(0);
        tokens.insert(key("a"), 1, NOW, until(NOW + 100));
        assert!(tokens.find(&key("a"), 1, NOW).is_none());
        assert_eq!((tokens.key("a"), Tokens::new(1).key("a")), (None, Some(key("a"))));
    }

    proptest! {
        /// The table against a plain map: it may forget, and must never answer otherwise.
        #[test]
        fn it_forgets_but_never_errs(steps in prop::collection::vec((0..60u32, 1..3u64, 0..700u64, 0..800u64), 1..300)) {
            let tokens = Tokens::new(16);
            let mut all = std::collections::HashMap::new();
            for (name, epoch, now, expires_at) in steps {
                let key = key(&name.to_string());
                if let Some(found) = tokens.find(&key, epoch, now) {
                    let (inserted, expected): &(u64, Arc<Identity>) = &all[&(name, epoch)];
                    prop_assert!(Arc::ptr_eq(&found, expected));
                    prop_assert!(now < found.expires_at && now >= *inserted && now < inserted + MAX_AGE_S);
                }
                let identity = until(expires_at);
                all.insert((name, epoch), (now, identity.clone()));
                tokens.insert(key, epoch, now, identity);
                prop_assert!(tokens.count() <= tokens.capacity());
            }
        }
    }
}
