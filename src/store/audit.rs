//! The audit log: one chain of entries in append-only segment files, written by one thread, never losing one silently.
//! Another waits for the disk meanwhile.
//!
//! A request takes a [`Slot`] before anything is decided and gives it back with its entry, also when its task is
//! cancelled. Slots are bounded, which is the back pressure: when the writer cannot keep up or the disk refuses,
//! [`AuditLog::reserve`] waits for at most [`Options::max_wait`] and then fails, and the request is refused with
//! `gateway.unavailable`. How many were refused so is itself an entry (`gap`) as soon as there can be one.
//!
//! Format and guarantees are described in `docs/audit.md`.
mod fault;
mod fold;
mod folder;
mod handover;
mod key;
mod queue;
mod recover;
mod segment;
mod shared;
mod slot;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use fault::{AuditFault, AuditUnavailable};
pub use fold::{Folding, Sort};
pub use handover::{Courier, Delivery, Parcel};
pub use queue::Class;
pub use shared::AuditState;
pub use slot::Slot;
pub use verify::{Broken, Verified, read_keys, segments, verify};

use decide::record::{Entry, Event, Kind};
use handover::Opening;
use segment::Medium;
use shared::Shared;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::time::timeout;

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the segments; made where absent, and used by one process at a time.
    pub directory: PathBuf,
    /// Folder in which the signing key is made where `key` names none.
    pub state_dir: PathBuf,
    /// Name of this replica; part of every entry and of the signed origin.
    pub node: String,
    /// Size in bytes at which a segment is closed; the batch that crosses it is still written whole.
    pub roll_bytes: u64,
    /// Age of its last entry at which a closed segment is deleted; `None` keeps all.
    pub retain: Option<Duration>,
    /// When what was written is synced to the disk.
    pub durability: Durability,
    /// Time between signed heads, as long as there are new entries.
    pub checkpoint_every: Duration,
    /// Entries between signed heads.
    pub checkpoint_entries: u64,
    /// Time without entries after which a heartbeat is written.
    pub heartbeat: Duration,
    /// Ed25519 key (PKCS#8 PEM) that signs heads; must exist where it is named.
    pub key: Option<PathBuf>,
    /// Requests that may be under way or waiting to be written, each good for about 1 KiB of memory.
    pub capacity: usize,
    /// When requests that were refused early begin to share entries.
    pub folding: Folding,
    /// How long a request waits for room, or for its intent to be written; also how long something may have been written
    /// and not be on the disk, with any durability that syncs, before nothing more is written.
    pub max_wait: Duration,
}

impl Options {
    /// Usual settings for a log in this folder: segments of 64 MiB kept for ever, heads each minute or 1000 entries.
    pub fn new(directory: PathBuf, state_dir: PathBuf, node: String) -> Options {
        Options {
            directory,
            state_dir,
            node,
            roll_bytes: 64 << 20,
            retain: None,
            durability: Durability::Batch,
            checkpoint_every: Duration::from_secs(60),
            checkpoint_entries: 1000,
            heartbeat: Duration::from_secs(60),
            key: None,
            capacity: 65_536,
            folding: Folding::default(),
            max_wait: Duration::from_secs(1),
        }
    }
}

/// When what was written is synced to the disk (`fdatasync`). Signed heads and closed segments always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// At most 50 ms after it was written, or as soon as the sync before has ended; a power failure can cost what came
    /// since the last one that succeeded began, at most [`Options::max_wait`] of writing.
    Batch,
    /// Before anybody is told that it was written.
    Each,
    /// When the operating system sees fit; the death of the process costs nothing, a power failure up to a head.
    Os,
}

/// Wall clock, milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The audit log of this process.
#[derive(Debug)]
pub struct AuditLog {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<Result<(), AuditFault>>>>,
}

impl AuditLog {
    /// Opens the log and starts its writer: locks the folder, checks the newest segment, sets an unfinished last line
    /// aside, and writes and syncs a `start` entry and a signed head before it returns.
    ///
    /// Fails when another process has the folder, when the newest segment or the signed head beside it is not what was
    /// written, or when the disk refuses. It never repairs what it does not understand.
    pub fn open(options: Options, clock: Clock) -> Result<AuditLog, AuditFault> {
        AuditLog::start(options, clock, Box::new(|file| Arc::new(file)), &Opening::Start)
    }

