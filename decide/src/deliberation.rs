//! Runs the guards in THE ORDER, asks what they ask, keeps the trail, and is the only maker of a `Permit`.
use crate::cors::Preflight;
use crate::facts::{Answer, Carrier, Delayed, Facts, Identity, LimitState, Question};
use crate::guards::{Case, Guard, ORDER, Outcome, PREFLIGHT, residency};
use crate::refusal::{Code, Refusal};
use crate::request::Request;
use crate::rules::{Destination, Found, Route, Rules, Seat};
use std::sync::Arc;

/// What the guards found out on the way.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The tenant.
    pub seat: Option<Seat>,
    /// The caller.
    pub identity: Option<Arc<Identity>>,
    /// How the credential came.
    pub carrier: Option<Carrier>,
    /// The role that granted the permission.
    pub granted_by: Option<Arc<str>>,
    /// The limit with the least left.
    pub tightest: Option<LimitState>,
    /// Shadow limits that are used up.
    pub shadowed_limits: Vec<Arc<str>>,
    /// Whether a double-submit token has stood in for evidence of our own origin.
    pub csrf_token: bool,
    /// The limit that has the request wait before it is forwarded, if one does: the one with the longest wait.
    pub delayed: Option<Delayed>,
}

/// What one guard said, as it stands in the audit entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Checked, and in order.
    Pass,
    /// Nothing to check.
    Skip,
    /// Would have refused, but runs in shadow.
    Shadow(Code),
    /// Refused.
    Refuse(Code),
}

/// The verdicts in the order in which they fell; there is room for one of each guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trail {
    said: [(Guard, Verdict); ORDER.len()],
    count: usize,
}

impl Default for Trail {
    fn default() -> Trail {
        Trail { said: [(Guard::Network, Verdict::Skip); ORDER.len()], count: 0 }
    }
}

impl Trail {
    fn push(&mut self, guard: Guard, verdict: Verdict) {
        if let Some(place) = self.said.get_mut(self.count) {
            *place = (guard, verdict);
            self.count += 1;
        }
    }
}

impl FromIterator<(Guard, Verdict)> for Trail {
    fn from_iter<I: IntoIterator<Item = (Guard, Verdict)>>(said: I) -> Trail {
        let mut trail = Trail::default();
        said.into_iter().for_each(|(guard, verdict)| trail.push(guard, verdict));
        trail
    }
}

impl std::ops::Deref for Trail {
    type Target = [(Guard, Verdict)];

    fn deref(&self) -> &[(Guard, Verdict)] {
        self.said.get(..self.count).unwrap_or_default()
    }
}

/// What comes next.
#[derive(Debug)]
pub enum Step {
    /// The shell is to answer this and call `proceed` again.
    Ask(Question),
    /// All guards passed.
    Permit(Permit),
    /// The preflight is granted. It is the gateway's to answer; there is no permit.
    Grant,
    /// One refused.
    Refuse(Refusal),
}

/// Proof that every guard of the route passed. Upstream code cannot be called without one, and nothing outside this
/// file can make one:
///
/// ```compile_fail
/// fn forge(real: decide::deliberation::Permit) -> decide::deliberation::Permit {
///     decide::deliberation::Permit { proof: (), ..real }
/// }
/// ```
#[derive(Debug)]
pub struct Permit {
    route: Arc<Route>,
    destination: Destination,
    findings: Findings,
    #[expect(dead_code, reason = "a private field is what makes the permit unforgeable")]
    proof: (),
}

impl Permit {
    /// The route that may be served.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// The upstream that the request may go to: one where the tenant's data stays.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Tenant and caller, as verified.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }
}

/// One decision in the making.
#[derive(Debug)]
pub struct Deliberation<'a> {
    case: Case<'a>,
    findings: Findings,
    trail: Trail,
    order: &'static [Guard],
    next: usize,
}

impl<'a> Deliberation<'a> {
    /// Starts with the facts, and nothing decided.
    pub fn new(rules: &'a Rules, request: &'a Request, facts: &'a Facts, found: &'a Found) -> Deliberation<'a> {
        let findings = Findings { seat: found.seat.clone(), ..Findings::default() };
        Deliberation {
            case: Case { rules, request, facts, found, preflight: None },
            findings,
            trail: Trail::default(),
            order: &ORDER,
            next: 0,
        }
    }

    /// The same for a preflight, of which `found` is the route of the request that it announces. It ends in
    /// [`Step::Grant`] or a refusal, never in a permit.
    pub fn preflight(self, preflight: &'a Preflight) -> Deliberation<'a> {
        Deliberation { case: Case { preflight: Some(preflight), ..self.case }, order: &PREFLIGHT, ..self }
    }

    /// Goes on until a guard asks, one refuses, or all have passed. `answer` is the answer to the last question.
    pub fn proceed(&mut self, answer: Option<Answer>) -> Step {
        let mut answer = answer;
        while let Some(guard) = self.order.get(self.next).copied() {
            match guard.judge(self.case, &mut self.findings, answer.take()) {
                Outcome::Ask(question) => return Step::Ask(question),
                Outcome::Pass => self.trail.push(guard, Verdict::Pass),
                Outcome::Skip => self.trail.push(guard, Verdict::Skip),
                Outcome::Refuse(refusal) if self.case.found.route.shadow.contains(&guard) => {
                    self.trail.push(guard, Verdict::Shadow(refusal.code));
                }
                Outcome::Refuse(refusal) => {
                    self.trail.push(guard, Verdict::Refuse(refusal.code));
                    self.next = self.order.len() + 1;
                    return Step::Refuse(refusal);
                }
            }
            self.next += 1;
        }
        if self.next > self.order.len() {
            return Step::Refuse(Refusal::new(Code::GatewayUnavailable, "this deliberation has ended"));
        }
        self.next = self.order.len() + 1;
        if self.case.preflight.is_some() {
            return Step::Grant;
        }
        let route = self.case.found.route.clone();
        // Asked again, whatever a guard in shadow has let pass: there is no permit to anywhere else.
        match residency::destination(&route, self.findings.seat.as_ref()) {
            Ok(destination) => {
                let destination = destination.clone();
                Step::Permit(Permit { route, destination, findings: self.findings.clone(), proof: () })
            }
            Err(refusal) => Step::Refuse(refusal),
        }
    }

    /// The findings and the trail so far, for the record.
    pub fn into_record(self) -> (Findings, Trail) {
        (self.findings, self.trail)
    }

    /// The verdicts so far.
    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    /// What was found so far.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }
}
