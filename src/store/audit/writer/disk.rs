//! How far what was chained has to go: written, synced, signed heads published, segments rolled and retained.
use super::syncer::{Job, Purpose};
use super::{Durability, MOST_UNSYNCED, PUBLISH_EVERY, SYNC_EVERY, Segment, Writer, recover};
use decide::record::Event;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use tokio::sync::oneshot;

impl Writer {
    /// Brings everything sealed as far as it has to go now. After a failure, calling it again goes on.
    pub(super) fn step(&mut self) -> io::Result<()> {
        if let Some((purpose, result)) = self.syncer.ended() {
            self.ended(purpose, result)?;
        }
        if self.segment.behind(MOST_UNSYNCED, self.options.max_wait) {
            tracing::warn!("the audit log waits for its disk; until that has caught up, nothing more is written");
            self.sync_now()?;
        }
        self.write()?;
        let full = self.segment.len() >= self.options.roll_bytes;
        let head_due = self.since_head >= self.options.checkpoint_entries
            || self.last_head.elapsed() >= self.options.checkpoint_every
            || full;
        if head_due && self.since_head > 0 {
            self.seal_head();
            self.write()?;
        }
        // A disk that has refused accepts again only when a sync says so.
        if full || self.ending || self.failing_since.is_some() {
            self.sync_now()?;
        } else {
            self.begin_sync(false);
        }
        // A log that ends with `stop` does not begin another segment.
        if full && self.since_head == 0 && !self.ending { self.roll() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        self.segment.write()?;
        self.shared.last_seq.store(self.chain.seq, Relaxed);
        let (entries, room) = std::mem::take(&mut self.unwritten);
        self.shared.written(entries);
        self.shared.return_room(room);
        answer(&mut self.waiting_for_write);
        Ok(())
    }

    /// Writes everything sealed and waits until it is on the disk (with [`Durability::Os`] as far as somebody waits for
    /// it or a head covers it), and the newest head beside the log.
    pub(super) fn sync_now(&mut self) -> io::Result<()> {
        self.wait()?;
        self.write()?;
        self.published = None;
        self.begin_sync(true);
        self.wait()
    }

    /// Begins a sync where the durability, somebody who waits, or a head asks for it, unless one is under way; that one
    /// has the writer look again. Everything sealed must be written: it is what the sync covers.
    fn begin_sync(&mut self, at_once: bool) {
        if self.syncer.busy() {
            return;
        }
        let head_due = self.published.is_none_or(|at| at.elapsed() >= PUBLISH_EVERY);
        let head = self.unpublished.take_if(|_| head_due);
        let due = match self.options.durability {
            Durability::Batch => at_once || self.last_sync.elapsed() >= SYNC_EVERY,
            Durability::Each => true,
            Durability::Os => false,
        };
        if head.is_some() || !self.waiting_for_sync.is_empty() || due && self.segment.unsynced() {
            self.last_sync = Instant::now();
            let waiting = std::mem::take(&mut self.waiting_for_sync);
            self.syncer.begin(Job::Sync(self.segment.sync(self.last_sync)), Purpose::Sync { waiting, head });
        } else if self.options.durability == Durability::Os {
            self.segment.settle();
        }
    }

    /// Waits for the disk until nothing is under way.
    fn wait(&mut self) -> io::Result<()> {
        while let Some((purpose, result)) = self.syncer.wait() {
            self.ended(purpose, result)?;
        }
        Ok(())
    }

    /// What follows from a job that has ended.
    fn ended(&mut self, purpose: Purpose, result: io::Result<()>) -> io::Result<()> {
        match purpose {
            Purpose::Sync { mut waiting, head } => {
                if let Err(error) = self.segment.synced(result) {
                    self.waiting_for_sync.append(&mut waiting);
                    self.unpublished = self.unpublished.take().or(head);
                    return Err(error);
                }
                answer(&mut waiting);
                if let Some(note) = head {
                    let folder = Arc::clone(&self.folder);
                    self.syncer.begin(Job::Head(folder, note.clone()), Purpose::Head(note));
                }
            }
            Purpose::Head(note) => {
                if let Err(error) = result {
                    self.unpublished.get_or_insert(note);
                    return Err(error);
                }
                self.shared.last_head_s.store(self.shared.now_ms() / 1000, Relaxed);
                self.published = Some(Instant::now());
            }
        }
        Ok(())
    }

    /// Closes the segment, which ends with a head, and begins the next.
    pub(super) fn roll(&mut self) -> io::Result<()> {
        let first = self.chain.seq + 1;
        let file = self.folder.create_segment(first)?;
        self.folder.seal_segment(self.segment.first)?;
        self.closed.push(self.segment.first);
        self.segment = Segment::new(first, (self.medium)(file), 0);
        self.retain()
    }

    /// Deletes closed segments that are too old, each after an entry that says where the log begins then.
    pub(super) fn retain(&mut self) -> io::Result<()> {
        self.last_retain = Instant::now();
        let Some(retain) = self.options.retain else { return Ok(()) };
        let oldest_ms = self.shared.now_ms().saturating_sub(u64::try_from(retain.as_millis()).unwrap_or(u64::MAX));
        while let Some(first) = self.closed.first().copied() {
            // A closed segment that cannot be read or deleted is for the operator; the log goes on.
            let last = match recover::last_entry(&self.folder.segment(first)) {
                Ok((_, time_ms)) if time_ms >= oldest_ms => break,
                Ok((last, _)) => last,
                Err(error) => {
                    tracing::error!(%error, "old audit entries are kept");
                    break;
                }
            };
            self.system(Event::Retention { first: last.seq + 1, prev: last.hash });
            self.seal_head();
            self.sync_now()?;
            if let Err(error) = self.folder.remove_segment(first) {
                tracing::error!(%error, first, "old audit entries are kept");
                break;
            }
            self.closed.remove(0);
        }
        Ok(())
    }
}

/// Tells those who wait. Who has gone away meanwhile is no concern.
fn answer(waiting: &mut Vec<oneshot::Sender<()>>) {
    for done in waiting.drain(..) {
        let _ = done.send(());
    }
}
