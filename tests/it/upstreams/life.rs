//! How endpoints come and go under requests: checks, ejection, bounds, retries, zones of time.
use super::{bundle, cause, metric};
use crate::harness::secure::App;
use crate::harness::{Gateway, Scripted, read_head};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

const PAGE: &str = "https://acme.localhost/page";

fn endpoints(apps: &[&App]) -> String {
    apps.iter().map(|app| format!("\"{}\"", app.address)).collect::<Vec<_>>().join(", ")
}

/// Which applications answer, over some requests.
async fn answering(gateway: &Gateway, requests: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..requests {
        let reply = gateway.get(PAGE).send().await;
        assert_eq!(reply.status, 200, "{reply:?}");
        names.push(reply.text());
    }
    names.sort();
    names.dedup();
    names
}

#[tokio::test]
async fn a_killed_endpoint_is_noticed_by_its_checks_and_a_revived_one_is_used_again() {
    let (one, two) = (App::start("one", None).await, App::start("two", None).await);
    let gateway = Gateway::start(bundle(&format!(
        "    endpoints: [{}]\n    load_balance: round_robin\n    health: {{path: /healthz, every: 400ms, timeout: 400ms, unhealthy_after: 2, healthy_after: 1}}",
        endpoints(&[&one, &two])
    )))
    .await;
    let address = two.address;
    let healthy = format!("moat_upstream_endpoint_healthy{{endpoint=\"{address}\",upstream=\"app\"}}");
    let healthy = healthy.as_str();
    gateway.until("both answer", async |g: &Gateway| answering(g, 6).await == ["one", "two"]).await;
    let address = two.stop().await;
    gateway.until("it is not well", async |g: &Gateway| metric(g, healthy).await == Some(0.0)).await;
    assert_eq!(answering(&gateway, 6).await, ["one"]);
    let ready = gateway.admin("/readyz?verbose").await;
    assert_eq!(ready.status, 200, "what an application does is no fault of ours");
    assert!(ready.text().contains("upstreams ok: app 1/2 fit"), "{}", ready.text());
    let _two = App::at(address, "two", None).await;
    gateway.until("it is well again", async |g: &Gateway| metric(g, healthy).await == Some(1.0)).await;
    gateway.until("both answer again", async |g: &Gateway| answering(g, 6).await == ["one", "two"]).await;
    assert!(
        metric(&gateway, "moat_upstream_health_checks_total{result=\"failed\",upstream=\"app\"}").await >= Some(2.0)
    );
}

