//! Connections that wait for their next request, by endpoint: the one used last is taken first.
use super::conn::Connection;
use bytes::BytesMut;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long one waits at most; applications close after as long or longer.
const KEEP: Duration = Duration::from_secs(60);
/// Most that wait for one endpoint.
const MOST: usize = 1024;

/// The idle connections of one upstream.
#[derive(Debug, Default)]
pub struct Idle(Mutex<HashMap<SocketAddr, Vec<Connection>>>);

impl Idle {
    fn shelves(&self) -> MutexGuard<'_, HashMap<SocketAddr, Vec<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection that is good for another request. `certain` is for one that could not be sent twice.
    pub(super) fn take(&self, endpoint: SocketAddr, certain: bool) -> Option<Connection> {
        loop {
            let mut connection = self.shelves().get_mut(&endpoint)?.pop()?;
            // Looked at, and perhaps dropped, without the lock.
            if connection.used.elapsed() < KEEP && connection.is_quiet(certain) {
                connection.reused = true;
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose last answer was whole and is used up.
    pub(super) fn put(&self, endpoint: SocketAddr, mut connection: Connection) {
        connection.inbound = BytesMut::new();
        connection.used = Instant::now();
        let old = {
            let mut shelves = self.shelves();
            let shelf = shelves.entry(endpoint).or_default();
            let (now, full) = (connection.used, shelf.len() >= MOST);
            // The oldest stand first.
            let expired = shelf.first().is_some_and(|oldest| now.duration_since(oldest.used) >= KEEP);
            let old = if expired {
                let kept = shelf.partition_point(|c| now.duration_since(c.used) >= KEEP);
                shelf.drain(..kept).collect()
            } else if full {
                vec![shelf.remove(0)]
            } else {
                Vec::new()
            };
            shelf.push(connection);
            old
        };
        drop(old);
    }

    /// Drops all of an endpoint: one of them was dead, and what closed it has closed the others.
    pub(super) fn clear(&self, endpoint: SocketAddr) {
        let old = self.shelves().remove(&endpoint);
        drop(old);
    }
}
