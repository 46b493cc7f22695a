//! What ending sessions counts.
use super::Metrics;
use super::families::Families;
use decide::revocation::Scope;
use prometheus::{Histogram, IntCounter};
use std::sync::Arc;
use std::time::Duration;

/// The handle for revocations. Clones count into the same series.
#[derive(Clone)]
pub struct RevocationMetrics {
    families: Arc<Families>,
    propagation: Histogram,
    allowed: IntCounter,
    denied: IntCounter,
}

impl RevocationMetrics {
    pub(super) fn new(families: Arc<Families>) -> RevocationMetrics {
        let stale = |action| families.revocation_stale.with_label_values(&[action]);
        RevocationMetrics {
            propagation: families.revocation_propagation.clone(),
            allowed: stale("allow"),
            denied: stale("deny"),
            families: families.clone(),
        }
    }

    /// Something that was told on the feed is in force here, this long after it was asked for.
    pub fn applied(&self, took: Duration) {
        self.propagation.observe(took.as_secs_f64());
    }

    /// A request with a session came while this replica was stale.
    pub fn stale(&self, denied: bool) {
        if denied { self.denied.inc() } else { self.allowed.inc() }
    }

    /// Somebody ordered something to be ended.
    pub fn ordered(&self, scope: Scope, via: &'static str, result: &'static str) {
        self.families.revocation_orders.with_label_values(&[scope.as_str(), via, result]).inc();
    }
}

impl Metrics {
    /// The handle for revocations.
    pub fn revocations(&self) -> &RevocationMetrics {
        &self.revocations
    }

    /// An issuer sent an event, or a token that was none.
    pub fn signal(&self, issuer: &str, event: &'static str, result: &'static str) {
        self.families.signals.with_label_values(&[issuer, event, result]).inc();
    }

    /// How many marks there are, and how old this replica's knowledge of them is.
    pub fn revocations_known(&self, count: impl Fn(Scope) -> u64, silence: Duration) {
        for scope in Scope::ALL {
            let count = i64::try_from(count(scope)).unwrap_or(i64::MAX);
            self.families.revocations.with_label_values(&[scope.as_str()]).set(count);
        }
        self.families.revocation_staleness.set(silence.as_secs_f64());
    }
}
