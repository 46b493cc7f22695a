//! Connections whose balancer has not said yet for whom they are: in a room of bounded size that the longest waiting leave
//! first.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// One part in so many of `max_connections` may wait.
const SHARE: usize = 4;
/// Waiting room at the least.
const LEAST: usize = 64;

/// Those who wait, in the order of their coming. A balancer speaks within a round trip, so it is not the newest who is
/// turned away when the room is full, but whoever has said nothing for the longest: otherwise silent connections would
/// keep everybody out until their deadline.
#[derive(Debug, Default)]
pub(crate) struct WaitingRoom(Mutex<BTreeMap<u64, Arc<Notify>>>);

/// A place in the room; given back when dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    room: Arc<WaitingRoom>,
    id: u64,
    displaced: Arc<Notify>,
}

impl WaitingRoom {
    /// Takes a place for the connection `id`; ids count up.
    pub(crate) fn enter(self: &Arc<Self>, id: u64, max_connections: usize) -> Waiting {
        let displaced = Arc::new(Notify::new());
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.len() >= (max_connections / SHARE).max(LEAST) {
            let Some((_, longest)) = waiting.pop_first() else { break };
            longest.notify_one();
        }
        waiting.insert(id, displaced.clone());
        Waiting { room: self.clone(), id, displaced }
    }
}

impl Waiting {
    /// Completes when the place is needed for somebody else. Cancel-safe.
    pub(crate) async fn displaced(&self) {
        self.displaced.notified().await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.room.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    fn is_displaced(waiting: &Waiting) -> bool {
        pin!(waiting.displaced()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_longest_waiting_leave_first_and_places_are_given_back() {
        let room = Arc::new(WaitingRoom::default());
        let mut all: Vec<Waiting> = (0..64).map(|id| room.enter(id, 100)).collect();
        assert!(!all.iter().any(is_displaced));
        drop(all.remove(10));
        let _again = room.enter(64, 100);
        assert!(!all.iter().any(is_displaced), "a place was free");
        let newest = room.enter(65, 100);
        assert!(is_displaced(&all[0]) && !is_displaced(&all[1]) && !is_displaced(&newest));
        let _next = room.enter(66, 100);
        assert!(is_displaced(&all[1]) && !is_displaced(&all[2]));
        drop(all);
        assert_eq!(room.0.lock().unwrap().len(), 3);
    }

    #[test]
    fn the_room_grows_with_the_connections() {
        let room = Arc::new(WaitingRoom::default());
        let all: Vec<Waiting> = (0..100).map(|id| room.enter(id, 400)).collect();
        assert!(!all.iter().any(is_displaced));
        let _more = room.enter(100, 400);
        assert!(is_displaced(&all[0]) && !is_displaced(&all[1]));
    }
}
