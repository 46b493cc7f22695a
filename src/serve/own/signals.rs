//! `POST /.moat/signals/ISSUER`: security event tokens pushed by an issuer (RFC 8935).
//!
//! What an event ends is durable, in force here and told to all replicas before it is accepted with 202: a sender forgets
//! what was accepted. Ending the same again changes nothing, so that a token that is sent again because an answer was lost, or
//! because somebody kept it, does no harm; its `jti` is remembered to spare the work and the entries.
use super::Visit;
use crate::serve::keys::Unverified;
use crate::serve::respond::Made;
use crate::serve::revocation::{Order, Via, undone};
use crate::store::state::Kind;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA256, digest};
use bytes::Bytes;
use decide::refusal::{Code, Refusal};
use decide::token::{EventError, EventRules, Events, TokenError, verify_events};
use http::header::{AUTHORIZATION, CONTENT_LANGUAGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

/// What a pushed token is sent as (RFC 8935, 2.1).
const MEDIA_TYPE: &str = "application/secevent+jwt";
/// How long `jti` is remembered, in milliseconds: longer than any sender tries again.
const REMEMBERED_MS: u64 = 7 * 86_400_000;

/// Takes one token.
pub(super) async fn answer(visit: &mut Visit<'_>) -> Result<Made, Refusal> {
    let nothing = || Refusal::new(Code::RouteUnknown, "no issuer of that name sends signals here");
    let name = visit.request.path.rsplit('/').next().unwrap_or_default();
    if !visit.active.snapshot.revocation.listen.caep {
        return Err(nothing());
    }
    let ring = visit.active.issuer(name).cloned().ok_or_else(nothing)?;
    let signals = ring.settings().signals.clone().ok_or_else(nothing)?;
    visit.done("signals.receive");
    if signals.authorization.is_some_and(|expected| !carries(visit.headers, &expected)) {
        visit.shared.metrics.signal(name, "none", "authentication_failed");
        return Ok(refused("authentication_failed", "`Authorization` is not what the stream was set up with"));
    }
    let media_type = visit.facts.body.content_type.as_deref();
    if media_type != Some(MEDIA_TYPE) {
        return Ok(refused("invalid_request", "the body is not `application/secevent+jwt`"));
    }
    let Ok(token) = str::from_utf8(&visit.body) else {
        return Ok(refused("invalid_request", "the body is no security event token"));
    };
    let issuer = &ring.settings().rules;
    let rules = EventRules { transmitter: &signals.transmitter, audiences: &signals.audiences, issuer };
    let now_s = visit.received_s();
    let verified = ring
        .verify_with(|keys| match verify_events(token.trim_ascii(), &rules, keys, now_s) {
            Err(EventError::UnknownKey { kid }) => Err(TokenError::UnknownKey { kid }),
            known => Ok(known),
        })
        .await;
    let silent = |cause: String| Refusal::new(Code::GatewayUnavailable, cause).retry_after(5);
    let verified = match verified {
        Ok(verified) => verified,
        Err(Unverified::Invalid(_)) => Err(EventError::UnknownKey { kid: String::new() }),
        Err(Unverified::Unavailable(cause)) => return Err(silent(cause)),
    };
    let Events { id, events } = match verified {
        Ok(events) => events,
        Err(error) => {
            visit.shared.metrics.signal(name, "none", error.code());
            return Ok(refused(error.code(), &error.to_string()));
        }
    };
    let seen = seen_as(&issuer.issuer, &id);
    let known = visit.shared.state.get(crate::store::state::Kind::Once, &seen).await;
    if known.map_err(|error| silent(error.to_string()))?.is_some() {
        visit.shared.metrics.signal(name, "none", "again");
        return Ok(accepted());
    }
    visit.intent("signals.receive").await?;
    for event in &events {
        let Some(ends) = &event.ends else {
            visit.shared.metrics.signal(name, event.name, "noted");
            continue;
        };
        let Some(target) = ends.target(&issuer.issuer) else { continue };
        // The sender's clock may be ahead.
        let at_ms = ends.at_s.saturating_mul(1000).min(visit.received_ms);
        let order = Order { targets: &[target], at_ms, actor: name, via: Via::Signals };
        if let Err(fault) = visit.shared.end(order).await {
            visit.shared.metrics.signal(name, event.name, "failed");
            return Err(undone(&fault));
        }
        visit.shared.metrics.signal(name, event.name, "ended");
    }
    let until_ms = visit.received_ms.saturating_add(REMEMBERED_MS);
    // What it says is done and durable: were this forgotten, it would be done once more.
    if let Err(error) = visit.shared.state.once(Kind::Once, &seen, until_ms).await {
        tracing::warn!(%error, "a signal may be taken twice");
    }
    Ok(accepted())
}

/// Whether the one `Authorization` is the text with this hash.
fn carries(headers: &HeaderMap, expected: &[u8; 32]) -> bool {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    verify_slices_are_equal(digest(&SHA256, line.as_bytes()).as_ref(), expected).is_ok()
}

/// What is remembered of a token.
fn seen_as(issuer: &str, id: &str) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in ["security event", issuer, id] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

/// RFC 8935, 2.2.
fn accepted() -> Made {
    Made { status: StatusCode::ACCEPTED, headers: HeaderMap::with_capacity(16), body: Bytes::new() }
}

/// RFC 8935, 2.3.
fn refused(code: &str, description: &str) -> Made {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
    let body = serde_json::json!({"err": code, "description": description});
    Made { status: StatusCode::BAD_REQUEST, headers, body: Bytes::from(body.to_string()) }
}
