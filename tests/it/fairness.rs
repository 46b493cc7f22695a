//! A slow application: one tenant's flood leaves room for another, and a limit follows what the application can take.
use crate::harness::{Bundle, Gateway};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// An application whose answers to `acme` are held back until they are released, and others for as long as is said.
struct Slow {
    address: SocketAddr,
    held: Arc<AtomicUsize>,
    release: watch::Sender<bool>,
    pause_ms: Arc<AtomicU64>,
}

impl Slow {
    async fn start(holds: &'static str) -> Slow {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let slow = Slow {
            address: socket.local_addr().unwrap(),
            held: Arc::default(),
            release: watch::Sender::new(false),
            pause_ms: Arc::default(),
        };
        let (held, release, pause_ms) = (slow.held.clone(), slow.release.clone(), slow.pause_ms.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = socket.accept().await.unwrap();
                let (held, release, pause_ms) = (held.clone(), release.clone(), pause_ms.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (held, mut release, pause_ms) = (held.clone(), release.subscribe(), pause_ms.clone());
                    async move {
                        let host = request.headers()["host"].to_str().unwrap();
                        if !holds.is_empty() && host.starts_with(holds) {
                            held.fetch_add(1, Ordering::SeqCst);
                            release.wait_for(|released| *released).await.unwrap();
                        }
                        // What is simulated here is an application that works for so long.
                        if let pause @ 1.. = pause_ms.load(Ordering::SeqCst) {
                            let mut work = tokio::time::interval(Duration::from_millis(pause));
                            work.tick().await;
                            work.tick().await;
                        }
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("done"))))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        slow
    }
}

/// A gateway in front of it, with more to say about the upstream.
async fn gateway(slow: &Slow, more: &str) -> Gateway {
    let bundle = Bundle::standard(slow.address);
    bundle.replace("first_byte_timeout: 1s, total_timeout: 30s}", &format!("first_byte_timeout: 60s}}\n    {more}"));
    Gateway::start(bundle).await
}

