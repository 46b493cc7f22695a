//! Whoever asked, as an exchange needs them: where the body comes from and where the answer goes.
use super::body::Source;
use super::exchange::Fail;
use super::serialize::{self, Connection, Framing};
use crate::serve::listener::ConnInfo;
use crate::serve::stream::Wire;
use bytes::BytesMut;
use decide::headers::request::IdentityHeaders;
use http::{HeaderMap, StatusCode};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// What the head of an answer says, besides its fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) status: StatusCode,
    pub(super) framing: Framing,
    pub(super) about: Connection,
    /// Whether nothing follows the head.
    pub(super) over: bool,
}

/// A client.
pub(super) trait Caller: Send {
    /// Whether the end of an answer is told apart from its bytes, so that they need no framing.
    const ENDS: bool;

    fn conn(&self) -> &Arc<ConnInfo>;

    /// Longest pause in its body, or before it takes a piece of the answer.
    fn patience(&self) -> Duration;

    /// What has come of the body, or of whatever follows it, and nobody has taken.
    fn inbound(&mut self) -> &mut BytesMut;

    fn pending(&self) -> &[u8];

    /// Reads more of the body; 0 where nothing more will come.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Fail>>;

    /// Notes that all of the body was read.
    fn body_over(&mut self);

    /// Completes when the client has left. Asked for when all of the body was read.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// An interim answer, into `out` or past it.
    fn interim(&mut self, out: &mut Vec<u8>, status: StatusCode, fields: &HeaderMap);

    /// Begins the head of an answer. `sign` writes what we say in it: behind its first line, where that is in `out`, or among
    /// its fields, where it is given nothing.
    fn begin(&mut self, out: &mut Vec<u8>, status: StatusCode, sign: impl FnOnce(Option<&mut Vec<u8>>));

    /// The rest of the head, into `out` or past it. An error: the client has left.
    fn answer(
        &mut self,
        out: &mut Vec<u8>,
        fields: HeaderMap,
        said: Said,
        identity: &IdentityHeaders,
    ) -> io::Result<()>;

    fn poll_vectored(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Waits until what was written is on its way.
    fn poll_flush_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Says that the answer is over, where it has not said so itself. `source` may hold trailers.
    fn poll_over(
        &mut self,
        cx: &mut Context<'_>,
        source: Option<&Source>,
        identity: &IdentityHeaders,
    ) -> Poll<io::Result<()>>;
}

impl Caller for Wire {
    const ENDS: bool = false;

    fn conn(&self) -> &Arc<ConnInfo> {
        Wire::conn(self)
    }

    fn patience(&self) -> Duration {
        Wire::conn(self).settings.stall_timeout
    }

    fn inbound(&mut self) -> &mut BytesMut {
        Wire::inbound(self)
    }

    fn pending(&self) -> &[u8] {
        Wire::pending(self)
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Fail>> {
        Poll::Ready(ready!(Wire::poll_more(self, cx)).map_err(|_| Fail::Gone))
    }

    fn body_over(&mut self) {
        Wire::body_over(self);
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Wire::poll_gone(self, cx)
    }

    fn interim(&mut self, out: &mut Vec<u8>, status: StatusCode, fields: &HeaderMap) {
        serialize::interim(out, status, fields);
    }

    fn begin(&mut self, out: &mut Vec<u8>, status: StatusCode, sign: impl FnOnce(Option<&mut Vec<u8>>)) {
        serialize::status_line(out, status);
        sign(Some(out));
    }

    fn answer(
        &mut self,
        out: &mut Vec<u8>,
        fields: HeaderMap,
        said: Said,
        identity: &IdentityHeaders,
    ) -> io::Result<()> {
        serialize::answer(out, said.status, &fields, said.framing, said.about, identity);
        Ok(())
    }

    fn poll_vectored(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Wire::poll_vectored(self, cx, slices)
    }

    fn poll_flush_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Wire::poll_flush_all(self, cx)
    }

    /// The last chunk, or the length that was said.
    fn poll_over(
        &mut self,
        cx: &mut Context<'_>,
        _source: Option<&Source>,
        _identity: &IdentityHeaders,
    ) -> Poll<io::Result<()>> {
        Wire::poll_flush_all(self, cx)
    }
}
