//! A refusal that sends a browser to sign in.
use crate::config::settings::{Issuer, Snapshot};
use crate::serve::context::Context;
use crate::serve::own::redirect;
use crate::serve::respond::{self, Made};
use decide::cookie::pairs;
use decide::facts::Carrier;
use decide::guards::step_up;
use decide::refusal::Refusal;
use decide::request::Method;
use decide::rules::{Route, Tenant};
use decide::sign_in::{Hints, login_instead, sends};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;

/// Says that the browser has just signed in. Nothing rests on it: whoever makes it up is refused instead of sent on.
const JUST: &str = "__Host-moat-signed-in";

/// Seconds after a sign-in in which a browser is not sent to sign in once more: it came back without the session that it was
/// given, or with one that does not do, and would go round for ever.
const JUST_S: u64 = 10;

/// The cookie that says so, or has it forgotten.
pub fn just_signed_in(yes: bool) -> Option<HeaderValue> {
    let text = match yes {
        true => format!("{JUST}=1; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={JUST_S}"),
        false => format!("{JUST}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"),
    };
    HeaderValue::try_from(text).ok()
}

/// The issuers that browsers sign in with for a tenant, in the order of their names.
pub fn providers<'a>(issuers: &'a [Arc<Issuer>], tenant: Option<&'a Tenant>) -> impl Iterator<Item = &'a Arc<Issuer>> {
    let listed = tenant.map(|tenant| &tenant.issuers).filter(|listed| !listed.is_empty());
    let speaks = move |issuer: &&Arc<Issuer>| {
        issuer.client.is_some() && listed.is_none_or(|listed| listed.contains(&issuer.rules.name))
    };
    issuers.iter().filter(speaks)
}

/// Whether a code of the gateway's own second factor does for whatever a route asks, after a sign-in that used these methods.
pub fn code_does(snapshot: &Snapshot, route: &Route, used: &[Arc<str>]) -> bool {
    let totp = snapshot.sessions.totp.as_ref();
    totp.is_some_and(|totp| step_up::code_does(&snapshot.rules, route, totp.acr.as_deref(), used))
}

/// The redirect to sign in, where this refusal calls for it; the client's fields are `fields`.
pub fn instead(refusal: &Refusal, fields: &HeaderMap, ctx: &Context) -> Option<Made> {
    let (request, facts, found) = (ctx.request.as_ref()?, ctx.facts.as_ref()?, ctx.found.as_ref()?);
    if !sends(&found.route) {
        return None;
    }
    let cookies = || fields.get_all(COOKIE).iter().flat_map(|line| pairs(line.as_bytes()));
    let (snapshot, tenant) = (&ctx.active.snapshot, ctx.seat().map(|seat| &*seat.tenant));
    let used = ctx.findings.identity.as_ref().map(|identity| &*identity.amr).unwrap_or_default();
    let hints = Hints {
        page: respond::wants_html(fields),
        just_signed_in: cookies().any(|(name, _)| name == JUST.as_bytes()),
        provider: providers(&snapshot.issuers, tenant).next().is_some(),
        code: ctx.findings.carrier == Some(Carrier::Session) && code_does(snapshot, &found.route, used),
    };
    let to = login_instead(refusal, &found.route, request, facts, hints)?;
    let made = redirect(HeaderValue::try_from(to).ok()?);
    let tls = ctx.peer.as_ref().is_some_and(|peer| peer.tls.is_some());
    Some(respond::own(made, Method::Get, ctx.stamp.id, tls, ctx.profile(), ctx.stamp.at_ms / 1000))
}
