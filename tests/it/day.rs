//! A day's work of changes in one run, under open-loop load with streams that stay: what was not provoked may not fail.
//!
//! One operator reloads, rotates certificates and upgrades, one after the other; somebody else kills endpoints and
//! starts them again. Arrivals keep their rate whatever becomes of the requests before, so that a pause shows as
//! latency instead of as less load. At the end, the audit log must hold each request exactly once.
mod app;
mod clients;
mod operator;
mod streams;

use crate::harness::{Bundle, Gateway, moat, outcomes};
use app::Endpoint;
use clients::{Clients, Tally};
use operator::{Done, Operator};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use streams::Stream;
use tokio::time::{MissedTickBehavior, interval};

/// Arrivals per second.
const RATE: u32 = 60;
/// Reloads; every tenth is followed by a certificate, every fortieth by a program.
const RELOADS: usize = 200;
/// Time from one change to the next, at the least.
const PACE: Duration = Duration::from_millis(250);
/// Time from one killed endpoint to the next.
const KILLS: Duration = Duration::from_secs(4);

const UPSTREAMS: &str = r#"upstreams:
  app:
    endpoints: [ENDPOINTS]
    http: {connect_timeout: 5s, first_byte_timeout: 20s, total_timeout: 30s}
    health: {path: /healthz, every: 500ms, timeout: 500ms, unhealthy_after: 2, healthy_after: 1}
    outlier: {eject_for: 1s}
    # Where the machine is slow, requests heap up, and more of them meet a killed endpoint than the usual budget has room for.
    retry: {budget: 100%}
  live:
    endpoints: [LIVE]
    http: {connect_timeout: 5s, first_byte_timeout: 20s, idle_timeout: 300s}
"#;

const STREAMS: &str = r#"  streams:
    match: {hosts: ["*.localhost"], paths: ["/live/**"], methods: [GET]}
    upstream: live
    public: "streams that stay"
"#;

