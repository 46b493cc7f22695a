//! What one decision costs, from the raw target to the permit, as routes and tenants grow: it must not show. And what each
//! guard costs by itself.
//!
//! Limits and signatures are answered as the shell would answer from memory; `quota` and `token` measure those.
#![expect(clippy::expect_used, clippy::panic, reason = "a bench that cannot be set up should stop")]
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use decide::cors::Cors;
use decide::deliberation::{Deliberation, Findings, Step};
use decide::facts::*;
use decide::guards::{Case, ORDER, Outcome};
use decide::policy::{Policy, RoleSource};
use decide::request::{Methods, Request};
use decide::revocation::{Handles, Source};
use decide::router::{HostPattern, PathPattern};
use decide::rules::*;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const NOW_S: u64 = 1_800_000_000;

fn route(name: &str, template: &Arc<str>, permission: &Permission) -> Route {
    let limit = |name: &str, key| {
        let rates = vec![Rate { count: 1000, period_s: 1, burst: 1000 }];
        Arc::new(Limit::new(name, key, rates))
    };
    Route {
        name: name.into(),
        templates: vec![template.clone()],
        methods: Methods::all(),
        upstream: Some(Destination { upstream: 0, name: "api".into(), region: None }),
        regions: Vec::new(),
        timeouts: Timeouts::default(),
        tenant: RouteTenant::Resolve,
        access: Access::Session(Box::new(SessionRules {
            accept: vec![Accept::Bearer { issuer: "workforce".into() }],
            proofs: "ES256 EdDSA".into(),
            permission: Some(permission.clone()),
            step_up: None,
            on_missing: OnMissing::Refuse,
            when: None,
        })),
        csrf: Csrf::Strict,
        isolation: Isolation::SameSite,
        cors: Cors::Closed,
        limits: vec![limit("per-ip", vec![KeyPart::ClientPrefix]), limit("per-user", vec![KeyPart::Subject])],
        headers: 0,
        body: BodyRules { max_bytes: Some(1 << 20), content_types: Vec::new(), with_get: false },
        audit: AuditRules::default(),
        certificate: Default::default(),
        shadow: Vec::new(),
        origin: String::new(),
    }
}

/// So many routes of one API on `*.app.example`, so many tenants below it.
fn rules(routes: usize, tenants: usize) -> Rules {
    let roles = BTreeMap::from([(
        "buyer".to_owned(),
        RoleSource { grants: vec!["orders.read".to_owned()], ..RoleSource::default() },
    )]);
    let policy = Policy::compile(&["orders.read".to_owned()], &roles, &[], &[]).expect("a policy");
    let id = policy.permission("orders.read").expect("a permission");
    let permission = Permission { id, name: "orders.read".into() };
    let mut rules = Rules { resolve: vec![Resolve::Host("app.example".into())], policy, ..Rules::default() };
    let host = HostPattern::parse("*.app.example").expect("a host");
    for index in 0..routes {
        let template: Arc<str> = format!("/api/area-{index}/{{id}}/lines").into();
        let path = PathPattern::parse(&template).expect("a path");
        rules.router.insert(&host, &path, &template, Methods::all(), index).expect("a route of its own");
        rules.routes.push(Arc::new(route(&format!("area-{index}"), &template, &permission)));
    }
    for index in 0..tenants {
        let id: Arc<str> = format!("tenant-{index}").into();
        let tenant = Tenant {
            id: id.clone(),
            class: 0,
            status: TenantStatus::Active,
            ip_allow: Vec::new(),
            issuers: Vec::new(),
            mfa_required: false,
            max_auth_age_s: None,
            idle_s: None,
            absolute_s: None,
            residency: None,
            embed_origins: Box::default(),
        };
        rules.tenants.insert(id, Arc::new(tenant));
    }
    rules
}

fn identity(tenant: &str) -> Arc<Identity> {
    Arc::new(Identity {
        issuer: "workforce".into(),
        subject: Person("7f6c1d0e-5a0b-4f7e-9b57-3f2f8b8f0c11".into()),
        tenant: Some(tenant.into()),
        roles: vec!["buyer".into()],
        session: None,
        auth_time: Some(NOW_S - 60),
        acr: None,
        amr: Vec::new(),
        issued_at: NOW_S - 60,
        not_before: 0,
        expires_at: NOW_S + 600,
        handles: Handles::of(&Source { issuer: "https://idp.test/", tenant: Some(tenant), ..Source::default() }),
        bound_to: None,
        scopes: None,
    })
}

