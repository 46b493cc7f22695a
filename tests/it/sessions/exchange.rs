//! A token becomes a session, and the session somebody.
use super::*;
use crate::harness::Token;

#[tokio::test]
async fn a_token_becomes_a_session_that_ends() {
    let (gateway, upstream) = gateway(BROWSER).await;
    let reply = gateway.call("POST", SESSION).bearer(&gateway.token("acme", &["cashier"])).send().await;
    assert_eq!(reply.verdict(), "201");
    let line = reply.header("set-cookie").unwrap();
    assert!(line.starts_with("__Host-sid=") && line.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{line}");
    assert_eq!(reply.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!((&reply.json()["subject"], &reply.json()["tenant"]), (&"someone@acme".into(), &"acme".into()));
    let cookie = cookie(&reply).unwrap();
    let handle = cookie.strip_prefix("__Host-sid=").unwrap();
    assert_eq!(handle.len(), 71);

    // On both paths, and the application sees the user and no cookie of ours.
    assert_eq!(me(&gateway, &format!("theme=dark; {cookie}")).send().await.verdict(), "200");
    let seen = upstream.last();
    assert_eq!(seen.header("x-user-id").as_deref(), Some("someone@acme"));
    assert_eq!(seen.header("x-user-roles").as_deref(), Some("cashier"));
    assert_eq!(seen.header("cookie").as_deref(), Some("theme=dark"));
    assert!(seen.header("moat-assertion").is_some());
    assert_eq!(me(&gateway, &cookie).h2().send().await.verdict(), "200");

    let shown = gateway.get(SESSION).header("cookie", &cookie).send().await;
    assert_eq!((shown.verdict().as_str(), &shown.json()["session"]), ("200", &reply.json()["session"]));

    let ended = gateway.call("DELETE", SESSION).header("cookie", &cookie).header("sec-fetch-site", "same-origin");
    let ended = ended.send().await;
    assert_eq!(ended.verdict(), "204");
    assert!(ended.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(me(&gateway, &cookie).send().await.verdict(), "401 session.revoked");

    // An intent before the effect, and an outcome that says what was done; the handle is nowhere.
    for (kind, action) in [("intent", "session.open"), ("request", "session.opened"), ("request", "session.ended")] {
        let entry = gateway.audit_entry(|entry| entry["kind"] == kind && entry["action"] == action).await;
        assert_eq!(entry["facts"]["tenant"], "acme", "{entry}");
    }
    let everything = format!("{:?}{:?}", crate::harness::entries(&gateway), gateway.log_lines());
    assert!(!everything.contains(handle), "a handle was written down");
    let metrics = gateway.metrics().await;
    for line in ["moat_session_events_total{event=\"opened\"} 1", "moat_session_events_total{event=\"signed_out\"} 1"] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[tokio::test]
async fn a_session_outlives_its_token_and_the_process() {
    let (gateway, _upstream) = gateway(BROWSER).await;
    let now = crate::harness::now();
    let short = Token::of("acme", &["cashier"]).claim("exp", now + 2).signed(&gateway.bundle.key);
    let reply = gateway.call("POST", SESSION).bearer(&short).send().await;
    let cookie = cookie(&reply).unwrap();
    gateway.until("the token is over", async |gateway| gateway.get(ME).bearer(&short).send().await.status == 401).await;
    assert_eq!(me(&gateway, &cookie).send().await.verdict(), "200");
    let gateway = gateway.restart().await;
    assert_eq!(me(&gateway, &cookie).send().await.verdict(), "200", "it was written before the cookie went out");
}

#[tokio::test]
async fn who_gets_none() {
    let (gateway, _upstream) = gateway(BROWSER).await;
    let open = |token: String| gateway.call("POST", SESSION).bearer(&token);
    let key = &gateway.bundle.key;
    for (what, token, verdict) in [
        ("another tenant's user", gateway.token("globex", &["cashier"]), "403 tenant.mismatch"),
        ("nobody's user", Token::of("acme", &[]).without("org_id").signed(key), "403 tenant.mismatch"),
        ("an expired token", Token::of("acme", &[]).expired().signed(key), "401 session.expired"),
        ("no token", "x".to_owned(), "401 session.invalid"),
    ] {
        let reply = open(token).send().await;
        assert_eq!((reply.verdict().as_str(), reply.header("set-cookie")), (verdict, None), "{what}");
    }
    let good = gateway.token("acme", &["cashier"]);
    assert_eq!(gateway.call("POST", SESSION).send().await.verdict(), "401 session.missing");
    let foreign = open(good.clone()).header("origin", "https://evil.example").header("sec-fetch-site", "cross-site");
    assert_eq!(foreign.send().await.verdict(), "403 csrf.unproven");
    let suspended = gateway.call("POST", "https://initech.localhost/.moat/session").bearer(&good).send().await;
    assert_eq!(suspended.verdict(), "403 tenant.suspended");
    let elsewhere = gateway.call("POST", "https://umbrella.localhost/.moat/session").bearer(&good).send().await;
    assert_eq!(elsewhere.verdict(), "403 network.denied");
    assert_eq!(gateway.call("PUT", SESSION).send().await.verdict(), "405 method.not-allowed");
}

#[tokio::test]
async fn a_cookie_of_one_tenant_is_nothing_on_the_host_of_another() {
    let (gateway, _upstream) = gateway(BROWSER).await;
    let cookie = open(&gateway).await;
    let stolen = gateway.get("https://globex.localhost/me").header("cookie", &cookie).send().await;
    assert_eq!(stolen.verdict(), "401 session.invalid");
    // Nor can it end there what it cannot use there.
    let end = gateway.call("DELETE", "https://globex.localhost/.moat/session").header("cookie", &cookie);
    assert_eq!(end.header("sec-fetch-site", "same-origin").send().await.verdict(), "204");
    assert_eq!(me(&gateway, &cookie).send().await.verdict(), "200");
}

#[tokio::test]
async fn a_handle_that_was_planted_is_not_taken_up() {
    let (gateway, _upstream) = gateway(BROWSER).await;
    let planted = open(&gateway).await;
    // The victim signs in with the attacker's cookie in the jar: it gets a handle of its own, and the planted one ends.
    let call = gateway.call("POST", SESSION).bearer(&gateway.token("acme", &["viewer"])).header("cookie", &planted);
    let own = cookie(&call.send().await).unwrap();
    assert_ne!(own, planted);
    assert_eq!(me(&gateway, &planted).send().await.verdict(), "401 session.revoked");
    assert_eq!(me(&gateway, &own).send().await.verdict(), "200");
}

#[tokio::test]
async fn a_session_is_ambient_so_other_sites_change_nothing_with_it() {
    let (gateway, _upstream) = gateway(BROWSER).await;
    let cookie = open(&gateway).await;
    let post = || gateway.post(ME, "{}").header("cookie", &cookie);
    assert_eq!(post().send().await.verdict(), "403 csrf.unproven");
    assert_eq!(post().header("sec-fetch-site", "cross-site").send().await.verdict(), "403 csrf.unproven");
    assert_eq!(post().header("sec-fetch-site", "same-origin").send().await.verdict(), "200");
    let end = gateway.call("DELETE", SESSION).header("cookie", &cookie).send().await;
    assert_eq!(end.verdict(), "403 csrf.unproven", "nor do they sign anybody out");
}

#[tokio::test]
async fn made_up_handles_and_cookie_bombs_open_nothing() {
    let (gateway, _upstream) = gateway(BROWSER).await;
    let cookie = open(&gateway).await;
    let (last, flipped) = (cookie.chars().last().unwrap(), if cookie.ends_with('A') { "B" } else { "A" });
    let forged = format!("{}{flipped}", cookie.trim_end_matches(last));
    for (what, sent, verdict) in [
        ("another mark", forged, "401 session.invalid"),
        ("nothing of ours", "__Host-sid=x".to_owned(), "401 session.invalid"),
        ("two of them", format!("{cookie}; {cookie}"), "401 session.invalid"),
        ("four kilobytes", format!("__Host-sid={}", "A".repeat(4096)), "401 session.invalid"),
        ("none", "other=1".to_owned(), "401 session.missing"),
    ] {
        assert_eq!(me(&gateway, &sent).send().await.verdict(), verdict, "{what}");
    }
    let jar = (0..40).map(|n| format!("c{n}={}", "x".repeat(100))).collect::<Vec<_>>().join("; ");
    assert_eq!(me(&gateway, &format!("{jar}; {cookie}")).send().await.verdict(), "200", "a full jar is no obstacle");
}
