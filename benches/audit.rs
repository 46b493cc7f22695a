//! What an audit entry costs: its canonical bytes, its line in the chain, and the whole way through queue and writer.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing better to do than to say so")]
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use decide::deliberation::Verdict as Said;
use decide::facts::{Carrier, Person, Protocol, RequestId};
use decide::guards::ORDER;
use decide::record::{Chain, Circumstances, Entry, Exchange, Handshake, Kind, Outcome, Verdict};
use moat::store::audit::{AuditLog, Durability, Options};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

fn entry(out: &mut Vec<u8>) {
    let roles = ["buyer".into()];
    let trail = ORDER.map(|guard| (guard, Said::Pass));
    let exchange = Exchange {
        id: RequestId(0x0197_8000_0000_7000_8000_0000_0000_0001),
        snapshot: "0123456789abcdef",
        facts: Circumstances {
            protocol: Some(Protocol::Http2),
            tls: Some(Handshake { version: "1.3", group: "X25519MLKEM768", resumed: true }),
            tenant: Some("acme"),
            tenant_source: Some("host"),
            method: Some("GET"),
            host: Some("acme.example.com"),
            path: Some("/api/orders/7f6c1d0e-5a0b-4f7e-9b57-3f2f8b8f0c11"),
            route: Some("orders-read"),
            template: Some("/api/orders/{id}"),
            issuer: Some("workforce"),
            subject: Some(Person("7f6c1d0e-5a0b-4f7e-9b57-3f2f8b8f0c11")),
            roles: &roles,
            session: Some("0123456789abcdef0123456789abcdef"),
            carrier: Some(Carrier::Cookie),
            auth_age_s: Some(812),
            ..Circumstances::new("public", Person([203, 0, 113, 7].into()))
        },
        trail: &trail,
        verdict: Verdict::Permit,
        cause: None,
        outcome: Some(Outcome {
            status: 200,
            bytes_out: 5120,
            duration_us: 812,
            upstream: Some("orders"),
            upstream_status: Some(200),
            ..Outcome::default()
        }),
        action: None,
    };
    Entry { time_ms: 1_700_000_000_123, node: "gw-1", kind: Kind::Request(&exchange) }.write(out);
}

fn pieces(c: &mut Criterion) {
    let mut body = Vec::with_capacity(2048);
    entry(&mut body);
    let mut group = c.benchmark_group("audit");
    group.throughput(Throughput::Bytes(body.len() as u64));
    let mut out = Vec::with_capacity(4096);
    group.bench_function("entry", |b| {
        b.iter(|| {
            out.clear();
            entry(black_box(&mut out));
        })
    });
    let mut chain = Chain::default();
    group.bench_function("chain", |b| {
        b.iter(|| {
            out.clear();
            chain.seal(black_box(&body), &mut out);
        })
    });
    group.finish();
}

/// What all threads of this process have run for.
fn cpu_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
    Duration::from_nanos(stats.filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok()).sum())
}

fn throughput(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut group = c.benchmark_group("audit");
    group.throughput(Throughput::Elements(1));
    for (name, durability) in [("log-batch", Durability::Batch), ("log-os", Durability::Os)] {
        let options = Options {
            durability,
            max_wait: Duration::from_secs(60),
            ..Options::new(folder.path().join(name), folder.path().to_owned(), "gw-1".to_owned())
        };
        let log = AuditLog::open(options, Arc::new(|| 1_700_000_000_000)).unwrap();
        // CPU time of worker and writer together, until the last byte is written: on a shared machine the wall clock
        // tells about the neighbours.
        group.bench_function(name, |b| {
            b.iter_custom(|n| {
                let before = cpu_time();
                runtime.block_on(async {
                    for _ in 0..n {
                        let mut body = Vec::with_capacity(1024);
                        entry(&mut body);
                        log.reserve().await.unwrap().write(body);
                    }
                });
                while log.state().backlog > 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                cpu_time() - before
            })
        });
        log.close(Duration::from_secs(60)).unwrap();
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    targets = pieces, throughput
}
criterion_main!(benches);
