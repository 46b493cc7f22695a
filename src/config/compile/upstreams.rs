//! `upstreams` → settings.
use super::Compiler;
use crate::config::Purpose;
use crate::config::options::{BalanceOption, UpstreamOptions};
use crate::config::read::Spanned;
use crate::config::settings::{Balance, Upstream};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

impl Compiler<'_> {
    /// Upstreams in the order of the file.
    pub(super) fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.options.upstreams.iter().map(|(name, options)| Arc::new(self.upstream(name, options))).collect()
    }

    fn upstream(&self, name: &Spanned<String>, options: &UpstreamOptions) -> Upstream {
        if options.endpoints.is_empty() && !self.report.is_tainted(name.at) {
            self.report.problem(name.at, format!("upstream `{}` has no endpoints", name.value));
        }
        Upstream {
            name: Arc::from(name.as_str()),
            endpoints: options.endpoints.iter().flat_map(|endpoint| self.endpoint(endpoint)).collect(),
            balance: match options.load_balance {
                BalanceOption::LeastRequests => Balance::LeastRequests,
                BalanceOption::RoundRobin => Balance::RoundRobin,
            },
            connect_timeout: options.http.connect_timeout.0,
            first_byte_timeout: options.http.first_byte_timeout.0,
            idle_timeout: options.http.idle_timeout.0,
            total_timeout: options.http.total_timeout.map(|t| t.0),
        }
    }

    /// Resolves `host:port`. Names are looked up only when the gateway is to run: a check needs no network.
    fn endpoint(&self, endpoint: &Spanned<String>) -> Vec<SocketAddr> {
        if let Ok(address) = endpoint.parse() {
            return vec![address];
        }
        let host_port = endpoint.rsplit_once(':').filter(|(host, port)| {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if host_port.is_none() {
            let hint = "an upstream speaks HTTP/1.1 without TLS; a URL is not an address";
            let message = format!("expected `host:port`, found `{}`", endpoint.value);
            self.report.hinted(endpoint.at, message, endpoint.contains('/').then_some(hint));
            return Vec::new();
        }
        if self.world.purpose == Purpose::Check {
            return Vec::new();
        }
        match endpoint.to_socket_addrs() {
            Ok(addresses) => addresses.collect(),
            Err(_) => {
                self.report.problem(endpoint.at, format!("`{}` cannot be resolved", endpoint.value));
                Vec::new()
            }
        }
    }
}
