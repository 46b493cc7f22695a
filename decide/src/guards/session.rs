//! A valid session, where the route asks for one.
use super::{Case, Outcome, undecidable};
use crate::deliberation::Findings;
use crate::facts::{Answer, Credential, Question};
use crate::refusal::{Challenge, Code, Refusal};
use crate::rules::{Accept, Access, SessionRules};
use std::borrow::Cow;

pub(super) fn judge(case: Case<'_>, findings: &mut Findings, answer: Option<Answer>) -> Outcome {
    let rules = match &case.found.route.access {
        Access::Public { .. } => return Outcome::Skip,
        Access::Session(rules) => rules,
    };
    let invalid = |code, cause: Cow<'static, str>| Refusal::new(code, cause).challenge(wrong(rules));
    let (identity, carrier) = match answer {
        None => return Outcome::Ask(Question::Credential),
        Some(Answer::Credential(Credential::Valid { identity, carrier })) => (identity, carrier),
        Some(Answer::Credential(Credential::Missing)) => {
            return Outcome::Refuse(Refusal::new(Code::SessionMissing, "no credential").challenge(missing(rules)));
        }
        Some(Answer::Credential(Credential::Invalid(cause))) => {
            return Outcome::Refuse(invalid(Code::SessionInvalid, cause.into()));
        }
        Some(Answer::Credential(Credential::Denied(cause))) => {
            return Outcome::Refuse(Refusal::new(Code::AccessDenied, cause));
        }
        Some(Answer::Credential(Credential::Expired(cause))) => {
            return Outcome::Refuse(invalid(Code::SessionExpired, cause.into()));
        }
        Some(Answer::Credential(Credential::Revoked(cause))) => {
            return Outcome::Refuse(invalid(Code::SessionRevoked, cause.into()));
        }
        Some(Answer::Credential(Credential::Reused(cause))) => {
            return Outcome::Refuse(invalid(Code::SessionReused, cause.into()));
        }
        Some(other @ (Answer::Quota(_) | Answer::Fields(_) | Answer::CsrfToken(_) | Answer::Unavailable(_))) => {
            return undecidable(&other);
        }
    };
    // A token verified a moment ago may have come from the cache: the clock has the last word.
    if identity.expires_at <= case.facts.at_s() {
        return Outcome::Refuse(invalid(Code::SessionExpired, "the token has expired".into()));
    }
    findings.identity = Some(identity);
    findings.carrier = Some(carrier);
    Outcome::Pass
}

/// RFC 6750, 3: what the route would accept. Where it wants proof of a key, a bearer token is not worth sending.
fn missing(rules: &SessionRules) -> Challenge {
    if wants_proof(rules) { Challenge::Dpop { error: None } } else { Challenge::Bearer }
}

/// RFC 6750, 3.1: what was presented is expired, revoked, malformed or otherwise invalid.
fn wrong(rules: &SessionRules) -> Challenge {
    if wants_proof(rules) { Challenge::Dpop { error: Some("invalid_token") } } else { Challenge::InvalidToken }
}

fn wants_proof(rules: &SessionRules) -> bool {
    let with_proof = rules.accept.iter().any(|accept| matches!(accept, Accept::Dpop { .. }));
    with_proof && !rules.accept.iter().any(|accept| matches!(accept, Accept::Bearer { .. }))
}
