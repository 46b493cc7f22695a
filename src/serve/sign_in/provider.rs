//! What a provider says of itself, fetched when it is needed and kept while it is good.
use super::wire;
use crate::config::settings::Issuer;
use decide::sign_in::Provider;
use http::StatusCode;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Mutex;

/// The document of one provider.
#[derive(Default)]
pub(super) struct Known {
    /// Held by the one who fetches; the others wait for the same answer.
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    found: Option<(Arc<Provider>, Instant)>,
    failed: Option<(String, Instant)>,
}

impl Known {
    /// The document, at most `refresh` old; older ones, up to `max_stale`, where the provider does not give another.
    pub(super) async fn current(&self, issuer: &Issuer) -> Result<Arc<Provider>, String> {
        let mut last = self.last.lock().await;
        let age = |since: Instant| since.elapsed();
        if let Some((provider, since)) = &last.found
            && age(*since) < issuer.refresh
        {
            return Ok(provider.clone());
        }
        let cause = match &last.failed {
            Some((cause, since)) if age(*since) < issuer.min_interval => cause.clone(),
            Some(_) | None => match fetch(issuer).await {
                Ok(provider) => {
                    let provider = Arc::new(provider);
                    *last = Last { found: Some((provider.clone(), Instant::now())), failed: None };
                    return Ok(provider);
                }
                Err(cause) => {
                    tracing::warn!(issuer = %issuer.rules.name, %cause, "the provider's document could not be fetched");
                    last.failed = Some((cause.clone(), Instant::now()));
                    cause
                }
            },
        };
        match &last.found {
            Some((provider, since)) if age(*since) < issuer.max_stale => Ok(provider.clone()),
            Some(_) | None => Err(cause),
        }
    }
}

async fn fetch(issuer: &Issuer) -> Result<Provider, String> {
    let name = &issuer.rules.issuer;
    let url = format!("{}/.well-known/openid-configuration", name.trim_end_matches('/'));
    let (status, document) = wire::send(issuer, wire::get(&url)?).await?;
    if status != StatusCode::OK {
        return Err(format!("{url}: answered {}", status.as_u16()));
    }
    Provider::parse(&document, name).map_err(|cause| format!("{url}: {cause}"))
}