#[tokio::test]
async fn when_no_endpoint_is_well_all_are_tried() {
    let app = App::start("still here", None).await;
    let gateway = Gateway::start(bundle(&format!(
        "    endpoints: [{}]\n    health: {{path: /status/500, every: 400ms, timeout: 400ms, unhealthy_after: 1}}",
        endpoints(&[&app])
    )))
    .await;
    let healthy = format!("moat_upstream_endpoint_healthy{{endpoint=\"{}\",upstream=\"app\"}}", app.address);
    gateway.until("it is not well", async |g: &Gateway| metric(g, &healthy).await == Some(0.0)).await;
    assert_eq!(answering(&gateway, 3).await, ["still here"]);
    assert!(metric(&gateway, "moat_upstream_panic_total{upstream=\"app\"}").await >= Some(3.0));
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_costs_no_request_and_returns() {
    let (one, two) = (App::start("one", None).await, App::start("two", None).await);
    let gateway = Gateway::start(bundle(&format!(
        "    endpoints: [{}]\n    load_balance: round_robin\n    outlier: {{eject_for: 100ms}}",
        endpoints(&[&one, &two])
    )))
    .await;
    assert_eq!(answering(&gateway, 6).await, ["one", "two"]);
    let address = two.stop().await;
    // State-changing requests too: nothing of them was sent.
    let token = gateway.token("acme", &["cashier"]);
    for _ in 0..6 {
        let reply = gateway.post("https://acme.localhost/api/bookings", "{}").bearer(&token).send().await;
        assert_eq!(reply.text(), "one", "{reply:?}");
    }
    assert!(metric(&gateway, "moat_upstream_ejections_total{reason=\"connect\",upstream=\"app\"}").await >= Some(1.0));
    let retried = "moat_upstream_retries_total{reason=\"connect_failure\",result=\"retried\",upstream=\"app\"}";
    assert!(metric(&gateway, retried).await >= Some(1.0));
    let _two = App::at(address, "two", None).await;
    gateway.until("it is used again", async |g: &Gateway| answering(g, 4).await == ["one", "two"]).await;
}

#[tokio::test]
async fn an_endpoint_that_fails_in_a_row_is_ejected() {
    let bad = Scripted::start(|_, mut stream| async move {
        while read_head(&mut stream).await.starts_with("GET") {
            let _ = stream.write_all(b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nbad").await;
        }
    })
    .await;
    let good = App::start("good", None).await;
    let gateway = Gateway::start(bundle(&format!(
        "    endpoints: [\"{}\", \"{}\"]\n    load_balance: round_robin\n    outlier: {{consecutive_5xx: 3, eject_for: 1h}}",
        bad.address, good.address
    )))
    .await;
    let mut failures = 0;
    for _ in 0..20 {
        failures += usize::from(gateway.get(PAGE).send().await.status == 500);
    }
    assert_eq!(failures, 3);
    let ejected = format!("moat_upstream_endpoint_ejected{{endpoint=\"{}\",upstream=\"app\"}}", bad.address);
    assert_eq!(metric(&gateway, &ejected).await, Some(1.0));
}

#[tokio::test]
async fn beyond_max_in_flight_requests_are_refused_at_once_and_told_when_to_come_back() {
    let (arrived, mut has_arrived) = tokio::sync::mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let app = {
        let release = release.clone();
        Scripted::start(move |_, mut stream| {
            let (arrived, release) = (arrived.clone(), release.clone());
            async move {
                read_head(&mut stream).await;
                arrived.send(()).unwrap();
                release.notified().await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
            }
        })
        .await
    };
    let gateway = Arc::new(
        Gateway::start(bundle(&format!(
            "    endpoints: [\"{}\"]\n    max_in_flight: 2\n    http: {{first_byte_timeout: 15s}}",
            app.address
        )))
        .await,
    );
    let held: Vec<_> = (0..2)
        .map(|_| {
            let gateway = gateway.clone();
            tokio::spawn(async move { gateway.get(PAGE).send().await.status })
        })
        .collect();
    for _ in 0..2 {
        has_arrived.recv().await.unwrap();
    }
    for h2 in [false, true] {
        let call = gateway.get("https://acme.localhost/one-more");
        let reply = if h2 { call.h2() } else { call }.send().await;
        assert_eq!(reply.verdict(), "503 gateway.unavailable");
        assert_eq!(reply.header("retry-after").as_deref(), Some("1"));
    }
    assert!(cause(&gateway, "/one-more").await.contains("max_in_flight"));
    assert_eq!(metric(&gateway, "moat_upstream_circuit_open_total{upstream=\"app\"}").await, Some(2.0));
    assert_eq!(app.connections(), 2);
    release.notify_one();
    release.notify_one();
    for request in held {
        assert_eq!(request.await.unwrap(), 200);
    }
    let again = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.get(PAGE).send().await.status }
    });
    has_arrived.recv().await.unwrap();
    release.notify_one();
    assert_eq!(again.await.unwrap(), 200, "the places come back");
}

#[tokio::test]
async fn a_request_that_may_have_had_an_effect_is_never_sent_again() {
    // Takes the request and breaks off without an answer.
    let broken = Scripted::start(|_, mut stream| async move {
        read_head(&mut stream).await;
    })
    .await;
    let good = App::start("good", None).await;
    let upstream = |on: &str| {
        format!(
            "    endpoints: [{{address: \"{}\", weight: 100}}, \"{}\"]\n    load_balance: round_robin\n    retry: {{on: {on}, attempts: 2}}",
            broken.address, good.address
        )
    };
    let gateway = Gateway::start(bundle(&upstream("[reset]"))).await;
    let token = gateway.token("acme", &["cashier"]);
    let before = broken.connections();
    let reply = gateway.get(PAGE).send().await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "good"), "GET has no effect");
    let posted = gateway.post("https://acme.localhost/api/bookings", "{}").bearer(&token).send().await;
    assert_eq!(posted.verdict(), "502 upstream.unreachable");
    assert_eq!(broken.connections(), before + 2);
    assert_eq!(good.requests(), ["HTTP/1.1 /page"]);
    let refused = "moat_upstream_retries_total{reason=\"reset\",result=\"unsafe\",upstream=\"app\"}";
    assert_eq!(metric(&gateway, refused).await, Some(1.0));

    let gateway = Gateway::start(bundle(&upstream("[]"))).await;
    assert_eq!(gateway.get(PAGE).send().await.verdict(), "502 upstream.unreachable", "nothing is configured");
}

