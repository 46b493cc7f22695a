//! Five gateways that share one store, a Redis or a PostgreSQL, or have one of each, under load, while it is killed and stalled, links fail and
//! clocks are off: nobody who was ended is served beyond the bound, at any of them, ever, and nobody else is out.
use super::history::{Ask, End, History, Stream};
use crate::harness::{Bundle, Gateway, OWNER, PATIENCE, Postgres, Redis, Token, Weather, Wire, now};
use crate::live::{App, websocket};
use crate::sessions::cookie;
use std::net::SocketAddr;
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
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Each of the proofs takes both cores.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What the gateways share.
enum Store {
    Redis(Redis),
    Postgres(Postgres),
    /// The Redis keeps who was ended, and is behind the wires; the PostgreSQL keeps the sessions.
    Both(Redis, Postgres),
}

impl Store {
    fn address(&self) -> SocketAddr {
        match self {
            Store::Redis(redis) | Store::Both(redis, _) => redis.address,
            Store::Postgres(postgres) => postgres.address,
        }
    }

    /// `storage:` for a gateway that reaches it here.
    fn storage(&self, at: SocketAddr) -> String {
        let in_redis = |kinds: &str| {
            format!(
                "redis: {{url: \"redis://{at}\", hash_key: {{file: hash-key}}, use_for: [{kinds}], command_timeout: 1s}}"
            )
        };
        let in_postgres = |at: SocketAddr, kinds: &str| {
            let password = "password: {file: postgres-password}";
            format!("postgres: {{url: \"postgresql://{}@{at}/postgres\", {password}, use_for: [{kinds}]}}", OWNER.0)
        };
        match self {
            Store::Redis(_) => in_redis("revocations, sessions"),
            Store::Postgres(_) => in_postgres(at, "revocations, sessions"),
            Store::Both(_, postgres) => {
                format!("{}\n  {}", in_redis("revocations"), in_postgres(postgres.address, "sessions"))
            }
        }
    }

    fn each(&mut self) -> (Option<&mut Redis>, Option<&mut Postgres>) {
        match self {
            Store::Redis(redis) => (Some(redis), None),
            Store::Postgres(postgres) => (None, Some(postgres)),
            Store::Both(redis, postgres) => (Some(redis), Some(postgres)),
        }
    }

    fn kill(&mut self) {
        let (redis, postgres) = self.each();
        redis.into_iter().for_each(|redis| redis.kill());
        postgres.into_iter().for_each(|postgres| postgres.kill());
    }

    async fn restart(&mut self) {
        let (redis, postgres) = self.each();
        if let Some(redis) = redis {
            redis.restart().await;
        }
        if let Some(postgres) = postgres {
            postgres.restart().await;
        }
    }

    fn stall(&mut self) {
        let (redis, postgres) = self.each();
        redis.into_iter().for_each(|redis| redis.stall());
        postgres.into_iter().for_each(|postgres| postgres.stall());
    }

    fn resume(&mut self) {
        let (redis, postgres) = self.each();
        redis.into_iter().for_each(|redis| redis.resume());
        postgres.into_iter().for_each(|postgres| postgres.resume());
    }
}

/// All that is seen while it happens.
#[derive(Default)]
struct Book {
    history: Mutex<History>,
    stop: AtomicBool,
}

impl Book {
    fn mended(&self, replicas: impl IntoIterator<Item = usize>) {
        let at = Instant::now();
        self.history.lock().unwrap().mended.extend(replicas.into_iter().map(|replica| (replica, at)));
    }

    fn asked(&self) -> usize {
        self.history.lock().unwrap().asks.len()
    }
}

fn user(index: usize) -> String {
    format!("user-{index}")
}

/// Whether a user has a session of ours, rather than a token of the issuer.
fn holds_session(index: usize) -> bool {
    index % 4 == 3
}

/// A token of a user, issued a while ago by a clock that is ahead.
fn token(index: usize, key: &crate::harness::TokenKey) -> String {
    Token::of("acme", &["cashier"]).claim("sub", user(index)).claim("iat", now() - 5).without("auth_time").signed(key)
}

/// What a user shows: a header, without the line's end.
async fn credential(gateway: &Gateway, index: usize, token: &str) -> String {
    let bearer = format!("Authorization: Bearer {token}");
    if !holds_session(index) {
        return bearer;
    }
    let reply = gateway.call("POST", "https://acme.localhost/.moat/session").bearer(token).send().await;
    assert_eq!(reply.verdict(), "201", "{}", reply.text());
    format!("Cookie: {}", cookie(&reply).unwrap())
}

