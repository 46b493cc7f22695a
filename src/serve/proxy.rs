//! The life of a request in pingora's phases: gather, deliberate, record, then refuse or forward, dress, account.
use crate::config::settings::HttpVersion;
use crate::serve::active::Active;
use crate::serve::answer::answer;
use crate::serve::context::{Context, Peer};
use crate::serve::failure::{broken_off, failure, not_connected};
use crate::serve::gateway::{Gateway, random};
use crate::serve::gather::{Stamp, gather};
use crate::serve::listener::{conn_info, misdirected};
use crate::serve::live::{self, Exchange, Live, Phase};
use crate::serve::respond::{self, Audience, Made};
use crate::serve::upstream::NoEndpoint;
use crate::serve::wire;
use async_trait::async_trait;
use bytes::Bytes;
use decide::deliberation::{Deliberation, Step};
use decide::facts::changes_state;
use decide::guards::Guard;
use decide::headers::request::{Origin, Outbound, Presented, edit};
use decide::headers::{self, DressContext, Nonce};
use decide::refusal::{Code, Refusal};
use decide::request::Method;
use decide::rules::{Accept, Access, Resolve, Route};
use http::header::ACCEPT;
use http::header::{HOST, LINK};
use http::{HeaderName, HeaderValue};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long a body of bounded size may come as slowly as it likes; afterwards each byte a minute apart would hold a
/// connection to the application for days.
const DRIP_GRACE: Duration = Duration::from_secs(60);
/// Bytes per second, counted from the beginning of the request, that it must make then.
const DRIP_RATE: u64 = 128;

