//! From a permit to the end of the answer: an endpoint, a connection to it, tries, and what a failure is called.
use super::caller::Caller;
use super::conn::{Connection, NotConnected};
use super::exchange::{End, Exchange, Fail};
use super::serialize::{self, Lines};
use super::{Ask, Turn, own, tunnel};
use crate::config::settings::Timeouts;
use crate::serve::context::Context;
use crate::serve::forward;
use crate::serve::gateway::Gateway;
use crate::serve::stream::Wire;
use crate::serve::upstream::{Attempt, Failure};
use decide::refusal::{Code, Refusal};
use decide::request::Request;
use std::pin::Pin;
use tokio::task::yield_now;
use tokio::time::Sleep;

/// What became of a connection to an application that could not be used.
struct Broken {
    failure: Failure,
    replayable: bool,
}

/// What became of a request that had a permit.
pub(super) enum Carried {
    /// The answer is out, and whole; whether the client's connection can go on.
    Done { client: bool },
    /// The application speaks WebSocket now; this is the head of its answer.
    Tunnel { up: Connection, head: Vec<u8>, timeouts: Timeouts },
    /// The client has left.
    Gone,
    /// There is no answer: the client is to be told this.
    Refused(Refusal),
    /// The answer had begun and is not whole; whether nothing but its end would tell.
    Broken { refusal: Refusal, unframed: bool },
}

impl Gateway {
    /// Sends the request to the application and its answer to the client.
    pub(super) async fn forward(&self, wire: &mut Wire, ask: &mut Ask, ctx: &mut Context) -> Turn {
        let mut clock = wire.take_clock();
        let carried = self.carry_to(wire, ask, ctx, Some(clock.as_mut())).await;
        wire.put_clock(clock);
        match carried {
            Carried::Done { client } => {
                ctx.whole = true;
                if client { Turn::Next } else { Turn::Close }
            }
            Carried::Tunnel { up, head, timeouts } => tunnel::run(wire, up, head, &timeouts, ctx).await,
            Carried::Gone => Turn::Cut,
            // Where the request's body ends may not be known any more: the connection ends too.
            Carried::Refused(refusal) => {
                let made = self.refusal(refusal, &ask.fields, ask.to_head(), ctx);
                own::answer(wire, ask, ctx, made, true).await
            }
            Carried::Broken { refusal, unframed } => {
                if unframed {
                    wire.end_loudly();
                }
                ctx.refusal = Some(refusal);
                Turn::Cut
            }
        }
    }

    /// The same for every kind of client, with as many tries as there may be.
    /// `clock` is one that the client's connection has, if it has one.
    pub(super) async fn carry_to<C: Caller>(
        &self,
        client: &mut C,
        ask: &mut Ask,
        ctx: &mut Context,
        mut clock: Option<Pin<&mut Sleep>>,
    ) -> Carried {
        // All that is ready is decided before any of it is sent. What goes to applications leaves close together: they are
        // woken once for several requests and not for each, which costs whoever wakes them more than deciding does.
        yield_now().await;
        let mut fresh = false;
        loop {
            match forward::lease(ctx, &ask.fields) {
                Ok(lease) => ctx.lease = Some(lease),
                Err(refusal) => return Carried::Refused(refusal),
            }
            let mut up = match self.connection(ask, ctx, fresh).await {
                Ok(up) => up,
                Err(refusal) => {
                    ctx.refusal = Some(refusal.clone());
                    if may_retry(ask, ctx, &Broken { failure: Failure::Connect, replayable: true }) {
                        continue;
                    }
                    return Carried::Refused(refusal);
                }
            };
            let mut head = begin(ask, ctx);
            if let Err(refusal) = self.edit_request(&mut Lines { map: &mut ask.fields, out: &mut head }, ctx) {
                return Carried::Refused(refusal);
            }
            let Some(timeouts) = ctx.lease.as_ref().map(|lease| *lease.timeouts()) else { return Carried::Gone };
            let mut exchange = Exchange::new(self, client, &mut up, (ask, head), ctx, timeouts);
            let end = exchange.run(clock.as_mut().map(Pin::as_mut)).await;
            let answering = exchange.answering();
            let unframed = answering && !exchange.download.framed;
            let (untouched, nothing_sent) = (!exchange.upload.begun, exchange.upload.sent == 0);
            let held = exchange.upload.refused.is_none() && !exchange.upload.over;
            exchange.up.used = exchange.moved.1.into_std();
            drop(exchange);
            let fail = match end {
                Ok(End::Done { application, client }) => {
                    if application {
                        keep(ctx, up);
                    }
                    return Carried::Done { client };
                }
                Ok(End::Tunnel(head)) => return Carried::Tunnel { up, head, timeouts },
                Err(fail) => fail,
            };
            let reused = up.reused;
            drop(up);
            let Some(refusal) = named(fail, reused, held, ctx) else { return Carried::Gone };
            if answering {
                return Carried::Broken { refusal, unframed };
            }
            let broke = refusal.code == Code::UpstreamUnreachable && refusal.cause.starts_with(BROKE);
            if broke {
                if reused && let Some(lease) = &ctx.lease {
                    // What has closed this one has closed the others that waited.
                    lease.pool().idle.clear(lease.address());
                    fresh = true;
                }
                let failure = if nothing_sent { Failure::Connect } else { Failure::Reset };
                if may_retry(ask, ctx, &Broken { failure, replayable: untouched }) {
                    continue;
                }
            }
            return Carried::Refused(refusal);
        }
    }

