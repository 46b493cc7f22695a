//! A valid session, where the route asks for one.
use super::{Case, Outcome, undecidable};
use crate::deliberation::Findings;
use crate::facts::{Answer, Carrier, Credential, Question};
use crate::refusal::{Accepted, Challenge, Code, Refusal};
use crate::rules::{Accept, Access, SessionRules};

pub(super) fn judge(case: Case<'_>, findings: &mut Findings, answer: Option<Answer>) -> Outcome {
    let rules = match &case.found.route.access {
        Access::Public { .. } => return Outcome::Skip,
        Access::Session(rules) => rules,
    };
    let (credential, carrier) = match answer {
        None => return Outcome::Ask(Question::Credential),
        Some(Answer::Credential(credential)) => (credential, None),
        Some(Answer::Shown(carrier, credential)) => (credential, Some(carrier)),
        Some(other @ (Answer::Quota(_) | Answer::Fields(_) | Answer::CsrfToken(_) | Answer::Unavailable(_))) => {
            return undecidable(&other);
        }
    };
    let refuse = |code, cause: String, carrier| {
        Outcome::Refuse(Refusal::new(code, cause).challenge(Challenge::Accepted(accepted(rules, carrier))))
    };
    let (identity, carrier) = match credential {
        Credential::Valid { identity, carrier } => (identity, carrier),
        Credential::Missing => return refuse(Code::SessionMissing, "no credential".to_owned(), None),
        Credential::Invalid(cause) => return refuse(Code::SessionInvalid, cause, carrier),
        Credential::Denied(cause) => return Outcome::Refuse(Refusal::new(Code::AccessDenied, cause)),
        Credential::Expired(cause) => return refuse(Code::SessionExpired, cause, carrier),
        Credential::Revoked(cause) => return refuse(Code::SessionRevoked, cause, carrier),
        Credential::Reused(cause) => return refuse(Code::SessionReused, cause, carrier),
    };
    // A token verified a moment ago may have come from the cache: the clock has the last word.
    if identity.expires_at <= case.facts.at_s() {
        return refuse(Code::SessionExpired, "the token has expired".to_owned(), Some(carrier));
    }
    findings.identity = Some(identity);
    findings.carrier = Some(carrier);
    Outcome::Pass
}

/// One challenge for each scheme that would help. A cookie is named where nothing else would; and where not even that is
/// known, as behind `ext_auth` or a certificate alone, `Bearer` stands for it: 401 takes a challenge (RFC 9110, 15.5.2). What came in the way of `shown` was expired, revoked, malformed or
/// otherwise invalid (RFC 6750, 3.1).
fn accepted(rules: &SessionRules, shown: Option<Carrier>) -> Accepted {
    let mut accepted = Accepted { wrong: shown, ..Accepted::default() };
    let mut cookies = Vec::new();
    for one in &rules.accept {
        match one {
            Accept::Bearer { .. } => accepted.bearer = true,
            Accept::Dpop { .. } => accepted.dpop = Some(rules.proofs.clone()),
            Accept::ApiKey { header, .. } if !accepted.api_keys.contains(header) => {
                accepted.api_keys.push(header.clone());
            }
            Accept::Cookie { name, .. } => cookies.push(name.clone()),
            Accept::Session { cookie } | Accept::AppSession { cookie, .. } => cookies.push(cookie.clone()),
            Accept::ApiKey { .. } | Accept::ExtAuth { .. } | Accept::Certificate { .. } => {}
        }
    }
    if !accepted.bearer && accepted.dpop.is_none() && accepted.api_keys.is_empty() {
        accepted.bearer = cookies.is_empty();
        accepted.cookies = cookies;
    }
    accepted
}
