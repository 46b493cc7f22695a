//! The one thread that writes: takes what requests left, chains it, and brings it to the disk.
mod disk;
mod syncer;

use super::fault::AuditFault;
use super::fold;
use super::folder::Folder;
use super::handover::{Away, Opening, Order};
use super::key::{self, Signer};
use super::queue::{Batch, Class, Glance, Item};
use super::recover::{self, Found};
use super::segment::Segment;
use super::shared::Shared;
use super::{Durability, MediumMaker, Options};
use decide::record::{Chain, Ended, Entry, Event, Kind};
use std::fs::OpenOptions;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use syncer::Syncer;
use tokio::sync::oneshot;

/// Time between the beginnings of two syncs with [`Durability::Batch`]; where one takes longer, the next follows it.
const SYNC_EVERY: Duration = Duration::from_millis(50);
/// Bytes that may be written and not synced: beyond, as for what is older than [`Options::max_wait`], the writer waits.
const MOST_UNSYNCED: usize = 16 << 20;
/// Time between attempts while the disk refuses.
const RETRY_EVERY: Duration = Duration::from_millis(250);
/// Shortest time between heads put beside the log: each waits for the disk several times, and a busy log has many a second.
const PUBLISH_EVERY: Duration = Duration::from_millis(250);
/// Time between looks for segments that are too old.
const RETAIN_EVERY: Duration = Duration::from_secs(3600);

pub(super) struct Writer {
    options: Options,
    pub(super) shared: Arc<Shared>,
    medium: MediumMaker,
    folder: Arc<Folder>,
    syncer: Syncer,
    signer: Signer,
    chain: Chain,
    segment: Segment,
    closed: Vec<u64>,
    body: Vec<u8>,
    /// Entries other than heads since the last head.
    since_head: u64,
    /// A head that is in the log and neither beside it nor on its way there.
    unpublished: Option<String>,
    /// When a head was last put beside the log; `None` where the next one must not wait.
    published: Option<Instant>,
    /// Entries that were sealed and not yet written, and how many of them hold room.
    unwritten: (u64, usize),
    waiting_for_write: Vec<oneshot::Sender<()>>,
    /// Without those for whom a sync is under way.
    waiting_for_sync: Vec<oneshot::Sender<()>>,
    last_head: Instant,
    last_entry: Instant,
    /// When the last sync began.
    last_sync: Instant,
    last_retain: Instant,
    failing_since: Option<Instant>,
    ending: bool,
}

impl Writer {
    /// Recovers the log and writes its first entries of this process.
    pub fn open(
        options: Options,
        shared: Arc<Shared>,
        medium: MediumMaker,
        opening: &Opening,
    ) -> Result<Writer, AuditFault> {
        let folder = Folder::open(&options.directory)?;
        let key_path = options.key.clone().unwrap_or_else(|| options.state_dir.join(key::FILE));
        if options.key.is_none() {
            Signer::ensure(&key_path)?;
        }
        let signer = Signer::read(&key_path, &options.node)?;
        let (keys, changed) = signer.publish(&options.directory)?;
        let found = recover::recover(&folder, &keys)?;
        let (segment, newest) = open_segment(&folder, &medium, &found)?;
        for first in &found.closed {
            // Where the process died between two steps of rolling.
            folder.seal_segment(*first).map_err(AuditFault::io(&folder.segment(*first)))?;
        }
        let syncer = Syncer::start(Arc::clone(&shared)).map_err(|source| AuditFault::Thread { source })?;
        let now = Instant::now();
        let mut writer = Writer {
            chain: found.chain,
            closed: found.closed,
            segment,
            body: Vec::new(),
            since_head: 0,
            unpublished: None,
            published: None,
            unwritten: (0, 0),
            waiting_for_write: Vec::new(),
            waiting_for_sync: Vec::new(),
            last_head: now,
            last_entry: now,
            last_sync: now,
            last_retain: now,
            failing_since: None,
            ending: false,
            options,
            shared,
            medium,
            folder: Arc::new(folder),
            syncer,
            signer,
        };
        if let Some((file, bytes)) = &found.torn {
            tracing::warn!(%file, bytes, "an unfinished entry was set aside");
            writer.system(Event::Recovered { file, bytes: *bytes });
        }
        let label = writer.signer.key().label();
        let version = env!("CARGO_PKG_VERSION");
        writer.system(match opening {
            Opening::Start => Event::Start { version, previous: found.ended, key: &label },
            Opening::Succession => Event::Start { version, previous: Ended::HandedOver, key: &label },
            Opening::Return { reason } => Event::HandOverFailed { reason },
        });
        if changed {
            writer.system(Event::KeysChange { owner: "audit", added: &[label], removed: &[] });
        }
        writer.seal_head();
        let written = writer.step().and_then(|()| writer.sync_now()).and_then(|()| writer.retain());
        written.map_err(AuditFault::io(&newest))?;
        Ok(writer)
    }

