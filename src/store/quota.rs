//! Quotas: how much of each rate limit is left for each client, tenant or user, in memory and bounded.
//!
//! Every limit is a GCRA per key, a cap on the requests under way per key, or both. What holds whatever clients do:
//!
//! - **All limits of a stage are charged, in the route's order, also when one of them refuses.** Stopping at the first
//!   refusal would make what is counted depend on that order. A refused request does not push a used-up limit further: a
//!   client that keeps knocking is let in when the time is up. Within one limit, a request refused by its cap is not
//!   charged to its rate.
//! - **What only the answer tells is reserved first.** Until a cost is settled, the reserve counts as taken, so that many
//!   requests at once get no further than one after the other; a request that ends without an answer costs its reserve.
//! - **A place is held to the end of the request**, whatever that end is: [`Dues`] gives it back when it is dropped.
//! - **Keys are 64-bit keyed hashes** (SipHash with a secret of this process): no client chooses how much memory a key
//!   takes, nor aims at another client's key.
//! - **A limit holds a bounded number of keys.** Beyond it, fresh keys share a fixed table of overflow cells, chosen by
//!   the client's network (/24, or /32 for IPv6), or by the tenant for limits per user, 64 cells for each. Nobody goes
//!   unlimited, and a flood from one network crowds that network; keys already known keep cells of their own.
//! - **Counts survive a reload** for each rate whose limit keeps its name and key, and so do places that are held.
mod cells;
mod counted;
mod dues;
mod gcra;
mod holders;
mod janitor;
mod key;
mod meter;
mod shared;

#[cfg(test)]
mod tests;

pub use dues::Dues;
pub use janitor::Janitor;
pub use key::{FieldHash, HashKeys, KeyInput};
pub use shared::{Common, Silent, is_shared};

use arc_swap::{ArcSwap, ArcSwapOption};
use cells::{Budget, Key};
use counted::{Counted, Said};
use decide::facts::{Delayed, Reading, Stage};
use decide::rules::{Excess, Limit};
use dues::Waiting;
use foldhash::fast::RandomState;
use gcra::Gcra;
use governor::clock::{Clock, MonotonicClock};
use holders::Holders;
use key::KeyHasher;
use meter::{Meter, Since, Taken};
use shared::synced::Beats;
use shared::{Joint, Shared};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Keys held for one limit unless told otherwise: at most about 36 MiB.
pub const KEYS_PER_LIMIT: usize = 1_000_000;

/// A good pause between two sweeps: a sweep of a million keys takes a few milliseconds of one core.
pub const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Requests that may wait at once, over all limits; each is a task with its connection, some ten kilobytes.
pub const WAITING: usize = 4096;

/// The state of all limits of this process.
pub struct Quotas<C: Clock = MonotonicClock> {
    table: ArcSwap<Table<C>>,
    /// Held by whoever changes the table, so that two of them cannot both make the same limit.
    changing: Mutex<()>,
    hasher: KeyHasher,
    clock: Since<C>,
    keys_per_limit: usize,
    waiting: Arc<AtomicUsize>,
    /// The store of shared limits.
    common: ArcSwapOption<Common>,
    beats: Beats,
}