/// Paths below this prefix are the gateway's own on every host.
const OWN: &str = "/.moat/";

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(self.shared.clone(), self.shared.active(), Stamp::now())
    }

    /// No modules: nothing of ours is compressed, and a module costs on every request.
    fn init_downstream_modules(&self, _modules: &mut pingora_core::modules::http::HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        match self.admit(session, ctx).await {
            Ok(Admitted::Forward) => Ok(false),
            Ok(Admitted::Own(made)) => self.send(session, ctx, made).await.map(|()| true),
            Err(refusal) => self.refuse(session, ctx, refusal).await.map(|()| true),
        }
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut Context,
    ) -> Result<()> {
        let Some(bytes) = body else { return Ok(()) };
        ctx.bytes_in = ctx.bytes_in.saturating_add(bytes.len() as u64);
        if waiting(ctx)
            && let Some(refusal) = ctx.ended()
        {
            return ended(ctx, refusal);
        }
        // What follows an upgrade is a conversation, and no body.
        let upgrade = ctx.facts.as_ref().is_some_and(|facts| facts.upgrade);
        let Some(found) = &ctx.found else { return Ok(()) };
        let Some(max) = found.route.body.max_bytes.filter(|_| !upgrade) else { return Ok(()) };
        if ctx.bytes_in > max && !found.route.shadow.contains(&Guard::Body) {
            ctx.refusal = Some(Refusal::new(Code::RequestTooLarge, "the body is longer than the route allows"));
            return Error::e_explain(ErrorType::HTTPStatus(413), "body too large");
        }
        if drips(ctx.started.elapsed(), ctx.bytes_in) {
            ctx.refusal = Some(Refusal::new(Code::RequestTimeout, "the body comes in drips"));
            return Error::e_explain(ErrorType::ReadTimedout, "body in drips").map_err(Error::into_down);
        }
        Ok(())
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        // A try begins; the one before has reported what became of it.
        ctx.lease = None;
        let lease = ctx.permit.as_ref().and_then(|permit| {
            let pool = ctx.active.upstreams.get(permit.destination().upstream)?;
            Some(pool.choose(permit, &session.req_header().headers, &ctx.tried))
        });
        let lease = match lease {
            Some(Ok(lease)) => lease,
            Some(Err(reason)) => {
                // Why the last endpoint failed says more than that none is left.
                let refusal = ctx.refusal.take().filter(|_| reason == NoEndpoint::AllTried);
                ctx.refusal = Some(refusal.unwrap_or_else(|| reason.refusal()));
                return Error::e_explain(ErrorType::ConnectError, "no endpoint").map_err(Error::into_up);
            }
            None => return Error::e_explain(ErrorType::InternalError, "a request without permit"),
        };
        let sent = *ctx.sent.get_or_insert_with(Instant::now);
        let peer = lease.peer(is_stream(session), sent.elapsed());
        ctx.tries += 1;
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
        let (Some(request), Some(facts), Some(permit)) = (&ctx.request, &ctx.facts, &ctx.permit) else {
            return Error::e_explain(ErrorType::InternalError, "a request without permit");
        };
        // A try begins: what an earlier one had sent of the body is sent again.
        ctx.bytes_in = 0;
        ctx.refusal = None;
        let spoken = if upstream.version == http::Version::HTTP_2 { HttpVersion::Http2 } else { HttpVersion::Http1 };
        if let Some(lease) = ctx.lease.as_ref().filter(|lease| lease.version() != spoken) {
            let cause = "the application did not agree to HTTP/2 (ALPN)";
            lease.unreachable(cause);
            ctx.refusal = Some(Refusal::new(Code::UpstreamUnreachable, cause));
            return Error::e_explain(ErrorType::InvalidH2, cause).map_err(Error::into_up);
        }
        let findings = permit.findings();
        let (route, now_s) = (permit.route(), facts.at_s());
        let tenant = findings.seat.as_ref().map(|seat| &*seat.id);
        let identity = findings.identity.as_deref();
        let assertion = self.shared.assertions.issue(permit, now_s);
        let authority = match request.port {
            Some(port) => &*format!("{}:{port}", request.host),
            None => &*request.host,
        };
        // The application reads the very host that was matched, not another spelling of it.
        let host = HeaderValue::from_str(authority).or_err(ErrorType::InternalError, "a host that is no header")?;
        let hops: Vec<IpAddr> = ctx.peer.iter().map(|peer| peer.address).filter(|hop| *hop != facts.client.0).collect();
        let outbound = Outbound {
            request_id: facts.id,
            tenant,
            identity,
            assertion: assertion.as_ref(),
            nonce: ctx.nonce.as_ref(),
            origin: Origin { client: facts.client.0, hops: &hops, https: facts.tls.is_some(), authority },
            trace: ctx.trace_onward(),
            presented: presented(route, &ctx.active),
        };
        wire::edit_request(upstream, |headers| {
            headers.insert(HOST, host);
            edit(headers, &ctx.active.snapshot.identity, &outbound);
        });
        if upstream.raw_path() != request.target().as_bytes() {
            upstream.set_raw_path(request.target().as_bytes())?;
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        close_when_draining(session);
        if response.status.is_informational() && response.status != http::StatusCode::SWITCHING_PROTOCOLS {
            // What a hint may hold (RFC 8297, 2); the rest would go out without dressing.
            let other: Vec<HeaderName> = response.headers.keys().filter(|name| **name != LINK).cloned().collect();
            other.iter().for_each(|name| drop(response.remove_header(name)));
            return Ok(());
        }
        if ctx.upstream_status.is_none()
            && let Some(lease) = &ctx.lease
        {
            lease.answered(response.status.as_u16());
        }
        let tunnel = response.status == http::StatusCode::SWITCHING_PROTOCOLS;
        let phase = if tunnel { Phase::Tunnel } else { Phase::Answering };
        if ctx.stay.as_ref().is_some_and(|stay| stay.leash().answer(phase).is_some())
            && let Some(refusal) = ctx.ended()
        {
            return ended(ctx, refusal);
        }
        ctx.upstream_status.get_or_insert(response.status.as_u16());
        // Should the exchange be cut off, this is how far it came.
        ctx.status = response.status.as_u16();
        ctx.waited = ctx.sent.map(|sent| sent.elapsed());
        let context = DressContext {
            tls: ctx.peer.as_ref().is_some_and(|p| p.tls.is_some()),
            nonce: ctx.nonce.as_ref(),
            now_s: ctx.stamp.at_ms / 1000,
            authenticated: ctx.findings.identity.is_some(),
            status: response.status,
        };
        let counts = wire::edit_response(response, |headers| {
            let counts = headers::dress(headers, ctx.profile(), &context);
            respond::request_id(headers, ctx.stamp.id);
            if let Some(limit) = &ctx.findings.tightest {
                respond::limit_fields(headers, limit);
            }
            counts
        });
        self.shared.metrics.cookies_fixed((counts.fixed + counts.removed + counts.unprefixed) as usize);
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut Context,
    ) -> Result<Option<Duration>> {
        ctx.bytes_out = ctx.bytes_out.saturating_add(body.as_ref().map_or(0, |body| body.len() as u64));
        let total = ctx.lease.as_ref().and_then(|lease| lease.timeouts().total);
        if let (Some(total), Some(sent)) = (total, ctx.sent)
            && sent.elapsed() > total
        {
            return Error::e_explain(ErrorType::ReadTimedout, "total_timeout passed").map_err(Error::into_up);
        }
        Ok(None)
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

    async fn logging(&self, session: &mut Session, _e: Option<&Error>, ctx: &mut Context) {
        if let Some(written) = session.response_written() {
            ctx.status = written.status.as_u16();
        }
        ctx.bytes_out = session.body_bytes_sent() as u64;
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

/// What becomes of a request that was not refused.
enum Admitted {
    /// It goes upstream.
    Forward,
    /// The gateway answers itself.
    Own(Made),
}

impl Gateway {
    /// Facts, decision, intent.
    async fn admit(&self, session: &mut Session, ctx: &mut Context) -> Result<Admitted, Refusal> {
        let unavailable = |cause: String| Refusal::new(Code::GatewayUnavailable, cause).retry_after(5);
        let conn = conn_info(session).ok_or_else(|| unavailable("the connection is unknown".to_owned()))?;
        conn.request_begins();
        ctx.peer = Some(Peer::of(&conn));
        ctx.trace_begins(&session.req_header().headers);
        let slot = self.shared.audit.reserve().await;
        let mut slot = slot.map_err(|e| unavailable(format!("the audit log cannot take an entry: {e}")))?;
        slot.identify(ctx.stamp.id);
        ctx.slot = Some(slot);
        let active = ctx.active.clone();
        let door = active.door(&conn.listener);
        // A connection may outlive its listener.
        let settings = door.map_or(&conn.settings, |door| &door.settings);
        ctx.counted = Some(match door {
            Some(door) => door.metrics.request(),
            None => self.shared.metrics.listener(&conn.listener).request(),
        });
        let (request, facts) = match gather(session, &conn, settings, &active.snapshot.identity, ctx.stamp) {
            Ok(read) => read,
            Err(refusal) => {
                ctx.glimpse = crate::serve::gather::glimpse(session.req_header());
                return Err(refusal);
            }
        };
        wire::forget_spelling(session.req_header_mut());
        let (request, facts) = (&*ctx.request.insert(request), &*ctx.facts.insert(facts));
        if misdirected(&conn, &request.host) {
            return Err(Refusal::new(
                Code::RequestMisdirected,
                "the host is not covered by the connection's certificate",
            ));
        }
        if let Some(name) = request.path.strip_prefix(OWN) {
            let (name, method) = (name.to_owned(), request.method);
            let made = self.own(&name, method, ctx)?;
            ctx.own = true;
            return Ok(Admitted::Own(made));
        }
        let headers = &session.req_header().headers;
        let one = |name: &HeaderName| {
            let mut values = headers.get_all(name).iter();
            values.next().filter(|_| values.next().is_none()).and_then(|v| v.to_str().ok())
        };
        let twice =
            |rule: &Resolve| matches!(rule, Resolve::Header(name) if headers.get_all(name).iter().nth(1).is_some());
        if active.snapshot.rules.resolve.iter().any(twice) {
            return Err(Refusal::new(Code::RequestAmbiguous, "the header that names the tenant stands twice"));
        }
        let found = &*ctx.found.insert(active.snapshot.rules.find(request, one)?);
        let mut deliberation = Deliberation::new(&active.snapshot.rules, request, facts, found);
        let mut reply = None;
        let end = loop {
            match deliberation.proceed(reply.take()) {
                Step::Ask(question) => {
                    reply = Some(answer(question, &active, headers, facts, found, deliberation.findings()).await);
                }
                end => break end,
            }
        };
        (ctx.findings, ctx.trail) = deliberation.into_record();
        match end {
            Step::Permit(permit) => ctx.permit = Some(permit),
            Step::Refuse(refusal) => return Err(refusal),
            Step::Ask(_) => return Err(unavailable("the deliberation did not end".to_owned())),
        }
        if let Some(leash) = live::leash() {
            let rules = (&*active.snapshot.rules, active.generation);
            let exchange = Exchange::new(request, facts, &ctx.findings, rules, one, leash);
            ctx.stay = Some(Live::enter(&self.shared, exchange, active.generation, ctx.stamp.id.0 as usize));
        }
        let (effect, durable) = (changes_state(request.method) || facts.upgrade, found.route.audit.durable);
        if ctx.profile().needs_nonce() {
            ctx.nonce = Some(Nonce::new(random()));
        }
        if effect {
            let entry = ctx.entry(false);
            if let Some(slot) = &ctx.slot {
                slot.intent(entry, durable)
                    .await
                    .map_err(|e| unavailable(format!("the intent could not be written: {e}")))?;
            }
        }
        Ok(Admitted::Forward)
    }

    /// The gateway's own resources.
    fn own(&self, name: &str, method: Method, ctx: &Context) -> Result<Made, Refusal> {
        let tls = ctx.peer.as_ref().is_some_and(|p| p.tls.is_some());
        match (name, method) {
            ("jwks.json", Method::Get | Method::Head) => {
                let keys = self.shared.assertions.jwks();
                Ok(respond::key_set(keys, method, ctx.stamp.id, tls, ctx.profile(), ctx.stamp.at_ms / 1000))
            }
            _ => Err(Refusal::new(Code::RouteUnknown, "the gateway has no such resource")),
        }
    }

    /// Answers with a refusal, dressed, and closes connections whose next bytes cannot be trusted.
    async fn refuse(&self, session: &mut Session, ctx: &mut Context, refusal: Refusal) -> Result<()> {
        match refusal.code {
            Code::RequestMalformed | Code::RequestAmbiguous | Code::RequestTooLarge | Code::RequestTimeout => {
                session.set_keepalive(None);
            }
            _ => {}
        }
        let header = session.req_header();
        let audience = Audience {
            id: ctx.stamp.id,
            html: respond::wants_html(&header.headers),
            head: header.method == http::Method::HEAD,
            tls: ctx.peer.as_ref().is_some_and(|p| p.tls.is_some()),
            profile: ctx.profile(),
            now_s: ctx.stamp.at_ms / 1000,
            limit: ctx.findings.tightest.as_ref(),
        };
        let made = respond::refusal(&refusal, &audience);
        ctx.refusal = Some(refusal);
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

/// Whether the answer has not begun.
fn waiting(ctx: &Context) -> bool {
    ctx.stay.as_ref().is_some_and(|stay| stay.leash().phase() == Phase::Waiting)
}

/// Gives up an exchange that a reload has ended before its answer began: the answer is the refusal.
fn ended(ctx: &mut Context, refusal: Refusal) -> Result<()> {
    let status = refusal.code.status();
    ctx.refusal = Some(refusal);
    Error::e_explain(ErrorType::HTTPStatus(status), "ended by a reload")
}

fn drips(elapsed: Duration, bytes: u64) -> bool {
    elapsed > DRIP_GRACE && bytes < elapsed.as_secs().saturating_mul(DRIP_RATE)
}

/// Whether the client asks for an answer that has no end: a WebSocket or an event stream.
fn is_stream(session: &Session) -> bool {
    let events = |value: &HeaderValue| value.as_bytes().starts_with(b"text/event-stream");
    session.is_upgrade_req() || session.req_header().headers.get_all(ACCEPT).iter().any(events)
}

/// What may prove who the caller is: browsers send our cookies to public routes too.
fn presented<'a>(route: &Route, active: &'a Active) -> Presented<'a> {
    let bearer = match &route.access {
        Access::Public { .. } => false,
        Access::Session(rules) => rules.accept.iter().any(|accept| matches!(accept, Accept::Bearer { .. })),
    };
    Presented { bearer, cookies: active.cookies() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_comes_in_drips_is_given_up_after_a_while() {
        let drips = |seconds, bytes| drips(Duration::from_secs(seconds), bytes);
        assert!(!drips(1, 0) && !drips(60, 1), "everybody may begin slowly");
        assert!(drips(61, 61) && drips(61, 61 * 128 - 1) && drips(3600, 100_000));
        assert!(!drips(61, 61 * 128) && !drips(3600, 3600 * 128));
    }
}
