//! Session tickets under keys that replicas and restarts share.
//!
//! The keys of the file are never used themselves: for each period of `rotate`, and for each listener, others are derived
//! from them, by every replica the same at the same time. A ticket is good in the period in which it was made and in the
//! one after it.
use crate::config::settings::SessionTickets;
use crate::store::seal::{Keyring, Place};
use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use rustls::server::ProducesTickets;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// No session of ours is longer; what a client sends is hardly bounded.
const MOST_BYTES: usize = 8 << 10;

/// Makes and opens the tickets of one listener.
pub(crate) struct Tickets {
    settings: Arc<SessionTickets>,
    listener: Arc<str>,
    now_s: fn() -> u64,
    rings: ArcSwap<Rings>,
}

/// Keys of a period and of its neighbours: what was made before its beginning is still good, and the clock of another
/// replica may be ahead.
struct Rings {
    period: u64,
    current: Keyring,
    neighbours: [Keyring; 2],
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Tickets {
    pub(crate) fn new(settings: Arc<SessionTickets>, listener: Arc<str>) -> Tickets {
        Tickets::with_clock(settings, listener, || {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs())
        })
    }

    fn with_clock(settings: Arc<SessionTickets>, listener: Arc<str>, now_s: fn() -> u64) -> Tickets {
        let rings = Rings::new(&settings, &listener, now_s());
        Tickets { settings, listener, now_s, rings: ArcSwap::from_pointee(rings) }
    }

    fn rings(&self) -> Arc<Rings> {
        let rings = self.rings.load_full();
        let now_s = (self.now_s)();
        if rings.period == now_s / self.settings.rotate_s {
            return rings;
        }
        let fresh = Arc::new(Rings::new(&self.settings, &self.listener, now_s));
        self.rings.store(fresh.clone());
        fresh
    }

    fn place(&self) -> Place<'_> {
        Place { kind: "tls-ticket", tenant: "", key: self.listener.as_bytes() }
    }
}

impl Rings {
    fn new(settings: &SessionTickets, listener: &str, now_s: u64) -> Rings {
        let period = now_s / settings.rotate_s;
        let of = |period: u64| {
            let derived: Vec<[u8; 32]> = settings.keys.iter().filter_map(|key| derive(key, listener, period)).collect();
            Keyring::new(&derived)
        };
        Rings { period, current: of(period), neighbours: [of(period.saturating_sub(1)), of(period.saturating_add(1))] }
    }
}

/// The key of a listener for a period.
fn derive(key: &[u8; 32], listener: &str, period: u64) -> Option<[u8; 32]> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    context.update(b"moat tls ticket 1");
    context.update(&period.to_be_bytes());
    context.update(listener.as_bytes());
    context.sign().as_ref().try_into().ok()
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.settings.rotate_s).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.rings().current.seal(self.place(), session).ok()
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > MOST_BYTES {
            return None;
        }
        let rings = self.rings();
        let all = std::iter::once(&rings.current).chain(&rings.neighbours);
        all.filter_map(|ring| ring.open(self.place(), ticket).ok()).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::SealingKeys;
    use std::cell::Cell;

    const HOUR: u64 = 3600;

    thread_local! { static NOW: Cell<u64> = const { Cell::new(1000 * HOUR) } }

    fn tickets(keys: &[u8], listener: &str) -> Tickets {
        let keys = keys.iter().map(|byte| std::array::from_fn(|i| byte ^ i as u8)).collect();
        let settings = SessionTickets { keys: SealingKeys::new(keys), rotate_s: HOUR };
        Tickets::with_clock(Arc::new(settings), listener.into(), || NOW.get())
    }

    #[test]
    fn a_ticket_is_good_wherever_the_keys_are() {
        let (one, other) = (tickets(&[1], "public"), tickets(&[1], "public"));
        let ticket = one.encrypt(b"a session").unwrap();
        assert_eq!(other.decrypt(&ticket).unwrap(), b"a session");
        assert!(tickets(&[2], "public").decrypt(&ticket).is_none(), "other keys");
        assert!(tickets(&[1], "partners").decrypt(&ticket).is_none(), "another listener");
        assert_ne!(one.encrypt(b"a session").unwrap(), ticket);
        assert!(!String::from_utf8_lossy(&ticket).contains("session"));
    }

    #[test]
    fn the_first_key_makes_tickets_and_the_others_open_them() {
        let (old, both, new) = (tickets(&[1], "p"), tickets(&[2, 1], "p"), tickets(&[2], "p"));
        let (before, after) = (old.encrypt(b"s").unwrap(), both.encrypt(b"s").unwrap());
        assert!(both.decrypt(&before).is_some() && new.decrypt(&after).is_some());
        assert!(new.decrypt(&before).is_none() && old.decrypt(&after).is_none());
    }

    #[test]
    fn a_ticket_ends_with_the_period_after_its_own() {
        let (ours, ahead) = (tickets(&[1], "p"), tickets(&[1], "p"));
        let ticket = ours.encrypt(b"s").unwrap();
        NOW.set(1001 * HOUR + HOUR - 1);
        assert!(ours.decrypt(&ticket).is_some());
        let later = ahead.encrypt(b"s").unwrap();
        NOW.set(1002 * HOUR);
        assert!(ours.decrypt(&ticket).is_none(), "two periods old");
        assert!(ours.decrypt(&later).is_some());
        NOW.set(1000 * HOUR);
        assert!(ours.decrypt(&later).is_some(), "the clock of the replica that made it is ahead");
        assert_eq!(ours.lifetime(), 3600);
    }

    #[test]
    fn what_is_no_ticket_of_ours_opens_nothing() {
        let ours = tickets(&[1], "p");
        let good = ours.encrypt(b"a session").unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(ours.decrypt(&bad).is_none(), "byte {at}");
            assert!(ours.decrypt(&good[..at]).is_none(), "cut at {at}");
        }
        assert!(ours.decrypt(&vec![1; MOST_BYTES + 1]).is_none());
    }
}
