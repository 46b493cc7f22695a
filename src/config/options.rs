//! `gateway.yaml` as people write it: every key, what it does, its default and its danger. The reference and the JSON
//! schema are printed from these comments.
mod app_sessions;
mod audit;
mod cross_site;
mod listeners;
mod people;
mod limits;
mod policies;
mod route_auth;
mod routes;
mod sessions;
mod sign_in;
mod revocation;
mod storage;
mod tls;
mod tokens;
mod traces;
mod upstreams;
mod client_certificates;
mod ext_auth;
mod introspection;
mod ways;

pub use app_sessions::*;
pub use audit::*;
pub use client_certificates::*;
pub use cross_site::*;
pub use ext_auth::*;
pub use introspection::*;
pub use limits::*;
pub use listeners::*;
pub use people::*;
pub use policies::*;
pub use revocation::*;
pub use route_auth::*;
pub use routes::*;
pub use sessions::*;
pub use sign_in::*;
pub use storage::*;
pub use tls::*;
pub use tokens::*;
pub use traces::*;
pub use upstreams::*;
pub use ways::*;

use crate::config::read::{Entries, Spanned};
use crate::config::units::{Period, Share, parse_text, seconds};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::{Ipv4Addr, SocketAddr};

/// The one file that a platform team edits.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Version of the grammar: 1.
    pub version: Version,
    /// Files that are merged into this one: paths relative to its folder, `*` allowed in the last part. A name that
    /// is defined twice is an error. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<Spanned<String>>,
    /// The process. A change of `worker_threads`, `state_dir`, `instance` or `reuse_port` needs a restart.
    #[serde(default)]
    pub server: ServerOptions,
    /// The admin listener: metrics and health. Never on a public network. A change of its address or of
    /// `status_page` needs a restart.
    #[serde(default)]
    pub admin: AdminOptions,
    /// Where clients connect, by a name of your choice. At least one.
    #[serde(default)]
    pub listeners: Entries<ListenerOptions>,
    /// Certificates and TLS profiles. Needed by listeners with TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsOptions>,
    /// Where users come from, by a name of your choice. Default: none.
    #[serde(default)]
    pub issuers: Entries<IssuerOptions>,
    /// Services of yours that say who somebody is, by a name of your choice. Default: none.
    #[serde(default, skip_serializing_if = "Entries::is_empty")]
    pub ext_auth: Entries<ExtAuthOptions>,
    /// Certificates of clients, by a name of your choice. Default: none.
    #[serde(default, skip_serializing_if = "Entries::is_empty")]
    pub client_certificates: Entries<ClientCertificateOptions>,
    /// Sessions that applications keep in stores of their own, by a name of your choice. Default: none.
    #[serde(default, skip_serializing_if = "Entries::is_empty")]
    pub app_sessions: Entries<AppSessionsOptions>,
    /// How a request's tenant is found. Default: a gateway without tenants.
    #[serde(default)]
    pub tenancy: TenancyOptions,
    /// Headers by which the application learns who calls. Copies from outside are removed.
    #[serde(default)]
    pub identity: IdentityNames,
    /// Tenants by id. Tens of thousands belong into `tenancy.file`. Default: none.
    #[serde(default)]
    pub tenants: Entries<TenantOptions>,
    /// The applications behind the gateway, by a name of your choice.
    #[serde(default)]
    pub upstreams: Entries<UpstreamOptions>,
    /// Rules for sessions.
    #[serde(default)]
    pub sessions: SessionsOptions,
    /// Policy files, relative to the folder of this file.
    #[serde(default)]
    pub policies: PolicyFiles,
    /// Routes by a name of your choice. The most specific match wins (host, then path, then method); their order is
    /// irrelevant, and two that match equally well are an error. At least one.
    #[serde(default)]
    pub routes: Entries<RouteOptions>,
    /// State that replicas share. Default: each counts alone.
    #[serde(default, skip_serializing_if = "StorageOptions::is_empty")]
    pub storage: StorageOptions,
    /// The audit log. A change of `directory` or of the key needs a restart.
    #[serde(default)]
    pub audit: AuditOptions,
    /// The application log and the access log.
    #[serde(default)]
    pub logs: LogOptions,
    /// Traces. Default: none are recorded.
    #[serde(default)]
    pub traces: TraceOptions,
    /// Metrics.
    #[serde(default)]
    pub metrics: MetricOptions,
}

