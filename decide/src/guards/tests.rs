//! One line per case: the route, the request, and what the deliberation says about it.
use super::*;
use crate::cors::Cors;
use crate::deliberation::{Deliberation, Step, Trail, Verdict};
use crate::facts::*;
use crate::policy::{Policy, RoleSource};
use crate::request::{Method, Methods};
use crate::revocation::{Handles, Source};
use crate::rules::*;
use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

mod cross_site;
mod limits;

const NOW: u64 = 1_800_000_000;

struct World {
    rules: Rules,
    found: Found,
    request: Request,
    facts: Facts,
    credential: Credential,
    reading: Reading,
    fields: Result<(), Refusal>,
    token: Result<(), Refusal>,
}

fn tenant(id: &str) -> Tenant {
    Tenant {
        id: id.into(),
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
    }
}

/// The caller of that world.
pub(crate) fn plain_identity() -> Identity {
    identity()
}

fn identity() -> Identity {
    Identity {
        issuer: "idp".into(),
        subject: Person("u1".into()),
        tenant: Some("acme".into()),
        roles: vec!["finance".into()],
        session: None,
        auth_time: Some(NOW - 60),
        acr: None,
        amr: vec!["pwd".into()],
        issued_at: NOW - 60,
        not_before: 0,
        expires_at: NOW + 600,
        handles: Handles::of(&Source::default()),
        bound_to: None,
        scopes: None,
    }
}

/// A world in which everything passes: POST by finance of acme, bearer token, permission `accounts.refund`.
fn world() -> World {
    let roles = BTreeMap::from([
        ("finance".to_owned(), RoleSource { grants: vec!["accounts.refund".into()], ..RoleSource::default() }),
        ("cashier".to_owned(), RoleSource { grants: vec!["accounts.post".into()], ..RoleSource::default() }),
    ]);
    let permissions = ["accounts.refund".to_owned(), "accounts.post".to_owned()];
    let policy = Policy::compile(&permissions, &roles, &[("finance".into(), "cashier".into())], &[]).unwrap();
    let permission = Permission { id: policy.permission("accounts.refund").unwrap(), name: "accounts.refund".into() };
    let limit = |name: &str, key| Arc::new(Limit::new(name, key, vec![Rate { count: 1, period_s: 1, burst: 1 }]));
    let route = Route {
        name: "refunds".into(),
        templates: vec!["/api/refunds".into()],
        methods: Methods::all(),
        upstream: Some(Destination { upstream: 0, name: "api".into(), region: None }),
        regions: Vec::new(),
        timeouts: Timeouts::default(),
        tenant: RouteTenant::Resolve,
        access: Access::Session(Box::new(SessionRules {
            accept: vec![Accept::Bearer { issuer: "idp".into() }],
            proofs: "ES256 EdDSA".into(),
            permission: Some(permission),
            step_up: Some(StepUp { name: "recent-mfa".into(), max_age_s: Some(900), acr: Vec::new(), amr: Vec::new() }),
            on_missing: OnMissing::Refuse,
            when: None,
        })),
        csrf: Csrf::Strict,
        isolation: Isolation::Off,
        cors: Cors::Closed,
        limits: vec![limit("per-ip", vec![KeyPart::ClientPrefix]), limit("per-user", vec![KeyPart::Subject])],
        headers: 0,
        body: BodyRules { max_bytes: Some(100), content_types: vec!["application/json".into()], with_get: false },
        audit: AuditRules::default(),
        certificate: Default::default(),
        shadow: Vec::new(),
        origin: "gateway.yaml:1".into(),
    };
    let acme = Arc::new(tenant("acme"));
    let seat = Seat { id: acme.id.clone(), tenant: acme.clone(), source: "host" };
    World {
        rules: Rules {
            resolve: vec![Resolve::Host("localhost".into())],
            tenants: [(acme.id.clone(), acme)].into_iter().collect(),
            classes: vec!["standard".into()],
            policy,
            ..Rules::default()
        },
        found: Found { route: Arc::new(route), index: 0, template: "/api/refunds".into(), seat: Some(seat) },
        request: Request {
            method: Method::Post,
            host: "acme.localhost".into(),
            port: None,
            path: "/api/refunds".into(),
            query: None,
        },
        facts: Facts {
            at_ms: NOW * 1000,
            id: RequestId(1),
            client: Person(IpAddr::from([203, 0, 113, 9])),
            listener: "public".into(),
            protocol: Protocol::Http1,
            tls: None,
            site: Site::default(),
            body: Body { length: Some(10), present: true, content_type: Some("application/json".into()) },
            upgrade: false,
        },
        credential: Credential::Valid { identity: Arc::new(identity()), carrier: Carrier::Bearer },
        reading: Reading::default(),
        fields: Ok(()),
        token: Err(Refusal::new(Code::CsrfUnproven, "the token's cookie is missing")),
    }
}

