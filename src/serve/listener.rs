//! The gateway's front door: what a connection is known by, what the door needs from the gateway, and how it opens.
use super::certificates::{CertStore, Certificate};
use super::client_certificates::{Presented, demand};
use super::drain::Drain;
use super::frames::Unsent;
use super::head::Taken;
use super::inherited::Inherited;
use super::lane::{Handover, Turn};
use super::limits::{Budget, Rejection};
use super::listening::Listening;
use super::shares::{Account, UnreadPlace};
use super::stream::Wire;
use super::tls::{Callers, Handshake, Tickets, TlsAcceptor};
use crate::config::settings::{EdgeCertificate, Listener, ListenerKind};
use arc_swap::ArcSwap;
use bytes::Bytes;
use decide::facts::TlsFacts;
use decide::refusal::{Code, Refusal};
use http::{HeaderName, HeaderValue, StatusCode};
use pingora_core::protocols::http::v2::server::HttpSession;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Accept queue of a listener; the kernel may lower it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// What is known about a client's connection, for as long as it lasts.
#[derive(Debug)]
pub struct ConnInfo {
    /// Counts up from 1 in the order of acceptance; unique in this process.
    pub id: u64,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The other end of the connection, the client or a hop before us: that of the TCP connection, or the one for whom a
    /// balancer made it, where that is said in a PROXY header.
    pub peer: SocketAddr,
    /// Whether the peer is a balancer that has made the connection for itself, so that no header makes another client of it.
    pub own_hop: bool,
    /// Our end of it.
    pub local: SocketAddr,
    /// What the TLS handshake settled; `None` without TLS.
    pub tls: Option<Arc<TlsFacts>>,
    /// What the listener was set to when it was accepted.
    pub settings: Arc<Listener>,
    /// Whether the peer is one of the hops whose forwarding headers are believed.
    pub trusted_peer: bool,
    /// When the connection was accepted.
    pub accepted_at: Instant,
    /// Server name of the ClientHello, lowercase.
    pub sni: Option<Arc<str>>,
    /// The certificate that was chosen for the connection; `None` without TLS.
    pub certificate: Option<Arc<Certificate>>,
    /// What the client showed of itself, where its listener asks for certificates.
    pub client_certificate: Option<Arc<Presented>>,
    /// Requests of this connection that reached the gateway; what did not, the connection's loop accounts for.
    pub(crate) begun: AtomicU64,
    pub(crate) drain: Drain,
    /// What the client's address has under way; `None` for trusted hops.
    pub(crate) account: Option<Arc<Account>>,
    /// What the codec of HTTP/2 holds for the client.
    pub(crate) unsent: Arc<Unsent>,
    /// Where a request that was decided here waits for pingora.
    pub(crate) handover: Handover,
}

impl ConnInfo {
    /// To be called once for each request that reaches the gateway: it accounts for it from now on.
    pub fn request_begins(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Refuses a request that came around the delivery network of the listener, whose settings may be newer than the
    /// connection.
    pub(crate) fn admitted_to(&self, settings: &Listener) -> Result<(), Refusal> {
        let Some(edge) = settings.edge.as_deref() else { return Ok(()) };
        let asked = |listener: &Listener| listener.edge.as_ref().and_then(|edge| edge.certificate.clone());
        let same = |a: &Arc<EdgeCertificate>| asked(&self.settings).is_some_and(|b| Arc::ptr_eq(a, &b) || **a == *b);
        if edge.certificate.as_ref().is_some_and(|now| !same(now)) {
            let cause = "the connection is older than the demand for the certificate of the edge";
            return Err(Refusal::new(Code::NetworkDenied, cause));
        }
        decide::edge::admit(self.peer.ip(), &edge.ranges)
    }

    /// Refuses a request of a client whose certificate is not good any more, where its listener, whose settings may be newer
    /// than the connection, wants one.
    pub(crate) fn certified_for(&self, settings: &Listener, now_s: u64) -> Result<(), Refusal> {
        demand(settings.client_certificates.as_deref(), self.client_certificate.as_deref(), now_s)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether the listener or the process is draining, so that an HTTP/1 answer should say `Connection: close`
    /// (`session.set_keepalive(None)` in `response_filter`).
    pub fn draining(&self) -> bool {
        self.drain.left()
    }
}

/// The connection that a session of pingora's runs on, in HTTP/1 and HTTP/2 alike; `None` where the session does not
/// come from our listener.
pub fn conn_info(session: &pingora_proxy::Session) -> Option<Arc<ConnInfo>> {
    let data = session.digest()?.proxy_digest.as_ref()?.user_data.as_ref()?;
    data.downcast_ref::<Arc<ConnInfo>>().cloned()
}

/// Whether a request for `host` (lowercase, without port and trailing dot) came over a connection that was not made for
/// it, and must be answered with 421 `request.misdirected` (RFC 9110, 7.4 and 15.5.20).
///
/// The host must equal the server name of the handshake. Another host is accepted where a client may reuse the
/// connection for it (RFC 9113, 9.1.1): where the connection's certificate is valid both for the server name and for
/// that host. Without server name, the certificate must cover the host. Without TLS nothing was promised, so nothing
/// is misdirected.
pub fn misdirected(conn: &ConnInfo, host: &str) -> bool {
    let Some(certificate) = conn.certificate.as_ref() else { return false };
    match conn.sni.as_deref() {
        Some(name) if name == host => false,
        Some(name) => !(certificate.covers(name) && certificate.covers(host)),
        None => !certificate.covers(host),
    }
}

/// What could be read of a request that never reached the proxy: bounded, lossy, and not to be trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glimpse {
    /// The first word of the request line.
    pub method: Option<String>,
    /// The `Host` header.
    pub host: Option<String>,
    /// The request target up to `?`.
    pub path: Option<String>,
}

/// A complete answer, dressed and audited by the gateway. The listener adds what frames it on the wire
/// (`Content-Length`, `Connection`) and leaves out such fields where they are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Header fields in the order of sending.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body; left out in the answer to HEAD.
    pub body: Bytes,
}

