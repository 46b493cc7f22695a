//! Sessions that an application keeps in a store of its own: which one a cookie names, and whom the session names.
mod key;

pub use key::KeyPattern;

use crate::facts::{Identity, Person};
use crate::revocation::{Handles, Source};
use crate::token::claims::{self, ClaimName, ClaimNames};
use crate::token::json::{Map, Value};
use crate::token::strict_object;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::sync::Arc;

/// Longest value of a cookie that is looked at, in bytes.
pub const MAX_VALUE: usize = 1024;

/// Longest id of a session, in bytes.
pub const MAX_ID: usize = 256;

/// Largest session, in bytes.
pub const MAX_SESSION: usize = 64 << 10;

/// How far the application's clock may run ahead of ours, seconds.
const SKEW_S: u64 = 30;

/// Numbers above it are milliseconds: as seconds they would be in the year 5138.
const MILLISECONDS_FROM: f64 = 100_000_000_000.0;

/// A secret that an application signs its cookies with.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Of these bytes.
    pub fn new(bytes: &[u8]) -> Secret {
        Secret(bytes.into())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// The sessions of one application: one entry of `app_sessions` in `gateway.yaml`, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSessions {
    /// Their name in `gateway.yaml`.
    pub name: Arc<str>,
    /// Where the user's name is found.
    pub subject: ClaimName,
    /// Where the rest is found.
    pub claims: ClaimNames,
    /// Secrets of express-session: with any, a cookie's value must be signed with one of them.
    pub express: Vec<Secret>,
    /// How long what a session opened may go on, seconds.
    pub max_age_s: u64,
    /// Key of the hash under which sessions are known (see [`AppSessions::session_hash`]).
    pub pepper: [u8; 32],
}

/// Whom a session names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// This user.
    Known(Box<Identity>),
    /// Nobody: a visitor who has not signed in.
    Nobody,
    /// It cannot be read: a mistake of the application or of the configuration, and nobody's sign-out.
    Nonsense(&'static str),
}

impl AppSessions {
    /// The id that a cookie's value holds: 1 to 256 letters, digits and `-_.~+/=`. The error is for the audit entry.
    pub fn id(&self, value: &str) -> Result<String, &'static str> {
        if value.len() > MAX_VALUE {
            return Err("the cookie is longer than an id of a session");
        }
        let id = if self.express.is_empty() { value.to_owned() } else { self.signed(value)? };
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+/=".contains(&byte);
        match id.len() {
            1..=MAX_ID if id.bytes().all(known) => Ok(id),
            _ => Err("the cookie holds no id of a session"),
        }
    }

    /// `s:ID.SIGNATURE`, encoded as JavaScript's `encodeURIComponent` does; the signature is HMAC-SHA256 of the id in base64
    /// without padding (npm `cookie-signature`).
    fn signed(&self, value: &str) -> Result<String, &'static str> {
        const UNSIGNED: &str = "the cookie is not signed as express-session does";
        let plain = unescape(value).ok_or(UNSIGNED)?;
        let (id, signature) = plain.strip_prefix("s:").and_then(|rest| rest.rsplit_once('.')).ok_or(UNSIGNED)?;
        let signature = STANDARD_NO_PAD.decode(signature).map_err(|_| UNSIGNED)?;
        let good = |secret: &Secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.0);
            hmac::verify(&key, id.as_bytes(), &signature).is_ok()
        };
        if self.express.iter().any(good) { Ok(id.to_owned()) } else { Err("the cookie's signature does not verify") }
    }

    /// The name under which a session is recorded and revoked: 32 hex digits of HMAC-SHA256(pepper, name NUL id). Whoever
    /// reads a log learns no id that the application accepts.
    pub fn session_hash(&self, id: &str) -> Arc<str> {
        claims::keyed_hash(&self.pepper, &self.name, id)
    }

    /// Reads a session as the store holds it, one JSON object, at `now_s` (seconds since the epoch).
    pub fn whom(&self, session: &[u8], id: &str, now_s: u64) -> Whom {
        if session.len() > MAX_SESSION {
            return Whom::Nonsense("the session is larger than 64 KiB");
        }
        let Some(members) = strict_object(session) else {
            return Whom::Nonsense("the session is not one strict JSON object");
        };
        match self.identity(&members, id, now_s) {
            Ok(Some(identity)) => Whom::Known(Box::new(identity)),
            Ok(None) => Whom::Nobody,
            Err(cause) => Whom::Nonsense(cause),
        }
    }

    fn identity(&self, members: &Map<'_>, id: &str, now_s: u64) -> Result<Option<Identity>, &'static str> {
        let Some(subject) = name(self.subject.find(members), "the session's user is not a short name")? else {
            return Ok(None);
        };
        let wrong = |error: crate::token::TokenError| match error {
            crate::token::TokenError::Invalid(cause) => cause,
            crate::token::TokenError::Expired { .. } | crate::token::TokenError::UnknownKey { .. } => {
                "the session is no session"
            }
        };
        let tenant = name(self.claims.tenant.find(members), "the session's tenant is not a short name")?;
        let auth_time = moment(self.claims.auth_time.find(members))?;
        // A future moment would pass every step-up check.
        if auth_time.is_some_and(|at| at > now_s.saturating_add(SKEW_S)) {
            return Err("the session's time of authentication is in the future");
        }
        let session = self.session_hash(id);
        let source = Source {
            issuer: &self.name,
            subject: &subject,
            tenant: tenant.as_deref(),
            session: Some(&session),
            ..Source::default()
        };
        let handles = Handles::of(&source);
        Ok(Some(Identity {
            issuer: self.name.clone(),
            subject: Person(subject.into()),
            tenant: tenant.map(Arc::from),
            roles: claims::roles(self.claims.roles.find(members)).map_err(wrong)?,
            session: Some(session),
            auth_time,
            acr: claims::text(self.claims.acr.find(members), "the session's `acr` is not a short string")
                .map_err(wrong)?,
            amr: claims::methods(self.claims.amr.find(members)).map_err(wrong)?,
            // Of unknown age it is older than every revocation.
            issued_at: auth_time.unwrap_or(0),
            not_before: 0,
            expires_at: now_s.saturating_add(self.max_age_s),
            bound_to: None,
            scopes: None,
            handles,
        }))
    }
}

