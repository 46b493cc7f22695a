//! The way to applications that speak HTTP/2, in pingora's phases: what was admitted before is forwarded, dressed and accounted for.
use crate::config::settings::HttpVersion;
use crate::serve::context::Context;
use crate::serve::failure::{broken_off, failure, not_connected};
use crate::serve::forward::{self, must_close};
use crate::serve::gateway::Gateway;
use crate::serve::gather::Stamp;
use crate::serve::lane::{HASTE, Handover, TRAILERS, UNREAD, take_rest};
use crate::serve::listener::{Glimpse, conn_info};
use crate::serve::respond::Made;
use crate::serve::wire;
use async_trait::async_trait;
use bytes::Bytes;
use decide::refusal::{Code, Refusal};
use decide::reply::check_framing;
use http::HeaderValue;
use http::header::{ACCEPT, EXPECT};
use pingora_core::protocols::http::ServerSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use std::sync::Arc;
use std::time::Duration;

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(self.shared.clone(), self.shared.active(), Stamp::now())
    }

    /// No modules: nothing of ours is compressed, and a module costs on every request.
    fn init_downstream_modules(&self, _modules: &mut pingora_core::modules::http::HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let conn = conn_info(session);
        let waits = session.req_header().extensions.get::<Arc<Handover>>();
        let decided = match (waits, &conn) {
            (Some(of_stream), _) => of_stream.take(),
            (None, Some(conn)) => conn.handover.take(),
            (None, None) => None,
        };
        if let Some(decided) = decided {
            *ctx = decided;
            wire::forget_spelling(session.req_header_mut());
            return Ok(false);
        }
        // The grammar of our own path is the stricter one, so this does not come.
        let refusal = Refusal::new(Code::RequestMalformed, UNREAD);
        let refusal = match &conn {
            Some(conn) => {
                conn.request_begins();
                let (context, unavailable) = self.early(conn, Glimpse::default()).await;
                *ctx = context;
                unavailable.unwrap_or(refusal)
            }
            None => refusal,
        };
        self.refuse(session, ctx, refusal).await.map(|()| true)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Context,
    ) -> Result<()> {
        let Some(bytes) = body else {
            // The body has ended and its stream has not: trailers, which pingora would drop in silence.
            if end_of_stream && session.is_http2() && !session.as_mut().is_body_done() {
                ctx.refusal = Some(Refusal::new(Code::RequestMalformed, TRAILERS));
                return Error::e_explain(ErrorType::HTTPStatus(Code::RequestMalformed.status()), TRAILERS);
            }
            return Ok(());
        };
        let Err(refusal) = forward::take_body(ctx, bytes.len()) else { return Ok(()) };
        let error = match refusal.code {
            Code::RequestTimeout => Error::explain(ErrorType::ReadTimedout, "body in drips").into_down(),
            code => Error::explain(ErrorType::HTTPStatus(code.status()), "the body is not taken"),
        };
        ctx.refusal = Some(refusal);
        Err(error)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        let lease = match forward::lease(ctx, &session.req_header().headers) {
            Ok(lease) => lease,
            Err(refusal) => {
                ctx.refusal = Some(refusal);
                return Error::e_explain(ErrorType::ConnectError, "no endpoint").map_err(Error::into_up);
            }
        };
        let sent = ctx.sent.map_or(Duration::ZERO, |sent| sent.elapsed());
        let peer = lease.peer(is_stream(session), sent);
        ctx.lease = Some(lease);
        Ok(Box::new(peer))
    }

    fn fail_to_connect(&self, session: &mut Session, _peer: &HttpPeer, ctx: &mut Context, e: Box<Error>) -> Box<Error> {
        not_connected(session, ctx, e)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        e: Box<Error>,
        ctx: &mut Context,
        reused: bool,
    ) -> Box<Error> {
        broken_off(session, ctx, e, reused)
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        upstream: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let spoken = if upstream.version == http::Version::HTTP_2 { HttpVersion::Http2 } else { HttpVersion::Http1 };
        if let Some(lease) = ctx.lease.as_ref().filter(|lease| lease.version() != spoken) {
            let cause = "the application did not agree to HTTP/2 (ALPN)";
            lease.unreachable(cause);
            ctx.refusal = Some(Refusal::new(Code::UpstreamUnreachable, cause));
            return Error::e_explain(ErrorType::InvalidH2, cause).map_err(Error::into_up);
        }
        let edited = wire::edit_request(upstream, |headers| self.edit_request(headers, ctx));
        if let Err(refusal) = edited {
            ctx.refusal = Some(refusal);
            return Error::e_explain(ErrorType::InternalError, "the request cannot be forwarded");
        }
        if let Some(request) = &ctx.request
            && upstream.raw_path() != request.target().as_bytes()
        {
            upstream.set_raw_path(request.target().as_bytes())?;
        }
        Ok(())
    }

    /// What two readers could end in two places is refused before it counts.
    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let fields = response.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        let asked = ctx.facts.as_ref().is_some_and(|facts| facts.upgrade);
        let checked = match response.status.as_u16() {
            101 if !asked => Err("a switch of protocols that nobody asked for".into()),
            600.. => Err("no status from 100 to 599".into()),
            _ => check_framing(response.version == http::Version::HTTP_10, fields),
        };
        let Err(cause) = checked else { return Ok(()) };
        if let Some(lease) = &ctx.lease {
            lease.broke(&cause);
        }
        ctx.refusal = Some(Refusal::new(Code::UpstreamUnreachable, format!("Upstream: InvalidHTTPHeader: {cause}")));
        Error::e_explain(ErrorType::InvalidHTTPHeader, "the answer's framing is not one").map_err(Error::into_up)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        close_when_draining(session);
        if !forward::answer_fits(&response.headers) {
            let cause = "the head of its answer is too large";
            ctx.refusal = Some(Refusal::new(Code::UpstreamUnreachable, cause));
            return Error::e_explain(ErrorType::InvalidHTTPHeader, cause).map_err(Error::into_up);
        }
        if response.status.is_informational() && response.status != http::StatusCode::SWITCHING_PROTOCOLS {
            wire::edit_response(response, forward::dress_interim);
            return Ok(());
        }
        let status = response.status;
        let granted = match ctx.active.held().is_some_and(|held| held.settings.grant.is_some()) {
            true => wire::edit_response(response, |headers| self.granted(status, headers, ctx)),
            false => Ok(None),
        };
        let opened = match granted {
            Ok(None) => Ok(None),
            Ok(Some(granted)) => granted.open().await.map(Some),
            Err(refusal) => Err(refusal),
        };
        match opened {
            Ok(opened) => ctx.opened = opened,
            Err(refusal) => {
                let status = refusal.code.status();
                ctx.refusal = Some(refusal);
                return Error::e_explain(ErrorType::HTTPStatus(status), "the grant of a session")
                    .map_err(Error::into_up);
            }
        }
        let dressed = wire::edit_response(response, |headers| {
            self.dress_response(status, headers, ctx)?;
            self.sign_response(headers, ctx);
            Ok::<_, Refusal>(())
        });
        if let Err(refusal) = dressed {
            let status = refusal.code.status();
            ctx.refusal = Some(refusal);
            return Error::e_explain(ErrorType::HTTPStatus(status), "ended by a reload");
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut Context,
    ) -> Result<Option<Duration>> {
        ctx.bytes_out = ctx.bytes_out.saturating_add(body.as_ref().map_or(0, |body| body.len() as u64));
        self.keep_place(session, ctx);
        match forward::in_time(ctx) {
            true => Ok(None),
            false => Error::e_explain(ErrorType::ReadTimedout, "total_timeout passed").map_err(Error::into_up),
        }
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Context) -> FailToProxy {
        let h2 = ctx.lease.as_ref().is_some_and(|lease| lease.version() == HttpVersion::Http2);
        let refusal = ctx.refusal.take().or_else(|| failure(e, session.as_mut().is_body_done(), h2));
        session.set_keepalive(None);
        let mut code = 0;
        if let Some(refusal) = refusal {
            if session.response_written().is_none() {
                code = refusal.code.status();
                let _ = self.refuse(session, ctx, refusal).await;
            } else {
                ctx.refusal = Some(refusal);
            }
        }
        FailToProxy { error_code: code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Context) {
        ctx.whole = e.is_none() && !session.was_upgraded();
        if let Some(written) = session.response_written() {
            ctx.status = written.status.as_u16();
        }
        // What the lane has sent on a stream, it has counted itself.
        let sent = session.body_bytes_sent() as u64;
        if sent > 0 || ctx.lease.as_ref().is_none_or(|lease| lease.version() == HttpVersion::Http2) {
            ctx.bytes_out = sent;
        }
        ctx.tell();
    }

    /// Failures are counted, audited and in the access log; pingora's own lines would repeat the client's input.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Context, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _s: &Session, _ctx: &Context, _e: &Error, _context: ProxyWarnLogContext) -> bool {
        true
    }
}

