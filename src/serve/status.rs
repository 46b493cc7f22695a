//! What an operator sees of the running gateway: one document, as a page, as JSON, and in the terminal.
mod collect;
pub mod document;
mod findings;
mod page;
mod recent;
mod sections;
mod window;
pub mod words;

pub use document::{Document, Severity};
pub use page::{Page, policy};
pub use recent::{Recent, Refused, short};
pub use window::Quantile;

use crate::serve::certificates::CertStore;
use crate::serve::drain::Drain;
use crate::serve::gateway::Shared;
use crate::serve::metrics::Reading;
use crate::serve::storage::Storage;
use crate::store::quota::Quotas;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use window::{PACE, Window};

/// Knows where to look.
pub struct Status {
    shared: Arc<Shared>,
    certificates: Option<Arc<CertStore>>,
    quotas: Arc<Quotas>,
    storage: Arc<Storage>,
    drain: Drain,
    started: Instant,
    started_ms: u64,
    window: Mutex<Window>,
}

impl Status {
    /// Of a process that starts now.
    pub fn new(
        shared: Arc<Shared>,
        certificates: Option<Arc<CertStore>>,
        quotas: Arc<Quotas>,
        storage: Arc<Storage>,
        drain: Drain,
    ) -> Status {
        let started = Instant::now();
        let (started_ms, window) = (crate::serve::run::now_ms(), Mutex::new(Window::new(started)));
        Status { shared, certificates, quotas, storage, drain, started, started_ms, window }
    }

    /// Reads the counters at an even pace, for the figures of the last minute. Never ends.
    pub async fn keep_time(self: Arc<Self>) {
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        pace.tick().await;
        loop {
            pace.tick().await;
            let status = self.clone();
            // Thousands of series take a while to read, and requests must not wait for it.
            let read = move || {
                let reading = status.shared.metrics.reading();
                status.window.lock().unwrap_or_else(PoisonError::into_inner).tick(reading, Instant::now());
            };
            if tokio::task::spawn_blocking(read).await.is_err() {
                tracing::error!("the counters could not be read for the status page");
            }
        }
    }

    /// The document of this moment. Takes a while where there is much to tell: not for a task that serves requests.
    pub fn document(&self) -> Document {
        let reading = self.shared.metrics.reading();
        let (span, counted) = self.up_to(&reading);
        let mut document = self.collect(&reading, span, &counted);
        document.findings = findings::findings(&document, &self.facts());
        document.ok = document.findings.iter().all(|finding| finding.severity != Severity::Problem);
        document
    }

    fn up_to(&self, reading: &Reading) -> (Duration, Reading) {
        self.window.lock().unwrap_or_else(PoisonError::into_inner).up_to(reading, Instant::now())
    }
}
