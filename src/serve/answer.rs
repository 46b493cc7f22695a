//! Answers a guard's question: takes from the limits, reads fields of the body, leaves credentials to `ways`.
#[cfg(test)]
mod tests;

use crate::serve::active::Active;
use crate::serve::client::Client;
use crate::serve::gateway::Shared;
use crate::serve::in_place::in_place;
use crate::serve::listener::ConnInfo;
use crate::serve::sessions::Hand;
use crate::serve::ways::{self, Way};
use crate::store::quota::{Dues, FieldHash, KeyInput, Silent, is_shared};
use decide::csrf::{Desk, Holder};
use decide::deliberation::Findings;
use decide::facts::{Answer, Carrier, Facts, Question, Stage};
use decide::refusal::{Code, Refusal};
use decide::request::Request;
use decide::rules::{API_KEY, Csrf, FieldKey, FieldSource, Found, KeyPart, Seat};
use decide::{body, csrf};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Time for a body that is looked into to be there.
const BODY: Duration = Duration::from_secs(60);

/// Answers the questions about one request.
pub struct Answering<'a> {
    shared: &'a Arc<Shared>,
    active: &'a Active,
    request: &'a Request,
    conn: &'a ConnInfo,
    facts: &'a Facts,
    found: &'a Found,
    fields: Vec<(FieldKey, FieldHash)>,
    /// The body, where somebody has asked for it: it can be read once.
    body: Option<Result<Vec<u8>, Refusal>>,
    /// The handle of a session that the answer is to hand out.
    pub hand: OnceLock<Hand>,
    /// How the credential came that was judged.
    pub shown: Option<Carrier>,
}

