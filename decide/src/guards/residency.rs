//! Residency: a tenant's requests go to upstreams of its own region only.
use super::{Case, Outcome};
use crate::refusal::{Code, Refusal};
use crate::rules::{Destination, Route, Seat};

/// There is an upstream for the tenant.
pub(super) fn judge(case: Case<'_>, seat: Option<&Seat>) -> Outcome {
    let route = &case.found.route;
    let bound = seat.is_some_and(|seat| seat.tenant.residency.is_some());
    match destination(route, seat) {
        Ok(_) if !bound && route.regions.is_empty() => Outcome::Skip,
        Ok(_) => Outcome::Pass,
        Err(refusal) => Outcome::Refuse(refusal),
    }
}

/// Where a tenant's requests go, or `access.denied`.
pub(crate) fn destination<'r>(route: &'r Route, seat: Option<&Seat>) -> Result<&'r Destination, Refusal> {
    let residency = seat.and_then(|seat| seat.tenant.residency.as_deref());
    let by_region = |region: &str| route.regions.iter().find(|d| d.region.as_deref() == Some(region));
    match (residency, &route.upstream) {
        (Some(region), Some(only)) if only.region.as_deref() == Some(region) => Ok(only),
        (Some(region), other) => by_region(region).ok_or_else(|| {
            let cause = match other {
                Some(only) => {
                    format!("the tenant's data stays in `{region}`, and upstream `{}` is elsewhere", only.name)
                }
                None => format!("the tenant's data stays in `{region}`, and the route has no upstream there"),
            };
            Refusal::new(Code::AccessDenied, cause)
        }),
        (None, Some(default)) => Ok(default),
        (None, None) => {
            Err(Refusal::new(Code::AccessDenied, "the tenant has no residency, and the route has no default upstream"))
        }
    }
}
