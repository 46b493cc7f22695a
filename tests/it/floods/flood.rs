//! Floods: connections, handshakes, heads and refusals without end, and who is still served beside them.
use super::{Honest, knock, tcp_from, tls_on};
use crate::harness::{Bundle, Gateway, PATIENCE, Reply, Scripted, entries, moat, read_head, with};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// Asks on a connection that goes on; the answer's head.
async fn ask(stream: &mut TlsStream<TcpStream>, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let head = read_head(stream).await.to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    timeout(PATIENCE, stream.read_exact(&mut body)).await.unwrap().unwrap();
    head
}

async fn connected(gateway: &Gateway, source: &str) -> TlsStream<TcpStream> {
    timeout(PATIENCE, tls_on(gateway, tcp_from(gateway, source, false).await, b"http/1.1")).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_refusals_is_counted_whole_and_written_in_few_entries() {
    const FLOOD: usize = 600;
    let (gateway, upstream) = with(|bundle| {
        bundle.replace(
            "audit: {directory: state/audit}",
            "audit: {directory: state/audit, fold: {after: 20, per_second: 1, in_all_per_second: 5}}",
        );
    })
    .await;
    let gateway = Arc::new(gateway);
    let mut stream = connected(&gateway, "127.0.0.1").await;
    for _ in 0..FLOOD {
        let head = ask(&mut stream, b"GET /api/bookings HTTP/1.1\r\nHost: acme.localhost\r\n\r\n").await;
        assert!(head.starts_with("http/1.1 401"), "the answer is the same, folded or not: {head}");
    }
    // Whoever is known has an entry of his own, also for a refusal, also now.
    let (token, path) = (gateway.token("acme", &["viewer"]), "https://acme.localhost/api/bookings");
    for _ in 0..30 {
        let known = gateway.post(path, "{}").bearer(&token).send().await;
        assert_eq!(known.verdict(), "403 access.denied");
    }
    let accounted = async |g: &Gateway| {
        let all = entries(g);
        let of = |verdict: &str| all.iter().filter(|entry| entry["verdict"] == verdict).count();
        let folded: u64 = all.iter().filter_map(|entry| entry["detail"]["requests"].as_u64()).sum();
        (of("session.missing"), folded as usize, of("access.denied"))
    };
    gateway
        .until("each request is in an entry", async |g: &Gateway| {
            let (own, folded, known) = accounted(g).await;
            own + folded == FLOOD && known == 30
        })
        .await;
    let (own, folded, _) = accounted(&gateway).await;
    let common: Vec<Value> = entries(&gateway).into_iter().filter(|entry| entry["event"] == "folded").collect();
    println!("{FLOOD} refusals: {own} entries of their own, {folded} requests in {} common entries", common.len());
    assert!(own < 200 && common.len() < 100, "{own} and {}", common.len());
    let detail = &common[0]["detail"];
    assert_eq!((&detail["client"], &detail["listener"]), (&"127.0.0.1".into(), &"public".into()), "{detail:#}");
    assert_eq!(gateway.counted("moat_audit_folded_requests_total", "").await, folded as u64);
    assert_eq!(gateway.refusals("session.missing").await, FLOOD as u64);
    let verified = moat(gateway.bundle.root(), &["audit", "verify", "state/audit"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(verified.stdout.contains(&format!("{folded} requests share an entry")), "{verified:?}");
    let id = detail["first_id"].as_str().unwrap();
    let found = moat(gateway.bundle.root(), &["audit", "show", "state/audit", "--request-id", id]);
    assert!(found.stdout.contains("folded") && found.stdout.contains("verdict=session.missing"), "{found:?}");
    assert!(upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn handshakes_of_one_address_are_bounded_and_others_shake_hands_beside_them() {
    let (gateway, _upstream) = with(|bundle| {
        bundle.replace("handshake_timeout: 1s", "handshake_timeout: 1s, handshakes_per_second: 5");
    })
    .await;
    let gateway = Arc::new(gateway);
    let honest = Honest::begin(&gateway, "127.0.0.2");
    honest.is_served(10).await;
    let (mut done, mut closed) = (0, 0);
    for round in 0..300 {
        let Ok(tcp) = knock(&gateway, "127.0.0.1", false).await else {
            closed += 1;
            continue;
        };
        match round % 3 {
            // Garbage instead of a ClientHello.
            0 => {
                let mut tcp = tcp;
                let _ = tcp.write_all(&[0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5]).await;
                let mut rest = Vec::new();
                // An alert, or nothing.
                let _ = timeout(PATIENCE, tcp.read_to_end(&mut rest)).await.unwrap();
            }
            // Half of a handshake.
            1 => drop(tcp),
            _ => match timeout(PATIENCE, tls_on(&gateway, tcp, b"http/1.1")).await.unwrap() {
                Ok(_) => done += 1,
                Err(_) => closed += 1,
            },
        }
    }
    honest.is_served(20).await;
    let (answers, slowest) = honest.end().await;
    let turned_away = gateway.counted("moat_connections_rejected_total", "reason=\"handshakes\"").await;
    println!(
        "{done} handshakes, {closed} closed, {turned_away} of 300 turned away; {answers} honest answers, slowest {slowest:?}"
    );
    assert!(turned_away > 0 && closed > 0, "{turned_away} turned away, {done} done");
}

/// An application that answers `/page` and nothing else.
async fn silent() -> Scripted {
    Scripted::start(|_, mut stream| async move {
        loop {
            let head = read_head(&mut stream).await;
            if !head.starts_with("GET /page") {
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                return;
            }
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_that_are_never_answered_use_up_the_room_of_their_address_and_not_of_others() {
    const ROOM: usize = 64;
    let app = silent().await;
    let bundle = Bundle::standard(app.address);
    bundle.replace("drain_timeout: 5s,", &format!("drain_timeout: 5s, requests_under_way: {ROOM},"));
    bundle.replace("first_byte_timeout: 1s, total_timeout: 30s", "first_byte_timeout: 30s");
    let gateway = Arc::new(Gateway::start(bundle).await);
    let honest = Honest::begin(&gateway, "127.0.0.9");
    honest.is_served(10).await;
    // More than there is room for, in turn from four addresses.
    let mut held = Vec::new();
    for n in 0..ROOM * 2 {
        let mut stream = connected(&gateway, &format!("127.0.0.{}", 1 + n % 4)).await;
        stream.write_all(b"GET /wait HTTP/1.1\r\nHost: acme.localhost\r\n\r\n").await.unwrap();
        held.push(stream);
    }
    gateway
        .until("each is under way or refused", async |g: &Gateway| {
            let under_way = g.counted("http_server_active_requests", "listener=\"public\"").await;
            under_way + g.refusals("quota.exceeded").await >= (ROOM * 2) as u64
        })
        .await;
    honest.is_served(30).await;
    let (answers, slowest) = honest.end().await;
    let told = gateway.refusals("quota.exceeded").await;
    println!(
        "{} requests for room for {ROOM}, {told} refused, {answers} honest answers, slowest {slowest:?}",
        held.len()
    );
    assert!(told > 0, "nobody was held back");
    assert_eq!(gateway.refusals("gateway.unavailable").await, 0, "the room was never used up");
}

/// Requests that are large, deep or many of something, and what becomes of each.
fn bombs(gateway: &Gateway) -> Vec<(&'static str, String, &'static str)> {
    let page = |fields: &str| format!("GET /page HTTP/1.1\r\nHost: acme.localhost\r\n{fields}\r\n");
    let api = |token: &str| {
        format!("GET /api/bookings HTTP/1.1\r\nHost: acme.localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
    };
    let signed = gateway.token("acme", &["viewer"]);
    let parts: Vec<&str> = signed.split('.').collect();
    let encoded = |text: String| URL_SAFE_NO_PAD.encode(text);
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(4000), "]".repeat(4000));
    let objects = format!("{}1{}", "{\"a\":".repeat(2000), "}".repeat(2000));
    let wide = format!("{{{}\"z\":1}}", (0..900).map(|n| format!("\"m{n}\":1,")).collect::<String>());
    let numbers = format!("{{\"exp\":1{}}}", "0".repeat(6000));
    let claims = |payload: &str| api(&format!("{}.{}.{}", parts[0], encoded(payload.to_owned()), parts[2]));
    let header = |header: &str| api(&format!("{}.{}.{}", encoded(header.to_owned()), parts[1], parts[2]));
    vec![
        ("many fields", page(&"A: b\r\n".repeat(100)), "request.too-large"),
        ("fields of all the room", page(&format!("A: {}\r\n", "b".repeat(20_000))), "request.too-large"),
        ("a long request line", format!("GET /{} HTTP/1.1\r\n", "a".repeat(9000)), "request.too-large"),
        ("many cookies", page(&format!("Cookie: {}\r\n", "a=b; ".repeat(4000))), "request.too-large"),
        ("one large cookie", page(&format!("Cookie: __Host-nl={}\r\n", "a".repeat(20_000))), "request.too-large"),
        (
            "a large cookie as session",
            page("")
                .replace("/page", "/api/bookings")
                .replace("\r\n\r\n", &format!("\r\nCookie: __Host-nl={}\r\n\r\n", "a".repeat(12_000))),
            "session.invalid",
        ),
        (
            "many small cookies",
            page("").replace("/page", "/api/bookings").replace(
                "\r\n\r\n",
                &format!("\r\nCookie: {}\r\n\r\n", (0..1200).map(|n| format!("c{n}=v; ")).collect::<String>() + "d=v"),
            ),
            "session.missing",
        ),
        ("a token larger than any", api(&"a".repeat(14_000)), "session.invalid"),
        ("a token of dots", api(&".".repeat(14_000)), "session.invalid"),
        ("deep lists in claims", claims(&deep), "session.invalid"),
        ("deep objects in claims", claims(&objects), "session.invalid"),
        ("many claims", claims(&wide), "session.invalid"),
        ("a number without end", claims(&numbers), "session.invalid"),
        ("deep lists in a token's header", header(&deep), "session.invalid"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bombs_of_fields_cookies_and_tokens_are_refused_and_reach_nobody() {
    let (gateway, upstream) = crate::harness::standard().await;
    let gateway = Arc::new(gateway);
    for (what, bomb, code) in bombs(&gateway) {
        let bomb = bomb.replacen("\r\n", "\r\nConnection: close\r\n", usize::from(bomb.ends_with("\r\n\r\n")));
        let answer = gateway.raw("acme.localhost", bomb.as_bytes()).await;
        let verdict = Reply::parse(&answer).verdict();
        assert!(verdict.ends_with(code), "{what}: {verdict}");
    }
    assert!(upstream.seen().is_empty());
    let reply = gateway.get("https://acme.localhost/page").send().await;
    assert_eq!(reply.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn silent_connections_from_many_addresses_leave_places_for_others_and_go() {
    let (gateway, _upstream) = with(|bundle| {
        bundle.replace("idle_timeout: 5s", "idle_timeout: 2s, connections_per_ip: 4");
    })
    .await;
    let gateway = Arc::new(gateway);
    let honest = Honest::begin(&gateway, "127.1.0.1");
    honest.is_served(10).await;
    let mut open = Vec::new();
    for n in 0..400 {
        open.push(knock(&gateway, &format!("127.2.0.{}", 1 + n % 50), false).await);
    }
    // The handshake's clock runs for each of them; those beyond four of an address are closed at once.
    gateway
        .until("all are closed", async |g: &Gateway| {
            let rejected = g.counted("moat_connections_rejected_total", "reason=\"per_address\"").await;
            let given_up = g.counted("moat_tls_handshakes_total", "result=\"timeout\"").await;
            rejected + given_up >= 400
        })
        .await;
    assert_eq!(gateway.counted("moat_connections_rejected_total", "reason=\"per_address\"").await, 200);
    honest.is_served(10).await;
    let (answers, slowest) = honest.end().await;
    println!("400 silent connections of 50 addresses; {answers} honest answers, slowest {slowest:?}");
}

#[test]
fn a_check_warns_where_the_limits_admit_more_memory_than_there_is() {
    let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
    bundle.replace("bytes: 16KiB", "bytes: 64KiB");
    let documented = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/limits.md")).unwrap();
    let shown = documented.split("$ moat check --memory 2GiB\n").nth(1).unwrap().lines().next().unwrap();
    let short = moat(bundle.root(), &["check", "--memory", "2GiB"]);
    assert_eq!((short.code, short.stderr.trim_end()), (Some(0), shown), "{short:?}");
    let fits = documented.split("What fits into 1 GiB: `server: {").nth(1).unwrap().split('}').next().unwrap();
    bundle.replace("drain_timeout: 5s,", &format!("drain_timeout: 5s, {fits},"));
    let enough = moat(bundle.root(), &["check", "--memory", "1GiB"]);
    assert_eq!((enough.code, enough.stderr.as_str()), (Some(0), ""), "{enough:?}");
    assert_eq!(moat(bundle.root(), &["check", "--memory", "much"]).code, Some(2));
}
