//! The life of a request in pingora's phases: admit, then refuse or forward, dress, account.
use crate::config::settings::HttpVersion;
use crate::serve::admit::{Admitted, Asked};
use crate::serve::client::Client;
use crate::serve::context::Context;
use crate::serve::failure::{broken_off, failure, not_connected};
use crate::serve::forward::{self, must_close};
use crate::serve::gateway::Gateway;
use crate::serve::gather::Stamp;
use crate::serve::lane::{HASTE, Streamed, TRAILERS};
use crate::serve::listener::conn_info;
use crate::serve::respond::Made;
use crate::serve::wire;
use async_trait::async_trait;
use bytes::Bytes;
use decide::facts::Protocol;
use decide::refusal::{Code, Refusal};
use decide::reply::check_framing;
use http::HeaderValue;
use http::header::ACCEPT;
use pingora_core::protocols::http::ServerSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
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
        if let Some(decided) = conn_info(session).and_then(|conn| conn.handover.take()) {
            *ctx = decided;
            wire::forget_spelling(session.req_header_mut());
            return Ok(false);
        }
        match self.ask(session, ctx).await {
            Ok(Admitted::Forward) => self.carried(session, ctx).await,
            Ok(Admitted::Own(made)) => self.send(session, ctx, made).await.map(|()| true),
            Ok(Admitted::Left) => Error::e_explain(ErrorType::ConnectionClosed, "it waited").map_err(Error::into_down),
            Err(refusal) => self.refuse(session, ctx, refusal).await.map(|()| true),
        }
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

    /// Pingora reads answers of HTTP/1 tolerantly. What two readers could end in two places is refused before it counts.
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
        if let Err(refusal) = wire::edit_response(response, |headers| self.dress_response(status, headers, ctx)) {
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

/// The client of a session of pingora's.
struct Served<'a> {
    session: &'a mut Session,
    /// Whether a body may follow.
    body: bool,
}

impl Client for Served<'_> {
    fn asked(&self) -> Asked<'_> {
        let head = self.session.req_header();
        Asked {
            method: head.method.as_str(),
            target: head.raw_path(),
            authority: head.uri.authority().map(http::uri::Authority::as_str),
            headers: &head.headers,
            protocol: if self.session.is_http2() { Protocol::Http2 } else { Protocol::Http1 },
            body: self.body,
            upgrade: self.session.is_upgrade_req(),
        }
    }

    /// What is read stays in the buffer from which pingora repeats a request, and is sent from there.
    async fn body(&mut self, most: usize) -> Result<Vec<u8>, Refusal> {
        let gone = |_| Refusal::new(Code::RequestMalformed, "the client left before its body was there");
        self.session.as_mut().enable_retry_buffering();
        let mut body = Vec::new();
        while let Some(bytes) = self.session.read_request_body().await.map_err(gone)? {
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
        let _ = self.session.as_mut().read_body_or_idle(true).await;
    }
}

impl Gateway {
    /// Has the request of a session of pingora's decided.
    async fn ask(&self, session: &mut Session, ctx: &mut Context) -> Result<Admitted, Refusal> {
        let unknown = || Refusal::new(Code::GatewayUnavailable, "the connection is unknown").retry_after(5);
        let conn = conn_info(session).ok_or_else(unknown)?;
        let body = !session.is_body_empty();
        self.admit(&mut Served { session, body }, &conn, ctx).await
    }

    /// Carries a stream to an application that speaks HTTP/1.1; whether it was one. What is left is pingora's.
    async fn carried(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let permit = ctx.permit.as_ref();
        let pool = permit.and_then(|permit| ctx.active.upstreams.get(permit.destination().upstream));
        let ours = pool.is_some_and(|pool| pool.settings.version == HttpVersion::Http1);
        let conn = conn_info(session);
        let (Some(conn), ServerSession::H2(stream)) = (conn.filter(|_| ours), session.as_downstream_mut()) else {
            wire::forget_spelling(session.req_header_mut());
            return Ok(false);
        };
        match self.carry_stream(stream, &conn, ctx).await {
            Streamed::Done => Ok(true),
            Streamed::Cut => {
                Error::e_explain(ErrorType::ConnectionClosed, "not answered whole").map_err(Error::into_down)
            }
            Streamed::Refused(refusal) => self.refuse(session, ctx, refusal).await.map(|()| true),
        }
    }

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
        take_rest(session).await;
        Ok(())
    }
}

/// Bytes of an answer that need no place among those that wait: the codec holds them at once.
const SMALL: u64 = 64 << 10;

/// Greatest rest of a refused request's body that is still taken, and the time for it.
const REST: (usize, Duration) = (64 << 10, Duration::from_millis(250));

/// Takes the rest of a small HTTP/2 request body after the answer. Without it the stream ends with RST_STREAM, as RFC
/// 9113, 8.1 allows, but some clients (curl 7.88) then forget the answer that they have already received.
async fn take_rest(session: &mut Session) {
    let announced = session.req_header().headers.contains_key(http::header::EXPECT);
    if !session.is_http2() || announced || session.is_body_done() {
        return;
    }
    let (most, patience) = REST;
    let rest = async {
        let mut taken = 0;
        while let Ok(Some(bytes)) = session.read_request_body().await {
            taken += bytes.len();
            if taken > most {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(patience, rest).await;
}

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
