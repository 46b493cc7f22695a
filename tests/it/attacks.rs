//! Attacks that once worked: what two readers could take for two things, what nobody wrote down, what would never end.
use crate::harness::{Gateway, PATIENCE, standard, with};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// An application that answers every request head with `first`, and then gives back whatever comes.
async fn echo_after(first: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap_or_default());
                }
                let _ = stream.write_all(first).await;
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

/// The gateway with one more public route, `/raw`, to an application of its own.
async fn with_raw(address: std::net::SocketAddr, rest: &str) -> (Gateway, crate::harness::Upstream) {
    with_patience(address, "first_byte_timeout: 300ms", rest).await
}

/// The same with other timeouts.
async fn with_patience(
    address: std::net::SocketAddr,
    patience: &str,
    rest: &str,
) -> (Gateway, crate::harness::Upstream) {
    with(|bundle| {
        bundle.replace(
            "upstreams:\n",
            &format!("upstreams:\n  raw: {{endpoints: [\"{address}\"], http: {{{patience}}}}}\n"),
        );
        bundle.route(&format!(
            "  raw:\n    match: {{hosts: [\"*.localhost\"], paths: [/raw], methods: [GET, POST]}}\n    upstream: raw\n    \
             public: \"a test\"\n    headers: api-json\n    {rest}"
        ));
    })
    .await
}

fn is_about(path: &'static str) -> impl Fn(&Value) -> bool {
    move |entry| entry["kind"] == "request" && entry["facts"]["path"] == path
}