#[tokio::test]
async fn a_route_has_timeouts_of_its_own() {
    let app = Scripted::start(|_, mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let bundle = bundle(&format!("    endpoints: [\"{}\"]\n    http: {{first_byte_timeout: 1h}}", app.address));
    bundle.route(
        "  quick:\n    match: {hosts: [\"*.localhost\"], paths: [/quick], methods: [GET]}\n    upstream: app\n    public: \"a test\"\n    timeouts: {first_byte: 100ms}",
    );
    let gateway = Gateway::start(bundle).await;
    for h2 in [false, true] {
        let call = gateway.get("https://acme.localhost/quick");
        assert_eq!(if h2 { call.h2() } else { call }.send().await.verdict(), "504 upstream.timeout", "h2: {h2}");
    }
}

#[tokio::test]
async fn a_tenant_s_requests_go_to_its_region_and_nowhere_else() {
    let (eu, us) = (App::start("eu", None).await, App::start("us", None).await);
    let bundle = bundle(&format!(
        "    labels: {{region: eu}}\n    endpoints: [\"{}\"]\n  app-us:\n    labels: {{region: us}}\n    endpoints: [\"{}\"]",
        eu.address, us.address
    ));
    bundle.replace("  acme: {class: standard}", "  acme: {class: standard, residency: eu}");
    bundle.replace("  globex: {class: standard}", "  globex: {class: standard, residency: us}");
    let text = bundle
        .read("gateway.yaml")
        .replace("    upstream: app\n", "    upstream: {eu: app, us: app-us, default: app}\n");
    bundle.write("gateway.yaml", &text);
    bundle.route(
        "  only-us:\n    match: {hosts: [\"*.localhost\"], paths: [/only-us], methods: [GET]}\n    upstream: {us: app-us}\n    public: \"a test\"",
    );
    let gateway = Gateway::start(bundle).await;
    for (tenant, expected) in [("acme", "eu"), ("globex", "us")] {
        let reply = gateway.get(&format!("https://{tenant}.localhost/page")).send().await;
        assert_eq!(reply.text(), expected, "{tenant}");
    }
    assert_eq!(gateway.get("https://globex.localhost/only-us").send().await.text(), "us");
    let refused = gateway.get("https://acme.localhost/only-us").send().await;
    assert_eq!(refused.verdict(), "403 access.denied");
    let entry =
        gateway.audit_entry(|entry| entry["facts"]["path"] == "/only-us" && entry["facts"]["tenant"] == "acme").await;
    assert!(entry["trail"].to_string().contains(r#"["residency","refuse:access.denied"]"#), "{entry:#}");
    assert_eq!(us.requests().len(), 2, "nothing of it left the region");
    let explained = crate::harness::moat(gateway.bundle.root(), &["explain", "GET", "https://acme.localhost/only-us"]);
    assert!(explained.stdout.contains("residency      refuse with access.denied"), "{}", explained.stdout);
    assert!(explained.stdout.contains("stays in `eu`"), "{}", explained.stdout);
    // One upstream for all cannot be right for both.
    gateway.bundle.route(
        "  wrong:\n    match: {hosts: [\"*.localhost\"], paths: [/wrong], methods: [GET]}\n    upstream: app\n    public: \"a test\"",
    );
    let checked = crate::harness::moat(gateway.bundle.root(), &["check"]);
    assert_eq!(checked.code, Some(78), "{}", checked.stderr);
    let told = format!("{}{}", checked.stdout, checked.stderr);
    assert!(
        told.contains("the data of tenant `globex` stays in `us`, and route `wrong` leads to upstream `app`"),
        "{told}"
    );
}
