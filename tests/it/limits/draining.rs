//! What waits for a limit while the gateway drains: it has its turn, and a body that is looked into may still end.
use super::{limited, over, value};
use crate::harness::{Bundle, Gateway, moat, read_until, with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The log is whole, and the process has ended.
fn ended(mut gateway: Gateway) {
    assert_eq!(gateway.stop(), Some(0));
    let verified = moat(gateway.bundle.root(), &["audit", "verify", "state/audit"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

fn drains(gateway: &Gateway) {
    gateway.signal("TERM");
    gateway.wait_for_log("draining", |line| line.to_string().contains("\"draining\""));
}

#[tokio::test]
async fn who_waits_for_its_turn_has_it_though_the_gateway_drains() {
    for h2 in [false, true] {
        let (gateway, upstream) = with(|bundle: &mut Bundle| {
            bundle.replace("drain_timeout: 5s", "drain_timeout: 60s");
            limited(bundle, "slow", "{key: [client.ip_prefix], rate: 1/h, burst: 1, on_exceed: {delay: 5s}}");
        })
        .await;
        let get = || over(h2, gateway.get("https://acme.localhost/slow")).send();
        assert_eq!(get().await.verdict(), "200");
        let (reply, ()) = tokio::join!(get(), async {
            gateway.until("it waits", async |g| value(g, "moat_ratelimit_waiting").await == Some(1.0)).await;
            drains(&gateway);
        });
        assert_eq!(reply.verdict(), "200", "h2: {h2}");
        assert_eq!(upstream.seen().len(), 2);
        ended(gateway);
    }
}

/// A form of which the head has come, and which the gateway has asked for.
const HEAD: &str = "POST /login HTTP/1.1\r\nHost: acme.localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                    Content-Length: 12\r\nExpect: 100-continue\r\n\r\n";

#[tokio::test]
async fn a_body_that_is_looked_into_may_end_though_the_gateway_drains() {
    let (gateway, upstream) = with(|bundle: &mut Bundle| {
        bundle.replace("drain_timeout: 5s", "drain_timeout: 60s");
        limited(bundle, "login", "{key: [form.username_hash], rate: 9/s, burst: 9}");
    })
    .await;
    let mut client = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    client.write_all(HEAD.as_bytes()).await.unwrap();
    assert!(read_until(&mut client, "\r\n\r\n").await.contains(" 100 "), "it is asked for");
    client.write_all(b"username").await.unwrap();
    drains(&gateway);
    client.write_all(b"=ann").await.unwrap();
    let answer = read_until(&mut client, "\r\n\r\n").await;
    assert!(answer.contains(" 200 "), "{answer}");
    assert_eq!(upstream.last().body, &b"username=ann"[..]);
    ended(gateway);
}

#[tokio::test]
async fn a_body_that_never_comes_does_not_hold_up_the_end() {
    let (gateway, upstream) = with(|bundle: &mut Bundle| {
        bundle.replace("drain_timeout: 5s", "drain_timeout: 1s");
        limited(bundle, "login", "{key: [form.username_hash], rate: 9/s, burst: 9}");
    })
    .await;
    let mut client = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    client.write_all(HEAD.as_bytes()).await.unwrap();
    assert!(read_until(&mut client, "\r\n\r\n").await.contains(" 100 "), "it is asked for");
    client.write_all(b"username").await.unwrap();
    drains(&gateway);
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains(" 200 "), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(upstream.seen().len(), 0, "the application has heard of it");
    ended(gateway);
}
