//! Five gateways over one PostgreSQL and one Redis: clients refresh at once, while stores die and come back, links are cut and
//! gateways are killed, under clocks that disagree. A checker reads every answer: no token has two successors, and nobody
//! honest is logged out.
use super::*;
use crate::harness::{OWNER, Postgres, Redis, Weather, Wire};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

const GATEWAYS: usize = 5;
const CLIENTS: usize = 12;
/// How far each gateway's clock is off: within `clock_skew` of each other.
const SKEWS: [&str; GATEWAYS] = ["-0.9s", "-0.4s", "+0s", "+0.5s", "+0.9s"];
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Every answer that anybody got.
#[derive(Default)]
struct Record {
    /// Presented token → successors.
    successors: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// Answers that log an honest client out.
    log_outs: Mutex<Vec<String>>,
    refreshed: AtomicUsize,
    unavailable: AtomicUsize,
    /// Tells that one of these has changed.
    changed: Notify,
}

impl Record {
    /// Waits until a count has grown by so much.
    async fn grows(&self, count: &AtomicUsize, by: usize, what: &str) {
        let before = count.load(Ordering::SeqCst);
        let grown = async {
            loop {
                let changed = self.changed.notified();
                if count.load(Ordering::SeqCst) >= before + by {
                    return;
                }
                changed.await;
            }
        };
        let grown = tokio::time::timeout(Duration::from_secs(90), grown).await;
        grown.unwrap_or_else(|_| panic!("nothing goes on after {what}: {:?}", self.log_outs.lock().unwrap()));
    }
}

struct Replica {
    gateway: Gateway,
    postgres: Wire,
    redis: Wire,
}

