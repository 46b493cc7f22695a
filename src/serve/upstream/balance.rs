//! Which of an upstream's endpoints is next: a pure choice over what is known of them.
//!
//! Every endpoint is looked at. An upstream has few of them, our own counters are never stale, and so the least loaded one
//! is found without the guess between two that larger or distributed balancers need.
use super::NoEndpoint;
use super::endpoint::{Endpoint, Health};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Longest order of turns; greater sums of weights are scaled down.
const MOST_TURNS: u64 = 4096;

/// The endpoints of one moment.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    /// Indexes into `endpoints`, each as often as it weighs, spread evenly.
    turns: Vec<usize>,
}

/// An endpoint for one request.
pub(super) struct Choice {
    pub(super) endpoint: Arc<Endpoint>,
    /// Whether none was fit, and all were considered.
    pub(super) panicked: bool,
}

/// How gladly an endpoint is taken; the least is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Near,
    Far,
    /// It has checks, and none was passed yet.
    Unproven,
    Unfit,
}

impl Set {
    pub(super) fn new(endpoints: Vec<Arc<Endpoint>>) -> Set {
        let weights: Vec<u32> = endpoints.iter().map(|endpoint| endpoint.weight).collect();
        Set { turns: turns(&weights), endpoints }
    }

    /// Chooses. `key` is what a hash goes by; `turn` counts up.
    pub(super) fn choose(
        &self,
        by_turn: bool,
        key: Option<u64>,
        turn: usize,
        tried: &[SocketAddr],
        now_ms: u64,
    ) -> Result<Choice, NoEndpoint> {
        if self.endpoints.is_empty() {
            return Err(NoEndpoint::Nowhere);
        }
        let stay = self.stay_near(now_ms);
        let rank = |endpoint: &Endpoint| rank(endpoint, stay, now_ms);
        let open = |endpoint: &Endpoint| !tried.contains(&endpoint.target.address);
        let best = self.endpoints.iter().filter(|e| open(e) && has_room(e)).map(|e| rank(e)).min();
        let fit_but_full = || self.endpoints.iter().any(|e| open(e) && rank(e) != Rank::Unfit && !has_room(e));
        let best = match best {
            None if self.endpoints.iter().any(|e| open(e)) => return Err(NoEndpoint::Full),
            None => return Err(NoEndpoint::AllTried),
            // What is not well does not get what those that are well cannot take.
            Some(Rank::Unfit) if fit_but_full() => return Err(NoEndpoint::Full),
            Some(best) => best,
        };
        let among = |endpoint: &Endpoint| open(endpoint) && has_room(endpoint) && rank(endpoint) == best;
        let chosen = match key {
            Some(key) => self.by_hash(key, among),
            None => self.by_load(by_turn, turn, among),
        };
        let endpoint = chosen.ok_or(NoEndpoint::Full)?.clone();
        let panicked = best == Rank::Unfit && self.endpoints.iter().all(|e| rank(e) == Rank::Unfit);
        Ok(Choice { endpoint, panicked })
    }

    /// Whether one more endpoint may be ejected for its answers: `share` is in hundredths of a percent.
    pub(super) fn may_eject(&self, share: u32, now_ms: u64) -> bool {
        let all = self.endpoints.len();
        let ejected = self.endpoints.iter().filter(|e| e.state.ejected_for_answers(now_ms)).count();
        let most = all.saturating_mul(usize::try_from(share).unwrap_or(usize::MAX)) / 10_000;
        let most = if share == 0 { 0 } else { most.max(1) };
        ejected < most && ejected + 1 < all
    }

    /// Whether requests stay in the gateway's zone: while at least half of what stands there is fit. With less, the rest
    /// of the zone would carry more than twice its share.
    fn stay_near(&self, now_ms: u64) -> bool {
        let near = || self.endpoints.iter().filter(|e| e.own_zone);
        let all: u64 = near().map(|e| u64::from(e.weight)).sum();
        let fit: u64 = near().filter(|e| is_fit(e, now_ms)).map(|e| u64::from(e.weight)).sum();
        all > 0 && fit * 2 >= all
    }

