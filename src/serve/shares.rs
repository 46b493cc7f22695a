//! Who may have how much of what all clients share: whoever takes much is the first to get no more.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Once half of the room for requests is taken, an address may have this part of what is free.
const OF_ROOM: usize = 16;
/// The part of the free places for unread answers that one address may have.
const OF_UNREAD: usize = 4;

/// What one address (/64 for IPv6) has under way, on all its connections to a listener.
#[derive(Debug, Default)]
pub struct Account {
    requests: AtomicUsize,
    unread: AtomicUsize,
}

/// How much room there is for requests, and how much of it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// All of it.
    pub all: usize,
    /// What nobody has.
    pub free: usize,
}

impl Room {
    /// How many requests one address may have under way. Of the second half of the room nobody may have more than a part
    /// of what is left: so something is always left, and those get it who have little.
    fn share(self) -> usize {
        if self.free >= self.all / 2 { usize::MAX } else { (self.free / OF_ROOM).max(1) }
    }
}

/// A request under way, on the account of its address.
#[derive(Debug)]
pub struct UnderWay(Arc<Account>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

impl Account {
    /// Begins a request, unless the address has its share of a room that runs short.
    pub(crate) fn begin(self: &Arc<Account>, room: Room) -> Option<UnderWay> {
        let under_way = UnderWay(self.clone());
        (self.requests.fetch_add(1, Relaxed) < room.share()).then_some(under_way)
    }
}

/// Places for answers that wait for their clients.
#[derive(Debug)]
pub struct Unread {
    taken: AtomicUsize,
    most: AtomicUsize,
}

impl Unread {
    /// So many.
    pub fn new(most: usize) -> Arc<Unread> {
        Arc::new(Unread { taken: AtomicUsize::new(0), most: AtomicUsize::new(most) })
    }

    /// Changes how many there are; what is taken stays so.
    pub fn resize(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// Takes one, where there is one and the address does not have its part of them.
    pub(crate) fn take(self: &Arc<Unread>, account: Option<&Arc<Account>>) -> Option<UnreadPlace> {
        let free = self.most.load(Relaxed).saturating_sub(self.taken.fetch_add(1, Relaxed));
        let place = UnreadPlace { all: self.clone(), account: account.cloned() };
        let held = account.map_or(0, |account| account.unread.fetch_add(1, Relaxed));
        (free > 0 && held < (free / OF_UNREAD).max(1)).then_some(place)
    }
}

/// A place of an answer that waits.
#[derive(Debug)]
pub struct UnreadPlace {
    all: Arc<Unread>,
    account: Option<Arc<Account>>,
}

impl Drop for UnreadPlace {
    fn drop(&mut self) {
        self.all.taken.fetch_sub(1, Relaxed);
        if let Some(account) = &self.account {
            account.unread.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `addresses` that each take all they get, in turn; what each has then, and what is free.
    fn greed(all: usize, addresses: usize, wants: usize) -> (Vec<usize>, usize) {
        let accounts: Vec<Arc<Account>> = (0..addresses).map(|_| Arc::default()).collect();
        let mut held: Vec<Vec<UnderWay>> = (0..addresses).map(|_| Vec::new()).collect();
        let mut free = all;
        for _ in 0..wants {
            for (account, held) in accounts.iter().zip(&mut held) {
                if free > 0
                    && let Some(place) = account.begin(Room { all, free })
                {
                    held.push(place);
                    free -= 1;
                }
            }
        }
        (held.iter().map(Vec::len).collect(), free)
    }

    #[test]
    fn the_greedy_leave_room_for_those_who_have_little() {
        let (held, free) = greed(65_536, 80, 800);
        assert!(free > 10_000 && held.iter().all(|held| *held < 800), "{free} free beside {held:?}");
        let (_, free) = greed(65_536, 2000, 800);
        assert!(free > 400, "{free}");
        let (held, _) = greed(65_536, 10, 800);
        assert_eq!(held, [800; 10], "while there is plenty, nobody is held back");
    }

    #[test]
    fn the_last_places_are_for_whoever_has_none() {
        let (greedy, modest) = (Arc::new(Account::default()), Arc::new(Account::default()));
        let held = greedy.begin(Room { all: 100, free: 100 });
        assert!(held.is_some() && greedy.begin(Room { all: 100, free: 3 }).is_none());
        let place = modest.begin(Room { all: 100, free: 3 });
        assert!(place.is_some());
        drop((held, place));
        assert_eq!(
            (greedy.requests.load(Relaxed), modest.requests.load(Relaxed)),
            (0, 0),
            "refused ones count no more"
        );
    }

    #[test]
    fn unread_answers_of_one_address_leave_places_for_others() {
        let (places, greedy, other) = (Unread::new(100), Arc::new(Account::default()), Arc::new(Account::default()));
        let held: Vec<_> = std::iter::from_fn(|| places.take(Some(&greedy))).collect();
        assert_eq!((held.len(), places.taken()), (20, 20), "a quarter of what is free then");
        assert!(places.take(Some(&other)).is_some());
        let hop: Vec<_> = std::iter::from_fn(|| places.take(None)).collect();
        assert_eq!((hop.len() > 15, places.taken()), (true, 20 + hop.len()), "a hop is bounded too");
        drop((held, hop));
        places.resize(0);
        assert!(places.take(Some(&other)).is_none() && places.taken() == 0);
    }
}
