//! What one request still owes to its limits: places that it holds, and costs that only its answer tells.
use super::cells::Key;
use super::holders::Hold;
use super::meter::Meter;
use decide::rules::{Limit, Settle};
use governor::clock::{Clock, MonotonicClock};
use http::{HeaderMap, HeaderName};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The dues of one request. When they are dropped its places are given back, and what is not settled costs what was
/// reserved: an attacker who leaves before the answer pays as if it had counted.
pub struct Dues<C: Clock = MonotonicClock> {
    pub(super) holds: Vec<Hold>,
    pub(super) open: Vec<Open<C>>,
    pub(super) waiting: Option<Waiting>,
}

/// A cost that is not settled: until then what was reserved for it counts as taken.
pub(super) struct Open<C: Clock> {
    limit: Arc<Limit>,
    meter: Arc<Meter<C>>,
    key: Key,
    settled: bool,
    /// Given back after the charge, never before.
    _reserved: Hold,
}

impl<C: Clock> Drop for Open<C> {
    fn drop(&mut self) {
        if !self.settled {
            self.meter.charge(self.key, self.limit.cost);
        }
    }
}

/// A place among those who wait; given back when it is dropped.
pub(super) struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// `None` where `most` wait already.
    pub(super) fn enter(all: &Arc<AtomicUsize>, most: usize) -> Option<Waiting> {
        let claim = |waiting: usize| (waiting < most).then_some(waiting + 1);
        all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim).ok()?;
        Some(Waiting(all.clone()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<C: Clock> Default for Dues<C> {
    fn default() -> Dues<C> {
        Dues { holds: Vec::new(), open: Vec::new(), waiting: None }
    }
}

impl<C: Clock> std::fmt::Debug for Dues<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dues").field("holds", &self.holds.len()).field("open", &self.open.len()).finish()
    }
}

impl<C: Clock> Dues<C> {
    /// The wait is over.
    pub fn waited(&mut self) {
        self.waiting = None;
    }

    /// The application has answered: costs by status and by header are settled.
    pub fn answered(&mut self, status: u16, fields: &HeaderMap) {
        self.open.retain_mut(|open| open.answered(status, fields));
    }

    /// Fields of the answer that were for us alone.
    pub fn private(limits: &[Arc<Limit>]) -> impl Iterator<Item = &HeaderName> {
        limits.iter().filter_map(|limit| match &limit.settle {
            Settle::Header { name, .. } => Some(name),
            Settle::Never | Settle::Status(_) | Settle::Bytes { .. } => None,
        })
    }

    /// The request has ended after so many bytes of its answer's body.
    pub fn ended(&mut self, bytes_out: u64) {
        for mut open in self.open.drain(..) {
            if let Settle::Bytes { each, max } = open.limit.settle {
                let cost = bytes_out.div_ceil(each.max(1)).min(u64::from(max));
                open.settle(u32::try_from(cost).unwrap_or(max));
            }
        }
        self.holds.clear();
        self.waiting = None;
    }
}

impl<C: Clock> Open<C> {
    pub(super) fn new(limit: &Arc<Limit>, meter: &Arc<Meter<C>>, key: Key, reserved: Hold) -> Open<C> {
        Open { limit: limit.clone(), meter: meter.clone(), key, settled: false, _reserved: reserved }
    }

    /// Settles what an answer's head settles; whether it stays open.
    fn answered(&mut self, status: u16, fields: &HeaderMap) -> bool {
        match &self.limit.settle {
            Settle::Bytes { .. } => return true,
            Settle::Never => {}
            Settle::Status(counted) if counted.contains(status) => {}
            Settle::Status(_) => self.settle(0),
            Settle::Header { name, max } => {
                if let Some(cost) = said(fields, name) {
                    let cost = cost.unwrap_or(*max).min(*max);
                    self.settle(cost);
                }
            }
        }
        false
    }

    fn settle(&mut self, cost: u32) {
        self.settled = true;
        if cost > 0 {
            self.meter.charge(self.key, cost);
        }
    }
}

/// What a field says about a cost: `None` where it is not there, `Some(None)` where it makes no sense.
fn said(fields: &HeaderMap, name: &HeaderName) -> Option<Option<u32>> {
    let mut values = fields.get_all(name).iter();
    let first = values.next()?;
    let digits = first.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    Some(digits.and_then(|text| text.parse().ok()).filter(|_| values.next().is_none()))
}
