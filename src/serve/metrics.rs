//! Metrics: what Prometheus reads from the admin listener, and the handles that the request path counts with.
//!
//! Every label comes from a closed set: names in `gateway.yaml`, methods and codes from their enums, tenants from the
//! bounded labels of `tenants.rs`. Nothing that a client sends becomes a label. Series of a route or limit that a
//! reload removed stay, at rest, until the process ends.
mod families;
mod listener;
mod openmetrics;
mod reading;
mod revocations;
mod route;
mod sessions;
mod state;
mod store;
mod tenants;
mod tokens;
mod upstreams;
#[cfg(test)]
mod tests;

pub use listener::{Active, ListenerMetrics, UpstreamMetrics};
pub use openmetrics::{OPENMETRICS, prefers_openmetrics};
pub use reading::{ListenerCount, Reading, RouteCount, TenantCount};
pub use revocations::RevocationMetrics;
pub use route::{Origin, RequestOutcome, RouteMetrics};
pub use sessions::{Factor, SessionEvent, StepUp};
pub use state::StateMetrics;
pub use store::StoreMetrics;
pub use tokens::TokenMetrics;

use decide::refusal::Code;
use decide::rules::StoreLoss;
use families::Families;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, IntCounter, IntGaugeVec, Registry, TextEncoder};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tenants::TenantLabels;

/// What a response of [`Metrics::render`] is: the Prometheus text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of this process.
pub struct Metrics {
    registry: Registry,
    families: Arc<Families>,
    tenants: Arc<TenantLabels>,
    readers: Mutex<Vec<Reader>>,
    certificates: Mutex<BTreeMap<String, i64>>,
    lists: Mutex<BTreeMap<String, i64>>,
    revocations: RevocationMetrics,
}

/// Brings gauges up to date before they are read.
type Reader = Box<dyn Fn(&Metrics) + Send + Sync>;

/// One of the two logs, for the count of lines that found its queue full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The application log.
    Log,
    /// The access log.
    Access,
}

/// A kind of header that applications send and the gateway decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stripped {
    /// `Access-Control-…`
    Cors,
    /// `Alt-Svc`
    AltSvc,
}

impl Stripped {
    fn label(self) -> &'static str {
        match self {
            Stripped::Cors => "cors",
            Stripped::AltSvc => "alt-svc",
        }
    }
}

/// Counts what becomes of spans. Clones count into the same series.
#[derive(Clone, Debug)]
pub struct TraceMetrics {
    /// The collector took them.
    pub exported: IntCounter,
    /// There was no room for them, or traces were switched off while they waited.
    pub dropped: IntCounter,
    /// The collector refused them, or could not be reached for too long.
    pub failed: IntCounter,
}

