//! Handles that are replaced: the same successor for all who ask at once, and the end for who comes late.
use super::*;
use crate::harness::{PATIENCE, Redis};
use crate::live::{App, echoes, websocket};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// Replaced as often as it may be: a second of leeway, so that two seconds lie between two handles.
const QUICK: &str = "cookie: __Host-sid, exchange: [workforce], rotate: every_use, reuse_leeway: 1s";

/// Uses a session until an answer hands out another handle.
async fn next(gateway: &Gateway, cookie_now: &str) -> String {
    let next = std::sync::OnceLock::new();
    gateway
        .until("another handle", async |gateway| {
            let reply = me(gateway, cookie_now).send().await;
            assert_eq!(reply.verdict(), "200");
            cookie(&reply).is_some_and(|handed| next.set(handed).is_ok())
        })
        .await;
    next.into_inner().unwrap()
}

#[tokio::test]
async fn twenty_at_once_get_one_successor() {
    let (gateway, _upstream) = gateway(QUICK).await;
    let first = open(&gateway).await;
    let second = next(&gateway, &first).await;
    assert_ne!(first, second);
    let answers: Vec<_> =
        (0..20).map(|n| if n % 2 == 0 { me(&gateway, &first) } else { me(&gateway, &first).h2() }).collect();
    for answer in futures(answers).await {
        assert_eq!((answer.verdict().as_str(), cookie(&answer).as_ref()), ("200", Some(&second)));
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"), "no cache keeps it");
    }
    assert_eq!(me(&gateway, &second).send().await.verdict(), "200");
}

