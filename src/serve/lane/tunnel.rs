//! A WebSocket: bytes both ways through two bounded buffers, each side closed when the other is, none silent for ever.
//!
//! What ends it from outside (a reload that made its route stricter) is felt below, in the wire: it puts close frames
//! between the frames of both directions, and the loop of the connection lets go of what does not end by itself.
use super::Turn;
use super::conn::Connection;
use crate::config::settings::Timeouts;
use crate::serve::context::Context;
use crate::serve::forward::{drips, take_body};
use crate::serve::room::make_room;
use crate::serve::stream::Wire;
use bytes::{Buf, BytesMut};
use decide::refusal::{Code, Refusal};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, sleep_until};

/// So much later, what is over has passed.
const JUST_AFTER: Duration = Duration::from_millis(1);
/// Bytes of one direction that stand ready at most.
const BUFFER: usize = 16 * 1024;

/// One direction.
#[derive(Debug, Default)]
struct Way {
    bytes: BytesMut,
    ended: bool,
    closed: bool,
}

impl Way {
    /// Moves bytes until something must be waited for; how many were read since the last time is added to `read`.
    fn poll<R, W>(&mut self, cx: &mut Task<'_>, from: &mut R, to: &mut W, read: &mut usize) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while !self.bytes.is_empty() {
                let sent = ready!(Pin::new(&mut *to).poll_write(cx, &self.bytes))?;
                if sent == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.bytes.advance(sent);
            }
            if self.ended {
                if !self.closed {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.closed = true;
                }
                return Poll::Ready(Ok(()));
            }
            make_room(&mut self.bytes, BUFFER);
            let got = pin!(from.read_buf(&mut self.bytes)).poll(cx);
            match got {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(count)) => *read += count,
                // Peers of WebSockets often just leave.
                Poll::Ready(Err(_)) => self.ended = true,
                Poll::Pending => {
                    // Silent for now: the buffer is given back.
                    self.bytes = BytesMut::new();
                    ready!(Pin::new(&mut *to).poll_flush(cx))?;
                    return Poll::Pending;
                }
            }
        }
    }
}

/// Sends the 101, then carries both directions until both have ended, one breaks, or there is silence for too long.
pub(super) async fn run(
    wire: &mut Wire,
    mut up: Connection,
    head: Vec<u8>,
    timeouts: &Timeouts,
    ctx: &mut Context,
) -> Turn {
    wire.may_switch();
    // What the application sent with its head are the first frames.
    let mut down = Way { bytes: BytesMut::from(&head[..]), ..Way::default() };
    down.bytes.extend_from_slice(&up.inbound);
    ctx.bytes_out = up.inbound.len() as u64;
    up.inbound = BytesMut::new();
    let mut rise = Way::default();
    let patience = wire.conn().settings.stall_timeout;
    let mut moved = Instant::now();
    // The client's frame under way: since when, and how many bytes have come of it.
    let mut frame: Option<(Instant, u64)> = None;
    let mut sleep = pin!(sleep_until(moved + timeouts.idle));
    let ended = poll_fn(|cx| {
        let (mut read, mut sent) = (0, 0);
        let back = down.poll(cx, &mut up, wire, &mut sent);
        let there = if rise.closed { Poll::Pending } else { rise.poll(cx, wire, &mut up, &mut read) };
        ctx.bytes_out = ctx.bytes_out.saturating_add(sent as u64);
        // A conversation is counted and no more. Should it be ended from outside, the wire says so.
        let _ = take_body(ctx, read);
        if read + sent > 0 {
            moved = Instant::now();
        }
        if read > 0 {
            let (since, bytes) = frame.unwrap_or((moved, 0));
            frame = wire.frame_under_way().then_some((since, bytes + read as u64));
        }
        // When the application has ended, the client has nothing more to wait for; the other way round it has.
        if back.is_ready() || matches!(there, Poll::Ready(Err(_))) {
            return Poll::Ready(None);
        }
        loop {
            let now = Instant::now();
            if moved + timeouts.idle <= now {
                return Poll::Ready(Some(Refusal::new(Code::UpstreamTimeout, "silence for `idle_timeout`")));
            }
            let mut next = moved + timeouts.idle;
            if let Some((since, bytes)) = frame {
                if drips(now.saturating_duration_since(since), bytes, patience) {
                    return Poll::Ready(Some(Refusal::new(Code::RequestTimeout, "a frame comes in drips")));
                }
                let look = since + patience + JUST_AFTER;
                next = next.min(if look > now { look } else { now + patience });
            }
            if next < sleep.deadline() || sleep.is_elapsed() {
                sleep.as_mut().reset(next);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    });
    ctx.refusal = ended.await.or(ctx.refusal.take());
    Turn::Close
}
