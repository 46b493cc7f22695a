//! `/.moat/sessions`: users see and end what is theirs, and nothing else.
use super::ended;
use crate::harness::{Gateway, Redis, Reply, Token, now, with};
use crate::sessions::{BROWSER, SESSION, cookie, gateway, held, me, open, unhurried};
use serde_json::Value;

const SESSIONS: &str = "https://acme.localhost/.moat/sessions";

async fn list(gateway: &Gateway, cookie: &str) -> Vec<Value> {
    let reply = gateway.get(SESSIONS).header("cookie", cookie).send().await;
    assert_eq!(reply.verdict(), "200", "{}", reply.text());
    reply.json()["sessions"].as_array().unwrap().clone()
}

/// As a page of our own does it.
async fn end(gateway: &Gateway, cookie: &str, what: &str) -> Reply {
    let body = serde_json::json!({"end": what}).to_string();
    let call = gateway.post(SESSIONS, &body).header("cookie", cookie);
    call.header("sec-fetch-site", "same-origin").header("origin", "https://acme.localhost").send().await
}

async fn open_as(gateway: &Gateway, token: &Token) -> String {
    let reply = gateway.call("POST", SESSION).bearer(&token.signed(&gateway.bundle.key)).send().await;
    assert_eq!(reply.verdict(), "201", "{}", reply.text());
    cookie(&reply).unwrap()
}

#[tokio::test]
async fn users_list_their_sessions_and_end_one_or_all_of_them() {
    let (gateway, _upstream) = with(|bundle| {
        held(bundle, BROWSER);
        unhurried(bundle);
    })
    .await;
    let (here, there) = (open(&gateway).await, open(&gateway).await);
    let bob = open_as(&gateway, &Token::of("acme", &["cashier"]).claim("sub", "bob")).await;
    let rows = list(&gateway, &here).await;
    assert_eq!(rows.len(), 2, "{rows:#?}");
    let other = rows.iter().find(|row| row["this"] == false).unwrap();
    assert_eq!(rows.iter().filter(|row| row["this"] == true).count(), 1);
    assert_eq!(other["client"], "127.0.0.1");
    assert!(other["opened_at"].as_u64().unwrap() >= now() - 60 && other["last_used_at"].is_u64(), "{other:#}");
    assert!(!serde_json::to_string(&rows).unwrap().contains(here.split('=').nth(1).unwrap()), "a handle is a secret");

    let id = other["id"].as_str().unwrap();
    assert_eq!(end(&gateway, &bob, id).await.verdict(), "404 route.unknown", "not his");
    assert_eq!(me(&gateway, &there).send().await.verdict(), "200");
    assert_eq!(end(&gateway, &here, id).await.verdict(), "200");
    assert_eq!(me(&gateway, &there).send().await.verdict(), "401 session.revoked");
    assert_eq!(me(&gateway, &here).send().await.verdict(), "200");
    assert_eq!(list(&gateway, &here).await.len(), 1);

    // Everywhere: tokens of the issuer too, that nobody could list.
    let token = gateway.token("acme", &["cashier"]);
    let third = open(&gateway).await;
    assert_eq!(end(&gateway, &here, "all").await.verdict(), "200");
    for cookie in [&here, &third] {
        assert_eq!(me(&gateway, cookie).send().await.verdict(), "401 session.revoked");
    }
    assert_eq!(gateway.get("https://acme.localhost/me").bearer(&token).send().await.verdict(), "401 session.revoked");
    let exchange = gateway.call("POST", SESSION).bearer(&token).send().await;
    assert_eq!(exchange.verdict(), "401 session.revoked", "an ended token is not exchanged for a young session");
    assert_eq!(me(&gateway, &bob).send().await.verdict(), "200");
    let entry = gateway.audit_entry(|e| e["event"] == "revoke" && e["detail"]["scope"] == "subject").await;
    assert_eq!((&entry["actor"], &entry["detail"]["via"]), (&"someone@acme".into(), &"users".into()), "{entry:#}");

    // As soon as the second of the order, and the tolerance after it, are over.
    gateway
        .until("who signs in anew is in", async |gateway: &Gateway| {
            let anew = Token::of("acme", &["cashier"]).claim("iat", now() + 20).claim("auth_time", now() + 20);
            let again = open_as(gateway, &anew.claim("exp", now() + 600)).await;
            me(gateway, &again).send().await.verdict() == "200"
        })
        .await;
}

