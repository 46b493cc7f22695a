//! The client's address must be on the tenant's list, where there is one. A list only restricts: it never grants.
use super::{Case, Outcome};
use crate::facts::Facts;
use crate::refusal::{Code, Refusal};
use crate::rules::Seat;

pub(super) fn judge(case: Case<'_>, seat: Option<&Seat>) -> Outcome {
    listed(case.facts, seat)
}

/// The same without a route.
pub(super) fn listed(facts: &Facts, seat: Option<&Seat>) -> Outcome {
    let Some(seat) = seat.filter(|seat| !seat.tenant.ip_allow.is_empty()) else { return Outcome::Skip };
    let address = facts.client.0.to_canonical();
    if seat.tenant.ip_allow.iter().any(|net| net.contains(&address)) {
        Outcome::Pass
    } else {
        Outcome::Refuse(Refusal::new(Code::NetworkDenied, "the client address is not in the tenant's ip_allow"))
    }
}
