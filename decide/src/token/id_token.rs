//! ID tokens (OpenID Connect Core, 2 and 3.1.3.7) and logout tokens (OpenID Connect Back-Channel Logout 1.0, 2.4): signed
//! like every other token of their issuer, addressed to the gateway as a client, and never good as a credential.
use super::json::{Map, Value};
use super::{Algorithm, IssuerRules, KeySet, TokenError, claims, json, parse};
use crate::facts::{Identity, Person};
use crate::revocation::{Target, Within};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::Arc;

/// The member of `events` that makes a token a logout token.
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Longest `jti`, in bytes.
const MAX_ID_BYTES: usize = 256;

/// Oldest logout token that is taken, in seconds since `iat`: its `jti` is remembered for as long.
pub const LOGOUT_TOKEN_LIFE_S: u64 = 600;

/// What an ID token must say besides what its issuer's rules ask for. The `audiences` of the rules are the client's own
/// id and nothing else.
#[derive(Clone, Copy, Debug)]
pub struct IdTokenRules<'a> {
    /// The client's id.
    pub client_id: &'a str,
    /// `nonce` of the flow.
    pub nonce: &'a str,
    /// The access token beside it, which `at_hash` must name where it is there (OpenID Connect Core, 3.1.3.8).
    pub access_token: Option<&'a str>,
    /// When the flow began, seconds since the epoch: an older token is not its answer.
    pub not_before_s: u64,
}

/// A logout token that verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutToken {
    /// `jti`: taken once.
    pub id: String,
    /// The user whose sessions end.
    pub subject: Option<Person<Arc<str>>>,
    /// The session that ends, as the issuer says it; `None` for all of the user's.
    pub session: Option<Arc<str>>,
    /// `iat`, seconds since the epoch.
    pub issued_at: u64,
}

impl LogoutToken {
    /// What ends: the session, or, where none is named, all of the user's. `issuer` is `iss` of the token.
    pub fn target<'a>(&'a self, issuer: &'a str) -> Option<Target<'a>> {
        match (&self.session, &self.subject) {
            (Some(id), _) => Some(Target::Session { issuer, id }),
            (None, Some(Person(subject))) => Some(Target::Subject { issuer, subject, within: Within::Anywhere }),
            (None, None) => None,
        }
    }
}

/// Verifies an ID token at `now_s` (seconds since the epoch), from header to claims like [`super::verify`], with the
/// rules of ID tokens: `typ` is `JWT` or absent; `azp` is the client, and is there where there are several audiences;
/// `nonce` is the flow's; `at_hash` fits; it was issued after the flow began and has not expired.
pub fn verify_id_token(
    token: &str,
    rules: &IssuerRules,
    expected: &IdTokenRules<'_>,
    keys: &KeySet,
    now_s: u64,
) -> Result<Identity, TokenError> {
    let (payload, algorithm, key) = signed(token, rules, keys, &["jwt"])?;
    let identity = match claims::check(payload, rules, key, now_s) {
        Err(TokenError::Expired { .. }) => return Err(TokenError::Invalid("the ID token has expired")),
        checked => checked?,
    };
    let payload = parse::decode(payload)?;
    let members = members(&payload)?;
    if members.contains_key("events") {
        return Err(TokenError::Invalid("a security event, not an ID token"));
    }
    let several = members.get("aud").and_then(Value::as_array).is_some_and(|list| list.len() > 1);
    match members.get("azp") {
        None if several => return Err(TokenError::Invalid("several audiences, and no `azp`")),
        None => {}
        Some(azp) if azp == expected.client_id => {}
        Some(_) => return Err(TokenError::Invalid("`azp` is another client")),
    }
    if !members.get("nonce").and_then(Value::as_str).is_some_and(|said| equal(expected.nonce, said)) {
        return Err(TokenError::Invalid("`nonce` is not the flow's"));
    }
    match (members.get("at_hash"), expected.access_token) {
        (Some(Value::String(said)), Some(access)) if equal(&half_hash(algorithm, access), said) => {}
        (Some(_), _) => return Err(TokenError::Invalid("`at_hash` is not that of the access token")),
        (None, _) => {}
    }
    if identity.issued_at.saturating_add(rules.clock_skew_s) < expected.not_before_s {
        return Err(TokenError::Invalid("the ID token is older than the sign-in"));
    }
    Ok(identity)
}

