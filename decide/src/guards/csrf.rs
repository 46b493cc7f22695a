//! Cross-site request forgery: a cookie is sent by the browser whoever asks, so a state-changing request that it
//! authenticates needs evidence of our own origin (Fetch Metadata, then Origin, then Referer). So does an upgrade:
//! a WebSocket handshake is a GET that any site can start.
use super::{Case, Outcome};
use crate::deliberation::Findings;
use crate::facts::{Carrier, FetchSite, changes_state};
use crate::refusal::{Code, Refusal};
use crate::rules::Csrf;

pub(super) fn judge(case: Case<'_>, findings: &Findings) -> Outcome {
    let ambient = findings.carrier == Some(Carrier::Cookie);
    let effect = changes_state(case.request.method) || case.facts.upgrade;
    if !ambient || !effect || case.found.route.csrf == Csrf::Off {
        return Outcome::Skip;
    }
    let site = &case.facts.site;
    let cause = match (site.fetch_site, site.same_origin) {
        (Some(FetchSite::SameOrigin | FetchSite::None), None | Some(true)) | (None, Some(true)) => {
            return Outcome::Pass;
        }
        (Some(FetchSite::SameOrigin | FetchSite::None), Some(false)) => "Origin disagrees with Sec-Fetch-Site",
        (Some(FetchSite::SameSite), _) => "the request comes from another origin of the site",
        (Some(FetchSite::CrossSite), _) => "the request comes from another site",
        (Some(FetchSite::Unknown), _) => "Sec-Fetch-Site has an unknown value",
        (None, Some(false)) => "Origin names another origin",
        (None, None) => "neither Sec-Fetch-Site nor Origin nor Referer",
    };
    Outcome::Refuse(Refusal::new(Code::CsrfUnproven, cause))
}