#[tokio::test]
async fn nobody_ends_the_sessions_of_a_user_of_that_name_in_another_tenant() {
    let (gateway, _upstream) = gateway(BROWSER).await;
    let of = |tenant: &str| Token::of(tenant, &["cashier"]).claim("sub", "admin").signed(&gateway.bundle.key);
    let (acme, globex) = (of("acme"), of("globex"));
    let at = |tenant: &str| format!("https://{tenant}.localhost/.moat/sessions");
    let all = r#"{"end":"all"}"#;
    // With the token of one tenant at the host of the other: it is not of there.
    assert_eq!(gateway.post(&at("globex"), all).bearer(&acme).send().await.verdict(), "403 tenant.mismatch");
    assert_eq!(gateway.post(&at("acme"), all).bearer(&acme).send().await.verdict(), "200");
    assert_eq!(gateway.get("https://acme.localhost/me").bearer(&acme).send().await.verdict(), "401 session.revoked");
    assert_eq!(gateway.get("https://globex.localhost/me").bearer(&globex).send().await.verdict(), "200");
}

#[tokio::test]
async fn users_who_end_sessions_all_day_leave_room_for_operators() {
    let (gateway, _upstream) = with(|bundle| {
        bundle.replace("sessions:\n", "sessions:\n  revocation: {max_marks: 10}\n");
        held(bundle, BROWSER);
    })
    .await;
    let token = |user: usize| Token::of("acme", &["cashier"]).claim("sub", format!("user-{user}"));
    for user in 0..10 {
        let cookie = open_as(&gateway, &token(user)).await;
        let verdict = if user < 9 { "200" } else { "503 gateway.unavailable" };
        assert_eq!(end(&gateway, &cookie, "all").await.verdict(), verdict, "user {user}");
    }
    let tenth = token(9).signed(&gateway.bundle.key);
    assert_eq!(gateway.get("https://acme.localhost/me").bearer(&tenth).send().await.verdict(), "200");
    ended(&gateway, &["--subject", "user-9"]);
    assert_eq!(gateway.get("https://acme.localhost/me").bearer(&tenth).send().await.verdict(), "401 session.revoked");
}

#[tokio::test]
async fn no_other_site_has_a_browser_end_anything() {
    let (gateway, _upstream) = gateway(BROWSER).await;
    let here = open(&gateway).await;
    let all = r#"{"end":"all"}"#;
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example"), ("x-nothing", "1")] {
        let call = gateway.post(SESSIONS, all).header("cookie", &here).header(name, value);
        assert_eq!(call.send().await.verdict(), "403 csrf.unproven", "{name}: {value}");
    }
    assert_eq!(me(&gateway, &here).send().await.verdict(), "200");
    assert_eq!(gateway.post(SESSIONS, all).send().await.verdict(), "401 session.missing");
    assert_eq!(gateway.post(SESSIONS, all).bearer("not-a-token").send().await.verdict(), "401 session.invalid");
    assert_eq!(end(&gateway, &here, "").await.verdict(), "404 route.unknown");
    let odd = gateway.post(SESSIONS, r#"{"end":"all","more":1}"#).bearer(&gateway.token("acme", &["cashier"]));
    assert_eq!(odd.send().await.verdict(), "422 body.invalid");
}

#[tokio::test]
async fn a_session_that_is_signed_out_takes_along_what_it_opened_and_operators_end_one_by_its_id() {
    let (gateway, _upstream) = gateway(BROWSER).await;
    let (here, there) = (open(&gateway).await, open(&gateway).await);
    let rows = list(&gateway, &here).await;
    let id = rows.iter().find(|row| row["this"] == false).unwrap()["id"].as_str().unwrap().to_owned();
    let admin = gateway.address("admin").to_string();
    let args = ["sessions", "list", "--admin", &admin, "--subject", "someone@acme", "--tenant", "acme"];
    let listed = crate::harness::moat(gateway.bundle.root(), &args);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    assert!(listed.stdout.lines().count() == 2 && listed.stdout.contains(&id), "{listed:?}");
    assert!(ended(&gateway, &["--session", &id]).starts_with("ended: "));
    assert_eq!(me(&gateway, &there).send().await.verdict(), "401 session.revoked");
    let out = gateway.call("DELETE", SESSION).header("cookie", &here).header("sec-fetch-site", "same-origin");
    assert_eq!(out.send().await.verdict(), "204");
    assert_eq!(me(&gateway, &here).send().await.verdict(), "401 session.revoked");
    let entry = gateway.audit_entry(|e| e["event"] == "revoke" && e["detail"]["via"] == "sign-out").await;
    assert_eq!(entry["detail"]["scope"], "session", "{entry:#}");
}

