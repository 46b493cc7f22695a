//! A valid session, where the route asks for one.
use super::{Case, Outcome, undecidable};
use crate::deliberation::Findings;
use crate::facts::{Answer, Credential, Question};
use crate::refusal::{Challenge, Code, Refusal};
use crate::rules::Access;

pub(super) fn judge(case: Case<'_>, findings: &mut Findings, answer: Option<Answer>) -> Outcome {
    match &case.found.route.access {
        Access::Public { .. } => return Outcome::Skip,
        Access::Session(_) => {}
    }
    let (identity, carrier) = match answer {
        None => return Outcome::Ask(Question::Credential),
        Some(Answer::Credential(Credential::Valid { identity, carrier })) => (identity, carrier),
        Some(Answer::Credential(Credential::Missing)) => {
            return Outcome::Refuse(Refusal::new(Code::SessionMissing, "no credential").challenge(Challenge::Bearer));
        }
        Some(Answer::Credential(Credential::Invalid(cause))) => {
            return Outcome::Refuse(Refusal::new(Code::SessionInvalid, cause).challenge(Challenge::InvalidToken));
        }
        Some(other @ (Answer::Quota(_) | Answer::Fields(_) | Answer::Unavailable(_))) => return undecidable(&other),
    };
    // A token verified a moment ago may have come from the cache: the clock has the last word.
    if identity.expires_at <= case.facts.at_s() {
        return Outcome::Refuse(
            Refusal::new(Code::SessionExpired, "the token has expired").challenge(Challenge::InvalidToken),
        );
    }
    findings.identity = Some(identity);
    findings.carrier = Some(carrier);
    Outcome::Pass
}