    /// Opens a log that another process has just left to this one.
    pub fn succeed(options: Options, clock: Clock) -> Result<AuditLog, AuditFault> {
        AuditLog::start(options, clock, Box::new(|file| Arc::new(file)), &Opening::Succession)
    }

    /// As [`AuditLog::open`], on files that a test may let fail.
    #[cfg(test)]
    fn open_on(options: Options, clock: Clock, medium: MediumMaker) -> Result<AuditLog, AuditFault> {
        AuditLog::start(options, clock, medium, &Opening::Start)
    }

    fn start(options: Options, clock: Clock, medium: MediumMaker, opening: &Opening) -> Result<AuditLog, AuditFault> {
        let shared = Arc::new(Shared::new(&options, clock));
        let writer = writer::Writer::open(options, Arc::clone(&shared), medium, opening)?;
        let gone = writer::Gone(Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            let _gone = gone;
            writer.run()
        });
        let thread = thread.map_err(|source| AuditFault::Thread { source })?;
        Ok(AuditLog { shared, writer: Mutex::new(Some(thread)) })
    }

    /// Takes room for the entry of one request. While the disk refuses, or while all room is taken, it waits for at
    /// most [`Options::max_wait`]; once the disk has refused for that long, it fails at once. A failure is counted and
    /// shows in the log as a `gap`.
    pub async fn reserve(&self) -> Result<Slot, AuditUnavailable> {
        if let Some(slot) = self.try_reserve() {
            return Ok(slot);
        }
        let waited = if self.shared.failing_long() {
            Err(AuditUnavailable::Failing)
        } else {
            timeout(self.shared.max_wait, self.shared.room_when_healthy()).await.unwrap_or(Err(self.shared.reason()))
        };
        waited.inspect_err(|_| self.shared.refuse())?;
        Ok(Slot::new(Arc::clone(&self.shared)))
    }

    fn try_reserve(&self) -> Option<Slot> {
        if self.shared.failing() || !self.shared.take_room() {
            return None;
        }
        Some(Slot::new(Arc::clone(&self.shared)))
    }

    /// Writes what the gateway itself did or noticed. Never waits: fails when there is no room.
    pub fn system(&self, event: Event<'_>) -> Result<(), AuditUnavailable> {
        if !self.shared.take_room() {
            return Err(self.shared.reason());
        }
        let mut body = Vec::with_capacity(256);
        let time_ms = self.shared.now_ms();
        Entry { time_ms, node: &self.shared.node, kind: Kind::System(event) }.write(&mut body);
        self.shared.push_system(&body);
        Ok(())
    }

    /// Changes how the log is kept from now on: segments, retention, durability, heads, heartbeat, folding, room. Folders, name and key stay what they were.
    pub fn reconfigure(&self, options: Options) {
        self.shared.reconfigure(options);
    }

    /// Room for requests: all of it, and what is free.
    pub fn room(&self) -> (usize, usize) {
        self.shared.room()
    }

    /// How the log is doing, for metrics and readiness.
    pub fn state(&self) -> AuditState {
        self.shared.state()
    }

    /// Ends the log: no more slots; those that are out are waited for up to `grace`; then `stop`, a signed head, sync.
    /// Blocks. Fails when the disk refused to the end of `grace`; a second call does nothing.
    pub fn close(&self, grace: Duration) -> Result<(), AuditFault> {
        let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        self.shared.close(grace);
        writer.join().unwrap_or(Err(AuditFault::WriterDied))
    }
}

/// A log that is forgotten is closed without grace: slots that are out lose their entry, and `stop` counts them.
impl Drop for AuditLog {
    fn drop(&mut self) {
        if let Err(error) = self.close(Duration::ZERO) {
            tracing::error!(%error, "the audit log could not be closed");
        }
    }
}

/// Makes what entries are written to out of a segment's file.
type MediumMaker = Box<dyn Fn(File) -> Arc<dyn Medium> + Send>;
