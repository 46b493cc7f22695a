//! All marks in memory, bounded and compact: what every request with a credential is held against.
//!
//! A mark takes one place of 25 bytes: 16 of its handle, 4 for each of its times, one of the map's own. A map doubles when
//! seven of eight places are taken, so that an entry costs 29 to 58 bytes, 42 with 10,000,000 of them. The maps are
//! many and small: one that grows holds up a thousandth of the requests for tens of microseconds.
//!
//! Users choose some of what handles are made from; where an entry stands depends on a secret of this process too, so
//! that nobody makes entries that all stand in one place.
use decide::revocation::{Handle, Mark, NEVER, Scope};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// Maps of each scope.
const SHARDS: usize = 1024;
/// The largest time that an entry tells; it stands for [`NEVER`].
const LATEST: u32 = u32::MAX;

/// The table.
pub struct Table {
    scopes: [Shelf; Scope::ALL.len()],
    seed: Seed,
}

/// Marks of one scope.
struct Shelf {
    count: AtomicU64,
    maps: Vec<RwLock<HashMap<Key, Times, Seed>>>,
}

/// A handle in two halves.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key(u64, u64);

/// Both in seconds since the epoch.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Times {
    not_before: u32,
    until: u32,
}

/// What places depend on.
#[derive(Clone, Copy)]
struct Seed(u64);

/// Two multiplications for a key that is random already.
struct Mix(u64);

impl BuildHasher for Seed {
    type Hasher = Mix;

    fn build_hasher(&self) -> Mix {
        Mix(self.0)
    }
}

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, part: u64) {
        // An odd constant without a pattern: the golden ratio.
        let wide = u128::from(self.0 ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.0 = (wide >> 64) as u64 ^ wide as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }
}

impl Key {
    fn of(handle: &Handle) -> Key {
        let [a, b, c, d, e, f, g, h, rest @ ..] = *handle.bytes();
        Key(u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes(rest))
    }
}

/// Later than an entry can tell is never.
fn short(at_s: u64) -> u32 {
    u32::try_from(at_s).unwrap_or(LATEST)
}

fn long(at_s: u32) -> u64 {
    if at_s == LATEST { NEVER } else { u64::from(at_s) }
}

impl Table {
    /// An empty one. `seed` is a secret of this process.
    pub fn new(seed: u64) -> Table {
        let seed = Seed(seed);
        let map = || RwLock::new(HashMap::with_hasher(seed));
        let shelf = |_| Shelf { count: AtomicU64::new(0), maps: std::iter::repeat_with(map).take(SHARDS).collect() };
        Table { scopes: Scope::ALL.map(shelf), seed }
    }

    /// Until when whoever signed in is out by this handle, seconds since the epoch; `None` where nobody is. Without any
    /// marks of the scope, one look at a number.
    pub fn find(&self, scope: Scope, handle: &Handle) -> Option<u64> {
        let shelf = self.shelf(scope)?;
        if shelf.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let key = Key::of(handle);
        let map = shelf.maps.get(self.place(key))?.read().unwrap_or_else(PoisonError::into_inner);
        map.get(&key).map(|times| long(times.not_before))
    }

    /// Takes a mark in; with one of the same handle, both in one. Whether anybody is out who was not before.
    pub fn take(&self, mark: &Mark) -> bool {
        let Some(shelf) = self.shelf(mark.scope) else { return false };
        let key = Key::of(&mark.handle);
        let Some(map) = shelf.maps.get(self.place(key)) else { return false };
        let new = Times { not_before: short(mark.not_before_s), until: short(mark.until_s) };
        let mut map = map.write().unwrap_or_else(PoisonError::into_inner);
        match map.get_mut(&key) {
            Some(old) => {
                let more = new.not_before > old.not_before;
                *old = Times { not_before: old.not_before.max(new.not_before), until: old.until.max(new.until) };
                more
            }
            None => {
                map.insert(key, new);
                // Before the lock is given back: whoever sees the entry sees that there is one.
                shelf.count.fetch_add(1, Ordering::Release);
                true
            }
        }
    }

    /// How many marks of a scope there are.
    pub fn count(&self, scope: Scope) -> u64 {
        self.shelf(scope).map_or(0, |shelf| shelf.count.load(Ordering::Acquire))
    }

