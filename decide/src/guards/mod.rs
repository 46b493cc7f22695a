//! The guards, one file each, and THE ORDER in which they run.
mod access;
mod body;
mod cors;
mod csrf;
mod isolation;
mod network;
pub mod own;
mod quota;
pub(crate) mod residency;
mod session;
pub mod step_up;
mod tenant;
#[cfg(test)]
pub(crate) mod tests;

use crate::cors::Preflight;
use crate::deliberation::Findings;
use crate::facts::{Answer, Facts, Question, Stage};
use crate::refusal::{Code, Refusal};
use crate::request::Request;
use crate::rules::{Found, Rules};

/// A guard. A route's list of checks is closed: these, in this order, and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guard {
    /// The client's address is allowed for the tenant.
    Network,
    /// Limits by address and route.
    AddressQuota,
    /// The tenant named by the request is served.
    Standing,
    /// A read comes from where the route expects it, or opens a window of its own.
    Isolation,
    /// The session is valid.
    Session,
    /// The session belongs to the tenant.
    Tenant,
    /// The upstream is where the tenant's data stays. Never in shadow.
    Residency,
    /// A cookie session's state-changing request comes from our own origin.
    Csrf,
    /// Limits by tenant and subject.
    CallerQuota,
    /// The caller has the permission, the condition holds, the authentication is fresh.
    Access,
    /// The body is of an accepted type and size.
    Body,
    /// Limits by a field of the body. Last: nobody's body is read who may not come in anyway.
    BodyQuota,
    /// Another origin may send the request that a preflight announces. Never in shadow.
    Cors,
}

/// THE ORDER. Cheap before dear, and nothing about a tenant's inside before the session is known.
pub const ORDER: [Guard; 12] = [
    Guard::Network,
    Guard::AddressQuota,
    Guard::Standing,
    Guard::Isolation,
    Guard::Session,
    Guard::Tenant,
    Guard::Residency,
    Guard::Csrf,
    Guard::CallerQuota,
    Guard::Access,
    Guard::Body,
    Guard::BodyQuota,
];

/// The order for a preflight, which browsers send without any credential: whoever passes has learnt what another origin
/// may ask, and nothing else.
pub const PREFLIGHT: [Guard; 4] = [Guard::Network, Guard::AddressQuota, Guard::Standing, Guard::Cors];

/// What a guard says.
#[derive(Debug)]
pub enum Outcome {
    /// Checked, and in order.
    Pass,
    /// Nothing to check on this route.
    Skip,
    /// Cannot say before this is answered.
    Ask(Question),
    /// No.
    Refuse(Refusal),
}

/// What guards look at: values only.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The rules.
    pub rules: &'a Rules,
    /// The request.
    pub request: &'a Request,
    /// The facts.
    pub facts: &'a Facts,
    /// Route and tenant.
    pub found: &'a Found,
    /// What the request announces, where it is a preflight.
    pub preflight: Option<&'a Preflight>,
}

impl Guard {
    /// Its name in trails, metrics and `shadow:`.
    pub const fn name(self) -> &'static str {
        match self {
            Guard::Network => "network",
            Guard::AddressQuota => "quota.address",
            Guard::Standing => "standing",
            Guard::Isolation => "isolation",
            Guard::Session => "session",
            Guard::Tenant => "tenant",
            Guard::Residency => "residency",
            Guard::Csrf => "csrf",
            Guard::CallerQuota => "quota.caller",
            Guard::Access => "access",
            Guard::Body => "body",
            Guard::BodyQuota => "quota.body",
            Guard::Cors => "cors",
        }
    }

    /// Finds a guard of [`ORDER`] by its name.
    pub fn parse(name: &str) -> Option<Guard> {
        ORDER.into_iter().find(|guard| guard.name() == name)
    }

    /// Judges. Pure: the same values give the same outcome.
    pub fn judge(self, case: Case<'_>, findings: &mut Findings, answer: Option<Answer>) -> Outcome {
        match self {
            Guard::Network => network::judge(case, findings.seat.as_ref()),
            Guard::AddressQuota => quota::judge(case, findings, Stage::Address, answer),
            Guard::Standing => tenant::standing(findings.seat.as_ref()),
            Guard::Isolation => isolation::judge(case, findings.seat.as_ref()),
            Guard::Session => session::judge(case, findings, answer),
            Guard::Tenant => tenant::binding(case, findings),
            Guard::Residency => residency::judge(case, findings.seat.as_ref()),
            Guard::Csrf => csrf::judge(case, findings, answer),
            Guard::CallerQuota => quota::judge(case, findings, Stage::Caller, answer),
            Guard::Access => access::judge(case, findings),
            Guard::Body => body::judge(case),
            Guard::BodyQuota => quota::by_body(case, findings, answer),
            Guard::Cors => cors::judge(case, findings.seat.as_ref()),
        }
    }
}

/// The answer did not come, or is of another kind than what was asked: refuse.
fn undecidable(answer: &Answer) -> Outcome {
    let cause = match answer {
        Answer::Unavailable(cause) => cause.clone(),
        Answer::Quota(_) | Answer::Credential(_) | Answer::Shown(..) | Answer::Fields(_) | Answer::CsrfToken(_) => {
            "the answer does not fit the question".to_owned()
        }
    };
    Outcome::Refuse(Refusal::new(Code::GatewayUnavailable, cause).retry_after(5))
}
