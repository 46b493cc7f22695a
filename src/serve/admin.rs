//! The admin listener: metrics, health and the status page over HTTP/1.1, for this machine only.
//!
//! It asks nobody who they are, hence: loopback addresses only, and a `Host` that is an address or `localhost`, so that
//! no web page can reach it through a name that it controls (DNS rebinding). What changes something must carry what no page
//! can send ([`guard`]): a reload, which can do no more than have the files read, and orders that end something. Those that
//! give access, about API keys, must be proven besides ([`keys`]).
mod answer;
pub mod factors;
pub mod guard;
pub mod keys;
pub mod sessions;
#[cfg(test)]
mod tests;

pub use answer::Check;

use crate::config::settings::Snapshot;
use crate::serve::gateway::Shared;
use crate::serve::inherited::Inherited;
use crate::serve::listener::listen;
use crate::serve::listening::Listening;
use crate::serve::metrics::Metrics;
use crate::serve::status::Status;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Connections served at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 32;
/// Time for a whole request head, and for the next one on the same connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Life of a connection; the request in progress is still answered.
const LIFETIME: Duration = Duration::from_secs(300);
/// Time for that last answer, and for those in progress at the end of the process.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// Request heads are small here.
const HEAD_BYTES: usize = 16 << 10;

/// Where the admin listener answers what; exact paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The metrics.
    pub metrics: String,
    /// Whether the process is alive.
    pub live: String,
    /// Whether it can serve.
    pub ready: String,
}

impl Paths {
    /// As a snapshot has them.
    pub fn of(snapshot: &Snapshot) -> Paths {
        let admin = &snapshot.admin;
        Paths { metrics: admin.metrics_path.clone(), live: admin.live_path.clone(), ready: admin.ready_path.clone() }
    }
}

/// What the admin listener answers from.
pub(super) struct Desk {
    paths: Paths,
    metrics: Arc<Metrics>,
    checks: Vec<Check>,
    status: Option<Arc<Status>>,
    /// The gateway that is told about, where it may be told something.
    gateway: Weak<Shared>,
}

impl Desk {
    /// Where what is: as it is in force, where that is known.
    fn paths(&self) -> Paths {
        self.gateway.upgrade().map_or_else(|| self.paths.clone(), |shared| Paths::of(&shared.active().snapshot))
    }
}

/// A bound admin listener.
pub struct AdminServer {
    listener: std::net::TcpListener,
    address: SocketAddr,
    desk: Desk,
}

impl AdminServer {
    /// Takes the socket that was `given` for `admin`, or binds the `address`; refuses one that other machines could
    /// reach. `/readyz` runs `checks` in this order.
    pub async fn bind(
        address: SocketAddr,
        paths: Paths,
        metrics: Arc<Metrics>,
        checks: Vec<Check>,
        given: &mut Inherited,
    ) -> io::Result<AdminServer> {
        if !address.ip().to_canonical().is_loopback() {
            let why = format!("the admin address must be a loopback address, `{address}` is not");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let listener = match given.take("admin", address).map_err(io::Error::other)? {
            Some(socket) => socket,
            None => listen(address, false)?,
        };
        let address = listener.local_addr()?;
        Ok(AdminServer { listener, address, desk: Desk { paths, metrics, checks, status: None, gateway: Weak::new() } })
    }

    /// Also shows the state of the gateway, at `/`, `/status` and `/status.json`.
    pub fn with_status(mut self, status: Arc<Status>) -> AdminServer {
        self.desk.status = Some(status);
        self
    }

    /// Also takes orders to reload, at `/reload`, and follows the paths that are in force.
    pub fn with_orders(mut self, shared: &Arc<Shared>) -> AdminServer {
        self.desk.gateway = Arc::downgrade(shared);
        self
    }

    /// Where it listens, with the port that was chosen where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` completes, then finishes the answers in progress. The socket is on the list of those
    /// that the process is `listening` on until then. An error means that it never started.
    pub async fn serve(self, listening: Listening, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let mut enlisted = listening.enlist(&Arc::from("admin"), &self.listener)?;
        let listener = TcpListener::from_std(self.listener)?;
        let (stop, stopped) = watch::channel(());
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let (desk, mut connections) = (Arc::new(self.desk), JoinSet::new());
        tokio::pin!(shutdown);
        loop {
            let next = async {
                // The semaphore is never closed.
                let place = places.clone().acquire_owned().await.ok();
                (listener.accept().await, place)
            };
            tokio::select! {
                () = &mut shutdown => break,
                () = enlisted.asked() => {}
                Some(_) = connections.join_next() => {}
                (accepted, place) = next => match accepted {
                    Ok((stream, _)) => {
                        let (desk, stopped) = (desk.clone(), stopped.clone());
                        connections.spawn(async move {
                            converse(stream, desk, stopped).await;
                            drop(place);
                        });
                    }
                    Err(fault) => {
                        tracing::warn!(%fault, "the admin listener cannot accept a connection");
                        // Out of file descriptors, most likely: asking again at once would only burn time.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop((listener, enlisted));
        drop(stop);
        let finish = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_ANSWER, finish).await;
        Ok(())
    }
}

/// Serves one connection to its end. `stopped` ends when the server stops.
async fn converse(stream: TcpStream, desk: Arc<Desk>, mut stopped: watch::Receiver<()>) {
    let service = service_fn(move |request| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(answer::answer(desk, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // How a client leaves is of no interest.
        _ = connection.as_mut() => return,
        _ = stopped.changed() => {}
        () = tokio::time::sleep(LIFETIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
}
