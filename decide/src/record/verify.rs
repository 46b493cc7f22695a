//! Verification of a log: a fold over its lines that stops at the first one that is not what was written.
#[cfg(test)]
mod tests;

use super::chain::{BODY, Chain, END, HASH, Hash, PREV, SEQ};
use super::head::{Head, HeadError, VerifyKeys};
use super::time;
use serde::Deserialize;
use std::borrow::Cow;

/// Follows a log line by line.
#[derive(Debug)]
pub struct Verifier {
    keys: Option<VerifyKeys>,
    chain: Option<Chain>,
    anchor: Chain,
    attested: bool,
    expected: Vec<(Head, bool)>,
    own_ms: u64,
    report: Report,
}

/// What was found in a log without flaw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// First sequence number; 0 for an empty log.
    pub first: u64,
    /// The last entry's sequence number and hash.
    pub last: Chain,
    /// Number of `request` entries.
    pub requests: u64,
    /// Number of `intent` entries.
    pub intents: u64,
    /// Number of `system` entries.
    pub system: u64,
    /// Number of `head` entries whose signature was verified.
    pub heads: u64,
    /// The last sequence number that a verified head covers.
    pub signed_to: u64,
    /// The earliest time of an entry, milliseconds since the Unix epoch.
    pub first_ms: u64,
    /// The latest.
    pub last_ms: u64,
    /// How often the gateway's own entries go back in time by more than a second. Requests bear the time of their
    /// beginning and end in any order, so they do not count; and clocks are set back, so this is noted and no flaw.
    pub backwards: u64,
    /// Requests that were refused without an entry, by the log's own account.
    pub refused_unlogged: u64,
    /// Requests that share an entry with others of their kind (`folded`).
    pub folded: u64,
    /// Whether the last system entry but heartbeats is an orderly `stop`.
    pub stopped: bool,
}

impl Report {
    /// Number of entries.
    pub fn entries(&self) -> u64 {
        if self.first == 0 { 0 } else { self.last.seq - self.first + 1 }
    }
}

/// The first thing that is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq}: {reason}")]
pub struct Flaw {
    /// The sequence number that the entry should have.
    pub seq: u64,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What can be wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The line has no newline: it was not written to its end.
    #[error("the line is not complete")]
    Torn,
    /// The line does not have the documented frame.
    #[error("the line does not have the form of an entry")]
    Form,
    /// The line is not JSON, or lacks what every entry has.
    #[error("the line is not JSON of an entry: {0}")]
    Json(String),
    /// Entries are missing, repeated or in another order.
    #[error("the sequence number is {found}")]
    Sequence {
        /// What the line says.
        found: u64,
    },
    /// The line names another predecessor.
    #[error("the predecessor's hash is not the one that the line names")]
    Predecessor,
    /// The line was changed.
    #[error("the line does not have the hash that it names")]
    Changed,
    /// A head cannot be trusted.
    #[error("{0}")]
    Head(#[from] HeadError),
    /// A head is signed, but about another chain.
    #[error("a signed head disagrees with the log")]
    Disagreement,
    /// The log ends before a signed head.
    #[error("the log ends here, but a signed head covers {size} entries: the tail was cut")]
    Cut {
        /// What the head covers.
        size: u64,
    },
    /// A head is about entries that are no longer kept.
    #[error("a head covers {size} entries, of which the last is no longer kept: it cannot be compared")]
    Older {
        /// What the head covers.
        size: u64,
    },
    /// The log does not begin with its first entry, and no retention entry says why.
    #[error("entries before this one are missing, and no retention entry accounts for them")]
    Beginning,
    /// Nothing in the log is signed.
    #[error("no signed head is in the log")]
    Unsigned,
}

/// One line, taken apart; its hash fits.
#[derive(Debug)]
pub struct Line<'a> {
    /// Its sequence number and hash.
    pub chain: Chain,
    /// Its predecessor's hash.
    pub prev: Hash,
    body: Body<'a>,
}

/// What verification needs of an entry's members.
#[derive(Debug, Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    time: Cow<'a, str>,
    kind: Kind,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    note: Option<Cow<'a, str>>,
    #[serde(borrow)]
    detail: Option<Detail<'a>>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Request,
    Intent,
    System,
    Head,
}

