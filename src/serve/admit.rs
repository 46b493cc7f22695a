//! From a request head to a permit or a refusal: facts, decision, intent, the same for every way that a head came in.
use crate::serve::answer::{Answering, holder};
use crate::serve::client::Client;
use crate::serve::context::{Context, Delay, Peer};
use crate::serve::gateway::{Gateway, random};
use crate::serve::gather::{self, gather};
use crate::serve::listener::{ConnInfo, misdirected};
use crate::serve::live::{self, Exchange, Live, Stay};
use crate::serve::own::Own;
use crate::serve::respond::{self, Made};
use crate::serve::shares::Room;
use decide::cors::{Cors, Preflight};
use decide::csrf::Desk;
use decide::deliberation::{Deliberation, Step};
use decide::facts::{Protocol, Question, changes_state};
use decide::headers::Nonce;
use decide::refusal::{Code, Refusal};
use decide::rules::{Csrf, Resolve};
use http::header::COOKIE;
use http::{HeaderMap, HeaderName};
use std::sync::Arc;
use std::time::Duration;

/// Paths below this prefix are the gateway's own on every host.
const OWN: &str = "/.moat/";

/// A request head, as whoever read it from the wire has understood it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// The request target as sent: path and query, or a whole URI.
    pub target: &'a [u8],
    /// `:authority` of HTTP/2.
    pub authority: Option<&'a str>,
    /// The fields; for HTTP/1 with `Host`.
    pub headers: &'a HeaderMap,
    /// How it came.
    pub protocol: Protocol,
    /// Whether a body may follow.
    pub body: bool,
    /// Whether it asks for a WebSocket.
    pub upgrade: bool,
}

/// What becomes of a request that was not refused.
#[derive(Debug)]
pub enum Admitted {
    /// It goes upstream; the context holds the permit.
    Forward,
    /// The gateway answers itself.
    Own(Made),
    /// The client has left while its request waited: nobody is to be answered.
    Left,
}

