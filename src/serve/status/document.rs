//! The document behind the status page, its JSON twin and `moat status`. Names are promises: added to, never renamed.
use super::window::Quantile;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the document: grows when something is removed or means something else, which is avoided.
pub const SCHEMA: u32 = 1;

/// Everything that an operator should see of a running gateway. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When it was made.
    pub at: String,
    /// Whether nothing is wrong now: no finding is a [`Severity::Problem`].
    pub ok: bool,
    /// What is wrong now, the worst first.
    pub findings: Vec<Finding>,
    /// The process.
    pub gateway: Process,
    /// Seconds that rates, quantiles and counts `in the window` span: about 60, less in a young process.
    pub window_s: f64,
    /// All requests in the window.
    pub traffic: Traffic,
    /// The listeners.
    pub listeners: Vec<Listener>,
    /// Routes with requests in the window, the busiest first.
    pub routes: Top<Route>,
    /// Tenants with decisions in the window, the busiest first; only those with a label of their own, `other` and
    /// `none` for the rest.
    pub tenants: Top<Tenant>,
    /// The upstreams.
    pub upstreams: Top<Upstream>,
    /// Certificates, those that end first first.
    pub certificates: Top<Certificate>,
    /// Key sets.
    pub issuers: Vec<Issuer>,
    /// The audit log.
    pub audit: Audit,
    /// The rate limits.
    pub limits: Vec<Limit>,
    /// The store that replicas share; absent where they share none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
    /// What was ended before its time; absent in documents of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocations: Option<Revocations>,
    /// The last attempt to read the configuration.
    pub reload: Option<Reload>,
    /// The last refusals, the newest first.
    pub refusals: Vec<Refusal>,
}

/// The first of a list that may be long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Top<T> {
    /// How many there are in all.
    pub total: usize,
    /// The first of them.
    pub shown: Vec<T>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody is turned away, or soon nothing is recorded: act now.
    Problem,
    /// Nobody is turned away yet that should not be.
    Warning,
}

/// Something that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What kind, `subject.state`; a promise like the codes of refusals.
    pub id: String,
    /// What, in a sentence.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Version of the build.
    pub version: String,
    /// Name of this replica.
    pub instance: String,
    /// Process id.
    pub pid: u32,
    /// When it started.
    pub started: String,
    /// Seconds since then.
    pub uptime_s: u64,
    /// Digest of the configuration in force.
    pub snapshot: String,
    /// Since when it is in force.
    pub in_force_since: Option<String>,
    /// Whether the process is about to end.
    pub draining: bool,
    /// Tasks that panicked; each is a bug.
    pub panics: u64,
    /// Lines of the access log that were dropped because its reader was too slow.
    pub access_lines_dropped: u64,
    /// Open connections.
    pub connections: u64,
    /// Most that may be open: `server.max_connections`.
    pub max_connections: u64,
}

/// Requests in the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Requests per second.
    pub rate: f64,
    /// Requests by status class, `none` where no response was sent.
    pub classes: BTreeMap<String, u64>,
    /// Refusals by code, also failures to forward.
    pub refused: BTreeMap<String, u64>,
    /// Half of the requests took less.
    pub p50: Option<Quantile>,
    /// Of 100 requests, 99 took less.
    pub p99: Option<Quantile>,
    /// Requests under way now, WebSockets and streams among them.
    pub under_way: u64,
    /// Of those, answers that have begun and not ended: downloads and event streams, most likely.
    pub answering: u64,
    /// Of those, connections that were upgraded: WebSockets.
    pub tunnels: u64,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// `tls`, `redirect` or `plaintext`; `admin` for the one of this page.
    pub kind: String,
    /// What it speaks, `h2` and `h1`.
    pub protocols: Vec<String>,
    /// Connections open now.
    pub open: u64,
    /// Requests under way now.
    pub under_way: u64,
    /// Connections taken since the start.
    pub accepted: u64,
    /// Connections rejected since the start, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Connections rejected in the window.
    pub rejected_in_window: u64,
    /// TLS handshakes since the start.
    pub handshakes: u64,
    /// Handshakes that failed since the start, by result.
    pub handshakes_failed: BTreeMap<String, u64>,
    /// Handshakes that failed in the window.
    pub handshakes_failed_in_window: u64,
}

/// One route, in the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Its name; `none` for requests that found no route.
    pub name: String,
    /// Requests per second.
    pub rate: f64,
    /// Half of the requests took less; without those refused with 4xx.
    pub p50: Option<Quantile>,
    /// Of 100 requests, 99 took less; without those refused with 4xx.
    pub p99: Option<Quantile>,
    /// Requests by status class.
    pub classes: BTreeMap<String, u64>,
    /// Refusals by code.
    pub refused: BTreeMap<String, u64>,
}

