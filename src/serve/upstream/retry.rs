//! When a request that failed may be sent again: one rule for every way to an application, and a budget for all of them.
use crate::config::settings::Retry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Seconds that the budget looks back.
const WINDOW_S: usize = 10;
/// Retries in that time that are allowed however few requests there were.
const FLOOR: u64 = 10;

/// How a try failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection came about: nothing was sent.
    Connect,
    /// HTTP/2 says that nothing was done: `REFUSED_STREAM`, or `GOAWAY` before this stream.
    Refused,
    /// The connection broke before the answer began, a kept one that the application had closed included.
    Reset,
}

impl Failure {
    /// All of them, in the order of their counters.
    pub const ALL: [Failure; 3] = [Failure::Connect, Failure::Refused, Failure::Reset];

    /// The word for it in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Failure::Connect => "connect_failure",
            Failure::Refused => "refused_stream",
            Failure::Reset => "reset",
        }
    }
}

/// A try that failed, before any of an answer was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// How.
    pub failure: Failure,
    /// Whether the method may be sent twice (RFC 9110, 9.2.2).
    pub idempotent: bool,
    /// Whether what was sent of the body, if anything, can be sent again.
    pub replayable: bool,
    /// Tries so far, this one included.
    pub tries: usize,
}

/// Why there is no retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// `retry.on` does not name this failure.
    Policy,
    /// It could have an effect twice.
    Unsafe,
    /// `retry.attempts`
    Attempts,
    /// `retry.budget`
    Budget,
}

/// Whether a request may be sent again; where it may, the retry is counted against the budget.
pub fn may_retry(rules: &Retry, budget: &Budget, attempt: &Attempt, now_ms: u64) -> Result<(), Denied> {
    let (named, harmless) = match attempt.failure {
        Failure::Connect => (rules.connect_failure, true),
        Failure::Refused => (rules.refused_stream, true),
        Failure::Reset => (rules.reset, attempt.idempotent),
    };
    if !named {
        Err(Denied::Policy)
    } else if !harmless || !attempt.replayable {
        Err(Denied::Unsafe)
    } else if attempt.tries >= rules.attempts {
        Err(Denied::Attempts)
    } else if !budget.spend(rules.budget, now_ms) {
        Err(Denied::Budget)
    } else {
        Ok(())
    }
}

/// Requests and retries of the last seconds. When an application falls over, retries must not be what keeps it down.
#[derive(Debug, Default)]
pub struct Budget {
    seconds: [Second; WINDOW_S],
    retries: Mutex<[(u64, u64); WINDOW_S]>,
}

#[derive(Debug, Default)]
struct Second {
    /// Which second it counts, from 1.
    number: AtomicU64,
    requests: AtomicU64,
}

impl Budget {
    /// A request begins.
    pub fn request(&self, now_ms: u64) {
        let (number, index) = second(now_ms);
        let Some(second) = self.seconds.get(index) else { return };
        let known = second.number.load(Ordering::Relaxed);
        // Whoever comes first in a new second begins it.
        if known != number
            && second.number.compare_exchange(known, number, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            second.requests.store(0, Ordering::Relaxed);
        }
        second.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a retry where it is within `share` (hundredths of a percent) of the requests.
    fn spend(&self, share: u32, now_ms: u64) -> bool {
        let (number, index) = second(now_ms);
        let recent = |other: u64| other != 0 && other + (WINDOW_S as u64) > number;
        let requests = self.seconds.iter().filter(|s| recent(s.number.load(Ordering::Relaxed)));
        let requests: u64 = requests.map(|s| s.requests.load(Ordering::Relaxed)).sum();
        let allowed = (requests.saturating_mul(u64::from(share)) / 10_000).max(FLOOR);
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let spent: u64 = retries.iter().filter(|(second, _)| recent(*second)).map(|(_, count)| count).sum();
        if spent >= allowed {
            return false;
        }
        if let Some(slot) = retries.get_mut(index) {
            if slot.0 != number {
                *slot = (number, 0);
            }
            slot.1 += 1;
        }
        true
    }
}

fn second(now_ms: u64) -> (u64, usize) {
    let number = now_ms / 1000 + 1;
    (number, usize::try_from(number % WINDOW_S as u64).unwrap_or(0))
}

/// Outcomes of retry decisions, by failure and result.
#[derive(Debug, Default)]
pub(super) struct Counts([[AtomicU64; RESULTS.len()]; Failure::ALL.len()]);

/// The words for the results in metrics.
pub(super) const RESULTS: [&str; 5] = ["retried", "not_configured", "unsafe", "attempts", "budget"];

impl Counts {
    pub(super) fn count(&self, failure: Failure, verdict: Result<(), Denied>) {
        let result = match verdict {
            Ok(()) => 0,
            Err(Denied::Policy) => 1,
            Err(Denied::Unsafe) => 2,
            Err(Denied::Attempts) => 3,
            Err(Denied::Budget) => 4,
        };
        if let Some(counter) = self.0.get(failure as usize).and_then(|results| results.get(result)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Failure, result and how often.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        Failure::ALL.iter().zip(&self.0).flat_map(|(failure, results)| {
            let pairs = RESULTS.iter().zip(results);
            pairs.map(|(result, count)| (failure.as_str(), *result, count.load(Ordering::Relaxed)))
        })
    }
}
