//! HTTP/1 connections: what reaches the proxy, what does not, and what the client is told.
use super::fixture::*;
use decide::refusal::Code;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_passes_and_the_connection_is_used_again() {
    let gate = Gate::open(settings(modern())).await;
    let mut tls = gate.h1().await;
    let first = ask(&mut tls, &get("/a?b=c", "main.example")).await.unwrap();
    assert_eq!((first.status(), first.body.as_str()), ("200", "GET /a?b=c "));
    assert_eq!(first.header("x-tls"), Some("1.3 X25519MLKEM768 TLS_AES_128_GCM_SHA256 false"));
    assert_eq!(first.header("connection"), Some("keep-alive"));
    let post = b"POST /p HTTP/1.1\r\nHost: main.example\r\nContent-Length: 5\r\n\r\nhello";
    let second = ask(&mut tls, post).await.unwrap();
    assert_eq!(second.body, "POST /p hello");
    assert_eq!(second.header("x-conn"), first.header("x-conn"));
    let chunked =
        b"POST /c HTTP/1.1\r\nHost: main.example\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    assert_eq!(ask(&mut tls, chunked).await.unwrap().body, "POST /c hello");
    assert_eq!(ask(&mut tls, &get("/d", "main.example")).await.unwrap().body, "GET /d ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_sent_ahead_are_answered_in_order_and_each_is_judged() {
    let gate = Gate::open(settings(modern())).await;
    let mut tls = gate.h1().await;
    let mut burst = get("/1", "main.example");
    burst.extend(b"POST /2 HTTP/1.1\r\nHost: main.example\r\nContent-Length: 3\r\n\r\nabc");
    burst.extend(get("/3", "main.example"));
    burst.extend(b"GET /4 HTTP/1.1\r\nHost: main.example\r\nHost: other.example\r\n\r\n");
    burst.extend(get("/never", "main.example"));
    assert_eq!(ask(&mut tls, &burst).await.unwrap().body, "GET /1 ");
    assert_eq!(read_answer(&mut tls).await.unwrap().body, "POST /2 abc");
    assert_eq!(read_answer(&mut tls).await.unwrap().body, "GET /3 ");
    let refused = read_answer(&mut tls).await.unwrap();
    assert_eq!((refused.status(), refused.header("x-code")), ("400", Some("request.ambiguous")));
    assert!(read_answer(&mut tls).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_arrives_while_another_is_served_waits_for_its_turn() {
    let gate = Gate::open(settings(modern())).await;
    let mut tls = gate.h1().await;
    tls.write_all(&get("/slow", "main.example")).await.unwrap();
    tls.write_all(&get("/next", "main.example")).await.unwrap();
    tls.flush().await.unwrap();
    gate.release.notify_one();
    assert_eq!(read_answer(&mut tls).await.unwrap().body, "GET /slow ");
    assert_eq!(read_answer(&mut tls).await.unwrap().body, "GET /next ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_chunked_body_nothing_is_taken_for_a_request() {
    let gate = Gate::open(settings(modern())).await;
    let mut tls = gate.h1().await;
    let both = b"POST /c HTTP/1.1\r\nHost: main.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: main.example\r\n\r\n";
    assert_eq!(ask(&mut tls, both).await.unwrap().body, "POST /c ");
    assert!(read_answer(&mut tls).await.is_none(), "the connection ends where only pingora knows the boundary");
}

/// Heads that pingora 0.9.1 serves, rewrites or answers with `Server: Pingora`, and what becomes of them.
const BAD: &[(&str, Code)] = &[
    ("GET / HTTP/1.1\nHost: main.example\n\n", Code::RequestMalformed),
    ("GET / HTTP/1.1\r\nHost: main.example\nX: y\r\n\r\n", Code::RequestMalformed),
    ("\r\nGET / HTTP/1.1\r\nHost: main.example\r\n\r\n", Code::RequestMalformed),
    ("GET / HTTP/1.1\r\n\r\n", Code::RequestAmbiguous),
    ("GET / HTTP/1.1\r\nHost: main.example\r\nHost: main.example\r\n\r\n", Code::RequestAmbiguous),
    ("POST / HTTP/1.1\r\nHost: main.example\r\nContent-Length: 5, 5\r\n\r\nhello", Code::RequestAmbiguous),
    ("POST / HTTP/1.1\r\nHost: main.example\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", Code::RequestAmbiguous),
    (
        "POST / HTTP/1.1\r\nHost: main.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        Code::RequestAmbiguous,
    ),
    ("POST / HTTP/1.1\r\nHost: main.example\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Code::RequestAmbiguous),
    ("POST / HTTP/1.1\r\nHost: main.example\r\nTransfer-Encoding: ,chunked\r\n\r\n", Code::RequestAmbiguous),
    ("GET  / HTTP/1.1\r\nHost: main.example\r\n\r\n", Code::RequestMalformed),
    ("GET /a b HTTP/1.1\r\nHost: main.example\r\n\r\n", Code::RequestMalformed),
    ("GET / HTTP/1.2\r\nHost: main.example\r\n\r\n", Code::RequestMalformed),
    ("GET / HTTP/1.1\r\nHost: main.example\r\nX : y\r\n\r\n", Code::RequestMalformed),
    ("GET / HTTP/1.1\r\nHost: main.example\r\nX: y\r\n  z\r\n\r\n", Code::RequestMalformed),
    ("GET / HTTP/1.1\r\nHost: main.example\r\nX: a\0b\r\n\r\n", Code::RequestMalformed),
    ("TRACE / HTTP/1.1\r\nHost: main.example\r\n\r\n", Code::MethodNotAllowed),
    ("CONNECT main.example:443 HTTP/1.1\r\nHost: main.example\r\n\r\n", Code::MethodNotAllowed),
    ("get / HTTP/1.1\r\nHost: main.example\r\n\r\n", Code::MethodNotAllowed),
    (
        "GET / HTTP/1.1\r\nHost: main.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n",
        Code::RequestAmbiguous,
    ),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Code::RequestMalformed),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_head_gets_our_answer_and_never_pingoras() {
    let gate = Gate::open(settings(modern())).await;
    for (head, code) in BAD {
        let mut tls = gate.h1().await;
        let answer = ask(&mut tls, head.as_bytes()).await.unwrap_or_else(|| panic!("no answer to {head:?}"));
        let (refusal, seen) = gate.front.refused.lock().unwrap().pop().unwrap_or_else(|| panic!("passed: {head:?}"));
        assert_eq!((refusal.code, answer.header("x-code")), (*code, Some(code.id())), "{head:?}: {refusal:?}");
        assert_eq!(answer.status(), code.status().to_string(), "{head:?}");
        assert_eq!((answer.header("x-dressed"), answer.header("server")), (Some("yes"), None), "{head:?}");
        assert_eq!((answer.header("connection"), answer.body.as_str()), (Some("close"), "dressed\n"), "{head:?}");
        assert!(seen.host.is_none_or(|h| h.contains("example")), "{head:?}");
        assert!(closed(&mut tls).await, "{head:?}");
    }
    assert!(gate.front.refused.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_head_is_refused_while_it_is_still_coming() {
    let gate = Gate::open(settings(modern())).await;
    let line = format!("GET /{} HTTP/1.1\r\n", "a".repeat(2000));
    let field = format!("GET / HTTP/1.1\r\nHost: main.example\r\nX: {}", "a".repeat(1_000_000));
    let many = format!("GET / HTTP/1.1\r\nHost: main.example\r\n{}\r\n", "A: b\r\n".repeat(21));
    for request in [line, field, many] {
        let mut tls = gate.h1().await;
        let answer = ask(&mut tls, request.as_bytes()).await.unwrap();
        assert_eq!((answer.status(), answer.header("x-code")), ("413", Some("request.too-large")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_drips_ends_at_the_deadline() {
    let mut settings = settings(modern());
    settings.header_timeout = Duration::from_millis(300);
    let gate = Gate::open(settings).await;
    let tls = gate.h1().await;
    let begun = std::time::Instant::now();
    let (mut read, mut write) = tokio::io::split(tls);
    let drip = tokio::spawn(async move {
        // One byte at a time never lets a timeout per read run out.
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        write.write_all(b"GET / HTTP/1.1\r\nX: ").await?;
        loop {
            pace.tick().await;
            write.write_all(b"a").await?;
            write.flush().await?;
        }
        #[expect(unreachable_code, reason = "names the type of the block's error")]
        std::io::Result::Ok(())
    });
    let answer = read_answer(&mut read).await.unwrap();
    assert_eq!((answer.status(), answer.header("x-code")), ("408", Some("request.timeout")));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(closed(&mut read).await);
    drip.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_ends_in_silence() {
    let mut settings = settings(modern());
    settings.idle_timeout = Duration::from_millis(100);
    let gate = Gate::open(settings).await;
    let mut unused = gate.h1().await;
    let mut used = gate.h1().await;
    assert_eq!(ask(&mut used, &get("/", "main.example")).await.unwrap().status(), "200");
    for tls in [&mut unused, &mut used] {
        assert!(read_answer(tls).await.is_none());
    }
    assert!(gate.front.refused.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_given_before_the_body_was_read_arrives() {
    let gate = Gate::open(settings(modern())).await;
    let mut tls = gate.h1().await;
    let head = "POST / HTTP/1.1\r\nHost: elsewhere.example\r\nContent-Length: 1000000\r\n\r\n";
    tls.write_all(head.as_bytes()).await.unwrap();
    tls.write_all(&[b'x'; 200_000]).await.unwrap();
    tls.flush().await.unwrap();
    assert_eq!(read_answer(&mut tls).await.unwrap().status(), "421");
    assert!(closed(&mut tls).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_lets_the_request_finish_and_closes_the_rest() {
    let gate = Gate::open(settings(modern())).await;
    let (mut idle, mut busy) = (gate.h1().await, gate.h1().await);
    assert_eq!(ask(&mut idle, &get("/", "main.example")).await.unwrap().status(), "200");
    busy.write_all(&get("/slow", "main.example")).await.unwrap();
    busy.flush().await.unwrap();
    until(|| gate.drain.live() == 2).await;
    // The head must be in before the drain begins; a second answer on the other connection shows that time has passed.
    assert_eq!(ask(&mut idle, &get("/", "main.example")).await.unwrap().status(), "200");
    gate.drain.begin();
    assert!(read_answer(&mut idle).await.is_none(), "idle connections close at once");
    assert!(tokio::net::TcpStream::connect(gate.address).await.is_err(), "the listener is closed");
    gate.release.notify_one();
    let last = read_answer(&mut busy).await.unwrap();
    assert_eq!((last.body.as_str(), last.header("connection")), ("GET /slow ", Some("close")));
    assert_eq!(gate.drain.finish(Duration::from_secs(20)).await, 0);
    assert_eq!(gate.front.open.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_gives_up_on_a_request_that_takes_too_long() {
    let gate = Gate::open(settings(modern())).await;
    let mut busy = gate.h1().await;
    busy.write_all(&get("/slow", "main.example")).await.unwrap();
    busy.flush().await.unwrap();
    until(|| gate.drain.live() == 1).await;
    assert!(gate.drain.finish(Duration::from_millis(50)).await <= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_close_notify_is_no_error() {
    let gate = Gate::open(settings(modern())).await;
    let mut tls = gate.h1().await;
    assert_eq!(ask(&mut tls, &get("/", "main.example")).await.unwrap().status(), "200");
    let (tcp, _) = tls.into_inner();
    drop(tcp);
    until(|| gate.drain.live() == 0).await;
    assert!(gate.front.refused.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_carries_bytes_both_ways_early_ones_too() {
    let gate = Gate::open(settings(modern())).await;
    let mut echo = [0; 5];
    let mut tls = gate.h1().await;
    let request = "GET /ws HTTP/1.1\r\nHost: main.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // An upstream that agrees before pingora has told it that the request has no body makes pingora end the exchange;
    // a whole request on another connection is nearly always time enough for that. So knock a few times.
    for knock in 1.. {
        tls.write_all(format!("{request}early").as_bytes()).await.unwrap();
        tls.flush().await.unwrap();
        assert_eq!(ask(&mut gate.h1().await, &get("/", "main.example")).await.unwrap().status(), "200");
        gate.release.notify_one();
        assert_eq!(read_answer(&mut tls).await.unwrap().status(), "101");
        if tls.read_exact(&mut echo).await.is_ok() {
            break;
        }
        assert!(knock < 8, "no upgrade lasts");
        tls = gate.h1().await;
    }
    assert_eq!(&echo, b"early");
    for n in 0..10 {
        let frame = [b'0' + n; 5];
        tls.write_all(&frame).await.unwrap();
        tls.flush().await.unwrap();
        tls.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, frame);
    }
    drop(tls);
    until(|| gate.drain.live() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_that_is_not_granted_leaves_an_ordinary_connection() {
    let gate = Gate::open(settings(modern())).await;
    let mut tls = gate.h1().await;
    let request = "GET /plain HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    tls.write_all(request.as_bytes()).await.unwrap();
    let answer = ask(&mut tls, b"GET / HTTP/1.1\r\nHost: main.example\r\nHost: smuggled\r\n\r\n").await.unwrap();
    assert_eq!(answer.status(), "421");
    assert!(
        read_answer(&mut tls).await.is_none_or(|next| next.status() == "400"),
        "what follows is judged, or dropped"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_both_ways_and_the_connection_lives_on() {
    let gate = Gate::open(settings(modern())).await;
    let mut tls = gate.h1().await;
    let text = "0123456789abcdef".repeat(200_000);
    let head = format!("POST /big HTTP/1.1\r\nHost: main.example\r\nContent-Length: {}\r\n\r\n", text.len());
    for _ in 0..2 {
        tls.write_all(head.as_bytes()).await.unwrap();
        let answer = ask(&mut tls, text.as_bytes()).await.unwrap();
        assert!(answer.body == format!("POST /big {text}"));
    }
    assert_eq!(ask(&mut tls, &get("/after", "main.example")).await.unwrap().body, "GET /after ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_costs_one_connection_and_not_its_place() {
    let gate = Gate::open_with(settings(modern()), 1, Some("main")).await;
    for _ in 0..3 {
        let mut tls = gate.h1().await;
        assert!(ask(&mut tls, &get("/panic", "main.example")).await.is_none());
        until(|| gate.drain.live() == 0).await;
    }
    // The place itself is given back when the lingering close is over.
    assert_eq!(gate.front.open.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert_eq!(ask(&mut gate.h1().await, &get("/", "main.example")).await.unwrap().status(), "200");
}