impl Gateway {
    /// Takes a place for an answer that may have to wait for its client: pingora does not tell whether it does. A client
    /// for whose answer there is none has less patience coming.
    fn keep_place(&self, session: &mut Session, ctx: &mut Context) {
        if ctx.unread.is_some() || ctx.bytes_out <= SMALL || !session.is_http2() {
            return;
        }
        let Some(conn) = conn_info(session) else { return };
        ctx.unread = self.shared.unread.take(conn.account.as_ref());
        let patience = conn.settings.h2_stall_timeout;
        let patience = if ctx.unread.is_some() { patience } else { patience.min(HASTE) };
        session.as_downstream_mut().set_write_timeout(Some(patience));
    }

    /// Answers with a refusal, dressed, and closes connections whose next bytes cannot be trusted.
    async fn refuse(&self, session: &mut Session, ctx: &mut Context, refusal: Refusal) -> Result<()> {
        if must_close(refusal.code) {
            session.set_keepalive(None);
        }
        let header = session.req_header();
        let made = self.refusal(refusal, &header.headers, header.method == http::Method::HEAD, ctx);
        self.send(session, ctx, made).await
    }

    async fn send(&self, session: &mut Session, ctx: &mut Context, made: Made) -> Result<()> {
        ctx.status = made.status.as_u16();
        close_when_draining(session);
        let (mut response, ()) = http::Response::new(()).into_parts();
        (response.status, response.headers) = (made.status, made.headers);
        let empty = made.body.is_empty();
        session.write_response_header(Box::new(response.into()), empty).await?;
        if !empty {
            session.write_response_body(Some(made.body), true).await?;
        }
        let announced = session.req_header().headers.contains_key(EXPECT);
        if let ServerSession::H2(stream) = session.as_downstream_mut()
            && !announced
        {
            take_rest(stream).await;
        }
        Ok(())
    }
}

/// Bytes of an answer that need no place among those that wait: the codec holds them at once.
const SMALL: u64 = 64 << 10;

/// During a drain, HTTP/1 answers say `Connection: close`, so that the client sends its next request elsewhere.
fn close_when_draining(session: &mut Session) {
    if conn_info(session).is_some_and(|conn| conn.draining()) {
        session.set_keepalive(None);
    }
}

/// Whether the client asks for an answer that has no end: a WebSocket or an event stream.
fn is_stream(session: &Session) -> bool {
    let events = |value: &HeaderValue| value.as_bytes().starts_with(b"text/event-stream");
    session.is_upgrade_req() || session.req_header().headers.get_all(ACCEPT).iter().any(events)
}
