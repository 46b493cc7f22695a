//! A provider ends sessions by itself, and a session ends at its provider.
use super::fake::{Provider, board, gateway, sign_in};
use crate::harness::{Gateway, TokenKey, now};
use serde_json::json;

async fn post(gateway: &Gateway, token: &str) -> String {
    let call = gateway.call("POST", "https://localhost/.moat/backchannel-logout");
    let call = call.header("content-type", "application/x-www-form-urlencoded").body(format!("logout_token={token}"));
    let reply = call.send().await;
    assert_eq!(reply.header("cache-control").as_deref(), Some("no-store"));
    reply.verdict()
}

#[tokio::test]
async fn a_logout_token_ends_its_session_once() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = gateway(&provider).await;
    let cookie = sign_in(&gateway, &provider).await;
    let good = provider.logout_token();
    let signed = |token: &crate::harness::Token| token.signed(&provider.key);
    let mut typed = good.clone();
    typed.header.insert("typ".into(), json!("at+jwt"));
    for (what, token) in [
        ("a nonce", signed(&good.clone().claim("nonce", "n"))),
        ("no event", signed(&good.clone().without("events"))),
        ("another audience", signed(&good.clone().claim("aud", "other"))),
        ("another issuer", signed(&good.clone().claim("iss", "https://evil.example"))),
        ("nobody", signed(&good.clone().without("sub").without("sid"))),
        ("old", signed(&good.clone().claim("iat", now() - 700))),
        ("no id", signed(&good.clone().without("jti"))),
        ("another type", signed(&typed)),
        ("a stranger's key", good.signed(&TokenKey::new("op-1"))),
        ("nothing", String::new()),
        ("noise", "a.b.c".to_owned()),
    ] {
        assert_eq!(post(&gateway, &token).await, "400 request.malformed", "{what}");
        assert_eq!(board(&gateway, &cookie).await, "200", "{what}");
    }
    let other = signed(&good.clone().claim("sid", "op-session-2").claim("jti", "other"));
    assert_eq!(post(&gateway, &other).await, "200");
    assert_eq!(board(&gateway, &cookie).await, "200", "another session's end");
    assert_eq!(post(&gateway, &signed(&good)).await, "200");
    assert_eq!(board(&gateway, &cookie).await, "401 session.revoked");
    assert_eq!(post(&gateway, &signed(&good)).await, "400 request.malformed", "the same once more");
}

#[tokio::test]
async fn a_logout_of_the_user_ends_all_sessions_and_spares_later_ones() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = gateway(&provider).await;
    let (one, two) = (sign_in(&gateway, &provider).await, sign_in(&gateway, &provider).await);
    let everywhere = provider.logout_token().without("sid").signed(&provider.key);
    assert_eq!(post(&gateway, &everywhere).await, "200");
    assert_eq!(board(&gateway, &one).await, "401 session.revoked");
    assert_eq!(board(&gateway, &two).await, "401 session.revoked");
}

#[tokio::test]
async fn signing_out_here_leads_to_the_provider() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = gateway(&provider).await;
    let cookie = sign_in(&gateway, &provider).await;
    let out = |site: &'static str| {
        let call = gateway.get("https://acme.localhost/.moat/logout").header("cookie", &cookie);
        call.header("sec-fetch-site", site).header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document")
    };
    let asked = out("cross-site").send().await;
    assert_eq!(asked.status, 200, "another site's link asks first");
    assert!(asked.text().contains("<form method=\"post\" action=\"/.moat/logout\">"));
    let foreign = gateway.post("https://acme.localhost/.moat/logout", "").header("cookie", &cookie);
    let foreign = foreign.header("sec-fetch-site", "cross-site").header("origin", "https://evil.example").send().await;
    assert_eq!(foreign.verdict(), "403 csrf.unproven");
    assert_eq!(board(&gateway, &cookie).await, "200");

    let gone = out("same-origin").send().await;
    let location = gone.header("location").unwrap();
    assert!(location.starts_with(&format!("{}/out?id_token_hint=ey", provider.issuer)), "{location}");
    let back = "post_logout_redirect_uri=https%3A%2F%2Facme.localhost%2F.moat%2Fsigned-out";
    assert!(location.contains(back) && location.contains("client_id=moat"), "{location}");
    assert!(gone.header("set-cookie").unwrap().contains("__Host-session=;"), "{gone:?}");
    assert_eq!(board(&gateway, &cookie).await, "401 session.revoked");
    assert_eq!(gateway.get("https://acme.localhost/.moat/signed-out").send().await.status, 200);
}
