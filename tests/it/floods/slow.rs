//! Every kind of slow client that we know of, one beside the other: each is cut, and says so in the log or a counter.
use super::{Cut, Honest, tcp_from, tls_on, until_cut};
use crate::harness::{Bundle, Gateway, PATIENCE, Scripted, read_head, read_until};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No limit of the test's gateway is longer than a second; the rest is for a machine that has much else to do.
const BOUND: Duration = Duration::from_secs(15);
/// Bytes of the large answer: more than all buffers between application and client.
const LARGE: usize = 64 << 20;
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// An application with a page, a sink for bodies, a large answer and WebSockets that say nothing.
async fn serve(mut stream: TcpStream) {
    loop {
        let head = read_head(&mut stream).await.to_lowercase();
        if head.is_empty() {
            return;
        }
        if head.contains("upgrade: websocket") {
            let _ = stream.write_all(SWITCH).await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            return;
        }
        if head.starts_with("post") {
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            return;
        }
        if head.starts_with("get /large") {
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes()).await;
            let piece = vec![b'x'; 1 << 20];
            for _ in 0..LARGE / piece.len() {
                if stream.write_all(&piece).await.is_err() {
                    return;
                }
            }
            continue;
        }
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}

async fn gateway() -> (Arc<Gateway>, Scripted) {
    let app = Scripted::start(|_, stream| serve(stream)).await;
    let bundle = Bundle::standard(app.address);
    bundle
        .replace("header_timeout: 1s, idle_timeout: 5s", "header_timeout: 1s, idle_timeout: 1s, stall_timeout: 500ms");
    bundle.replace("first_byte_timeout: 1s, total_timeout: 30s", "first_byte_timeout: 30s, idle_timeout: 1s");
    bundle.route(
        "  sink:\n    match: {hosts: [\"*.localhost\"], paths: [\"/sink/{kind}\"], methods: [POST]}\n    upstream: app\n    \
         public: \"a test\"\n    headers: api-json\n    body: {max: 1MiB}",
    );
    (Arc::new(Gateway::start(bundle).await), app)
}

fn request(line: &str, fields: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: acme.localhost\r\n{fields}").into_bytes()
}

