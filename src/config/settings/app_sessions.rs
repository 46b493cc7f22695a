//! Sessions that applications keep in stores of their own, resolved.
use super::{Keep, PostgresPlace, PostgresTls, RedisPlace, RedisTls, SecretSource};
use decide::app_session::{AppSessions, KeyPattern};
use std::sync::Arc;
use std::time::Duration;

/// One of `app_sessions:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSessionStore {
    /// The cookie.
    pub cookie: Arc<str>,
    /// What the cookie and the session mean.
    pub sessions: AppSessions,
    /// Where they are.
    pub source: SessionSource,
    /// Digest of the certificate authorities' file: with another content it is another store.
    pub authorities: Option<[u8; 32]>,
    /// What is remembered.
    pub keep: Keep,
    /// Time for a connection.
    pub connect_timeout: Duration,
    /// Time for an answer.
    pub timeout: Duration,
    /// Look-ups under way at once.
    pub max_in_flight: usize,
    /// What the gateway is called in the server's views.
    pub instance: String,
}

/// Where an application's sessions are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionSource {
    /// In a Redis.
    Redis {
        /// Where it is.
        place: RedisPlace,
        /// TLS; `None` speaks in the clear.
        tls: Option<RedisTls>,
        /// User name.
        username: Option<String>,
        /// The password.
        password: Option<SecretSource>,
        /// Number of the database.
        database: u32,
        /// The key of a session.
        key: KeyPattern,
    },
    /// In a PostgreSQL.
    Postgres {
        /// Where it is.
        place: PostgresPlace,
        /// TLS; `None` speaks in the clear.
        tls: Option<PostgresTls>,
        /// The role.
        user: String,
        /// The password.
        password: Option<SecretSource>,
        /// The database.
        database: String,
        /// Finds a session.
        statement: String,
        /// Connections.
        connections: usize,
    },
}

impl SessionSource {
    /// The word in metrics and logs.
    pub const fn word(&self) -> &'static str {
        match self {
            SessionSource::Redis { .. } => "redis",
            SessionSource::Postgres { .. } => "postgres",
        }
    }
}
