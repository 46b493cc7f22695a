//! A cookie that holds a token of an issuer.
use super::{Way, certificate, invalid};
use decide::cookie;
use decide::facts::{Answer, Carrier};
use http::header::COOKIE;

/// Verifies the token in the cookie of this name; `None` where the request has no such cookie.
pub(super) async fn verify(way: Way<'_>, name: &str, issuer: &str) -> Option<Answer> {
    let token = match cookie::find(way.headers.get_all(COOKIE).iter().map(http::HeaderValue::as_bytes), name) {
        Ok(Some(token)) => token,
        Ok(None) => return None,
        Err(refusal) => return Some(invalid(refusal.cause)),
    };
    Some(match way.active.issuer(issuer) {
        Some(ring) => {
            let unheld = |thumbprint: &str| certificate::unheld(way, thumbprint);
            ring.verify_held(token, way.facts.at_s(), Carrier::Cookie, unheld).await
        }
        None => invalid("no accepted issuer made this token"),
    })
}
