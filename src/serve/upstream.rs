//! Upstreams: which endpoint gets a request. Nothing here can be called without a `Permit`.
mod adaptive;
mod balance;
mod endpoint;
mod health;
mod lease;
mod peer;
mod resolve;
mod retry;
mod shares;
mod status;
mod target;
#[cfg(test)]
pub(crate) mod tests;

pub(in crate::serve) use balance::mix;
pub use endpoint::{Ejection, Endpoint, Health};
pub use lease::Lease;
pub use resolve::Resolver;
pub use retry::{Attempt, Budget, Denied, Failure, may_retry};
pub use shares::Holding;
pub use status::{EndpointStatus, PoolCounts};
pub use target::{Target, TlsTarget};

use crate::config::settings::{self, Balance, Place, Timeouts, Upstream};
use crate::serve::lane::Idle;
use adaptive::{Adaptive, Bounds};
use arc_swap::ArcSwap;
use balance::{Set, stable_hash};
use decide::deliberation::Permit;
use decide::refusal::{Code, Refusal};
use endpoint::State;
use http::HeaderMap;
use shares::{Ledger, Room, Short};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

/// Seconds after which a client may try again where the application has too much to do.
const RETRY_AFTER_S: u32 = 1;

/// An upstream with its endpoints.
#[derive(Debug)]
pub struct Pool {
    /// Its settings.
    pub settings: Arc<Upstream>,
    tls: Option<Arc<TlsTarget>>,
    set: ArcSwap<Set>,
    /// Addresses by endpoint of the settings.
    found: Mutex<Vec<Vec<SocketAddr>>>,
    life: Arc<Life>,
    /// Ends what watches over it, as its drop does.
    retired: watch::Sender<bool>,
    /// Connections that wait for their next request.
    pub(crate) idle: Idle,
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
    /// Requests refused because the limit was lowered, for everybody and for those who are not signed in.
    shed: [AtomicU64; 2],
    adaptive: Adaptive,
    ledger: Ledger,
    /// Choices made while no endpoint was fit.
    panicked: AtomicU64,
    budget: Budget,
    retries: retry::Counts,
    /// Passed and failed.
    checks: [AtomicU64; 2],
    /// Because of connections and of answers.
    ejections: [AtomicU64; 2],
    /// Look-ups that led nowhere.
    unresolved: AtomicU64,
}

/// Why there is no endpoint for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEndpoint {
    /// Each was tried without success.
    AllTried,
    /// `max_in_flight` requests are under way.
    Full,
    /// As many as it can take just now are under way.
    Shed,
    /// The tenant holds its share, and the rest is kept for others.
    Share,
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
            NoEndpoint::Shed => {
                let cause = "the upstream answers slowly, and takes fewer requests for now";
                Refusal::new(Code::GatewayUnavailable, cause).retry_after(RETRY_AFTER_S)
            }
            NoEndpoint::Share => {
                let cause = "the tenant's share of the upstream's `max_in_flight`";
                Refusal::new(Code::GatewayUnavailable, cause).retry_after(RETRY_AFTER_S)
            }
            NoEndpoint::Residency => Refusal::new(Code::AccessDenied, "the upstream is outside the tenant's residency"),
        }
    }
}

