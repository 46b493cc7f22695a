//! What other pages may do: evidence of our own origin, reads from elsewhere, preflights.
use super::*;
use crate::cors::{Origins, Preflight, Sharing};
use crate::csrf::Submit;
use crate::site::{Own, Said, read};

/// What a browser says, as in `cross-site navigate document https://other.example`; `-` for a header that is absent.
fn said(text: &str) -> Site {
    let mut words = text.split(' ').map(|word| (word != "-").then_some(word.as_bytes()));
    let mut next = || words.next().flatten();
    let own = Own { scheme: "https", host: "acme.localhost", port: None };
    read(&own, &Said { fetch_site: next(), fetch_mode: next(), fetch_dest: next(), origin: next(), referer: next() })
}

fn sharing() -> Sharing {
    Sharing {
        origins: Origins::Listed(["https://spa.example".into()].into()),
        methods: Methods::default().with(Method::Get).with(Method::Post),
        headers: ["content-type".into()].into(),
        expose: None,
        credentials: true,
        max_age_s: 600,
        private_network: false,
    }
}

fn refused(cause: &str) -> String {
    format!("403 csrf.unproven: {cause}")
}

#[test]
fn evidence_in_its_order() {
    for (site, cause) in [
        ("same-origin cors empty https://acme.localhost", None),
        // A page that keeps its address to itself, and one that has none.
        ("same-origin navigate document null", None),
        ("cross-site navigate document null", Some("the request comes from another site")),
        ("- - - null", Some("Origin names another origin")),
        ("- - - null https://acme.localhost/", Some("Origin names another origin")),
        ("same-origin cors empty https://other.example", Some("Origin disagrees with Sec-Fetch-Site")),
        ("none navigate document -", None),
        ("none - - -", None),
        ("none cors empty -", Some("no page, and no navigation either")),
        ("none no-cors image -", Some("no page, and no navigation either")),
        ("none navigate document null", Some("Origin disagrees with Sec-Fetch-Site")),
        (
            "same-site navigate document https://globex.localhost",
            Some("the request comes from another origin of the site"),
        ),
        ("cross-site navigate document https://other.example", Some("the request comes from another site")),
        ("- - - - https://acme.localhost/form", None),
        ("- - - - https://globex.localhost/form", Some("Origin names another origin")),
        ("- - - -", Some("neither Sec-Fetch-Site nor Origin nor Referer")),
    ] {
        let expected = cause.map_or_else(|| "permit api".to_owned(), refused);
        check(
            |w| {
                w.cookie();
                w.facts.site = said(site);
            },
            &expected,
        );
        check(|w| w.facts.site = said(site), "permit api");
        // Signing in: no session, and still nobody else's page may do it.
        check(
            |w| {
                w.route().access = Access::Public { reason: "sign-in".into() };
                w.facts.site = said(site);
            },
            &expected,
        );
        check(
            |w| {
                w.route().access = Access::Public { reason: "a webhook".into() };
                w.route().csrf = Csrf::Off;
                w.facts.site = said(site);
            },
            "permit api",
        );
    }
}

#[test]
fn an_origin_with_leave_acts_by_script_and_not_by_form() {
    let case = |site: &str, change: fn(&mut Sharing), expected: &str| {
        check(
            |w| {
                w.cookie();
                w.facts.site = said(site);
                let mut sharing = sharing();
                change(&mut sharing);
                w.route().cors = Cors::Shared(Box::new(sharing));
            },
            expected,
        );
    };
    let elsewhere = refused("the request comes from another site");
    case("cross-site cors empty https://spa.example", |_| (), "permit api");
    case("- - - https://spa.example", |_| (), "permit api");
    case("cross-site navigate document https://spa.example", |_| (), &elsewhere);
    case("cross-site no-cors empty https://spa.example", |_| (), &elsewhere);
    case("cross-site cors empty https://spa.example.evil", |_| (), &elsewhere);
    case("cross-site cors empty null", |_| (), &elsewhere);
    case("cross-site cors empty https://spa.example", |s| s.credentials = false, &elsewhere);
    case("cross-site cors empty https://spa.example", |s| s.methods = Methods::default().with(Method::Get), &elsewhere);
    case("cross-site cors empty https://spa.example", |s| s.origins = Origins::Tenant, &elsewhere);
}

