//! Answers a guard's question: takes from the limits, reads fields of the body, leaves credentials to `ways`.
use crate::serve::active::Active;
use crate::serve::client::Client;
use crate::serve::ways::{self, Way};
use crate::store::quota::{Dues, FieldHash, KeyInput, Silent, is_shared};
use decide::body;
use decide::deliberation::Findings;
use decide::facts::{Answer, Facts, Question, Stage};
use decide::refusal::{Code, Refusal};
use decide::request::Request;
use decide::rules::{FieldKey, Found, KeyPart, Seat};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
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
            Question::Credential => {
                let headers = client.asked().headers;
                ways::credential(Way { active: self.active, headers, facts: self.facts, found: self.found }).await
            }
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