impl Metrics {
    /// Fresh metrics; at most `tenant_top` tenants get a label of their own, the rest is `other`.
    ///
    /// Fails only where two families have one name, which the tests exclude.
    pub fn new(tenant_top: usize) -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let families = Families::register(&registry)?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        families.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for kind in [Stripped::Cors, Stripped::AltSvc] {
            families.headers_stripped.with_label_values(&[kind.label()]);
        }
        let families = Arc::new(families);
        families.session_reuse.with_label_values(&["none"]);
        for event in SessionEvent::ALL {
            families.session_events.with_label_values(&[event.word()]);
        }
        for result in ["ok", "reused", "revoked", "expired", "refused", "unavailable"] {
            families.refreshes.with_label_values(&[result]);
        }
        for result in ["ok", "invalid", "replayed", "unshared"] {
            families.proofs.with_label_values(&[result]);
        }
        families.refresh_reuse.with_label_values(&["none"]);
        for factor in Factor::ALL {
            families.second_factors.with_label_values(&[factor.word()]);
        }
        for result in StepUp::ALL {
            families.step_ups.with_label_values(&[result.word()]);
        }
        Ok(Metrics {
            registry,
            revocations: RevocationMetrics::new(families.clone()),
            families,
            tenants: Arc::new(TenantLabels::new(tenant_top)),
            readers: Mutex::default(),
            certificates: Mutex::default(),
            lists: Mutex::default(),
        })
    }

    /// Changes how many tenants may have a label of their own; labels that were given are kept.
    pub fn resize_tenants(&self, tenant_top: usize) {
        self.tenants.resize(tenant_top);
    }

    /// The handle for a route, `none` for requests without one. Make it once per snapshot and keep it: counting through
    /// it looks nothing up.
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        Arc::new(RouteMetrics::new(name, self.families.clone(), self.tenants.clone()))
    }

    /// Counts what becomes of our own tokens.
    pub fn tokens(&self) -> TokenMetrics<'_> {
        TokenMetrics::new(&self.families)
    }

    /// A refresh token of this tenant came back after it had been exchanged.
    pub fn reused(&self, tenant: Option<&str>) {
        let name = self.tenants.name(self.tenants.slot(tenant));
        self.families.refresh_reuse.with_label_values(&[&*name]).inc();
    }

    /// The handle for a listener.
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        Arc::new(ListenerMetrics::new(name, self.families.clone()))
    }

    /// The handle for an upstream.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamMetrics> {
        Arc::new(UpstreamMetrics::new(name, &self.families))
    }

    /// Calls `reader` before every scrape, for gauges that somebody else knows (keys held, backlog).
    pub fn before_scrape(&self, reader: impl Fn(&Metrics) + Send + Sync + 'static) {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(reader));
    }

    /// All metrics in the text format of [`CONTENT_TYPE`].
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        for reader in self.readers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            reader(self);
        }
        let mut text = Vec::with_capacity(64 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// The same in the format of [`OPENMETRICS`].
    pub fn render_open(&self) -> Result<Vec<u8>, prometheus::Error> {
        let text = self.render()?;
        Ok(openmetrics::translate(&String::from_utf8_lossy(&text)).into_bytes())
    }

    /// What the clock of this process says, in milliseconds since the epoch.
    pub fn clock(&self, now_ms: u64) {
        // Milliseconds of a clock are far below what a double holds.
        self.families.clock.set(now_ms as f64 / 1000.0);
    }

    /// The certificates in use by name, with their ends in seconds since the epoch; those no longer named disappear.
    pub fn certificates(&self, certificates: impl IntoIterator<Item = (String, i64)>) {
        named(&self.families.certificate_not_after, &self.certificates, certificates);
    }

    /// Entries of `client_certificates` with revocation lists, and when the first list of each is out of date, in seconds
    /// since the epoch.
    pub fn revocation_lists(&self, lists: impl IntoIterator<Item = (String, i64)>) {
        named(&self.families.list_next_update, &self.lists, lists);
    }

    /// Keys that each limit holds (`Quotas::keys`).
    pub fn quota_keys(&self, keys: impl IntoIterator<Item = (Arc<str>, usize)>) {
        self.families.ratelimit_keys.reset();
        for (limit, count) in keys {
            self.families.ratelimit_keys.with_label_values(&[&*limit]).set(gauge(count));
        }
    }

    /// Requests under way that count against each cap (`Quotas::held`), and requests that wait (`Quotas::waiting`).
    pub fn quota_held(&self, held: impl IntoIterator<Item = (Arc<str>, usize)>, waiting: usize) {
        self.families.ratelimit_held.reset();
        for (limit, count) in held {
            self.families.ratelimit_held.with_label_values(&[&*limit]).set(gauge(count));
        }
        self.families.ratelimit_waiting.set(gauge(waiting));
    }

    /// A limit had a request wait so long.
    pub fn quota_delayed(&self, waited: Duration) {
        self.families.ratelimit_delay.observe(waited.as_secs_f64());
    }

    /// Requests that shared limits decided without their store (`Quotas::lost`), and keys that synced ones bring together
    /// (`Quotas::busy`).
    pub fn quota_shared(
        &self,
        lost: impl IntoIterator<Item = (Arc<str>, StoreLoss, u64)>,
        busy: impl IntoIterator<Item = (Arc<str>, usize)>,
    ) {
        for (limit, loss, total) in lost {
            let loss = match loss {
                StoreLoss::Closed => "closed",
                StoreLoss::Local => "local",
                StoreLoss::Open => "open",
            };
            raise(&self.families.ratelimit_fallback.with_label_values(&[&*limit, loss]), total);
        }
        self.families.ratelimit_busy.reset();
        for (limit, count) in busy {
            self.families.ratelimit_busy.with_label_values(&[&*limit]).set(gauge(count));
        }
    }

    /// The handle for state.
    pub fn state(&self) -> StateMetrics {
        StateMetrics::new(self.families.clone())
    }

    /// The handle for the shared store.
    pub fn store(&self) -> StoreMetrics {
        StoreMetrics::new(self.families.clone())
    }

    /// An issuer's usable keys, and when they were last fetched or read, in seconds since the epoch.
    pub fn issuer_keys(&self, issuer: &str, keys: usize, last_success_s: Option<u64>) {
        self.families.jwks_keys.with_label_values(&[issuer]).set(gauge(keys));
        if let Some(at) = last_success_s {
            self.families.jwks_last_success.with_label_values(&[issuer]).set(gauge(at));
        }
    }

    /// How questions about an issuer's tokens ended.
    pub fn introspections(&self, issuer: &str, totals: impl Iterator<Item = (&'static str, u64)>) {
        for (result, total) in totals {
            raise(&self.families.introspections.with_label_values(&[issuer, result]), total);
        }
    }

    /// How look-ups of an application's sessions ended, and whether their store is of use.
    pub fn app_sessions(&self, store: &str, up: bool, totals: impl Iterator<Item = (&'static str, u64)>) {
        self.families.app_sessions_up.with_label_values(&[store]).set(i64::from(up));
        for (result, total) in totals {
            raise(&self.families.app_sessions.with_label_values(&[store, result]), total);
        }
    }

    /// An audit entry of this class was written.
    pub fn audit_entry(&self, class: &'static str) {
        self.families.audit_entries.with_label_values(&[class]).inc();
    }

    /// Audit entries of this class written since the start, where the writer itself keeps count.
    pub fn audit_entries(&self, class: &'static str, total: u64) {
        raise(&self.families.audit_entries.with_label_values(&[class]), total);
    }

    /// Requests since the start that share an audit entry with others of their kind.
    pub fn audit_folded(&self, total: u64) {
        raise(&self.families.audit_folded, total);
    }

    /// Answers that wait for their clients.
    pub fn unread_answers(&self, now: usize) {
        self.families.answers_unread.set(gauge(now));
    }

    /// State of the audit writer: failed writes since the start, entries waiting, and when the last signed head was
    /// written, in seconds since the epoch.
    pub fn audit_state(&self, write_errors: u64, backlog: usize, last_checkpoint_s: Option<u64>) {
        raise(&self.families.audit_write_errors, write_errors);
        self.families.audit_backlog.set(gauge(backlog));
        if let Some(at) = last_checkpoint_s {
            self.families.audit_last_checkpoint.set(gauge(at));
        }
    }

    /// A snapshot took effect.
    pub fn config_loaded(&self, hash: &str, version: &str, at_s: u64) {
        self.families.config_info.reset();
        self.families.config_info.with_label_values(&[hash, version]).set(1);
        self.families.config_last_reload_successful.set(1);
        self.families.config_last_reload.set(gauge(at_s));
    }

    /// A reload was refused; the snapshot before it stays in force.
    pub fn config_refused(&self, at_s: u64) {
        self.families.config_last_reload_successful.set(0);
        self.families.config_last_reload.set(gauge(at_s));
    }

    /// Whether the last good bundle is in force in the place of files with problems.
    pub fn config_last_good(&self, in_use: bool) {
        self.families.config_last_good.set(i64::from(in_use));
    }

    /// A running answer or WebSocket was ended: by a reload that would have refused it, or with its session.
    pub fn stream_closed(&self, reason: Code) {
        self.families.streams_closed.with_label_values(&[reason.id()]).inc();
    }

    /// Cookies of the application that were hardened on their way out.
    pub fn cookies_fixed(&self, count: usize) {
        if count > 0 {
            self.families.cookies_hardened.inc_by(count as u64);
        }
    }

    /// Headers of the application that did not go out.
    pub fn headers_stripped(&self, kind: Stripped, count: usize) {
        if count > 0 {
            self.families.headers_stripped.with_label_values(&[kind.label()]).inc_by(count as u64);
        }
    }

    /// How many tasks have panicked since the process started.
    pub fn panics(&self, total: u64) {
        let known = self.families.panics.get();
        self.families.panics.inc_by(total.saturating_sub(known));
    }

    /// What becomes of spans.
    pub fn traces(&self) -> TraceMetrics {
        let counter = |result| self.families.trace_spans.with_label_values(&[result]);
        TraceMetrics { exported: counter("exported"), dropped: counter("dropped"), failed: counter("failed") }
    }

    /// Log lines dropped since the start.
    pub fn log_lines_dropped(&self, stream: Stream, total: u64) {
        let stream = match stream {
            Stream::Log => "log",
            Stream::Access => "access",
        };
        raise(&self.families.log_lines_dropped.with_label_values(&[stream]), total);
    }
}

/// Brings a counter up to a total that is counted elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn gauge(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

/// Class of a status as a label: `1xx` to `5xx`, `none` where no response was sent.
const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Index into `STATUS_CLASSES`.
fn status_class(status: u16) -> usize {
    match status {
        0..100 => 0,
        100..200 => 1,
        200..300 => 2,
        300..400 => 3,
        400..500 => 4,
        500.. => 5,
    }
}

/// Sets one gauge per name; those no longer named disappear.
fn named(gauges: &IntGaugeVec, known: &Mutex<BTreeMap<String, i64>>, values: impl IntoIterator<Item = (String, i64)>) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let now: BTreeMap<String, i64> = values.into_iter().collect();
    for gone in known.keys().filter(|name| !now.contains_key(*name)) {
        // It was set below, so it is there.
        let _ = gauges.remove_label_values(&[gone]);
    }
    now.iter().for_each(|(name, value)| gauges.with_label_values(&[name]).set(*value));
    *known = now;
}
