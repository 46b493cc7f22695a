//! Follows the segments of the log: whole lines only, from one segment to the next, whatever writes them.
use crate::store::audit;
use anyhow::{Context, Result};
use notify::Watcher;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::{Duration, UNIX_EPOCH};

/// How far back to look for the last lines, in bytes.
const LOOK_BACK: u64 = 16 << 20;
/// Longest line to wait for the end of; what is longer is no line of the log.
const LONGEST: usize = 1 << 20;

/// Why to look at the files again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// Something in the folder changed.
    Changed,
    /// Ctrl-C.
    Stop,
}

/// Tells of changes in the folder; `None` where the system cannot.
pub(super) fn watch(directory: &Path, wake: Sender<Wake>) -> Option<notify::RecommendedWatcher> {
    let tell = move |_: notify::Result<notify::Event>| {
        // Whoever does not listen any more is about to end.
        let _ = wake.send(Wake::Changed);
    };
    let mut watcher = notify::recommended_watcher(tell).ok()?;
    watcher.watch(directory, notify::RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}

/// Makes Ctrl-C an orderly end. Where that cannot be had, the process dies by it as any other.
pub(super) fn on_interrupt(wake: Sender<Wake>) {
    let wait = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(tokio::signal::ctrl_c())?;
        let _ = wake.send(Wake::Stop);
        io::Result::Ok(())
    };
    let _ = std::thread::Builder::new().name("interrupt".to_owned()).spawn(wait);
}

/// Where the reading stands.
#[derive(Debug)]
pub(super) struct Follower {
    directory: PathBuf,
    /// First sequence number of the segment that is read.
    first: u64,
    file: Option<BufReader<File>>,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
    /// Bytes of the segment that were read.
    offset: u64,
}

impl Follower {
    /// Stands at the end of the log; the lines before it, from `since` on or from as far back as is looked.
    pub fn begin(directory: &Path, since_ms: Option<u64>) -> Result<(Follower, Vec<Vec<u8>>)> {
        let segments = audit::segments(directory).context("the audit log")?;
        let mut follower =
            Follower { directory: directory.to_owned(), first: 0, file: None, rest: Vec::new(), offset: 0 };
        let (mut wanted, mut budget) = (Vec::new(), LOOK_BACK);
        for (first, path) in segments.into_iter().rev() {
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            let written =
                meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or(Duration::MAX);
            let wanted_whole = since_ms.is_some_and(|since| written >= Duration::from_millis(since));
            let skip = if wanted_whole { 0 } else { meta.len().saturating_sub(budget) };
            if (since_ms.is_some() && !wanted_whole || budget == 0) && !wanted.is_empty() {
                break;
            }
            budget = budget.saturating_sub(meta.len());
            wanted.push((first, skip));
        }
        let mut lines = Vec::new();
        for (first, skip) in wanted.into_iter().rev() {
            follower.open(first)?;
            let Some(file) = &mut follower.file else { continue };
            if skip > 0 {
                follower.offset = file.seek(SeekFrom::Start(skip))?;
                let mut partial = Vec::new();
                follower.offset += file.read_until(b'\n', &mut partial)? as u64;
            }
            follower.drain(&mut |line| {
                lines.push(line.to_vec());
                Ok(())
            })?;
        }
        Ok((follower, lines))
    }

    /// Reads on to the end of the log, over as many segments as there are.
    pub fn read(&mut self, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
        loop {
            // Listed before the current one is drained: when a next one exists, the current one is complete.
            let segments = audit::segments(&self.directory).context("the audit log")?;
            self.drain(each)?;
            let Some((next, _)) = segments.into_iter().find(|(first, _)| *first > self.first) else { return Ok(()) };
            self.open(next)?;
        }
    }

    fn open(&mut self, first: u64) -> Result<()> {
        let segments = audit::segments(&self.directory).context("the audit log")?;
        let Some((_, path)) = segments.into_iter().find(|(other, _)| *other == first) else {
            // Retention was faster.
            (self.first, self.file, self.offset) = (first, None, 0);
            return Ok(());
        };
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        (self.first, self.file, self.offset) = (first, Some(BufReader::new(file)), 0);
        self.rest.clear();
        Ok(())
    }

    fn drain(&mut self, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if file.get_ref().metadata()?.len() < self.offset {
            // A gateway that starts cuts off the half line that its predecessor died over.
            self.offset = file.seek(SeekFrom::End(0))?;
            self.rest.clear();
        }
        loop {
            let read = file.read_until(b'\n', &mut self.rest)?;
            self.offset += read as u64;
            match self.rest.split_last() {
                Some((b'\n', line)) => each(line)?,
                _ if read == 0 && self.rest.len() < LONGEST => return Ok(()),
                _ if self.rest.len() < LONGEST => continue,
                _ => {}
            }
            self.rest.clear();
        }
    }
}