/// For whom an endpoint is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asker<'a> {
    /// The tenant with the index of its class.
    pub tenant: Option<(&'a Arc<str>, usize)>,
    /// Whether the caller is known.
    pub signed_in: bool,
    /// Whether the request is over once its head is sent, so that the time to the answer is the application's alone.
    pub bodyless: bool,
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
        let found = settings.endpoints.iter().map(|endpoint| match &endpoint.place {
            Place::Address(address) => vec![*address],
            // Where the name leads nowhere just now, its last addresses stay.
            Place::Name { found, .. } if found.0.is_empty() => last_known(before, &endpoint.place),
            Place::Name { found, .. } => resolve::tidy(found.0.clone()),
        });
        let (found, retired) = (found.collect::<Vec<_>>(), watch::Sender::new(false));
        let pool = Pool {
            set: ArcSwap::from_pointee(Set::default()),
            found: Mutex::new(found.clone()),
            settings,
            tls,
            life,
            retired,
            idle: Idle::default(),
        };
        let old = before.map(|before| before.set.load_full());
        pool.set.store(Arc::new(pool.set_of(&found, old.as_deref())));
        pool
    }

    /// Begins to watch over the endpoints: checks, and names that are looked up again. One task, which ends with the pool,
    /// or when it is retired.
    pub fn watch_over(self: &Arc<Self>, resolver: Resolver) {
        let named = self.settings.endpoints.iter().any(|e| matches!(e.place, Place::Name { .. }));
        let (pool, checked) = (Arc::downgrade(self), self.settings.health.is_some());
        let retired = self.retired.subscribe();
        if named || checked {
            tokio::spawn(async move {
                let (names, other) = (retired.clone(), pool.clone());
                let names = async move {
                    if named {
                        resolve::watch(other, names, resolver).await
                    }
                };
                tokio::join!(names, health::watch(pool, retired));
            });
        }
    }

    /// Another pool has taken over: nobody watches over this one any more, however long its last requests run.
    pub fn retire(&self) {
        let _ = self.retired.send(true);
    }

    fn found(&self) -> Vec<Vec<SocketAddr>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes up the addresses that names lead to now. Requests to endpoints that are gone run to their end.
    fn put(&self, fresh: Vec<Vec<SocketAddr>>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if *found != fresh {
            tracing::info!(upstream = &*self.settings.name, addresses = ?fresh.concat(), "other addresses");
            self.set.store(Arc::new(self.set_of(&fresh, Some(&self.set.load()))));
            *found = fresh;
        }
    }

    fn unresolved(&self, host: &str, cause: &str) {
        self.life.unresolved.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(upstream = &*self.settings.name, host, cause, "cannot be resolved; the last addresses stay");
    }

    fn checked(&self, endpoint: &Endpoint, rules: &settings::Health, result: Result<(), String>) {
        let [passed, failed] = &self.life.checks;
        if result.is_ok() { passed } else { failed }.fetch_add(1, Ordering::Relaxed);
        let changed = endpoint.state.checked(rules, self.life.elapsed_ms(), &result);
        let (upstream, address) = (&*self.settings.name, endpoint.target.address);
        match changed {
            Some(Health::Unhealthy) => {
                tracing::warn!(upstream, endpoint = %address, cause = result.err(), "the endpoint is not well");
            }
            Some(Health::Healthy) => tracing::info!(upstream, endpoint = %address, "the endpoint is well"),
            Some(Health::Unchecked | Health::Unproven) | None => {}
        }
    }

    /// Endpoints at these addresses, in the order of the settings; what is known of them is kept.
    fn set_of(&self, found: &[Vec<SocketAddr>], old: Option<&Set>) -> Set {
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        for (settings, addresses) in self.settings.endpoints.iter().zip(found) {
            for address in addresses.iter().copied() {
                // Two names may lead to one address.
                if endpoints.iter().any(|other| other.target.address == address) {
                    continue;
                }
                let target = Target { address, tls: self.tls.clone(), version: self.settings.version };
                let known = old.and_then(|old| old.endpoints.iter().find(|other| other.target.address == address));
                let state = known.map_or_else(|| Arc::new(State::default()), |known| known.state.clone());
                state.is_checked(self.settings.health.is_some());
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

    /// Chooses an endpoint that this request has not tried yet. `headers` are the client's; `bodyless` says that nothing
    /// follows them.
    pub fn choose(
        self: &Arc<Self>,
        permit: &Permit,
        headers: &HeaderMap,
        bodyless: bool,
        tried: &[SocketAddr],
    ) -> Result<Lease, NoEndpoint> {
        let key = match &self.settings.balance {
            Balance::LeastRequests | Balance::RoundRobin => None,
            Balance::HashTenant => permit.findings().seat.as_ref().map(|seat| stable_hash(seat.id.as_bytes())),
            Balance::HashHeader(name) => headers.get(name).map(|value| stable_hash(value.as_bytes())),
        };
        // A permit is for one upstream: the one where the tenant's data stays.
        if permit.destination().name != self.settings.name {
            return Err(NoEndpoint::Residency);
        }
        let findings = permit.findings();
        let asker = Asker {
            tenant: findings.seat.as_ref().map(|seat| (&seat.id, seat.tenant.class)),
            signed_in: findings.identity.is_some(),
            bodyless,
        };
        self.lease_for(asker, key, tried, timeouts(&self.settings.timeouts, &permit.route().timeouts))
    }

    fn lease_for(
        self: &Arc<Self>,
        asker: Asker<'_>,
        key: Option<u64>,
        tried: &[SocketAddr],
        timeouts: Timeouts,
    ) -> Result<Lease, NoEndpoint> {
        let life = &self.life;
        let now_ms = life.elapsed_ms();
        if tried.is_empty() {
            life.budget.request(now_ms);
        }
        let place = self.enter(asker)?;
        let turn = life.turn.fetch_add(1, Ordering::Relaxed);
        let set = self.set.load();
        let chosen = loop {
            let by_turn = matches!(self.settings.balance, Balance::RoundRobin);
            match set.choose(by_turn, key, turn, tried, now_ms) {
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
                let since = (self.settings.adaptive_min.is_some() && asker.bodyless).then(Instant::now);
                Ok(Lease { pool: self.clone(), endpoint: choice.endpoint, timeouts, place, since })
            }
            Err(reason) => {
                life.leave(place.as_ref());
                if reason == NoEndpoint::Full {
                    life.full.fetch_add(1, Ordering::Relaxed);
                }
                Err(reason)
            }
        }
    }

    /// Takes a place in the upstream's room.
    fn enter(&self, asker: Asker<'_>) -> Result<Option<shares::Place>, NoEndpoint> {
        let (life, settings) = (&self.life, &self.settings);
        let room = self.limit();
        // While the limit follows the application, the last fifth of it is for those who are signed in.
        let kept =
            if settings.adaptive_min.is_some() && !asker.signed_in { room.map_or(0, |room| room / 5) } else { 0 };
        let places = room.map(|room| room - kept);
        let taken = match (&settings.fairness, places) {
            (Some(fairness), Some(places)) => {
                let (tenant, weight) = match asker.tenant {
                    Some((tenant, class)) => (tenant, fairness.weights.get(class).copied().unwrap_or(1)),
                    None => (nobody(), 1),
                };
                let room = Room { places, reserve: fairness.reserve };
                life.ledger.take(&life.in_flight, room, tenant, weight).map(Some)
            }
            (_, places) if enter(&life.in_flight, places) => Ok(None),
            (_, _) => Err(Short::Full),
        };
        taken.map_err(|short| {
            let lowered = room < settings.max_in_flight;
            let [all, anonymous] = &life.shed;
            match short {
                // The ledger counts it, by tenant.
                Short::Share => return NoEndpoint::Share,
                Short::Full if kept > 0 && room.is_some_and(|room| life.in_flight.load(Ordering::Relaxed) < room) => {
                    anonymous.fetch_add(1, Ordering::Relaxed);
                }
                Short::Full if lowered => {
                    all.fetch_add(1, Ordering::Relaxed);
                }
                Short::Full => {
                    life.full.fetch_add(1, Ordering::Relaxed);
                    return NoEndpoint::Full;
                }
            }
            NoEndpoint::Shed
        })
    }

    /// How many requests may be under way now.
    pub fn limit(&self) -> Option<usize> {
        self.bounds().map(|bounds| self.life.adaptive.limit(bounds)).or(self.settings.max_in_flight)
    }

    fn bounds(&self) -> Option<Bounds> {
        Some(Bounds { min: self.settings.adaptive_min?, max: self.settings.max_in_flight? })
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

/// The last addresses of a name.
fn last_known(before: Option<&Pool>, place: &Place) -> Vec<SocketAddr> {
    let Some(before) = before else { return Vec::new() };
    let index = before.settings.endpoints.iter().position(|endpoint| endpoint.place == *place);
    index.and_then(|index| before.found().get(index).cloned()).unwrap_or_default()
}

/// The upstream's, where the route has none of its own.
fn timeouts(upstream: &Timeouts, route: &decide::rules::Timeouts) -> Timeouts {
    Timeouts {
        connect: upstream.connect,
        first_byte: route.first_byte.unwrap_or(upstream.first_byte),
        idle: route.idle.unwrap_or(upstream.idle),
        total: route.total.or(upstream.total),
    }
}

/// Stands for requests without a tenant; no tenant has an empty id.
fn nobody() -> &'static Arc<str> {
    static NOBODY: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));
    &NOBODY
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
            shed: Default::default(),
            adaptive: Adaptive::default(),
            ledger: Ledger::default(),
            panicked: AtomicU64::new(0),
            budget: Budget::default(),
            retries: retry::Counts::default(),
            checks: Default::default(),
            ejections: Default::default(),
            unresolved: AtomicU64::new(0),
        }
    }

    fn leave(&self, place: Option<&shares::Place>) {
        match place {
            Some(place) => self.ledger.give_back(&self.in_flight, place),
            None => {
                self.in_flight.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
