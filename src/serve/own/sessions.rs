//! `/.moat/sessions`: users list their own sessions (GET), and end one of them or all (POST).
//!
//! Whoever calls shows a session of ours or a token of an issuer, and sees what belongs to that user of that issuer in that
//! tenant: somebody of the same name in another tenant is somebody else. Ending all of them is a *not before* time, so that it
//! ends tokens too which nobody could list.
mod rows;

pub(in crate::serve) use rows::{Look, Row, held_for};

use super::session::stolen;
use super::{Visit, json};
use crate::serve::keys::KeyRing;
use crate::serve::respond::Made;
use crate::serve::revocation::{Order, Via, undone};
use crate::serve::sessions::{OLD, present, unavailable};
use crate::serve::ways;
use crate::store::sessions::Presented;
use decide::cookie;
use decide::facts::{Answer, Carrier, Credential, Identity};
use decide::guards::own::{Sites, bind, judge};
use decide::refusal::{Challenge, Code, Refusal};
use decide::token::peek_issuer;
use http::header::COOKIE;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// What is to end.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Demand {
    /// `all`, or the id of a session as it is listed.
    end: String,
}

/// Whoever calls.
struct Caller {
    identity: Arc<Identity>,
    carrier: Carrier,
    /// Key of the session that it came with, where it is one of ours.
    key: Option<[u8; 32]>,
}

/// Lists the sessions of whoever calls.
pub(super) async fn list(visit: &mut Visit<'_>) -> Result<Made, Refusal> {
    let caller = caller(visit).await?;
    visit.identify(caller.identity.clone(), caller.carrier);
    let (rows, more) = rows(visit, &caller.identity).await?;
    let sessions: Vec<Value> = rows.iter().map(|row| row.told(row.is_of(caller.key, &caller.identity))).collect();
    Ok(json(StatusCode::OK, &json!({"sessions": sessions, "more": more})))
}

/// Ends one session of whoever calls, or all of them, the one that it came with too.
pub(super) async fn end(visit: &mut Visit<'_>) -> Result<Made, Refusal> {
    if !visit.active.snapshot.revocation.listen.users {
        return Err(Refusal::new(Code::RouteUnknown, "users do not end sessions here"));
    }
    let caller = caller(visit).await?;
    visit.identify(caller.identity.clone(), caller.carrier);
    if caller.carrier != Carrier::Bearer {
        // A browser sends the cookie by itself, so that the page must show whose it is.
        judge(visit.facts, visit.seat.as_ref(), Sites::Proven)?;
    }
    let demand: Demand = serde_json::from_slice(&visit.body).map_err(|_| {
        Refusal::new(Code::BodyInvalid, "the body is not `{\"end\": …}` with `all` or the id of a session")
    })?;
    visit.intent("sessions.end").await?;
    let all = demand.end == "all";
    let (rows, _) = rows(visit, &caller.identity).await?;
    let chosen: Vec<&Row> = rows.iter().filter(|row| all || *row.id() == *demand.end).collect();
    let missing = || Refusal::new(Code::RouteUnknown, "no session of the caller's has this id");
    let at_ms = visit.received_ms;
    let actor = caller.identity.subject.0.clone();
    if all {
        let target = caller.identity.handles.everywhere();
        // Whoever asks is out too, however far ahead the issuer's clock is.
        let at_ms = at_ms.max(caller.identity.began_s().saturating_mul(1000));
        let order = Order { targets: &[target], at_ms, actor: &actor, via: Via::Users };
        visit.shared.end(order).await.map_err(|fault| undone(&fault))?;
    } else {
        let target = chosen.first().ok_or_else(missing)?.target();
        let order = Order { targets: &[target], at_ms, actor: &actor, via: Via::Users };
        visit.shared.end(order).await.map_err(|fault| undone(&fault))?;
    }
    let ended = chosen.len();
    for row in chosen {
        row.bury(visit.shared, visit.active, visit.seat.as_ref()).await;
    }
    visit.done("sessions.ended");
    Ok(json(StatusCode::OK, &json!({"ended": if all { Value::from("all") } else { Value::from(ended) }})))
}

