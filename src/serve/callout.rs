//! A service that is asked about requests: one pool of connections, a deadline, and a bound on questions under way.
use crate::config::settings::ExtAuth;
use crate::serve::authorities::{causes, client_tls};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

/// Bytes of an answer's body that are read.
const BODY: usize = 64 << 10;
/// Connections that are kept open while nobody asks.
const IDLE: usize = 64;
/// How long; shorter than servers do, so that few questions meet a connection that is just being closed.
const IDLE_FOR: Duration = Duration::from_secs(4);
/// Bytes of the headers of an answer.
const HEAD: usize = 32 << 10;
/// Authorities that were read so long ago are read anew after a question that failed: their file may have changed.
const STALE: Duration = Duration::from_secs(10);

type Connections = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The way to a service: its connections, and how long and how often it is asked.
pub struct Line {
    /// Who it is, in causes.
    name: Arc<str>,
    https: bool,
    ca: Option<PathBuf>,
    timeout: Duration,
    connections: Mutex<Option<(Connections, Instant)>>,
    under_way: Arc<Semaphore>,
}

/// A place among the questions under way.
pub struct Turn(#[expect(dead_code, reason = "held, and given back when dropped")] OwnedSemaphorePermit);

impl Line {
    /// Not connected yet. Without `https` it is spoken to in the clear.
    pub fn new(name: Arc<str>, https: bool, ca: Option<PathBuf>, timeout: Duration, max_in_flight: usize) -> Line {
        let under_way = Arc::new(Semaphore::new(max_in_flight));
        Line { name, https, ca, timeout, connections: Mutex::default(), under_way }
    }

    /// A place among the questions under way, where there is one. The error is for the audit entry.
    pub fn turn(&self) -> Result<Turn, String> {
        let place = self.under_way.clone().try_acquire_owned();
        place.map(Turn).map_err(|_| format!("`{}` has `max_in_flight` questions under way", self.name))
    }

    /// Asks once, within the time for it. A body that is longer than 64 KiB or breaks off is an error of its own, for whoever
    /// needs it. No redirect is followed. The error is for the audit entry.
    pub async fn ask(
        &self,
        _turn: &Turn,
        request: Request<Full<Bytes>>,
    ) -> Result<(response::Parts, Result<Bytes, String>), String> {
        match tokio::time::timeout(self.timeout, self.exchange(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(cause)) => {
                self.forget_stale().await;
                Err(format!("`{}`: {cause}", self.name))
            }
            Err(_) => Err(format!("`{}` did not answer within {} ms", self.name, self.timeout.as_millis())),
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(response::Parts, Result<Bytes, String>), String> {
        let answer = self.connections().await?.request(request).await.map_err(|error| causes(&error))?;
        let (head, body) = answer.into_parts();
        // A body that does not end costs its connection.
        let body = Limited::new(body, BODY).collect().await;
        Ok((head, body.map(|body| body.to_bytes()).map_err(|error| causes(&*error))))
    }

    /// The pool; whoever comes while it is being made waits for it.
    async fn connections(&self) -> Result<Connections, String> {
        let mut known = self.connections.lock().await;
        if let Some((connections, _)) = &*known {
            return Ok(connections.clone());
        }
        let made = connect(self.https, self.ca.clone()).await?;
        *known = Some((made.clone(), Instant::now()));
        Ok(made)
    }

    async fn forget_stale(&self) {
        let mut known = self.connections.lock().await;
        if known.as_ref().is_some_and(|(_, made)| made.elapsed() >= STALE) {
            *known = None;
        }
    }
}

/// A service that is asked as nginx asks, and the connections to it.
pub struct Callout {
    /// Its settings.
    pub settings: Arc<ExtAuth>,
    line: Line,
}

/// What it answered.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
}

impl Callout {
    /// Not connected yet.
    pub fn new(settings: Arc<ExtAuth>) -> Callout {
        let https = settings.url.scheme_str() == Some("https");
        let (name, ca) = (settings.name.clone(), settings.ca.clone());
        Callout { line: Line::new(name, https, ca, settings.timeout, settings.max_in_flight), settings }
    }

    /// Asks by GET with these headers. The error is for the audit entry.
    pub async fn ask(&self, headers: HeaderMap) -> Result<Reply, String> {
        let turn = self.line.turn()?;
        let mut request = Request::new(Full::default());
        *request.uri_mut() = self.settings.url.clone();
        *request.headers_mut() = headers;
        // What it says beside its head is nobody's business.
        let (head, _) = self.line.ask(&turn, request).await?;
        Ok(Reply { status: head.status, headers: head.headers })
    }
}

async fn connect(https: bool, ca: Option<PathBuf>) -> Result<Connections, String> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let tls = match https {
        true => tokio::task::spawn_blocking(move || client_tls(ca.as_deref()))
            .await
            .map_err(|_| "the certificate authorities could not be read".to_owned())??,
        false => nobody()?,
    };
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
    let builder = if https { builder.https_only() } else { builder.https_or_http() };
    let connector = builder.enable_http1().wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(IDLE)
        .pool_idle_timeout(IDLE_FOR)
        .http1_max_buf_size(HEAD)
        .build(connector))
}

/// Settings under which nobody is believed: for a service that is spoken to in the clear, and no other.
fn nobody() -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}
