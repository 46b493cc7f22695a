//! Where a sign-in leads to: a page of the same host, whatever an address says.
use super::fake::{Begun, Provider, begin, come_back, form, gateway, session};
use crate::harness::Gateway;

const HERE: &str = "acme.localhost";

async fn led_to(gateway: &Gateway, provider: &Provider, wanted: &str) -> String {
    let login = format!("/.moat/login?return_to={}", decide::sign_in::encoded(wanted));
    let begun = begin(gateway, HERE, &login).await;
    provider.gives(provider.id_token(&begun).signed(&provider.key));
    let reply = come_back(gateway, HERE, &begun.cookie, &format!("code=c&state={}", begun.asked["state"])).await;
    assert!(session(&reply).is_some(), "{wanted}: {reply:?}");
    reply.header("location").unwrap()
}

#[tokio::test]
async fn it_never_leads_to_another_host() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = gateway(&provider).await;
    for (wanted, expected) in [
        ("/board/7?a=b&c=%2F", "/board/7?a=b&c=%2F"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example/", "/"),
        ("/%5cevil.example", "/"),
        ("https://acme.localhost/board", "/"),
        ("javascript:alert(1)", "/"),
        ("/board\r\nset-cookie: a=b", "/"),
        ("/board#//evil.example", "/"),
        ("/.moat/logout", "/"),
        ("/board/../.moat/logout", "/"),
        ("", "/"),
    ] {
        assert_eq!(led_to(&gateway, &provider, wanted).await, expected, "{wanted:?}");
    }
    let twice = gateway.get("https://acme.localhost/.moat/login?return_to=/a&return_to=/b").send().await;
    assert_eq!(twice.verdict(), "400 request.malformed");
}

#[tokio::test]
async fn only_a_person_who_asks_for_a_page_is_sent_to_sign_in() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = gateway(&provider).await;
    let said = |mode: &'static str, dest: &'static str| {
        vec![("sec-fetch-mode", mode), ("sec-fetch-dest", dest), ("sec-fetch-site", "same-origin")]
    };
    for (what, method, path, headers, expected) in [
        ("an address", "GET", "/board", said("navigate", "document"), 303),
        ("an old browser", "GET", "/board", vec![("accept", "text/html,application/xhtml+xml")], 303),
        ("a script", "GET", "/board", said("cors", "empty"), 401),
        ("a frame", "GET", "/board", said("navigate", "iframe"), 401),
        ("a picture", "GET", "/board", said("no-cors", "image"), 401),
        ("a form", "POST", "/board", said("navigate", "document"), 401),
        ("a program", "GET", "/board", vec![("accept", "application/json")], 401),
        (
            "who has just signed in",
            "GET",
            "/board",
            vec![("accept", "text/html"), ("cookie", "__Host-moat-signed-in=1")],
            401,
        ),
        ("another route", "GET", "/api/bookings", said("navigate", "document"), 401),
    ] {
        let call = gateway.call(method, &format!("https://acme.localhost{path}"));
        let reply = headers.iter().fold(call, |call, (name, value)| call.header(name, value)).send().await;
        assert_eq!(reply.status, expected, "{what}: {reply:?}");
        if expected == 303 {
            assert_eq!(reply.header("location").as_deref(), Some("/.moat/login?return_to=%2Fboard"), "{what}");
            assert_eq!(reply.header("cache-control").as_deref(), Some("no-store"), "{what}");
        }
    }
}

/// The provider does not authenticate anew although it was asked to: the browser is told, and does not go round for ever.
#[tokio::test]
async fn a_step_up_that_is_not_fulfilled_ends() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = gateway(&provider).await;
    let cookie = super::fake::sign_in(&gateway, &provider).await;
    let page = || gateway.get("https://acme.localhost/fresh").header("accept", "text/html").header("cookie", &cookie);
    assert_eq!(page().send().await.status, 200, "fresh enough");

    let begun = begin(&gateway, HERE, "/.moat/login?return_to=/fresh&prompt=login").await;
    assert_eq!((&*begun.asked["max_age"], &*begun.asked["prompt"]), ("900", "login"));
    let stale = provider.id_token(&begun).auth_age(901);
    provider.gives(stale.signed(&provider.key));
    let query = format!("code=c&state={}", begun.asked["state"]);
    let reply = come_back(&gateway, HERE, &begun.cookie, &query).await;
    assert_eq!((reply.verdict(), session(&reply)), ("401 session.step-up".to_owned(), None));
}

/// Closed and opened again, as on a telephone while its user looks for a code, it has kept the cookie of the flow and not that of the
/// session.
#[tokio::test]
async fn a_browser_that_has_lost_its_session_on_the_way_gets_another() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = gateway(&provider).await;
    let before = super::fake::sign_in(&gateway, &provider).await;
    let login = "https://acme.localhost/.moat/login?return_to=/fresh&prompt=login";
    let left = gateway.get(login).header("cookie", &before).send().await;
    let (location, flow) = (left.header("location").unwrap(), left.header("set-cookie").unwrap());
    let asked = form(location.split_once('?').unwrap().1);
    let begun = Begun { cookie: flow.split(';').next().unwrap().to_owned(), asked };
    provider.gives(provider.id_token(&begun).signed(&provider.key));
    let reply = come_back(&gateway, HERE, &begun.cookie, &format!("code=c&state={}", begun.asked["state"])).await;
    let after = format!("__Host-session={}", session(&reply).expect("a session that the browser can show"));
    let page = gateway.get("https://acme.localhost/fresh").header("cookie", &after).send().await;
    assert_eq!(page.verdict(), "200");
    assert_eq!(super::fake::board(&gateway, &before).await, "401 session.revoked");
}
