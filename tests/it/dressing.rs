//! The hardening headers are on every response, whoever made it.
use crate::harness::{Bundle, Gateway, Reply, Upstream, with};
use http::Response;
use http_body_util::Full;

const ALWAYS: [(&str, &str); 2] =
    [("strict-transport-security", "max-age=31536000; includeSubDomains"), ("x-content-type-options", "nosniff")];

fn dressed(what: &str, reply: &Reply) {
    for (name, value) in ALWAYS {
        assert_eq!(reply.header(name).as_deref(), Some(value), "{name} on {what}: {reply:?}");
    }
    let referrer = reply.header("referrer-policy").unwrap_or_default();
    assert!(["no-referrer", "strict-origin-when-cross-origin"].contains(&&*referrer), "{what}: {reply:?}");
    assert!(reply.header("permissions-policy").is_some(), "{what}: {reply:?}");
    assert!(reply.header("content-security-policy").is_some(), "{what}: {reply:?}");
    assert!(reply.header("x-request-id").is_some(), "{what}: {reply:?}");
    for leak in ["server", "x-powered-by", "via"] {
        assert_eq!(reply.header(leak), None, "{what}");
    }
}

/// Answers with the status in the path: `/status/304`.
async fn upstream() -> Upstream {
    Upstream::answering(|seen| {
        let status: u16 = seen.target.rsplit('/').next().and_then(|text| text.parse().ok()).unwrap_or(200);
        let body = if matches!(status, 204 | 304) { "" } else { "body" };
        Response::builder()
            .status(status)
            .header("server", "App/1.0")
            .header("x-powered-by", "x")
            .header("via", "1.1 app")
            .header("location", "https://acme.localhost/elsewhere")
            // Weaker than the profile's own, and doubled: one value, ours, must remain.
            .header("strict-transport-security", "max-age=0")
            .header("x-content-type-options", "none")
            .header("x-content-type-options", "none")
            .body(Full::from(body))
            .unwrap()
    })
    .await
}

#[tokio::test]
async fn on_every_status_of_the_application_over_both_protocols() {
    let upstream = upstream().await;
    let gateway = Gateway::start(Bundle::standard(upstream.address)).await;
    for status in [200, 204, 301, 304, 404, 500, 503] {
        let url = format!("https://acme.localhost/status/{status}");
        for h2 in [false, true] {
            let call = gateway.get(&url);
            let reply = if h2 { call.h2() } else { call }.send().await;
            assert_eq!(reply.status, status);
            dressed(&format!("{status}, h2: {h2}"), &reply);
        }
        dressed("HEAD", &gateway.call("HEAD", &url).send().await);
    }
}

#[tokio::test]
async fn on_refusals_failures_and_the_gateways_own_pages() {
    let (gateway, upstream) = with(|_| ()).await;
    for (what, url) in [
        ("401", "https://acme.localhost/api/bookings"),
        ("404", "https://nobody.localhost/api/bookings"),
        ("400", "https://acme.localhost/a%00b"),
        ("own", "https://acme.localhost/.moat/jwks.json"),
    ] {
        dressed(what, &gateway.get(url).send().await);
        dressed(what, &gateway.get(url).h2().send().await);
    }
    drop(upstream);
    let reply = gateway.get("https://acme.localhost/").send().await;
    assert!(matches!(reply.status, 502 | 504), "{reply:?}");
    dressed("a dead application", &reply);
}

#[tokio::test]
async fn the_nonce_of_the_policy_is_the_one_the_application_was_given_and_never_twice_the_same() {
    let (gateway, upstream) = with(|_| ()).await;
    let mut nonces = Vec::new();
    for _ in 0..2 {
        let reply = gateway.get("https://acme.localhost/").send().await;
        let nonce = upstream.last().header("x-csp-nonce").expect("a nonce");
        assert!(nonce.len() >= 22, "at least 128 bits: {nonce}");
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.contains(&format!("'nonce-{nonce}'")), "{policy}");
        nonces.push(nonce);
    }
    assert_ne!(nonces[0], nonces[1]);
}

#[tokio::test]
async fn the_plaintext_listener_redirects_what_is_safe_and_says_nothing_of_hsts() {
    let (gateway, upstream) = with(|_| ()).await;
    let reply = gateway.get("http://acme.localhost/page?x=1").send().await;
    assert_eq!(reply.status, 308);
    assert!(reply.header("location").unwrap().starts_with("https://acme.localhost"), "{reply:?}");
    assert!(reply.header("location").unwrap().ends_with("/page?x=1"), "{reply:?}");
    // RFC 6797, 7.2: not over plain HTTP.
    assert_eq!(reply.header("strict-transport-security"), None);
    assert_eq!(gateway.post("http://acme.localhost/page", "{}").send().await.verdict(), "403 request.plaintext");
    assert!(upstream.seen().is_empty());
}
