//! A map from key to GCRA state that cannot outgrow its budget.
use dashmap::{DashMap, Entry};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Locks per map. With a million keys one lock covers about 4,000 of them, which are swept or moved in well under a
/// millisecond; an empty map takes 32 KiB.
const SHARDS: usize = 256;
/// Overflow cells of one meter: 512 KiB, allocated when first needed.
const OVERFLOW: usize = 1 << 16;
/// Overflow cells that the keys of one lane spread over.
const LANE: u64 = 64;

/// A hashed key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The hash of the key itself.
    pub(super) own: u64,
    /// The hash of the neighbourhood with which it shares overflow cells.
    pub(super) lane: u64,
}

/// How many keys one limit may hold, over all of its meters.
pub(super) struct Budget {
    live: AtomicUsize,
    most: usize,
}

impl Budget {
    pub(super) fn new(most: usize) -> Budget {
        Budget { live: AtomicUsize::new(0), most }
    }

    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.live() >= self.most
    }

    pub(super) fn claim(&self) -> bool {
        let claim = |live: usize| (live < self.most).then_some(live + 1);
        self.live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim).is_ok()
    }

    pub(super) fn release(&self, count: usize) {
        self.live.fetch_sub(count, Ordering::Relaxed);
    }
}

/// The states of one meter: theoretical arrival times; 0 is fresh.
pub(super) struct Cells {
    map: DashMap<u64, AtomicU64, BuildHasherDefault<AsIs>>,
    overflow: OnceLock<Box<[AtomicU64]>>,
    budget: Arc<Budget>,
}

impl Cells {
    pub(super) fn new(budget: Arc<Budget>) -> Cells {
        let map = DashMap::with_capacity_and_hasher_and_shard_amount(0, BuildHasherDefault::default(), SHARDS);
        Cells { map, overflow: OnceLock::new(), budget }
    }

    /// Applies `f` to the key's state. What it returns with `Ok` is the next state.
    pub(super) fn measure<T, E>(&self, key: &Key, f: impl Fn(u64) -> Result<(T, u64), E>) -> Result<T, E> {
        if let Some(cell) = self.map.get(&key.own) {
            return replace(&cell, f);
        }
        if self.budget.is_spent() {
            return replace(self.overflow(key), f);
        }
        match self.map.entry(key.own) {
            Entry::Occupied(cell) => replace(cell.get(), f),
            // Many threads may race for the last place; the one that claims it may insert.
            Entry::Vacant(place) if self.budget.claim() => replace(&place.insert(AtomicU64::new(0)), f),
            Entry::Vacant(_) => replace(self.overflow(key), f),
        }
    }

    /// The key's state.
    pub(super) fn state(&self, key: &Key) -> u64 {
        match self.map.get(&key.own) {
            Some(cell) => cell.load(Ordering::Relaxed),
            None if self.budget.is_spent() => self.overflow(key).load(Ordering::Relaxed),
            None => 0,
        }
    }

    /// The state of a key that has a cell of its own; 0 for others.
    pub(super) fn known(&self, own: u64) -> u64 {
        self.map.get(&own).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Raises the state of a key that has a cell of its own; never lowers it.
    pub(super) fn raise(&self, own: u64, state: u64) {
        if let Some(cell) = self.map.get(&own) {
            cell.fetch_max(state, Ordering::Relaxed);
        }
    }

    fn overflow(&self, key: &Key) -> &AtomicU64 {
        let cells = self.overflow.get_or_init(|| (0..OVERFLOW).map(|_| AtomicU64::new(0)).collect());
        let at = key.lane.wrapping_add(key.own % LANE) % OVERFLOW as u64;
        #[expect(clippy::indexing_slicing, reason = "`at` is a remainder by the number of cells")]
        &cells[at as usize]
    }

    /// Forgets every state at or before `until`, gives memory back when most of it lies idle.
    pub(super) fn sweep(&self, until: u64) {
        let mut gone = 0;
        self.map.retain(|_, cell| {
            let keep = *cell.get_mut() > until;
            gone += usize::from(!keep);
            keep
        });
        self.budget.release(gone);
        if self.map.capacity() > 4 * self.map.len() + 16 * SHARDS {
            self.map.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        // hashbrown: one control byte per bucket, buckets being 8/7 of the capacity.
        let overflow = self.overflow.get().map_or(0, |cells| cells.len() * 8);
        self.map.capacity() * 8 / 7 * (size_of::<(u64, AtomicU64)>() + 1) + SHARDS * 128 + overflow
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        self.budget.release(self.map.len());
    }
}

/// Applies `f` to one cell as if nobody else did at that time.
fn replace<T, E>(cell: &AtomicU64, f: impl Fn(u64) -> Result<(T, u64), E>) -> Result<T, E> {
    let mut seen = cell.load(Ordering::Relaxed);
    loop {
        let (result, next) = f(seen)?;
        match cell.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Ok(result),
            Err(other) => seen = other,
        }
    }
}

/// Keys are hashes already.
#[derive(Clone, Copy, Default)]
pub(super) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