#[test]
fn reads_from_other_pages() {
    let case = |isolation: Isolation, method: Method, site: &str, expected: &str| {
        check(
            |w| {
                w.cookie();
                w.route().isolation = isolation;
                w.request.method = method;
                w.facts.body = Body::default();
                w.facts.site = said(site);
            },
            expected,
        );
    };
    let other = refused("a page of another site fetches this");
    let sibling = refused("a page of another origin of the site fetches this");
    let unknown = refused("Sec-Fetch-Site has an unknown value");
    let fine = "permit api".to_owned();
    for (site, same_site, same_origin) in [
        ("- - - -", &fine, &fine),
        ("- - - https://other.example", &fine, &fine),
        ("same-origin cors empty -", &fine, &fine),
        ("none navigate document -", &fine, &fine),
        ("same-site no-cors image -", &fine, &sibling),
        ("same-site navigate document -", &fine, &fine),
        ("cross-site navigate document -", &fine, &fine),
        ("cross-site navigate iframe -", &other, &other),
        ("cross-site navigate object -", &other, &other),
        ("cross-site navigate embed -", &other, &other),
        ("cross-site no-cors image -", &other, &other),
        ("cross-site no-cors script -", &other, &other),
        ("cross-site cors empty https://spa.example", &other, &other),
        ("cross-site - - -", &other, &other),
        ("cross-site no-cors document -", &other, &other),
        ("elsewhere no-cors image -", &unknown, &unknown),
    ] {
        for method in [Method::Get, Method::Head] {
            case(Isolation::Off, method, site, &fine);
            case(Isolation::SameSite, method, site, same_site);
            case(Isolation::SameOrigin, method, site, same_origin);
        }
    }
    // By leave of `cors`, and never for a picture.
    for (site, expected) in [
        ("cross-site cors empty https://spa.example", &fine),
        ("cross-site no-cors image https://spa.example", &other),
        ("cross-site cors empty https://other.example", &other),
        ("cross-site cors empty null", &other),
    ] {
        check(
            |w| {
                w.route().isolation = Isolation::SameOrigin;
                w.route().cors = Cors::Shared(Box::new(sharing()));
                w.request.method = Method::Get;
                w.facts.body = Body::default();
                w.facts.site = said(site);
            },
            expected,
        );
    }
}

#[test]
fn whether_somebody_is_signed_in_does_not_show_to_other_sites() {
    let mut world = world();
    world.route().isolation = Isolation::SameSite;
    world.request.method = Method::Get;
    world.facts.site = said("cross-site no-cors image -");
    let mut answers = Vec::new();
    for credential in [Credential::Missing, Credential::Invalid("x".into()), world.credential.clone()] {
        world.credential = credential;
        let (step, _, asked) = world.run();
        assert_eq!(asked, [Question::Quota(Stage::Address)], "the credential is not even looked at");
        answers.push(told(&step));
    }
    answers.dedup();
    assert_eq!(answers, [refused("a page of another site fetches this")]);
}

fn preflight(method: Method, headers: &[&str], private_network: bool) -> Preflight {
    Preflight { method, headers: headers.iter().map(|h| Box::from(*h)).collect(), private_network }
}

fn ask(site: &str, preflight: &Preflight, change: fn(&mut World)) -> String {
    let mut world = world();
    world.facts.site = said(site);
    world.request.method = Method::Options;
    world.credential = Credential::Missing;
    world.route().cors = Cors::Shared(Box::new(sharing()));
    change(&mut world);
    let deliberation = Deliberation::new(&world.rules, &world.request, &world.facts, &world.found);
    let mut deliberation = deliberation.preflight(preflight);
    let mut answer = None;
    loop {
        match deliberation.proceed(answer.take()) {
            Step::Ask(Question::Quota(Stage::Address)) => answer = Some(Answer::Quota(Reading::default())),
            end => {
                let again = deliberation.proceed(None);
                assert_eq!(told(&again), "503 gateway.unavailable: this deliberation has ended");
                return told(&end);
            }
        }
    }
}

