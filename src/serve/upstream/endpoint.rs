//! An endpoint and what is known of it: requests in flight, health, ejection. Kept as long as its address stays.
use super::Target;
use crate::config::settings::{self, Outlier};
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
    /// Checks of one kind in a row.
    streak: (bool, u32),
    /// The last check: whether it was passed, and when.
    pub(super) last_check: Option<(bool, u64)>,
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

    /// Whether there are checks at all.
    pub(super) fn is_checked(&self, checked: bool) {
        match (self.health(), checked) {
            (Health::Unchecked, true) => self.set_health(Health::Unproven),
            (Health::Unproven | Health::Healthy | Health::Unhealthy, false) => self.set_health(Health::Unchecked),
            (_, _) => {}
        }
    }

    fn set_health(&self, health: Health) {
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
    /// Whether that is new.
    pub(super) fn unreachable(&self, rules: &Outlier, now_ms: u64, cause: &str) -> bool {
        self.eject(rules, now_ms, cause, Ejection::Connect)
    }

    /// It failed a request. `may_eject` says whether enough others are left. Whether it is ejected for it.
    pub(super) fn failed(&self, rules: &Outlier, now_ms: u64, cause: &str, may_eject: impl FnOnce() -> bool) -> bool {
        let row = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if rules.consecutive_5xx.is_some_and(|most| row >= most) && !self.is_ejected(now_ms) && may_eject() {
            self.failures.store(0, Ordering::Relaxed);
            self.eject(rules, now_ms, cause, Ejection::Answers)
        } else {
            self.story().last_error = Some(cause.to_owned());
            false
        }
    }

    /// A check was passed or failed. The new state, where it is another.
    pub(super) fn checked(&self, rules: &settings::Health, now_ms: u64, result: &Result<(), String>) -> Option<Health> {
        let mut story = self.story();
        let passed = result.is_ok();
        let row = if story.streak.0 == passed { story.streak.1.saturating_add(1) } else { 1 };
        story.streak = (passed, row);
        story.last_check = Some((passed, now_ms));
        match result {
            // It was reached, so it need not rest because it could not be.
            Ok(()) if story.ejection == Some(Ejection::Connect) => self.ejected_until.store(0, Ordering::Relaxed),
            Ok(()) => {}
            Err(cause) => story.last_error = Some(cause.clone()),
        }
        let before = self.health();
        let after = match (before, passed) {
            (Health::Unchecked | Health::Unproven, true) => Health::Healthy,
            (Health::Unhealthy, true) if row >= rules.healthy_after => Health::Healthy,
            (Health::Unchecked | Health::Unproven | Health::Healthy, false) if row >= rules.unhealthy_after => {
                Health::Unhealthy
            }
            (same, _) => same,
        };
        self.set_health(after);
        (after != before).then_some(after)
    }

    /// Whether it was not ejected already.
    fn eject(&self, rules: &Outlier, now_ms: u64, cause: &str, why: Ejection) -> bool {
        let mut story = self.story();
        story.last_error = Some(cause.to_owned());
        let before = self.ejected_until.load(Ordering::Relaxed);
        // Many requests may have met the same failure.
        if before > now_ms {
            return false;
        }
        let first = millis(rules.eject_for);
        let calm = first.saturating_mul(u64::from(story.ejections.max(1)));
        let in_a_row = story.ejections > 0 && now_ms.saturating_sub(before) < calm;
        story.ejections = if in_a_row { story.ejections.saturating_add(1).min(MOST) } else { 1 };
        story.ejection = Some(why);
        let until = now_ms.saturating_add(first.saturating_mul(u64::from(story.ejections)));
        self.ejected_until.store(until, Ordering::Relaxed);
        true
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
