//! What is done with state, by the engine that keeps it.
use super::families::Families;
use crate::store::state::{EngineName, Kind, Op};
use prometheus::Histogram;
use std::sync::Arc;
use std::time::Duration;

/// The handle for state. Clones count into the same series.
#[derive(Clone)]
pub struct StateMetrics {
    families: Arc<Families>,
    durations: Arc<[(EngineName, Op, Histogram)]>,
}

impl StateMetrics {
    pub(super) fn new(families: Arc<Families>) -> StateMetrics {
        let engines = [EngineName::Embedded, EngineName::Redis, EngineName::Postgres];
        let duration = |(engine, op): (EngineName, Op)| {
            (engine, op, families.state_duration.with_label_values(&[engine.word(), op.word()]))
        };
        let durations = engines.into_iter().flat_map(|engine| Op::ALL.map(|op| (engine, op))).map(duration).collect();
        StateMetrics { families, durations }
    }

    /// A call has ended, after this time. What is about the feed or about all kinds has the kind `-`.
    pub fn count(&self, engine: EngineName, kind: Option<Kind>, op: Op, result: &'static str, took: Duration) {
        let kind = kind.map_or("-", Kind::word);
        self.families.state_operations.with_label_values(&[engine.word(), kind, op.word(), result]).inc();
        // Who follows the feed waits on purpose.
        let histogram = self.durations.iter().find(|(known, of, _)| *known == engine && *of == op && op != Op::Follow);
        if let Some((_, _, histogram)) = histogram {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// Whether engines are of use.
    pub fn up(&self, engines: impl Iterator<Item = (EngineName, bool)>) {
        for (engine, up) in engines {
            self.families.state_up.with_label_values(&[engine.word()]).set(i64::from(up));
        }
    }
}