#[tokio::test]
async fn the_application_reads_the_very_host_that_was_matched() {
    let (gateway, upstream) = standard().await;
    for spelling in ["ACME.localhost", "acme.localhost.", "aCMe.LOCALHOST."] {
        let request = format!("GET /page HTTP/1.1\r\nHost: {spelling}\r\nConnection: close\r\n\r\n");
        let answer = gateway.raw("acme.localhost", request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(upstream.last().header("host").as_deref(), Some("acme.localhost"), "{spelling}");
    }
    let reply = gateway.get("https://acme.localhost:8443/page").h2().send().await;
    assert_eq!((reply.status, upstream.last().header("host").as_deref()), (200, Some("acme.localhost:8443")));
    let reply = gateway.get("https://ACME.localhost/page").h2().send().await;
    assert_eq!((reply.status, upstream.last().header("host").as_deref()), (200, Some("acme.localhost")));
}

#[tokio::test]
async fn session_cookies_stay_at_the_gate_on_every_route_and_under_every_accepted_name() {
    let (gateway, upstream) = with(|bundle| {
        bundle.route(
            "  two:\n    match: {hosts: [\"*.localhost\"], paths: [/two], methods: [GET]}\n    upstream: app\n    auth: {any_of: \
             [{bearer: workforce}, {cookie: {name: __Host-old, issuer: workforce}}, {cookie: {name: __Host-nl, issuer: \
             workforce}}]}\n    require: {session: any}\n    headers: api-json",
        );
    })
    .await;
    let token = gateway.token("acme", &["viewer"]);
    let jar = format!("a=1; __Host-nl={token}; b=2");
    let reply = gateway.get("https://acme.localhost/two").header("cookie", &jar).send().await;
    assert_eq!((reply.status, upstream.last().header("cookie").as_deref()), (200, Some("a=1; b=2")));
    let both = gateway.get("https://acme.localhost/two").bearer(&token).header("cookie", "__Host-nl=another; a=1");
    assert_eq!((both.send().await.status, upstream.last().header("cookie").as_deref()), (200, Some("a=1")));
    let public = gateway.get("https://acme.localhost/page").header("cookie", &jar).send().await;
    assert_eq!((public.status, upstream.last().header("cookie").as_deref()), (200, Some("a=1; b=2")));
}

#[tokio::test]
async fn two_spellings_of_an_absolute_target_are_refused_dressed_and_recorded() {
    let (gateway, upstream) = standard().await;
    for (target, host) in [
        ("https://ACME.localhost/spelt-1", "acme.localhost"),
        ("https://acme.localhost:443/spelt-2", "acme.localhost"),
        ("https://acme.localhost/spelt-3", "acme.localhost."),
        ("https://me@acme.localhost/spelt-4", "acme.localhost"),
        ("https://globex.localhost/spelt-5", "acme.localhost"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = gateway.raw("acme.localhost", request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("request.ambiguous"), "{target}: {answer}");
        assert!(answer.contains("x-content-type-options: nosniff"), "{target}: {answer}");
        let entry = gateway.audit_entry(|e| e["facts"]["path"].as_str().is_some_and(|path| target.starts_with(path)));
        assert_eq!(entry.await["verdict"], "request.ambiguous", "{target}");
    }
    assert!(upstream.seen().is_empty());
    let agreed = b"GET https://acme.localhost/page?q HTTP/1.1\r\nHost: acme.localhost\r\nConnection: close\r\n\r\n";
    assert!(gateway.raw("acme.localhost", agreed).await.starts_with("HTTP/1.1 200"));
    assert_eq!(upstream.last().target, "/page?q");
}

#[tokio::test]
async fn a_tunnel_over_http2_is_refused_dressed_and_recorded() {
    let (gateway, upstream) = standard().await;
    let io = hyper_util::rt::TokioIo::new(gateway.tls("acme.localhost", &[b"h2"]).await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::connect("acme.localhost:443").body(http_body_util::Empty::<bytes::Bytes>::new());
    let response = timeout(PATIENCE, sender.send_request(request.unwrap())).await.unwrap().unwrap();
    assert_eq!(response.status(), 405);
    assert!(response.headers().contains_key("strict-transport-security") && response.headers().contains_key("allow"));
    let entry = gateway.audit_entry(|entry| entry["facts"]["method"] == "CONNECT").await;
    assert_eq!(entry["verdict"], "method.not-allowed");
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn twins_of_headers_that_frame_a_message_are_refused() {
    let (gateway, upstream) = standard().await;
    for twin in ["Content_Length: 5", "Transfer_Encoding: chunked", "transfer.encoding: chunked", "Content_Type: a/b"] {
        let request = format!("GET /page HTTP/1.1\r\nHost: acme.localhost\r\n{twin}\r\n\r\n");
        let answer = gateway.raw("acme.localhost", request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("request.ambiguous"), "{twin}: {answer}");
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn an_early_hint_carries_nothing_but_links() {
    let raw = echo_after(
        b"HTTP/1.1 103 Early Hints\r\nServer: leak/1\r\nSet-Cookie: early=1\r\nLink: </a.css>\r\n\r\n\
          HTTP/1.1 200 OK\r\nServer: leak/1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    )
    .await;
    let (gateway, _upstream) = with_raw(raw, "").await;
    let request = b"GET /raw HTTP/1.1\r\nHost: acme.localhost\r\nConnection: close\r\n\r\n";
    let answer = gateway.raw("acme.localhost", request).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 103") && answer.contains("link: </a.css>"), "{answer}");
    assert!(answer.contains("http/1.1 200") && !answer.contains("leak/1") && !answer.contains("early=1"), "{answer}");
}

/// A connection on which `/raw` has answered with 101.
async fn upgraded(gateway: &Gateway) -> impl AsyncRead + AsyncWrite + Unpin {
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    let request = b"GET /raw HTTP/1.1\r\nHost: acme.localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}

#[tokio::test]
async fn a_conversation_after_an_upgrade_is_no_body_and_may_pause() {
    let raw =
        echo_after(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n").await;
    let (gateway, _upstream) = with_raw(raw, "body: {max: 1KiB}").await;
    let mut stream = upgraded(&gateway).await;
    // Longer than the application may take for a first byte.
    assert!(timeout(std::time::Duration::from_millis(600), stream.read_u8()).await.is_err());
    for _ in 0..8 {
        let word = [b'w'; 512];
        stream.write_all(&word).await.unwrap();
        let mut back = [0; 512];
        timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
        assert_eq!(back, word);
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_the_clients_fault() {
    let raw = echo_after(b"").await;
    let (gateway, _upstream) = with_patience(raw, "first_byte_timeout: 100ms, idle_timeout: 300ms", "").await;
    let request = b"POST /raw HTTP/1.1\r\nHost: acme.localhost\r\nContent-Length: 10\r\n\r\n";
    let answer = gateway.raw("acme.localhost", request).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("request.timeout"), "{answer}");
    assert_eq!(gateway.audit_entry(is_about("/raw")).await["verdict"], "request.timeout");
}

#[tokio::test]
async fn a_shadow_body_guard_admits_what_is_too_large() {
    let (gateway, upstream) = with(|bundle| {
        bundle.route(
            "  shadowed:\n    match: {hosts: [\"*.localhost\"], paths: [/shadowed], methods: [POST]}\n    upstream: app\n    \
             public: \"a test\"\n    headers: api-json\n    body: {max: 1KiB}\n    shadow: [body]",
        );
    })
    .await;
    let reply = gateway.post("https://acme.localhost/shadowed", "").body("x".repeat(4096)).send().await;
    assert_eq!((reply.status, upstream.last().body.len()), (200, 4096));
    let entry = gateway.audit_entry(is_about("/shadowed")).await;
    assert!(entry["trail"].to_string().contains("shadow:request.too-large"), "{entry}");
}

#[tokio::test]
async fn a_chunked_body_that_two_readers_could_end_in_two_places_is_refused() {
    let (gateway, _upstream) = standard().await;
    let token = gateway.token("acme", &["cashier"]);
    let send = async |body: &str| {
        let request = format!(
            "POST /api/bookings HTTP/1.1\r\nHost: acme.localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: \
             application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{body}"
        );
        gateway.raw("acme.localhost", request.as_bytes()).await
    };
    for body in [
        "2;\nxx\r\n{}\r\n0\r\n\r\n",
        "2;a\nb\r\n{}\r\n0\r\n\r\n",
        "2 \r\n{}\r\n0\r\n\r\n",
        "\r\n\r\n",
        "2\r\n{}\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        "2\n{}\n0\n\n",
    ] {
        let answer = send(body).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("request.malformed"), "{body:?}: {answer}");
    }
    let answer = send("2;a=b\r\n{}\r\n0\r\nX-Sum: 1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
