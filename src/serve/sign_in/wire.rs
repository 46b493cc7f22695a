//! One HTTPS conversation with a provider: one deadline, no redirects, bounded answers, the issuer's own authorities.
use crate::config::settings::Issuer;
use crate::serve::authorities::{causes, client_tls};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;

/// Time for name, connection, TLS and the whole answer.
const DEADLINE: Duration = Duration::from_secs(8);

/// Largest answer, in bytes.
const MOST: usize = 256 * 1024;

/// Sends one request and returns status and body. Redirects are answers like any other: what they point to was not
/// configured, and would be given a secret. The error is for the operator and holds nothing of the request but its address.
pub(super) async fn send(issuer: &Issuer, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), String> {
    let place =
        format!("{}://{}{}", "https", request.uri().authority().map_or("", |a| a.as_str()), request.uri().path());
    let conversation = async {
        let ca = issuer.ca.clone();
        // Read anew each time, so that a changed file or store counts.
        let tls = tokio::task::spawn_blocking(move || client_tls(ca.as_deref()))
            .await
            .map_err(|_| "the certificate authorities could not be read".to_owned())??;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        let client: Client<_, Full<Bytes>> =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        let answer = client.request(request).await.map_err(|error| causes(&error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MOST).collect().await.map_err(|error| causes(&*error))?;
        Ok::<_, String>((head.status, body.to_bytes()))
    };
    match tokio::time::timeout(DEADLINE, conversation).await {
        Ok(ended) => ended.map_err(|cause| format!("{place}: {cause}")),
        Err(_) => Err(format!("{place}: no answer within {} s", DEADLINE.as_secs())),
    }
}

/// A request for JSON.
pub(super) fn get(url: &str) -> Result<Request<Full<Bytes>>, String> {
    let request = Request::get(url).header(header::ACCEPT, "application/json").header(header::USER_AGENT, AGENT);
    request.body(Full::default()).map_err(|error| error.to_string())
}

/// A form.
pub(super) fn post(url: &str, form: String, authorization: Option<&str>) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::post(url)
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::USER_AGENT, AGENT);
    if let Some(value) = authorization {
        request = request.header(header::AUTHORIZATION, value);
    }
    request.body(Full::from(form)).map_err(|_| "the request cannot be made".to_owned())
}

const AGENT: &str = concat!("moat/", env!("CARGO_PKG_VERSION"));