    /// The endpoint with the fewest requests for its weight, and among equals the one whose turn it is.
    fn by_load(&self, by_turn: bool, turn: usize, among: impl Fn(&Endpoint) -> bool) -> Option<&Arc<Endpoint>> {
        // The turns of those that are left only: else whoever comes after one that is passed over gets its share too.
        let left = || self.turns.iter().filter_map(|index| self.endpoints.get(*index)).filter(|e| among(e));
        let count = left().count();
        let start = turn.checked_rem(count)?;
        let mut best: Option<(u64, &Arc<Endpoint>)> = None;
        for endpoint in left().skip(start).chain(left()).take(count) {
            let load = if by_turn { 0 } else { load(endpoint) };
            if load == 0 {
                return Some(endpoint);
            }
            if best.is_none_or(|(least, _)| load < least) {
                best = Some((load, endpoint));
            }
        }
        best.map(|(_, endpoint)| endpoint)
    }

    /// Rendezvous hashing: each endpoint draws a number for the key, and the least wins. An endpoint that leaves moves
    /// its own keys and no others, one that joins takes its share from all alike, and weights count exactly.
    fn by_hash(&self, key: u64, among: impl Fn(&Endpoint) -> bool) -> Option<&Arc<Endpoint>> {
        let draws = self.endpoints.iter().filter(|e| among(e)).map(|e| (draw(key, e), e));
        draws.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, endpoint)| endpoint)
    }
}

fn is_fit(endpoint: &Endpoint, now_ms: u64) -> bool {
    !endpoint.state.is_ejected(now_ms) && endpoint.state.health() != Health::Unhealthy
}

fn has_room(endpoint: &Endpoint) -> bool {
    endpoint.max_in_flight.is_none_or(|max| endpoint.state.in_flight.load(Ordering::Relaxed) < max)
}

fn rank(endpoint: &Endpoint, stay_near: bool, now_ms: u64) -> Rank {
    if endpoint.state.is_ejected(now_ms) {
        return Rank::Unfit;
    }
    match endpoint.state.health() {
        Health::Unhealthy => Rank::Unfit,
        Health::Unproven => Rank::Unproven,
        Health::Unchecked | Health::Healthy if stay_near && !endpoint.own_zone => Rank::Far,
        Health::Unchecked | Health::Healthy => Rank::Near,
    }
}

fn load(endpoint: &Endpoint) -> u64 {
    let in_flight = u64::try_from(endpoint.state.in_flight.load(Ordering::Relaxed)).unwrap_or(u64::MAX);
    in_flight.saturating_mul(10_000) / u64::from(endpoint.weight.max(1))
}

/// The time of the first event of a Poisson process of the endpoint's weight: the least of several such times belongs to
/// each endpoint with the probability of its weight.
fn draw(key: u64, endpoint: &Endpoint) -> f64 {
    let hash = mix(key ^ mix(address_hash(endpoint.target.address)));
    // 53 bits in the middle of their steps: never 0 and never 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit into a double")]
    let uniform = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -uniform.ln() / f64::from(endpoint.weight.max(1))
}

fn address_hash(address: SocketAddr) -> u64 {
    match address {
        SocketAddr::V4(v4) => stable_hash(&v4.ip().octets()) ^ u64::from(v4.port()),
        SocketAddr::V6(v6) => stable_hash(&v6.ip().octets()) ^ u64::from(v6.port()),
    }
}

/// FNV-1a, finished well: all replicas and all versions of the gateway must draw the same.
pub(super) fn stable_hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// The finaliser of SplitMix64.
pub(in crate::serve) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Indexes, each as often as it weighs, never two of one side by side where it can be helped.
fn turns(weights: &[u32]) -> Vec<usize> {
    let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let scaled = |weight: u32| match sum > MOST_TURNS {
        true => (u64::from(weight) * MOST_TURNS / sum).max(1),
        false => u64::from(weight),
    };
    let weights: Vec<u64> = weights.iter().map(|weight| scaled(*weight)).collect();
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let weights: Vec<i64> = weights.iter().map(|w| i64::try_from(w / divisor).unwrap_or(1)).collect();
    let sum: i64 = weights.iter().sum();
    let mut credit = vec![0_i64; weights.len()];
    let mut order = Vec::new();
    for _ in 0..sum {
        credit.iter_mut().zip(&weights).for_each(|(credit, weight)| *credit += weight);
        let richest = credit.iter_mut().enumerate().max_by_key(|(index, credit)| (**credit, std::cmp::Reverse(*index)));
        if let Some((index, credit)) = richest {
            *credit -= sum;
            order.push(index);
        }
    }
    order
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
