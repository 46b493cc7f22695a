//! Options of upstreams: the applications behind the gateway.
mod shapes;
pub use shapes::{BalanceOption, ClientCertificate, EndpointOption, HashOption, RouteUpstream};

use crate::config::read::{Entries, Spanned};
use crate::config::units::{Period, Share, seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An application behind the gateway.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamOptions {
    /// Where it listens: `host:port`, or `{address: host:port, weight: 1, zone: NAME}`. All addresses of a name become
    /// endpoints, and names are resolved again while the gateway runs.
    pub endpoints: Vec<Spanned<EndpointOption>>,
    /// What it is labelled with.
    #[serde(default, skip_serializing_if = "UpstreamLabels::is_empty")]
    pub labels: UpstreamLabels,
    /// How an endpoint is chosen: `least_requests`, `round_robin`, `{hash: tenant}` or `{hash: {header: NAME}}`.
    #[serde(default)]
    pub load_balance: Spanned<BalanceOption>,
    /// TLS to the application. Default: none. Danger of none: everybody between gateway and application can read and
    /// change the requests; keep them on one network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Spanned<UpstreamTlsOptions>>,
    /// Version of HTTP and timeouts.
    #[serde(default)]
    pub http: UpstreamHttp,
    /// Active health checks. Default: none; what requests meet is noticed all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Spanned<HealthOptions>>,
    /// When requests pass an endpoint over because of what earlier ones met.
    #[serde(default)]
    pub outlier: OutlierOptions,
    /// When a request that failed is sent again, to another endpoint.
    #[serde(default)]
    pub retry: RetryOptions,
    /// Requests at once, over all endpoints; one more is refused with `gateway.unavailable` and `Retry-After`, and does
    /// not queue. From 1. Default: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<Spanned<usize>>,
    /// Lowers the bound while the application takes longer to answer than it usually does. Default: none, the bound stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<Spanned<AdaptiveOptions>>,
    /// Keeps one tenant from taking all of the bound. Default: none, whoever comes first is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fairness: Option<Spanned<FairnessOptions>>,
    /// How names are looked up.
    #[serde(default)]
    pub dns: DnsOptions,
}

/// A bound that follows the latency of the application, between `min` and `max_in_flight`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveOptions {
    /// Requests at once that it is never lowered below, from 1 to `max_in_flight`. Danger: with a `min` that the application
    /// cannot take, it does not recover.
    pub min: Spanned<usize>,
}

/// Shares of `max_in_flight`, or of what `adaptive` makes of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FairnessOptions {
    /// Among whom: `tenant`. Requests without a tenant count as one.
    pub by: FairnessBy,
    /// What is kept free for tenants that have few requests under way, below 50%.
    #[serde(default = "tenth")]
    pub reserve: Spanned<Share>,
    /// Weights of the tenants of a class, from 1 to 1000; a tenant of a class that is not listed weighs 1.
    #[serde(default, skip_serializing_if = "Entries::is_empty")]
    pub weights: Entries<Spanned<u32>>,
}

fn tenth() -> Spanned<Share> {
    Share::TENTH.into()
}

/// `fairness.by`
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FairnessBy {
    /// The verified tenant.
    Tenant,
}

/// What an upstream is labelled with.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamLabels {
    /// Where its data stays; a tenant with a `residency` reaches upstreams of that region only. Default: none, so no
    /// tenant with a `residency` reaches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Spanned<String>>,
}

impl UpstreamLabels {
    fn is_empty(&self) -> bool {
        self.region.is_none()
    }
}

/// TLS to an application: 1.3, or 1.2 with ECDHE and AEAD. There is no way to turn verification off.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTlsOptions {
    /// The name that the application's certificate must hold: a host name or an address.
    pub server_name: Spanned<String>,
    /// PEM file with the only certificate authorities to trust. Default: those of the system. A change takes effect
    /// without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Spanned<String>>,
    /// Certificate that the gateway shows (mutual TLS): NAME of a pair in `tls.certificates`, or
    /// `{certificate: FILE, key: FILE}`. A change takes effect without a restart. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<Spanned<ClientCertificate>>,
}

