//! What requests and the writer share: room, health and counts.
use super::fault::AuditUnavailable;
use super::fold::Folds;
use super::queue::{Class, Queue, Waiter};
use super::{Clock, Options};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

/// How the log is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditState {
    /// `request` entries written since the start.
    pub requests: u64,
    /// `intent` entries written since the start.
    pub intents: u64,
    /// `system` entries written since the start.
    pub system: u64,
    /// Signed heads written since the start.
    pub heads: u64,
    /// Attempts to write or sync that failed.
    pub write_errors: u64,
    /// Requests that were refused because they could not be recorded.
    pub refused: u64,
    /// Requests that share an entry with others of their kind.
    pub folded: u64,
    /// Entries that wait to be written.
    pub backlog: u64,
    /// Sequence number of the last entry.
    pub last_seq: u64,
    /// When the last head was signed, seconds since the Unix epoch; 0 before the first.
    pub last_head_s: u64,
    /// Since when the log cannot be written, milliseconds since the Unix epoch; `None` while it can.
    pub failing_since_ms: Option<u64>,
}

pub(super) struct Shared {
    pub node: String,
    pub max_wait: Duration,
    pub queue: Queue,
    pub folds: Folds,
    clock: Clock,
    room: Semaphore,
    healthy: Notify,
    failing: AtomicBool,
    failing_long: AtomicBool,
    failing_since_ms: AtomicU64,
    unlogged: AtomicU64,
    unlogged_since_ms: AtomicU64,
    pub requests: AtomicU64,
    pub intents: AtomicU64,
    pub system: AtomicU64,
    pub heads: AtomicU64,
    pub last_seq: AtomicU64,
    pub last_head_s: AtomicU64,
    pub write_errors: AtomicU64,
    refused: AtomicU64,
    folded: AtomicU64,
    backlog: AtomicU64,
    away: AtomicBool,
    capacity: AtomicUsize,
    /// Room that there is no longer, and that is still taken.
    debt: AtomicUsize,
    options: Mutex<Option<Options>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("node", &self.node).field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Shared {
    pub fn new(options: &Options, clock: Clock) -> Shared {
        Shared {
            node: options.node.clone(),
            max_wait: options.max_wait,
            queue: Queue::default(),
            folds: Folds::new(options.folding),
            clock,
            room: Semaphore::new(options.capacity.clamp(1, Semaphore::MAX_PERMITS)),
            away: AtomicBool::new(false),
            capacity: AtomicUsize::new(options.capacity.clamp(1, Semaphore::MAX_PERMITS)),
            debt: AtomicUsize::new(0),
            options: Mutex::default(),
            healthy: Notify::new(),
            failing: AtomicBool::new(false),
            failing_long: AtomicBool::new(false),
            failing_since_ms: AtomicU64::new(0),
            unlogged: AtomicU64::new(0),
            unlogged_since_ms: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            intents: AtomicU64::new(0),
            system: AtomicU64::new(0),
            heads: AtomicU64::new(0),
            last_seq: AtomicU64::new(0),
            last_head_s: AtomicU64::new(0),
            write_errors: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            folded: AtomicU64::new(0),
            backlog: AtomicU64::new(0),
        }
    }

    /// Leaves other options for the writer, and adds or takes away room.
    pub fn reconfigure(&self, options: Options) {
        let capacity = options.capacity.clamp(1, Semaphore::MAX_PERMITS);
        self.folds.set(options.folding);
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = Some(options);
        let before = self.capacity.swap(capacity, SeqCst);
        self.room.add_permits(capacity.saturating_sub(before));
        let less = before.saturating_sub(capacity);
        // What is taken now is kept back when it is returned.
        self.debt.fetch_add(less - self.room.forget_permits(less), SeqCst);
        self.queue.nudge();
    }

    /// Takes the options that were left.
    pub fn take_options(&self) -> Option<Options> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    pub fn failing(&self) -> bool {
        self.failing.load(SeqCst)
    }

    /// Whether waiting is pointless: the disk has refused for longer than anybody would wait.
    pub fn failing_long(&self) -> bool {
        self.failing_long.load(SeqCst)
    }

    /// Takes room for one entry without waiting.
    pub fn take_room(&self) -> bool {
        self.room.try_acquire().map(tokio::sync::SemaphorePermit::forget).is_ok()
    }

    /// Takes room for one entry as soon as there is some on a disk that does not refuse.
    pub async fn room_when_healthy(&self) -> Result<(), AuditUnavailable> {
        loop {
            let healthy = self.healthy.notified();
            if !self.failing() {
                break;
            }
            healthy.await;
        }
        self.room.acquire().await.map(tokio::sync::SemaphorePermit::forget).map_err(|_| AuditUnavailable::Closed)
    }

    /// Gives back the room of entries that were written.
    pub fn return_room(&self, entries: usize) {
        let paid = self.debt.fetch_update(SeqCst, SeqCst, |debt| (debt > 0).then(|| debt.saturating_sub(entries)));
        self.room.add_permits(paid.map_or(entries, |debt| entries.saturating_sub(debt)));
    }

    /// All room, and what is free of it.
    pub fn room(&self) -> (usize, usize) {
        (self.capacity.load(Relaxed), self.room.available_permits())
    }

    /// Why there is no room.
    pub fn reason(&self) -> AuditUnavailable {
        match (self.room.is_closed(), self.failing()) {
            (true, _) => AuditUnavailable::Closed,
            (false, true) => AuditUnavailable::Failing,
            (false, false) => AuditUnavailable::Full,
        }
    }

    /// Counts a request that is refused without an entry.
    pub fn refuse(&self) {
        let _ = self.unlogged_since_ms.compare_exchange(0, self.now_ms(), SeqCst, SeqCst);
        self.unlogged.fetch_add(1, SeqCst);
        self.refused.fetch_add(1, Relaxed);
    }

    /// Takes the account of such requests: how many, and when the first was refused.
    pub fn take_unlogged(&self) -> Option<(u64, u64)> {
        if self.unlogged.load(SeqCst) == 0 {
            return None;
        }
        let since = self.unlogged_since_ms.swap(0, SeqCst);
        let since = if since == 0 { self.now_ms() } else { since };
        Some((self.unlogged.swap(0, SeqCst), since))
    }

    /// Counts requests that share an entry which is written now.
    pub fn folded(&self, requests: u64) {
        self.folded.fetch_add(requests, Relaxed);
    }

    pub fn push(&self, body: &[u8], class: Class, waiter: Option<Waiter>, closes_slot: bool) {
        self.backlog.fetch_add(1, Relaxed);
        self.queue.push(body, class, waiter, closes_slot);
    }

    pub fn push_system(&self, body: &[u8]) {
        self.push(body, Class::System, None, false);
    }

    /// Whether the log is between two processes, so that nobody writes for a moment.
    pub fn away(&self) -> bool {
        self.away.load(SeqCst)
    }

    /// Says whether it is.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, SeqCst);
    }

