//! Our own data path to applications that speak HTTP/1.1: a client on our wire, or on a stream of HTTP/2.
//!
//! ```text
//! head (already judged) -> Ask -> Gateway::admit -> endpoint -> Connection -> Exchange -> next head
//! ```
//!
//! What an upstream with HTTP/2 is to get goes to pingora with its decision. Streams come here with theirs: their frames
//! are the codec's, everything behind them is the same.
mod ask;
mod body;
mod caller;
mod clock;
mod conn;
mod download;
mod exchange;
mod forward;
mod idle;
mod own;
mod peek;
mod serialize;
mod stream;
mod streamed;
mod tunnel;
mod upload;

pub(crate) use clock::HASTE;
pub use idle::Idle;
pub(crate) use stream::TRAILERS;
pub(crate) use streamed::take_rest;

use crate::config::settings::HttpVersion;
use crate::serve::admit::Admitted;
use crate::serve::context::Context;
use crate::serve::gateway::Gateway;
use crate::serve::gather::Stamp;
use crate::serve::head::Taken;
use crate::serve::stream::Wire;
use ask::Ask;
use decide::refusal::{Code, Refusal};
use peek::Peek;
use std::sync::{Mutex, PoisonError};

/// What becomes of a client's connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The next request may begin.
    Next,
    /// It ends in order: what was sent arrives.
    Close,
    /// It is cut off where it is, so that an answer which is not whole does not look so.
    Cut,
    /// The request is pingora's; its head is still in the wire.
    Pingora,
}

/// Why a request that pingora has read otherwise than we, or not at all, is refused.
pub(crate) const UNREAD: &str = "the proxy could not read the request";

/// Where a request that was decided here waits for pingora to take it.
#[derive(Default)]
pub struct Handover(Mutex<Option<Box<Context>>>);

impl std::fmt::Debug for Handover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handover")
    }
}

impl Handover {
    fn put(&self, context: Context) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(context));
    }

    /// The end of a request that pingora has not taken: it has answered by itself.
    pub(crate) fn clear(&self) -> bool {
        let Some(mut unseen) = self.take() else { return false };
        unseen.refusal = Some(Refusal::new(Code::RequestMalformed, UNREAD));
        unseen.tell();
        true
    }

    /// The request that waits, if one does.
    pub fn take(&self) -> Option<Context> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map(|context| *context)
    }
}

impl Gateway {
    /// Serves the request whose head was taken from the wire.
    pub(crate) async fn serve(&self, wire: &mut Wire, taken: Taken) -> Turn {
        let conn = wire.conn().clone();
        wire.begun(&taken.head);
        let (raw, mut ask) = Ask::of_wire(taken);
        let mut ctx = Context::new(self.shared.clone(), self.shared.active(), Stamp::now());
        let mut client = Peek { wire, ask: &mut ask };
        let turn = match self.admit(&mut client, &conn, &mut ctx).await {
            Ok(Admitted::Forward) if speaks_http2(&ctx) => {
                wire.give_back(&raw);
                conn.handover.put(ctx);
                return Turn::Pingora;
            }
            Ok(Admitted::Forward) => {
                drop(raw);
                self.forward(wire, &mut ask, &mut ctx).await
            }
            Ok(Admitted::Own(made)) => own::answer(wire, &ask, &mut ctx, made, false).await,
            Ok(Admitted::Left) => Turn::Cut,
            Err(refusal) => {
                let close = crate::serve::forward::must_close(refusal.code);
                let made = self.refusal(refusal, &ask.fields, ask.to_head(), &mut ctx);
                own::answer(wire, &ask, &mut ctx, made, close).await
            }
        };
        ctx.tell();
        turn
    }
}

fn speaks_http2(ctx: &Context) -> bool {
    let upstream = ctx.permit.as_ref().and_then(|permit| ctx.active.upstreams.get(permit.destination().upstream));
    upstream.is_some_and(|pool| pool.settings.version == HttpVersion::Http2)
}
