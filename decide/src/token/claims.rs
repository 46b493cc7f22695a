//! What a verified token says (RFC 7519, 4; RFC 9068): each claim checked, and turned into an [`Identity`].
use super::json::{Map, Value};
use super::{IssuerRules, TokenError, dpop, json, parse};
use crate::digits::hex;
use crate::facts::{Bound, Identity, Person};
use crate::revocation::{FAMILIES, Handles, Source};
use aws_lc_rs::hmac;
use std::sync::Arc;

/// Longest subject, tenant, role, session id and the like, in bytes.
const MAX_TEXT_BYTES: usize = 256;

/// Longest subject of a Firebase token, in bytes.
const MAX_FIREBASE_SUBJECT_BYTES: usize = 128;

/// Most roles, and most authentication methods, of one token.
const MAX_LIST: usize = 64;

/// Latest moment that a token may name: the end of the year 9999.
const MAX_DATE_S: u64 = 253_402_300_799;

/// Where one claim is found: a JSON pointer (RFC 6901) where the name begins with `/`, else a top-level member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimName(String);

impl ClaimName {
    /// `org_id`, `https://example.com/roles`, `/realm_access/roles`.
    pub fn new(name: &str) -> ClaimName {
        ClaimName(name.to_owned())
    }

    /// A claim that nobody makes: the pointer to the whole document, which is no member of it.
    pub fn nowhere() -> ClaimName {
        ClaimName(String::new())
    }

    /// The claim; `null` counts as absent.
    pub(crate) fn find<'a>(&self, claims: &'a Map<'a>) -> Option<&'a Value<'a>> {
        let found = match self.0.strip_prefix('/') {
            None if self.0.is_empty() => None,
            None => claims.get(&self.0),
            Some(path) => {
                let mut steps = path.split('/').map(|step| step.replace("~1", "/").replace("~0", "~"));
                let first = claims.get(&steps.next()?)?;
                steps.try_fold(first, |value, step| match value {
                    Value::Object(members) => members.get(&step),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
                })
            }
        };
        found.filter(|value| !matches!(value, Value::Null))
    }
}

/// Where the claims that issuers name freely are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimNames {
    /// The tenant that the session belongs to.
    pub tenant: ClaimName,
    /// Roles: an array of strings, or one string separated by spaces or commas.
    pub roles: ClaimName,
    /// The session's id.
    pub session: ClaimName,
    /// When the user authenticated.
    pub auth_time: ClaimName,
    /// Authentication context class.
    pub acr: ClaimName,
    /// Authentication methods: an array of strings, or one string.
    pub amr: ClaimName,
}

impl Default for ClaimNames {
    /// `tenant`, `roles`, `sid`, `auth_time`, `acr`, `amr`.
    fn default() -> ClaimNames {
        ClaimNames {
            tenant: ClaimName::new("tenant"),
            roles: ClaimName::new("roles"),
            session: ClaimName::new("sid"),
            auth_time: ClaimName::new("auth_time"),
            acr: ClaimName::new("acr"),
            amr: ClaimName::new("amr"),
        }
    }
}

/// Checks the claims of a payload whose signature has verified under the key of this id.
pub fn check(payload: &str, rules: &IssuerRules, key: Option<&str>, now_s: u64) -> Result<Identity, TokenError> {
    let claims = parse::decode(payload)?;
    let claims = json::object(&claims).ok_or(TokenError::Invalid("the claims are not one strict JSON object"))?;
    addressed(&claims, rules)?;
    identity(&claims, rules, key, now_s, Dated::Always)
}

/// Whether somebody must say when a token was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dated {
    /// Or it is refused.
    Always,
    /// Without it, the token is as old as the authentication, or as can be.
    Perhaps,
}