#[test]
fn a_preflight_is_granted_for_what_is_open_and_nothing_else() {
    let (spa, plain) = ("cross-site cors empty https://spa.example", preflight(Method::Post, &["content-type"], false));
    assert_eq!(ask(spa, &plain, |_| ()), "grant");
    assert_eq!(ask("- - - https://spa.example", &plain, |_| ()), "grant");
    for origin in [
        "null",
        "https://acme.localhost",
        "https://SPA.example",
        "https://spa.example/",
        "https://spa.example.",
        "https://spa.example:443",
        "http://spa.example",
        "https://evil.spa.example",
        "https://spa.example.evil",
        "https://user@spa.example",
    ] {
        let cause = "the origin is not among those that the route is open to";
        assert_eq!(ask(&format!("- - - {origin}"), &plain, |_| ()), refused(cause), "{origin}");
    }
    for (asked, cause) in [
        (preflight(Method::Put, &[], false), "the method is not open to other origins"),
        (preflight(Method::Post, &["x-other"], false), "a request header is not open to other origins"),
        (preflight(Method::Post, &[], true), "the private network is not open to other pages"),
    ] {
        assert_eq!(ask(spa, &asked, |_| ()), refused(cause));
    }
    let closed = refused("the route is not open to other origins");
    assert_eq!(ask(spa, &plain, |w| w.route().cors = Cors::Closed), closed);
    assert_eq!(ask(spa, &plain, |w| w.route().cors = Cors::Application), closed);
    assert!(ask(spa, &plain, |w| w.seat(|t| t.status = TenantStatus::Suspended)).starts_with("403 tenant.suspended"));
    let outside: fn(&mut World) = |w| w.seat(|t| t.ip_allow = vec!["10.0.0.0/8".parse().unwrap()]);
    assert!(ask(spa, &plain, outside).starts_with("403 network.denied"));
    // In shadow or not: nothing that guards the request itself is asked, and no permit comes of it.
    assert_eq!(ask(spa, &plain, |w| w.route().shadow = ORDER.to_vec()), "grant");
}

#[test]
fn the_tenants_own_list() {
    let case = |listed: &'static [&'static str], expected: &str| {
        check(
            |w| {
                w.cookie();
                w.seat(|t| t.embed_origins = listed.iter().map(|o| Box::from(*o)).collect());
                w.route().cors = Cors::Shared(Box::new(Sharing { origins: Origins::Tenant, ..sharing() }));
                w.facts.site = said("cross-site cors empty https://customer.example");
            },
            expected,
        );
    };
    case(&["https://other.example", "https://customer.example"], "permit api");
    case(&["https://other.example"], &refused("the request comes from another site"));
    case(&[], &refused("the request comes from another site"));
}

#[test]
fn cookies_need_evidence_of_their_origin() {
    let site =
        |fetch: Option<FetchSite>, same: Option<bool>| Site { fetch_site: fetch, same_origin: same, ..Site::default() };
    for (evidence, expected) in [
        (site(None, None), "neither Sec-Fetch-Site nor Origin nor Referer"),
        (site(Some(FetchSite::CrossSite), None), "the request comes from another site"),
        (site(Some(FetchSite::SameSite), Some(true)), "the request comes from another origin of the site"),
        (site(Some(FetchSite::SameOrigin), Some(false)), "Origin disagrees with Sec-Fetch-Site"),
        (site(Some(FetchSite::Unknown), Some(true)), "Sec-Fetch-Site has an unknown value"),
        (site(None, Some(false)), "Origin names another origin"),
    ] {
        let refused = format!("403 csrf.unproven: {expected}");
        check(
            |w| {
                w.cookie();
                w.facts.site = evidence.clone()
            },
            &refused,
        );
        check(
            |w| {
                w.cookie();
                w.facts.site = evidence.clone();
                w.request.method = Method::Get;
                w.facts.body.present = false;
                w.facts.upgrade = true
            },
            &refused,
        );
        check(
            |w| {
                w.cookie();
                w.facts.site = evidence.clone();
                w.request.method = Method::Get;
                w.facts.body.present = false
            },
            "permit api",
        );
        check(|w| w.facts.site = evidence.clone(), "permit api");
    }
    check(
        |w| {
            w.cookie();
            w.facts.site = site(Some(FetchSite::SameOrigin), Some(true))
        },
        "permit api",
    );
    check(
        |w| {
            w.cookie();
            w.facts.site = site(Some(FetchSite::None), None)
        },
        "permit api",
    );
    check(
        |w| {
            w.cookie();
            w.facts.site = site(None, Some(true))
        },
        "permit api",
    );
}

