//! Tests of the metrics.
use super::*;
use crate::serve::limits::Rejection;
use crate::serve::tls::Handshake;
use crate::store::state::{EngineName, Op};
use decide::deliberation::Verdict;
use decide::facts::{Carrier, LimitState, Reading, Stage, TlsFacts, Unit};
use decide::guards::{Guard, ORDER};
use decide::refusal::Code;
use decide::request::Method;
use decide::revocation::Scope;
use decide::rules::{KeyPart, Limit};
use std::collections::BTreeSet;
use std::time::Duration;

const OK: RequestOutcome<'static> = RequestOutcome {
    method: Some(Method::Get),
    status: 200,
    origin: Origin::Upstream,
    duration: Duration::from_millis(30),
    added: Duration::from_micros(40),
    tenant: Some("acme"),
    refusal: None,
    trail: &[],
    session: true,
    carrier: Some(Carrier::Bearer),
    site: None,
};

fn metrics() -> Metrics {
    Metrics::new(4).expect("names are distinct")
}

fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.render().expect("encodes")).expect("UTF-8")
}

/// Lines of these families, without `process_*`.
fn series(metrics: &Metrics, prefix: &str) -> Vec<String> {
    text(metrics).lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
}

fn passed() -> Vec<(Guard, Verdict)> {
    ORDER.into_iter().map(|guard| (guard, Verdict::Pass)).collect()
}

