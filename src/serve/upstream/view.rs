//! The state of an upstream's endpoints, for people who look at the running gateway.
use super::Pool;
use super::endpoint::{Ejection, Endpoint, Health};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The state of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointView {
    /// Its address.
    pub address: SocketAddr,
    /// Whether requests are sent to it while others are left.
    pub usable: bool,
    /// `up`, or why not, in a few words.
    pub state: String,
    /// Requests under way.
    pub in_flight: usize,
    /// What went wrong last.
    pub last_error: Option<String>,
}

impl Pool {
    /// The state of every endpoint, in the order of the file.
    pub fn view(&self) -> Vec<EndpointView> {
        let now_ms = self.life.elapsed_ms();
        self.set.load().endpoints.iter().map(|endpoint| view(endpoint, now_ms)).collect()
    }
}

fn view(endpoint: &Arc<Endpoint>, now_ms: u64) -> EndpointView {
    let state = &endpoint.state;
    let (ejection, last_error) = {
        let story = state.story();
        (story.ejection, story.last_error.clone())
    };
    let back = state.ejected_for_ms(now_ms).map(|left_ms| left_ms.div_ceil(1000));
    let (usable, words) = match (back, state.health()) {
        (Some(left_s), _) if ejection == Some(Ejection::Connect) => {
            (false, format!("unreachable, rests for {left_s} s"))
        }
        (Some(left_s), _) => (false, format!("ejected for {left_s} s")),
        (None, Health::Unhealthy) => (false, "unhealthy".to_owned()),
        (None, Health::Unproven) => (false, "not checked yet".to_owned()),
        (None, Health::Healthy | Health::Unchecked) => (true, "up".to_owned()),
    };
    EndpointView {
        address: endpoint.target.address,
        usable,
        state: words,
        in_flight: state.in_flight.load(Ordering::Relaxed),
        last_error,
    }
}