#[tokio::test]
async fn whoever_signs_out_everywhere_is_out_too_however_far_ahead_the_issuers_clock_is() {
    let (gateway, _upstream) = gateway(BROWSER).await;
    let early = Token::of("acme", &["cashier"]).claim("iat", now() + 20).claim("auth_time", now() + 20);
    let early = early.claim("exp", now() + 600).signed(&gateway.bundle.key);
    let used = async || gateway.get("https://acme.localhost/me").bearer(&early).send().await.verdict();
    assert_eq!(used().await, "200");
    assert_eq!(gateway.post(SESSIONS, r#"{"end":"all"}"#).bearer(&early).send().await.verdict(), "200");
    assert_eq!(used().await, "401 session.revoked");
}

/// What has begun is done, told and in force, also where whoever asked for it has left: else it would be in the store, and known to
/// nobody before the next start.
/// Whoever signs in between the head of the order and its body is out too, since the user is told that all have ended.
#[tokio::test]
async fn whoever_signs_out_everywhere_ends_what_began_while_the_order_was_on_its_way() {
    let (gateway, _upstream) = with(|bundle| {
        held(bundle, BROWSER);
        unhurried(bundle);
        bundle.clock_that_jumps();
    })
    .await;
    let here = open(&gateway).await;
    let lines = format!("Cookie: {here}\r\nSec-Fetch-Site: same-origin\r\nOrigin: https://acme.localhost\r\n");
    let order = gateway.withhold("/.moat/sessions", &lines, r#"{"end":"all"}"#).await;
    gateway.bundle.jump("+5s");
    let token = Token::of("acme", &["cashier"]).claim("iat", now() + 5).claim("auth_time", now() + 5);
    let meanwhile = open_as(&gateway, &token).await;
    assert_eq!(me(&gateway, &meanwhile).send().await.verdict(), "200");
    assert!(order.answer().await.contains(r#"{"ended":"all"}"#));
    assert_eq!(me(&gateway, &meanwhile).send().await.verdict(), "401 session.revoked");
    assert_eq!(
        gateway.get("https://acme.localhost/me").bearer(&token.signed(&gateway.bundle.key)).send().await.verdict(),
        "401 session.revoked"
    );
}

#[tokio::test]
async fn who_leaves_during_an_order_does_not_stop_it_half_way() {
    let redis = Redis::start(&[]).await;
    let (gateway, _upstream) = with(|bundle| {
        held(bundle, BROWSER);
        let storage = format!(
            "storage:\n  redis: {{url: \"redis://{}\", hash_key: {{file: hash-key}}, connect_timeout: 5s, use_for: [revocations]}}\nroutes:\n  home:",
            redis.address
        );
        bundle.replace("routes:\n  home:", &storage);
        bundle.replace("sessions:\n", "sessions:\n  keys: {file: session-keys}\n");
        bundle.write("hash-key", "a secret that all replicas have in common\n");
        bundle.write("session-keys", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
    })
    .await;
    let token = gateway.token("acme", &["cashier"]);
    let used = async |gateway: &Gateway| gateway.get("https://acme.localhost/me").bearer(&token).send().await.verdict();
    gateway.until("it knows who was ended", async |gateway| used(gateway).await == "200").await;
    let (client, connection) = h2::client::handshake(gateway.tls("acme.localhost", &[b"h2"]).await).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    redis.stall();
    let request = http::Request::post(SESSIONS).header("authorization", format!("Bearer {token}"));
    let (_answer, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(r#"{"end":"all"}"#.into(), true).unwrap();
    gateway.audit_entry(|entry| entry["event"] == "revoke").await;
    connection.abort();
    gateway.audit_entry(|entry| entry["kind"] == "request" && entry["facts"]["path"] == "/.moat/sessions").await;
    redis.resume();
    gateway.until("the order is in force", async |gateway| used(gateway).await == "401 session.revoked").await;
}
