//! Options of sessions that an application keeps in a store of its own.
use crate::config::read::Spanned;
use crate::config::secrets::SecretPlace;
use crate::config::units::{Period, seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Sessions that an application keeps in a Redis or PostgreSQL: the session that a cookie names is read there, never written,
/// and says who it is. It must be JSON. Where the store does not answer, requests with such a cookie are
/// `gateway.unavailable`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppSessionsOptions {
    /// Name of the application's cookie. It passes to the application as it came.
    pub cookie: Spanned<String>,
    /// Secrets of express-session, the newest first: the cookie is `s:ID.SIGNATURE`, and only an id that is signed with one of
    /// them is looked up. Default: the cookie holds the id itself, of letters, digits and `-_.~+/=`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub express_secrets: Vec<Spanned<SecretPlace>>,
    /// The Redis or Valkey that holds the sessions; or `postgres`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Spanned<SessionsInRedis>>,
    /// The PostgreSQL that holds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Spanned<SessionsInPostgres>>,
    /// Where in a session it stands who it is.
    pub claims: SessionClaims,
    /// What is remembered of sessions.
    #[serde(default)]
    pub cache: SessionCacheOptions,
    /// How long what a session opened (WebSockets, streams) may go on: 1s to 24h.
    #[serde(default = "one_hour")]
    pub max_age: Spanned<Period>,
    /// Time for a connection, 10ms to 1m.
    #[serde(default = "one_second")]
    pub connect_timeout: Spanned<Period>,
    /// Time for an answer, 10ms to 10s. Danger: requests wait as long where the store is slow.
    #[serde(default = "quarter_second")]
    pub timeout: Spanned<Period>,
    /// Look-ups under way at once, 1 to 100,000; more are `gateway.unavailable`.
    #[serde(default = "a_thousand")]
    pub max_in_flight: Spanned<usize>,
}

/// A Redis (6.2 or later) or Valkey of an application. No cluster. The rights to `GETRANGE` and `PING` are enough.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionsInRedis {
    /// Where it is: `rediss://HOST[:PORT][/DATABASE]` (TLS), `redis://…` (in the clear), or `unix:/PATH`. No user or password
    /// in it.
    pub url: Spanned<String>,
    /// The key of a session, with exactly one `{cookie}` where its id stands, or `{cookie_sha256}` for SHA-256 of the id in
    /// hex: `sess:{cookie}` for connect-redis. The value is a string with the session.
    pub key: Spanned<String>,
    /// User name (ACL). Default: the server's default user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<Spanned<String>>,
    /// Place of the password, read anew for every connection. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Spanned<SecretPlace>>,
    /// PEM file with the only certificate authorities that may vouch for a server with TLS. Default: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Spanned<String>>,
    /// Why a server on another machine is spoken to without TLS, in words. Danger: who can listen there learns sessions, and
    /// who can write there is anybody. Default: such a server is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plaintext: Option<Spanned<String>>,
}

/// A PostgreSQL (13 or later) of an application. Nothing is written to it: connections are read-only.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionsInPostgres {
    /// Where it is: `postgresql://USER@HOST[:PORT]/DATABASE`, or `postgresql://USER@/DATABASE?host=/FOLDER`. No password in it.
    /// TLS is spoken with all but this machine.
    pub url: Spanned<String>,
    /// One `SELECT` with `$1` where the id stands, a text; it finds one row, whose first column is the session. It must not
    /// find sessions that are over: `SELECT sess FROM session WHERE sid = $1 AND expire > now()` for connect-pg-simple.
    pub statement: Spanned<String>,
    /// Place of the password, read anew for every connection. Default: none, over a socket only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Spanned<SecretPlace>>,
    /// PEM file with the only certificate authorities that may vouch for the server. Default: the system's. With it TLS
    /// is spoken with this machine too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Spanned<String>>,
    /// Why a server on another machine is spoken to without TLS, in words. Danger: who can read there learns sessions, and
    /// who can write there is anybody. Default: TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plaintext: Option<Spanned<String>>,
    /// Connections of each replica, 1 to 64.
    #[serde(default = "connections")]
    pub connections: Spanned<usize>,
}

/// Where in a session it stands who it is: JSON pointers (RFC 6901) as `/user/id`, or names of members.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionClaims {
    /// The user, a text or a whole number. A session without is nobody's: that of a visitor who has not signed in.
    pub subject: Spanned<String>,
    /// The tenant, a text or a whole number. Default: none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Spanned<String>>,
    /// Roles: a list, or one text separated by spaces or commas. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Spanned<String>>,
    /// When the user authenticated, seconds or milliseconds since 1970. Default: unknown. Danger: then a user who was ended by
    /// name, tenant or all at once (`moat sessions revoke`) stays out, whenever they sign in again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<Spanned<String>>,
    /// Class of the authentication (RFC 9470). Default: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<Spanned<String>>,
    /// Methods of the authentication (RFC 8176). Default: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amr: Option<Spanned<String>>,
}

/// What is remembered of sessions. They are known by a keyed hash.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionCacheOptions {
    /// How long a session passes without another look-up, at most 1m, in whole seconds; `0s` looks up each time. Danger: a
    /// session that the application ends or changes works as it was for as long. What is revoked here ends at once.
    pub max_age: Spanned<Period>,
    /// How long an id that was not found is refused without another look-up, 0s to 1m.
    pub refused: Spanned<Period>,
    /// Sessions that are remembered, 1 to 1,000,000. Ids that were not found have room of their own.
    pub entries: Spanned<u64>,
}

impl Default for SessionCacheOptions {
    fn default() -> Self {
        SessionCacheOptions { max_age: seconds(0).into(), refused: seconds(1).into(), entries: 10_000.into() }
    }
}

fn one_hour() -> Spanned<Period> {
    seconds(3600).into()
}

fn one_second() -> Spanned<Period> {
    seconds(1).into()
}

fn quarter_second() -> Spanned<Period> {
    Period(Duration::from_millis(250)).into()
}

fn a_thousand() -> Spanned<usize> {
    1000.into()
}

fn connections() -> Spanned<usize> {
    4.into()
}
