//! One log over two processes: the old one leaves the folder to its successor and passes on what it still has to say.
//!
//! There is one writer at any time, so there is one chain. A writer that is told to yield writes everything, then an
//! entry that names the successor, signs, and unlocks the folder; what its requests leave meanwhile waits in the queue.
//! Then one of two things happens. The successor writes: from then on, entries go to it by a [`Courier`], which answers
//! when they are written, so that an intent is on the disk before anything is forwarded here too. Or there is no
//! successor, now or later: the old process locks the folder again and goes on, and nothing that a successor had
//! already written is written twice.
use super::fault::AuditFault;
use super::queue::{Batch, Class, Item, Waiter};
use super::shared::Shared;
use super::verify::{MAX_LINE, read_line};
use super::writer::Writer;
use super::{AuditLog, AuditUnavailable, MediumMaker, Options};
use super::{fold, folder};
use decide::record::{Chain, Entry, Event, Kind, chain};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long the folder may still be locked after its successor has gone.
const RETURN: Duration = Duration::from_secs(5);
/// Pause between two attempts to lock it.
const AGAIN: Duration = Duration::from_millis(20);
/// The longest that a writer that passes on waits for something to pass on.
const IDLE: Duration = Duration::from_secs(3600);

/// Carries entries to the process that writes them.
pub trait Courier: Send {
    /// Hands these entries over, in this order, and waits until they are written as [`Delivery::durable`] asks. An
    /// error means that the other process is gone, and that some of them may be written.
    fn deliver(&mut self, delivery: &Delivery<'_>) -> io::Result<()>;
}

/// Entries on their way to another process.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// The entries, oldest first.
    pub parcels: Vec<Parcel<'a>>,
    /// Whether they must be on the disk, not only in the hands of the operating system.
    pub durable: bool,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parcel<'a> {
    /// What it is.
    pub class: Class,
    /// The bytes of [`Entry::write`].
    pub body: &'a [u8],
}

/// What the writer is told about other processes.
pub(super) enum Order {
    /// Leave the folder.
    Yield { successor: u64, done: oneshot::Sender<Result<Chain, AuditFault>> },
    /// Go on as before: the successor did not come.
    Resume { reason: String, done: oneshot::Sender<Result<(), AuditFault>> },
    /// Let the successor write.
    Forward(Box<dyn Courier>),
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Order::Yield { .. } => "Yield",
            Order::Resume { .. } => "Resume",
            Order::Forward(_) => "Forward",
        })
    }
}

/// Why a log is opened.
#[derive(Debug)]
pub(super) enum Opening {
    /// A process starts.
    Start,
    /// Another process left it to this one.
    Succession,
    /// This process had left it to one that is gone.
    Return { reason: String },
}

impl AuditLog {
    /// Leaves the folder to process `successor`. Entries wait in memory until [`AuditLog::resume`] or
    /// [`AuditLog::forward`]. Where it fails, nothing has changed.
    pub async fn leave(&self, successor: u32) -> Result<Chain, AuditFault> {
        let (done, left) = oneshot::channel();
        self.shared.queue.order(Order::Yield { successor: u64::from(successor), done });
        left.await.unwrap_or(Err(AuditFault::WriterDied))
    }

    /// Takes the folder back, and goes on.
    pub async fn resume(&self, reason: String) -> Result<(), AuditFault> {
        let (done, resumed) = oneshot::channel();
        self.shared.queue.order(Order::Resume { reason, done });
        resumed.await.unwrap_or(Err(AuditFault::WriterDied))
    }

    /// From now on, the successor writes.
    pub fn forward(&self, courier: Box<dyn Courier>) {
        self.shared.queue.order(Order::Forward(courier));
    }

    /// Writes entries of a predecessor. Returns when they are written, or on the disk where the delivery is durable.
    pub async fn receive(&self, delivery: &Delivery<'_>) -> Result<(), AuditUnavailable> {
        let Some((last, rest)) = delivery.parcels.split_last() else { return Ok(()) };
        for parcel in rest {
            self.take_in(parcel, None).await?;
        }
        let (done, written) = oneshot::channel();
        self.take_in(last, Some(Waiter { durable: delivery.durable, done })).await?;
        written.await.map_err(|_| self.shared.reason())
    }

    async fn take_in(&self, parcel: &Parcel<'_>, waiter: Option<Waiter>) -> Result<(), AuditUnavailable> {
        // A line feed would break the chain for good; no other process is believed to have left it out.
        if parcel.body.is_empty() || parcel.body.contains(&b'\n') || parcel.body.len() as u64 >= MAX_LINE / 2 {
            return Err(AuditUnavailable::Failing);
        }
        // An intent goes on the room of its request.
        if parcel.class != Class::Intent {
            self.shared.room_when_healthy().await?;
        }
        self.shared.push(parcel.body, parcel.class, waiter, false);
        Ok(())
    }
}

/// A writer without a folder.
pub(super) struct Away {
    pub options: Options,
    pub shared: Arc<Shared>,
    pub medium: MediumMaker,
}

impl Away {
    /// Waits for what comes of it, until the log is closed.
    pub fn run(self) -> Result<(), AuditFault> {
        match self.shared.queue.wait_for_order() {
            Some(Order::Forward(courier)) => self.forward(courier),
            Some(Order::Resume { reason, done }) => match self.go_back(reason, &mut Batch::default()) {
                Ok(writer) => {
                    let _ = done.send(Ok(()));
                    writer.run()
                }
                Err(fault) => {
                    let _ = done.send(Err(fault));
                    Err(AuditFault::WriterDied)
                }
            },
            Some(Order::Yield { done, .. }) => {
                drop(done);
                self.run()
            }
            None => self.go_back("the process ends".to_owned(), &mut Batch::default())?.run(),
        }
    }

