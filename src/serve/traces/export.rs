//! The task that sends spans: batches by size and time, retries with growing pauses, a last flush at the end.
use super::post::{Failure, Poster};
use super::record::Record;
use super::spans;
use crate::serve::drain::begun;
use crate::serve::gateway::{Shared, random};
use crate::serve::metrics::TraceMetrics;
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// Records of one batch at most.
const BATCH: usize = 512;
/// How long the first record of a batch waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// How often a batch is posted before it is given up.
const TRIES: u32 = 5;
/// The first pause after a failure; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// Time for the last spans when the process ends.
const FLUSH: Duration = Duration::from_secs(3);

/// The queue's other end.
#[derive(Debug)]
pub struct Exporter {
    records: mpsc::Receiver<Record>,
    metrics: TraceMetrics,
}

/// An exporter that runs.
#[derive(Debug)]
pub struct Exporting {
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Exporting {
    /// Sends what is left, for at most three seconds.
    pub async fn finish(self) {
        self.end.send_replace(true);
        let _ = self.task.await;
    }
}

impl Exporter {
    pub(super) fn new(records: mpsc::Receiver<Record>, metrics: TraceMetrics) -> Exporter {
        Exporter { records, metrics }
    }

    /// Runs until it is told to finish. Where spans go is read for each batch, so a reload counts at once.
    pub fn start(self, shared: Arc<Shared>) -> Exporting {
        let (end, ended) = watch::channel(false);
        let mut over = ended.clone();
        let task = tokio::spawn(async move {
            let late = async {
                begun(&mut over).await;
                sleep(FLUSH).await;
            };
            tokio::select! {
                () = self.run(shared, ended) => {}
                () = late => tracing::warn!("not all spans were delivered before the end"),
            }
        });
        Exporting { end, task }
    }

    async fn run(mut self, shared: Arc<Shared>, mut ended: watch::Receiver<bool>) {
        let mut delivery = Delivery { shared, metrics: self.metrics.clone(), poster: Poster::default(), lost: false };
        let mut batch = Vec::new();
        while self.gather(&mut batch, &mut ended).await {
            delivery.deliver(&mut batch, &mut ended).await;
        }
        // One try for each batch that is left; the first that fails ends it.
        loop {
            while batch.len() < BATCH
                && let Ok(record) = self.records.try_recv()
            {
                batch.push(record);
            }
            if batch.is_empty() {
                return;
            }
            if delivery.attempt(&mut batch).await.is_some() {
                tracing::warn!("not all spans were delivered before the end");
                return;
            }
        }
    }

    /// Fills a batch; false when the end has come.
    async fn gather(&mut self, batch: &mut Vec<Record>, ended: &mut watch::Receiver<bool>) -> bool {
        let mut until: Option<Instant> = None;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            tokio::select! {
                _ = self.records.recv_many(batch, room) => { until.get_or_insert_with(|| Instant::now() + LINGER); }
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return true,
                () = begun(ended) => return false,
            }
        }
        true
    }
}

/// Where batches go, and how that went.
struct Delivery {
    shared: Arc<Shared>,
    metrics: TraceMetrics,
    poster: Poster,
    /// Whether the last post failed, so that the log says so once and not for every batch.
    lost: bool,
}

impl Delivery {
    /// Posts a batch until it is taken or given up; where the end comes before, it stays in the batch.
    async fn deliver(&mut self, batch: &mut Vec<Record>, ended: &mut watch::Receiver<bool>) {
        for attempt in 0..TRIES {
            let Some(asked) = self.attempt(batch).await else { return };
            let pause = asked.unwrap_or(PAUSE.saturating_mul(1 << attempt));
            // Up to a quarter more, so that replicas do not come back all at once.
            let jitter = pause.saturating_mul(u32::from(random::<1>()[0])) / 1024;
            tokio::select! {
                () = sleep(pause.saturating_add(jitter)) => {}
                () = begun(ended) => return,
            }
        }
        self.metrics.failed.inc_by(spans_of(batch));
        batch.clear();
    }

    /// One try. `None` when the batch is settled, else the pause that the collector asks for, if it does.
    async fn attempt(&mut self, batch: &mut Vec<Record>) -> Option<Option<Duration>> {
        let snapshot = self.shared.active().snapshot.clone();
        let count = spans_of(batch);
        let Some(collector) = &snapshot.traces.collector else {
            // Switched off by a reload while they waited.
            self.metrics.dropped.inc_by(count);
            batch.clear();
            return None;
        };
        let message = spans::request(&snapshot.server.instance, batch).encode_to_vec();
        let outcome = self.poster.post(collector, Bytes::from(message)).await;
        match outcome {
            Ok((rejected, reason)) => {
                let rejected = rejected.min(count);
                self.metrics.exported.inc_by(count - rejected);
                self.metrics.failed.inc_by(rejected);
                if rejected > 0 {
                    tracing::warn!(collector = %collector.url, rejected, reason, "the collector did not want some spans");
                }
                if std::mem::replace(&mut self.lost, false) {
                    tracing::info!(collector = %collector.url, "the collector takes spans again");
                }
            }
            Err(Failure::Refused(cause)) => {
                self.complain(&collector.url, &cause);
                self.metrics.failed.inc_by(count);
            }
            Err(Failure::Retry(cause, after)) => {
                self.complain(&collector.url, &cause);
                return Some(after);
            }
        }
        batch.clear();
        None
    }

    fn complain(&mut self, collector: &http::Uri, cause: &str) {
        if !std::mem::replace(&mut self.lost, true) {
            tracing::warn!(%collector, cause, "the collector does not take spans");
        }
    }
}

fn spans_of(batch: &[Record]) -> u64 {
    batch.iter().map(|record| record.spans()).sum()
}
