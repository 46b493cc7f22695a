//! Access: the permission, then the condition, then the freshness of the authentication.
use super::{Case, Outcome};
use crate::deliberation::Findings;
use crate::facts::{Facts, Identity};
use crate::refusal::{Challenge, Code, Refusal};
use crate::rules::{Access, StepUp};

/// `amr` values that show a second factor or a key (RFC 8176).
const STRONG: [&str; 6] = ["mfa", "otp", "hwk", "swk", "fido", "phr"];

pub(super) fn judge(case: Case<'_>, findings: &mut Findings) -> Outcome {
    let route = &case.found.route;
    let rules = match &route.access {
        Access::Public { .. } => return Outcome::Skip,
        Access::Session(rules) => rules,
    };
    // Without an identity here, the session guard runs in shadow: nothing can be granted to nobody.
    let Some(identity) = findings.identity.clone() else {
        return Outcome::Refuse(Refusal::new(Code::AccessDenied, "no session"));
    };
    if let Some((a, b)) = case.rules.policy.conflict(&identity.roles) {
        return Outcome::Refuse(Refusal::new(Code::AccessDenied, format!("roles `{a}` and `{b}` exclude each other")));
    }
    if let Some(permission) = &rules.permission {
        match case.rules.policy.grantor(&identity.roles, permission.id) {
            Some(role) => findings.granted_by = Some(role.clone()),
            None => {
                let cause = format!("no role of the caller grants `{}`", permission.name);
                return Outcome::Refuse(Refusal::new(Code::AccessDenied, cause));
            }
        }
    }
    if let Some(condition) = &rules.when {
        match condition.holds(case.rules, case.request, case.facts, findings.seat.as_ref(), findings) {
            Ok(true) => {}
            Ok(false) => {
                return Outcome::Refuse(Refusal::new(Code::AccessDenied, "the route's condition does not hold"));
            }
            Err(error) => {
                return Outcome::Refuse(Refusal::new(
                    Code::AccessDenied,
                    format!("the route's condition failed: {error}"),
                ));
            }
        }
    }
    let by_permission = rules.permission.as_ref().and_then(|p| case.rules.policy.step_up(p.id));
    for step_up in rules.step_up.iter().chain(by_permission) {
        if let Some(refusal) = stale(step_up, &identity, case.facts) {
            return Outcome::Refuse(refusal);
        }
    }
    if let Some(seat) = &findings.seat {
        let tenant = &seat.tenant;
        let strong = identity.amr.iter().any(|method| STRONG.contains(&&**method));
        if tenant.mfa_required && !strong {
            return Outcome::Refuse(step_up("the tenant requires a second factor", None, vec!["mfa".to_owned()]));
        }
        if let Some(max_age_s) = tenant.max_auth_age_s
            && older_than(&identity, case.facts, max_age_s)
        {
            return Outcome::Refuse(step_up(
                "the tenant requires a younger authentication",
                Some(max_age_s),
                Vec::new(),
            ));
        }
    }
    Outcome::Pass
}

/// RFC 9470: the authentication is too old, or of a class that is not accepted.
fn stale(rule: &StepUp, identity: &Identity, facts: &Facts) -> Option<Refusal> {
    let old = rule.max_age_s.is_some_and(|max| older_than(identity, facts, max));
    let weak = !rule.acr.is_empty() && !identity.acr.as_ref().is_some_and(|acr| rule.acr.iter().any(|a| **a == **acr));
    if !old && !weak {
        return None;
    }
    let cause = format!("step-up `{}`: the authentication is too {}", rule.name, if old { "old" } else { "weak" });
    Some(step_up(cause, rule.max_age_s, rule.acr.clone()))
}

/// An authentication without time, or one from the future, counts as too old.
fn older_than(identity: &Identity, facts: &Facts, max_age_s: u64) -> bool {
    const SKEW_S: u64 = 60;
    match identity.auth_time {
        None => true,
        Some(time) => time > facts.at_s() + SKEW_S || facts.at_s().saturating_sub(time) > max_age_s,
    }
}

fn step_up(cause: impl Into<std::borrow::Cow<'static, str>>, max_age_s: Option<u64>, acr: Vec<String>) -> Refusal {
    Refusal::new(Code::SessionStepUp, cause).challenge(Challenge::StepUp { max_age_s, acr })
}
