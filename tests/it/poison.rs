//! The end of one message and the beginning of the next, on both sides: nobody gets an answer that is not theirs, and
//! no body becomes a request.
use crate::harness::{Bundle, Gateway, PATIENCE, Scripted, outcomes, read_head, read_until, with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const SECOND: &str = "HTTP/1.1 200 OK\r\nX-Planted: yes\r\nContent-Length: 7\r\n\r\nplanted";

/// An application that answers `/poison` with these bytes in one piece and everything else, on any connection, in order.
async fn planting(bytes: String) -> (Gateway, Scripted) {
    let script = Scripted::start(move |_, mut stream| {
        let bytes = bytes.clone();
        async move {
            loop {
                let head = read_head(&mut stream).await;
                let answer = match head.split(' ').nth(1) {
                    None => return,
                    Some("/poison") => bytes.clone(),
                    Some(_) => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright".to_owned(),
                };
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (Gateway::start(Bundle::standard(script.address)).await, script)
}

#[tokio::test]
async fn bytes_behind_an_answer_are_never_the_next_ones_answer() {
    for (what, method, answer) in [
        ("behind a body of known length", "GET", format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{SECOND}")),
        (
            "behind the last chunk",
            "GET",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{SECOND}"),
        ),
        ("behind an empty body", "GET", format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{SECOND}")),
        ("behind 204", "GET", format!("HTTP/1.1 204 No Content\r\n\r\n{SECOND}")),
        ("behind 304", "GET", format!("HTTP/1.1 304 Not Modified\r\n\r\n{SECOND}")),
        (
            "behind the answer to HEAD",
            "HEAD",
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{SECOND}", SECOND.len()),
        ),
    ] {
        let (gateway, _script) = planting(answer).await;
        for h2 in [false, true] {
            let call = gateway.call(method, "https://acme.localhost/poison");
            let reply = if h2 { call.h2() } else { call }.send().await;
            assert_eq!(reply.header("x-planted"), None, "{what}: {reply:?}");
            for _ in 0..3 {
                let call = gateway.get("https://globex.localhost/page");
                let reply = if h2 { call.h2() } else { call }.send().await;
                assert_eq!((reply.status, reply.text().as_str()), (200, "right"), "{what}, h2: {h2}: {reply:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_left_of_a_body_after_an_early_answer_is_no_request() {
    // Answers at the head of a request; of a body it then reads the rest, and closes.
    let script = Scripted::start(|_, mut stream| async move {
        loop {
            let head = read_head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly").await;
            if head.is_empty() || head.starts_with("POST") {
                read_until(&mut stream, "/smuggled").await;
                return;
            }
        }
    })
    .await;
    let bundle = Bundle::standard(script.address);
    bundle.route("  take:\n    match: {hosts: [\"*.localhost\"], paths: [/take], methods: [POST]}\n    upstream: app\n    public: \"a test\"\n    body: {max: 1MiB}");
    let mut gateway = Gateway::start(bundle).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: acme.localhost\r\n\r\n";
    for (framing, before, after) in [
        (format!("Content-Length: {}", smuggled.len() + 4), "body".to_owned(), smuggled.to_owned()),
        (
            "Transfer-Encoding: chunked".to_owned(),
            "4\r\nbody\r\n".to_owned(),
            format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len()),
        ),
    ] {
        let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
        let head = format!("POST /take HTTP/1.1\r\nHost: acme.localhost\r\n{framing}\r\n\r\n{before}");
        stream.write_all(head.as_bytes()).await.unwrap();
        let first = read_until(&mut stream, "early").await;
        assert!(first.starts_with("HTTP/1.1 200"), "{first}");
        let _ = stream.write_all(after.as_bytes()).await;
        let mut rest = Vec::new();
        // Whether it closes or waits for the next request, nothing more may be answered.
        let _ = timeout(std::time::Duration::from_secs(1), stream.read_to_end(&mut rest)).await;
        assert_eq!(String::from_utf8_lossy(&rest), "", "{framing}");
        drop(stream);
        assert_eq!(gateway.get("https://acme.localhost/after").send().await.status, 200);
    }
    assert_eq!(gateway.stop(), Some(0));
    let paths: Vec<_> = outcomes(&gateway).into_iter().map(|entry| entry["facts"]["path"].clone()).collect();
    assert_eq!(paths, ["/take", "/after", "/take", "/after"]);
}

#[tokio::test]
async fn requests_that_come_together_are_answered_in_their_order() {
    let (gateway, upstream) = with(|_| ()).await;
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    let mut all = String::new();
    for path in ["/one", "/two", "/api/bookings", "/three"] {
        all.push_str(&format!("GET {path} HTTP/1.1\r\nHost: acme.localhost\r\n\r\n"));
    }
    stream.write_all(all.as_bytes()).await.unwrap();
    for end in ["GET /one\n", "GET /two\n", "session.missing", "GET /three\n"] {
        let answer = read_until(&mut stream, end).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    let targets: Vec<String> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/one", "/two", "/three"]);
}

#[tokio::test]
async fn http_1_0_clients_are_answered_in_their_way_or_refused() {
    let (gateway, _upstream) = with(|_| ()).await;
    let answer = gateway.raw("acme.localhost", b"GET /page HTTP/1.0\r\nHost: acme.localhost\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{answer}");
    assert!(head.contains(" 200 ") && body.ends_with("GET /page\n") || head.contains(" 400 "), "{answer}");
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    let both = "GET /page HTTP/1.0\r\nHost: acme.localhost\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    stream.write_all(both.as_bytes()).await.unwrap();
    let mut refused = String::new();
    let _ = timeout(PATIENCE, stream.read_to_string(&mut refused)).await;
    assert!(refused.starts_with("HTTP/1.1 400") || refused.is_empty(), "{refused}");
}
