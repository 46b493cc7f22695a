//! Options of what requests pass through: listeners, TLS, upstreams and routes.
use crate::config::read::{Entries, Spanned};
use crate::config::units::{Period, Size, parse_text, seconds};
use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::SocketAddr;

/// Where clients connect: with TLS, or one of `redirect` and `plaintext`. A change needs a restart.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerOptions {
    /// Address and port, e.g. `0.0.0.0:443` or `[::]:443`.
    #[schemars(with = "String")]
    pub address: Spanned<SocketAddr>,
    /// Name of a TLS profile: `modern`, which is built in, or one of `tls.profiles`. Default: `modern`, where neither
    /// `redirect` nor `plaintext` stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Spanned<String>>,
    /// Answers GET and HEAD with a permanent redirect (308) to https and refuses the rest with `request.plaintext`:
    /// `https`, which is the port of the TLS listener (443 where there is none, or port 0), or `{https_port: N}` where
    /// clients see another one, as behind a port mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<RedirectOption>,
    /// Serves requests without TLS, for a written reason. Danger: everybody on the way can read and change them, sessions
    /// included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plaintext: Option<Spanned<String>>,
    /// HTTP versions, best first: `h2`, `http/1.1`.
    #[serde(default = "protocols")]
    pub protocols: Vec<ProtocolOption>,
    /// How the client's address is found behind other proxies.
    #[serde(default)]
    pub client_ip: ClientIpOptions,
    /// Limits of connections and request heads.
    #[serde(default)]
    pub limits: ListenerLimits,
}

fn protocols() -> Vec<ProtocolOption> {
    vec![ProtocolOption::H2, ProtocolOption::Http1]
}

/// `protocols`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProtocolOption {
    /// HTTP/2
    #[serde(rename = "h2")]
    H2,
    /// HTTP/1.1
    #[serde(rename = "http/1.1")]
    Http1,
}

/// `redirect`
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedirectOption {
    /// To the port of the TLS listener.
    Https,
    /// To another port than the TLS listener's.
    HttpsPort(u16),
}

/// How the client's address is found.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientIpOptions {
    /// Networks of the proxies in front, whose forwarding header is believed. Danger: whoever is in them can choose
    /// the address that is seen, limited and recorded.
    #[schemars(with = "Vec<String>")]
    pub trusted: Vec<IpNet>,
    /// The header they write: `x-forwarded-for` or `forwarded`. The rightmost address that is not trusted is the
    /// client's.
    pub header: ClientHeaderOption,
    /// `none`: connections that begin with a PROXY header are refused.
    pub proxy_protocol: ProxyProtocol,
}

impl Default for ClientIpOptions {
    fn default() -> Self {
        ClientIpOptions {
            trusted: Vec::new(),
            header: ClientHeaderOption::XForwardedFor,
            proxy_protocol: ProxyProtocol::None,
        }
    }
}

/// `client_ip.header`
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientHeaderOption {
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `Forwarded` (RFC 7239)
    Forwarded,
}

/// `client_ip.proxy_protocol`
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// Not spoken.
    None,
}

/// Limits of connections and request heads.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerLimits {
    /// Greatest size and number of request headers.
    pub request_headers: HeaderLimits,
    /// Greatest length of the request line, at most 64KiB.
    pub request_line: Spanned<Size>,
    /// Time for a whole request head; slower ones are answered with 408 and closed.
    pub header_timeout: Period,
    /// Time between two requests on one connection.
    pub idle_timeout: Period,
    /// Time for a TLS handshake.
    pub handshake_timeout: Period,
    /// Open connections of one address (/64 for IPv6); trusted proxies are exempt.
    pub connections_per_ip: Spanned<usize>,
    /// Limits of HTTP/2 connections.
    pub h2: H2Limits,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        ListenerLimits {
            request_headers: HeaderLimits::default(),
            request_line: Size(8 << 10).into(),
            header_timeout: seconds(10),
            idle_timeout: seconds(75),
            handshake_timeout: seconds(5),
            connections_per_ip: 200.into(),
            h2: H2Limits::default(),
        }
    }
}

/// Greatest size and number of request headers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderLimits {
    /// Size of all headers together, at most 1MiB.
    pub bytes: Spanned<Size>,
    /// Number of headers, at most 256.
    pub count: Spanned<usize>,
}

impl Default for HeaderLimits {
    fn default() -> Self {
        HeaderLimits { bytes: Size(64 << 10).into(), count: 100.into() }
    }
}

/// Limits of HTTP/2 connections.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct H2Limits {
    /// Requests at once on one connection.
    pub concurrent_streams: Spanned<u32>,
    /// Requests that a client may cancel per second before its connection is closed.
    pub resets_per_second: u32,
}

impl Default for H2Limits {
    fn default() -> Self {
        H2Limits { concurrent_streams: 100.into(), resets_per_second: 50 }
    }
}

/// Certificates and TLS profiles.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsOptions {
    /// Folder with NAME.crt and NAME.key, chosen by server name and read again when they change.
    pub certificates: Spanned<String>,
    /// NAME of the pair for clients that send no server name; `none` refuses them.
    #[serde(default = "none")]
    pub default_certificate: Spanned<String>,
    /// Profiles by a name of your choice; `modern` is built in: TLS 1.3 only, X25519MLKEM768, X25519, secp256r1.
    #[serde(default)]
    pub profiles: Entries<TlsProfileOptions>,
    /// How long before a certificate ends the warnings begin.
    #[serde(default = "three_weeks")]
    pub warn_before_expiry: Period,
}

fn none() -> Spanned<String> {
    Spanned { value: "none".to_owned(), at: Default::default() }
}

fn three_weeks() -> Period {
    seconds(21 * 86_400)
}

