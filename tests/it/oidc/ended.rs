//! Whoever signed in is out when somebody says so: here, on the other replicas, and with what was opened meanwhile.
use super::fake::{Begun, Provider, begin, board, come_back, configure, gateway, session, sign_in};
use crate::harness::{Bundle, Gateway, PATIENCE, Redis, Reply};
use crate::live::{App, echoes, websocket};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// 1008 with `session.revoked`, unmasked.
const REVOKED: &[u8] = b"\x88\x11\x03\xf0session.revoked";

fn live(bundle: &Bundle, provider: &Provider) {
    configure(bundle, provider);
    bundle.route(
        "  live:\n    match: {hosts: [\"*.localhost\"], paths: [/live/**], methods: [GET]}\n    upstream: app\n    auth: {session: browser}\n    require: {session: any}",
    );
}

async fn closes(socket: &mut (impl AsyncReadExt + Unpin), why: &str) {
    let mut frame = vec![0; REVOKED.len()];
    timeout(PATIENCE, socket.read_exact(&mut frame)).await.unwrap_or_else(|_| panic!("open after {why}")).unwrap();
    assert_eq!(frame, REVOKED, "{why}");
}

#[tokio::test]
async fn a_logout_at_the_provider_closes_what_the_session_had_opened() {
    let (app, provider) = (App::start().await, Provider::start(false).await);
    let gateway = app.gateway(|bundle| live(bundle, &provider)).await;
    let (hers, other) =
        (sign_in(&gateway, &provider).await, sign_in_as(&gateway, &provider, "bob", "op-session-9").await);
    let open = async |cookie: &str| websocket(&gateway, "acme", "/live/socket", &format!("Cookie: {cookie}\r\n")).await;
    let (mut ended, mut kept) = (open(&hers).await, open(&other).await);
    echoes(&mut ended, &app).await;
    let token = provider.logout_token().signed(&provider.key);
    let call = gateway.call("POST", "https://localhost/.moat/backchannel-logout");
    let call = call.header("content-type", "application/x-www-form-urlencoded").body(format!("logout_token={token}"));
    assert_eq!(call.send().await.verdict(), "200");
    closes(&mut ended, "a logout at the provider").await;
    assert_eq!(app.hears().await, [&[0x88, 0x80 | 17, 3, 0xf0], &b"session.revoked"[..]].concat());
    echoes(&mut kept, &app).await;
    let entry = gateway.audit_entry(|e| e["event"] == "revoke" && e["detail"]["via"] == "back-channel").await;
    assert_eq!((&entry["actor"], &entry["detail"]["scope"]), (&"people".into(), &"session".into()), "{entry:#}");
}

/// Two replicas share sessions by one Redis.
#[tokio::test]
async fn signing_out_here_ends_the_session_on_all_replicas_and_closes_what_it_had_opened() {
    let (app, provider, redis) = (App::start().await, Provider::start(false).await, Redis::start(&[]).await);
    let replica = async |number: usize| {
        app.gateway(|bundle| {
            live(bundle, &provider);
            bundle.replace("instance: test-1", &format!("instance: replica-{number}"));
            bundle.share(redis.address, "revocations, sessions");
        })
        .await
    };
    let (one, two) = (replica(1).await, replica(2).await);
    let cookie = sign_in(&one, &provider).await;
    assert_eq!(board(&two, &cookie).await, "200", "a session of the other replica");
    let more = format!("Cookie: {cookie}\r\n");
    let mut near = websocket(&one, "acme", "/live/socket", &more).await;
    let mut far = websocket(&two, "acme", "/live/socket", &more).await;
    echoes(&mut near, &app).await;
    echoes(&mut far, &app).await;
    let out = one.get("https://acme.localhost/.moat/logout").header("cookie", &cookie);
    let out = out.header("sec-fetch-site", "same-origin").header("sec-fetch-mode", "navigate");
    assert_eq!(out.header("sec-fetch-dest", "document").send().await.status, 303);
    closes(&mut near, "signing out here").await;
    closes(&mut far, "signing out on another replica").await;
    for replica in [&one, &two] {
        assert_eq!(board(replica, &cookie).await, "401 session.revoked");
    }
}

