//! A client on a stream of HTTP/2 and an application that speaks HTTP/1.1: the codec has the frames, the lane all the rest.
use super::Ask;
use super::body::Source;
use super::caller::{Caller, Said};
use super::exchange::Fail;
use super::serialize::{self, Framing};
use crate::serve::head::After;
use crate::serve::listener::ConnInfo;
use crate::serve::room;
use crate::serve::wire::edit_request;
use bytes::{Bytes, BytesMut};
use decide::headers::request::IdentityHeaders;
use decide::refusal::{Code, Refusal};
use h2::{Reason, SendStream};
use http::header::{CONTENT_LENGTH, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pingora_core::protocols::http::v2::server::HttpSession;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

/// Why a request with trailers is refused.
pub(crate) const TRAILERS: &str = "trailers of a request over HTTP/2, which cannot be passed on";

/// A client on a stream.
pub(super) struct Stream<'a> {
    pub(super) session: &'a mut HttpSession,
    conn: &'a Arc<ConnInfo>,
    /// Where the answer goes, once its head has gone.
    writer: Option<SendStream<Bytes>>,
    inbound: BytesMut,
    /// Bytes of the body that are still to be read, where its length was said.
    left: Option<u64>,
    /// The last of a body whose length was said, until it is certain that no trailers follow.
    last: Bytes,
    /// Bytes of the answer that are still to be sent, where its length was said.
    owed: Option<u64>,
    /// Whether the end of the answer has been said.
    ended: bool,
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            self.conn.unsent.forget(writer.stream_id().as_u32());
        }
    }
}

impl Ask {
    /// The head of a stream's request, whose fields are taken out of it.
    pub(super) fn of_stream(session: &mut HttpSession) -> Ask {
        let empty = session.is_body_empty();
        let fields = edit_request(session.req_header_mut(), std::mem::take);
        let head = session.req_header();
        let length = fields.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let after = match length {
            _ if empty => After::Body(0),
            Some(length) => After::Body(length),
            None => After::Chunks,
        };
        Ask {
            method: head.method.clone(),
            // It stays where it is.
            target: Bytes::new(),
            after,
            old: false,
            keep_alive: true,
            // The codec has no interim answers: nobody could be told to go on.
            expects: false,
            trailers: fields.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers")),
            says_length: length.is_some(),
            streamed: true,
            fields,
        }
    }

    /// RFC 9110, 8.6: what may have a body and has none says so.
    pub(super) fn say_empty(&mut self) {
        if self.after == After::Body(0) && [Method::POST, Method::PUT, Method::PATCH].contains(&self.method) {
            self.fields.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            self.says_length = true;
        }
    }
}

