//! Writes down from time to time when API keys were last used: for all replicas, and for `moat keys list` of this one.
use crate::config::settings::{ApiKey, Snapshot};
use crate::serve::api_keys;
use crate::serve::gateway::Shared;
use crate::serve::run::now_ms;
use crate::store::key_uses::exchange;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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
    if snapshot.api_keys.is_empty() && snapshot.key_sets.is_empty() {
        return;
    }
    together(shared, &snapshot).await;
    let writing = move || api_keys::remember(&snapshot.server.state_dir, &snapshot.api_keys);
    let written = tokio::task::spawn_blocking(writing).await;
    if let Err(error) = written.map_err(std::io::Error::other).flatten() {
        tracing::warn!(%error, "when API keys were last used could not be written");
    }
}

/// Tells the other replicas of uses here, and learns of theirs. While the store is silent each keeps its own notes.
async fn together(shared: &Arc<Shared>, snapshot: &Arc<Snapshot>) {
    let all = snapshot.clone();
    let places = move || -> HashMap<[u8; 32], Arc<ApiKey>> {
        let files = all.api_keys.values();
        files.flat_map(|keys| keys.keys.iter().map(|(id, key)| (keys.use_place(id), key.clone()))).collect()
    };
    let Ok(places) = tokio::task::spawn_blocking(places).await else { return };
    let used = |key: &ApiKey| key.used_s.load(Ordering::Relaxed);
    let mut here: HashMap<[u8; 32], u64> = shared.key_sets.uses();
    here.extend(places.iter().map(|(place, key)| (*place, used(key))).filter(|(_, at_s)| *at_s > 0));
    match exchange(&shared.state, &here, now_ms()).await {
        Ok(known) => {
            for (place, at_s) in known {
                if let Some(key) = places.get(&place) {
                    key.used_s.fetch_max(at_s, Ordering::Relaxed);
                }
            }
        }
        Err(silent) => tracing::warn!(error = %silent, "other replicas do not hear when API keys were last used"),
    }
}
