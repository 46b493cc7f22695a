//! Answers a guard's question: takes from the limits, finds and verifies the credential.
use crate::serve::active::Active;
use crate::serve::client::Client;
use crate::store::quota::{Dues, FieldHash, KeyInput, Silent, is_shared};
use decide::deliberation::Findings;
use decide::facts::{Answer, Carrier, Credential, Facts, Question, Stage};
use decide::refusal::{Code, Refusal};
use decide::request::Request;
use decide::rules::{Accept, Access, FieldKey, Found, KeyPart, Seat};
use decide::{body, cookie, token};
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, COOKIE};
use std::time::Duration;

/// Time for a body that a limit looks into to be there.
const BODY: Duration = Duration::from_secs(60);

/// Answers the questions about one request.
pub struct Answering<'a> {
    active: &'a Active,
    request: &'a Request,
    facts: &'a Facts,
    found: &'a Found,
    fields: Vec<(FieldKey, FieldHash)>,
}

impl<'a> Answering<'a> {
    /// About this request.
    pub fn new(active: &'a Active, request: &'a Request, facts: &'a Facts, found: &'a Found) -> Answering<'a> {
        Answering { active, request, facts, found, fields: Vec::new() }
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
            Question::Credential => credential(self.active, client.asked().headers, self.facts, self.found).await,
            Question::Fields => Answer::Fields(self.read_fields(client).await),
        }
    }

    /// Reads the body as far as limits need it, and keeps the hashes of the fields they count by.
    async fn read_fields<C: Client>(&mut self, client: &mut C) -> Result<(), Refusal> {
        let (found, request) = (self.found, self.request);
        let limits = || found.route.limits.iter().filter(|limit| limit.stage() == Stage::Body);
        let keys: Vec<&FieldKey> = limits().flat_map(|limit| limit.fields()).collect();
        let most = limits().map(|limit| limit.inspect).max().unwrap_or_default();
        let headers = client.asked().headers;
        let lines = |name| headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
        let kind = body::kind(lines(CONTENT_TYPE), lines(CONTENT_ENCODING), &keys)?;
        let late = |_| Refusal::new(Code::RequestTimeout, "the body that a limit looks into did not come in time");
        let bytes = tokio::time::timeout(BODY, client.body(most)).await.map_err(late)??;
        let values = body::read(kind, &bytes, request.query.as_deref(), &keys)?;
        let hash = |(key, value): (&FieldKey, body::FieldValue)| (key.clone(), FieldHash::of(value.as_bytes()));
        self.fields = keys.into_iter().zip(values).map(hash).collect();
        Ok(())
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
            route: &found.route.name,
            params: &params,
            fields: &self.fields,
        };
        let reading = if is_shared(limits, stage) {
            // Boxed, so that requests without such a limit do not carry the room for it.
            match Box::pin(active.quotas.take_shared(limits, stage, &key, dues)).await {
                Ok(reading) => reading,
                Err(Silent { limit }) => {
                    return Answer::Unavailable(format!("limit `{limit}` needs its store, which is silent"));
                }
            }
        } else {
            active.quotas.take(limits, stage, &key, dues)
        };
        active.route_metrics(Some(&found.route.name)).quota(limits, stage, &reading, key.tenant);
        Answer::Quota(reading)
    }
}

async fn credential(active: &Active, headers: &HeaderMap, facts: &Facts, found: &Found) -> Answer {
    let rules = match &found.route.access {
        Access::Public { .. } => return Answer::Credential(Credential::Missing),
        Access::Session(rules) => rules,
    };
    let bearer = match bearer(headers) {
        Ok(bearer) => bearer,
        Err(cause) => return Answer::Credential(Credential::Invalid(cause.to_owned())),
    };
    if let Some(token) = bearer {
        let issuers: Vec<&str> = rules
            .accept
            .iter()
            .filter_map(|a| match a {
                Accept::Bearer { issuer } => Some(&**issuer),
                Accept::Cookie { .. } => None,
            })
            .collect();
        if !issuers.is_empty() {
            return verify(active, token, &issuers, Carrier::Bearer, facts).await;
        }
    }
    for accept in &rules.accept {
        let Accept::Cookie { name, issuer } = accept else { continue };
        match cookie::find(headers.get_all(COOKIE).iter().map(http::HeaderValue::as_bytes), name) {
            Ok(Some(token)) => return verify(active, token, &[issuer], Carrier::Cookie, facts).await,
            Ok(None) => {}
            Err(refusal) => return Answer::Credential(Credential::Invalid(refusal.cause.into_owned())),
        }
    }
    Answer::Credential(Credential::Missing)
}

/// The token of `Authorization: Bearer` (RFC 6750, 2.1). Another scheme is no credential of ours; two headers are none.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err("Authorization is repeated");
    }
    let Some(value) = first else { return Ok(None) };
    let value = value.to_str().map_err(|_| "Authorization is not ASCII")?;
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim_start_matches(' '))),
        _ => Ok(None),
    }
}

/// Several issuers may be accepted: the token's own word only chooses between them, its signature decides.
async fn verify(active: &Active, token: &str, issuers: &[&str], carrier: Carrier, facts: &Facts) -> Answer {
    let chosen = match issuers {
        [one] => active.issuer(one),
        many => {
            let claimed = token::peek_issuer(token);
            many.iter()
                .filter_map(|name| active.issuer(name))
                .find(|i| Some(&*i.settings().rules.issuer) == claimed.as_deref())
        }
    };
    match chosen {
        Some(ring) => ring.verify(token, facts.at_s(), carrier).await,
        None => Answer::Credential(Credential::Invalid("no accepted issuer made this token".to_owned())),
    }
}
