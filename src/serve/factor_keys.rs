//! Seals second factors anew when another key begins to seal, so that the one before it can be taken away.
use crate::config::settings::SealingKeys;
use crate::serve::gateway::Shared;
use crate::store::factors::Factors;
use std::sync::Arc;
use std::time::Duration;

/// How often it looks whether there are other keys, and tries again where the store was silent.
const EVERY: Duration = Duration::from_secs(5);

/// Looks for as long as the gateway runs.
pub async fn keep(shared: Arc<Shared>) {
    let mut done = SealingKeys::default();
    loop {
        renew(&shared, &mut done).await;
        tokio::time::sleep(EVERY).await;
    }
}

async fn renew(shared: &Shared, done: &mut SealingKeys) {
    let active = shared.active();
    let Some((held, keys)) = active.held().map(|held| (held, &held.settings.keys)).filter(|(_, keys)| *keys != done)
    else {
        return;
    };
    match (Factors { state: &shared.state, ring: held.ring() }).renew().await {
        Ok((renewed, shut)) => {
            *done = keys.clone();
            if renewed > 0 {
                tracing::info!(renewed, "second factors are sealed with the first key now");
            }
            if shut > 0 {
                tracing::error!(shut, "second factors do not open: the key that sealed them is not configured");
            }
        }
        Err(unknown) => tracing::warn!(%unknown, "second factors could not be sealed anew"),
    }
}
