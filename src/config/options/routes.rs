//! Options of routes: which requests they take, who may use them, and what is asked of a request.
use super::{
    ApiKeyAuth, CorsOptions, CsrfOption, ForwardCertificate, IsolationOption, LimitUse, RouteAuth, RouteUpstream,
};
use crate::config::read::Spanned;
use crate::config::units::{Period, Size};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A route. Exactly one of `require` and `public`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteOptions {
    /// Which requests it takes.
    #[serde(rename = "match")]
    pub matches: MatchOptions,
    /// Name of the upstream that serves it, or names by region: `{eu: api-eu, us: api-us, default: api-us}`. The region
    /// is the tenant's `residency`; `default` serves tenants without one.
    pub upstream: Spanned<RouteUpstream>,
    /// Which credentials are accepted: `{bearer: ISSUER}`, `{cookie: {name: NAME, issuer: ISSUER}}`, `{session: browser}`,
    /// `{dpop: ISSUER}`, `{api_key: {…}}`, `{certificate: NAME}`, `{ext_auth: NAME}`, `{app_session: NAME}` or `{any_of: […]}`. Needed with
    /// `require`. With `on_missing: login` beside it, a browser without session is sent to sign in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Spanned<RouteAuth>>,
    /// What the caller must be allowed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<Spanned<RequireOptions>>,
    /// Opens the route to everybody, for a written reason. Danger: no session is checked and no identity is forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<Spanned<String>>,
    /// `session`: an answer of the application that is no error may sign a user in, by the header of `sessions.browser.grant`.
    /// Then `csrf` is `strict` unless written. Danger: whoever writes that header of an answer is everybody; mark the
    /// sign-in alone. Default: answers grant nothing, and the header is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Spanned<GrantsOption>>,
    /// Name of a header profile. Default: the built-in strict one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Spanned<String>>,
    /// Names of rate limits; all of them must pass. `{limit: NAME, cost: 5}` has this route's requests cost more than
    /// others. Default: none.
    #[serde(default)]
    pub rate_limits: Vec<Spanned<LimitUse>>,
    /// Whether state-changing requests need evidence of our own origin: `strict`, `token` or `off`. Where a session is asked
    /// for, those that a cookie or certificate authenticates; on a public route all. With `token`, or `{mode: token, field:
    /// NAME}`, clients that say nothing of where they ask from may send a double-submit token instead. Default: `strict`, and
    /// `off` on public routes, where programs post that have no origin. Danger of `off`: other sites can act in a signed-in
    /// user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf: Option<Spanned<CsrfOption>>,
    /// From whose pages reads may come: `same_site`, `same_origin` or `none` for all. Pages of others may open the route
    /// in a window of its own, and, by `cors`, read it by script; they get no pictures, frames or scripts of it. Default:
    /// `same_site` where a cookie or certificate is accepted and the profile lets nobody else frame the page, else
    /// `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<IsolationOption>,
    /// Which other origins may read its answers: `{origins: […], methods: […]}`, `{origins_from: tenant.embed_origins}`,
    /// or `application`, which leaves preflights and headers to the application. Default: none, and preflights are
    /// refused. Danger of `application`: one that mirrors every `Origin` gives everything to everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Spanned<CorsOptions>>,
    /// Rules for request bodies.
    #[serde(default)]
    pub body: BodyOptions,
    /// What the application is told of the client's certificate, while it is good (RFC 9440): `none`, `leaf` in `Client-Cert`,
    /// or `chain`, which adds `Client-Cert-Chain`. Whatever a client or a hop writes there is removed.
    #[serde(default)]
    pub forward_certificate: Spanned<ForwardCertificate>,
    /// How long the upstream may take for this route's requests. Default: as its `http` says.
    #[serde(default, skip_serializing_if = "RouteTimeouts::is_empty")]
    pub timeouts: RouteTimeouts,
    /// Where the tenant comes from, where not by `tenancy.resolve`: `none`, or `{from: session}`, or `{from: api_key}`, or
    /// `{from: path_param, param: NAME, map: FILE}`. Danger of `none`: sessions of every tenant are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Spanned<RouteTenantOptions>>,
    /// How the audit log treats it.
    #[serde(default)]
    pub audit: RouteAudit,
    /// Guards that are recorded and never refuse: network, quota.address, standing, isolation, session,
    /// tenant, csrf, quota.caller, access, body, quota.body. Danger: they protect nothing. `residency` is always enforced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadow: Vec<Spanned<String>>,
}

