//! Entries that several requests share: a flood of requests that nobody is known for must not fill the disk.
//!
//! Each kind of such requests (client, listener, verdict) may have so many entries of its own at once, and so many a
//! second later; and so may all kinds together. What comes beyond is counted by kind, and every second the counts
//! become entries: at most [`MOST_ENTRIES`], or one for each listener and verdict where those are more. So a request is
//! always in one entry, and how much is written does not depend on how much is sent.
use super::shared::Shared;
use decide::facts::{Person, RequestId};
use decide::record::{Event, Folded, Verdict};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long counts wait to become entries.
const FLUSH: Duration = Duration::from_secs(1);
/// Kinds that are told apart; what is fresh beyond them is told apart by wide networks only.
const MOST_KINDS: usize = 8192;
/// Kinds that are told apart at all; what is fresh beyond them has no client.
const MOST_WIDE: usize = MOST_KINDS + 1024;
/// Entries that one flush makes at most where it can.
const MOST_ENTRIES: usize = 64;

/// When requests begin to share entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folding {
    /// Entries of their own that requests of one kind may have at once; ten times as many for all kinds together.
    pub after: u32,
    /// And those that they may have each second later.
    pub per_second: u32,
    /// The same for all kinds together.
    pub in_all_per_second: u32,
}

impl Default for Folding {
    fn default() -> Self {
        Folding { after: 2000, per_second: 10, in_all_per_second: 200 }
    }
}

/// What requests have in common that share an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sort {
    listener: Arc<str>,
    client: Option<IpNet>,
    verdict: Verdict,
}

impl Sort {
    /// Of a request from this client. Clients of IPv6 are told apart by their /64, all of which they command.
    pub fn new(listener: Arc<str>, client: IpAddr, verdict: Verdict) -> Sort {
        let narrow = match client.to_canonical() {
            IpAddr::V4(v4) => Some(IpNet::V4(v4.into())),
            IpAddr::V6(v6) => Ipv6Net::new(v6, 64).ok().map(|net| IpNet::V6(net.trunc())),
        };
        Sort { listener, client: narrow, verdict }
    }

    /// The same of a whole provider's network.
    fn widened(&self) -> Sort {
        let wide = match self.client {
            Some(IpNet::V4(net)) => {
                Ipv4Net::new(net.addr(), 16.min(net.prefix_len())).ok().map(|net| IpNet::V4(net.trunc()))
            }
            Some(IpNet::V6(net)) => {
                Ipv6Net::new(net.addr(), 32.min(net.prefix_len())).ok().map(|net| IpNet::V6(net.trunc()))
            }
            None => None,
        };
        Sort { client: wide, ..self.clone() }
    }

    fn anywhere(&self) -> Sort {
        Sort { client: None, ..self.clone() }
    }
}

/// An allowance that comes back with time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn new(most: f64, now: Instant) -> Bucket {
        Bucket { left: most, at: now }
    }

    fn refill(&mut self, most: f64, per_second: u32, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * f64::from(per_second)).min(most);
        self.at = now;
    }

    fn take(&mut self) -> bool {
        let whole = self.left >= 1.0;
        if whole {
            self.left -= 1.0;
        }
        whole
    }
}

/// Requests that wait for their common entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    requests: u64,
    clients: u64,
    since_ms: u64,
    until_ms: u64,
    ids: (RequestId, RequestId),
}

impl Count {
    fn one(id: RequestId, at_ms: u64) -> Count {
        Count { requests: 1, clients: 1, since_ms: at_ms, until_ms: at_ms, ids: (id, id) }
    }

    fn add(&mut self, other: &Count) {
        self.requests += other.requests;
        self.clients += other.clients;
        if other.since_ms < self.since_ms {
            (self.since_ms, self.ids.0) = (other.since_ms, other.ids.0);
        }
        if other.until_ms >= self.until_ms {
            (self.until_ms, self.ids.1) = (other.until_ms, other.ids.1);
        }
    }
}

#[derive(Debug)]
struct Kind {
    bucket: Bucket,
    waiting: Option<Count>,
}