fn facts() -> Facts {
    Facts {
        at_ms: NOW_S * 1000,
        id: RequestId(7),
        client: Person(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))),
        listener: "public".into(),
        protocol: Protocol::Http1,
        tls: None,
        site: Site::default(),
        body: Body::default(),
        upgrade: false,
    }
}

fn answered(question: Question, identity: &Arc<Identity>, carrier: Carrier) -> Answer {
    match question {
        Question::Quota(_) => Answer::Quota(Reading::default()),
        Question::Fields => Answer::Fields(Ok(())),
        Question::CsrfToken => Answer::CsrfToken(Ok(())),
        Question::Credential => Answer::Credential(Credential::Valid { identity: identity.clone(), carrier }),
    }
}

fn decided(rules: &Rules, facts: &Facts, identity: &Arc<Identity>, target: &str, host: &str) -> bool {
    let Ok(request) = Request::parse("GET", target, host) else { return false };
    let Ok(found) = rules.find(&request, |_| None) else { return false };
    let mut deliberation = Deliberation::new(rules, &request, facts, &found);
    let mut answer = None;
    loop {
        answer = match deliberation.proceed(answer) {
            Step::Ask(question) => Some(answered(question, identity, Carrier::Bearer)),
            Step::Permit(permit) => return black_box(&permit).destination().upstream == 0,
            Step::Refuse(_) | Step::Grant => return false,
        };
    }
}

/// Each guard of a form that a browser sends by its cookie: the one that has most to do.
fn guards(c: &mut Criterion) {
    let (rules, identity) = (rules(10, 10), identity("tenant-5"));
    let site = Site { fetch_site: Some(FetchSite::SameOrigin), same_origin: Some(true), ..Site::default() };
    let facts = Facts { site, body: Body { length: Some(64), present: true, content_type: None }, ..facts() };
    let request = Request::parse("POST", "/api/area-5/42/lines", "tenant-5.app.example").expect("a request");
    let found = rules.find(&request, |_| None).expect("a route");
    let case = Case { rules: &rules, request: &request, facts: &facts, found: &found, preflight: None };
    let mut findings = Findings { seat: found.seat.clone(), ..Findings::default() };
    let mut group = c.benchmark_group("guard");
    for guard in ORDER {
        // A guard that asks is benched with its answer.
        let question = match guard.judge(case, &mut findings, None) {
            Outcome::Ask(question) => Some(question),
            Outcome::Pass | Outcome::Skip => None,
            Outcome::Refuse(refusal) => panic!("{}: {refusal:?}", guard.name()),
        };
        let answer = || question.map(|question| answered(question, &identity, Carrier::Cookie));
        assert!(matches!(guard.judge(case, &mut findings, answer()), Outcome::Pass | Outcome::Skip));
        group.bench_function(guard.name(), |b| {
            b.iter(|| matches!(guard.judge(black_box(case), &mut findings, answer()), Outcome::Pass))
        });
    }
    group.finish();
}

fn decision(c: &mut Criterion) {
    let mut group = c.benchmark_group("decision");
    for (routes, tenants) in [(10, 10), (1000, 10), (10, 100_000), (1000, 100_000)] {
        let (rules, facts) = (rules(routes, tenants), facts());
        let (host, target) =
            (format!("tenant-{}.app.example", tenants / 2), format!("/api/area-{}/42/lines?page=2", routes / 2));
        let identity = identity(&format!("tenant-{}", tenants / 2));
        assert!(decided(&rules, &facts, &identity, &target, &host));
        let name = BenchmarkId::from_parameter(format!("{routes}-routes/{tenants}-tenants"));
        group.bench_function(name, |b| {
            b.iter(|| decided(black_box(&rules), &facts, &identity, black_box(&target), black_box(&host)))
        });
    }
    group.finish();
}

criterion_group!(benches, decision, guards);
criterion_main!(benches);
