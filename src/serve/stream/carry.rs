//! The connection as our own data path uses it: heads taken whole, bodies read in large pieces, answers without a copy.
use super::{Exposed, Transport, Wire};
use crate::serve::head::{After, Head};
use crate::serve::room::make_room;
use bytes::{Bytes, BytesMut};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

/// Room for a piece of a body: what a TLS record holds, and twice that where there are none.
const PIECE: usize = 16 * 1024;

impl Wire {
    /// Takes a head of so many bytes.
    pub(crate) fn take_head(&mut self, length: usize) -> Bytes {
        self.inbound.split_to(length.min(self.inbound.len())).freeze()
    }

    /// Notes that a request has begun. Until [`Wire::body_over`] the wire holds one that is not all read.
    pub(crate) fn begun(&mut self, head: &Head) {
        let body = !matches!(head.after, After::Body(0) | After::WebSocket(0));
        self.expose(Some(u64::from(body)));
    }

    /// Gives back a head that was taken.
    pub(crate) fn give_back(&mut self, head: &Bytes) {
        let mut all = BytesMut::with_capacity(head.len() + self.inbound.len());
        all.extend_from_slice(head);
        all.extend_from_slice(&self.inbound);
        self.inbound = all;
    }

    /// Reads more into [`Wire::pending`]; 0 at the end of the stream, `None` where nothing has come by `end`. Cancel-safe.
    pub(crate) async fn fill_until(&mut self, end: Instant) -> Option<io::Result<usize>> {
        poll_fn(|cx| match self.poll_fill(cx) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending => self.poll_clock(cx, end).map(|()| None),
        })
        .await
    }

    /// Completes at `end`. All waits of a connection share one clock, which is set anew where it would ring too late, and when
    /// it rings too early: most waits end long before, and cost the runtime no entry in its list of timers.
    pub(super) fn poll_clock(&mut self, cx: &mut Context<'_>, end: Instant) -> Poll<()> {
        let clock = self.clock.get_or_insert_with(|| Box::pin(sleep_until(end)));
        loop {
            if end < clock.deadline() || clock.is_elapsed() {
                clock.as_mut().reset(end);
            }
            ready!(clock.as_mut().poll(cx));
            if end <= Instant::now() {
                return Poll::Ready(());
            }
        }
    }

    /// Lends the clock of the connection; where it has none yet, one that is to be set.
    pub(crate) fn take_clock(&mut self) -> Pin<Box<Sleep>> {
        self.clock.take().unwrap_or_else(|| Box::pin(sleep_until(Instant::now())))
    }

    /// Gives the clock back.
    pub(crate) fn put_clock(&mut self, clock: Pin<Box<Sleep>>) {
        self.clock = Some(clock);
    }

    /// What has arrived and nobody has taken.
    pub(crate) fn inbound(&mut self) -> &mut BytesMut {
        &mut self.inbound
    }

    /// Notes that all of a request was read: what follows is the next.
    pub(crate) fn body_over(&mut self) {
        self.exposed = Exposed::Bytes(0);
    }

    /// Whether the client has begun a frame of a WebSocket and not ended it.
    pub(crate) fn frame_under_way(&self) -> bool {
        self.farewell.as_ref().is_some_and(|farewell| farewell.frame_under_way())
    }

    /// Notes that the next answer is a 101.
    pub(crate) fn may_switch(&mut self) {
        self.expose_upgrade(0);
    }

    /// Reads more of a body; 0 at the end of the stream.
    pub(crate) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        make_room(&mut self.inbound, PIECE);
        let read = match self.transport.as_mut() {
            Some(Transport::Plain(tcp)) => pin!(tcp.read_buf(&mut self.inbound)).poll(cx),
            Some(Transport::Tls(tls)) => match pin!(tls.read_buf(&mut self.inbound)).poll(cx) {
                // Many clients close without close_notify; to framed HTTP that is an end like any other.
                Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
                other => other,
            },
            None => Poll::Ready(Ok(0)),
        };
        self.ended |= matches!(read, Poll::Ready(Ok(0) | Err(_)));
        read
    }

    /// Completes when the client has left, with nothing more to say. What it says meanwhile is its next request.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_ahead(cx).map(|_| ())
    }

    /// Completes when the client has left, or will send nothing more, while its request waits.
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.inbound.len() < super::AHEAD_LIMIT {
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }

    /// Writes to the client without a buffer of our own.
    pub(crate) fn poll_vectored(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Some(transport) => transport.poll_vectored(cx, slices),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Waits until the client's side of the machine has everything.
    pub(crate) fn poll_flush_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.transport.as_mut() {
            Some(Transport::Plain(_)) | None => Poll::Ready(Ok(())),
            Some(Transport::Tls(tls)) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    /// Has the kernel say, when the connection is cut, that it was no orderly end: for an answer that ends with its
    /// connection, where nothing else would tell.
    pub(crate) fn end_loudly(&mut self) {
        let tcp = match &self.transport {
            Some(Transport::Plain(tcp)) => tcp,
            Some(Transport::Tls(tls)) => tls.get_ref().0,
            None => return,
        };
        // It may be gone already.
        let _ = tcp.set_zero_linger();
    }

    /// Cuts the connection: without goodbye of TLS, so that an answer which ends here does not look whole.
    pub(crate) fn cut(&mut self) {
        self.transport = None;
    }
}
