//! Names of endpoints, looked up again and again by the system's resolver.
//!
//! The system's, and not one of our own: it reads `/etc/hosts`, search domains and whatever the machine is set up with,
//! so that `getent ahosts NAME` shows what the gateway sees. It tells no times to live, hence the fixed `dns.refresh`.
use super::Pool;
use crate::config::settings::Place;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Most addresses of one name that are used.
const MOST: usize = 256;
/// A name that has never led anywhere is looked up as often.
const EAGER: Duration = Duration::from_secs(1);

/// Looks names up; blocking.
#[derive(Clone)]
pub struct Resolver(Arc<dyn LookUp>);

/// One look-up: host and port to addresses.
trait LookUp: Send + Sync {
    fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

impl<F: Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync> LookUp for F {
    fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self(host, port)
    }
}

impl Resolver {
    /// The system's.
    pub fn system() -> Resolver {
        Resolver::new(|host, port| (host, port).to_socket_addrs().map(Iterator::collect))
    }

    /// Another one, for tests.
    pub fn new(lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Resolver {
        Resolver(Arc::new(lookup))
    }
}

/// Looks the names up until the pool is gone or `retired`.
pub(super) async fn watch(pool: Weak<Pool>, mut retired: watch::Receiver<bool>, resolver: Resolver) {
    loop {
        let rest = match pool.upgrade() {
            None => return,
            Some(pool) if pool.found().iter().any(Vec::is_empty) => EAGER.min(pool.settings.refresh),
            Some(pool) => pool.settings.refresh,
        };
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            // It says so, or it is gone.
            _ = retired.changed() => return,
        }
        let Some(pool) = pool.upgrade() else { return };
        let resolver = resolver.clone();
        // One look-up after the other, on a thread that may wait: they never pile up.
        if tokio::task::spawn_blocking(move || look_up(&pool, &resolver)).await.is_err() {
            return;
        }
    }
}

/// Looks every name up once. One that leads nowhere keeps its last addresses.
pub(super) fn look_up(pool: &Pool, resolver: &Resolver) {
    let mut found = pool.found();
    for (endpoint, addresses) in pool.settings.endpoints.iter().zip(&mut found) {
        let Place::Name { host, port, .. } = &endpoint.place else { continue };
        match resolver.0.look_up(host, *port) {
            Ok(fresh) if !fresh.is_empty() => *addresses = tidy(fresh),
            Ok(_) => pool.unresolved(host, "no address"),
            Err(error) => pool.unresolved(host, &error.to_string()),
        }
    }
    pool.put(found);
}

/// Sorted, each once, and not too many: resolvers change the order for its own sake.
pub(super) fn tidy(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    addresses.sort();
    addresses.dedup();
    addresses.truncate(MOST);
    addresses
}
