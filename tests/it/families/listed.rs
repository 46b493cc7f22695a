//! Families beside sessions of browsers: in a user's own list and in that of operators, ended there, and what ends with them.
use super::*;
use crate::harness::{PATIENCE, moat};
use crate::live::{App, echoes, websocket};
use crate::sessions::{BROWSER, SESSION, cookie, me};
use tokio::io::AsyncReadExt;

const SESSIONS: &str = "https://acme.localhost/.moat/sessions";
/// 1008 with `session.revoked`, unmasked.
const REVOKED: &[u8] = b"\x88\x11\x03\xf0session.revoked";

async fn list(gateway: &Gateway, cookie: &str) -> Vec<Value> {
    let reply = gateway.get(SESSIONS).header("cookie", cookie).send().await;
    assert_eq!(reply.verdict(), "200", "{}", reply.text());
    reply.json()["sessions"].as_array().unwrap().clone()
}

async fn end(gateway: &Gateway, cookie: &str, what: &str) -> String {
    let call = gateway.post(SESSIONS, &serde_json::json!({"end": what}).to_string()).header("cookie", cookie);
    call.header("sec-fetch-site", "same-origin").header("origin", "https://acme.localhost").send().await.verdict()
}

/// The session cookie of a user.
async fn browser(gateway: &Gateway, user: &str) -> String {
    let token = Token::of("acme", &["cashier"]).claim("sub", user).signed(&gateway.bundle.key);
    cookie(&gateway.call("POST", SESSION).bearer(&token).send().await).unwrap()
}

fn id(row: &Value) -> &str {
    row["id"].as_str().unwrap()
}

