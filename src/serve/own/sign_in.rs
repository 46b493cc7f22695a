//! Signing in and out with OpenID providers: `/.moat/login`, `/.moat/callback`, `/.moat/logout`, `/.moat/signed-out` and
//! `/.moat/backchannel-logout`. What is decided is decided in [`decide::sign_in`] and [`decide::token`]; who is spoken to
//! and how, in [`crate::serve::sign_in`].
pub(super) mod back_channel;
pub(super) mod callback;
mod flow_cookie;
pub(super) mod login;
pub(super) mod logout;
mod page;

use super::Visit;
use crate::config::settings::Issuer;
use crate::serve::keys::KeyRing;
use crate::serve::sign_in::{self, Party, providers};
use decide::refusal::{Code, Refusal};
use decide::rules::{Route, Seat};
use decide::sign_in::{Place, return_to};
use http::HeaderName;
use std::sync::Arc;

/// A page of this host that a sign-in leads to, and whose it is.
struct Page {
    target: String,
    route: Option<Arc<Route>>,
    seat: Option<Seat>,
}

impl Page {
    /// The wanted page where it is one of this host's, else its first page.
    fn find(visit: &Visit<'_>, wanted: Option<&str>) -> Page {
        let headers = visit.headers;
        let one = |name: &HeaderName| {
            let mut values = headers.get_all(name).iter();
            values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok())
        };
        let rules = &visit.active.snapshot.rules;
        let found = wanted.into_iter().chain(["/"]).find_map(|wanted| return_to(rules, visit.request, wanted, one));
        match found {
            Some((page, found)) => Page {
                target: page.target().into_owned(),
                seat: found.seat.clone().or_else(|| visit.seat.clone()),
                route: Some(found.route),
            },
            None => Page { target: "/".to_owned(), route: None, seat: visit.seat.clone() },
        }
    }

    /// Where the sign-in happens.
    fn place(&self, visit: &Visit<'_>) -> Place {
        Place { authority: Place::authority(visit.request), tenant: self.seat.as_ref().map(|seat| seat.id.clone()) }
    }
}

/// The issuers that browsers sign in with for a tenant, in the order of their names.
fn issuers<'a>(visit: &'a Visit<'_>, seat: Option<&'a Seat>) -> impl Iterator<Item = &'a Arc<Issuer>> {
    providers(&visit.active.snapshot.issuers, seat.map(|seat| &*seat.tenant))
}

/// Where the caller authenticates again for a page; `None` where there is no provider to do so with.
pub(super) fn again(visit: &Visit<'_>, target: &str) -> Option<String> {
    issuers(visit, visit.seat.as_ref()).next().map(|_| login::again(target))
}

/// Whether, for this page, the gateway's own second factor is asked and not the provider's, where the sign-in used these
/// methods.
fn code_does(visit: &Visit<'_>, route: &Route, used: &[Arc<str>]) -> bool {
    sign_in::code_does(&visit.active.snapshot, route, used)
}

/// The issuer of this name, its provider and its keys; `None` where nobody may sign in with it for this tenant any more.
fn party(visit: &Visit<'_>, seat: Option<&Seat>, name: &str) -> Option<(Arc<Party>, Arc<KeyRing>)> {
    let issuer = issuers(visit, seat).find(|issuer| *issuer.rules.name == *name)?;
    Some((visit.shared.sign_ins.party(issuer)?, visit.active.issuer(name)?.clone()))
}

fn unavailable(cause: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::GatewayUnavailable, cause).retry_after(5)
}