    /// Writes until the log is closed, here or by a successor.
    pub fn run(mut self) -> Result<(), AuditFault> {
        let mut batch = Batch::default();
        loop {
            // While the disk refuses, what requests leave stays in the queue: its bound is the back pressure.
            let glance = match self.failing_since {
                Some(_) => self.shared.queue.pause(RETRY_EVERY),
                None => self.shared.queue.take(self.next_duty(), &mut batch),
            };
            if glance.last() {
                return self.finish(glance, &mut batch);
            }
            if let Some(options) = self.shared.take_options() {
                self.reconfigure(options);
            }
            self.seal(&mut batch);
            self.attempt();
            match self.shared.queue.take_order() {
                Some(Order::Yield { successor, done }) => match self.leave(successor) {
                    Ok(chain) => {
                        let Writer { options, shared, medium, folder, syncer, .. } = self;
                        // Unlocked before the successor may know of it.
                        drop((syncer, folder));
                        let _ = done.send(Ok(chain));
                        return Away { options, shared, medium }.run();
                    }
                    Err(fault) => drop(done.send(Err(fault))),
                },
                // Nothing was yielded.
                Some(Order::Resume { done, .. }) => drop(done.send(Ok(()))),
                Some(Order::Forward(_)) | None => {}
            }
        }
    }

    /// Takes over what may change while the log is written.
    fn reconfigure(&mut self, options: Options) {
        let to = &mut self.options;
        to.roll_bytes = options.roll_bytes;
        to.durability = options.durability;
        to.checkpoint_every = options.checkpoint_every;
        to.checkpoint_entries = options.checkpoint_entries;
        to.heartbeat = options.heartbeat;
        if to.retain != options.retain {
            to.retain = options.retain;
            // What is too old may be another matter now.
            self.last_retain = Instant::now().checked_sub(RETAIN_EVERY).unwrap_or(self.last_retain);
        }
    }

    /// Writes everything, names the successor, and leaves it an empty segment, so that it need not read a long one.
    fn leave(&mut self, successor: u64) -> Result<Chain, AuditFault> {
        let path = self.folder.segment(self.segment.first);
        if self.failing_since.is_some() {
            let source = io::Error::other("the log cannot be written at this time");
            return Err(AuditFault::Io { path, source });
        }
        self.shared.set_away(true);
        self.account_for_gap();
        self.account_for_folds(true);
        self.system(Event::HandOver { successor });
        self.seal_head();
        let left = self.step().and_then(|()| self.sync_now());
        let left = left.and_then(|()| if self.segment.len() > 0 { self.roll() } else { Ok(()) });
        left.inspect_err(|error| {
            self.shared.set_away(false);
            self.failed(error);
        })
        .map_err(AuditFault::io(&path))?;
        Ok(self.chain)
    }

    /// Chains entries that a successor was to write and may not have.
    pub(super) fn seal_undelivered(&mut self, batch: &mut Batch) {
        self.seal(batch);
    }

    /// The end: everything that is left, `stop`, a head. Tried for as long as there is grace.
    fn finish(&mut self, glance: Glance, batch: &mut Batch) -> Result<(), AuditFault> {
        self.ending = true;
        self.seal(batch);
        self.shared.queue.take(Instant::now(), batch);
        self.seal(batch);
        self.account_for_gap();
        self.account_for_folds(true);
        self.system(Event::Stop { unfinished: glance.open_slots as u64 });
        self.seal_head();
        loop {
            let result = self.step();
            let over = glance.closing.is_none_or(|until| Instant::now() >= until);
            match result {
                Ok(()) => return Ok(()),
                Err(source) if over => {
                    self.shared.failed(true);
                    return Err(AuditFault::Io { path: self.folder.segment(self.segment.first), source });
                }
                Err(error) => {
                    self.failed(&error);
                    std::thread::sleep(RETRY_EVERY / 10);
                }
            }
        }
    }

