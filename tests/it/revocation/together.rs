//! Five gateways that share one Redis, under load, while it is killed, links fail and clocks are off: nobody who was ended is
//! served beyond the bound, at any of them, ever.
use crate::harness::{Bundle, Gateway, PATIENCE, Redis, Token, Weather, Wire, now};
use crate::live::{App, rest, websocket};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const REPLICAS: usize = 5;
const USERS: usize = 40;
/// `max_staleness` of the gateways.
const STALE: Duration = Duration::from_secs(2);
/// What a busy machine may add to it: a request that began in time is late by as much as it had to wait.
const SLACK: Duration = Duration::from_secs(2);
/// How far the clocks of replicas and issuer are apart, in seconds.
const SKEWS: [i64; REPLICAS] = [0, 3, -3, 0, 2];

/// One request of a user, and what became of it.
struct Ask {
    user: usize,
    replica: usize,
    began: Instant,
    status: u16,
}

/// All that was seen.
#[derive(Default)]
struct Book {
    asks: Mutex<Vec<Ask>>,
    /// When the order to end a user was answered with success.
    ended: Mutex<HashMap<usize, Instant>>,
    stop: AtomicBool,
}

fn user(index: usize) -> String {
    format!("user-{index}")
}

/// A token of a user, issued a while ago by a clock that is ahead.
fn token(index: usize, key: &crate::harness::TokenKey) -> String {
    Token::of("acme", &["cashier"]).claim("sub", user(index)).claim("iat", now() - 5).without("auth_time").signed(key)
}

