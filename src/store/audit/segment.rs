//! The segment that is being written: what is safe, what is written, what is not, and the way back after a failure.
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What stays in memory for whoever follows the log, such as a shipper that is some seconds behind.
const FOLLOWED: u64 = 16 << 20;
/// Size of the pages in which the kernel keeps files, or a multiple of it.
const PAGE: u64 = 4096;

/// Bytes of a buffer that stay its own when a burst is over.
const KEPT: usize = 1 << 20;

/// What entries are appended to; a seam for tests that let it fail. One thread syncs while another appends.
pub(super) trait Medium: Send + Sync {
    /// Appends some of the bytes; returns how many.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Cuts off everything behind the first `len` bytes.
    fn cut(&self, len: u64) -> io::Result<()>;
    /// Waits until what was appended before is on the disk.
    fn sync(&self) -> io::Result<()>;
    /// Lets the kernel's memory of these bytes go, which are on the disk.
    fn forget(&self, from: u64, to: u64);
}

impl Medium for File {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn forget(&self, from: u64, to: u64) {
        if let Some(len) = NonZeroU64::new(to.saturating_sub(from)) {
            // No file system has to listen.
            let _ = fadvise(self, from, Some(len), Advice::DontNeed);
        }
    }
}

/// The open segment.
///
/// Lines stay in memory until they are synced: after a failed sync, the kernel may have dropped pages that it calls
/// clean, so the only sure way is to cut back to what was synced and write the rest again. That holds for what was
/// appended while the sync was under way too.
pub(super) struct Segment {
    /// Sequence number of its first entry.
    pub first: u64,
    medium: Arc<dyn Medium>,
    safe: u64,
    /// Bytes at the front that the kernel need not keep in memory any more.
    forgotten: u64,
    /// What the sync under way covers, and when it began.
    syncing: Vec<u8>,
    began: Option<Instant>,
    /// What comes behind that, and how much of it is written.
    pending: Vec<u8>,
    written: usize,
    /// When the oldest of what is written and not synced was written, or before.
    written_at: Option<Instant>,
    torn: bool,
}

impl Segment {
    /// A segment of which `len` bytes are whole entries on the disk.
    pub fn new(first: u64, medium: Arc<dyn Medium>, len: u64) -> Segment {
        Segment {
            first,
            medium,
            safe: len,
            forgotten: 0,
            syncing: Vec::new(),
            began: None,
            pending: Vec::new(),
            written: 0,
            written_at: None,
            torn: false,
        }
    }

    /// Bytes of the file, once everything is written.
    pub fn len(&self) -> u64 {
        self.safe + (self.syncing.len() + self.pending.len()) as u64
    }

    /// Bytes that are in the file.
    fn in_file(&self) -> u64 {
        self.safe + (self.syncing.len() + self.written) as u64
    }

    /// Where lines are to be appended.
    pub fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Whether something is written that no sync covers, not even one under way.
    pub fn unsynced(&self) -> bool {
        self.written > 0
    }

    /// Whether something is not written.
    pub fn unwritten(&self) -> bool {
        self.pending.len() > self.written
    }

    /// Whether so much, or something so old, is written and not synced.
    pub fn behind(&self, bytes: usize, age: Duration) -> bool {
        self.syncing.len() + self.written >= bytes || self.written_at.is_some_and(|at| at.elapsed() >= age)
    }

    /// Writes all lines to the file. After a failure the file ends with a whole entry, or will as soon as the disk lets
    /// it; the next call goes on from there.
    pub fn write(&mut self) -> io::Result<()> {
        if self.torn {
            self.medium.cut(self.in_file())?;
            self.torn = false;
        }
        let mut done = self.written;
        while let Some(rest) = self.pending.get(done..).filter(|rest| !rest.is_empty()) {
            match self.medium.append(rest) {
                Ok(0) => return self.tear(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.tear(error),
            }
        }
        if done > self.written {
            self.written = done;
            self.written_at.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// A part of a line may be in the file now; it is cut off at once where possible, so that a reader or the next
    /// process finds whole entries only.
    fn tear(&mut self, error: io::Error) -> io::Result<()> {
        self.torn = self.medium.cut(self.in_file()).is_err();
        Err(error)
    }

    /// Begins a sync of what is written: the file is to be synced, and [`Segment::synced`] told how that went.
    pub fn sync(&mut self, now: Instant) -> Arc<dyn Medium> {
        // The buffers change places, so that nothing is copied: as a rule all is written.
        self.syncing.extend_from_slice(self.pending.get(self.written..).unwrap_or_default());
        self.pending.truncate(self.written);
        std::mem::swap(&mut self.syncing, &mut self.pending);
        self.written = 0;
        self.began = Some(now);
        Arc::clone(&self.medium)
    }

    /// The sync under way has ended.
    pub fn synced(&mut self, result: io::Result<()>) -> io::Result<()> {
        let began = self.began.take();
        if let Err(error) = result {
            self.syncing.append(&mut self.pending);
            std::mem::swap(&mut self.syncing, &mut self.pending);
            self.written = 0;
            self.written_at = None;
            self.torn = true;
            return Err(error);
        }
        let bytes = self.syncing.len();
        self.safe += bytes as u64;
        self.syncing.clear();
        // A buffer as large as the last one is not made anew each time.
        self.syncing.shrink_to(KEPT.max(2 * bytes));
        // What came since was written after the beginning.
        self.written_at = began.filter(|_| self.written > 0);
        // A log that nobody reads is not to push out of memory what others read, and what is written next finds warm pages.
        // The newest stays: it is read by whoever follows the log, and the page that is not full is written to again.
        let old = self.safe.saturating_sub(FOLLOWED) / PAGE * PAGE;
        if old > self.forgotten {
            self.medium.forget(self.forgotten, old);
            self.forgotten = old;
        }
        Ok(())
    }

    /// Forgets what was written, trusting the operating system with it. Not while a sync is under way, which may fail.
    pub fn settle(&mut self) {
        if self.began.is_none() {
            self.safe += self.written as u64;
            self.pending.drain(..self.written);
            self.pending.shrink_to(KEPT);
            self.written = 0;
            self.written_at = None;
        }
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment").field("first", &self.first).field("len", &self.len()).finish_non_exhaustive()
    }
}
