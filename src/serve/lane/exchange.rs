//! One try of one request: both directions at once, each with bounded buffers, under one set of clocks.
use super::Ask;
use super::body::{Outgoing, Source};
use super::caller::Caller;
use super::clock::Due;
use super::conn::Connection;
use super::download::Opening;
use super::serialize::{self, Framing};
use crate::config::settings::Timeouts;
use crate::serve::context::Context;
use crate::serve::gateway::Gateway;
use crate::serve::head::After;
use crate::serve::shares::UnreadPlace;
use bytes::Bytes;
use decide::refusal::{Code, Refusal};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context as Task, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How a try failed.
#[derive(Debug)]
pub(super) enum Fail {
    /// The client has left.
    Gone,
    /// The client is to be told this.
    Refused(Refusal),
    /// The application broke off.
    Broke(String),
    /// What the application sent is no HTTP.
    Nonsense(String),
    /// The application was too slow.
    Slow(&'static str),
}

/// How a try ended.
#[derive(Debug)]
pub(super) enum End {
    /// The answer is out; whether the application's connection and the client's can go on.
    Done { application: bool, client: bool },
    /// The application speaks WebSocket now; this is the head of its answer.
    Tunnel(Vec<u8>),
}

/// The body on its way to the application.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) out: Outgoing,
    pub(super) source: Source,
    pub(super) chunked: bool,
    /// Whether the end of the body was added to `out`.
    pub(super) ended: bool,
    /// Whether the body waits for the application's leave.
    pub(super) held: bool,
    /// All is sent, or nothing more will be.
    pub(super) over: bool,
    /// The application takes no more.
    pub(super) refused: Option<String>,
    /// Bytes of the request that were sent.
    pub(super) sent: usize,
    /// Whether bytes of the body were taken from the client.
    pub(super) begun: bool,
    /// Whether it waits for the client, not for the application.
    pub(super) wants_client: bool,
}

/// The answer on its way to the client.
#[derive(Debug)]
pub(super) struct Download {
    pub(super) out: Outgoing,
    /// The body, once there is a head.
    pub(super) source: Option<Source>,
    pub(super) chunked: bool,
    /// Whether its end is said in the answer itself.
    pub(super) framed: bool,
    pub(super) ended: bool,
    pub(super) interims: usize,
    /// Bytes of the next head that hold no end of a line.
    pub(super) seen: usize,
    /// Whether the application's connection can carry another request.
    pub(super) reusable: bool,
    pub(super) tunnel: Option<Vec<u8>>,
    /// The head of an answer that waits for a session to be opened.
    pub(super) opening: Option<Opening>,
    /// Whether it waits for the client, not for the application.
    pub(super) wants_client: bool,
}

pub(super) struct Exchange<'a, C> {
    pub(super) gateway: &'a Gateway,
    pub(super) client: &'a mut C,
    pub(super) up: &'a mut Connection,
    pub(super) ask: &'a Ask,
    pub(super) ctx: &'a mut Context,
    pub(super) upload: Upload,
    pub(super) download: Download,
    pub(super) timeouts: Timeouts,
    /// Longest pause of the client in its body, or before it takes a piece of the answer.
    pub(super) patience: Duration,
    /// The place of an answer that waits for its client, while it has one.
    pub(super) unread: Option<UnreadPlace>,
    /// Whether the client was told to go on with its body.
    pub(super) continued: bool,
    /// Whether the client's connection ends with this answer.
    pub(super) closing: bool,
    pub(super) begun: Instant,
    /// When the answer was over, where the request was not.
    pub(super) answered: Option<Instant>,
    /// When something last moved towards the application, and towards the client.
    pub(super) moved: (Instant, Instant),
    /// What the clock said in this turn, if anybody has asked.
    now: Option<Instant>,
}

impl<'a, C: Caller> Exchange<'a, C> {
    /// `head` is that of the request, as far as it has been written: all but the fields that are the client's.
    pub(super) fn new(
        gateway: &'a Gateway,
        client: &'a mut C,
        up: &'a mut Connection,
        (ask, mut head): (&'a Ask, Vec<u8>),
        ctx: &'a mut Context,
        timeouts: Timeouts,
    ) -> Exchange<'a, C> {
        let now = Instant::now();
        let framing = match (ask.length(), ask.after) {
            (Some(length), _) => Framing::Length(length),
            (None, After::Chunks) => Framing::Chunked,
            (None, After::Body(_) | After::WebSocket(_)) => Framing::None,
        };
        let about = match (ask.upgrade(), ask.trailers) {
            (true, _) => serialize::Connection::Upgrade,
            (false, true) => serialize::Connection::Trailers,
            (false, false) => serialize::Connection::Silent,
        };
        serialize::request(&mut head, &ask.fields, framing, (ask.expects, about), &ctx.active.snapshot.identity);
        Exchange {
            upload: Upload {
                out: Outgoing::of(head),
                source: ask.body(),
                chunked: framing == Framing::Chunked,
                ended: false,
                held: ask.expects,
                over: false,
                refused: None,
                sent: 0,
                begun: false,
                wants_client: false,
            },
            download: Download {
                out: Outgoing::default(),
                source: None,
                chunked: false,
                framed: true,
                ended: false,
                interims: 0,
                seen: 0,
                reusable: false,
                tunnel: None,
                opening: None,
                wants_client: false,
            },
            patience: client.patience(),
            unread: None,
            continued: false,
            closing: !ask.keep_alive,
            begun: now,
            answered: None,
            moved: (now, now),
            now: Some(now),
            gateway,
            client,
            up,
            ask,
            ctx,
            timeouts,
        }
    }

