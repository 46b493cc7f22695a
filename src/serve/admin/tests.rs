//! Tests of the admin listener over real sockets.
use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

async fn bind(address: &str, checks: Vec<Check>) -> io::Result<AdminServer> {
    let metrics = Arc::new(Metrics::new(4).expect("names are distinct"));
    let paths = Paths { metrics: "/metrics".to_owned(), live: "/livez".to_owned(), ready: "/readyz".to_owned() };
    AdminServer::bind(address.parse().expect("an address"), paths, metrics, checks, &mut Inherited::none()).await
}

/// A running server; it stops when `stop` is dropped.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

async fn start(checks: Vec<Check>) -> Running {
    let server = bind("127.0.0.1:0", checks).await.expect("bound");
    let address = server.address();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(async {
        let stop = async { drop(stopped.await) };
        server.serve(Listening::default(), stop).await.expect("served");
    });
    Running { address, stop, task }
}

/// Sends these bytes and returns all that comes back until the server closes.
async fn exchange(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(bytes.as_bytes()).await.expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("answered");
    reply
}

async fn request(address: SocketAddr, method: &str, target: &str) -> String {
    exchange(address, &format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await
}

fn body(reply: &str) -> &str {
    reply.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn metrics_and_health_are_served_and_dressed() {
    let running = start(vec![]).await;
    let metrics = request(running.address, "GET", "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    for header in [
        "content-type: text/plain; version=0.0.4; charset=utf-8",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
    ] {
        assert!(metrics.contains(&format!("\r\n{header}\r\n")), "{header}: {metrics}");
    }
    assert!(body(&metrics).contains("# TYPE moat_build_info gauge\n"));
    assert_eq!(body(&request(running.address, "GET", "/livez").await), "ok\n");
    let head = request(running.address, "HEAD", "/livez").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body(&head).is_empty(), "{head}");
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let running = start(vec![]).await;
    for (method, target, status) in [
        ("GET", "/", "404 Not Found"),
        ("GET", "/metrics/", "404 Not Found"),
        ("POST", "/shutdown", "404 Not Found"),
        ("POST", "/metrics", "405 Method Not Allowed"),
        ("DELETE", "/readyz", "405 Method Not Allowed"),
    ] {
        let reply = request(running.address, method, target).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{method} {target}: {reply}");
        assert!(reply.contains("\r\ncontent-type: application/problem+json\r\n"), "{reply}");
        assert_eq!(reply.contains("\r\nallow: GET, HEAD\r\n"), status.starts_with("405"), "{reply}");
    }
}

#[tokio::test]
async fn a_rebound_name_is_refused() {
    let running = start(vec![]).await;
    for host in ["host: evil.example\r\n", "", "host: localhost\r\nhost: evil.example\r\n"] {
        let bytes = format!("GET /metrics HTTP/1.1\r\n{host}connection: close\r\n\r\n");
        let reply = exchange(running.address, &bytes).await;
        assert!(!reply.starts_with("HTTP/1.1 200") && !reply.contains("moat_"), "{host:?}: {reply}");
    }
}

#[tokio::test]
async fn readiness_lists_its_checks() {
    let well = Arc::new(AtomicBool::new(true));
    let audit = well.clone();
    let checks = vec![
        Check::new("config", || Ok(())),
        Check::new("audit", move || match audit.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err("the disk is full\n[+] forged ok".to_owned()),
        }),
    ];
    let running = start(checks).await;
    let get = async |target| request(running.address, "GET", target).await;
    assert_eq!(body(&get("/readyz").await), "ok\n");
    assert_eq!(body(&get("/readyz?verbose").await), "[+] config ok\n[+] audit ok\nreadyz ok\n");
    well.store(false, Ordering::Relaxed);
    let failed = get("/readyz").await;
    assert!(failed.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{failed}");
    let report = "[+] config ok\n[!] audit failed: the disk is full [+] forged ok\nreadyz failed\n";
    assert_eq!(body(&failed), report);
    assert_eq!(body(&get("/livez").await), "ok\n", "liveness is about this process alone");
    assert_eq!(body(&get("/readyz?exclude=audit").await), "ok\n");
    let excluded = get("/readyz?verbose&exclude=audit&exclude=%3Cb%3E").await;
    assert_eq!(body(&excluded), "[+] config ok\n[-] audit excluded\n[?] 1 unknown in `exclude`\nreadyz ok\n");
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_ends_with_the_server() {
    let running = start(vec![]).await;
    let mut stream = TcpStream::connect(running.address).await.expect("connected");
    for _ in 0..3 {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await.expect("sent");
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n\r\nok\n") {
            assert!(stream.read_buf(&mut reply).await.expect("answered") > 0);
        }
    }
    drop(running.stop);
    running.task.await.expect("no panic");
    assert_eq!(stream.read(&mut [0; 1]).await.expect("closed"), 0);
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn more_connections_than_places_wait_their_turn() {
    let running = start(vec![]).await;
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push(TcpStream::connect(running.address).await.expect("connected"));
    }
    let waiting = tokio::spawn(async move { request(running.address, "GET", "/livez").await });
    idle.clear();
    assert_eq!(body(&waiting.await.expect("no panic")), "ok\n");
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let refused = bind(address, vec![]).await.err().expect("refused");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{refused}");
    }
}
