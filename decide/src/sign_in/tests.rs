//! Flows: what leaves, what comes back, and everything that must not be taken for an answer.
use super::*;
use crate::cors::Cors;
use crate::request::{Method, Methods, Request};
use crate::router::{HostPattern, PathPattern};
use crate::rules::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use std::sync::Arc;

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://login.example/";

fn place() -> Place {
    Place { authority: "acme.app.example:8443".to_owned(), tenant: Some("acme".into()) }
}

fn flow() -> Flow {
    Flow::begin("workforce".into(), place(), "/bookings?day=1".to_owned(), Purpose::default(), [7; 32], NOW)
}

fn provider() -> Provider {
    Provider::configured(ISSUER, "https://login.example/authorize", "https://login.example/token", None)
}

#[test]
fn the_address_says_everything_and_no_secret() {
    let purpose = Purpose { again: true, max_age_s: Some(900), acr: vec!["phr".to_owned(), "a b".to_owned()] };
    let mut flow = flow();
    flow.purpose = purpose;
    let redirect = "https://acme.app.example:8443/.moat/callback";
    let url = flow.authorization_url(&provider(), "moat & co", "openid email", redirect);
    let (endpoint, query) = url.split_once('?').unwrap();
    assert_eq!(endpoint, "https://login.example/authorize");
    let pairs = form::pairs(query).unwrap();
    let value = |name: &str| pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    for (name, expected) in [
        ("response_type", "code"),
        ("client_id", "moat & co"),
        ("redirect_uri", redirect),
        ("scope", "openid email"),
        ("code_challenge_method", "S256"),
        ("prompt", "login"),
        ("max_age", "900"),
        ("acr_values", "phr a b"),
        ("state", &flow.state()),
        ("nonce", &flow.nonce()),
    ] {
        assert_eq!(value(name), Some(expected), "{name}");
    }
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, flow.verifier().as_bytes());
    assert_eq!(value("code_challenge"), Some(&*URL_SAFE_NO_PAD.encode(hash)));
    assert!(!url.contains(&flow.verifier()) && flow.verifier().len() == 43);
    let three = [flow.state(), flow.nonce(), flow.verifier()];
    assert!(three.iter().enumerate().all(|(i, a)| three.iter().skip(i + 1).all(|b| a != b)));

    let queried = Provider { authorization: "https://login.example/authorize?tenant=1".to_owned(), ..provider() };
    assert!(flow.authorization_url(&queried, "c", "openid", redirect).contains("?tenant=1&response_type=code&"));
}

#[test]
fn a_flow_survives_its_journey_and_a_changed_one_does_not() {
    let bytes = flow().to_bytes();
    assert_eq!(Flow::from_bytes(&bytes), Some(flow()));
    assert_eq!(Flow::from_bytes(&bytes[1..]), None);
    assert_eq!(Flow::from_bytes(b"{}"), None);
    assert!(!format!("{:?}", flow()).contains("secret"));
    assert_eq!(Flow::id_of(&flow().state()).map(str::to_owned), Some(flow().id()));
    let long = "a".repeat(44);
    for state in ["", "a", &long, "aaaaaaaaaaaaaaaa;aaaaaaaaaaaaaaaaaaaaaaaaaa", "ä".repeat(22).as_str()] {
        assert_eq!(Flow::id_of(state), None, "{state}");
    }
}

/// `code`, or the refusal.
fn come_back(query: &str, expected: &Expected<'_>) -> String {
    match Callback::read(query).and_then(|callback| callback.accept(&flow(), expected)) {
        Ok(code) => code,
        Err(refusal) => format!("{}: {}", refusal.code.id(), refusal.cause),
    }
}

