//! What is kept of a request until its spans are made. No query, no token, no path: the route's template stands for it.
use super::Place;
use decide::deliberation::Trail;
use decide::facts::{Protocol, RequestId, TlsFacts};
use decide::refusal::Code;
use decide::request::Method;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// One request whose trace is recorded, at its end.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its place in the trace.
    pub place: Place,
    /// Our id of it, which its audit entry has too.
    pub id: RequestId,
    /// When its head was complete, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// From then to its end.
    pub duration: Duration,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The client's address, where spans may say it.
    pub client: Option<IpAddr>,
    /// The method; `None` where it is none that can be routed.
    pub method: Option<Method>,
    /// The host that was matched, with its port where it has one.
    pub host: Option<(Arc<str>, Option<u16>)>,
    /// Name and template of the route.
    pub route: Option<(Arc<str>, Arc<str>)>,
    /// The tenant's id.
    pub tenant: Option<Arc<str>>,
    /// HTTP version of the client's side.
    pub protocol: Option<Protocol>,
    /// What the TLS handshake settled; `None` without TLS.
    pub tls: Option<Arc<TlsFacts>>,
    /// The status sent; 0 where none was.
    pub status: u16,
    /// Why it was refused, or how forwarding failed.
    pub code: Option<Code>,
    /// What the guards said.
    pub trail: Trail,
    /// The call of the application, where there was one.
    pub forwarding: Option<Forwarding>,
}

/// The call of an application.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The endpoint that answered, or was asked last.
    pub endpoint: Option<SocketAddr>,
    /// From the request's beginning to that of the call.
    pub after: Duration,
    /// From the beginning of the call to the head of the answer, where one came.
    pub waited: Option<Duration>,
    /// The application's status.
    pub status: Option<u16>,
    /// How often it was sent again.
    pub resent: usize,
    /// Endpoints that could not be reached or broke off, each with the time since the request's beginning.
    pub tried: Vec<(Duration, SocketAddr)>,
}

impl Record {
    /// How many spans it makes.
    pub fn spans(&self) -> u64 {
        1 + u64::from(self.forwarding.is_some())
    }
}
