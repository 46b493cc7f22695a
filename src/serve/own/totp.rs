//! `/.moat/totp`: codes of an authenticator app as a second factor of sessions that the gateway holds.
//!
//! GET says how a user stands. POST with `do=enrol` makes a secret, which is shown until its first code has come; POST with
//! `code` shows a code. A right one makes the session stronger: its authentication is as old as the code, its methods are
//! `otp` and `mfa` besides those that it had (RFC 8176), and its handle is replaced with the next use.
mod page;

use super::session::stolen;
use super::{Visit, json, sign_in};
use crate::config::settings::Totp;
use crate::serve::gateway::random;
use crate::serve::html::Html;
use crate::serve::metrics::{Factor as Event, StepUp};
use crate::serve::respond::{Made, wants_html};
use crate::serve::sessions::{Held, OLD, present, unavailable};
use crate::store::factors::{Factors, Owner, Unknown};
use crate::store::seal::Keyring;
use crate::store::sessions::{Presented, Realm};
use decide::body::form_field;
use decide::facts::{Answer, Carrier, Credential, Identity};
use decide::guards::step_up::OF_A_CODE;
use decide::refusal::{Challenge, Code, Refusal};
use decide::sign_in::return_to;
use decide::totp::{Check, Factor, RECOVERY_CODES, Secret, recovery_code};
use http::header::{CONTENT_TYPE, COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use std::sync::Arc;

/// Whoever asks, in a session of theirs.
struct Caller {
    settings: Arc<Totp>,
    realm: Realm,
    key: [u8; 32],
    identity: Arc<Identity>,
    ring: Arc<Keyring>,
}

impl Caller {
    fn owner(&self) -> Owner<'_> {
        let tenant = self.identity.tenant.as_deref().unwrap_or_default();
        Owner { issuer: &self.identity.issuer, tenant, subject: &self.identity.subject.0 }
    }

    fn factors<'a>(&'a self, visit: &'a Visit<'_>) -> Factors<'a> {
        Factors { state: &visit.shared.state, ring: &self.ring }
    }
}

/// How the user stands.
pub(super) async fn show(visit: &mut Visit<'_>) -> Result<Made, Refusal> {
    let caller = caller(visit).await?;
    let factor = caller.factors(visit).get(caller.owner()).await.map_err(|fault| silent(&fault))?;
    let back =
        back(visit, visit.request.query.as_deref().and_then(|query| form_field(query.as_bytes(), None, "return").ok()));
    let state = factor.as_ref().map_or("none", Factor::state);
    if !wants_html(visit.headers) {
        let left = factor.as_ref().map(Factor::recovery_left);
        return Ok(json(StatusCode::OK, &json!({"factor": state, "recovery_codes_left": left})));
    }
    let fresh = is_fresh(&caller, visit.facts.at_s());
    let body = match factor.as_ref().map(Factor::unconfirmed) {
        Some(None) => page::ask(&back, None),
        None if fresh => page::offer(&caller.settings, &back),
        Some(Some(secret)) if fresh => page::confirm(&caller.settings, &caller.identity, secret, &back, None),
        // The secret is for whoever may set an app up: who finds another of the user's sessions open would have the app too.
        None | Some(Some(_)) => page::sign_in_first(&caller.settings, sign_in::again(visit, &back).as_deref()),
    };
    Ok(html(visit, StatusCode::OK, body))
}

/// A secret is made, or a code shown.
pub(super) async fn use_it(visit: &mut Visit<'_>) -> Result<Made, Refusal> {
    let typed = visit.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !typed
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
    {
        return Err(Refusal::new(Code::BodyUnsupported, "a code is sent as a form"));
    }
    let caller = caller(visit).await?;
    let back = back(visit, form_field(&visit.body, None, "return").ok());
    match form_field(&visit.body, None, "code") {
        Ok(code) => check(visit, &caller, &code, &back).await,
        Err(_) if form_field(&visit.body, None, "do").is_ok_and(|what| what == "enrol") => {
            enrol(visit, &caller, &back).await
        }
        Err(refusal) => Err(refusal),
    }
}