async fn replica(index: usize, stores: (&Postgres, &Redis), upstream: &Upstream, keys: &str) -> Replica {
    let (postgres, redis) = (Wire::to(stores.0.address).await, Wire::to(stores.1.address).await);
    let mut bundle = Bundle::standard(upstream.address);
    bundle.write("jwks.json", keys);
    bundle.write("keys", KEY);
    bundle.write("postgres-password", OWNER.1);
    issuing(&mut bundle, ", refresh: {reuse_leeway: 5s, clock_skew: 2s}");
    bundle.replace("sessions:\n", "sessions:\n  keys: {file: keys}\n");
    bundle.replace("handshake_timeout: 1s", "handshake_timeout: 10s");
    bundle.replace("instance: test-1", &format!("instance: test-{index}"));
    let storage = format!(
        "storage:
  redis: {{url: \"redis://{}\", use_for: [once]}}
  postgres: {{url: \"postgresql://{}@{}/postgres\", password: {{file: postgres-password}}, use_for: [refresh_families]}}
routes:\n",
        redis.address, OWNER.0, postgres.address
    );
    bundle.replace("routes:\n", &storage);
    bundle.clock_off(SKEWS[index]);
    Replica { gateway: Gateway::start(bundle).await, postgres, redis }
}

/// Numbers that look like chance and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

/// What a refresh came to; `None` where the connection broke.
async fn tried(address: SocketAddr, tls: rustls::ClientConfig, token: &str) -> Option<(u16, Value)> {
    let work = async {
        let tcp = tokio::net::TcpStream::connect(address).await.ok()?;
        let name = ServerName::try_from("acme.localhost").unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.ok()?;
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
        tokio::spawn(connection);
        let body = format!("grant_type=refresh_token&refresh_token={token}");
        let request = http::Request::post("/.moat/token")
            .header("host", "acme.localhost")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(http_body_util::Full::new(bytes::Bytes::from(body)))
            .unwrap();
        let answer = sender.send_request(request).await.ok()?;
        let status = answer.status().as_u16();
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.ok()?.to_bytes();
        Some((status, serde_json::from_slice(&body).unwrap_or_default()))
    };
    tokio::time::timeout(Duration::from_secs(15), work).await.ok().flatten()
}

/// An honest client: refreshes as often as it can, at several gateways at once, and comes back where it is told to.
struct Client {
    number: usize,
    token: String,
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    tls: rustls::ClientConfig,
    record: Arc<Record>,
    over: Arc<AtomicBool>,
}

impl Client {
    /// Returns what it holds in the end.
    async fn run(mut self) -> String {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (self.number as u64 + 1));
        while !self.over.load(Ordering::SeqCst) {
            let copies = 1 + dice.roll(4);
            let calls: Vec<_> = (0..copies)
                .map(|_| {
                    let address = self.addresses.lock().unwrap()[dice.roll(GATEWAYS)];
                    let (tls, token) = (self.tls.clone(), self.token.clone());
                    tokio::spawn(async move { tried(address, tls, &token).await })
                })
                .collect();
            let mut next = None;
            for call in calls {
                next = self.read(call.await.unwrap()).or(next);
            }
            match next {
                Some(next) => {
                    self.token = next;
                    self.record.refreshed.fetch_add(1, Ordering::SeqCst);
                }
                // As `Retry-After` asks for, only more impatient.
                None => {
                    let _ = tokio::time::timeout(Duration::from_millis(100), std::future::pending::<()>()).await;
                }
            }
            self.record.changed.notify_waiters();
        }
        self.token
    }

    /// Writes an answer down, and returns the successor in it.
    fn read(&self, answer: Option<(u16, Value)>) -> Option<String> {
        match answer? {
            (200, body) => {
                let successor = body["refresh_token"].as_str().unwrap().to_owned();
                let mut successors = self.record.successors.lock().unwrap();
                successors.entry(self.token.clone()).or_default().insert(successor.clone());
                return Some(successor);
            }
            (503, _) => {
                self.record.unavailable.fetch_add(1, Ordering::SeqCst);
            }
            // The limit of the gateway's own endpoints, for which all of them are one address.
            (429, _) => {}
            (status, body) => {
                self.record.log_outs.lock().unwrap().push(format!("client {}: {status} {body}", self.number));
            }
        }
        None
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_gateways_give_one_successor_and_log_nobody_out() {
    let upstream = Upstream::start().await;
    let (mut postgres, mut redis) = (Postgres::start(&[]).await, Redis::start(&[]).await);
    let issuer = Bundle::empty();
    let set = issuer.read("jwks.json");
    let mut replicas = Vec::new();
    let mut trust = rustls::RootCertStore::empty();
    for index in 0..GATEWAYS {
        let replica = replica(index, (&postgres, &redis), &upstream, &set).await;
        let authority = std::fs::read(replica.gateway.bundle.path("certs/dev/ca.crt")).unwrap();
        trust.add(CertificateDer::from_pem_slice(&authority).unwrap()).unwrap();
        replicas.push(replica);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trust)
        .with_no_client_auth();
    let addresses: Vec<_> = replicas.iter().map(|replica| replica.gateway.address("public")).collect();
    let addresses = Arc::new(Mutex::new(addresses));
    let (record, over) = (Arc::new(Record::default()), Arc::new(AtomicBool::new(false)));
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let token = Token::of("acme", &["viewer"]).claim("iat", harness::now() - 10).signed(&issuer.key);
        let opened = form(&replicas[number % GATEWAYS].gateway, ACME, &exchange(&token)).await;
        assert_eq!(opened.status, 200, "{}", opened.text());
        let token = text(&opened, "refresh_token");
        let (addresses, tls, record, over) = (addresses.clone(), tls.clone(), record.clone(), over.clone());
        clients.push(tokio::spawn(Client { number, token, addresses, tls, record, over }.run()));
    }
    let progress = |what: &'static str| record.grows(&record.refreshed, 3 * CLIENTS, what);
    let refused = |what: &'static str| record.grows(&record.unavailable, 3, what);

    progress("the start").await;
    for round in 0..3 {
        // The store dies in the middle of writes, once for longer than the leeway, and comes back.
        postgres.kill();
        let began = Instant::now();
        refused("the death of the store").await;
        while round == 0 && began.elapsed() < Duration::from_secs(9) {
            refused("the death of the store").await;
        }
        postgres.restart().await;
        progress("the store's death").await;
        postgres.stall();
        refused("a stall").await;
        postgres.resume();
        progress("a stall").await;
        // Links of single gateways, to one store or the other.
        replicas[round].postgres.turns(Weather::Cut);
        replicas[round + 1].postgres.turns(Weather::Hole);
        replicas[round + 2].redis.turns(Weather::Hole);
        progress("cut links").await;
        replicas.iter().for_each(|r| r.postgres.turns(Weather::Fair));
        replicas.iter().for_each(|r| r.redis.turns(Weather::Fair));
        redis.kill();
        progress("the death of the other store").await;
        redis.restart().await;
        // A gateway dies with everything that it has under way, and comes back.
        let index = (round * 2) % GATEWAYS;
        let Replica { mut gateway, postgres: wire, redis: other } = replicas.remove(index);
        gateway.kill();
        progress("a gateway's death").await;
        let bundle = std::mem::replace(&mut gateway.bundle, Bundle::empty());
        let gateway = Gateway::start(bundle).await;
        addresses.lock().unwrap()[index] = gateway.address("public");
        replicas.insert(index, Replica { gateway, postgres: wire, redis: other });
        progress("its return").await;
    }
    over.store(true, Ordering::SeqCst);
    let mut held = Vec::new();
    for client in clients {
        held.push(client.await.unwrap());
    }

    let successors = std::mem::take(&mut *record.successors.lock().unwrap());
    let double: Vec<_> = successors.iter().filter(|(_, next)| next.len() > 1).collect();
    assert!(double.is_empty(), "tokens with two successors: {double:?}");
    let log_outs = std::mem::take(&mut *record.log_outs.lock().unwrap());
    assert!(log_outs.is_empty(), "{log_outs:?}");
    let refreshed = record.refreshed.load(Ordering::SeqCst);
    let unavailable = record.unavailable.load(Ordering::SeqCst);
    eprintln!(
        "{CLIENTS} clients, {refreshed} refreshes, {} tokens, {unavailable} times told to come back",
        successors.len()
    );
    assert!(refreshed > 20 * CLIENTS, "{refreshed}");

    // And a thief is found out, wherever he comes from.
    let stolen = successors.keys().find(|token| !held.contains(token)).unwrap();
    for replica in &replicas {
        let told = async |gateway: &Gateway| match tried(gateway.address("public"), tls.clone(), stolen).await {
            // The last token of its owner may be in its leeway still.
            None | Some((200 | 429 | 503, _)) => false,
            Some((status, body)) => {
                assert_eq!((status, &body["code"]), (400, &"session.reused".into()));
                true
            }
        };
        replica.gateway.until("the thief is told", told).await;
    }
}
