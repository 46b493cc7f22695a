//! Every refusal code, provoked through a socket; and the shape that all of them share.
use crate::harness::{Bundle, Gateway, Token, Upstream, with};
use decide::refusal::TABLE;
use http::Response;
use http_body_util::Full;
use std::collections::BTreeSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BOOKINGS: &str = "https://acme.localhost/api/bookings";

/// Changes to the standard bundle that some refusals need: a dead and a mute application, an issuer without keys, a
/// small quota.
async fn gateway() -> (Gateway, Upstream) {
    // Bound and never accepted: connections succeed, answers never come.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let found = with(|bundle: &mut Bundle| {
        bundle.replace(
            "upstreams:\n",
            &format!(
                "upstreams:\n  dead: {{endpoints: [\"{dead}\"]}}\n  mute: {{endpoints: [\"{}\"], http: {{first_byte_timeout: 300ms}}}}\n",
                mute.local_addr().unwrap()
            ),
        );
        bundle.replace(
            "issuers:\n",
            "issuers:\n  silent: {issuer: \"https://silent.test/\", audiences: [x], algorithms: [ES256], token_types: [at+jwt], claims: {tenant: org_id, roles: roles}, jwks: {url: \"https://127.0.0.1:1/jwks\"}}\n",
        );
        for (name, rest) in [
            ("dead", "upstream: dead\n    public: \"a test\""),
            ("mute", "upstream: mute\n    public: \"a test\""),
            ("silent", "upstream: app\n    auth: {bearer: silent}\n    require: {session: any}"),
        ] {
            bundle.route(&format!(
                "  {name}:\n    match: {{hosts: [\"*.localhost\"], paths: [/{name}], methods: [GET]}}\n    headers: api-json\n    {rest}"
            ));
        }
    })
    .await;
    // The mute application lives as long as the process of the tests.
    std::mem::forget(mute);
    found
}

#[tokio::test]
async fn every_code_can_be_provoked_through_a_socket() {
    let (gateway, upstream) = gateway().await;
    let g = &gateway;
    let key = &g.bundle.key;
    let cashier = g.token("acme", &["cashier"]);
    let finance = Token::of("acme", &["finance"]);
    let expired = Token::of("acme", &["cashier"]).expired().signed(key);
    let silent = Token::of("acme", &[]).claim("iss", "https://silent.test/").claim("aud", "x").signed(key);
    for _ in 0..3 {
        assert_eq!(g.get("https://acme.localhost/api/limited").bearer(&cashier).send().await.verdict(), "200");
    }
    let before = upstream.seen().len();
    let booking = |body: &str| g.post(BOOKINGS, body).bearer(&cashier);
    let cookie = || g.post(BOOKINGS, "{}").header("cookie", &format!("__Host-nl={cashier}"));
    let large = "x".repeat(70 * 1024);

    let mut found = BTreeSet::new();
    for (call, verdict) in [
        (g.get("https://acme.localhost/a%2fb"), "400 request.ambiguous"),
        (g.post("http://acme.localhost/api/bookings", "{}"), "403 request.plaintext"),
        (g.get("https://acme.localhost/").header("host", "globex.example"), "421 request.misdirected"),
        (booking(&large), "413 request.too-large"),
        (g.call("DELETE", "https://acme.localhost/api/nothing"), "405 method.not-allowed"),
        (g.get("https://localhost/api/bookings"), "404 route.unknown"),
        (
            g.get("https://umbrella.localhost/api/bookings").bearer(&g.token("umbrella", &["cashier"])),
            "403 network.denied",
        ),
        (g.get("https://acme.localhost/api/limited").bearer(&cashier), "429 quota.exceeded"),
        (g.get(BOOKINGS), "401 session.missing"),
        (g.get(BOOKINGS).bearer("not-a-token"), "401 session.invalid"),
        (g.get(BOOKINGS).bearer(&expired), "401 session.expired"),
        (
            g.post("https://acme.localhost/api/refunds", "{}").bearer(&finance.clone().auth_age(3600).signed(key)),
            "401 session.step-up",
        ),
        (g.get("https://nobody.localhost/api/bookings").bearer(&cashier), "404 tenant.unknown"),
        (
            g.get("https://initech.localhost/api/bookings").bearer(&g.token("initech", &["cashier"])),
            "403 tenant.suspended",
        ),
        (g.get("https://globex.localhost/api/bookings").bearer(&cashier), "403 tenant.mismatch"),
        (cookie(), "403 csrf.unproven"),
        (cookie().header("sec-fetch-site", "cross-site"), "403 csrf.unproven"),
        (g.post(BOOKINGS, "{}").bearer(&g.token("acme", &["viewer"])), "403 access.denied"),
        (
            g.call("POST", BOOKINGS).header("content-type", "text/plain").body("{}").bearer(&cashier),
            "415 body.unsupported",
        ),
        (g.get("https://acme.localhost/silent").bearer(&silent), "503 gateway.unavailable"),
        (g.get("https://acme.localhost/dead"), "502 upstream.unreachable"),
        (g.get("https://acme.localhost/mute"), "504 upstream.timeout"),
    ] {
        let reply = call.send().await;
        assert_eq!(reply.verdict(), verdict, "{reply:?}");
        let body = reply.json();
        assert_eq!(body["status"], reply.status, "{body}");
        assert!(body["title"].is_string() && body["type"].is_string(), "{body}");
        assert_eq!(reply.header("server"), None);
        assert_eq!(reply.header("x-content-type-options").as_deref(), Some("nosniff"), "{verdict}");
        assert!(reply.header("cache-control").is_some_and(|value| value.contains("no-store")), "{reply:?}");
        found.insert(verdict.split_once(' ').unwrap().1.to_owned());
    }
    assert_eq!(upstream.seen().len(), before, "a refused request reached the application: {:?}", upstream.last());

    for (bytes, code) in [
        ("GET / HTTP/1.1\nHost: acme.localhost\n\n", "request.malformed"),
        ("GET / HTTP/1.1\r\nHost: acme.localhost\r\n", "request.timeout"),
    ] {
        let answer = g.raw("acme.localhost", bytes.as_bytes()).await;
        assert!(answer.contains(&format!("\"{code}\"")), "{answer}");
        assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
        found.insert(code.to_owned());
    }
    let all: BTreeSet<String> = TABLE.iter().map(|row| row.id.to_owned()).collect();
    assert_eq!(found, all);
}

