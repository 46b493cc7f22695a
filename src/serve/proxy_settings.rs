//! pingora's `HttpProxy` around the gateway, with each default that a security gateway cannot leave as it is.
use crate::config::settings::Snapshot;
use crate::serve::gateway::Gateway;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use std::path::Path;
use std::sync::Arc;

/// Idle connections kept to all upstreams together. A pool smaller than the number of requests in flight costs half
/// the throughput, so it is sized for a busy node.
const POOL: usize = 4096;

/// More tries than any upstream may be given.
const MAX_TRIES: usize = 16;

/// Builds the proxy.
pub fn proxy(gateway: Gateway, snapshot: &Snapshot) -> HttpProxy<Gateway> {
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: POOL,
        // `retry.attempts` of the upstream bounds the tries; this is above its range.
        max_retries: MAX_TRIES,
        ca_file: (!authorities_are_sound()).then(|| no_authorities(&snapshot.server.state_dir)),
        ..ServerConf::default()
    };
    http_proxy(&Arc::new(conf), gateway)
}

/// Whether every certificate authority of the system can be read. pingora reads them all when the proxy is made, needed
/// or not, and panics at the first that it cannot read, or where `SSL_CERT_FILE` names no file.
fn authorities_are_sound() -> bool {
    let found = rustls_native_certs::load_native_certs();
    let readable = |authority| rustls::RootCertStore::empty().add(authority).is_ok();
    found.errors.is_empty() && found.certs.into_iter().all(readable)
}

/// A file without certificates, in place of authorities that cannot be read: nobody is trusted that is not configured.
fn no_authorities(state_dir: &Path) -> String {
    tracing::warn!("the system's certificate authorities cannot be read; only those of the configuration are trusted");
    let path = state_dir.join("no-authorities.pem");
    match (std::fs::write(&path, ""), path.to_str()) {
        (Ok(()), Some(path)) => path.to_owned(),
        (Err(_), _) | (_, None) => "/dev/null".to_owned(),
    }
}
