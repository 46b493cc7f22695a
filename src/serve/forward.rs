//! What happens to every request that goes upstream and to its answer, whoever carries the bytes: edits, dressing, and
//! the bounds on a body.
use crate::config::settings::Standing;
use crate::serve::active::Active;
use crate::serve::context::Context;
use crate::serve::gateway::Gateway;
use crate::serve::live::Phase;
use crate::serve::metrics::Stripped;
use crate::serve::respond::{self, Audience, Made};
use crate::serve::sign_in;
use crate::serve::upstream::{Lease, NoEndpoint};
use crate::store::quota::Dues;
use decide::certificate::Told;
use decide::digits::decimal;
use decide::guards::Guard;
use decide::headers::request::{Certificates, Origin, Outbound, Presented, edit};
use decide::headers::{self, DressContext, Fields};
use decide::refusal::{Code, Refusal};
use decide::rules::{Accept, Access, Route, Settle};
use http::header::{ALT_SVC, CACHE_CONTROL, CONTENT_TYPE, LINK, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Bytes per second, counted from the beginning of the request, that a body of bounded size must make once the listener's
/// patience is over: each byte a pause apart would hold a connection to the application for days.
const DRIP_RATE: f64 = 128.0;
/// Largest head of an application's answer, in bytes.
pub(in crate::serve) const MOST_BYTES: usize = 64 * 1024;
/// Most fields in it.
pub(in crate::serve) const MOST_FIELDS: usize = 200;

impl Gateway {
    /// Makes of the client's fields those that the application reads. Where the body begins and ends, and what is of the
    /// connection, is not touched here.
    pub fn edit_request(&self, fields: &mut impl Fields, ctx: &mut Context) -> Result<(), Refusal> {
        let broken = |cause| Refusal::new(Code::GatewayUnavailable, cause);
        let (Some(request), Some(facts), Some(permit)) = (&ctx.request, &ctx.facts, &ctx.permit) else {
            return Err(broken("a request without permit"));
        };
        // A try begins: what an earlier one had sent of the body is sent again.
        ctx.bytes_in = 0;
        ctx.refusal = None;
        let findings = permit.findings();
        let (route, now_s) = (permit.route(), facts.at_s());
        let tenant = findings.seat.as_ref().map(|seat| &*seat.id);
        let identity = findings.identity.as_deref();
        let assertion = self.shared.assertions.issue(permit, now_s);
        let mut values = std::mem::take(&mut ctx.values);
        let with_port = request.port.map(|port| {
            let mut text = Vec::with_capacity(request.host.len() + 6);
            text.extend_from_slice(request.host.as_bytes());
            text.push(b':');
            decimal(&mut text, port.into());
            text
        });
        let authority = with_port.as_deref().unwrap_or(request.host.as_bytes());
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
            certificates: certificates(route, ctx, now_s),
        };
        if let Some(grant) = ctx.active.held().and_then(|held| held.settings.grant.as_ref()) {
            fields.remove(&grant.header);
        }
        edit(fields, &ctx.active.snapshot.identity, &outbound, &mut values);
        ctx.values = values;
        Ok(())
    }

    /// Notes that the application has begun its answer, and dresses it. Refuses where a reload has ended the exchange
    /// before that: then there must be no such answer.
    pub fn dress_response(&self, status: StatusCode, fields: &mut HeaderMap, ctx: &mut Context) -> Result<(), Refusal> {
        if ctx.upstream_status.is_none()
            && let Some(lease) = &ctx.lease
        {
            lease.answered(status.as_u16());
        }
        let phase = if status == StatusCode::SWITCHING_PROTOCOLS { Phase::Tunnel } else { Phase::Answering };
        if ctx.stay.as_ref().is_some_and(|stay| stay.leash().answer(phase).is_some())
            && let Some(refusal) = ctx.ended()
        {
            return Err(refusal);
        }
        ctx.upstream_status.get_or_insert(status.as_u16());
        // Should the exchange be cut off, this is how far it came.
        ctx.status = status.as_u16();
        ctx.waited = ctx.sent.map(|sent| sent.elapsed());
        self.settle(status, fields, ctx);
        let context = DressContext {
            tls: ctx.peer.as_ref().is_some_and(|p| p.tls.is_some()),
            nonce: ctx.nonce.as_ref(),
            now_s: ctx.stamp.at_ms / 1000,
            authenticated: ctx.findings.identity.is_some(),
            status,
            embed_origins: ctx.seat().map(|seat| &*seat.tenant.embed_origins).unwrap_or_default(),
        };
        if let Some(held) = ctx.active.held() {
            held.guard(fields);
        }
        let csrf_cookie = ctx.csrf_cookie.clone().filter(|_| is_page(fields));
        let led = fields.contains_key(ALT_SVC);
        let counts = headers::dress(fields, ctx.profile(), &context);
        let led = usize::from(led && !fields.contains_key(ALT_SVC));
        self.shared.metrics.headers_stripped(Stripped::AltSvc, led);
        self.shared.metrics.headers_stripped(Stripped::Cors, ctx.share(fields));
        if let Some(cookie) = csrf_cookie {
            fields.append(SET_COOKIE, cookie);
            headers::keep_private(fields);
        }
        match (ctx.opened.take(), ctx.hand.take()) {
            (Some(opened), _) => {
                fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                fields.append(SET_COOKIE, opened.value);
                ctx.findings.identity = Some(opened.identity);
                ctx.action = Some("session.opened");
            }
            (None, Some(hand)) => hand.give(fields),
            (None, None) => {}
        }
        self.shared.metrics.cookies_fixed((counts.fixed + counts.removed + counts.unprefixed) as usize);
        Ok(())
    }

    /// Says on an answer that was dressed which request it is for, and what is left of its limits.
    pub fn sign_response(&self, fields: &mut impl Fields, ctx: &mut Context) {
        respond::request_id(fields, ctx.stamp.id, &mut ctx.values);
        if let Some(limit) = &ctx.findings.tightest {
            respond::limit_fields(fields, limit, &mut ctx.values);
        }
    }

    /// Settles what the answer costs, and takes away what it says of that to us alone.
    fn settle(&self, status: StatusCode, fields: &mut HeaderMap, ctx: &mut Context) {
        let Some(found) = &ctx.found else { return };
        if found.route.limits.iter().all(|limit| limit.settle == Settle::Never) {
            return;
        }
        ctx.dues.answered(status.as_u16(), fields);
        for name in <Dues>::private(&found.route.limits) {
            fields.remove(name);
        }
    }

    /// Makes the answer of a refusal, and notes it in the context. `fields` are the client's.
    pub fn refusal(&self, refusal: Refusal, fields: &HeaderMap, head: bool, ctx: &mut Context) -> Made {
        if let Some(made) = sign_in::instead(&refusal, fields, ctx) {
            ctx.refusal = Some(refusal);
            return made;
        }
        let audience = Audience {
            id: ctx.stamp.id,
            html: respond::wants_html(fields),
            head,
            tls: ctx.peer.as_ref().is_some_and(|p| p.tls.is_some()),
            profile: ctx.profile(),
            now_s: ctx.stamp.at_ms / 1000,
            limit: ctx.findings.tightest.as_ref(),
            oauth: ctx.oauth,
        };
        let mut made = respond::refusal(&refusal, &audience);
        ctx.share(&mut made.headers);
        if let Some(forget) = ctx.forget.take() {
            made.headers.append(SET_COOKIE, forget);
        }
        ctx.refusal = Some(refusal);
        made
    }
}

