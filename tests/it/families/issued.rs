//! Families begin with the token of an issuer, and their access tokens are as good as it was.
use super::*;
use crate::harness::{TokenKey, now};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

#[tokio::test]
async fn a_token_of_the_issuer_opens_a_family() {
    let (gateway, upstream) = start("").await;
    let reply = open(&gateway, &Token::of("acme", &["cashier"])).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(reply.header("content-type").as_deref(), Some("application/json"));
    let body = reply.json();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&"Bearer".into(), &600.into()));
    assert_eq!(body["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    let access = text(&reply, "access_token");
    assert_eq!(held(&gateway, &access).await, "200");
    let seen = upstream.last();
    assert_eq!(seen.header("x-tenant-id").as_deref(), Some("acme"));

    // Anybody can check it with the key set alone (RFC 9068, 4).
    let set = gateway.get("https://acme.localhost/.moat/jwks.json").send().await;
    let set: JwkSet = serde_json::from_slice(&set.body).unwrap();
    let header = jsonwebtoken::decode_header(&access).unwrap();
    assert_eq!((header.typ.as_deref(), header.alg), (Some("at+jwt"), Algorithm::EdDSA));
    let key = DecodingKey::from_jwk(set.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&["moat"]);
    validation.set_issuer(&["moat"]);
    let claims = jsonwebtoken::decode::<Value>(&access, &key, &validation).unwrap().claims;
    assert_eq!((&claims["sub"], &claims["idp"]), (&"someone@acme".into(), &"workforce".into()));
    assert_eq!((&claims["tenant"], &claims["roles"]), (&"acme".into(), &serde_json::json!(["cashier"])));
    assert!(claims["auth_time"].as_u64().unwrap() <= now() - 60);
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 600);
    for name in ["jti", "sid", "client_id", "rev"] {
        assert!(claims[name].is_string(), "{name}");
    }

    // The audit log says what was done, and by whom; no token is in it.
    let entry = gateway.audit_entry(|entry| entry["action"] == "session.opened").await;
    assert_eq!(entry["facts"]["subject"], "someone@acme", "{entry}");
    let log = std::fs::read_dir(gateway.bundle.path("state/audit")).unwrap();
    let log: String = log.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap_or_default()).collect();
    assert!(!log.contains(&access) && !log.contains(&text(&reply, "refresh_token")));
}

/// What the issuer's token could not do, a family cannot do either.
#[tokio::test]
async fn only_a_good_token_of_the_right_tenant_opens_a_family() {
    let (gateway, _upstream) = start("").await;
    let good = Token::of("acme", &["viewer"]);
    let stranger = TokenKey::new("k1");
    for (token, expected) in [
        (good.clone().expired().signed(&gateway.bundle.key), "400 invalid_grant session.expired"),
        (good.signed(&stranger), "400 invalid_grant session.invalid"),
        (good.clone().claim("aud", "another").signed(&gateway.bundle.key), "400 invalid_grant session.invalid"),
        (
            good.clone().claim("iss", "https://evil.test/").signed(&gateway.bundle.key),
            "400 invalid_grant session.invalid",
        ),
        ("not-a-token".to_owned(), "400 invalid_grant session.invalid"),
        (Token::of("globex", &[]).signed(&gateway.bundle.key), "403 access_denied tenant.mismatch"),
        (good.clone().without("org_id").signed(&gateway.bundle.key), "403 access_denied tenant.mismatch"),
    ] {
        assert_eq!(said(&form(&gateway, ACME, &exchange(&token)).await), expected, "{token}");
    }
    let at = |tenant: &str| format!("https://{tenant}.localhost/.moat/token");
    for (tenant, expected) in [
        ("initech", "403 access_denied tenant.suspended"),
        ("umbrella", "403 access_denied network.denied"),
        ("nobody", "404 access_denied tenant.unknown"),
    ] {
        let token = Token::of(tenant, &[]).signed(&gateway.bundle.key);
        assert_eq!(said(&form(&gateway, &at(tenant), &exchange(&token)).await), expected);
    }
    // An access token of ours is no token of the issuer's.
    let access = text(&open(&gateway, &good).await, "access_token");
    assert_eq!(said(&form(&gateway, ACME, &exchange(&access)).await), "400 invalid_grant session.invalid");
}

