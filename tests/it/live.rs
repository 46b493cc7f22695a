//! What is running when the configuration changes: it stays, unless the new one would have refused it; then it is ended
//! in a way that the client can tell.
use crate::harness::{Bundle, Gateway, PATIENCE, Scripted, Token, read_head, read_until};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

const ACCEPT: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
/// 1008 with `tenant.suspended`, unmasked.
const SUSPENDED: &[u8] = b"\x88\x12\x03\xf0tenant.suspended";

/// An application of WebSockets that echo, of event streams, and of answers that wait.
pub struct App {
    pub script: Scripted,
    /// What arrived over WebSockets, unmasked where it is a close frame.
    heard: Mutex<mpsc::UnboundedReceiver<Vec<u8>>>,
    /// Lets an answer, an event or the rest of a frame go.
    pub go: Arc<Semaphore>,
}

impl App {
    pub async fn start() -> App {
        let (say, heard) = mpsc::unbounded_channel();
        let go = Arc::new(Semaphore::new(0));
        let wait = go.clone();
        let script = Scripted::start(move |_, stream| serve(stream, say.clone(), wait.clone())).await;
        App { script, heard: Mutex::new(heard), go }
    }

    pub async fn gateway(&self, change: impl FnOnce(&mut Bundle)) -> Gateway {
        let mut bundle = Bundle::standard(self.script.address);
        bundle.replace("first_byte_timeout: 1s, total_timeout: 30s", "first_byte_timeout: 30s");
        change(&mut bundle);
        Gateway::start(bundle).await
    }

    pub async fn hears(&self) -> Vec<u8> {
        timeout(PATIENCE, self.heard.lock().await.recv()).await.expect("nothing arrives").unwrap()
    }
}

async fn serve(mut stream: TcpStream, say: mpsc::UnboundedSender<Vec<u8>>, go: Arc<Semaphore>) {
    loop {
        let head = read_head(&mut stream).await.to_lowercase();
        if head.contains("upgrade: websocket") {
            assert!(timeout(Duration::from_millis(20), stream.peek(&mut [0])).await.is_err(), "a frame before the 101");
            stream.write_all(ACCEPT.as_bytes()).await.unwrap();
            if head.contains("/large") {
                // Half of a frame of 70,000 bytes; the other half and another frame when told so.
                let frame = [&[0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70][..], &[b'x'; 70_000]].concat();
                stream.write_all(&frame[..30_000]).await.unwrap();
                go.acquire().await.unwrap().forget();
                stream.write_all(&frame[30_000..]).await.unwrap();
                stream.write_all(b"\x81\x05never").await.unwrap();
            }
            let mut buffer = [0; 256];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                if buffer[0] == 0x88 {
                    let mask = [buffer[2], buffer[3], buffer[4], buffer[5]];
                    let payload = buffer[6..count].iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key);
                    let _ = say.send([&buffer[..2], &payload.collect::<Vec<u8>>()].concat());
                    return;
                }
                let _ = say.send(buffer[..count].to_vec());
                stream.write_all(&buffer[..count]).await.unwrap();
            }
            let _ = say.send(Vec::new());
            return;
        } else if head.contains("/events") {
            stream.write_all(STREAM.as_bytes()).await.unwrap();
            while stream.write_all(b"9\r\ndata: x\n\n\r\n").await.is_ok() {
                go.acquire().await.unwrap().forget();
            }
            return;
        } else if head.contains("/slow") {
            go.acquire().await.unwrap().forget();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").await.unwrap();
        } else if !head.is_empty() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        } else {
            return;
        }
    }
}

/// A WebSocket of a tenant, up to the end of the 101.
pub async fn websocket(gateway: &Gateway, tenant: &str, path: &str, more: &str) -> TlsStream<TcpStream> {
    let mut stream = gateway.tls(&format!("{tenant}.localhost"), &[b"http/1.1"]).await;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {tenant}.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://{tenant}.localhost\r\n{more}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream
}

pub async fn events(gateway: &Gateway, tenant: &str, path: &str, more: &str) -> TlsStream<TcpStream> {
    let mut stream = gateway.tls(&format!("{tenant}.localhost"), &[b"http/1.1"]).await;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {tenant}.localhost\r\nAccept: text/event-stream\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut stream, "data: x\n\n\r\n").await;
    stream
}

