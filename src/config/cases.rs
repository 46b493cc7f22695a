//! Examples of decisions (`policies/tests/*.yaml`), run by the production engine.
use crate::config::options::{CaseCaller, CaseOptions, CaseRequest, CaseSite, Expectation};
use crate::config::problem::At;
use crate::config::read::Entries;
use crate::config::settings::Snapshot;
use decide::body;
use decide::cors::Preflight;
use decide::deliberation::{Deliberation, Findings, Step, Trail};
use decide::facts::{
    Answer, Body, Credential, Facts, FetchDest, FetchMode, FetchSite, Identity, Person, Protocol, Question, Reading,
    RequestId, Site, TlsFacts, changes_state,
};
use decide::policy::nearest;
use decide::refusal::{Code, Refusal};
use decide::request::Request;
use decide::revocation::{Handles, Source};
use decide::rules::{Accept, Access, FieldKey, Found, Route, Rules, SessionRules};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// An example that does not hold, or cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseFailure {
    /// Where the expectation stands.
    pub at: At,
    /// What came instead.
    pub message: String,
    /// Which guard decided, or what was meant.
    pub hint: Option<String>,
}

/// What came of a made-up request.
#[derive(Debug)]
pub struct Judged {
    /// Route and tenant, where there are any.
    pub found: Option<Found>,
    /// What the guards found out.
    pub findings: Findings,
    /// What each guard said.
    pub trail: Trail,
    /// Name of the upstream, where the request is permitted.
    pub upstream: Option<Arc<str>>,
    /// The refusal; `None` for a permit.
    pub refusal: Option<Refusal>,
}

/// The moment at which made-up requests arrive: 2026-01-01T00:00:00Z.
const NOW_MS: u64 = 1_767_225_600_000;

/// Runs examples; those that fail come back.
pub fn run(snapshot: &Snapshot, cases: &[CaseOptions]) -> Vec<CaseFailure> {
    cases.iter().filter_map(|case| check(snapshot, case)).collect()
}

fn check(snapshot: &Snapshot, case: &CaseOptions) -> Option<CaseFailure> {
    let fail = |at: At, message: String, hint: Option<String>| Some(CaseFailure { at, message, hint });
    if let Some((at, message, hint)) = misnamed(snapshot, case) {
        return fail(at, message, hint);
    }
    let judged = match judge(snapshot, &case.request) {
        Ok(judged) => judged,
        Err(message) => return fail(case.request.url.at, message, None),
    };
    let came = match &judged.refusal {
        Some(refusal) => format!("refused with `{}`", refusal.code.id()),
        None => match &judged.upstream {
            Some(upstream) => format!("permitted to `{upstream}`"),
            None => "permitted".to_owned(),
        },
    };
    let holds = match (&case.expect.value, &judged.refusal, &judged.upstream) {
        (Expectation::Refuse(code), Some(refusal), _) => refusal.code == code.value.0,
        (Expectation::Permit(upstream), None, Some(found)) => upstream.value == "true" || upstream.value == **found,
        (Expectation::Refuse(_), None, _) | (Expectation::Permit(_), _, _) => false,
    };
    if holds {
        return None;
    }
    let hint = match (&judged.refusal, &judged.found) {
        (Some(refusal), Some(found)) => {
            Some(format!("route `{}` ({}): {}", found.route.name, found.route.origin, refusal.cause))
        }
        (Some(refusal), None) => Some(refusal.cause.to_string()),
        (None, Some(found)) => Some(format!("by route `{}` ({})", found.route.name, found.route.origin)),
        (None, None) => None,
    };
    fail(case.expect.at, format!("policy test failed: {}: the request was {came}", case.name.value), hint)
}

