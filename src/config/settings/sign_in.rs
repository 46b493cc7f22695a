//! The gateway as a client of an OpenID provider, resolved.
use super::SecretSource;
use decide::sign_in::Provider;
use decide::token::IssuerRules;
use std::sync::Arc;

/// `issuers.NAME.client:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its id with the issuer.
    pub id: Arc<str>,
    /// What ID tokens and logout tokens must be: the issuer's rules, with this client as their only audience.
    pub rules: IssuerRules,
    /// How it proves who it is.
    pub proof: ClientProof,
    /// What it asks for, separated by spaces.
    pub scopes: String,
    /// Path that answers arrive at.
    pub callback: String,
    /// Whether an answer must say who made it: other issuers' answers arrive at the same path.
    pub must_name_itself: bool,
    /// Where the browser is led after signing out.
    pub signed_out: String,
    /// The issuer's endpoints, where they do not come by discovery.
    pub endpoints: Option<Provider>,
}

/// How a client proves who it is at the token endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientProof {
    /// `client_secret_basic`
    Basic(SecretSource),
    /// `client_secret_post`
    Post(SecretSource),
    /// `private_key_jwt`, with the key that signs assertions.
    PrivateKey,
}
