//! Quotas: how much of each rate limit is left for each client, tenant or user, in memory and bounded.
//!
//! Every limit is a GCRA (governor) per key. What holds whatever clients do:
//!
//! - **All limits of a stage are charged, in the route's order, also when one of them refuses.** GCRA cannot give a
//!   request back, and stopping at the first refusal would make what is counted depend on that order. A refused request
//!   does not push a used-up limit further: a client that keeps knocking is let in when the time is up.
//! - **Keys are 64-bit keyed hashes** (SipHash with a secret of this process): no client chooses how much memory a key
//!   takes, nor aims at another client's key.
//! - **A limit holds a bounded number of keys.** Beyond it, fresh keys share a fixed table of overflow cells, chosen by
//!   the client's network (/24, or /32 for IPv6), or by the tenant for limits per user, 64 cells for each. Nobody goes
//!   unlimited, and a flood from one network crowds that network; keys already known keep cells of their own.
//! - **Counts survive a reload** for each rate whose limit keeps its name and key.
mod cells;
mod key;
mod meter;

#[cfg(test)]
mod tests;

pub use key::KeyInput;

use arc_swap::ArcSwap;
use cells::{Budget, Key};
use decide::facts::{LimitState, Reading, Stage};
use decide::rules::Limit;
use governor::clock::{Clock, MonotonicClock};
use key::KeyHasher;
use meter::{Meter, Taken};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Keys held for one limit unless told otherwise: at most about 36 MiB.
pub const KEYS_PER_LIMIT: usize = 1_000_000;

/// A good pause between two sweeps: a sweep of a million keys takes a few milliseconds of one core.
pub const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// The state of all limits of this process.
pub struct Quotas<C: Clock = MonotonicClock> {
    table: ArcSwap<Table<C>>,
    /// Held by whoever changes the table, so that two of them cannot both make the same limit.
    changing: Mutex<()>,
    hasher: KeyHasher,
    clock: C,
    keys_per_limit: usize,
}

/// Limits by name.
type Table<C> = HashMap<Arc<str>, Arc<Counted<C>>>;

/// One limit with its meters, one per rate (that is, per tenant class).
struct Counted<C: Clock> {
    limit: Arc<Limit>,
    budget: Arc<Budget>,
    meters: Vec<Arc<Meter<C>>>,
}

/// A limit on its way through `take`; the known ones are borrowed, since their count is shared by all threads.
enum Found<'t, C: Clock> {
    Known(&'t Counted<C>),
    Adopted(Arc<Counted<C>>),
}

impl<C: Clock> Found<'_, C> {
    fn counted(&self) -> &Counted<C> {
        match self {
            Found::Known(counted) => counted,
            Found::Adopted(counted) => counted,
        }
    }
}

impl Quotas<MonotonicClock> {
    /// Empty, with room for [`KEYS_PER_LIMIT`] keys in each limit.
    pub fn new() -> Quotas {
        Quotas::with(MonotonicClock, KEYS_PER_LIMIT)
    }
}

impl Default for Quotas<MonotonicClock> {
    fn default() -> Self {
        Quotas::new()
    }
}

impl<C: Clock + Clone> Quotas<C> {
    /// Empty, on this clock, with room for `keys_per_limit` keys in each limit.
    pub fn with(clock: C, keys_per_limit: usize) -> Quotas<C> {
        Quotas {
            table: ArcSwap::from_pointee(HashMap::new()),
            changing: Mutex::new(()),
            hasher: KeyHasher::new(),
            clock,
            keys_per_limit,
        }
    }