/// Whom claims name that are addressed to us.
pub(super) fn identity(
    claims: &Map<'_>,
    rules: &IssuerRules,
    key: Option<&str>,
    now_s: u64,
    dated: Dated,
) -> Result<Identity, TokenError> {
    let subject = required_text(claims.get("sub"), "`sub` is missing, empty or too long")?;
    if rules.firebase && subject.len() > MAX_FIREBASE_SUBJECT_BYTES {
        return Err(TokenError::Invalid("`sub` is missing, empty or too long"));
    }
    let times = Times::check(claims, rules, now_s, dated)?;
    let tenant = text(rules.claims.tenant.find(claims), "the tenant claim is not a short string")?;
    let session = text(rules.claims.session.find(claims), "the session claim is not a short string")?;
    let token = token_id(claims.get("jti"))?;
    let (issuer, handles) = if rules.ours {
        let id = token.as_deref().ok_or(TokenError::Invalid("`jti` is missing"))?;
        let family = session.as_deref().ok_or(TokenError::Invalid("`sid` is missing"))?;
        let issuer = required_text(claims.get("idp"), "`idp` is missing, empty or too long")?;
        let bytes = claims.get("rev").and_then(Value::as_str).and_then(|rev| parse::decode(rev).ok());
        let handles = bytes.and_then(|bytes| Handles::from_bytes(&bytes));
        let handles = handles.ok_or(TokenError::Invalid("`rev` is missing or not ours"))?;
        (issuer.into(), handles.held_as(FAMILIES, family).signed_as(&rules.issuer, id, key))
    } else {
        let source = Source {
            issuer: &rules.issuer,
            subject,
            tenant: tenant.as_deref(),
            session: session.as_deref(),
            token: token.as_deref(),
            key,
        };
        (rules.name.clone(), Handles::of(&source))
    };
    let identity = Identity {
        issuer,
        subject: Person(subject.into()),
        tenant,
        roles: roles(rules.claims.roles.find(claims))?,
        session: session.map(|id| rules.session_hash(&id)),
        auth_time: times.auth_time,
        acr: text(rules.claims.acr.find(claims), "the `acr` claim is not a short string")?,
        amr: methods(rules.claims.amr.find(claims))?,
        issued_at: times.issued_at,
        not_before: times.not_before,
        expires_at: times.expires_at,
        bound_to: confirmation(claims)?,
        scopes: None,
        handles,
    };
    if now_s >= identity.expires_at {
        return Err(TokenError::Expired { identity: Box::new(identity) });
    }
    Ok(identity)
}

/// The key of `cnf.jkt` (RFC 9449, 6.1) or the certificate of `cnf.x5t#S256` (RFC 8705, 3.1), and never both: one
/// confirmation is for one key (RFC 7800, 3.1). Other methods are not ours to check.
fn confirmation(claims: &Map<'_>) -> Result<Option<Bound>, TokenError> {
    const NOT_BOUND: TokenError = TokenError::Invalid("`cnf` is not a confirmation");
    let methods = match claims.get("cnf") {
        None => return Ok(None),
        Some(Value::Object(methods)) => methods,
        Some(_) => return Err(NOT_BOUND),
    };
    match (methods.get("jkt"), methods.get("x5t#S256")) {
        (None, None) => Ok(None),
        (Some(Value::String(key)), None) if dpop::is_thumbprint(key) => Ok(Some(Bound::Key((&**key).into()))),
        (None, Some(Value::String(certificate))) if dpop::is_thumbprint(certificate) => {
            Ok(Some(Bound::Certificate((&**certificate).into())))
        }
        (Some(_), _) | (_, Some(_)) => Err(NOT_BOUND),
    }
}

/// The issuer made it, and for us.
pub(super) fn addressed(claims: &Map<'_>, rules: &IssuerRules) -> Result<(), TokenError> {
    if claims.get("iss").and_then(Value::as_str) != Some(rules.issuer.as_str()) {
        return Err(TokenError::Invalid("`iss` is not this issuer"));
    }
    audience(claims, rules)
}