async fn connect(gateway: &Gateway, host: &str) -> SendRequest<Empty<Bytes>> {
    let io = TokioIo::new(gateway.tls(host, &[b"h2"]).await);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Status and `Retry-After` of a GET.
async fn get(mut sender: SendRequest<Empty<Bytes>>, host: &str) -> (u16, Option<String>) {
    sender.ready().await.unwrap();
    let request = Request::get(format!("https://{host}/page")).body(Empty::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    answer.into_body().collect().await.unwrap();
    (status, after)
}

/// The value of a series, 0 where there is none.
async fn metric(gateway: &Gateway, series: &str) -> f64 {
    let text = gateway.metrics().await;
    let value = |line: &str| line.strip_prefix(series)?.trim().parse().ok();
    text.lines().find_map(value).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_one_tenant_keeps_no_other_out() {
    let slow = Slow::start("acme").await;
    let gateway = gateway(&slow, "max_in_flight: 40\n    fairness: {by: tenant}").await;
    let mut flood = Vec::new();
    for _ in 0..2 {
        let sender = connect(&gateway, "acme.localhost").await;
        flood.extend((0..100).map(|_| tokio::spawn(get(sender.clone(), "acme.localhost"))));
    }
    let refused = "moat_upstream_share_refused_total{tenant=\"acme\",upstream=\"app\"}";
    gateway.until("the flood has arrived", async |gateway| metric(gateway, refused).await == 164.0).await;
    assert_eq!(slow.held.load(Ordering::SeqCst), 36, "all but the reserve");

    // Not one of them has been answered, and the other tenant is served: four at a time, which is the reserve.
    let other = connect(&gateway, "globex.localhost").await;
    for _ in 0..10 {
        let few: Vec<_> = (0..4).map(|_| tokio::spawn(get(other.clone(), "globex.localhost"))).collect();
        for one in few {
            assert_eq!(one.await.unwrap(), (200, None));
        }
    }
    let status = gateway.admin("/status.json").await.json();
    let app = &status["upstreams"]["shown"][0];
    assert_eq!((app["limit"].as_u64(), app["in_flight"].as_u64()), (Some(40), Some(36)), "{app}");
    assert_eq!(app["holdings"][0]["tenant"], "acme", "{app}");
    assert_eq!(app["holdings"][0]["held"], 36, "{app}");

    slow.release.send_replace(true);
    let mut answers = Vec::new();
    for one in flood {
        answers.push(one.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|answer| answer.0 == 200).count(), 36);
    assert_eq!(answers.iter().filter(|answer| **answer == (503, Some("1".to_owned()))).count(), 164);
    assert_eq!(metric(&gateway, "moat_upstream_circuit_open_total{upstream=\"app\"}").await, 0.0);
}

/// The same without shares, so that the test above proves something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_shares_the_flood_keeps_everybody_out() {
    let slow = Slow::start("acme").await;
    let gateway = gateway(&slow, "max_in_flight: 40").await;
    let sender = connect(&gateway, "acme.localhost").await;
    let flood: Vec<_> = (0..100).map(|_| tokio::spawn(get(sender.clone(), "acme.localhost"))).collect();
    let full = "moat_upstream_circuit_open_total{upstream=\"app\"}";
    gateway.until("the flood has arrived", async |gateway| metric(gateway, full).await == 60.0).await;
    let other = connect(&gateway, "globex.localhost").await;
    assert_eq!(get(other, "globex.localhost").await, (503, Some("1".to_owned())));
    slow.release.send_replace(true);
    for one in flood {
        one.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_falls_while_the_application_is_slow_and_rises_when_it_has_healed() {
    let slow = Slow::start("").await;
    slow.pause_ms.store(60, Ordering::SeqCst);
    let gateway = gateway(&slow, "max_in_flight: 60\n    adaptive: {min: 6}").await;
    let stop = Arc::new(AtomicBool::new(false));
    let sender = connect(&gateway, "acme.localhost").await;
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let (sender, stop) = (sender.clone(), stop.clone());
            tokio::spawn(async move {
                let mut shed = 0u64;
                while !stop.load(Ordering::SeqCst) {
                    let (status, after) = get(sender.clone(), "acme.localhost").await;
                    assert!(matches!((status, after.as_deref()), (200, None) | (503, Some("1"))), "{status} {after:?}");
                    shed += u64::from(status == 503);
                    // As somebody does who was asked to come back later.
                    if status == 503 {
                        let mut patience = tokio::time::interval(Duration::from_millis(50));
                        patience.tick().await;
                        patience.tick().await;
                    }
                }
                shed
            })
        })
        .collect();
    let limit = "moat_upstream_limit{upstream=\"app\"}";
    gateway
        .until("some hundreds are answered", async |gateway| {
            let text = gateway.metrics().await;
            let counts = text.lines().filter(|line| line.contains("request_duration_seconds_count"));
            counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() > 400.0
        })
        .await;
    let before = metric(&gateway, limit).await;
    assert!(before >= 30.0, "well: {before}");
    slow.pause_ms.store(600, Ordering::SeqCst);
    gateway.until("the limit falls", async |gateway| metric(gateway, limit).await <= 12.0).await;
    slow.pause_ms.store(60, Ordering::SeqCst);
    gateway.until("the limit rises", async |gateway| metric(gateway, limit).await >= 40.0).await;
    stop.store(true, Ordering::SeqCst);
    let mut shed = 0;
    for client in clients {
        shed += client.await.unwrap();
    }
    let counted = metric(&gateway, "moat_upstream_shed_total{reason=\"latency\",upstream=\"app\"}").await
        + metric(&gateway, "moat_upstream_shed_total{reason=\"anonymous\",upstream=\"app\"}").await;
    assert_eq!(counted, shed as f64);
    assert!(shed > 0);
}
