//! A token in `Authorization: Bearer` (RFC 6750).
use super::{Way, certificate, invalid};
use crate::serve::keys::KeyRing;
use decide::facts::{Answer, Carrier};
use decide::rules::Accept;
use decide::token;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use std::pin::pin;
use std::sync::Arc;

/// How a token is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// `Bearer`
    Bearer,
    /// `DPoP`
    Dpop,
}

/// The token of `Authorization: Bearer` (RFC 6750, 2.1) or `DPoP` (RFC 9449, 7.1). Another scheme is no credential of ours;
/// two headers are none.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<(Scheme, &str)>, &'static str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err("Authorization is repeated");
    }
    let Some(value) = first else { return Ok(None) };
    let value = std::str::from_utf8(value.as_bytes()).ok().filter(|text| text.is_ascii());
    let value = value.ok_or("Authorization is not ASCII")?;
    let Some((name, token)) = value.split_once(' ') else { return Ok(None) };
    let scheme = if name.eq_ignore_ascii_case("bearer") {
        Scheme::Bearer
    } else if name.eq_ignore_ascii_case("dpop") {
        Scheme::Dpop
    } else {
        return Ok(None);
    };
    Ok(Some((scheme, token.trim_start_matches(' '))))
}

/// Verifies a bearer token.
pub(super) async fn verify(way: Way<'_>, token: &str, accept: &[Accept]) -> Answer {
    let issuers = accept.iter().filter(|one| one.carrier() == Carrier::Bearer).filter_map(Accept::voucher);
    pin!(judge(way, token, issuers, Carrier::Bearer)).await
}

/// Verifies a token with whichever accepted issuer made it. Where there are several, the token's own word only chooses
/// between them; its signature decides.
pub(super) async fn judge(way: Way<'_>, token: &str, names: impl Iterator<Item = &str>, carrier: Carrier) -> Answer {
    let mut issuers = names.filter_map(|name| way.active.issuer(name));
    let (first, second) = (issuers.next(), issuers.next());
    let chosen = match second {
        None => first,
        Some(_) => {
            let claimed = token::peek_issuer(token);
            // A token that says nothing is asked about; there is one who can be (the compiler has made sure).
            let says = |ring: &&Arc<KeyRing>| match claimed.as_deref() {
                Some(claimed) => *ring.settings().rules.issuer == *claimed,
                None => ring.asks_about(token),
            };
            first.into_iter().chain(second).chain(issuers).find(says)
        }
    };
    match chosen {
        Some(ring) => {
            let unheld = |thumbprint: &str| certificate::unheld(way, thumbprint);
            pin!(ring.verify_held(token, way.facts.at_s(), carrier, unheld)).await
        }
        None => invalid("no accepted issuer made this token"),
    }
}
