//! Requests under way: counted from their admission to their end, whatever that end is.
use super::{limited, over, value};
use crate::harness::{Bundle, Gateway, Scripted, read_head, read_until};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};

const HELD: &str = "moat_ratelimit_held{limit=\"one\"}";

/// A gateway with `/one`, which one request may use at a time, before an application that answers when it is let.
async fn gateway(leave: Arc<Semaphore>, reached: Arc<Notify>) -> (Gateway, Scripted) {
    gateway_with(leave, reached, |bundle| limited(bundle, "one", "{key: [client.ip_prefix], concurrent: 1}")).await
}

/// The same with limits of one's own.
async fn gateway_with(
    leave: Arc<Semaphore>,
    reached: Arc<Notify>,
    change: impl FnOnce(&Bundle),
) -> (Gateway, Scripted) {
    let script = Scripted::start(move |_, mut stream| {
        let (leave, reached) = (leave.clone(), reached.clone());
        async move {
            while read_head(&mut stream).await.starts_with("GET") {
                reached.notify_one();
                leave.acquire().await.unwrap().forget();
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    })
    .await;
    let bundle = Bundle::standard(script.address);
    bundle.replace("first_byte_timeout: 1s", "first_byte_timeout: 20s");
    change(&bundle);
    (Gateway::start(bundle).await, script)
}

#[tokio::test]
async fn a_second_request_is_refused_while_the_first_is_under_way() {
    for h2 in [false, true] {
        let (leave, reached) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
        let (gateway, _script) = gateway(leave.clone(), reached.clone()).await;
        let one = || over(h2, gateway.get("https://acme.localhost/one")).send();
        let first = async {
            let reply = one().await;
            assert_eq!(reply.verdict(), "200", "h2: {h2}");
            assert_eq!(reply.header("ratelimit").as_deref(), Some("\"one\";r=0"));
            assert_eq!(reply.header("ratelimit-policy").as_deref(), Some("\"one\";q=1;qu=\"concurrent-requests\""));
        };
        let second = async {
            reached.notified().await;
            let reply = one().await;
            assert_eq!(reply.verdict(), "429 quota.exceeded", "h2: {h2}");
            assert_eq!(reply.header("retry-after").as_deref(), Some("1"));
            assert_eq!(value(&gateway, HELD).await, Some(1.0));
            leave.add_permits(1);
        };
        tokio::join!(first, second);
        gateway.until("the place is given back", async |g: &Gateway| value(g, HELD).await == Some(0.0)).await;
        leave.add_permits(1);
        assert_eq!(one().await.verdict(), "200", "h2: {h2}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_back() {
    for h2 in [false, true] {
        let (leave, reached) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
        let (gateway, _script) = gateway(leave.clone(), reached.clone()).await;
        {
            let call = over(h2, gateway.get("https://acme.localhost/one")).send();
            tokio::select! {
                reply = call => panic!("answered: {reply:?}"),
                () = reached.notified() => {}
            }
        }
        gateway.until("the place is given back", async |g: &Gateway| value(g, HELD).await == Some(0.0)).await;
        leave.add_permits(2);
        assert_eq!(over(h2, gateway.get("https://acme.localhost/one")).send().await.verdict(), "200", "h2: {h2}");
    }
}

#[tokio::test]
async fn a_websocket_holds_its_place_to_its_end_and_over_a_reload() {
    let script = Scripted::start(|_, mut stream| async move {
        if read_head(&mut stream).await.contains("pgrade: websocket") {
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.read_u8().await;
        } else {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let bundle = Bundle::standard(script.address);
    limited(&bundle, "one", "{key: [client.ip_prefix], concurrent: 1}");
    let gateway = Gateway::start(bundle).await;
    let mut socket = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    let ask = "GET /one HTTP/1.1\r\nHost: acme.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(ask.as_bytes()).await.unwrap();
    assert!(read_until(&mut socket, "\r\n\r\n").await.starts_with("HTTP/1.1 101"));
    let one = || gateway.get("https://acme.localhost/one").send();
    assert_eq!(one().await.verdict(), "429 quota.exceeded");

    let limits = gateway.bundle.read("policies/rate-limits.yaml");
    gateway.bundle.write("policies/rate-limits.yaml", &limits.replace("concurrent: 1", "concurrent: 1, rate: 50/s"));
    gateway
        .until("the new limits are in force", async |g: &Gateway| {
            let reply = g.get("https://acme.localhost/one").send().await;
            value(g, "moat_config_loads_total{result=\"ok\"}").await.is_none_or(|loads| loads >= 1.0)
                && reply.verdict() == "429 quota.exceeded"
        })
        .await;
    drop(socket);
    gateway
        .until("the place is given back", async |g: &Gateway| {
            g.get("https://acme.localhost/one").send().await.verdict() == "200"
        })
        .await;
}

/// One cap for each class of tenants: what a small customer may not do, a great one may.
#[tokio::test]
async fn each_class_of_tenants_has_a_cap_of_its_own() {
    let (leave, reached) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let (gateway, _script) = gateway_with(leave.clone(), reached.clone(), |bundle| {
        bundle.replace("  globex: {class: standard}", "  globex: {class: great}");
        limited(bundle, "one", "{key: [tenant], concurrent: {standard: 1, great: 2}}");
    })
    .await;
    let ask = |tenant: &str| gateway.get(&format!("https://{tenant}.localhost/one")).send();
    let held = async |count: f64| gateway.until("it is held", async |g| value(g, HELD).await == Some(count)).await;
    let test = async {
        held(2.0).await;
        let reply = ask("acme").await;
        assert_eq!(reply.verdict(), "429 quota.exceeded");
        assert_eq!(reply.header("ratelimit-policy").as_deref(), Some("\"one\";q=1;qu=\"concurrent-requests\""));
        let (more, ()) = tokio::join!(ask("globex"), async {
            held(3.0).await;
            let reply = ask("globex").await;
            assert_eq!(reply.verdict(), "429 quota.exceeded");
            assert_eq!(reply.header("ratelimit-policy").as_deref(), Some("\"one\";q=2;qu=\"concurrent-requests\""));
            leave.add_permits(3);
        });
        assert_eq!(more.verdict(), "200");
    };
    let (small, great, ()) = tokio::join!(ask("acme"), ask("globex"), test);
    assert_eq!((small.verdict().as_str(), great.verdict().as_str()), ("200", "200"));
}