/// What the listener needs from the gateway, for requests that never reach the proxy and for the metrics.
pub trait Front: Send + Sync + 'static {
    /// Makes the answer to a request that is refused before the proxy. The gateway audits, counts and dresses it.
    /// On HTTP/2, where the codec has already reset the stream, the reply is not sent.
    fn refuse(&self, conn: &Arc<ConnInfo>, refusal: Refusal, glimpse: Glimpse) -> impl Future<Output = Reply> + Send;

    /// Audits and counts a connection that is closed without an answer.
    fn turned_away(&self, conn: &Arc<ConnInfo>, refusal: Refusal) -> impl Future<Output = ()> + Send;

    /// Makes the 308 (RFC 9110, 15.4.9) of the redirecting listener; `location` is a complete https URL.
    fn redirect(
        &self,
        conn: &Arc<ConnInfo>,
        location: HeaderValue,
        glimpse: Glimpse,
    ) -> impl Future<Output = Reply> + Send;

    /// Serves the request of HTTP/1 whose head was taken from the wire, where the gateway carries its bytes itself; gives it
    /// back to the wire for the proxy otherwise.
    fn carry(&self, wire: &mut Wire, taken: Taken) -> impl Future<Output = Turn> + Send {
        wire.give_back(&taken.raw);
        std::future::ready(Turn::Pingora)
    }

    /// Serves the request of a stream of HTTP/2, where the gateway carries its bytes itself; leaves it to the proxy otherwise.
    fn carry_stream(
        &self,
        session: Box<HttpSession>,
        conn: &Arc<ConnInfo>,
    ) -> impl Future<Output = Option<Box<HttpSession>>> + Send {
        let _ = conn;
        std::future::ready(Some(session))
    }

    /// A place among what waits (`server.unread_answers`), where there is one for this client.
    fn unread(&self, conn: &ConnInfo) -> Option<UnreadPlace> {
        let _ = conn;
        None
    }

    /// A TLS handshake has ended, one way or the other.
    fn tls_handshake(&self, listener: &str, outcome: &Handshake);

    /// A connection was closed by us, for this reason.
    fn connection_rejected(&self, listener: &str, reason: Rejection);

    /// A connection was closed because nothing came for `idle_timeout`.
    fn connection_idle(&self, listener: &str) {
        let _ = listener;
    }

    /// `delta` connections more (+1) or less (-1) are open.
    fn connections(&self, listener: &str, delta: i64);
}

/// A listener that is bound and listens, but does not accept yet.
#[derive(Debug)]
pub struct Bound {
    /// Its name.
    pub name: Arc<str>,
    /// The address in use: the port is real even where 0 was asked for.
    pub address: SocketAddr,
    /// What it does with connections; a reload may put another one here.
    pub frontage: Arc<ArcSwap<Frontage>>,
    pub(crate) socket: std::net::TcpListener,
}

/// What a listener does with a connection: settings, and the acceptor that goes with them.
#[derive(Debug)]
pub struct Frontage {
    pub(crate) settings: Arc<Listener>,
    pub(crate) tls: Option<Arc<TlsAcceptor>>,
}