    /// Passes on what requests leave, until the log is closed or the successor is gone.
    fn forward(self, mut courier: Box<dyn Courier>) -> Result<(), AuditFault> {
        let mut batch = Batch::default();
        loop {
            let until = self.shared.folds.due().unwrap_or_else(|| Instant::now() + IDLE);
            let glance = self.shared.queue.take(until, &mut batch);
            let last = glance.last();
            if let Some((refused, since_ms)) = self.shared.take_unlogged() {
                self.add(&mut batch, Event::Gap { refused, since_ms });
            }
            fold::account(&self.shared, last, |event| self.add(&mut batch, event));
            if last {
                let (predecessor, unfinished) = (u64::from(std::process::id()), glance.open_slots as u64);
                self.add(&mut batch, Event::HandOverEnd { predecessor, unfinished });
            }
            // A second hand-over is the successor's affair.
            drop(self.shared.queue.take_order());
            if let Err(error) = deliver(&mut *courier, &batch) {
                tracing::error!(%error, "the successor no longer takes audit entries; they are written here again");
                return self.go_back(format!("the successor is gone: {error}"), &mut batch)?.run();
            }
            self.settle(&mut batch);
            self.shared.set_away(false);
            if last {
                return Ok(());
            }
        }
    }

    /// Adds an entry of our own.
    fn add(&self, batch: &mut Batch, event: Event<'_>) {
        let before = batch.bytes.len();
        let kind = Kind::System(event);
        Entry { time_ms: self.shared.now_ms(), node: &self.options.node, kind }.write(&mut batch.bytes);
        // Its room is given back with the others', so that it is taken here.
        let _ = self.shared.take_room();
        self.shared.expect_one_more();
        batch.items.push(Item { class: Class::System, len: batch.bytes.len() - before, waiter: None });
    }

    /// Accounts for what is written elsewhere now.
    fn settle(&self, batch: &mut Batch) {
        let mut room = 0;
        self.shared.written(batch.items.len() as u64);
        for item in batch.items.drain(..) {
            let counter = match item.class {
                Class::Request => &self.shared.requests,
                Class::Intent => &self.shared.intents,
                Class::System => &self.shared.system,
            };
            counter.fetch_add(1, Relaxed);
            room += usize::from(item.class != Class::Intent);
            // Who has gone away meanwhile is no concern.
            let _ = item.waiter.map(|waiter| waiter.done.send(()));
        }
        self.shared.return_room(room);
        batch.clear();
    }

    /// Locks the folder again and writes what a successor may not have written of `undelivered`.
    fn go_back(self, reason: String, undelivered: &mut Batch) -> Result<Writer, AuditFault> {
        let Away { options, shared, medium } = self;
        let until = Instant::now() + RETURN;
        // Only a lock says that the other process is gone, whatever its socket says.
        while folder::is_locked(&options.directory) && Instant::now() < until {
            std::thread::sleep(AGAIN);
        }
        let directory = options.directory.clone();
        let mut writer = Writer::open(options, shared, medium, &Opening::Return { reason })
            .inspect_err(|fault| tracing::error!(%fault, "the audit log cannot be taken back; requests are refused"))?;
        writer.shared.set_away(false);
        if !undelivered.items.is_empty() {
            let written = written(&directory, undelivered).map_err(AuditFault::io(&directory))?;
            writer.shared.written(written.items.len() as u64);
            writer.shared.return_room(written.items.iter().filter(|item| item.class != Class::Intent).count());
            for waiter in written.items.into_iter().filter_map(|item| item.waiter) {
                let _ = waiter.done.send(());
            }
            writer.seal_undelivered(undelivered);
        }
        Ok(writer)
    }
}

fn deliver(courier: &mut dyn Courier, batch: &Batch) -> io::Result<()> {
    let mut bytes = batch.bytes.as_slice();
    let parcel = |item: &Item| {
        let (body, rest) = bytes.split_at_checked(item.len).unwrap_or((bytes, &[]));
        bytes = rest;
        Parcel { class: item.class, body }
    };
    let parcels: Vec<_> = batch.items.iter().map(parcel).collect();
    let durable = batch.items.iter().any(|item| item.waiter.as_ref().is_some_and(|waiter| waiter.durable));
    if parcels.is_empty() { Ok(()) } else { courier.deliver(&Delivery { parcels, durable }) }
}

/// Takes out of `batch` what is in the two newest segments word for word. Bodies bear a time and a request's id, so that
/// two of them are never the same by chance.
fn written(directory: &std::path::Path, batch: &mut Batch) -> io::Result<Batch> {
    let all = std::mem::take(batch);
    let mut bodies = Vec::with_capacity(all.items.len());
    let mut bytes = all.bytes.as_slice();
    for item in &all.items {
        let (body, rest) = bytes.split_at_checked(item.len).unwrap_or((bytes, &[]));
        bytes = rest;
        bodies.push(body);
    }
    let mut missing: HashSet<&[u8]> = bodies.iter().copied().collect();
    for first in folder::list(directory)?.into_iter().rev().take(3) {
        let mut reader = BufReader::new(File::open(folder::segment_path(directory, first))?);
        let mut line = Vec::new();
        while read_line(&mut reader, &mut line)? > 0 {
            if let Some(body) = chain::body(&line) {
                missing.remove(body);
            }
            line.clear();
        }
    }
    let mut found = Batch::default();
    for (item, body) in all.items.into_iter().zip(bodies) {
        let side = if missing.contains(body) { &mut *batch } else { &mut found };
        side.bytes.extend_from_slice(body);
        side.items.push(item);
    }
    Ok(found)
}