pub async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    // A connection that is cut may end without TLS's own goodbye.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the connection stays open");
    rest
}

/// One text frame there and back.
pub async fn echoes(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), app: &App) {
    let frame = b"\x81\x84\0\0\0\0ping";
    stream.write_all(frame).await.unwrap();
    let mut back = [0; 10];
    timeout(PATIENCE, stream.read_exact(&mut back)).await.expect("no echo").unwrap();
    assert_eq!((&back, &app.hears().await[..]), (frame, &frame[..]));
}

async fn reloads(gateway: &Gateway, from: usize, to: usize) {
    for round in from..to {
        let text = gateway.bundle.read("gateway.yaml");
        let next = format!("  extra{round}: {{class: standard}}\nupstreams:\n");
        gateway.bundle.write("gateway.yaml", &text.replace("upstreams:\n", &next));
        gateway.signal("HUP");
        gateway
            .until("the reload has happened", async |g: &Gateway| {
                let entries = crate::harness::entries(g);
                entries.iter().filter(|entry| entry["event"] == "config.load").count() > round + 1
            })
            .await;
    }
}

fn suspend(gateway: &Gateway, tenant: &str) {
    let (old, new) =
        (format!("{tenant}: {{class: standard}}"), format!("{tenant}: {{class: standard, status: suspended}}"));
    gateway.bundle.replace(&old, &new);
    gateway.signal("HUP");
}

#[tokio::test]
async fn fifty_reloads_leave_streams_alone_and_a_stricter_one_closes_just_those_it_refuses() {
    let app = App::start().await;
    let gateway = app.gateway(|_| ()).await;
    let mut closing = websocket(&gateway, "acme", "/page", "").await;
    let mut staying = websocket(&gateway, "globex", "/page", "").await;
    let (mut cut, mut kept) =
        (events(&gateway, "acme", "/events", "").await, events(&gateway, "globex", "/events", "").await);
    let (client, connection) = h2::client::handshake(gateway.tls("acme.localhost", &[b"h2"]).await).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://acme.localhost/events").body(()).unwrap();
    let (answer, _) = client.ready().await.unwrap().send_request(request, true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    assert!(body.data().await.unwrap().unwrap().starts_with(b"data: x"));

    reloads(&gateway, 0, 50).await;
    for socket in [&mut closing, &mut staying] {
        echoes(socket, &app).await;
    }
    assert!(!gateway.metrics().await.contains("moat_streams_closed_total{"));

    suspend(&gateway, "acme");
    let mut frame = vec![0; SUSPENDED.len()];
    timeout(PATIENCE, closing.read_exact(&mut frame)).await.expect("no goodbye").unwrap();
    assert_eq!(frame, SUSPENDED);
    closing.write_all(b"\x88\x80\0\0\0\0").await.unwrap();
    assert_eq!(rest(&mut closing).await, b"", "nothing follows a close frame");
    assert_eq!(app.hears().await, [&[0x88, 0x80 | 18, 3, 0xf0], &b"tenant.suspended"[..]].concat());
    let left = rest(&mut cut).await;
    assert!(!left.ends_with(b"0\r\n\r\n"), "an end that looks whole: {:?}", String::from_utf8_lossy(&left));
    let error = timeout(PATIENCE, body.data()).await.expect("the stream stays open").unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "{error}");

    // One for each stream that there was.
    app.go.add_permits(3);
    read_until(&mut kept, "data: x\n\n").await;
    echoes(&mut staying, &app).await;
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("moat_streams_closed_total{reason=\"tenant.suspended\"} 3"), "{metrics}");
    for (path, status) in [("/page", 101), ("/events", 200)] {
        let entry = gateway
            .audit_entry(|entry| {
                entry["kind"] == "request" && entry["facts"]["path"] == path && entry["verdict"] != "permit"
            })
            .await;
        assert_eq!(entry["verdict"], "tenant.suspended", "{entry:#}");
        assert_eq!(entry["cause"], "ended by a reload: the tenant is suspended", "{entry:#}");
        assert_eq!(entry["outcome"]["status"], status, "{entry:#}");
    }
}

