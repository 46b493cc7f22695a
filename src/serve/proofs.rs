//! Proofs of possession (RFC 9449), held against the request that they came with, each accepted once.
//!
//! Whether a proof is the first of its id is asked of this process, and then of the store that replicas share. Where that is
//! silent, this process alone decides, and it is counted: signature, target and window hold all the same.
use crate::serve::active::Active;
use crate::serve::gateway::Shared;
use crate::store::state::Kind;
use decide::facts::Facts;
use decide::request::Request;
use decide::token::dpop::{self, Expected, Proof};
use http::{HeaderMap, HeaderName};
use moka::sync::Cache;
use std::time::Duration;

/// The header.
pub const DPOP: HeaderName = HeaderName::from_static("dpop");

/// Most ids that this process remembers; each takes some hundred bytes.
const MOST: u64 = 200_000;
/// The longest that a proof can be accepted: the greatest `max_age` with the greatest `clock_skew`.
const LONGEST: Duration = Duration::from_secs(900);

/// Ids of proofs that were accepted.
pub struct Proofs {
    seen: Cache<[u8; 32], ()>,
}

impl Default for Proofs {
    fn default() -> Proofs {
        Proofs { seen: Cache::builder().max_capacity(MOST).time_to_live(LONGEST).build() }
    }
}

impl Proofs {
    /// Whether this process sees an id for the first time. Of several who ask at once, one is told so.
    fn is_first(&self, id: &[u8; 32]) -> bool {
        self.seen.entry_by_ref(id).or_insert(()).is_fresh()
    }
}

/// The proof that a request carries, verified and used up; `None` without one, for a request that comes without access token. The
/// error is for the audit entry.
pub async fn take(
    shared: &Shared,
    active: &Active,
    headers: &HeaderMap,
    about: (&Request, &Facts),
) -> Result<Option<Proof>, String> {
    let proof = read(shared, active, headers, about, None)?;
    if let Some(proof) = &proof {
        spend(shared, proof).await?;
    }
    Ok(proof)
}

/// The proof that a request carries, verified and still to be spent ([`spend`]); `None` without one. `token` is the access
/// token that it came with. The error is for the audit entry.
pub fn read(
    shared: &Shared,
    active: &Active,
    headers: &HeaderMap,
    (request, facts): (&Request, &Facts),
    token: Option<&str>,
) -> Result<Option<Proof>, String> {
    let mut values = headers.get_all(DPOP).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("there are two proofs".to_owned());
    }
    let text = value.to_str().map_err(|_| "the proof is not ASCII".to_owned())?;
    let rules = &active.snapshot.sessions.dpop;
    let expected = Expected {
        method: request.method.as_str(),
        scheme: if facts.tls.is_some() { "https" } else { "http" },
        host: &request.host,
        port: request.port,
        path: &request.path,
        token,
        nonces: None,
        now_s: facts.at_s(),
        max_age_s: rules.max_age_s,
        skew_s: rules.skew_s,
        algorithms: &rules.algorithms,
    };
    dpop::verify(text, &expected).map(Some).map_err(|error| {
        shared.metrics.tokens().proof("invalid");
        error.to_string()
    })
}

/// Uses a proof up: it is not accepted again, here or at another replica. The error is for the audit entry.
pub async fn spend(shared: &Shared, proof: &Proof) -> Result<(), String> {
    let metrics = shared.metrics.tokens();
    let first = shared.proofs.is_first(&proof.id);
    let first = first
        && match shared.state.once(Kind::Once, &proof.id, proof.dies_at_s.saturating_mul(1000)).await {
            Ok(first) => first,
            Err(silent) => {
                metrics.proof("unshared");
                tracing::debug!(%silent, "a proof was held against this process's memory alone");
                true
            }
        };
    if !first {
        metrics.proof("replayed");
        return Err("the proof was used before".to_owned());
    }
    metrics.proof("ok");
    Ok(())
}