impl<'a> Answering<'a> {
    /// About this request.
    pub fn new(
        shared: &'a Arc<Shared>,
        active: &'a Active,
        (request, conn): (&'a Request, &'a ConnInfo),
        facts: &'a Facts,
        found: &'a Found,
    ) -> Answering<'a> {
        let (fields, body, hand, shown) = (Vec::new(), None, OnceLock::new(), None);
        Answering { shared, active, request, conn, facts, found, fields, body, hand, shown }
    }

    /// Answers one question. What the request owes to its limits is added to `dues`.
    pub async fn answer<C: Client>(
        &mut self,
        question: Question,
        client: &mut C,
        findings: &Findings,
        dues: &mut Dues,
    ) -> Answer {
        match question {
            Question::Quota(stage) => self.quota(stage, findings, dues).await,
            Question::Credential => {
                let headers = client.asked().headers;
                let Answering { shared, active, request, conn, facts, found, hand, .. } = self;
                let way = Way { shared, active, request, headers, conn, facts, found, hand };
                let (answer, shown) = pin!(ways::credential(way)).await;
                self.shown = shown;
                answer
            }
            Question::Fields => Answer::Fields(self.read_fields(client).await),
            Question::CsrfToken => Answer::CsrfToken(self.csrf_token(client, findings).await),
        }
    }

    /// Reads the body as far as limits need it, and keeps the hashes of the fields they count by.
    async fn read_fields<C: Client>(&mut self, client: &mut C) -> Result<(), Refusal> {
        let (found, request) = (self.found, self.request);
        let limits = || found.route.limits.iter().filter(|limit| limit.stage() == Stage::Body);
        let keys: Vec<&FieldKey> = limits().flat_map(|limit| limit.fields()).collect();
        let headers = client.asked().headers;
        let kind = body::kind(lines(headers, &CONTENT_TYPE), lines(headers, &CONTENT_ENCODING), &keys)?;
        let bytes = self.body(client).await?;
        let values = body::read(kind, bytes, request.query.as_deref(), &keys)?;
        let hash = |(key, value): (&FieldKey, body::FieldValue)| (key.clone(), FieldHash::of(value.as_bytes()));
        self.fields = keys.into_iter().zip(values).map(hash).collect();
        Ok(())
    }

    /// Whether the request shows the token of its route's cookie a second time.
    async fn csrf_token<C: Client>(&mut self, client: &mut C, findings: &Findings) -> Result<(), Refusal> {
        let (active, request, found, now_s) = (self.active, self.request, self.found, self.facts.at_s());
        let unproven = |cause: String| Refusal::new(Code::CsrfUnproven, cause);
        let Csrf::Token(submit) = &found.route.csrf else { return Err(unproven("the route has no tokens".to_owned())) };
        let desk = Desk { submit, keys: &active.snapshot.csrf_keys, holder: holder(request, findings), now_s };
        let headers = client.asked().headers;
        let mut sent = submit.header.iter().flat_map(|name| headers.get_all(name));
        match (sent.next(), sent.next()) {
            (Some(sent), None) => return desk.check(lines(headers, &COOKIE), sent.to_str().unwrap_or_default()),
            (Some(_), Some(_)) => return Err(unproven("the header of the token stands twice".to_owned())),
            (None, _) => {}
        }
        let Some(name) = &submit.field else { return Err(unproven("no header holds a token".to_owned())) };
        let key = FieldKey { source: FieldSource::Form, name: name.clone() };
        let none = |refusal: Refusal| unproven(format!("no form holds a token: {}", refusal.cause));
        body::kind(lines(headers, &CONTENT_TYPE), lines(headers, &CONTENT_ENCODING), &[&key]).map_err(none)?;
        let sent = body::form_field(self.body(client).await?, request.query.as_deref(), name).map_err(none)?;
        desk.check(lines(client.asked().headers, &COOKIE), &sent)
    }

    /// The whole body, of at most as many bytes as anything on the route looks into.
    async fn body<C: Client>(&mut self, client: &mut C) -> Result<&[u8], Refusal> {
        if self.body.is_none() {
            let limits = self.found.route.limits.iter().filter(|limit| limit.stage() == Stage::Body);
            let token = match &self.found.route.csrf {
                Csrf::Token(submit) => Some(submit.inspect),
                Csrf::Strict | Csrf::Off => None,
            };
            let most = limits.map(|limit| limit.inspect).chain(token).max().unwrap_or_default();
            self.body = Some(in_time(client, most).await);
        }
        match &self.body {
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(refusal)) => Err(refusal.clone()),
            None => Err(Refusal::new(Code::GatewayUnavailable, "the body was not read")),
        }
    }

    async fn quota(&self, stage: Stage, findings: &Findings, dues: &mut Dues) -> Answer {
        let (active, found) = (self.active, self.found);
        let seat: Option<&Seat> = findings.seat.as_ref();
        let identity = findings.identity.as_deref();
        let limits = &found.route.limits;
        let by_param = limits.iter().any(|limit| limit.key.iter().any(|part| matches!(part, KeyPart::Param(_))));
        let params: Vec<(&str, &str)> = if by_param { found.params(&self.request.path).collect() } else { Vec::new() };
        let key = KeyInput {
            client: self.facts.client.0,
            tenant: seat.map(|s| &*s.id),
            class: seat.map(|s| s.tenant.class),
            issuer: identity.map_or("", |i| &i.issuer),
            subject: identity.map(|i| &*i.subject.0),
            api_key: identity.filter(|i| *i.issuer == *API_KEY).and_then(|i| i.session.as_deref()),
            route: &found.route.name,
            params: &params,
            fields: &self.fields,
        };
        let reading = if is_shared(limits, stage) {
            // Boxed, so that requests without such a limit do not carry the room for it.
            match in_place(|| active.quotas.take_shared(limits, stage, &key, dues)).await {
                Ok(reading) => reading,
                Err(Silent { limit }) => {
                    return Answer::Unavailable(format!("limit `{limit}` needs its store, which is silent"));
                }
            }
        } else {
            active.quotas.take(limits, stage, &key, dues)
        };
        active.route_metrics(Some(found)).quota(limits, stage, &reading, key.tenant);
        Answer::Quota(reading)
    }
}

/// The body, or a refusal once it has kept us waiting for too long.
async fn in_time<C: Client>(client: &mut C, most: usize) -> Result<Vec<u8>, Refusal> {
    let late = |_| Refusal::new(Code::RequestTimeout, "the body that is looked into did not come in time");
    tokio::time::timeout(BODY, client.body(most)).await.map_err(late)?
}

/// Whom a token of this request is for.
pub fn holder<'r>(request: &'r Request, findings: &'r Findings) -> csrf::Holder<'r> {
    Holder {
        host: &request.host,
        tenant: findings.seat.as_ref().map(|seat| &*seat.id),
        identity: findings.identity.as_deref(),
    }
}

fn lines<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes)
}
