//! A token in `Authorization: Bearer` (RFC 6750).
use super::{Way, invalid};
use crate::serve::keys::KeyRing;
use decide::facts::{Answer, Carrier};
use decide::rules::Accept;
use decide::token;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use std::sync::Arc;

/// The token of `Authorization: Bearer` (RFC 6750, 2.1). Another scheme is no credential of ours; two headers are none.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err("Authorization is repeated");
    }
    let Some(value) = first else { return Ok(None) };
    let value = value.to_str().map_err(|_| "Authorization is not ASCII")?;
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim_start_matches(' '))),
        _ => Ok(None),
    }
}

/// Verifies a token with whichever accepted issuer made it. Where there are several, the token's own word only chooses
/// between them; its signature decides.
pub(super) async fn verify(way: Way<'_>, token: &str, accept: &[Accept]) -> Answer {
    let mut issuers = accept.iter().filter_map(|one| match one {
        Accept::Bearer { issuer } => way.active.issuer(issuer),
        Accept::Cookie { .. } | Accept::Session { .. } | Accept::ApiKey { .. } | Accept::ExtAuth { .. } => None,
    });
    let (first, second) = (issuers.next(), issuers.next());
    let chosen = match second {
        None => first,
        Some(_) => {
            let claimed = token::peek_issuer(token);
            let says = |ring: &&Arc<KeyRing>| Some(&*ring.settings().rules.issuer) == claimed.as_deref();
            first.into_iter().chain(second).chain(issuers).find(says)
        }
    };
    match chosen {
        Some(ring) => ring.verify(token, way.facts.at_s(), Carrier::Bearer).await,
        None => invalid("no accepted issuer made this token"),
    }
}
