//! `POST /.moat/backchannel-logout`: a provider ends sessions (OpenID Connect Back-Channel Logout 1.0).
//!
//! What a token ends is durable, in force here and told to all replicas before it is accepted. Nothing of it depends on the host
//! that it arrives at: a token speaks for the sessions of its issuer, and of them only for those of its user.
use super::unavailable;
use crate::serve::keys::Unverified;
use crate::serve::own::Visit;
use crate::serve::respond::Made;
use crate::serve::revocation::{Order, Via, undone};
use crate::store::state::Kind;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use decide::refusal::{Code, Refusal};
use decide::sign_in::fields;
use decide::token::{LOGOUT_TOKEN_LIFE_S, peek_issuer, verify_logout_token};
use http::{HeaderMap, StatusCode};

pub(in crate::serve::own) async fn answer(visit: &mut Visit<'_>) -> Result<Made, Refusal> {
    if !visit.active.snapshot.revocation.listen.back_channel_logout {
        return Err(Refusal::new(Code::RouteUnknown, "providers end no sessions here"));
    }
    visit.done("back-channel-logout.receive");
    // The protocol's answer to what is no logout token is 400 (2.8).
    let bad = |cause: String| Refusal::new(Code::RequestMalformed, cause);
    if visit.facts.body.content_type.as_deref() != Some("application/x-www-form-urlencoded") {
        return Err(bad("a logout token comes in a form".to_owned()));
    }
    let form = str::from_utf8(&visit.body).map_err(|_| bad("the form is not text".to_owned()))?;
    let [token] = fields(form, ["logout_token"]).map_err(|cause| bad(cause.to_owned()))?;
    let token = token.ok_or_else(|| bad("the form holds no logout token".to_owned()))?;
    let claimed = peek_issuer(&token);
    let issuers = visit.active.snapshot.issuers.iter().filter(|issuer| issuer.client.is_some());
    let issuer = issuers.clone().find(|issuer| Some(&*issuer.rules.issuer) == claimed.as_deref()).cloned();
    let issuer = issuer.ok_or_else(|| bad("no issuer that browsers sign in with made the logout token".to_owned()))?;
    let (Some(client), Some(ring)) = (&issuer.client, visit.active.issuer(&issuer.rules.name).cloned()) else {
        return Err(bad("no issuer that browsers sign in with made the logout token".to_owned()));
    };
    let now_s = visit.received_s();
    let verified = ring.verify_with(|keys| verify_logout_token(&token, &client.rules, keys, now_s)).await;
    let logout = verified.map_err(|error| match error {
        Unverified::Invalid(cause) => bad(format!("logout token: {cause}")),
        Unverified::Unavailable(cause) => unavailable(cause),
    })?;
    let seen = digest(&SHA256, format!("logout {} {}", issuer.rules.issuer, logout.id).as_bytes());
    let known = visit.shared.state.get(Kind::Once, seen.as_ref()).await;
    if known.map_err(|error| unavailable(error.to_string()))?.is_some() {
        return Err(bad("the logout token was used before".to_owned()));
    }
    visit.intent("back-channel-logout.receive").await?;
    let Some(target) = logout.target(&issuer.rules.issuer) else {
        return Err(bad("a logout of nobody".to_owned()));
    };
    // As of when the provider said it: one that is kept and sent again ends nothing that began later. Its clock may be ahead.
    let at_ms = logout.issued_at.saturating_mul(1000).min(visit.received_ms);
    let order = Order { targets: &[target], at_ms, actor: &issuer.rules.name, via: Via::BackChannel };
    visit.shared.end(order).await.map_err(|fault| undone(&fault))?;
    // Remembered only now: what was not done may be asked for again.
    let until_ms = now_s.saturating_add(2 * LOGOUT_TOKEN_LIFE_S).saturating_mul(1000);
    if let Err(error) = visit.shared.state.once(Kind::Once, seen.as_ref(), until_ms).await {
        tracing::warn!(%error, "a logout token may be taken twice");
    }
    visit.done("back-channel-logout.received");
    Ok(Made { status: StatusCode::OK, headers: HeaderMap::with_capacity(16), body: Bytes::new() })
}
