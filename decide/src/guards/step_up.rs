//! How fresh and how strong an authentication must be (RFC 9470): for a request, and for a sign-in that is to lead to one.
use crate::facts::Identity;
use crate::refusal::{Challenge, Code, Refusal};
use crate::rules::{Access, Route, Rules, Seat, StepUp};
use crate::sign_in::Purpose;

/// `amr` values that show a second factor or a key (RFC 8176).
const STRONG: [&str; 6] = ["mfa", "otp", "hwk", "swk", "fido", "phr"];

/// How far the issuer's clock may run ahead of ours, in seconds.
const SKEW_S: u64 = 60;

/// Why an authentication does not do for a route, as `session.step-up`; `None` where it does. `now_s` is the wall clock,
/// seconds since the epoch.
pub fn unmet(rules: &Rules, route: &Route, seat: Option<&Seat>, identity: &Identity, now_s: u64) -> Option<Refusal> {
    if let Some(refusal) = asked(rules, route).find_map(|step_up| stale(step_up, identity, now_s)) {
        return Some(refusal);
    }
    let tenant = &seat?.tenant;
    if tenant.mfa_required && !identity.amr.iter().any(|method| STRONG.contains(&&**method)) {
        return Some(refuse("the tenant requires a second factor", None, vec!["mfa".to_owned()]));
    }
    let max_age_s = tenant.max_auth_age_s.filter(|max_age_s| older_than(identity, now_s, *max_age_s))?;
    Some(refuse("the tenant requires a younger authentication", Some(max_age_s), Vec::new()))
}

/// What a provider is to be asked for, so that the sign-in will do for a route: the least of all ages, and the classes of
/// the first step-up that names any.
pub fn purpose(rules: &Rules, route: &Route, seat: Option<&Seat>, again: bool) -> Purpose {
    let mut purpose = Purpose { again, ..Purpose::default() };
    let ages = asked(rules, route).filter_map(|step_up| step_up.max_age_s);
    purpose.max_age_s = ages.chain(seat.and_then(|seat| seat.tenant.max_auth_age_s)).min();
    if let Some(step_up) = asked(rules, route).find(|step_up| !step_up.acr.is_empty()) {
        purpose.acr = step_up.acr.clone();
    } else if seat.is_some_and(|seat| seat.tenant.mfa_required) {
        purpose.acr = vec!["mfa".to_owned()];
    }
    purpose
}

/// Whether a code of the gateway's own second factor does for whatever a route asks. It is as young as can be and shows two
/// factors; what is left is the class, which is `acr` where the configuration says one.
pub fn code_does(rules: &Rules, route: &Route, acr: Option<&str>) -> bool {
    let named = |step_up: &StepUp| step_up.acr.is_empty() || step_up.acr.iter().any(|wanted| Some(&**wanted) == acr);
    asked(rules, route).all(named)
}

/// The step-ups that a route asks for: its own, and that of its permission.
fn asked<'a>(rules: &'a Rules, route: &'a Route) -> impl Iterator<Item = &'a StepUp> {
    let session = match &route.access {
        Access::Public { .. } => None,
        Access::Session(session) => Some(session),
    };
    session.into_iter().flat_map(|session| {
        let by_permission = session.permission.as_ref().and_then(|permission| rules.policy.step_up(permission.id));
        session.step_up.iter().chain(by_permission)
    })
}

/// The authentication is too old, or of a class that is not accepted.
fn stale(rule: &StepUp, identity: &Identity, now_s: u64) -> Option<Refusal> {
    let old = rule.max_age_s.is_some_and(|max| older_than(identity, now_s, max));
    let weak = !rule.acr.is_empty() && !identity.acr.as_ref().is_some_and(|acr| rule.acr.iter().any(|a| **a == **acr));
    if !old && !weak {
        return None;
    }
    let cause = format!("step-up `{}`: the authentication is too {}", rule.name, if old { "old" } else { "weak" });
    Some(refuse(cause, rule.max_age_s, rule.acr.clone()))
}

/// An authentication without time, or one from the future, counts as too old.
fn older_than(identity: &Identity, now_s: u64, max_age_s: u64) -> bool {
    match identity.auth_time {
        None => true,
        Some(time) => time > now_s.saturating_add(SKEW_S) || now_s.saturating_sub(time) > max_age_s,
    }
}

fn refuse(cause: impl Into<std::borrow::Cow<'static, str>>, max_age_s: Option<u64>, acr: Vec<String>) -> Refusal {
    Refusal::new(Code::SessionStepUp, cause).challenge(Challenge::StepUp { max_age_s, acr, dpop: false })
}
