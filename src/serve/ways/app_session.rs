//! A session that the application keeps in a store of its own, by the application's cookie.
use super::{Way, invalid};
use crate::serve::inquiry::{No, Verdict};
use decide::cookie;
use decide::facts::{Answer, Carrier};
use http::HeaderValue;
use http::header::COOKIE;

/// Looks up the session of the cookie of this name; `None` where the request has no such cookie, or the session is that of a
/// visitor whom nobody knows.
pub(super) async fn verify(way: Way<'_>, cookie: &str, name: &str) -> Option<Answer> {
    let value = match cookie::find(way.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes), cookie) {
        Ok(Some(value)) => value,
        Ok(None) => return None,
        Err(refusal) => return Some(invalid(refusal.cause)),
    };
    let Some(store) = way.active.app_sessions().get(name) else { return Some(invalid("the store is gone")) };
    match store.judge(value, way.facts.at_s()).await {
        Verdict::Refused(No::Nobody) => None,
        verdict => Some(verdict.answer(Carrier::Cookie)),
    }
}
