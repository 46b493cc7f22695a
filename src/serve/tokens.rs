//! Tokens that verified a moment ago: a bounded table, so that a signature is checked once and not per request.
//!
//! **Key.** An entry is found by SHA-256 over the whole token. Callers choose their tokens, so the key must withstand
//! deliberate collisions: with a shorter or unkeyed fast hash, whoever makes two tokens collide would be served as
//! somebody else. The table never holds the token itself.
//!
//! **End.** An entry serves at most five minutes and never at or past `exp`; it serves one key set of one issuer's
//! settings only, told by the epoch under which it was verified. Whatever changes the keys or the settings changes
//! the epoch, and with it all older entries are as good as gone.
//!
//! **What is not kept.** Refused tokens: every sender can make any number of them, and would flush the table of those
//! that are worth keeping. A refusal costs its sender one verification on our side, and the address limits bound it.
//!
//! **Bound.** The table is made of sets of eight; a full set gives up the entry that was used longest ago. Nothing
//! grows beyond the capacity, and there is no housekeeping: 64 bytes per place, plus the identity of those in use.
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use decide::facts::Identity;
use std::sync::{Arc, Mutex, PoisonError};

/// Entries of one set.
const WAYS: usize = 8;

/// Longest service of an entry, in seconds.
const MAX_AGE_S: u64 = 300;

/// What a token is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenKey([u8; 32]);

impl TokenKey {
    /// SHA-256 of the token.
    pub fn of(token: &str) -> TokenKey {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        TokenKey(key)
    }

    /// HMAC-SHA256 of the token, which may be short enough to be guessed from its plain hash.
    pub fn keyed(key: &hmac::Key, token: &str) -> TokenKey {
        let mut found = [0; 32];
        found.copy_from_slice(hmac::sign(key, token.as_bytes()).as_ref());
        TokenKey(found)
    }

    /// A number that is spread as the key is.
    pub(super) fn number(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// The table of verified tokens.
pub struct Tokens {
    sets: Vec<Mutex<Set>>,
}

#[derive(Default)]
struct Set {
    entries: Vec<Entry>,
    /// Counts uses of the set; orders its entries by their last one.
    clock: u32,
}

struct Entry {
    key: TokenKey,
    epoch: u64,
    from_s: u64,
    until_s: u64,
    used: u32,
    identity: Arc<Identity>,
}

impl Tokens {
    /// A table for about `capacity` tokens (rounded up to whole sets); 0 remembers nothing.
    pub fn new(capacity: u64) -> Tokens {
        let sets = usize::try_from(capacity.div_ceil(WAYS as u64)).unwrap_or(usize::MAX);
        Tokens { sets: std::iter::repeat_with(Mutex::default).take(sets).collect() }
    }

    /// The identity of a token that verified under `epoch`, if it may still serve at `now_s`. A clock that went back
    /// behind the verification finds nothing.
    pub fn find(&self, key: &TokenKey, epoch: u64, now_s: u64) -> Option<Arc<Identity>> {
        let mut set = self.set(key)?.lock().unwrap_or_else(PoisonError::into_inner);
        set.clock = set.clock.wrapping_add(1);
        let clock = set.clock;
        let entry = set.entries.iter_mut().find(|e| e.key == *key && e.epoch == epoch)?;
        if now_s < entry.from_s || now_s >= entry.until_s {
            return None;
        }
        entry.used = clock;
        Some(entry.identity.clone())
    }

    /// Remembers a token that verified under `epoch` at `now_s`.
    pub fn insert(&self, key: TokenKey, epoch: u64, now_s: u64, identity: Arc<Identity>) {
        self.insert_for(MAX_AGE_S, key, epoch, now_s, identity);
    }

    /// The same for at most so many seconds.
    pub fn insert_for(&self, max_age_s: u64, key: TokenKey, epoch: u64, now_s: u64, identity: Arc<Identity>) {
        let Some(set) = self.set(&key) else { return };
        let until_s = identity.expires_at.min(now_s.saturating_add(max_age_s));
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        set.clock = set.clock.wrapping_add(1);
        let entry = Entry { key, epoch, from_s: now_s, until_s, used: set.clock, identity };
        let clock = set.clock;
        let spare = set.entries.len() < WAYS;
        // The token's own place; else one whose time is over; else, where the set is full, the one used longest ago.
        let rank = |e: &Entry| (e.key == key, now_s >= e.until_s, clock.wrapping_sub(e.used));
        let place = set.entries.iter_mut().max_by_key(|e| rank(e));
        let place = place.filter(|e| !spare || e.key == key || now_s >= e.until_s);
        match place {
            Some(place) => *place = entry,
            None => set.entries.push(entry),
        }
    }

    /// How many entries stand in the table, serving or not.
    pub fn count(&self) -> usize {
        self.sets.iter().map(|set| set.lock().unwrap_or_else(PoisonError::into_inner).entries.len()).sum()
    }

    /// How many entries, serving or not, are of identities like this.
    pub fn matching(&self, like: impl Fn(&Identity) -> bool) -> u64 {
        let of = |set: &Mutex<Set>| {
            let set = set.lock().unwrap_or_else(PoisonError::into_inner);
            set.entries.iter().filter(|entry| like(&entry.identity)).count() as u64
        };
        self.sets.iter().map(of).sum()
    }

    /// The number of places.
    pub fn capacity(&self) -> usize {
        self.sets.len() * WAYS
    }

    fn set(&self, key: &TokenKey) -> Option<&Mutex<Set>> {
        let index = key.number().checked_rem(self.sets.len() as u64)?;
        self.sets.get(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::fixtures::identity;
    use proptest::prelude::*;

    const NOW: u64 = 1_000;

    fn until(expires_at: u64) -> Arc<Identity> {
        Arc::new(identity("idp", "user", expires_at))
    }

    #[test]
    fn an_entry_serves_its_time_its_keys_and_its_token() {
        let tokens = Tokens::new(100);
        let (short, long) = (TokenKey::of("short"), TokenKey::of("long"));
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
            (TokenKey::of("other"), 1, NOW, false),
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
        let keys: Vec<TokenKey> = (0..=WAYS).map(|i| TokenKey::of(&i.to_string())).collect();
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
        tokens.insert(TokenKey::of("a"), 1, NOW, until(NOW + 100));
        assert!(tokens.find(&TokenKey::of("a"), 1, NOW).is_none());
    }

    proptest! {
        /// The table against a plain map: it may forget, and must never answer otherwise.
        #[test]
        fn it_forgets_but_never_errs(steps in prop::collection::vec((0..60u32, 1..3u64, 0..700u64, 0..800u64), 1..300)) {
            let tokens = Tokens::new(16);
            let mut all = std::collections::HashMap::new();
            for (name, epoch, now, expires_at) in steps {
                let key = TokenKey::of(&name.to_string());
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
