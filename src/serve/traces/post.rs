//! Posts a batch to a collector by OTLP over HTTP: one deadline, no redirects, an answer of bounded size.
use super::otlp::ExportTraceServiceResponse;
use crate::config::settings::Collector;
use crate::serve::authorities::{causes, client_tls};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;

/// Time for everything that one post does: name, connection, TLS, request and answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const MAX_ANSWER: usize = 64 << 10;
/// The longest wait that a collector may ask for.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Why a batch was not taken.
#[derive(Debug)]
pub(super) enum Failure {
    /// The same batch may be taken later; after this time, where the collector names one.
    Retry(String, Option<Duration>),
    /// It never will.
    Refused(String),
}

/// A connection to a collector, made anew when the settings change and after every failure, so that changed
/// certificate authorities count.
#[derive(Default)]
pub(super) struct Poster(Option<(Arc<Collector>, HttpsClient)>);

type HttpsClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

impl Poster {
    /// Posts; returns how many spans the collector did not want, with its reason.
    pub(super) async fn post(&mut self, collector: &Arc<Collector>, batch: Bytes) -> Result<(u64, String), Failure> {
        let within = async {
            let client = match self.0.take().filter(|(known, _)| known == collector) {
                Some((_, client)) => client,
                None => connect(collector).await.map_err(|cause| Failure::Retry(cause, None))?,
            };
            let answer = exchange(&client, collector, batch).await?;
            Ok((client, answer))
        };
        let late = || Failure::Retry(format!("no answer within {} s", DEADLINE.as_secs()), None);
        let (client, answer) = tokio::time::timeout(DEADLINE, within).await.map_err(|_| late())??;
        self.0 = Some((collector.clone(), client));
        Ok(answer)
    }
}

async fn connect(collector: &Arc<Collector>) -> Result<HttpsClient, String> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector = hyper_rustls::HttpsConnectorBuilder::new();
    let connector = if collector.url.scheme_str() == Some("https") {
        let ca = collector.ca.clone();
        let config = tokio::task::spawn_blocking(move || client_tls(ca.as_deref())).await;
        let config = config.map_err(|_| "the certificate authorities could not be read".to_owned())??;
        connector.with_tls_config(config).https_only().enable_http1().wrap_connector(tcp)
    } else {
        // Never asked: the scheme is http. An empty store trusts nobody if it ever were.
        let nobody =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
        connector.with_tls_config(nobody).https_or_http().enable_http1().wrap_connector(tcp)
    };
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector))
}

async fn exchange(client: &HttpsClient, collector: &Arc<Collector>, batch: Bytes) -> Result<(u64, String), Failure> {
    let retry = |cause: String| Failure::Retry(cause, None);
    let mut request = Request::post(collector.url.clone())
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .header(header::USER_AGENT, concat!("moat/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(batch))
        .map_err(|error| Failure::Refused(error.to_string()))?;
    if !collector.headers.is_empty() {
        let secrets = collector.clone();
        let read = tokio::task::spawn_blocking(move || {
            secrets.headers.iter().map(|(name, source)| (name.clone(), source.read())).collect::<Vec<_>>()
        });
        for (name, secret) in read.await.map_err(|_| retry("the headers could not be read".to_owned()))? {
            let secret = secret.map_err(|error| retry(format!("header `{name}`: {error}")))?;
            let mut value = HeaderValue::try_from(secret)
                .map_err(|_| retry(format!("the secret for header `{name}` cannot stand in a header")))?;
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
        }
    }
    let answer = client.request(request).await.map_err(|error| retry(causes(&error)))?;
    let (head, body) = answer.into_parts();
    let cause = format!("answered {}", head.status.as_u16());
    match head.status {
        // What the protocol says about each: OTLP/HTTP, Response.
        StatusCode::OK => {}
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            let seconds = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            return Err(Failure::Retry(cause, seconds.map(|s| Duration::from_secs(s).min(MAX_WAIT))));
        }
        _ => return Err(Failure::Refused(cause)),
    }
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| retry(causes(&*error)))?.to_bytes();
    // The batch was taken; an answer that cannot be read changes nothing about that.
    let answer = ExportTraceServiceResponse::decode(body).unwrap_or_default();
    let partial = answer.partial_success.unwrap_or_default();
    Ok((u64::try_from(partial.rejected_spans).unwrap_or_default(), partial.error_message.chars().take(256).collect()))
}
