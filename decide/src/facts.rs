//! What is known about a request before anything is decided: serialisable, and free of secrets.
use crate::digits;
use crate::refusal::Refusal;
use crate::request::Method;
use crate::revocation::{Handles, began_s};
use core::net::IpAddr;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Marks a value that identifies a person, so that redaction, pseudonyms and erasure can find it by type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Person<T>(pub T);

/// A request's id: a UUIDv7 (RFC 9562), always ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u128);

impl RequestId {
    /// Its 36 characters, lowercase hex and hyphens.
    pub fn text(self) -> [u8; 36] {
        let (mut text, bytes) = ([b'-'; 36], self.0.to_be_bytes());
        digits::hex(&bytes[..4], &mut text[..8]);
        digits::hex(&bytes[4..6], &mut text[9..13]);
        digits::hex(&bytes[6..8], &mut text[14..18]);
        digits::hex(&bytes[8..10], &mut text[19..23]);
        digits::hex(&bytes[10..], &mut text[24..]);
        text
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(str::from_utf8(&self.text()).unwrap_or_default())
    }
}

/// The facts of one request, gathered by the shell before the first guard.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Wall clock, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Our id of the request.
    pub id: RequestId,
    /// The client's address, after trusted hops.
    pub client: Person<IpAddr>,
    /// The listener's name.
    pub listener: Arc<str>,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: Protocol,
    /// What the TLS handshake settled; `None` without TLS.
    pub tls: Option<Arc<TlsFacts>>,
    /// What the browser says about where the request comes from.
    pub site: Site,
    /// What the head says about the body.
    pub body: Body,
    /// Whether the client asks to leave HTTP (`Upgrade`), for instance for a WebSocket.
    pub upgrade: bool,
}

impl Facts {
    /// The same clock in whole seconds, the unit of token claims.
    pub fn at_s(&self) -> u64 {
        self.at_ms / 1000
    }
}

/// HTTP version of the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1
    #[serde(rename = "h1")]
    Http1,
    /// HTTP/2
    #[serde(rename = "h2")]
    Http2,
}

/// What a TLS handshake settled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFacts {
    /// `1.3` or `1.2`.
    pub version: String,
    /// IANA name of the cipher suite.
    pub cipher: String,
    /// Key exchange group, e.g. `X25519MLKEM768`.
    pub group: String,
    /// Server name of the ClientHello, lowercase.
    pub server_name: Option<String>,
    /// Whether the session was resumed.
    pub resumed: bool,
}

/// Where a browser says the request comes from (Fetch Metadata, then Origin, then Referer), and what for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// `Sec-Fetch-Site`.
    pub fetch_site: Option<FetchSite>,
    /// `Sec-Fetch-Mode`.
    pub fetch_mode: Option<FetchMode>,
    /// `Sec-Fetch-Dest`.
    pub fetch_dest: Option<FetchDest>,
    /// Whether `Origin` (or, where it is absent, `Referer`) names this very origin; `None` when both are absent.
    pub same_origin: Option<bool>,
    /// Whether `Origin` is `null`: the page has no origin, or keeps it to itself (`Referrer-Policy: no-referrer`).
    pub opaque: bool,
    /// The other origin that `Origin` names, as sent. To be compared byte for byte with what is allowed.
    pub foreign: Option<Box<str>>,
}

/// The values of `Sec-Fetch-Site` (W3C Fetch Metadata).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FetchSite {
    /// Same scheme, host and port.
    SameOrigin,
    /// Same registrable domain.
    SameSite,
    /// Another site.
    CrossSite,
    /// The user's own doing: address bar, bookmark.
    None,
    /// A value that the specification does not know.
    Unknown,
}

/// The values of `Sec-Fetch-Mode`, as far as decisions tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FetchMode {
    /// A document is asked for, to be shown in a window or frame.
    Navigate,
    /// A script asks and wants to read the answer.
    Cors,
    /// A WebSocket handshake.
    Websocket,
    /// `no-cors`, `same-origin`, and what the specification does not know.
    Other,
}