/// How long the upstream may take for a route's requests.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteTimeouts {
    /// From the sent request to the first byte of the answer; where the upstream speaks HTTP/2, also for each pause in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Spanned<Period>>,
    /// Without progress in the request's body and in the answer; where the upstream speaks HTTP/2, in the answer only where
    /// the client asked for an event stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Spanned<Period>>,
    /// For everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Spanned<Period>>,
}

impl RouteTimeouts {
    fn is_empty(&self) -> bool {
        self.first_byte.is_none() && self.idle.is_none() && self.total.is_none()
    }
}

/// Which requests a route takes: all combinations of the three lists.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchOptions {
    /// Hosts: `app.example.com`, `*.example.com` (exactly one label for the star) or `*`.
    pub hosts: Vec<Spanned<String>>,
    /// Paths: `/a/b`, `/a/{id}`, `/a/**` (with or without anything below).
    pub paths: Vec<Spanned<String>>,
    /// Methods: GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE.
    pub methods: Vec<Spanned<String>>,
}

/// `auth`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthOptions {
    /// `Authorization: Bearer` with a token of this issuer.
    Bearer(Spanned<String>),
    /// `Authorization: DPoP` with a token of this issuer and proof of the key that it is bound to (RFC 9449).
    Dpop(Spanned<String>),
    /// A cookie with a token of this issuer.
    Cookie(CookieAuth),
    /// A session that the gateway holds (`sessions.browser`).
    Session(SessionAuth),
    /// A header with an API key.
    ApiKey(ApiKeyAuth),
    /// A session that the application keeps in a store of its own: the name of one of `app_sessions`.
    AppSession(Spanned<String>),
    /// Whoever this service knows: the name of one of `ext_auth`.
    ExtAuth(Spanned<String>),
    /// The certificate of the connection, under one of `client_certificates`. Browsers show theirs to whoever they ask, so
    /// that `csrf` and `isolation` are as for cookies.
    Certificate(Spanned<String>),
    /// Any of these, the first that the request carries; those that are sent on purpose, as bearer tokens are, come before
    /// those that come by themselves, as cookies do.
    AnyOf(Vec<Spanned<OneAuth>>),
}

impl AuthOptions {
    /// Whether API keys are accepted.
    pub fn takes_keys(&self) -> bool {
        match self {
            AuthOptions::ApiKey(_) => true,
            AuthOptions::Bearer(_)
            | AuthOptions::Dpop(_)
            | AuthOptions::Cookie(_)
            | AuthOptions::Session(_)
            | AuthOptions::AppSession(_)
            | AuthOptions::ExtAuth(_)
            | AuthOptions::Certificate(_) => false,
            AuthOptions::AnyOf(all) => all.iter().any(|one| matches!(one.value, OneAuth::ApiKey(_))),
        }
    }

    /// Whether API keys are accepted, and nothing else.
    pub fn takes_keys_only(&self) -> bool {
        match self {
            AuthOptions::ApiKey(_) => true,
            AuthOptions::Bearer(_)
            | AuthOptions::Dpop(_)
            | AuthOptions::Cookie(_)
            | AuthOptions::Session(_)
            | AuthOptions::AppSession(_)
            | AuthOptions::ExtAuth(_)
            | AuthOptions::Certificate(_) => false,
            AuthOptions::AnyOf(all) => all.iter().all(|one| matches!(one.value, OneAuth::ApiKey(_))),
        }
    }
}

/// One of `auth.any_of`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OneAuth {
    /// `Authorization: Bearer` with a token of this issuer.
    Bearer(Spanned<String>),
    /// `Authorization: DPoP` with a token of this issuer and proof of the key that it is bound to (RFC 9449).
    Dpop(Spanned<String>),
    /// A cookie with a token of this issuer.
    Cookie(CookieAuth),
    /// A session that the gateway holds (`sessions.browser`).
    Session(SessionAuth),
    /// A header with an API key.
    ApiKey(ApiKeyAuth),
    /// A session that the application keeps in a store of its own: the name of one of `app_sessions`.
    AppSession(Spanned<String>),
    /// Whoever this service knows: the name of one of `ext_auth`.
    ExtAuth(Spanned<String>),
    /// The certificate of the connection, under one of `client_certificates`.
    Certificate(Spanned<String>),
}

/// `grants`
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GrantsOption {
    /// A session of `sessions.browser`.
    Session,
}

