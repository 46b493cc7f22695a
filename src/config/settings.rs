//! What the machine runs on: every reference resolved, every default filled in. Options (`options.rs`) are for people.
mod revocation;
mod sessions;
mod sign_in;
mod storage;
mod tokens;
mod upstreams;
pub use revocation::*;
pub use sessions::*;
pub use sign_in::*;
mod api_keys;
mod client_certificates;
mod app_sessions;
mod ext_auth;
mod introspection;
pub use api_keys::*;
pub use app_sessions::*;
pub use client_certificates::*;
pub use ext_auth::*;
pub use introspection::*;
pub use storage::*;
pub use tokens::*;
pub use upstreams::*;

use crate::config::outline::Outline;
use decide::facts::Protocol;
use decide::forwarded::ClientHeader;
use decide::head::HeadLimits;
use decide::headers::{IdentityHeaders, Profile};
use decide::rules::Rules;
use decide::token::IssuerRules;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything that a request needs, compiled whole and never changed: `gateway.yaml`, `policies/` and certificates.
#[derive(Debug)]
pub struct Snapshot {
    /// SHA-256 over all files of the bundle in a fixed order, hex.
    pub digest: String,
    /// The pure rules that the deliberation runs on.
    pub rules: Arc<Rules>,
    /// Process-wide settings.
    pub server: Server,
    /// The admin listener.
    pub admin: Admin,
    /// Listeners by name.
    pub listeners: Vec<Arc<Listener>>,
    /// Certificate folder and the rest of `tls:`; `None` without TLS listeners.
    pub tls: Option<Tls>,
    /// Issuers by name, in the order of the names.
    pub issuers: Vec<Arc<Issuer>>,
    /// Services that say who somebody is.
    pub ext_auth: Vec<Arc<ExtAuth>>,
    /// Certificates of clients, by name.
    pub client_certificates: BTreeMap<Arc<str>, ClientCertificates>,
    /// Sessions that applications keep.
    pub app_sessions: Vec<Arc<AppSessionStore>>,
    /// Files of API keys, by name.
    pub api_keys: BTreeMap<String, Arc<ApiKeys>>,
    /// Sets of API keys in the state engine, by name.
    pub key_sets: BTreeMap<String, Arc<KeySet>>,
    /// Upstreams, indexed by `decide::rules::Route::upstream`.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Header profiles, indexed by `decide::rules::Route::headers`.
    pub profiles: Vec<Arc<Profile>>,
    /// What responses without a route are dressed with: a strict profile that is built in.
    pub default_profile: Arc<Profile>,
    /// What pages of our own with a form are dressed with: the same, but their forms may be sent, to us.
    pub page_profile: Arc<Profile>,
    /// Keys of double-submit tokens.
    pub csrf_keys: Arc<decide::csrf::Keys>,
    /// Headers by which applications learn who calls.
    pub identity: IdentityHeaders,
    /// Greatest number of verified tokens to remember; 0 verifies every token anew.
    pub token_cache: u64,
    /// What a session takes along when it ends.
    pub close_at_expiry: CloseAtExpiry,
    /// Sessions that the gateway holds.
    pub sessions: Sessions,
    /// How sessions are ended before their time.
    pub revocation: Revocation,
    /// The file that keeps what no shared store does.
    pub embedded: Embedded,
    /// What replicas share.
    pub redis: Option<Redis>,
    /// The PostgreSQL that keeps state.
    pub postgres: Option<Postgres>,
    /// The audit log.
    pub audit: Audit,
    /// Logs and metrics.
    pub telemetry: Telemetry,
    /// Traces.
    pub traces: Traces,
    /// The problems of the files, where this is the last good bundle in their place.
    pub fallback: Option<Fallback>,
    /// What it was made from, piece by piece.
    pub outline: Outline,
    /// Every file that was read, for the watcher.
    pub files: Vec<PathBuf>,
}

/// Why the last good bundle is in force: at the start, the files had problems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// How many.
    pub problems: u64,
    /// All of them, rendered for the operator.
    pub text: String,
    /// When the bundle was kept, milliseconds since the Unix epoch.
    pub kept_at_ms: u64,
}

/// `sessions.close_at_expiry:`, from lax to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloseAtExpiry {
    /// Nothing.
    Nothing,
    /// WebSockets.
    Websockets,
    /// WebSockets and answers that are still running.
    Streams,
}

