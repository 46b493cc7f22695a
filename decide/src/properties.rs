//! What must hold of every decision, over made-up rules, requests, facts and answers, under `#[cfg(test)]` only.
mod scopes;
mod stricter;

use crate::csrf::Submit;
use crate::deliberation::{Deliberation, Step, Trail, Verdict};
use crate::facts::*;
use crate::guards::{Guard, ORDER};
use crate::head::{HeadLimits, check};
use crate::policy::{Policy, RoleSource};
use crate::refusal::{Code, Refusal};
use crate::request::{Method, Request};
use crate::revocation::{Handles, Source};
use crate::rules::*;
use core::net::IpAddr;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const NOW: u64 = 1_800_000_000;

/// How a route and its tenant are set up. Each part can be made stricter alone.
#[derive(Clone, Debug)]
struct Setup {
    session: bool,
    permission: bool,
    step_up_age_s: Option<u64>,
    step_up_acr: bool,
    step_up_amr: Vec<&'static str>,
    when: Option<&'static str>,
    csrf: Csrf,
    isolation: Isolation,
    address_limit: bool,
    caller_limit: bool,
    body_limit: bool,
    max_bytes: Option<u64>,
    content_types: bool,
    body_with_get: bool,
    regions: bool,
    tenant_by_session: bool,
    suspended: bool,
    ip_allow: Option<&'static str>,
    issuers: bool,
    mfa_required: bool,
    max_auth_age_s: Option<u64>,
    residency: bool,
    shadow: Vec<Guard>,
}

/// What comes in, and what the shell answers.
#[derive(Clone, Debug)]
struct Event {
    method: Method,
    client: [u8; 4],
    seated: bool,
    site: Site,
    upgrade: bool,
    length: Option<u64>,
    json: bool,
    credential: Credential,
    address_exceeded: bool,
    caller_exceeded: bool,
    body_exceeded: bool,
    fields: bool,
    token: bool,
    silent: bool,
}

fn token() -> Csrf {
    let field = Some("csrf_token".into());
    Csrf::Token(Box::new(Submit { cookie: "__Host-csrf".into(), header: None, field, max_age_s: 60, inspect: 100 }))
}

fn setup() -> impl Strategy<Value = Setup> {
    let mostly = |p: f64| prop::bool::weighted(p);
    let age = || prop::option::weighted(0.3, prop::sample::select(vec![10u64, 900, 100_000]));
    let when =
        prop::sample::select(vec!["request.method == \"GET\"", "session.subject == \"u1\"", "tenant.id == \"acme\""]);
    (
        (
            mostly(0.8),
            mostly(0.6),
            age(),
            mostly(0.2),
            prop::option::weighted(0.3, when),
            prop::sample::select(vec![vec![], vec![], vec!["pwd"], vec!["otp"], vec!["pwd", "otp"]]),
        ),
        (
            prop::sample::select(vec![Csrf::Strict, token(), Csrf::Off, Csrf::Off]),
            mostly(0.5),
            mostly(0.5),
            mostly(0.4),
            prop::sample::select(vec![Isolation::Off, Isolation::SameSite, Isolation::SameOrigin]),
        ),
        (
            prop::option::weighted(0.5, prop::sample::select(vec![5u64, 100])),
            mostly(0.4),
            mostly(0.3),
            mostly(0.15),
            mostly(0.5),
        ),
        (
            mostly(0.05),
            prop::option::weighted(0.3, prop::sample::select(vec!["203.0.113.0/24", "10.0.0.0/8"])),
            mostly(0.3),
            mostly(0.2),
            age(),
            mostly(0.2),
        ),
        prop::sample::subsequence(ORDER.iter().copied().filter(|g| *g != Guard::Residency).collect::<Vec<_>>(), 0..=3),
    )
        .prop_map(|(access, checks, body, tenant, shadow)| Setup {
            session: access.0,
            permission: access.1,
            step_up_age_s: access.2,
            step_up_acr: access.3,
            when: access.4,
            step_up_amr: access.5,
            csrf: checks.0,
            isolation: checks.4,
            address_limit: checks.1,
            caller_limit: checks.2,
            body_limit: checks.3,
            max_bytes: body.0,
            content_types: body.1,
            regions: body.2,
            tenant_by_session: body.3,
            body_with_get: body.4,
            suspended: tenant.0,
            ip_allow: tenant.1,
            issuers: tenant.2,
            mfa_required: tenant.3,
            max_auth_age_s: tenant.4,
            residency: tenant.5,
            shadow,
        })
}

