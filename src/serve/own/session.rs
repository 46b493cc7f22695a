//! `/.moat/session`: a token becomes a session (POST), whose it is (GET), and its end (DELETE).
use super::{Visit, cookie, json};
use crate::serve::keys::KeyRing;
use crate::serve::metrics::SessionEvent;
use crate::serve::respond::Made;
use crate::serve::revocation::Via;
use crate::serve::sessions::{Held, present, proclaim, replace, unavailable};
use crate::serve::ways;
use crate::store::sessions::{Content, Presented, Realm};
use decide::facts::{Answer, Carrier, Credential, Identity};
use decide::guards::own::bind;
use decide::refusal::{Challenge, Code, Refusal};
use decide::session::browser::Ending;
use decide::session::handle::public_id;
use decide::token::peek_issuer;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// Exchanges a token of an accepted issuer for a session.
pub(super) async fn open(visit: &mut Visit<'_>) -> Result<Made, Refusal> {
    let held = held(visit)?;
    if held.settings.exchange.is_empty() {
        return Err(Refusal::new(Code::RouteUnknown, "no issuer's tokens are exchanged for sessions"));
    }
    let invalid = |cause: String| Refusal::new(Code::SessionInvalid, cause).challenge(Challenge::InvalidToken);
    let missing = || Refusal::new(Code::SessionMissing, "no token to exchange").challenge(Challenge::Bearer);
    let token = ways::bearer(visit.headers).map_err(|cause| invalid(cause.to_owned()))?.ok_or_else(missing)?;
    let claimed = peek_issuer(token);
    let mut rings = held.settings.exchange.iter().filter_map(|name| visit.active.issuer(name));
    let says = |ring: &&Arc<KeyRing>| Some(&*ring.settings().rules.issuer) == claimed.as_deref();
    let ring = rings.find(says).ok_or_else(|| invalid("no accepted issuer made this token".to_owned()))?;
    let (settings, tenant) = (&visit.active.snapshot.revocation, visit.seat.as_ref().map(|seat| &*seat.id));
    let answer = ring.verify(token, visit.facts.at_s(), Carrier::Bearer).await;
    // Nobody gets a young session for a token that was ended.
    let identity = match visit.shared.hold(answer, settings, true, tenant) {
        Answer::Credential(Credential::Valid { identity, .. }) => identity,
        Answer::Credential(Credential::Expired(cause)) => {
            return Err(Refusal::new(Code::SessionExpired, cause).challenge(Challenge::InvalidToken));
        }
        Answer::Credential(Credential::Revoked(cause)) => {
            return Err(Refusal::new(Code::SessionRevoked, cause).challenge(Challenge::InvalidToken));
        }
        Answer::Credential(Credential::Invalid(cause) | Credential::Reused(cause)) => {
            return Err(invalid(cause));
        }
        Answer::Credential(Credential::Denied(cause)) => return Err(Refusal::new(Code::AccessDenied, cause)),
        Answer::Credential(Credential::Missing) => return Err(missing()),
        Answer::Unavailable(cause) => return Err(Refusal::new(Code::GatewayUnavailable, cause).retry_after(5)),
        Answer::Shown(..) | Answer::Quota(_) | Answer::Fields(_) | Answer::CsrfToken(_) => {
            return Err(Refusal::new(Code::GatewayUnavailable, "an answer to another question"));
        }
    };
    if identity.bound_to.is_some() {
        return Err(invalid("the token is bound to a key, of which a session would need no proof".to_owned()));
    }
    if identity.expires_at <= visit.facts.at_s() {
        return Err(Refusal::new(Code::SessionExpired, "the token has expired").challenge(Challenge::InvalidToken));
    }
    if let Some(refusal) = visit.shared.ended(&identity, visit.seat.as_ref().map(|seat| &*seat.id)) {
        return Err(refusal);
    }
    begin(visit, &held, &identity, Carrier::Bearer).await
}

/// Opens a session for a verified identity, in place of the one that the browser had. The answer is whose it is.
async fn begin(
    visit: &mut Visit<'_>,
    held: &Held,
    identity: &Arc<Identity>,
    carrier: Carrier,
) -> Result<Made, Refusal> {
    bind(visit.seat.as_ref(), identity.tenant.as_deref(), &identity.issuer)?;
    visit.identify(identity.clone(), carrier);
    visit.intent("session.open").await?;
    let realm = held.realm(visit.seat.as_ref(), None);
    let (client, now_ms) = (visit.facts.client.0, visit.facts.at_ms);
    let sessions = &visit.shared.sessions;
    let opened = sessions.open(&realm, identity, Some(client), None, now_ms).await.map_err(|f| unavailable(&f))?;
    if let Some(before) = presented(visit, held, &realm) {
        replace(visit.shared, &realm, before, identity, now_ms).await;
    }
    visit.shared.metrics.session(SessionEvent::Opened);
    visit.identify(opened.identity.clone(), carrier);
    visit.done("session.opened");
    let made = json(StatusCode::CREATED, &described(&opened.identity));
    Ok(held.cookie(&opened.handle).into_iter().fold(made, cookie))
}