#[tokio::test]
async fn users_see_and_end_their_clients_beside_their_browsers() {
    let (gateway, _upstream) = harness::with(|bundle| {
        crate::sessions::held(bundle, BROWSER);
        issuing(bundle, "");
    })
    .await;
    let ann = Token::of("acme", &["cashier"]).claim("sub", "ann");
    let (phone, tablet) = (open(&gateway, &ann).await, open(&gateway, &ann).await);
    let (hers, his) = (browser(&gateway, "ann").await, browser(&gateway, "bob").await);
    let rows = list(&gateway, &hers).await;
    let clients: Vec<&Value> = rows.iter().filter(|row| row["kind"] == "client").collect();
    assert_eq!((rows.len(), clients.len()), (3, 2), "{rows:#?}");
    assert!(clients.iter().all(|row| row["this"] == false && row["expires_at"].is_u64()), "{rows:#?}");
    assert!(!format!("{rows:?}").contains("mrt_"), "a token is a secret");
    assert_eq!(list(&gateway, &his).await.len(), 1, "nobody sees another's");
    // With a token of a family it is that family that asks.
    let own = gateway.get(SESSIONS).bearer(&text(&phone, "access_token")).send().await;
    let own = own.json()["sessions"].as_array().unwrap().clone();
    let this: Vec<&Value> = own.iter().filter(|row| row["this"] == true).collect();
    assert!(own.len() == 3 && this.len() == 1 && this[0]["kind"] == "client", "{own:#?}");

    let phones = id(this[0]).to_owned();
    assert_eq!(end(&gateway, &his, &phones).await, "404 route.unknown", "not his");
    assert_eq!(end(&gateway, &hers, &phones).await, "200");
    assert_eq!(held(&gateway, &text(&phone, "access_token")).await, "401 session.revoked");
    assert_eq!(said(&refresh(&gateway, &text(&phone, "refresh_token")).await), "400 invalid_grant session.revoked");
    assert_eq!(held(&gateway, &text(&tablet, "access_token")).await, "200");
    assert_eq!(list(&gateway, &hers).await.len(), 2);

    // Operators see the same, and end one by its id.
    let admin = gateway.address("admin").to_string();
    let sessions =
        |args: &[&str]| moat(gateway.bundle.root(), &[&["sessions", args[0], "--admin", &admin], &args[1..]].concat());
    let listed = sessions(&["list", "--subject", "ann", "--tenant", "acme"]);
    let line = listed.stdout.lines().find(|line| line.contains("  client ")).unwrap_or_else(|| panic!("{listed:?}"));
    let ended = sessions(&["revoke", "--session", line.split(' ').next().unwrap()]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(held(&gateway, &text(&tablet, "access_token")).await, "401 session.revoked");
    assert_eq!(said(&refresh(&gateway, &text(&tablet, "refresh_token")).await), "400 invalid_grant session.revoked");

    // Everywhere is everywhere.
    let third = open(&gateway, &ann).await;
    assert_eq!(end(&gateway, &hers, "all").await, "200");
    assert_eq!(held(&gateway, &text(&third, "access_token")).await, "401 session.revoked");
    assert_eq!(said(&refresh(&gateway, &text(&third, "refresh_token")).await), "400 invalid_grant session.revoked");
    assert_eq!(me(&gateway, &hers).send().await.verdict(), "401 session.revoked");
    assert_eq!(me(&gateway, &his).send().await.verdict(), "200");
}

#[tokio::test]
async fn a_token_that_comes_back_closes_what_its_family_has_open_and_no_other() {
    let app = App::start().await;
    let gateway = app
        .gateway(|bundle| {
            issuing(bundle, ", refresh: {reuse_leeway: 1s, clock_skew: 0s}");
            bundle.route("  live:\n    match: {hosts: [\"*.localhost\"], paths: [/live/**], methods: [GET]}\n    upstream: app\n    auth: {bearer: moat}\n    require: {session: any}");
        })
        .await;
    let ann = Token::of("acme", &["cashier"]).claim("sub", "ann");
    let (stolen, other) = (open(&gateway, &ann).await, open(&gateway, &ann).await);
    let socket = async |opened: &Reply| {
        let bearer = format!("Authorization: Bearer {}\r\n", text(opened, "access_token"));
        websocket(&gateway, "acme", "/live/socket", &bearer).await
    };
    let (mut closed, mut kept) = (socket(&stolen).await, socket(&other).await);
    echoes(&mut closed, &app).await;
    let first = text(&stolen, "refresh_token");
    assert_eq!(refresh(&gateway, &first).await.status, 200);
    gateway
        .until("the leeway is over", async |gateway| {
            said(&refresh(gateway, &first).await) == "400 invalid_grant session.reused"
        })
        .await;
    let mut frame = vec![0; REVOKED.len()];
    tokio::time::timeout(PATIENCE, closed.read_exact(&mut frame)).await.expect("no goodbye").unwrap();
    assert_eq!(frame, REVOKED);
    assert_eq!(app.hears().await, [&[0x88, 0x80 | 17, 3, 0xf0], &b"session.revoked"[..]].concat());
    echoes(&mut kept, &app).await;
    assert_eq!(held(&gateway, &text(&other, "access_token")).await, "200");
}

/// A token of ours by its `jti`: beside an issuer it has to be said whose it is, or the order would end nobody's.
#[tokio::test]
async fn an_operator_ends_one_token_of_ours_and_says_that_it_is() {
    let (gateway, _upstream) = start("").await;
    let reply = open(&gateway, &Token::of("acme", &["cashier"])).await;
    let access = text(&reply, "access_token");
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(&access).unwrap().claims;
    let token = ["--token-id", claims["jti"].as_str().unwrap()];
    let unsaid = crate::revocation::revoke(&gateway, &token);
    assert!(unsaid.code == Some(1) && unsaid.stderr.contains("name one of `workforce`, `moat`"), "{unsaid:?}");
    assert_eq!(held(&gateway, &access).await, "200");
    crate::revocation::ended(&gateway, &[&token[..], &["--issuer", "moat"]].concat());
    assert_eq!(held(&gateway, &access).await, "401 session.revoked");
    // People have a name with their own issuer only.
    let nobody = crate::revocation::revoke(&gateway, &["--subject", "someone@acme", "--issuer", "moat"]);
    assert!(nobody.code == Some(1) && nobody.stderr.contains("there is no issuer `moat`"), "{nobody:?}");
    crate::revocation::ended(&gateway, &["--subject", "someone@acme"]);
}
