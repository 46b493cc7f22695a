//! Options of what replicas share.
use crate::config::read::Spanned;
use crate::config::secrets::SecretPlace;
use crate::config::units::{Period, seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where state is kept. One machine needs none of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StorageOptions {
    /// The file on this machine that keeps what no shared store does.
    #[serde(skip_serializing_if = "EmbeddedOptions::is_default")]
    pub embedded: EmbeddedOptions,
    /// A Redis (6.2 or later) or Valkey that all replicas reach. Default: none; then limits of every `mode` are counted by each
    /// replica alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Spanned<RedisOptions>>,
    /// A PostgreSQL (13 or later) that all replicas reach. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Spanned<PostgresOptions>>,
}

impl StorageOptions {
    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.redis.is_none() && self.postgres.is_none() && self.embedded.is_default()
    }
}

/// A file on this machine. There is none until something is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddedOptions {
    /// The file. Default: `state.redb` in `server.state_dir`. Danger: it must be on a disk of this machine, not on a network
    /// file system; and whoever can write to it ends and changes sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Spanned<String>>,
}

impl EmbeddedOptions {
    fn is_default(&self) -> bool {
        self.path.is_none()
    }
}

/// A Redis or Valkey. Not being able to reach it is no reason not to start, nor not to be ready.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisOptions {
    /// Where it is: `rediss://HOST[:PORT][/DATABASE]` (TLS), `redis://…` (in the clear), or `unix:/PATH`. The port is 6379
    /// and the database 0 unless written. No user or password in it.
    pub url: Spanned<String>,
    /// What is kept there: `limits`, `sessions`, `refresh_families`, `revocations`, `api_keys`, `once` (ids that may be seen once
    /// only), `sign_ins` (under way), `factors` (second factors). Danger: what the server has not written to its disk it
    /// forgets when it ends; see docs/state.md.
    pub use_for: Spanned<Vec<Spanned<UseOption>>>,
    /// User name (ACL). Default: the server's default user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<Spanned<String>>,
    /// Place of the password, read anew for every connection. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Spanned<SecretPlace>>,
    /// PEM file with the only certificate authorities that may vouch for a server with TLS. Default: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Spanned<String>>,
    /// Why a server on another machine is spoken to without TLS, in words. Danger: who can listen there learns the
    /// password, and who can write there lifts or uses up limits. Default: such a server is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plaintext: Option<Spanned<String>>,
    /// Place of the secret that clients, users and tenants are hashed with before they become keys, of 16 bytes or more;
    /// the same for all replicas. Default: derived from the password. Danger: with another secret all counts begin
    /// anew, so write one where passwords are rotated or differ between replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_key: Option<Spanned<SecretPlace>>,
    /// What all keys begin with: letters, digits, `-`, `_`, `.` and `:`.
    #[serde(default = "prefix")]
    pub key_prefix: Spanned<String>,
    /// Time for a connection, for answers that no request waits for, and for reading and writing sessions and other state.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Spanned<Period>,
    /// Time that a request waits for counts of limits; then `on_store_loss` of the limit holds. Danger: longer ones make every
    /// request under a `strict` limit slow when the server is.
    #[serde(default = "command_timeout")]
    pub command_timeout: Spanned<Period>,
}

/// What is kept in a shared store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UseOption {
    /// Counts of limits whose `mode` is `synced` or `strict`. In a Redis only.
    Limits,
    /// Gateway sessions.
    Sessions,
    /// Families of refresh tokens.
    RefreshFamilies,
    /// Revocations, and the feed by which replicas tell each other.
    Revocations,
    /// API keys.
    ApiKeys,
    /// Ids that may be seen once only.
    Once,
    /// Sign-ins under way.
    SignIns,
    /// Second factors.
    Factors,
}

/// A PostgreSQL. Not being able to reach it is no reason not to start, nor not to be ready.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresOptions {
    /// Where it is: `postgresql://USER@HOST[:PORT]/DATABASE`, or `postgresql://USER@/DATABASE?host=/FOLDER` for the socket in a
    /// folder. The port is 5432 unless written. No password in it. TLS is spoken with all but this machine.
    pub url: Spanned<String>,
    /// What is kept there: `sessions`, `refresh_families`, `revocations`, `api_keys`, `once`, `sign_ins`, `factors`.
    pub use_for: Spanned<Vec<Spanned<UseOption>>>,
    /// Place of the password, read anew for every connection. Default: none, over a socket only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Spanned<SecretPlace>>,
    /// PEM file with the only certificate authorities that may vouch for the server. Default: the system's. With it TLS
    /// is spoken with this machine too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Spanned<String>>,
    /// Why a server on another machine is spoken to without TLS, in words. Danger: who can read there reads what state
    /// is about, and who can write there ends sessions. Default: TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plaintext: Option<Spanned<String>>,
    /// Connections of each replica, 1 to 64. What several carry at a time is committed together.
    #[serde(default = "connections")]
    pub connections: Spanned<usize>,
    /// Time for a connection.
    #[serde(default = "postgres_connect_timeout")]
    pub connect_timeout: Spanned<Period>,
    /// Time for an answer; then the server is silent, and what needs it is refused.
    #[serde(default = "connect_timeout")]
    pub command_timeout: Spanned<Period>,
}

fn connections() -> Spanned<usize> {
    4.into()
}

fn postgres_connect_timeout() -> Spanned<Period> {
    seconds(2).into()
}

fn prefix() -> Spanned<String> {
    "moat".to_owned().into()
}

fn connect_timeout() -> Spanned<Period> {
    seconds(1).into()
}

fn command_timeout() -> Spanned<Period> {
    Period(Duration::from_millis(10)).into()
}
