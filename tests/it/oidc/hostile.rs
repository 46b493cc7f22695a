//! What a provider, somebody between, or another browser could send instead of the answer to a flow.
use super::fake::{
    Answer, Begun, Provider, begin, board, come_back, configure, gateway, json_answer, session, sign_in,
};
use crate::harness::{Bundle, Gateway, Token, TokenKey, Upstream, now};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// base64url.
fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

const HERE: &str = "acme.localhost";

async fn flow(gateway: &Gateway) -> Begun {
    begin(gateway, HERE, "/.moat/login?return_to=/board").await
}

#[tokio::test]
async fn a_sign_in_as_it_should_be() {
    let provider = Provider::start(true).await;
    let (gateway, upstream) = gateway(&provider).await;
    assert_eq!(board(&gateway, "").await, "401 session.missing", "no browser");
    let navigation = gateway.get("https://acme.localhost/board/7?x=%2F").header("accept", "text/html").send().await;
    assert_eq!(navigation.header("location").as_deref(), Some("/.moat/login?return_to=%2Fboard%2F7%3Fx%3D%252F"));

    let begun = begin(&gateway, HERE, &navigation.header("location").unwrap()).await;
    assert_eq!(begun.asked["redirect_uri"], "https://acme.localhost/.moat/callback");
    assert_eq!((&*begun.asked["audience"], &*begun.asked["scope"]), ("1", "openid"));
    provider.gives(provider.id_token(&begun).signed(&provider.key));
    let issuer = decide::sign_in::encoded(&provider.issuer);
    let query = format!("code=the%2Fcode&state={}&iss={issuer}", begun.asked["state"]);
    let reply = come_back(&gateway, HERE, &begun.cookie, &query).await;
    assert_eq!((reply.status, reply.header("location").as_deref()), (303, Some("/board/7?x=%2F")), "{reply:?}");

    let (head, form) = provider.asked.lock().unwrap().last().unwrap().clone();
    assert_eq!((&*form["code"], &*form["grant_type"]), ("the/code", "authorization_code"));
    assert_eq!(form["redirect_uri"], begun.asked["redirect_uri"]);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, form["code_verifier"].as_bytes());
    assert_eq!(b64(hash.as_ref()), begun.asked["code_challenge"]);
    // RFC 6749, 2.3.1, and the line's end is not part of the secret.
    let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "moat:s3cret%2F%2B%20with%20space");
    assert!(
        head.to_ascii_lowercase().contains(&format!("authorization: basic {basic}").to_ascii_lowercase()),
        "{head}"
    );

    let cookie = format!("{}; __Host-session={}", begun.cookie, session(&reply).unwrap());
    let jar = format!("theme=dark; {cookie}; __Host-moat-signed-in=1");
    assert_eq!(board(&gateway, &jar).await, "200");
    let said = upstream.last();
    assert_eq!(said.header("cookie").as_deref(), Some("theme=dark"), "nothing of ours is the application's business");
    assert!(
        said.headers.iter().all(|(name, value)| {
            !value.contains("access-1") && (name == "moat-assertion" || !value.contains("eyJ"))
        }),
        "{said:?}"
    );
    assert_eq!(gateway.get("https://globex.localhost/board").header("cookie", &cookie).send().await.status, 401);
}

