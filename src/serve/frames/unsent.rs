//! Bytes of answers that the codec holds for a client: a stream's answer is not over while a connection has too many of them.
use foldhash::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Bytes that a connection's codec may hold for answers of which nobody waits any more.
pub(crate) const LEFT_BEHIND: u64 = 32 * 1024;

/// What a connection owes to its client, by stream.
#[derive(Debug, Default)]
pub(crate) struct Unsent(Mutex<Owed>);

#[derive(Debug, Default)]
struct Owed {
    streams: HashMap<u32, Stream>,
    all: u64,
}

#[derive(Debug, Default)]
struct Stream {
    bytes: u64,
    waiting: Option<Waker>,
    /// Whether the answer ends with these bytes, and nobody waits for it.
    left: bool,
}

impl Unsent {
    fn lock(&self) -> MutexGuard<'_, Owed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The codec has taken so many bytes for a stream.
    pub(crate) fn queued(&self, stream: u32, bytes: usize) {
        let mut owed = self.lock();
        owed.streams.entry(stream).or_default().bytes += bytes as u64;
        owed.all += bytes as u64;
    }

    /// DATA of so many bytes has left. Streams that are not followed here have none.
    pub(super) fn sent(&self, stream: u32, bytes: u32) {
        let mut owed = self.lock();
        let Some(entry) = owed.streams.get_mut(&stream) else { return };
        let sent = entry.bytes.min(u64::from(bytes));
        entry.bytes -= sent;
        let (empty, left) = (entry.bytes == 0, entry.left);
        let waiting = if empty { entry.waiting.take() } else { None };
        owed.all -= sent;
        if empty && left {
            owed.streams.remove(&stream);
        }
        drop(owed);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// The answer on a stream has ended: completes at once where the connection owes little, and else when all of it has left.
    pub(crate) fn poll_left(&self, stream: u32, cx: &mut Context<'_>) -> Poll<()> {
        let mut owed = self.lock();
        let little = owed.all <= LEFT_BEHIND;
        let Some(entry) = owed.streams.get_mut(&stream).filter(|entry| entry.bytes > 0) else { return Poll::Ready(()) };
        if little {
            (entry.left, entry.waiting) = (true, None);
            return Poll::Ready(());
        }
        entry.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    /// A stream is done with: what was still owed on it never leaves, unless its answer had ended.
    pub(crate) fn forget(&self, stream: u32) {
        let mut owed = self.lock();
        if owed.streams.get(&stream).is_some_and(|entry| !entry.left || entry.bytes == 0) {
            let bytes = owed.streams.remove(&stream).map_or(0, |entry| entry.bytes);
            owed.all -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn little_is_left_behind_and_much_is_waited_for() {
        let (unsent, woken) = (Unsent::default(), Arc::new(Count(AtomicUsize::new(0))));
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(unsent.poll_left(1, &mut cx).is_ready(), "nothing is owed");
        unsent.queued(1, 30 * 1024);
        assert!(unsent.poll_left(1, &mut cx).is_ready());
        unsent.forget(1);
        unsent.queued(3, 8 * 1024);
        assert!(unsent.poll_left(3, &mut cx).is_pending(), "what was left behind counts");
        unsent.sent(3, 4000);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0, "not all of it");
        unsent.sent(3, 4192);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(unsent.poll_left(3, &mut cx).is_ready());
        unsent.sent(1, 30 * 1024);
        unsent.sent(99, 5);
        assert_eq!(unsent.lock().all, 0);
        assert!(!unsent.lock().streams.contains_key(&1), "left behind, and gone when it has left");
    }

    #[test]
    fn what_was_reset_is_owed_to_nobody() {
        let unsent = Unsent::default();
        unsent.queued(1, 100 * 1024);
        assert!(unsent.poll_left(1, &mut Context::from_waker(Waker::noop())).is_pending());
        unsent.forget(1);
        let owed = unsent.lock();
        assert_eq!((owed.all, owed.streams.len()), (0, 0));
    }
}