#[test]
fn only_the_answer_to_this_flow_is_taken() {
    let place = place();
    let expected = Expected { place: &place, issuer: ISSUER, must_name_itself: false, now_s: NOW + 1 };
    let state = flow().state();
    let answer = |more: &str| format!("state={state}&{more}");
    let other =
        Flow::begin("workforce".into(), place.clone(), "/".to_owned(), Purpose::default(), [8; 32], NOW).state();
    for (query, outcome) in [
        (answer("code=abc"), "abc"),
        (answer("code=a%2Bb+c&session_state=x"), "a+b c"),
        (answer("code=abc&iss=https%3A%2F%2Flogin.example%2F"), "abc"),
        (answer("code=abc&iss=https%3A%2F%2Fevil.example%2F"), "session.invalid: another provider answered (RFC 9207)"),
        (answer("code=abc&iss=https%3A%2F%2Flogin.example"), "session.invalid: another provider answered (RFC 9207)"),
        (answer("code=abc&iss="), "session.invalid: another provider answered (RFC 9207)"),
        (format!("state={other}&code=abc"), "session.invalid: the answer is to another sign-in"),
        (format!("state={}&code=abc", &state[1..]), "session.invalid: the answer is to another sign-in"),
        ("code=abc".to_owned(), "request.malformed: the answer to a sign-in has no `state`"),
        (answer(""), "request.malformed: the answer to a sign-in holds neither a code nor an error, or both"),
        (answer("code="), "request.malformed: the answer to a sign-in holds neither a code nor an error, or both"),
        (
            answer("code=a&error=b"),
            "request.malformed: the answer to a sign-in holds neither a code nor an error, or both",
        ),
        (answer("code=a&code=b"), "request.malformed: a parameter stands twice"),
        (answer("code=a&cod%65=b"), "request.malformed: a parameter stands twice"),
        (format!("state={state}&state={state}&code=a"), "request.malformed: a parameter stands twice"),
        (answer("code=%ff"), "request.malformed: a parameter is not percent-encoded text"),
        (answer("code=%0a"), "request.malformed: the code of a sign-in is not visible ASCII"),
        (answer("error=access_denied"), "access.denied: the provider denied the sign-in"),
        (answer("error=temporarily_unavailable"), "gateway.unavailable: the provider cannot sign in now"),
        (
            answer("error=unmet_authentication_requirements"),
            "session.step-up: the provider cannot authenticate as strongly as asked",
        ),
        (answer("error=<script>"), "session.invalid: the provider refused the request to sign in"),
        (
            answer("error=access_denied&iss=https%3A%2F%2Fevil.example%2F"),
            "session.invalid: another provider answered (RFC 9207)",
        ),
    ] {
        assert_eq!(come_back(&query, &expected), outcome, "{query}");
    }
    let long = answer(&format!("code={}", "a".repeat(4097)));
    assert!(come_back(&long, &expected).starts_with("request.malformed"));
    let many = answer(&"x=1&".repeat(64));
    assert_eq!(come_back(&many, &expected), "request.malformed: too many parameters");
}

#[test]
fn place_time_and_name_are_held_against_the_flow() {
    let here = place();
    let expected = Expected { place: &here, issuer: ISSUER, must_name_itself: false, now_s: NOW + 1 };
    let query = format!("state={}&code=abc", flow().state());
    let at = |authority: &str, tenant: Option<&str>| Place {
        authority: authority.to_owned(),
        tenant: tenant.map(Arc::from),
    };
    for other in [
        at("globex.app.example:8443", Some("acme")),
        at("acme.app.example", Some("acme")),
        at("acme.app.example:8443", Some("globex")),
        at("acme.app.example:8443", None),
    ] {
        let elsewhere = come_back(&query, &Expected { place: &other, ..expected });
        assert_eq!(elsewhere, "session.invalid: the sign-in began at another host or for another tenant", "{other:?}");
    }
    for (now_s, fine) in [(NOW, true), (NOW + FLOW_LIFE_S - 1, true), (NOW + FLOW_LIFE_S, false), (NOW - 1, false)] {
        let outcome = come_back(&query, &Expected { now_s, ..expected });
        assert_eq!(outcome == "abc", fine, "{now_s}: {outcome}");
    }
    let must = Expected { must_name_itself: true, ..expected };
    assert_eq!(come_back(&query, &must), "session.invalid: the answer does not say which provider made it");
    assert_eq!(come_back(&format!("{query}&iss=https%3A%2F%2Flogin.example%2F"), &must), "abc");
}