/// Whom a token of a security event names: the user, the session, or both.
#[expect(clippy::type_complexity, reason = "two names of which each may be absent")]
pub(super) fn whom(
    claims: &Map<'_>,
    rules: &IssuerRules,
) -> Result<(Option<Person<Arc<str>>>, Option<Arc<str>>), TokenError> {
    let subject = text(claims.get("sub"), "`sub` is not a short string")?.map(Person);
    let session = text(rules.claims.session.find(claims), "the session claim is not a short string")?;
    Ok((subject, session))
}

/// `iat`, which is not in the future, and `exp` where it is there; seconds since the epoch.
pub(super) fn moments(claims: &Map<'_>, rules: &IssuerRules, now_s: u64) -> Result<(u64, Option<u64>), TokenError> {
    let issued_at = date(claims.get("iat"))?.ok_or(TokenError::Invalid("`iat` is missing"))?;
    if issued_at.ceiling > now_s.saturating_add(rules.clock_skew_s) {
        return Err(TokenError::Invalid("`iat` is in the future"));
    }
    Ok((issued_at.floor, date(claims.get("exp"))?.map(|end| end.floor)))
}

/// Keyed, and separated by issuer: equal ids of two issuers are two sessions.
pub fn session_hash(rules: &IssuerRules, session_id: &str) -> Arc<str> {
    keyed_hash(&rules.session_pepper, &rules.issuer, session_id)
}

/// 32 hex digits of HMAC-SHA256(pepper, whose NUL id).
pub fn keyed_hash(pepper: &[u8; 32], whose: &str, id: &str) -> Arc<str> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, pepper);
    let mut context = hmac::Context::with_key(&key);
    context.update(whose.as_bytes());
    context.update(&[0]);
    context.update(id.as_bytes());
    let tag = context.sign();
    let mut name = [0; 32];
    hex(tag.as_ref(), &mut name);
    String::from_utf8_lossy(&name).into()
}

/// `aud` is one string or several, and one of them is ours.
pub(super) fn audience(claims: &Map<'_>, rules: &IssuerRules) -> Result<(), TokenError> {
    let ours = |name: &str| rules.audiences.iter().any(|a| a == name);
    let names_us = match claims.get("aud") {
        Some(Value::String(name)) => ours(name),
        Some(Value::Array(names)) => {
            if names.iter().any(|n| n.as_str().is_none()) {
                return Err(TokenError::Invalid("`aud` is not made of strings"));
            }
            names.iter().filter_map(Value::as_str).any(ours)
        }
        _ => false,
    };
    if names_us { Ok(()) } else { Err(TokenError::Invalid("`aud` does not name us")) }
}

/// The moments of a token, in seconds since the epoch.
struct Times {
    issued_at: u64,
    not_before: u64,
    expires_at: u64,
    auth_time: Option<u64>,
}

impl Times {
    fn check(claims: &Map<'_>, rules: &IssuerRules, now_s: u64, dated: Dated) -> Result<Times, TokenError> {
        let latest_start = now_s.saturating_add(rules.clock_skew_s);
        let expires_at = date(claims.get("exp"))?.ok_or(TokenError::Invalid("`exp` is missing"))?.floor;
        let not_before = date(claims.get("nbf"))?.map_or(0, |d| d.ceiling);
        let auth_time = date(rules.claims.auth_time.find(claims))?;
        let (issued_at, known) = match (date(claims.get("iat"))?, dated) {
            (Some(issued_at), _) => (issued_at, true),
            (None, Dated::Always) => return Err(TokenError::Invalid("`iat` is missing")),
            (None, Dated::Perhaps) => (auth_time.unwrap_or(Date { floor: 0, ceiling: 0 }), false),
        };
        if issued_at.ceiling > latest_start {
            return Err(TokenError::Invalid("`iat` is in the future"));
        }
        if not_before > latest_start {
            return Err(TokenError::Invalid("`nbf` is in the future"));
        }
        // A future moment of authentication would pass every step-up check.
        if auth_time.is_some_and(|t| t.ceiling > latest_start) {
            return Err(TokenError::Invalid("the time of authentication is in the future"));
        }
        if rules.firebase && auth_time.is_none() {
            return Err(TokenError::Invalid("the time of authentication is missing"));
        }
        if expires_at <= issued_at.floor {
            return Err(TokenError::Invalid("`exp` is not after `iat`"));
        }
        if rules.max_lifetime_s.is_some_and(|longest| known && expires_at - issued_at.floor > longest) {
            return Err(TokenError::Invalid("it lives longer than the issuer may let it"));
        }
        Ok(Times { issued_at: issued_at.floor, not_before, expires_at, auth_time: auth_time.map(|t| t.floor) })
    }
}

