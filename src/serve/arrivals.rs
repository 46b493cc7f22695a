//! How often one address may begin something: a table of fixed size, so that no number of addresses makes it grow.
use super::limits::prefix;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Cells of one row.
const CELLS: usize = 1 << 15;
/// Rows; an address has one cell in each.
const ROWS: u8 = 2;
/// What may be had at once: the allowance of a second.
const BURST_NS: u64 = 1_000_000_000;

/// Allowances by address (/64 for IPv6): the theoretical arrival times of GCRA, in nanoseconds since the table was made.
///
/// Addresses are hashed with a key of this process, so that nobody can choose whom to share a cell with. An address is
/// turned away only where both of its cells are used up: those who share one with a flood have the other.
#[derive(Debug)]
pub(crate) struct Arrivals {
    made: Instant,
    hasher: RandomState,
    cells: Box<[AtomicU64]>,
}

impl Default for Arrivals {
    fn default() -> Arrivals {
        let cells = (0..CELLS * usize::from(ROWS)).map(|_| AtomicU64::new(0)).collect();
        Arrivals { made: Instant::now(), hasher: RandomState::new(), cells }
    }
}

impl Arrivals {
    /// Whether one more of `client` is within `per_second`. One that is not costs it nothing.
    pub(crate) fn admits(&self, client: IpAddr, per_second: u32, now: Instant) -> bool {
        let now = u64::try_from(now.saturating_duration_since(self.made).as_nanos()).unwrap_or(u64::MAX);
        let step = BURST_NS / u64::from(per_second.clamp(1, 1_000_000_000));
        let client = prefix(client);
        let mut admitted = false;
        for row in 0..ROWS {
            let at = usize::try_from(self.hasher.hash_one((row, client))).unwrap_or(usize::MAX) % CELLS;
            let Some(cell) = self.cells.get(at + usize::from(row) * CELLS) else { continue };
            let next = |due: u64| {
                let due = due.max(now).saturating_add(step);
                (due <= now.saturating_add(BURST_NS)).then_some(due)
            };
            admitted |= cell.fetch_update(Relaxed, Relaxed, next).is_ok();
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_second_s_allowance_comes_back_within_a_second() {
        let arrivals = Arrivals::default();
        let (start, a, b) = (Instant::now(), "192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let taken = |client, at| (0..1000).filter(|_| arrivals.admits(client, 100, at)).count();
        assert_eq!(taken(a, start), 100);
        assert_eq!(taken(b, start), 100);
        assert!(!arrivals.admits("2001:db8::2".parse().unwrap(), 100, start), "the rest of its /64 is the same client");
        assert_eq!(taken(a, start + Duration::from_millis(100)), 10);
        assert_eq!(taken(a, start + Duration::from_secs(60)), 100);
    }

    #[test]
    fn a_flood_from_many_addresses_crowds_few_others() {
        let (arrivals, now) = (Arrivals::default(), Instant::now());
        let address = |n: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(n));
        for n in 0..1000 {
            while arrivals.admits(address(n), 10, now) {}
        }
        let turned_away = (1_000_000..1_010_000).filter(|n| !arrivals.admits(address(*n), 10, now)).count();
        assert!(turned_away < 100, "{turned_away} of 10000");
    }
}
