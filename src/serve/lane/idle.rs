//! Connections that wait for their next request, by endpoint: the one used last is taken first.
use super::conn::Connection;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long one waits at most; applications close after as long or longer.
const KEEP: Duration = Duration::from_secs(60);
/// How often those are dropped that have waited too long, or were closed by the application.
const SWEEP: Duration = Duration::from_secs(15);
/// Most that wait for one endpoint.
const MOST: usize = 1024;

/// The idle connections of one upstream.
#[derive(Debug, Default)]
pub struct Idle(Arc<Mutex<Shelves>>);

#[derive(Debug, Default)]
struct Shelves {
    /// Ordered, not hashed: an upstream has few endpoints.
    by_endpoint: BTreeMap<SocketAddr, Vec<Connection>>,
    /// Whether somebody sweeps them.
    swept: bool,
}

fn lock(shelves: &Mutex<Shelves>) -> MutexGuard<'_, Shelves> {
    shelves.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Idle {
    /// Takes a connection that is good for another request at `now`. `certain` is for one that could not be sent twice.
    pub(super) fn take(&self, endpoint: SocketAddr, certain: bool, now: Instant) -> Option<Connection> {
        loop {
            let mut connection = lock(&self.0).by_endpoint.get_mut(&endpoint)?.pop()?;
            // Looked at, and perhaps dropped, without the lock.
            if now.saturating_duration_since(connection.used) < KEEP && connection.is_quiet(certain) {
                connection.reused = true;
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose last answer was whole and is used up; its time of use is set.
    pub(super) fn put(&self, endpoint: SocketAddr, mut connection: Connection) {
        connection.keep_room();
        let mut shelves = lock(&self.0);
        let shelf = shelves.by_endpoint.entry(endpoint).or_default();
        // The oldest stand first.
        let oldest = (shelf.len() >= MOST).then(|| shelf.remove(0));
        shelf.push(connection);
        if !std::mem::replace(&mut shelves.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
        drop(shelves);
        drop(oldest);
    }

    /// Drops all of an endpoint: one of them was dead, and what closed it has closed the others.
    pub(super) fn clear(&self, endpoint: SocketAddr) {
        let old = lock(&self.0).by_endpoint.remove(&endpoint);
        drop(old);
    }
}

/// Sweeps until nothing is left to be swept.
async fn sweep(shelves: Weak<Mutex<Shelves>>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(shelves) = shelves.upgrade() else { return };
        if sweep_once(&shelves, Instant::now()) {
            return;
        }
    }
}

/// Drops what has waited too long at `now` or is closed; whether nothing is left.
fn sweep_once(shelves: &Mutex<Shelves>, now: Instant) -> bool {
    let mut old = Vec::new();
    let mut shelves = lock(shelves);
    shelves.by_endpoint.retain(|_, shelf| {
        let stale = |c: &mut Connection| now.saturating_duration_since(c.used) >= KEEP || !c.is_quiet(false);
        old.extend(shelf.extract_if(.., stale));
        !shelf.is_empty()
    });
    let empty = shelves.by_endpoint.is_empty();
    shelves.swept = !empty;
    drop(shelves);
    drop(old);
    empty
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::HttpVersion;
    use crate::serve::upstream::Target;

    #[tokio::test]
    async fn what_is_closed_or_old_is_not_kept() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Target { address, tls: None, version: HttpVersion::Http1 };
        let idle = Idle::default();
        let mut sides = Vec::new();
        for _ in 0..3 {
            idle.put(address, Connection::open(&target, KEEP).await.unwrap());
            sides.push(listener.accept().await.unwrap().0);
        }
        assert!(!sweep_once(&idle.0, Instant::now()), "they are well");
        let left = || lock(&idle.0).by_endpoint.get(&address).map_or(0, Vec::len);
        assert_eq!(left(), 3);
        drop(sides.pop());
        // The end needs a moment to arrive.
        while left() == 3 {
            sweep_once(&idle.0, Instant::now());
            tokio::task::yield_now().await;
        }
        assert_eq!(left(), 2);
        assert!(idle.take(address, true, Instant::now()).is_some_and(|taken| taken.reused));
        assert_eq!(left(), 1);
        assert!(sweep_once(&idle.0, Instant::now() + KEEP));
        assert!(idle.take(address, false, Instant::now()).is_none());
    }
}
