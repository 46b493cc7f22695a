//! Where a forwarded request goes: another endpoint where one is dead, once only where it may have had an effect.
use crate::harness::{Bundle, Gateway, Scripted, Upstream, read_head};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn where_an_endpoint_cannot_be_reached_another_gets_the_request_once() {
    let upstream = Upstream::start().await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bundle = Bundle::standard(upstream.address);
    let both = format!("endpoints: [\"{dead}\", \"{}\"]\n    load_balance: round_robin", upstream.address);
    bundle.replace(&format!("endpoints: [{}]", upstream.address), &both);
    let gateway = Gateway::start(bundle).await;
    let token = gateway.token("acme", &["cashier"]);
    for round in 0..6 {
        for h2 in [false, true] {
            let body = format!("{{\"round\": \"{round}-{h2}\"}}");
            let call = gateway.post("https://acme.localhost/api/bookings", &body).bearer(&token);
            assert_eq!(if h2 { call.h2() } else { call }.send().await.verdict(), "200");
            let same = upstream.seen().iter().filter(|seen| seen.body == body.as_bytes()).count();
            assert_eq!(same, 1, "{body}");
        }
    }
}

/// Answers the first request of each connection and closes at the second one's head, as an application does that
/// restarts; remembers each head's first line.
async fn closing_at_the_second() -> (Scripted, Arc<Mutex<Vec<String>>>) {
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = heads.clone();
    let script = Scripted::start(move |_, mut stream| {
        let seen = seen.clone();
        async move {
            for answered in [true, false] {
                let head = read_head(&mut stream).await;
                if head.is_empty() {
                    return;
                }
                seen.lock().unwrap().push(head.lines().next().unwrap().to_owned());
                if answered {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                }
            }
        }
    })
    .await;
    (script, heads)
}

#[tokio::test]
async fn a_read_is_repeated_on_a_fresh_connection_and_a_write_never() {
    let (script, heads) = closing_at_the_second().await;
    let bundle = Bundle::standard(script.address);
    bundle.route("  delete-page:\n    match: {hosts: [\"*.localhost\"], paths: [/write], methods: [POST]}\n    upstream: app\n    public: \"a test\"\n    body: {max: 1KiB}");
    let gateway = Gateway::start(bundle).await;
    let count = |line: &str| heads.lock().unwrap().iter().filter(|head| head.starts_with(line)).count();
    assert_eq!(gateway.get("https://acme.localhost/first").send().await.status, 200);
    // On the kept connection, which the application closes; a second one succeeds.
    assert_eq!(gateway.get("https://acme.localhost/second").send().await.status, 200);
    assert_eq!((count("GET /second"), script.connections()), (2, 2));
    let reply = gateway.call("POST", "https://acme.localhost/write").send().await;
    assert_eq!(reply.verdict(), "502 upstream.unreachable");
    assert_eq!(count("POST /write"), 1, "the application may have acted on it");
}

#[tokio::test]
async fn connections_of_one_upstream_never_serve_another() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let script = Scripted::start(move |_, mut stream| {
        let counted = counted.clone();
        async move {
            while !read_head(&mut stream).await.is_empty() {
                counted.fetch_add(1, Ordering::SeqCst);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            }
        }
    })
    .await;
    let bundle = Bundle::standard(script.address);
    bundle.replace("upstreams:\n", &format!("upstreams:\n  other: {{endpoints: [\"{}\"]}}\n", script.address));
    bundle.route("  other:\n    match: {hosts: [\"*.localhost\"], paths: [/other], methods: [GET]}\n    upstream: other\n    public: \"a test\"");
    let gateway = Gateway::start(bundle).await;
    for (path, connections) in [("page", 1), ("page", 1), ("other", 2), ("other", 2), ("page", 2)] {
        assert_eq!(gateway.get(&format!("https://acme.localhost/{path}")).send().await.status, 200);
        assert_eq!(script.connections(), connections, "/{path}");
    }
    assert_eq!(requests.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn connect_and_unroutable_methods_are_refused_and_sighup_does_not_kill() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(Bundle::standard(upstream.address)).await;
    for line in ["CONNECT acme.localhost:443", "CONNECT /", "TRACE /", "PURGE /", "get /"] {
        let answer = gateway
            .raw(
                "acme.localhost",
                format!("{line} HTTP/1.1\r\nHost: acme.localhost\r\nConnection: close\r\n\r\n").as_bytes(),
            )
            .await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{line}: {answer}");
        assert!(answer.contains("x-content-type-options: nosniff"), "{line}: {answer}");
        assert!(!answer.to_lowercase().contains("\r\nserver:"), "{line}: {answer}");
    }
    for _ in 0..3 {
        gateway.signal("HUP");
    }
    gateway.wait_for_log("the reload", |line| line.to_string().contains("nothing has changed"));
    assert_eq!(gateway.get("https://acme.localhost/page").send().await.status, 200);
    assert_eq!(upstream.seen().len(), 1);
}
