//! Tenants: the one that the request names must be served, and must be the one of the session.
use super::{Case, Outcome, network};
use crate::deliberation::Findings;
use crate::refusal::{Challenge, Code, Refusal};
use crate::rules::{RouteTenant, Seat, TenantStatus};

/// The tenant that the request names is not suspended.
pub(super) fn standing(seat: Option<&Seat>) -> Outcome {
    match seat.map(|seat| seat.tenant.status) {
        None => Outcome::Skip,
        Some(TenantStatus::Active) => Outcome::Pass,
        Some(TenantStatus::Suspended) => {
            Outcome::Refuse(Refusal::new(Code::TenantSuspended, "the tenant is suspended"))
        }
    }
}

/// The session belongs to the tenant that the request names; on routes with `tenant: {from: session}` it names it.
pub(super) fn binding(case: Case<'_>, findings: &mut Findings) -> Outcome {
    let Some(identity) = &findings.identity else { return Outcome::Skip };
    let claimed = identity.tenant.as_deref();
    let seat = match (&case.found.route.tenant, &findings.seat, claimed) {
        (RouteTenant::Session, _, None) => {
            return Outcome::Refuse(Refusal::new(Code::TenantMismatch, "the session names no tenant"));
        }
        (RouteTenant::Session, _, Some(id)) => match case.rules.seat(id, "session") {
            Ok(seat) => seat,
            Err(refusal) => return Outcome::Refuse(refusal),
        },
        (_, None, _) => return Outcome::Skip,
        (_, Some(seat), Some(id)) if *seat.id == *id => seat.clone(),
        (_, Some(_), Some(_)) => {
            return Outcome::Refuse(Refusal::new(Code::TenantMismatch, "the session belongs to another tenant"));
        }
        (_, Some(_), None) => {
            return Outcome::Refuse(Refusal::new(Code::TenantMismatch, "the session names no tenant"));
        }
    };
    // Known from here on, whatever is said of it: where this guard is in shadow, residency still has to hold.
    findings.seat = Some(seat.clone());
    if !seat.tenant.issuers.is_empty() && !seat.tenant.issuers.contains(&identity.issuer) {
        let refusal = Refusal::new(Code::SessionInvalid, "this issuer may not speak for the tenant");
        return Outcome::Refuse(refusal.challenge(Challenge::InvalidToken).shown_by(findings.carrier));
    }
    if matches!(case.found.route.tenant, RouteTenant::Session) {
        for outcome in [standing(Some(&seat)), network::judge(case, Some(&seat))] {
            if matches!(outcome, Outcome::Refuse(_)) {
                return outcome;
            }
        }
    }
    Outcome::Pass
}