/// Versions and groups of TLS.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsProfileOptions {
    /// Least version: `"1.3"`, or `"1.2"`, with which only ECDHE with AEAD is spoken. Danger of `"1.2"`: no protection
    /// against computers of the future, and the handshake shows certificates.
    #[serde(default = "tls13")]
    pub min_version: TlsVersion,
    /// Key exchange groups, best first: X25519MLKEM768, X25519, secp256r1, secp384r1.
    #[serde(default = "groups")]
    pub groups: Vec<Spanned<String>>,
}

fn tls13() -> TlsVersion {
    TlsVersion::Tls13
}

fn groups() -> Vec<Spanned<String>> {
    MODERN_GROUPS.iter().map(|name| Spanned { value: (*name).to_owned(), at: Default::default() }).collect()
}

/// The groups of the built-in profile.
pub const MODERN_GROUPS: [&str; 3] = ["X25519MLKEM768", "X25519", "secp256r1"];
/// All groups that can be named.
pub const KNOWN_GROUPS: [&str; 4] = ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1"];

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246)
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 (RFC 8446)
    #[serde(rename = "1.3")]
    Tls13,
}

/// An application behind the gateway.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamOptions {
    /// Where it listens, `host:port`, HTTP/1.1 without TLS. Names are resolved when the configuration is loaded.
    /// Danger: everybody between gateway and application can read the requests; keep them on one network.
    pub endpoints: Vec<Spanned<String>>,
    /// How an endpoint is chosen: `least_requests` or `round_robin`.
    #[serde(default)]
    pub load_balance: BalanceOption,
    /// Timeouts.
    #[serde(default)]
    pub http: UpstreamHttp,
}

/// `load_balance`
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BalanceOption {
    /// The endpoint with the fewest requests in flight.
    #[default]
    LeastRequests,
    /// One after the other.
    RoundRobin,
}

/// Timeouts of an upstream.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamHttp {
    /// Time for connecting to one endpoint.
    pub connect_timeout: Period,
    /// Time from the sent request to the first byte of the answer; then `upstream.timeout`.
    pub first_byte_timeout: Period,
    /// Time without progress in a body, either way.
    pub idle_timeout: Period,
    /// Time for everything. Default: no bound, for streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_timeout: Option<Period>,
}

impl Default for UpstreamHttp {
    fn default() -> Self {
        UpstreamHttp {
            connect_timeout: seconds(2),
            first_byte_timeout: seconds(15),
            idle_timeout: seconds(60),
            total_timeout: None,
        }
    }
}

/// A route. Exactly one of `require` and `public`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteOptions {
    /// Which requests it takes.
    #[serde(rename = "match")]
    pub matches: MatchOptions,
    /// Name of the upstream that serves it.
    pub upstream: Spanned<String>,
    /// Which credentials are accepted: `{bearer: ISSUER}`, `{cookie: {name: NAME, issuer: ISSUER}}` or
    /// `{any_of: […]}`. Needed with `require`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Spanned<AuthOptions>>,
    /// What the caller must be allowed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<Spanned<RequireOptions>>,
    /// Opens the route to everybody, for a written reason. Danger: no session is checked and no identity is forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<Spanned<String>>,
    /// Name of a header profile. Default: the built-in strict one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Spanned<String>>,
    /// Names of rate limits; all of them must pass. Default: none.
    #[serde(default)]
    pub rate_limits: Vec<Spanned<String>>,
    /// Whether state-changing requests with a cookie need evidence of our own origin: `strict` or `off`. Danger of
    /// `off`: other sites can act in a signed-in user's name.
    #[serde(default)]
    pub csrf: CsrfOption,
    /// Rules for request bodies.
    #[serde(default)]
    pub body: BodyOptions,
    /// Where the tenant comes from, where not by `tenancy.resolve`: `none`, or `{from: session}`, or
    /// `{from: path_param, param: NAME, map: FILE}`. Danger of `none`: sessions of every tenant are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Spanned<RouteTenantOptions>>,
    /// How the audit log treats it.
    #[serde(default)]
    pub audit: RouteAudit,
    /// Guards that are recorded and never refuse: network, quota.address, standing, session, tenant, csrf,
    /// quota.caller, access, body. Danger: they protect nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadow: Vec<Spanned<String>>,
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
    /// A cookie with a token of this issuer.
    Cookie(CookieAuth),
    /// Any of these, the first that the request carries.
    AnyOf(Vec<Spanned<OneAuth>>),
}

/// One of `auth.any_of`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OneAuth {
    /// `Authorization: Bearer` with a token of this issuer.
    Bearer(Spanned<String>),
    /// A cookie with a token of this issuer.
    Cookie(CookieAuth),
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

/// `csrf`
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CsrfOption {
    /// Evidence is needed.
    #[default]
    Strict,
    /// None is.
    Off,
}

/// Rules for request bodies.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BodyOptions {
    /// Greatest size, or `none` for streams. Danger of `none`: the application must bound them itself.
    pub max: MaxSize,
    /// Accepted media types without parameters, lowercase. Default: all.
    pub content_types: Vec<Spanned<String>>,
}

impl Default for BodyOptions {
    fn default() -> Self {
        BodyOptions { max: MaxSize(Some(Size(10 << 20))), content_types: Vec::new() }
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
    /// `path_param`, or `session`: the tenant of the session alone.
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

pub(super) fn expect_word<'de, D: Deserializer<'de>, T: Clone>(
    deserializer: D,
    expected: &'static str,
    words: &[(&str, T)],
) -> Result<T, D::Error> {
    parse_text(deserializer, expected, |text| words.iter().find(|(word, _)| *word == text).map(|(_, t)| t.clone()))
}
