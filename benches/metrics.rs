//! What counting one request costs, on one thread and on two at once; and what a scrape costs.
use criterion::{Criterion, criterion_group, criterion_main};
use decide::deliberation::Verdict;
use decide::facts::{Carrier, Reading, Stage};
use decide::guards::ORDER;
use decide::request::Method;
use decide::rules::{KeyPart, Limit};
use moat::serve::metrics::{Metrics, Origin, RequestOutcome};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn count(c: &mut Criterion) {
    let Ok(metrics) = Metrics::new(200) else { return };
    let route = metrics.route("api-read");
    let trail: Vec<_> = ORDER.into_iter().map(|guard| (guard, Verdict::Pass)).collect();
    let outcome = RequestOutcome {
        method: Some(Method::Get),
        status: 200,
        origin: Origin::Upstream,
        duration: Duration::from_micros(1500),
        added: Duration::from_micros(40),
        tenant: Some("acme"),
        refusal: None,
        trail: &trail,
        session: true,
        carrier: Some(Carrier::Bearer),
        site: None,
    };
    c.bench_function("observe", |b| b.iter(|| route.observe(black_box(&outcome))));
    let limit = |name: &str, key| Arc::new(Limit::new(name, vec![key], vec![]));
    let limits = [limit("tenant", KeyPart::Tenant), limit("user", KeyPart::Subject)];
    let reading = Reading::default();
    c.bench_function("quota/two-limits", |b| {
        b.iter(|| route.quota(black_box(&limits), Stage::Caller, &reading, Some("acme")))
    });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                route.observe(&outcome);
            }
        });
        c.bench_function("observe/beside-another-thread", |b| b.iter(|| route.observe(black_box(&outcome))));
        stop.store(true, Ordering::Relaxed);
    });
    for n in 0..1000 {
        let route = metrics.route(&format!("route-{n}"));
        route.observe(&outcome);
    }
    c.bench_function("render/1000-routes", |b| b.iter(|| metrics.render()));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = count
}
criterion_main!(benches);