    /// Whether the answer, its head at least, is on its way to the client.
    pub(super) fn answering(&self) -> bool {
        self.download.source.is_some()
    }

    /// Carries the request and its answer to the end. Cancelling it leaves both connections unusable. `sleep` may be any: it
    /// is set.
    pub(super) async fn run(&mut self, sleep: Option<Pin<&mut Sleep>>) -> Result<End, Fail> {
        let Some(mut sleep) = sleep else {
            let mut sleep = pin!(tokio::time::sleep_until(self.deadline().0));
            return poll_fn(|cx| self.poll(cx, sleep.as_mut())).await;
        };
        poll_fn(|cx| self.poll(cx, sleep.as_mut())).await
    }

    /// What the clock says, asked once in a turn: none of them lasts long.
    pub(super) fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    fn poll(&mut self, cx: &mut Task<'_>, sleep: Pin<&mut Sleep>) -> Poll<Result<End, Fail>> {
        let polled = self.turn(cx, sleep);
        self.now = None;
        polled
    }

    fn turn(&mut self, cx: &mut Task<'_>, sleep: Pin<&mut Sleep>) -> Poll<Result<End, Fail>> {
        if !self.upload.over
            && let Poll::Ready(Err(fail)) = self.poll_upload(cx)
        {
            // A client that has its answer may leave.
            return Poll::Ready(if self.answered.is_some() { Ok(self.done()) } else { Err(fail) });
        }
        if self.answered.is_none()
            && let Poll::Ready(end) = self.poll_download(cx)
        {
            if end.is_err() || !matches!(end, Ok(End::Done { .. })) || self.upload.over {
                return Poll::Ready(end);
            }
            // What is left of the body is mostly on its way already, and then both connections can go on.
            self.answered = Some(self.now());
        }
        if self.answered.is_some() && self.upload.over {
            return Poll::Ready(Ok(self.done()));
        }
        // The application's leave to go on may just have come.
        if !self.upload.over
            && self.continued
            && let Poll::Ready(Err(fail)) = self.poll_upload(cx)
        {
            return Poll::Ready(Err(fail));
        }
        // Whoever sends no body and reads no answer has left, or sends its next request.
        if self.upload.over && self.upload.refused.is_none() && self.client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Fail::Gone));
        }
        self.keep_place();
        self.poll_clock(cx, sleep)
    }

    /// Takes a place for an answer that begins to wait for its client, and gives it back where it waits no more.
    fn keep_place(&mut self) {
        let waits = self.download.wants_client && self.answered.is_none();
        if !waits {
            self.unread = None;
        } else if self.unread.is_none() {
            self.unread = self.gateway.shared.unread.take(self.client.conn().account.as_ref());
        }
    }

    fn poll_clock(&mut self, cx: &mut Task<'_>, mut sleep: Pin<&mut Sleep>) -> Poll<Result<End, Fail>> {
        loop {
            let (at, due) = self.deadline();
            // Deadlines mostly move away: the clock is set anew when it rings.
            if at < sleep.deadline() || sleep.is_elapsed() {
                sleep.as_mut().reset(at);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if at > Instant::now() {
                continue;
            }
            match due {
                Due::Leave => {
                    // Not every application answers the expectation; the client may have stopped waiting itself.
                    self.go_on();
                    if let Poll::Ready(Err(fail)) = self.poll_upload(cx) {
                        return Poll::Ready(Err(fail));
                    }
                    if let Poll::Ready(end) = self.poll_download(cx) {
                        return Poll::Ready(end);
                    }
                }
                Due::Body => {
                    let refusal = Refusal::new(Code::RequestTimeout, "the body did not come in time");
                    return Poll::Ready(Err(Fail::Refused(refusal)));
                }
                Due::Client => {
                    let refusal = Refusal::new(Code::RequestTimeout, "the client does not take the answer");
                    return Poll::Ready(Err(Fail::Refused(refusal)));
                }
                Due::Rest => return Poll::Ready(Ok(self.done())),
                Due::Application(what) => return Poll::Ready(Err(Fail::Slow(what))),
            }
        }
    }

    /// Lets the client send its body, and tells it so if it waits to be told.
    pub(super) fn go_on(&mut self) {
        self.upload.held = false;
        if self.ask.expects && !self.ask.old && !self.continued && !self.upload.begun && !self.answering() {
            self.download.out.before.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.continued = true;
        self.moved.0 = self.now();
    }

    /// Reads a head of the application that is complete.
    pub(super) fn take_head(&mut self, length: usize) -> Bytes {
        self.download.seen = 0;
        self.up.inbound.split_to(length.min(self.up.inbound.len())).freeze()
    }
}
