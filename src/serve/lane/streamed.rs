//! A request on a stream of HTTP/2, from its head to its account: carried here to applications that speak HTTP/1.1.
use super::forward::Carried;
use super::stream::Stream;
use super::{Ask, Handover, speaks_http2};
use crate::serve::admit::{Admitted, Asked};
use crate::serve::client::Client;
use crate::serve::context::Context;
use crate::serve::failure::failure;
use crate::serve::gateway::Gateway;
use crate::serve::gather::Stamp;
use crate::serve::head::After;
use crate::serve::listener::ConnInfo;
use crate::serve::respond::Made;
use crate::serve::wire::edit_request;
use decide::facts::Protocol;
use decide::refusal::{Code, Refusal};
use http::header::EXPECT;
use pingora_core::protocols::http::v2::server::HttpSession;
use std::sync::Arc;
use std::time::Duration;

/// Greatest rest of a request's body that is still taken after an early answer, and the time for it.
const REST: (usize, Duration) = (64 << 10, Duration::from_millis(250));

impl Gateway {
    /// Serves a stream's request. One whose application speaks HTTP/2 comes back, with its decision, for the proxy.
    pub(crate) async fn serve_stream(
        &self,
        mut session: Box<HttpSession>,
        conn: &Arc<ConnInfo>,
    ) -> Option<Box<HttpSession>> {
        let mut ctx = Context::new(self.shared.clone(), self.shared.active(), Stamp::now());
        let mut ask = Ask::of_stream(&mut session);
        let mut stream = Stream::new(&mut session, conn, &ask);
        match self.admit(&mut Look { stream: &mut stream, ask: &ask }, conn, &mut ctx).await {
            Ok(Admitted::Forward) if speaks_http2(&ctx) => {
                drop(stream);
                return Some(hand_over(session, ask, ctx));
            }
            Ok(Admitted::Forward) => {
                ask.say_empty();
                stream.take_seen();
                match self.carry_to(&mut stream, &mut ask, &mut ctx, None).await {
                    Carried::Done { .. } => ctx.whole = true,
                    Carried::Gone => {}
                    Carried::Refused(refusal) => {
                        Box::pin(self.refuse_stream(&mut stream, &ask, &mut ctx, refusal)).await
                    }
                    Carried::Broken { refusal, .. } => {
                        stream.reset();
                        ctx.refusal = Some(refusal);
                    }
                    // Nobody asks for one here, and so none is given.
                    Carried::Tunnel { .. } => stream.reset(),
                }
            }
            Ok(Admitted::Own(made)) => Box::pin(answer(stream.session, &ask, &mut ctx, made)).await,
            Ok(Admitted::Left) => {}
            Err(refusal) => Box::pin(self.refuse_stream(&mut stream, &ask, &mut ctx, refusal)).await,
        }
        ctx.tell();
        None
    }

    async fn refuse_stream(&self, stream: &mut Stream<'_>, ask: &Ask, ctx: &mut Context, refusal: Refusal) {
        let made = self.refusal(refusal, &ask.fields, ask.to_head(), ctx);
        answer(stream.session, ask, ctx, made).await;
    }
}

/// Puts the decision to the request's head, where the proxy finds it.
fn hand_over(mut session: Box<HttpSession>, ask: Ask, ctx: Context) -> Box<HttpSession> {
    edit_request(session.req_header_mut(), |fields| *fields = ask.fields);
    let handover = Arc::new(Handover::default());
    handover.put(ctx);
    session.req_header_mut().extensions_mut().insert(handover);
    session
}

/// Sends an answer of the gateway's own making.
async fn answer(session: &mut HttpSession, ask: &Ask, ctx: &mut Context, made: Made) {
    ctx.status = made.status.as_u16();
    let (mut head, ()) = http::Response::new(()).into_parts();
    (head.status, head.headers) = (made.status, made.headers);
    let length = made.body.len();
    let mut sent = session.write_response_header(Box::new(head.into()), length == 0);
    if sent.is_ok() && length > 0 {
        sent = session.write_body(made.body, true).await;
    }
    match sent {
        Ok(()) => {
            (ctx.whole, ctx.bytes_out) = (true, length as u64);
            if ask.after != After::Body(0) && !ask.fields.contains_key(EXPECT) {
                take_rest(session).await;
            }
        }
        Err(error) => ctx.refusal = ctx.refusal.take().or_else(|| failure(&error.into_down(), true, false)),
    }
}

/// Takes the rest of a small request body after the answer. Without it the stream ends with RST_STREAM, as RFC 9113, 8.1
/// allows, but some clients (curl 7.88) then forget the answer that they have already received.
pub(crate) async fn take_rest(session: &mut HttpSession) {
    if session.is_body_done() {
        return;
    }
    let (most, patience) = REST;
    let rest = async {
        let mut taken = 0;
        while let Ok(Some(bytes)) = session.read_body_bytes().await {
            taken += bytes.len();
            if taken > most {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(patience, rest).await;
}

/// The client of a stream, while it is decided what becomes of its request.
struct Look<'l, 's> {
    stream: &'l mut Stream<'s>,
    ask: &'l Ask,
}

impl Client for Look<'_, '_> {
    fn asked(&self) -> Asked<'_> {
        let head = self.stream.session.req_header();
        let authority = head.uri.authority().map(http::uri::Authority::as_str);
        Asked { target: head.raw_path(), authority, protocol: Protocol::Http2, ..self.ask.asked() }
    }

    /// What is read stays in the buffer from which the body is forwarded afterwards.
    async fn body(&mut self, most: usize) -> Result<Vec<u8>, Refusal> {
        let gone = |_| Refusal::new(Code::RequestMalformed, "the client left before its body was there");
        let session = &mut self.stream.session;
        session.enable_retry_buffering();
        let mut body = Vec::new();
        while let Some(bytes) = session.read_body_bytes().await.map_err(gone)? {
            body.extend_from_slice(&bytes);
            if body.len() > most {
                let cause = "the body is longer than a limit may look into";
                return Err(Refusal::new(Code::RequestTooLarge, cause));
            }
        }
        Ok(body)
    }

    async fn gone(&mut self) {
        // Nothing is read: it ends when the stream is reset.
        let _ = self.stream.session.idle().await;
    }
}
