//! Rate limits: asks the shell to take one from each limit of the stage, and refuses when one is used up.
use super::{Case, Guard, Outcome, undecidable};
use crate::deliberation::Findings;
use crate::facts::{Answer, Question, Reading, Stage, changes_state};
use crate::refusal::{Code, Refusal};

/// Limits by address or by caller.
pub(super) fn judge(case: Case<'_>, findings: &mut Findings, stage: Stage, answer: Option<Answer>) -> Outcome {
    if !concerned(case, stage) {
        return Outcome::Skip;
    }
    match answer {
        None => Outcome::Ask(Question::Quota(stage)),
        Some(Answer::Quota(reading)) => weigh(case, findings, stage, reading),
        Some(
            other @ (Answer::Credential(_)
            | Answer::Shown(..)
            | Answer::Fields(_)
            | Answer::CsrfToken(_)
            | Answer::Unavailable(_)),
        ) => undecidable(&other),
    }
}

/// Limits by a field of the body: first the field, then the limits. A request that has no body, of a method that changes
/// nothing, has no fields to count by.
pub(super) fn by_body(case: Case<'_>, findings: &mut Findings, answer: Option<Answer>) -> Outcome {
    let has_fields = case.facts.body.present || changes_state(case.request.method);
    if !has_fields || !concerned(case, Stage::Body) {
        return Outcome::Skip;
    }
    let refusal = match answer {
        None => return Outcome::Ask(Question::Fields),
        Some(Answer::Fields(Ok(()))) => return Outcome::Ask(Question::Quota(Stage::Body)),
        Some(Answer::Fields(Err(refusal))) => refusal,
        Some(Answer::Quota(reading)) => return weigh(case, findings, Stage::Body, reading),
        Some(other @ (Answer::Credential(_) | Answer::Shown(..) | Answer::CsrfToken(_) | Answer::Unavailable(_))) => {
            return undecidable(&other);
        }
    };
    // What cannot be counted is refused, unless those limits only watch.
    let mut limits = case.found.route.limits.iter().filter(|limit| limit.stage() == Stage::Body);
    if limits.clone().any(|limit| !limit.shadow) {
        return Outcome::Refuse(refusal);
    }
    findings.shadowed_limits.extend(limits.by_ref().map(|limit| limit.name.clone()));
    Outcome::Pass
}

fn concerned(case: Case<'_>, stage: Stage) -> bool {
    case.found.route.limits.iter().any(|limit| limit.stage() == stage)
}

fn weigh(case: Case<'_>, findings: &mut Findings, stage: Stage, reading: Reading) -> Outcome {
    findings.shadowed_limits.extend(reading.shadowed);
    let exceeded = reading.exceeded.clone();
    if let Some(state) = exceeded.clone().or(reading.tightest)
        && findings.tightest.as_ref().is_none_or(|known| state.remaining <= known.remaining)
    {
        findings.tightest = Some(state);
    }
    match (exceeded, reading.delayed) {
        (Some(state), _) => Outcome::Refuse(
            Refusal::new(Code::QuotaExceeded, format!("limit `{}` is used up", state.name))
                .retry_after(state.reset_s.max(1)),
        ),
        // A guard that only watches slows nobody down.
        (None, Some(delayed)) if case.found.route.shadow.contains(&guard(stage)) => {
            findings.shadowed_limits.push(delayed.name);
            Outcome::Pass
        }
        (None, Some(delayed)) => {
            if findings.delayed.as_ref().is_none_or(|known| known.wait_ms < delayed.wait_ms) {
                findings.delayed = Some(delayed);
            }
            Outcome::Pass
        }
        (None, None) => Outcome::Pass,
    }
}

const fn guard(stage: Stage) -> Guard {
    match stage {
        Stage::Address => Guard::AddressQuota,
        Stage::Caller => Guard::CallerQuota,
        Stage::Body => Guard::BodyQuota,
    }
}