/// One tenant, in the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its label in the metrics.
    pub name: String,
    /// Decisions per second.
    pub rate: f64,
    /// Requests allowed.
    pub allowed: u64,
    /// Requests refused.
    pub refused: u64,
}

/// One upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// Requests under way.
    pub in_flight: u64,
    /// Requests refused since the start because `max_in_flight` were under way.
    pub full: u64,
    /// How many requests may be under way now.
    pub limit: Option<u64>,
    /// Requests refused since the start because the limit was lowered.
    pub shed: u64,
    /// Tenants that hold the most of it, where shares are kept: how many requests, and how many were refused since the start.
    pub holdings: Vec<Holding>,
    /// Look-ups of its names since the start that led nowhere.
    pub unresolved: u64,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// What a tenant holds of an upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Holding {
    /// Its id; empty for requests without a tenant.
    pub tenant: String,
    /// Requests under way.
    pub held: u64,
    /// Requests refused since the start because it held its share.
    pub refused: u64,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its address.
    pub address: String,
    /// Where it stands.
    pub zone: Option<String>,
    /// Its share of the requests.
    pub weight: u32,
    /// Whether requests are sent to it.
    pub usable: bool,
    /// In a few words: `up`, or why no requests are sent to it.
    pub state: String,
    /// Requests under way.
    pub in_flight: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// One certificate pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// NAME of the pair.
    pub name: String,
    /// Names it is valid for.
    pub names: Vec<String>,
    /// Key type.
    pub key: String,
    /// End of validity.
    pub not_after: String,
    /// Whole days left; negative after the end.
    pub days_left: i64,
    /// `ok`, `expiring`, `expired` or `not-yet-valid`.
    pub state: String,
    /// Presented to clients without a known server name.
    pub default: bool,
}

/// The keys of one issuer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Issuer {
    /// Its name.
    pub name: String,
    /// Whether tokens can be verified now.
    pub usable: bool,
    /// Usable keys.
    pub keys: usize,
    /// Seconds since the keys were obtained.
    pub age_s: Option<u64>,
    /// Why the last attempt to obtain them failed.
    pub last_error: Option<String>,
    /// Keys that cannot be used, with reasons.
    pub skipped: Vec<String>,
}

/// The audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// Sequence number of the last entry.
    pub last_seq: u64,
    /// When the last signed head was written.
    pub last_head: Option<String>,
    /// Entries waiting to be written.
    pub backlog: u64,
    /// Failed writes since the start.
    pub write_errors: u64,
    /// Requests refused since the start because they could not be recorded.
    pub refused: u64,
    /// Since when nothing can be written.
    pub failing_since: Option<String>,
}

/// One rate limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// Its name.
    pub name: String,
    /// Keys that it holds.
    pub keys: usize,
}

/// The store that replicas share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// Where it is.
    pub address: String,
    /// Whether it is of use.
    pub up: bool,
    /// Replicas that use it, as far as known.
    pub replicas: u32,
    /// Why it is not of use.
    pub trouble: Option<String>,
    /// Requests that limits decided without it, since the start.
    pub fallbacks: u64,
}

/// What was ended before its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revocations {
    /// Whether all marks were read; until then no session is served.
    pub ready: bool,
    /// Whether what other replicas end has not been heard of for longer than `max_staleness`.
    pub stale: bool,
    /// Since when, in seconds, everything was known that others had ended.
    pub silence_s: f64,
    /// Marks.
    pub marks: u64,
    /// How many there may be.
    pub max_marks: u64,
}

/// The last attempt to read the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reload {
    /// When.
    pub at: String,
    /// By what: `start`, `sighup`, `files` or `command`.
    pub trigger: String,
    /// `applied`, `unchanged`, `refused` or `last-good`.
    pub outcome: String,
    /// Digest of what is in force after it.
    pub snapshot: String,
    /// Number of problems.
    pub problems: u64,
    /// All of them, as `moat check` prints them.
    pub text: String,
    /// What it allows that was not allowed before.
    pub loosened: Vec<String>,
}

/// One refusal. Neither query nor user, and of the client the network only: the audit entry of this id has the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// When.
    pub at: String,
    /// Id of the request.
    pub id: String,
    /// Status sent.
    pub status: u16,
    /// Code.
    pub code: String,
    /// Method, as far as it could be read.
    pub method: Option<String>,
    /// Host, as far as it could be read.
    pub host: Option<String>,
    /// Template of the route where there is one, else the path; shortened.
    pub path: Option<String>,
    /// Route.
    pub route: Option<String>,
    /// Tenant.
    pub tenant: Option<String>,
    /// The client's network: /24 for IPv4, /48 for IPv6.
    pub network: Option<String>,
}
