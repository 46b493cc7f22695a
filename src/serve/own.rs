//! Everything below `/.moat/`: the gateway's own resources, on every host.
//!
//! [`Own::find`] names the resource, a closed list by path and method. `Gateway::own` does for all of them what routes do
//! for applications: the tenant of the host, its networks and its standing, limits by address, evidence of our own site
//! where something changes, a body within bounds. Then the resource answers, by way of a [`Visit`]. What changes state
//! writes an intent before it does ([`Visit::intent`]); the entry of the outcome bears the name of what was done.
mod key_set;
mod signals;
mod session;
pub(in crate::serve) mod sessions;
mod sign_in;
mod token;
mod totp;
mod visit;

pub use visit::{Visit, Why, cookie, json, redirect};

use crate::serve::client::Client;
use crate::serve::context::Context;
use crate::serve::gateway::Gateway;
use crate::serve::respond::{self, Made};
use crate::serve::run::now_ms;
use crate::store::quota::{KeyInput, Silent, is_shared};
use decide::facts::{Facts, Stage};
use decide::guards::own::{Sites, judge};
use decide::oauth::OAuthError;
use decide::refusal::{Code, Refusal};
use decide::request::{Method, Methods, Request};
use decide::rules::{Rules, Seat};
use std::time::Duration;

/// Most bytes of a body that one of them reads.
const MOST: usize = 64 << 10;
/// Time for such a body to be there.
const PATIENCE: Duration = Duration::from_secs(10);

/// One of the gateway's own resources, with what is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// `jwks.json`: the keys that assertions are signed with.
    KeySet,
    /// `signals/ISSUER`: security events of an issuer.
    Signals,
    /// `session` by GET: whose session the browser has.
    SessionShow,
    /// `session` by POST: a token becomes a session.
    SessionOpen,
    /// `session` by DELETE: the browser's session ends.
    SessionEnd,
    /// `sessions` by GET: the caller's own sessions.
    Sessions,
    /// `sessions` by POST: one of them ends, or all.
    SessionsEnd,
    /// `token`: opens families of refresh tokens, and exchanges them.
    Token,
    /// `revoke`: ends them.
    Revoke,
    /// `totp` by GET: how the user's second factor stands.
    FactorShow,
    /// `totp` by POST: a second factor is set up, or shown.
    FactorUse,
    /// `login`: sends the browser to sign in with an OpenID provider.
    Login,
    /// `callback`, `callback/ISSUER`: it comes back.
    Callback,
    /// `logout` by GET: signs out, here and at the provider; asks first where another site wants it.
    LogoutByLink,
    /// `logout` by POST.
    LogoutByForm,
    /// `signed-out`: says so.
    SignedOut,
    /// `backchannel-logout`: a provider ends sessions.
    BackChannel,
}

/// How requests to a resource are received.
struct Manners {
    /// It is the same for everybody and costs nothing: then neither tenant nor limits matter.
    open: bool,
    /// From whose pages it may be asked.
    sites: Sites,
    /// The word for its refusals, where it speaks OAuth.
    oauth: Option<OAuthError>,
    /// It reads a body.
    body: bool,
}

/// Path below `/.moat/`, methods, resource. A path that ends with `/*` stands for one more segment.
const TABLE: &[(&str, Methods, Own)] = &[
    ("jwks.json", Methods::none().with(Method::Get).with(Method::Head), Own::KeySet),
    ("signals/*", Methods::none().with(Method::Post), Own::Signals),
    ("session", Methods::none().with(Method::Get).with(Method::Head), Own::SessionShow),
    ("session", Methods::none().with(Method::Post), Own::SessionOpen),
    ("session", Methods::none().with(Method::Delete), Own::SessionEnd),
    ("sessions", Methods::none().with(Method::Get).with(Method::Head), Own::Sessions),
    ("sessions", Methods::none().with(Method::Post), Own::SessionsEnd),
    ("token", Methods::none().with(Method::Post), Own::Token),
    ("revoke", Methods::none().with(Method::Post), Own::Revoke),
    ("totp", Methods::none().with(Method::Get).with(Method::Head), Own::FactorShow),
    ("totp", Methods::none().with(Method::Post), Own::FactorUse),
    ("login", Methods::none().with(Method::Get), Own::Login),
    ("callback", Methods::none().with(Method::Get), Own::Callback),
    ("callback/*", Methods::none().with(Method::Get), Own::Callback),
    ("logout", Methods::none().with(Method::Get), Own::LogoutByLink),
    ("logout", Methods::none().with(Method::Post), Own::LogoutByForm),
    ("backchannel-logout", Methods::none().with(Method::Post), Own::BackChannel),
    ("signed-out", Methods::none().with(Method::Get), Own::SignedOut),
];

