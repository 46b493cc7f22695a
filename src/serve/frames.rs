//! Reads along with the bytes of an HTTP/2 connection, both ways: what the codec hides, and what floods are made of.
mod stall;
mod unsent;

pub(crate) use stall::Patience;
pub(crate) use unsent::{LEFT_BEHIND, Unsent};

use decide::frames::{Bucket, Flood, Inbound, Limits, Outbound, Said, Verdict};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Requests of one connection that may be refused for their form at once; [`MALFORMED_PER_SECOND`] from then on.
pub(crate) const MALFORMED: u32 = 16;
pub(crate) const MALFORMED_PER_SECOND: f64 = 0.25;

/// How late it is for budgets: time since the process began to ask.
pub(crate) fn clock() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// Reads along. It belongs to the connection's stream, and tells [`Watch`] what there is to know.
#[derive(Debug)]
pub(crate) struct Frames {
    inbound: Inbound,
    outbound: Outbound,
    malformed: Bucket,
    refused: Bucket,
    over: bool,
    in_headers: bool,
    watch: Arc<Watch>,
    unsent: Arc<Unsent>,
}

/// What was seen, for the connection's loop.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    news: Mutex<News>,
    told: AtomicBool,
    opened: AtomicU32,
    sent: AtomicU64,
    shut: AtomicBool,
    blocked: AtomicBool,
    held_back: AtomicBool,
    over: AtomicBool,
}

/// What has happened since somebody last looked.
#[derive(Clone, Debug, Default)]
pub(crate) struct News {
    /// What there was too much of; it stays.
    pub(crate) flood: Option<Flood>,
    /// The codec's verdicts on streams. There are never more than the budgets allow.
    pub(crate) verdicts: Vec<Verdict>,
    /// The error code of the codec's last word.
    pub(crate) goaway: Option<u32>,
    /// Since when a header block has been under way; it stays until the block ends.
    pub(crate) headers_since: Option<Instant>,
}

impl Frames {
    pub(crate) fn new(limits: &Limits, unsent: Arc<Unsent>) -> (Frames, Arc<Watch>) {
        let now = clock();
        let watch = Arc::new(Watch::default());
        let frames = Frames {
            inbound: Inbound::new(limits, now),
            outbound: Outbound::new(),
            malformed: Bucket::new(MALFORMED, MALFORMED_PER_SECOND, now),
            refused: Bucket::new(limits.refused_streams, f64::from(limits.refused_streams), now),
            over: false,
            in_headers: false,
            watch: watch.clone(),
            unsent,
        };
        (frames, watch)
    }

    /// Whether nothing more of this client is to be read.
    pub(crate) const fn over(&self) -> bool {
        self.over
    }

    /// Takes note of received bytes, in order and without gaps.
    pub(crate) fn received(&mut self, bytes: &[u8]) {
        if let Err(flood) = self.inbound.note(clock, bytes) {
            self.end(flood);
        }
        self.watch.opened.store(self.inbound.opened(), Ordering::Relaxed);
        self.watch.shut.store(self.inbound.is_shut(), Ordering::Relaxed);
        if self.inbound.in_headers() != self.in_headers {
            self.in_headers = self.inbound.in_headers();
            self.watch.tell(|news| news.headers_since = self.in_headers.then(Instant::now));
        }
    }

    /// Takes note of bytes that were sent, in order and without gaps.
    pub(crate) fn sent(&mut self, mut bytes: &[u8]) {
        while let Some(said) = self.outbound.next(&mut bytes) {
            match said {
                Said::Data { stream, bytes } => {
                    self.inbound.answered(bytes);
                    self.unsent.sent(stream, bytes);
                    self.watch.sent.fetch_add(u64::from(bytes), Ordering::Relaxed);
                    self.watch.shut.store(self.inbound.is_shut(), Ordering::Relaxed);
                }
                Said::GoAway(error) => self.watch.tell(|news| news.goaway = Some(error)),
                Said::Verdict(verdict) => {
                    let (bucket, flood) = match verdict {
                        Verdict::Malformed | Verdict::Oversize => (&mut self.malformed, Flood::Malformed),
                        Verdict::Refused | Verdict::Late => (&mut self.refused, Flood::Streams),
                    };
                    if bucket.take(1.0, clock) {
                        self.watch.tell(|news| news.verdicts.push(verdict));
                    } else {
                        self.end(flood);
                    }
                }
            }
        }
    }

    /// Takes note of whether the client's side of the line takes nothing more just now.
    pub(crate) fn blocked(&self, blocked: bool) {
        self.watch.blocked.store(blocked, Ordering::Relaxed);
    }

    /// Takes note of whether something was written that is still to be flushed.
    pub(crate) fn held_back(&self, held_back: bool) {
        self.watch.held_back.store(held_back, Ordering::Relaxed);
    }

    fn end(&mut self, flood: Flood) {
        self.over = true;
        self.watch.over.store(true, Ordering::Relaxed);
        self.watch.tell(|news| news.flood = news.flood.or(Some(flood)));
    }
}

impl Watch {
    fn tell(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
        self.told.store(true, Ordering::Relaxed);
    }

    /// Whether there is something in [`Watch::news`] that nobody has looked at. Nobody is woken for it: whoever asks is the
    /// one whose reading and writing is followed.
    pub(crate) fn told(&self) -> bool {
        self.told.swap(false, Ordering::Relaxed)
    }

    /// What has happened. Verdicts and last words are told once.
    pub(crate) fn news(&self) -> News {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let told = news.clone();
        (news.verdicts, news.goaway) = (Vec::new(), None);
        told
    }

    /// Whether there was too much of something.
    pub(crate) fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Streams that the client has opened since the beginning.
    pub(crate) fn opened(&self) -> u32 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Bytes of answers that were sent since the beginning.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether the line to the client takes nothing more just now, whatever its windows say (CVE-2019-9517).
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Whether something was written that is still to be flushed, though the codec's turn is over.
    pub(crate) fn is_held_back(&self) -> bool {
        self.held_back.load(Ordering::Relaxed)
    }

    /// Whether the client's windows let hardly anything through.
    pub(crate) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
