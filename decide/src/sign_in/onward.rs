//! Whether a refused request is a browser's that should be sent to sign in, and where.
use super::form;
use crate::facts::{Facts, FetchDest, FetchMode};
use crate::refusal::{Code, Refusal};
use crate::request::{Method, Request};
use crate::rules::{Access, OnMissing, Route};

/// What of a request's fields counts here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Whether the client prefers a page to JSON (`Accept`).
    pub page: bool,
    /// Whether the browser signed in a few seconds ago and has no session for all that: to send it round once more would not
    /// help, and never end. (Whoever authenticates anew is asked to, so that this ends by itself.)
    pub just_signed_in: bool,
    /// Whether there is a provider that it can sign in with.
    pub provider: bool,
    /// Whether its session is one that a code of the gateway's own makes strong enough for the page.
    pub code: bool,
}

/// Where a browser is sent instead of being refused: only for want of a session, or of one that is fresh enough, on a route
/// that says so, and only for a page that a person asked for, which can be asked for again. Scripts, pictures, frames, forms
/// and programs are told what is wrong instead.
///
/// Whose session was ended by somebody authenticates anew, whatever session the provider still has: else it would be back at
/// once, and the order worth nothing.
pub fn login_instead(
    refusal: &Refusal,
    route: &Route,
    request: &Request,
    facts: &Facts,
    hints: Hints,
) -> Option<String> {
    let again = match refusal.code {
        Code::SessionMissing | Code::SessionInvalid | Code::SessionExpired if !hints.just_signed_in => false,
        Code::SessionRevoked | Code::SessionReused | Code::SessionStepUp => true,
        _ => return None,
    };
    let navigates = match facts.site.fetch_mode {
        Some(mode) => mode == FetchMode::Navigate && facts.site.fetch_dest == Some(FetchDest::Document),
        None => hints.page,
    };
    if !sends(route) || !navigates || request.method != Method::Get || facts.upgrade {
        return None;
    }
    let target = request.target();
    if refusal.code == Code::SessionStepUp && hints.code {
        return Some(format!("/.moat/totp?{}", form::encode([("return", &*target)])));
    }
    if !hints.provider {
        return None;
    }
    let fields = [("return_to", &*target)].into_iter().chain(again.then_some(("prompt", "login")));
    Some(format!("/.moat/login?{}", form::encode(fields)))
}

/// Whether a route sends browsers to sign in.
pub fn sends(route: &Route) -> bool {
    matches!(&route.access, Access::Session(rules) if rules.on_missing == OnMissing::Login)
}
