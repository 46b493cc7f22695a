//! HTTP/1.1 from end to end on our own data path: what is between two heads, in both directions, good and hostile.
use crate::harness::{Bundle, Gateway, PATIENCE, Scripted, outcomes, read_head, read_until};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const UPLOAD: &str = "  upload:\n    match: {hosts: [\"*.localhost\"], paths: [/upload], methods: [POST, PUT]}\n    upstream: app\n    public: \"a test\"\n    body: {max: none}\n";

async fn before(script: &Scripted) -> Gateway {
    let bundle = Bundle::standard(script.address);
    bundle.route(UPLOAD);
    Gateway::start(bundle).await
}

/// A whole request for this path, with these fields and this body.
fn request(line: &str, rest: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: acme.localhost\r\n{rest}").into_bytes()
}

/// What arrives until the end of the connection, however it ends.
async fn to_the_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "still open after {:?}", String::from_utf8_lossy(&rest));
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test]
async fn trailers_pass_both_ways_and_never_what_decides() {
    let seen = Arc::new(Mutex::new(String::new()));
    let kept = seen.clone();
    let script = Scripted::start(move |_, mut stream| {
        let kept = kept.clone();
        async move {
            let head = read_head(&mut stream).await;
            let body = read_until(&mut stream, "\r\n\r\n").await;
            *kept.lock().unwrap() = format!("{head}{body}");
            let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status, Set-Cookie\r\n\r\n3\r\nyes\r\n0\r\nGrpc-Status: 0\r\nSet-Cookie: a=b\r\nContent-Length: 7\r\nX-Sum: 9\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.read_u8().await.ok();
        }
    })
    .await;
    let gateway = before(&script).await;
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    let body = "4\r\nbody\r\n0\r\nX-Checksum: 5\r\nX-Tenant-Id: forged\r\nAuthorization: forged\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n";
    let fields = "Transfer-Encoding: chunked\r\nTE: trailers\r\nTrailer: x-checksum, x-tenant-id\r\n\r\n";
    stream.write_all(&request("POST /upload", &format!("{fields}{body}"))).await.unwrap();
    let answer = read_until(&mut stream, "x-sum: 9\r\n\r\n").await;
    let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("transfer-encoding: chunked")
            && !head.contains("set-cookie")
            && head.contains("trailer: grpc-status"),
        "{head}"
    );
    assert_eq!(rest, "3\r\nyes\r\n0\r\ngrpc-status: 0\r\nx-sum: 9\r\n\r\n");
    let seen = seen.lock().unwrap().clone();
    assert!(seen.ends_with("4\r\nbody\r\n0\r\nx-checksum: 5\r\n\r\n"), "{seen}");
    assert!(
        seen.contains("te: trailers") && seen.contains("trailer: x-checksum\r\n") && !seen.contains("forged"),
        "{seen}"
    );
}

