//! The shape of refusals: what they tell a browser, what would help, when to come back, and what they do to the connection.
use crate::harness::{Bundle, Gateway, Token, Upstream, standard, with};
use http::Response;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

/// RFC 9470 has no word for methods: the answer says that the authentication does not do, and what else is asked of it.
#[tokio::test]
async fn a_method_that_is_missing_has_no_parameter_in_the_challenge() {
    let (gateway, _upstream) = with(|bundle| {
        bundle.replace("recent-mfa: {max_age: 15m}", "recent-mfa: {max_age: 15m, acr: [mfa], amr: [otp]}");
    })
    .await;
    let refund = async |amr: serde_json::Value| {
        let token = Token::of("acme", &["finance"]).claim("acr", "mfa").claim("amr", amr).auth_age(1);
        let token = token.signed(&gateway.bundle.key);
        gateway.post("https://acme.localhost/api/refunds", "{}").bearer(&token).send().await
    };
    assert_eq!(refund(serde_json::json!(["pwd", "otp"])).await.verdict(), "200");
    let reply = refund(serde_json::json!(["pwd", "mfa"])).await;
    assert_eq!(reply.verdict(), "401 session.step-up");
    assert_eq!(
        reply.header("www-authenticate").as_deref(),
        Some(
            "Bearer error=\"insufficient_user_authentication\", error_description=\"A fresh authentication is required\", \
             acr_values=\"mfa\", max_age=\"900\""
        )
    );
    let entry = gateway.audit_entry(|entry| entry["verdict"] == "session.step-up").await;
    assert_eq!(entry["cause"], "step-up `recent-mfa`: the authentication did not use `otp`", "{entry}");
}

/// One challenge for each scheme that the route takes (RFC 9110, 11.6.1), each on a line of its own.
#[tokio::test]
async fn a_challenge_names_each_way_in() {
    let (gateway, _upstream) = with(|bundle| {
        for (name, auth) in [
            ("key", "api_key: {header: x-machine, prefix: nlk_, keys: {file: keys.yaml}}"),
            ("cookie", "cookie: {name: __Host-nl, issuer: workforce}"),
            ("proof", "any_of: [{dpop: workforce}, {bearer: workforce}, {cookie: {name: __Host-nl, issuer: workforce}}]"),
            ("both", "any_of: [{api_key: {header: x-machine, prefix: nlk_, keys: {file: keys.yaml}}}, {bearer: workforce}]"),
        ] {
            bundle.route(&format!(
                "  {name}:\n    match: {{hosts: [\"*.localhost\"], paths: [/way/{name}], methods: [GET]}}\n    upstream: app\n    headers: api-json\n    auth: {{{auth}}}\n    require: {{session: any}}"
            ));
        }
        bundle.write("keys.yaml", "version: 1\nkeys: {}\n");
        bundle.replace("sessions:\n", "sessions:\n  dpop: {algorithms: [EdDSA, ES256]}\n");
    })
    .await;
    let algorithms = "algs=\"EdDSA ES256\"";
    for (path, header, value, expected) in [
        ("key", "accept", "*/*", "ApiKey header=\"x-machine\"".to_owned()),
        ("key", "x-machine", "nlk_no", "ApiKey error=\"invalid_token\", header=\"x-machine\"".to_owned()),
        ("key", "authorization", "Bearer x.y.z", "ApiKey header=\"x-machine\"".to_owned()),
        ("cookie", "accept", "*/*", "Cookie cookie-name=\"__Host-nl\"".to_owned()),
        ("cookie", "cookie", "__Host-nl=x.y.z", "Cookie cookie-name=\"__Host-nl\"".to_owned()),
        ("proof", "accept", "*/*", format!("Bearer|DPoP {algorithms}")),
        ("proof", "authorization", "Bearer x.y.z", format!("Bearer error=\"invalid_token\"|DPoP {algorithms}")),
        ("proof", "authorization", "DPoP x.y.z", format!("Bearer|DPoP error=\"invalid_token\", {algorithms}")),
        ("proof", "cookie", "__Host-nl=x.y.z", format!("Bearer|DPoP {algorithms}")),
        ("both", "x-machine", "nlk_no", "Bearer|ApiKey error=\"invalid_token\", header=\"x-machine\"".to_owned()),
        (
            "both",
            "authorization",
            "Bearer x.y.z",
            "Bearer error=\"invalid_token\"|ApiKey header=\"x-machine\"".to_owned(),
        ),
        ("both", "accept", "*/*", "Bearer|ApiKey header=\"x-machine\"".to_owned()),
    ] {
        let reply = gateway.get(&format!("https://acme.localhost/way/{path}")).header(header, value).send().await;
        assert_eq!(reply.status, 401, "{reply:?}");
        assert_eq!(reply.header("www-authenticate"), Some(expected), "{path} {header}: {value}");
    }
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

/// RST_STREAM after a complete answer is allowed (RFC 9113, 8.1), but some clients then forget the answer.
#[tokio::test]
async fn a_refused_upload_over_http_2_ends_without_a_reset() {
    let (gateway, _upstream) = standard().await;
    gateway.bundle.write("body.json", "{}");
    let url = format!("https://{}/api/bookings", gateway.address("public"));
    let seen = std::process::Command::new("nghttp")
        .args(["-nv", "-H:authority: acme.localhost", "-Hcontent-type: application/json", "-d", "body.json", &url])
        .current_dir(gateway.bundle.root())
        .output()
        .unwrap();
    let seen = String::from_utf8_lossy(&seen.stdout);
    assert!(seen.contains(":status: 401") && !seen.contains("recv RST_STREAM"), "{seen}");
}
