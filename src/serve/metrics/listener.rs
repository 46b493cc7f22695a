//! What is counted on both sides of the gateway: connections and handshakes of a listener, answers of an upstream.
use super::families::Families;
use super::{STATUS_CLASSES, status_class};
use prometheus::{Histogram, IntCounter, IntGauge};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// PROXY header or TLS handshake.
    Handshake,
    /// Serving requests, or waiting for one.
    Open,
}

/// Why a connection was closed before a request was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// `server.max_connections` are open.
    MaxConnections,
    /// `limits.connections_per_ip` of its address are open.
    PerAddress,
    /// The PROXY header is missing, broken or from an address that may not send one.
    ProxyHeader,
    /// The gateway is shutting down.
    Draining,
    /// The connection could not be set up.
    Error,
}

/// How a TLS handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// A new session.
    Full,
    /// A resumed one.
    Resumed,
    /// `handshake_timeout` passed.
    Timeout,
    /// No certificate for the server name.
    NoCertificate,
    /// The client hung up, or an alert ended it.
    Failed,
}

/// Key exchange groups that have a label of their own.
const GROUPS: [&str; 4] = ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1"];

/// Counters of one listener.
pub struct ListenerMetrics {
    name: Arc<str>,
    active: IntGauge,
    handshake: IntGauge,
    open: IntGauge,
    families: Arc<Families>,
}

/// One connection or request for as long as it lives; counted down when dropped.
pub struct Active(IntGauge);

impl Active {
    fn count(gauge: &IntGauge) -> Active {
        gauge.inc();
        Active(gauge.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl ListenerMetrics {
    pub(super) fn new(name: &str, families: Arc<Families>) -> ListenerMetrics {
        ListenerMetrics {
            name: name.into(),
            active: families.server_active.with_label_values(&[name]),
            handshake: families.connections.with_label_values(&[name, "handshake"]),
            open: families.connections.with_label_values(&[name, "open"]),
            families,
        }
    }

    /// Counts a request until the result is dropped.
    pub fn request(&self) -> Active {
        Active::count(&self.active)
    }

    /// Counts a connection in this state until the result is dropped.
    pub fn connection(&self, state: ConnectionState) -> Active {
        Active::count(match state {
            ConnectionState::Handshake => &self.handshake,
            ConnectionState::Open => &self.open,
        })
    }

    /// A connection was closed before a request was read.
    pub fn rejected(&self, reason: Rejection) {
        let reason = match reason {
            Rejection::MaxConnections => "max_connections",
            Rejection::PerAddress => "per_address",
            Rejection::ProxyHeader => "proxy_header",
            Rejection::Draining => "draining",
            Rejection::Error => "error",
        };
        self.families.connections_rejected.with_label_values(&[&*self.name, reason]).inc();
    }

    /// A handshake ended. `version` is `1.3` or `1.2`, `group` the IANA name; empty where it did not come that far.
    pub fn handshake(&self, version: &str, group: &str, result: Handshake) {
        let result = match result {
            Handshake::Full => "ok",
            Handshake::Resumed => "resumed",
            Handshake::Timeout => "timeout",
            Handshake::NoCertificate => "no_certificate",
            Handshake::Failed => "failed",
        };
        let version = match version {
            "1.3" => "1.3",
            "1.2" => "1.2",
            _ => "none",
        };
        let known = GROUPS.into_iter().find(|known| known.eq_ignore_ascii_case(group));
        let group = known.unwrap_or(if group.is_empty() { "none" } else { "other" });
        self.families.tls_handshakes.with_label_values(&[&*self.name, version, group, result]).inc();
    }
}

/// Counters of one upstream.
pub struct UpstreamMetrics {
    durations: [Histogram; STATUS_CLASSES.len()],
}

impl UpstreamMetrics {
    pub(super) fn new(name: &str, families: &Families) -> UpstreamMetrics {
        UpstreamMetrics {
            durations: STATUS_CLASSES.map(|class| families.client_duration.with_label_values(&[name, class])),
        }
    }

    /// The upstream answered with this status after so long; 0 where it did not answer.
    pub fn observe(&self, status: u16, duration: Duration) {
        if let Some(histogram) = self.durations.get(status_class(status)) {
            histogram.observe(duration.as_secs_f64());
        }
    }
}

/// Counters made on first use, so that a label value that never occurs makes no series.
pub(super) struct Lazy<T>(Box<[OnceLock<T>]>);

impl<T> Lazy<T> {
    pub(super) fn new(len: usize) -> Lazy<T> {
        Lazy((0..len).map(|_| OnceLock::new()).collect())
    }

    /// The one at `index`, or `None` beyond the end.
    pub(super) fn at(&self, index: usize, make: impl FnOnce() -> T) -> Option<&T> {
        self.0.get(index).map(|cell| cell.get_or_init(make))
    }
}

impl Lazy<IntCounter> {
    pub(super) fn inc(&self, index: usize, make: impl FnOnce() -> IntCounter) {
        if let Some(counter) = self.at(index, make) {
            counter.inc();
        }
    }
}
