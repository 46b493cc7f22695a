//! Options of who sends requests: issuers and tenants.
use super::{ClientOptions, IntrospectionOptions};
use crate::config::read::Spanned;
use crate::config::secrets::SecretPlace;
use crate::config::units::{Period, seconds};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where users come from: an identity provider that signs tokens (JWT), or is asked about them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerOptions {
    /// What the claim `iss` must equal, byte for byte; for discovery an https URL. Not with `firebase`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Spanned<String>>,
    /// A Firebase project: issuer, audience, algorithm and keys are set by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firebase: Option<FirebaseOptions>,
    /// Whether the keys are found by OpenID Connect discovery. Default: true, unless `jwks` names a URL or a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Spanned<bool>>,
    /// What the claim `aud` must name one of. At least one, unless there is a `client`: then browsers only sign in. Not with
    /// `firebase`.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// Allowed signature algorithms: RS256, PS256, ES256, ES384, EdDSA. At least one, unless all tokens are asked about
    /// (`introspection`). Not with `firebase`.
    #[serde(default)]
    pub algorithms: Vec<Spanned<String>>,
    /// What the header `typ` may be, with or without `application/` in front. Danger of `jwt`: tokens that were made for another purpose may pass.
    #[serde(default = "access_token")]
    pub token_types: Vec<String>,
    /// How far the issuer's clock may run ahead of ours; at most 5m.
    #[serde(default = "half_a_minute")]
    pub clock_skew: Spanned<Period>,
    /// Longest life of a token, `exp` - `iat`; a longer one is refused.
    #[serde(default = "one_day")]
    pub max_lifetime: Period,
    /// Names of the claims that say who the user is.
    #[serde(default)]
    pub claims: ClaimOptions,
    /// The key set.
    #[serde(default)]
    pub jwks: JwksOptions,
    /// Security events that the issuer sends (Shared Signals Framework: CAEP, RISC): they end sessions here. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signals: Option<Spanned<SignalsOptions>>,
    /// How the issuer is asked about tokens that only it can read. Default: it is not, and such tokens are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspection: Option<Spanned<IntrospectionOptions>>,
    /// PEM file with the only certificate authorities that are trusted when keys are fetched and tokens asked about.
    /// Default: those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Spanned<String>>,
    /// The gateway as a client of this issuer, which browsers are sent to to sign in. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientOptions>,
}

fn access_token() -> Vec<String> {
    vec!["at+jwt".to_owned()]
}

fn half_a_minute() -> Spanned<Period> {
    Spanned { value: seconds(30), at: Default::default() }
}

fn one_day() -> Period {
    seconds(86_400)
}

/// Security events of an issuer, pushed to `POST /.moat/signals/NAME` (RFC 8935) and signed by one of its keys.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalsOptions {
    /// What `iss` of the events must equal, byte for byte: the transmitter, as its configuration names it.
    pub caep: Spanned<String>,
    /// What `aud` of the events must name one of. Default: `audiences` of the issuer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<Spanned<String>>,
    /// Place of the text that `Authorization` of each delivery must be, whole, as it was given to the transmitter when the
    /// stream was set up (`authorization_header`): `Bearer …`. 16 characters or more. Events are signed with or without it; it
    /// keeps others from having signatures checked. Default: nothing is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Spanned<SecretPlace>>,
}

/// A Firebase project.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirebaseOptions {
    /// Id of the project.
    pub project: Spanned<String>,
}

/// Names of claims.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimOptions {
    /// The tenant that the session belongs to.
    pub tenant: String,
    /// Roles: a list, or one text separated by spaces or commas.
    pub roles: String,
    /// The session's id.
    pub session: String,
    /// When the user authenticated, seconds since 1970.
    pub auth_time: String,
    /// Class of the authentication (RFC 9470).
    pub acr: String,
    /// Methods of the authentication (RFC 8176).
    pub amr: String,
}

impl Default for ClaimOptions {
    fn default() -> Self {
        ClaimOptions {
            tenant: "tenant".to_owned(),
            roles: "roles".to_owned(),
            session: "sid".to_owned(),
            auth_time: "auth_time".to_owned(),
            acr: "acr".to_owned(),
            amr: "amr".to_owned(),
        }
    }
}

/// A key set (RFC 7517).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JwksOptions {
    /// Its https URL. Default: by discovery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Spanned<String>>,
    /// A file instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Spanned<String>>,
    /// Time between refreshes in the background, at least 1s and at most half of `max_stale`.
    pub refresh: Spanned<Period>,
    /// Least time between two fetches because of an unknown key id, at least 1s.
    pub min_interval: Spanned<Period>,
    /// How long the last good copy may be used; then requests are refused with `gateway.unavailable`. Danger: a key
    /// that the issuer withdrew works as long.
    pub max_stale: Spanned<Period>,
}

