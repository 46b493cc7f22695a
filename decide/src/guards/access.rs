//! Access: the permission, then the condition, then the freshness of the authentication.
use super::step_up::unmet;
use super::{Case, Outcome};
use crate::deliberation::Findings;
use crate::refusal::{Code, Refusal};
use crate::rules::Access;

pub(super) fn judge(case: Case<'_>, findings: &mut Findings) -> Outcome {
    let route = &case.found.route;
    let rules = match &route.access {
        Access::Public { .. } => return Outcome::Skip,
        Access::Session(rules) => rules,
    };
    // Without an identity here, the session guard runs in shadow: nothing can be granted to nobody.
    let Some(identity) = &findings.identity else {
        return Outcome::Refuse(Refusal::new(Code::AccessDenied, "no session"));
    };
    if let Some((a, b)) = case.rules.policy.conflict(&identity.roles) {
        return Outcome::Refuse(Refusal::new(Code::AccessDenied, format!("roles `{a}` and `{b}` exclude each other")));
    }
    if let Some(permission) = &rules.permission {
        match case.rules.policy.grantor(&identity.roles, permission.id) {
            Some(role) if identity.covers(&permission.name) => findings.granted_by = Some(role.clone()),
            Some(role) => {
                let cause = format!("role `{role}` grants `{}`, and no scope of the key names it", permission.name);
                return Outcome::Refuse(Refusal::new(Code::AccessDenied, cause));
            }
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
    match unmet(case.rules, route, findings.seat.as_ref(), identity, case.facts.at_s()) {
        Some(refusal) => Outcome::Refuse(refusal.shown_by(findings.carrier)),
        None => Outcome::Pass,
    }
}