impl<'a> Stream<'a> {
    pub(super) fn new(session: &'a mut HttpSession, conn: &'a Arc<ConnInfo>, ask: &Ask) -> Stream<'a> {
        let left = if let After::Body(length @ 1..) = ask.after { Some(length) } else { None };
        Stream {
            session,
            conn,
            writer: None,
            inbound: BytesMut::new(),
            left,
            last: Bytes::new(),
            owed: None,
            ended: false,
        }
    }

    /// Takes what a limit has looked into: it was read already.
    pub(super) fn take_seen(&mut self) {
        let Some(seen) = self.session.get_retry_buffer() else { return };
        self.left = self.left.map(|left| left.saturating_sub(seen.len() as u64));
        self.inbound = seen.into();
    }

    /// Ends the stream so that nobody takes what has come for all.
    pub(super) fn reset(&mut self) {
        if let Some(writer) = &mut self.writer {
            writer.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

impl Caller for Stream<'_> {
    const ENDS: bool = true;

    fn conn(&self) -> &Arc<ConnInfo> {
        self.conn
    }

    fn patience(&self) -> Duration {
        self.conn.settings.h2_stall_timeout
    }

    fn inbound(&mut self) -> &mut BytesMut {
        &mut self.inbound
    }

    fn pending(&self) -> &[u8] {
        &self.inbound
    }

    /// Trailers of a request are not passed on: the codec's owner does not give them out. Dropped in silence they might have
    /// said what proves the body, so a request that has some is refused before its last byte goes out.
    fn poll_more(&mut self, cx: &mut Task<'_>) -> Poll<Result<usize, Fail>> {
        loop {
            match ready!(self.session.poll_read_body_bytes(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    if self.left == Some(0) && !self.session.is_body_done() {
                        self.last = data;
                        continue;
                    }
                    self.inbound.extend_from_slice(&data);
                    return Poll::Ready(Ok(data.len()));
                }
                Some(Err(_)) => return Poll::Ready(Err(Fail::Gone)),
                None if !self.session.is_body_done() => {
                    let refusal = Refusal::new(Code::RequestMalformed, TRAILERS);
                    return Poll::Ready(Err(Fail::Refused(refusal)));
                }
                None => {
                    let last = std::mem::take(&mut self.last);
                    self.inbound.extend_from_slice(&last);
                    return Poll::Ready(Ok(last.len()));
                }
            }
        }
    }

    fn body_over(&mut self) {}

    fn poll_gone(&mut self, cx: &mut Task<'_>) -> Poll<()> {
        match &mut self.writer {
            Some(writer) => writer.poll_reset(cx).map(|_| ()),
            None => Pin::new(&mut self.session.idle()).poll(cx).map(|_| ()),
        }
    }

    fn interim(&mut self, _out: &mut Vec<u8>, _status: StatusCode, _fields: &HeaderMap) {}

    fn begin(&mut self, _out: &mut Vec<u8>, _status: StatusCode, sign: impl FnOnce(Option<&mut Vec<u8>>)) {
        sign(None);
    }

    fn answer(
        &mut self,
        _out: &mut Vec<u8>,
        mut fields: HeaderMap,
        said: Said,
        identity: &IdentityHeaders,
    ) -> io::Result<()> {
        serialize::stream_fields(&mut fields, said.framing, identity);
        let (mut head, ()) = http::Response::new(()).into_parts();
        (head.status, head.headers) = (said.status, fields);
        self.session.write_response_header(Box::new(head.into()), said.over).map_err(io::Error::other)?;
        self.writer = self.session.take_response_body_writer();
        self.owed = if let Framing::Length(length) = said.framing { Some(length) } else { None };
        self.ended = said.over;
        Ok(())
    }

    fn poll_vectored(&mut self, cx: &mut Task<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let Some(writer) = &mut self.writer else { return Poll::Ready(Err(gone())) };
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        writer.reserve_capacity(all);
        let room = loop {
            // What was granted before is not announced again.
            match writer.capacity() {
                0 => match ready!(writer.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Poll::Ready(Err(gone())),
                },
                room => break room.min(all),
            }
        };
        let mut data = room::piece(room);
        for slice in slices {
            let piece = slice.get(..slice.len().min(room - data.len())).unwrap_or_default();
            data.extend_from_slice(piece);
        }
        // Before the codec has them: what it sends at once has left before this returns.
        self.conn.unsent.queued(writer.stream_id().as_u32(), room);
        // The last of so many bytes says that it is, and needs no frame behind it that does.
        self.owed = self.owed.map(|owed| owed.saturating_sub(room as u64));
        self.ended = self.owed == Some(0);
        writer.send_data(data.freeze(), self.ended).map_err(io::Error::other)?;
        Poll::Ready(Ok(room))
    }

    fn poll_flush_all(&mut self, _cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// An answer that the codec holds takes its place among those that wait until it has left, where there is much of it.
    fn poll_over(
        &mut self,
        cx: &mut Task<'_>,
        source: Option<&Source>,
        identity: &IdentityHeaders,
    ) -> Poll<io::Result<()>> {
        let Some(writer) = &mut self.writer else { return Poll::Ready(Ok(())) };
        if self.ended {
            // Where it was reset, nothing will leave any more.
            let left = self.conn.unsent.poll_left(writer.stream_id().as_u32(), cx);
            return if left.is_ready() || writer.poll_reset(cx).is_ready() {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        }
        self.ended = true;
        let mut trailers = HeaderMap::new();
        for (name, value) in source.into_iter().flat_map(|source| source.trailers(identity)) {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value)) {
                trailers.append(name, value);
            }
        }
        let said = match trailers.is_empty() {
            true => writer.send_data(Bytes::new(), true),
            false => writer.send_trailers(trailers),
        };
        said.map_err(io::Error::other)?;
        self.conn.unsent.poll_left(writer.stream_id().as_u32(), cx).map(Ok)
    }
}