/// The flow's cookie and state with everything right but one thing.
#[tokio::test]
async fn one_wrong_claim_is_enough() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = gateway(&provider).await;
    let strange = TokenKey::new("op-1");
    type Change = Box<dyn Fn(Token) -> Token>;
    let claim =
        |name: &'static str, value: Value| -> Change { Box::new(move |token| token.claim(name, value.clone())) };
    let cases: Vec<(&str, Change, &str)> = vec![
        ("nothing wrong", Box::new(|token| token), "303"),
        ("nonce", claim("nonce", json!("another")), "401 session.invalid"),
        ("no nonce", Box::new(|token| token.without("nonce")), "401 session.invalid"),
        ("iss", claim("iss", json!("https://evil.example")), "401 session.invalid"),
        ("aud", claim("aud", json!("another")), "401 session.invalid"),
        ("two aud", claim("aud", json!(["moat", "another"])), "401 session.invalid"),
        ("azp", claim("azp", json!("another")), "401 session.invalid"),
        ("at_hash", claim("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA")), "401 session.invalid"),
        ("expired", Box::new(|token| token.claim("iat", now() - 90).claim("exp", now() - 1)), "401 session.invalid"),
        ("old", claim("iat", json!(now() - 3600)), "401 session.invalid"),
        ("from the future", claim("iat", json!(now() + 200)), "401 session.invalid"),
        ("tenant", claim("org_id", json!("globex")), "403 tenant.mismatch"),
        ("no tenant", Box::new(|token| token.without("org_id")), "403 tenant.mismatch"),
    ];
    for (what, change, expected) in cases {
        let begun = flow(&gateway).await;
        provider.gives(change(provider.id_token(&begun)).signed(&provider.key));
        let reply = come_back(&gateway, HERE, &begun.cookie, &format!("code=c&state={}", begun.asked["state"])).await;
        assert_eq!(reply.verdict(), expected, "{what}");
        assert_eq!(session(&reply).is_some(), expected == "303", "{what}");
    }
    let begun = flow(&gateway).await;
    let good = provider.id_token(&begun);
    let signed = good.signed(&provider.key);
    let payload = signed.split('.').nth(1).unwrap();
    let header = |text: &str| b64(text.as_bytes());
    for (what, token) in [
        ("alg none", format!("{}.{payload}.", header(r#"{"alg":"none"}"#))),
        ("alg none, signed", format!("{}.{payload}.AAAA", header(r#"{"alg":"none","typ":"JWT"}"#))),
        ("HS256", format!("{}.{payload}.AAAA", header(r#"{"alg":"HS256","typ":"JWT"}"#))),
        ("a stranger's key", good.signed(&strange)),
        ("an access token", {
            let mut t = good.clone();
            t.header.insert("typ".into(), json!("at+jwt"));
            t.signed(&provider.key)
        }),
        ("not a token", "hello".to_owned()),
    ] {
        let begun = flow(&gateway).await;
        provider.gives(token);
        let reply = come_back(&gateway, HERE, &begun.cookie, &format!("code=c&state={}", begun.asked["state"])).await;
        assert_eq!(reply.verdict(), "401 session.invalid", "{what}");
        assert_eq!(session(&reply), None, "{what}");
    }
}

/// What is wrong, the endpoint's answer, and the verdict.
type Case = (&'static str, Box<dyn Fn() -> Answer + Send>, &'static str);

#[tokio::test]
async fn what_a_token_endpoint_may_do_wrong() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = gateway(&provider).await;
    let still_in = sign_in(&gateway, &provider).await;
    let bytes = |text: String| Answer::Bytes(text.into_bytes());
    let huge = || {
        let mut all =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 50000000\r\n\r\n{".to_vec();
        all.resize(2_000_000, b' ');
        Answer::Bytes(all)
    };
    let redirect =
        "HTTP/1.1 302 Found\r\nlocation: https://evil.example/token\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let cases: Vec<Case> = vec![
        (
            "declines",
            Box::new(|| json_answer("400 Bad Request", &json!({"error": "invalid_grant"}))),
            "401 session.invalid",
        ),
        (
            "does not know us",
            Box::new(|| json_answer("401 Unauthorized", &json!({"error": "invalid_client"}))),
            "503 gateway.unavailable",
        ),
        ("is broken", Box::new(|| json_answer("500 Internal Server Error", &json!({}))), "503 gateway.unavailable"),
        ("redirects", Box::new(move || bytes(redirect.to_owned())), "503 gateway.unavailable"),
        ("says a lot", Box::new(huge), "503 gateway.unavailable"),
        ("says nonsense", Box::new(|| json_answer("200 OK", &json!([1]))), "401 session.invalid"),
        (
            "gives no ID token",
            Box::new(|| json_answer("200 OK", &json!({"token_type": "Bearer", "access_token": "a"}))),
            "401 session.invalid",
        ),
        ("hangs up", Box::new(move || bytes(String::new())), "503 gateway.unavailable"),
        ("stalls", Box::new(|| Answer::Stall), "503 gateway.unavailable"),
    ];
    for (what, answer, expected) in cases {
        let begun = flow(&gateway).await;
        provider.answers(move |_| answer());
        let reply = come_back(&gateway, HERE, &begun.cookie, &format!("code=c&state={}", begun.asked["state"])).await;
        assert_eq!(reply.verdict(), expected, "{what}");
        assert_eq!(session(&reply), None, "{what}");
        assert_eq!(board(&gateway, &still_in).await, "200", "who is in stays in: {what}");
    }
}

#[tokio::test]
async fn an_answer_belongs_to_one_browser_one_flow_one_host_and_counts_once() {
    let provider = Provider::start(true).await;
    let (gateway, _upstream) = gateway(&provider).await;
    let issuer = decide::sign_in::encoded(&provider.issuer);
    let begun = flow(&gateway).await;
    let other = flow(&gateway).await;
    let state = &begun.asked["state"];
    provider.gives(provider.id_token(&begun).signed(&provider.key));
    let good = format!("code=c&state={state}&iss={issuer}");
    let mut broken = begun.cookie.clone();
    let last = broken.pop().unwrap();
    broken.push(if last == 'A' { 'B' } else { 'A' });
    let renamed = format!("{}={}", other.cookie.split('=').next().unwrap(), begun.cookie.split_once('=').unwrap().1);
    for (what, host, cookie, query, expected) in [
        ("another browser", HERE, "", good.clone(), "401 session.invalid"),
        ("another flow's cookie", HERE, &*other.cookie, good.clone(), "401 session.invalid"),
        (
            "another flow's state",
            HERE,
            &begun.cookie,
            format!("code=c&state={}&iss={issuer}", other.asked["state"]),
            "401 session.invalid",
        ),
        (
            "a cookie under another name",
            HERE,
            &renamed,
            format!("code=c&state={}&iss={issuer}", other.asked["state"]),
            "401 session.invalid",
        ),
        ("a changed cookie", HERE, &broken, good.clone(), "401 session.invalid"),
        ("another tenant's host", "globex.localhost", &begun.cookie, good.clone(), "401 session.invalid"),
        ("another port", "acme.localhost:444", &begun.cookie, good.clone(), "401 session.invalid"),
        (
            "another provider",
            HERE,
            &begun.cookie,
            format!("code=c&state={state}&iss=https%3A%2F%2Fevil.example"),
            "401 session.invalid",
        ),
        ("no provider's name", HERE, &begun.cookie, format!("code=c&state={state}"), "401 session.invalid"),
        ("two codes", HERE, &begun.cookie, format!("{good}&code=d"), "400 request.malformed"),
        ("no state", HERE, &begun.cookie, "code=c".to_owned(), "400 request.malformed"),
        ("a state of nobody", HERE, &begun.cookie, format!("code=c&state=x&iss={issuer}"), "401 session.invalid"),
        ("denied", HERE, &begun.cookie, format!("error=access_denied&state={state}&iss={issuer}"), "403 access.denied"),
    ] {
        let reply = come_back(&gateway, host, cookie, &query).await;
        assert_eq!(reply.verdict(), expected, "{what}");
        assert_eq!(session(&reply), None, "{what}");
        let forgets = reply.header("set-cookie").is_some_and(|set| set.contains("=; ") && set.contains("Max-Age=0"));
        let begun_here = ["another port", "another provider", "no provider's name", "denied"].contains(&what);
        assert_eq!(forgets, begun_here, "a flow that was refused is forgotten: {what}: {reply:?}");
    }
    assert_eq!(provider.asked.lock().unwrap().len(), 0, "no code of these ever left");
    assert_eq!(come_back(&gateway, HERE, &begun.cookie, &good).await.status, 303);
    let again = come_back(&gateway, HERE, &begun.cookie, &good).await;
    assert_eq!((again.verdict(), session(&again)), ("401 session.invalid".to_owned(), None), "the same once more");
    assert_eq!(provider.asked.lock().unwrap().len(), 1);
}

/// Answers of two providers arrive at one address: one that does not say whose it is could be made to leak its code to the other.
#[tokio::test]
async fn of_several_providers_each_must_name_itself_or_have_an_address_of_its_own() {
    let (one, two) = (Provider::start(false).await, Provider::start(false).await);
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    configure(&bundle, &one);
    bundle.write("op-ca-2.crt", &two.authority.pem());
    let second = format!(
        "issuers:\n  second:\n    issuer: {}\n    algorithms: [ES256]\n    claims: {{tenant: org_id}}\n    ca: op-ca-2.crt\n    \
         client: {{id: moat, secret: {{file: client-secret}}, callback: CALLBACK}}\n",
        two.issuer
    );
    bundle.replace("issuers:\n", &second.replace("CALLBACK", "shared"));
    let gateway = Gateway::start(bundle).await;
    let begun = begin(&gateway, HERE, "/.moat/login?return_to=/board&issuer=second").await;
    two.gives(two.id_token(&begun).signed(&two.key));
    let query = format!("code=c&state={}", begun.asked["state"]);
    assert_eq!(come_back(&gateway, HERE, &begun.cookie, &query).await.verdict(), "401 session.invalid");
    let named = format!("{query}&iss={}", decide::sign_in::encoded(&two.issuer));
    assert_eq!(come_back(&gateway, HERE, &begun.cookie, &named).await.status, 303);

    gateway.bundle.replace("callback: shared", "callback: own");
    gateway
        .until("the second issuer has an address of its own", async |gateway: &Gateway| {
            let begun = begin(gateway, HERE, "/.moat/login?issuer=second").await;
            begun.asked["redirect_uri"].ends_with("/second")
        })
        .await;
    let begun = begin(&gateway, HERE, "/.moat/login?return_to=/board&issuer=second").await;
    assert_eq!(begun.asked["redirect_uri"], "https://acme.localhost/.moat/callback/second");
    two.gives(two.id_token(&begun).signed(&two.key));
    let query = format!("code=c&state={}", begun.asked["state"]);
    let elsewhere = come_back(&gateway, HERE, &begun.cookie, &query).await;
    assert_eq!(elsewhere.verdict(), "401 session.invalid", "at the address of the others");
    let there = format!("https://acme.localhost/.moat/callback/second?{query}");
    assert_eq!(gateway.get(&there).header("cookie", &begun.cookie).send().await.status, 303);
    assert_eq!(gateway.get("https://acme.localhost/.moat/login?issuer=third").send().await.status, 404);
}

#[tokio::test]
async fn a_provider_that_is_down_keeps_nobody_out_who_is_in() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = gateway(&provider).await;
    let cookie = sign_in(&gateway, &provider).await;
    let begun = flow(&gateway).await;
    drop(provider);
    let query = format!("code=c&state={}", begun.asked["state"]);
    let reply = come_back(&gateway, HERE, &begun.cookie, &query).await;
    assert_eq!(reply.verdict(), "503 gateway.unavailable");
    assert_eq!(board(&gateway, &cookie).await, "200");
}

#[tokio::test]
async fn tabs_that_wait_are_few() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = gateway(&provider).await;
    let mut jar: Vec<String> = Vec::new();
    for _ in 0..9 {
        let reply = gateway
            .get("https://acme.localhost/.moat/login?return_to=/board")
            .header("cookie", &jar.join("; "))
            .send()
            .await;
        assert_eq!(reply.status, 303, "{reply:?}");
        for set in reply.header("set-cookie").unwrap().split('|') {
            let pair = set.split(';').next().unwrap().to_owned();
            let name = pair.split('=').next().unwrap().to_owned();
            jar.retain(|cookie| !cookie.starts_with(&name));
            if !set.contains("Max-Age=0") {
                jar.push(pair);
            }
        }
    }
    assert_eq!(jar.len(), 5);
    assert!(jar.iter().all(|cookie| cookie.len() < 1024), "{jar:?}");
}