#[derive(Debug, Deserialize)]
struct Detail<'a> {
    first: Option<u64>,
    #[serde(borrow)]
    prev: Option<Cow<'a, str>>,
    refused: Option<u64>,
    requests: Option<u64>,
}

impl<'a> Line<'a> {
    /// Takes a line apart, newline included, and checks it against its own hash.
    pub fn read(line: &'a [u8]) -> Result<Line<'a>, Reason> {
        if line.last() != Some(&b'\n') {
            return Err(Reason::Torn);
        }
        let (seq, prev, hashed, hash) = frame(line).ok_or(Reason::Form)?;
        if Hash::of(hashed) != hash {
            return Err(Reason::Changed);
        }
        let text = std::str::from_utf8(line).map_err(|err| Reason::Json(err.to_string()))?;
        let body = serde_json::from_str(text).map_err(|err| Reason::Json(err.to_string()))?;
        Ok(Line { chain: Chain { seq, hash }, prev, body })
    }

    /// When it was written, milliseconds since the Unix epoch; `None` where the time is not in the documented form.
    pub fn time_ms(&self) -> Option<u64> {
        time::parse(&self.body.time)
    }
}

/// Sequence number, predecessor's hash, the bytes that are hashed, and the hash.
fn frame(line: &[u8]) -> Option<(u64, Hash, &[u8], Hash)> {
    let (hashed, tail) = line.split_at_checked(line.len().checked_sub(HASH.len() + 64 + END.len())?)?;
    let hash = Hash::parse(tail.strip_prefix(HASH)?.strip_suffix(END)?)?;
    let rest = hashed.strip_prefix(SEQ)?;
    let (digits, rest) = rest.split_at_checked(rest.iter().position(|b| !b.is_ascii_digit())?)?;
    let canonical = matches!(digits, [b'1'..=b'9', ..]);
    let seq: u64 = std::str::from_utf8(digits).ok().filter(|_| canonical)?.parse().ok()?;
    // The greatest number has no successor.
    let seq = Some(seq).filter(|seq| *seq < u64::MAX)?;
    let (prev, rest) = rest.strip_prefix(PREV)?.split_at_checked(64)?;
    rest.strip_prefix(BODY)?;
    Some((seq, Hash::parse(prev)?, hashed, hash))
}

impl Verifier {
    /// A verifier that demands signed heads, by one of `keys`.
    pub fn new(keys: VerifyKeys) -> Verifier {
        Verifier { keys: Some(keys), ..Verifier::chain_only() }
    }

    /// A verifier for a part of a log: it follows the chain and believes its beginning, and no signature is looked at.
    pub fn chain_only() -> Verifier {
        Verifier {
            keys: None,
            chain: None,
            anchor: Chain::default(),
            attested: false,
            expected: Vec::new(),
            own_ms: 0,
            report: Report::default(),
        }
    }

    /// Also demands that the log holds the very entry that a head, kept elsewhere, speaks of.
    pub fn expect(&mut self, head: Head) {
        self.expected.push((head, false));
    }

    /// Where the chain stands after the lines so far; `None` before the first.
    pub fn chain(&self) -> Option<Chain> {
        self.chain
    }

