//! A meter: one rate, applied to each of many keys.
use super::cells::{Budget, Cells, Key};
use super::gcra::{Asked, Gcra};
use governor::clock::{Clock, Reference};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// The clock of all meters: nanoseconds since it was made.
#[derive(Clone, Debug)]
pub(super) struct Since<C: Clock> {
    clock: C,
    begun: C::Instant,
}

impl<C: Clock> Since<C> {
    pub(super) fn new(clock: C) -> Since<C> {
        let begun = clock.now();
        Since { clock, begun }
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.now().duration_since(self.begun).as_u64()
    }
}

/// One rate and the states of its keys.
pub(super) struct Meter<C: Clock> {
    gcra: Gcra,
    cells: Cells,
    clock: Since<C>,
}

/// What came of taking from one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) allowed: bool,
    pub(super) remaining: u32,
    /// Until the quota is whole again; where refused, until the request is allowed.
    pub(super) reset: Duration,
}

impl Taken {
    /// The answer of a rate of zero.
    pub(super) const NEVER: Taken = Taken { allowed: false, remaining: 0, reset: Duration::from_secs(3600) };

    fn of(asked: Asked, now: u64) -> Taken {
        match asked {
            Asked::Passes { tat, remaining } => {
                Taken { allowed: true, remaining, reset: Duration::from_nanos(tat.saturating_sub(now)) }
            }
            Asked::Waits(ns) => Taken { reset: Duration::from_nanos(ns), ..Taken::NEVER },
        }
    }
}

impl<C: Clock> Meter<C> {
    pub(super) fn new(gcra: Gcra, clock: Since<C>, budget: Arc<Budget>) -> Meter<C> {
        Meter { gcra, cells: Cells::new(budget), clock }
    }

    pub(super) fn gcra(&self) -> &Gcra {
        &self.gcra
    }

    /// Takes `cost` from the key, if there is so much left.
    pub(super) fn take(&self, key: Key, cost: u32, now: u64) -> Taken {
        let taken = self.cells.measure(&key, |tat| {
            let asked = self.gcra.ask(tat, now, cost);
            match asked {
                Asked::Passes { tat, .. } => Ok((asked, tat)),
                Asked::Waits(_) => Err(asked),
            }
        });
        let (Ok(asked) | Err(asked)) = taken;
        Taken::of(asked, now)
    }

    /// What [`Meter::take`] would say, without taking anything.
    pub(super) fn look(&self, key: Key, cost: u32, now: u64) -> Taken {
        Taken::of(self.gcra.ask(self.cells.state(&key), now, cost), now)
    }

    /// Has the key owe so much more, whatever is left.
    pub(super) fn charge(&self, key: Key, cost: u32) {
        let now = self.clock.now();
        let charged = self.cells.measure(&key, |tat| Ok::<_, Infallible>(((), self.gcra.charge(tat, now, cost))));
        charged.unwrap_or_else(|never| match never {});
    }

    /// How much of a burst a key has used and not got back yet, in nanoseconds.
    pub(super) fn used_ns(&self, own: u64) -> u64 {
        self.cells.known(own).saturating_sub(self.clock.now())
    }

    /// A key has used at least so much, as others have counted.
    pub(super) fn raise(&self, own: u64, used_ns: u64) {
        if used_ns > 0 {
            self.cells.raise(own, self.clock.now().saturating_add(used_ns));
        }
    }

    /// What there is to say of a key that has used so much, of a meter somewhere else that counts as this one does.
    pub(super) fn told(&self, allowed: bool, used_ns: u64, cost: u32) -> Taken {
        let (interval, whole) = self.gcra.costs();
        if allowed {
            let remaining = u32::try_from(whole.saturating_sub(used_ns) / interval.max(1)).unwrap_or(u32::MAX);
            return Taken { allowed, remaining, reset: Duration::from_nanos(used_ns) };
        }
        let wait = used_ns.saturating_add(interval.saturating_mul(u64::from(cost))).saturating_sub(whole);
        Taken { reset: Duration::from_nanos(wait), ..Taken::NEVER }
    }

    /// Forgets keys whose quota is whole again.
    pub(super) fn sweep(&self) {
        self.cells.sweep(self.clock.now());
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.cells.bytes()
    }
}
