//! The tokens that the gateway itself issues, resolved.
use decide::session::family;
use decide::token::Algorithm;
use std::sync::Arc;

/// `sessions.tokens:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Issuers whose tokens open a family.
    pub exchange: Vec<Arc<str>>,
    /// Paths besides `/.moat/token`.
    pub issue_at: Vec<Arc<str>>,
    /// `iss` of access tokens.
    pub issuer: Arc<str>,
    /// `aud` of access tokens.
    pub audience: Arc<str>,
    /// Life of an access token, seconds.
    pub access_ttl_s: u64,
    /// How long families live, and what their tokens are good for.
    pub rules: family::Rules,
    /// Whether every client must prove possession of a key.
    pub bound: bool,
}

/// `sessions.dpop:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dpop {
    /// How old a proof may be, seconds.
    pub max_age_s: u64,
    /// How far a client's clock may run ahead, seconds.
    pub skew_s: u64,
    /// Signature algorithms that may be used.
    pub algorithms: Vec<Algorithm>,
}