/// Names that would make an example hold, or fail, for the wrong reason.
fn misnamed(snapshot: &Snapshot, case: &CaseOptions) -> Option<(At, String, Option<String>)> {
    if let Expectation::Permit(upstream) = &case.expect.value
        && upstream.value != "true"
        && !snapshot.upstreams.iter().any(|u| *u.name == upstream.value)
    {
        let hint = nearest(&upstream.value, snapshot.upstreams.iter().map(|u| &*u.name));
        return Some((upstream.at, format!("unknown upstream `{}`", upstream.value), hint));
    }
    let caller = case.request.caller.as_ref()?;
    let policy = &snapshot.rules.policy;
    for role in caller.role.iter().chain(&caller.roles) {
        if !policy.knows(role) {
            let hint = nearest(&role.value, policy.roles().map(|(name, _)| &**name));
            return Some((role.at, format!("unknown role `{}`", role.value), hint));
        }
    }
    for scope in caller.scopes.iter().flatten() {
        if policy.permission(scope).is_none() {
            let hint = nearest(&scope.value, policy.permissions().iter().map(|name| &**name));
            return Some((scope.at, format!("unknown permission `{}`", scope.value), hint));
        }
    }
    let issuer = caller.issuer.as_ref()?;
    let by_certificate = snapshot.client_certificates.contains_key(issuer.value.as_str());
    if by_certificate || snapshot.issuers.iter().any(|known| *known.rules.name == issuer.value) {
        return None;
    }
    let hint = nearest(&issuer.value, snapshot.issuers.iter().map(|known| &*known.rules.name));
    Some((issuer.at, format!("unknown issuer `{}`", issuer.value), hint))
}

/// The request that is made up: it, or why it is no request. The error is for whoever made it up.
fn read(made_up: &CaseRequest) -> Result<Result<Request, Refusal>, String> {
    let Some((scheme, rest)) = made_up.url.split_once("://") else {
        return Err(format!("`{}` is not a URL", made_up.url.value));
    };
    if scheme != "https" {
        return Err("the request of a test comes over https".to_owned());
    }
    let (host, target) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    Ok(Request::parse(&made_up.method, target, host))
}

/// A made-up request to one of the gateway's own resources: no route decides about it.
#[derive(Debug)]
pub struct ToUs {
    /// The request.
    pub request: Request,
    /// Its facts.
    pub facts: Facts,
    /// Which resource: what stands behind `/.moat/`, or would.
    pub name: String,
}

/// Whether a made-up request is one to the gateway's own resources: below `/.moat/`, or at a path of
/// `sessions.tokens.issue_at`.
pub fn to_us(snapshot: &Snapshot, made_up: &CaseRequest) -> Result<Option<ToUs>, String> {
    let Ok(request) = read(made_up)? else { return Ok(None) };
    let Some(name) = resource(snapshot, &request.path).map(str::to_owned) else { return Ok(None) };
    let facts = facts(&request, made_up, None);
    Ok(Some(ToUs { request, facts, name }))
}

fn resource<'p>(snapshot: &Snapshot, path: &'p str) -> Option<&'p str> {
    let tokens = snapshot.sessions.tokens.as_ref();
    let issues = tokens.is_some_and(|tokens| tokens.issue_at.iter().any(|known| **known == *path));
    path.strip_prefix("/.moat/").or(issues.then_some("token"))
}