#[tokio::test]
async fn forms_are_read_strictly_and_refused_in_the_words_of_oauth() {
    let (gateway, _upstream) = start("").await;
    let token = Token::of("acme", &[]).signed(&gateway.bundle.key);
    for (body, expected) in [
        ("", "400 invalid_request body.invalid"),
        ("grant_type=password&username=a&password=b", "400 unsupported_grant_type body.invalid"),
        ("grant_type=refresh_token", "400 invalid_request body.invalid"),
        ("grant_type=refresh_token&refresh_token=a&refresh_token=b", "400 invalid_request body.invalid"),
        ("grant_type=refresh_token&refresh_token=made-up", "400 invalid_grant session.invalid"),
        (&format!("{}&audience=other", exchange(&token)), "400 invalid_target body.invalid"),
        (&format!("{}&subject_token=x", exchange(&token)), "400 invalid_request body.invalid"),
        (&format!("grant_type={}", "x".repeat(70_000)), "413 invalid_request request.too-large"),
    ] {
        let reply = form(&gateway, ACME, body).await;
        assert_eq!(said(&reply), expected);
        assert_eq!(reply.header("cache-control").as_deref(), Some("no-store"));
        assert_eq!(reply.header("content-type").as_deref(), Some("application/json"));
        assert_eq!(reply.header("www-authenticate"), None);
    }
    let json = gateway.post(ACME, "{\"grant_type\": \"refresh_token\"}").send().await;
    assert_eq!(said(&json), "400 invalid_request body.invalid");
    assert_eq!(gateway.get(ACME).send().await.verdict(), "405 method.not-allowed");
}

#[tokio::test]
async fn clients_may_expect_the_endpoint_elsewhere() {
    let (gateway, upstream) = start(", issue_at: [/oauth/token]").await;
    let token = Token::of("acme", &[]).signed(&gateway.bundle.key);
    let reply = form(&gateway, "https://acme.localhost/oauth/token", &exchange(&token)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(gateway.get("https://acme.localhost/oauth/token").send().await.verdict(), "405 method.not-allowed");
    assert!(upstream.seen().is_empty(), "no application has seen it");
}

#[tokio::test]
async fn without_the_section_there_is_no_endpoint() {
    let (gateway, _upstream) = harness::standard().await;
    assert_eq!(form(&gateway, ACME, "grant_type=refresh_token").await.status, 404);
    assert_eq!(said(&form(&gateway, ACME, "x").await), "404 access_denied route.unknown");
}

/// A token of ours that somebody else has signed, and one whose claims were changed.
#[tokio::test]
async fn access_tokens_cannot_be_made_up() {
    let (gateway, _upstream) = start("").await;
    let access = text(&open(&gateway, &Token::of("acme", &["viewer"])).await, "access_token");
    let mut parts: Vec<String> = access.split('.').map(str::to_owned).collect();
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&parts[1]).unwrap()).unwrap();
    claims["roles"] = serde_json::json!(["finance"]);
    parts[1] = URL_SAFE_NO_PAD.encode(claims.to_string());
    assert_eq!(held(&gateway, &parts.join(".")).await, "401 session.invalid");
    // The issuer of the exchange cannot speak for the gateway.
    let forged = Token::of("acme", &[]).claim("iss", "moat").claim("aud", "moat").signed(&gateway.bundle.key);
    assert_eq!(held(&gateway, &forged).await, "401 session.invalid");
    // Nor is a token of ours one of the issuer's.
    let reply = gateway.get("https://acme.localhost/api/bookings").bearer(&access).send().await;
    assert_eq!(reply.verdict(), "401 session.invalid");
    // It is good in its own tenant only.
    let elsewhere = gateway.get("https://globex.localhost/api/held").bearer(&access).send().await;
    assert_eq!(elsewhere.verdict(), "403 tenant.mismatch");
}

/// Keys rotate with an overlap: what the old key signed and sealed goes on as long as it is in the file.
#[tokio::test]
async fn keys_rotate_without_logging_anybody_out() {
    const OLD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const NEW: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
    let (gateway, _upstream) = harness::with(|bundle| {
        bundle.write("keys", &format!("{OLD}\n"));
        issuing(bundle, "");
        bundle.replace("sessions:\n", "sessions:\n  keys: {file: keys}\n");
    })
    .await;
    let opened = open(&gateway, &Token::of("acme", &[])).await;
    let (access, token) = (text(&opened, "access_token"), text(&opened, "refresh_token"));
    let kids = async || {
        let set = gateway.get("https://acme.localhost/.moat/jwks.json").send().await.json();
        set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = kids().await;
    gateway.bundle.write("keys", &format!("{NEW}\n{OLD}\n"));
    gateway.signal("HUP");
    gateway.until("the new key is listed", async |_| kids().await.len() > before.len()).await;
    assert!(before.iter().all(|kid| !kid.is_empty()));
    assert_eq!(held(&gateway, &access).await, "200");
    let next = refresh(&gateway, &token).await;
    assert_eq!(next.status, 200, "{}", next.text());
    assert_eq!(held(&gateway, &text(&next, "access_token")).await, "200");
    let by = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    assert_ne!(by(&access), by(&text(&next, "access_token")));
}