    /// How many there are in all.
    pub fn len(&self) -> u64 {
        Scope::ALL.into_iter().map(|scope| self.count(scope)).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.scopes.iter().all(|shelf| shelf.count.load(Ordering::Acquire) == 0)
    }

    /// Forgets what is over, map by map; calls `between` after each, to let others have the core.
    pub fn sweep(&self, now_s: u64, mut between: impl FnMut()) {
        for shelf in &self.scopes {
            if shelf.count.load(Ordering::Acquire) == 0 {
                continue;
            }
            for map in &shelf.maps {
                let mut map = map.write().unwrap_or_else(PoisonError::into_inner);
                let before = map.len();
                map.retain(|_, times| long(times.until) > now_s);
                let gone = before - map.len();
                if gone > 0 {
                    shelf.count.fetch_sub(gone as u64, Ordering::Release);
                    if map.len() * 2 < map.capacity() {
                        map.shrink_to_fit();
                    }
                }
                drop(map);
                between();
            }
        }
    }

    fn shelf(&self, scope: Scope) -> Option<&Shelf> {
        self.scopes.get(scope.index())
    }

    /// In which map a key stands: bits that the map itself does not look at first.
    fn place(&self, key: Key) -> usize {
        (self.seed.hash_one(key) >> 32) as usize % SHARDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn mark(scope: Scope, name: u8, not_before_s: u64, until_s: u64) -> Mark {
        Mark { scope, handle: [name; 16].into(), not_before_s, until_s }
    }

    #[test]
    fn a_mark_is_found_in_its_scope_until_it_is_over() {
        let table = Table::new(7);
        assert!(table.is_empty() && table.find(Scope::Subject, &[1; 16].into()).is_none());
        assert!(table.take(&mark(Scope::Subject, 1, 100, 200)));
        assert!(!table.take(&mark(Scope::Subject, 1, 90, 210)), "nobody more is out");
        assert!(table.take(&mark(Scope::Subject, 1, 101, 0)));
        assert!(table.take(&mark(Scope::Key, 1, NEVER, NEVER)));
        assert_eq!(table.find(Scope::Subject, &[1; 16].into()), Some(101));
        assert_eq!(table.find(Scope::Key, &[1; 16].into()), Some(NEVER));
        assert_eq!(table.find(Scope::Token, &[1; 16].into()), None);
        assert_eq!((table.len(), table.count(Scope::Key)), (2, 1));
        table.sweep(209, || {});
        assert_eq!(table.len(), 2);
        table.sweep(210, || {});
        assert_eq!((table.len(), table.find(Scope::Subject, &[1; 16].into())), (1, None));
        table.sweep(u64::from(u32::MAX) + 1, || {});
        assert_eq!(table.len(), 1, "what is never over is never forgotten");
    }

    proptest! {
        /// The table against a plain map.
        #[test]
        fn it_knows_what_it_was_told(
            steps in prop::collection::vec((0..6usize, 0..20u8, 0..1000u64, 0..1000u64, 0..1000u64, any::<bool>()), 1..200),
            seed in any::<u64>(),
        ) {
            let table = Table::new(seed);
            let mut plain: BTreeMap<(usize, u8), (u64, u64)> = BTreeMap::new();
            for (scope, name, not_before_s, until_s, now_s, sweep) in steps {
                if sweep {
                    table.sweep(now_s, || {});
                    plain.retain(|_, (_, until)| *until > now_s);
                } else {
                    let before = plain.get(&(scope, name)).copied();
                    let merged = before.map_or((not_before_s, until_s), |(n, u)| (n.max(not_before_s), u.max(until_s)));
                    let more = before.is_none_or(|(n, _)| merged.0 > n);
                    prop_assert_eq!(table.take(&mark(Scope::ALL[scope], name, not_before_s, until_s)), more);
                    plain.insert((scope, name), merged);
                }
                prop_assert_eq!(table.len(), plain.len() as u64);
                for scope in 0..6 {
                    for name in 0..20 {
                        let found = table.find(Scope::ALL[scope], &[name; 16].into());
                        prop_assert_eq!(found, plain.get(&(scope, name)).map(|(n, _)| *n));
                    }
                }
            }
        }
    }
}
