//! How many requests an upstream can take just now, found from how long it takes to answer.
//!
//! While an application keeps up, one more request at once takes no longer than the one before; when it does not, requests
//! wait in line within it, and the time to an answer grows. So the limit falls in proportion to what the median of a window
//! exceeds the time that an answer takes without a line, and rises by the square root of itself while it does not: the idea
//! of TCP Vegas (Brakmo and Peterson, 1995) in the shape of the gradient limiter of Netflix's `concurrency-limits` and of
//! Envoy's adaptive concurrency filter. Nothing here reads a clock.
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Shortest window, and the longest one that waits for enough samples.
const WINDOW_MS: (u64, u64) = (250, 5_000);
/// Samples that close a window, and those without which a long one says nothing.
const ENOUGH: (usize, usize) = (20, 5);
/// Most samples of a window that are kept; of more, the first ones.
const KEPT: usize = 512;
/// Above so many times the usual time, or so many microseconds more, the limit falls.
const TOO_SLOW: (f64, f64) = (2.0, 10_000.0);
/// Below so many times the usual time, or so many microseconds more, it rises; in between it stays (hysteresis).
const WELL: (f64, f64) = (1.5, 5_000.0);
/// Greatest fall in one window.
const STEEPEST: f64 = 0.5;
/// Fall where more than a tenth of a window's requests met no answer in time.
const TIMED_OUT: f64 = 0.75;
/// How fast the usual time follows the measured one: down, and up.
const FOLLOWS: (f64, f64) = (0.5, 0.02);

/// The bounds of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) min: usize,
    pub(super) max: usize,
}

/// One request that was answered, or was not in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Microseconds from the choice of the endpoint to the head of the answer.
    pub(super) took_us: u64,
    /// Whether there was none in time.
    pub(super) timed_out: bool,
    /// Requests under way when it ended, itself included.
    pub(super) in_flight: usize,
}

/// The limit of one upstream.
#[derive(Debug)]
pub(super) struct Adaptive {
    limit: AtomicUsize,
    /// How often it fell.
    lowered: AtomicU64,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    began_ms: u64,
    took_us: Vec<u64>,
    samples: usize,
    timed_out: usize,
    /// Most requests under way.
    peak: usize,
    /// Microseconds that an answer takes without a line.
    usual_us: Option<f64>,
}

impl Default for Adaptive {
    /// Without any measurement the bound from above stands: it is what would be configured without this.
    fn default() -> Adaptive {
        Adaptive { limit: AtomicUsize::new(usize::MAX), lowered: AtomicU64::new(0), window: Mutex::default() }
    }
}

impl Adaptive {
    /// The limit now.
    pub(super) fn limit(&self, bounds: Bounds) -> usize {
        self.limit.load(Ordering::Relaxed).clamp(bounds.min.min(bounds.max), bounds.max)
    }

    /// How often it fell since the start.
    pub(super) fn lowered(&self) -> u64 {
        self.lowered.load(Ordering::Relaxed)
    }

    /// Takes note of a request. The new limit, where it is another.
    pub(super) fn note(&self, now_ms: u64, bounds: Bounds, sample: Sample) -> Option<usize> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.samples == 0 {
            window.began_ms = now_ms;
        }
        window.samples += 1;
        window.timed_out += usize::from(sample.timed_out);
        window.peak = window.peak.max(sample.in_flight);
        if window.took_us.len() < KEPT {
            window.took_us.push(sample.took_us);
        }
        let age = now_ms.saturating_sub(window.began_ms);
        let closes = (age >= WINDOW_MS.0 && window.samples >= ENOUGH.0) || age >= WINDOW_MS.1;
        if !closes {
            return None;
        }
        let before = self.limit(bounds);
        let after = if window.samples < ENOUGH.1 { before } else { window.judge(before, bounds) };
        let usual_us = window.usual_us;
        let mut took_us = std::mem::take(&mut window.took_us);
        took_us.clear();
        *window = Window { usual_us, took_us, ..Window::default() };
        self.limit.store(after, Ordering::Relaxed);
        if after < before {
            self.lowered.fetch_add(1, Ordering::Relaxed);
        }
        (after != before).then_some(after)
    }
}

impl Window {
    /// The limit after this window.
    fn judge(&mut self, limit: usize, bounds: Bounds) -> usize {
        let middle = self.took_us.len() / 2;
        if self.took_us.is_empty() {
            return limit;
        }
        let (_, median, _) = self.took_us.select_nth_unstable(middle);
        let median = float(usize::try_from(*median).unwrap_or(usize::MAX));
        let usual = self.usual_us.unwrap_or(median);
        let times = |(factor, more): (f64, f64)| (usual * factor).max(usual + more);
        let fall = if median > times(TOO_SLOW) { (times(TOO_SLOW) / median).max(STEEPEST) } else { 1.0 };
        let fall = if self.timed_out * 10 > self.samples { fall.min(TIMED_OUT) } else { fall };
        // With as few requests as the limit ever allows there is no line that could be made shorter: what an answer takes then
        // is what it takes, and becomes the usual time by and by.
        let follows = if median < usual {
            FOLLOWS.0
        } else if self.peak <= bounds.min {
            FOLLOWS.1
        } else {
            0.0
        };
        self.usual_us = Some(usual + (median - usual) * follows);
        if fall < 1.0 {
            return scaled(limit, fall).clamp(bounds.min.min(bounds.max), bounds.max);
        }
        // Where the limit was not half used, that it could be kept says nothing about a greater one.
        if median <= times(WELL) && self.peak.saturating_mul(2) >= limit {
            return limit.saturating_add(limit.isqrt().max(1)).min(bounds.max);
        }
        limit
    }
}

