//! What is written down about an HTTP/2 connection beside its requests, and the clocks that end it.
use crate::config::settings::Listener;
use crate::serve::frames::{MALFORMED, MALFORMED_PER_SECOND, News, Patience, Watch, clock};
use crate::serve::limits::Rejection;
use crate::serve::listener::{ConnInfo, Front, Glimpse};
use decide::frames::{Bucket, Flood, Verdict, error_name};
use decide::refusal::{Code, Refusal};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Shortest and longest time between two looks at the clocks.
const PERIOD: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// ENHANCE_YOUR_CALM (RFC 9113, 7).
const ENHANCE_YOUR_CALM: u32 = 0xb;

/// Why a connection is closed by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// There was too much of something.
    Flood(Flood),
    /// The codec has ended it, with this error.
    Codec(u32),
}

impl End {
    /// `flood` is there where this is asked.
    pub(super) fn of(flood: Option<Flood>) -> End {
        End::Flood(flood.unwrap_or(Flood::Malformed))
    }

    fn refusal(self) -> Refusal {
        match self {
            End::Flood(flood) => flood.refusal(),
            End::Codec(error) => {
                let code = if error == ENHANCE_YOUR_CALM { Code::QuotaExceeded } else { Code::RequestMalformed };
                Refusal::new(code, format!("the client broke HTTP/2, and the connection: {}", error_name(error)))
            }
        }
    }
}

/// Accounts for what never becomes a request.
pub(super) struct Account<'c, F> {
    front: &'c F,
    conn: &'c Arc<ConnInfo>,
    watch: &'c Watch,
    /// Streams that the codec has handed over; the others, it has ended by itself.
    surfaced: u32,
    /// Of those others, how many have an entry.
    written: u32,
    rejected: Bucket,
    refused_streams: bool,
}

impl<'c, F: Front> Account<'c, F> {
    pub(super) fn new(front: &'c F, conn: &'c Arc<ConnInfo>, watch: &'c Watch) -> Self {
        let rejected = Bucket::new(MALFORMED, MALFORMED_PER_SECOND, clock());
        Account { front, conn, watch, surfaced: 0, written: 0, rejected, refused_streams: false }
    }

    /// The codec has handed a stream over; what becomes of it is accounted for there.
    pub(super) const fn surfaced(&mut self) {
        self.surfaced = self.surfaced.wrapping_add(1);
    }

    /// Pingora has refused a request and answered it.
    pub(super) async fn rejected(&mut self) -> Option<End> {
        self.write(Refusal::new(Code::RequestMalformed, "the HTTP/2 request is malformed")).await;
        (!self.rejected.take(1.0, clock)).then_some(End::Flood(Flood::Malformed))
    }

    /// Writes down what the codec did by itself; the end, where it has come.
    pub(super) async fn of(&mut self, news: &News) -> Option<End> {
        for verdict in &news.verdicts {
            match verdict {
                Verdict::Malformed | Verdict::Oversize => {
                    // Of a request that was handed over, the entry is written elsewhere.
                    let ended_by_codec = self.watch.opened().wrapping_sub(self.surfaced);
                    if self.written < ended_by_codec {
                        self.written += 1;
                        self.write(match verdict {
                            Verdict::Oversize => {
                                Refusal::new(Code::RequestTooLarge, "the header list is too large to be decoded")
                            }
                            _ => Refusal::new(Code::RequestMalformed, "the HTTP/2 request breaks RFC 9113"),
                        })
                        .await;
                    }
                }
                Verdict::Refused => {
                    self.written += 1;
                    if !std::mem::replace(&mut self.refused_streams, true) {
                        let cause = "the client opens more streams than were announced";
                        self.write(Refusal::new(Code::QuotaExceeded, cause)).await;
                    }
                }
                Verdict::Late => {}
            }
        }
        news.flood.map(End::Flood).or(news.goaway.map(End::Codec))
    }

    /// Writes down why the connection is closed.
    pub(super) async fn end(&mut self, end: End) {
        self.write(end.refusal()).await;
        self.front.connection_rejected(&self.conn.listener, Rejection::Abuse);
        tracing::debug!(connection = self.conn.id, ?end, "closing an HTTP/2 connection");
    }

    async fn write(&self, refusal: Refusal) {
        // There is no request, or none that could be read.
        self.front.refuse(self.conn, refusal, Glimpse::default()).await;
    }
}

/// What a client must not take for ever with.
#[derive(Debug)]
pub(super) struct Clocks {
    /// Since when a header block has been under way.
    pub(super) headers_since: Option<Instant>,
    header_timeout: Duration,
    stall: Patience,
    period: Duration,
}

impl Clocks {
    pub(super) fn new(settings: &Listener) -> Clocks {
        // Sooner than each stream by itself would be given up, and another opened in its place.
        let (stall, header) = (settings.h2_stall_timeout / 2, settings.header_timeout);
        let period = (stall.min(header) / 4).clamp(PERIOD.0, PERIOD.1);
        Clocks { headers_since: None, header_timeout: header, stall: Patience::new(stall), period }
    }

    /// Time between two looks.
    pub(super) const fn period(&self) -> Duration {
        self.period
    }

    /// No request is under way.
    pub(super) const fn rest(&mut self) {
        self.stall.rest();
    }

    /// Looks at the clocks; `busy` says that requests are under way.
    pub(super) fn strike(&mut self, watch: &Watch, busy: bool) -> Option<Flood> {
        let now = Instant::now();
        let late = |since| now.saturating_duration_since(since) >= self.header_timeout;
        if self.headers_since.is_some_and(late) {
            return Some(Flood::SlowHeaders);
        }
        let held = (busy && watch.is_shut()) || watch.is_blocked();
        self.stall.is_over(now, held, watch.sent()).then_some(Flood::Stalled)
    }
}
