//! Security event tokens (RFC 8417) as an issuer sends them: what happened to its users and sessions, and whether that
//! ends them here. Events are those of CAEP 1.0 and RISC 1.0; subjects those of RFC 9493 and of the Shared Signals Framework.
//!
//! An issuer speaks for its own users only: a subject that names another issuer is refused, and so is one by which no user
//! or session of ours could be told (an e-mail address, a telephone number), since the sender would else believe that the
//! user is out. The `sub` of the token itself means nothing, so that no access token can pass as an event.
use super::json::{Map, Value};
use super::{IssuerRules, KeySet, TokenError, json, parse};
use crate::revocation::{Target, Within};

/// Most events of one token.
const MAX_EVENTS: usize = 16;
/// Longest id, in bytes.
const MAX_ID_BYTES: usize = 256;
/// Numbers from here on are milliseconds: some senders write those.
const MILLISECONDS: f64 = 1e11;

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";

/// Who sends events for an issuer, and to whom.
#[derive(Clone, Copy, Debug)]
pub struct EventRules<'a> {
    /// What `iss` must equal, byte for byte.
    pub transmitter: &'a str,
    /// `aud` must name one of these.
    pub audiences: &'a [String],
    /// The issuer whose users and sessions they are about, with its algorithms and clock.
    pub issuer: &'a IssuerRules,
}

/// A token of events that verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// `jti`: taken once.
    pub id: String,
    /// What happened.
    pub events: Vec<Event>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened: a word of CAEP, RISC or SSF; `other` for what none of them knows.
    pub name: &'static str,
    /// Whom it puts out here, and as of when; `None` where it puts nobody out.
    pub ends: Option<Ends>,
}

/// Somebody who is out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// One session, by the issuer's id of it.
    pub session: Option<String>,
    /// The user; all sessions where none is named.
    pub user: Option<String>,
    /// In which tenant; in all where none is named.
    pub tenant: Option<String>,
    /// As of when, seconds since the epoch.
    pub at_s: u64,
}

impl Ends {
    /// What to end: the session where one is named, else the user.
    pub fn target<'a>(&'a self, issuer: &'a str) -> Option<Target<'a>> {
        if let Some(id) = &self.session {
            return Some(Target::Session { issuer, id });
        }
        let within = self.tenant.as_deref().map_or(Within::Anywhere, Within::Tenant);
        self.user.as_deref().map(|subject| Target::Subject { issuer, subject, within })
    }
}

/// Why a token of events is not taken: the error codes of RFC 8935, 2.4.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// `invalid_request`: it is no security event token, or one that cannot be acted on.
    #[error("{0}")]
    Request(&'static str),
    /// `invalid_key`: its signature does not verify.
    #[error("{0}")]
    Key(&'static str),
    /// `invalid_issuer`: somebody else made it.
    #[error("`iss` is not the transmitter")]
    Issuer,
    /// `invalid_audience`: it was made for somebody else.
    #[error("`aud` does not name us")]
    Audience,
    /// `invalid_key`, unless the issuer's key set has it by now: a reason to fetch it again, once.
    #[error("no key of the issuer has the token's key id")]
    UnknownKey {
        /// `kid` of the token's header; for the fetcher, not for logs.
        kid: String,
    },
}

impl EventError {
    /// Its code.
    pub const fn code(&self) -> &'static str {
        match self {
            EventError::Request(_) => "invalid_request",
            EventError::Key(_) | EventError::UnknownKey { .. } => "invalid_key",
            EventError::Issuer => "invalid_issuer",
            EventError::Audience => "invalid_audience",
        }
    }
}