/// Which sessions of the gateway's.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionAuth {
    /// Those of `sessions.browser`.
    Browser,
}

/// A cookie that holds a token.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CookieAuth {
    /// Name of the cookie, best with the prefix `__Host-`.
    pub name: Spanned<String>,
    /// Name of the issuer.
    pub issuer: Spanned<String>,
}

/// What the caller must be allowed to. Exactly one of `permission` and `session`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequireOptions {
    /// A permission of `policies.roles`, `area.name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<Spanned<String>>,
    /// `any`: every valid session of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<AnySession>,
    /// Name of one of `sessions.step_up`: how fresh the authentication must be. Default: what the permission asks for in
    /// `policies.roles`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_up: Option<Spanned<String>>,
    /// A condition in CEL over `request`, `tenant` and `session`; anything but `true` refuses. Quote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Spanned<String>>,
}

/// `require.session`
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnySession {
    /// Every valid session of the tenant.
    Any,
}

/// Rules for request bodies.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BodyOptions {
    /// Greatest size, or `none` for streams. Danger of `none`: the application must bound them itself.
    pub max: MaxSize,
    /// Accepted media types without parameters, lowercase. Default: all.
    pub content_types: Vec<Spanned<String>>,
    /// Whether GET and HEAD may have a body; otherwise such a request is refused with `request.ambiguous`. Danger: many
    /// servers do not read it, and take it for the next request, which nobody has judged.
    pub with_get: bool,
}

impl Default for BodyOptions {
    fn default() -> Self {
        BodyOptions { max: MaxSize(Some(Size(10 << 20))), content_types: Vec::new(), with_get: false }
    }
}

/// A size, or `none`.
#[derive(Clone, Copy, Debug)]
pub struct MaxSize(pub Option<Size>);

impl<'de> Deserialize<'de> for MaxSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Max;
        impl Visitor<'_> for Max {
            type Value = MaxSize;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a size or `none`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<MaxSize, E> {
                if text == "none" {
                    return Ok(MaxSize(None));
                }
                Size::deserialize(serde::de::value::StrDeserializer::new(text)).map(|size| MaxSize(Some(size)))
            }
        }
        deserializer.deserialize_str(Max)
    }
}

impl Serialize for MaxSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(size) => size.serialize(serializer),
            None => serializer.serialize_str("none"),
        }
    }
}

impl JsonSchema for MaxSize {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MaxSize".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(none|[0-9]+(B|KiB|MiB|GiB))$", "title": "a size or `none`" })
    }
}

/// `tenant`
#[derive(Clone, Debug)]
pub enum RouteTenantOptions {
    /// The route belongs to no tenant.
    None,
    /// From somewhere else than `tenancy.resolve`.
    From(TenantFrom),
}

/// Where a route's tenant comes from.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantFrom {
    /// `path_param`, or `session`: the tenant of the session alone; or `api_key`: the tenant of the key alone.
    pub from: TenantSource,
    /// Name of the path parameter, with `from: path_param`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<Spanned<String>>,
    /// File that maps values of the parameter to tenants. Default: the value is the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<Spanned<String>>,
}

/// `tenant.from`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TenantSource {
    /// A parameter of the path.
    PathParam,
    /// The session.
    Session,
    /// The API key.
    ApiKey,
}

impl<'de> Deserialize<'de> for RouteTenantOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RouteTenantOptions;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`none` or a map with `from`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<RouteTenantOptions, E> {
                match text {
                    "none" => Ok(RouteTenantOptions::None),
                    _ => Err(E::custom(format!("expected `none` or a map with `from`, found `{text}`"))),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RouteTenantOptions, A::Error> {
                TenantFrom::deserialize(MapAccessDeserializer::new(map)).map(RouteTenantOptions::From)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for RouteTenantOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            RouteTenantOptions::None => serializer.serialize_str("none"),
            RouteTenantOptions::From(from) => from.serialize(serializer),
        }
    }
}

impl JsonSchema for RouteTenantOptions {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RouteTenant".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let from = generator.subschema_for::<TenantFrom>();
        json_schema!({ "anyOf": [{ "const": "none" }, from] })
    }
}

/// How the audit log treats a route.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteAudit {
    /// Name of the action in the entries, e.g. `invoice.delete`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Spanned<String>>,
    /// Whether a state-changing request waits until its entry is safe on the disk.
    pub sensitive: bool,
}