/// The first flight of a client that can do TLS.
fn hello(gateway: &Gateway) -> Vec<u8> {
    let config = Arc::new(gateway.tls_client(&[b"http/1.1"]));
    let mut client = rustls::ClientConnection::new(config, "acme.localhost".try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Each byte by itself.
fn each(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.chunks(1).collect()
}

/// What one kind of slow client met.
async fn on_tls(gateway: &Gateway, alpn: &[u8], first: &[u8], drips: &[&[u8]]) -> Option<Cut> {
    let tcp = tcp_from(gateway, "127.0.0.1", false).await;
    let mut stream = tls_on(gateway, tcp, alpn).await.unwrap();
    until_cut(&mut stream, first, drips).await
}

async fn on_tcp(gateway: &Gateway, first: &[u8], drips: &[&[u8]]) -> Option<Cut> {
    until_cut(&mut tcp_from(gateway, "127.0.0.1", false).await, first, drips).await
}

/// Asks for the large answer with a small window and takes `bytes` of it, again and again; the log tells of its end.
async fn slow_reader(gateway: &Gateway, path: &'static str, bytes: usize) -> Option<Cut> {
    let begun = Instant::now();
    let tcp = tcp_from(gateway, "127.0.0.1", true).await;
    let mut stream = tls_on(gateway, tcp, b"http/1.1").await.unwrap();
    stream.write_all(&request(&format!("GET {path}"), "\r\n")).await.unwrap();
    let entry = gateway.outcome_of_path(path);
    let reading = async {
        let (mut piece, mut clock) = (vec![0; bytes.max(1)], tokio::time::interval(super::TICK));
        if bytes > 0 {
            clock.tick().await;
            while matches!(stream.get_mut().0.read(&mut piece).await, Ok(1..)) {
                clock.tick().await;
            }
        }
        std::future::pending::<()>().await;
    };
    let entry = tokio::select! { entry = entry => entry, () = reading => unreachable!() };
    assert_eq!(entry["verdict"], "request.timeout", "{entry:#}");
    Some(Cut { after: begun.elapsed(), said: String::new() })
}

async fn websocket(gateway: &Gateway, kind: &str, drips: &[&[u8]]) -> Option<Cut> {
    let tcp = tcp_from(gateway, "127.0.0.1", false).await;
    let mut stream = tls_on(gateway, tcp, b"http/1.1").await.unwrap();
    let fields = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    stream.write_all(&request(&format!("GET /ws/{kind}"), fields)).await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    until_cut(&mut stream, b"", drips).await
}

/// HTTP/2 whose header block never ends: HEADERS without END_HEADERS, and CONTINUATION in drips.
async fn continuation(gateway: &Gateway) -> Option<Cut> {
    let mut first = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    first.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    // `:method: GET` of the static table, and no end of the block.
    first.extend([0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]);
    let frame = [0, 0, 1, 9, 0, 0, 0, 0, 1, 0x84];
    on_tls(gateway, b"h2", &first, &each(&frame)).await
}

/// A client that ends its side in the middle of a head, and goes on listening.
async fn half_closed(gateway: &Gateway) -> Option<Cut> {
    let tcp = tcp_from(gateway, "127.0.0.1", false).await;
    let mut stream = tls_on(gateway, tcp, b"http/1.1").await.unwrap();
    stream.write_all(b"GET /half HTTP/1.1\r\nHost: acme.loc").await.unwrap();
    stream.shutdown().await.unwrap();
    until_cut(&mut stream, b"", &[]).await
}

/// Where the account of a cut is to be found.
enum Account {
    /// An entry about this path with this verdict.
    Entry(&'static str, &'static str),
    /// A counter with these words that has grown to this at the least.
    Counter(&'static str, &'static str, u64),
    /// The client left by itself, as far as the gateway can see.
    None,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_kind_of_slow_client_is_cut_and_honest_ones_are_served_beside_it() {
    let (gateway, _app) = gateway().await;
    let honest = Honest::begin(&gateway, "127.0.0.2");
    honest.is_served(10).await;
    let (g, hello, timeouts) = (&*gateway, hello(&gateway), "moat_tls_handshakes_total");
    let (idle, rejected) = ("moat_connections_idle_closed_total", "moat_connections_rejected_total");
    let long_line = [b"GET /line/".as_slice(), &[b'a'; 2000]].concat();
    let long_field = [b"X-Field: ".as_slice(), &[b'a'; 2000]].concat();
    let body = |kind: &str, framing: &str| request(&format!("POST /sink/{kind}"), &format!("{framing}\r\n\r\n"));
    let asked = request("GET /page", "\r\n");
    let unfinished = (request("GET /field", ""), request("GET /fields", ""));
    let sized = body("sized", "Content-Length: 100000");
    let chunked = (body("chunked", "Transfer-Encoding: chunked"), body("tiny", "Transfer-Encoding: chunked"));
    let drip_chunk: Vec<&[u8]> = each(b"1;a=b\r\nx\r\n");
    let frame = [&[0x82, 0xfe, 0xff, 0xff, 1, 2, 3, 4][..], &[0; 4000]].concat();
    let (hello_drips, line_drips, field_drips, frame_drips) =
        (each(&hello), each(&long_line), each(&long_field), each(&frame));
    let (a, b, c, d, e, f, g1, h, i, j, k, l, m, n, o, p) = tokio::join!(
        on_tcp(g, b"", &[]),
        on_tcp(g, b"", &hello_drips),
        on_tcp(g, &hello, &[]),
        on_tls(g, b"http/1.1", b"", &line_drips),
        on_tls(g, b"http/1.1", &unfinished.0, &field_drips),
        on_tls(g, b"http/1.1", &unfinished.1, &[b"X-More: and more\r\n"]),
        on_tls(g, b"http/1.1", &sized, &[b"x"]),
        on_tls(g, b"http/1.1", &chunked.0, &drip_chunk),
        on_tls(g, b"http/1.1", &chunked.1, &[b"1\r\nx\r\n"]),
        slow_reader(g, "/large/slow", 1),
        slow_reader(g, "/large/never", 0),
        on_tls(g, b"http/1.1", &asked, &[]),
        half_closed(g),
        continuation(g),
        websocket(g, "silent", &[]),
        websocket(g, "drips", &frame_drips),
    );
    let handshake = || Account::Counter(timeouts, "result=\"timeout\"", 3);
    let kinds = [
        ("connects and says nothing", a, handshake()),
        ("ClientHello byte by byte", b, handshake()),
        ("handshake that is not finished", c, handshake()),
        ("request line byte by byte", d, Account::Counter("moat_refusals_total", "request.timeout", 6)),
        ("field byte by byte", e, Account::Entry("/field", "request.timeout")),
        ("fields without end", f, Account::Entry("/fields", "request.timeout")),
        ("body of known length byte by byte", g1, Account::Entry("/sink/sized", "request.timeout")),
        ("chunked body byte by byte", h, Account::Entry("/sink/chunked", "request.timeout")),
        ("chunks of one byte", i, Account::Entry("/sink/tiny", "request.timeout")),
        ("answer taken byte by byte", j, Account::Entry("/large/slow", "request.timeout")),
        ("answer not taken, window closed", k, Account::Entry("/large/never", "request.timeout")),
        ("connection kept and not used", l, Account::Counter(idle, "listener=\"public\"", 1)),
        // It has left, as far as anybody can tell, and nothing was asked.
        ("half closed in a head", m, Account::None),
        ("HTTP/2 header block that never ends", n, Account::Counter(rejected, "reason=\"abuse\"", 1)),
        ("WebSocket that says nothing", o, Account::Entry("/ws/silent", "upstream.timeout")),
        ("WebSocket frame byte by byte", p, Account::Entry("/ws/drips", "request.timeout")),
    ];
    let (mut cut, all) = (0, kinds.len());
    for (kind, met, account) in kinds {
        let met = met.unwrap_or_else(|| panic!("{kind}: not cut within {PATIENCE:?}"));
        assert!(met.after < BOUND, "{kind}: cut after {:?}", met.after);
        println!("{kind:<36} {:>5} ms  {}", met.after.as_millis(), met.said.lines().next().unwrap_or_default());
        match account {
            Account::Entry(path, verdict) => assert_eq!(g.outcome_of_path(path).await["verdict"], verdict, "{kind}"),
            Account::Counter(name, words, least) => {
                assert!(g.counted(name, words).await >= least, "{kind}: {}", g.metrics().await);
            }
            Account::None => {}
        }
        cut += 1;
    }
    honest.is_served(10).await;
    let (answers, slowest) = honest.end().await;
    println!("{cut} of {all} kinds cut; {answers} honest requests answered meanwhile, the slowest in {slowest:?}");
    assert!(answers >= 20 && slowest < BOUND, "{answers} answers, {slowest:?}");
    assert_eq!(g.counted("moat_unread_answers", "").await, 0, "places are given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answers_that_nobody_reads_wait_only_where_there_is_a_place_for_them() {
    let app = Scripted::start(|_, stream| serve(stream)).await;
    let bundle = Bundle::standard(app.address);
    bundle.replace("drain_timeout: 5s,", "drain_timeout: 5s, unread_answers: 1,");
    let gateway = Gateway::start(bundle).await;
    let mut open = Vec::new();
    for n in 1..=3 {
        let tcp = tcp_from(&gateway, &format!("127.0.0.{n}"), true).await;
        let mut stream = tls_on(&gateway, tcp, b"http/1.1").await.unwrap();
        stream.write_all(&request(&format!("GET /large/{n}"), "\r\n")).await.unwrap();
        open.push(stream);
    }
    // `stall_timeout` is a minute, so that these were cut for want of a place.
    gateway.until("two of three are cut", async |g: &Gateway| g.refusals("request.timeout").await == 2).await;
    assert_eq!(gateway.counted("moat_unread_answers", "").await, 1);
    drop(open);
    gateway.until("the place is free", async |g: &Gateway| g.counted("moat_unread_answers", "").await == 0).await;
}
