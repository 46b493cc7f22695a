//! Upstreams: which endpoint gets a request. Nothing here can be called without a `Permit`.
use crate::config::settings::{Balance, Upstream};
use decide::deliberation::Permit;
use pingora_core::upstreams::peer::HttpPeer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long an endpoint that could not be reached is passed over while others are left.
const COOL_DOWN: Duration = Duration::from_secs(5);

/// An upstream with the state of its endpoints.
#[derive(Debug)]
pub struct Pool {
    /// Its settings.
    pub settings: Arc<Upstream>,
    endpoints: Vec<Endpoint>,
    next: AtomicUsize,
    epoch: Instant,
}

#[derive(Debug)]
struct Endpoint {
    peer: HttpPeer,
    address: SocketAddr,
    in_flight: AtomicUsize,
    /// Milliseconds since the pool's epoch until which the endpoint is passed over.
    resting_until: AtomicU64,
}

/// An endpoint in use by one request; gives its place back when dropped.
#[derive(Debug)]
pub struct Lease {
    pool: Arc<Pool>,
    index: usize,
}

impl Pool {
    /// Builds the peers once: a request clones one.
    pub fn new(settings: Arc<Upstream>) -> Pool {
        let endpoints = settings.endpoints.iter().map(|address| Endpoint {
            peer: peer(&settings, *address),
            address: *address,
            in_flight: AtomicUsize::new(0),
            resting_until: AtomicU64::new(0),
        });
        Pool { endpoints: endpoints.collect(), settings, next: AtomicUsize::new(0), epoch: Instant::now() }
    }

    /// Chooses an endpoint that this request has not tried yet; `None` when all were tried.
    pub fn choose(self: &Arc<Self>, _permit: &Permit, tried: &[SocketAddr]) -> Option<Lease> {
        let now = self.elapsed_ms();
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.endpoints.len();
        let rank = |offset: usize| {
            let index = start.wrapping_add(offset) % count;
            let endpoint = self.endpoints.get(index).filter(|e| !tried.contains(&e.address))?;
            let resting = endpoint.resting_until.load(Ordering::Relaxed) > now;
            let load = match self.settings.balance {
                Balance::LeastRequests => endpoint.in_flight.load(Ordering::Relaxed),
                Balance::RoundRobin => 0,
            };
            Some((resting, load, offset, index))
        };
        let (_, _, _, index) = (0..count).filter_map(rank).min()?;
        self.endpoints.get(index)?.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Lease { pool: self.clone(), index })
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Lease {
    fn endpoint(&self) -> Option<&Endpoint> {
        self.pool.endpoints.get(self.index)
    }

    /// The peer to connect to.
    pub fn peer(&self) -> Option<HttpPeer> {
        self.endpoint().map(|e| e.peer.clone())
    }

    /// Its address.
    pub fn address(&self) -> Option<SocketAddr> {
        self.endpoint().map(|e| e.address)
    }

    /// The pool that it belongs to.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Notes that the endpoint could not be reached.
    pub fn unreachable(&self) {
        let cool_down = u64::try_from(COOL_DOWN.as_millis()).unwrap_or(u64::MAX);
        if let Some(endpoint) = self.endpoint() {
            endpoint.resting_until.store(self.pool.elapsed_ms().saturating_add(cool_down), Ordering::Relaxed);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(endpoint) = self.endpoint() {
            endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn peer(settings: &Upstream, address: SocketAddr) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
    peer.group_key = group_key(settings);
    let options = &mut peer.options;
    options.connection_timeout = Some(settings.connect_timeout);
    options.total_connection_timeout = Some(settings.connect_timeout);
    options.read_timeout = Some(settings.first_byte_timeout);
    options.write_timeout = Some(settings.idle_timeout);
    options.idle_timeout = Some(Duration::from_secs(60));
    peer
}

/// pingora's pool key knows address and server name only; connections of one upstream must never serve another.
fn group_key(settings: &Upstream) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    settings.name.hash(&mut hasher);
    hasher.finish()
}