fn credential() -> impl Strategy<Value = Credential> {
    let valid = (
        prop::sample::select(vec![Carrier::Bearer, Carrier::Cookie]),
        prop::sample::select(vec![Some("acme"), Some("acme"), Some("acme"), Some("globex"), None]),
        prop::sample::subsequence(vec!["finance", "cashier"], 0..=2),
        prop::sample::select(vec![Some(5u64), Some(60), Some(2000), None]),
        prop::bool::weighted(0.6),
        prop::bool::weighted(0.9),
    )
        .prop_map(|(carrier, tenant, roles, age, strong, alive)| Credential::Valid {
            carrier,
            identity: Arc::new(Identity {
                issuer: "idp".into(),
                subject: Person("u1".into()),
                tenant: tenant.map(Into::into),
                roles: roles.into_iter().map(Into::into).collect(),
                session: None,
                auth_time: age.map(|age| NOW - age),
                acr: strong.then(|| "mfa".into()),
                amr: if strong { vec!["pwd".into(), "otp".into()] } else { vec!["pwd".into()] },
                issued_at: NOW - 60,
                not_before: 0,
                expires_at: if alive { NOW + 600 } else { NOW },
                handles: Handles::of(&Source::default()),
                bound_to: None,
                scopes: None,
            }),
        });
    prop_oneof![8 => valid, 1 => Just(Credential::Missing), 1 => Just(Credential::Invalid("bad".into()))]
}

fn event() -> impl Strategy<Value = Event> {
    let site = (
        prop::option::of(prop::sample::select(vec![
            FetchSite::SameOrigin,
            FetchSite::SameOrigin,
            FetchSite::SameSite,
            FetchSite::CrossSite,
            FetchSite::None,
            FetchSite::Unknown,
        ])),
        prop::option::of(prop::bool::weighted(0.8)),
    );
    (
        (prop::sample::select(Method::ALL.to_vec()), prop::sample::select(vec![[203, 0, 113, 9], [10, 1, 2, 3]])),
        (prop::bool::weighted(0.9), site, prop::bool::weighted(0.1)),
        (prop::option::of(prop::sample::select(vec![1u64, 50, 500])), prop::bool::weighted(0.8)),
        credential(),
        (
            prop::bool::weighted(0.1),
            prop::bool::weighted(0.1),
            prop::bool::weighted(0.1),
            prop::bool::weighted(0.9),
            prop::bool::weighted(0.05),
            any::<bool>(),
        ),
    )
        .prop_map(|(who, head, body, credential, answers)| Event {
            method: who.0,
            client: who.1,
            seated: head.0,
            site: Site { fetch_site: head.1.0, same_origin: head.1.1, ..Site::default() },
            upgrade: head.2,
            length: body.0,
            json: body.1,
            credential,
            address_exceeded: answers.0,
            caller_exceeded: answers.1,
            body_exceeded: answers.2,
            fields: answers.3,
            silent: answers.4,
            token: answers.5,
        })
}

struct World {
    rules: Rules,
    found: Found,
}

