//! Writes down from time to time when API keys were last used.
use crate::serve::api_keys;
use crate::serve::gateway::Shared;
use std::sync::Arc;
use std::time::Duration;

/// How often; a crash loses what was used since.
const EVERY: Duration = Duration::from_secs(60);

/// Writes for as long as the gateway runs.
pub async fn keep(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(EVERY).await;
        write(&shared).await;
    }
}

/// Writes now.
pub async fn write(shared: &Arc<Shared>) {
    let snapshot = shared.active().snapshot.clone();
    if snapshot.api_keys.is_empty() {
        return;
    }
    let writing = move || api_keys::remember(&snapshot.server.state_dir, &snapshot.api_keys);
    let written = tokio::task::spawn_blocking(writing).await;
    if let Err(error) = written.map_err(std::io::Error::other).flatten() {
        tracing::warn!(%error, "when API keys were last used could not be written");
    }
}