    /// One round of writing, and what follows from how it went.
    fn attempt(&mut self) {
        let now = Instant::now();
        if self.failing_since.is_none() {
            self.account_for_gap();
            self.account_for_folds(false);
            if now >= self.last_entry + self.options.heartbeat {
                self.system(Event::Heartbeat);
            }
        }
        let result =
            self.step().and_then(|()| if now >= self.last_retain + RETAIN_EVERY { self.retain() } else { Ok(()) });
        match result {
            Ok(()) => {
                if self.failing_since.take().is_some() {
                    tracing::info!("the audit log can be written again");
                    self.shared.recovered();
                    self.account_for_gap();
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &io::Error) {
        let since = *self.failing_since.get_or_insert_with(|| {
            tracing::error!(%error, "the audit log cannot be written; requests are refused");
            Instant::now()
        });
        self.shared.failed(since.elapsed() >= self.options.max_wait);
    }

    /// Requests that were refused without an entry get one together.
    fn account_for_gap(&mut self) {
        if let Some((refused, since_ms)) = self.shared.take_unlogged() {
            tracing::warn!(refused, "requests were refused because they could not be recorded");
            self.system(Event::Gap { refused, since_ms });
        }
    }

    /// Requests that share entries get them, a while after the first; or now.
    fn account_for_folds(&mut self, all: bool) {
        let shared = Arc::clone(&self.shared);
        fold::account(&shared, all, |event| self.system(event));
    }

    /// When there is something to do even if no request comes.
    fn next_duty(&self) -> Instant {
        if self.segment.unwritten() {
            return Instant::now();
        }
        let mut next = (self.last_entry + self.options.heartbeat).min(self.last_retain + RETAIN_EVERY);
        if self.since_head > 0 {
            next = next.min(self.last_head + self.options.checkpoint_every);
        }
        if let Some(due) = self.shared.folds.due() {
            next = next.min(due);
        }
        // The end of a sync wakes the writer by itself.
        if self.syncer.busy() {
            return next;
        }
        if self.segment.unsynced() {
            next = next.min(self.last_sync + SYNC_EVERY);
        }
        if let (Some(_), Some(published)) = (&self.unpublished, self.published) {
            next = next.min(published + PUBLISH_EVERY);
        }
        next
    }

    /// Chains what requests left.
    fn seal(&mut self, batch: &mut Batch) {
        let mut bytes = batch.bytes.as_slice();
        if !batch.items.is_empty() {
            self.last_entry = Instant::now();
        }
        for Item { class, len, waiter } in batch.items.drain(..) {
            let (body, rest) = bytes.split_at_checked(len).unwrap_or((bytes, &[]));
            bytes = rest;
            self.chain.seal(body, self.segment.pending());
            self.count(class);
            if let Some(waiter) = waiter {
                let wait_for_sync = waiter.durable || self.options.durability == Durability::Each;
                let list = if wait_for_sync { &mut self.waiting_for_sync } else { &mut self.waiting_for_write };
                list.push(waiter.done);
            }
            // An intent goes on the room of its request.
            self.unwritten.1 += usize::from(class != Class::Intent);
            self.unwritten.0 += 1;
        }
        batch.clear();
    }

    fn count(&mut self, class: Class) {
        let counter = match class {
            Class::Request => &self.shared.requests,
            Class::Intent => &self.shared.intents,
            Class::System => &self.shared.system,
        };
        counter.fetch_add(1, Relaxed);
        self.since_head += 1;
    }

    /// Chains an entry of our own.
    fn system(&mut self, event: Event<'_>) {
        self.seal_own(Kind::System(event));
        self.count(Class::System);
        self.last_entry = Instant::now();
    }

    /// Chains a head over everything before it.
    fn seal_head(&mut self) {
        let time_ms = self.shared.now_ms();
        let note = self.signer.sign(self.chain.seq, self.chain.hash, time_ms);
        self.seal_own(Kind::Head(&note));
        self.shared.heads.fetch_add(1, Relaxed);
        self.unpublished = Some(note);
        self.since_head = 0;
        self.last_head = Instant::now();
    }

    fn seal_own(&mut self, kind: Kind<'_>) {
        self.body.clear();
        Entry { time_ms: self.shared.now_ms(), node: &self.options.node, kind }.write(&mut self.body);
        self.chain.seal(&self.body, self.segment.pending());
    }
}

/// The newest segment for appending, or a first one.
fn open_segment(
    folder: &Folder,
    medium: &MediumMaker,
    found: &Found,
) -> Result<(Segment, std::path::PathBuf), AuditFault> {
    let (first, len) = found.newest.unwrap_or((1, 0));
    let path = folder.segment(first);
    let file = match found.newest {
        Some(_) => OpenOptions::new().append(true).open(&path),
        None => folder.create_segment(first),
    };
    let file = file.map_err(AuditFault::io(&path))?;
    Ok((Segment::new(first, medium(file), len), path))
}

/// However the writer ends, nobody may believe that it still writes.
pub(super) struct Gone(pub(super) Arc<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.writer_gone();
    }
}
