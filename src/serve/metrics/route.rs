//! What is counted per request: durations, refusals, authentication, authorisation and limits of one route.
use super::families::Families;
use super::listener::Lazy;
use super::tenants::{Slot, TenantLabels};
use super::{STATUS_CLASSES, status_class};
use decide::deliberation::Verdict;
use decide::facts::{Carrier, FetchSite, Reading, Site, Stage};
use decide::guards::{Guard, ORDER};
use decide::refusal::{Code, TABLE};
use decide::request::Method;
use decide::rules::Limit;
use prometheus::{Histogram, IntCounter};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Who made a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The gateway: refusals, redirects, failures of the upstream.
    Gateway,
    /// The upstream.
    Upstream,
}

/// What a limit decides.
const DECISIONS: [&str; 3] = ["allow", "deny", "delay"];
const ORIGINS: [&str; 2] = ["gateway", "upstream"];
const METHODS: usize = Method::ALL.len() + 1;

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct RequestOutcome<'a> {
    /// Its method, where it is one of ours.
    pub method: Option<Method>,
    /// The status sent to the client; 0 where none was.
    pub status: u16,
    /// Who made the response.
    pub origin: Origin,
    /// Time from the head of the request to the end of the response.
    pub duration: Duration,
    /// The gateway's share of it: without waiting for the upstream.
    pub added: Duration,
    /// The tenant, as far as it was found.
    pub tenant: Option<&'a str>,
    /// Why it was refused, by a guard or by anything else.
    pub refusal: Option<Code>,
    /// What the guards said.
    pub trail: &'a [(Guard, Verdict)],
    /// Whether the route asks for a session.
    pub session: bool,
    /// How the credential came, where one was accepted.
    pub carrier: Option<Carrier>,
    /// What the browser says about where the request comes from.
    pub site: Option<&'a Site>,
}

/// Counters of one route. Series are made on first use and found by index from then on.
pub struct RouteMetrics {
    name: Arc<str>,
    durations: Lazy<Histogram>,
    requests: Lazy<IntCounter>,
    refusals: Lazy<IntCounter>,
    /// Allowed by tenant slot; made with the first request, since many routes never see one.
    allowed: OnceLock<Lazy<IntCounter>>,
    /// Accepted credentials by carrier.
    accepted: Lazy<IntCounter>,
    /// The route's limits in its order, each with its decisions by tenant slot; made with the first reading.
    limits: OnceLock<Box<[Decisions]>>,
    families: Arc<Families>,
    tenants: Arc<TenantLabels>,
}

/// Decisions of one limit: three for each tenant slot.
struct Decisions {
    limit: Arc<Limit>,
    counters: Lazy<IntCounter>,
}

impl RouteMetrics {
    pub(super) fn new(name: &str, families: Arc<Families>, tenants: Arc<TenantLabels>) -> RouteMetrics {
        RouteMetrics {
            name: name.into(),
            durations: Lazy::new(METHODS * STATUS_CLASSES.len() * ORIGINS.len()),
            requests: Lazy::new(STATUS_CLASSES.len() * ORIGINS.len()),
            refusals: Lazy::new(TABLE.len()),
            allowed: OnceLock::new(),
            accepted: Lazy::new(Carrier::ALL.len() + 1),
            limits: OnceLock::new(),
            families,
            tenants,
        }
    }

    /// Counts a request that has ended.
    pub fn observe(&self, outcome: &RequestOutcome<'_>) {
        let class = status_class(outcome.status);
        let origin = outcome.origin as usize;
        let method = outcome.method.map_or(METHODS - 1, |method| method as usize);
        let (class_label, origin_label) = (label(&STATUS_CLASSES, class), label(&ORIGINS, origin));

        let of_class = class * ORIGINS.len() + origin;
        let duration = self.durations.at(method * STATUS_CLASSES.len() * ORIGINS.len() + of_class, || {
            let method = outcome.method.map_or("other", Method::as_str);
            self.families.server_duration.with_label_values(&[&*self.name, method, class_label, origin_label])
        });
        if let Some(duration) = duration {
            duration.observe(outcome.duration.as_secs_f64());
        }
        self.requests.inc(of_class, || self.families.requests.with_label_values(&[class_label, origin_label]));
        self.families.added_latency.observe(outcome.added.as_secs_f64());
        if let Some(code) = outcome.refusal {
            self.refusals.inc(code as usize, || self.families.refusals.with_label_values(&[code.id(), &*self.name]));
        }
        if !outcome.trail.is_empty() {
            self.decided(outcome);
        }
    }