/// A name, or a number as databases give users: by its digits.
fn name(value: Option<&Value<'_>>, cause: &'static str) -> Result<Option<String>, &'static str> {
    match value {
        None => Ok(None),
        Some(Value::String(name)) if claims::is_plain(name) => Ok(Some(name.to_string())),
        Some(Value::Number(number)) if number.is_u64() || number.is_i64() => Ok(Some(number.to_string())),
        Some(_) => Err(cause),
    }
}

/// Seconds since the epoch, or milliseconds as JavaScript counts.
fn moment(value: Option<&Value<'_>>) -> Result<Option<u64>, &'static str> {
    const NO_TIME: &str = "the session's time of authentication is not a number of seconds or milliseconds since 1970";
    let Some(value) = value else { return Ok(None) };
    let number = value.as_f64().filter(|number| (0.0..=1e15).contains(number)).ok_or(NO_TIME)?;
    let seconds = if number >= MILLISECONDS_FROM { number / 1000.0 } else { number };
    // Rounded down: an authentication is never younger than it was.
    Ok(Some(seconds.floor() as u64))
}

/// Undoes percent-encoding; `None` where an escape is not two hex digits, or bytes are not UTF-8.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = after.get(..2)?;
        let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
        bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after.get(2..)?;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: u64 = 1_800_000_000;

    fn sessions(express: &[&str]) -> AppSessions {
        AppSessions {
            name: "shop".into(),
            subject: ClaimName::new("/user/id"),
            claims: ClaimNames {
                tenant: ClaimName::new("/user/org"),
                roles: ClaimName::new("/user/roles"),
                auth_time: ClaimName::new("/at"),
                ..ClaimNames::default()
            },
            express: express.iter().map(|secret| Secret::new(secret.as_bytes())).collect(),
            max_age_s: 3600,
            pepper: [7; 32],
        }
    }

    /// The examples of npm `cookie-signature` (its README and test), which express-session signs with.
    #[test]
    fn cookies_of_express_are_taken_apart() {
        let express = sessions(&["keyboard cat", "tobiiscool"]);
        const SIGNED: &str = "hello.DGDUkGlIkCzPz+C0B064FNgHdEjox7ch8tOBGslZ5QI";
        let encoded = SIGNED.replace('+', "%2B");
        for (value, expected) in [
            (format!("s%3A{encoded}"), Ok("hello")),
            (format!("s:{SIGNED}"), Ok("hello")),
            (format!("s%3a{encoded}"), Ok("hello")),
            (encoded.clone(), Err("the cookie is not signed as express-session does")),
            (format!("s%3{encoded}"), Err("the cookie is not signed as express-session does")),
            (format!("s%3A{encoded}%3D"), Err("the cookie is not signed as express-session does")),
            ("s:hello".to_owned(), Err("the cookie is not signed as express-session does")),
            ("s:hello.".to_owned(), Err("the cookie's signature does not verify")),
            (format!("s:x{SIGNED}"), Err("the cookie's signature does not verify")),
            (format!("s:{}", SIGNED.replace("DGDU", "DGDV")), Err("the cookie's signature does not verify")),
        ] {
            assert_eq!(express.id(&value).as_deref(), expected.as_ref().map(|id| &**id), "{value}");
        }
        assert!(sessions(&["luna"]).id(&format!("s:{SIGNED}")).is_err());
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"keyboard cat");
        let odd = STANDARD_NO_PAD.encode(hmac::sign(&key, b"a b"));
        assert_eq!(express.id(&format!("s:a b.{odd}")), Err("the cookie holds no id of a session"));
    }

    #[test]
    fn an_id_is_a_short_word_without_meaning_to_a_store() {
        let plain = sessions(&[]);
        for id in ["a", "Ab-_.~+/=9", &"x".repeat(MAX_ID)] {
            assert_eq!(plain.id(id).as_deref(), Ok(id));
        }
        let long = "x".repeat(MAX_ID + 1);
        for value in ["", "a:b", "a*", "a b", "a\r\nDEL b", "a'b", "a,b", "a\0", "%61", "{cookie}", "\u{e4}", &long] {
            assert_eq!(plain.id(value), Err("the cookie holds no id of a session"), "{value:?}");
        }
        assert!(plain.id(&"x".repeat(MAX_VALUE + 1)).is_err());
    }

    fn read(session: &Value) -> String {
        match sessions(&[]).whom(session.to_string().as_bytes(), "id-1", NOW) {
            Whom::Known(identity) => {
                let Identity { subject, tenant, roles, auth_time, .. } = &*identity;
                format!("{} of {} with {roles:?} since {auth_time:?}", subject.0, tenant.as_deref().unwrap_or("none"))
            }
            Whom::Nobody => "nobody".to_owned(),
            Whom::Nonsense(cause) => cause.to_owned(),
        }
    }

    #[test]
    fn a_session_names_somebody_nobody_or_nothing_that_can_be_read() {
        const USER: &str = "the session's user is not a short name";
        let time = |at: Value| json!({"user": {"id": 7}, "at": at});
        for (session, expected) in [
            (
                json!({"user": {"id": "ann", "org": "acme", "roles": ["a", "b"]}, "at": NOW - 5, "cookie": {"path": "/"}}),
                "ann of acme with [\"a\", \"b\"] since Some(1799999995)",
            ),
            (time(json!(1_799_999_995_999_u64)), "7 of none with [] since Some(1799999995)"),
            (time(json!(NOW + 31)), "the session's time of authentication is in the future"),
            (
                time(json!("2026")),
                "the session's time of authentication is not a number of seconds or milliseconds since 1970",
            ),
            (json!({"user": {"id": 7, "org": 3}}), "7 of 3 with [] since None"),
            (json!({"cookie": {}}), "nobody"),
            (json!({"user": null}), "nobody"),
            (json!({"user": {"id": null}}), "nobody"),
            (json!({"user": "ann"}), "nobody"),
            (json!({"user": {"id": ""}}), USER),
            (json!({"user": {"id": "a\nb"}}), USER),
            (json!({"user": {"id": 1.5}}), USER),
            (json!({"user": {"id": true}}), USER),
            (json!({"user": {"id": "ann", "org": ["acme"]}}), "the session's tenant is not a short name"),
            (json!({"user": {"id": "ann", "roles": {"admin": 1}}}), "the roles claim is not a short list of names"),
            (json!([1]), "the session is not one strict JSON object"),
            (json!({"user": {"id": "a"}, "x": "y".repeat(MAX_SESSION)}), "the session is larger than 64 KiB"),
        ] {
            assert_eq!(read(&session), expected, "{session:.80}");
        }
        let sessions = sessions(&[]);
        for bytes in
            [&b"\x80\x04\x95pickle"[..], b"", b"{\"user\":{\"id\":1},\"user\":{\"id\":2}}", b"a:1:{s:1:\"x\";}"]
        {
            assert!(matches!(sessions.whom(bytes, "i", NOW), Whom::Nonsense(_)));
        }
    }

    #[test]
    fn a_session_is_known_by_a_hash_that_only_we_can_make() {
        let (one, two) = (sessions(&[]), AppSessions { pepper: [8; 32], ..sessions(&[]) });
        let hash = one.session_hash("id-1");
        assert!(hash.len() == 32 && *hash != *two.session_hash("id-1") && *hash != *one.session_hash("id-2"));
        let session = json!({"user": {"id": "ann"}}).to_string();
        let Whom::Known(identity) = one.whom(session.as_bytes(), "id-1", NOW) else { panic!("nobody") };
        assert_eq!((identity.session, identity.issued_at, identity.expires_at), (Some(hash), 0, NOW + 3600));
    }
}
