//! Cross-site request forgery: a cookie is sent by the browser whoever asks, so a state-changing request that it
//! authenticates needs evidence of our own origin (Fetch Metadata, then Origin, then Referer). So does an upgrade:
//! a WebSocket handshake is a GET that any site can start.
//!
//! A public route that asks for it has no session to ride on, but a visitor to be signed in as somebody else (login
//! CSRF), or cookies of the application's own: there every state-changing request needs the evidence.
//!
//! Where a route says `csrf: token`, who says nothing of where they ask from may show a token of ours instead. What a
//! browser says against a request stands, whatever token comes with it.
use super::{Case, Outcome, undecidable};
use crate::cors::Cors;
use crate::deliberation::Findings;
use crate::facts::{Answer, Carrier, FetchMode, FetchSite, Question, Site, changes_state};
use crate::refusal::{Code, Refusal};
use crate::rules::{Access, Csrf};

pub(super) fn judge(case: Case<'_>, findings: &mut Findings, answer: Option<Answer>) -> Outcome {
    let ambient = match case.found.route.access {
        Access::Public { .. } => true,
        Access::Session(_) => findings.carrier.is_some_and(Carrier::is_ambient),
    };
    let effect = changes_state(case.request.method) || case.facts.upgrade;
    if !ambient || !effect || case.found.route.csrf == Csrf::Off {
        return Outcome::Skip;
    }
    if shared(case, findings) {
        return Outcome::Pass;
    }
    match (evidence(&case.facts.site), &case.found.route.csrf) {
        (Evidence::Ours, _) => Outcome::Pass,
        (Evidence::None(_), Csrf::Token(_)) => by_token(findings, answer),
        (Evidence::Against(cause), _) | (Evidence::None(cause), Csrf::Strict | Csrf::Off) => {
            Outcome::Refuse(Refusal::new(Code::CsrfUnproven, cause))
        }
    }
}

fn by_token(findings: &mut Findings, answer: Option<Answer>) -> Outcome {
    match answer {
        None => Outcome::Ask(Question::CsrfToken),
        Some(Answer::CsrfToken(Ok(()))) => {
            findings.csrf_token = true;
            Outcome::Pass
        }
        Some(Answer::CsrfToken(Err(refusal))) => Outcome::Refuse(refusal),
        Some(
            other @ (Answer::Quota(_)
            | Answer::Credential(_)
            | Answer::Shown(..)
            | Answer::Fields(_)
            | Answer::Unavailable(_)),
        ) => undecidable(&other),
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
    match evidence(site) {
        Evidence::Ours => None,
        Evidence::None(cause) | Evidence::Against(cause) => Some(cause),
    }
}

/// What a browser's words show.
enum Evidence {
    /// The request comes from our own origin.
    Ours,
    /// Nothing is said, or only that it is kept back; what would have had to be.
    None(&'static str),
    /// The request comes from elsewhere, or somebody lies.
    Against(&'static str),
}

/// What is said of where the request comes from.
fn evidence(site: &Site) -> Evidence {
    let cause = match (site.fetch_site, site.same_origin) {
        // A page that keeps its address to itself sends `Origin: null` even to itself. Of a page without an origin,
        // browsers do not say `same-origin`.
        (Some(FetchSite::SameOrigin), Some(false)) if site.opaque => return Evidence::Ours,
        (Some(FetchSite::SameOrigin), None | Some(true)) | (None, Some(true)) => return Evidence::Ours,
        // The user's own doing is a navigation. An extension that asks in the background says `none` too.
        (Some(FetchSite::None), None | Some(true)) => match site.fetch_mode {
            None | Some(FetchMode::Navigate) => return Evidence::Ours,
            Some(FetchMode::Cors | FetchMode::Websocket | FetchMode::Other) => "no page, and no navigation either",
        },
        (Some(FetchSite::SameOrigin | FetchSite::None), Some(false)) => "Origin disagrees with Sec-Fetch-Site",
        (Some(FetchSite::SameSite), _) => "the request comes from another origin of the site",
        (Some(FetchSite::CrossSite), _) => "the request comes from another site",
        (Some(FetchSite::Unknown), _) => "Sec-Fetch-Site has an unknown value",
        // A page that keeps its address to itself, in a browser without Fetch Metadata; or a frame of a stranger's.
        (None, Some(false)) if site.opaque => return Evidence::None("Origin names another origin"),
        (None, Some(false)) => "Origin names another origin",
        (None, None) => return Evidence::None("neither Sec-Fetch-Site nor Origin nor Referer"),
    };
    Evidence::Against(cause)
}
