//! The answer on its way to the client: strictly read, dressed, framed anew.
use super::body::{PIECE, Source, Step};
use super::caller::{Caller, Said};
use super::conn::HEAD_ROOM;
use super::exchange::{End, Exchange, Fail};
use super::serialize::{self, Connection, Framing, Lines};
use crate::serve::forward::{MOST_BYTES, MOST_FIELDS, dress_interim};
use crate::serve::grant::Cookie;
use crate::serve::head::{USUAL_FIELDS, add_field};
use bytes::Bytes;
use decide::refusal::Refusal;
use decide::reply::{self, Ending, ReplyView};
use http::{HeaderMap, StatusCode};
use memchr::memchr_iter;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};

/// Most interim answers before the final one.
const MOST_INTERIMS: usize = 16;

/// The head of an answer, and the session that it grants.
pub(super) struct Opening {
    cookie: Pin<Box<dyn Future<Output = Result<Cookie, Refusal>> + Send>>,
    raw: Bytes,
    fields: HeaderMap,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opening")
    }
}

impl<C: Caller> Exchange<'_, C> {
    /// Passes the answer on until it is over, or something must be waited for.
    pub(super) fn poll_download(&mut self, cx: &mut Task<'_>) -> Poll<Result<End, Fail>> {
        loop {
            ready!(self.poll_opening(cx))?;
            if self.answering() {
                if !self.download.ended && self.download.out.has_room() {
                    self.add_answer(false)?;
                }
            } else if self.next_head()? {
                continue;
            }
            self.download.wants_client = true;
            if !self.download.out.is_empty() {
                let (client, out) = (&mut *self.client, &mut self.download.out);
                if ready!(out.poll(&mut self.up.inbound, |slices| client.poll_vectored(cx, slices))).is_err() {
                    return Poll::Ready(Err(Fail::Gone));
                }
                self.moved.1 = self.now();
            }
            if self.download.ended && self.download.out.is_empty() {
                let identity = &self.ctx.active.snapshot.identity;
                if ready!(self.client.poll_over(cx, self.download.source.as_ref(), identity)).is_err() {
                    return Poll::Ready(Err(Fail::Gone));
                }
                return Poll::Ready(Ok(self.done()));
            }
            if let Some(head) = self.download.tunnel.take() {
                return Poll::Ready(Ok(End::Tunnel(head)));
            }
            if self.answering() && !self.up.inbound.is_empty() {
                continue;
            }
            match self.client.poll_flush_all(cx) {
                Poll::Ready(Ok(())) => self.download.wants_client = false,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Fail::Gone)),
                Poll::Pending => {}
            }
            let room = if self.answering() { PIECE } else { HEAD_ROOM };
            match ready!(self.up.poll_more(cx, room)) {
                Ok(0) => self.application_ends()?,
                Ok(_) => self.moved.1 = self.now(),
                Err(error) => return Poll::Ready(Err(Fail::Broke(error.to_string()))),
            }
        }
    }

    pub(super) fn done(&self) -> End {
        let whole = self.upload.over && self.upload.refused.is_none();
        let application = self.download.reusable && whole && self.up.inbound.is_empty() && !self.ask.has_odd_body();
        End::Done { application, client: whole && !self.closing }
    }

    /// Its connection has ended: that may be the end of a body, or come too early.
    fn application_ends(&mut self) -> Result<(), Fail> {
        match &self.download.source {
            Some(Source::Close) => self.add_answer(true),
            Some(_) => Err(Fail::Broke("the answer ends early".to_owned())),
            None => {
                let cause = self.upload.refused.take();
                Err(Fail::Broke(cause.unwrap_or_else(|| "closed before an answer".to_owned())))
            }
        }
    }

    /// Adds what has come of the body to what goes to the client.
    fn add_answer(&mut self, ends: bool) -> Result<(), Fail> {
        let download = &mut self.download;
        let Some(source) = &mut download.source else { return Ok(()) };
        let step = source.step(&mut self.up.inbound).map_err(|refusal| Fail::Nonsense(refusal.cause.into_owned()))?;
        match step {
            Step::Data(bytes) => {
                self.ctx.bytes_out = self.ctx.bytes_out.saturating_add(bytes as u64);
                download.out.data(bytes, download.chunked);
                download.ended = !download.chunked && source.over();
            }
            Step::More if !ends => {}
            Step::Over | Step::More => {
                if download.chunked {
                    download.out.last_chunk(source, &self.ctx.active.snapshot.identity);
                }
                download.ended = true;
            }
        }
        Ok(())
    }

    /// Reads a head, where one is complete.
    fn next_head(&mut self) -> Result<bool, Fail> {
        if self.download.tunnel.is_some() {
            return Ok(false);
        }
        let inbound = &self.up.inbound;
        let from = self.download.seen.saturating_sub(3);
        let rest = inbound.get(from..).unwrap_or_default();
        let is_end = |at: &usize| rest.get(at.saturating_sub(3)..=*at) == Some(b"\r\n\r\n");
        let Some(length) = memchr_iter(b'\n', rest).find(is_end).map(|at| from + at + 1) else {
            self.download.seen = inbound.len();
            let cause = match inbound.first() {
                _ if inbound.len() > MOST_BYTES => "the head of its answer is too large",
                Some(first) if *first != b'H' => "no status line of HTTP/1",
                _ => return Ok(false),
            };
            return Err(Fail::Nonsense(cause.to_owned()));
        };
        if length > MOST_BYTES {
            return Err(Fail::Nonsense("the head of its answer is too large".to_owned()));
        }
        let raw = self.take_head(length);
        let mut fields = Some(HeaderMap::with_capacity(USUAL_FIELDS));
        let view = reply::check_each(&raw, MOST_FIELDS, |name, value| add_field(&mut fields, &raw, name, value))
            .map_err(|cause| Fail::Nonsense(cause.into_owned()))?;
        let fields = fields.ok_or_else(|| Fail::Nonsense("an invalid field".to_owned()))?;
        let status = StatusCode::from_u16(view.status).map_err(|_| Fail::Nonsense("no status".to_owned()))?;
        match status {
            StatusCode::SWITCHING_PROTOCOLS => self.switch(&view, status, fields)?,
            _ if status.is_informational() => self.interim(status, fields)?,
            _ => {
                let mut fields = fields;
                match self.gateway.granted(status, &mut fields, self.ctx).map_err(Fail::Refused)? {
                    None => self.head(&view, status, fields)?,
                    Some(granted) => {
                        self.download.opening =
                            Some(Opening { cookie: Box::pin(granted.open()), raw: raw.clone(), fields });
                    }
                }
            }
        }
        Ok(true)
    }

    /// Waits for the session that the head of an answer grants, and goes on with that head.
    fn poll_opening(&mut self, cx: &mut Task<'_>) -> Poll<Result<(), Fail>> {
        let Some(opening) = &mut self.download.opening else { return Poll::Ready(Ok(())) };
        let cookie = ready!(opening.cookie.as_mut().poll(cx)).map_err(Fail::Refused)?;
        let Some(Opening { raw, fields, .. }) = self.download.opening.take() else { return Poll::Ready(Ok(())) };
        self.ctx.opened = Some(cookie);
        let view = reply::check(&raw, MOST_FIELDS).map_err(|cause| Fail::Nonsense(cause.into_owned()))?;
        let status = StatusCode::from_u16(view.status).map_err(|_| Fail::Nonsense("no status".to_owned()))?;
        Poll::Ready(self.head(&view, status, fields))
    }

    fn interim(&mut self, status: StatusCode, mut fields: HeaderMap) -> Result<(), Fail> {
        self.download.interims += 1;
        if self.download.interims > MOST_INTERIMS {
            return Err(Fail::Nonsense("interim answers without end".to_owned()));
        }
        if status == StatusCode::CONTINUE {
            self.go_on();
        } else if !self.ask.old {
            dress_interim(&mut fields);
            self.client.interim(&mut self.download.out.before, status, &fields);
        }
        Ok(())
    }

    fn switch(&mut self, view: &ReplyView<'_>, status: StatusCode, mut fields: HeaderMap) -> Result<(), Fail> {
        if !self.ask.upgrade() || !view.websocket {
            return Err(Fail::Nonsense("a switch of protocols that nobody asked for".to_owned()));
        }
        self.gateway.dress_response(status, &mut fields, self.ctx).map_err(Fail::Refused)?;
        let mut head = Vec::new();
        serialize::status_line(&mut head, status);
        self.gateway.sign_response(&mut Lines { map: &mut fields, out: &mut head }, self.ctx);
        let identity = &self.ctx.active.snapshot.identity;
        serialize::answer(&mut head, status, &fields, Framing::None, Connection::Upgrade, identity);
        self.download.tunnel = Some(head);
        Ok(())
    }

    fn head(&mut self, view: &ReplyView<'_>, status: StatusCode, mut fields: HeaderMap) -> Result<(), Fail> {
        self.gateway.dress_response(status, &mut fields, self.ctx).map_err(Fail::Refused)?;
        let ending = view.ending(self.ask.to_head());
        let bodiless = self.ask.to_head() || matches!(view.status, 204 | 304);
        let framing = match ending {
            _ if bodiless && view.status != 204 => view.content_length.map_or(Framing::None, Framing::Length),
            _ if bodiless => Framing::None,
            Ending::Length(length) => Framing::Length(length),
            Ending::Chunks | Ending::Close if C::ENDS => Framing::None,
            Ending::Chunks | Ending::Close if self.ask.old => Framing::Close,
            Ending::Chunks | Ending::Close => Framing::Chunked,
        };
        // An application that closes will not read the rest of the body, and so nobody will.
        let unread = !self.upload.over || self.upload.refused.is_some();
        let stops = unread && (!view.keep_alive || self.upload.held || self.upload.refused.is_some());
        self.closing |= framing == Framing::Close || stops || self.client.conn().draining();
        if stops {
            self.upload.over = true;
            self.upload.refused.get_or_insert_with(|| "answered before the end of the body".to_owned());
        }
        let about = match (self.closing, self.ask.old) {
            (true, _) => Connection::Close,
            (false, true) => Connection::KeepAlive,
            (false, false) => Connection::Silent,
        };
        self.client.begin(&mut self.download.out.before, status, |out| match out {
            Some(out) => self.gateway.sign_response(&mut Lines { map: &mut fields, out }, self.ctx),
            None => self.gateway.sign_response(&mut fields, self.ctx),
        });
        let identity = &self.ctx.active.snapshot.identity;
        let said = Said { status, framing, about, over: ending == Ending::Length(0) };
        if self.client.answer(&mut self.download.out.before, fields, said, identity).is_err() {
            return Err(Fail::Gone);
        }
        let pretends = view.status == 204 && view.content_length.is_some_and(|length| length > 0);
        self.download.reusable = view.keep_alive && ending != Ending::Close && !pretends;
        self.download.chunked = framing == Framing::Chunked;
        self.download.framed = framing != Framing::Close;
        self.download.source = Some(match ending {
            Ending::Length(length) => Source::Length(length),
            Ending::Chunks => Source::chunks(),
            Ending::Close => Source::Close,
        });
        Ok(())
    }
}
