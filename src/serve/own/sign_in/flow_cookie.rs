//! The cookies that flows travel in: one for each, sealed, gone after ten minutes, and few.
use crate::serve::own::Visit;
use crate::store::seal::{Keyring, Place};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use decide::cookie;
use decide::refusal::{Code, Refusal};
use decide::sign_in::{FLOW_LIFE_S, Flow};
use http::HeaderValue;
use http::header::COOKIE;

/// What their names begin with; the name of the flow follows.
const PREFIX: &str = "__Host-moat-sign-in-";

/// Most of them that a browser has: tabs that wait at a provider. The oldest goes where another one begins.
const MOST: usize = 5;

/// The word that they are sealed under.
const KIND: &str = "sign-in";

/// Puts a flow into a cookie, and takes away those that are too many.
pub(super) fn give(visit: &Visit<'_>, ring: &Keyring, flow: &Flow) -> Result<Vec<HeaderValue>, Refusal> {
    let id = flow.id();
    let place = Place { kind: KIND, tenant: visit.tenant(), key: id.as_bytes() };
    let sealed = ring.seal(place, &flow.to_bytes());
    let sealed = sealed.map_err(|error| super::unavailable(format!("the sign-in: {error}")))?;
    let mut cookies = vec![set(&id, &URL_SAFE_NO_PAD.encode(sealed), FLOW_LIFE_S)];
    let there = names(visit);
    // Browsers send the oldest first (RFC 6265, 5.4).
    let surplus = (there.len() + 1).saturating_sub(MOST);
    cookies.extend(there.iter().take(surplus).map(|id| set(id, "", 0)));
    Ok(cookies.into_iter().flatten().collect())
}

/// The flow of this name that the browser has under way. Refuses with `session.invalid` where it has none.
pub(super) fn take(visit: &Visit<'_>, ring: &Keyring, id: &str) -> Result<Flow, Refusal> {
    let invalid = |cause: &'static str| Refusal::new(Code::SessionInvalid, cause);
    let lines = visit.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let text = cookie::find(lines, &format!("{PREFIX}{id}"))?;
    let text = text.ok_or_else(|| invalid("this browser has no such sign-in under way"))?;
    let place = Place { kind: KIND, tenant: visit.tenant(), key: id.as_bytes() };
    let sealed = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid("the cookie of the sign-in is not one of ours"))?;
    let bytes = ring.open(place, &sealed).map_err(|_| invalid("the cookie of the sign-in is not one of ours"))?;
    Flow::from_bytes(&bytes).ok_or_else(|| invalid("the cookie of the sign-in is of another version"))
}

/// Has the browser forget a flow.
pub(super) fn end(id: &str) -> Option<HeaderValue> {
    set(id, "", 0)
}

/// Names of the flows that the browser has.
fn names(visit: &Visit<'_>) -> Vec<String> {
    let lines = visit.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let name = |(name, _): (&[u8], &[u8])| {
        let id = name.strip_prefix(PREFIX.as_bytes())?;
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        String::from_utf8(id.to_vec()).ok().filter(|id| id.len() <= 64 && id.bytes().all(|byte| plain(&byte)))
    };
    lines.flat_map(cookie::pairs).filter_map(name).collect()
}

/// `Lax`, or the browser would not send it when the provider sends it back.
fn set(id: &str, value: &str, life_s: u64) -> Option<HeaderValue> {
    let text = format!("{PREFIX}{id}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={life_s}");
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
