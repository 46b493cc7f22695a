//! Credentials of a request that are the gateway's, kept from the application.
use super::Presented;
use crate::cookie;
use crate::headers::Fields;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue};
use std::borrow::Cow;

static DPOP: HeaderName = HeaderName::from_static("dpop");

/// Takes out what proves who the caller is: token and proof, and cookies of ours.
pub(super) fn withhold(fields: &mut impl Fields, presented: &Presented<'_>) {
    if presented.bearer {
        if fields.value(&AUTHORIZATION).is_some_and(is_bearer) {
            fields.remove(&AUTHORIZATION);
        }
        // With the token goes its proof (RFC 9449): it may be good for another moment.
        if fields.value(&DPOP).is_some() {
            fields.remove(&DPOP);
        }
    }
    if fields.value(&COOKIE).is_some() {
        presented.cookies.iter().for_each(|name| remove_cookie(fields, |line| cookie::without(line, name)));
    }
}

/// Leaves one line of the cookies that are the application's.
pub(super) fn settle_cookies(fields: &mut impl Fields) {
    // Sign-ins under way are no credential, and of no use to anybody but us.
    if fields.values(&COOKIE).flat_map(|line| cookie::pairs(line.as_bytes())).any(|(name, _)| cookie::is_own(name)) {
        remove_cookie(fields, cookie::without_own);
    }
    join_cookies(fields);
}

/// RFC 6750, 2.1. Other schemes are a matter between client and application.
fn is_bearer(value: &HeaderValue) -> bool {
    let begins = |scheme: &[u8]| value.as_bytes().get(..scheme.len()).is_some_and(|b| b.eq_ignore_ascii_case(scheme));
    begins(b"bearer") || begins(b"dpop ")
}

/// Takes cookies out of `Cookie`.
fn remove_cookie(fields: &mut impl Fields, without: impl for<'a> Fn(&'a [u8]) -> Cow<'a, [u8]>) {
    let without = |line: &HeaderValue| HeaderValue::from_bytes(&without(line.as_bytes())).ok();
    let lines: Vec<HeaderValue> = fields.values(&COOKIE).filter_map(without).collect();
    fields.remove(&COOKIE);
    lines.into_iter().filter(|line| !line.is_empty()).for_each(|line| fields.append(&COOKIE, line));
}

/// One `Cookie` line, whatever HTTP/2 split it into (RFC 9113, 8.2.3): applications behind HTTP/1.1 join lines by a
/// comma, as other fields are, and find none of the cookies.
fn join_cookies(fields: &mut impl Fields) {
    if fields.values(&COOKIE).nth(1).is_none() {
        return;
    }
    let lines: Vec<&[u8]> = fields.values(&COOKIE).map(HeaderValue::as_bytes).filter(|line| !line.is_empty()).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(b"; ".as_slice())) {
        fields.set(&COOKIE, joined);
    }
}
