//! Cross-site request forgery: a cookie is sent by the browser whoever asks, so a state-changing request that it
//! authenticates needs evidence of our own origin (Fetch Metadata, then Origin, then Referer). So does an upgrade:
//! a WebSocket handshake is a GET that any site can start.
//!
//! A public route that asks for it has no session to ride on, but a visitor to be signed in as somebody else (login
//! CSRF), or cookies of the application's own: there every state-changing request needs the evidence.
use super::{Case, Outcome};
use crate::cors::Cors;
use crate::deliberation::Findings;
use crate::facts::{Carrier, FetchMode, FetchSite, Site, changes_state};
use crate::refusal::{Code, Refusal};
use crate::rules::{Access, Csrf};

pub(super) fn judge(case: Case<'_>, findings: &Findings) -> Outcome {
    let ambient = match case.found.route.access {
        Access::Public { .. } => true,
        Access::Session(_) => findings.carrier == Some(Carrier::Cookie),
    };
    let effect = changes_state(case.request.method) || case.facts.upgrade;
    if !ambient || !effect || case.found.route.csrf == Csrf::Off {
        return Outcome::Skip;
    }
    if shared(case, findings) {
        return Outcome::Pass;
    }
    match missing(&case.facts.site) {
        None => Outcome::Pass,
        Some(cause) => Outcome::Refuse(Refusal::new(Code::CsrfUnproven, cause)),
    }
}

/// Whether the route's `cors` lets the page's origin do this in a user's name. A form has no leave to read, so it needs
/// the evidence like any other.
fn shared(case: Case<'_>, findings: &Findings) -> bool {
    let Cors::Shared(sharing) = &case.found.route.cors else { return false };
    let site = &case.facts.site;
    let asked = matches!(site.fetch_mode, None | Some(FetchMode::Cors | FetchMode::Websocket));
    asked
        && sharing.credentials
        && sharing.methods.contains(case.request.method)
        && sharing.admits(site, findings.seat.as_ref())
}

/// What is missing to show that the request comes from our own origin.
pub(super) fn missing(site: &Site) -> Option<&'static str> {
    let cause = match (site.fetch_site, site.same_origin) {
        // A page that keeps its address to itself sends `Origin: null` even to itself. Of a page without an origin,
        // browsers do not say `same-origin`.
        (Some(FetchSite::SameOrigin), Some(false)) if site.opaque => return None,
        (Some(FetchSite::SameOrigin), None | Some(true)) | (None, Some(true)) => return None,
        // The user's own doing is a navigation. An extension that asks in the background says `none` too.
        (Some(FetchSite::None), None | Some(true)) => match site.fetch_mode {
            None | Some(FetchMode::Navigate) => return None,
            Some(FetchMode::Cors | FetchMode::Websocket | FetchMode::Other) => "no page, and no navigation either",
        },
        (Some(FetchSite::SameOrigin | FetchSite::None), Some(false)) => "Origin disagrees with Sec-Fetch-Site",
        (Some(FetchSite::SameSite), _) => "the request comes from another origin of the site",
        (Some(FetchSite::CrossSite), _) => "the request comes from another site",
        (Some(FetchSite::Unknown), _) => "Sec-Fetch-Site has an unknown value",
        (None, Some(false)) => "Origin names another origin",
        (None, None) => "neither Sec-Fetch-Site nor Origin nor Referer",
    };
    Some(cause)
}