/// Who calls: by a token where one is sent on purpose, else by the session cookie. Nobody who was ended.
async fn caller(visit: &mut Visit<'_>) -> Result<Caller, Refusal> {
    let bearer = ways::bearer(visit.headers);
    let bearer = bearer.map_err(|cause| Refusal::new(Code::SessionInvalid, cause).challenge(Challenge::Bearer))?;
    // A cookie is no token that `Bearer` could blame (RFC 6750, 3.1).
    let wrong = if bearer.is_some() { Challenge::InvalidToken } else { Challenge::Bearer };
    let refuse = |code: Code, cause: String| Refusal::new(code, cause).challenge(wrong.clone());
    let (answer, key) = match bearer {
        Some(token) => (by_token(visit, token, Carrier::Bearer).await, None),
        None => match by_session(visit).await? {
            (Answer::Credential(Credential::Missing), _) => (by_cookie(visit).await?, None),
            found => found,
        },
    };
    let settings = &visit.active.snapshot.revocation;
    let tenant = visit.seat.as_ref().map(|seat| &*seat.id);
    let (identity, carrier) = match visit.shared.hold(answer, settings, true, tenant) {
        Answer::Credential(Credential::Valid { identity, carrier }) => (identity, carrier),
        Answer::Credential(Credential::Missing) => {
            return Err(Refusal::new(Code::SessionMissing, "no credential").challenge(Challenge::Bearer));
        }
        Answer::Credential(Credential::Invalid(cause)) => return Err(refuse(Code::SessionInvalid, cause)),
        Answer::Credential(Credential::Expired(cause)) => return Err(refuse(Code::SessionExpired, cause)),
        Answer::Credential(Credential::Revoked(cause)) => return Err(refuse(Code::SessionRevoked, cause)),
        Answer::Unavailable(cause) => return Err(Refusal::new(Code::GatewayUnavailable, cause).retry_after(5)),
        _ => return Err(Refusal::new(Code::GatewayUnavailable, "an answer to another question")),
    };
    if identity.expires_at <= visit.facts.at_s() {
        return Err(refuse(Code::SessionExpired, "the credential has expired".to_owned()));
    }
    if identity.bound_to.is_some() {
        let cause = "the token is bound to a key, of which there is no proof here".to_owned();
        return Err(refuse(Code::SessionInvalid, cause));
    }
    let bound = bind(visit.seat.as_ref(), identity.tenant.as_deref(), &identity.issuer);
    bound.map_err(|refusal| refusal.shown_by(Some(carrier)))?;
    Ok(Caller { identity, carrier, key })
}

async fn by_token(visit: &Visit<'_>, token: &str, carrier: Carrier) -> Answer {
    let claimed = peek_issuer(token);
    let says = |ring: &&Arc<KeyRing>| Some(&*ring.settings().rules.issuer) == claimed.as_deref();
    match visit.active.issuers().values().find(says) {
        Some(ring) => ring.verify(token, visit.facts.at_s(), carrier).await,
        None => Answer::Credential(Credential::Invalid("no issuer of ours made this token".to_owned())),
    }
}

/// A token of an issuer in a cookie that some route accepts.
async fn by_cookie(visit: &Visit<'_>) -> Result<Answer, Refusal> {
    for name in visit.active.cookies() {
        let cookies = visit.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
        if let Some(token) = cookie::find(cookies, name)? {
            return Ok(by_token(visit, token, Carrier::Cookie).await);
        }
    }
    Ok(Answer::Credential(Credential::Missing))
}

async fn by_session(visit: &mut Visit<'_>) -> Result<(Answer, Option<[u8; 32]>), Refusal> {
    let missing = (Answer::Credential(Credential::Missing), None);
    let Some(held) = visit.active.held() else { return Ok(missing) };
    let cookies = visit.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let Some(text) = cookie::find(cookies, &held.settings.cookie)? else { return Ok(missing) };
    let realm = held.realm(visit.seat.as_ref(), None);
    let (client, now_ms) = (visit.facts.client.0, visit.facts.at_ms);
    let presented = present(visit.shared, &realm, text, (client, now_ms)).await;
    let credential = match presented.map_err(|fault| unavailable(&fault))? {
        Presented::Good { stale: true, .. } => {
            return Err(Refusal::new(Code::GatewayUnavailable, OLD).retry_after(5));
        }
        Presented::Good { identity, .. } => Credential::Valid { identity, carrier: Carrier::Session },
        Presented::Foreign(cause) => Credential::Invalid(cause.to_owned()),
        Presented::Unknown => Credential::Expired("the session is not known any more".to_owned()),
        Presented::Over(over) => Credential::Expired(format!("the session is over: {over:?}")),
        Presented::Reused { identity, .. } => return Err(stolen(visit, identity)),
    };
    Ok((Answer::Credential(credential), visit.shared.sessions.key_of(&realm, text)))
}

/// The living sessions that the gateway holds for this user in this tenant.
async fn rows(visit: &Visit<'_>, identity: &Identity) -> Result<(Vec<Row>, bool), Refusal> {
    let who = (&*identity.issuer, identity.tenant.as_deref(), &*identity.subject.0);
    let found = held_for(visit.shared, visit.active, Look::Host(visit.seat.as_ref()), who).await;
    found.map_err(|cause| Refusal::new(Code::GatewayUnavailable, cause).retry_after(5))
}