/// Decides about a made-up request with the very engine that decides about real ones. No limit is ever used up.
pub fn judge(snapshot: &Snapshot, made_up: &CaseRequest) -> Result<Judged, String> {
    let rules = &*snapshot.rules;
    let refused = |refusal: Refusal, found: Option<Found>| Judged {
        found,
        findings: Findings::default(),
        trail: Trail::default(),
        upstream: None,
        refusal: Some(refusal),
    };
    let request = match read(made_up)? {
        Ok(request) => request,
        Err(refusal) => return Ok(refused(refusal, None)),
    };
    if resource(snapshot, &request.path).is_some() {
        return Err(format!("`{}` is the gateway's own: no route decides about it", request.path));
    }
    let tenant = made_up.caller.as_ref().and_then(|caller| caller.tenant.clone());
    let method = request.method;
    let found = match rules.find(&request, |_| tenant.as_deref()) {
        Ok(found) => found,
        Err(refusal) => return Ok(refused(refusal, None)),
    };
    let facts = facts(&request, made_up, found.route.body.content_types.first().cloned());
    let preflight = Preflight { method, headers: Box::default(), private_network: false };
    let mut deliberation = Deliberation::new(rules, &request, &facts, &found);
    if made_up.preflight {
        deliberation = deliberation.preflight(&preflight);
    }
    let mut answer = None;
    let (upstream, refusal) = loop {
        match deliberation.proceed(answer.take()) {
            Step::Ask(Question::Quota(_)) => answer = Some(Answer::Quota(Reading::default())),
            Step::Ask(Question::Fields) => {
                answer = Some(Answer::Fields(fields(&request, &facts, &found.route, made_up.fields.as_ref())));
            }
            Step::Ask(Question::CsrfToken) => {
                let none = || Refusal::new(Code::CsrfUnproven, "no double-submit token is shown");
                answer = Some(Answer::CsrfToken(if made_up.csrf_token { Ok(()) } else { Err(none()) }));
            }
            Step::Ask(Question::Credential) => {
                answer = Some(Answer::Credential(credential(rules, made_up.caller.as_ref(), &found.route)));
            }
            Step::Permit(permit) => break (Some(permit.destination().name.clone()), None),
            Step::Grant => break (None, None),
            Step::Refuse(refusal) => break (None, Some(refusal)),
        }
    };
    let (findings, trail) = deliberation.into_record();
    Ok(Judged { found: Some(found), findings, trail, upstream, refusal })
}

fn facts(request: &Request, made_up: &CaseRequest, accepted: Option<String>) -> Facts {
    let present = changes_state(request.method);
    Facts {
        at_ms: NOW_MS,
        id: RequestId(0),
        client: Person(made_up.from.unwrap_or(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))),
        listener: Arc::from("test"),
        protocol: Protocol::Http2,
        tls: Some(Arc::new(TlsFacts { version: "1.3".to_owned(), ..TlsFacts::default() })),
        site: site(made_up),
        body: Body {
            length: present.then_some(2),
            present,
            content_type: made_up.content_type.clone().or(accepted).filter(|_| present),
        },
        upgrade: false,
    }
}

/// Whether the fields that limits count by can be read from a body that is made of `written`, by the very rules for real
/// ones. Where no field is written, the body is as it should be.
fn fields(request: &Request, facts: &Facts, route: &Route, written: Option<&Entries<String>>) -> Result<(), Refusal> {
    let Some(written) = written else { return Ok(()) };
    let keys: Vec<&FieldKey> = route.limits.iter().flat_map(|limit| limit.fields()).collect();
    let default = keys.iter().find_map(|key| body::content_types(key.source).first().copied());
    let content_type = facts.body.content_type.as_deref().or(default).unwrap_or_default();
    let kind = body::kind([content_type.as_bytes()].into_iter(), std::iter::empty(), &keys)?;
    let bytes = match kind {
        body::Kind::Form => {
            let encoded = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
            let pairs = written.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
            pairs.collect::<Vec<_>>().join("&")
        }
        body::Kind::Json => {
            let members: serde_json::Map<String, serde_json::Value> =
                written.iter().map(|(name, value)| (name.value.clone(), value.as_str().into())).collect();
            serde_json::Value::Object(members).to_string()
        }
    };
    body::read(kind, bytes.as_bytes(), request.query.as_deref(), &keys).map(drop)
}

