//! What a client says about itself never reaches the application: every identity header, every spelling, every trick.
use crate::harness::{Gateway, Upstream, standard};
use std::fs;

const BOOKINGS: &str = "https://acme.localhost/api/bookings";
/// Headers that the gateway alone may write.
const OURS: [&str; 12] = [
    "x-tenant-id",
    "x-user-id",
    "x-user-roles",
    "x-request-id",
    "moat-assertion",
    "x-csp-nonce",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "traceparent",
    "tracestate",
];

/// Sends these header lines with a viewer's token and returns what the gateway answered.
async fn send(gateway: &Gateway, path: &str, lines: &str) -> String {
    let token = gateway.token("acme", &["viewer"]);
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: acme.localhost\r\nAuthorization: Bearer {token}\r\n{lines}Connection: close\r\n\r\n"
    );
    gateway.raw("acme.localhost", head.as_bytes()).await
}

/// Fails where something of the client's own making is in what reached the application last.
fn only_ours(upstream: &Upstream, what: &str) {
    let seen = upstream.last();
    assert!(!format!("{:?}", seen.headers).to_lowercase().contains("forged"), "{what}: {:?}", seen.headers);
    for (name, value) in [("x-tenant-id", "acme"), ("x-forwarded-for", "127.0.0.1"), ("x-forwarded-proto", "https")] {
        assert_eq!(seen.header(name).as_deref(), Some(value), "{what}");
    }
    for name in OURS {
        let count = seen.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count();
        assert!(count <= 1, "{what}: `{name}` {count} times");
    }
}

#[tokio::test]
async fn the_very_name_in_any_case_and_number_is_replaced() {
    let (gateway, upstream) = standard().await;
    for name in OURS {
        let capital: String = name.split('-').map(|word| word[..1].to_uppercase() + &word[1..] + "-").collect();
        for spelling in [name.to_owned(), name.to_uppercase(), capital.trim_end_matches('-').to_owned()] {
            let lines = format!("{spelling}: forged\r\nX-Between: 1\r\n{spelling}: forged-too\r\n");
            let answer = send(&gateway, "/api/bookings", &lines).await;
            // A repeated header that must be single may be refused; admitted, it must not arrive.
            if answer.starts_with("HTTP/1.1 200") {
                only_ours(&upstream, &spelling);
                assert_eq!(upstream.last().header("x-user-id").as_deref(), Some("someone@acme"), "{spelling}");
                assert_eq!(upstream.last().header("x-user-roles").as_deref(), Some("viewer"), "{spelling}");
            } else {
                assert!(answer.starts_with("HTTP/1.1 400"), "{spelling}: {answer}");
            }
        }
        let call = gateway.get(BOOKINGS).bearer(&gateway.token("acme", &["viewer"])).header(name, "forged").h2();
        assert_eq!(call.send().await.verdict(), "200", "{name} over HTTP/2");
        only_ours(&upstream, name);
    }
}

