//! Active health checks: every endpoint is asked, over the upstream's own protocol and TLS, as long as the pool is in use.
use super::{Endpoint, Pool, Target};
use crate::config::settings::{Health, HttpVersion};
use crate::serve::upstream::balance::stable_hash;
use bytes::Bytes;
use http::{Request, StatusCode, Uri, Version};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// Checks the endpoints until the pool is gone or `retired`.
pub(super) async fn watch(pool: Weak<Pool>, mut retired: watch::Receiver<bool>) {
    for round in 0_u64.. {
        let Some(pool) = pool.upgrade() else { return };
        let Some(rules) = pool.settings.health.clone() else { return };
        let rest = jittered(rules.every, &pool.settings.name, round);
        let mut checks = JoinSet::new();
        for endpoint in &pool.set.load().endpoints {
            checks.spawn(check(endpoint.clone(), rules.clone()));
        }
        // Each has its own end, so the next round never meets this one.
        let round = async {
            while let Some(checked) = checks.join_next().await {
                if let Ok((endpoint, result)) = checked {
                    pool.checked(&endpoint, &rules, result);
                }
            }
        };
        tokio::select! {
            () = round => {}
            _ = retired.changed() => return,
        }
        drop(pool);
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            // It says so, or it is gone.
            _ = retired.changed() => return,
        }
    }
}

/// Give or take a tenth, so that many replicas do not ask in step.
fn jittered(every: Duration, name: &str, round: u64) -> Duration {
    let spread = stable_hash(format!("{}{name}{round}", std::process::id()).as_bytes()) % 2001;
    every.mul_f64(0.9 + f64::from(u32::try_from(spread).unwrap_or(1000)) / 10_000.0)
}

async fn check(endpoint: Arc<Endpoint>, rules: Health) -> (Arc<Endpoint>, Result<(), String>) {
    let asked = tokio::time::timeout(rules.timeout, ask(&endpoint.target, &rules)).await;
    let result = match asked {
        Err(_) => Err(format!("no answer within {} ms", rules.timeout.as_millis())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(status)) if well(&rules, status) => Ok(()),
        Ok(Ok(status)) => Err(format!("status {}", status.as_u16())),
    };
    (endpoint, result)
}

fn well(rules: &Health, status: StatusCode) -> bool {
    if rules.expect.is_empty() { status.is_success() } else { rules.expect.contains(&status.as_u16()) }
}

/// The status of the answer, on a connection of its own: what a request that comes next would meet.
async fn ask(target: &Target, rules: &Health) -> io::Result<StatusCode> {
    let tcp = TcpStream::connect(target.address).await?;
    tcp.set_nodelay(true)?;
    let Some(tls) = &target.tls else { return converse(tcp, target, rules).await };
    let stream = TlsConnector::from(tls.config.clone()).connect(tls.server_name.clone(), tcp).await?;
    if target.version == HttpVersion::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(io::Error::other("the application did not agree to HTTP/2 (ALPN)"));
    }
    converse(stream, target, rules).await
}

async fn converse<S>(stream: S, target: &Target, rules: &Health) -> io::Result<StatusCode>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let host = match (&rules.host, &target.tls) {
        (Some(host), _) => host.to_string(),
        (None, Some(tls)) => tls.server_name.to_str().into_owned(),
        (None, None) => target.address.to_string(),
    };
    let io = TokioIo::new(stream);
    let response = match target.version {
        HttpVersion::Http1 => {
            let request = Request::get(&*rules.path).header(http::header::HOST, host);
            let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
            let (mut sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
            let connection = tokio::spawn(connection);
            let answer = sender.send_request(request).await;
            connection.abort();
            answer
        }
        HttpVersion::Http2 => {
            let scheme = if target.tls.is_some() { "https" } else { "http" };
            let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(&*rules.path).build();
            let request = Request::get(uri.map_err(io::Error::other)?).version(Version::HTTP_2);
            let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), io).await.map_err(io::Error::other)?;
            let connection = tokio::spawn(connection);
            let answer = sender.send_request(request).await;
            connection.abort();
            answer
        }
    };
    response.map(|response| response.status()).map_err(io::Error::other)
}