/// What a browser would say.
fn site(made_up: &CaseRequest) -> Site {
    let usual = if made_up.origin.is_some() { CaseSite::CrossSite } else { CaseSite::SameOrigin };
    let (fetch_site, fetch_dest) = match made_up.site.unwrap_or(usual) {
        CaseSite::SameOrigin => (FetchSite::SameOrigin, FetchDest::Other),
        CaseSite::SameSite => (FetchSite::SameSite, FetchDest::Other),
        CaseSite::CrossSite => (FetchSite::CrossSite, FetchDest::Other),
        CaseSite::Navigation => (FetchSite::CrossSite, FetchDest::Document),
        CaseSite::Unsaid => {
            let same_origin = made_up.origin.as_ref().map(|_| false);
            return Site { same_origin, foreign: made_up.origin.as_deref().map(Box::from), ..Site::default() };
        }
    };
    let fetch_mode = match (fetch_dest, &made_up.origin) {
        (FetchDest::Document, _) => FetchMode::Navigate,
        (FetchDest::Embedded | FetchDest::Other, Some(_)) => FetchMode::Cors,
        (FetchDest::Embedded | FetchDest::Other, None) => FetchMode::Other,
    };
    Site {
        fetch_site: Some(fetch_site),
        fetch_mode: Some(fetch_mode),
        fetch_dest: Some(fetch_dest),
        same_origin: Some(fetch_site == FetchSite::SameOrigin),
        opaque: false,
        foreign: made_up.origin.as_deref().map(Box::from),
    }
}

/// The credential of a made-up caller: missing where the route does not accept its kind.
fn credential(rules: &Rules, caller: Option<&CaseCaller>, route: &Route) -> Credential {
    let (Some(caller), Access::Session(session)) = (caller, &route.access) else { return Credential::Missing };
    let fits = |accept: &&Accept| {
        let vouched = |wanted: &str| accept.voucher().is_none_or(|known| known == wanted);
        caller.issuer.as_ref().is_none_or(|wanted| vouched(&wanted.value))
            && caller.by.is_none_or(|by| by.carrier() == accept.carrier())
    };
    let Some(accept) = session.accept.iter().find(fits) else { return Credential::Missing };
    // Of whose users a session is, the route does not say: of the caller's, or of nobody's in particular.
    let said = caller.issuer.as_ref().map(|issuer| issuer.value.as_str());
    let issuer = Arc::from(accept.voucher().or(said).unwrap_or("session"));
    Credential::Valid { identity: Arc::new(identity(rules, caller, session, &issuer)), carrier: accept.carrier() }
}

fn identity(rules: &Rules, caller: &CaseCaller, session: &SessionRules, issuer: &Arc<str>) -> Identity {
    let now_s = NOW_MS / 1000;
    let arc = |text: &String| Arc::from(text.as_str());
    let auth_time = caller.auth_age.map(|age| now_s.saturating_sub(age.seconds()));
    let by_permission = session.permission.as_ref().and_then(|p| rules.policy.step_up(p.id));
    let asked = || session.step_up.iter().chain(by_permission);
    let usual_acr = asked().find_map(|step_up| step_up.acr.first());
    Identity {
        issuer: issuer.clone(),
        subject: Person(caller.subject.as_ref().map_or_else(|| Arc::from("user-1"), arc)),
        tenant: caller.tenant.as_ref().map(arc),
        roles: caller.role.iter().chain(&caller.roles).map(|role| arc(&role.value)).collect(),
        session: None,
        auth_time,
        acr: caller.acr.as_ref().or(usual_acr).map(arc),
        amr: match &caller.amr {
            Some(methods) => methods.iter().map(arc).collect(),
            None => ["pwd", "mfa"]
                .into_iter()
                .chain(asked().flat_map(|step_up| &step_up.amr).map(String::as_str))
                .map(Arc::from)
                .collect(),
        },
        issued_at: auth_time.unwrap_or(now_s),
        not_before: 0,
        expires_at: now_s + 300,
        handles: Handles::of(&Source { issuer, tenant: caller.tenant.as_deref(), ..Source::default() }),
        bound_to: None,
        scopes: caller.scopes.as_ref().map(|scopes| scopes.iter().map(|scope| arc(&scope.value)).collect()),
    }
}
