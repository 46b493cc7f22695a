//! `/.moat/jwks.json`: the public keys (RFC 7517) of the assertions that applications check, and of our own access tokens.
use super::Visit;
use crate::serve::issuing::Issuing;
use crate::serve::respond::Made;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

pub(super) fn answer(visit: &Visit<'_>) -> Made {
    let body = with_tokens(visit.shared.assertions.jwks(), visit.active.issuing().map(Issuing::jwks));
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    Made { status: StatusCode::OK, headers, body }
}

/// The same set with more keys behind its own: those of access tokens.
fn with_tokens(set: Bytes, keys: Option<&str>) -> Bytes {
    match (keys, std::str::from_utf8(&set).ok().and_then(|set| set.strip_suffix("]}"))) {
        (Some(keys), Some(head)) if !keys.is_empty() => Bytes::from(format!("{head},{keys}]}}")),
        _ => set,
    }
}