/// The route of that world, for tests that set it up in their own way.
pub(crate) fn plain_route() -> Route {
    Arc::into_inner(world().found.route).expect("one owner")
}

/// The facts of that world.
pub(crate) fn plain_facts() -> Facts {
    world().facts
}

impl World {
    fn route(&mut self) -> &mut Route {
        Arc::get_mut(&mut self.found.route).expect("one owner")
    }

    fn seat(&mut self, change: impl FnOnce(&mut Tenant)) {
        let mut tenant = tenant("acme");
        change(&mut tenant);
        let tenant = Arc::new(tenant);
        self.rules.tenants.insert(tenant.id.clone(), tenant.clone());
        if let Some(seat) = &mut self.found.seat {
            seat.tenant = tenant;
        }
    }

    fn caller(&mut self, change: impl FnOnce(&mut Identity)) {
        let mut caller = identity();
        change(&mut caller);
        self.credential = Credential::Valid { identity: Arc::new(caller), carrier: Carrier::Bearer };
    }

    fn cookie(&mut self) {
        self.credential = Credential::Valid { identity: Arc::new(identity()), carrier: Carrier::Cookie };
    }

    fn when(&mut self, source: &str) {
        match &mut self.route().access {
            Access::Session(rules) => rules.when = Some(crate::condition::Condition::compile(source).unwrap()),
            Access::Public { .. } => unreachable!("the world's route has a session"),
        }
    }

    fn methods(&mut self, wanted: &[&str]) {
        match &mut self.route().access {
            Access::Session(rules) => {
                rules.step_up.as_mut().unwrap().amr = wanted.iter().map(|method| (*method).into()).collect();
            }
            Access::Public { .. } => unreachable!("the world's route has a session"),
        }
    }

    fn run(&self) -> (Step, Trail, Vec<Question>) {
        let mut deliberation = Deliberation::new(&self.rules, &self.request, &self.facts, &self.found);
        let mut answer = None;
        let mut asked = Vec::new();
        loop {
            match deliberation.proceed(answer.take()) {
                Step::Ask(question) => {
                    asked.push(question);
                    answer = Some(match question {
                        Question::Quota(Stage::Address) => Answer::Quota(Reading::default()),
                        Question::Quota(Stage::Caller | Stage::Body) => Answer::Quota(self.reading.clone()),
                        Question::Fields => Answer::Fields(self.fields.clone()),
                        Question::CsrfToken => Answer::CsrfToken(self.token.clone()),
                        Question::Credential => Answer::Credential(self.credential.clone()),
                    });
                }
                end => return (end, deliberation.into_record().1, asked),
            }
        }
    }
}

fn told(step: &Step) -> String {
    match step {
        Step::Permit(permit) => format!("permit {}", permit.destination().name),
        Step::Grant => "grant".to_owned(),
        Step::Refuse(refusal) => format!("{} {}: {}", refusal.code.status(), refusal.code.id(), refusal.cause),
        Step::Ask(question) => format!("{question:?}"),
    }
}

#[track_caller]
fn check(change: impl FnOnce(&mut World), expected: &str) {
    let mut world = world();
    change(&mut world);
    assert_eq!(told(&world.run().0), expected);
}

/// Found by a property: suspending a tenant let its requests out of its region, where the guard that says so was in shadow.
#[test]
fn a_tenant_guard_in_shadow_leaves_the_data_where_it_stays() {
    for status in [TenantStatus::Active, TenantStatus::Suspended] {
        check(
            |w| {
                w.seat(|t| (t.status, t.residency) = (status, Some("eu".into())));
                w.found.seat = None;
                w.route().tenant = RouteTenant::Session;
                w.route().shadow = vec![Guard::Tenant];
            },
            "403 access.denied: the tenant's data stays in `eu`, and upstream `api` is elsewhere",
        );
    }
}