#[test]
fn what_a_provider_says_of_itself() {
    let document = |change: serde_json::Value| {
        let mut document = serde_json::json!({
            "issuer": ISSUER, "authorization_endpoint": "https://login.example/auth?x=1",
            "token_endpoint": "https://login.example/token", "end_session_endpoint": "https://login.example/out",
            "authorization_response_iss_parameter_supported": true, "jwks_uri": "https://login.example/jwks",
            "code_challenge_methods_supported": ["plain", "S256"], "response_types_supported": ["code", "id_token"],
        });
        for (name, value) in change.as_object().unwrap() {
            document[name] = value.clone();
        }
        document.to_string().into_bytes()
    };
    let read = |change| Provider::parse(&document(change), ISSUER);
    let provider = read(serde_json::json!({})).unwrap();
    assert_eq!(provider.end_session.as_deref(), Some("https://login.example/out"));
    assert!(provider.names_itself);
    assert_eq!(read(serde_json::json!({"end_session_endpoint": null})).unwrap().end_session, None);
    for (change, cause) in [
        (serde_json::json!({"issuer": "https://login.example"}), "the discovery document is about another issuer"),
        (serde_json::json!({"token_endpoint": null}), "`token_endpoint` is missing"),
        (serde_json::json!({"token_endpoint": "http://login.example/t"}), "`token_endpoint` is not a plain https URL"),
        (
            serde_json::json!({"token_endpoint": "https://u:p@login.example/t"}),
            "`token_endpoint` is not a plain https URL",
        ),
        (
            serde_json::json!({"authorization_endpoint": "https://l.example/#a"}),
            "`authorization_endpoint` is not a plain https URL",
        ),
        (
            serde_json::json!({"authorization_endpoint": "https://l.example/\r\nx: y"}),
            "`authorization_endpoint` is not a plain https URL",
        ),
        (
            serde_json::json!({"end_session_endpoint": "javascript:1"}),
            "`end_session_endpoint` is not a plain https URL",
        ),
        (
            serde_json::json!({"code_challenge_methods_supported": ["plain"]}),
            "`code_challenge_methods_supported` does not hold `S256`",
        ),
        (serde_json::json!({"response_types_supported": ["token"]}), "`response_types_supported` does not hold `code`"),
    ] {
        assert_eq!(read(change.clone()), Err(cause.to_owned()), "{change}");
    }
    let twice = br#"{"issuer":"https://login.example/","issuer":"https://login.example/"}"#;
    assert_eq!(Provider::parse(twice, ISSUER), Err("the discovery document is not one strict JSON object".to_owned()));
    let large = document(serde_json::json!({"x": "a".repeat(MAX_DISCOVERY_BYTES)}));
    assert_eq!(Provider::parse(&large, ISSUER), Err("the discovery document is larger than 256 KiB".to_owned()));
}

