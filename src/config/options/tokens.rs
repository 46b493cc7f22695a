//! Options of the tokens that the gateway itself issues: refresh families, access tokens, proof of possession.
use crate::config::read::Spanned;
use crate::config::units::{Period, seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Short access tokens of the gateway's own, with refresh tokens that serve once, for clients that are no browsers. Routes
/// accept them with `auth: {bearer: moat}`, or `{dpop: moat}` where they are bound to a key.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokensOptions {
    /// Names of issuers whose tokens are exchanged at `POST /.moat/token` (RFC 8693). At least one. Danger: a family lives
    /// for `refresh.ttl`, however short the life of the token was, with the roles that the token had.
    pub exchange: Vec<Spanned<String>>,
    /// Paths besides `/.moat/token` that are served as the same endpoint, on every host, before any route: where clients
    /// expect it, as `/oauth/token`. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issue_at: Vec<Spanned<String>>,
    /// `iss` of access tokens. Replicas have the same.
    pub issuer: Spanned<String>,
    /// `aud` of access tokens.
    pub audience: Spanned<String>,
    /// Life of an access token, 10s to 1h. Danger of a long one: a session that was ended is refused by its marks alone.
    pub access_ttl: Spanned<Period>,
    /// Refresh tokens.
    pub refresh: RefreshOptions,
    /// Whether clients must prove at the token endpoint that they hold a key (RFC 9449): `required`, or `optional`. Whoever
    /// proves it gets tokens that are bound to it.
    pub dpop: BindingOption,
}

impl Default for TokensOptions {
    fn default() -> Self {
        let text = |text: &str| Spanned { value: text.to_owned(), at: Default::default() };
        TokensOptions {
            exchange: Vec::new(),
            issue_at: Vec::new(),
            issuer: text("moat"),
            audience: text("moat"),
            access_ttl: seconds(600).into(),
            refresh: RefreshOptions::default(),
            dpop: BindingOption::Optional,
        }
    }
}

/// Refresh tokens.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RefreshOptions {
    /// A family ends so long after it was opened, used or not: `access_ttl` to 365d. A tenant's `session.absolute` and
    /// `session.idle` count where they are shorter.
    pub ttl: Spanned<Period>,
    /// Whether a refresh token serves once and is exchanged for its successor. Danger of `false`: a stolen one is never found
    /// out.
    pub single_use: bool,
    /// How long a token that was exchanged still gives the same successor, 1s to 1m: for clients that ask twice at once, or
    /// lose an answer.
    pub reuse_leeway: Spanned<Period>,
    /// How far the clocks of replicas may differ; it is added to `reuse_leeway`. At most 10s.
    pub clock_skew: Spanned<Period>,
    /// What follows where a token comes back later than that.
    pub on_reuse: OnReuse,
}

impl Default for RefreshOptions {
    fn default() -> Self {
        RefreshOptions {
            ttl: seconds(30 * 86_400).into(),
            single_use: true,
            reuse_leeway: seconds(5).into(),
            clock_skew: seconds(1).into(),
            on_reuse: OnReuse::RevokeFamily,
        }
    }
}

/// `sessions.tokens.refresh.on_reuse`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnReuse {
    /// The family ends, for whoever holds one of its tokens; what it opened is closed.
    RevokeFamily,
}

/// `sessions.tokens.dpop`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BindingOption {
    /// Tokens are bound to a key where a client proves one.
    Optional,
    /// Nobody gets tokens without.
    Required,
}

/// Proof of possession (RFC 9449), at the token endpoint and on routes with `auth: {dpop: ISSUER}`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DpopOptions {
    /// How old a proof may be, 5s to 10m. Each is remembered as long.
    pub max_age: Spanned<Period>,
    /// How far a client's clock may run ahead. At most 5m.
    pub clock_skew: Spanned<Period>,
    /// Signature algorithms that clients may use: ES256, ES384, EdDSA, PS256, RS256. At least one.
    pub algorithms: Spanned<Vec<Spanned<String>>>,
}

impl Default for DpopOptions {
    fn default() -> Self {
        let name = |name: &str| Spanned { value: name.to_owned(), at: Default::default() };
        DpopOptions {
            max_age: seconds(60).into(),
            clock_skew: seconds(5).into(),
            algorithms: Spanned {
                value: ["ES256", "ES384", "EdDSA", "PS256", "RS256"].map(name).to_vec(),
                at: Default::default(),
            },
        }
    }
}
