//! Room for one request's entry: taken first, filled last, and never empty-handed.
use super::fault::AuditUnavailable;
use super::fold::Sort;
use super::queue::{Class, Waiter};
use super::shared::Shared;
use decide::facts::{Person, RequestId};
use decide::record::{Circumstances, Entry, Exchange, Kind, Verdict};
use memchr::memchr;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long an intent waits at the most while no process has the log: that is neither a slow disk nor a lasting state.
const HANDOVER: Duration = Duration::from_secs(10);

/// Room in the log for the entry of one request.
///
/// A slot that is dropped without [`Slot::write`] leaves an entry all the same, with the verdict `lost-context`.
#[derive(Debug)]
#[must_use = "a dropped slot is recorded as a lost request"]
pub struct Slot {
    shared: Arc<Shared>,
    id: RequestId,
    written: bool,
}

impl Slot {
    pub(super) fn new(shared: Arc<Shared>) -> Slot {
        shared.queue.slot_opened();
        Slot { shared, id: RequestId(0), written: false }
    }

    /// Says whose slot it is, for the entry that it leaves when it is dropped.
    pub fn identify(&mut self, id: RequestId) {
        self.id = id;
    }

    /// Hands over the entry (the bytes of [`Entry::write`]). Never blocks, never fails; callable from `Drop`.
    pub fn write(mut self, body: impl AsRef<[u8]>) {
        self.finish(body.as_ref());
    }

    /// Hands over the entry of a request that was not forwarded and that nobody is known for; where there are too many
    /// of its sort, it is counted with them instead, and `body` is not called. Whether it has an entry of its own.
    pub fn write_or_fold(mut self, sort: Sort, at_ms: u64, body: impl FnOnce() -> Vec<u8>) -> bool {
        let Some(first) = self.shared.folds.fold(sort, self.id, at_ms, Instant::now()) else {
            self.finish(&body());
            return true;
        };
        self.written = true;
        self.shared.return_room(1);
        self.shared.queue.slot_closed();
        if first {
            // The writer may sleep for a minute.
            self.shared.queue.nudge();
        }
        false
    }

    /// Hands over an `intent` entry and waits until it is in the hands of the operating system, or with `durable` (or
    /// [`super::Durability::Each`]) on the disk. Nothing may be forwarded before, and nothing at all when it fails,
    /// which it does after [`super::Options::max_wait`], or later while another process takes the log over; the entry
    /// may be written later even so.
    pub async fn intent(&self, body: impl AsRef<[u8]>, durable: bool) -> Result<(), AuditUnavailable> {
        if self.shared.failing_long() {
            return Err(AuditUnavailable::Failing);
        }
        let (done, mut written) = oneshot::channel();
        let away = self.shared.away();
        push(&self.shared, body.as_ref(), Class::Intent, Some(Waiter { durable, done }), self.id);
        let mut waited = timeout(self.shared.max_wait, &mut written).await;
        if waited.is_err() && (away || self.shared.away()) {
            waited = timeout(HANDOVER, written).await;
        }
        match waited {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(self.shared.reason()),
        }
    }

    fn finish(&mut self, body: &[u8]) {
        if !std::mem::replace(&mut self.written, true) {
            push(&self.shared, body, Class::Request, None, self.id);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.written {
            let body = lost(&self.shared, self.id, "the request ended without an account of itself");
            self.finish(&body);
        }
    }
}

/// A line feed would end the line early and break the log for good, so no caller is believed to have left it out.
fn push(shared: &Shared, body: &[u8], class: Class, waiter: Option<Waiter>, id: RequestId) {
    let closes_slot = class == Class::Request;
    if body.is_empty() || memchr(b'\n', body).is_some() {
        shared.push(&lost(shared, id, "the account was not one line"), class, waiter, closes_slot);
    } else {
        shared.push(body, class, waiter, closes_slot);
    }
}

fn lost(shared: &Shared, id: RequestId, cause: &str) -> Vec<u8> {
    let exchange = Exchange {
        id,
        snapshot: "",
        facts: Circumstances::new("", Person(IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
        trail: &[],
        verdict: Verdict::LostContext,
        cause: Some(cause),
        outcome: None,
        action: None,
    };
    let mut body = Vec::with_capacity(512);
    Entry { time_ms: shared.now_ms(), node: &shared.node, kind: Kind::Request(&exchange) }.write(&mut body);
    body
}
