//! Options of signing browsers in with OpenID Connect: the gateway as a client of an issuer.
use crate::config::read::Spanned;
use crate::config::secrets::SecretPlace;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The gateway as a client of an issuer (OpenID Connect, authorization code flow with PKCE).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientOptions {
    /// `client_id`, as registered with the issuer. ID tokens must be addressed to it.
    pub id: Spanned<String>,
    /// Place of the client's secret. Needed unless `auth_method` is `private_key_jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Spanned<SecretPlace>>,
    /// How the gateway proves to the issuer who it is: `client_secret_basic`, `client_secret_post`, or `private_key_jwt`,
    /// for which the issuer reads the public key at `/.moat/jwks.json` (EdDSA).
    #[serde(default)]
    pub auth_method: Spanned<AuthMethodOption>,
    /// What is asked for; `openid` is always among them.
    #[serde(default = "openid")]
    pub scopes: Vec<Spanned<String>>,
    /// Where answers to sign-ins arrive: `shared`, `/.moat/callback`, or `own`, `/.moat/callback/NAME` with the name of this
    /// issuer. Where several issuers share it, an answer must say who made it (`iss`, RFC 9207), or it is refused.
    #[serde(default)]
    pub callback: CallbackOption,
    /// Where the browser is led after signing out: a path on the same host, registered with the issuer as
    /// `post_logout_redirect_uri`.
    #[serde(default = "signed_out")]
    pub signed_out: Spanned<String>,
    /// The issuer's endpoints, for one that has no discovery document. Default: by discovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<EndpointOptions>,
}

fn openid() -> Vec<Spanned<String>> {
    vec![Spanned { value: "openid".to_owned(), at: Default::default() }]
}

fn signed_out() -> Spanned<String> {
    Spanned { value: "/.moat/signed-out".to_owned(), at: Default::default() }
}

/// `client.auth_method`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethodOption {
    /// The secret in `Authorization` (RFC 6749, 2.3.1).
    #[default]
    ClientSecretBasic,
    /// The secret in the form.
    ClientSecretPost,
    /// A token that the gateway's own key signs (RFC 7523).
    PrivateKeyJwt,
}

/// `client.callback`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CallbackOption {
    /// One address for all issuers.
    #[default]
    Shared,
    /// One of its own.
    Own,
}

/// Endpoints of an issuer, https URLs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointOptions {
    /// Where browsers are sent to sign in.
    pub authorization: Spanned<String>,
    /// Where codes become tokens.
    pub token: Spanned<String>,
    /// Where browsers are sent to sign out. Default: nowhere, signing out ends the gateway's session only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_session: Option<Spanned<String>>,
}