fn world(setup: &Setup, seated: bool) -> World {
    let source = |grant: &str| RoleSource { grants: vec![grant.into()], ..RoleSource::default() };
    let roles = BTreeMap::from([("finance".to_owned(), source("refund")), ("cashier".to_owned(), source("post"))]);
    let permissions = ["refund".to_owned(), "post".to_owned()];
    let policy = Policy::compile(&permissions, &roles, &[("finance".into(), "cashier".into())], &[]).unwrap();
    let permission =
        setup.permission.then(|| Permission { id: policy.permission("refund").unwrap(), name: "refund".into() });
    let mut limits = Vec::new();
    let field = FieldKey { source: FieldSource::Json, name: "email".into() };
    for (wanted, name, key) in [
        (setup.address_limit, "address", KeyPart::ClientPrefix),
        (setup.caller_limit, "caller", KeyPart::Subject),
        (setup.body_limit, "body", KeyPart::Field(field)),
    ] {
        if wanted {
            limits.push(Arc::new(Limit::new(name, vec![key], vec![Rate { count: 1, period_s: 1, burst: 1 }])));
        }
    }
    let asks = setup.step_up_age_s.is_some() || setup.step_up_acr || !setup.step_up_amr.is_empty();
    let step_up = asks.then(|| StepUp {
        name: "fresh".into(),
        max_age_s: setup.step_up_age_s,
        acr: if setup.step_up_acr { vec!["mfa".into()] } else { Vec::new() },
        amr: setup.step_up_amr.iter().map(|method| (*method).into()).collect(),
    });
    let access = if setup.session {
        Access::Session(Box::new(SessionRules {
            accept: vec![Accept::Bearer { issuer: "idp".into() }],
            proofs: "ES256 EdDSA".into(),
            permission,
            step_up,
            on_missing: OnMissing::Refuse,
            when: setup.when.map(|source| crate::condition::Condition::compile(source).unwrap()),
        }))
    } else {
        Access::Public { reason: "for all".into() }
    };
    let region = |name: &str| Destination { upstream: 1, name: name.into(), region: Some(name.into()) };
    let tenant = Arc::new(Tenant {
        id: "acme".into(),
        class: 0,
        status: if setup.suspended { TenantStatus::Suspended } else { TenantStatus::Active },
        ip_allow: setup.ip_allow.iter().map(|net| net.parse().unwrap()).collect(),
        issuers: if setup.issuers { vec!["idp".into()] } else { Vec::new() },
        mfa_required: setup.mfa_required,
        max_auth_age_s: setup.max_auth_age_s,
        idle_s: None,
        absolute_s: None,
        residency: setup.residency.then(|| "eu".into()),
        embed_origins: Box::default(),
    });
    let mut route = crate::guards::tests::plain_route();
    route.tenant = if setup.tenant_by_session { RouteTenant::Session } else { RouteTenant::Resolve };
    route.access = access;
    route.csrf = setup.csrf.clone();
    route.isolation = setup.isolation;
    route.limits = limits;
    route.regions = if setup.regions { vec![region("eu"), region("us")] } else { Vec::new() };
    route.body.with_get = setup.body_with_get;
    route.body.max_bytes = setup.max_bytes;
    route.body.content_types = if setup.content_types { vec!["application/json".into()] } else { Vec::new() };
    route.shadow = setup.shadow.clone();
    let seat = Seat { id: tenant.id.clone(), tenant: tenant.clone(), source: "host" };
    let seat = Some(seat).filter(|_| seated && !setup.tenant_by_session);
    World {
        rules: Rules {
            tenants: [(tenant.id.clone(), tenant)].into_iter().collect(),
            classes: vec!["standard".into()],
            policy,
            ..Rules::default()
        },
        found: Found { route: Arc::new(route), index: 0, template: "/x".into(), seat },
    }
}

/// Runs it to its end; `true` for a permit, and which guards said what.
fn decide(setup: &Setup, event: &Event) -> (bool, Trail) {
    let World { rules, found } = world(setup, event.seated);
    let request = Request { method: event.method, host: "a".into(), port: None, path: "/x".into(), query: None };
    let facts = Facts {
        at_ms: NOW * 1000,
        client: Person(IpAddr::from(event.client)),
        site: event.site.clone(),
        body: Body {
            length: event.length,
            present: event.length.is_some(),
            content_type: Some(if event.json { "application/json" } else { "text/plain" }.to_owned()),
        },
        upgrade: event.upgrade,
        ..crate::guards::tests::plain_facts()
    };
    let state = |name: &str| LimitState {
        name: name.into(),
        unit: Unit::Requests,
        quota: 1,
        window_s: 1,
        remaining: 0,
        reset_s: 1,
        legacy: false,
    };
    let reading =
        |exceeded: bool, name: &str| Reading { exceeded: exceeded.then(|| state(name)), ..Reading::default() };
    let mut deliberation = Deliberation::new(&rules, &request, &facts, &found);
    let mut answer = None;
    for _ in 0..2 * ORDER.len() {
        match deliberation.proceed(answer.take()) {
            Step::Ask(question) => {
                answer = Some(match question {
                    _ if event.silent => Answer::Unavailable("silence".into()),
                    Question::Quota(Stage::Address) => Answer::Quota(reading(event.address_exceeded, "address")),
                    Question::Quota(Stage::Caller) => Answer::Quota(reading(event.caller_exceeded, "caller")),
                    Question::Credential => Answer::Credential(event.credential.clone()),
                    Question::Quota(Stage::Body) => Answer::Quota(reading(event.body_exceeded, "body")),
                    Question::CsrfToken if event.token => Answer::CsrfToken(Ok(())),
                    Question::CsrfToken => {
                        Answer::CsrfToken(Err(Refusal::new(Code::CsrfUnproven, "the token's cookie is missing")))
                    }
                    Question::Fields if event.fields => Answer::Fields(Ok(())),
                    Question::Fields => Answer::Fields(Err(Refusal::new(Code::RequestMalformed, "no field"))),
                });
            }
            Step::Permit(_) => return (true, deliberation.into_record().1),
            Step::Refuse(_) | Step::Grant => return (false, deliberation.into_record().1),
        }
    }
    panic!("a deliberation without end");
}