impl Own {
    /// The resource of this path, the part after `/.moat/`. Refuses with `route.unknown`, or with `method.not-allowed` where
    /// there is one for other methods.
    pub fn find(name: &str, method: Method) -> Result<Own, Refusal> {
        let here = |path: &str| match path.strip_suffix("/*") {
            None => path == name,
            Some(folder) => {
                let rest = name.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
                rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('/'))
            }
        };
        let mut allow = Methods::none();
        for (_, methods, own) in TABLE.iter().filter(|(path, ..)| here(path)) {
            if methods.contains(method) {
                return Ok(*own);
            }
            allow = allow.union(*methods);
        }
        if allow == Methods::none() {
            return Err(Refusal::new(Code::RouteUnknown, "the gateway has no such resource"));
        }
        let mut refusal = Refusal::new(Code::MethodNotAllowed, "the gateway's resource has no such method");
        refusal.allow = Some(allow);
        Err(refusal)
    }

    /// What is decided about a request before the resource itself has a word, limits apart: the tenant of the host, its networks
    /// and standing, and from whose page it comes.
    pub fn before(self, rules: &Rules, request: &Request, facts: &Facts) -> Result<Option<Seat>, Refusal> {
        let manners = self.manners();
        if manners.open {
            return Ok(None);
        }
        let seat = rules.seat_of_host(request)?;
        judge(facts, seat.as_ref(), manners.sites)?;
        Ok(seat)
    }

    /// What is asked of its requests, and what it is given.
    const fn manners(self) -> Manners {
        let plain = Manners { open: false, sites: Sites::Any, oauth: None, body: false };
        match self {
            Own::KeySet | Own::SignedOut => Manners { open: true, ..plain },
            // Signed by their sender, whoever carries them.
            Own::Signals | Own::BackChannel => Manners { body: true, ..plain },
            Own::Token | Own::Revoke => Manners { oauth: Some(OAuthError::AccessDenied), body: true, ..plain },
            // The protocol is one between sites: links lead here, and the provider leads back. Signing out by a link asks first.
            Own::Login | Own::Callback | Own::LogoutByLink => plain,
            // Who sends a token on purpose needs no evidence; ending by cookie takes some.
            Own::SessionShow | Own::SessionOpen | Own::Sessions | Own::FactorShow => {
                Manners { sites: Sites::NotForeign, ..plain }
            }
            Own::SessionsEnd => Manners { sites: Sites::NotForeign, body: true, ..plain },
            Own::SessionEnd | Own::LogoutByForm => Manners { sites: Sites::Proven, ..plain },
            Own::FactorUse => Manners { sites: Sites::Proven, body: true, ..plain },
        }
    }

    async fn answer(self, visit: &mut Visit<'_>) -> Result<Made, Refusal> {
        match self {
            Own::KeySet => Ok(key_set::answer(visit)),
            Own::Signals => signals::answer(visit).await,
            Own::SessionShow => session::show(visit).await,
            Own::SessionOpen => session::open(visit).await,
            Own::SessionEnd => session::close(visit).await,
            Own::Sessions => sessions::list(visit).await,
            Own::SessionsEnd => sessions::end(visit).await,
            Own::Token => token::answer(visit).await,
            Own::Revoke => token::revoke(visit).await,
            Own::FactorShow => totp::show(visit).await,
            Own::FactorUse => totp::use_it(visit).await,
            Own::Login => sign_in::login::answer(visit).await,
            Own::Callback => sign_in::callback::answer(visit).await,
            Own::LogoutByLink => sign_in::logout::by_link(visit).await,
            Own::LogoutByForm => sign_in::logout::by_form(visit).await,
            Own::BackChannel => sign_in::back_channel::answer(visit).await,
            Own::SignedOut => Ok(sign_in::logout::done()),
        }
    }
}

