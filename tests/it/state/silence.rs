//! The table of docs/state.md, "What a silent store costs": each of its cells, at a gateway whose store was killed.
use super::stage::{self, Holdings, SECRET, hold, in_postgres, in_redis, keyed, open_family, prove, revoke};
use super::{Clock, in_redis as redis_engine, state};
use crate::families;
use crate::harness::{Gateway, Postgres, Redis, Reply, Upstream};
use crate::revocation::signals;
use crate::sessions::{ME, SESSION, me, totp, unhurried};
use crate::ways::key_sets::keys;
use decide::facts::{Identity, Person};
use decide::revocation::{Handles, Source};
use decide::session::browser::Rules;
use moat::store::seal::Keyring;
use moat::store::sessions::{FRESH_MS, Fault, GRACE_MS, Presented, Realm, Sessions};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const ALL: &str = "sessions, refresh_families, revocations, once, factors, api_keys";

async fn used(gateway: &Gateway, url: &str, cookie: &str) -> String {
    gateway.get(url).header("cookie", cookie).send().await.verdict()
}

async fn opens(gateway: &Gateway) -> Reply {
    gateway.call("POST", SESSION).bearer(&gateway.token("acme", &["cashier"])).send().await
}

async fn signs_out(gateway: &Gateway, cookie: &str) -> Reply {
    gateway.call("DELETE", SESSION).header("cookie", cookie).header("sec-fetch-site", "same-origin").send().await
}

/// Silence, told as such: never 401, and when to come again.
fn come_again(what: &str, reply: &Reply) {
    assert_eq!(reply.status, 503, "{what}: {}", reply.text());
    assert!(reply.text().contains("unavailable"), "{what}: {}", reply.text());
    assert!(reply.header("retry-after").is_some(), "{what} does not say when to come again");
}

/// Every cell of the column "gone while the gateway runs".
async fn without_its_store(gateway: &Gateway, held: &Holdings) {
    let bearer = gateway.token("acme", &["cashier"]);
    let listed = gateway.get("https://acme.localhost/.moat/sessions").header("cookie", &held.cookie).send().await;
    come_again("a list of sessions, by one that was read a moment ago", &listed);
    // What was read a moment ago is as good as ever; what was read before is good on ordinary routes.
    gateway
        .until("a session goes on by what was read before", async |gateway| {
            assert_eq!(used(gateway, ME, &held.cookie).await, "200");
            let metrics = gateway.metrics().await;
            metrics.contains("event=\"stale\"") && !metrics.contains("moat_session_events_total{event=\"stale\"} 0")
        })
        .await;
    come_again("a sensitive route", &gateway.get(SECRET).header("cookie", &held.cookie).send().await);
    come_again("opening", &opens(gateway).await);
    come_again("signing out", &signs_out(gateway, &held.cookie).await);
    come_again(
        "a list of sessions",
        &gateway.get("https://acme.localhost/.moat/sessions").bearer(&bearer).send().await,
    );
    come_again("a refresh", &families::refresh(gateway, &held.refresh).await);
    come_again("a new family", &open_family(gateway).await);
    let code = format!("code={}", totp::shown(&held.app, crate::harness::now()));
    come_again("a second factor", &totp::post(gateway, &held.cookie, &code).send().await);
    assert_ne!(revoke(gateway, "trudy"), Some(0), "nobody is ended where that is not durable");
    let event = signals::event(gateway, "session-revoked", "trudy", |_| ());
    assert_eq!(signals::push(gateway, &event).await.status, 503, "the sender sends it again");
    // An API key that was read is good on ordinary routes; what was not read, nobody can tell.
    gateway
        .until("an API key goes on by what was read before", async |gateway| {
            assert_eq!(keyed(gateway, "/keyed", &held.api_key.0).await.verdict(), "200");
            !gateway.metrics().await.contains("moat_api_key_stale_total 0")
        })
        .await;
    come_again("a key on a sensitive route", &keyed(gateway, "/keyed/secret", &held.api_key.0).await);
    come_again("a key that was not used", &keyed(gateway, "/keyed", &held.idle_key).await);
    for order in [&["new", "--name", "x"][..], &["rotate", &held.api_key.1], &["revoke", &held.api_key.1], &["list"]] {
        let output = keys(gateway, order);
        assert!(output.code == Some(1) && output.stderr.contains("is silent"), "{order:?}: {output:?}");
    }
    // What needs no store goes on.
    assert_eq!(families::held(gateway, &held.access).await, "200", "an access token of ours");
    assert_eq!(gateway.get(ME).bearer(&bearer).send().await.verdict(), "200", "a token of the issuer");
    assert_eq!(prove(gateway, held).await, "200", "a proof is held against this process's memory");
    let proof = held.key.proof("GET", "https://acme.localhost/api/held", Some(&held.bound));
    assert_eq!(families::bound::used(gateway, &held.bound, &proof).await, "200");
    assert_ne!(families::bound::used(gateway, &held.bound, &proof).await, "200", "and is still good once only");
    assert_eq!(gateway.get("https://acme.localhost/page").send().await.status, 200, "a public page");
}