/// Says whose session the browser has.
pub(super) async fn show(visit: &mut Visit<'_>) -> Result<Made, Refusal> {
    let held = held(visit)?;
    let realm = held.realm(visit.seat.as_ref(), None);
    let missing = || Refusal::new(Code::SessionMissing, "no session").challenge(Challenge::Bearer);
    let text = find(visit.headers, &held.settings.cookie)?.ok_or_else(missing)?;
    let (client, now_ms) = (visit.facts.client.0, visit.facts.at_ms);
    let presented = present(visit.shared, &realm, text, (client, now_ms)).await.map_err(|f| unavailable(&f))?;
    let (identity, hand) = match presented {
        Presented::Good { identity, hand, .. } => (identity, hand),
        Presented::Foreign(cause) => return Err(Refusal::new(Code::SessionInvalid, cause)),
        Presented::Unknown => return Err(Refusal::new(Code::SessionExpired, "the session is not known any more")),
        Presented::Over(over) => {
            return Err(Refusal::new(Code::SessionExpired, format!("the session is over: {over:?}")));
        }
        Presented::Reused { identity, .. } => return Err(stolen(visit, identity)),
    };
    if let Some(refusal) = visit.ended(&identity, visit.seat.as_ref()) {
        return Err(refusal);
    }
    visit.identify(identity.clone(), Carrier::Session);
    let mut made = json(StatusCode::OK, &described(&identity));
    if let Some(hand) = hand.and_then(|hand| held.hand(&hand)) {
        visit.shared.metrics.session(SessionEvent::Rotated);
        made.headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        hand.give(&mut made.headers);
    }
    Ok(made)
}

/// What whoever shows a copy of a handle is told, and what is written down of them.
pub(super) fn stolen(visit: &mut Visit<'_>, identity: Arc<Identity>) -> Refusal {
    visit.identify(identity, Carrier::Session);
    Refusal::new(Code::SessionReused, "a replaced handle came back while its successor was in use")
}

/// Ends the browser's session. The cookie goes in any case; that there is no session is no mistake.
pub(super) async fn close(visit: &mut Visit<'_>) -> Result<Made, Refusal> {
    let held = held(visit)?;
    let made = Made { status: StatusCode::NO_CONTENT, headers: HeaderMap::new(), body: bytes::Bytes::new() };
    sign_out(visit, &held).await?;
    Ok(held.no_cookie().into_iter().fold(made, cookie))
}

/// Ends the browser's session, here and on all replicas, and returns what was kept of it; `None` where it has none.
pub(super) async fn sign_out(visit: &mut Visit<'_>, held: &Held) -> Result<Option<Content>, Refusal> {
    let realm = held.realm(visit.seat.as_ref(), None);
    let Some(key) = presented(visit, held, &realm) else { return Ok(None) };
    let sessions = visit.shared.sessions.clone();
    let content = sessions.content(&realm, &key).await.map_err(|fault| unavailable(&fault))?;
    let Some(content) = content else { return Ok(None) };
    let identity = Arc::new(content.identity(&key, content.life.expires_at_ms(&realm.rules)));
    visit.identify(identity.clone(), Carrier::Session);
    visit.intent("session.end").await?;
    if sessions.end(&realm, key, Ending::SignedOut).await.map_err(|fault| unavailable(&fault))? {
        proclaim(visit.shared, &public_id(&key), &identity.subject.0, Via::SignOut, visit.facts.at_ms).await;
        visit.shared.metrics.session(SessionEvent::SignedOut);
    }
    visit.done("session.ended");
    Ok(Some(content))
}

pub(super) fn held(visit: &Visit<'_>) -> Result<Arc<Held>, Refusal> {
    let none = || Refusal::new(Code::RouteUnknown, "the gateway holds no sessions");
    visit.active.held().cloned().ok_or_else(none)
}

/// The key of the session whose handle the request carries, good or not.
pub(super) fn presented(visit: &Visit<'_>, held: &Held, realm: &Realm) -> Option<[u8; 32]> {
    let text = find(visit.headers, &held.settings.cookie).ok().flatten()?;
    visit.shared.sessions.key_of(realm, text)
}

fn find<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Refusal> {
    decide::cookie::find(headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes), name)
}

/// What a browser may know of its session: who, since when, until when. No handle and no token.
fn described(identity: &Identity) -> Value {
    json!({
        "session": identity.session,
        "issuer": identity.issuer,
        "subject": identity.subject.0,
        "tenant": identity.tenant,
        "roles": identity.roles,
        "auth_time": identity.auth_time,
        "acr": identity.acr,
        "amr": identity.amr,
        "opened_at": identity.issued_at,
        "expires_at": identity.expires_at,
    })
}