async fn enrol(visit: &mut Visit<'_>, caller: &Caller, back: &str) -> Result<Made, Refusal> {
    let now_s = visit.facts.at_s();
    if !is_fresh(caller, now_s) {
        let most = caller.settings.enrol_within.as_secs();
        let refusal = Refusal::new(Code::SessionStepUp, "an app is set up right after signing in");
        return Err(refusal.challenge(Challenge::StepUp { max_age_s: Some(most), acr: Vec::new(), dpop: false }));
    }
    visit.intent("factor.enrol").await?;
    let secret = Secret::new(random());
    let factor = Factor::new(secret.clone(), now_s);
    let begun = caller.factors(visit).begin(caller.owner(), &factor, now_s).await.map_err(|fault| silent(&fault))?;
    if !begun {
        // Whoever has the session only must not put an app of theirs in place of the user's.
        return Err(Refusal::new(Code::AccessDenied, "the user has an app already"));
    }
    visit.done("factor.begun");
    if wants_html(visit.headers) {
        let body = page::confirm(&caller.settings, &caller.identity, &secret, back, None);
        return Ok(html(visit, StatusCode::CREATED, body));
    }
    let uri = secret.uri(&caller.settings.issuer, &caller.identity.subject.0);
    Ok(json(StatusCode::CREATED, &json!({"secret": secret.text(), "uri": uri})))
}

/// Whether the user signed in a moment ago: an app that anybody sets up who finds a session open proves nothing.
fn is_fresh(caller: &Caller, now_s: u64) -> bool {
    let most = caller.settings.enrol_within.as_secs();
    caller.identity.auth_time.is_some_and(|time| now_s.saturating_sub(time) <= most)
}

async fn check(visit: &mut Visit<'_>, caller: &Caller, code: &str, back: &str) -> Result<Made, Refusal> {
    let now_s = visit.received_s();
    visit.intent("factor.check").await?;
    let recovery: Vec<String> = (0..RECOVERY_CODES).map(|_| recovery_code(random())).collect();
    let checked = caller.factors(visit).check(caller.owner(), code, &recovery, now_s).await;
    let Some((check, confirmed)) = checked.map_err(|fault| silent(&fault))? else {
        return Err(Refusal::new(Code::AccessDenied, "the user has no app"));
    };
    visit.shared.metrics.factor(Event::of(check));
    visit.shared.metrics.step_up(match check {
        Check::Code | Check::Recovery { .. } => StepUp::Met,
        Check::Wrong | Check::Lapsed | Check::TooMany { .. } => StepUp::Unmet,
    });
    let failed = match check {
        Check::Code | Check::Recovery { .. } => None,
        Check::Wrong => Some(Refusal::new(Code::AccessDenied, "the code is wrong, or was used before")),
        Check::Lapsed => Some(Refusal::new(Code::AccessDenied, "the app was not confirmed in time")),
        Check::TooMany { wait_s } => {
            let refusal = Refusal::new(Code::QuotaExceeded, "too many wrong codes");
            Some(refusal.retry_after(u32::try_from(wait_s).unwrap_or(u32::MAX)))
        }
    };
    if let Some(refusal) = failed {
        if check != Check::Wrong || !wants_html(visit.headers) {
            return Err(refusal);
        }
        visit.done("factor.refused");
        let hint = "That code is wrong, or was used before: take the next one.";
        return Ok(html(visit, StatusCode::FORBIDDEN, page::ask(back, Some(hint))));
    }
    promote(visit, caller, now_s).await?;
    visit.done(if confirmed { "factor.enrolled" } else { "factor.shown" });
    if !wants_html(visit.headers) {
        let codes = if confirmed { recovery } else { Vec::new() };
        return Ok(json(StatusCode::OK, &json!({"factor": "enrolled", "recovery_codes": codes})));
    }
    if confirmed {
        return Ok(html(visit, StatusCode::OK, page::recovery(&recovery, back)));
    }
    let location = HeaderValue::try_from(back).unwrap_or(HeaderValue::from_static("/"));
    Ok(super::redirect(location))
}

