//! Brings an issuer's key set from a file or over HTTPS: one deadline, no redirects, no more than a key set's size.
use crate::config::settings::{Issuer, KeySource};
use crate::serve::authorities::{causes, client_tls};
use bytes::Bytes;
use decide::token::{KeySet, MAX_KEY_SET_BYTES};
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use std::path::Path;
use std::time::Duration;

/// Time for everything that one fetch does: name, connection, TLS, and both documents of discovery.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// A key set as it was brought.
#[derive(Debug)]
pub struct Fetched {
    /// Its text, for the copy on disk.
    pub document: Vec<u8>,
    /// Its keys.
    pub keys: KeySet,
    /// Keys that cannot be used, with reasons.
    pub skipped: Vec<String>,
    /// How long the issuer wants it kept (`Cache-Control: max-age`).
    pub max_age: Option<Duration>,
}

/// Why a fetch failed: for the operator's log and `/readyz`, never for a client.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(String);

impl From<String> for FetchError {
    fn from(cause: String) -> FetchError {
        FetchError(cause)
    }
}

/// Fetches the issuer's keys from where its settings say.
pub async fn fetch(issuer: &Issuer) -> Result<Fetched, FetchError> {
    let within = async {
        match &issuer.keys {
            KeySource::File(path) => read(path).await,
            KeySource::Url(url) => client(issuer).await?.key_set(&https(url)?).await,
            KeySource::Ours(document) => Ok((document.clone().into_bytes(), None)),
            KeySource::Nowhere => Err(FetchError("the issuer has no keys".to_owned())),
            KeySource::Discovery => client(issuer).await?.discover(&issuer.rules.issuer).await,
        }
    };
    let (document, max_age) = tokio::time::timeout(DEADLINE, within)
        .await
        .map_err(|_| FetchError(format!("no answer within {} s", DEADLINE.as_secs())))??;
    let (keys, skipped) = parse(issuer, &document)?;
    Ok(Fetched { document, keys, skipped, max_age })
}

/// Reads a key set and holds it against the issuer's algorithms: a set that can verify none of its tokens is a
/// mistake in the file or at the issuer, and must not look like a stream of bad tokens.
pub fn parse(issuer: &Issuer, document: &[u8]) -> Result<(KeySet, Vec<String>), FetchError> {
    let (keys, skipped) = KeySet::parse(document).map_err(|error| FetchError(error.to_string()))?;
    if issuer.rules.algorithms.iter().any(|algorithm| keys.serves(*algorithm)) {
        Ok((keys, skipped))
    } else {
        Err(FetchError("the key set holds no key for an algorithm that the issuer may use".to_owned()))
    }
}

async fn read(path: &Path) -> Result<(Vec<u8>, Option<Duration>), FetchError> {
    let shown = path.display();
    // One byte more than allowed tells a large file from a fitting one without reading all of it.
    let file = tokio::fs::File::open(path).await.map_err(|error| format!("`{shown}`: {error}"))?;
    let mut document = Vec::new();
    let mut bounded = tokio::io::AsyncReadExt::take(file, MAX_KEY_SET_BYTES as u64 + 1);
    tokio::io::AsyncReadExt::read_to_end(&mut bounded, &mut document)
        .await
        .map_err(|error| format!("`{shown}`: {error}"))?;
    Ok((document, None))
}

/// An HTTPS client for one fetch. Authorities are read anew each time, so that a changed file or store counts.
struct HttpsClient(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>);

async fn client(issuer: &Issuer) -> Result<HttpsClient, FetchError> {
    let ca = issuer.ca.clone();
    let config = tokio::task::spawn_blocking(move || client_tls(ca.as_deref()))
        .await
        .map_err(|_| FetchError("the certificate authorities could not be read".to_owned()))??;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(HttpsClient(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector)))
}

/// The members of a discovery document that we need (OpenID Connect Discovery 1.0, 3). Named twice, each is an error.
#[derive(Deserialize)]
struct Provider {
    issuer: String,
    jwks_uri: String,
}

impl HttpsClient {
    /// The key set of the provider that calls itself `issuer`; another name there is another provider (4.3).
    async fn discover(&self, issuer: &str) -> Result<(Vec<u8>, Option<Duration>), FetchError> {
        let url = https(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))?;
        let (document, _) = self.get(&url).await?;
        let provider: Provider = serde_json::from_slice(&document)
            .map_err(|_| format!("{url}: not a discovery document with `issuer` and `jwks_uri`"))?;
        if provider.issuer != issuer {
            return Err(FetchError(format!("{url}: the document is about another issuer")));
        }
        self.key_set(&https(&provider.jwks_uri)?).await
    }

    async fn key_set(&self, url: &Uri) -> Result<(Vec<u8>, Option<Duration>), FetchError> {
        let (document, headers) = self.get(url).await?;
        Ok((document, max_age(&headers)))
    }

    async fn get(&self, url: &Uri) -> Result<(Vec<u8>, HeaderMap), FetchError> {
        let request = Request::get(url.clone())
            .header(header::ACCEPT, "application/json, application/jwk-set+json")
            .header(header::USER_AGENT, concat!("moat/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let answer = self.0.request(request).await.map_err(|error| format!("{url}: {}", causes(&error)))?;
        // A redirect is an answer like any other that is not the document: what it points to was not configured.
        if answer.status() != StatusCode::OK {
            return Err(FetchError(format!("{url}: answered {}", answer.status().as_u16())));
        }
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_KEY_SET_BYTES).collect().await;
        let body = body.map_err(|error| format!("{url}: {}", causes(&*error)))?;
        Ok((body.to_bytes().into(), head.headers))
    }
}

/// Only https, only a plain authority.
fn https(url: &str) -> Result<Uri, FetchError> {
    let plain = |uri: &Uri| uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    let uri = url.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("https") && plain(uri));
    uri.ok_or_else(|| FetchError("the address of the keys is not an https URL".to_owned()))
}

/// `max-age` of `Cache-Control` (RFC 9111, 5.2.2.1).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = values.flat_map(|value| value.split(',')).map(str::trim);
    let seconds = directives.find_map(|directive| {
        let (name, seconds) = directive.split_once('=')?;
        name.eq_ignore_ascii_case("max-age").then(|| seconds.trim_matches('"').parse::<u64>().ok())?
    })?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_https_addresses() {
        for (url, accepted) in [
            ("https://idp.example/jwks", true),
            ("https://127.0.0.1:8443/jwks?x=1", true),
            ("http://idp.example/jwks", false),
            ("HTTPS://idp.example/jwks", true),
            ("https://user:secret@idp.example/jwks", false),
            ("file:///etc/passwd", false),
            ("/jwks", false),
            ("idp.example", false),
            ("", false),
            ("https://idp.example/a b", false),
        ] {
            assert_eq!(https(url).is_ok(), accepted, "{url}");
        }
    }

    #[test]
    fn max_age_is_read_where_it_is_one() {
        for (value, expected) in [
            ("max-age=300", Some(300)),
            ("public, Max-Age=300, must-revalidate", Some(300)),
            ("max-age=\"60\"", Some(60)),
            ("no-store", None),
            ("max-age", None),
            ("max-age=-1", None),
            ("max-age=999999999999999999999", None),
            ("s-maxage=5", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static(value));
            assert_eq!(max_age(&headers), expected.map(Duration::from_secs), "{value}");
        }
    }
}
