//! A valid session, where the route asks for one.
use super::{Case, Outcome, undecidable};
use crate::deliberation::Findings;
use crate::facts::{Answer, Credential, Question};
use crate::refusal::{Accepted, Challenge, Code, Refusal};
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
            return Outcome::Refuse(
                Refusal::new(Code::SessionMissing, "no credential").challenge(Challenge::Accepted(accepted(rules))),
            );
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

/// What the route would accept, and that what was presented is expired, revoked, malformed or otherwise invalid (RFC 6750,
/// 3.1).
fn wrong(rules: &SessionRules) -> Challenge {
    Challenge::Accepted(Accepted { error: Some("invalid_token"), ..accepted(rules) })
}

/// One challenge for each scheme that would help. A cookie is named where nothing else would; and where not even that is
/// known, as behind `ext_auth` or a certificate alone, `Bearer` stands for it: 401 takes a challenge (RFC 9110, 15.5.2).
fn accepted(rules: &SessionRules) -> Accepted {
    let mut accepted = Accepted::default();
    let mut cookies = Vec::new();
    for one in &rules.accept {
        match one {
            Accept::Bearer { .. } => accepted.bearer = true,
            Accept::Dpop { .. } => accepted.dpop = true,
            Accept::ApiKey { header, .. } if !accepted.api_keys.contains(header) => {
                accepted.api_keys.push(header.clone());
            }
            Accept::Cookie { name, .. } => cookies.push(name.clone()),
            Accept::Session { cookie } | Accept::AppSession { cookie, .. } => cookies.push(cookie.clone()),
            Accept::ApiKey { .. } | Accept::ExtAuth { .. } | Accept::Certificate { .. } => {}
        }
    }
    if !accepted.bearer && !accepted.dpop && accepted.api_keys.is_empty() {
        accepted.bearer = cookies.is_empty();
        accepted.cookies = cookies;
    }
    accepted
}