impl Gateway {
    /// Facts, decision, intent. Everything that becomes known is in the context, whatever the end.
    pub async fn admit<C: Client>(
        &self,
        client: &mut C,
        conn: &Arc<ConnInfo>,
        ctx: &mut Context,
    ) -> Result<Admitted, Refusal> {
        let unavailable = |cause: String| Refusal::new(Code::GatewayUnavailable, cause).retry_after(5);
        conn.request_begins();
        ctx.peer = Some(Peer::of(conn));
        let asked = client.asked();
        ctx.trace_begins(asked.headers);
        let slot = self.shared.audit.reserve().await;
        let mut slot = slot.map_err(|e| unavailable(format!("the audit log cannot take an entry: {e}")))?;
        slot.identify(ctx.stamp.id);
        ctx.slot = Some(slot);
        if let Some(account) = &conn.account {
            let Some(under_way) = account.begin(self.room()) else {
                ctx.glimpse = gather::glimpse(asked.method, asked.target, asked.authority, asked.headers);
                let cause = "room runs short, and this address has its share of requests under way";
                return Err(Refusal::new(Code::QuotaExceeded, cause).retry_after(1));
            };
            ctx.under_way = Some(under_way);
        }
        let active = ctx.active.clone();
        let door = active.door(&conn.listener);
        // A connection may outlive its listener.
        let settings = door.map_or(&conn.settings, |door| &door.settings);
        ctx.counted = Some(match door {
            Some(door) => door.metrics.request(),
            None => self.shared.metrics.listener(&conn.listener).request(),
        });
        let (request, facts) = match gather(&asked, conn, settings, &active.snapshot.identity, ctx.stamp) {
            Ok(read) => read,
            Err(refusal) => {
                ctx.glimpse = gather::glimpse(asked.method, asked.target, asked.authority, asked.headers);
                return Err(refusal);
            }
        };
        let (request, facts) = (&*ctx.request.insert(request), &*ctx.facts.insert(facts));
        if misdirected(conn, &request.host) {
            return Err(Refusal::new(
                Code::RequestMisdirected,
                "the host is not covered by the connection's certificate",
            ));
        }
        conn.certified_for(settings, facts.at_s())?;
        if let Some(name) = request.path.strip_prefix(OWN) {
            let (own, request, facts) = (Own::find(name, request.method)?, request.clone(), facts.clone());
            // Boxed, so that requests to applications do not carry the room for it.
            return Box::pin(self.own(own, client, (request, facts), ctx)).await.map(Admitted::Own);
        }
        let tokens = active.snapshot.sessions.tokens.as_ref();
        if tokens.is_some_and(|tokens| tokens.issue_at.iter().any(|path| **path == *request.path)) {
            let (own, request, facts) = (Own::find("token", request.method)?, request.clone(), facts.clone());
            return Box::pin(self.own(own, client, (request, facts), ctx)).await.map(Admitted::Own);
        }
        let twice = |rule: &Resolve| matches!(rule, Resolve::Header(name) if asked.headers.get_all(name).iter().nth(1).is_some());
        if active.snapshot.rules.resolve.iter().any(twice) {
            return Err(Refusal::new(Code::RequestAmbiguous, "the header that names the tenant stands twice"));
        }
        let rules = &active.snapshot.rules;
        let (found, preflight) = match Preflight::read(request, asked.headers)? {
            None => (rules.find(request, one(asked.headers))?, None),
            Some(preflight) => match rules.find_for(request, preflight.method, one(asked.headers))? {
                // Then OPTIONS is a method like any other.
                found if found.route.cors == Cors::Application => (rules.find(request, one(asked.headers))?, None),
                found => (found, Some(preflight)),
            },
        };
        let found = &*ctx.found.insert(found);
        let mut deliberation = Deliberation::new(rules, request, facts, found);
        if let Some(preflight) = &preflight {
            deliberation = deliberation.preflight(preflight);
        }
        let tls = facts.tls.is_some();
        let mut answering = Answering::new(&self.shared, &active, (request, conn), facts, found);
        let mut reply = None;
        let end = loop {
            match deliberation.proceed(reply.take()) {
                Step::Ask(question) => {
                    let answer = answering.answer(question, client, deliberation.findings(), &mut ctx.dues).await;
                    reply = Some(match question {
                        Question::Credential => {
                            let tenant = found.seat.as_ref().map(|seat| &*seat.id);
                            let settings = &active.snapshot.revocation;
                            let held = self.shared.hold(answer, settings, found.route.audit.durable, tenant);
                            held.shown_by(answering.shown)
                        }
                        Question::Quota(_) | Question::Fields | Question::CsrfToken => answer,
                    });
                }
                end => break end,
            }
        };
        (ctx.findings, ctx.trail) = deliberation.into_record();
        ctx.hand = answering.hand.into_inner();
        match end {
            Step::Permit(permit) => ctx.permit = Some(permit),
            Step::Grant => {
                let mut fields = HeaderMap::with_capacity(24);
                if let Some(preflight) = &preflight {
                    preflight.answer(&mut fields, &found.route, found.seat.as_ref(), &facts.site);
                }
                ctx.own = true;
                let made = respond::granted(fields, ctx.stamp.id, tls, ctx.profile(), ctx.stamp.at_ms / 1000);
                return Ok(Admitted::Own(made));
            }
            Step::Refuse(refusal) => return Err(refusal),
            Step::Ask(_) => return Err(unavailable("the deliberation did not end".to_owned())),
        }
        if let Some(leash) = live::leash() {
            let rules = (&*active.snapshot.rules, active.generation);
            let asked = client.asked();
            let exchange = Exchange::new((request, conn), facts, &ctx.findings, rules, one(asked.headers), leash);
            ctx.stay = Some(Live::enter(&self.shared, exchange, active.generation, ctx.stamp.id.0 as usize));
            // Whoever was ended between the check and this line was not among the running yet.
            if let Some(identity) = &ctx.findings.identity {
                let tenant = ctx.findings.seat.as_ref().map(|seat| &*seat.id);
                if let Some(refusal) = self.shared.ended(identity, tenant) {
                    return Err(refusal.shown_by(ctx.findings.carrier));
                }
            }
        }
        if let Some(delayed) = &ctx.findings.delayed {
            ctx.delay = Some(Delay::begins());
            let stayed = tokio::select! {
                biased;
                () = client.gone() => false,
                () = tokio::time::sleep(Duration::from_millis(delayed.wait_ms)) => true,
            };
            ctx.delay.iter_mut().for_each(Delay::ends);
            ctx.dues.waited();
            if !stayed {
                return Ok(Admitted::Left);
            }
            // What has changed meanwhile has judged this request too.
            if let Some(refusal) = ctx.stay.as_ref().and_then(Stay::ended) {
                return Err(refusal);
            }
        }
        let granting = active.held().filter(|held| held.grants(&found.route.name));
        if let Some(held) = granting {
            let headers = client.asked().headers;
            ctx.presented = held.presented(&self.shared.sessions, &active.snapshot.rules, request, headers);
        }
        // A session may come of it, whatever its method.
        let grants = granting.is_some();
        let (effect, durable) = (changes_state(request.method) || facts.upgrade, found.route.audit.durable);
        if let Csrf::Token(submit) = &found.route.csrf
            && !effect
            && tls
        {
            let cookies = client.asked().headers.get_all(COOKIE).into_iter().map(http::HeaderValue::as_bytes);
            let keys = &active.snapshot.csrf_keys;
            let desk = Desk { submit, keys, holder: holder(request, &ctx.findings), now_s: facts.at_s() };
            ctx.csrf_cookie = desk.due(cookies, random);
        }
        if ctx.profile().needs_nonce() {
            ctx.nonce = Some(Nonce::new(random()));
        }
        if effect || grants {
            let entry = ctx.entry(false);
            if let Some(slot) = &ctx.slot {
                slot.intent(entry, durable)
                    .await
                    .map_err(|e| unavailable(format!("the intent could not be written: {e}")))?;
            }
        }
        Ok(Admitted::Forward)
    }

    /// Room for requests in the audit log.
    fn room(&self) -> Room {
        let (all, free) = self.shared.audit.room();
        Room { all, free }
    }
}

/// Reads a header that stands exactly once.
fn one<'h>(headers: &'h HeaderMap) -> impl Fn(&HeaderName) -> Option<&'h str> {
    |name| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).and_then(|v| v.to_str().ok())
    }
}