/// `server:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Worker threads.
    pub worker_threads: usize,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// Time between readiness failing and the beginning of the drain.
    pub drain_delay: Duration,
    /// Whether other processes of the same user may listen on the same ports.
    pub reuse_port: bool,
    /// Open connections in all.
    pub max_connections: usize,
    /// Requests in all that may be under way.
    pub requests_under_way: usize,
    /// Answers in all that may wait for slow clients with all the patience there is.
    pub unread_answers: usize,
    /// Folder for everything that outlives the process.
    pub state_dir: PathBuf,
    /// Name of this replica in logs, audit entries and assertions.
    pub instance: String,
    /// Where this replica stands; endpoints of upstreams in the same zone are preferred.
    pub zone: Option<Arc<str>>,
}

/// `admin:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens; loopback only.
    pub address: SocketAddr,
    /// Path of the metrics.
    pub metrics_path: String,
    /// Whether the status page is served.
    pub status_page: bool,
    /// Path of the liveness check.
    pub live_path: String,
    /// Path of the readiness check.
    pub ready_path: String,
}

/// One of `listeners:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it does with a connection.
    pub kind: ListenerKind,
    /// Hops whose forwarding headers are believed.
    pub trusted: Vec<IpNet>,
    /// Whether they, and nobody else, may connect, and must say for whom in a PROXY header.
    pub proxy_protocol: bool,
    /// Which header they use.
    pub client_header: ClientHeader,
    /// The delivery network that alone may connect; `None` for everybody.
    pub edge: Option<Arc<Edge>>,
    /// The certificates that clients are asked for; `None` asks for none.
    pub client_certificates: Option<Arc<AskedOfClients>>,
    /// Limits of a request head.
    pub head: HeadLimits,
    /// Time for a whole request head.
    pub header_timeout: Duration,
    /// Time between requests on one connection.
    pub idle_timeout: Duration,
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Longest pause inside a request body, and longest wait for the client to take a piece of an answer.
    pub stall_timeout: Duration,
    /// TLS handshakes of one address (/64 for IPv6) per second; trusted hops are exempt.
    pub handshakes_per_second: u32,
    /// Connections of one address (/64 for IPv6); trusted hops are exempt.
    pub connections_per_ip: usize,
    /// Concurrent streams of an HTTP/2 connection.
    pub h2_concurrent_streams: u32,
    /// Streams reset by the client per second before the connection is closed.
    pub h2_resets_per_second: u32,
    /// PING, SETTINGS, PRIORITY, empty and unknown frames of the client per second, so many of each.
    pub h2_control_frames_per_second: u32,
    /// WINDOW_UPDATE frames of the client per second that our answers give no occasion for.
    pub h2_window_updates_per_second: u32,
    /// Longest wait for the client to take a piece of an answer.
    pub h2_stall_timeout: Duration,
}

/// A content delivery network in front of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Networks that it connects from.
    pub ranges: Vec<IpNet>,
    /// The same and the listener's trusted hops, for edges without a header of their own.
    pub hops: Vec<IpNet>,
    /// The certificate that it must show.
    pub certificate: Option<Arc<EdgeCertificate>>,
    /// Its own header for the client's address; without it, it is a trusted hop like another.
    pub header: Option<http::HeaderName>,
}

/// Who vouches for a delivery network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeCertificate {
    /// Authorities.
    pub authorities: Vec<rustls::pki_types::CertificateDer<'static>>,
    /// Names of which the certificate must hold one; empty for any.
    pub names: Vec<rustls::pki_types::ServerName<'static>>,
}

/// What a listener does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// Terminates TLS and proxies.
    Tls {
        /// ALPN protocols in order of preference.
        protocols: Vec<Protocol>,
        /// Versions and groups.
        profile: TlsProfile,
        /// Keys of session tickets; `None` for keys of the process.
        tickets: Option<Arc<SessionTickets>>,
    },
    /// Plaintext: 308 for GET and HEAD, 403 `request.plaintext` for the rest.
    Redirect {
        /// Port of the https URL, where not 443.
        https_port: Option<u16>,
    },
    /// Plaintext proxying, written out as `plaintext: "<reason>"` in the file.
    Plaintext,
}

/// A name under `tls.profiles`, or the built-in `modern`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsProfile {
    /// Whether TLS 1.2 (ECDHE with AEAD only) is tolerated.
    pub tls12: bool,
    /// Key exchange groups in order of preference, IANA names.
    pub groups: Vec<String>,
    /// Cipher suites in order of preference, by their names in TLS 1.3.
    pub ciphers: Vec<String>,
}

