//! A meter: one rate, applied to each of many keys.
use super::cells::{Budget, Cells, Key, Shared};
use decide::rules::Rate;
use governor::clock::{Clock, Reference};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::{Quota, RateLimiter};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// The longest time that a meter reckons with, 146 years; greater bursts are cut, so that no sum overflows.
const LONGEST_NS: u64 = u64::MAX / 4;
/// How far a sweep stays behind the clock, for the instant between the two readings of it when a meter is made.
const MARGIN_NS: u64 = 1_000_000;

/// One rate and the states of its keys.
pub(super) struct Meter<C: Clock> {
    rate: Rate,
    open: Option<Open<C>>,
}

/// A meter that ever lets anything through.
struct Open<C: Clock> {
    quota: Quota,
    limiter: RateLimiter<Key, Shared, C, StateInformationMiddleware>,
    cells: Arc<Cells>,
    begun: C::Instant,
}

/// What came of taking one request from one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) allowed: bool,
    pub(super) remaining: u32,
    /// Until the quota is whole again; where refused, until one request is allowed.
    pub(super) reset: Duration,
}

impl Taken {
    /// The answer of a rate of zero.
    pub(super) const NEVER: Taken = Taken { allowed: false, remaining: 0, reset: Duration::from_secs(3600) };
}

impl<C: Clock> Meter<C> {
    pub(super) fn new(rate: Rate, clock: C, budget: Arc<Budget>) -> Meter<C> {
        let open = quota(rate).map(|quota| {
            let cells = Arc::new(Cells::new(budget));
            let begun = clock.now();
            let limiter = RateLimiter::new(quota, Shared(cells.clone()), clock);
            Open { quota, limiter, cells, begun }
        });
        Meter { rate, open }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Requests allowed at once.
    pub(super) fn burst(&self) -> u32 {
        self.open.as_ref().map_or(0, |open| open.quota.burst_size().get())
    }

    /// Seconds in which a spent burst refills.
    pub(super) fn window_s(&self) -> u32 {
        self.open.as_ref().map_or(1, |open| super::ceil_s(open.quota.burst_size_replenished_in()))
    }

    pub(super) fn take(&self, key: Key) -> Taken {
        let Some(open) = &self.open else {
            return Taken::NEVER;
        };
        match open.limiter.check_key(&key) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let spent = open.quota.burst_size().get().saturating_sub(remaining);
                Taken { allowed: true, remaining, reset: open.quota.replenish_interval().saturating_mul(spent) }
            }
            Err(refused) => {
                Taken { allowed: false, remaining: 0, reset: refused.wait_time_from(open.limiter.clock().now()) }
            }
        }
    }

    /// Forgets keys whose quota is whole again.
    pub(super) fn sweep(&self) {
        if let Some(open) = &self.open {
            let age = open.limiter.clock().now().duration_since(open.begun);
            open.cells.sweep(age.saturating_sub(Nanos::new(MARGIN_NS)));
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.cells.bytes())
    }
}

/// The rate as governor puts it; `None` for a rate that never allows anything. The interval is rounded up to whole
/// nanoseconds: never more than the configured rate.
fn quota(rate: Rate) -> Option<Quota> {
    let period_ns = u64::from(rate.period_s).checked_mul(1_000_000_000).filter(|ns| *ns > 0)?;
    let interval_ns = period_ns.div_ceil(u64::from(NonZeroU32::new(rate.count)?.get()));
    let burst = u64::from(rate.burst).min(LONGEST_NS / interval_ns);
    let burst = NonZeroU32::new(u32::try_from(burst).ok()?)?;
    Some(Quota::with_period(Duration::from_nanos(interval_ns))?.allow_burst(burst))
}
