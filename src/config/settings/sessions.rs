//! Sessions that the gateway holds, resolved.
use super::{Dpop, Tokens};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// `sessions:`, as far as the gateway holds any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Sessions of browsers.
    pub browser: Option<Arc<Browser>>,
    /// Tokens of our own.
    pub tokens: Option<Arc<Tokens>>,
    /// Rules for proofs of possession.
    pub dpop: Dpop,
    /// Codes of authenticator apps.
    pub totp: Option<Arc<Totp>>,
    /// What everything that is kept about sessions is sealed with.
    pub keys: SealingKeys,
    /// Limits by address that the gateway's own endpoints are under: the one that is built in, and those that are named.
    pub limits: Vec<Arc<decide::rules::Limit>>,
}

/// `sessions.browser:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Browser {
    /// Name of the cookie; it begins with `__Host-`.
    pub cookie: Arc<str>,
    /// `SameSite` of the cookie.
    pub same_site: SameSite,
    /// Longest time between two uses.
    pub idle: Duration,
    /// Longest life.
    pub absolute: Duration,
    /// When a session gets another handle.
    pub rotation: Rotation,
    /// How long a handle is still good once its successor was used.
    pub reuse_leeway: Duration,
    /// Issuers whose tokens are exchanged for sessions.
    pub exchange: Vec<Arc<str>>,
    /// How applications grant sessions.
    pub grant: Option<Grant>,
    /// What these sessions are sealed with.
    pub keys: SealingKeys,
}

/// `sessions.totp:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totp {
    /// The name that apps show.
    pub issuer: Arc<str>,
    /// What `acr` of a session is once a code was shown; `None` leaves it.
    pub acr: Option<Arc<str>>,
    /// Greatest age of the sign-in when an app is set up.
    pub enrol_within: Duration,
}

/// `SameSite` of a cookie (RFC 6265bis, 4.1.2.7), from lax to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SameSite {
    /// `Lax`
    Lax,
    /// `Strict`
    Strict,
}

/// When a session gets another handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// So long after the last change; `None` with every use.
    pub every: Option<Duration>,
    /// After a fresh or stronger authentication.
    pub on_step_up: bool,
    /// When the user's roles changed.
    pub on_role_change: bool,
}

/// `sessions.browser.grant:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The header of the application's answer.
    pub header: http::HeaderName,
    /// The name under which its users are known.
    pub issuer: Arc<str>,
    /// Names of the routes whose answers may grant.
    pub routes: Vec<Arc<str>>,
}

/// Keys of 256 bits: the first seals, all of them open. Never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SealingKeys(Arc<[[u8; 32]]>);

impl SealingKeys {
    /// These keys, the one to seal with first.
    pub fn new(keys: Vec<[u8; 32]>) -> SealingKeys {
        SealingKeys(keys.into())
    }

    /// All of them in order; none only where a configuration is checked and not run.
    pub fn iter(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.0.iter()
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKeys({})", self.0.len())
    }
}
