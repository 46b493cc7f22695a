//! Options of asking an issuer about tokens (RFC 7662).
use crate::config::read::Spanned;
use crate::config::secrets::SecretPlace;
use crate::config::units::{Period, seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An endpoint of the issuer that says what a token means (token introspection, RFC 7662), for tokens that only the issuer can
/// read. What it says is held to the same rules as the claims of a signed token. Where it does not answer, requests with
/// such tokens are `gateway.unavailable`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IntrospectionOptions {
    /// Where it is asked: an https URL, under the issuer's `ca`. Redirects are not followed.
    pub url: Spanned<String>,
    /// The gateway's id with the issuer.
    pub client_id: Spanned<String>,
    /// Place of the secret that goes with it. Read for each question.
    pub secret: Spanned<SecretPlace>,
    /// How the gateway proves who it is: `client_secret_basic` or `client_secret_post`.
    #[serde(default)]
    pub auth_method: IntrospectionAuthOption,
    /// Which tokens are asked about: `opaque`, those that are no signed tokens, or `all`. An issuer with `all` and without
    /// `algorithms` needs no keys.
    #[serde(default)]
    pub tokens: AskWhatOption,
    /// Members that answers may leave out: `iss`, `aud`, `iat`, `token_type`. What is there is checked all the same. Danger:
    /// without `aud` any token of the issuer passes, whatever it was made for; without `token_type` a refresh token may;
    /// and without `iat` a user who was signed out once stays so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_lack: Vec<Spanned<MemberOption>>,
    /// What is remembered of its answers.
    #[serde(default)]
    pub cache: IntrospectionCacheOptions,
    /// Time for its answer, 10ms to 10s. Danger: requests wait as long where it is slow.
    #[serde(default = "one_second")]
    pub timeout: Spanned<Period>,
    /// Questions under way at once, 1 to 10,000; more are `gateway.unavailable`. Several requests with one token ask one
    /// question, unless nothing is remembered.
    #[serde(default = "a_hundred")]
    pub max_in_flight: Spanned<usize>,
}

/// What is remembered of answers. Tokens are known by a keyed hash.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IntrospectionCacheOptions {
    /// How long an active token passes without another question, at most 1m and never past its `exp`; in whole seconds, and
    /// `0s` remembers nothing. Danger: a token that the issuer ends works as long. What is revoked here ends at once.
    pub max_age: Spanned<Period>,
    /// How long a token that is not active is refused without another question, 0s to 1m.
    pub refused: Spanned<Period>,
    /// Active tokens that are remembered, 1 to 1,000,000. Refused ones have room of their own.
    pub entries: Spanned<u64>,
}

impl Default for IntrospectionCacheOptions {
    fn default() -> Self {
        IntrospectionCacheOptions { max_age: seconds(10).into(), refused: seconds(5).into(), entries: 10_000.into() }
    }
}

/// `introspection.auth_method`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntrospectionAuthOption {
    /// The secret in `Authorization` (RFC 6749, 2.3.1).
    #[default]
    ClientSecretBasic,
    /// The secret in the form.
    ClientSecretPost,
}

/// `introspection.tokens`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AskWhatOption {
    /// Tokens that are not signed.
    #[default]
    Opaque,
    /// All tokens.
    All,
}

/// A member of an answer (RFC 7662, 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberOption {
    /// Who issued the token.
    Iss,
    /// Whom it is meant for.
    Aud,
    /// When it was issued.
    Iat,
    /// What kind of token it is.
    TokenType,
}

fn one_second() -> Spanned<Period> {
    seconds(1).into()
}

fn a_hundred() -> Spanned<usize> {
    100.into()
}
