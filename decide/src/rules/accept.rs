//! What a route accepts as a credential, and who vouches for it.
use crate::facts::Carrier;
use std::fmt;
use std::sync::Arc;

/// An accepted kind of credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accept {
    /// `Authorization: Bearer` with a token of this issuer.
    Bearer {
        /// Name of the issuer.
        issuer: Arc<str>,
    },
    /// `Authorization: DPoP` with a token of this issuer and proof of the key that it is bound to.
    Dpop {
        /// Name of the issuer.
        issuer: Arc<str>,
    },
    /// A cookie that holds a token of this issuer.
    Cookie {
        /// Name of the cookie.
        name: Arc<str>,
        /// Name of the issuer.
        issuer: Arc<str>,
    },
    /// A session that the gateway holds for a browser.
    Session {
        /// Name of the cookie with its handle.
        cookie: Arc<str>,
    },
    /// A header that holds an API key.
    ApiKey {
        /// The header.
        header: http::HeaderName,
        /// Which keys.
        keys: Keys,
    },
    /// A session that the application keeps in a store of its own.
    AppSession {
        /// Name of the cookie with its id.
        cookie: Arc<str>,
        /// Whose: the name of the store.
        name: Arc<str>,
    },
    /// Whatever a service of the operator's knows somebody by.
    ExtAuth {
        /// Name of the service.
        name: Arc<str>,
        /// Whether it knows them by cookies.
        ambient: bool,
    },
    /// The certificate of the connection.
    Certificate {
        /// Whose certificates: the name under `client_certificates`.
        name: Arc<str>,
    },
}

/// Where API keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// In a file, as it is named in the configuration.
    File(Arc<str>),
    /// In the state engine: the name of the set.
    State(Arc<str>),
}

/// As operators read it.
impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keys::File(name) => write!(f, "`{name}`"),
            Keys::State(name) => write!(f, "the set `{name}`"),
        }
    }
}

/// Who vouches for API keys, where an issuer's name is asked for.
pub const API_KEY: &str = "api_key";

impl Accept {
    /// Who vouches for the caller: the name of an issuer, or of a way in that has none; `None` where it is whoever opened
    /// the session.
    pub fn voucher(&self) -> Option<&str> {
        match self {
            Accept::Bearer { issuer } | Accept::Dpop { issuer } | Accept::Cookie { issuer, .. } => Some(issuer),
            Accept::Session { .. } => None,
            Accept::ApiKey { .. } => Some(API_KEY),
            Accept::AppSession { name, .. } | Accept::ExtAuth { name, .. } | Accept::Certificate { name } => Some(name),
        }
    }

    /// Whether it is what somebody was known by: who vouches for them, and how it was carried.
    pub fn fits(&self, voucher: &str, carrier: Carrier) -> bool {
        // By cookies or by another header: a service may know somebody by either.
        let both = matches!(self, Accept::ExtAuth { ambient: true, .. }) && carrier == Carrier::ExtAuth;
        self.voucher().is_none_or(|known| known == voucher) && (self.carrier() == carrier || both)
    }

    /// How it is carried.
    pub fn carrier(&self) -> Carrier {
        match self {
            Accept::Bearer { .. } => Carrier::Bearer,
            Accept::Dpop { .. } => Carrier::Dpop,
            Accept::Cookie { .. } | Accept::AppSession { .. } => Carrier::Cookie,
            Accept::Session { .. } => Carrier::Session,
            Accept::ApiKey { .. } => Carrier::ApiKey,
            Accept::ExtAuth { ambient: true, .. } => Carrier::Cookie,
            Accept::ExtAuth { ambient: false, .. } => Carrier::ExtAuth,
            Accept::Certificate { .. } => Carrier::Certificate,
        }
    }

    /// Whether it comes by itself, without a program's doing, and so is asked after those that are sent on purpose.
    pub fn is_ambient(&self) -> bool {
        self.carrier().is_ambient()
    }
}