/// Sends all at once.
async fn futures(calls: Vec<Call<'_>>) -> Vec<Reply> {
    let mut running: Vec<_> = calls.into_iter().map(|call| Box::pin(call.send())).collect();
    let mut replies = Vec::new();
    std::future::poll_fn(|cx| {
        running.retain_mut(|call| match call.as_mut().poll(cx) {
            std::task::Poll::Ready(reply) => {
                replies.push(reply);
                false
            }
            std::task::Poll::Pending => true,
        });
        if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    replies
}

#[tokio::test]
async fn a_copy_that_comes_back_late_ends_the_session_for_both() {
    let (gateway, _upstream) = gateway(QUICK).await;
    let stolen = open(&gateway).await;
    let own = next(&gateway, &stolen).await;
    assert_eq!(me(&gateway, &own).send().await.verdict(), "200");
    let thief = until_refused(&gateway, &stolen).await;
    assert_eq!(thief.verdict(), "401 session.reused");
    assert_eq!(me(&gateway, &own).send().await.verdict(), "401 session.revoked", "the thief may be either of them");
    let entry = gateway.outcome(&thief.header("x-request-id").unwrap()).await;
    let cause = entry["cause"].as_str().unwrap();
    assert!(cause.matches("127.0.0.1").count() == 2 && cause.contains("session `"), "{cause}");
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("moat_session_events_total{event=\"reused\"} 1"));
    assert!(metrics.contains("moat_session_reuse_total{tenant=\"acme\"} 1"));
}

/// What another replica has read goes by no longer than a replaced handle is good.
#[tokio::test]
async fn a_copy_is_found_as_early_at_another_replica() {
    let (upstream, redis) = (Upstream::start().await, Redis::start(&[]).await);
    let here = Gateway::start(shared(&upstream, &redis, "")).await;
    let there = Gateway::start(shared(&upstream, &redis, &here.bundle.read("jwks.json"))).await;
    let stolen = open(&here).await;
    let own = next(&here, &stolen).await;
    assert_eq!(me(&there, &stolen).send().await.verdict(), "200", "its successor has not come back");
    assert_eq!(me(&here, &own).send().await.verdict(), "200");
    let in_use = Instant::now();
    let thief = until_refused(&there, &stolen).await;
    assert_eq!(thief.verdict(), "401 session.reused");
    let late = in_use.elapsed();
    assert!(late < Duration::from_secs(3), "the copy was served for {late:?}");
    assert_eq!(until_refused(&here, &own).await.verdict(), "401 session.revoked");
}

/// One of two that share a Redis and believe one issuer.
fn shared(upstream: &Upstream, redis: &Redis, key_set: &str) -> Bundle {
    let mut bundle = Bundle::standard(upstream.address);
    held(&mut bundle, QUICK);
    bundle.share(redis.address, "revocations, sessions");
    if !key_set.is_empty() {
        bundle.write("jwks.json", key_set);
        bundle.replace("instance: test-1", "instance: test-2");
    }
    bundle
}

#[tokio::test]
async fn a_kill_between_two_handles_logs_nobody_out() {
    let (mut gateway, _upstream) = gateway(QUICK).await;
    let first = open(&gateway).await;
    let second = next(&gateway, &first).await;
    gateway.kill();
    let gateway = gateway.restart().await;
    // Whether the row has heard of it or not.
    assert_eq!(me(&gateway, &second).send().await.verdict(), "200");
    assert_eq!(me(&gateway, &second).send().await.verdict(), "200");
}

#[tokio::test]
async fn an_application_cannot_set_our_cookie() {
    let upstream = Upstream::answering(|_| {
        let mut response = http::Response::new(http_body_util::Full::default());
        let headers = response.headers_mut();
        headers.append("set-cookie", "__Host-sid=planted; Path=/; Secure".parse().unwrap());
        headers.append("set-cookie", "theme=dark; Path=/".parse().unwrap());
        response
    })
    .await;
    let mut bundle = Bundle::standard(upstream.address);
    held(&mut bundle, QUICK);
    let gateway = Gateway::start(bundle).await;
    let first = open(&gateway).await;
    let second = next(&gateway, &first).await;
    assert_ne!(second, "__Host-sid=planted");
    let set = me(&gateway, &second).send().await.header("set-cookie").unwrap();
    assert!(set.starts_with("theme=dark") && !set.contains("__Host-sid"), "{set}");
}

#[tokio::test]
async fn a_tenant_is_stricter() {
    let (gateway, _upstream) = with(|bundle| {
        held(bundle, "cookie: __Host-sid, exchange: [workforce], idle: 1h, absolute: 2h");
        bundle.replace("  acme: {class: standard}", "  acme: {class: standard, session: {absolute: 2s}}");
    })
    .await;
    let cookie = open(&gateway).await;
    assert_eq!(me(&gateway, &cookie).send().await.verdict(), "200");
    let over = until_refused(&gateway, &cookie).await;
    assert_eq!(over.verdict(), "401 session.expired");
}

/// Wherever the copy is shown: it counts, it is told as what it is, and what the session has open is closed.
#[tokio::test]
async fn a_copy_gives_itself_away_at_the_gateways_own_resources_too() {
    const REVOKED: &[u8] = b"\x88\x11\x03\xf0session.revoked";
    let app = App::start().await;
    let gateway = app
        .gateway(|bundle| {
            held(bundle, QUICK);
            bundle.replace("sessions:\n", "sessions:\n  totp: {issuer: North Lane}\n");
            bundle.replace("paths: [/me]", "paths: [/me, \"/me/**\"]");
            unhurried(bundle);
        })
        .await;
    for resource in ["session", "sessions", "totp"] {
        let stolen = open(&gateway).await;
        let own = next(&gateway, &stolen).await;
        assert_eq!(me(&gateway, &own).send().await.verdict(), "200");
        let mut socket = websocket(&gateway, "acme", "/me/socket", &format!("Cookie: {own}\r\n")).await;
        echoes(&mut socket, &app).await;
        let (url, told) = (format!("https://acme.localhost/.moat/{resource}"), std::sync::OnceLock::new());
        gateway
            .until("the copy is too late", async |gateway| {
                let reply = gateway.get(&url).header("cookie", &stolen).send().await;
                reply.status == 401 && told.set(reply).is_ok()
            })
            .await;
        let told = told.into_inner().unwrap();
        assert_eq!(told.verdict(), "401 session.reused", "{resource}");
        let entry = gateway.outcome(&told.header("x-request-id").unwrap()).await;
        assert_eq!(entry["facts"]["subject"], "someone@acme", "{entry:#}");
        let mut frame = vec![0; REVOKED.len()];
        timeout(PATIENCE, socket.read_exact(&mut frame)).await.expect("it stays open").unwrap();
        assert_eq!(frame, REVOKED, "{resource}");
        assert_eq!(app.hears().await.first(), Some(&0x88));
        assert_eq!(me(&gateway, &own).send().await.verdict(), "401 session.revoked");
    }
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("moat_session_reuse_total{tenant=\"acme\"} 3"), "{metrics}");
}