/// The session is as fresh as the code, and as strong.
async fn promote(visit: &mut Visit<'_>, caller: &Caller, now_s: u64) -> Result<(), Refusal> {
    let mut identity = (*caller.identity).clone();
    identity.auth_time = Some(now_s);
    for method in OF_A_CODE {
        if !identity.amr.iter().any(|known| &**known == method) {
            identity.amr.push(method.into());
        }
    }
    if let Some(acr) = &caller.settings.acr {
        identity.acr = Some(acr.clone());
    }
    let promoted = visit.shared.sessions.strengthen(&caller.realm, caller.key, &identity).await;
    if promoted.map_err(|fault| unavailable(&fault))? {
        return Ok(());
    }
    Err(Refusal::new(Code::SessionExpired, "the session has ended meanwhile"))
}

/// Whose session the request carries. There are codes where the configuration says so, and for sessions of the gateway's.
async fn caller(visit: &mut Visit<'_>) -> Result<Caller, Refusal> {
    let unknown = || Refusal::new(Code::RouteUnknown, "there are no codes here");
    let held: Arc<Held> = visit.active.held().cloned().ok_or_else(unknown)?;
    let settings = visit.active.snapshot.sessions.totp.clone().ok_or_else(unknown)?;
    let missing = || Refusal::new(Code::SessionMissing, "no session").challenge(Challenge::Bearer);
    let lines = visit.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let text = decide::cookie::find(lines, &held.settings.cookie)?.ok_or_else(missing)?;
    let realm = held.realm(visit.seat.as_ref(), None);
    let key = visit.shared.sessions.key_of(&realm, text);
    let key = key.ok_or_else(|| Refusal::new(Code::SessionInvalid, "no handle of ours"))?;
    let presented = present(visit.shared, &realm, text, (visit.facts.client.0, visit.facts.at_ms)).await;
    // What a handle is replaced by goes out with the next answer of another resource.
    let identity = match presented.map_err(|fault| unavailable(&fault))? {
        Presented::Good { identity, stale: false, .. } => identity,
        Presented::Good { .. } => return Err(Refusal::new(Code::GatewayUnavailable, OLD).retry_after(5)),
        Presented::Reused { identity, .. } => return Err(stolen(visit, identity)),
        Presented::Foreign(_) | Presented::Unknown | Presented::Over(_) => {
            return Err(Refusal::new(Code::SessionExpired, "the session is over"));
        }
    };
    let answer = Answer::Credential(Credential::Valid { identity: identity.clone(), carrier: Carrier::Session });
    let tenant = visit.seat.as_ref().map(|seat| &*seat.id);
    match visit.shared.hold(answer, &visit.active.snapshot.revocation, true, tenant) {
        Answer::Credential(Credential::Valid { .. }) => {}
        Answer::Unavailable(cause) => return Err(Refusal::new(Code::GatewayUnavailable, cause).retry_after(5)),
        _ => return Err(Refusal::new(Code::SessionRevoked, "the session was ended").challenge(Challenge::Bearer)),
    }
    visit.identify(identity.clone(), Carrier::Session);
    Ok(Caller { settings, ring: realm.ring.clone(), realm, key, identity })
}

/// Where the user goes on: a page of this host, or its front page.
fn back(visit: &Visit<'_>, wanted: Option<String>) -> String {
    let one = |name: &http::HeaderName| visit.headers.get(name).and_then(|value| value.to_str().ok());
    let page = wanted.and_then(|wanted| return_to(&visit.active.snapshot.rules, visit.request, &wanted, one));
    page.map_or_else(|| "/".to_owned(), |(page, _)| page.target().into_owned())
}

fn html(visit: &mut Visit<'_>, status: StatusCode, page: Html) -> Made {
    visit.page = true;
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    Made { status, headers, body: page.finish().into() }
}

fn silent(fault: &Unknown) -> Refusal {
    Refusal::new(Code::GatewayUnavailable, fault.to_string()).retry_after(5)
}
