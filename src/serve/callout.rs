//! A service that is asked about requests: one pool of connections, a deadline, and a bound on questions under way.
use crate::config::settings::ExtAuth;
use crate::serve::authorities::{causes, client_tls};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore};

/// Bytes of an answer's body that are read, so that its connection can be used again; nothing is done with them.
const BODY: usize = 64 << 10;
/// Connections that are kept open while nobody asks.
const IDLE: usize = 64;
/// How long; shorter than servers do, so that few questions meet a connection that is just being closed.
const IDLE_FOR: Duration = Duration::from_secs(4);
/// Bytes of the headers of an answer.
const HEAD: usize = 32 << 10;

/// A service, and the connections to it.
pub struct Callout {
    /// Its settings.
    pub settings: Arc<ExtAuth>,
    client: OnceCell<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>>,
    under_way: Semaphore,
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
        let under_way = Semaphore::new(settings.max_in_flight);
        Callout { settings, client: OnceCell::new(), under_way }
    }

    /// Asks by GET with these headers. The error is for the audit entry.
    pub async fn ask(&self, headers: HeaderMap) -> Result<Reply, String> {
        let name = &self.settings.name;
        let Ok(_place) = self.under_way.try_acquire() else {
            return Err(format!("`{name}` has `max_in_flight` questions under way"));
        };
        let answer = tokio::time::timeout(self.settings.timeout, self.exchange(headers)).await;
        match answer {
            Ok(answer) => answer.map_err(|cause| format!("`{name}`: {cause}")),
            Err(_) => Err(format!("`{name}` did not answer within {} ms", self.settings.timeout.as_millis())),
        }
    }

    async fn exchange(&self, headers: HeaderMap) -> Result<Reply, String> {
        let client = self.client.get_or_try_init(|| connect(&self.settings)).await?;
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.settings.url.clone();
        *request.headers_mut() = headers;
        let answer = client.request(request).await.map_err(|error| causes(&error))?;
        let (head, body) = answer.into_parts();
        // What it says beside its head is nobody's business; a body that does not end costs its connection.
        let _ = Limited::new(body, BODY).collect().await;
        Ok(Reply { status: head.status, headers: head.headers })
    }
}

async fn connect(settings: &ExtAuth) -> Result<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>, String> {
    let ca = settings.ca.clone();
    let https = settings.url.scheme_str() == Some("https");
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