#[tokio::test]
async fn the_application_says_whether_a_body_that_waits_is_sent() {
    let script = Scripted::start(|_, mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.to_lowercase().contains("expect: 100-continue"), "{head}");
        match head.split(' ').nth(1).unwrap() {
            "/upload?take" => {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
                read_until(&mut stream, "body").await;
                stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            }
            "/upload?silent" => {
                read_until(&mut stream, "body").await;
                stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            }
            status => {
                let status = status.trim_start_matches("/upload?").to_owned();
                stream
                    .write_all(format!("HTTP/1.1 {status} No\r\nContent-Length: 2\r\n\r\nno").as_bytes())
                    .await
                    .unwrap();
                assert_eq!(to_the_end(&mut stream).await, "", "a body that was not wanted");
            }
        }
    })
    .await;
    let gateway = before(&script).await;
    let fields = "Content-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    // One agrees, one never says; the client is told to go on in both cases, and once.
    for (query, status) in [("take", "201"), ("silent", "202")] {
        let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
        stream.write_all(&request(&format!("POST /upload?{query}"), fields)).await.unwrap();
        assert_eq!(read_head(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"body").await.unwrap();
        let answer = read_head(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    for status in ["417", "401"] {
        let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
        stream.write_all(&request(&format!("POST /upload?{status}"), fields)).await.unwrap();
        let answer = to_the_end(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with("\r\n\r\nno"), "{answer}");
        assert!(answer.contains("connection: close"), "the body may come or not: {answer}");
    }
    // Who does not wait is not held back.
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    stream.write_all(&request("POST /upload?take", &format!("{fields}body"))).await.unwrap();
    assert!(read_until(&mut stream, "content-length: 0\r\n").await.contains("HTTP/1.1 201 "));
}

#[tokio::test]
async fn an_answer_that_comes_in_the_midst_of_an_upload_arrives() {
    let script = Scripted::start(|_, mut stream| async move {
        read_head(&mut stream).await;
        let mut some = vec![0; 100_000];
        stream.read_exact(&mut some).await.unwrap();
        let answer = b"HTTP/1.1 413 Too Much\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig";
        stream.write_all(answer).await.unwrap();
        // Closed with unread bytes, as most applications do: the kernel resets the connection.
    })
    .await;
    let gateway = before(&script).await;
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    stream.write_all(&request("POST /upload", "Content-Length: 50000000\r\n\r\n")).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let upload = tokio::spawn(async move {
        let piece = vec![b'u'; 64 << 10];
        while write.write_all(&piece).await.is_ok() {}
    });
    let answer = read_until(&mut read, "\r\n\r\nbig").await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("connection: close"), "{answer}");
    upload.abort();
}

#[tokio::test]
async fn an_answer_may_run_beside_the_upload_that_it_belongs_to() {
    let script = Scripted::start(|_, mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n").await.unwrap();
        for _ in 0..2 {
            let mut three = [0; 3];
            stream.read_exact(&mut three).await.unwrap();
            stream.write_all(&three).await.unwrap();
        }
        read_head(&mut stream).await;
    })
    .await;
    let gateway = before(&script).await;
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    stream.write_all(&request("POST /upload", "Content-Length: 6\r\n\r\nabc")).await.unwrap();
    assert!(read_until(&mut stream, "abc").await.starts_with("HTTP/1.1 200"));
    stream.write_all(b"def").await.unwrap();
    assert_eq!(read_until(&mut stream, "def").await, "def");
}

#[tokio::test]
async fn a_small_body_behind_its_answer_costs_neither_connection() {
    let script = Scripted::start(|_, mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
            read_until(&mut stream, "body").await;
        }
    })
    .await;
    let gateway = before(&script).await;
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    for _ in 0..3 {
        stream.write_all(&request("POST /upload", "Content-Length: 4\r\n\r\n")).await.unwrap();
        let answer = read_until(&mut stream, "\r\n\r\nno").await;
        assert!(answer.starts_with("HTTP/1.1 403") && !answer.contains("connection: close"), "{answer}");
        stream.write_all(b"body").await.unwrap();
    }
    assert_eq!(script.connections(), 1);
}

