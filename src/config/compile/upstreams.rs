//! `upstreams` → settings.
mod room;
mod tls;

use super::Compiler;
use crate::config::Purpose;
use crate::config::options::{
    BalanceOption, EndpointOption, HashOption, HealthOptions, HttpVersionOption, OutlierOptions, RetryOn, RetryOptions,
    UpstreamOptions,
};
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::settings::{
    Balance, Endpoint, Found, Health, HttpVersion, Outlier, Place, Retry, Timeouts, Upstream,
};
use crate::config::units::{Period, seconds};
use std::collections::HashSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// Least timeout: below, it is a mistake in the unit.
const INSTANT: Period = Period(Duration::from_millis(1));
const DAY: Period = seconds(86_400);
/// Least time between two checks or look-ups.
const TENTH: Period = Period(Duration::from_millis(100));

impl Compiler<'_> {
    /// Upstreams in the order of the file.
    pub(super) fn upstreams(&self, classes: &[Arc<str>]) -> Vec<Arc<Upstream>> {
        self.options.upstreams.iter().map(|(name, options)| Arc::new(self.upstream(name, options, classes))).collect()
    }

    fn upstream(&self, name: &Spanned<String>, options: &UpstreamOptions, classes: &[Arc<str>]) -> Upstream {
        if options.endpoints.is_empty() && !self.report.is_tainted(name.at) {
            self.report.problem(name.at, format!("upstream `{}` has no endpoints", name.value));
        }
        let mut seen = HashSet::new();
        for endpoint in options.endpoints.iter().filter(|endpoint| !seen.insert(endpoint.address())) {
            self.report.problem(endpoint.at, format!("endpoint `{}` stands twice", endpoint.address()));
        }
        let http = &options.http;
        let tls = options.tls.as_ref().and_then(|tls| self.upstream_tls(tls)).map(Arc::new);
        Upstream {
            name: Arc::from(name.as_str()),
            region: options.labels.region.as_ref().map(|region| Arc::from(region.as_str())),
            endpoints: options.endpoints.iter().filter_map(|endpoint| self.endpoint(endpoint, tls.is_some())).collect(),
            balance: self.balance(&options.load_balance),
            zone: self.options.server.zone.as_deref().map(Arc::from),
            tls,
            version: match http.version {
                HttpVersionOption::Http1 => HttpVersion::Http1,
                HttpVersionOption::Http2 => HttpVersion::Http2,
            },
            timeouts: Timeouts {
                connect: self.within(&http.connect_timeout, INSTANT, DAY).0,
                first_byte: self.within(&http.first_byte_timeout, INSTANT, DAY).0,
                idle: self.within(&http.idle_timeout, INSTANT, DAY).0,
                total: http.total_timeout.as_ref().map(|total| self.within(total, INSTANT, DAY).0),
            },
            health: options.health.as_ref().map(|health| self.health(health)),
            outlier: self.outlier(&options.outlier),
            retry: self.retry(&options.retry),
            adaptive_min: self.adaptive_min(options),
            fairness: options.fairness.as_ref().and_then(|fairness| self.fairness(fairness, options, classes)),
            max_in_flight: options.max_in_flight.as_ref().map(|max| self.within(max, 1, 10_000_000)),
            refresh: self.within(&options.dns.refresh, TENTH, DAY).0,
        }
    }

    fn endpoint(&self, endpoint: &Spanned<EndpointOption>, tls: bool) -> Option<Endpoint> {
        let (address, weight, zone, max_in_flight) = match &endpoint.value {
            EndpointOption::Address(address) => (Spanned { value: address.clone(), at: endpoint.at }, 1, None, None),
            EndpointOption::Endpoint(map) => (
                map.address.clone(),
                self.within(&map.weight, 1, 100),
                map.zone.as_ref().map(|zone| Arc::from(zone.as_str())),
                map.max_in_flight.as_ref().map(|max| self.within(max, 1, 10_000_000)),
            ),
        };
        Some(Endpoint { place: self.where_it_is(&address, tls)?, weight, zone, max_in_flight })
    }

    /// Reads `host:port`. Names are looked up only when the gateway is to run: a check needs no network. One that leads
    /// nowhere is no mistake in the file, and is looked up again while the gateway runs.
    fn where_it_is(&self, text: &Spanned<String>, tls: bool) -> Option<Place> {
        if let Ok(address) = text.parse::<SocketAddr>()
            && address.port() > 0
        {
            return Some(Place::Address(address));
        }
        let host_port = text.rsplit_once(':').and_then(|(host, port)| {
            let fine = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
            fine.then_some((host, port))
        });
        let Some((host, port)) = host_port else {
            let message = format!("expected `host:port`, found `{}`", text.value);
            let hint = match (text.starts_with("https:"), tls) {
                (true, false) => Some("write `host:port`, and `tls: {server_name: …}` beside `endpoints`"),
                _ => text.contains('/').then_some("a URL is not an address"),
            };
            self.report.hinted(text.at, message, hint);
            return None;
        };
        let found = match self.world.purpose {
            Purpose::Check => Vec::new(),
            Purpose::Run => (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default(),
        };
        Some(Place::Name { host: Arc::from(host), port, found: Found(found) })
    }

    fn balance(&self, option: &BalanceOption) -> Balance {
        match option {
            BalanceOption::LeastRequests => Balance::LeastRequests,
            BalanceOption::RoundRobin => Balance::RoundRobin,
            BalanceOption::Hash(HashOption::Tenant) => Balance::HashTenant,
            BalanceOption::Hash(HashOption::Header(name)) => match name.to_ascii_lowercase().parse() {
                Ok(header) => Balance::HashHeader(header),
                Err(_) => {
                    self.report.problem(name.at, format!("`{}` cannot be the name of a header", name.value));
                    Balance::LeastRequests
                }
            },
        }
    }

    fn health(&self, options: &Spanned<HealthOptions>) -> Health {
        let path = &options.path;
        let fine = path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok();
        if !fine {
            let message = format!("expected a path such as `/healthz`, found `{}`", path.value);
            self.report.problem(path.at, message);
        }
        let every = self.within(&options.every, TENTH, DAY);
        let timeout = self.within(&options.timeout, INSTANT, DAY);
        if timeout > every {
            let at = [options.timeout.at, options.every.at, options.at].into_iter().find(|at| *at != At::default());
            let message = format!("a check may take `{timeout}`, and the next one begins after `{every}`");
            self.report.hinted(at.unwrap_or_default(), message, Some("`timeout` is at most `every`"));
        }
        if let Some(host) = options.host.as_ref().filter(|host| host.parse::<http::uri::Authority>().is_err()) {
            self.report.problem(host.at, format!("`{}` cannot be a host", host.value));
        }
        Health {
            path: Arc::from(path.as_str()),
            host: options.host.as_ref().map(|host| Arc::from(host.as_str())),
            every: every.0,
            timeout: timeout.0,
            unhealthy_after: self.within(&options.unhealthy_after, 1, 1000),
            healthy_after: self.within(&options.healthy_after, 1, 1000),
            expect: options.expect.iter().map(|status| self.within(status, 200, 599)).collect(),
        }
    }

    fn outlier(&self, options: &OutlierOptions) -> Outlier {
        Outlier {
            consecutive_5xx: options.consecutive_5xx.as_ref().map(|count| self.within(count, 1, 1000)),
            eject_for: self.within(&options.eject_for, TENTH, DAY).0,
            max_ejected: options.max_ejected.hundredths(),
        }
    }

    fn retry(&self, options: &RetryOptions) -> Retry {
        let on = |word: RetryOn| options.on.iter().any(|on| on.value == word);
        Retry {
            connect_failure: on(RetryOn::ConnectFailure),
            refused_stream: on(RetryOn::RefusedStream),
            reset: on(RetryOn::Reset),
            attempts: self.within(&options.attempts, 1, 10),
            budget: options.budget.hundredths(),
        }
    }
}