impl Frontage {
    /// Of these settings; `certificates` is needed for listeners with TLS. The acceptor of the one `before` is kept where
    /// its part of the settings is the same, so that sessions can still be resumed.
    pub fn new(
        settings: Arc<Listener>,
        certificates: Option<&Arc<CertStore>>,
        before: Option<&Frontage>,
    ) -> Result<Frontage, BindError> {
        let name = || settings.name.clone();
        let tls = match (&settings.kind, certificates) {
            (kind @ ListenerKind::Tls { protocols, profile, tickets }, Some(store)) => {
                let callers = Callers::of(&settings);
                let same =
                    |before: &&Frontage| before.settings.kind == *kind && Callers::of(&before.settings) == callers;
                let kept = before.filter(same).and_then(|before| before.tls.clone());
                match kept {
                    Some(kept) => Some(kept),
                    None => {
                        let tickets =
                            tickets.as_ref().map(|tickets| Tickets::new(tickets.clone(), settings.name.clone()));
                        let acceptor = TlsAcceptor::new(profile, protocols, store.clone(), &callers, tickets);
                        Some(Arc::new(acceptor.map_err(|message| BindError::Tls { name: name(), message })?))
                    }
                }
            }
            (ListenerKind::Tls { .. }, None) => {
                let message = "no certificates: `tls.certificates` is not set".to_owned();
                return Err(BindError::Tls { name: name(), message });
            }
            (ListenerKind::Redirect { .. } | ListenerKind::Plaintext, _) => None,
        };
        Ok(Frontage { settings, tls })
    }
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The operating system refused.
    #[error("listener `{name}`: cannot listen on `{address}`: {source}")]
    Socket {
        /// The listener's name.
        name: Arc<str>,
        /// The address asked for.
        address: SocketAddr,
        /// The system's word for it.
        source: io::Error,
    },
    /// The socket that came with the process does not fit.
    #[error("listener `{name}`: {message}")]
    Given {
        /// The listener's name.
        name: Arc<str>,
        /// What does not fit.
        message: String,
    },
    /// The TLS profile cannot be used.
    #[error("listener `{name}`: {message}")]
    Tls {
        /// The listener's name.
        name: Arc<str>,
        /// What is wrong with it.
        message: String,
    },
}

/// Binds a listener. Do this for all of them before the first [`accept::serve`](super::accept::serve): a port that is
/// taken is then a start that failed, not half a gateway. `certificates` is needed for listeners with TLS. A socket that
/// was `given` for it is taken before one is opened; with `reuse_port` (SO_REUSEPORT) other processes of the same user
/// may open the same port beside us. Needs a tokio runtime.
pub fn bind(
    settings: &Arc<Listener>,
    certificates: Option<&Arc<CertStore>>,
    given: &mut Inherited,
    reuse_port: bool,
) -> Result<Bound, BindError> {
    let frontage = Frontage::new(settings.clone(), certificates, None)?;
    let fail = |source| BindError::Socket { name: settings.name.clone(), address: settings.address, source };
    let taken = given.take(&settings.name, settings.address);
    let taken = taken.map_err(|message| BindError::Given { name: settings.name.clone(), message })?;
    let socket = taken.map_or_else(|| listen(settings.address, reuse_port), Ok).map_err(fail)?;
    let address = socket.local_addr().map_err(fail)?;
    Ok(Bound { name: settings.name.clone(), address, frontage: Arc::new(ArcSwap::from_pointee(frontage)), socket })
}

pub(crate) fn listen(address: SocketAddr, reuse_port: bool) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `[::]` means every address of this machine; a certain IPv6 address means just that one.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    if reuse_port {
        rustix::net::sockopt::set_socket_reuseport(&socket, true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Everything that the connections of all listeners have in common.
#[derive(Debug)]
pub struct House<A, F> {
    /// Where requests go: pingora's `HttpProxy` around the gateway.
    pub app: Arc<A>,
    /// The gateway, for what does not get that far.
    pub front: Arc<F>,
    /// The orderly end.
    pub drain: Drain,
    /// Open connections in all.
    pub budget: Budget,
    /// The sockets that are accepted from.
    pub listening: Listening,
}

impl<A, F> Clone for House<A, F> {
    fn clone(&self) -> Self {
        House {
            app: self.app.clone(),
            front: self.front.clone(),
            drain: self.drain.clone(),
            budget: self.budget.clone(),
            listening: self.listening.clone(),
        }
    }
}

impl Listener {
    /// Whether connections of this peer are not counted by its address: it speaks for many.
    pub(crate) fn exempts(&self, peer: IpAddr) -> bool {
        let of_edge =
            |edge: &crate::config::settings::Edge| edge.ranges.iter().any(|net| net.contains(&peer.to_canonical()));
        self.trusts(peer) || self.edge.as_deref().is_some_and(of_edge)
    }

    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted.iter().any(|net| net.contains(&peer))
    }
}

#[cfg(test)]
mod tests;