#[derive(Debug)]
struct Table {
    kinds: HashMap<Sort, Kind>,
    all: Option<Bucket>,
    /// When the oldest count began to wait.
    since: Option<Instant>,
}

/// What has been counted and not been written.
#[derive(Debug)]
pub(super) struct Folds {
    settings: Mutex<Folding>,
    table: Mutex<Table>,
}

impl Folds {
    pub fn new(settings: Folding) -> Folds {
        let table = Table { kinds: HashMap::new(), all: None, since: None };
        Folds { settings: Mutex::new(settings), table: Mutex::new(table) }
    }

    pub fn set(&self, settings: Folding) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request may have an entry of its own. Where not, it is counted; `Some(true)` says that it is the first
    /// that is, so that somebody must be told to write it.
    pub fn fold(&self, sort: Sort, id: RequestId, at_ms: u64, now: Instant) -> Option<bool> {
        let settings = *self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let most = f64::from(settings.after);
        let mut table = self.table();
        let sort = table.place(sort);
        let Table { kinds, all, since } = &mut *table;
        let all = all.get_or_insert_with(|| Bucket::new(most * 10.0, now));
        all.refill(most * 10.0, settings.in_all_per_second, now);
        let kind = kinds.entry(sort).or_insert_with(|| Kind { bucket: Bucket::new(most, now), waiting: None });
        kind.bucket.refill(most, settings.per_second, now);
        if all.left >= 1.0 && kind.bucket.take() {
            all.take();
            return None;
        }
        match &mut kind.waiting {
            Some(count) => count.requests(id, at_ms),
            None => kind.waiting = Some(Count::one(id, at_ms)),
        }
        let first = since.is_none();
        since.get_or_insert(now);
        Some(first)
    }

    /// When the counts are to be written; `None` where there are none.
    pub fn due(&self) -> Option<Instant> {
        self.table().since.map(|since| since + FLUSH)
    }

    /// Takes the counts that are due, or all of them, few enough to be written; and forgets kinds that have been quiet.
    pub fn take(&self, all: bool, now: Instant) -> Vec<(Sort, Count)> {
        let settings = *self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = self.table();
        if table.since.is_none_or(|since| !all && since + FLUSH > now) {
            return Vec::new();
        }
        table.since = None;
        let mut counts: HashMap<Sort, Count> = HashMap::new();
        table.kinds.retain(|sort, kind| {
            kind.bucket.refill(f64::from(settings.after), settings.per_second, now);
            if let Some(count) = kind.waiting.take() {
                counts.insert(sort.clone(), count);
            }
            kind.bucket.left < f64::from(settings.after)
        });
        drop(table);
        for wider in [Sort::widened, Sort::anywhere] {
            if counts.len() > MOST_ENTRIES {
                counts = merged(counts, wider);
            }
        }
        counts.into_iter().collect()
    }
}

impl Count {
    /// Adds a request of a client that is counted already.
    fn requests(&mut self, id: RequestId, at_ms: u64) {
        self.add(&Count { clients: 0, ..Count::one(id, at_ms) });
    }
}

impl Table {
    /// The kind that a request is counted with, while there is room to tell kinds apart.
    fn place(&self, sort: Sort) -> Sort {
        if self.kinds.len() < MOST_KINDS || self.kinds.contains_key(&sort) {
            return sort;
        }
        let wide = sort.widened();
        if self.kinds.len() < MOST_WIDE || self.kinds.contains_key(&wide) {
            return wide;
        }
        sort.anywhere()
    }
}

fn merged(counts: HashMap<Sort, Count>, wider: fn(&Sort) -> Sort) -> HashMap<Sort, Count> {
    let mut all: HashMap<Sort, Count> = HashMap::new();
    for (sort, count) in counts {
        all.entry(wider(&sort)).and_modify(|sum| sum.add(&count)).or_insert(count);
    }
    all
}

