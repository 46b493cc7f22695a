//! The generic cell rate algorithm as arithmetic: one number per key says when its debts will be paid off.
use decide::rules::Rate;
use std::time::Duration;

/// The longest time that is reckoned with, 146 years; greater bursts are cut, so that no sum overflows.
const LONGEST_NS: u64 = u64::MAX / 4;

/// A rate. What it says of a key is one number, the theoretical arrival time: the moment at which the key is as good as
/// new, in nanoseconds; 0 for a key that was never seen. Each request moves it on by one interval, and none may move it
/// further than a burst beyond the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gcra {
    interval_ns: u64,
    burst: u32,
}

/// What came of asking for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It may pass; this is the key's number now.
    Passes { tat: u64, remaining: u32 },
    /// It may not before so many nanoseconds have passed.
    Waits(u64),
}

impl Gcra {
    /// Of a rate; `None` for one that never allows anything. The interval is rounded up to whole nanoseconds: never more
    /// than the configured rate.
    pub(super) fn of(rate: Rate) -> Option<Gcra> {
        let period_ns = u64::from(rate.period_s).checked_mul(1_000_000_000).filter(|ns| *ns > 0)?;
        Gcra::with(period_ns.div_ceil(u64::from(rate.count).max(1)), rate.burst).filter(|_| rate.count > 0)
    }

    /// One request in each interval, `burst` of them at once.
    pub(super) fn with(interval_ns: u64, burst: u32) -> Option<Gcra> {
        let most = LONGEST_NS.checked_div(interval_ns)?;
        let burst = u32::try_from(u64::from(burst).min(most)).ok().filter(|burst| *burst > 0)?;
        Some(Gcra { interval_ns, burst })
    }

    pub(super) fn burst(&self) -> u32 {
        self.burst
    }

    /// Time in which a spent burst fills up again.
    pub(super) fn window(&self) -> Duration {
        Duration::from_nanos(self.burst_ns())
    }

    /// Whether a request that costs so much may pass now.
    pub(super) fn ask(&self, tat: u64, now: u64, cost: u32) -> Asked {
        let latest = now.saturating_add(self.burst_ns());
        let next = tat.max(now).saturating_add(self.price(cost));
        match latest.checked_sub(next) {
            // A division per request is not worth avoiding: it is a few nanoseconds.
            Some(left) => {
                Asked::Passes { tat: next, remaining: u32::try_from(left / self.interval_ns).unwrap_or(u32::MAX) }
            }
            None => Asked::Waits(next - latest),
        }
    }

    /// The number of a key that owes so much more, whether or not there is so much left.
    pub(super) fn charge(&self, tat: u64, now: u64, cost: u32) -> u64 {
        tat.max(now).saturating_add(self.price(cost)).min(now.saturating_add(LONGEST_NS))
    }

    /// What one request and a whole burst cost, in nanoseconds.
    pub(super) fn costs(&self) -> (u64, u64) {
        (self.interval_ns, self.burst_ns())
    }

    fn burst_ns(&self) -> u64 {
        self.interval_ns.saturating_mul(u64::from(self.burst))
    }

    fn price(&self, cost: u32) -> u64 {
        self.interval_ns.saturating_mul(u64::from(cost)).min(LONGEST_NS)
    }
}
