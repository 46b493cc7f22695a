//! An endpoint in use by one request: what became of the request there is told to it.
use super::adaptive::Sample;
use super::endpoint::{Ejection, Endpoint};
use super::retry::{Attempt, may_retry};
use super::shares::Place;
use super::{Pool, Target};
use crate::config::settings::{HttpVersion, Timeouts};
use pingora_core::upstreams::peer::HttpPeer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// An endpoint in use by one request; gives its place back when dropped.
#[derive(Debug)]
pub struct Lease {
    pub(super) pool: Arc<Pool>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) timeouts: Timeouts,
    pub(super) place: Option<Place>,
    /// When the endpoint was chosen, where that tells how long an answer takes.
    pub(super) since: Option<Instant>,
}

impl Lease {
    /// Where to connect to, and how.
    pub fn target(&self) -> &Target {
        &self.endpoint.target
    }

    /// The same for pingora's connector. Its one clock runs for the first byte and for every pause after it: `stream`s
    /// pause for long, and no pause may be longer than what is left of `total`, so long after the request was sent.
    pub fn peer(&self, stream: bool, elapsed: Duration) -> HttpPeer {
        let (mut peer, timeouts) = (self.endpoint.peer.clone(), &self.timeouts);
        let patience = if stream { timeouts.first_byte.max(timeouts.idle) } else { timeouts.first_byte };
        let left = timeouts.total.map(|total| total.saturating_sub(elapsed).max(Duration::from_millis(1)));
        peer.options.read_timeout = Some(left.map_or(patience, |left| patience.min(left)));
        peer.options.write_timeout = Some(timeouts.idle);
        peer
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
        if self.endpoint.state.unreachable(&self.pool.settings.outlier, self.pool.life.elapsed_ms(), cause) {
            self.ejected(Ejection::Connect, cause);
        }
    }

    /// It answered with this final status.
    pub fn answered(&self, status: u16) {
        if status < 500 {
            // What fails at once says nothing about how long an answer takes.
            self.measured(false);
            self.endpoint.state.succeeded();
        } else {
            self.failed(&format!("status {status}"));
        }
    }

    /// It did not answer in time.
    pub fn timed_out(&self) {
        self.measured(true);
        self.failed("timeout");
    }

    /// It was connected to, and then broke off, or what it answered is no HTTP.
    pub fn broke(&self, cause: &str) {
        self.failed(cause);
    }

    /// Lets the upstream's limit follow how long it took.
    fn measured(&self, timed_out: bool) {
        let (Some(since), Some(bounds)) = (self.since, self.pool.bounds()) else { return };
        let life = &self.pool.life;
        let took_us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let sample = Sample { took_us, timed_out, in_flight: life.in_flight.load(Ordering::Relaxed) };
        if let Some(limit) = life.adaptive.note(life.elapsed_ms(), bounds, sample) {
            tracing::info!(
                upstream = &*self.pool.settings.name,
                limit,
                "the upstream takes another number of requests"
            );
        }
    }

    fn failed(&self, cause: &str) {
        let (settings, now) = (&self.pool.settings, self.pool.life.elapsed_ms());
        let may_eject = || self.pool.set.load().may_eject(settings.outlier.max_ejected, now);
        if self.endpoint.state.failed(&settings.outlier, now, cause, may_eject) {
            self.ejected(Ejection::Answers, cause);
        }
    }

    fn ejected(&self, why: Ejection, cause: &str) {
        let [connect, answers] = &self.pool.life.ejections;
        match why {
            Ejection::Connect => connect,
            Ejection::Answers => answers,
        }
        .fetch_add(1, Ordering::Relaxed);
        let upstream = &*self.pool.settings.name;
        tracing::warn!(upstream, endpoint = %self.address(), cause, "the endpoint is passed over for a while");
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
        self.pool.life.leave(self.place.as_ref());
    }
}