/// Verifies a token of events at `now_s` (seconds since the epoch): `typ` is `secevent+jwt`; signed by a key of the issuer with
/// one of its algorithms; from the transmitter, for us, with `jti` and an `iat` that is not in the future; with one to 16
/// events. It has no `exp` (RFC 8417, 2.2): an event does not cease to have happened.
pub fn verify_events(token: &str, rules: &EventRules<'_>, keys: &KeySet, now_s: u64) -> Result<Events, EventError> {
    let malformed = |error: TokenError| match error {
        TokenError::Invalid(cause) => EventError::Request(cause),
        TokenError::UnknownKey { .. } | TokenError::Expired { .. } => EventError::Request("no security event token"),
    };
    let compact = parse::Compact::split(token).map_err(malformed)?;
    let header = parse::Header::parse(compact.header).map_err(malformed)?;
    if header.token_type.as_deref() != Some("secevent+jwt") {
        return Err(EventError::Request("`typ` is not `secevent+jwt`"));
    }
    if !rules.issuer.algorithms.contains(&header.algorithm) {
        return Err(EventError::Key("the algorithm is not allowed for this issuer"));
    }
    let key = keys.find(header.kid.as_deref(), header.algorithm).map_err(|error| match error {
        TokenError::UnknownKey { kid } => EventError::UnknownKey { kid },
        TokenError::Invalid(cause) => EventError::Key(cause),
        TokenError::Expired { .. } => EventError::Key("no key fits"),
    })?;
    let signature = parse::decode(compact.signature).map_err(malformed)?;
    if !key.verifies(compact.signed, &signature) {
        return Err(EventError::Key("the signature does not verify"));
    }
    let payload = parse::decode(compact.payload).map_err(malformed)?;
    let claims = json::object(&payload).ok_or(EventError::Request("the claims are not one strict JSON object"))?;
    read(&claims, rules, now_s)
}

fn read(claims: &Map<'_>, rules: &EventRules<'_>, now_s: u64) -> Result<Events, EventError> {
    if claims.get("iss").and_then(Value::as_str) != Some(rules.transmitter) {
        return Err(EventError::Issuer);
    }
    let ours = |name: &Value<'_>| name.as_str().is_some_and(|name| rules.audiences.iter().any(|known| known == name));
    let names_us = match claims.get("aud") {
        Some(Value::Array(names)) => names.iter().any(ours),
        Some(name) => ours(name),
        None => false,
    };
    if !names_us {
        return Err(EventError::Audience);
    }
    let id = claims.get("jti").and_then(|id| short(id)).ok_or(EventError::Request("`jti` is not a short string"))?;
    let issued_at = seconds(claims.get("iat")).ok_or(EventError::Request("`iat` is not a number of seconds"))?;
    if issued_at > now_s.saturating_add(rules.issuer.clock_skew_s) {
        return Err(EventError::Request("`iat` is in the future"));
    }
    let Some(Value::Object(events)) = claims.get("events") else {
        return Err(EventError::Request("`events` is not an object"));
    };
    if !(1..=MAX_EVENTS).contains(&events.len()) {
        return Err(EventError::Request("`events` holds none, or more than 16"));
    }
    let whole = Whole { rules, issued_at, subject: claims.get("sub_id"), happened: seconds(claims.get("toe")) };
    let events = events.iter().map(|(name, event)| whole.event(name, event)).collect::<Result<_, _>>()?;
    Ok(Events { id: id.to_owned(), events })
}

/// What all events of a token have in common.
struct Whole<'a> {
    rules: &'a EventRules<'a>,
    issued_at: u64,
    subject: Option<&'a Value<'a>>,
    happened: Option<u64>,
}

impl Whole<'_> {
    fn event(&self, uri: &str, event: &Value<'_>) -> Result<Event, EventError> {
        let Value::Object(event) = event else { return Err(EventError::Request("an event is not an object")) };
        let (name, ends) = meaning(uri, event);
        if !ends {
            return Ok(Event { name, ends: None });
        }
        let subject = match (self.subject, event.get("subject")) {
            (Some(one), None) | (None, Some(one)) => one,
            (Some(one), Some(other)) if one == other => one,
            (Some(_), Some(_)) => return Err(EventError::Request("two subjects that differ")),
            (None, None) => return Err(EventError::Request("an event without a subject")),
        };
        let at_s = seconds(event.get("event_timestamp")).or(self.happened).unwrap_or(self.issued_at);
        // What is to come cannot have happened.
        let mut ends = whom(subject, &self.rules.issuer.issuer, at_s.min(self.issued_at))?;
        // What befell a user is not over with the one session in which it was noticed.
        if name != "session-revoked" && ends.user.is_some() {
            ends.session = None;
        }
        Ok(Event { name, ends: Some(ends) })
    }
}

