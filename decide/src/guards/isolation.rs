//! Reads by other people's pages: a script, picture or frame that is fetched with a user's cookie can tell the page that
//! embeds it more than its answer says (cross-site leaks). So it comes from our own pages, by the leave of `cors`, or
//! opens a window of its own, where the other page cannot look.
use super::{Case, Outcome};
use crate::cors::Cors;
use crate::facts::{FetchDest, FetchMode, FetchSite, changes_state};
use crate::refusal::{Code, Refusal};
use crate::rules::{Isolation, Seat};

/// Judges by Fetch Metadata alone: a client that sends none is no browser that another site could drive, or too old for
/// this to help. State-changing requests and handshakes are the matter of `csrf`.
pub(super) fn judge(case: Case<'_>, seat: Option<&Seat>) -> Outcome {
    let route = &case.found.route;
    if route.isolation == Isolation::Off || changes_state(case.request.method) || case.facts.upgrade {
        return Outcome::Skip;
    }
    let site = &case.facts.site;
    let cause = match site.fetch_site {
        None | Some(FetchSite::SameOrigin | FetchSite::None) => return Outcome::Pass,
        Some(FetchSite::SameSite) if route.isolation == Isolation::SameSite => return Outcome::Pass,
        Some(FetchSite::SameSite) => "a page of another origin of the site fetches this",
        Some(FetchSite::CrossSite) => "a page of another site fetches this",
        Some(FetchSite::Unknown) => "Sec-Fetch-Site has an unknown value",
    };
    if (site.fetch_mode, site.fetch_dest) == (Some(FetchMode::Navigate), Some(FetchDest::Document)) {
        return Outcome::Pass;
    }
    if let Cors::Shared(sharing) = &route.cors
        && site.fetch_mode == Some(FetchMode::Cors)
        && sharing.methods.contains(case.request.method)
        && sharing.admits(site, seat)
    {
        return Outcome::Pass;
    }
    Outcome::Refuse(Refusal::new(Code::CsrfUnproven, cause))
}
