//! The accept loop: takes connections as fast as the permits allow and gives each a task of its own.
use super::arrivals::Arrivals;
use super::drain;
use super::in_place::in_place;
use super::lane::Handover;
use super::limits::{PerAddress, Rejection, Slot};
use super::listener::{Bound, ConnInfo, Front, Frontage, House};
use super::proxied::{Unproxied, introduced};
use super::stream::{Transport, Wire};
use super::tls::Handshake;
use super::waiting::WaitingRoom;
use super::{http1, http2, redirect};
use crate::config::settings::ListenerKind;
use arc_swap::ArcSwap;
use decide::facts::Protocol;
use decide::proxy_protocol::Source;
use decide::refusal::{Code, Refusal};
use pingora_core::apps::HttpServerApp;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

/// Pause after an accept that failed for want of descriptors or memory: trying again at once would only burn a core.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Accepts connections until the drain begins, then closes the listening socket. Connections live on in tasks of their
/// own; [`super::drain::Drain::finish`] waits for them. An error means that the listener never started.
pub async fn serve<A, F>(bound: Bound, house: House<A, F>) -> io::Result<()>
where
    A: HttpServerApp + Send + Sync + 'static,
    F: Front,
{
    let Bound { name, frontage, socket, .. } = bound;
    let mut enlisted = house.listening.enlist(&name, &socket)?;
    let socket = TcpListener::from_std(socket)?;
    let (addresses, arrivals, waiting) = (PerAddress::default(), Arrivals::default(), Arc::default());
    let door = Arc::new(Door { frontage, addresses, arrivals, waiting, house });
    let mut draining = door.house.drain.watch_left();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain::begun(&mut draining) => return Ok(()),
            () = enlisted.asked() => continue,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => door.admit(tcp, SocketAddr::new(peer.ip().to_canonical(), peer.port())),
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(listener = &*door.frontage.load().settings.name, %error, "cannot accept connections");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Whether the error is that of a client which left before it was accepted.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// One listener at work.
struct Door<A, F> {
    frontage: Arc<ArcSwap<Frontage>>,
    addresses: PerAddress,
    /// TLS handshakes by address.
    arrivals: Arrivals,
    /// Connections of balancers that have not said yet for whom they are.
    waiting: Arc<WaitingRoom>,
    house: House<A, F>,
}

impl<A, F> Door<A, F>
where
    A: HttpServerApp + Send + Sync + 'static,
    F: Front,
{
    fn admit(self: &Arc<Self>, tcp: TcpStream, peer: SocketAddr) {
        let frontage = self.frontage.load_full();
        let settings = &frontage.settings;
        let trusted_peer = settings.trusts(peer.ip());
        // Who is behind a trusted balancer is counted once it has said who that is.
        let exempt = if settings.proxy_protocol { trusted_peer } else { settings.exempts(peer.ip()) };
        let slot = Slot::enter(&self.house.budget).and_then(|slot| self.count(slot, &frontage, peer, exempt));
        match slot {
            Ok(slot) => {
                let counted = Counted::new(self.clone(), settings.name.clone());
                let visit = Visit { frontage, peer, trusted_peer, accepted_at: Instant::now() };
                let mut cut = self.house.drain.watch_cut();
                tokio::spawn(in_place(|| async move {
                    let received = pin!(counted.door.receive(tcp, visit, slot));
                    tokio::select! {
                        () = received => {}
                        // What is dropped here gives account of itself all the same.
                        () = drain::begun(&mut cut) => {}
                    }
                }));
            }
            Err(reason) => self.reject(tcp, &settings.name, reason),
        }
    }

    fn count(&self, slot: Slot, frontage: &Frontage, peer: SocketAddr, exempt: bool) -> Result<Slot, Rejection> {
        let settings = &frontage.settings;
        let shakes_hands = frontage.tls.is_some() && !exempt;
        if shakes_hands && !self.arrivals.admits(peer.ip(), settings.handshakes_per_second, Instant::now()) {
            return Err(Rejection::Handshakes);
        }
        slot.count(&self.addresses, peer.ip(), (!exempt).then_some(settings.connections_per_ip))
    }

    fn reject(&self, tcp: TcpStream, listener: &str, reason: Rejection) {
        self.house.front.connection_rejected(listener, reason);
        // Closed at once and with RST: a rejected client must not cost us a socket in TIME_WAIT.
        let _ = tcp.set_zero_linger();
    }

    async fn receive(&self, mut tcp: TcpStream, visit: Visit, mut slot: Slot) {
        let Ok(local) = tcp.local_addr() else { return };
        if tcp.set_nodelay(true).is_err() {
            return;
        }
        let Frontage { settings, tls } = &*visit.frontage;
        let mut conn = ConnInfo {
            id: next_id(),
            listener: settings.name.clone(),
            settings: settings.clone(),
            peer: visit.peer,
            own_hop: false,
            local: SocketAddr::new(local.ip().to_canonical(), local.port()),
            tls: None,
            trusted_peer: visit.trusted_peer,
            accepted_at: visit.accepted_at,
            sni: None,
            certificate: None,
            client_certificate: None,
            begun: AtomicU64::new(0),
            drain: self.house.drain.clone(),
            account: slot.account(),
            unsent: Arc::default(),
            handover: Handover::default(),
        };
        let deadline = tokio::time::Instant::from_std(visit.accepted_at) + settings.handshake_timeout;
        if settings.proxy_protocol {
            // What is rare is in boxes of its own: the task of a connection has room for its largest part, all its long life.
            match in_place(|| self.introduce(&mut tcp, &mut conn, deadline)).await {
                Ok(exempt) => match self.count(slot, &visit.frontage, conn.peer, exempt) {
                    Ok(counted) => {
                        slot = counted;
                        conn.account = slot.account();
                    }
                    Err(reason) => return self.reject(tcp, &settings.name, reason),
                },
                Err(reason) => return Box::pin(self.turn_away(tcp, conn, reason)).await,
            }
        }
        let (transport, protocol) = match tls {
            None => (Transport::Plain(tcp), Protocol::Http1),
            Some(acceptor) => {
                // In a box of its own: its kilobytes are given back before the connection's long life begins.
                let secured = match in_place(|| acceptor.accept(tcp, deadline)).await {
                    Ok(secured) => secured,
                    Err(outcome) => {
                        self.house.front.tls_handshake(&settings.name, &outcome);
                        if outcome == Handshake::Uncertified {
                            let refusal = Refusal::new(Code::NetworkDenied, "no client certificate that is good");
                            Box::pin(self.house.front.turned_away(&Arc::new(conn), refusal)).await;
                        }
                        return;
                    }
                };
                self.house.front.tls_handshake(&settings.name, &Handshake::Done(secured.facts.clone()));
                conn.tls = Some(secured.facts);
                conn.sni = secured.server_name;
                conn.certificate = Some(secured.certificate);
                conn.client_certificate = secured.client;
                (Transport::Tls(Box::new(secured.stream)), secured.protocol)
            }
        };
        let Ok(wire) = Wire::new(transport, Arc::new(conn), slot) else { return };
        let wire = Box::new(wire);
        match (&settings.kind, protocol) {
            (ListenerKind::Redirect { https_port }, _) => {
                Box::pin(redirect::run(wire, *https_port, settings, &self.house)).await;
            }
            (ListenerKind::Tls { .. } | ListenerKind::Plaintext, Protocol::Http1) => {
                http1::run(wire, settings, &self.house).await;
            }
            (ListenerKind::Tls { .. } | ListenerKind::Plaintext, Protocol::Http2) => {
                in_place(|| http2::run(wire, settings, &self.house)).await;
            }
        }
    }
}

impl<A, F> Door<A, F>
where
    A: HttpServerApp + Send + Sync + 'static,
    F: Front,
{
    /// Has a balancer say for whom the connection is. Whether that one is exempt from the count of its address.
    async fn introduce(
        &self,
        tcp: &mut TcpStream,
        conn: &mut ConnInfo,
        deadline: tokio::time::Instant,
    ) -> Result<bool, Unproxied> {
        if !conn.trusted_peer {
            let cause = "a connection that was not made by a trusted balancer";
            return Err(Unproxied::Refused(Refusal::new(Code::NetworkDenied, cause)));
        }
        let waiting = self.waiting.enter(conn.id, self.house.budget.most());
        match introduced(tcp, &waiting, deadline).await? {
            Source::Own => {
                (conn.own_hop, conn.trusted_peer) = (true, false);
                Ok(true)
            }
            Source::Client { client, reached: _ } => {
                conn.peer = client;
                conn.trusted_peer = conn.settings.trusts(client.ip());
                Ok(conn.settings.exempts(client.ip()))
            }
        }
    }

    /// Closes a connection that nobody has introduced. There is no request to answer, but an account to give.
    async fn turn_away(&self, tcp: TcpStream, conn: ConnInfo, reason: Unproxied) {
        let (counted, refusal) = match reason {
            Unproxied::Silent => (Rejection::ProxyHeader, None),
            Unproxied::Displaced => (Rejection::Waiting, None),
            Unproxied::Refused(refusal) => (Rejection::ProxyHeader, Some(refusal)),
        };
        let conn = Arc::new(conn);
        self.reject(tcp, &conn.listener, counted);
        if let Some(refusal) = refusal {
            tracing::debug!(peer = %conn.peer, cause = &*refusal.cause, "a connection without proper PROXY header");
            self.house.front.turned_away(&conn, refusal).await;
        }
    }
}

fn next_id() -> u64 {
    static IDS: AtomicU64 = AtomicU64::new(1);
    IDS.fetch_add(1, Ordering::Relaxed)
}

struct Visit {
    frontage: Arc<Frontage>,
    peer: SocketAddr,
    trusted_peer: bool,
    accepted_at: Instant,
}

/// Keeps the counts right however a connection's task ends.
struct Counted<A, F: Front> {
    door: Arc<Door<A, F>>,
    listener: Arc<str>,
    _live: super::drain::Live,
}

impl<A, F: Front> Counted<A, F> {
    fn new(door: Arc<Door<A, F>>, listener: Arc<str>) -> Self {
        door.house.front.connections(&listener, 1);
        Counted { _live: door.house.drain.enter(), door, listener }
    }
}

impl<A, F: Front> Drop for Counted<A, F> {
    fn drop(&mut self) {
        self.door.house.front.connections(&self.listener, -1);
    }
}
