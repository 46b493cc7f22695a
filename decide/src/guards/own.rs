//! The gateway's own resources below `/.moat/`: they have no route, but tenant, address and site are judged alike.
use super::{Outcome, csrf, network, tenant};
use crate::facts::{Facts, FetchSite, Site};
use crate::refusal::{Challenge, Code, Refusal};
use crate::rules::{Rules, Seat};

/// From whose pages one of the gateway's own resources may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sites {
    /// From anybody's: it changes nothing, or the protocol is cross-site by nature.
    Any,
    /// From our own, and by programs that are no browsers. For what no other site can have a browser do with a credential:
    /// `Authorization` is not sent by itself.
    NotForeign,
    /// From our own, with evidence: a cookie that the browser sends by itself is the credential.
    Proven,
}

/// Judges a request to one of the gateway's own resources, before anything is done.
///
/// Refuses with `network.denied`, `tenant.suspended` or `csrf.unproven`.
pub fn judge(facts: &Facts, seat: Option<&Seat>, sites: Sites) -> Result<(), Refusal> {
    for outcome in [network::listed(facts, seat), tenant::standing(seat)] {
        if let Outcome::Refuse(refusal) = outcome {
            return Err(refusal);
        }
    }
    let cause = match sites {
        Sites::Any => None,
        Sites::NotForeign => foreign(&facts.site),
        Sites::Proven => csrf::missing(&facts.site),
    };
    cause.map_or(Ok(()), |cause| Err(Refusal::new(Code::CsrfUnproven, cause)))
}

/// Judges whether somebody whose credential names this tenant, by the word of this issuer, may have a session on a host of
/// `seat`. The same as routes ask of every request.
///
/// Refuses with `tenant.mismatch` or `session.invalid`.
pub fn bind(seat: Option<&Seat>, tenant: Option<&str>, issuer: &str) -> Result<(), Refusal> {
    let Some(seat) = seat else { return Ok(()) };
    if tenant != Some(&*seat.id) {
        let cause = match tenant {
            Some(_) => "the credential belongs to another tenant",
            None => "the credential names no tenant",
        };
        return Err(Refusal::new(Code::TenantMismatch, cause));
    }
    if !seat.tenant.issuers.is_empty() && !seat.tenant.issuers.iter().any(|known| **known == *issuer) {
        let refusal = Refusal::new(Code::SessionInvalid, "this issuer may not speak for the tenant");
        return Err(refusal.challenge(Challenge::InvalidToken));
    }
    Ok(())
}

/// The tenant of whoever holds, or would hold, something that the gateway keeps: the host's where it names one, else the
/// session's own. Judged as on every route, each time.
///
/// Refuses with `tenant.mismatch`, `tenant.unknown`, `tenant.suspended`, `network.denied`, or `session.invalid` where the
/// issuer may not speak for the tenant.
pub fn holding(
    rules: &Rules,
    facts: &Facts,
    host: Option<&Seat>,
    issuer: &str,
    tenant: Option<&str>,
) -> Result<Option<Seat>, Refusal> {
    let seat = match (host, tenant) {
        (None, None) => return Ok(None),
        (Some(seat), _) => seat.clone(),
        // A gateway without tenants does not know what the claim means.
        (None, Some(_)) if rules.resolve.is_empty() && rules.tenants.is_empty() => return Ok(None),
        (None, Some(id)) => rules.seat(id, "session")?,
    };
    bind(Some(&seat), tenant, issuer)?;
    judge(facts, Some(&seat), Sites::Any)?;
    Ok(Some(seat))
}

/// What shows that another site asks, if anything does.
fn foreign(site: &Site) -> Option<&'static str> {
    let silent = site.fetch_site.is_none() && site.same_origin.is_none();
    if silent {
        return None;
    }
    match site.fetch_site {
        // Whatever it was: the user's own doing, or a program's.
        Some(FetchSite::None) if site.same_origin.is_none() => None,
        _ => csrf::missing(site),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::plain_facts;
    use super::*;

    fn said(site: Site, sites: Sites) -> String {
        let facts = Facts { site, ..plain_facts() };
        judge(&facts, None, sites).map_or_else(|refusal| refusal.code.id().to_owned(), |()| "passes".to_owned())
    }

    #[test]
    fn who_may_ask() {
        let browser = |fetch_site, same_origin| Site { fetch_site, same_origin, ..Site::default() };
        let ours = browser(Some(FetchSite::SameOrigin), Some(true));
        let theirs = browser(Some(FetchSite::CrossSite), Some(false));
        let sibling = browser(Some(FetchSite::SameSite), Some(false));
        for (site, expected) in [
            (ours, ["passes", "passes", "passes"]),
            (theirs, ["passes", "csrf.unproven", "csrf.unproven"]),
            (sibling, ["passes", "csrf.unproven", "csrf.unproven"]),
            (Site::default(), ["passes", "passes", "csrf.unproven"]),
            (browser(None, Some(false)), ["passes", "csrf.unproven", "csrf.unproven"]),
            (browser(None, Some(true)), ["passes", "passes", "passes"]),
            (browser(Some(FetchSite::None), None), ["passes", "passes", "passes"]),
        ] {
            let found = [Sites::Any, Sites::NotForeign, Sites::Proven].map(|sites| said(site.clone(), sites));
            assert_eq!(found, expected, "{site:?}");
        }
    }
}
