//! The ways of being somebody: finds the credential that a request carries among those that its route accepts.
mod api_key;
mod app_session;
mod bearer;
mod certificate;
mod cookie;
mod dpop;
mod ext_auth;
mod session;

use crate::serve::active::Active;
use crate::serve::client_certificates::Worth;
use crate::serve::gateway::Shared;
use crate::serve::in_place::in_place;
use crate::serve::listener::ConnInfo;
use crate::serve::sessions::Hand;
use decide::facts::{Answer, Carrier, Credential, Facts};
use decide::request::Request;
use decide::rules::{Accept, Access, Found};
use http::HeaderMap;
use std::pin::pin;
use std::sync::{Arc, OnceLock};

use bearer::Scheme;

/// One request that is asked who it is.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    /// What all requests share.
    pub shared: &'a Arc<Shared>,
    /// What is in force.
    pub active: &'a Active,
    /// The request.
    pub request: &'a Request,
    /// The request's fields, as they came.
    pub headers: &'a HeaderMap,
    /// The connection that it came on.
    pub conn: &'a ConnInfo,
    /// What is known of the request.
    pub facts: &'a Facts,
    /// Its route.
    pub found: &'a Found,
    /// Where a way leaves the handle that the answer is to hand out.
    pub hand: &'a OnceLock<Hand>,
}

/// Asks each way that the route accepts, in its order (which the compiler has put: what a program sends on purpose
/// before what comes by itself). The first of which the request carries anything decides, for good or ill: a bad
/// credential is never passed over for a better one, or a caller would be somebody else than it says. With the way that decided,
/// where one did.
pub(super) async fn credential(way: Way<'_>) -> (Answer, Option<Carrier>) {
    let accept = match &way.found.route.access {
        Access::Public { .. } => return (Answer::Credential(Credential::Missing), None),
        Access::Session(rules) => &rules.accept,
    };
    let (scheme, token) = match bearer::token(way.headers) {
        Ok(Some((scheme, token))) => (Some(scheme), token),
        Ok(None) => (None, ""),
        Err(cause) => return (invalid(cause), None),
    };
    // What a certificate is that is not one of those that were asked for.
    let mut other = None;
    for one in accept {
        let answer = match one {
            Accept::Bearer { .. } => match scheme {
                Some(Scheme::Bearer) => Some(pin!(bearer::verify(way, token, accept)).await),
                Some(Scheme::Dpop) | None => None,
            },
            Accept::Dpop { .. } => match scheme {
                // Boxed, so that requests without proofs do not carry the room for them.
                Some(Scheme::Dpop) => Some(in_place(|| dpop::verify(way, token, accept)).await),
                Some(Scheme::Bearer) | None => None,
            },
            Accept::Cookie { name, issuer } => cookie::verify(way, name, issuer).await,
            // Boxed, so that routes without sessions do not carry the room for it.
            Accept::Session { cookie } => in_place(|| session::verify(way, cookie)).await,
            // Boxed, so that requests of other routes do not carry the room for it.
            Accept::AppSession { cookie, name } => in_place(|| app_session::verify(way, cookie, name)).await,
            Accept::ExtAuth { name, .. } => in_place(|| ext_auth::verify(way, name)).await,
            Accept::ApiKey { header, keys } => in_place(|| api_key::verify(way, header, keys)).await,
            Accept::Certificate { name } => match certificate::verify(way, name) {
                Some(Worth::Decided(answer)) => Some(answer),
                Some(Worth::Other(cause)) => {
                    other.get_or_insert(cause);
                    None
                }
                None => None,
            },
        };
        if let Some(answer) = answer {
            return (answer, Some(one.carrier()));
        }
    }
    // Browsers show a certificate without being told to; so one of another kind does not stand in the way of a cookie.
    (other.map_or(Answer::Credential(Credential::Missing), invalid), None)
}

/// The token of `Authorization: Bearer`, where there is one.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let token = bearer::token(headers)?;
    Ok(token.filter(|(scheme, _)| *scheme == Scheme::Bearer).map(|(_, token)| token))
}

/// A credential that does not verify.
pub(super) fn invalid(cause: impl Into<String>) -> Answer {
    Answer::Credential(Credential::Invalid(cause.into()))
}
