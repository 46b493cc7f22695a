//! The requests of one connection, each on its stream. They run within the connection's own task: no request wakes another
//! task, and answers that are ready at the same time leave together.
use crate::serve::in_place::in_place;
use futures_util::future::{CatchUnwind, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// Requests under way, each in a box of its own: to move it here would be to copy it several times.
pub(super) struct Streams<F>(FuturesUnordered<CatchUnwind<AssertUnwindSafe<Pin<Box<F>>>>>);

impl<F: Future<Output = ()>> Streams<F> {
    pub(super) fn new() -> Self {
        Streams(FuturesUnordered::new())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more, which begins with the next [`Streams::poll_ended`].
    pub(super) fn push(&mut self, stream: impl FnOnce() -> F) {
        // A bug that ends one request is none of the others' business; the codec resets its stream.
        self.0.push(AssertUnwindSafe(in_place(stream)).catch_unwind());
    }

    /// Lets all that can go on do so. Completes when some have ended.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ended = Poll::Pending;
        while let Poll::Ready(Some(_)) = self.0.poll_next_unpin(cx) {
            ended = Poll::Ready(());
        }
        ended
    }

    /// Waits for something else, such as room in the audit log, of which the requests hold some: they go on meanwhile.
    pub(super) async fn beside<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        poll_fn(|cx| {
            let _ = self.poll_ended(cx);
            other.as_mut().poll(cx)
        })
        .await
    }

    /// Ends all of them where they are: they give account of themselves when they are dropped.
    pub(super) fn cut(&mut self) {
        self.0 = FuturesUnordered::new();
    }
}
