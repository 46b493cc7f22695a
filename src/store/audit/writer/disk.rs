//! How far what was chained has to go: written, synced, signed heads published, segments rolled and retained.
use super::{Durability, PUBLISH_EVERY, SYNC_EVERY, Segment, Writer, recover};
use decide::record::Event;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use tokio::sync::oneshot;

impl Writer {
    /// Brings everything sealed as far as it has to go now. After a failure, calling it again goes on.
    pub(super) fn step(&mut self) -> io::Result<()> {
        self.write()?;
        let full = self.segment.len() >= self.options.roll_bytes;
        let head_due = self.since_head >= self.options.checkpoint_entries
            || self.last_head.elapsed() >= self.options.checkpoint_every
            || full;
        if head_due && self.since_head > 0 {
            self.seal_head();
            self.write()?;
        }
        if full || self.ending {
            self.published = None;
        }
        self.sync_and_publish()?;
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

    /// Syncs where the durability, somebody who waits, or a head asks for it, and puts the head beside the log.
    fn sync_and_publish(&mut self) -> io::Result<()> {
        let head = self.unpublished.as_ref().filter(|_| self.published.is_none_or(|at| at.elapsed() >= PUBLISH_EVERY));
        let due = match self.options.durability {
            Durability::Batch => self.last_sync.elapsed() >= SYNC_EVERY,
            Durability::Each => true,
            Durability::Os => false,
        };
        if head.is_some() || !self.waiting_for_sync.is_empty() || due && self.segment.unsynced() {
            self.segment.sync()?;
            self.last_sync = Instant::now();
            answer(&mut self.waiting_for_sync);
        } else if self.options.durability == Durability::Os {
            self.segment.settle();
        }
        if let Some(note) = head {
            self.folder.write_head(note)?;
            self.shared.last_head_s.store(self.shared.now_ms() / 1000, Relaxed);
            self.unpublished = None;
            self.published = Some(Instant::now());
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
            self.published = None;
            self.write()?;
            self.sync_and_publish()?;
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
