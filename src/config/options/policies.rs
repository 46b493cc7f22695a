//! Options of the files under `policies/`, save header profiles, which `decide::headers` describes.
use super::Version;
use super::limits::{CapOption, CostOption, CountOption, ExceedOption, KeyOption};
use super::people::TenantOptions;
use crate::config::read::{Entries, Spanned};
use crate::config::units::{Burst, Period, RateText, Size, expect_word};
use decide::facts::Carrier;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// `policies/roles.yaml`: who may do what.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolesFile {
    /// Version of the grammar: 1.
    pub version: Version,
    /// Every permission that exists, by area. Each must be required by a route.
    #[serde(default)]
    pub permissions: Entries<Vec<Spanned<String>>>,
    /// Roles by the names that tokens carry.
    #[serde(default)]
    pub roles: Entries<RoleOptions>,
    /// Pairs of roles that nobody may hold together; a session with both is refused.
    #[serde(default)]
    pub exclusive_roles: Vec<Spanned<Vec<Spanned<String>>>>,
    /// Name of one of `sessions.step_up` → permissions that need it on every route.
    #[serde(default)]
    pub step_up: Entries<Vec<Spanned<String>>>,
}

/// A role.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RoleOptions {
    /// Roles whose permissions it includes.
    pub extends: Vec<Spanned<String>>,
    /// Permissions: `area.name`, `area.*`, `*.name` or `*`. Danger: stars grow with the list of permissions.
    pub grants: Vec<Spanned<String>>,
    /// What the role's own `grants` leave out.
    pub except: Vec<Spanned<String>>,
}

/// `policies/rate-limits.yaml`: limits by name; routes list the names.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimitsFile {
    /// Version of the grammar: 1.
    pub version: Version,
    /// Limits by name. Each must be listed by a route.
    #[serde(default)]
    pub limits: Entries<LimitOptions>,
    /// What limits get that do not say otherwise.
    #[serde(default)]
    pub defaults: LimitDefaults,
}

/// A limit: of the rate of requests, of those under way at once, or of both.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitOptions {
    /// What is counted together: `client.ip_prefix` (/32 for IPv4, /64 for IPv6), `tenant`, `user`, `api_key.id`, `route`, `route.PARAM`
    /// (a parameter of the path), or several. `form.FIELD_hash`, `json.FIELD_hash` and `body.FIELD_hash` (either of both)
    /// count by a field of the body: it is read before the decision, folded, and only its keyed hash is kept.
    pub key: Vec<Spanned<KeyOption>>,
    /// Requests per second, minute or hour: `20/s`, or one for each class of tenants: `{trial: 5/s, standard: 50/s}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Spanned<RateOption>>,
    /// Requests at once: a number, or `2x`: so many times what the rate allows in a second. It fills up
    /// again within a year. Default: `1x`.
    #[serde(default = "once")]
    pub burst: Burst,
    /// Requests of one key that may be under way at once, from their admission to their end, WebSockets and streams too:
    /// 1 to 1,000,000, or one for each class of tenants: `{trial: 1, standard: 5}`. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<Spanned<CapOption>>,
    /// What a request takes from the rate: a number, at most the burst; or what its answer says:
    /// `{by_response: {header: x-cost, max: 100}}`, `{by_response: {bytes: 64KiB, max: 100}}`. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Spanned<CostOption>>,
    /// Which requests count: `all`, `failures` (those that the application answers with 4xx or 5xx), or a list of
    /// statuses such as `[401, 403, 5xx]`. Until the answer is there each counts. Default: `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<Spanned<CountOption>>,
    /// What happens to requests beyond the rate: `refuse`, or `{delay: 1s}`: one passes in each second, and the others
    /// wait for their turn. Default: `refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_exceed: Option<Spanned<ExceedOption>>,
    /// Most bytes of a body that are read to find the field it counts by, at most 32KiB; longer bodies are refused. Of a
    /// route's limits the greatest counts. Default: 16KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspect: Option<Spanned<Size>>,
    /// Who counts: `local`: each replica alone. `synced`: each replica alone, and counts of busy keys are brought together
    /// ten times a second. `strict`: `storage.redis`, at every request. Without `storage.redis` all three are `local`.
    /// Default: `defaults.mode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ModeOption>,
    /// What holds for a `synced` or `strict` limit while `storage.redis` is silent: `local`: each replica counts alone,
    /// against the rate divided by the replicas last seen. `open`: requests pass, and are counted in
    /// `moat_ratelimit_fallback_total`. `closed`: requests are refused with 503 `gateway.unavailable`. Danger of `open`:
    /// who can silence the store lifts the limit; of `closed`: its outage is yours. Default: `defaults.on_store_loss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_store_loss: Option<Spanned<StoreLossOption>>,
    /// Whether it only counts and records.
    #[serde(default)]
    pub shadow: bool,
}