/// `version: 1`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version;

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_text(deserializer, "`1`, the only version there is", |text| (text == "1").then_some(Version))
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(1)
    }
}

impl JsonSchema for Version {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Version".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": 1 })
    }
}

/// The process.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerOptions {
    /// Worker threads: a number, or `auto` for one per CPU that the process may use.
    pub worker_threads: Workers,
    /// How long open requests may take to finish after SIGTERM. Danger: the supervisor's own patience must be longer,
    /// or it cuts them off.
    pub drain_timeout: Period,
    /// How long the gateway goes on as before after SIGTERM, but for its readiness, which fails at once: time for a load
    /// balancer to notice and to look elsewhere. `drain_timeout` begins after it. Zero where nothing asks `/readyz`.
    pub drain_delay: Period,
    /// Whether listeners may share their ports with another process of the same user that says so too (`SO_REUSEPORT`),
    /// to run two gateways side by side. The kernel then spreads new connections over both. Danger: with it, a second
    /// gateway that is started by mistake is not refused the port.
    pub reuse_port: bool,
    /// Open connections in all; beyond, new ones are closed at once and counted.
    pub max_connections: Spanned<usize>,
    /// Requests under way in all, each with its room in the audit log (1 KiB); beyond, new ones wait for a second and are refused.
    /// Once half of the room is taken, an address (/64 for IPv6) that has a sixteenth of what is free is refused more.
    /// Default: twice `max_connections`, and no fewer than 65,536.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_under_way: Option<Spanned<usize>>,
    /// Answers that may wait for clients which are slow to take them; each may hold some 400 KiB. Answers beyond them, and
    /// those of an address (/64 for IPv6) that has a quarter of the places that are free, wait for 2 s instead of `stall_timeout`.
    pub unread_answers: Spanned<usize>,
    /// Folder for everything that outlives the process: audit log, key copies, keys. Danger: whoever can write there
    /// can forge what the gateway remembers.
    pub state_dir: String,
    /// Name of this replica in logs, audit entries and assertions.
    pub instance: String,
    /// Where this replica stands; endpoints of upstreams in the same zone are preferred. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            worker_threads: Workers::Auto,
            drain_timeout: seconds(30),
            drain_delay: seconds(0),
            reuse_port: false,
            max_connections: 50_000.into(),
            requests_under_way: None,
            unread_answers: 2048.into(),
            state_dir: "/var/lib/moat".to_owned(),
            instance: "moat-1".to_owned(),
            zone: None,
        }
    }
}

/// A number of threads, or `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One per CPU that the process may use.
    Auto,
    /// So many.
    Fixed(usize),
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_text(deserializer, "`auto` or a number from 1 to 1024", |text| match text {
            "auto" => Some(Workers::Auto),
            number => number.parse().ok().filter(|n| (1..=1024).contains(n)).map(Workers::Fixed),
        })
    }
}

impl Serialize for Workers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Workers::Auto => serializer.serialize_str("auto"),
            Workers::Fixed(n) => serializer.serialize_u64(u64::try_from(*n).unwrap_or(u64::MAX)),
        }
    }
}

impl JsonSchema for Workers {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Workers".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": 1024 }] })
    }
}

/// The admin listener.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminOptions {
    /// Address and port; loopback only.
    #[schemars(with = "String")]
    pub address: Spanned<SocketAddr>,
    /// Metrics in the text format of Prometheus, or as OpenMetrics where that is asked for.
    pub metrics: MetricsPath,
    /// Whether `/` and `/status` show the state of the gateway to people, and `/status.json` to programs. Danger:
    /// everybody who can reach the admin listener reads names of routes and tenants, and who is refused.
    pub status_page: bool,
    /// Health checks.
    pub health: HealthPaths,
}

