//! Verification of a folder: the lines of all segments through [`Verifier`], with file and line of what is wrong.
use super::fault::AuditFault;
use super::folder::{self, HEAD};
use decide::record::verify::Reason;
use decide::record::{Flaw, Head, Report, Verifier, VerifyKeys};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Longest line that is read. Ours are a few KiB; a file without line feeds must not fill the memory.
pub(super) const MAX_LINE: u64 = 1 << 20;

/// A log in which everything is as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Counts, times, and what is signed.
    pub report: Report,
    /// Number of segments.
    pub segments: usize,
    /// Bytes of a line that a running gateway is writing at this moment; not verified.
    pub unfinished: u64,
    /// Unfinished lines that were set aside at a start.
    pub set_aside: usize,
}

/// Why a log is not verified.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It is not what was written.
    #[error("{}:{line}: {flaw}", path.display())]
    Flawed {
        /// The segment.
        path: PathBuf,
        /// The line, from 1; 0 where a line is missing.
        line: u64,
        /// What is wrong.
        flaw: Flaw,
    },
    /// The signed head beside the segments is absent or cannot be trusted.
    #[error("{}: {reason}", path.display())]
    Head {
        /// The head.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] AuditFault),
}

/// Verifies the segments of a folder against each other, against the signed head beside them, and against heads that
/// were kept elsewhere. Looks at one line at a time, whatever the size of the log; a running gateway does not disturb.
pub fn verify(directory: &Path, keys: &VerifyKeys, heads: &[PathBuf]) -> Result<Verified, Broken> {
    let mut verifier = Verifier::new(keys.clone());
    // The heads come first: a running gateway may write more entries meanwhile, but never fewer.
    for path in heads.iter().cloned().chain([directory.join(HEAD)]) {
        let note = fs::read_to_string(&path);
        let note = note.map_err(|error| Broken::Head { path: path.clone(), reason: error.to_string() })?;
        verifier.expect(Head::open(&note, keys).map_err(|error| Broken::Head { path, reason: error.to_string() })?);
    }
    let running = folder::is_locked(directory);
    let paths = segments(directory)?;
    let mut verified = Verified { report: Report::default(), segments: paths.len(), unfinished: 0, set_aside: 0 };
    let mut place = (directory.to_owned(), 0);
    for (i, (first, path)) in paths.iter().enumerate() {
        let mut reader = BufReader::with_capacity(1 << 18, File::open(path).map_err(AuditFault::io(path))?);
        let (mut line, mut bytes) = (0, Vec::new());
        loop {
            bytes.clear();
            if read_line(&mut reader, &mut bytes).map_err(AuditFault::io(path))? == 0 {
                break;
            }
            line += 1;
            if bytes.last() != Some(&b'\n') && running && i + 1 == paths.len() {
                verified.unfinished = bytes.len() as u64;
                break;
            }
            let flawed = |flaw| Broken::Flawed { path: path.clone(), line, flaw };
            let entry = verifier.line(&bytes).map_err(flawed)?;
            if line == 1 && entry.chain.seq != *first {
                return Err(flawed(Flaw { seq: *first, reason: Reason::Sequence { found: entry.chain.seq } }));
            }
        }
        place = (path.clone(), line);
    }
    let (path, line) = place;
    verified.report = verifier.finish().map_err(|flaw| Broken::Flawed { path, line, flaw })?;
    verified.set_aside = set_aside(directory).map_err(AuditFault::io(directory))?;
    Ok(verified)
}

/// First sequence number and path of each segment, in order.
pub fn segments(directory: &Path) -> Result<Vec<(u64, PathBuf)>, AuditFault> {
    let firsts = folder::list(directory).map_err(AuditFault::io(directory))?;
    Ok(firsts.into_iter().map(|first| (first, folder::segment_path(directory, first))).collect())
}

/// Reads public keys of heads, one per line.
pub fn read_keys(path: &Path) -> Result<VerifyKeys, AuditFault> {
    let text = fs::read_to_string(path).map_err(AuditFault::io(path))?;
    VerifyKeys::parse(&text).map_err(|line| AuditFault::Key {
        path: path.to_owned(),
        reason: format!("line {line} is not a key of the form NAME+ID+BASE64"),
    })
}

/// Reads a line, at most a little more than [`MAX_LINE`] of it; returns the number of bytes.
pub(super) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    reader.by_ref().take(MAX_LINE + 1).read_until(b'\n', line)
}

fn set_aside(directory: &Path) -> io::Result<usize> {
    let names = fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name()));
    let names: Vec<_> = names.collect::<io::Result<_>>()?;
    Ok(names.iter().filter(|name| name.to_string_lossy().contains(".jsonl.torn-")).count())
}
