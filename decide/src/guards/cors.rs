//! Preflights: whether another origin may send the request that its browser announces.
use super::{Case, Outcome};
use crate::cors::Cors;
use crate::refusal::{Code, Refusal};
use crate::rules::Seat;

pub(super) fn judge(case: Case<'_>, seat: Option<&Seat>) -> Outcome {
    let Some(preflight) = case.preflight else { return Outcome::Skip };
    let Cors::Shared(sharing) = &case.found.route.cors else {
        return refuse("the route is not open to other origins");
    };
    if !sharing.admits(&case.facts.site, seat) {
        return refuse("the origin is not among those that the route is open to");
    }
    match sharing.lacks(preflight) {
        None => Outcome::Pass,
        Some(cause) => refuse(cause),
    }
}

fn refuse(cause: &'static str) -> Outcome {
    Outcome::Refuse(Refusal::new(Code::CsrfUnproven, cause))
}
