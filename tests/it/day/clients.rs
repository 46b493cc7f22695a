//! Clients with an arrival rate of their own: pooled HTTP/1.1, one HTTP/2 connection, and newcomers.
use crate::harness::{Gateway, PATIENCE};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

type H1 = http1::SendRequest<Full<Bytes>>;
type H2 = http2::SendRequest<Full<Bytes>>;

/// What became of the requests.
#[derive(Default)]
pub struct Tally {
    pub requests: usize,
    /// Of every answer.
    pub ids: Vec<String>,
    pub latencies: Vec<Duration>,
    /// What failed and was not provoked.
    pub failures: Vec<String>,
    /// POSTs that were under way while an endpoint was killed, and failed.
    pub provoked: usize,
    /// Requests that found their connection closing before they were sent.
    pub moved: usize,
    pub full: usize,
    pub resumed: usize,
    failed: Vec<Failed>,
}

/// A request that failed.
struct Failed {
    post: bool,
    sent: Instant,
    told: Instant,
    how: String,
}

impl Tally {
    /// Tells failures that were provoked from others: a POST cannot be sent twice, so one that was under way while an
    /// endpoint was killed may be lost. Everything else may not.
    pub fn judge(&mut self, kills: &[(Instant, Instant)]) {
        for failed in self.failed.drain(..) {
            let during = kills.iter().any(|(from, to)| failed.sent <= *to && failed.told >= *from);
            if failed.post && during {
                self.provoked += 1;
            } else {
                self.failures.push(failed.how);
            }
        }
    }
}

/// How one request went: status and id, or why there is no answer.
type Outcome = Result<(u16, String), String>;

pub struct Clients {
    address: SocketAddr,
    token: String,
    resuming: TlsConnector,
    forgetful: TlsConnector,
    pool: Mutex<Vec<H1>>,
    multiplexed: tokio::sync::Mutex<Option<H2>>,
    moved: AtomicUsize,
    full: AtomicUsize,
    resumed: AtomicUsize,
}

