//! What is known of an upstream's endpoints, for the status page, the metrics and `/readyz?verbose`.
use super::endpoint::{Ejection, Health};
use super::{Holding, Pool};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One endpoint at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Its address.
    pub address: SocketAddr,
    /// Where it stands.
    pub zone: Option<Arc<str>>,
    /// Its share of the requests.
    pub weight: u32,
    /// What the active checks say.
    pub health: Health,
    /// Why it is passed over because of what requests met, and for how many milliseconds more.
    pub ejected: Option<(Ejection, u64)>,
    /// Requests under way.
    pub in_flight: usize,
    /// What went wrong last, if anything ever did.
    pub last_error: Option<String>,
    /// The last check: whether it was passed, and how many milliseconds ago.
    pub last_check: Option<(bool, u64)>,
}

impl EndpointStatus {
    /// Whether requests are sent to it, while there are others.
    pub fn is_fit(&self) -> bool {
        self.ejected.is_none() && self.health != Health::Unhealthy
    }
}

/// What an upstream has counted since the process started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolCounts {
    /// Requests under way.
    pub in_flight: usize,
    /// Checks passed and failed.
    pub checks: [u64; 2],
    /// Ejections because of connections and of answers.
    pub ejections: [u64; 2],
    /// Requests refused because of `max_in_flight`.
    pub full: u64,
    /// How many requests may be under way now; `None` for no bound.
    pub limit: Option<usize>,
    /// How often the limit was lowered.
    pub lowered: u64,
    /// Requests refused because the limit was lowered: of everybody, and of those who are not signed in.
    pub shed: [u64; 2],
    /// What tenants hold, and how often they were refused a place beyond their share.
    pub holdings: Vec<Holding>,
    /// The same refusals of tenants that are not remembered any more.
    pub forgotten: u64,
    /// Requests sent while no endpoint was fit.
    pub panicked: u64,
    /// Look-ups that led nowhere.
    pub unresolved: u64,
    /// Decisions over retries: failure, result and how often.
    pub retries: Vec<(&'static str, &'static str, u64)>,
}

impl Pool {
    /// Its endpoints, in their order.
    pub fn status(&self) -> Vec<EndpointStatus> {
        let now = self.life.elapsed_ms();
        let set = self.set.load();
        let one = |endpoint: &Arc<super::Endpoint>| {
            let state = &endpoint.state;
            let story = state.story();
            EndpointStatus {
                address: endpoint.target.address,
                zone: endpoint.zone.clone(),
                weight: endpoint.weight,
                health: state.health(),
                ejected: story.ejection.zip(state.ejected_for_ms(now)),
                in_flight: state.in_flight.load(Ordering::Relaxed),
                last_error: story.last_error.clone(),
                last_check: story.last_check.map(|(passed, at_ms)| (passed, now.saturating_sub(at_ms))),
            }
        };
        set.endpoints.iter().map(one).collect()
    }

    /// What it has counted.
    pub fn counts(&self) -> PoolCounts {
        let life = &self.life;
        let read = |counters: &[std::sync::atomic::AtomicU64; 2]| {
            let [a, b] = counters;
            [a.load(Ordering::Relaxed), b.load(Ordering::Relaxed)]
        };
        PoolCounts {
            in_flight: life.in_flight.load(Ordering::Relaxed),
            checks: read(&life.checks),
            ejections: read(&life.ejections),
            full: life.full.load(Ordering::Relaxed),
            limit: self.limit(),
            lowered: life.adaptive.lowered(),
            shed: read(&life.shed),
            holdings: if self.settings.fairness.is_some() { life.ledger.holdings() } else { Vec::new() },
            forgotten: life.ledger.forgotten(),
            panicked: life.panicked.load(Ordering::Relaxed),
            unresolved: life.unresolved.load(Ordering::Relaxed),
            retries: life.retries.all().collect(),
        }
    }

    /// In a few words, for `/readyz?verbose`.
    pub fn summary(&self) -> String {
        let status = self.status();
        let fit = status.iter().filter(|endpoint| endpoint.is_fit()).count();
        format!("{} {fit}/{} fit", self.settings.name, status.len())
    }
}
