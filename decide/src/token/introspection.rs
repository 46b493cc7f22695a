//! What an issuer's endpoint says of a token (RFC 7662, 2.2): held to the rules that signed tokens are held to.
//!
//! The answer came from the issuer itself, over TLS, so nothing in it is signed. What it says is checked all the same: a
//! token that is active may be meant for somebody else, be a refresh token, or be bound to a key.
use super::claims::{self, Dated};
use super::json::{Map, Value};
use super::{IssuerRules, MAX_TOKEN_BYTES, TokenError, json, parse};
use crate::facts::{Bound, Identity};

/// A member of an answer that some endpoints leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// Who issued the token. Without it, whoever was asked is taken to have.
    Iss,
    /// Whom it is meant for. Without it, any token of the issuer passes.
    Aud,
    /// When it was issued. Without it, it counts as issued before every revocation.
    Iat,
    /// What kind of token it is. Without it, a refresh token may pass for an access token.
    TokenType,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Introspected {
    /// The token names somebody. Its end may have passed: the session guard says so.
    Active(Box<Identity>),
    /// It is none of this issuer's for us; the cause holds nothing of the answer.
    Refused(&'static str),
    /// The answer is none: the endpoint's mistake, and nobody's sign-out.
    Nonsense(&'static str),
}

/// Whether the issuer must be asked what a token means: it is no signed token in compact form (RFC 7515, 7.1).
pub fn is_opaque(token: &str) -> bool {
    let header = parse::Compact::split(token).ok().and_then(|compact| parse::decode(compact.header).ok());
    header.is_none_or(|bytes| json::object(&bytes).is_none())
}

/// Whether a token can be one at all: 1 to 16,384 characters of a bearer token's alphabet (RFC 6750, 2.1).
pub fn is_token(token: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    !token.is_empty() && token.len() <= MAX_TOKEN_BYTES && token.bytes().all(known)
}

/// Reads the body of an answer at `now_s` (seconds since the epoch). `may_lack` are members that it may leave out, of those
/// that it otherwise must have; `exp` and `sub` are never among them.
pub fn introspected(answer: &[u8], rules: &IssuerRules, may_lack: &[Member], now_s: u64) -> Introspected {
    let Some(members) = json::object(answer) else {
        return Introspected::Nonsense("its answer is not one strict JSON object");
    };
    match members.get("active") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Introspected::Refused("the issuer says that the token is not active"),
        _ => return Introspected::Nonsense("its answer does not say whether the token is active"),
    }
    match identity(&members, rules, may_lack, now_s) {
        Ok(identity) => Introspected::Active(Box::new(identity)),
        Err(TokenError::Expired { identity }) => Introspected::Active(identity),
        Err(TokenError::Invalid(cause)) => Introspected::Refused(cause),
        Err(TokenError::UnknownKey { .. }) => Introspected::Refused("the token names a key"),
    }
}

fn identity(members: &Map<'_>, rules: &IssuerRules, may_lack: &[Member], now_s: u64) -> Result<Identity, TokenError> {
    let lacks = |member: Member, name: &str| may_lack.contains(&member) && !members.contains_key(name);
    if !lacks(Member::Iss, "iss") && members.get("iss").and_then(Value::as_str) != Some(rules.issuer.as_str()) {
        return Err(TokenError::Invalid("`iss` is not this issuer"));
    }
    if !lacks(Member::Aud, "aud") {
        claims::audience(members, rules)?;
    }
    let proven = kind(members, may_lack)?;
    let dated = if may_lack.contains(&Member::Iat) { Dated::Perhaps } else { Dated::Always };
    let identity = claims::identity(members, rules, None, now_s, dated);
    let bound = match &identity {
        Ok(identity) => identity.bound_to.as_ref(),
        Err(TokenError::Expired { identity }) => identity.bound_to.as_ref(),
        Err(TokenError::Invalid(_) | TokenError::UnknownKey { .. }) => return identity,
    };
    match members.get("cnf") {
        // What it is bound to besides would go unchecked.
        Some(Value::Object(methods)) if bound.is_none() || methods.len() > 1 => {
            Err(TokenError::Invalid("the token is bound to something that is not checked here"))
        }
        _ if proven && !matches!(bound, Some(Bound::Key(_))) => {
            Err(TokenError::Invalid("`token_type` is `DPoP`, and the token is bound to no key"))
        }
        _ => identity,
    }
}

/// Holds the token to be an access token, and says whether it needs proof of a key. Endpoints answer for refresh tokens
/// too, and say so in members of their own (`token_use`, `typ`).
fn kind(members: &Map<'_>, may_lack: &[Member]) -> Result<bool, TokenError> {
    const OTHER: TokenError = TokenError::Invalid("the token is no access token");
    for name in ["token_use", "typ"] {
        let access = |word: &str| {
            let word = word.to_ascii_lowercase();
            matches!(&*word, "access" | "access_token" | "bearer" | "dpop" | "at+jwt")
        };
        match members.get(name) {
            None => {}
            Some(Value::String(word)) if access(word) => {}
            Some(_) => return Err(OTHER),
        }
    }
    match members.get("token_type") {
        None if may_lack.contains(&Member::TokenType) => Ok(false),
        None => Err(TokenError::Invalid("`token_type` is missing")),
        Some(Value::String(kind)) if kind.eq_ignore_ascii_case("bearer") => Ok(false),
        Some(Value::String(kind)) if kind.eq_ignore_ascii_case("dpop") => Ok(true),
        Some(_) => Err(OTHER),
    }
}