impl Clients {
    pub fn new(gateway: &Gateway) -> Clients {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(gateway.bundle.path("certs/dev/ca.crt")).unwrap()).unwrap();
        let config = |resumption: Resumption| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.resumption = resumption;
            config
        };
        let connector = |mut config: rustls::ClientConfig, alpn: &[u8]| {
            config.alpn_protocols = vec![alpn.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Clients {
            address: gateway.address("public"),
            token: gateway.token("acme", &["cashier"]),
            resuming: connector(config(Resumption::in_memory_sessions(256)), b"http/1.1"),
            forgetful: connector(config(Resumption::disabled()), b"h2"),
            pool: Mutex::default(),
            multiplexed: tokio::sync::Mutex::default(),
            moved: AtomicUsize::new(0),
            full: AtomicUsize::new(0),
            resumed: AtomicUsize::new(0),
        }
    }

    /// So many requests per second until it is over, whatever becomes of those before.
    pub async fn arrive(self: Arc<Clients>, rate: u32, over: Arc<AtomicBool>) -> Tally {
        let (mut tally, mut under_way) = (Tally::default(), JoinSet::new());
        let mut arrivals = interval(Duration::from_secs(1) / rate);
        arrivals.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while !over.load(Ordering::Relaxed) {
            let due = arrivals.tick().await.into_std();
            let (clients, number) = (self.clone(), tally.requests);
            tally.requests += 1;
            under_way.spawn(async move { clients.one(number, due).await });
            while let Some(done) = under_way.try_join_next() {
                note(&mut tally, done.unwrap());
            }
        }
        while let Some(done) = under_way.join_next().await {
            note(&mut tally, done.unwrap());
        }
        self.pool.lock().unwrap().clear();
        *self.multiplexed.lock().await = None;
        tally.moved = self.moved.load(Ordering::Relaxed);
        (tally.full, tally.resumed) = (self.full.load(Ordering::Relaxed), self.resumed.load(Ordering::Relaxed));
        tally
    }

    async fn one(&self, number: usize, due: Instant) -> (bool, Instant, Instant, Outcome) {
        let (post, sent) = (number % 5 == 4, Instant::now());
        let asked = async {
            match number % 10 {
                0..6 => self.over_h1(post, true).await,
                6 | 7 => self.over_h1(post, false).await,
                _ => self.over_h2(post).await,
            }
        };
        let outcome = timeout(PATIENCE * 2, asked).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        (post, due.min(sent), Instant::now(), outcome)
    }

    fn request(&self, post: bool, h2: bool) -> Request<Full<Bytes>> {
        let uri = if h2 { "https://acme.localhost/api/bookings" } else { "/api/bookings" };
        let request = Request::builder().uri(uri).header("authorization", format!("Bearer {}", self.token));
        let request = if h2 { request } else { request.header("host", "acme.localhost") };
        let made = match post {
            false => request.body(Full::default()),
            true => request.method("POST").header("content-type", "application/json").body(Full::from("{\"seats\":2}")),
        };
        made.unwrap()
    }

    /// On a connection that is kept, or on one of its own.
    async fn over_h1(&self, post: bool, keep: bool) -> Outcome {
        loop {
            let pooled = if keep { self.pool.lock().unwrap().pop() } else { None };
            let mut sender = match pooled {
                Some(sender) => sender,
                None => {
                    let io = TokioIo::new(self.connect(&self.resuming).await?);
                    let (sender, connection) = http1::handshake(io).await.map_err(told)?;
                    tokio::spawn(connection);
                    sender
                }
            };
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.send_request(self.request(post, false)).await {
                Ok(response) => {
                    let last = response.headers().get("connection").is_some_and(|value| value == "close");
                    let answer = answer(response).await?;
                    if keep && !last {
                        self.pool.lock().unwrap().push(sender);
                    }
                    return Ok(answer);
                }
                // Closed before a byte of the request was written.
                Err(error) if error.is_canceled() => drop(self.moved.fetch_add(1, Ordering::Relaxed)),
                Err(error) => return Err(told(error)),
            }
        }
    }

    /// On the one connection of all.
    async fn over_h2(&self, post: bool) -> Outcome {
        loop {
            let mut sender = {
                let mut current = self.multiplexed.lock().await;
                match &*current {
                    Some(sender) if !sender.is_closed() => sender.clone(),
                    Some(_) | None => {
                        let io = TokioIo::new(self.connect(&self.forgetful).await?);
                        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(told)?;
                        tokio::spawn(connection);
                        current.insert(sender).clone()
                    }
                }
            };
            if sender.ready().await.is_err() {
                *self.multiplexed.lock().await = None;
                continue;
            }
            match sender.send_request(self.request(post, true)).await {
                Ok(response) => return answer(response).await,
                // GOAWAY names the last stream that was looked at (RFC 9113, 6.8): this one was not.
                Err(error) if error.is_canceled() || went_away(&error) => {
                    self.moved.fetch_add(1, Ordering::Relaxed);
                    *self.multiplexed.lock().await = None;
                }
                Err(error) => return Err(told(error)),
            }
        }
    }

    async fn connect(&self, connector: &TlsConnector) -> Result<TlsStream<TcpStream>, String> {
        let tcp = TcpStream::connect(self.address).await.map_err(|error| format!("connect: {error}"))?;
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        let name = ServerName::try_from("acme.localhost").unwrap();
        let stream = connector.connect(name, tcp).await.map_err(|error| format!("handshake: {error}"))?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let counter = if resumed { &self.resumed } else { &self.full };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(stream)
    }
}

async fn answer(response: Response<Incoming>) -> Outcome {
    let id = response.headers().get("x-request-id").ok_or("an answer without id")?.to_str().unwrap().to_owned();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.map_err(|error| format!("{id}, {status}, the body: {error}"))?;
    match body.to_bytes().is_empty() {
        true => Err(format!("{id}, {status}, no body")),
        false => Ok((status, id)),
    }
}

fn went_away(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR))
}

fn told(error: hyper::Error) -> String {
    format!("{error:?}")
}

fn note(tally: &mut Tally, (post, sent, told, outcome): (bool, Instant, Instant, Outcome)) {
    let how = match outcome {
        Ok((status, id)) => {
            tally.ids.push(id.clone());
            if status == 200 {
                tally.latencies.push(told - sent);
                return;
            }
            format!("{id}: {status}")
        }
        Err(how) => how,
    };
    let how = format!("{} {how}", if post { "POST" } else { "GET" });
    tally.failed.push(Failed { post, sent, told, how });
}