async fn replica(app: &App, wire: &Wire, number: usize, keys: Option<&Gateway>) -> Gateway {
    let mut bundle = Bundle::standard(app.script.address);
    bundle.replace("first_byte_timeout: 1s, total_timeout: 30s", "first_byte_timeout: 30s");
    bundle.replace("instance: test-1", &format!("instance: replica-{number}"));
    bundle.replace("sessions:\n", "sessions:\n  revocation: {max_staleness: 2s, clock_tolerance: 8s}\n");
    let storage = format!(
        "storage:\n  redis: {{url: \"redis://{}\", hash_key: {{file: hash-key}}, use_for: [revocations], command_timeout: 1s}}\nroutes:\n  home:",
        wire.address
    );
    bundle.replace("routes:\n  home:", &storage);
    bundle.write("hash-key", "a secret that all replicas have in common\n");
    bundle.route("  live:\n    match: {hosts: [\"*.localhost\"], paths: [/live/**], methods: [GET]}\n    upstream: app\n    auth: {bearer: workforce}\n    require: {session: any}");
    bundle.route("  secret:\n    match: {hosts: [\"*.localhost\"], paths: [/secret], methods: [GET]}\n    upstream: app\n    auth: {bearer: workforce}\n    require: {session: any}\n    audit: {sensitive: true}");
    if let Some(first) = keys {
        bundle.write("jwks.json", &first.bundle.read("jwks.json"));
    }
    let skew = SKEWS[number];
    if let Some(library) = faketime().filter(|_| skew != 0) {
        bundle.environment.push(("LD_PRELOAD".to_owned(), library));
        bundle.environment.push(("FAKETIME".to_owned(), format!("{skew:+}s")));
        bundle.environment.push(("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()));
    }
    Gateway::start(bundle).await
}

/// The library of the package `faketime`, which scripts/test installs.
fn faketime() -> Option<String> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"];
    let paths = folders.map(|folder| format!("{folder}/faketime/libfaketime.so.1"));
    paths.into_iter().find(|path| std::path::Path::new(path).exists())
}

/// The order at a replica; whether it says that it was done.
async fn order(gateway: &Gateway, index: usize) -> bool {
    let body = format!(
        r#"{{"what":{{"subject":{{"issuer":"workforce","subject":"{}","tenant":null}}}},"dry_run":false,"actor":"checker"}}"#,
        user(index)
    );
    let answered = async {
        let mut stream = TcpStream::connect(gateway.address("admin")).await.ok()?;
        let head = format!(
            "POST /sessions/revoke HTTP/1.1\r\nhost: localhost\r\nx-moat-admin: 1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer.starts_with("HTTP/1.1 200"))
    };
    tokio::time::timeout(PATIENCE, answered).await.ok().flatten().unwrap_or(false)
}

/// Asks one replica for one user after the other, ended ones too, until told to stop.
async fn ask(gateways: Arc<Vec<Gateway>>, tokens: Arc<Vec<String>>, replica: usize, book: Arc<Book>) {
    let mut next = replica * 7;
    while !book.stop.load(Ordering::SeqCst) {
        next = (next + 13) % USERS;
        let began = Instant::now();
        let reply = gateways[replica].get("https://acme.localhost/secret").bearer(&tokens[next]).send().await;
        book.asks.lock().unwrap().push(Ask { user: next, replica, began, status: reply.status });
    }
}

/// Waits until this many more requests were answered, so that there is load between two orders.
async fn more_asks(book: &Book, count: usize) {
    let before = book.asks.lock().unwrap().len();
    let deadline = Instant::now() + PATIENCE;
    while book.asks.lock().unwrap().len() < before + count {
        assert!(Instant::now() < deadline, "no load");
        tokio::task::yield_now().await;
    }
}

/// Waits until a replica has answered so to a sensitive request that began from now on.
async fn until_status(book: &Book, replica: usize, status: u16) {
    let (from, deadline) = (Instant::now(), Instant::now() + PATIENCE * 3);
    let seen =
        || book.asks.lock().unwrap().iter().rev().any(|a| a.replica == replica && a.status == status && a.began > from);
    while !seen() {
        assert!(Instant::now() < deadline, "replica {replica} does not come to {status}");
        tokio::task::yield_now().await;
    }
}

/// Ends a user wherever that can be done, and writes down when it was.
async fn end(gateways: &[Gateway], book: &Book, index: usize) -> usize {
    let (deadline, mut refused) = (Instant::now() + PATIENCE * 3, 0);
    for attempt in 0.. {
        if order(&gateways[(index + attempt) % REPLICAS], index).await {
            book.ended.lock().unwrap().insert(index, Instant::now());
            return refused;
        }
        refused += 1;
        assert!(Instant::now() < deadline, "nobody can be ended");
    }
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_was_ended_is_served_beyond_the_bound_whatever_fails() {
    let mut redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let app = App::start().await;
    let (mut wires, mut gateways) = (Vec::new(), Vec::new());
    for number in 0..REPLICAS {
        let wire = Wire::to(redis.address).await;
        let gateway = replica(&app, &wire, number, gateways.first()).await;
        gateway.until("the marks were read", async |g: &Gateway| g.admin("/readyz").await.status == 200).await;
        wires.push(wire);
        gateways.push(gateway);
    }
    let tokens: Vec<String> = (0..USERS).map(|index| token(index, &gateways[0].bundle.key)).collect();
    let mut sockets = Vec::new();
    for index in 0..10 {
        let header = format!("Authorization: Bearer {}\r\n", tokens[index]);
        sockets.push((index, websocket(&gateways[index % REPLICAS], "acme", "/live/socket", &header).await));
    }
    let (gateways, tokens, book) = (Arc::new(gateways), Arc::new(tokens), Arc::new(Book::default()));
    let mut load = JoinSet::new();
    for replica in 0..REPLICAS {
        load.spawn(ask(gateways.clone(), tokens.clone(), replica, book.clone()));
    }
    let mut closing = JoinSet::new();
    for (index, mut socket) in sockets {
        closing.spawn(async move {
            let left = rest(&mut socket).await;
            (index, Instant::now(), left)
        });
    }
    more_asks(&book, 2 * REPLICAS).await;

    let mut refused = 0;
    for index in 0..USERS {
        match index {
            // The link of one replica takes everything and answers nothing; it is stale, and says so.
            12 => wires[1].turns(Weather::Hole),
            14 => until_status(&book, 1, 503).await,
            16 => {
                wires[1].turns(Weather::Fair);
                wires[2].turns(Weather::Cut);
            }
            18 => until_status(&book, 2, 503).await,
            20 => wires[2].turns(Weather::Fair),
            // Without the store nobody can be ended, and all replicas become stale.
            24 => {
                redis.kill();
                assert!(!order(&gateways[0], index).await, "something was ended that is not durable");
                until_status(&book, 3, 503).await;
                redis.restart().await;
            }
            30 => {
                redis.stall();
                until_status(&book, 4, 503).await;
                redis.resume();
            }
            _ => {}
        }
        refused += end(&gateways, &book, index).await;
        more_asks(&book, 2).await;
    }
    for replica in 0..REPLICAS {
        until_status(&book, replica, 401).await;
    }
    book.stop.store(true, Ordering::SeqCst);
    while load.join_next().await.is_some() {}

    // The checker: every request that was served, after every order that was done.
    let asks = std::mem::take(&mut *book.asks.lock().unwrap());
    let ended = std::mem::take(&mut *book.ended.lock().unwrap());
    assert_eq!(ended.len(), USERS);
    let late = |ask: &Ask| ended.get(&ask.user).and_then(|at| ask.began.checked_duration_since(*at));
    let served: Vec<&Ask> = asks.iter().filter(|ask| ask.status == 200).collect();
    let worst = served.iter().filter_map(|ask| late(ask).map(|late| (late, ask.replica, ask.user))).max();
    let after = asks.iter().filter(|ask| late(ask).is_some()).count();
    let denied = asks.iter().filter(|ask| ask.status == 503).count();
    eprintln!(
        "{} requests, {} served, {after} after the order, {denied} refused by stale replicas, {refused} orders refused; worst: {worst:?}",
        asks.len(),
        served.len()
    );
    assert!(after > USERS && !served.is_empty() && denied > 0, "the test has seen nothing");
    for ask in &served {
        let late = late(ask).unwrap_or_default();
        assert!(late <= STALE + SLACK, "replica {} served user {} {late:?} after the end", ask.replica, ask.user);
    }
    assert!(asks.iter().all(|ask| [200, 401, 503].contains(&ask.status)), "an answer of another kind");

    while let Some(closed) = closing.join_next().await {
        let (index, at, left) = closed.unwrap();
        assert!(left.ends_with(b"session.revoked"), "user {index}: {left:?}");
        let late = at.checked_duration_since(ended[&index]).unwrap_or_default();
        assert!(late <= STALE + SLACK, "the WebSocket of user {index} was open for {late:?}");
    }
}