#[tokio::test]
async fn twins_that_some_applications_read_as_the_same_name_are_refused_over_both_protocols() {
    let (gateway, upstream) = standard().await;
    for name in OURS.iter().filter(|name| name.contains('-')) {
        for mark in ["_", ".", "!"] {
            let all = name.replace('-', mark);
            let first = name.replacen('-', mark, 1);
            for twin in [all.clone(), all.to_uppercase(), first] {
                let answer = send(&gateway, "/api/bookings", &format!("{twin}: forged\r\n")).await;
                assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("request.ambiguous"), "{twin}: {answer}");
            }
            let name: &'static str = Box::leak(all.into_boxed_str());
            let reply = gateway.get("https://acme.localhost/page").header(name, "forged").h2().send().await;
            assert_eq!(reply.verdict(), "400 request.ambiguous", "{name}");
        }
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[tokio::test]
async fn connection_cannot_name_our_headers_away() {
    let (gateway, upstream) = standard().await;
    let token = gateway.token("acme", &["viewer"]);
    for named in OURS.into_iter().chain(["authorization", "host", "cookie"]) {
        for list in [named.to_owned(), format!("close, {named}"), format!("{named}, keep-alive"), named.to_uppercase()]
        {
            let head = format!(
                "GET /api/bookings HTTP/1.1\r\nHost: acme.localhost\r\nAuthorization: Bearer {token}\r\nConnection: {list}\r\n\r\n"
            );
            let answer = gateway.raw("acme.localhost", head.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "`Connection: {list}`: {answer}");
        }
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_public_page_has_no_caller_even_where_one_is_claimed() {
    let (gateway, upstream) = standard().await;
    let lines = "X-User-Id: root\r\nX-User-Roles: admin\r\nMoat-Assertion: a.b.c\r\nRemote-User: root\r\nX-Real-Ip: 6.6.6.6\r\nX-Original-Url: /admin\r\nProxy: http://evil/\r\n";
    let answer = send(&gateway, "/page", lines).await;
    if answer.starts_with("HTTP/1.1 200") {
        let seen = format!("{:?}", upstream.last().headers);
        for word in ["root", "admin", "a.b.c", "6.6.6.6", "evil"] {
            assert!(!seen.contains(word), "`{word}` in {seen}");
        }
    } else {
        assert!(answer.contains("request.ambiguous"), "{answer}");
    }
}

#[tokio::test]
async fn a_token_in_the_query_is_no_credential_and_is_written_down_nowhere() {
    let (mut gateway, upstream) = standard().await;
    let token = gateway.token("acme", &["viewer"]);
    let reply = gateway.get(&format!("{BOOKINGS}?access_token={token}")).send().await;
    assert_eq!(reply.verdict(), "401 session.missing");
    assert!(upstream.seen().is_empty());
    gateway.get(&format!("https://acme.localhost/a%2fb?access_token={token}")).send().await;
    gateway.raw("acme.localhost", format!("GET /x?t={token} BROKEN\r\n\r\n").as_bytes()).await;
    gateway.stop();
    let mut text = gateway.log_lines().join("\n");
    for file in fs::read_dir(gateway.bundle.path("state/audit")).unwrap() {
        text.push_str(&String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap()));
    }
    for part in token.split('.') {
        assert!(!text.contains(part), "`{part}` was written down");
    }
}

#[tokio::test]
async fn the_session_cookie_is_cut_out_and_its_neighbours_stay_as_they_are() {
    let (gateway, upstream) = standard().await;
    let session = format!("__Host-nl={}", gateway.token("acme", &["viewer"]));
    for (cookie, arrives) in [
        (format!("a=1; {session}; b=2"), Some("a=1; b=2")),
        (format!("{session}; b=\"x y\""), Some("b=\"x y\"")),
        (format!("a=; {session}"), Some("a=")),
        (format!("x__Host-nl=mine; {session}; __Host-nlx=mine"), Some("x__Host-nl=mine; __Host-nlx=mine")),
        (session.clone(), None),
    ] {
        for h2 in [false, true] {
            let call = gateway.get(BOOKINGS).header("cookie", &cookie);
            assert_eq!(if h2 { call.h2() } else { call }.send().await.verdict(), "200", "{cookie}");
            assert_eq!(upstream.last().header("cookie").as_deref(), arrives, "{cookie}, h2: {h2}");
        }
    }
    // HTTP/2 may send the crumbs one by one (RFC 9113, 8.2.3).
    let call = gateway.get(BOOKINGS).header("cookie", "a=1").header("cookie", &session).header("cookie", "b=2").h2();
    assert_eq!(call.send().await.verdict(), "200");
    // They leave as one line, without which no application behind HTTP/1.1 finds its session.
    assert_eq!(upstream.last().header("cookie").as_deref(), Some("a=1; b=2"));
    let twice = gateway.get(BOOKINGS).header("cookie", &format!("{session}; {session}x")).send().await;
    assert!(matches!(twice.status, 400 | 401), "{twice:?}");
}
