//! Who is under way: for each key what its requests hold that have not ended.
use super::cells::AsIs;
use dashmap::{DashMap, Entry};
use std::hash::BuildHasherDefault;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Locks per map: each is held for a few nanoseconds.
const SHARDS: usize = 16;

/// What is held, by key. There is no key without a request, so it needs no other bound than theirs.
pub(super) struct Holders {
    map: DashMap<u64, NonZeroU32, BuildHasherDefault<AsIs>>,
    requests: AtomicUsize,
}

impl Holders {
    pub(super) fn new() -> Holders {
        let map = DashMap::with_capacity_and_hasher_and_shard_amount(0, BuildHasherDefault::default(), SHARDS);
        Holders { map, requests: AtomicUsize::new(0) }
    }

    /// Enters a request that holds so many units, and returns it with what its key holds now; `None` where that would be
    /// more than `most`.
    pub(super) fn enter(self: &Arc<Self>, key: u64, units: NonZeroU32, most: u32) -> Option<(Hold, u32)> {
        let now = match self.map.entry(key) {
            Entry::Occupied(mut held) => {
                let next = held.get().checked_add(units.get()).filter(|next| next.get() <= most)?;
                held.insert(next);
                next
            }
            Entry::Vacant(place) if units.get() <= most => *place.insert(units).value(),
            Entry::Vacant(_) => return None,
        };
        self.requests.fetch_add(1, Ordering::Relaxed);
        Some((Hold { holders: self.clone(), key, units }, now.get()))
    }

    /// Requests under way, over all keys.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Keys with a request under way.
    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.map.len()
    }

    fn leave(&self, key: u64, units: NonZeroU32) {
        if let Entry::Occupied(mut held) = self.map.entry(key) {
            match NonZeroU32::new(held.get().get().saturating_sub(units.get())) {
                Some(left) => drop(held.insert(left)),
                None => drop(held.remove()),
            }
        }
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request holds of its key; given back when it is dropped.
pub(super) struct Hold {
    holders: Arc<Holders>,
    key: u64,
    units: NonZeroU32,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holders.leave(self.key, self.units);
    }
}