#[tokio::test]
async fn a_refusal_tells_a_browser_in_html_and_everybody_its_request_id() {
    let (gateway, _upstream) = with(|_| ()).await;
    let url = "https://acme.localhost/api/bookings";
    let json = gateway.get(url).send().await;
    assert_eq!(json.header("content-type").as_deref(), Some("application/problem+json"));
    let id = json.header("x-request-id").unwrap();
    assert_eq!(json.json()["instance"], format!("urn:uuid:{id}"), "{}", json.text());
    let html = gateway.get(url).header("accept", "text/html,application/xhtml+xml,*/*;q=0.8").send().await;
    assert_eq!((html.status, html.header("content-type").unwrap().starts_with("text/html")), (401, true), "{html:?}");
    assert!(html.text().contains("session.missing"), "{}", html.text());
}

#[tokio::test]
async fn challenges_say_what_would_help() {
    let (gateway, _upstream) = with(|_| ()).await;
    let challenge =
        async |call: crate::harness::Call<'_>| call.send().await.header("www-authenticate").unwrap_or_default();
    let bookings = || gateway.get("https://acme.localhost/api/bookings");
    let missing = challenge(bookings()).await;
    assert!(missing.starts_with("Bearer") && !missing.contains("error="), "{missing}");
    let invalid = challenge(bookings().bearer("x.y.z")).await;
    assert!(invalid.contains("error=\"invalid_token\""), "{invalid}");
    let old = Token::of("acme", &["finance"]).auth_age(3600).signed(&gateway.bundle.key);
    let step_up = challenge(gateway.post("https://acme.localhost/api/refunds", "{}").bearer(&old)).await;
    assert!(
        step_up.contains("error=\"insufficient_user_authentication\"") && step_up.contains("max_age=\"900\""),
        "{step_up}"
    );
}

#[tokio::test]
async fn a_limit_says_when_to_come_back() {
    let (gateway, _upstream) = with(|_| ()).await;
    let token = gateway.token("acme", &["viewer"]);
    let call = async || gateway.get("https://acme.localhost/api/limited").bearer(&token).send().await;
    let first = call().await;
    assert_eq!(
        (first.status, first.header("ratelimit").is_some(), first.header("ratelimit-policy").is_some()),
        (200, true, true),
        "{first:?}"
    );
    let mut last = first;
    for _ in 0..3 {
        last = call().await;
    }
    assert_eq!(last.verdict(), "429 quota.exceeded");
    let wait: u32 = last.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&wait), "{wait}");
    let other = gateway.token("globex", &["viewer"]);
    let reply = gateway.get("https://globex.localhost/api/limited").bearer(&other).send().await;
    assert_eq!(reply.status, 200, "another tenant's user has a quota of its own");
}

#[tokio::test]
async fn an_application_may_answer_as_it_likes_but_not_leak() {
    let upstream = Upstream::answering(|_| {
        Response::builder()
            .status(418)
            .header("server", "App/1.0")
            .header("x-powered-by", "Framework")
            .header("set-cookie", "basket=1; Path=/")
            .body(Full::from("teapot"))
            .unwrap()
    })
    .await;
    let gateway = Gateway::start(Bundle::standard(upstream.address)).await;
    let reply = gateway.get("https://acme.localhost/").send().await;
    assert_eq!((reply.status, reply.text().as_str()), (418, "teapot"));
    assert_eq!((reply.header("server"), reply.header("x-powered-by")), (None, None));
    let cookie = reply.header("set-cookie").unwrap();
    for attribute in ["Secure", "HttpOnly", "SameSite=Lax"] {
        assert!(cookie.contains(attribute), "{attribute} in {cookie}");
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_is_closed_after_bytes_that_cannot_be_trusted() {
    let (gateway, _upstream) = with(|_| ()).await;
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    let mut buffer = vec![0; 64 * 1024];
    for _ in 0..3 {
        stream.write_all(b"GET /page HTTP/1.1\r\nHost: acme.localhost\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with("GET /page\n") && !answer.ends_with("GET /page\n\r\n0\r\n\r\n") {
            let count = stream.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "closed after {answer}");
            answer.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let answer = gateway
        .raw(
            "acme.localhost",
            b"POST / HTTP/1.1\r\nHost: acme.localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /page HTTP/1.1\r\nHost: acme.localhost\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}