/// Version of HTTP and timeouts of an upstream.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamHttp {
    /// `http/1.1`, or `h2`: by ALPN with TLS, by prior knowledge (h2c) without. An application that does not speak it
    /// counts as unreachable.
    pub version: HttpVersionOption,
    /// Time for connecting to one endpoint, the TLS handshake included.
    pub connect_timeout: Spanned<Period>,
    /// Time from the sent request to the first byte of the answer, then `upstream.timeout`; with `version: h2` also for each pause in it.
    pub first_byte_timeout: Spanned<Period>,
    /// Time without progress in the request's body and in the answer, WebSockets included; with `version: h2`, in the
    /// answer only where the client asked for an event stream.
    pub idle_timeout: Spanned<Period>,
    /// Time for everything. Default: no bound, for streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_timeout: Option<Spanned<Period>>,
}

impl Default for UpstreamHttp {
    fn default() -> Self {
        UpstreamHttp {
            version: HttpVersionOption::Http1,
            connect_timeout: seconds(2).into(),
            first_byte_timeout: seconds(15).into(),
            idle_timeout: seconds(60).into(),
            total_timeout: None,
        }
    }
}

/// `http.version`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HttpVersionOption {
    /// HTTP/1.1
    #[default]
    #[serde(rename = "http/1.1")]
    Http1,
    /// HTTP/2
    #[serde(rename = "h2")]
    Http2,
}

/// Active health checks of each endpoint, over the upstream's own protocol and TLS.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthOptions {
    /// Path that is asked for with GET.
    pub path: Spanned<String>,
    /// Value of `Host`. Default: `tls.server_name`, or the endpoint as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Spanned<String>>,
    /// Time between two checks of an endpoint, give or take a tenth.
    #[serde(default = "five_seconds")]
    pub every: Spanned<Period>,
    /// Time for one check; at most `every`.
    #[serde(default = "two_seconds")]
    pub timeout: Spanned<Period>,
    /// So many failures in a row, and the endpoint is passed over.
    #[serde(default = "three")]
    pub unhealthy_after: Spanned<u32>,
    /// So many successes in a row, and it is used again.
    #[serde(default = "two")]
    pub healthy_after: Spanned<u32>,
    /// Statuses of a healthy answer. Default: 200 to 299.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Spanned<u16>>,
}

fn five_seconds() -> Spanned<Period> {
    seconds(5).into()
}

fn two_seconds() -> Spanned<Period> {
    seconds(2).into()
}

fn three() -> Spanned<u32> {
    3.into()
}

fn two() -> Spanned<u32> {
    2.into()
}

/// When requests pass an endpoint over because of what earlier ones met. One that cannot be connected to is always
/// passed over for `eject_for`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutlierOptions {
    /// So many answers of 500 and above, or timeouts or broken answers, in a row, and the endpoint is ejected. Default:
    /// answers are not counted. Danger: an application that fails for one tenant can lose endpoints for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_5xx: Option<Spanned<u32>>,
    /// How long an ejected endpoint is passed over: so long the first time, twice as long the second time in a row, and
    /// so on to ten times.
    pub eject_for: Spanned<Period>,
    /// Greatest share of the endpoints that may be ejected because of their answers; one always may, but never the last.
    pub max_ejected: Share,
}

impl Default for OutlierOptions {
    fn default() -> Self {
        OutlierOptions { consecutive_5xx: None, eject_for: seconds(5).into(), max_ejected: Share::HALF }
    }
}

/// When a request that failed is sent again.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryOptions {
    /// After which failures: `connect_failure` (nothing was sent), `refused_stream` (HTTP/2 says that nothing was done),
    /// `reset` (the connection broke before the answer began; only GET, HEAD, OPTIONS, PUT and DELETE, and only where
    /// the whole body can be sent again). Empty: never.
    pub on: Vec<Spanned<RetryOn>>,
    /// Tries in all, the first included, from 1 to 10.
    pub attempts: Spanned<usize>,
    /// Greatest share of retries in the requests of the last ten seconds; ten retries in ten seconds are always allowed.
    pub budget: Share,
}

impl Default for RetryOptions {
    fn default() -> Self {
        let on = [RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::Reset];
        RetryOptions { on: on.map(Spanned::from).to_vec(), attempts: 3.into(), budget: Share::FIFTH }
    }
}

/// One of `retry.on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// Nothing was sent.
    ConnectFailure,
    /// HTTP/2 says that nothing was done.
    RefusedStream,
    /// The connection broke before the answer began.
    Reset,
}

/// How names are looked up, by the system's resolver.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DnsOptions {
    /// Time between two look-ups of a name. A name that cannot be resolved keeps its last addresses.
    pub refresh: Spanned<Period>,
}

impl Default for DnsOptions {
    fn default() -> Self {
        DnsOptions { refresh: seconds(30).into() }
    }
}
