//! The orderly end: listeners close, connections finish what they are doing, and somebody waits for the last of them.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Shared by everything that must know that the process is about to end. Clones are the same drain.
#[derive(Clone, Debug)]
pub struct Drain {
    announced: Arc<watch::Sender<bool>>,
    begun: Arc<watch::Sender<bool>>,
    cut: Arc<watch::Sender<bool>>,
    live: Arc<watch::Sender<usize>>,
    /// Turns `true` when this part is left, at the latest when the whole begins.
    left: Arc<watch::Sender<bool>>,
    /// The same of all other parts.
    parts: Arc<Mutex<Vec<Weak<watch::Sender<bool>>>>>,
}

impl Default for Drain {
    fn default() -> Self {
        Drain::new()
    }
}

impl Drain {
    /// A drain that has not begun.
    pub fn new() -> Drain {
        let no = || Arc::new(watch::Sender::new(false));
        let live = Arc::new(watch::Sender::new(0));
        Drain { announced: no(), begun: no(), cut: no(), live, left: no(), parts: Arc::default() }
    }

    /// A part, such as one listener, that can be left before the whole begins.
    pub fn part(&self) -> Drain {
        let left = Arc::new(watch::Sender::new(false));
        let mut parts = self.parts();
        parts.retain(|part| part.strong_count() > 0);
        parts.push(Arc::downgrade(&left));
        if self.begun() {
            left.send_replace(true);
        }
        drop(parts);
        Drain { left, ..self.clone() }
    }

    /// Leaves this part: nothing new is accepted, and connections end with an answer that says so, or when they have
    /// been idle for long enough. None is closed under the hands of a client that is about to send a request.
    pub fn leave(&self) {
        self.left.send_replace(true);
    }

    /// Whether this part was left, or the whole has begun.
    pub fn left(&self) -> bool {
        *self.left.borrow()
    }

    /// Turns `true` when this part is left or the whole begins.
    pub fn watch_left(&self) -> watch::Receiver<bool> {
        self.left.subscribe()
    }

    fn parts(&self) -> MutexGuard<'_, Vec<Weak<watch::Sender<bool>>>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that it will begin: readiness fails from now on, and everything else goes on.
    pub fn announce(&self) {
        self.announced.send_replace(true);
    }

    /// Whether it was announced or has begun.
    pub fn announced(&self) -> bool {
        *self.announced.borrow() || self.begun()
    }

    /// Begins: listeners close, idle connections close, busy ones close after the current request, HTTP/2 ones send
    /// GOAWAY. Calling it again changes nothing.
    pub fn begin(&self) {
        let parts = self.parts();
        self.begun.send_replace(true);
        self.leave();
        for part in parts.iter().filter_map(Weak::upgrade) {
            part.send_replace(true);
        }
    }

    /// Leaves all parts, since another process accepts in our place, and waits until the last connection is gone or
    /// `timeout` has passed; returns how many are left. Nobody waits for this process, so that idle connections may take
    /// the time that they have anyway.
    pub async fn retire(&self, timeout: Duration) -> usize {
        for part in self.parts().iter().filter_map(Weak::upgrade) {
            part.send_replace(true);
        }
        self.leave();
        self.gone_within(timeout).await
    }

    /// Whether it has begun.
    pub fn begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// Turns `true` when the drain begins.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.begun.subscribe()
    }

    /// Connections that are still open.
    pub fn live(&self) -> usize {
        *self.live.borrow()
    }

    /// Begins, then waits until the last connection is gone or `timeout` has passed; returns how many are left.
    pub async fn finish(&self, timeout: Duration) -> usize {
        self.begin();
        self.gone_within(timeout).await
    }

    /// Ends all connections, whatever they are doing; their requests still give account of themselves. Waits for that
    /// for at most `timeout`; returns how many are left.
    pub async fn cut(&self, timeout: Duration) -> usize {
        self.begin();
        self.cut.send_replace(true);
        self.gone_within(timeout).await
    }

    async fn gone_within(&self, timeout: Duration) -> usize {
        let mut live = self.live.subscribe();
        match tokio::time::timeout(timeout, live.wait_for(|count| *count == 0)).await {
            Ok(_) => 0,
            Err(_) => self.live(),
        }
    }

    /// Turns `true` when connections are to end whatever they are doing.
    pub(crate) fn watch_cut(&self) -> watch::Receiver<bool> {
        self.cut.subscribe()
    }

    /// Counts one more connection until the value is dropped.
    pub(crate) fn enter(&self) -> Live {
        self.live.send_modify(|count| *count += 1);
        Live(self.live.clone())
    }
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct Live(Arc<watch::Sender<usize>>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// How long a connection that waits for its next request lives on in a drain. A client that is busy hears
/// `Connection: close` with its next answer; closed at once, it might have sent that request already (RFC 9112, 9.5).
const FAREWELL: Duration = Duration::from_secs(1);

/// Completes when a drain has gone on for so long that whoever is idle now may be closed.
pub(crate) async fn idle_over(watch: &mut watch::Receiver<bool>) {
    begun(watch).await;
    tokio::time::sleep(FAREWELL).await;
}

/// Completes when the value has turned `true`; never, where nobody is left to turn it.
pub(crate) async fn begun(watch: &mut watch::Receiver<bool>) {
    if watch.wait_for(|begun| *begun).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_left_alone_or_with_the_whole() {
        let whole = Drain::new();
        let (one, other) = (whole.part(), whole.part());
        one.leave();
        assert!(one.left() && !one.begun() && !other.left() && !whole.begun());
        let live = one.enter();
        assert_eq!((whole.live(), other.live()), (1, 1), "connections are counted together");
        drop(live);
        whole.begin();
        assert!(other.left() && other.clone().begun() && whole.left() && whole.part().left());
    }
}
