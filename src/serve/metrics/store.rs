//! What calls of a shared store count.
use super::families::Families;
use crate::store::shared::{Health, Op};
use prometheus::Histogram;
use std::sync::Arc;
use std::time::Duration;

/// The `backend` label: Valkey speaks the same.
const BACKEND: &str = "redis";

/// The handle for the shared store. Clones count into the same series.
#[derive(Clone)]
pub struct StoreMetrics {
    families: Arc<Families>,
    durations: Arc<[(Op, Histogram)]>,
}

impl StoreMetrics {
    pub(super) fn new(families: Arc<Families>) -> StoreMetrics {
        let duration = |op: Op| (op, families.store_duration.with_label_values(&[BACKEND, op.word()]));
        let durations = Op::ALL.map(duration).into();
        StoreMetrics { families, durations }
    }

    /// A call was answered, or not, after this time.
    pub fn called(&self, op: Op, result: &'static str, took: Duration) {
        self.families.store_operations.with_label_values(&[BACKEND, op.word(), result]).inc();
        if let Some((_, histogram)) = self.durations.iter().find(|(known, _)| *known == op) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// Whether it is of use.
    pub fn up(&self, up: bool) {
        self.families.store_up.with_label_values(&[BACKEND]).set(i64::from(up));
    }

    /// How it does now; `None` where there is no store any more.
    pub fn health(&self, health: Option<&Health>) {
        match health {
            Some(health) => {
                self.up(health.up);
                self.families.store_replicas.with_label_values(&[BACKEND]).set(i64::from(health.replicas));
            }
            None => {
                self.families.store_up.reset();
                self.families.store_replicas.reset();
            }
        }
    }
}
