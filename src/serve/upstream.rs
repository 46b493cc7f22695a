//! Upstreams: which endpoint gets a request. Nothing here can be called without a `Permit`.
mod balance;
mod endpoint;
mod peer;
mod retry;
mod target;
mod view;

pub use endpoint::Endpoint;
pub use retry::{Attempt, Budget, Denied, Failure, may_retry};
pub use target::{Target, TlsTarget};
pub use view::EndpointView;

use crate::config::settings::{Balance, HttpVersion, Place, Timeouts, Upstream};
use arc_swap::ArcSwap;
use balance::{Set, stable_hash};
use decide::deliberation::Permit;
use decide::refusal::{Code, Refusal};
use endpoint::State;
use http::HeaderMap;
use pingora_core::upstreams::peer::HttpPeer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// Seconds after which a client may try again where the application has too much to do.
const RETRY_AFTER_S: u32 = 1;

/// An upstream with its endpoints.
#[derive(Debug)]
pub struct Pool {
    /// Its settings.
    pub settings: Arc<Upstream>,
    tls: Option<Arc<TlsTarget>>,
    set: ArcSwap<Set>,
    life: Arc<Life>,
}

/// What of an upstream outlives a reload that changes it.
#[derive(Debug)]
struct Life {
    epoch: Instant,
    in_flight: AtomicUsize,
    /// Counts choices; where the turn of the endpoints is.
    turn: AtomicUsize,
    /// Requests refused because of `max_in_flight`.
    full: AtomicU64,
    /// Choices made while no endpoint was fit.
    panicked: AtomicU64,
    budget: Budget,
    retries: retry::Counts,
}

/// Why there is no endpoint for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEndpoint {
    /// Each was tried without success.
    AllTried,
    /// `max_in_flight` requests are under way.
    Full,
    /// No name of its endpoints leads anywhere.
    Nowhere,
    /// It is not where the tenant's data must stay.
    Residency,
}

impl NoEndpoint {
    /// What the client is told, and why.
    pub fn refusal(self) -> Refusal {
        match self {
            NoEndpoint::AllTried => Refusal::new(Code::UpstreamUnreachable, "no endpoint left to try"),
            NoEndpoint::Nowhere => Refusal::new(Code::UpstreamUnreachable, "no name of the upstream can be resolved"),
            NoEndpoint::Full => {
                Refusal::new(Code::GatewayUnavailable, "`max_in_flight` of the upstream").retry_after(RETRY_AFTER_S)
            }
            NoEndpoint::Residency => Refusal::new(Code::AccessDenied, "the upstream is outside the tenant's residency"),
        }
    }
}

/// An endpoint in use by one request; gives its place back when dropped.
#[derive(Debug)]
pub struct Lease {
    pool: Arc<Pool>,
    endpoint: Arc<Endpoint>,
    timeouts: Timeouts,
}

impl Pool {
    /// An upstream with the addresses that its names led to at the load. What `before` knows about endpoints that stay,
    /// sessions to resume and requests in flight is taken over.
    pub fn new(settings: Arc<Upstream>, before: Option<&Pool>) -> Pool {
        let same_tls = |pool: &&Pool| pool.settings.tls == settings.tls && pool.settings.version == settings.version;
        let tls = match before.filter(same_tls) {
            Some(before) => before.tls.clone(),
            None => settings.tls.as_ref().map(|tls| Arc::new(TlsTarget::new(tls, settings.version))),
        };
        let life = before.map_or_else(|| Arc::new(Life::new()), |before| before.life.clone());
        let pool = Pool { set: ArcSwap::from_pointee(Set::default()), settings, tls, life };
        let old = before.map(|before| before.set.load_full());
        let found = pool.settings.endpoints.iter().map(|endpoint| match &endpoint.place {
            Place::Address(address) => vec![*address],
            Place::Name { found, .. } => found.0.clone(),
        });
        pool.set.store(Arc::new(pool.set_of(found.collect(), old.as_deref())));
        pool
    }

    /// Endpoints at these addresses, in the order of the settings; what is known of them is kept.
    fn set_of(&self, found: Vec<Vec<SocketAddr>>, old: Option<&Set>) -> Set {
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        for (settings, addresses) in self.settings.endpoints.iter().zip(found) {
            for address in addresses {
                // Two names may lead to one address.
                if endpoints.iter().any(|other| other.target.address == address) {
                    continue;
                }
                let target = Target { address, tls: self.tls.clone(), version: self.settings.version };
                let known = old.and_then(|old| old.endpoints.iter().find(|other| other.target.address == address));
                let state = known.map_or_else(|| Arc::new(State::default()), |known| known.state.clone());
                endpoints.push(Arc::new(Endpoint {
                    peer: peer::peer(&self.settings, &target),
                    target,
                    weight: settings.weight,
                    own_zone: self.settings.zone.is_some() && self.settings.zone == settings.zone,
                    zone: settings.zone.clone(),
                    max_in_flight: settings.max_in_flight,
                    state,
                }));
            }
        }
        Set::new(endpoints)
    }