    /// Counts what a reading says about each of the route's limits of a stage. `limits` is all of them, the same list
    /// at every call. Of several limits used up, the one that refused the request is counted as denied.
    pub fn quota(&self, limits: &[Arc<Limit>], stage: Stage, reading: &Reading, tenant: Option<&str>) {
        let make = |limit: &Arc<Limit>| Decisions {
            limit: limit.clone(),
            counters: Lazy::new(DECISIONS.len() * self.tenants.slots()),
        };
        let known = self.limits.get_or_init(|| limits.iter().map(make).collect());
        let slot = self.tenants.slot(tenant);
        for Decisions { limit, counters } in known.iter().filter(|known| known.limit.stage() == stage) {
            let denied = match (&reading.exceeded, limit.shadow) {
                (_, true) => reading.shadowed.contains(&limit.name),
                (Some(exceeded), false) => exceeded.name == limit.name,
                (None, false) => false,
            };
            let delayed = || reading.delayed.as_ref().is_some_and(|delayed| delayed.name == limit.name);
            let decision = if denied { 1 } else { 2 * usize::from(!limit.shadow && delayed()) };
            counters.inc(DECISIONS.len() * slot.0 + decision, || {
                let mode = if limit.shadow { "shadow" } else { "enforce" };
                let decision = label(&DECISIONS, decision);
                let labels = [&*limit.name, &*self.tenants.name(slot), decision, mode];
                self.families.ratelimit_decisions.with_label_values(&labels)
            });
        }
    }

    fn decided(&self, outcome: &RequestOutcome<'_>) {
        let slot = self.tenants.slot(outcome.tenant);
        let mut refused = false;
        for (guard, verdict) in outcome.trail {
            let (code, mode) = match verdict {
                Verdict::Refuse(code) => {
                    refused = true;
                    (*code, "enforce")
                }
                Verdict::Shadow(code) => (*code, "shadow"),
                Verdict::Pass | Verdict::Skip => {
                    if *guard == Guard::Session && outcome.session && *verdict == Verdict::Pass {
                        self.accepted
                            .inc(outcome.carrier.map_or(Carrier::ALL.len(), |carrier| carrier as usize), || {
                                self.authn(outcome, "ok", "none")
                            });
                    }
                    continue;
                }
            };
            self.denied(slot, code, mode);
            match guard {
                Guard::Session => self.authn(outcome, authn_result(code), code.id()).inc(),
                Guard::Csrf | Guard::Isolation | Guard::Cors => {
                    self.families.csrf_denied.with_label_values(&[csrf_reason(outcome.site)]).inc();
                }
                Guard::Network
                | Guard::AddressQuota
                | Guard::Standing
                | Guard::Tenant
                | Guard::Residency
                | Guard::CallerQuota
                | Guard::Access
                | Guard::Body
                | Guard::BodyQuota => {}
            }
        }
        if !refused && outcome.trail.len() == ORDER.len() {
            self.allowed(slot);
        }
    }

    fn allowed(&self, slot: Slot) {
        self.allowed.get_or_init(|| Lazy::new(self.tenants.slots())).inc(slot.0, || {
            let tenant = self.tenants.name(slot);
            self.families.authz.with_label_values(&[&*self.name, &*tenant, "allow", "none", "enforce"])
        });
    }

    fn denied(&self, slot: Slot, code: Code, mode: &str) {
        let tenant = self.tenants.name(slot);
        self.families.authz.with_label_values(&[&*self.name, &*tenant, "deny", code.id(), mode]).inc();
    }

    fn authn(&self, outcome: &RequestOutcome<'_>, result: &str, reason: &str) -> IntCounter {
        let method = outcome.carrier.map_or("none", Carrier::as_str);
        self.families.authn.with_label_values(&[&*self.name, method, result, reason])
    }
}

fn label(labels: &[&'static str], index: usize) -> &'static str {
    labels.get(index).copied().unwrap_or("none")
}

/// How a credential fared, in one word.
fn authn_result(code: Code) -> &'static str {
    match code {
        Code::SessionMissing => "missing",
        Code::GatewayUnavailable => "unavailable",
        _ => "invalid",
    }
}

/// Why a request has no evidence of our own origin: the strongest thing that the browser said.
fn csrf_reason(site: Option<&Site>) -> &'static str {
    let Some(site) = site else {
        return "no_evidence";
    };
    match (site.fetch_site, site.same_origin) {
        (Some(FetchSite::CrossSite), _) => "cross_site",
        (Some(FetchSite::SameSite), _) => "same_site",
        (Some(FetchSite::Unknown), _) => "unknown_value",
        (Some(FetchSite::SameOrigin | FetchSite::None) | None, Some(false)) => "other_origin",
        (Some(FetchSite::SameOrigin | FetchSite::None) | None, Some(true) | None) => "no_evidence",
    }
}