impl Default for AdminOptions {
    fn default() -> Self {
        let address = Spanned { value: SocketAddr::from((Ipv4Addr::LOCALHOST, 9901)), at: Default::default() };
        let (metrics, health) = (MetricsPath::default(), HealthPaths::default());
        AdminOptions { address, metrics, status_page: true, health }
    }
}

/// Where the metrics are.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsPath {
    /// Path of the metrics.
    pub path: String,
}

impl Default for MetricsPath {
    fn default() -> Self {
        MetricsPath { path: "/metrics".to_owned() }
    }
}

/// Where the health checks are.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthPaths {
    /// Answers 200 while the process runs.
    pub live: String,
    /// Answers 200 while the gateway can decide; `?verbose` lists every check.
    pub ready: String,
}

impl Default for HealthPaths {
    fn default() -> Self {
        HealthPaths { live: "/livez".to_owned(), ready: "/readyz".to_owned() }
    }
}

/// Headers by which the application learns who calls; the tenant's is `tenancy.forward_as`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityNames {
    /// The user, percent-encoded where it is not visible ASCII.
    pub subject: Spanned<String>,
    /// The roles, separated by commas, each percent-encoded.
    pub roles: Spanned<String>,
    /// Our id of the request.
    pub request_id: Spanned<String>,
    /// The signed assertion (JWT).
    pub assertion: Spanned<String>,
    /// The nonce of the response's content security policy.
    pub nonce: Spanned<String>,
    /// Whether the credential itself, bearer token or session cookie, is forwarded too. Danger of true: an application
    /// that logs its requests logs credentials.
    pub forward_credential: bool,
}

impl Default for IdentityNames {
    fn default() -> Self {
        let defaults = decide::headers::IdentityOptions::default();
        let name = |value: String| Spanned { value, at: Default::default() };
        IdentityNames {
            subject: name(defaults.subject),
            roles: name(defaults.roles),
            request_id: name(defaults.request_id),
            assertion: name(defaults.assertion),
            nonce: name(defaults.nonce),
            forward_credential: defaults.forward_credential,
        }
    }
}

/// Policy files, relative to the folder of `gateway.yaml`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyFiles {
    /// Permissions and roles. Default: none, so no route can require a permission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Spanned<String>>,
    /// Header profiles. Default: none; routes then get the built-in strict profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Spanned<String>>,
    /// Rate limits. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limits: Option<Spanned<String>>,
    /// Examples of decisions, run by `moat check` and before every reload; `*` allowed in the last part. A failing one
    /// is a problem. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tests: Option<Spanned<String>>,
}

/// The application log and the access log, on standard output.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogOptions {
    /// `json` or `text`.
    pub format: LogFormat,
    /// Least severity that is written: `error`, `warn`, `info`, `debug` or `trace`. Danger: `debug` and `trace` are slow.
    pub level: LogLevel,
    /// One line per request.
    pub access: AccessOptions,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { format: LogFormat::Json, level: LogLevel::Info, access: AccessOptions::default() }
    }
}

/// `logs.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// JSON lines.
    Json,
    /// Lines for people.
    Text,
}

/// `logs.level`
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Faults only.
    Error,
    /// And what will become one.
    Warn,
    /// And what happens.
    Info,
    /// And why.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// The access log.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessOptions {
    /// Share of the permitted requests that have a line, `0%` to `100%`; refused ones all have. The audit log is not
    /// touched by this.
    pub sample: Share,
    /// Paths without a line.
    pub exclude_paths: Vec<String>,
}

impl Default for AccessOptions {
    fn default() -> Self {
        AccessOptions { sample: Share::ALL, exclude_paths: Vec::new() }
    }
}

/// Metrics.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricOptions {
    /// The `tenant` label.
    pub tenant_label: TenantLabel,
}

/// Which tenants have a label of their own.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantLabel {
    /// The busiest so many tenants are named; at most 1000. Danger: every name is a time series.
    pub top: Spanned<usize>,
    /// What the others are called.
    pub rest: Rest,
}

impl Default for TenantLabel {
    fn default() -> Self {
        TenantLabel { top: 200.into(), rest: Rest::Other }
    }
}

/// `metrics.tenant_label.rest`
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rest {
    /// `other`
    Other,
}
