//! Answers of the gateway's own making, and what is left of the request's body when they are out.
use super::body::Step;
use super::serialize::{self, Connection, Framing};
use super::{Ask, Turn};
use crate::serve::context::Context;
use crate::serve::respond::Made;
use crate::serve::stream::Wire;
use bytes::Buf;
use http::StatusCode;
use std::future::poll_fn;
use std::io::IoSlice;
use std::time::Duration;
use tokio::time::timeout;

/// Greatest rest of a body that is read away so that the connection can go on, and the time for it.
const REST: (u64, Duration) = (64 * 1024, Duration::from_secs(5));

/// Sends an answer. `close` where the connection must not go on.
pub(super) async fn answer(wire: &mut Wire, ask: &Ask, ctx: &mut Context, made: Made, close: bool) -> Turn {
    // Who waits to be told to send a body may send it now or not: where the next request begins is not known.
    let large = ask.length().is_some_and(|length| length > REST.0);
    let close = close || !ask.keep_alive || ask.expects || large || wire.conn().draining();
    let about = match (close, ask.old) {
        (true, _) => Connection::Close,
        (false, true) => Connection::KeepAlive,
        (false, false) => Connection::Silent,
    };
    let length = match made.headers.get(http::header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok()) {
        Some(said) if ask.to_head() => said,
        _ => made.body.len() as u64,
    };
    ctx.status = made.status.as_u16();
    let mut out = Vec::new();
    let identity = &ctx.active.snapshot.identity;
    // RFC 9110, 8.6: what cannot have a body has no length either.
    let framing = if made.status == StatusCode::NO_CONTENT { Framing::None } else { Framing::Length(length) };
    serialize::status_line(&mut out, made.status);
    serialize::answer(&mut out, made.status, &made.headers, framing, about, identity);
    if !ask.to_head() {
        ctx.bytes_out = made.body.len() as u64;
        out.extend_from_slice(&made.body);
    }
    let patience = wire.conn().settings.stall_timeout;
    let mut at = 0;
    let sent = poll_fn(|cx| {
        while let Some(rest) = out.get(at..).filter(|rest| !rest.is_empty()) {
            at += std::task::ready!(wire.poll_vectored(cx, &[IoSlice::new(rest)]))?;
        }
        wire.poll_flush_all(cx)
    });
    match timeout(patience, sent).await {
        Ok(Ok(())) if close => Turn::Close,
        Ok(Ok(())) => rest(wire, ask).await,
        Ok(Err(_)) | Err(_) => Turn::Cut,
    }
}

/// Reads away what is left of the body.
async fn rest(wire: &mut Wire, ask: &Ask) -> Turn {
    let mut source = ask.body();
    if source.over() {
        wire.body_over();
        return Turn::Next;
    }
    let drained = async {
        let mut taken = 0;
        loop {
            match source.step(wire.inbound()) {
                Ok(Step::Data(bytes)) => {
                    wire.inbound().advance(bytes);
                    taken += bytes as u64;
                }
                Ok(Step::Over) => return true,
                Ok(Step::More) if taken <= REST.0 => {
                    if !matches!(poll_fn(|cx| wire.poll_more(cx)).await, Ok(1..)) {
                        return false;
                    }
                }
                Ok(Step::More) | Err(_) => return false,
            }
        }
    };
    match timeout(REST.1, drained).await {
        Ok(true) => {
            wire.body_over();
            Turn::Next
        }
        Ok(false) | Err(_) => Turn::Close,
    }
}
