//! A request's place in a trace, and the record that its spans are made of.
use super::Context;
use crate::serve::traces::{Forwarding, Place, Record};
use decide::headers::TraceParent;
use http::HeaderMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The header of W3C Trace Context.
const TRACEPARENT: http::HeaderName = http::HeaderName::from_static("traceparent");

impl Context {
    /// Settles the place of the request in a trace, from what its client says about that.
    pub fn trace_begins(&mut self, headers: &HeaderMap) {
        self.place = Some(self.place_of(TraceParent::inbound(headers.get_all(TRACEPARENT).iter())));
    }

    /// What the application is told of the trace, and whether the inbound one goes on.
    pub fn trace_onward(&self) -> (TraceParent, bool) {
        self.place.unwrap_or_else(|| self.place_of(None)).onward()
    }

    /// Notes that an endpoint could not be reached or broke off, so that it is not tried again.
    pub fn tried_in_vain(&mut self, endpoint: SocketAddr) {
        self.tried.push(endpoint);
        if self.place.is_some_and(|place| place.server.sampled) {
            self.in_vain.push((self.started.elapsed(), endpoint));
        }
    }

    fn place_of(&self, inbound: Option<TraceParent>) -> Place {
        let hop = self.peer.as_ref().is_some_and(|peer| peer.trusted);
        Place::at_edge(&self.active.snapshot.traces, self.shared.trace_seed(self.stamp.id), inbound, hop)
    }

    /// The trace's id, where spans of it are sent.
    pub(super) fn recorded_trace(&self) -> Option<u128> {
        self.active.snapshot.traces.collector.as_ref()?;
        // What was refused before its head was read has no place yet.
        let place = self.place.unwrap_or_else(|| self.place_of(None));
        place.server.sampled.then_some(place.server.trace)
    }

    /// Leaves a record for the collector, where there is one and the trace is recorded.
    pub(super) fn trace_ends(&mut self, duration: Duration, endpoint: Option<SocketAddr>) {
        if self.active.snapshot.traces.collector.is_none() {
            return;
        }
        let place = self.place.unwrap_or_else(|| self.place_of(None));
        if place.server.sampled {
            let spans = 1 + u64::from(self.sent.is_some() && self.found.is_some());
            self.shared.traces.push(spans, || self.record(place, duration, endpoint));
        }
    }

    fn record(&self, place: Place, duration: Duration, endpoint: Option<SocketAddr>) -> Record {
        let (request, found, peer) = (self.request.as_ref(), self.found.as_ref(), self.peer.as_ref());
        let address = self.facts.as_ref().map(|facts| facts.client.0).or(peer.map(|peer| peer.address));
        let forwarding = self.sent.zip(self.permit.as_ref()).map(|(sent, permit)| Forwarding {
            upstream: permit.destination().name.clone(),
            endpoint: endpoint.or(self.tried.last().copied()),
            after: sent.saturating_duration_since(self.started),
            waited: self.waited,
            status: self.upstream_status,
            resent: self.tries.saturating_sub(1),
            tried: self.in_vain.clone(),
        });
        Record {
            place,
            id: self.stamp.id,
            at_ms: self.stamp.at_ms,
            duration,
            listener: peer.map_or_else(|| Arc::from(""), |peer| peer.listener.clone()),
            client: address.filter(|_| self.active.snapshot.traces.client_address),
            method: request.map(|request| request.method),
            host: request.map(|request| (request.host.clone(), request.port)),
            route: found.map(|found| (found.route.name.clone(), found.template.clone())),
            tenant: self.seat().map(|seat| seat.id.clone()),
            protocol: self.facts.as_ref().map(|facts| facts.protocol),
            tls: peer.and_then(|peer| peer.tls.clone()),
            status: self.status,
            code: self.refusal.as_ref().map(|refusal| refusal.code),
            trail: self.trail,
            forwarding,
        }
    }
}