fn once() -> Burst {
    Burst::Times(1)
}

/// What limits get that do not say otherwise. Most of it has one value in this version.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitDefaults {
    /// `gcra`.
    pub algorithm: Algorithm,
    /// `local`, `synced` or `strict`.
    pub mode: ModeOption,
    /// `local`, `open` or `closed`.
    pub on_store_loss: StoreLossOption,
    /// `draft-11`: `RateLimit` and `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers-11. `legacy` adds
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` (seconds from now).
    pub headers: HeadersOption,
    /// `429`.
    pub status: StatusCode,
}

/// `algorithm`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Generic cell rate algorithm.
    #[default]
    Gcra,
}

/// `mode`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModeOption {
    /// Each replica counts alone.
    #[default]
    Local,
    /// Each replica counts alone, and counts of busy keys are brought together.
    Synced,
    /// Exact: the store counts.
    Strict,
}

/// `on_store_loss`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreLossOption {
    /// Each replica counts alone, against its share.
    #[default]
    Local,
    /// Requests pass.
    Open,
    /// Requests are refused.
    Closed,
}

/// `headers`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum HeadersOption {
    /// draft-ietf-httpapi-ratelimit-headers-11
    #[default]
    #[serde(rename = "draft-11")]
    Draft11,
    /// The same, and the names that were usual before.
    #[serde(rename = "legacy")]
    Legacy,
}

/// `status`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub enum StatusCode {
    /// Too many requests.
    #[default]
    #[serde(rename = "429")]
    TooManyRequests,
}

/// One rate, or one for each class.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum RateOption {
    /// For everybody.
    One(RateText),
    /// By class.
    ByClass(Entries<RateText>),
}

impl<'de> Deserialize<'de> for RateOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RateOption;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a rate, or a map from classes to rates")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<RateOption, E> {
                RateText::deserialize(serde::de::value::StrDeserializer::new(text)).map(RateOption::One)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RateOption, A::Error> {
                Entries::deserialize(MapAccessDeserializer::new(map)).map(RateOption::ByClass)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for RateOption {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rate".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<RateText>();
        json_schema!({ "anyOf": [one, { "type": "object", "additionalProperties": one }] })
    }
}

/// A file that maps names to tenants.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MapFile {
    /// Version of the grammar: 1.
    pub version: Version,
    /// Name → tenant.
    #[serde(default)]
    pub map: Entries<Spanned<String>>,
}

/// `tenancy.file`: tenants in a file of their own.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantsFile {
    /// Version of the grammar: 1.
    pub version: Version,
    /// Tenants by id.
    #[serde(default)]
    pub tenants: Entries<TenantOptions>,
}

/// `policies/tests/*.yaml`: examples of decisions.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestsFile {
    /// Version of the grammar: 1.
    pub version: Version,
    /// The examples.
    #[serde(default)]
    pub cases: Vec<CaseOptions>,
}

/// An example: a request, and what must come of it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseOptions {
    /// What it shows, in words.
    pub name: Spanned<String>,
    /// The request.
    pub request: CaseRequest,
    /// What must come of it: `{permit: UPSTREAM}`, `{permit: true}` or `{refuse: CODE}`.
    pub expect: Spanned<Expectation>,
}

/// The request of an example.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseRequest {
    /// Its method.
    pub method: Spanned<String>,
    /// Its URL, `https://host/path`.
    pub url: Spanned<String>,
    /// Who sends it. Default: nobody, without any credential.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub caller: Option<CaseCaller>,
    /// The client's address. Default: 192.0.2.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub from: Option<std::net::IpAddr>,
    /// Media type of the body. Default: the first that the route accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Fields of the body, which is made of them: a form or JSON, as `content_type` says. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Entries<String>>,
    /// Where its browser says that it comes from: `same-origin`, `same-site`, `cross-site`, `navigation` (a link or form
    /// of another site, in a window of its own), or `unsaid`. Default: `same-origin`, and with `origin` `cross-site`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<CaseSite>,
    /// Whether it shows a double-submit token of its caller, where the route asks for one (`csrf: token`). Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub csrf_token: bool,
    /// The other origin whose page sends it by script, e.g. `https://app.example.com`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Whether the request is the browser's question ahead of it, whether that origin may. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preflight: bool,
}

/// `site`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CaseSite {
    /// Our own origin.
    SameOrigin,
    /// Another origin of our site.
    SameSite,
    /// Another site, by a script, picture or frame.
    CrossSite,
    /// Another site, in a window of its own.
    Navigation,
    /// It does not say.
    Unsaid,
}

/// Who sends the request of an example.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CaseCaller {
    /// One role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Spanned<String>>,
    /// Several roles.
    pub roles: Vec<Spanned<String>>,
    /// Permissions that the credential is good for, as scopes of an API key. Default: all that the roles grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Spanned<String>>>,
    /// The tenant of the session. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Age of the authentication. Default: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_age: Option<Period>,
    /// The user. Default: `user-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Class of the authentication. Default: the first that the route's step-up accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// Methods of the authentication. Default: `[pwd, mfa]`, and those that the route's step-up asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amr: Option<Vec<String>>,
    /// The issuer. Default: the first that the route accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Spanned<String>>,
    /// How the session is carried. Default: the first way that the route accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<CarrierOption>,
}

/// `by`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CarrierOption {
    /// `Authorization: Bearer`
    Bearer,
    /// A cookie.
    Cookie,
    /// The cookie of a session that the gateway holds.
    Session,
    /// An API key.
    #[serde(rename = "api_key")]
    ApiKey,
    /// A header that `ext_auth` decides by.
    #[serde(rename = "ext_auth")]
    ExtAuth,
    /// `Authorization: DPoP`
    Dpop,
    /// The certificate of the connection.
    Certificate,
}

impl CarrierOption {
    /// The same, as decisions know it.
    pub fn carrier(self) -> Carrier {
        match self {
            CarrierOption::Bearer => Carrier::Bearer,
            CarrierOption::Cookie => Carrier::Cookie,
            CarrierOption::Session => Carrier::Session,
            CarrierOption::ApiKey => Carrier::ApiKey,
            CarrierOption::ExtAuth => Carrier::ExtAuth,
            CarrierOption::Dpop => Carrier::Dpop,
            CarrierOption::Certificate => Carrier::Certificate,
        }
    }
}

/// What must come of a request.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Expectation {
    /// It is forwarded: to this upstream, or `true` for any.
    Permit(Spanned<String>),
    /// It is refused with this code.
    Refuse(Spanned<CodeOption>),
}

/// A refusal code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeOption(pub decide::refusal::Code);

impl<'de> Deserialize<'de> for CodeOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words: Vec<(&str, CodeOption)> =
            decide::refusal::TABLE.iter().map(|row| (row.id, CodeOption(row.code))).collect();
        expect_word(deserializer, "a refusal code such as `access.denied`", &words)
    }
}

impl Serialize for CodeOption {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.id())
    }
}

impl JsonSchema for CodeOption {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Code".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let ids: Vec<&str> = decide::refusal::TABLE.iter().map(|row| row.id).collect();
        json_schema!({ "enum": ids })
    }
}
