//! Response dressing, and the edits of a request on its way to the application.
//!
//! Every response that leaves the gateway is dressed by the profile of its route: 200, 204, 304, redirects, refusals and
//! upstream failures alike. Merging never loosens: an application can make its answers stricter than the profile, never
//! weaker. How ours meets the application's, header by header:
//!
//! | header | what leaves |
//! | --- | --- |
//! | `strict-transport-security` | over TLS ours alone; over plaintext none (RFC 6797, 7.2) |
//! | `content-security-policy`, `…-report-only` | all of the application's, and ours as one more line: browsers enforce all |
//! | `reporting-endpoints` | the application's, and ours as one more line |
//! | `x-frame-options` | one value, the stricter: `DENY` before `SAMEORIGIN`; where the profile has none, it follows from `frame-ancestors` |
//! | `x-content-type-options` | one `nosniff` |
//! | `referrer-policy` | one value, the stricter |
//! | `cross-origin-opener-policy`, `…-embedder-policy`, `…-resource-policy` | one value, the stricter |
//! | `x-permitted-cross-domain-policies` | one value, the stricter |
//! | `permissions-policy` | ours; features that only the application names are kept, and what it denies stays denied |
//! | `alt-svc` | none, unless the profile says `alt_svc: pass` or sets one |
//! | `cache-control` | the one that keeps more from caches: `no-store` before `private` before the rest |
//! | any other under `set` | ours alone |
//! | under `add_if_missing` | the application's, else ours |
//! | under `remove` | none |
//! | `set-cookie` | the application's, hardened by `cookies` |
//!
//! A response to an authenticated request follows `cache.authenticated`; a page with a nonce is `no-store`. Both also
//! lose the headers that would tell a shared cache otherwise.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderName, HeaderValue, VARY};
use http::{HeaderMap, StatusCode};

pub mod options;
mod problems;
mod profile;
mod hsts;
mod csp;
mod permissions;
mod known;
mod cookies;
pub mod request;
mod trace;
mod said;
mod values;

pub use cookies::CookieCounts;
pub use problems::ProfileProblem;
pub use profile::{Profile, keep_private};
pub use request::{IdentityHeaders, IdentityOptions};
pub use said::Said;
pub use trace::TraceParent;
pub use values::Values;

/// The header fields of a message, as far as dressing needs them. Names are compared without regard to case.
pub trait Fields {
    /// The first value of a field.
    fn value(&self, name: &HeaderName) -> Option<&HeaderValue>;
    /// All values of a field, in order.
    fn values(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue>;
    /// The names of all fields, each once.
    fn names(&self) -> impl Iterator<Item = &HeaderName>;
    /// Replaces all values of a field by one.
    fn set(&mut self, name: &HeaderName, value: HeaderValue);
    /// Adds a value to those of a field.
    fn append(&mut self, name: &HeaderName, value: HeaderValue);
    /// Removes all values of a field.
    fn remove(&mut self, name: &HeaderName);
    /// Says something of ours in a field of which there is none. What is no value is not said.
    fn say(&mut self, name: &HeaderName, said: Said<'_>, values: &mut Values) {
        let value = match said {
            Said::Value(value) => Some(value.clone()),
            Said::Policy(_) => values.write(|out| said.write(out)),
            other => values.write(|out| other.write(out)).map(unindexed),
        };
        if let Some(value) = value {
            self.set(name, value);
        }
    }
}

impl Fields for HeaderMap {
    fn value(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.get(name)
    }

    fn values(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue> {
        self.get_all(name).into_iter()
    }

    fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.keys()
    }

    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        self.insert(name, value);
    }

    fn append(&mut self, name: &HeaderName, value: HeaderValue) {
        self.append(name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        self.remove(name);
    }
}

/// A value that is another one next time, so that HTTP/2 keeps it out of the table that both sides share (RFC 7541, 6.2.3). In the
/// table it would never be found again, would push out what is, and every later value of the field would be compared with it.
fn unindexed(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// Adds to `Vary` those of the names that it does not hold yet, all in one line; `*` holds them all.
pub fn vary(fields: &mut impl Fields, names: &'static str) {
    let said = fields.values(&VARY).map(HeaderValue::as_bytes).collect::<Vec<_>>().join(b", ".as_slice());
    if said.is_empty() {
        return fields.set(&VARY, HeaderValue::from_static(names));
    }
    let holds =
        |wanted: &str| said.split(|b| *b == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()));
    let missing: Vec<&str> = names.split(", ").filter(|name| !holds(name)).collect();
    if holds("*") || missing.is_empty() {
        return;
    }
    if let Ok(line) = HeaderValue::from_bytes(&[&*said, missing.join(", ").as_bytes()].join(b", ".as_slice())) {
        fields.set(&VARY, line);
    }
}

/// What dressing has to know about the response.
#[derive(Clone, Copy, Debug)]
pub struct DressContext<'a> {
    /// Whether it travels over TLS.
    pub tls: bool,
    /// Wall clock, seconds since the epoch (HSTS ramps, lifetimes of cookies).
    pub now_s: u64,
    /// Its status.
    pub status: StatusCode,
    /// Whether the request carried a verified credential.
    pub authenticated: bool,
    /// The nonce that the application was given, where `Profile::needs_nonce`. Without it, what needs one is blocked.
    pub nonce: Option<&'a Nonce>,
    /// `embed_origins` of the request's tenant.
    pub embed_origins: &'a [Box<str>],
}

/// Dresses a response. Doing it twice is doing it once.
pub fn dress(fields: &mut impl Fields, profile: &Profile, cx: &DressContext<'_>) -> CookieCounts {
    profile.apply(fields, cx)
}

/// A nonce of a content security policy: 128 random bits in base64. Never derived from anything else, never used twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce([u8; 24]);

impl Nonce {
    /// Writes 16 bytes of a cryptographic generator as a nonce.
    pub fn new(random: [u8; 16]) -> Nonce {
        // 16 bytes are 24 characters, so encoding cannot fail; if it did, this would match no script.
        let mut text = [b'='; 24];
        let _ = STANDARD.encode_slice(random, &mut text);
        Nonce(text)
    }

    /// The text, as it stands in the policy and in `nonce="…"`.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
