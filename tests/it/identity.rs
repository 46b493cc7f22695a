//! What the application learns of the caller, and what a client cannot make it believe.
use crate::harness::{standard, with};

const BOOKINGS: &str = "https://acme.localhost/api/bookings";

#[tokio::test]
async fn the_application_gets_the_verified_identity_and_never_the_credential() {
    let (gateway, upstream) = standard().await;
    let token = gateway.token("acme", &["cashier"]);
    let reply = gateway.get(BOOKINGS).bearer(&token).send().await;
    assert_eq!(reply.verdict(), "200");
    let seen = upstream.last();
    assert_eq!(seen.header("x-tenant-id").as_deref(), Some("acme"));
    assert_eq!(seen.header("x-user-id").as_deref(), Some("someone@acme"));
    assert_eq!(seen.header("x-user-roles").as_deref(), Some("cashier"));
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(seen.header("x-request-id"), reply.header("x-request-id"));
    assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert!(seen.header("traceparent").is_some());
}

#[tokio::test]
async fn forged_identity_headers_never_arrive() {
    let (gateway, upstream) = standard().await;
    let token = gateway.token("acme", &["viewer"]);
    let mut call = gateway.get(BOOKINGS).bearer(&token);
    for name in [
        "x-tenant-id",
        "x-user-id",
        "x-user-roles",
        "x-request-id",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-csp-nonce",
        "moat-assertion",
    ] {
        call = call.header(name, "forged");
    }
    call = call
        .header("forwarded", "for=6.6.6.6;host=forged")
        .header("traceparent", "00-00000000000000000000000000f0f0f0-0000000000f0f0f0-01");
    assert_eq!(call.send().await.verdict(), "200");
    for (name, value) in upstream.last().headers {
        assert!(
            !value.contains("forged") && !value.contains("6.6.6.6") && !value.contains("f0f0f0"),
            "{name}: {value}"
        );
    }
    // A public route has no caller, and must not be given one.
    let public = gateway.get("https://acme.localhost/page").header("x-user-id", "forged").send().await;
    assert_eq!((public.status, upstream.last().header("x-user-id")), (200, None));
}

#[tokio::test]
async fn underscore_twins_of_our_headers_are_refused() {
    let (gateway, upstream) = standard().await;
    let answer = gateway
        .raw(
            "acme.localhost",
            b"GET /page HTTP/1.1\r\nHost: acme.localhost\r\nX_User_Id: root\r\nConnection: close\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("request.ambiguous"), "{answer}");
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_cookie_session_works_with_proof_of_our_own_site_and_other_cookies_go_through() {
    let (gateway, upstream) = standard().await;
    let cookie = format!("theme=dark; __Host-nl={}; lang=en", gateway.token("acme", &["cashier"]));
    let reply =
        gateway.post(BOOKINGS, "{}").header("cookie", &cookie).header("sec-fetch-site", "same-origin").send().await;
    assert_eq!(reply.verdict(), "200");
    let seen = upstream.last().header("cookie").unwrap();
    assert!(seen.contains("theme=dark") && seen.contains("lang=en") && !seen.contains("__Host-nl"), "{seen}");
}

#[tokio::test]
async fn an_assertion_can_be_verified_with_the_gateways_own_key_set() {
    let (gateway, upstream) = standard().await;
    let token = gateway.token("acme", &["cashier"]);
    assert_eq!(gateway.get(BOOKINGS).bearer(&token).send().await.verdict(), "200");
    let assertion = upstream.last().header("moat-assertion").expect("an assertion");
    let keys = gateway.get("https://acme.localhost/.moat/jwks.json").send().await.json();
    let parts: Vec<&str> = assertion.split('.').collect();
    let decode = |text: &str| base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&decode(parts[0])).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&decode(parts[1])).unwrap();
    assert_eq!((header["alg"].as_str(), claims["aud"].as_str()), (Some("EdDSA"), Some("app")), "{header} {claims}");
    let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]).expect("the key");
    aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, decode(key["x"].as_str().unwrap()))
        .verify(format!("{}.{}", parts[0], parts[1]).as_bytes(), &decode(parts[2]))
        .unwrap();
}

#[tokio::test]
async fn the_canonical_path_is_what_the_application_sees() {
    let (gateway, upstream) = with(|_| ()).await;
    let reply = gateway.get("https://acme.localhost/%61bc?x=%2f").send().await;
    assert_eq!((reply.status, upstream.last().target.as_str()), (200, "/abc?x=%2f"));
}

#[tokio::test]
async fn http2_is_served_by_the_same_rules() {
    let (gateway, upstream) = standard().await;
    let token = gateway.token("acme", &["cashier"]);
    let reply = gateway.get(BOOKINGS).bearer(&token).h2().send().await;
    assert_eq!((reply.verdict().as_str(), upstream.last().header("x-tenant-id").as_deref()), ("200", Some("acme")));
    assert_eq!(gateway.get(BOOKINGS).h2().send().await.verdict(), "401 session.missing");
    let posted = gateway.post(BOOKINGS, "{\"nights\": 2}").bearer(&token).h2().send().await;
    assert_eq!((posted.verdict().as_str(), &upstream.last().body[..]), ("200", &b"{\"nights\": 2}"[..]));
}
