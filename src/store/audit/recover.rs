//! What a start finds: the newest segment checked whole, an unfinished last line set aside, anything else refused.
use super::fault::AuditFault;
use super::folder::{self, Folder, HEAD, sync_folder};
use super::verify::{MAX_LINE, read_line};
use decide::record::verify::{Line, Reason};
use decide::record::{Chain, Ended, Flaw, Head, Verifier, VerifyKeys};
use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where the log stands.
#[derive(Debug)]
pub(super) struct Found {
    pub chain: Chain,
    pub ended: Ended,
    /// First sequence number of the newest segment, and its length up to the last whole entry.
    pub newest: Option<(u64, u64)>,
    /// The closed segments before it.
    pub closed: Vec<u64>,
    /// Name and length of the file that took an unfinished line.
    pub torn: Option<(String, u64)>,
}

/// Reads the newest segment and fits it to its predecessor and to the signed head.
pub(super) fn recover(folder: &Folder, keys: &VerifyKeys) -> Result<Found, AuditFault> {
    let mut closed = folder::list(folder.path()).map_err(AuditFault::io(folder.path()))?;
    let head = read_head(&folder.path().join(HEAD), keys)?;
    let Some(first) = closed.pop() else {
        let found = Found { chain: Chain::default(), ended: Ended::Never, newest: None, closed, torn: None };
        agree(folder, head.as_ref(), found.chain)?;
        return Ok(found);
    };
    let path = folder.segment(first);
    let before = closed.last().map(|before| last_entry(&folder.segment(*before))).transpose()?.map(|(chain, _)| chain);
    let mut verifier = Verifier::chain_only();
    if let Some(head) = head.clone().filter(|head| head.size + 1 >= first) {
        verifier.expect(head);
    }
    let (len, torn) = follow(&path, &mut verifier, first, before)?;
    let chain = match (verifier.chain(), before) {
        (Some(chain), _) => chain,
        (None, Some(before)) if before.seq + 1 == first => before,
        (None, None) if first == 1 => Chain::default(),
        (None, _) => return Err(inconsistent(&path, "the segment is empty, and none before it ends where it begins")),
    };
    agree(folder, head.as_ref(), chain)?;
    let stopped = verifier.finish().is_ok_and(|report| report.stopped);
    let torn = if torn.is_empty() { None } else { Some(set_aside(&path, chain.seq + 1, len, &torn)?) };
    let ended = if stopped && torn.is_none() { Ended::Orderly } else { Ended::Abruptly };
    Ok(Found { chain, ended, newest: Some((first, len)), closed, torn })
}

/// Follows a segment to the end of its last whole line. Returns that length and the bytes behind it.
fn follow(
    path: &Path,
    verifier: &mut Verifier,
    first: u64,
    before: Option<Chain>,
) -> Result<(u64, Vec<u8>), AuditFault> {
    let mut reader = BufReader::new(File::open(path).map_err(AuditFault::io(path))?);
    let (mut len, mut number, mut bytes) = (0, 0, Vec::new());
    loop {
        bytes.clear();
        read_line(&mut reader, &mut bytes).map_err(AuditFault::io(path))?;
        if bytes.last() != Some(&b'\n') {
            if bytes.len() as u64 > MAX_LINE {
                let flaw = Flaw { seq: verifier.chain().map_or(first, |chain| chain.seq + 1), reason: Reason::Form };
                return Err(AuditFault::Damaged { path: path.to_owned(), line: number + 1, flaw });
            }
            return Ok((len, bytes));
        }
        number += 1;
        let starting = verifier.chain().is_none();
        let damaged = |flaw| AuditFault::Damaged { path: path.to_owned(), line: number, flaw };
        let line = verifier.line(&bytes).map_err(damaged)?;
        if starting {
            let flaw = |reason| damaged(Flaw { seq: first, reason });
            if line.chain.seq != first {
                return Err(flaw(Reason::Sequence { found: line.chain.seq }));
            }
            if before.is_some_and(|before| before.seq + 1 != first || before.hash != line.prev) {
                return Err(flaw(Reason::Predecessor));
            }
        }
        len += bytes.len() as u64;
    }
}

/// A segment's last entry and when it was written, milliseconds since the Unix epoch; however long the segment, only
/// its end is read.
pub(super) fn last_entry(path: &Path) -> Result<(Chain, u64), AuditFault> {
    let io = || AuditFault::io(path);
    let mut file = File::open(path).map_err(io())?;
    let len = file.metadata().map_err(io())?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(MAX_LINE))).map_err(io())?;
    let mut bytes = Vec::new();
    file.take(MAX_LINE).read_to_end(&mut bytes).map_err(io())?;
    let line = bytes.split_inclusive(|byte| *byte == b'\n').next_back().unwrap_or_default();
    let line = Line::read(line).map_err(|reason| inconsistent(path, &format!("its last line: {reason}")))?;
    Ok((line.chain, line.time_ms().unwrap_or(u64::MAX)))
}

/// Moves an unfinished line into a file of its own, and cuts it off only when it is safe there.
fn set_aside(path: &Path, seq: u64, len: u64, torn: &[u8]) -> Result<(String, u64), AuditFault> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside = (0..1000).find_map(|attempt| {
        let suffix = if attempt == 0 { String::new() } else { format!(".{attempt}") };
        let name = format!("{name}.torn-{seq}{suffix}");
        let aside = path.with_file_name(&name);
        (!aside.exists()).then_some((name, aside))
    });
    let (name, aside) = aside.ok_or_else(|| inconsistent(path, "too many unfinished lines were set aside"))?;
    let copy = |to: &PathBuf| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        file.write_all(torn)?;
        file.sync_all()?;
        to.parent().map_or(Ok(()), sync_folder)
    };
    copy(&aside).map_err(AuditFault::io(&aside))?;
    let file = OpenOptions::new().write(true).open(path).map_err(AuditFault::io(path))?;
    file.set_len(len).and_then(|()| file.sync_all()).map_err(AuditFault::io(path))?;
    Ok((name, torn.len() as u64))
}

/// Reads the signed head beside the segments.
fn read_head(path: &Path, keys: &VerifyKeys) -> Result<Option<Head>, AuditFault> {
    if !path.exists() {
        return Ok(None);
    }
    let note = fs::read_to_string(path).map_err(AuditFault::io(path))?;
    Head::open(&note, keys).map(Some).map_err(|error| inconsistent(path, &error.to_string()))
}

/// A head is written when what it covers is on the disk, so no crash puts it ahead of the log.
fn agree(folder: &Folder, head: Option<&Head>, chain: Chain) -> Result<(), AuditFault> {
    let Some(head) = head else { return Ok(()) };
    let reason = if head.size > chain.seq {
        format!(
            "the signed head covers {} entries, and the log ends with entry {}: its tail was cut",
            head.size, chain.seq
        )
    } else if head.size == chain.seq && head.root != chain.hash {
        format!("the signed head disagrees with entry {}", chain.seq)
    } else {
        return Ok(());
    };
    Err(inconsistent(&folder.path().join(HEAD), &reason))
}

fn inconsistent(path: &Path, reason: &str) -> AuditFault {
    AuditFault::Inconsistent { path: path.to_owned(), reason: reason.to_owned() }
}