    /// A connection to the endpoint of the lease: one that waits, or a new one.
    async fn connection(&self, ask: &Ask, ctx: &mut Context, fresh: bool) -> Result<Connection, Refusal> {
        let Some(lease) = &ctx.lease else {
            return Err(Refusal::new(Code::GatewayUnavailable, "a request without endpoint"));
        };
        // What cannot be sent twice must not be sent in vain.
        let certain = !ask.method.is_idempotent() || !ask.body().over();
        if let (false, Some(now)) = (fresh, ctx.sent)
            && let Some(kept) = lease.pool().idle.take(lease.address(), certain, now)
        {
            return Ok(kept);
        }
        let error = match Connection::open(lease.target(), lease.timeouts().connect).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        let refusal = match error {
            NotConnected::Timeout => Refusal::new(Code::UpstreamTimeout, "Upstream: ConnectTimedout"),
            NotConnected::Io(e) => Refusal::new(Code::UpstreamUnreachable, format!("Upstream: ConnectError: {e}")),
            NotConnected::Tls(e) => {
                Refusal::new(Code::UpstreamUnreachable, format!("Upstream: TLSHandshakeFailure: {e}"))
            }
        };
        lease.unreachable(&refusal.cause);
        let endpoint = lease.address();
        ctx.tried_in_vain(endpoint);
        Err(refusal)
    }
}

/// How the cause of a connection that broke begins.
const BROKE: &str = "Upstream: ConnectionClosed";

/// What a failure is called, and what it says about the endpoint; `None` where there is nobody to tell.
fn named(fail: Fail, reused: bool, held: bool, ctx: &mut Context) -> Option<Refusal> {
    let endpoint = ctx.lease.as_ref().map(|lease| lease.address());
    let lease = ctx.lease.as_ref();
    match fail {
        Fail::Gone => None,
        Fail::Refused(refusal) => Some(refusal),
        Fail::Slow(cause) => {
            if let Some(lease) = lease.filter(|_| !held) {
                lease.timed_out();
            }
            Some(Refusal::new(Code::UpstreamTimeout, cause))
        }
        Fail::Nonsense(cause) => {
            if let Some(lease) = lease {
                lease.broke(&cause);
            }
            Some(Refusal::new(Code::UpstreamUnreachable, format!("Upstream: InvalidHTTPHeader: {cause}")))
        }
        Fail::Broke(cause) => {
            // That an application closes a connection that it had kept says nothing about it.
            if let (Some(lease), Some(endpoint), false) = (lease, endpoint, reused) {
                lease.broke(&cause);
                ctx.tried_in_vain(endpoint);
            }
            Some(Refusal::new(Code::UpstreamUnreachable, format!("{BROKE}: {cause}")))
        }
    }
}

/// The first line of the request as the application reads it.
fn begin(ask: &Ask, ctx: &Context) -> Vec<u8> {
    let target = ctx.request.as_ref().map_or_else(|| "/".into(), Request::target);
    serialize::request_line(ask.method.as_str(), &target)
}

/// Whether the request may be sent again, by the one rule for every way to an application.
fn may_retry(ask: &Ask, ctx: &Context, broken: &Broken) -> bool {
    let Some(lease) = ctx.lease.as_ref().filter(|lease| ctx.tried.len() < lease.pool().len()) else { return false };
    lease.may_retry(&Attempt {
        failure: broken.failure,
        idempotent: ask.method.is_idempotent(),
        replayable: broken.replayable,
        tries: ctx.tries,
    })
}

fn keep(ctx: &Context, up: Connection) {
    if let Some(lease) = &ctx.lease {
        lease.pool().idle.put(lease.address(), up);
    }
}