/// Verifies a logout token at `now_s` (seconds since the epoch): `typ` is `logout+jwt`, `JWT` or absent; it holds the event,
/// `jti`, `iat` of the last ten minutes, `sub` or the session or both; it holds no `nonce`, or an ID token could be passed off
/// as one; `exp`, where there, has not passed.
pub fn verify_logout_token(
    token: &str,
    rules: &IssuerRules,
    keys: &KeySet,
    now_s: u64,
) -> Result<LogoutToken, TokenError> {
    let (payload, ..) = signed(token, rules, keys, &["logout+jwt", "jwt"])?;
    let payload = parse::decode(payload)?;
    let members = members(&payload)?;
    claims::addressed(&members, rules)?;
    let event = members.get("events").and_then(|events| events.as_object()?.get(LOGOUT_EVENT)?.as_object());
    if event.is_none() {
        return Err(TokenError::Invalid("`events` does not hold a logout"));
    }
    if members.contains_key("nonce") {
        return Err(TokenError::Invalid("a logout token has no `nonce`"));
    }
    let id = match members.get("jti") {
        Some(Value::String(id)) if (1..=MAX_ID_BYTES).contains(&id.len()) => id.to_string(),
        _ => return Err(TokenError::Invalid("`jti` is missing or not a short string")),
    };
    let (subject, session) = claims::whom(&members, rules)?;
    if subject.is_none() && session.is_none() {
        return Err(TokenError::Invalid("a logout of nobody: neither `sub` nor a session"));
    }
    let (issued_at, expires_at) = claims::moments(&members, rules, now_s)?;
    if expires_at.is_some_and(|end| end <= now_s) {
        return Err(TokenError::Invalid("the logout token has expired"));
    }
    if now_s.saturating_sub(issued_at) > LOGOUT_TOKEN_LIFE_S {
        return Err(TokenError::Invalid("the logout token is older than ten minutes"));
    }
    Ok(LogoutToken { id, subject, session, issued_at })
}

/// The payload of a token that the issuer signed, whose `typ` is one of these or absent; with what it was signed: the algorithm, and
/// the id of the key.
fn signed<'a>(
    token: &'a str,
    rules: &IssuerRules,
    keys: &'a KeySet,
    types: &[&str],
) -> Result<(&'a str, Algorithm, Option<&'a str>), TokenError> {
    let compact = parse::Compact::split(token)?;
    let header = parse::Header::parse(compact.header)?;
    if !rules.algorithms.contains(&header.algorithm) {
        return Err(TokenError::Invalid("the algorithm is not allowed for this issuer"));
    }
    if header.token_type.as_deref().is_some_and(|name| !types.contains(&name)) {
        return Err(TokenError::Invalid("`typ` is that of another kind of token"));
    }
    let key = keys.find(header.kid.as_deref(), header.algorithm)?;
    let signature = parse::decode(compact.signature)?;
    if !key.verifies(compact.signed, &signature) {
        return Err(TokenError::Invalid("the signature does not verify"));
    }
    Ok((compact.payload, header.algorithm, key.id()))
}

fn members(payload: &[u8]) -> Result<Map<'_>, TokenError> {
    json::object(payload).ok_or(TokenError::Invalid("the claims are not one strict JSON object"))
}

fn equal(a: &str, b: &str) -> bool {
    verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}

/// The left half of the hash that goes with an algorithm (OpenID Connect Core, 3.1.3.6).
fn half_hash(algorithm: Algorithm, text: &str) -> String {
    let hash = match algorithm {
        Algorithm::Rs256 | Algorithm::Ps256 | Algorithm::Es256 => &SHA256,
        Algorithm::Es384 => &SHA384,
        Algorithm::EdDsa => &SHA512,
    };
    let whole = digest(hash, text.as_bytes());
    URL_SAFE_NO_PAD.encode(whole.as_ref().get(..whole.as_ref().len() / 2).unwrap_or_default())
}
