//! From a permit to the end of the answer: an endpoint, a connection to it, tries, and what a failure is called.
use super::conn::{Connection, NotConnected};
use super::exchange::{End, Exchange, Fail};
use super::{Ask, Turn, own, tunnel};
use crate::serve::context::Context;
use crate::serve::forward;
use crate::serve::gateway::Gateway;
use crate::serve::stream::Wire;
use crate::serve::upstream::{Attempt, Failure};
use decide::refusal::{Code, Refusal};

/// What became of a connection to an application that could not be used.
struct Broken {
    failure: Failure,
    replayable: bool,
}

impl Gateway {
    /// Sends the request to the application and its answer to the client.
    pub(super) async fn forward(&self, wire: &mut Wire, ask: &mut Ask, ctx: &mut Context) -> Turn {
        let mut fresh = false;
        loop {
            match forward::lease(ctx, &ask.fields) {
                Ok(lease) => ctx.lease = Some(lease),
                Err(refusal) => return self.fail(wire, ask, ctx, refusal).await,
            }
            let mut up = match self.connection(ask, ctx, fresh).await {
                Ok(up) => up,
                Err(refusal) => {
                    ctx.refusal = Some(refusal.clone());
                    if may_retry(ask, ctx, &Broken { failure: Failure::Connect, replayable: true }) {
                        continue;
                    }
                    return self.fail(wire, ask, ctx, refusal).await;
                }
            };
            if let Err(refusal) = self.edit_request(&mut ask.fields, ctx) {
                return self.fail(wire, ask, ctx, refusal).await;
            }
            let Some(timeouts) = ctx.lease.as_ref().map(|lease| *lease.timeouts()) else { return Turn::Close };
            let mut exchange = Exchange::new(self, wire, &mut up, ask, ctx, timeouts);
            let end = exchange.run().await;
            let answering = exchange.answering();
            let unframed = answering && !exchange.download.framed;
            let (untouched, nothing_sent) = (!exchange.upload.begun, exchange.upload.sent == 0);
            let held = exchange.upload.refused.is_none() && !exchange.upload.over;
            drop(exchange);
            let fail = match end {
                Ok(End::Done { application, client }) => {
                    ctx.whole = true;
                    if application {
                        keep(ctx, up);
                    }
                    return if client { Turn::Next } else { Turn::Close };
                }
                Ok(End::Tunnel(head)) => return tunnel::run(wire, up, head, &timeouts, ctx).await,
                Err(fail) => fail,
            };
            let reused = up.reused;
            drop(up);
            let refusal = match named(fail, reused, held, ctx) {
                Some(refusal) => refusal,
                None => return Turn::Cut,
            };
            if answering {
                if unframed {
                    wire.end_loudly();
                }
                ctx.refusal = Some(refusal);
                return Turn::Cut;
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
            return self.fail(wire, ask, ctx, refusal).await;
        }
    }

    /// A connection to the endpoint of the lease: one that waits, or a new one.
    async fn connection(&self, ask: &Ask, ctx: &mut Context, fresh: bool) -> Result<Connection, Refusal> {
        let Some(lease) = &ctx.lease else {
            return Err(Refusal::new(Code::GatewayUnavailable, "a request without endpoint"));
        };
        // What cannot be sent twice must not be sent in vain.
        let certain = !ask.method.is_idempotent() || !ask.body().over();
        if !fresh && let Some(kept) = lease.pool().idle.take(lease.address(), certain) {
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

    /// Answers with a refusal and ends the connection: where the request's body ends may not be known any more.
    async fn fail(&self, wire: &mut Wire, ask: &Ask, ctx: &mut Context, refusal: Refusal) -> Turn {
        let made = self.refusal(refusal, &ask.fields, ask.to_head(), ctx);
        own::answer(wire, ask, ctx, made, true).await
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