impl Gateway {
    /// Answers a request to one of the gateway's own resources.
    pub(in crate::serve) async fn own<C: Client>(
        &self,
        own: Own,
        client: &mut C,
        (request, facts): (Request, Facts),
        ctx: &mut Context,
    ) -> Result<Made, Refusal> {
        let active = ctx.active.clone();
        let manners = own.manners();
        ctx.oauth = manners.oauth;
        let mut seat = None;
        if !manners.open {
            seat = active.snapshot.rules.seat_of_host(&request)?;
            ctx.findings.seat = seat.clone();
            self.limit(seat.as_ref(), &facts, ctx).await?;
            judge(&facts, seat.as_ref(), manners.sites)?;
        }
        let body = if manners.body {
            let late = |_| Refusal::new(Code::RequestTimeout, "the body did not come in time");
            tokio::time::timeout(PATIENCE, client.body(MOST)).await.map_err(late)??
        } else {
            Vec::new()
        };
        ctx.own = true;
        let headers = client.asked().headers;
        let shared = &self.shared;
        let (active, request, facts) = (&active, &request, &facts);
        let received_ms = if manners.body { now_ms() } else { facts.at_ms };
        let mut visit = Visit { shared, active, request, facts, seat, headers, body, received_ms, page: false, ctx };
        let made = own.answer(&mut visit).await?;
        let page = visit.page;
        let tls = ctx.peer.as_ref().is_some_and(|peer| peer.tls.is_some());
        let profile = if page { &*active.snapshot.page_profile } else { ctx.profile() };
        Ok(respond::own(made, request.method, ctx.stamp.id, tls, profile, ctx.stamp.at_ms / 1000))
    }

    /// Takes from the limits that all of them are under.
    async fn limit(&self, seat: Option<&Seat>, facts: &Facts, ctx: &mut Context) -> Result<(), Refusal> {
        let active = ctx.active.clone();
        let limits = &active.snapshot.sessions.limits;
        let key = KeyInput {
            tenant: seat.map(|seat| &*seat.id),
            class: seat.map(|seat| seat.tenant.class),
            ..KeyInput::of(facts.client.0, "/.moat/")
        };
        let silent = |Silent { limit }: Silent| {
            let cause = format!("limit `{limit}` needs its store, which is silent");
            Refusal::new(Code::GatewayUnavailable, cause).retry_after(5)
        };
        let reading = if is_shared(limits, Stage::Address) {
            active.quotas.take_shared(limits, Stage::Address, &key, &mut ctx.dues).await.map_err(silent)?
        } else {
            active.quotas.take(limits, Stage::Address, &key, &mut ctx.dues)
        };
        active.route_metrics(None).quota(limits, Stage::Address, &reading, key.tenant);
        let Some(state) = reading.exceeded else { return Ok(()) };
        let refusal = Refusal::new(Code::QuotaExceeded, format!("limit `{}` is used up", state.name));
        let refusal = refusal.retry_after(state.reset_s.max(1));
        ctx.findings.tightest = Some(state);
        Err(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_its_path_and_its_method() {
        let find = |name, method| Own::find(name, method).map_err(|refusal| (refusal.code, refusal.allow));
        assert_eq!(find("jwks.json", Method::Head), Ok(Own::KeySet));
        let allow = Methods::none().with(Method::Get).with(Method::Head);
        assert_eq!(find("jwks.json", Method::Post), Err((Code::MethodNotAllowed, Some(allow))));
        for unknown in ["", "jwks.json/", "JWKS.json", "sessions/"] {
            assert_eq!(find(unknown, Method::Get), Err((Code::RouteUnknown, None)), "{unknown}");
        }
    }
}
