//! The metric families: name, labels and help of each. Names are promises: never renamed, only added.
//! `docs/metrics.md` describes each; a test compares the two.
use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Boundaries that OpenTelemetry's semantic conventions recommend for request durations, in seconds.
pub(super) const DURATION_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Boundaries for turns that limits have requests wait for, in seconds.
const DELAY_BUCKETS: [f64; 8] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// Boundaries for the time spent in the gateway itself, in seconds: it is microseconds on a good day.
const ADDED_BUCKETS: [f64; 13] =
    [0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 1.0];

/// Boundaries for the way of a revocation to all replicas, in seconds: a round trip, up to an outage.
const PROPAGATION_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Boundaries for calls of a store, in seconds: a fraction of a millisecond next door, ten where patience ends.
const STORE_BUCKETS: [f64; 11] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0];

/// All families but `process_*`, which the library collects.
pub(super) struct Families {
    pub(super) server_duration: HistogramVec,
    pub(super) server_active: IntGaugeVec,
    pub(super) requests: IntCounterVec,
    pub(super) client_duration: HistogramVec,
    pub(super) added_latency: Histogram,
    pub(super) refusals: IntCounterVec,
    pub(super) streams_closed: IntCounterVec,
    pub(super) connections: IntGaugeVec,
    pub(super) connections_accepted: IntCounterVec,
    pub(super) connections_rejected: IntCounterVec,
    pub(super) connections_idle: IntCounterVec,
    pub(super) answers_unread: IntGauge,
    pub(super) tls_handshakes: IntCounterVec,
    pub(super) certificate_not_after: IntGaugeVec,
    pub(super) list_next_update: IntGaugeVec,
    pub(super) authn: IntCounterVec,
    pub(super) authz: IntCounterVec,
    pub(super) ratelimit_decisions: IntCounterVec,
    pub(super) ratelimit_keys: IntGaugeVec,
    pub(super) ratelimit_held: IntGaugeVec,
    pub(super) ratelimit_waiting: IntGauge,
    pub(super) ratelimit_delay: Histogram,
    pub(super) jwks_keys: IntGaugeVec,
    pub(super) jwks_last_success: IntGaugeVec,
    pub(super) csrf_denied: IntCounterVec,
    pub(super) endpoint_healthy: IntGaugeVec,
    pub(super) endpoint_ejected: IntGaugeVec,
    pub(super) endpoint_in_flight: IntGaugeVec,
    pub(super) upstream_checks: IntCounterVec,
    pub(super) upstream_ejections: IntCounterVec,
    pub(super) upstream_retries: IntCounterVec,
    pub(super) upstream_full: IntCounterVec,
    pub(super) upstream_limit: IntGaugeVec,
    pub(super) upstream_shed: IntCounterVec,
    pub(super) upstream_share_refused: IntCounterVec,
    pub(super) upstream_panicked: IntCounterVec,
    pub(super) upstream_unresolved: IntCounterVec,
    pub(super) cookies_hardened: IntCounter,
    pub(super) headers_stripped: IntCounterVec,
    pub(super) session_active: IntGauge,
    pub(super) api_key_stale: IntCounter,
    pub(super) session_events: IntCounterVec,
    pub(super) second_factors: IntCounterVec,
    pub(super) step_ups: IntCounterVec,
    pub(super) session_reuse: IntCounterVec,
    pub(super) audit_entries: IntCounterVec,
    pub(super) audit_folded: IntCounter,
    pub(super) audit_write_errors: IntCounter,
    pub(super) audit_backlog: IntGauge,
    pub(super) audit_last_checkpoint: IntGauge,
    pub(super) config_info: IntGaugeVec,
    pub(super) config_last_reload_successful: IntGauge,
    pub(super) config_last_reload: IntGauge,
    pub(super) config_last_good: IntGauge,
    pub(super) build_info: IntGaugeVec,
    pub(super) clock: Gauge,
    pub(super) panics: IntCounter,
    pub(super) log_lines_dropped: IntCounterVec,
    pub(super) trace_spans: IntCounterVec,
    pub(super) ratelimit_fallback: IntCounterVec,
    pub(super) ratelimit_busy: IntGaugeVec,
    pub(super) families_opened: IntCounter,
    pub(super) refreshes: IntCounterVec,
    pub(super) refresh_reuse: IntCounterVec,
    pub(super) proofs: IntCounterVec,
    pub(super) introspections: IntCounterVec,
    pub(super) app_sessions: IntCounterVec,
    pub(super) app_sessions_up: IntGaugeVec,
    pub(super) store_operations: IntCounterVec,
    pub(super) store_duration: HistogramVec,
    pub(super) store_up: IntGaugeVec,
    pub(super) store_replicas: IntGaugeVec,
    pub(super) revocations: IntGaugeVec,
    pub(super) revocation_propagation: Histogram,
    pub(super) revocation_staleness: Gauge,
    pub(super) revocation_stale: IntCounterVec,
    pub(super) revocation_orders: IntCounterVec,
    pub(super) signals: IntCounterVec,
    pub(super) state_operations: IntCounterVec,
    pub(super) state_duration: HistogramVec,
    pub(super) state_up: IntGaugeVec,
}