async fn replica(app: &App, store: &Store, wire: &Wire, number: usize, keys: Option<&Gateway>) -> Gateway {
    let mut bundle = Bundle::standard(app.script.address);
    bundle.replace("first_byte_timeout: 1s, total_timeout: 30s", "first_byte_timeout: 30s, idle_timeout: 10m");
    bundle.replace("handshake_timeout: 1s", "handshake_timeout: 10s");
    bundle.replace("instance: test-1", &format!("instance: replica-{number}"));
    bundle.replace(
        "sessions:\n",
        "sessions:
  keys: {file: keys}
  browser: {cookie: __Host-sid, exchange: [workforce]}
  revocation: {max_staleness: 2s, clock_tolerance: 8s}
",
    );
    let storage = format!("storage:\n  {}\nroutes:\n  home:", store.storage(wire.address));
    bundle.replace("routes:\n  home:", &storage);
    bundle.write("hash-key", "a secret that all replicas have in common\n");
    bundle.write("keys", KEY);
    bundle.write("postgres-password", OWNER.1);
    for (name, path, more) in [("live", "/live/**", ""), ("secret", "/secret", "\n    audit: {sensitive: true}")] {
        bundle.route(&format!(
            "  {name}:
    match: {{hosts: [\"*.localhost\"], paths: [{path}], methods: [GET]}}
    upstream: app
    auth: {{any_of: [{{bearer: workforce}}, {{session: browser}}]}}
    require: {{session: any}}{more}"
        ));
    }
    if let Some(first) = keys {
        bundle.write("jwks.json", &first.bundle.read("jwks.json"));
    }
    let skew = SKEWS[number];
    if skew != 0 {
        bundle.clock_off(&format!("{skew:+}s"));
    }
    Gateway::start(bundle).await
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
async fn ask(gateways: Arc<Vec<Gateway>>, shown: Arc<Vec<String>>, replica: usize, book: Arc<Book>) {
    let mut next = replica * 7;
    while !book.stop.load(Ordering::SeqCst) {
        next = (next + 13) % USERS;
        let began = Instant::now();
        let call = gateways[replica].get("https://acme.localhost/secret");
        let call = match shown[next].split_once(": ").unwrap() {
            ("Cookie", value) => call.header("cookie", value),
            (_, value) => call.header("authorization", value),
        };
        let status = call.send().await.status;
        let ask = Ask { user: next, replica, began, answered: Instant::now(), status };
        book.history.lock().unwrap().asks.push(ask);
    }
}

/// Reads what a stream says until it is closed, however long that takes.
async fn until_closed(mut socket: impl AsyncReadExt + Unpin, replica: usize, user: usize) -> (Stream, Vec<u8>) {
    let mut said = Vec::new();
    let _ = socket.read_to_end(&mut said).await;
    (Stream { user, replica, closed: Some(Instant::now()) }, said)
}

/// Waits until this many more requests were answered, so that there is load between two orders.
async fn more_asks(book: &Book, count: usize) {
    let before = book.asked();
    let deadline = Instant::now() + PATIENCE;
    while book.asked() < before + count {
        assert!(Instant::now() < deadline, "no load");
        tokio::task::yield_now().await;
    }
}

/// Waits until a replica has answered so to a sensitive request with a token that began from now on.
async fn until_status(book: &Book, replica: usize, status: u16) {
    let (from, deadline) = (Instant::now(), Instant::now() + PATIENCE * 3);
    let seen = || {
        let history = book.history.lock().unwrap();
        let late = history.asks.iter().rev().take_while(|ask| ask.answered > from);
        late.filter(|ask| !holds_session(ask.user))
            .any(|ask| ask.replica == replica && ask.status == status && ask.began > from)
    };
    while !seen() {
        assert!(Instant::now() < deadline, "replica {replica} does not come to {status}");
        tokio::task::yield_now().await;
    }
}

/// Ends a user wherever that can be done, and writes down when it was.
async fn end(gateways: &[Gateway], book: &Book, index: usize, first: Instant) -> usize {
    let (deadline, mut refused) = (Instant::now() + PATIENCE * 3, 0);
    for attempt in 0.. {
        if order(&gateways[(index + attempt) % REPLICAS], index).await {
            book.history.lock().unwrap().ends.insert(index, End { first, done: Instant::now() });
            return refused;
        }
        refused += 1;
        assert!(Instant::now() < deadline, "nobody can be ended");
    }
    refused
}

/// Opens the streams, loads all replicas, ends one user after the other while things fail, and hands back what was seen.
async fn seen_of(mut store: Store) -> History {
    let app = App::start().await;
    let (mut wires, mut gateways) = (Vec::new(), Vec::new());
    for number in 0..REPLICAS {
        let wire = Wire::to(store.address()).await;
        let gateway = replica(&app, &store, &wire, number, gateways.first()).await;
        gateway.until("the marks were read", async |g: &Gateway| g.admin("/readyz").await.status == 200).await;
        wires.push(wire);
        gateways.push(gateway);
    }
    let mut shown = Vec::new();
    for index in 0..USERS {
        let token = token(index, &gateways[0].bundle.key);
        shown.push(credential(&gateways[(index + 1) % REPLICAS], index, &token).await);
    }
    let mut streams = JoinSet::new();
    for (index, shown) in shown.iter().enumerate() {
        let replica = index % REPLICAS;
        let socket = websocket(&gateways[replica], "acme", "/live/socket", &format!("{shown}\r\n")).await;
        streams.spawn(until_closed(socket, replica, index));
    }
    let (gateways, shown, book) = (Arc::new(gateways), Arc::new(shown), Arc::new(Book::default()));
    let mut load = JoinSet::new();
    for replica in 0..REPLICAS {
        load.spawn(ask(gateways.clone(), shown.clone(), replica, book.clone()));
    }
    more_asks(&book, 2 * REPLICAS).await;

    let mut refused = 0;
    for index in 0..USERS {
        let first = Instant::now();
        match index {
            // The link of one replica takes everything and answers nothing; it is stale, and says so.
            12 => wires[1].turns(Weather::Hole),
            14 => until_status(&book, 1, 503).await,
            16 => {
                wires[1].turns(Weather::Fair);
                book.mended([1]);
                wires[2].turns(Weather::Cut);
            }
            18 => until_status(&book, 2, 503).await,
            20 => {
                wires[2].turns(Weather::Fair);
                book.mended([2]);
            }
            // Without the store nobody can be ended, and all replicas become stale.
            24 => {
                store.kill();
                assert!(!order(&gateways[0], index).await, "something was ended that is not durable");
                until_status(&book, 3, 503).await;
                store.restart().await;
                book.mended(0..REPLICAS);
            }
            30 => {
                store.stall();
                until_status(&book, 4, 503).await;
                store.resume();
                book.mended(0..REPLICAS);
            }
            _ => {}
        }
        refused += end(&gateways, &book, index, first).await;
        more_asks(&book, 2).await;
    }
    for replica in 0..REPLICAS {
        until_status(&book, replica, 401).await;
    }
    let mut closed = Vec::new();
    let all = async {
        while let Some(stream) = streams.join_next().await {
            let (stream, said) = stream.unwrap();
            assert!(said.ends_with(b"session.revoked"), "user {}: {said:?}", stream.user);
            closed.push(stream);
        }
    };
    let closing = tokio::time::timeout(PATIENCE, all).await;
    book.stop.store(true, Ordering::SeqCst);
    while load.join_next().await.is_some() {}
    assert!(closing.is_ok(), "of {USERS} WebSockets only {} were closed", closed.len());
    let mut history = std::mem::take(&mut *book.history.lock().unwrap());
    history.streams = closed;
    eprintln!("{} requests, {refused} orders refused", history.asks.len());
    history
}

async fn nobody_is_served_beyond_the_bound(store: Store) {
    let history = seen_of(store).await;
    let judgement = history.judge(STALE + SLACK);
    eprintln!("{judgement}");
    assert_eq!(judgement.wrong, []);
    assert_eq!((history.ends.len(), history.streams.len()), (USERS, USERS));
    assert!(
        judgement.after > USERS && judgement.served > USERS && judgement.unavailable > 0,
        "the test has seen nothing"
    );
    let by_cookie = |status| history.asks.iter().filter(|ask| holds_session(ask.user) && ask.status == status).count();
    assert!(by_cookie(200) > 0 && by_cookie(401) > 0, "sessions of ours were not asked for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_was_ended_is_served_beyond_the_bound_whatever_fails() {
    let _alone = ALONE.lock().await;
    let redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    nobody_is_served_beyond_the_bound(Store::Redis(redis)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_where_a_postgresql_keeps_who_was_ended() {
    let _alone = ALONE.lock().await;
    nobody_is_served_beyond_the_bound(Store::Postgres(Postgres::start(&[]).await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_where_a_redis_keeps_who_was_ended_and_a_postgresql_the_sessions() {
    let _alone = ALONE.lock().await;
    let redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    nobody_is_served_beyond_the_bound(Store::Both(redis, Postgres::start(&[]).await)).await;
}