fn bundle(app: &[Endpoint], live: &Endpoint) -> Bundle {
    let bundle = Bundle::standard(live.address);
    let yaml = bundle.read("gateway.yaml");
    let start = yaml.find("upstreams:\n").unwrap();
    let end = yaml.find("sessions:\n").unwrap();
    let endpoints: Vec<_> = app.iter().map(|endpoint| endpoint.address.to_string()).collect();
    let upstreams = UPSTREAMS.replace("ENDPOINTS", &endpoints.join(", ")).replace("LIVE", &live.address.to_string());
    bundle.write("gateway.yaml", &format!("{}{upstreams}{}", &yaml[..start], &yaml[end..]));
    bundle.route(STREAMS);
    bundle.replace("drain_timeout: 5s", "drain_timeout: 10m");
    // The machine is slow where the test runs beside others; that is not what is tested.
    bundle.replace(
        "header_timeout: 1s, idle_timeout: 5s, handshake_timeout: 1s",
        "handshake_timeout: 20s, connections_per_ip: 5000",
    );
    bundle
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_changes_fails_no_request_that_was_not_provoked() {
    let mut app = Vec::new();
    for _ in 0..3 {
        app.push(Endpoint::start().await);
    }
    let live = Endpoint::start().await;
    let mut gateway = Arc::new(Gateway::start(bundle(&app, &live)).await);
    let (over, began) = (Arc::new(AtomicBool::new(false)), Instant::now());
    let clients = Arc::new(Clients::new(&gateway));
    let mut kept = Stream::some(&gateway, 6).await;

    let load = tokio::spawn(clients.clone().arrive(RATE, over.clone()));
    let trouble = tokio::spawn(trouble(app, over.clone()));
    let mut operator = Operator::new(&gateway);
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 1..=RELOADS {
        pace.tick().await;
        operator.reload(round).await;
        if round % 10 == 0 {
            operator.rotate().await;
        }
        if round % 40 == 0 {
            operator.upgrade().await;
            kept.extend(Stream::some(&gateway, 2).await);
        }
    }
    over.store(true, Ordering::Relaxed);
    let done = operator.end();
    let mut tally = load.await.unwrap();
    let kills = trouble.await.unwrap();
    tally.judge(&kills);
    let took = began.elapsed();
    let mut lost = Vec::new();
    let streams = kept.len();
    for stream in kept {
        match stream.end().await {
            Ok(id) => tally.ids.push(id),
            Err(why) => lost.push(why),
        }
    }
    drop(clients);
    let gateway = Arc::get_mut(&mut gateway).unwrap();
    assert_eq!(gateway.stop(), Some(0), "the first process ended in order");
    report(&mut tally, &done, took, kills.len(), (streams, lost.len()));

    assert!(lost.is_empty(), "{lost:#?}");
    let failures: Vec<_> = tally.failures.iter().map(|failure| explained(gateway, failure)).collect();
    assert!(failures.is_empty(), "{} unprovoked failures: {failures:#?}", failures.len());
    assert_eq!((done.reloads, done.certificates, done.upgrades), (200, 20, 5));
    assert!(kills.len() >= 5 && tally.provoked <= kills.len() * 10, "{} of {} kills", tally.provoked, kills.len());
    recorded(gateway, &tally);
}

/// A failure with what the log says about it.
fn explained(gateway: &Gateway, failure: &str) -> String {
    let entries = outcomes(gateway);
    let entry = entries.iter().find(|entry| entry["id"].as_str().is_some_and(|id| failure.contains(id)));
    entry.map_or_else(|| failure.to_owned(), |entry| format!("{failure}: {} {}", entry["time"], entry["cause"]))
}

/// Each request that was answered is in the log once, and nothing else is.
fn recorded(gateway: &Gateway, tally: &Tally) {
    let verified = moat(gateway.bundle.root(), &["audit", "verify", "state/audit"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let mut entries: BTreeMap<String, usize> = BTreeMap::new();
    for entry in outcomes(gateway) {
        *entries.entry(entry["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let twice: Vec<_> = entries.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let missing: Vec<_> = tally.ids.iter().filter(|id| !entries.contains_key(*id)).collect();
    assert!(missing.is_empty(), "{} of {} requests have no entry: {missing:?}", missing.len(), tally.ids.len());
    assert_eq!(entries.len(), tally.ids.len(), "entries of requests that nobody made");
}

/// Kills one endpoint after the other, and starts it again.
async fn trouble(mut app: Vec<Endpoint>, over: Arc<AtomicBool>) -> Vec<(Instant, Instant)> {
    let (mut kills, mut pace) = (Vec::new(), interval(KILLS));
    pace.tick().await;
    for at in (0..app.len()).cycle() {
        kills.push(app[at].kill().await);
        pace.tick().await;
        app[at].revive().await;
        if over.load(Ordering::Relaxed) {
            break;
        }
    }
    kills
}

fn report(tally: &mut Tally, done: &Done, took: Duration, kills: usize, streams: (usize, usize)) {
    tally.latencies.sort_unstable();
    let quantile = |share: f64| {
        let at = ((tally.latencies.len() - 1) as f64 * share) as usize;
        tally.latencies[at].as_secs_f64() * 1000.0
    };
    println!("a day in {:.0} s, {RATE} arrivals per second", took.as_secs_f64());
    println!(
        "  changes   {} reloads, {} certificates (the slowest served after {} ms), {} programs, {kills} kills",
        done.reloads,
        done.certificates,
        done.slowest_certificate.as_millis(),
        done.upgrades
    );
    println!(
        "  requests  {}, of which {} failed unprovoked and {} because their endpoint was killed; {} asked again on \
         another connection, never sent",
        tally.requests,
        tally.failures.len(),
        tally.provoked,
        tally.moved
    );
    println!("  handshakes {} full, {} resumed", tally.full, tally.resumed);
    println!("  latency   p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", quantile(0.5), quantile(0.99), quantile(1.0));
    println!("  streams   {} of {} kept", streams.0 - streams.1, streams.0);
}