impl Families {
    /// Makes all families and registers them.
    pub(super) fn register(registry: &Registry) -> Result<Families, prometheus::Error> {
        let r = Registrar(registry);
        Ok(Families {
            server_duration: r.histograms(
                "http_server_request_duration_seconds",
                "Time from the request head to the end of the response.",
                &["http_route", "http_request_method", "status_class", "origin"],
            )?,
            server_active: r.gauges("http_server_active_requests", "Requests being served.", &["listener"])?,
            requests: r.counters("moat_http_requests_total", "Requests answered.", &["status_class", "origin"])?,
            client_duration: r.histograms(
                "http_client_request_duration_seconds",
                "Time from the request sent upstream to the head of the answer.",
                &["upstream", "status_class"],
            )?,
            added_latency: r.one(Histogram::with_opts(
                HistogramOpts::new(
                    "moat_added_latency_seconds",
                    "Time spent in the gateway, without waiting for the upstream.",
                )
                .buckets(ADDED_BUCKETS.to_vec()),
            )?)?,
            refusals: r.counters("moat_refusals_total", "Requests refused, by code.", &["code", "route"])?,
            streams_closed: r.counters(
                "moat_streams_closed_total",
                "Running answers and WebSockets ended by the gateway.",
                &["reason"],
            )?,
            connections: r.gauges("moat_connections", "Open connections.", &["listener", "state"])?,
            connections_accepted: r.counters(
                "moat_connections_accepted_total",
                "Connections taken; rejected ones are not among them.",
                &["listener"],
            )?,
            connections_rejected: r.counters(
                "moat_connections_rejected_total",
                "Connections closed before a request was read.",
                &["listener", "reason"],
            )?,
            connections_idle: r.counters(
                "moat_connections_idle_closed_total",
                "Connections closed because nothing came for `idle_timeout`.",
                &["listener"],
            )?,
            answers_unread: r.gauge("moat_unread_answers", "Answers that wait for their clients to take them.")?,
            tls_handshakes: r.counters(
                "moat_tls_handshakes_total",
                "TLS handshakes.",
                &["listener", "version", "group", "result"],
            )?,
            certificate_not_after: r.gauges(
                "moat_tls_certificate_not_after_seconds",
                "End of a certificate's validity, Unix time.",
                &["name"],
            )?,
            list_next_update: r.gauges(
                "moat_tls_revocation_list_next_update_seconds",
                "When the first revocation list of client certificates is out of date, Unix time.",
                &["name"],
            )?,
            authn: r.counters("moat_authn_total", "Credentials checked.", &["route", "method", "result", "reason"])?,
            authz: r.counters(
                "moat_authz_decisions_total",
                "Decisions over requests that found a route; shadow verdicts are counted beside the decision.",
                &["route", "tenant", "decision", "reason", "mode"],
            )?,
            ratelimit_decisions: r.counters(
                "moat_ratelimit_decisions_total",
                "Requests counted against a limit.",
                &["limit", "tenant", "decision", "mode"],
            )?,
            ratelimit_keys: r.gauges("moat_ratelimit_keys", "Keys that a limit holds in memory.", &["limit"])?,
            ratelimit_held: r.gauges(
                "moat_ratelimit_held",
                "Requests under way that count against the cap of a limit.",
                &["limit"],
            )?,
            ratelimit_waiting: r.gauge("moat_ratelimit_waiting", "Requests that wait for their turn.")?,
            ratelimit_delay: r.one(Histogram::with_opts(
                HistogramOpts::new("moat_ratelimit_delay_seconds", "Time that limits had requests wait.")
                    .buckets(DELAY_BUCKETS.to_vec()),
            )?)?,
            jwks_keys: r.gauges("moat_jwks_keys", "Usable keys of an issuer.", &["issuer"])?,
            jwks_last_success: r.gauges(
                "moat_jwks_last_success_timestamp_seconds",
                "When an issuer's keys were last obtained, Unix time.",
                &["issuer"],
            )?,
            endpoint_healthy: r.gauges(
                "moat_upstream_endpoint_healthy",
                "Whether the active checks of an endpoint are passed; 1 where there are none.",
                &["upstream", "endpoint"],
            )?,
            endpoint_ejected: r.gauges(
                "moat_upstream_endpoint_ejected",
                "Whether an endpoint is passed over because of what requests met.",
                &["upstream", "endpoint"],
            )?,
            endpoint_in_flight: r.gauges(
                "moat_upstream_endpoint_in_flight",
                "Requests under way to an endpoint.",
                &["upstream", "endpoint"],
            )?,
            upstream_checks: r.counters(
                "moat_upstream_health_checks_total",
                "Active health checks.",
                &["upstream", "result"],
            )?,
            upstream_ejections: r.counters(
                "moat_upstream_ejections_total",
                "Endpoints passed over because of what requests met.",
                &["upstream", "reason"],
            )?,
            upstream_retries: r.counters(
                "moat_upstream_retries_total",
                "Decisions over sending a request again.",
                &["upstream", "reason", "result"],
            )?,
            upstream_full: r.counters(
                "moat_upstream_circuit_open_total",
                "Requests refused because of `max_in_flight`.",
                &["upstream"],
            )?,
            upstream_limit: r.gauges(
                "moat_upstream_limit",
                "Requests that may be under way to an upstream.",
                &["upstream"],
            )?,
            upstream_shed: r.counters(
                "moat_upstream_shed_total",
                "Requests refused while the limit of an upstream is lowered.",
                &["upstream", "reason"],
            )?,
            upstream_share_refused: r.counters(
                "moat_upstream_share_refused_total",
                "Requests refused because a tenant holds its share of an upstream.",
                &["upstream", "tenant"],
            )?,
            upstream_panicked: r.counters(
                "moat_upstream_panic_total",
                "Requests sent while no endpoint was fit.",
                &["upstream"],
            )?,
            upstream_unresolved: r.counters(
                "moat_upstream_dns_failures_total",
                "Look-ups of endpoint names that led nowhere.",
                &["upstream"],
            )?,
            csrf_denied: r.counters(
                "moat_csrf_denied_total",
                "Requests without evidence of our own origin.",
                &["reason"],
            )?,
            cookies_hardened: r
                .counter("moat_cookies_hardened_total", "Cookies of applications that were hardened.")?,
            headers_stripped: r.counters(
                "moat_response_headers_stripped_total",
                "Headers of applications that were removed because the gateway decides about them.",
                &["kind"],
            )?,
            audit_entries: r.counters("moat_audit_entries_total", "Audit entries written.", &["class"])?,
            audit_folded: r.counter(
                "moat_audit_folded_requests_total",
                "Requests that share an audit entry with others of their kind.",
            )?,
            audit_write_errors: r.counter("moat_audit_write_errors_total", "Audit writes that failed.")?,
            audit_backlog: r.gauge("moat_audit_backlog", "Audit entries waiting for the writer.")?,
            audit_last_checkpoint: r.gauge(
                "moat_audit_last_checkpoint_timestamp_seconds",
                "When the last signed head was written, Unix time.",
            )?,
            config_info: r.gauges("moat_config_info", "The configuration in force; always 1.", &["hash", "version"])?,
            config_last_reload_successful: r.gauge(
                "moat_config_last_reload_successful",
                "Whether the last load of the configuration was accepted.",
            )?,
            config_last_reload: r.gauge(
                "moat_config_last_reload_timestamp_seconds",
                "When the configuration was last loaded or refused, Unix time.",
            )?,
            config_last_good: r.gauge(
                "moat_config_last_good_in_use",
                "Whether the last good bundle is in force in the place of files with problems.",
            )?,
            build_info: r.gauges("moat_build_info", "The running build; always 1.", &["version"])?,
            clock: r.one(Gauge::new("moat_clock_timestamp_seconds", "The clock of the process, Unix time.")?)?,
            panics: r.counter("moat_panics_total", "Tasks that panicked; each is a bug.")?,
            log_lines_dropped: r.counters(
                "moat_log_lines_dropped_total",
                "Log lines dropped because the reader of the log was too slow.",
                &["stream"],
            )?,
            trace_spans: r.counters("moat_trace_spans_total", "Spans of recorded traces.", &["result"])?,
            ratelimit_fallback: r.counters(
                "moat_ratelimit_fallback_total",
                "Requests that a shared limit decided without its store.",
                &["limit", "on_store_loss"],
            )?,
            ratelimit_busy: r.gauges(
                "moat_ratelimit_busy_keys",
                "Keys of a synced limit that replicas bring together.",
                &["limit"],
            )?,
            api_key_stale: r.counter(
                "moat_api_key_stale_total",
                "Requests with an API key that were served by what was read of it before.",
            )?,
            session_active: r.gauge(
                "moat_session_active",
                "Sessions of browsers that this process has in memory: those used within the last minute.",
            )?,
            session_events: r.counters(
                "moat_session_events_total",
                "What became of sessions of browsers.",
                &["event"],
            )?,
            second_factors: r.counters(
                "moat_second_factor_total",
                "Codes of authenticator apps that were shown.",
                &["result"],
            )?,
            step_ups: r.counters(
                "moat_step_up_total",
                "Authentications anew in sessions of browsers, at the provider or by a code of an app.",
                &["result"],
            )?,
            session_reuse: r.counters(
                "moat_session_reuse_total",
                "Sessions of browsers that ended because a replaced handle came back.",
                &["tenant"],
            )?,
            families_opened: r
                .counter("moat_session_families_opened_total", "Families of refresh tokens that were opened.")?,
            refreshes: r.counters(
                "moat_session_refresh_total",
                "Refresh tokens that were presented, by what came of it.",
                &["result"],
            )?,
            refresh_reuse: r.counters(
                "moat_session_refresh_reuse_total",
                "Refresh tokens that came back after they had been exchanged: each ended its family.",
                &["tenant"],
            )?,
            app_sessions: r.counters(
                "moat_app_session_lookups_total",
                "Sessions of applications that were looked up.",
                &["store", "result"],
            )?,
            app_sessions_up: r.gauges(
                "moat_app_session_store_up",
                "Whether a store of an application's sessions is of use.",
                &["store"],
            )?,
            introspections: r.counters(
                "moat_introspections_total",
                "Tokens that an issuer was asked about.",
                &["issuer", "result"],
            )?,
            proofs: r.counters("moat_dpop_proofs_total", "Proofs of possession that were presented.", &["result"])?,
            store_operations: r.counters(
                "moat_store_operations_total",
                "Calls of a shared store.",
                &["backend", "op", "result"],
            )?,
            store_duration: r.one(HistogramVec::new(
                HistogramOpts::new("moat_store_operation_duration_seconds", "Time that calls of a shared store took.")
                    .buckets(STORE_BUCKETS.to_vec()),
                &["backend", "op"],
            )?)?,
            store_up: r.gauges("moat_store_up", "Whether a shared store is of use.", &["backend"])?,
            store_replicas: r.gauges("moat_store_replicas", "Replicas that use a shared store.", &["backend"])?,
            revocations: r.gauges("moat_revocations", "Revocations that are remembered.", &["kind"])?,
            revocation_propagation: r.one(Histogram::with_opts(
                HistogramOpts::new(
                    "moat_revocation_propagation_seconds",
                    "Time from the order to end something until it was in force here.",
                )
                .buckets(PROPAGATION_BUCKETS.to_vec()),
            )?)?,
            revocation_staleness: r.one(Gauge::new(
                "moat_revocation_staleness_seconds",
                "Time since everything was known here that other replicas had ended.",
            )?)?,
            revocation_stale: r.counters(
                "moat_revocation_stale_requests_total",
                "Requests with a session while this replica was stale.",
                &["action"],
            )?,
            revocation_orders: r.counters(
                "moat_revocation_orders_total",
                "Orders to end something.",
                &["kind", "via", "result"],
            )?,
            signals: r.counters(
                "moat_signals_total",
                "Security events that issuers sent.",
                &["issuer", "event", "result"],
            )?,
            state_operations: r.counters(
                "moat_state_operations_total",
                "What was done with sessions and other state.",
                &["engine", "kind", "op", "result"],
            )?,
            state_duration: r.one(HistogramVec::new(
                HistogramOpts::new("moat_state_operation_duration_seconds", "Time that work on state took.")
                    .buckets(STORE_BUCKETS.to_vec()),
                &["engine", "op"],
            )?)?,
            state_up: r.gauges("moat_state_up", "Whether an engine of state is of use.", &["engine"])?,
        })
    }
}

struct Registrar<'a>(&'a Registry);

impl Registrar<'_> {
    fn one<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.one(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.one(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.one(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.one(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, prometheus::Error> {
        let opts = HistogramOpts::new(name, help).buckets(DURATION_BUCKETS.to_vec());
        self.one(HistogramVec::new(opts, labels)?)
    }
}