async fn sign_in_as(gateway: &Gateway, provider: &Provider, subject: &str, sid: &str) -> String {
    let begun = begin(gateway, "acme.localhost", "/.moat/login?return_to=/board").await;
    provider.gives(provider.id_token(&begun).claim("sub", subject).claim("sid", sid).signed(&provider.key));
    format!("__Host-session={}", session(&back(gateway, &begun).await).unwrap())
}

async fn back(gateway: &Gateway, begun: &Begun) -> Reply {
    come_back(gateway, "acme.localhost", &begun.cookie, &format!("code=c&state={}", begun.asked["state"])).await
}

/// The provider still knows the browser and lets it in without a question: that would undo what the operator has done.
#[tokio::test]
async fn whoever_was_ended_authenticates_anew() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = gateway(&provider).await;
    let cookie = sign_in(&gateway, &provider).await;
    let admin = gateway.address("admin").to_string();
    let args = ["sessions", "revoke", "--admin", &admin, "--issuer", "people", "--subject", "ada"];
    let ended = crate::harness::moat(gateway.bundle.root(), &args);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let page = gateway.get("https://acme.localhost/board").header("accept", "text/html").header("cookie", &cookie);
    let again = "/.moat/login?return_to=%2Fboard&prompt=login";
    assert_eq!(page.send().await.header("location").as_deref(), Some(again));

    // Without the old cookie nothing of it is known, until the provider says when it was that the user authenticated.
    let begun = begin(&gateway, "acme.localhost", "/.moat/login?return_to=/board").await;
    provider.gives(provider.id_token(&begun).auth_age(60).signed(&provider.key));
    let reply = back(&gateway, &begun).await;
    assert_eq!((reply.header("location").as_deref(), session(&reply)), (Some(again), None), "{reply:?}");
    let begun = begin(&gateway, "acme.localhost", again).await;
    assert_eq!(begun.asked["prompt"], "login");
    provider.gives(provider.id_token(&begun).auth_age(60).signed(&provider.key));
    let reply = back(&gateway, &begun).await;
    assert_eq!((reply.verdict(), session(&reply)), ("401 session.revoked".to_owned(), None), "asked for it once");

    // As soon as the second of the order, and the tolerance after it, are over.
    gateway
        .until("who authenticates anew is in", async |gateway: &Gateway| {
            let begun = begin(gateway, "acme.localhost", again).await;
            provider.gives(provider.id_token(&begun).signed(&provider.key));
            session(&back(gateway, &begun).await).is_some()
        })
        .await;
}

/// Another user signs in with the same browser: the session before ends, and with it what it had opened.
#[tokio::test]
async fn another_user_of_the_same_browser_takes_nothing_over() {
    let (app, provider) = (App::start().await, Provider::start(false).await);
    let gateway = app.gateway(|bundle| live(bundle, &provider)).await;
    let hers = sign_in(&gateway, &provider).await;
    let mut socket = websocket(&gateway, "acme", "/live/socket", &format!("Cookie: {hers}\r\n")).await;
    echoes(&mut socket, &app).await;
    let begun = begin(&gateway, "acme.localhost", "/.moat/login?return_to=/board").await;
    provider.gives(provider.id_token(&begun).claim("sub", "bob").claim("sid", "op-session-9").signed(&provider.key));
    let query = format!("code=c&state={}", begun.asked["state"]);
    let reply = come_back(&gateway, "acme.localhost", &format!("{}; {hers}", begun.cookie), &query).await;
    let his = format!("__Host-session={}", session(&reply).unwrap());
    assert_ne!(his, hers);
    closes(&mut socket, "another user's sign-in").await;
    assert_eq!(board(&gateway, &hers).await, "401 session.revoked");
    assert_eq!(board(&gateway, &his).await, "200");
}
