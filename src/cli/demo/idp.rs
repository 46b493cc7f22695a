//! A small identity provider for the demo and for tests: discovery, a key set, and tokens for whoever asks on loopback.
//!
//! It authenticates nobody: it stands in for a real provider on a developer's machine, listens on loopback only, and
//! answers only requests that were made to its own name, so that no web page can reach it through a name of its own.
use crate::cli::token::{DevKey, Grant, mint};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Time for a TLS handshake, and for a request head.
const PATIENCE: Duration = Duration::from_secs(5);

/// Largest form.
const FORM_MAX: usize = 8 * 1024;

/// The provider's settings.
struct Provider {
    issuer: String,
    audience: String,
    /// Host and port that a request must be for.
    authority: String,
    key: DevKey,
}

/// Serves HTTPS/1.1 until `shutdown`, then drops what is still open.
///
/// `issuer_url` is what tokens say in `iss`; its host and port must lead to `listener`. Tokens are for `audience`.
///
/// # Errors
/// Where `issuer_url` is no https URL, the listener is not on loopback, or the listener fails.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    issuer_url: &str,
    audience: &str,
    key: DevKey,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let uri: Uri = issuer_url.parse().map_err(io::Error::other)?;
    let authority = match (uri.scheme_str(), uri.authority()) {
        (Some("https"), Some(authority)) => authority.as_str().to_owned(),
        _ => return Err(io::Error::other("the issuer is not an https URL")),
    };
    if !listener.local_addr()?.ip().is_loopback() {
        return Err(io::Error::other("the development identity provider listens on loopback only"));
    }
    let provider = Arc::new(Provider { issuer: issuer_url.to_owned(), audience: audience.to_owned(), authority, key });
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let stream = tokio::select! {
            () = &mut shutdown => return Ok(()),
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted?.0,
        };
        let (provider, acceptor) = (provider.clone(), acceptor.clone());
        connections.spawn(async move {
            let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await else { return };
            let service = hyper::service::service_fn(move |request| {
                let provider = provider.clone();
                async move { Ok::<_, Infallible>(answer(&provider, request).await) }
            });
            // A connection that breaks is the client's business.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Reply = Response<Full<Bytes>>;

async fn answer(provider: &Provider, request: Request<Incoming>) -> Reply {
    if !is_ours(provider, request.headers()) {
        return error(StatusCode::MISDIRECTED_REQUEST, "invalid_request");
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/.well-known/openid-configuration") => json_reply(&discovery(provider), "max-age=300"),
        (&Method::GET, "/jwks.json") => match provider.key.jwks() {
            Ok(jwks) => reply(StatusCode::OK, jwks, "max-age=300"),
            Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        },
        (&Method::POST, "/token") => token(provider, request.into_body()).await,
        (_, "/.well-known/openid-configuration" | "/jwks.json" | "/token") => {
            error(StatusCode::METHOD_NOT_ALLOWED, "invalid_request")
        }
        _ => error(StatusCode::NOT_FOUND, "invalid_request"),
    }
}

fn is_ours(provider: &Provider, headers: &HeaderMap) -> bool {
    headers.get(HOST).is_some_and(|host| host.as_bytes().eq_ignore_ascii_case(provider.authority.as_bytes()))
}

fn discovery(provider: &Provider) -> Value {
    let base = provider.issuer.trim_end_matches('/');
    json!({
        "issuer": provider.issuer,
        "jwks_uri": format!("{base}/jwks.json"),
        "token_endpoint": format!("{base}/token"),
        "response_types_supported": ["token"],
        "grant_types_supported": ["client_credentials"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

/// `user=…&tenant=…&roles=a+b&auth_age_s=…&acr=…`, each optional; RFC 6749 error words.
async fn token(provider: &Provider, body: Incoming) -> Reply {
    let Ok(body) = Limited::new(body, FORM_MAX).collect().await else {
        return error(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request");
    };
    let mut grant = Grant { issuer: provider.issuer.clone(), audience: provider.audience.clone(), ..Grant::default() };
    for pair in body.to_bytes().split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let name = form_text(halves.next().unwrap_or_default());
        let value = form_text(halves.next().unwrap_or_default());
        let (Some(name), Some(value)) = (name, value) else {
            return error(StatusCode::BAD_REQUEST, "invalid_request");
        };
        match (name.as_str(), value.parse()) {
            ("grant_type", _) if value == "client_credentials" => {}
            ("user", _) => grant.subject = value,
            ("tenant", _) => grant.tenant = Some(value),
            ("roles", _) => {
                grant.roles = value.split([' ', ',']).filter(|r| !r.is_empty()).map(str::to_owned).collect()
            }
            ("auth_age_s", Ok(seconds)) => grant.auth_age = Duration::from_secs(seconds),
            ("acr", _) => grant.acr = Some(value),
            _ => return error(StatusCode::BAD_REQUEST, "invalid_request"),
        }
    }
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match mint(&provider.key, &grant, now_s) {
        Ok(token) => {
            let answer = json!({"access_token": token, "token_type": "Bearer", "expires_in": grant.lifetime.as_secs()});
            json_reply(&answer, "no-store")
        }
        Err(_) => error(StatusCode::BAD_REQUEST, "invalid_request"),
    }
}

/// One text of a form: `+` is a space, `%XX` a byte, the whole UTF-8.
fn form_text(encoded: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [*rest.next()?, *rest.next()?];
                let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn error(status: StatusCode, word: &str) -> Reply {
    reply(status, json!({ "error": word }).to_string(), "no-store")
}

fn json_reply(value: &Value, cache_control: &'static str) -> Reply {
    reply(StatusCode::OK, value.to_string(), cache_control)
}

fn reply(status: StatusCode, body: String, cache_control: &'static str) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    reply.headers_mut().insert(CACHE_CONTROL, http::HeaderValue::from_static(cache_control));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded() {
        for (encoded, text) in [
            ("a+b%20c", Some("a b c")),
            ("%C3%A4", Some("ä")),
            ("", Some("")),
            ("%", None),
            ("%2", None),
            ("%zz", None),
            ("%+1", None),
            ("%ff", None),
        ] {
            assert_eq!(form_text(encoded.as_bytes()).as_deref(), text, "{encoded}");
        }
    }
}
