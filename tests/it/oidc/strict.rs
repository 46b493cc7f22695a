//! `same_site: strict`: a browser does not send the session where another site has sent it, and the provider is one.
use super::fake::{Begun, Provider, board, come_back, configure, form, session};
use crate::harness::{Bundle, Gateway, Reply, Upstream};

const HERE: &str = "acme.localhost";

async fn strict(provider: &Provider) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    configure(&bundle, provider);
    bundle.replace("  browser: {}\n", "  browser: {same_site: strict}\n");
    (Gateway::start(bundle).await, upstream)
}

/// Asks for a page of this site from one of its own, as a browser does: with every cookie there is.
async fn walks(gateway: &Gateway, path: &str, cookie: &str) -> Reply {
    let call = gateway.get(&format!("https://{HERE}{path}")).header("accept", "text/html").header("cookie", cookie);
    let call = call.header("sec-fetch-site", "same-origin").header("sec-fetch-mode", "navigate");
    call.header("sec-fetch-dest", "document").send().await
}

async fn begins(gateway: &Gateway, login: &str, cookie: &str) -> Begun {
    let reply = walks(gateway, login, cookie).await;
    assert_eq!(reply.status, 303, "{reply:?}");
    let location = reply.header("location").unwrap();
    let flow = reply.header("set-cookie").unwrap();
    Begun { cookie: flow.split(';').next().unwrap().to_owned(), asked: form(location.split_once('?').unwrap().1) }
}

/// Comes back from the provider, which is another site: with the cookie of the flow alone.
async fn returns(gateway: &Gateway, begun: &Begun) -> Reply {
    let reply = come_back(gateway, HERE, &begun.cookie, &format!("code=c&state={}", begun.asked["state"])).await;
    assert_eq!((reply.status, reply.header("location")), (200, None), "{reply:?}");
    reply
}

fn leads_to(reply: &Reply, page: &str) {
    let refresh = format!("<meta http-equiv=\"refresh\" content=\"0;url={page}\">");
    assert!(reply.text().contains(&refresh), "a page of our own leads on: {}", reply.text());
}

/// How many sessions the user has.
async fn sessions(gateway: &Gateway, cookie: &str) -> usize {
    let reply = gateway.get(&format!("https://{HERE}/.moat/sessions")).header("cookie", cookie).send().await;
    reply.json()["sessions"].as_array().unwrap_or_else(|| panic!("{reply:?}")).len()
}

async fn signed_in(gateway: &Gateway, provider: &Provider) -> String {
    let begun = begins(gateway, "/.moat/login?return_to=%2Fboard", "a=1").await;
    provider.gives(provider.id_token(&begun).auth_age(1000).signed(&provider.key));
    let reply = returns(gateway, &begun).await;
    leads_to(&reply, "/board");
    assert!(reply.header("set-cookie").unwrap().contains("; SameSite=Strict"), "{reply:?}");
    format!("__Host-session={}", session(&reply).unwrap())
}

#[tokio::test]
async fn a_step_up_finds_the_session_that_the_browser_may_not_show() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = strict(&provider).await;
    let cookie = signed_in(&gateway, &provider).await;
    assert_eq!(board(&gateway, &cookie).await, "200");
    let login = walks(&gateway, "/fresh", &cookie).await.header("location").unwrap();
    assert_eq!(login, "/.moat/login?return_to=%2Ffresh&prompt=login");
    let begun = begins(&gateway, &login, &cookie).await;
    assert_eq!((&*begun.asked["max_age"], &*begun.asked["prompt"]), ("900", "login"));
    provider.gives(provider.id_token(&begun).signed(&provider.key));
    let reply = returns(&gateway, &begun).await;
    leads_to(&reply, "/fresh");
    assert_eq!(session(&reply), None, "it is the session that there was");
    let fresh = walks(&gateway, "/fresh", &cookie).await;
    assert_eq!(fresh.verdict(), "200", "{fresh:?}");
    let renewed = format!("__Host-session={}", session(&fresh).expect("a stronger session has another handle"));
    assert_eq!(
        (sessions(&gateway, &renewed).await, walks(&gateway, "/fresh", &renewed).await.verdict()),
        (1, "200".to_owned())
    );
}

/// Whoever else signs in at the provider meanwhile gets a session of their own, and the one before ends.
#[tokio::test]
async fn another_user_who_comes_back_from_a_step_up_does_not_get_the_session() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = strict(&provider).await;
    let hers = signed_in(&gateway, &provider).await;
    let begun = begins(&gateway, "/.moat/login?return_to=%2Ffresh&prompt=login", &hers).await;
    provider.gives(provider.id_token(&begun).claim("sub", "bob").claim("sid", "op-2").signed(&provider.key));
    let reply = returns(&gateway, &begun).await;
    let his = format!("__Host-session={}", session(&reply).expect("a session of his own"));
    assert_eq!(walks(&gateway, "/fresh", &his).await.verdict(), "200");
    assert_eq!((board(&gateway, &hers).await, sessions(&gateway, &his).await), ("401 session.revoked".to_owned(), 1));
}
