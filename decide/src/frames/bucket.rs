//! A token bucket that looks at the clock only when it is empty.
use std::time::Duration;

/// So many at once, and so many a second from then on. Whoever owns it says how late it is: as time since any moment, the same
/// for all of its calls.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    per_second: f64,
    most: f64,
    left: f64,
    filled_at: Duration,
}

impl Bucket {
    /// Full, with room for `most`.
    pub fn new(most: u32, per_second: f64, now: Duration) -> Bucket {
        Bucket { per_second, most: f64::from(most), left: f64::from(most), filled_at: now }
    }

    /// Takes `cost` away; `false` where there is not so much. `clock` is asked only then.
    pub fn take(&mut self, cost: f64, clock: impl FnOnce() -> Duration) -> bool {
        if self.left < cost {
            let now = clock();
            let since = now.saturating_sub(self.filled_at).as_secs_f64();
            self.left = (self.left + since * self.per_second).min(self.most);
            self.filled_at = now;
        }
        self.left -= cost;
        self.left >= 0.0
    }

    /// Gives something back, never beyond a full bucket.
    pub fn earn(&mut self, credit: f64) {
        self.left = (self.left + credit).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allowance_comes_back_with_time_and_never_adds_up() {
        let mut bucket = Bucket::new(2, 2.0, Duration::ZERO);
        let at = |ms| move || Duration::from_millis(ms);
        assert!(bucket.take(1.0, at(0)) && bucket.take(1.0, at(0)));
        assert!(bucket.take(1.0, at(500)), "half a second gives one back");
        assert!(!bucket.take(1.0, at(500)));
        assert!(
            bucket.take(1.0, at(60_000)) && bucket.take(1.0, at(60_000)),
            "a minute gives back what there was room for"
        );
        assert!(!bucket.take(1.0, at(60_000)));
    }

    #[test]
    fn the_clock_is_not_asked_while_there_is_some_left() {
        let mut bucket = Bucket::new(3, 1.0, Duration::ZERO);
        for _ in 0..3 {
            assert!(bucket.take(1.0, || unreachable!("the clock was asked")));
        }
        bucket.earn(9.0);
        for _ in 0..3 {
            assert!(bucket.take(1.0, || unreachable!("the clock was asked")));
        }
        assert!(!bucket.take(1.0, || Duration::ZERO));
    }
}
