//! HTTP/2 connections: requests, goodbyes, and clients that misbehave.
use super::fixture::*;
use crate::config::settings::Listener;
use crate::serve::limits::Rejection;
use bytes::Bytes;
use decide::refusal::Code;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use std::time::Duration;
use tokio::task::JoinHandle;

type Link = JoinHandle<Result<(), h2::Error>>;

async fn connect(gate: &Gate) -> (SendRequest<Bytes>, Link) {
    let tls = gate.tls(&client(&["h2"]), "main.example").await.unwrap();
    let (requests, link) = h2::client::handshake(tls).await.unwrap();
    let link = tokio::spawn(link);
    (requests.ready().await.unwrap(), link)
}

fn send(
    requests: &mut SendRequest<Bytes>,
    path: &str,
    headers: &[(&str, &str)],
    last: bool,
) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
    let mut request = http::Request::post(format!("https://main.example{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    requests.send_request(request.body(()).unwrap(), last)
}

async fn read(answer: ResponseFuture) -> Result<(http::response::Parts, String), h2::Error> {
    let (head, mut body) = answer.await?.into_parts();
    let mut text = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        text.extend(piece);
    }
    Ok((head, String::from_utf8(text).unwrap()))
}

/// How the connection ended, within the patience of a test.
async fn ended(link: Link) -> Result<(), h2::Error> {
    tokio::time::timeout(Duration::from_secs(20), link).await.expect("the connection ends").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_share_a_connection_that_the_proxy_knows() {
    let gate = Gate::open(settings(modern())).await;
    let (mut requests, _link) = connect(&gate).await;
    let mut answers = Vec::new();
    for n in 0..50 {
        let (answer, mut body) = send(&mut requests, &format!("/{n}"), &[], false).unwrap();
        body.send_data(Bytes::from(vec![b'x'; 2_000]), true).unwrap();
        answers.push((n, tokio::spawn(read(answer))));
        requests = requests.ready().await.unwrap();
    }
    let mut connections = std::collections::BTreeSet::new();
    for (n, answer) in answers {
        let (head, text) = answer.await.unwrap().unwrap();
        assert_eq!((head.status.as_u16(), text), (200, format!("POST /{n} {}", "x".repeat(2_000))));
        assert!(head.headers["x-tls"].to_str().unwrap().starts_with("1.3 X25519MLKEM768"));
        connections.insert(head.headers["x-conn"].clone());
    }
    assert_eq!(connections.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limits_of_the_listener_are_announced() {
    let mut small = settings(modern());
    small.h2_concurrent_streams = 3;
    let gate = Gate::open(small).await;
    let (mut requests, _link) = connect(&gate).await;
    let (answer, _) = send(&mut requests, "/", &[], true).unwrap();
    read(answer).await.unwrap();
    assert_eq!(requests.current_max_send_streams(), 3);
    let (answer, _) = send(&mut requests, "/", &[("x-big", &"a".repeat(300_000))], true).unwrap();
    let refused = read(answer).await.map(|(head, _)| head.status.as_u16());
    assert!(matches!(refused, Ok(431) | Err(_)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_says_goaway_and_lets_streams_finish() {
    let gate = Gate::open(settings(modern())).await;
    let (mut requests, link) = connect(&gate).await;
    let (slow, _) = send(&mut requests, "/slow", &[], true).unwrap();
    let (quick, _) = send(&mut requests, "/quick", &[], true).unwrap();
    read(quick).await.unwrap();
    gate.drain.begin();
    until(|| {
        let mut waiting = requests.clone();
        let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
        matches!(waiting.poll_ready(context), std::task::Poll::Ready(Err(_)))
    })
    .await;
    gate.release.notify_one();
    assert_eq!(read(slow).await.unwrap().1, "POST /slow ");
    drop(requests);
    ended(link).await.unwrap();
    assert_eq!(gate.drain.finish(Duration::from_secs(20)).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_told_goodbye() {
    let mut settings = settings(modern());
    settings.idle_timeout = Duration::from_millis(100);
    let gate = Gate::open(settings).await;
    let (mut requests, link) = connect(&gate).await;
    let (answer, _) = send(&mut requests, "/", &[], true).unwrap();
    read(answer).await.unwrap();
    ended(link).await.unwrap();
    until(|| gate.drain.live() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_keeps_resetting_streams_is_cut_off() {
    let mut settings = settings(modern());
    settings.h2_resets_per_second = 10;
    let gate = Gate::open(settings).await;
    let (mut requests, link) = connect(&gate).await;
    for _ in 0..200 {
        let Ok(ready) = requests.ready().await else { break };
        requests = ready;
        let Ok((answer, mut body)) = send(&mut requests, "/slow", &[], false) else { break };
        body.send_reset(Reason::CANCEL);
        drop(answer);
        requests = match requests.ready().await {
            Ok(ready) => ready,
            Err(_) => break,
        };
        tokio::task::yield_now().await;
    }
    let error = ended(link).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{error}");
    until(|| *gate.front.rejections.lock().unwrap() == [Rejection::Abuse]).await;
    until(|| gate.drain.live() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_cancels_now_and_then_is_not() {
    let gate = Gate::open(settings(modern())).await;
    let (mut requests, _link) = connect(&gate).await;
    for _ in 0..20 {
        let (answer, mut body) = send(&mut requests, "/slow", &[], false).unwrap();
        body.send_reset(Reason::CANCEL);
        drop(answer);
        let (answer, _) = send(&mut requests, "/", &[], true).unwrap();
        assert_eq!(read(answer).await.unwrap().0.status, 200);
        requests = requests.ready().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_counted_and_end_the_connection() {
    let gate = Gate::open(settings(modern())).await;
    let (mut requests, link) = connect(&gate).await;
    let mut sent = 0;
    for _ in 0..40 {
        let Ok(ready) = requests.ready().await else { break };
        requests = ready;
        let Ok((answer, _)) = send(&mut requests, "/", &[("host", "other.example")], true) else { break };
        sent += 1;
        if read(answer).await.map_or(true, |(head, _)| head.status != 400) {
            break;
        }
        requests = match requests.ready().await {
            Ok(ready) => ready,
            Err(_) => break,
        };
    }
    assert!((17..=19).contains(&sent), "{sent}");
    assert_eq!(ended(link).await.unwrap_err().reason(), Some(Reason::ENHANCE_YOUR_CALM));
    until(|| *gate.front.rejections.lock().unwrap() == [Rejection::Abuse]).await;
    let refused = gate.front.refused.lock().unwrap();
    assert_eq!(refused.len(), 18, "each of them, and the connection's end");
    assert!(refused.iter().all(|(refusal, _)| refusal.code == Code::RequestMalformed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_speaks_http2_is_not_waited_for() {
    let mut settings = settings(modern());
    settings.header_timeout = Duration::from_millis(100);
    let gate = Gate::open(settings).await;
    let mut tls = gate.tls(&client(&["h2"]), "main.example").await.unwrap();
    assert!(closed(&mut tls).await);
    until(|| gate.drain.live() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_larger_than_every_window_pass_both_ways() {
    let gate = Gate::open(settings(modern())).await;
    let (mut requests, _link) = connect(&gate).await;
    let (answer, mut body) = send(&mut requests, "/big", &[], false).unwrap();
    let text = "0123456789abcdef".repeat(200_000);
    let mut left = Bytes::from(text.clone());
    let sender = tokio::spawn(async move {
        while !left.is_empty() {
            body.reserve_capacity(left.len());
            let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
            let piece = left.split_to(room.min(left.len()));
            body.send_data(piece, left.is_empty()).unwrap();
        }
    });
    let (head, echoed) = read(answer).await.unwrap();
    sender.await.unwrap();
    assert_eq!(head.status, 200);
    assert!(echoed == format!("POST /big {text}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stalls_ends_with_the_upstreams_patience() {
    let gate = Gate::open(settings(modern())).await;
    let (mut requests, _link) = connect(&gate).await;
    let (answer, mut body) = send(&mut requests, "/impatient", &[], false).unwrap();
    body.send_data(Bytes::from_static(b"half"), false).unwrap();
    let outcome = read(answer).await.map(|(head, _)| head.status.as_u16());
    assert!(matches!(outcome, Ok(502 | 504) | Err(_)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_has_so_many_requests_under_way_and_no_more() {
    let gate = Gate::open(Listener { connections_per_ip: 1, ..settings(modern()) }).await;
    let (mut requests, _link) = connect(&gate).await;
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..4 {
        slow.spawn(read(send(&mut requests, "/slow", &[], true).unwrap().0));
        requests = requests.ready().await.unwrap();
    }
    let fifth = read(send(&mut requests, "/fifth", &[], true).unwrap().0).await.unwrap();
    assert_eq!(fifth.0.status, 429);
    assert_eq!(gate.front.refused.lock().unwrap().last().unwrap().0.code, Code::QuotaExceeded);
    for _ in 0..4 {
        gate.release.notify_one();
        assert_eq!(slow.join_next().await.unwrap().unwrap().unwrap().1, "POST /slow ");
    }
    // A place is given back a moment after the answer's last byte.
    let mut after = 429;
    for _ in 0..100 {
        requests = requests.ready().await.unwrap();
        after = read(send(&mut requests, "/after", &[], true).unwrap().0).await.unwrap().0.status.as_u16();
        if after == 200 {
            break;
        }
    }
    assert_eq!(after, 200);
}
