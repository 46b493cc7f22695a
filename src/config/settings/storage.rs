//! Where state is kept, resolved.
use super::SecretSource;
use std::path::PathBuf;
use std::time::Duration;

/// `storage.embedded:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// The file.
    pub path: PathBuf,
}

/// A kind of state that a shared store may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Gateway sessions.
    Sessions,
    /// Families of refresh tokens.
    RefreshFamilies,
    /// Revocations and the feed.
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

/// `storage.postgres:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// Where it is.
    pub place: PostgresPlace,
    /// TLS; `None` speaks in the clear.
    pub tls: Option<PostgresTls>,
    /// The role.
    pub user: String,
    /// The password.
    pub password: Option<SecretSource>,
    /// The database.
    pub database: String,
    /// What is kept there.
    pub keeps: Vec<Kept>,
    /// Connections.
    pub connections: usize,
    /// Time for a connection.
    pub connect_timeout: Duration,
    /// Time for an answer.
    pub command_timeout: Duration,
}

/// Where a PostgreSQL is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostgresPlace {
    /// Host and port.
    Tcp(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// How a PostgreSQL is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresTls {
    /// PEM file with the only certificate authorities to trust; the system's where absent.
    pub ca: Option<PathBuf>,
}

/// `storage.redis:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// Whether shared limits are counted there.
    pub limits: bool,
    /// What else is kept there.
    pub keeps: Vec<Kept>,
    /// Where it is.
    pub place: RedisPlace,
    /// TLS; `None` speaks in the clear.
    pub tls: Option<RedisTls>,
    /// User name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<SecretSource>,
    /// What keys are hashed with; derived from the password where absent.
    pub hash_key: Option<SecretSource>,
    /// Number of the database.
    pub database: u32,
    /// What all keys begin with.
    pub key_prefix: String,
    /// Time for a connection, and for answers that no request waits for.
    pub connect_timeout: Duration,
    /// Time that a request waits for an answer.
    pub command_timeout: Duration,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisPlace {
    /// Host and port.
    Tcp(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// How a server with TLS is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisTls {
    /// PEM file with the only certificate authorities to trust; the system's where absent.
    pub ca: Option<PathBuf>,
}