    /// Makes these the limits. A rate that a limit of the same name and key already had keeps its counts; limits no
    /// longer named are forgotten. Call it after a new snapshot has taken effect.
    pub fn reconfigure(&self, limits: &[Arc<Limit>]) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.table.load();
        let table =
            limits.iter().map(|limit| (limit.name.clone(), self.counted(limit, old.get(&limit.name)))).collect();
        self.table.store(Arc::new(table));
    }

    /// Takes one request from each of `limits` that belongs to `stage`.
    ///
    /// `tightest` is the enforced limit with the least left, `exceeded` the used-up one with the longest wait. Shadow
    /// limits are charged like others and, when used up, only named. A limit without rates, or with one that is zero,
    /// refuses everything. A limit that `reconfigure` was not told of is added on first use, never skipped.
    pub fn take(&self, limits: &[Arc<Limit>], stage: Stage, input: &KeyInput<'_>) -> Reading {
        let mut reading = Reading::default();
        let mut tightest: Option<(Found<'_, C>, usize, Taken)> = None;
        let table = self.table.load();
        for limit in limits.iter().filter(|limit| limit.stage() == stage) {
            let found = match table.get(&limit.name) {
                Some(counted) => Found::Known(counted),
                None => Found::Adopted(self.adopt(limit)),
            };
            let counted = found.counted();
            let index = counted.meter_index(input.class);
            let taken = match counted.meters.get(index) {
                Some(meter) => {
                    // The lane matters only to keys that find the cells full.
                    let lane = if counted.budget.is_spent() { self.hasher.lane(&counted.limit.key, input) } else { 0 };
                    meter.take(Key { own: self.hasher.own(&counted.limit.key, input), lane })
                }
                None => Taken::NEVER,
            };
            if limit.shadow {
                if !taken.allowed {
                    reading.shadowed.push(limit.name.clone());
                }
                continue;
            }
            if tightest.as_ref().is_none_or(|(_, _, least)| taken.is_tighter_than(least)) {
                tightest = Some((found, index, taken));
            }
        }
        if let Some((found, index, taken)) = tightest {
            let state = found.counted().state(index, taken);
            if !taken.allowed {
                reading.exceeded = Some(state.clone());
            }
            reading.tightest = Some(state);
        }
        reading
    }

    /// How many keys each limit holds, by name in alphabetical order (`moat_ratelimit_keys`).
    pub fn keys(&self) -> Vec<(Arc<str>, usize)> {
        let mut keys: Vec<_> =
            self.table.load().iter().map(|(name, counted)| (name.clone(), counted.budget.live())).collect();
        keys.sort();
        keys
    }

    /// Forgets keys whose quota is whole again (they are no different from fresh ones) and returns memory.
    ///
    /// Each map is locked a 256th at a time, so that a request waits for a few thousand entries at the very most.
    pub fn sweep(&self) {
        for counted in self.table.load_full().values() {
            for meter in &counted.meters {
                meter.sweep();
                std::thread::yield_now();
            }
        }
    }

    fn adopt(&self, limit: &Arc<Limit>) -> Arc<Counted<C>> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.table.load();
        if let Some(counted) = old.get(&limit.name) {
            return counted.clone();
        }
        let counted = self.counted(limit, None);
        let mut table = Table::clone(&old);
        table.insert(limit.name.clone(), counted.clone());
        self.table.store(Arc::new(table));
        counted
    }

    fn counted(&self, limit: &Arc<Limit>, old: Option<&Arc<Counted<C>>>) -> Arc<Counted<C>> {
        let old = old.filter(|old| old.limit.key == limit.key);
        if let Some(old) = old.filter(|old| old.limit == *limit) {
            return old.clone();
        }
        let budget = old.map_or_else(|| Arc::new(Budget::new(self.keys_per_limit)), |old| old.budget.clone());
        let mut kept: Vec<&Arc<Meter<C>>> = old.map(|old| old.meters.iter().collect()).unwrap_or_default();
        let meters = limit
            .rates
            .iter()
            .map(|rate| match kept.iter().position(|meter| meter.rate() == *rate) {
                Some(at) => kept.remove(at).clone(),
                None => Arc::new(Meter::new(*rate, self.clock.clone(), budget.clone())),
            })
            .collect();
        Arc::new(Counted { limit: limit.clone(), budget, meters })
    }
}

impl<C: Clock> Counted<C> {
    /// Which of the rates is meant: the rule of `Limit::rate`.
    fn meter_index(&self, class: Option<usize>) -> usize {
        match class {
            Some(class) if class < self.meters.len() => class,
            Some(_) | None => 0,
        }
    }

    fn state(&self, index: usize, taken: Taken) -> LimitState {
        let (quota, window_s) = self.meters.get(index).map_or((0, 1), |meter| (meter.burst(), meter.window_s()));
        LimitState {
            name: self.limit.name.clone(),
            quota,
            window_s,
            remaining: taken.remaining,
            reset_s: ceil_s(taken.reset),
        }
    }
}

impl Taken {
    /// Used up before not used up; then the longest wait among the used up, the least left among the others.
    fn is_tighter_than(&self, other: &Taken) -> bool {
        (self.allowed, self.remaining, Reverse(self.reset)) < (other.allowed, other.remaining, Reverse(other.reset))
    }
}

/// Whole seconds, never fewer than there are.
fn ceil_s(duration: Duration) -> u32 {
    let s = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(s).unwrap_or(u32::MAX)
}

/// The thread that sweeps; it ends when this is dropped.
pub struct Janitor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Janitor {
    /// Sweeps `quotas` again and again with a pause of `every`.
    pub fn start<C>(quotas: Arc<Quotas<C>>, every: Duration) -> std::io::Result<Janitor>
    where
        C: Clock + Clone + Send + Sync + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("quota-janitor".into()).spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                quotas.sweep();
                std::thread::park_timeout(every);
            }
        })?;
        Ok(Janitor { stop, thread: Some(thread) })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A sweep that panicked has already been reported by the panic hook.
            let _ = thread.join();
        }
    }
}
