//! Caps on connections, and what does not count against them.
use super::fixture::*;
use crate::serve::limits::Rejection;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_holds_so_many_connections_and_no_more() {
    let mut few = settings(modern());
    few.connections_per_ip = 2;
    let gate = Gate::open(few).await;
    let (first, _second) = (gate.h1().await, gate.h1().await);
    one_more_is_closed(&gate).await;
    assert_eq!(*gate.front.rejections.lock().unwrap(), [Rejection::PerAddress]);
    drop(first);
    until(|| gate.drain.live() == 1).await;
    assert_eq!(ask(&mut gate.h1().await, &get("/", "main.example")).await.unwrap().status(), "200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_hop_is_not_counted() {
    let mut few = settings(modern());
    few.connections_per_ip = 1;
    few.trusted = vec!["127.0.0.0/8".parse().unwrap()];
    let gate = Gate::open(few).await;
    let (_first, mut second) = (gate.h1().await, gate.h1().await);
    assert_eq!(ask(&mut second, &get("/", "main.example")).await.unwrap().status(), "200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_total_is_kept_and_given_back() {
    let gate = Gate::open_with(settings(modern()), 2, Some("main")).await;
    let (first, mut second) = (gate.h1().await, gate.h1().await);
    one_more_is_closed(&gate).await;
    assert_eq!(*gate.front.rejections.lock().unwrap(), [Rejection::Total]);
    assert_eq!(ask(&mut second, &get("/", "main.example")).await.unwrap().status(), "200");
    drop(first);
    until(|| gate.drain.live() == 1).await;
    assert_eq!(ask(&mut gate.h1().await, &get("/", "main.example")).await.unwrap().status(), "200");
}

async fn one_more_is_closed(gate: &Gate) {
    // So fast that the reset may arrive before the client has even looked at its new connection.
    if let Ok(mut tcp) = tokio::net::TcpStream::connect(gate.address).await {
        assert!(closed(&mut tcp).await);
    }
    until(|| !gate.front.rejections.lock().unwrap().is_empty()).await;
}