fn by_token(route: &mut Route) {
    route.csrf = Csrf::Token(Box::new(Submit {
        cookie: "__Host-csrf".into(),
        header: None,
        field: Some("csrf_token".into()),
        max_age_s: 60,
        inspect: 100,
    }));
}

#[test]
fn a_token_stands_in_for_words_that_were_not_said_and_for_no_others() {
    const LOST: &str = "403 csrf.unproven: the token's cookie is missing";
    for (site, asked, without) in [
        ("same-origin cors empty https://acme.localhost", false, "permit api"),
        ("none navigate document -", false, "permit api"),
        ("- - - - https://acme.localhost/form", false, "permit api"),
        ("- - - -", true, LOST),
        ("- - - null", true, LOST),
        ("- - - https://other.example", false, "403 csrf.unproven: Origin names another origin"),
        ("- - - - https://globex.localhost/form", false, "403 csrf.unproven: Origin names another origin"),
        ("cross-site navigate document null", false, "403 csrf.unproven: the request comes from another site"),
        ("same-site cors empty -", false, "403 csrf.unproven: the request comes from another origin of the site"),
        ("none cors empty -", false, "403 csrf.unproven: no page, and no navigation either"),
        ("none navigate document null", false, "403 csrf.unproven: Origin disagrees with Sec-Fetch-Site"),
        ("elsewhere - - -", false, "403 csrf.unproven: Sec-Fetch-Site has an unknown value"),
    ] {
        for public in [false, true] {
            let mut world = world();
            world.cookie();
            by_token(world.route());
            if public {
                world.route().access = Access::Public { reason: "for all".into() };
            }
            world.facts.site = said(site);
            let (step, _, questions) = world.run();
            assert_eq!(told(&step), without, "{site}, public: {public}");
            assert_eq!(questions.contains(&Question::CsrfToken), asked, "{site}");
            world.token = Ok(());
            let (step, trail, _) = world.run();
            let with = if asked { "permit api" } else { without };
            assert_eq!(told(&step), with, "{site} with a token, public: {public}");
            assert_eq!(trail.contains(&(Guard::Csrf, Verdict::Pass)), with == "permit api");
            if let Step::Permit(permit) = step {
                assert_eq!(permit.findings().csrf_token, asked, "{site}");
            }
        }
    }
}

#[test]
fn no_token_is_asked_for_where_no_evidence_is() {
    let mut bearer = world();
    by_token(bearer.route());
    assert!(!bearer.run().2.contains(&Question::CsrfToken));
    let mut reads = world();
    reads.cookie();
    by_token(reads.route());
    (reads.request.method, reads.facts.body) = (Method::Get, Body::default());
    assert!(!reads.run().2.contains(&Question::CsrfToken));
    let mut watched = world();
    watched.cookie();
    by_token(watched.route());
    watched.route().shadow = vec![Guard::Csrf];
    let (step, trail, _) = watched.run();
    assert_eq!(told(&step), "permit api");
    assert!(trail.contains(&(Guard::Csrf, Verdict::Shadow(Code::CsrfUnproven))));
}