/// An endpoint for the next try; the one before has reported what became of it. `fields` are the client's.
pub fn lease(ctx: &mut Context, fields: &HeaderMap) -> Result<Lease, Refusal> {
    ctx.lease = None;
    let lease = ctx.permit.as_ref().and_then(|permit| {
        let pool = ctx.active.upstreams.get(permit.destination().upstream)?;
        let bodyless = ctx.facts.as_ref().is_some_and(|facts| !facts.body.present && !facts.upgrade);
        Some(pool.choose(permit, fields, bodyless, &ctx.tried))
    });
    let lease = match lease {
        Some(Ok(lease)) => lease,
        Some(Err(reason)) => {
            // Why the last endpoint failed says more than that none is left.
            let refusal = ctx.refusal.take().filter(|_| reason == NoEndpoint::AllTried);
            return Err(refusal.unwrap_or_else(|| reason.refusal()));
        }
        None => return Err(Refusal::new(Code::GatewayUnavailable, "a request without permit")),
    };
    ctx.tries += 1;
    ctx.sent.get_or_insert_with(Instant::now);
    Ok(lease)
}

/// Whether `total_timeout` has not passed.
pub fn in_time(ctx: &Context) -> bool {
    let total = ctx.lease.as_ref().and_then(|lease| lease.timeouts().total);
    !matches!((total, ctx.sent), (Some(total), Some(sent)) if sent.elapsed() > total)
}

