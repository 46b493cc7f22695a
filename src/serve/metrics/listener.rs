//! What is counted on both sides of the gateway: connections and handshakes of a listener, answers of an upstream.
use super::families::Families;
use super::{STATUS_CLASSES, status_class};
use crate::serve::limits::Rejection;
use crate::serve::tls::Handshake;
use prometheus::{Histogram, IntCounter, IntGauge};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Key exchange groups that have a label of their own.
const GROUPS: [&str; 4] = ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1"];

/// Counters of one listener.
pub struct ListenerMetrics {
    name: Arc<str>,
    active: IntGauge,
    open: IntGauge,
    idle: IntCounter,
    accepted: IntCounter,
    families: Arc<Families>,
}

/// One request for as long as it lives; counted down when dropped.
pub struct Active(IntGauge);

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
            open: families.connections.with_label_values(&[name, "open"]),
            idle: families.connections_idle.with_label_values(&[name]),
            accepted: families.connections_accepted.with_label_values(&[name]),
            families,
        }
    }

    /// Counts a request until the result is dropped.
    pub fn request(&self) -> Active {
        self.active.inc();
        Active(self.active.clone())
    }

    /// `delta` connections more (+1) or less (-1) are open.
    pub fn connections(&self, delta: i64) {
        self.open.add(delta);
        self.accepted.inc_by(u64::try_from(delta).unwrap_or_default());
    }

    /// A connection was closed because nothing came.
    pub fn idle(&self) {
        self.idle.inc();
    }

    /// A connection was closed before its first byte was read.
    pub fn rejected(&self, reason: Rejection) {
        self.families.connections_rejected.with_label_values(&[&*self.name, reason.as_str()]).inc();
    }

    /// A TLS handshake has ended, one way or the other.
    pub fn handshake(&self, outcome: &Handshake) {
        let (version, group, result) = match outcome {
            Handshake::Done(tls) => {
                let version = ["1.3", "1.2"].into_iter().find(|known| *known == tls.version).unwrap_or("none");
                let group = GROUPS.into_iter().find(|known| known.eq_ignore_ascii_case(&tls.group));
                let unknown = if tls.group.is_empty() { "none" } else { "other" };
                (version, group.unwrap_or(unknown), if tls.resumed { "resumed" } else { outcome.as_str() })
            }
            Handshake::Timeout | Handshake::UnknownName | Handshake::Uncertified | Handshake::Failed => {
                ("none", "none", outcome.as_str())
            }
        };
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
