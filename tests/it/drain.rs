//! The end of a process: requests in flight finish, new ones go elsewhere, the log is whole.
use crate::harness::{Bundle, Gateway, PATIENCE, Scripted, Upstream, entries, moat, outcomes, read_head, read_until};
use http::Response;
use http_body_util::Full;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_in_flight_finishes_after_sigterm() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let opened = gate.clone();
    let (arrived, mut arrival) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::answering(move |_| {
        arrived.send(()).unwrap();
        let (lock, more) = &*opened;
        let open = tokio::task::block_in_place(|| more.wait_while(lock.lock().unwrap(), |open| !*open).unwrap());
        drop(open);
        Response::new(Full::from("late\n"))
    })
    .await;
    let bundle = Bundle::standard(upstream.address);
    bundle.replace("first_byte_timeout: 1s", "first_byte_timeout: 20s");
    let gateway = Arc::new(Gateway::start(bundle).await);
    let calling = gateway.clone();
    let call = tokio::spawn(async move { calling.get("https://acme.localhost/page").send().await });
    arrival.recv().await.unwrap();
    gateway.signal("TERM");
    gateway.wait_for_log("draining", |line| line.to_string().contains("\"draining\""));
    // Readiness fails at once, so that balancers look elsewhere, while the request goes on.
    let ready = gateway.admin("/readyz").await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    let admin = gateway.address("admin").to_string();
    let ready = moat(gateway.bundle.root(), &["health", "--ready", "--admin", &admin]);
    let alive = moat(gateway.bundle.root(), &["health", "--admin", &admin]);
    assert_eq!((ready.code, alive.code), (Some(1), Some(0)), "{ready:?} {alive:?}");
    assert!(ready.stderr.contains("answered 503") && ready.stderr.contains("draining failed"), "{ready:?}");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    let reply = call.await.unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "late\n"));
    gateway.wait_for_log("its end", |_| false);
    let verified = moat(gateway.bundle.root(), &["audit", "verify", "state/audit"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

/// An application that answers `/socket` with a WebSocket that stays silent, and everything else with an event stream
/// that never ends.
async fn endless() -> Scripted {
    Scripted::start(|_, mut stream| async move {
        let head = read_head(&mut stream).await;
        let answer = match head.starts_with("GET /socket") {
            true => {
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            }
            false => "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: begun\n\n",
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await
}

const SOCKET: &str = "GET /socket HTTP/1.1\r\nHost: acme.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Origin: https://acme.localhost\r\n\r\n";
const EVENTS: &str = "GET /events HTTP/1.1\r\nHost: acme.localhost\r\nAccept: text/event-stream\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_the_end_of_a_drain_websockets_hear_1001_and_everything_has_its_entry() {
    let script = endless().await;
    let bundle = Bundle::standard(script.address);
    bundle.replace("drain_timeout: 5s", "drain_timeout: 1s");
    bundle.replace("first_byte_timeout: 1s", "first_byte_timeout: 20s");
    let mut gateway = Gateway::start(bundle).await;
    let mut socket = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    socket.write_all(SOCKET.as_bytes()).await.unwrap();
    assert!(read_head(&mut socket).await.starts_with("HTTP/1.1 101"));
    let mut events = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    events.write_all(EVENTS.as_bytes()).await.unwrap();
    read_until(&mut events, "begun").await;
    gateway.signal("TERM");
    let mut last = Vec::new();
    let _ = timeout(PATIENCE, socket.read_to_end(&mut last)).await.unwrap();
    assert_eq!(last.get(2..4), Some(&1001_u16.to_be_bytes()[..]), "{last:?}");
    assert_eq!(last.first(), Some(&0x88), "a close frame: {last:?}");
    gateway.wait_for_log("its end", |_| false);
    assert_eq!(gateway.first_exit(), Some(0));
    assert_eq!(outcomes(&gateway).len(), 2);
    let stop = entries(&gateway).into_iter().find(|entry| entry["event"] == "stop").unwrap();
    assert_eq!(stop["detail"]["unfinished"], 0, "{stop:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_second_sigterm_ends_at_once_and_in_order() {
    let script = endless().await;
    let bundle = Bundle::standard(script.address);
    bundle.replace("drain_timeout: 5s", "drain_timeout: 10m");
    bundle.replace("first_byte_timeout: 1s", "first_byte_timeout: 20s");
    let mut gateway = Gateway::start(bundle).await;
    let mut events = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    events.write_all(EVENTS.as_bytes()).await.unwrap();
    read_until(&mut events, "begun").await;
    gateway.signal("TERM");
    gateway.wait_for_log("draining", |line| line.to_string().contains("\"draining\""));
    let asked = Instant::now();
    gateway.signal("TERM");
    gateway.wait_for_log("its end", |_| false);
    assert!(asked.elapsed() < PATIENCE / 2, "{:?}", asked.elapsed());
    assert_eq!(gateway.first_exit(), Some(0));
    assert_eq!(outcomes(&gateway).len(), 1);
    let verified = moat(gateway.bundle.root(), &["audit", "verify", "state/audit"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn during_the_drain_delay_only_readiness_fails() {
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    bundle.replace("drain_timeout: 5s", "drain_timeout: 5s, drain_delay: 2s");
    let mut gateway = Gateway::start(bundle).await;
    let asked = Instant::now();
    gateway.signal("TERM");
    gateway.until("it is not ready", async |g: &Gateway| g.admin("/readyz").await.status == 503).await;
    assert_eq!(gateway.admin("/livez").await.status, 200);
    // New connections are served as before: a balancer may need the time to notice.
    let reply = gateway.get("https://acme.localhost/page").send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_ne!(reply.header("connection").as_deref(), Some("close"));
    gateway.wait_for_log("its end", |_| false);
    assert!(asked.elapsed() >= std::time::Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(gateway.first_exit(), Some(0));
}
