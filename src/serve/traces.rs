//! Traces: the place of each request in one, and the spans of those that are recorded, for an OpenTelemetry collector.
//!
//! The request path puts a record into a bounded queue, and only where the request's trace is recorded; a task of its
//! own makes spans of them and posts them in batches. What finds the queue full is counted and lost: no request waits
//! for a collector.
mod export;
mod otlp;
mod place;
mod post;
mod record;
mod spans;
#[cfg(test)]
mod tests;

pub use export::{Exporter, Exporting};
pub use place::Place;
pub use record::{Forwarding, Record};

use crate::serve::metrics::TraceMetrics;
use tokio::sync::mpsc;

/// Records that may wait; about 4 MiB where hosts are long.
const QUEUE: usize = 2048;

/// Where the request path leaves its records.
#[derive(Debug)]
pub struct Traces {
    queue: mpsc::Sender<Record>,
    metrics: TraceMetrics,
}

impl Traces {
    /// The queue's two ends.
    pub fn new(metrics: TraceMetrics) -> (Traces, Exporter) {
        let (queue, records) = mpsc::channel(QUEUE);
        (Traces { queue, metrics: metrics.clone() }, Exporter::new(records, metrics))
    }

    /// Keeps a record of so many spans, or counts that it is lost. It is made only where there is room for it.
    pub fn push(&self, spans: u64, record: impl FnOnce() -> Record) {
        match self.queue.try_reserve() {
            Ok(room) => room.send(record()),
            Err(_) => self.metrics.dropped.inc_by(spans),
        }
    }
}
