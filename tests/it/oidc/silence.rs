//! Signing in while something is silent: the browser is told to come again, and can.
use super::fake::{Begun, Provider, begin, board, come_back, configure, gateway, session, sign_in};
use crate::harness::{Bundle, Gateway, Redis, Reply, Upstream};
use std::sync::atomic::Ordering;

const HERE: &str = "acme.localhost";

async fn returns(gateway: &Gateway, begun: &Begun) -> Reply {
    come_back(gateway, HERE, &begun.cookie, &format!("code=c&state={}", begun.asked["state"])).await
}

/// A gateway that keeps these kinds in a Redis.
async fn keeping(provider: &Provider, redis: &Redis, kinds: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    configure(&bundle, provider);
    bundle.share(redis.address, kinds);
    (Gateway::start(bundle).await, upstream)
}

fn come_again(reply: &Reply) {
    assert_eq!((reply.verdict(), session(reply)), ("503 gateway.unavailable".to_owned(), None), "{reply:?}");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    assert_eq!(reply.header("set-cookie"), None, "the sign-in is still under way: {reply:?}");
}

async fn back_again(gateway: &Gateway) {
    gateway.until("it is ready", async |gateway: &Gateway| gateway.admin("/readyz").await.status == 200).await;
}

#[tokio::test]
async fn where_the_stores_are_silent_a_sign_in_begins_and_its_end_waits_for_them() {
    let (provider, mut redis) = (Provider::start(false).await, Redis::start(&["--appendonly", "yes"]).await);
    let (gateway, _upstream) = keeping(&provider, &redis, "sign_ins, sessions, revocations").await;
    back_again(&gateway).await;
    redis.kill();
    let begun = begin(&gateway, HERE, "/.moat/login?return_to=/board").await;
    provider.gives(provider.id_token(&begun).signed(&provider.key));
    come_again(&returns(&gateway, &begun).await);
    assert!(provider.asked.lock().unwrap().is_empty(), "the code is not used for nothing");
    // A replica that starts meanwhile does not know who was ended, and does not use the code up either.
    let gateway = gateway.restart().await;
    come_again(&returns(&gateway, &begun).await);
    assert!(provider.asked.lock().unwrap().is_empty());
    redis.restart().await;
    back_again(&gateway).await;
    let reply = returns(&gateway, &begun).await;
    let cookie = format!("__Host-session={}", session(&reply).unwrap_or_else(|| panic!("{reply:?}")));
    assert_eq!((reply.status, board(&gateway, &cookie).await), (303, "200".to_owned()));
    assert_eq!(returns(&gateway, &begun).await.verdict(), "401 session.invalid", "once");
}

#[tokio::test]
async fn where_only_the_sessions_are_gone_the_user_signs_in_anew() {
    let (provider, mut redis) = (Provider::start(false).await, Redis::start(&["--appendonly", "yes"]).await);
    let (gateway, _upstream) = keeping(&provider, &redis, "sessions").await;
    let before = sign_in(&gateway, &provider).await;
    redis.kill();
    let begun = begin(&gateway, HERE, "/.moat/login?return_to=/board").await;
    provider.gives(provider.id_token(&begun).signed(&provider.key));
    come_again(&returns(&gateway, &begun).await);
    redis.restart().await;
    gateway.until("sessions are read", async |gateway| board(gateway, &before).await == "200").await;
    assert_eq!(returns(&gateway, &begun).await.verdict(), "401 session.invalid", "its code was used");
    // Read here before, a session is served without the store; a new one is not opened without it.
    let connected = async |gateway: &Gateway| gateway.metrics().await.contains("moat_state_up{engine=\"redis\"} 1");
    gateway.until("the store is back", connected).await;
    sign_in(&gateway, &provider).await;
}

/// A gateway that was up before its provider has no keys, and its next attempt is far: who comes back from the provider
/// does not pay for that.
#[tokio::test]
async fn keys_that_could_not_be_had_are_fetched_when_the_provider_has_answered() {
    let provider = Provider::without_keys().await;
    let (gateway, _upstream) = gateway(&provider).await;
    let begun = begin(&gateway, HERE, "/.moat/login?return_to=/board").await;
    provider.gives(provider.id_token(&begun).signed(&provider.key));
    come_again(&returns(&gateway, &begun).await);
    assert!(provider.asked.lock().unwrap().is_empty(), "nor is the code used before they can be had");
    let cause = "the keys of issuer `people` could not be had";
    let entry = gateway.audit_entry(|e| e["verdict"] == "gateway.unavailable").await;
    assert!(entry["cause"].as_str().is_some_and(|said| said.starts_with(cause)), "{entry:#}");
    // Each failure doubles the pause: 1, 2, 4, 8 s.
    let tried = async |gateway: &Gateway| {
        gateway.admin("/livez").await;
        provider.keys.wanted.load(Ordering::SeqCst) >= 5
    };
    gateway.until("the pauses are long", tried).await;
    provider.keys.away.store(false, Ordering::SeqCst);
    let reply = returns(&gateway, &begun).await;
    assert_eq!((reply.status, session(&reply).is_some()), (303, true), "{reply:?}");
}
