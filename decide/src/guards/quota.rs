//! Rate limits: asks the shell to take one from each limit of the stage, and refuses when one is used up.
use super::{Case, Outcome, undecidable};
use crate::deliberation::Findings;
use crate::facts::{Answer, Question, Stage};
use crate::refusal::{Code, Refusal};

pub(super) fn judge(case: Case<'_>, findings: &mut Findings, stage: Stage, answer: Option<Answer>) -> Outcome {
    if !case.found.route.limits.iter().any(|limit| limit.stage() == stage) {
        return Outcome::Skip;
    }
    let reading = match answer {
        None => return Outcome::Ask(Question::Quota(stage)),
        Some(Answer::Quota(reading)) => reading,
        Some(other @ (Answer::Credential(_) | Answer::Unavailable(_))) => return undecidable(&other),
    };
    findings.shadowed_limits.extend(reading.shadowed);
    let exceeded = reading.exceeded.clone();
    if let Some(state) = exceeded.clone().or(reading.tightest)
        && findings.tightest.as_ref().is_none_or(|known| state.remaining <= known.remaining)
    {
        findings.tightest = Some(state);
    }
    match exceeded {
        None => Outcome::Pass,
        Some(state) => Outcome::Refuse(
            Refusal::new(Code::QuotaExceeded, format!("limit `{}` is used up", state.name))
                .retry_after(state.reset_s.max(1)),
        ),
    }
}