/// Counts bytes of the request's body, and refuses one that is longer than the route allows, or never ends. What follows
/// an upgrade is a conversation and no body: it is counted and no more.
pub fn take_body(ctx: &mut Context, bytes: usize) -> Result<(), Refusal> {
    ctx.bytes_in = ctx.bytes_in.saturating_add(bytes as u64);
    // Ended by a reload before its answer began: the answer is the refusal.
    if ctx.stay.as_ref().is_some_and(|stay| stay.leash().phase() == Phase::Waiting)
        && let Some(refusal) = ctx.ended()
    {
        return Err(refusal);
    }
    let Some(found) = &ctx.found else { return Ok(()) };
    let upgrade = ctx.facts.as_ref().is_some_and(|facts| facts.upgrade);
    let Some(max) = found.route.body.max_bytes.filter(|_| !upgrade) else { return Ok(()) };
    if ctx.bytes_in > max && !found.route.shadow.contains(&Guard::Body) {
        return Err(Refusal::new(Code::RequestTooLarge, "the body is longer than the route allows"));
    }
    let grace = ctx.peer.as_ref().map_or(Duration::MAX, |peer| peer.patience);
    if drips(ctx.started.elapsed(), ctx.bytes_in, grace) {
        return Err(Refusal::new(Code::RequestTimeout, "the body comes in drips"));
    }
    Ok(())
}

/// Whether the head of an application's answer keeps within bounds, where somebody else has read it.
pub(in crate::serve) fn answer_fits(fields: &HeaderMap) -> bool {
    fields.len() <= MOST_FIELDS
        && fields.iter().map(|(n, v)| n.as_str().len() + v.len() + 4).sum::<usize>() <= MOST_BYTES
}

/// Leaves of an interim answer what a hint may hold (RFC 8297, 2): the rest would go out without dressing.
pub fn dress_interim(fields: &mut HeaderMap) {
    let other: Vec<HeaderName> = fields.keys().filter(|name| **name != LINK).cloned().collect();
    other.iter().for_each(|name| drop(fields.remove(name)));
}

/// Whether an answer is a page, by its own word.
fn is_page(fields: &HeaderMap) -> bool {
    let types = [b"text/html".as_slice(), b"application/xhtml+xml"];
    let said = fields.get(CONTENT_TYPE).and_then(|value| value.as_bytes().split(|b| *b == b';').next());
    said.is_some_and(|said| types.iter().any(|page| said.trim_ascii().eq_ignore_ascii_case(page)))
}

/// Whether the connection of a refused request must close: its next bytes cannot be trusted.
pub fn must_close(code: Code) -> bool {
    matches!(code, Code::RequestMalformed | Code::RequestAmbiguous | Code::RequestTooLarge | Code::RequestTimeout)
}

/// Whether what a client sends comes too slowly once its grace is over.
pub fn drips(elapsed: Duration, bytes: u64, grace: Duration) -> bool {
    elapsed > grace && (bytes as f64) < elapsed.as_secs_f64() * DRIP_RATE
}

/// What the application is told of the client's certificate: nothing, once it is not good any more.
fn certificates<'a>(route: &Route, ctx: &'a Context, now_s: u64) -> Option<Certificates<'a>> {
    if route.certificate == Told::Nothing {
        return None;
    }
    let peer = ctx.peer.as_ref()?;
    let presented = peer.client_certificate.as_deref()?;
    let asked = ctx.active.door(peer.listener())?.settings.client_certificates.as_deref()?;
    let good = presented.stands(asked, now_s) == Standing::Good;
    good.then(|| presented.fields(route.certificate == Told::Chain)).flatten()
}

/// What may prove who the caller is: browsers send our cookies to public routes too.
fn presented<'a>(route: &'a Route, active: &'a Active) -> Presented<'a> {
    let accept = match &route.access {
        Access::Public { .. } => &[][..],
        Access::Session(rules) => &rules.accept,
    };
    let bearer = accept.iter().any(|accept| matches!(accept, Accept::Bearer { .. } | Accept::Dpop { .. }));
    Presented { bearer, cookies: active.cookies(), accept }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_comes_in_drips_is_given_up_after_a_while() {
        let drips = |seconds, bytes| drips(Duration::from_secs(seconds), bytes, Duration::from_secs(60));
        assert!(!drips(1, 0) && !drips(60, 1), "everybody may begin slowly");
        assert!(drips(61, 61) && drips(61, 61 * 128 - 1) && drips(3600, 100_000));
        assert!(!drips(61, 61 * 128) && !drips(3600, 3600 * 128));
    }
}
