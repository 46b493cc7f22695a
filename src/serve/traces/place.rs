//! The place of one request in a trace: begun at the edge, or continued from a trusted hop.
use crate::config::settings::Traces;
use decide::headers::TraceParent;

/// Share of new traces that are marked as recorded where no spans are sent, per million: all. The mark is then the
/// application's to honour, as if it were the first that records.
const UNDECIDED_PPM: u32 = 1_000_000;

/// The place of one request in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Our span about the request.
    pub server: TraceParent,
    /// Our span about the call of the application, the parent of whatever the application does.
    pub client: u64,
    /// What the client named, where it is valid.
    pub inbound: Option<TraceParent>,
    /// Whether that is continued. Otherwise it is only linked.
    pub continued: bool,
}

impl Place {
    /// Decided once, when the request comes. `hop` is whether it comes from a hop that the listener trusts.
    pub fn at_edge(traces: &Traces, seed: [u8; 32], inbound: Option<TraceParent>, hop: bool) -> Place {
        let ppm = if traces.collector.is_some() { traces.sample_ppm } else { UNDECIDED_PPM };
        let (begin, client) = seed.split_at(24);
        let begin = <[u8; 24]>::try_from(begin).unwrap_or_default();
        let client = <[u8; 8]>::try_from(client).map(u64::from_be_bytes).unwrap_or_default();
        let (server, continued) = TraceParent::at_edge(inbound, traces.trust_inbound && hop, begin, ppm);
        // Both are ours, so they must differ; a collision is a matter of one in 2^64.
        let client = if client == server.span { !client } else { client };
        Place { server, client: client.max(1), inbound, continued }
    }

    /// What the application is told: our client span is its parent; and whether the inbound trace goes on.
    pub fn onward(&self) -> (TraceParent, bool) {
        (self.server.from_span(self.client), self.continued)
    }

    /// The parent of our server span.
    pub fn parent(&self) -> Option<TraceParent> {
        self.inbound.filter(|_| self.continued)
    }

    /// The span that the client named and that is not continued.
    pub fn link(&self) -> Option<TraceParent> {
        self.inbound.filter(|_| !self.continued)
    }
}
