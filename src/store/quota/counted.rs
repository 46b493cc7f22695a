//! One limit with what it counts: a place under its cap, then a cost from its rate, and what is said of both.
use super::cells::{Budget, Key};
use super::dues::{Dues, Open};
use super::holders::Holders;
use super::meter::{Meter, Taken};
use super::shared::Joint;
use decide::facts::{LimitState, Unit};
use decide::rules::{Limit, Rate, Settle, SharingMode};
use governor::clock::Clock;
use std::cmp::Reverse;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// One limit with what it counts.
pub(super) struct Counted<C: Clock> {
    pub(super) limit: Arc<Limit>,
    pub(super) budget: Arc<Budget>,
    /// One for each rate (that is, for each tenant class); `None` for a rate that never lets anything through.
    pub(super) meters: Vec<(Rate, Option<Arc<Meter<C>>>)>,
    /// Turns of those who are delayed.
    pub(super) turns: Option<Arc<Meter<C>>>,
    /// Requests under way.
    pub(super) holders: Arc<Holders>,
    /// What is reserved until it is settled.
    pub(super) reserves: Arc<Holders>,
    /// Beside each meter, where the limit is shared.
    pub(super) joints: Vec<Arc<Joint<C>>>,
    /// Requests that were decided without the store because it was silent.
    pub(super) lost: Arc<AtomicU64>,
}

/// What one limit says about a request.
#[derive(Clone, Copy)]
pub(super) struct Said {
    /// The cap, where it is the cap that was meant and not the rate.
    pub(super) cap: Option<u32>,
    /// Which of the rates was meant.
    pub(super) rate: usize,
    pub(super) taken: Taken,
}

impl<C: Clock> Counted<C> {
    /// Which of the rates is meant: the rule of `Limit::rate`.
    pub(super) fn rate(&self, class: Option<usize>) -> usize {
        match class {
            Some(class) if class < self.meters.len() => class,
            Some(_) | None => 0,
        }
    }

    pub(super) fn is(&self, mode: SharingMode) -> bool {
        self.limit.sharing.is_some_and(|sharing| sharing.mode == mode)
    }

    /// Takes a request: first a place under the cap, then its cost from the rate.
    pub(super) fn take(
        &self,
        limit: &Arc<Limit>,
        key: Key,
        class: Option<usize>,
        now: u64,
        dues: &mut Dues<C>,
    ) -> Said {
        self.take_by(limit, key, class, now, dues, |meter| meter.take(key, limit.cost, now))
    }

    /// The same, where `charge` takes the cost of a request that nothing is settled of later.
    pub(super) fn take_by(
        &self,
        limit: &Arc<Limit>,
        key: Key,
        class: Option<usize>,
        now: u64,
        dues: &mut Dues<C>,
        charge: impl FnOnce(&Meter<C>) -> Taken,
    ) -> Said {
        let rate = self.rate(class);
        let meter = self.meters.get(rate).and_then(|(_, meter)| meter.as_ref());
        let mut place = None;
        if let Some(most) = limit.cap(class) {
            let said = |taken| Said { cap: Some(most), rate, taken };
            let Some((hold, held)) = self.holders.enter(key.own, NonZeroU32::MIN, most) else {
                return said(Taken { reset: AGAIN, ..Taken::NEVER });
            };
            dues.holds.push(hold);
            let taken = Taken { allowed: true, remaining: most.saturating_sub(held), reset: AGAIN };
            if limit.rates.is_empty() {
                return said(taken);
            }
            place = Some(said(taken));
        }
        let taken = match (meter, &limit.settle) {
            (None, _) => Taken::NEVER,
            (Some(meter), Settle::Never) => charge(meter),
            (Some(meter), Settle::Status(_) | Settle::Header { .. } | Settle::Bytes { .. }) => {
                self.reserve(limit, meter, key, now, dues)
            }
        };
        match place.filter(|place| place.taken.is_tighter_than(&taken)) {
            Some(place) => place,
            None => Said { cap: None, rate, taken },
        }
    }

    /// Sets the cost aside that the answer will settle, if there is so much left besides what others have set aside.
    fn reserve(&self, limit: &Arc<Limit>, meter: &Arc<Meter<C>>, key: Key, now: u64, dues: &mut Dues<C>) -> Taken {
        let units = NonZeroU32::new(limit.cost).unwrap_or(NonZeroU32::MIN);
        let Some((hold, reserved)) = self.reserves.enter(key.own, units, u32::MAX) else {
            return Taken { reset: AGAIN, ..Taken::NEVER };
        };
        let taken = meter.look(key, reserved, now);
        if taken.allowed {
            dues.open.push(Open::new(limit, meter, key, hold));
        }
        taken
    }

    pub(super) fn state(&self, said: Said) -> LimitState {
        let meter = self.meters.get(said.rate).and_then(|(_, meter)| meter.as_ref());
        let (unit, quota, window_s) = match (said.cap, meter) {
            (Some(most), _) => (Unit::Concurrent, most, 0),
            (None, Some(meter)) => (Unit::Requests, meter.gcra().burst(), ceil_s(meter.gcra().window())),
            (None, None) => (Unit::Requests, 0, 1),
        };
        LimitState {
            name: self.limit.name.clone(),
            unit,
            quota,
            window_s,
            remaining: said.taken.remaining,
            reset_s: ceil_s(said.taken.reset),
            legacy: self.limit.legacy,
        }
    }
}

/// When to come again where a place is missing: nobody knows when a request will end.
const AGAIN: Duration = Duration::from_secs(1);

impl Taken {
    /// Used up before not used up; then the longest wait among the used up, the least left among the others.
    pub(super) fn is_tighter_than(&self, other: &Taken) -> bool {
        (self.allowed, self.remaining, Reverse(self.reset)) < (other.allowed, other.remaining, Reverse(other.reset))
    }
}

/// Whole seconds, never fewer than there are.
fn ceil_s(duration: Duration) -> u32 {
    let s = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(s).unwrap_or(u32::MAX)
}
