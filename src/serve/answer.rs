//! Answers a guard's question: takes from the limits, finds and verifies the credential.
use crate::serve::active::Active;
use crate::store::quota::KeyInput;
use decide::deliberation::Findings;
use decide::facts::{Answer, Carrier, Credential, Facts, Question, Stage};
use decide::rules::{Accept, Access, Found, Seat};
use decide::{cookie, token};
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};

/// Answers one question about one request.
pub async fn answer(
    question: Question,
    active: &Active,
    headers: &HeaderMap,
    facts: &Facts,
    found: &Found,
    findings: &Findings,
) -> Answer {
    match question {
        Question::Quota(stage) => Answer::Quota(quota(stage, active, facts, found, findings)),
        Question::Credential => credential(active, headers, facts, found).await,
    }
}

fn quota(stage: Stage, active: &Active, facts: &Facts, found: &Found, findings: &Findings) -> decide::facts::Reading {
    let seat: Option<&Seat> = findings.seat.as_ref();
    let identity = findings.identity.as_deref();
    let key = KeyInput {
        client: facts.client.0,
        tenant: seat.map(|s| &*s.id),
        class: seat.map(|s| s.tenant.class),
        issuer: identity.map_or("", |i| &i.issuer),
        subject: identity.map(|i| &*i.subject.0),
        route: &found.route.name,
    };
    let reading = active.quotas.take(&found.route.limits, stage, &key);
    active.route_metrics(Some(&found.route.name)).quota(&found.route.limits, stage, &reading, key.tenant);
    reading
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