/// A NumericDate (RFC 7519, 2), which may have a fraction; each check takes the side that is stricter.
#[derive(Clone, Copy)]
struct Date {
    floor: u64,
    ceiling: u64,
}

fn date(value: Option<&Value<'_>>) -> Result<Option<Date>, TokenError> {
    const NOT_A_DATE: TokenError = TokenError::Invalid("a date is not a number of seconds since 1970");
    let Some(value) = value else { return Ok(None) };
    let Value::Number(number) = value else { return Err(NOT_A_DATE) };
    if let Some(seconds) = number.as_u64() {
        return if seconds <= MAX_DATE_S {
            Ok(Some(Date { floor: seconds, ceiling: seconds }))
        } else {
            Err(NOT_A_DATE)
        };
    }
    let seconds = number.as_f64().filter(|s| (0.0..=MAX_DATE_S as f64).contains(s)).ok_or(NOT_A_DATE)?;
    Ok(Some(Date { floor: seconds.floor() as u64, ceiling: seconds.ceil() as u64 }))
}

/// Roles are forwarded to the application in one header: what could be read as two of them is refused.
pub fn roles(value: Option<&Value<'_>>) -> Result<Vec<Arc<str>>, TokenError> {
    const NOT_ROLES: TokenError = TokenError::Invalid("the roles claim is not a short list of names");
    let names: Vec<&str> = match value {
        None => Vec::new(),
        Some(Value::String(names)) => names.split([' ', ',']).filter(|n| !n.is_empty()).collect(),
        Some(Value::Array(names)) => names.iter().map(Value::as_str).collect::<Option<_>>().ok_or(NOT_ROLES)?,
        Some(_) => return Err(NOT_ROLES),
    };
    if names.len() > MAX_LIST || names.iter().any(|n| !is_plain(n) || n.contains(',')) {
        return Err(NOT_ROLES);
    }
    Ok(names.into_iter().map(Arc::from).collect())
}

pub fn methods(value: Option<&Value<'_>>) -> Result<Vec<Arc<str>>, TokenError> {
    const NOT_METHODS: TokenError = TokenError::Invalid("the `amr` claim is not a short list of names");
    let names: Vec<&str> = match value {
        None => Vec::new(),
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().map(Value::as_str).collect::<Option<_>>().ok_or(NOT_METHODS)?,
        Some(_) => return Err(NOT_METHODS),
    };
    if names.len() > MAX_LIST || names.iter().any(|n| !is_plain(n)) {
        return Err(NOT_METHODS);
    }
    Ok(names.into_iter().map(Arc::from).collect())
}

/// `jti`, of whatever length: it is only hashed. Issuers that write a number are known by its digits.
fn token_id(value: Option<&Value<'_>>) -> Result<Option<String>, TokenError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) => Ok(Some(id.to_string())),
        Some(Value::Number(id)) => Ok(Some(id.to_string())),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => Err(TokenError::Invalid("`jti` is not a string")),
    }
}

fn required_text<'a>(value: Option<&'a Value<'_>>, cause: &'static str) -> Result<&'a str, TokenError> {
    value.and_then(Value::as_str).filter(|t| is_plain(t)).ok_or(TokenError::Invalid(cause))
}

pub fn text(value: Option<&Value<'_>>, cause: &'static str) -> Result<Option<Arc<str>>, TokenError> {
    match value {
        None => Ok(None),
        Some(_) => required_text(value, cause).map(|t| Some(t.into())),
    }
}

/// Neither empty nor long, and free of control characters: these words go into headers and logs.
pub fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control)
}
