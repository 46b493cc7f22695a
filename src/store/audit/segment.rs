//! The segment that is being written: what is safe, what is written, what is not, and the way back after a failure.
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;

/// What stays in memory for whoever follows the log, such as a shipper that is some seconds behind.
const FOLLOWED: u64 = 16 << 20;
/// Size of the pages in which the kernel keeps files, or a multiple of it.
const PAGE: u64 = 4096;

/// What entries are appended to; a seam for tests that let it fail.
pub(super) trait Medium: Send {
    /// Appends some of the bytes; returns how many.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Cuts off everything behind the first `len` bytes.
    fn cut(&mut self, len: u64) -> io::Result<()>;
    /// Waits until what was appended is on the disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Lets the kernel's memory of these bytes go, which are on the disk.
    fn forget(&mut self, from: u64, to: u64);
}

impl Medium for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn forget(&mut self, from: u64, to: u64) {
        if let Some(len) = NonZeroU64::new(to.saturating_sub(from)) {
            // No file system has to listen.
            let _ = fadvise(&*self, from, Some(len), Advice::DontNeed);
        }
    }
}

/// The open segment.
///
/// Lines stay in `pending` until they are synced: after a failed sync, the kernel may have dropped pages that it calls
/// clean, so the only sure way is to cut back to what was synced and write the rest again.
pub(super) struct Segment {
    /// Sequence number of its first entry.
    pub first: u64,
    medium: Box<dyn Medium>,
    safe: u64,
    /// Bytes at the front that the kernel need not keep in memory any more.
    forgotten: u64,
    pending: Vec<u8>,
    written: usize,
    torn: bool,
}

impl Segment {
    /// A segment of which `len` bytes are whole entries on the disk.
    pub fn new(first: u64, medium: Box<dyn Medium>, len: u64) -> Segment {
        Segment { first, medium, safe: len, forgotten: 0, pending: Vec::new(), written: 0, torn: false }
    }

    /// Bytes of the file, once everything is written.
    pub fn len(&self) -> u64 {
        self.safe + self.pending.len() as u64
    }

    /// Where lines are to be appended.
    pub fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Whether something is written and not synced.
    pub fn unsynced(&self) -> bool {
        self.written > 0
    }

    /// Whether something is not written.
    pub fn unwritten(&self) -> bool {
        self.pending.len() > self.written
    }

    /// Writes all lines to the file. After a failure the file ends with a whole entry, or will as soon as the disk lets
    /// it; the next call goes on from there.
    pub fn write(&mut self) -> io::Result<()> {
        if self.torn {
            self.medium.cut(self.safe + self.written as u64)?;
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
        self.written = done;
        Ok(())
    }

    /// A part of a line may be in the file now; it is cut off at once where possible, so that a reader or the next
    /// process finds whole entries only.
    fn tear(&mut self, error: io::Error) -> io::Result<()> {
        self.torn = self.medium.cut(self.safe + self.written as u64).is_err();
        Err(error)
    }

    /// Waits until what was written is on the disk.
    pub fn sync(&mut self) -> io::Result<()> {
        if let Err(error) = self.medium.sync() {
            self.written = 0;
            self.torn = true;
            return Err(error);
        }
        self.settle();
        // A log that nobody reads is not to push out of memory what others read, and what is written next finds warm pages.
        // The newest stays: it is read by whoever follows the log, and the page that is not full is written to again.
        let old = self.safe.saturating_sub(FOLLOWED) / PAGE * PAGE;
        if old > self.forgotten {
            self.medium.forget(self.forgotten, old);
            self.forgotten = old;
        }
        Ok(())
    }

    /// Forgets what was written, trusting the operating system with it.
    pub fn settle(&mut self) {
        self.safe += self.written as u64;
        self.pending.drain(..self.written);
        self.pending.shrink_to(1 << 20);
        self.written = 0;
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment").field("first", &self.first).field("len", &self.len()).finish_non_exhaustive()
    }
}
