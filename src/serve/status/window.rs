//! The last minute: what was counted in it, from readings of the counters at an even pace.
//!
//! Only differences are kept, so that ten thousand routes at rest cost nothing, and nothing of this is on the way of a
//! request.
use crate::serve::metrics::{Reading, RouteCount};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Time between readings.
pub const PACE: Duration = Duration::from_secs(10);
/// Spans that are kept: a minute of them.
const SPANS: usize = 6;

/// The readings of the last minute.
#[derive(Debug)]
pub struct Window {
    last: Reading,
    read_at: Instant,
    spans: VecDeque<(Duration, Reading)>,
}

impl Window {
    /// A window of a process that starts now.
    pub fn new(now: Instant) -> Window {
        Window { last: Reading::default(), read_at: now, spans: VecDeque::with_capacity(SPANS) }
    }

    /// Takes a reading in, at the end of a span.
    pub fn tick(&mut self, reading: Reading, now: Instant) {
        let span = now.saturating_duration_since(self.read_at);
        let counted = reading.since(&self.last);
        if self.spans.len() == SPANS {
            self.spans.pop_front();
        }
        self.spans.push_back((span, counted));
        (self.last, self.read_at) = (reading, now);
    }

    /// What was counted in the minute (and up to [`PACE`]) that ends with this reading, and how long that is; less for
    /// a process that is younger. Not shorter than a second, so that rates stay sane.
    pub fn up_to(&self, reading: &Reading, now: Instant) -> (Duration, Reading) {
        let mut span = now.saturating_duration_since(self.read_at);
        let mut counted = Reading::default();
        for (length, part) in &self.spans {
            span += *length;
            counted.add(part);
        }
        counted.add(&reading.since(&self.last));
        (span.max(Duration::from_secs(1)), counted)
    }
}

/// A quantile as far as a histogram knows it: the bucket is certain, the estimate assumes that values are spread evenly
/// in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    /// Estimate in milliseconds; the bucket's lower bound where it has no upper one.
    pub about_ms: f64,
    /// Upper bound of the bucket in milliseconds; `null` where it took longer than the last bound.
    pub below_ms: Option<f64>,
}

/// The `quantile` (0 to 1) of a route's durations; `None` without any.
pub fn quantile(route: &RouteCount, quantile: f64) -> Option<Quantile> {
    let total: u64 = route.durations.iter().sum();
    if total == 0 {
        return None;
    }
    let rank = quantile * total as f64;
    let (mut seen, mut lower) = (0_u64, 0.0);
    let bounds = Reading::bounds_ms().map(Some).chain(std::iter::once(None));
    for (count, upper) in route.durations.iter().zip(bounds) {
        let reached = *count > 0 && (seen + count) as f64 >= rank;
        match (reached, upper) {
            (true, Some(upper)) => {
                let share = (rank - seen as f64) / *count as f64;
                return Some(Quantile { about_ms: rounded(lower + (upper - lower) * share), below_ms: Some(upper) });
            }
            (true, None) => break,
            (false, _) => {
                seen += count;
                lower = upper.unwrap_or(lower);
            }
        }
    }
    Some(Quantile { about_ms: lower, below_ms: None })
}

/// To a tenth: an estimate has no more to say.
fn rounded(ms: f64) -> f64 {
    (ms * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(requests: u64) -> Reading {
        let mut reading = Reading::default();
        let mut route = RouteCount::default();
        route.classes[2] = requests;
        reading.routes.insert("home".to_owned(), route);
        reading
    }

    fn requests(reading: &Reading) -> u64 {
        reading.routes.values().map(RouteCount::requests).sum()
    }

    #[test]
    fn a_minute_is_kept_and_no_more() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut window = Window::new(start);
        assert_eq!(window.up_to(&reading(5), at(0)).0, Duration::from_secs(1));
        assert_eq!(requests(&window.up_to(&reading(5), at(2)).1), 5, "a young process knows all it did");
        for tick in 1..=20 {
            window.tick(reading(tick * 100), at(tick * 10));
        }
        let (span, counted) = window.up_to(&reading(2050), at(205));
        assert_eq!((span.as_secs(), requests(&counted)), (65, 650));
        let (_, counted) = window.up_to(&reading(2000), at(205));
        assert_eq!(requests(&counted), 600);
        for tick in 21..=26 {
            window.tick(reading(2000), at(tick * 10));
        }
        assert!(window.up_to(&reading(2000), at(261)).1.routes.is_empty(), "at rest");
    }

    #[test]
    fn quantiles_name_their_bucket_and_guess_within_it() {
        let route = |counts: &[(usize, u64)]| {
            let mut route = RouteCount { durations: vec![0; 15], ..RouteCount::default() };
            for (at, count) in counts {
                route.durations[*at] = *count;
            }
            route
        };
        let of = |counts: &[(usize, u64)], q| quantile(&route(counts), q).map(|q| (q.about_ms.round(), q.below_ms));
        assert_eq!(of(&[], 0.5), None);
        // 100 requests below 5 ms: the middle one is guessed in the middle.
        assert_eq!(of(&[(0, 100)], 0.5), Some((3.0, Some(5.0))));
        // 98 below 5 ms, two between 250 and 500 ms: the 99th is in the middle of those.
        assert_eq!(of(&[(0, 98), (7, 2)], 0.99), Some((375.0, Some(500.0))));
        assert_eq!(of(&[(0, 98), (7, 2)], 0.5), Some((3.0, Some(5.0))));
        assert_eq!(of(&[(14, 3)], 0.5), Some((10_000.0, None)), "longer than the last bound");
    }
}