    /// Chooses an endpoint that this request has not tried yet. `headers` are the client's.
    pub fn choose(
        self: &Arc<Self>,
        permit: &Permit,
        headers: &HeaderMap,
        tried: &[SocketAddr],
    ) -> Result<Lease, NoEndpoint> {
        let key = match &self.settings.balance {
            Balance::LeastRequests | Balance::RoundRobin => None,
            Balance::HashTenant => permit.findings().seat.as_ref().map(|seat| stable_hash(seat.id.as_bytes())),
            Balance::HashHeader(name) => headers.get(name).map(|value| stable_hash(value.as_bytes())),
        };
        let _ = permit.route();
        self.lease(key, tried)
    }

    fn lease(self: &Arc<Self>, key: Option<u64>, tried: &[SocketAddr]) -> Result<Lease, NoEndpoint> {
        let life = &self.life;
        if tried.is_empty() {
            life.budget.request(life.elapsed_ms());
        }
        if !enter(&life.in_flight, self.settings.max_in_flight) {
            life.full.fetch_add(1, Ordering::Relaxed);
            return Err(NoEndpoint::Full);
        }
        let turn = life.turn.fetch_add(1, Ordering::Relaxed);
        let set = self.set.load();
        let chosen = loop {
            let by_turn = matches!(self.settings.balance, Balance::RoundRobin);
            match set.choose(by_turn, key, turn, tried, life.elapsed_ms()) {
                // Another request may have taken the last place meanwhile.
                Ok(choice) if !enter(&choice.endpoint.state.in_flight, choice.endpoint.max_in_flight) => {}
                chosen => break chosen,
            }
        };
        match chosen {
            Ok(choice) => {
                if choice.panicked {
                    life.panicked.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Lease { pool: self.clone(), endpoint: choice.endpoint, timeouts: self.settings.timeouts })
            }
            Err(reason) => {
                life.in_flight.fetch_sub(1, Ordering::AcqRel);
                if reason == NoEndpoint::Full {
                    life.full.fetch_add(1, Ordering::Relaxed);
                }
                Err(reason)
            }
        }
    }

    /// How many endpoints there are now.
    pub fn len(&self) -> usize {
        self.set.load().endpoints.len()
    }

    /// Whether no name of it leads anywhere.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Takes a place where there is one left.
fn enter(taken: &AtomicUsize, max: Option<usize>) -> bool {
    let max = max.unwrap_or(usize::MAX);
    taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < max).then(|| n + 1)).is_ok()
}

impl Life {
    fn new() -> Life {
        Life {
            epoch: Instant::now(),
            in_flight: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            full: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
            budget: Budget::default(),
            retries: retry::Counts::default(),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Lease {
    /// Where to connect to, and how.
    pub fn target(&self) -> &Target {
        &self.endpoint.target
    }

    /// The same for pingora's connector.
    pub fn peer(&self) -> HttpPeer {
        self.endpoint.peer.clone()
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.target.address
    }

    /// Which version of HTTP the upstream speaks.
    pub fn version(&self) -> HttpVersion {
        self.endpoint.target.version
    }

    /// How long it may take for this request.
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// The pool that it belongs to.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// It could not be connected to, or the handshake failed, or it does not speak the version of HTTP.
    pub fn unreachable(&self, cause: &str) {
        self.endpoint.state.unreachable(&self.pool.settings.outlier, self.pool.life.elapsed_ms(), cause);
    }

    /// It answered with this final status.
    pub fn answered(&self, status: u16) {
        if status < 500 {
            self.endpoint.state.succeeded();
        } else {
            self.failed(&format!("status {status}"));
        }
    }

    /// It did not answer in time.
    pub fn timed_out(&self) {
        self.failed("timeout");
    }

    /// It was connected to, and then broke off, or what it answered is no HTTP.
    pub fn broke(&self, cause: &str) {
        self.failed(cause);
    }

    fn failed(&self, cause: &str) {
        let (settings, now) = (&self.pool.settings, self.pool.life.elapsed_ms());
        self.endpoint.state.failed(&settings.outlier, now, cause, || {
            self.pool.set.load().may_eject(settings.outlier.max_ejected, now)
        });
    }

    /// Whether the request may be sent again after this failure; counts the retry against the budget.
    pub fn may_retry(&self, attempt: &Attempt) -> bool {
        let life = &self.pool.life;
        let verdict = may_retry(&self.pool.settings.retry, &life.budget, attempt, life.elapsed_ms());
        life.retries.count(attempt.failure, verdict);
        verdict.is_ok()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.state.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.pool.life.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}
