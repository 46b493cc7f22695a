//! A gateway that runs on the last good bundle says so, again and again, until the files are put right.
use crate::config::settings::{Fallback, Snapshot};
use crate::serve::gateway::Shared;
use decide::record::time;
use std::sync::Arc;
use std::time::Duration;

/// How often it is said.
const EVERY: Duration = Duration::from_secs(60);

/// In one line: what is in force, and since when; `None` where the files themselves are.
pub fn note(snapshot: &Snapshot) -> Option<String> {
    let Fallback { problems, kept_at_ms, .. } = snapshot.fallback.as_ref()?;
    let kept = time::format(*kept_at_ms);
    Some(format!("the files have problems ({problems}): the last good bundle is in force, kept at {kept}"))
}

/// Writes an error at once and every minute while the last good bundle is in force. Never ends.
pub async fn remind(shared: Arc<Shared>) {
    let mut pace = tokio::time::interval(EVERY);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let active = shared.active();
        if let (Some(note), Some(fallback)) = (note(&active.snapshot), &active.snapshot.fallback) {
            tracing::error!(digest = active.snapshot.digest, problems = fallback.text, "{note}");
        }
    }
}
