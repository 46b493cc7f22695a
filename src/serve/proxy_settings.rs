//! pingora's `HttpProxy` around the gateway, with each default that a security gateway cannot leave as it is.
use crate::config::settings::Snapshot;
use crate::serve::gateway::Gateway;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use std::sync::Arc;

/// Idle connections kept to all upstreams together. A pool smaller than the number of requests in flight costs half
/// the throughput, so it is sized for a busy node.
const POOL: usize = 4096;

/// Builds the proxy.
pub fn proxy(gateway: Gateway, snapshot: &Snapshot) -> HttpProxy<Gateway> {
    let tries = snapshot.upstreams.iter().map(|u| u.endpoints.len()).max().unwrap_or(1) + 1;
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: POOL,
        // One try for each endpoint and one for a kept connection that the application had closed; pingora's default
        // is 16 on whatever endpoint.
        max_retries: tries,
        ..ServerConf::default()
    };
    http_proxy(&Arc::new(conf), gateway)
}