const FIELDS: [&str; 14] = [
    "Host: a.example\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive, te\r\n",
    "Connection: Upgrade\r\n",
    "Upgrade: websocket\r\n",
    "Expect: 100-continue\r\n",
    "Authorization: Bearer x\r\n",
    "Cookie: a=1; b=2\r\n",
    "Origin: https://a.example\r\n",
    "Sec-Fetch-Site: same-origin\r\n",
    "X-Something-Else: y\r\n",
    "TE: trailers\r\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn asking_for_more_never_turns_no_into_yes(setup in setup(), event in event()) {
        let (before, _) = decide(&setup, &event);
        for (what, more) in stricter::stricter(&setup) {
            let (after, trail) = decide(&more, &event);
            prop_assert!(before || !after, "{} lets it pass: {:?}", what, trail);
        }
    }

    #[test]
    fn a_guard_in_shadow_says_the_same_and_changes_nothing(setup in setup(), event in event()) {
        let open = Setup { shadow: ORDER.iter().copied().filter(|g| *g != Guard::Residency).collect(), ..setup.clone() };
        let (permitted, trail) = decide(&open, &event);
        // With all in shadow nothing but the residency of data stands in the way.
        prop_assert_eq!(permitted, !trail.iter().any(|(_, v)| matches!(v, Verdict::Refuse(_))));
        prop_assert!(trail.iter().all(|(g, v)| *g == Guard::Residency || !matches!(v, Verdict::Refuse(_))));

        // Taking the guards in shadow off the route altogether gives the same answer.
        let (with, trail) = decide(&setup, &event);
        let observed = trail.iter().filter(|(_, v)| matches!(v, Verdict::Shadow(_))).count();
        let refused = trail.iter().position(|(_, v)| matches!(v, Verdict::Refuse(_)));
        prop_assert_eq!(with, refused.is_none());
        for (guard, verdict) in trail.iter() {
            prop_assert!(!matches!(verdict, Verdict::Shadow(_)) || setup.shadow.contains(guard));
            prop_assert!(!matches!(verdict, Verdict::Refuse(_)) || !setup.shadow.contains(guard));
        }
        // Whatever it observed, the guards that are enforced say what they say without it: taking one that passed or
        // only observed out of shadow changes the verdict to no at that very guard, or not at all.
        for guard in &setup.shadow {
            let mut enforced = setup.clone();
            enforced.shadow.retain(|g| g != guard);
            let (after, enforced_trail) = decide(&enforced, &event);
            let said = trail.iter().find(|(g, _)| g == guard).map(|(_, v)| *v);
            match said {
                Some(Verdict::Shadow(code)) => {
                    prop_assert!(!after);
                    prop_assert_eq!(enforced_trail.last().copied(), Some((*guard, Verdict::Refuse(code))));
                }
                Some(Verdict::Pass | Verdict::Skip | Verdict::Refuse(_)) | None => {
                    prop_assert_eq!((after, enforced_trail), (with, trail));
                }
            }
        }
        prop_assert!(observed <= setup.shadow.len());
    }

    /// The answer with a guard in shadow is the answer of a route that does not ask for it.
    #[test]
    fn a_guard_in_shadow_changes_the_answer_as_little_as_none(setup in setup(), event in event()) {
        type Without = (Guard, fn(&mut Setup));
        let without: [Without; 6] = [
            (Guard::AddressQuota, |s| s.address_limit = false),
            (Guard::CallerQuota, |s| s.caller_limit = false),
            (Guard::BodyQuota, |s| s.body_limit = false),
            (Guard::Csrf, |s| s.csrf = Csrf::Off),
            (Guard::Body, |s| (s.max_bytes, s.content_types, s.body_with_get) = (None, false, true)),
            // A tenant that the session names is judged where it is named.
            (Guard::Network, |s| if !s.tenant_by_session { s.ip_allow = None }),
        ];
        for (guard, take_off) in without {
            let mut watched = setup.clone();
            watched.shadow.retain(|g| *g != guard);
            let mut bare = watched.clone();
            take_off(&mut bare);
            watched.shadow.push(guard);
            if guard != Guard::Network || !setup.tenant_by_session {
                prop_assert_eq!(decide(&watched, &event).0, decide(&bare, &event).0, "{:?}", guard);
            }
        }
    }

    /// Only the order of lines of one name says something.
    #[test]
    fn the_order_of_fields_changes_no_reading(
        fields in prop::sample::subsequence(FIELDS.to_vec(), 0..FIELDS.len()),
        order in any::<u64>(),
    ) {
        let head = |fields: &[&str]| format!("GET /x HTTP/1.1\r\n{}\r\n", fields.concat()).into_bytes();
        let mut shuffled = fields.clone();
        shuffled.sort_by_key(|field| (field.len() as u64 ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ field.len() as u64);
        let (one, other) = (head(&fields), head(&shuffled));
        match (check(&one, &HeadLimits::default()), check(&other, &HeadLimits::default())) {
            (Ok(one), Ok(other)) => {
                prop_assert_eq!(
                    (one.host, one.content_length, one.chunked, one.keep_alive, one.expect_continue, one.websocket),
                    (other.host, other.content_length, other.chunked, other.keep_alive, other.expect_continue, other.websocket)
                );
            }
            (Err(_), Err(_)) => {}
            (one, other) => prop_assert!(false, "{:?} and {:?}", one, other),
        }
    }

    #[test]
    fn a_decision_is_the_same_each_time_and_its_trail_ends_with_who_refused(setup in setup(), event in event()) {
        let (permitted, trail) = decide(&setup, &event);
        prop_assert_eq!(decide(&setup, &event), (permitted, trail));
        let said: Vec<Guard> = trail.iter().map(|(guard, _)| *guard).collect();
        prop_assert_eq!(&said[..], &ORDER[..said.len()], "guards run in THE ORDER");
        let refusals: Vec<usize> = trail.iter().enumerate().filter(|(_, (_, v))| matches!(v, Verdict::Refuse(_))).map(|(i, _)| i).collect();
        if permitted {
            prop_assert_eq!((refusals.len(), said.len()), (0, ORDER.len()));
        } else {
            prop_assert_eq!(refusals, vec![trail.len() - 1]);
        }
    }
}

/// The generators are worth something only if both ends and every guard occur.
#[test]
fn what_is_made_up_is_permitted_and_refused_by_every_guard() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut permits, mut refusing, mut observing) = (0, HashMap::new(), HashMap::new());
    for _ in 0..4000 {
        let (setup, event) = (setup(), event()).new_tree(&mut runner).unwrap().current();
        let (permitted, trail) = decide(&setup, &event);
        permits += usize::from(permitted);
        for (guard, verdict) in trail.iter().copied() {
            match verdict {
                Verdict::Refuse(_) => *refusing.entry(guard).or_insert(0) += 1,
                Verdict::Shadow(_) => *observing.entry(guard).or_insert(0) += 1,
                Verdict::Pass | Verdict::Skip => {}
            }
        }
    }
    assert!((400..3600).contains(&permits), "{permits} of 4000 are permitted");
    for guard in ORDER {
        assert!(refusing.get(&guard).is_some_and(|n| *n >= 10), "{guard:?} refuses too seldom: {refusing:?}");
        assert!(guard == Guard::Residency || observing.contains_key(&guard), "{guard:?} is never in shadow");
    }
}