/// What an event is called, and whether it puts somebody out.
fn meaning(uri: &str, event: &Map<'_>) -> (&'static str, bool) {
    let is = |name: &str, value: &str| event.get(name).and_then(Value::as_str) == Some(value);
    if let Some(name) = uri.strip_prefix(CAEP) {
        return match name {
            "session-revoked" => ("session-revoked", true),
            // A new credential takes nothing from those that there are.
            "credential-change" => ("credential-change", !is("change_type", "create")),
            "token-claims-change" => ("token-claims-change", true),
            "assurance-level-change" => ("assurance-level-change", !is("change_direction", "increase")),
            "device-compliance-change" => ("device-compliance-change", !is("current_status", "compliant")),
            "session-established" => ("session-established", false),
            "session-presented" => ("session-presented", false),
            "risk-level-change" => ("risk-level-change", is("current_level", "HIGH")),
            _ => ("other", false),
        };
    }
    if let Some(name) = uri.strip_prefix(RISC) {
        return match name {
            "account-disabled" => ("account-disabled", true),
            "account-purged" => ("account-purged", true),
            "account-credential-change-required" => ("account-credential-change-required", true),
            "credential-compromise" => ("credential-compromise", true),
            "sessions-revoked" => ("sessions-revoked", true),
            "account-enabled" => ("account-enabled", false),
            _ => ("other", false),
        };
    }
    match uri.strip_prefix(SSF) {
        Some("verification") => ("verification", false),
        Some("stream-updated") => ("stream-updated", false),
        Some(_) | None => ("other", false),
    }
}

/// Whom a subject names: a user, a session, or a complex one with both.
fn whom(subject: &Value<'_>, issuer: &str, at_s: u64) -> Result<Ends, EventError> {
    const NO_SUBJECT: EventError = EventError::Request("the subject is not an object");
    let Value::Object(members) = subject else { return Err(NO_SUBJECT) };
    let mut ends = Ends { session: None, user: None, tenant: None, at_s };
    let parts = ["user", "session", "tenant"];
    let complex = format(members).as_deref() == Some("complex")
        || (format(members).is_none() && parts.iter().any(|part| members.contains_key(part)));
    if !complex {
        ends.user = Some(id_of(members, issuer)?.to_owned());
        return Ok(ends);
    }
    for (name, place) in [("user", &mut ends.user), ("session", &mut ends.session), ("tenant", &mut ends.tenant)] {
        match members.get(name) {
            None => {}
            Some(Value::Object(part)) => *place = Some(id_of(part, issuer)?.to_owned()),
            Some(_) => return Err(NO_SUBJECT),
        }
    }
    if ends.user.is_none() && ends.session.is_none() {
        // A tenant is of many issuers, and one of them does not speak for the others.
        return Err(EventError::Request("the subject names neither a user nor a session"));
    }
    Ok(ends)
}

/// `format` (RFC 9493, 3), or `subject_type` of older senders.
fn format(members: &Map<'_>) -> Option<String> {
    let name = members.get("format").or_else(|| members.get("subject_type"))?.as_str()?;
    Some(name.replace('-', "_"))
}

/// The id in a simple subject.
fn id_of<'a>(members: &'a Map<'_>, issuer: &str) -> Result<&'a str, EventError> {
    const NO_ID: EventError = EventError::Request("an id in the subject is not a short string");
    let text = |name: &str| members.get(name).and_then(short).ok_or(NO_ID);
    match format(members).as_deref() {
        Some("iss_sub") if text("iss")? == issuer => text("sub"),
        Some("iss_sub") => Err(EventError::Request("the subject is another issuer's")),
        Some("opaque") => text("id"),
        Some("aliases") => {
            let Some(Value::Array(names)) = members.get("identifiers") else { return Err(NO_ID) };
            let known = |name: &'a Value<'_>| match name {
                // Aliases of aliases are forbidden (RFC 9493, 3.2.8).
                Value::Object(one) if format(one).as_deref() != Some("aliases") => id_of(one, issuer).ok(),
                _ => None,
            };
            names.iter().take(MAX_EVENTS).find_map(known).ok_or(UNKNOWN_FORMAT)
        }
        Some(_) | None => Err(UNKNOWN_FORMAT),
    }
}

const UNKNOWN_FORMAT: EventError = EventError::Request(
    "no user or session is known by a subject of this format: send `iss_sub`, or `opaque` with its id",
);

fn short<'a>(value: &'a Value<'_>) -> Option<&'a str> {
    value.as_str().filter(|text| (1..=MAX_ID_BYTES).contains(&text.len()))
}

/// A number of seconds since the epoch, or of milliseconds.
fn seconds(value: Option<&Value<'_>>) -> Option<u64> {
    let number = value?.as_f64().filter(|number| (0.0..1e15).contains(number))?;
    Some(if number >= MILLISECONDS { (number / 1000.0) as u64 } else { number as u64 })
}
