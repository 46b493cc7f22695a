//! What one take from the quotas costs: one key, many keys, two limits, a full table; and what a sweep costs.
use criterion::{Criterion, criterion_group, criterion_main};
use decide::facts::Stage;
use decide::rules::{KeyPart, Limit, Rate};
use moat::store::quota::{Dues, KeyInput, Quotas};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

fn limit(name: &str, key: &[KeyPart], burst: u32) -> Arc<Limit> {
    let rates = vec![Rate { count: 1_000_000, period_s: 1, burst }];
    Arc::new(Limit::new(name, key.to_vec(), rates))
}

fn from(n: u32) -> KeyInput<'static> {
    KeyInput {
        tenant: Some("acme"),
        class: Some(0),
        issuer: "workforce",
        subject: Some("7f6c1d0e-5a0b-4f7e-9b57-3f2f8b8f0c11"),
        ..KeyInput::of(IpAddr::V4(Ipv4Addr::from_bits(n)), "api-read")
    }
}

fn take(c: &mut Criterion) {
    let by_address = [limit("per-ip-default", &[KeyPart::ClientPrefix], 1_000_000)];
    let by_caller = [
        limit("per-tenant-read", &[KeyPart::Tenant], 1_000_000),
        limit("per-user-write", &[KeyPart::Tenant, KeyPart::Subject], 1_000_000),
    ];
    let quotas = Quotas::new();
    c.bench_function("take/one-limit/one-key", |b| {
        b.iter(|| quotas.take(black_box(&by_address), Stage::Address, &from(1), &mut Dues::default()))
    });
    c.bench_function("take/two-limits/one-caller", |b| {
        b.iter(|| quotas.take(black_box(&by_caller), Stage::Caller, &from(1), &mut Dues::default()))
    });
    // `cargo test` runs each bench once, and unoptimised.
    let most = if std::env::args().any(|argument| argument == "--bench") { 1_000_000 } else { 1000 };
    for n in 0..most {
        quotas.take(&by_address, Stage::Address, &from(n), &mut Dues::default());
    }
    let mut n = 0u32;
    c.bench_function("take/one-limit/1M-keys", |b| {
        b.iter(|| {
            n = n.wrapping_add(0x9e37_79b9) % most;
            quotas.take(black_box(&by_address), Stage::Address, &from(n), &mut Dues::default())
        })
    });
    c.bench_function("take/one-limit/overflow", |b| {
        b.iter(|| {
            n = n.wrapping_add(0x9e37_79b9);
            quotas.take(black_box(&by_address), Stage::Address, &from(n | 1 << 31), &mut Dues::default())
        })
    });
    let slow = [Arc::new(Limit {
        rates: vec![Rate { count: 1, period_s: 3600, burst: 2 }],
        ..Limit::clone(&limit("slow", &[KeyPart::ClientPrefix], 1))
    })];
    let full = Quotas::new();
    for n in 0..most {
        full.take(&slow, Stage::Address, &from(n), &mut Dues::default());
    }
    c.bench_function("sweep/1M-keys", |b| b.iter(|| full.sweep()));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = take
}
criterion_main!(benches);
