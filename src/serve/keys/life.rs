//! When an issuer's keys are fetched, and what an unknown key id means meanwhile: values only, the clock is an argument.
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Shortest time between two background fetches.
const MIN_REFRESH: Duration = Duration::from_secs(30);

/// First pause after a failed fetch without usable keys; it doubles up to `min_interval`.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The rhythm of fetches that the operator has chosen.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// Longest time between background fetches.
    pub refresh: Duration,
    /// Least time between two fetches for unknown key ids.
    pub min_interval: Duration,
}

impl Rhythm {
    /// The pause after a successful fetch: what the issuer's `Cache-Control` asks for, between 30 s and `refresh`,
    /// less up to a tenth of it, so that replicas started together do not call together.
    pub fn after_success(self, max_age: Option<Duration>, chance: u8) -> Duration {
        let asked = max_age.unwrap_or(self.refresh).max(MIN_REFRESH).min(self.refresh);
        asked - asked.mul_f64(0.1 * f64::from(chance) / 256.0)
    }

    /// The pause after the nth failure in a row. While older keys serve there is no hurry.
    pub fn after_failure(self, failures: u32, usable: bool) -> Duration {
        let longest = self.min_interval.min(self.refresh).max(FIRST_RETRY);
        if usable { longest } else { FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest) }
    }
}

/// What is known about the fetches of one issuer.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// Completed fetches, whatever came of them.
    pub attempts: u64,
    /// When the last one was completed.
    last_attempt: Option<Instant>,
    /// Whether one is under way.
    pub in_flight: bool,
    /// Failures since the last success.
    pub failures: u32,
    /// Why the last fetch failed; `None` after a success.
    pub failure: Option<Arc<str>>,
    /// When the keys in use were fetched, seconds since the epoch.
    pub last_success_s: Option<u64>,
}

/// What to do about a token whose key id is not in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownKey {
    /// A fetch may bring the key: wait for it.
    Fetch,
    /// The set is fresh: the issuer has no such key.
    Refuse,
    /// The issuer may have such a key, but could not be asked.
    CannotTell,
}

impl Life {
    /// Whether another fetch may be made for an unknown key id.
    fn is_cool(&self, now: Instant, min_interval: Duration) -> bool {
        self.last_attempt.is_none_or(|last| now.saturating_duration_since(last) >= min_interval)
    }

    /// The meaning of an unknown key id now.
    pub fn unknown_key(&self, now: Instant, min_interval: Duration) -> UnknownKey {
        if self.in_flight || self.is_cool(now, min_interval) {
            UnknownKey::Fetch
        } else if self.failure.is_some() {
            UnknownKey::CannotTell
        } else {
            UnknownKey::Refuse
        }
    }

    /// How long whoever needs keys at once holds back: not at all while a fetch is under way, or where the last one was a
    /// while ago.
    pub fn pause(&self, now: Instant) -> Duration {
        let since = self.last_attempt.map(|last| now.saturating_duration_since(last));
        match since {
            Some(since) if !self.in_flight => FIRST_RETRY.saturating_sub(since),
            Some(_) | None => Duration::ZERO,
        }
    }

    /// A fetch begins.
    pub fn begin(&mut self) {
        self.in_flight = true;
    }

    /// It brought keys.
    pub fn succeed(&mut self, now: Instant, now_s: u64) {
        self.complete(now);
        self.failures = 0;
        self.failure = None;
        self.last_success_s = Some(now_s);
    }

    /// It did not.
    pub fn fail(&mut self, now: Instant, cause: Arc<str>) {
        self.complete(now);
        self.failures = self.failures.saturating_add(1);
        self.failure = Some(cause);
    }

    fn complete(&mut self, now: Instant) {
        self.attempts = self.attempts.saturating_add(1);
        self.last_attempt = Some(now);
        self.in_flight = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RHYTHM: Rhythm = Rhythm { refresh: Duration::from_secs(900), min_interval: Duration::from_secs(30) };

    #[test]
    fn an_unknown_key_is_asked_for_once_per_interval() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut life = Life::default();
        let verdict = |life: &Life, seconds| life.unknown_key(at(seconds), RHYTHM.min_interval);
        assert_eq!(verdict(&life, 0), UnknownKey::Fetch);
        life.begin();
        assert_eq!(verdict(&life, 1), UnknownKey::Fetch);
        life.succeed(at(2), 0);
        assert_eq!(verdict(&life, 31), UnknownKey::Refuse);
        assert_eq!(verdict(&life, 32), UnknownKey::Fetch);
        life.fail(at(40), "down".into());
        assert_eq!(verdict(&life, 69), UnknownKey::CannotTell);
        assert_eq!(verdict(&life, 70), UnknownKey::Fetch);
        life.succeed(at(70), 0);
        assert_eq!(verdict(&life, 71), UnknownKey::Refuse);
        // A reading from before the last attempt, as another core may take it.
        assert_eq!(verdict(&life, 60), UnknownKey::Refuse);
    }

    #[test]
    fn pauses_keep_their_bounds() {
        let after = |max_age: Option<u64>, chance| RHYTHM.after_success(max_age.map(Duration::from_secs), chance);
        assert_eq!(after(None, 0), Duration::from_secs(900));
        assert_eq!(after(Some(300), 0), Duration::from_secs(300));
        assert_eq!(after(Some(0), 0), Duration::from_secs(30));
        assert_eq!(after(Some(u64::MAX), 0), Duration::from_secs(900));
        assert!((810..900).contains(&after(None, 255).as_secs()));
        let short = Rhythm { refresh: Duration::from_secs(5), ..RHYTHM };
        assert_eq!(short.after_success(Some(Duration::ZERO), 0), Duration::from_secs(5));

        let pauses: Vec<u64> = (1..8).map(|n| RHYTHM.after_failure(n, false).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(RHYTHM.after_failure(u32::MAX, false), Duration::from_secs(30));
        assert_eq!(RHYTHM.after_failure(1, true), Duration::from_secs(30));
        let zero = Rhythm { refresh: Duration::ZERO, min_interval: Duration::ZERO };
        assert_eq!(zero.after_failure(1, false), Duration::from_secs(1));
    }
}
