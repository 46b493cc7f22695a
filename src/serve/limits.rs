//! How much one client, or all of them, may hold open: connection slots, and places for HTTP/2 requests.
use super::shares::Account;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Why a connection was closed by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// Before its first byte: `server.max_connections` are open.
    Total,
    /// Before its first byte: `connections_per_ip` are open from this address.
    PerAddress,
    /// Before its first byte: `handshakes_per_second` of this address have begun.
    Handshakes,
    /// Before its first byte of TLS or HTTP: a PROXY header is required, and none came, or a broken one, or from a peer that
    /// is not trusted.
    ProxyHeader,
    /// While its PROXY header was waited for: newer connections needed the place.
    Waiting,
    /// An HTTP/2 client overdid it: resets, control frames, malformed requests, windows kept closed; or broke the protocol.
    Abuse,
}

impl Rejection {
    /// The word for it in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Rejection::Total => "total",
            Rejection::PerAddress => "per_address",
            Rejection::Handshakes => "handshakes",
            Rejection::ProxyHeader => "proxy_header",
            Rejection::Waiting => "waiting",
            Rejection::Abuse => "abuse",
        }
    }
}

/// The process's budget of open connections, shared by all listeners.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Tally>);

#[derive(Debug)]
struct Tally {
    open: AtomicUsize,
    most: AtomicUsize,
}

impl Budget {
    /// A budget of `max_connections`.
    pub fn new(max_connections: usize) -> Budget {
        Budget(Arc::new(Tally { open: AtomicUsize::new(0), most: AtomicUsize::new(max_connections) }))
    }

    /// Changes the budget for connections that come from now on; those that are open stay.
    pub fn resize(&self, max_connections: usize) {
        self.0.most.store(max_connections, Ordering::Relaxed);
    }

    /// How many connections may be open.
    pub(crate) fn most(&self) -> usize {
        self.0.most.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<Place> {
        let most = self.most();
        let more = |open: usize| (open < most).then_some(open + 1);
        self.0.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place(self.clone()))
    }
}

/// One open connection of the budget.
#[derive(Debug)]
struct Place(Budget);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// HTTP/2 requests that one address may have under way, for each connection that it may hold: a page asks for dozens of
/// things at once, but not on every connection of a whole office.
const STREAMS_PER_CONNECTION: usize = 4;

/// Connections by address prefix: /32 for IPv4, /64 for IPv6, since a client commands the rest of its /64.
/// Bounded by the number of open connections: the last one of a prefix takes its entry along.
#[derive(Clone, Debug, Default)]
pub(crate) struct PerAddress(Arc<Mutex<HashMap<IpAddr, Held>>>);

/// What one prefix holds.
#[derive(Debug)]
struct Held {
    connections: usize,
    streams: Arc<Semaphore>,
    account: Arc<Account>,
}

/// The right to be connected; gives itself back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _place: Place,
    counted: Option<(PerAddress, IpAddr)>,
    streams: Option<Arc<Semaphore>>,
    account: Option<Arc<Account>>,
}

impl Slot {
    /// Takes a slot of the budget for whoever it may be.
    pub(crate) fn enter(budget: &Budget) -> Result<Slot, Rejection> {
        let place = budget.take().ok_or(Rejection::Total)?;
        Ok(Slot { _place: place, counted: None, streams: None, account: None })
    }

    /// Counts it for a client; `cap` is the most connections of its prefix, `None` for trusted hops.
    pub(crate) fn count(
        mut self,
        addresses: &PerAddress,
        client: IpAddr,
        cap: Option<usize>,
    ) -> Result<Slot, Rejection> {
        let Some(cap) = cap else { return Ok(self) };
        let prefix = prefix(client);
        let mut open = addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&prefix).map_or(0, |held| held.connections) >= cap {
            return Err(Rejection::PerAddress);
        }
        let most = cap.saturating_mul(STREAMS_PER_CONNECTION).min(Semaphore::MAX_PERMITS);
        let held = open.entry(prefix).or_insert_with(|| Held {
            connections: 0,
            streams: Arc::new(Semaphore::new(most)),
            account: Arc::default(),
        });
        held.connections += 1;
        (self.streams, self.account) = (Some(held.streams.clone()), Some(held.account.clone()));
        drop(open);
        self.counted = Some((addresses.clone(), prefix));
        Ok(self)
    }

    /// Places for HTTP/2 requests of the client's prefix; `None` for trusted hops, which speak for many.
    pub(crate) fn streams(&self) -> Option<Arc<Semaphore>> {
        self.streams.clone()
    }

    /// What the client's prefix has under way; `None` for trusted hops, which speak for many.
    pub(crate) fn account(&self) -> Option<Arc<Account>> {
        self.account.clone()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some((addresses, prefix)) = self.counted.take() else { return };
        let mut open = addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&prefix) {
            Some(held) if held.connections > 1 => held.connections -= 1,
            Some(_) | None => {
                open.remove(&prefix);
            }
        }
    }
}

/// What an address is counted as: itself, or its /64.
pub(crate) fn prefix(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_client_is_counted_by_its_64() {
        let budget = Budget::new(10);
        let open = PerAddress::default();
        let take = |a: &str| Slot::enter(&budget)?.count(&open, a.parse().unwrap(), Some(1));
        let first = take("2001:db8::1").unwrap();
        assert_eq!(take("2001:db8::2").unwrap_err(), Rejection::PerAddress);
        let _other = take("2001:db8:0:1::2").unwrap();
        let _v4 = take("192.0.2.1").unwrap();
        assert_eq!(take("::ffff:192.0.2.1").unwrap_err(), Rejection::PerAddress);
        drop(first);
        let _again = take("2001:db8::2").unwrap();
        assert_eq!(open.0.lock().unwrap().len(), 3);
    }

    #[test]
    fn the_total_is_given_back_and_the_map_empties() {
        let budget = Budget::new(1);
        let open = PerAddress::default();
        let client = "192.0.2.1".parse().unwrap();
        let slot = Slot::enter(&budget).unwrap().count(&open, client, Some(5)).unwrap();
        assert_eq!(Slot::enter(&budget).unwrap_err(), Rejection::Total);
        drop(slot);
        assert!(open.0.lock().unwrap().is_empty());
        let kept = Slot::enter(&budget).unwrap();
        budget.resize(2);
        let more = Slot::enter(&budget).unwrap();
        budget.resize(1);
        drop(more);
        assert_eq!(Slot::enter(&budget).unwrap_err(), Rejection::Total, "one is open still");
        drop(kept);
        assert!(Slot::enter(&budget).is_ok());
    }
}