/// Calls `write` with an event for each count that is due, or for each there is.
pub(super) fn account(shared: &Shared, all: bool, mut write: impl FnMut(Event<'_>)) {
    for (sort, count) in shared.folds.take(all, Instant::now()) {
        let client = sort
            .client
            .map(|net| if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() });
        write(Event::Folded(Folded {
            requests: count.requests,
            verdict: sort.verdict,
            listener: &sort.listener,
            client: client.as_deref().map(Person),
            clients: count.clients,
            since_ms: count.since_ms,
            until_ms: count.until_ms,
            ids: count.ids,
        }));
        shared.folded(count.requests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use decide::refusal::Code;

    const FEW: Folding = Folding { after: 3, per_second: 1, in_all_per_second: 2 };

    fn sort(client: &str) -> Sort {
        Sort::new("public".into(), client.parse().unwrap(), Verdict::Refuse(Code::RequestMalformed))
    }

    fn sum(counts: &[(Sort, Count)]) -> u64 {
        counts.iter().map(|(_, count)| count.requests).sum()
    }

    #[test]
    fn what_comes_beyond_the_allowance_is_counted_and_the_allowance_comes_back() {
        let (folds, start) = (Folds::new(FEW), Instant::now());
        let fold = |n: u64, at: Instant| folds.fold(sort("192.0.2.1"), RequestId(n.into()), n, at);
        assert_eq!((0..3).map(|n| fold(n, start)).collect::<Vec<_>>(), [None, None, None]);
        assert_eq!((fold(3, start), fold(4, start), fold(5, start)), (Some(true), Some(false), Some(false)));
        assert_eq!(folds.fold(sort("192.0.2.2"), RequestId(9), 9, start), None, "another client has its own");
        assert_eq!(folds.due(), Some(start + FLUSH));
        assert!(folds.take(false, start).is_empty(), "not yet");
        let taken = folds.take(false, start + FLUSH);
        let [(of, count)] = taken.as_slice() else { panic!("{taken:?}") };
        assert_eq!(
            (of, count.requests, count.clients, count.ids),
            (&sort("192.0.2.1"), 3, 1, (RequestId(3), RequestId(5)))
        );
        assert_eq!((count.since_ms, count.until_ms, folds.due()), (3, 5, None));
        assert_eq!(fold(6, start + FLUSH), None, "one comes back each second");
        assert_eq!(fold(7, start + FLUSH), Some(true));
        assert_eq!(sum(&folds.take(true, start + FLUSH)), 1);
    }

    #[test]
    fn clients_without_end_are_bounded_in_memory_and_on_the_disk_and_all_are_counted() {
        let (folds, now) = (Folds::new(FEW), Instant::now());
        let mut own = 0;
        for n in 0..40_000_u32 {
            let client = IpAddr::V4(std::net::Ipv4Addr::from_bits(n << 8));
            let sort = Sort::new("public".into(), client, Verdict::Refuse(Code::RequestMalformed));
            own += u64::from(folds.fold(sort, RequestId(n.into()), n.into(), now).is_none());
        }
        assert_eq!(own, 30, "ten times `after` in all");
        assert!(folds.table().kinds.len() <= MOST_WIDE + 1, "{}", folds.table().kinds.len());
        let taken = folds.take(true, now);
        assert!(taken.len() <= MOST_ENTRIES, "{}", taken.len());
        assert_eq!(own + sum(&taken), 40_000);
        assert!(taken.iter().map(|(_, count)| count.clients).sum::<u64>() > 8000);
        assert!(folds.take(true, now + Duration::from_secs(60)).is_empty());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_client() {
        assert_eq!(sort("2001:db8::1"), sort("2001:db8::2:3"));
        assert_ne!(sort("2001:db8::1"), sort("2001:db8:0:1::1"));
        assert_eq!(sort("192.0.2.1"), sort("::ffff:192.0.2.1"));
        assert_eq!(sort("2001:db8::1").widened().client.unwrap().to_string(), "2001:db8::/32");
        assert_eq!(sort("192.0.2.1").widened().client.unwrap().to_string(), "192.0.0.0/16");
    }
}
