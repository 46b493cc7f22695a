//! Issuers that are asked about tokens, resolved.
use super::SecretSource;
use decide::token::Member;
use http::Uri;
use std::time::Duration;

/// `issuers.NAME.introspection:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introspection {
    /// Where the issuer is asked, https.
    pub url: Uri,
    /// The gateway's id with the issuer.
    pub client_id: String,
    /// How it proves who it is.
    pub proof: IntrospectionProof,
    /// Which tokens are asked about.
    pub tokens: AskWhat,
    /// What answers may leave out.
    pub may_lack: Vec<Member>,
    /// What is remembered.
    pub keep: Keep,
    /// Digest of the certificate authorities' file: with another content it is another endpoint.
    pub authorities: Option<[u8; 32]>,
    /// Time for an answer.
    pub timeout: Duration,
    /// Questions under way at once.
    pub max_in_flight: usize,
}

/// How the gateway proves to an introspection endpoint who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntrospectionProof {
    /// `client_secret_basic`
    Basic(SecretSource),
    /// `client_secret_post`
    Post(SecretSource),
}

impl IntrospectionProof {
    /// Where the secret is.
    pub fn secret(&self) -> &SecretSource {
        match self {
            IntrospectionProof::Basic(secret) | IntrospectionProof::Post(secret) => secret,
        }
    }
}

/// Which tokens an issuer is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskWhat {
    /// Those that are no signed tokens.
    Opaque,
    /// All.
    All,
}

/// How long and how much is remembered of what others say of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How long what is good serves, seconds; 0 remembers nothing.
    pub max_age_s: u64,
    /// How long what is refused stays so, seconds.
    pub refused_s: u64,
    /// How many good ones.
    pub entries: u64,
}
