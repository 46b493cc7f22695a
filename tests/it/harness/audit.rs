//! The audit log as a test reads it: the segments' lines, in order.
use super::PATIENCE;
use super::gateway::Gateway;
use serde_json::Value;
use std::fs;
use std::time::Instant;

/// All whole entries in the log so far.
pub fn entries(gateway: &Gateway) -> Vec<Value> {
    let mut segments: Vec<_> = fs::read_dir(gateway.bundle.path("state/audit"))
        .map(|folder| folder.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    segments.retain(|path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "jsonl"));
    segments.sort();
    let text: String = segments.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The outcome entries of requests: one for each, so says the log.
pub fn outcomes(gateway: &Gateway) -> Vec<Value> {
    entries(gateway).into_iter().filter(|entry| entry["kind"] == "request").collect()
}

impl Gateway {
    /// The outcome entry of the request with this id.
    pub async fn outcome(&self, id: &str) -> Value {
        self.audit_entry(|entry| entry["kind"] == "request" && entry["id"] == id).await
    }

    /// The outcome entry of the request for this path, where only one was made.
    pub async fn outcome_of_path(&self, path: &str) -> Value {
        self.audit_entry(|entry| entry["kind"] == "request" && entry["facts"]["path"] == path).await
    }

    /// How many requests were refused with this code, says the metric.
    pub async fn refusals(&self, code: &str) -> u64 {
        let label = format!("code=\"{code}\"");
        let metrics = self.metrics().await;
        let series = metrics.lines().filter(|line| line.starts_with("moat_refusals_total{") && line.contains(&label));
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// The first entry that fits; entries are written by another thread, a moment after the answer.
    pub async fn audit_entry(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = entries(self);
            if let Some(entry) = all.iter().find(|entry| wanted(entry)) {
                return entry.clone();
            }
            assert!(Instant::now() < deadline, "no such entry among {all:#?}");
            tokio::task::yield_now().await;
        }
    }
}
