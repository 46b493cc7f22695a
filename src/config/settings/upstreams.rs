//! Upstreams as compiled: every reference resolved, every file read.
use http::HeaderName;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One of `upstreams:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name; also the audience of assertions.
    pub name: Arc<str>,
    /// `labels.region`: where its data stays.
    pub region: Option<Arc<str>>,
    /// Endpoints, in the order of the file.
    pub endpoints: Vec<Endpoint>,
    /// How one of them is chosen.
    pub balance: Balance,
    /// The zone of this gateway, `server.zone`.
    pub zone: Option<Arc<str>>,
    /// TLS; `None` speaks plaintext.
    pub tls: Option<Arc<UpstreamTls>>,
    /// Version of HTTP.
    pub version: HttpVersion,
    /// Timeouts, where the route has none of its own.
    pub timeouts: Timeouts,
    /// Active checks.
    pub health: Option<Health>,
    /// Passive ejection.
    pub outlier: Outlier,
    /// Retries.
    pub retry: Retry,
    /// Requests at once; `None` for no bound.
    pub max_in_flight: Option<usize>,
    /// Below which the bound is never lowered; `None` where it follows nothing.
    pub adaptive_min: Option<usize>,
    /// Shares of the bound; `None` where whoever comes first is served.
    pub fairness: Option<Fairness>,
    /// Time between two look-ups of a name.
    pub refresh: Duration,
}

/// Shares of an upstream's bound, by tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fairness {
    /// What is kept free for tenants with few requests under way, in hundredths of a percent.
    pub reserve: u32,
    /// By class, indexed by `decide::rules::Tenant::class`.
    pub weights: Vec<u32>,
}

/// One of `endpoints:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub place: Place,
    /// Its share, 1 to 100.
    pub weight: u32,
    /// Where it stands.
    pub zone: Option<Arc<str>>,
    /// Requests at once to each of its addresses; `None` for no bound of its own.
    pub max_in_flight: Option<usize>,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address.
    Address(SocketAddr),
    /// A name, whose addresses change.
    Name {
        /// The host.
        host: Arc<str>,
        /// The port.
        port: u16,
        /// What the name led to when the bundle was loaded.
        found: Found,
    },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Address(address) => write!(f, "{address}"),
            Place::Name { host, port, .. } => write!(f, "{host}:{port}"),
        }
    }
}

/// What a name led to when the bundle was loaded; empty where it led nowhere. No part of what the bundle says, so two of
/// them never differ.
#[derive(Clone, Debug, Default)]
pub struct Found(pub Vec<SocketAddr>);

impl PartialEq for Found {
    fn eq(&self, _: &Found) -> bool {
        true
    }
}

impl Eq for Found {}

/// TLS to an application; its certificate is always verified.
#[derive(Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name that its certificate must hold.
    pub server_name: ServerName<'static>,
    /// The only authorities to trust; the system's where `None`.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// What the gateway shows.
    pub client: Option<ClientPair>,
}

/// A certificate chain and its key. `Debug` does not show the key.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientPair {
    /// The chain, leaf first; never empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

/// Version of HTTP that an application speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.1
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge without.
    Http2,
}

/// How long an application may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For connecting to one endpoint, the TLS handshake included.
    pub connect: Duration,
    /// From the sent request to the first byte of the answer; over HTTP/2 for each pause in it too.
    pub first_byte: Duration,
    /// Without progress in the request's body, and in answers that are streams.
    pub idle: Duration,
    /// For everything; `None` for no bound (streams).
    pub total: Option<Duration>,
}

/// `load_balance:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The endpoint with the fewest requests in flight.
    LeastRequests,
    /// One after the other.
    RoundRobin,
    /// By the verified tenant.
    HashTenant,
    /// By a request header.
    HashHeader(HeaderName),
}

/// `health:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Path and query.
    pub path: Arc<str>,
    /// `Host`; the server name or the address where `None`.
    pub host: Option<Arc<str>>,
    /// Time between checks.
    pub every: Duration,
    /// Time for one.
    pub timeout: Duration,
    /// Failures in a row.
    pub unhealthy_after: u32,
    /// Successes in a row.
    pub healthy_after: u32,
    /// Statuses of a healthy answer; empty for 200 to 299.
    pub expect: Vec<u16>,
}

/// `outlier:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// Failed answers in a row; `None` counts none.
    pub consecutive_5xx: Option<u32>,
    /// Time of the first ejection.
    pub eject_for: Duration,
    /// Greatest share of endpoints ejected for their answers, in hundredths of a percent.
    pub max_ejected: u32,
}

/// `retry:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// After a connection that did not come about.
    pub connect_failure: bool,
    /// After a refused HTTP/2 stream.
    pub refused_stream: bool,
    /// After a connection that broke before the answer.
    pub reset: bool,
    /// Tries in all.
    pub attempts: usize,
    /// Greatest share of retries, in hundredths of a percent.
    pub budget: u32,
}