/// The values of `Sec-Fetch-Dest`, as far as decisions tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FetchDest {
    /// A window of its own.
    Document,
    /// A frame, object or plugin within somebody's page.
    Embedded,
    /// Scripts, pictures, data, and what the specification does not know.
    Other,
}

/// What the head says about the body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// `Content-Length`, where given.
    pub length: Option<u64>,
    /// Whether a body follows at all.
    pub present: bool,
    /// Media type without parameters, lowercase.
    pub content_type: Option<String>,
}

/// How a credential was carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// `Authorization: Bearer` (RFC 6750).
    Bearer,
    /// A cookie: ambient, hence in need of CSRF evidence.
    Cookie,
    /// A session that the gateway holds, by its cookie: ambient too.
    Session,
    /// A header that holds an API key.
    #[serde(rename = "api_key")]
    ApiKey,
    /// Headers by which a service of the operator's knows somebody, cookies not among them.
    #[serde(rename = "ext_auth")]
    ExtAuth,
    /// `Authorization: DPoP` with a proof of possession (RFC 9449).
    Dpop,
    /// The certificate of the connection: browsers show theirs to whoever they ask, so it is ambient.
    Certificate,
}

impl Carrier {
    /// All of them, in the order of their numbers.
    pub const ALL: [Carrier; 7] = [
        Carrier::Bearer,
        Carrier::Cookie,
        Carrier::Session,
        Carrier::ApiKey,
        Carrier::ExtAuth,
        Carrier::Dpop,
        Carrier::Certificate,
    ];

    /// The word in entries, metrics and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Carrier::Bearer => "bearer",
            Carrier::Cookie => "cookie",
            Carrier::Session => "session",
            Carrier::ApiKey => "api_key",
            Carrier::ExtAuth => "ext_auth",
            Carrier::Dpop => "dpop",
            Carrier::Certificate => "certificate",
        }
    }

    /// Whether browsers send it by themselves, whoever asks: then a request needs evidence of our own origin.
    pub const fn is_ambient(self) -> bool {
        match self {
            Carrier::Bearer | Carrier::ApiKey | Carrier::ExtAuth | Carrier::Dpop => false,
            Carrier::Cookie | Carrier::Session | Carrier::Certificate => true,
        }
    }
}

/// Who the caller is, as verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of the issuer in `gateway.yaml`.
    pub issuer: Arc<str>,
    /// The issuer's word for the user.
    pub subject: Person<Arc<str>>,
    /// The tenant that the session belongs to.
    pub tenant: Option<Arc<str>>,
    /// Roles as the issuer names them, in its order.
    pub roles: Vec<Arc<str>>,
    /// Keyed hash of the session id claim, hex; never the id itself.
    pub session: Option<Arc<str>>,
    /// When the user last authenticated, seconds since the epoch.
    pub auth_time: Option<u64>,
    /// Authentication context class.
    pub acr: Option<Arc<str>>,
    /// Authentication methods.
    pub amr: Vec<Arc<str>>,
    /// `iat`, seconds.
    pub issued_at: u64,
    /// `nbf`, seconds; 0 where absent.
    pub not_before: u64,
    /// `exp`, seconds; exclusive.
    pub expires_at: u64,
    /// What the credential is bound to by its `cnf`. Without proof of it, the credential is not valid.
    pub bound_to: Option<Bound>,
    /// The permissions that the credential is good for, of those that the roles grant; `None` for all of them.
    pub scopes: Option<Box<[Arc<str>]>>,
    /// By what it can be ended before that.
    pub handles: Handles,
}

/// What a token is bound to, so that it is of no use to whoever only has the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A key, of which requests bring proof: its thumbprint (`jkt`; RFC 9449, 6.1).
    Key(Arc<str>),
    /// The certificate of the connection: its SHA-256 in base64url (`x5t#S256`; RFC 8705, 3.1).
    Certificate(Arc<str>),
}

impl Identity {
    /// When the user signed in, as far as it is told, seconds since the epoch (see [`began_s`]).
    pub fn began_s(&self) -> u64 {
        began_s(self.auth_time, self.issued_at)
    }

