//! An endpoint and what is known of it: requests in flight, health, ejection. Kept as long as its address stays.
use super::Target;
use crate::config::settings::Outlier;
use pingora_core::upstreams::peer::HttpPeer;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// An ejection lasts at most so many times `eject_for`.
const MOST: u32 = 10;

/// One address of an upstream.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub target: Target,
    /// Its share of the requests.
    pub weight: u32,
    /// Where it stands.
    pub zone: Option<Arc<str>>,
    pub(super) own_zone: bool,
    pub(super) max_in_flight: Option<usize>,
    pub(super) peer: HttpPeer,
    pub(super) state: Arc<State>,
}

/// What is known of an endpoint. Requests read the atomics; what only changes with them is behind the lock.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) in_flight: AtomicUsize,
    health: AtomicU8,
    /// Failed answers in a row.
    failures: AtomicU32,
    /// Milliseconds of the pool's life until which it is passed over.
    ejected_until: AtomicU64,
    story: Mutex<Story>,
}

/// What the active checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// There are no checks.
    Unchecked,
    /// None was passed yet.
    Unproven,
    /// It is well.
    Healthy,
    /// It is not.
    Unhealthy,
}

/// Why an endpoint is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ejection {
    /// It could not be connected to.
    Connect,
    /// It failed too often in a row.
    Answers,
}

#[derive(Debug, Default)]
pub(super) struct Story {
    /// Ejections in a row.
    ejections: u32,
    pub(super) ejection: Option<Ejection>,
    pub(super) last_error: Option<String>,
    pub(super) streak: u32,
    pub(super) ejected: [u64; 2],
}

impl State {
    pub(super) fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Unchecked,
            1 => Health::Unproven,
            2 => Health::Healthy,
            _ => Health::Unhealthy,
        }
    }

    pub(super) fn set_health(&self, health: Health) {
        let byte = match health {
            Health::Unchecked => 0,
            Health::Unproven => 1,
            Health::Healthy => 2,
            Health::Unhealthy => 3,
        };
        self.health.store(byte, Ordering::Relaxed);
    }

    /// Whether requests pass it over at this moment.
    pub(super) fn is_ejected(&self, now_ms: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now_ms
    }

    pub(super) fn ejected_for_answers(&self, now_ms: u64) -> bool {
        self.is_ejected(now_ms) && self.story().ejection == Some(Ejection::Answers)
    }

    /// Milliseconds until it returns.
    pub(super) fn ejected_for_ms(&self, now_ms: u64) -> Option<u64> {
        self.ejected_until.load(Ordering::Relaxed).checked_sub(now_ms).filter(|left| *left > 0)
    }

    /// It answered as it should.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// It could not be connected to: nothing that is sent there arrives, so it rests whatever the share of the others.
    pub(super) fn unreachable(&self, rules: &Outlier, now_ms: u64, cause: &str) {
        self.eject(rules, now_ms, cause, Ejection::Connect);
    }

    /// It failed a request. `may_eject` says whether enough others are left.
    pub(super) fn failed(&self, rules: &Outlier, now_ms: u64, cause: &str, may_eject: impl FnOnce() -> bool) {
        let row = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if rules.consecutive_5xx.is_some_and(|most| row >= most) && !self.is_ejected(now_ms) && may_eject() {
            self.failures.store(0, Ordering::Relaxed);
            self.eject(rules, now_ms, cause, Ejection::Answers);
        } else {
            self.story().last_error = Some(cause.to_owned());
        }
    }

    /// A check reached it, so that it need not rest because it could not be reached.
    pub(super) fn reached(&self) {
        let mut story = self.story();
        if story.ejection == Some(Ejection::Connect) {
            story.ejection = None;
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    fn eject(&self, rules: &Outlier, now_ms: u64, cause: &str, why: Ejection) {
        let mut story = self.story();
        story.last_error = Some(cause.to_owned());
        let before = self.ejected_until.load(Ordering::Relaxed);
        // Many requests may have met the same failure.
        if before > now_ms {
            return;
        }
        let first = millis(rules.eject_for);
        let calm = first.saturating_mul(u64::from(story.ejections.max(1)));
        let in_a_row = story.ejections > 0 && now_ms.saturating_sub(before) < calm;
        story.ejections = if in_a_row { story.ejections.saturating_add(1).min(MOST) } else { 1 };
        story.ejection = Some(why);
        let [connect, answers] = &mut story.ejected;
        match why {
            Ejection::Connect => *connect += 1,
            Ejection::Answers => *answers += 1,
        }
        let until = now_ms.saturating_add(first.saturating_mul(u64::from(story.ejections)));
        self.ejected_until.store(until, Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