/// Who was signed in still is, and nothing was lost.
async fn with_it_again(gateway: &Gateway, held: &Holdings) {
    gateway.until("sensitive routes are served", async |g| used(g, SECRET, &held.cookie).await == "200").await;
    gateway.until("it is ready", async |g: &Gateway| g.admin("/readyz").await.status == 200).await;
    gateway.until("refreshes are answered", async |g| families::refresh(g, &held.refresh).await.status == 200).await;
    assert_eq!(used(gateway, ME, &held.cookie).await, "200");
    assert_eq!(revoke(gateway, "trudy"), Some(0));
    let event = signals::event(gateway, "session-revoked", "trudy", |_| ());
    assert_eq!(signals::push(gateway, &event).await.status, 202);
    assert_eq!(keyed(gateway, "/keyed/secret", &held.idle_key).await.verdict(), "200");
    assert_eq!(keyed(gateway, "/keyed", &held.api_key.0).await.verdict(), "200", "nothing was revoked");
    assert_eq!(keys(gateway, &["revoke", &held.api_key.1]).code, Some(0));
    assert_eq!(keyed(gateway, "/keyed", &held.api_key.0).await.verdict(), "401 session.revoked");
    assert_eq!(opens(gateway).await.status, 201);
}

/// Both columns, for one engine that keeps everything.
macro_rules! the_table {
    ($store:ident, $storage:expr) => {{
        let (gateway, _upstream) = stage::gateway(&[$storage]).await;
        let held = hold(&gateway).await;
        assert_eq!(used(&gateway, SECRET, &held.cookie).await, "200");
        $store.kill();
        without_its_store(&gateway, &held).await;
        // Started without its store it knows nobody, and says so rather than that they are signed out.
        let gateway = gateway.restart().await;
        assert_ne!(gateway.admin("/readyz").await.status, 200);
        assert_eq!(used(&gateway, ME, &held.cookie).await, "503 gateway.unavailable");
        let bearer = gateway.token("acme", &["cashier"]);
        assert_eq!(gateway.get(ME).bearer(&bearer).send().await.verdict(), "503 gateway.unavailable");
        assert_eq!(keyed(&gateway, "/keyed", &held.api_key.0).await.verdict(), "503 gateway.unavailable");
        assert_eq!(gateway.get("https://acme.localhost/page").send().await.status, 200);
        $store.restart().await;
        with_it_again(&gateway, &held).await;
        assert_eq!(signs_out(&gateway, &held.cookie).await.status, 204);
        assert_eq!(me(&gateway, &held.cookie).send().await.verdict(), "401 session.revoked");
    }};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_what_can_go_on_does_and_the_rest_is_told_to_come_again() {
    let mut redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    the_table!(redis, in_redis(redis.address, ALL));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgresql_what_can_go_on_does_and_the_rest_is_told_to_come_again() {
    let mut postgres = Postgres::start(&[]).await;
    the_table!(postgres, in_postgres(postgres.address, ALL));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_for_a_minute_after_it_was_read_and_no_longer() {
    const AT: u64 = 1_800_000_000_000;
    let rules = Rules { idle_ms: 30_000, absolute_ms: 3_600_000, leeway_ms: 5_000, every_ms: Some(600_000) };
    let renewing = moat::store::sessions::Renewing { step_up: true, role_change: true };
    let realm = Realm { ring: Arc::new(Keyring::new(&[[7; 32]])), tenant: "acme".into(), rules, renewing };
    let source = Source { issuer: "workforce", subject: "ada", tenant: Some("acme"), ..Source::default() };
    let ada = Identity {
        issuer: "workforce".into(),
        subject: Person("ada".into()),
        tenant: Some("acme".into()),
        roles: Vec::new(),
        session: None,
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        issued_at: AT / 1000,
        not_before: 0,
        expires_at: AT / 1000 + 60,
        bound_to: None,
        scopes: None,
        handles: Handles::of(&source),
    };
    let mut redis = Redis::start(&[]).await;
    let state = state(redis_engine(redis.address).await, &Clock::new());
    let sessions = Arc::new(Sessions::new(state));
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let opened = sessions.open(&realm, &ada, None, None, AT).await.unwrap();
    let idle = sessions.open(&realm, &ada, None, None, AT).await.unwrap();
    let patient = Realm { rules: Rules { idle_ms: 600_000, ..rules }, ..realm.clone() };
    redis.kill();
    let at = async |realm: &Realm, handle: &str, after_ms| match sessions
        .present(realm, handle, client, AT + after_ms)
        .await
    {
        Ok(Presented::Good { stale, .. }) => if stale { "stale" } else { "good" }.to_owned(),
        Ok(other) => format!("{other:?}"),
        Err(Fault::Silent(_)) => "silent".to_owned(),
        Err(other) => other.to_string(),
    };
    assert_eq!(at(&patient, &opened.handle, FRESH_MS - 1).await, "good");
    assert_eq!(at(&patient, &opened.handle, FRESH_MS).await, "stale");
    assert_eq!(at(&patient, &opened.handle, GRACE_MS - 1).await, "stale");
    assert_eq!(at(&patient, &opened.handle, GRACE_MS).await, "silent");
    // It may have been in use elsewhere, so that nobody is told that it is over for that.
    assert_eq!(at(&realm, &idle.handle, 29_999).await, "stale");
    assert_eq!(
        at(&Realm { rules: Rules { idle_ms: 5_000, ..rules }, ..realm.clone() }, &idle.handle, 40_000).await,
        "silent"
    );
    // What was ended or changed here is not remembered.
    sessions.forget(&sessions.key_of(&realm, &opened.handle).unwrap());
    assert_eq!(at(&patient, &opened.handle, FRESH_MS).await, "silent");
}

/// Sessions and families can be read, and who of them was ended cannot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_only_the_revocations_are_gone_at_the_start_nobody_is_served_or_refreshed() {
    let mut redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let (gateway, _upstream) = stage::gateway(&[in_redis(redis.address, "revocations")]).await;
    let held = hold(&gateway).await;
    let shown = async |gateway: &Gateway| gateway.get(SESSION).header("cookie", &held.cookie).send().await;
    assert_eq!(shown(&gateway).await.status, 200);
    redis.kill();
    let gateway = gateway.restart().await;
    come_again("whose a session is", &shown(&gateway).await);
    come_again("a refresh", &families::refresh(&gateway, &held.refresh).await);
    redis.restart().await;
    stage::ready(&gateway).await;
    assert_eq!(shown(&gateway).await.status, 200);
    assert_eq!(families::refresh(&gateway, &held.refresh).await.status, 200);
}

/// The family has ended in its own store, and nobody could be told; or whoever stole the token left between the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_theft_whose_mark_is_missing_is_marked_with_the_next_token_that_is_shown() {
    let mut redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let upstream = Upstream::start().await;
    let bundle = stage::bundle(&upstream, &[in_redis(redis.address, "revocations")]);
    unhurried(&bundle);
    let quick = "tokens: {exchange: [workforce], refresh: {reuse_leeway: 1s, clock_skew: 0s}}";
    bundle.replace("tokens: {exchange: [workforce]}", quick);
    let gateway = Gateway::start(bundle).await;
    stage::ready(&gateway).await;
    let family = open_family(&gateway).await;
    let first = families::text(&family, "refresh_token");
    let second = families::text(&families::refresh(&gateway, &first).await, "refresh_token");
    let newest = families::refresh(&gateway, &second).await;
    let (third, access) = (families::text(&newest, "refresh_token"), families::text(&newest, "access_token"));
    redis.kill();
    gateway
        .until("the first token comes back too late", async |gateway| {
            families::refresh(gateway, &first).await.status == 400
        })
        .await;
    assert_eq!(families::held(&gateway, &access).await, "200", "nobody could be told");
    redis.restart().await;
    stage::ready(&gateway).await;
    gateway
        .until("its mark is set", async |gateway| {
            assert_eq!(families::refresh(gateway, &third).await.status, 400);
            families::held(gateway, &access).await == "401 session.revoked"
        })
        .await;
}
