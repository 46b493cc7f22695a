//! The sockets that the process listens on at this moment: for whoever replaces it, and for the watchdog.
use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// All accept loops of the process. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct Listening(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: Mutex<Vec<Entry>>,
    beat: watch::Sender<u64>,
}

/// One accept loop.
#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    socket: TcpListener,
    answered: Arc<AtomicU64>,
}

impl Listening {
    /// Puts a socket on the list for as long as the returned value lives. To be called by whoever accepts from it.
    pub(crate) fn enlist(&self, name: &Arc<str>, socket: &TcpListener) -> io::Result<Enlisted> {
        let answered = Arc::new(AtomicU64::new(0));
        let mut beat = self.0.beat.subscribe();
        answered.store(*beat.borrow_and_update(), Ordering::Relaxed);
        self.entries().push(Entry { name: name.clone(), socket: socket.try_clone()?, answered: answered.clone() });
        Ok(Enlisted { list: self.clone(), answered, beat })
    }

    /// Names and duplicates of the sockets. A duplicate keeps a port open after its loop has ended: drop it soon, or
    /// give it to somebody who accepts.
    pub fn sockets(&self) -> io::Result<Vec<(Arc<str>, TcpListener)>> {
        self.entries().iter().map(|entry| Ok((entry.name.clone(), entry.socket.try_clone()?))).collect()
    }

    /// Whether every loop has come round since the last call, which this call asks them to do again.
    pub(crate) fn pulse(&self) -> bool {
        let asked = *self.0.beat.borrow();
        let alive = self.entries().iter().all(|entry| entry.answered.load(Ordering::Relaxed) >= asked);
        self.0.beat.send_modify(|beat| *beat += 1);
        alive
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A loop's place on the list.
#[derive(Debug)]
pub(crate) struct Enlisted {
    list: Listening,
    answered: Arc<AtomicU64>,
    beat: watch::Receiver<u64>,
}

impl Enlisted {
    /// Completes when the watchdog asks; to be one of the things that the loop waits for. Cancel-safe.
    pub(crate) async fn asked(&mut self) {
        if self.beat.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.answered.store(*self.beat.borrow_and_update(), Ordering::Relaxed);
    }
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        self.list.entries().retain(|entry| !Arc::ptr_eq(&entry.answered, &self.answered));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_does_not_come_round_is_noticed_and_one_that_ended_is_not() {
        let listening = Listening::default();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut lively = listening.enlist(&Arc::from("lively"), &socket).unwrap();
        let stuck = listening.enlist(&Arc::from("stuck"), &socket).unwrap();
        assert!(listening.pulse(), "nobody was asked before");
        lively.asked().await;
        assert!(!listening.pulse());
        drop(stuck);
        lively.asked().await;
        assert!(listening.pulse());
        let names: Vec<_> = listening.sockets().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [Arc::from("lively")]);
    }

    #[test]
    fn a_port_is_free_once_its_loop_has_ended() {
        let listening = Listening::default();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let enlisted = listening.enlist(&Arc::from("public"), &socket).unwrap();
        drop((socket, enlisted));
        TcpListener::bind(address).unwrap();
    }
}
