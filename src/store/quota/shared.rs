//! Limits whose counts replicas share, through the store and without it.
//!
//! - **Strict**: the store itself counts, in one script for all strict limits of a stage, by its own clock.
//! - **Synced**: each replica counts as if alone. A key that uses more than half of this replica's share of the limit is
//!   *busy*: ten times a second what was taken from busy keys is told to the store, and what all have taken comes back.
//!   The store keeps a list of busy keys, so that the others bring theirs in too, however little it is. As long as no
//!   replica uses its share, all together stay below the limit, and nobody need know.
//! - **While the store is silent**: what the limit says. `local` is a meter of the limit's rate divided by the replicas
//!   that were last seen.
//!
//! What the store keeps of a key is what [`Meter::used_ns`] means here, so all modes tell the same.
pub(super) mod strict;
pub(super) mod synced;
mod take;

pub(super) use take::Shared;
pub use take::{Silent, is_shared};

use super::cells::{Budget, Key};
use super::gcra::Gcra;
use super::key::HashKeys;
use super::meter::{Meter, Since, Taken};
use crate::store::shared::SharedStore;
use arc_swap::ArcSwap;
use dashmap::DashMap;
use decide::rules::{Limit, Rate};
use governor::clock::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

/// How scripts read and write what the store keeps of a key: what has been used in nanoseconds, and the time of that in
/// microseconds by the server's own clock. A clock that was set back costs nobody more than what was used.
const STATE: &str = "local t = redis.call('TIME') \
    local now = t[1] * 1000000 + t[2] \
    local function read(key) \
      local used, at = 0, 0 \
      local known = redis.call('GET', key) \
      if known then \
        used, at = string.match(known, '^(%d+) (%d+)$') \
        at = tonumber(at) or 0 \
        used = math.max(0, (tonumber(used) or 0) - math.max(0, now - at) * 1000) \
      end \
      return used, at \
    end \
    local function write(key, used) \
      local life = string.format('%.0f', math.ceil(used / 1000000) + 1000) \
      redis.call('SET', key, string.format('%.0f %.0f', used, now), 'PX', life) \
    end ";

/// The store, and the secret that keys are hashed with.
pub struct Common {
    /// The store.
    pub store: Arc<SharedStore>,
    /// The secret.
    pub keys: HashKeys,
}

/// What one rate of a shared limit has beside its meter.
pub(super) struct Joint<C: Clock> {
    /// Its keys in the store, up to the hash: limit, rate, and which of several equal rates it is.
    pub(super) stem: String,
    rate: Rate,
    /// Cost of a request.
    cost: u32,
    share: ArcSwap<Share<C>>,
    /// Busy keys of a synced limit.
    busy: DashMap<u64, Busy>,
}

/// This replica's part of the rate.
struct Share<C: Clock> {
    replicas: u32,
    /// `None` for a rate that never lets anything through.
    meter: Option<Meter<C>>,
}

/// A key that is brought together with what others count.
struct Busy {
    /// The second half of its hash.
    other: u64,
    /// Requests taken and not told yet.
    untold: AtomicU32,
    /// The beat in which it was last asked for.
    touched: AtomicU64,
    /// The beat in which others last called it busy.
    heard: AtomicU64,
    /// Whether it is busy here, and not only elsewhere.
    ours: AtomicBool,
}

impl<C: Clock + Clone> Joint<C> {
    pub(super) fn new(stem: String, rate: Rate, cost: u32, clock: Since<C>, budget: Arc<Budget>) -> Joint<C> {
        let meter = Gcra::of(rate).map(|gcra| Meter::new(gcra, clock, budget));
        let share = ArcSwap::from_pointee(Share { replicas: 1, meter });
        Joint { stem, rate, cost, share, busy: DashMap::new() }
    }

    /// Divides the rate by another number of replicas; what was counted against the part before is forgotten.
    pub(super) fn divide(&self, replicas: u32, clock: Since<C>, budget: Arc<Budget>) {
        if self.share.load().replicas != replicas {
            let part = part(self.rate, replicas, self.cost);
            let meter = Gcra::of(part).map(|gcra| Meter::new(gcra, clock, budget));
            self.share.store(Arc::new(Share { replicas, meter }));
        }
    }

    /// Takes one request from this replica's part.
    pub(super) fn take_share(&self, key: Key, now: u64) -> Taken {
        self.share.load().meter.as_ref().map_or(Taken::NEVER, |meter| meter.take(key, self.cost, now))
    }

    pub(super) fn sweep(&self) {
        if let Some(meter) = &self.share.load().meter {
            meter.sweep();
        }
    }
}

/// The part of a rate that one of so many replicas has: at least one request at once, however many share it.
fn part(rate: Rate, replicas: u32, cost: u32) -> Rate {
    let replicas = replicas.max(1);
    let burst = if rate.burst == 0 { 0 } else { (rate.burst / replicas).max(cost.min(rate.burst)) };
    Rate { count: rate.count, period_s: rate.period_s.saturating_mul(replicas), burst }
}

/// How the keys of a limit's rate begin. Equal rates of a limit (of two classes of tenants) count apart, as they do in
/// memory.
pub(super) fn stem(limit: &Limit, index: usize) -> String {
    let equal = |rate: &&Rate| limit.rates.get(index) == Some(rate);
    let before = limit.rates.iter().take(index).filter(equal).count();
    let Rate { count, period_s, burst } =
        limit.rates.get(index).copied().unwrap_or(Rate { count: 0, period_s: 0, burst: 0 });
    format!("{}:{count}-{period_s}-{burst}.{before}:", limit.name)
}

/// A whole key.
fn name(prefix: &str, stem: &str, hash: (u64, u64)) -> Vec<u8> {
    format!("{prefix}:{{limits}}:{stem}{:016x}{:016x}", hash.0, hash.1).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_rate() {
        let rate = |count, period_s, burst| Rate { count, period_s, burst };
        assert_eq!(part(rate(10, 1, 30), 1, 1), rate(10, 1, 30));
        assert_eq!(part(rate(10, 1, 30), 4, 1), rate(10, 4, 7));
        assert_eq!(part(rate(10, 1, 30), 4, 9), rate(10, 4, 9), "one that costs nine is one request too");
        assert_eq!(part(rate(1, 60, 2), 5, 1), rate(1, 300, 1), "one at once, however many share it");
        assert_eq!(part(rate(1, 60, 0), 5, 1), rate(1, 300, 0), "nothing stays nothing");
        assert_eq!(part(rate(1, u32::MAX, 9), 3, 1), rate(1, u32::MAX, 3));
    }

    #[test]
    fn equal_rates_count_apart() {
        let rates = [(1, 1, 5), (2, 1, 5), (1, 1, 5)].map(|(count, period_s, burst)| Rate { count, period_s, burst });
        let limit = Limit::new("l", Vec::new(), rates.to_vec());
        assert_eq!([0, 1, 2].map(|at| stem(&limit, at)), ["l:1-1-5.0:", "l:2-1-5.0:", "l:1-1-5.1:"]);
        assert_eq!(name("moat", "l:1-1-5.0:", (1, 2)), b"moat:{limits}:l:1-1-5.0:00000000000000010000000000000002");
    }
}
