//! `/.moat/jwks.json`: the public keys (RFC 7517) of the assertions that applications check.
use super::Visit;
use crate::serve::respond::Made;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

pub(super) fn answer(visit: &Visit<'_>) -> Made {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    Made { status: StatusCode::OK, headers, body: visit.shared.assertions.jwks() }
}