#[tokio::test]
async fn answers_without_a_body_say_what_they_should_and_ranges_pass() {
    let script = Scripted::start(|_, mut stream| async move {
        loop {
            let head = read_head(&mut stream).await;
            let answer = match head.split(' ').nth(1) {
                Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
                Some("/205") => "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n".to_owned(),
                Some("/304") => "HTTP/1.1 304 Not Modified\r\nETag: \"v\"\r\nContent-Length: 99\r\n\r\n".to_owned(),
                Some("/range") => {
                    assert!(head.contains("range: bytes=2-4"), "{head}");
                    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/9\r\nContent-Length: 3\r\n\r\ncde"
                        .to_owned()
                }
                Some("/head") => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n".to_owned(),
                Some(_) => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nlast\r\n0\r\n\r\n".to_owned(),
                None => return,
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let gateway = before(&script).await;
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    for (line, fields, expected, framing) in [
        ("GET /204", "", "HTTP/1.1 204 No Content", None),
        ("GET /205", "", "HTTP/1.1 205 Reset Content", Some("content-length: 0")),
        ("GET /304", "", "HTTP/1.1 304 Not Modified", Some("content-length: 99")),
        ("HEAD /head", "", "HTTP/1.1 200 OK", Some("content-length: 1234")),
        ("GET /range", "Range: bytes=2-4\r\n", "HTTP/1.1 206 Partial Content", Some("content-length: 3")),
    ] {
        stream.write_all(&request(line, &format!("{fields}\r\n"))).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with(expected), "{line}: {head}");
        let said: Vec<&str> =
            head.lines().filter(|l| l.starts_with("content-length") || l.starts_with("transfer")).collect();
        assert_eq!(said.first().copied(), framing, "{line}: {head}");
        assert!(said.len() <= 1 && head.contains("\r\ndate: "), "{line}: {head}");
        if line == "GET /range" {
            assert!(head.contains("content-range: bytes 2-4/9"), "{head}");
            assert_eq!(read_until(&mut stream, "cde").await, "cde");
        }
    }
    stream.write_all(&request("GET /x", "\r\n")).await.unwrap();
    assert!(read_until(&mut stream, "0\r\n\r\n").await.ends_with("4\r\nlast\r\n0\r\n\r\n"));
    assert_eq!(script.connections(), 1, "every one of them leaves the connection in order");
    // HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
    let answer = gateway.raw("acme.localhost", b"GET /x HTTP/1.0\r\nHost: acme.localhost\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\nlast") && answer.contains("connection: close"), "{answer}");
    assert!(!answer.contains("transfer-encoding"), "{answer}");
}

#[tokio::test]
async fn a_pause_in_an_answer_has_its_own_clock_and_the_first_byte_has_one() {
    let script = Scripted::start(|_, mut stream| async move {
        let head = read_head(&mut stream).await;
        if head.starts_with("GET /never") {
            std::future::pending::<()>().await;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await.unwrap();
        // Longer than a first byte may take, and shorter than a pause.
        let pause = timeout(Duration::from_millis(1500), stream.read_u8()).await;
        assert!(pause.is_err(), "the gateway gave up");
        stream.write_all(b"-last").await.unwrap();
        stream.read_u8().await.ok();
    })
    .await;
    let gateway = before(&script).await;
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    stream.write_all(&request("GET /page", "\r\n")).await.unwrap();
    assert!(read_until(&mut stream, "first-last").await.starts_with("HTTP/1.1 200"));
    let reply = gateway.get("https://acme.localhost/never").send().await;
    assert_eq!(reply.verdict(), "504 upstream.timeout");
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://acme.localhost\r\n\r\n";

#[tokio::test]
async fn frames_that_come_with_the_heads_are_not_lost_and_each_side_hears_the_others_end() {
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let script = Scripted::start(move |_, mut stream| {
        let heard = heard.clone();
        async move {
            read_head(&mut stream).await;
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\u{1}frame of the application";
            stream.write_all(answer.as_bytes()).await.unwrap();
            heard.send(to_the_end(&mut stream).await).unwrap();
            stream.write_all(b"goodbye").await.ok();
        }
    })
    .await;
    let gateway = before(&script).await;
    for _ in 0..20 {
        let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
        stream.write_all(&request("GET /page", &format!("{UPGRADE}early"))).await.unwrap();
        let answer = read_until(&mut stream, "application").await;
        assert!(answer.starts_with("HTTP/1.1 101") && answer.ends_with("\u{1}frame of the application"), "{answer}");
        stream.write_all(b" and late").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(hears.recv().await.unwrap(), "early and late");
        assert_eq!(to_the_end(&mut stream).await, "goodbye");
    }
    let entry = gateway.outcome_of_path("/page").await;
    assert_eq!((&entry["outcome"]["bytes_in"], &entry["outcome"]["bytes_out"]), (&14.into(), &32.into()), "{entry:#}");
}

#[tokio::test]
async fn what_a_hostile_application_sends_is_a_502_or_visibly_cut_and_never_the_next_answer() {
    let bomb = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(300));
    let interims =
        format!("{}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(17));
    let rows: Vec<(&str, String)> = [
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nevil"),
        ("length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("a signed length", "HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nevil"),
        ("another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("a coding of the past", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("a status that is none", "HTTP/1.1 20 evil\r\n\r\n"),
        ("a status beyond", "HTTP/1.1 999 evil\r\n\r\n"),
        ("no version", "ICY 200 evil\r\n\r\n"),
        ("bare line feeds", "HTTP/1.1 200 OK\nX: evil\n\n\r\n\r\n"),
        ("a bare line feed in a field", "HTTP/1.1 200 OK\r\nX: evil\nY: z\r\n\r\n"),
        ("a folded line", "HTTP/1.1 200 OK\r\nX: evil\r\n more\r\n\r\n"),
        ("a space before a colon", "HTTP/1.1 200 OK\r\nContent-Length : 4\r\n\r\nevil"),
        ("a null", "HTTP/1.1 200 OK\r\nX: ev\0il\r\n\r\n"),
        ("a switch unasked", "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nevil"),
        ("half a head", "HTTP/1.1 200 OK\r\nX: ev"),
        ("another protocol", "SSH-2.0-evil\r\n"),
    ]
    .into_iter()
    .map(|(what, bytes)| (what, bytes.to_owned()))
    .chain([("many fields", bomb), ("interims without end", interims)])
    .collect();
    let cut = [
        ("too short", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        ("no last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        ("a broken chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nxyz\r\n"),
        (
            "a trailer that is none",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nevil\r\n\r\n",
        ),
    ];
    let answers: Arc<Vec<String>> =
        Arc::new(rows.iter().map(|(_, b)| b.clone()).chain(cut.iter().map(|(_, b)| (*b).to_owned())).collect());
    let script = Scripted::start(move |_, mut stream| {
        let answers = answers.clone();
        async move {
            loop {
                let head = read_head(&mut stream).await;
                match head.split(['/', ' ']).nth(2).map(str::parse::<usize>) {
                    Some(Ok(at)) => {
                        let _ = stream.write_all(answers[at].as_bytes()).await;
                        let _ = stream.shutdown().await;
                        return;
                    }
                    Some(Err(_)) => {
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright").await.unwrap()
                    }
                    None => return,
                }
            }
        }
    })
    .await;
    let mut gateway = before(&script).await;
    for (at, (what, _)) in rows.iter().enumerate() {
        let reply = gateway.get(&format!("https://acme.localhost/{at}")).send().await;
        assert_eq!(reply.verdict(), "502 upstream.unreachable", "{what}: {reply:?}");
        assert!(!format!("{reply:?}").contains("evil"), "{what}: {reply:?}");
        assert_eq!(gateway.get("https://acme.localhost/page").send().await.text(), "right", "after {what}");
    }
    for (at, (what, _)) in cut.iter().enumerate() {
        let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
        stream.write_all(&request(&format!("GET /{}", rows.len() + at), "\r\n")).await.unwrap();
        let answer = to_the_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("half"), "{what}: {answer}");
        assert!(!answer.ends_with("0\r\n\r\n") && !answer.contains("evil"), "{what}: {answer}");
        assert_eq!(gateway.get("https://acme.localhost/page").send().await.text(), "right", "after {what}");
    }
    assert_eq!(gateway.stop(), Some(0));
    let bad = outcomes(&gateway).into_iter().filter(|entry| entry["verdict"] == "upstream.unreachable").count();
    assert_eq!(bad, rows.len() + cut.len(), "each has its entry");
}

#[tokio::test]
async fn requests_of_many_clients_share_few_connections() {
    let script = Scripted::start(|_, mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        }
    })
    .await;
    let gateway = before(&script).await;
    for _ in 0..30 {
        assert_eq!(gateway.get("https://acme.localhost/page").send().await.text(), "ok");
    }
    assert_eq!(script.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_closes_kept_connections_under_load_loses_no_request() {
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    let script = Scripted::start(move |number, mut stream| {
        let count = count.clone();
        async move {
            // Each connection serves a few, and is closed without a word: the next request may be on its way to it.
            for _ in 0..3 + number % 4 {
                if read_head(&mut stream).await.is_empty() {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            }
        }
    })
    .await;
    let gateway = Arc::new(before(&script).await);
    let clients = (0..8).map(|_| {
        let gateway = gateway.clone();
        tokio::spawn(async move {
            let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
            for round in 0..100 {
                stream.write_all(&request("GET /page", "\r\n")).await.unwrap();
                let answer = read_until(&mut stream, "\r\n\r\nok").await;
                assert!(answer.starts_with("HTTP/1.1 200"), "{round}: {answer}");
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    assert!(served.load(Ordering::SeqCst) >= 800 && script.connections() > 100);
}
