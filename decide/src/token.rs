//! JWT as a session credential (RFC 7519 under the rules of RFC 8725): strict parse, an allow-list of algorithms, a
//! signature against a key set, claims checked one by one.
//!
//! The algorithm is chosen by the issuer's allow-list and by the key, and the token may only agree with both. There is
//! no `none` and no HMAC: neither has a name here. No cause of a refusal repeats anything that the token holds.
pub(crate) mod claims;
mod event;
pub mod dpop;
mod id_token;
mod introspection;
pub mod mint;
pub(crate) mod json;
mod keys;
mod parse;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod event_tests;
#[cfg(test)]
mod id_token_tests;
#[cfg(test)]
mod introspection_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use claims::{ClaimName, ClaimNames};
pub use event::{Ends, Event, EventError, EventRules, Events, verify_events};
pub use id_token::{IdTokenRules, LOGOUT_TOKEN_LIFE_S, LogoutToken, verify_id_token, verify_logout_token};
pub use introspection::{Introspected, Member, introspected, is_opaque, is_token};
pub(crate) use json::object as strict_object;
pub use keys::{KeySet, KeySetError, MAX_KEY_SET_BYTES};
pub use parse::peek_issuer;

use crate::facts::Identity;
use std::sync::Arc;

/// Largest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Where Firebase Authentication publishes the keys of its ID tokens.
pub const FIREBASE_JWKS_URL: &str =
    "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com";

/// The signature algorithms that an issuer may be allowed (RFC 7518, RFC 8037, RFC 9864).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// EdDSA on Ed25519; tokens may say `EdDSA` (RFC 8037) or `Ed25519` (RFC 9864).
    EdDsa,
}

impl Algorithm {
    /// All of them, in the order of the reference.
    pub const ALL: [Algorithm; 5] =
        [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa];

    /// Its name in `gateway.yaml` and in a token's header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Ps256 => "PS256",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// Reads a name. Names are case-sensitive (RFC 7515, 4.1.1), so every spelling of `none` is unknown here.
    pub fn parse(name: &str) -> Option<Algorithm> {
        match name {
            "Ed25519" => Some(Algorithm::EdDsa),
            _ => Algorithm::ALL.into_iter().find(|a| a.as_str() == name),
        }
    }
}

/// What an issuer's tokens must look like: one entry of `issuers` in `gateway.yaml`, compiled.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuerRules {
    /// Its name in `gateway.yaml`.
    pub name: Arc<str>,
    /// What `iss` must equal, byte for byte.
    pub issuer: String,
    /// `aud` must name one of these; with none listed, every token is refused.
    pub audiences: Vec<String>,
    /// The algorithms that its keys may be used with.
    pub algorithms: Vec<Algorithm>,
    /// What `typ` may be: lowercase, without `application/`. A token without `typ` is refused.
    pub token_types: Vec<String>,
    /// How far the issuer's clock may run ahead of ours: leeway for `iat`, `nbf` and `auth_time`, in seconds.
    /// `exp` gets none: a token ends when it says.
    pub clock_skew_s: u64,
    /// Longest `exp` - `iat`, in seconds.
    pub max_lifetime_s: Option<u64>,
    /// Where the claims are found.
    pub claims: ClaimNames,
    /// The rules of Firebase ID tokens on top: RS256 only, `kid` required, `sub` of at most 128 bytes, `auth_time`
    /// required; `typ` may be `JWT` or absent, whatever `token_types` says.
    pub firebase: bool,
    /// Whether these are our own access tokens ([`mint`]): they name whose word they pass on, and by what it can be ended.
    pub ours: bool,
    /// Key of the hash under which session ids are known (see [`IssuerRules::session_hash`]).
    pub session_pepper: [u8; 32],
}

impl IssuerRules {
    /// The rules of a Firebase project: issuer, audience, RS256.
    pub fn firebase(name: &str, project: &str, claims: ClaimNames, session_pepper: [u8; 32]) -> IssuerRules {
        IssuerRules {
            name: name.into(),
            issuer: format!("https://securetoken.google.com/{project}"),
            audiences: vec![project.to_owned()],
            algorithms: vec![Algorithm::Rs256],
            token_types: vec!["jwt".to_owned()],
            clock_skew_s: 30,
            // Firebase ID tokens live for one hour.
            max_lifetime_s: Some(3600),
            claims,
            firebase: true,
            ours: false,
            session_pepper,
        }
    }

    /// The name under which a session id of this issuer is recorded and revoked: 32 hex digits of
    /// HMAC-SHA256(pepper, issuer NUL id). Without the pepper a log does not give away ids that an issuer accepts.
    pub fn session_hash(&self, session_id: &str) -> Arc<str> {
        claims::session_hash(self, session_id)
    }
}

impl std::fmt::Debug for IssuerRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuerRules")
            .field("name", &self.name)
            .field("issuer", &self.issuer)
            .field("audiences", &self.audiences)
            .field("algorithms", &self.algorithms)
            .field("firebase", &self.firebase)
            .finish_non_exhaustive()
    }
}

/// Why a token does not verify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The issuer's key set has no key of this id: a reason to fetch the set again, once.
    /// The id is the token's word; it is for the fetcher, not for logs.
    #[error("no key of the issuer has the token's key id")]
    UnknownKey {
        /// `kid` of the token's header.
        kid: String,
    },
    /// Everything about the token is right but its end. Who it named is known, because the signature verified.
    #[error("the token has expired")]
    Expired {
        /// The identity that it carried; `expires_at` has passed.
        identity: Box<Identity>,
    },
    /// The token is not one of this issuer for us; the cause holds nothing from the token.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Verifies `token` against its issuer's rules and keys at `now_s` (seconds since the epoch).
///
/// Refuses, in this order: what is not one strict JWS in compact form; header parameters that bring their own key or
/// change the meaning of the rest; an algorithm that is not allowed or not the key's; a key we do not have; a bad
/// signature; then each claim. [`TokenError::Expired`] is said only of a token that is otherwise valid.
pub fn verify(token: &str, rules: &IssuerRules, keys: &KeySet, now_s: u64) -> Result<Identity, TokenError> {
    let compact = parse::Compact::split(token)?;
    let header = parse::Header::parse(compact.header)?;
    header.check(rules)?;
    let key = keys.find(header.kid.as_deref(), header.algorithm)?;
    let signature = parse::decode(compact.signature)?;
    if !key.verifies(compact.signed, &signature) {
        return Err(TokenError::Invalid("the signature does not verify"));
    }
    claims::check(compact.payload, rules, key.id(), now_s)
}
