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

/// `storage.redis:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
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