#[tokio::test]
async fn the_goodbye_waits_for_the_end_of_a_large_frame_and_nothing_comes_after_it() {
    let app = App::start().await;
    let gateway = app.gateway(|_| ()).await;
    let mut socket = websocket(&gateway, "acme", "/large", "").await;
    let mut half = vec![0; 30_000];
    timeout(PATIENCE, socket.read_exact(&mut half)).await.expect("no half").unwrap();
    suspend(&gateway, "acme");
    gateway
        .until("it is being closed", async |g: &Gateway| g.metrics().await.contains("moat_streams_closed_total{"))
        .await;
    app.go.add_permits(1);
    let left = rest(&mut socket).await;
    assert_eq!(left.len(), 70_010 - 30_000 + SUSPENDED.len());
    assert!(left.ends_with(&[b"xxxx", SUSPENDED].concat()));
}

#[tokio::test]
async fn a_request_without_an_answer_is_refused_with_a_whole_one() {
    let app = App::start().await;
    let gateway = app.gateway(|_| ()).await;
    let url = "https://acme.localhost/slow";
    let (reply, ()) = tokio::join!(gateway.get(url).send(), async {
        gateway
            .until("it waits", async |g: &Gateway| {
                g.metrics().await;
                app.script.connections() == 1
            })
            .await;
        suspend(&gateway, "acme");
        // Not asked for by requests: one of them could be under way itself, and be closed.
        gateway.wait_for_log("the new configuration", |line| line["message"] == "reloaded").unwrap();
        app.go.add_permits(1);
    });
    assert_eq!(reply.verdict(), "403 tenant.suspended", "{reply:?}");
    assert!(!gateway.metrics().await.contains("moat_streams_closed_total{"), "it was refused, not closed");
}

#[tokio::test]
async fn a_permission_that_is_lost_closes_what_it_had_opened() {
    let app = App::start().await;
    let gateway = app.gateway(|_| ()).await;
    let cookie = |roles: &[&str]| format!("Cookie: __Host-nl={}\r\n", gateway.token("acme", roles));
    let mut viewer = websocket(&gateway, "acme", "/api/bookings", &cookie(&["viewer"])).await;
    let mut finance = websocket(&gateway, "acme", "/api/bookings", &cookie(&["finance"])).await;
    let roles = gateway.bundle.read("policies/roles.yaml");
    let fewer = roles
        .replace("viewer: {grants: [bookings.read]}", "viewer: {grants: []}")
        .replace("[accounts.refund]", "[accounts.refund, bookings.read]");
    assert_ne!(roles, fewer);
    gateway.bundle.write("policies/roles.yaml", &fewer);
    gateway.signal("HUP");
    assert_eq!(rest(&mut viewer).await, b"\x88\x0f\x03\xf0access.denied");
    assert_eq!(app.hears().await[2..], *b"\x03\xf0access.denied");
    echoes(&mut finance, &app).await;
}

#[tokio::test]
async fn a_session_that_ends_closes_its_websocket_and_its_stream_only_where_told_so() {
    let app = App::start().await;
    let short = |gateway: &Gateway| {
        let token = Token::of("acme", &["viewer"]).claim("exp", crate::harness::now() + 3).signed(&gateway.bundle.key);
        format!("Cookie: __Host-nl={token}\r\n")
    };
    for (setting, stays) in [("", false), ("  close_at_expiry: nothing\n", true)] {
        let gateway = app.gateway(|bundle| bundle.replace("sessions:\n", &format!("sessions:\n{setting}"))).await;
        let mut socket = websocket(&gateway, "acme", "/api/bookings", &short(&gateway)).await;
        echoes(&mut socket, &app).await;
        if stays {
            let ended = timeout(Duration::from_secs(5), socket.read_u8()).await;
            assert!(ended.is_err(), "{ended:?}");
            echoes(&mut socket, &app).await;
            continue;
        }
        assert_eq!(rest(&mut socket).await, b"\x88\x11\x03\xf0session.expired");
        assert_eq!(app.hears().await[2..], *b"\x03\xf0session.expired");
        let entry = gateway.outcome_of_path("/api/bookings").await;
        assert_eq!(
            (&entry["verdict"], &entry["cause"]),
            (&"session.expired".into(), &"the session that opened it is over".into())
        );
        assert!(gateway.metrics().await.contains("moat_streams_closed_total{reason=\"session.expired\"} 1"));
    }
}
