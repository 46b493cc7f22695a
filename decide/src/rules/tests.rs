//! Which tenant and route a request finds: one line per case.
use super::*;
use crate::request::Method;
use crate::router::{HostPattern, PathPattern};

fn tenant(id: &str) -> (Arc<str>, Arc<Tenant>) {
    let id: Arc<str> = id.into();
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
    (id, Arc::new(tenant))
}

fn rules(routes: &[(&str, &str, RouteTenant)]) -> Rules {
    let mut rules = Rules {
        resolve: vec![
            Resolve::Host("app.example".into()),
            Resolve::CustomDomain,
            Resolve::Path(vec!["t".into()]),
            Resolve::Header(http::HeaderName::from_static("x-tenant")),
        ],
        tenants: [tenant("acme"), tenant("globex")].into_iter().collect(),
        custom_domains: [("booking.acme.test".into(), "acme".into())].into_iter().collect(),
        ..Rules::default()
    };
    for (index, (host, path, tenant)) in routes.iter().enumerate() {
        let template: Arc<str> = (*path).into();
        let pattern = PathPattern::parse(path).unwrap();
        rules
            .router
            .insert(
                &HostPattern::parse(host).unwrap(),
                &pattern,
                &template,
                Methods::default().with(Method::Get),
                index,
            )
            .unwrap();
        rules.routes.push(Arc::new(Route {
            name: format!("r{index}").into(),
            templates: vec![template],
            methods: Methods::default().with(Method::Get),
            upstream: Some(Destination { upstream: 0, name: "app".into(), region: None }),
            regions: Vec::new(),
            timeouts: Timeouts::default(),
            tenant: tenant.clone(),
            access: Access::Public { reason: "a test".into() },
            csrf: Csrf::Strict,
            isolation: Isolation::SameSite,
            cors: Cors::Closed,
            limits: Vec::new(),
            headers: 0,
            body: BodyRules { max_bytes: None, content_types: Vec::new(), with_get: false },
            audit: AuditRules::default(),
            certificate: Default::default(),
            shadow: Vec::new(),
            origin: String::new(),
        }));
    }
    rules
}

fn find(rules: &Rules, method: &str, url: &str, header: Option<&'static str>) -> String {
    let (host, path) = url.split_once('/').unwrap();
    let request = Request::parse(method, &format!("/{path}"), host).unwrap();
    match rules.find(&request, |_| header) {
        Ok(found) => match &found.seat {
            Some(seat) => format!("{} {} by {}", found.route.name, seat.id, seat.source),
            None => format!("{} no tenant", found.route.name),
        },
        Err(refusal) => refusal.code.id().to_owned(),
    }
}

#[test]
fn the_first_rule_that_yields_a_name_wins_and_no_other_may_disagree() {
    let rules = rules(&[
        ("*.app.example", "/**", RouteTenant::Resolve),
        ("shared.example", "/t/{tenant}/**", RouteTenant::Resolve),
        ("shared.example", "/plain", RouteTenant::Resolve),
        ("shared.example", "/open", RouteTenant::None),
        ("shared.example", "/mine", RouteTenant::Session),
    ]);
    for (url, header, expected) in [
        ("acme.app.example/x", None, "r0 acme by host"),
        ("acme.app.example/x", Some("acme"), "r0 acme by host"),
        // Two names, two tenants: whichever of them the application reads, the session is held against one only.
        ("acme.app.example/x", Some("globex"), "tenant.mismatch"),
        ("acme.app.example/t/acme/x", None, "r0 acme by host"),
        ("acme.app.example/t/globex/x", None, "tenant.mismatch"),
        ("booking.acme.test/t/globex/x", None, "tenant.mismatch"),
        ("nobody.app.example/x", None, "tenant.unknown"),
        ("a.acme.app.example/x", None, "route.unknown"),
        ("app.example/x", None, "route.unknown"),
        ("booking.acme.test/x", None, "r0 acme by custom-domain"),
        ("evil.test/x", None, "route.unknown"),
        ("shared.example/t/globex/a", None, "r1 globex by path"),
        ("shared.example/t/nobody/a", None, "tenant.unknown"),
        ("shared.example/plain", Some("acme"), "r2 acme by header"),
        ("shared.example/plain", None, "tenant.unknown"),
        ("shared.example/open", Some("acme"), "r3 no tenant"),
        ("shared.example/mine", Some("acme"), "r4 no tenant"),
    ] {
        assert_eq!(find(&rules, "GET", url, header), expected, "{url} {header:?}");
    }
    assert_eq!(find(&rules, "POST", "acme.app.example/x", None), "method.not-allowed");
}

#[test]
fn a_path_parameter_names_the_tenant_directly_or_by_a_map() {
    let map = Some([("stripe".into(), "acme".into())].into_iter().collect());
    let rules = rules(&[
        ("hooks.example", "/in/{partner}", RouteTenant::Param { name: "partner".into(), map }),
        ("hooks.example", "/of/{id}/x", RouteTenant::Param { name: "id".into(), map: None }),
    ]);
    assert_eq!(find(&rules, "GET", "hooks.example/in/stripe", None), "r0 acme by path");
    assert_eq!(find(&rules, "GET", "hooks.example/in/acme", None), "tenant.unknown");
    assert_eq!(find(&rules, "GET", "hooks.example/of/globex/x", None), "r1 globex by path");
}

#[test]
fn unlisted_tenants_are_tenants_only_where_that_is_written() {
    let mut rules = rules(&[("*.app.example", "/**", RouteTenant::Resolve)]);
    rules.unknown_tenant = UnknownTenant::Allow(tenant("defaults").1);
    assert_eq!(find(&rules, "GET", "new-one.app.example/", None), "r0 new-one by host");
}

#[test]
fn a_single_tenant_gateway_needs_no_tenancy() {
    let mut rules = rules(&[("app.example", "/**", RouteTenant::Resolve)]);
    rules.resolve.clear();
    assert_eq!(find(&rules, "GET", "app.example/", None), "r0 no tenant");
}