#[test]
fn one_line_per_case() {
    check(|_| {}, "permit api");
    check(|w| w.seat(|t| t.ip_allow = vec!["203.0.113.0/24".parse().unwrap()]), "permit api");
    check(
        |w| w.seat(|t| t.ip_allow = vec!["10.0.0.0/8".parse().unwrap()]),
        "403 network.denied: the client address is not in the tenant's ip_allow",
    );
    check(
        |w| {
            w.seat(|t| t.ip_allow = vec!["203.0.113.0/24".parse().unwrap()]);
            w.facts.client = Person("::ffff:203.0.113.9".parse().unwrap());
        },
        "permit api",
    );
    check(|w| w.seat(|t| t.status = TenantStatus::Suspended), "403 tenant.suspended: the tenant is suspended");
    check(|w| w.credential = Credential::Missing, "401 session.missing: no credential");
    check(|w| w.credential = Credential::Invalid("bad signature".into()), "401 session.invalid: bad signature");
    check(|w| w.credential = Credential::Denied("`app` says 403".into()), "403 access.denied: `app` says 403");
    check(|w| w.credential = Credential::Expired("idle too long".into()), "401 session.expired: idle too long");
    check(|w| w.credential = Credential::Revoked("signed out".into()), "401 session.revoked: signed out");
    check(|w| w.credential = Credential::Reused("used before".into()), "401 session.reused: used before");
    check(|w| w.caller(|i| i.expires_at = NOW), "401 session.expired: the token has expired");
    check(|w| w.caller(|i| i.expires_at = NOW + 1), "permit api");
    check(
        |w| w.caller(|i| i.tenant = Some("globex".into())),
        "403 tenant.mismatch: the session belongs to another tenant",
    );
    check(|w| w.caller(|i| i.tenant = None), "403 tenant.mismatch: the session names no tenant");
    check(
        |w| w.seat(|t| t.issuers = vec!["other".into()]),
        "401 session.invalid: this issuer may not speak for the tenant",
    );
    check(
        |w| w.caller(|i| i.roles = vec!["cashier".into()]),
        "403 access.denied: no role of the caller grants `accounts.refund`",
    );
    check(|w| w.caller(|i| i.roles = Vec::new()), "403 access.denied: no role of the caller grants `accounts.refund`");
    check(
        |w| w.caller(|i| i.roles = vec!["finance".into(), "cashier".into()]),
        "403 access.denied: roles `finance` and `cashier` exclude each other",
    );
    check(
        |w| w.caller(|i| i.auth_time = Some(NOW - 901)),
        "401 session.step-up: step-up `recent-mfa`: the authentication is too old",
    );
    check(|w| w.caller(|i| i.auth_time = Some(NOW - 900)), "permit api");
    check(
        |w| w.caller(|i| i.auth_time = None),
        "401 session.step-up: step-up `recent-mfa`: the authentication is too old",
    );
    check(
        |w| w.caller(|i| i.auth_time = Some(NOW + 3600)),
        "401 session.step-up: step-up `recent-mfa`: the authentication is too old",
    );
    let scopes = |named: &[&str]| Some(named.iter().map(|scope| Arc::from(*scope)).collect());
    check(|w| w.caller(|i| i.scopes = scopes(&["accounts.post", "accounts.refund"])), "permit api");
    for narrow in [&["accounts.post"][..], &["accounts"], &["accounts.*"], &[]] {
        check(
            |w| w.caller(|i| i.scopes = scopes(narrow)),
            "403 access.denied: role `finance` grants `accounts.refund`, and no scope of the key names it",
        );
    }
    check(
        |w| w.caller(|i| (i.roles, i.scopes) = (Vec::new(), scopes(&["accounts.refund"]))),
        "403 access.denied: no role of the caller grants `accounts.refund`",
    );
    check(|w| w.methods(&["pwd"]), "permit api");
    check(
        |w| w.methods(&["pwd", "otp"]),
        "401 session.step-up: step-up `recent-mfa`: the authentication did not use `otp`",
    );
    check(
        |w| w.methods(&["OTP", "pwd"]),
        "401 session.step-up: step-up `recent-mfa`: the authentication did not use `OTP`",
    );
    check(
        |w| {
            w.methods(&["otp"]);
            w.caller(|i| i.auth_time = None);
        },
        "401 session.step-up: step-up `recent-mfa`: the authentication is too old",
    );
    check(|w| w.seat(|t| t.mfa_required = true), "401 session.step-up: the tenant requires a second factor");
    check(
        |w| w.seat(|t| t.max_auth_age_s = Some(30)),
        "401 session.step-up: the tenant requires a younger authentication",
    );
    check(|w| w.when(r#"tenant.status == "active" && "finance" in session.roles"#), "permit api");
    check(|w| w.when("tenant.class == 'trial'"), "403 access.denied: the route's condition does not hold");
    check(|w| w.when("session.auth_age_s < 10"), "403 access.denied: the route's condition does not hold");
    check(
        |w| w.when("tenant.id"),
        "403 access.denied: the route's condition failed: the condition gives string instead of a bool",
    );
    check(|w| w.request.method = Method::Get, "400 request.ambiguous: a body with GET or HEAD");
    check(|w| w.request.method = Method::Head, "400 request.ambiguous: a body with GET or HEAD");
    check(
        |w| {
            w.request.method = Method::Get;
            w.route().body.with_get = true;
        },
        "permit api",
    );
    check(|w| w.facts.body.length = Some(101), "413 request.too-large: a body of 101 bytes, 100 are allowed");
    check(
        |w| w.facts.body.content_type = Some("text/plain".into()),
        "415 body.unsupported: the content type is not on the route's list",
    );
    check(|w| w.facts.body.content_type = None, "415 body.unsupported: the content type is not on the route's list");
    check(
        |w| {
            let (unit, legacy) = (Unit::Requests, false);
            w.reading.exceeded = Some(LimitState {
                name: "per-user".into(),
                unit,
                quota: 1,
                window_s: 1,
                remaining: 0,
                reset_s: 0,
                legacy,
            })
        },
        "429 quota.exceeded: limit `per-user` is used up",
    );
}

#[test]
fn dear_answers_are_fetched_only_when_earlier_guards_passed() {
    let mut blocked = world();
    blocked.seat(|t| t.ip_allow = vec!["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(blocked.run().2, []);
    assert_eq!(
        world().run().2,
        [Question::Quota(Stage::Address), Question::Credential, Question::Quota(Stage::Caller)]
    );
}

#[test]
fn silence_refuses_with_503_and_never_401() {
    let world = world();
    let mut deliberation = Deliberation::new(&world.rules, &world.request, &world.facts, &world.found);
    assert!(matches!(deliberation.proceed(None), Step::Ask(Question::Quota(Stage::Address))));
    assert!(matches!(deliberation.proceed(Some(Answer::Quota(Reading::default()))), Step::Ask(Question::Credential)));
    let end = deliberation.proceed(Some(Answer::Unavailable("no key set".into())));
    assert_eq!(told(&end), "503 gateway.unavailable: no key set");
    assert_eq!(
        told(&deliberation.proceed(Some(Answer::Credential(world.credential.clone())))),
        "503 gateway.unavailable: this deliberation has ended"
    );
}

#[test]
fn a_shadow_guard_deliberates_is_recorded_and_admits() {
    let mut world = world();
    world.caller(|i| i.roles = Vec::new());
    world.route().shadow = vec![Guard::Access];
    let (step, trail, _) = world.run();
    assert_eq!(told(&step), "permit api");
    assert!(trail.contains(&(Guard::Access, Verdict::Shadow(Code::AccessDenied))));
    assert_eq!(trail.len(), ORDER.len());
}

/// Adding a guard's condition never turns a refusal into a permit: whatever is refused stays refused when the route
/// is made stricter in another respect.
#[test]
fn stricter_never_admits_more() {
    type Change = fn(&mut World);
    let stricter: [Change; 5] = [
        |w| w.seat(|t| t.status = TenantStatus::Suspended),
        |w| w.seat(|t| t.mfa_required = true),
        |w| w.when("false"),
        |w| w.route().body.max_bytes = Some(0),
        |w| w.seat(|t| t.ip_allow = vec!["10.0.0.0/8".parse().unwrap()]),
    ];
    let refused: [Change; 4] = [
        |w| w.credential = Credential::Missing,
        |w| w.caller(|i| i.tenant = Some("globex".into())),
        |w| w.caller(|i| i.roles = Vec::new()),
        |w| w.facts.body.content_type = None,
    ];
    for no in refused {
        for more in stricter {
            let mut world = world();
            no(&mut world);
            more(&mut world);
            assert!(matches!(world.run().0, Step::Refuse(_)));
        }
    }
}

/// Browsers are sent to show a code where that will do, and only there: else they would go round for ever.
#[test]
fn a_code_is_asked_for_exactly_where_it_will_do() {
    let lists: [&[&str]; 7] = [&[], &["otp"], &["mfa"], &["pwd"], &["pwd", "otp"], &["otp", "hwk"], &["hwk", "pwd"]];
    for wanted in lists {
        for used in lists {
            let mut world = world();
            world.methods(wanted);
            let mut who = identity();
            who.amr = used.iter().map(|method| (*method).into()).collect();
            let does = step_up::code_does(&world.rules, &world.found.route, None, &who.amr);
            who.amr.extend(step_up::OF_A_CODE.map(Arc::from));
            let after = step_up::unmet(&world.rules, &world.found.route, None, &who, NOW);
            assert_eq!(does, after.is_none(), "{wanted:?} after {used:?}");
        }
    }
}

/// There is no parameter for methods: a provider is asked to authenticate anew, or may go on with a session without them.
#[test]
fn a_provider_is_asked_anew_for_methods() {
    let mut world = world();
    let asked = |world: &World| step_up::purpose(&world.rules, &world.found.route, None, false);
    assert!(!asked(&world).again);
    world.methods(&["hwk"]);
    let purpose = asked(&world);
    assert_eq!((purpose.again, purpose.max_age_s, purpose.acr.len()), (true, Some(900), 0));
}
