//! Why an HTTP/2 connection is closed: what there was too much of.
use crate::refusal::{Code, Refusal};

/// What a client overdid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// No preface of HTTP/2 (RFC 9113, 3.4).
    NoPreface,
    /// A `:path` with a fragment, which the codec would drop in silence (RFC 9113, 8.3.1).
    Fragment,
    /// RST_STREAM (rapid reset, CVE-2023-44487).
    Resets,
    /// PING (CVE-2019-9512).
    Pings,
    /// SETTINGS (CVE-2019-9515).
    Settings,
    /// PRIORITY and PRIORITY_UPDATE (CVE-2019-9513).
    Priorities,
    /// WINDOW_UPDATE that nothing we sent gave occasion for (CVE-2019-9511).
    WindowUpdates,
    /// Frames without content (CVE-2019-9518).
    EmptyFrames,
    /// Frames of a type that we do not know.
    UnknownFrames,
    /// One header block in too many frames or bytes (CVE-2024-27316).
    HeaderBlock,
    /// A header block that does not end.
    SlowHeaders,
    /// Streams beyond those that were announced.
    Streams,
    /// Requests and frames that break the protocol (MadeYouReset, CVE-2025-8671).
    Malformed,
    /// Windows kept closed while answers wait (CVE-2016-1546).
    Stalled,
}

impl Flood {
    /// The entry that the connection's end gets.
    pub fn refusal(self) -> Refusal {
        let (code, cause) = match self {
            Flood::NoPreface => (Code::RequestMalformed, "the connection does not begin with the preface of HTTP/2"),
            Flood::Fragment => (Code::RequestAmbiguous, "`:path` has a fragment"),
            Flood::Resets => (Code::QuotaExceeded, "the client resets streams too often"),
            Flood::Pings => (Code::QuotaExceeded, "the client sends too many PING frames"),
            Flood::Settings => (Code::QuotaExceeded, "the client sends too many SETTINGS frames"),
            Flood::Priorities => (Code::QuotaExceeded, "the client sends too many PRIORITY frames"),
            Flood::WindowUpdates => (Code::QuotaExceeded, "the client sends too many WINDOW_UPDATE frames"),
            Flood::EmptyFrames => (Code::QuotaExceeded, "the client sends too many frames without content"),
            Flood::UnknownFrames => (Code::QuotaExceeded, "the client sends too many frames of unknown type"),
            Flood::HeaderBlock => (Code::RequestTooLarge, "a header block takes too many bytes or frames"),
            Flood::SlowHeaders => (Code::RequestTimeout, "a header block does not end in time"),
            Flood::Streams => (Code::QuotaExceeded, "the client opens too many streams at once"),
            Flood::Malformed => (Code::RequestMalformed, "the client breaks the protocol too often"),
            Flood::Stalled => (Code::RequestTimeout, "the client keeps its windows closed while answers wait"),
        };
        Refusal::new(code, cause)
    }
}