/// Hosts of tenants below `app.example`, tenants in the path below `app.example` itself.
fn rules() -> Rules {
    let tenant = |id: &str| {
        let id: Arc<str> = id.into();
        let tenant = Tenant {
            id: id.clone(),
            class: 0,
            status: TenantStatus::Active,
            ip_allow: Vec::new(),
            issuers: Vec::new(),
            mfa_required: false,
            idle_s: None,
            absolute_s: None,
            max_auth_age_s: None,
            residency: None,
            embed_origins: Box::default(),
        };
        (id, Arc::new(tenant))
    };
    let mut rules = Rules {
        resolve: vec![Resolve::Host("app.example".into()), Resolve::Path(vec!["t".into()])],
        tenants: [tenant("acme"), tenant("globex")].into_iter().collect(),
        ..Rules::default()
    };
    let methods = Methods::default().with(Method::Get);
    for (host, path) in [("*.app.example", "/**"), ("app.example", "/t/**")] {
        let (template, index) = (Arc::from(path), rules.routes.len());
        let (host, pattern) = (HostPattern::parse(host).unwrap(), PathPattern::parse(path).unwrap());
        rules.router.insert(&host, &pattern, &template, methods, index).unwrap();
        rules.routes.push(Arc::new(Route {
            name: format!("r{index}").into(),
            templates: vec![template],
            methods,
            upstream: Some(Destination { upstream: 0, name: "app".into(), region: None }),
            regions: Vec::new(),
            timeouts: Timeouts::default(),
            tenant: RouteTenant::Resolve,
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

fn back(host: &str, wanted: &str) -> Option<(String, String)> {
    let at = Request::parse("GET", "/.moat/login", host).unwrap();
    let (page, found) = return_to(&rules(), &at, wanted, |_| None)?;
    assert_eq!((&page.host, page.port), (&at.host, at.port));
    Some((page.target().into_owned(), found.seat.map(|seat| seat.id.to_string()).unwrap_or_default()))
}

#[test]
fn the_way_back_leads_nowhere_else() {
    for (wanted, expected) in [
        ("/", "/"),
        ("/bookings?day=1&x=%2f%2fevil.example", "/bookings?day=1&x=%2f%2fevil.example"),
        ("/a%7Eb/c", "/a~b/c"),
        ("/search?q=https://evil.example/", "/search?q=https://evil.example/"),
        ("/.moatx", "/.moatx"),
    ] {
        let expected = Some((expected.to_owned(), "acme".to_owned()));
        assert_eq!(back("acme.app.example:8443", wanted), expected, "{wanted}");
    }
    let long = format!("/{}", "a".repeat(1024));
    for wanted in [
        "",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "https://evil.example/",
        "HTTPS://evil.example",
        "//evil.example\\@acme.app.example",
        "javascript:alert(1)",
        "evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "/a\r\nset-cookie: x=y",
        " /",
        "/%5cevil.example",
        "/%2f%2fevil.example",
        "/a/../..//evil.example",
        "/%2e%2e//evil.example",
        "/a#b",
        "/a b",
        "/\u{2028}",
        "/.moat/logout",
        "/%2emoat/logout",
        "/.moat",
        "/x/../.moat/logout",
        "https://acme.app.example:8443/",
        "/@evil.example//",
        "?x",
        "#x",
        ".",
        &long,
    ] {
        assert_eq!(back("acme.app.example:8443", wanted), None, "{wanted:?}");
    }
}

#[test]
fn the_tenant_is_that_of_the_page() {
    assert_eq!(back("app.example", "/t/globex/x").map(|(_, tenant)| tenant).as_deref(), Some("globex"));
    assert_eq!(back("app.example", "/t/nobody/x"), None, "an unknown tenant");
    assert_eq!(back("app.example", "/elsewhere"), None, "no route");
    assert_eq!(back("acme.app.example", "/t/globex/x"), None, "two tenants");
    assert_eq!(back("other.example", "/"), None, "a host that is not ours");
}

proptest! {
    #[test]
    fn forms_are_read_as_they_were_written(pairs in prop::collection::vec(("\\PC{1,8}", "\\PC{0,8}"), 0..8)) {
        let text = encode(pairs.iter().map(|(name, value)| (&**name, &**value)));
        prop_assert!(text.is_ascii());
        prop_assert_eq!(form::pairs(&text).unwrap(), pairs);
    }

    #[test]
    fn hostile_queries_are_decided(query in "[a-z=&%+0-9]{0,60}") {
        let _ = Callback::read(&query);
        let _ = form::pairs(&query);
    }

    /// Whatever is led back to begins with one slash and is on the same host, as a browser reads it.
    #[test]
    fn hostile_ways_back_stay_here(wanted in "[/\\\\.a-z%2fe:@\\t?#]{0,24}") {
        if let Some((target, _)) = back("acme.app.example", &wanted) {
            prop_assert!(target.starts_with('/') && !target.starts_with("//") && !target.contains('\\'), "{}", target);
        }
    }
}