fn float(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a number that fits")]
fn scaled(limit: usize, part: f64) -> usize {
    (float(limit) * part) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { min: 10, max: 200 };

    /// An application on a clock of its own that serves `capacity` requests at once, each in `each_us`; more wait in line.
    struct App {
        adaptive: Adaptive,
        now_us: u64,
        capacity: usize,
        each_us: u64,
    }

    impl App {
        fn new() -> App {
            App { adaptive: Adaptive::default(), now_us: 0, capacity: 1000, each_us: 20_000 }
        }

        /// Clients who want `wanted` requests under way, for so many seconds; the limit at the end.
        fn serve(&mut self, wanted: usize, seconds: u64) -> usize {
            let end = self.now_us + seconds * 1_000_000;
            while self.now_us < end {
                let under_way = wanted.min(self.adaptive.limit(BOUNDS)).max(1);
                let line = under_way.div_ceil(self.capacity) as u64;
                let took_us = self.each_us * line;
                self.now_us += took_us;
                for _ in 0..under_way {
                    let sample = Sample { took_us, timed_out: false, in_flight: under_way };
                    self.adaptive.note(self.now_us / 1000, BOUNDS, sample);
                }
            }
            self.adaptive.limit(BOUNDS)
        }
    }

    #[test]
    fn a_tenfold_latency_lowers_the_limit_and_its_end_raises_it_again() {
        let mut app = App::new();
        assert_eq!(app.serve(150, 10), 200, "well, and as configured");
        app.each_us = 200_000;
        assert_eq!(app.serve(150, 5), 10);
        assert!(app.adaptive.lowered() >= 4);
        app.each_us = 20_000;
        assert_eq!(app.serve(150, 15), 200, "healed");
    }

    #[test]
    fn an_overloaded_application_gets_what_it_can_take() {
        let mut app = App::new();
        app.serve(10, 5);
        app.capacity = 50;
        let limit = app.serve(200, 60);
        assert!((50..=150).contains(&limit), "at most three in line for one place: {limit}");
        let settled = app.serve(200, 60);
        assert!(settled.abs_diff(limit) <= limit / 2, "{settled} after {limit}");
    }

    /// Twice the usual time is no reason yet, and one and a half no reason to rise: the limit stays where it is.
    #[test]
    fn between_well_and_too_slow_nothing_changes() {
        let mut app = App::new();
        app.serve(150, 5);
        app.each_us = 200_000;
        app.serve(150, 2);
        app.each_us = 35_000;
        let limit = app.adaptive.limit(BOUNDS);
        assert!(limit < 200);
        assert_eq!(app.serve(150, 20), limit);
    }

    /// What stays slow with hardly a request is no queue of ours; keeping the limit down would only waste the application.
    #[test]
    fn what_takes_long_by_itself_becomes_usual_after_a_while() {
        let mut app = App::new();
        app.serve(150, 5);
        app.each_us = 200_000;
        assert_eq!(app.serve(150, 8), 10);
        assert_eq!(app.serve(150, 240), 200);
    }

    #[test]
    fn timeouts_count_although_their_time_is_no_measure() {
        let adaptive = Adaptive::default();
        for n in 0..200 {
            let sample = Sample { took_us: 20_000, timed_out: n % 5 == 0, in_flight: 150 };
            adaptive.note(n * 20, BOUNDS, sample);
        }
        assert_eq!(adaptive.limit(BOUNDS), 10);
    }

    #[test]
    fn few_requests_and_small_differences_say_nothing() {
        let mut app = App::new();
        app.each_us = 300;
        app.serve(100, 5);
        app.each_us = 3_000;
        assert_eq!(app.serve(100, 5), 200, "microseconds");
        let adaptive = Adaptive::default();
        for n in 0..12 {
            let sample = Sample { took_us: if n < 4 { 1_000 } else { 900_000 }, timed_out: false, in_flight: 1 };
            assert_eq!(adaptive.note(n * 2_000, BOUNDS, sample), None, "three in five seconds");
        }
    }

    #[test]
    fn new_bounds_hold_at_once() {
        let mut app = App::new();
        app.serve(150, 5);
        assert_eq!(app.adaptive.limit(Bounds { min: 5, max: 80 }), 80);
        app.each_us = 200_000;
        app.serve(150, 5);
        assert_eq!(app.adaptive.limit(Bounds { min: 50, max: 80 }), 50);
        assert_eq!(app.adaptive.limit(Bounds { min: 90, max: 80 }), 80);
    }
}