/// Limits by name.
type Table<C> = HashMap<Arc<str>, Arc<Counted<C>>, RandomState>;

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
            table: ArcSwap::from_pointee(Table::default()),
            changing: Mutex::new(()),
            hasher: KeyHasher::new(),
            clock: Since::new(clock),
            keys_per_limit,
            waiting: Arc::default(),
            common: ArcSwapOption::empty(),
            beats: Beats::new(),
        }
    }

    /// Makes these the limits. A rate that a limit of the same name and key already had keeps its counts; limits no
    /// longer named are forgotten. Call it after a new snapshot has taken effect.
    pub fn reconfigure(&self, limits: &[Arc<Limit>]) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.table.load();
        let table: Table<C> =
            limits.iter().map(|limit| (limit.name.clone(), self.counted(limit, old.get(&limit.name)))).collect();
        let kept: Vec<&Arc<Joint<C>>> = table.values().flat_map(|counted| &counted.joints).collect();
        for joint in old.values().flat_map(|counted| &counted.joints) {
            if !kept.iter().any(|kept| Arc::ptr_eq(kept, joint)) {
                joint.clear(&self.beats);
            }
        }
        self.table.store(Arc::new(table));
    }

    /// Takes one request from each of `limits` that belongs to `stage`. What it owes to the end is added to `dues`.
    ///
    /// `tightest` is the enforced limit with the least left, `exceeded` the used-up one with the longest wait. Shadow
    /// limits are charged like others and, when used up, only named. A limit without rates and cap, or with a rate that is
    /// zero, refuses everything. A limit that `reconfigure` was not told of is added on first use, never skipped.
    pub fn take(&self, limits: &[Arc<Limit>], stage: Stage, input: &KeyInput<'_>, dues: &mut Dues<C>) -> Reading {
        self.decide(limits, stage, input, dues, None)
    }

    /// The same; shared limits are decided by what `shared` knows of them, if anything.
    fn decide(
        &self,
        limits: &[Arc<Limit>],
        stage: Stage,
        input: &KeyInput<'_>,
        dues: &mut Dues<C>,
        mut shared: Option<&mut Shared<'_>>,
    ) -> Reading {
        let mut reading = Reading::default();
        let mut tightest: Option<(Found<'_, C>, Said)> = None;
        let mut delayed: Vec<(Found<'_, C>, Key)> = Vec::new();
        let mut now = None;
        let table = self.table.load();
        for limit in limits.iter().filter(|limit| limit.stage() == stage) {
            let found = self.find(&table, limit);
            let counted = found.counted();
            // The lane matters only to keys that find the cells full.
            let lane = if counted.budget.is_spent() { self.hasher.lane(&counted.limit.key, input) } else { 0 };
            let key = Key { own: self.hasher.own(&counted.limit.key, input), lane };
            let at = *now.get_or_insert_with(|| self.clock.now());
            let said = match shared.as_deref_mut().zip(limit.sharing) {
                None => counted.take(limit, key, input.class, at, dues),
                Some((shared, sharing)) => {
                    match shared.take(&self.beats, counted, (limit, sharing), key, input, at, dues) {
                        Some(said) => said,
                        None => continue,
                    }
                }
            };
            if limit.shadow {
                if !said.taken.allowed {
                    reading.shadowed.push(limit.name.clone());
                }
                continue;
            }
            if !said.taken.allowed && said.cap.is_none() && counted.turns.is_some() {
                delayed.push((found, key));
                continue;
            }
            if tightest.as_ref().is_none_or(|(_, least)| said.taken.is_tighter_than(&least.taken)) {
                tightest = Some((found, said));
            }
        }
        // Nobody takes a turn who is refused anyway.
        for (found, key) in delayed {
            if tightest.as_ref().is_some_and(|(_, said)| !said.taken.allowed) {
                break;
            }
            let taken = match self.turn(found.counted(), key, now.unwrap_or_default(), dues) {
                Ok(wait) => {
                    let wait_ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
                    if reading.delayed.as_ref().is_none_or(|known| known.wait_ms < wait_ms) {
                        reading.delayed = Some(Delayed { name: found.counted().limit.name.clone(), wait_ms });
                    }
                    Taken { allowed: true, remaining: 0, reset: wait }
                }
                Err(reset) => Taken { reset, ..Taken::NEVER },
            };
            let said = Said { cap: None, rate: found.counted().rate(input.class), taken };
            if tightest.as_ref().is_none_or(|(_, least)| said.taken.is_tighter_than(&least.taken)) {
                tightest = Some((found, said));
            }
        }
        if let Some((found, said)) = tightest {
            let state = found.counted().state(said);
            if !said.taken.allowed {
                reading.exceeded = Some(state.clone());
                reading.delayed = None;
            }
            reading.tightest = Some(state);
        }
        reading
    }

    fn find<'t>(&self, table: &'t Table<C>, limit: &Arc<Limit>) -> Found<'t, C> {
        match table.get(&limit.name) {
            Some(counted) => Found::Known(counted),
            None => Found::Adopted(self.adopt(limit)),
        }
    }

    /// How many keys each limit holds, by name in alphabetical order (`moat_ratelimit_keys`).
    pub fn keys(&self) -> Vec<(Arc<str>, usize)> {
        let mut keys: Vec<_> =
            self.table.load().iter().map(|(name, counted)| (name.clone(), counted.budget.live())).collect();
        keys.sort();
        keys
    }

    /// Requests under way that count against the cap of each limit which has one, by name in alphabetical order
    /// (`moat_ratelimit_held`).
    pub fn held(&self) -> Vec<(Arc<str>, usize)> {
        let table = self.table.load();
        let capped = table.iter().filter(|(_, counted)| !counted.limit.concurrent.is_empty());
        let mut held: Vec<_> = capped.map(|(name, counted)| (name.clone(), counted.holders.requests())).collect();
        held.sort();
        held
    }

    /// Requests that wait for their turn now (`moat_ratelimit_waiting`).
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Forgets keys whose quota is whole again (they are no different from fresh ones) and returns memory.
    ///
    /// Each map is locked a 256th at a time, so that a request waits for a few thousand entries at the very most.
    pub fn sweep(&self) {
        for counted in self.table.load_full().values() {
            for meter in counted.meters.iter().filter_map(|(_, meter)| meter.as_ref()).chain(&counted.turns) {
                meter.sweep();
                std::thread::yield_now();
            }
            counted.joints.iter().for_each(|joint| joint.sweep());
        }
    }

    /// The next turn of a key: how long until it comes, or, where too many wait, until there is one.
    fn turn(&self, counted: &Counted<C>, key: Key, now: u64, dues: &mut Dues<C>) -> Result<Duration, Duration> {
        let Some(turns) = &counted.turns else { return Err(Taken::NEVER.reset) };
        let waiting = match dues.waiting.take() {
            Some(waiting) => waiting,
            None => Waiting::enter(&self.waiting, WAITING).ok_or(Duration::from_secs(1))?,
        };
        let taken = turns.take(key, 1, now);
        if !taken.allowed {
            return Err(taken.reset);
        }
        dues.waiting = Some(waiting);
        Ok(taken.reset)
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
        let mut kept: Vec<_> = old.map(|old| old.meters.iter().collect()).unwrap_or_default();
        let meter = |gcra| Arc::new(Meter::new(gcra, self.clock.clone(), budget.clone()));
        let meters = limit.rates.iter().map(|rate| match kept.iter().position(|(known, _)| known == rate) {
            Some(at) => kept.remove(at).clone(),
            None => (*rate, Gcra::of(*rate).map(meter)),
        });
        let turns = match limit.excess {
            Excess::Refuse => None,
            Excess::Delay { each, waiting } => Gcra::with(u64::try_from(each.as_nanos()).unwrap_or(u64::MAX), waiting)
                .map(|gcra| {
                    let known = old.and_then(|old| old.turns.as_ref()).filter(|turns| *turns.gcra() == gcra);
                    known.cloned().unwrap_or_else(|| meter(gcra))
                }),
        };
        let holders = |known: fn(&Counted<C>) -> &Arc<Holders>| {
            old.map_or_else(|| Arc::new(Holders::new()), |old| known(old).clone())
        };
        Arc::new(Counted {
            meters: meters.collect(),
            turns,
            holders: holders(|old| &old.holders),
            reserves: holders(|old| &old.reserves),
            joints: self.joints(limit, old, &budget),
            lost: old.map_or_else(Arc::default, |old| old.lost.clone()),
            limit: limit.clone(),
            budget: budget.clone(),
        })
    }
}