    /// Whether the credential may be used for a permission: scopes take away from what roles grant, and never add to it.
    pub fn covers(&self, permission: &str) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|scope| **scope == *permission))
    }
}

/// What a guard may ask of the shell: the complete list of effects that a decision can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Take one from each of the route's limits of this stage.
    Quota(Stage),
    /// Find and verify the credential that the route accepts.
    Credential,
    /// Read the fields of the body that the route's limits count by.
    Fields,
    /// Find and verify the double-submit token, which stands in a cookie and in a header or form.
    CsrfToken,
}

/// When a limit is counted: before or after the caller is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// By address and route only.
    Address,
    /// By tenant or subject.
    Caller,
    /// By a field of the body.
    Body,
}

/// What the shell answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The limits' state after one was taken.
    Quota(Reading),
    /// What the request carries.
    Credential(Credential),
    /// The same of one that is not good, with how it came.
    Shown(Carrier, Credential),
    /// Whether the fields could be read; their values stay with the shell, hashed.
    Fields(Result<(), Refusal>),
    /// Whether the token was sent twice, and is one for this caller.
    CsrfToken(Result<(), Refusal>),
    /// The world is silent; the cause goes to the audit entry.
    Unavailable(String),
}

impl Answer {
    /// The same, where it is about a credential that is not good and came in this way.
    pub fn shown_by(self, carrier: Option<Carrier>) -> Answer {
        match (self, carrier) {
            (Answer::Credential(good @ (Credential::Valid { .. } | Credential::Missing)), _) => {
                Answer::Credential(good)
            }
            (Answer::Credential(bad), Some(carrier)) => Answer::Shown(carrier, bad),
            (answer, _) => answer,
        }
    }
}

/// What the request carries as a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// None of the kinds that the route accepts.
    Missing,
    /// A verified one.
    Valid {
        /// Who it names.
        identity: Arc<Identity>,
        /// How it came.
        carrier: Carrier,
    },
    /// One that does not verify; the cause goes to the audit entry.
    Invalid(String),
    /// One whose holder may not do this, as whoever vouches for it says; the cause goes to the audit entry.
    Denied(String),
    /// One of ours whose time is over, so that nothing else is known of it any more; the cause goes to the audit entry.
    Expired(String),
    /// A good one that was ended before its time; the cause goes to the audit entry.
    Revoked(String),
    /// One that was exchanged for its successor before, so that two hold it; the cause goes to the audit entry.
    Reused(String),
}

/// The state of a route's limits after one request was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The limit with the least left, for `RateLimit`.
    pub tightest: Option<LimitState>,
    /// The enforced limit that is used up, if any.
    pub exceeded: Option<LimitState>,
    /// Names of shadow limits that are used up.
    pub shadowed: Vec<Arc<str>>,
    /// The limit that has the request wait, if one does.
    pub delayed: Option<Delayed>,
}

/// A limit that is used up and has a request wait instead of refusing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delayed {
    /// The limit's name.
    pub name: Arc<str>,
    /// How long, milliseconds.
    pub wait_ms: u64,
}

/// One limit, as the client may see it (draft-ietf-httpapi-ratelimit-headers-11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitState {
    /// Its name in `rate-limits.yaml`.
    pub name: Arc<str>,
    /// What it counts (`qu`).
    pub unit: Unit,
    /// Requests allowed at once (`q`).
    pub quota: u32,
    /// Seconds over which the quota refills (`w`); 0 for requests under way, which have no such time.
    pub window_s: u32,
    /// Requests left (`r`).
    pub remaining: u32,
    /// Seconds until the quota is whole again, or, where exceeded, until one request is allowed (`t`).
    pub reset_s: u32,
    /// Whether the client is told in `X-RateLimit-*` too.
    pub legacy: bool,
}

/// What a limit counts: the quota units of draft-ietf-httpapi-ratelimit-headers-11.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Requests in a time.
    #[default]
    Requests,
    /// Requests under way at once.
    Concurrent,
}

/// Whether a method may change state (RFC 9110, 9.2.1).
pub fn changes_state(method: Method) -> bool {
    !matches!(method, Method::Get | Method::Head | Method::Options)
}