impl Default for JwksOptions {
    fn default() -> Self {
        JwksOptions {
            url: None,
            file: None,
            refresh: seconds(15 * 60).into(),
            min_interval: seconds(30).into(),
            max_stale: seconds(86_400).into(),
        }
    }
}

/// How a request's tenant is found.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenancyOptions {
    /// Rules in order; the first that yields a name wins, and none means `tenant.unknown`. Default: a gateway without
    /// tenants.
    pub resolve: Vec<Spanned<ResolveOptions>>,
    /// `claim`: the tenant of the request must equal the tenant claim of the session, or `tenant.mismatch`.
    pub must_match: MustMatch,
    /// Header by which the application learns the tenant; copies from outside are removed.
    pub forward_as: Spanned<String>,
    /// What happens to a tenant that is not listed: `reject`, or `allow`, where `defaults` apply. Danger of `allow`:
    /// nothing can be suspended or restricted before it is listed.
    pub unknown: UnknownOption,
    /// What tenants get that do not say otherwise.
    pub defaults: TenantDefaults,
    /// File with more tenants: `version: 1` and `tenants`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Spanned<String>>,
}

impl Default for TenancyOptions {
    fn default() -> Self {
        TenancyOptions {
            resolve: Vec::new(),
            must_match: MustMatch::Claim,
            forward_as: Spanned { value: "x-tenant-id".to_owned(), at: Default::default() },
            unknown: UnknownOption::Reject,
            defaults: TenantDefaults::default(),
            file: None,
        }
    }
}

/// One rule of `tenancy.resolve`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResolveOptions {
    /// The first label of the host: `"{tenant}.example.com"`.
    Host(Spanned<String>),
    /// A file that maps whole hosts to tenants.
    CustomDomain(CustomDomainOptions),
    /// A segment of the path: `"/t/{tenant}/**"`.
    Path(Spanned<String>),
    /// A request header, which only the session can confirm.
    Header(Spanned<String>),
}

/// Custom domains.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomDomainOptions {
    /// File with `version: 1` and `map: {host: tenant}`.
    pub map: Spanned<String>,
}

/// `tenancy.must_match`
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MustMatch {
    /// The tenant claim.
    Claim,
}

/// `tenancy.unknown`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnknownOption {
    /// 404 `tenant.unknown`.
    Reject,
    /// `defaults` apply.
    Allow,
}

/// What tenants get that do not say otherwise.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantDefaults {
    /// The class.
    pub class: Spanned<String>,
}

impl Default for TenantDefaults {
    fn default() -> Self {
        TenantDefaults { class: Spanned { value: "standard".to_owned(), at: Default::default() } }
    }
}

/// A tenant. It may be stricter than the platform, never laxer.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantOptions {
    /// Its class, by which limits choose their rate. Default: `tenancy.defaults.class`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Spanned<String>>,
    /// `active`, or `suspended`: every route answers `tenant.suspended`.
    pub status: StatusOption,
    /// Networks it may be used from. Default: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub ip_allow: Vec<IpNet>,
    /// Rules for its sessions.
    #[serde(skip_serializing_if = "TenantSession::is_empty")]
    pub session: TenantSession,
    /// Second factors.
    #[serde(skip_serializing_if = "MfaOptions::is_empty")]
    pub mfa: MfaOptions,
    /// Region that its data stays in: it reaches upstreams with that `labels.region` only. Default: anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub residency: Option<Spanned<String>>,
    /// Names of the issuers that may speak for it. Default: all. Danger: with several issuers, one that is taken over
    /// can name any tenant that does not list its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<Spanned<String>>,
    /// Origins whose pages may read (`cors: {origins_from: tenant.embed_origins}`) or frame (`frame-ancestors:
    /// [tenant.embed_origins]`) what a route opens to them, as browsers write them: `https://www.customer.example`.
    /// Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub embed_origins: Vec<Spanned<String>>,
}

/// `status`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StatusOption {
    /// Served.
    #[default]
    Active,
    /// Refused.
    Suspended,
}

/// Rules for a tenant's sessions.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantSession {
    /// Greatest age of the authentication; older ones are asked to authenticate again. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_auth_age: Option<Period>,
    /// A session that is not used for so long ends. At most `sessions.browser.idle`, which is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Spanned<Period>>,
    /// A session ends after so long, used or not. At most `sessions.browser.absolute`, which is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absolute: Option<Spanned<Period>>,
}

impl TenantSession {
    fn is_empty(&self) -> bool {
        self.max_auth_age.is_none() && self.idle.is_none() && self.absolute.is_none()
    }
}

/// Second factors.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MfaOptions {
    /// Whether every session needs a second factor.
    pub required: bool,
}

impl MfaOptions {
    fn is_empty(&self) -> bool {
        !self.required
    }
}