#[test]
fn an_allowed_request_is_counted_everywhere_it_should() {
    let metrics = metrics();
    let route = metrics.route("api");
    let trail = passed();
    route.observe(&RequestOutcome { trail: &trail, ..OK });
    route.observe(&RequestOutcome { trail: &trail, ..OK });
    let labels = r#"http_request_method="GET",http_route="api",origin="upstream",status_class="2xx""#;
    assert_eq!(
        series(&metrics, "http_server_request_duration_seconds_bucket").len(),
        15,
        "the 14 standard buckets and +Inf"
    );
    assert_eq!(
        series(&metrics, "http_server_request_duration_seconds_count"),
        [format!("http_server_request_duration_seconds_count{{{labels}}} 2")]
    );
    assert_eq!(
        series(&metrics, "moat_http_requests_total"),
        [r#"moat_http_requests_total{origin="upstream",status_class="2xx"} 2"#]
    );
    assert_eq!(
        series(&metrics, "moat_auth"),
        [
            r#"moat_authn_total{method="bearer",reason="none",result="ok",route="api"} 2"#,
            r#"moat_authz_decisions_total{decision="allow",mode="enforce",reason="none",route="api",tenant="acme"} 2"#
        ]
    );
    assert_eq!(series(&metrics, "moat_added_latency_seconds_count"), ["moat_added_latency_seconds_count 2"]);
}

#[test]
fn a_refusal_and_a_shadow_verdict_carry_their_codes() {
    let metrics = metrics();
    let route = metrics.route("api");
    let trail = [
        (Guard::Network, Verdict::Shadow(Code::NetworkDenied)),
        (Guard::Session, Verdict::Pass),
        (Guard::Csrf, Verdict::Refuse(Code::CsrfUnproven)),
    ];
    route.observe(&RequestOutcome {
        status: 403,
        origin: Origin::Gateway,
        refusal: Some(Code::CsrfUnproven),
        trail: &trail,
        carrier: Some(Carrier::Cookie),
        ..OK
    });
    assert_eq!(
        series(&metrics, "moat_authz"),
        [
            r#"moat_authz_decisions_total{decision="deny",mode="enforce",reason="csrf.unproven",route="api",tenant="acme"} 1"#,
            r#"moat_authz_decisions_total{decision="deny",mode="shadow",reason="network.denied",route="api",tenant="acme"} 1"#,
        ]
    );
    assert_eq!(series(&metrics, "moat_refusals"), [r#"moat_refusals_total{code="csrf.unproven",route="api"} 1"#]);
    assert_eq!(series(&metrics, "moat_csrf"), [r#"moat_csrf_denied_total{reason="no_evidence"} 1"#]);
}

#[test]
fn a_request_without_route_or_response_still_counts() {
    let metrics = metrics();
    let none = metrics.route("none");
    none.observe(&RequestOutcome {
        method: None,
        status: 0,
        origin: Origin::Gateway,
        refusal: Some(Code::RequestMalformed),
        tenant: None,
        session: false,
        carrier: None,
        ..OK
    });
    assert_eq!(
        series(&metrics, "moat_http_requests_total"),
        [r#"moat_http_requests_total{origin="gateway",status_class="none"} 1"#]
    );
    assert_eq!(series(&metrics, "moat_refusals"), [r#"moat_refusals_total{code="request.malformed",route="none"} 1"#]);
    assert!(series(&metrics, "moat_authz").is_empty(), "nothing was decided");
    assert!(text(&metrics).contains(r#"http_request_method="other",http_route="none""#));
}

#[test]
fn every_code_and_method_has_its_place() {
    let metrics = metrics();
    let route = metrics.route("api");
    for row in decide::refusal::TABLE {
        route.observe(&RequestOutcome { refusal: Some(row.code), ..OK });
        let line = format!("moat_refusals_total{{code=\"{}\",route=\"api\"}} 1", row.id);
        assert!(text(&metrics).contains(&line), "{line}");
    }
    for method in Method::ALL {
        route.observe(&RequestOutcome { method: Some(method), status: 999, ..OK });
        let labels = format!(
            "http_request_method=\"{}\",http_route=\"api\",origin=\"upstream\",status_class=\"5xx\"",
            method.as_str()
        );
        assert!(text(&metrics).contains(&labels), "{labels}");
    }
}

#[test]
fn limits_are_counted_by_tenant_decision_and_mode() {
    let metrics = metrics();
    let route = metrics.route("api");
    let limit = |name: &str, key, shadow| Arc::new(Limit { shadow, ..Limit::new(name, vec![key], vec![]) });
    let limits = [
        limit("ip", KeyPart::ClientPrefix, false),
        limit("tenant", KeyPart::Tenant, false),
        limit("trial", KeyPart::Tenant, true),
    ];
    let used_up = LimitState {
        name: "tenant".into(),
        unit: Unit::Requests,
        quota: 1,
        window_s: 1,
        remaining: 0,
        reset_s: 1,
        legacy: false,
    };
    let free = Reading::default();
    let reading = Reading { tightest: None, exceeded: Some(used_up), shadowed: vec!["trial".into()], delayed: None };
    route.quota(&limits, Stage::Address, &free, None);
    route.quota(&limits, Stage::Caller, &free, Some("acme"));
    route.quota(&limits, Stage::Caller, &reading, Some("acme"));
    let line = |limit, tenant, decision, mode| {
        format!(
            r#"moat_ratelimit_decisions_total{{decision="{decision}",limit="{limit}",mode="{mode}",tenant="{tenant}"}} 1"#
        )
    };
    assert_eq!(
        series(&metrics, "moat_ratelimit_decisions"),
        [
            line("ip", "none", "allow", "enforce"),
            line("tenant", "acme", "allow", "enforce"),
            line("trial", "acme", "allow", "shadow"),
            line("tenant", "acme", "deny", "enforce"),
            line("trial", "acme", "deny", "shadow"),
        ]
    );
}

#[test]
fn a_handle_of_a_new_snapshot_goes_on_with_the_same_series() {
    let metrics = metrics();
    metrics.route("api").observe(&OK);
    metrics.route("api").observe(&OK);
    assert_eq!(
        series(&metrics, "moat_http_requests_total"),
        [r#"moat_http_requests_total{origin="upstream",status_class="2xx"} 2"#]
    );
}

#[test]
fn what_lives_is_counted_down_again() {
    let metrics = metrics();
    let listener = metrics.listener("public");
    listener.connections(1);
    let request = listener.request();
    let open = r#"moat_connections{listener="public",state="open"}"#;
    assert!(text(&metrics).contains(&format!("{open} 1\n")));
    listener.connections(-1);
    drop(request);
    assert!(text(&metrics).contains(&format!("{open} 0\n")));
    assert!(text(&metrics).contains("http_server_active_requests{listener=\"public\"} 0\n"));
}

#[test]
fn what_clients_negotiate_becomes_no_label() {
    let metrics = metrics();
    let listener = metrics.listener("public");
    let done = |version: &str, group: &str, resumed| {
        let facts = TlsFacts { version: version.into(), group: group.into(), resumed, ..TlsFacts::default() };
        Handshake::Done(Arc::new(facts))
    };
    listener.handshake(&done("1.3", "X25519MLKEM768", false));
    listener.handshake(&done("1.4\"", "x25519-evil", true));
    listener.handshake(&Handshake::Timeout);
    assert_eq!(
        series(&metrics, "moat_tls_handshakes_total"),
        [
            r#"moat_tls_handshakes_total{group="X25519MLKEM768",listener="public",result="ok",version="1.3"} 1"#,
            r#"moat_tls_handshakes_total{group="none",listener="public",result="timeout",version="none"} 1"#,
            r#"moat_tls_handshakes_total{group="other",listener="public",result="resumed",version="none"} 1"#,
        ]
    );
}

#[test]
fn series_of_things_gone_disappear() {
    let metrics = metrics();
    metrics.certificates([("a".to_owned(), 10), ("b".to_owned(), 20)]);
    metrics.certificates([("b".to_owned(), 30)]);
    assert_eq!(series(&metrics, "moat_tls_certificate"), [r#"moat_tls_certificate_not_after_seconds{name="b"} 30"#]);
    metrics.revocation_lists([("a".to_owned(), 10), ("b".to_owned(), 20)]);
    metrics.revocation_lists([("b".to_owned(), 30)]);
    let lists = [r#"moat_tls_revocation_list_next_update_seconds{name="b"} 30"#];
    assert_eq!(series(&metrics, "moat_tls_revocation"), lists);
    metrics.config_loaded("aa", "1", 5);
    metrics.config_loaded("bb", "1", 6);
    assert_eq!(series(&metrics, "moat_config_info"), [r#"moat_config_info{hash="bb",version="1"} 1"#]);
    metrics.config_refused(7);
    assert_eq!(series(&metrics, "moat_config_last_reload_s"), ["moat_config_last_reload_successful 0"]);
}

#[test]
fn readers_run_before_every_scrape_and_totals_never_fall() {
    let metrics = metrics();
    metrics.before_scrape(|metrics| metrics.audit_state(3, 7, Some(9)));
    metrics.before_scrape(|metrics| metrics.audit_state(2, 8, None));
    let now = text(&metrics);
    for line in ["write_errors_total 3", "backlog 8", "last_checkpoint_timestamp_seconds 9"] {
        assert!(now.contains(&format!("moat_audit_{line}\n")), "{line}");
    }
}

/// Every family with its labels as a heading of the reference, each family touched once so that it shows.
fn headings() -> BTreeSet<String> {
    let metrics = metrics();
    let shadow = |guard, code| (guard, Verdict::Shadow(code));
    let trail = [shadow(Guard::Session, Code::SessionMissing), shadow(Guard::Csrf, Code::CsrfUnproven)];
    let route = metrics.route("r");
    route.observe(&RequestOutcome { trail: &trail, refusal: Some(Code::CsrfUnproven), ..OK });
    let limit = Limit::new("l", vec![], vec![]);
    route.quota(&[Arc::new(limit)], Stage::Address, &Reading::default(), None);
    let listener = metrics.listener("l");
    listener.rejected(Rejection::PerAddress);
    listener.handshake(&Handshake::Failed);
    metrics.upstream("u").observe(200, Duration::from_millis(1));
    metrics.upstreams(&[crate::serve::upstream::tests::example()]);
    metrics.certificates([("c".to_owned(), 1)]);
    metrics.revocation_lists([("l".to_owned(), 1)]);
    metrics.quota_keys([("l".into(), 1)]);
    metrics.quota_held([("l".into(), 1)], 0);
    metrics.quota_shared([("l".into(), decide::rules::StoreLoss::Local, 1)], [("l".into(), 1)]);
    metrics.store().called(crate::store::shared::Op::Take, "ok", Duration::from_millis(1));
    metrics.store().health(Some(&crate::store::shared::Health { up: true, trouble: None, replicas: 1 }));
    let state = metrics.state();
    state.count(EngineName::Embedded, None, Op::Append, "ok", Duration::from_millis(1));
    state.up([(EngineName::Embedded, true)].into_iter());
    metrics.revocations().ordered(Scope::Token, "admin", "ok");
    metrics.revocations_known(|_| 0, Duration::ZERO);
    metrics.signal("i", "other", "ok");
    metrics.issuer_keys("i", 1, Some(1));
    metrics.app_sessions("s", true, [("known", 1)].into_iter());
    metrics.introspections("i", [("known", 1)].into_iter());
    metrics.audit_entry("request");
    metrics.stream_closed(Code::TenantSuspended);
    metrics.config_loaded("h", "1", 1);
    metrics.traces();
    metrics.stream_closed(Code::SessionExpired);
    metrics.log_lines_dropped(Stream::Access, 0);
    let families = metrics.registry.gather();
    families
        .iter()
        .map(|family| {
            let metric = family.get_metric().first().expect("touched");
            let mut labels: Vec<&str> = metric.get_label().iter().map(|label| label.name()).collect();
            labels.sort_unstable();
            let kind = format!("{:?}", family.get_field_type()).to_lowercase();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            format!("{}{labels}` {kind}", family.name())
        })
        .collect()
}

/// The headings of `docs/metrics.md`, labels sorted.
fn documented() -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let reference = std::fs::read_to_string(path).expect("docs/metrics.md");
    let sorted = |heading: &str| match heading.split_once('{').zip(heading.split_once('}')) {
        Some(((name, rest), (_, kind))) => {
            let mut labels: Vec<&str> = rest.split('}').next().expect("closed").split(',').collect();
            labels.sort_unstable();
            format!("{name}{{{}}}{kind}", labels.join(","))
        }
        None => heading.to_owned(),
    };
    reference.lines().filter_map(|line| line.strip_prefix("### `")).map(sorted).collect()
}

#[test]
fn the_reference_lists_every_metric_with_labels_and_type_and_no_other() {
    let (is, told) = (headings(), documented());
    let missing: Vec<_> = is.difference(&told).collect();
    let stale: Vec<_> = told.difference(&is).collect();
    assert!(missing.is_empty() && stale.is_empty(), "not in docs/metrics.md: {missing:#?}; only there: {stale:#?}");
}