    /// Counts an entry that is to be written and did not come through the queue.
    pub fn expect_one_more(&self) {
        self.backlog.fetch_add(1, Relaxed);
    }

    /// Counts entries that are written now.
    pub fn written(&self, entries: u64) {
        self.backlog.fetch_sub(entries, Relaxed);
    }

    /// The disk refused. `long` when it has done so for longer than a request waits.
    pub fn failed(&self, long: bool) {
        self.write_errors.fetch_add(1, Relaxed);
        if !self.failing.swap(true, SeqCst) {
            self.failing_since_ms.store(self.now_ms().max(1), SeqCst);
        }
        self.failing_long.store(long, SeqCst);
    }

    /// The disk accepts again.
    pub fn recovered(&self) {
        self.failing_since_ms.store(0, SeqCst);
        self.failing_long.store(false, SeqCst);
        self.failing.store(false, SeqCst);
        self.healthy.notify_waiters();
    }

    pub fn close(&self, grace: Duration) {
        self.room.close();
        self.healthy.notify_waiters();
        self.queue.close(Instant::now() + grace);
    }

    /// The writer is gone: nothing can be recorded any more.
    pub fn writer_gone(&self) {
        self.room.close();
        self.failing.store(true, SeqCst);
        self.failing_long.store(true, SeqCst);
    }

    pub fn state(&self) -> AuditState {
        let failing_since = self.failing_since_ms.load(SeqCst);
        AuditState {
            requests: self.requests.load(Relaxed),
            intents: self.intents.load(Relaxed),
            system: self.system.load(Relaxed),
            heads: self.heads.load(Relaxed),
            write_errors: self.write_errors.load(Relaxed),
            refused: self.refused.load(Relaxed),
            folded: self.folded.load(Relaxed),
            backlog: self.backlog.load(Relaxed),
            last_seq: self.last_seq.load(Relaxed),
            last_head_s: self.last_head_s.load(Relaxed),
            failing_since_ms: (failing_since != 0).then_some(failing_since),
        }
    }
}
