//! How fresh and how strong an authentication must be (RFC 9470): for a request, and for a sign-in that is to lead to one.
use crate::facts::Identity;
use crate::refusal::{Challenge, Code, Refusal};
use crate::rules::{Access, Route, Rules, Seat, StepUp};
use crate::sign_in::Purpose;
use std::sync::Arc;

/// `amr` values that show a second factor or a key (RFC 8176).
const STRONG: [&str; 6] = ["mfa", "otp", "hwk", "swk", "fido", "phr"];

/// `amr` values that a session has besides, once a code of the gateway's own second factor was shown in it.
pub const OF_A_CODE: [&str; 2] = ["otp", "mfa"];

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
/// the first step-up that names any. For methods there is no parameter: who needs some authenticates anew, since the session
/// that the provider has may be without them.
pub fn purpose(rules: &Rules, route: &Route, seat: Option<&Seat>, again: bool) -> Purpose {
    let methods = asked(rules, route).any(|step_up| !step_up.amr.is_empty());
    let mut purpose = Purpose { again: again || methods, ..Purpose::default() };
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
/// factors; what is left is the class, which is `acr` where the configuration says one, and the methods that a code is not
/// one of, which must be among `used`, those of the sign-in.
pub fn code_does(rules: &Rules, route: &Route, acr: Option<&str>, used: &[Arc<str>]) -> bool {
    asked(rules, route).all(|step_up| {
        let named = step_up.acr.is_empty() || step_up.acr.iter().any(|wanted| Some(&**wanted) == acr);
        named && step_up.amr.iter().all(|wanted| OF_A_CODE.contains(&&**wanted) || has(used, wanted))
    })
}

fn has(used: &[Arc<str>], wanted: &str) -> bool {
    used.iter().any(|method| **method == *wanted)
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

/// The authentication is too old, of a class that is not accepted, or without a method that is asked for.
fn stale(rule: &StepUp, identity: &Identity, now_s: u64) -> Option<Refusal> {
    let old = rule.max_age_s.is_some_and(|max| older_than(identity, now_s, max));
    let weak = !rule.acr.is_empty() && !identity.acr.as_ref().is_some_and(|acr| rule.acr.iter().any(|a| **a == **acr));
    let missing = || rule.amr.iter().find(|wanted| !has(&identity.amr, wanted));
    let cause = match (old, weak) {
        (true, _) => format!("step-up `{}`: the authentication is too old", rule.name),
        (false, true) => format!("step-up `{}`: the authentication is too weak", rule.name),
        (false, false) => format!("step-up `{}`: the authentication did not use `{}`", rule.name, missing()?),
    };
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