    /// Takes the next line, newline included.
    pub fn line<'a>(&mut self, line: &'a [u8]) -> Result<Line<'a>, Flaw> {
        let expected = self.chain.map(|chain| chain.seq + 1);
        let line = Line::read(line).map_err(|reason| Flaw { seq: expected.unwrap_or(1), reason })?;
        self.take(&line).map_err(|reason| Flaw { seq: expected.unwrap_or(line.chain.seq), reason })?;
        Ok(line)
    }

    /// Fits a line to those before it.
    fn take(&mut self, line: &Line<'_>) -> Result<(), Reason> {
        let seq = line.chain.seq;
        match self.chain {
            None => {
                self.anchor = Chain { seq: seq - 1, hash: line.prev };
                self.attested = seq == 1;
                if self.attested && line.prev != Hash::default() {
                    return Err(Reason::Predecessor);
                }
                self.meet(self.anchor)?;
            }
            Some(chain) if chain.seq + 1 != seq => return Err(Reason::Sequence { found: seq }),
            Some(chain) if chain.hash != line.prev => return Err(Reason::Predecessor),
            Some(_) => {}
        }
        let Some(time_ms) = line.time_ms() else {
            return Err(Reason::Json(format!("`{}` is not a time", line.body.time.escape_debug())));
        };
        self.account(line)?;
        self.meet(line.chain)?;
        if self.chain.is_none() {
            self.report.first = seq;
            self.report.first_ms = time_ms;
        }
        self.report.first_ms = self.report.first_ms.min(time_ms);
        self.report.last_ms = self.report.last_ms.max(time_ms);
        if matches!(line.body.kind, Kind::System | Kind::Head) {
            self.report.backwards += u64::from(time_ms + 1000 < self.own_ms);
            self.own_ms = time_ms;
        }
        self.report.last = line.chain;
        self.chain = Some(line.chain);
        Ok(())
    }

    /// What is wrong with the log as a whole, now that there are no more lines.
    pub fn finish(self) -> Result<Report, Flaw> {
        let seq = self.report.last.seq;
        let fail = |seq, reason| Err(Flaw { seq, reason });
        for (head, met) in &self.expected {
            match (met, head.size) {
                (true, _) | (_, 0) => {}
                (false, size) if size > seq => return fail(seq + 1, Reason::Cut { size }),
                (false, size) => return fail(size, Reason::Older { size }),
            }
        }
        if self.keys.is_some() {
            if self.report.first != 0 && !self.attested {
                return fail(self.report.first, Reason::Beginning);
            }
            if self.report.heads == 0 {
                return fail(seq + 1, Reason::Unsigned);
            }
        }
        Ok(self.report)
    }

    /// Counts the line, and reads those that speak about the log itself.
    fn account(&mut self, line: &Line<'_>) -> Result<(), Reason> {
        match line.body.kind {
            Kind::Request => self.report.requests += 1,
            Kind::Intent => self.report.intents += 1,
            Kind::Head => self.head(line)?,
            Kind::System => {
                self.report.system += 1;
                let event = line.body.event.as_deref();
                let detail = line.body.detail.as_ref();
                if let (Some("retention"), Some(detail)) = (event, detail) {
                    let prev = detail.prev.as_deref().and_then(|prev| Hash::parse(prev.as_bytes()));
                    let first = detail.first.and_then(|first| first.checked_sub(1));
                    self.attested |= first.zip(prev) == Some((self.anchor.seq, self.anchor.hash));
                }
                if let (Some("gap"), Some(refused)) = (event, detail.and_then(|detail| detail.refused)) {
                    self.report.refused_unlogged = self.report.refused_unlogged.saturating_add(refused);
                }
                if let (Some("folded"), Some(requests)) = (event, detail.and_then(|detail| detail.requests)) {
                    self.report.folded = self.report.folded.saturating_add(requests);
                }
                if event != Some("heartbeat") {
                    self.report.stopped = event == Some("stop");
                }
            }
        }
        Ok(())
    }

    /// A head speaks of the entries before it.
    fn head(&mut self, line: &Line<'_>) -> Result<(), Reason> {
        let Some(keys) = &self.keys else { return Ok(()) };
        let note = line.body.note.as_deref().ok_or(HeadError::Malformed)?;
        let head = Head::open(note, keys)?;
        if head.size.checked_add(1) != Some(line.chain.seq) || head.root != line.prev {
            return Err(Reason::Disagreement);
        }
        self.report.heads += 1;
        self.report.signed_to = head.size;
        Ok(())
    }

    /// Compares the chain with the heads that are expected.
    fn meet(&mut self, chain: Chain) -> Result<(), Reason> {
        for (head, met) in self.expected.iter_mut().filter(|(head, _)| head.size == chain.seq) {
            if head.root != chain.hash {
                return Err(Reason::Disagreement);
            }
            *met = true;
        }
        Ok(())
    }
}