/// `tls.session_tickets:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTickets {
    /// The first makes tickets, all of them open.
    pub keys: SealingKeys,
    /// How long a key that is derived from them makes tickets, in seconds; never 0.
    pub rotate_s: u64,
}

/// `tls:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Folder with NAME.crt and NAME.key.
    pub certificates: PathBuf,
    /// NAME of the pair for clients without server name; `None` refuses them.
    pub default_certificate: Option<String>,
    /// When to start warning.
    pub warn_before_expiry: Duration,
}

/// One of `issuers:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The pure part.
    pub rules: IssuerRules,
    /// Where its keys come from.
    pub keys: KeySource,
    /// Background refresh.
    pub refresh: Duration,
    /// Least time between two fetches for unknown key ids.
    pub min_interval: Duration,
    /// How long the last good copy may be used.
    pub max_stale: Duration,
    /// PEM file with the only certificate authorities to trust for fetches; the system's where absent.
    pub ca: Option<PathBuf>,
    /// The gateway as its client, where browsers sign in with it.
    pub client: Option<Arc<Client>>,
    /// Security events that it sends.
    pub signals: Option<Signals>,
    /// How it is asked about tokens that only it can read.
    pub introspection: Option<Arc<Introspection>>,
}

/// `issuers.NAME.signals:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signals {
    /// What `iss` of the events must equal.
    pub transmitter: String,
    /// What `aud` of the events must name one of.
    pub audiences: Vec<String>,
    /// SHA-256 of what `Authorization` of a delivery must be.
    pub authorization: Option<[u8; 32]>,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A JWKS file.
    File(PathBuf),
    /// A JWKS URL, https.
    Url(String),
    /// Our own: this document.
    Ours(String),
    /// OpenID Connect discovery below the issuer's URL, https.
    Discovery,
    /// Nowhere: the issuer is asked about each of its tokens.
    Nowhere,
}

/// `audit:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Folder of the segments.
    pub directory: PathBuf,
    /// Size at which a segment is closed.
    pub roll_bytes: u64,
    /// How long closed segments are kept; `None` for ever.
    pub retain: Option<Duration>,
    /// When a batch is synced to the disk.
    pub durability: Durability,
    /// Time between signed heads.
    pub checkpoint_every: Duration,
    /// Entries between signed heads.
    pub checkpoint_entries: u64,
    /// Time after which a heartbeat is written when nothing else was.
    pub heartbeat: Duration,
    /// When requests that were refused early begin to share entries.
    pub fold: Fold,
    /// Key (PKCS#8 PEM, Ed25519) that signs heads; made in the state folder where absent.
    pub key: Option<PathBuf>,
}

/// `audit.fold:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold {
    /// Entries of their own that requests of one kind may have at once.
    pub after: u32,
    /// And per second later.
    pub per_second: u32,
    /// The same for all kinds together.
    pub in_all_per_second: u32,
}

/// `audit.durability:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// `fdatasync` every 50 ms.
    Batch,
    /// `fdatasync` before each batch is acknowledged.
    Each,
    /// Left to the operating system.
    Os,
}

/// `logs:` and `metrics:`
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// JSON or text.
    pub json: bool,
    /// Filter in the syntax of `tracing`, e.g. `info`.
    pub level: String,
    /// Share of the requests that were not refused that have an access line, 0 to 1; refused ones all have.
    pub access_share: f64,
    /// Paths without access line.
    pub exclude_paths: Vec<String>,
    /// Busiest tenants with a label of their own.
    pub tenant_top: usize,
}

/// `traces:`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Where spans go; `None` records nothing.
    pub collector: Option<Arc<Collector>>,
    /// Of a million new traces, so many are recorded.
    pub sample_ppm: u32,
    /// Whether the trace of a trusted hop is continued.
    pub trust_inbound: bool,
    /// Whether spans say the client's address.
    pub client_address: bool,
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// The URL that batches are posted to.
    pub url: http::Uri,
    /// PEM file with the only certificate authorities to trust; the system's where absent.
    pub ca: Option<PathBuf>,
    /// Names of headers, and where their values are.
    pub headers: Vec<(http::HeaderName, SecretSource)>,
}

/// Where a secret is read when it is needed, so that it is in no snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file; white space at its end is not part of the secret.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// Names for `moat config show`: option path → where its value comes from.
pub type Origins = BTreeMap<String, String>;
