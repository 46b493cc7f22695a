//! A clock for clients that ask and do not let themselves be answered.
use std::time::{Duration, Instant};

/// Bytes of answers that must move in [`Patience::at_most`], where the windows are closed.
const LEAST: u64 = 1024;

/// How long a client may hold answers back with windows that are closed.
#[derive(Debug)]
pub(crate) struct Patience {
    at_most: Duration,
    /// Since when the windows have been closed, and what had been sent by then.
    held: Option<(Instant, u64)>,
}

impl Patience {
    pub(crate) const fn new(at_most: Duration) -> Patience {
        Patience { at_most, held: None }
    }

    /// Nobody waits for anything any more.
    pub(crate) const fn rest(&mut self) {
        self.held = None;
    }

    /// Looks at the connection, `true` where it has been held back for too long. `waiting` says that requests are under
    /// way and the windows closed, `sent` counts bytes of answers since the beginning.
    pub(crate) fn is_over(&mut self, now: Instant, waiting: bool, sent: u64) -> bool {
        if !waiting {
            self.held = None;
            return false;
        }
        match self.held {
            Some((since, before)) if sent.saturating_sub(before) < LEAST => {
                now.saturating_duration_since(since) >= self.at_most
            }
            Some(_) | None => {
                self.held = Some((now, sent));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_must_move_where_windows_are_closed() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut patience = Patience::new(Duration::from_secs(10));
        assert!(!patience.is_over(at(0), true, 0));
        assert!(!patience.is_over(at(9), true, 1023));
        assert!(patience.is_over(at(10), true, 1023), "drops do not count");
        assert!(!patience.is_over(at(10), true, 1024), "a piece does");
        assert!(!patience.is_over(at(19), true, 1024));
        assert!(patience.is_over(at(20), true, 1024));
        assert!(!patience.is_over(at(20), false, 1024), "open windows forgive");
        assert!(!patience.is_over(at(31), true, 1024));
    }
}
