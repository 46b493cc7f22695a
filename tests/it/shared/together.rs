//! Several replicas and one store: what all let through together.
use super::{Replica, from, limit, shared, until};
use crate::harness::Redis;
use decide::rules::{KeyPart, Limit, SharingMode, StoreLoss};
use moat::store::shared::Op;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BY_CLIENT: &[KeyPart] = &[KeyPart::ClientPrefix];

async fn three(redis: &Redis) -> Vec<Arc<Replica>> {
    let mut replicas = Vec::new();
    for instance in ["a", "b", "c"] {
        replicas.push(Arc::new(Replica::joined(redis.address, instance).await));
    }
    until("all know of three", || replicas.iter().all(|replica| replica.store().replicas() == 3)).await;
    replicas
}

/// How many requests pass at all replicas in this time, where each takes one every `pause`.
async fn pressed(
    replicas: &[Arc<Replica>],
    limits: &[Arc<Limit>],
    time: Duration,
    pause: Duration,
) -> (usize, Duration) {
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for replica in replicas {
        let (replica, limits) = (replica.clone(), limits.to_vec());
        tasks.spawn(async move {
            let mut pace = tokio::time::interval(pause);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut passed = 0;
            while began.elapsed() < time {
                pace.tick().await;
                passed += replica.passing(&limits, &from("192.0.2.1"), 1).await;
            }
            passed
        });
    }
    (tasks.join_all().await.iter().sum(), began.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_limits_are_exact_over_replicas() {
    let redis = Redis::start(&[]).await;
    let replicas = three(&redis).await;
    let limits = [limit("burst", BY_CLIENT, &[(1, 3600, 100)], shared(SharingMode::Strict, StoreLoss::Closed))];
    let mut tasks = tokio::task::JoinSet::new();
    for replica in replicas.iter().flat_map(|replica| std::iter::repeat_n(replica, 8)) {
        let (replica, limits) = (replica.clone(), limits.clone());
        tasks.spawn(async move { replica.passing(&limits, &from("192.0.2.1"), 25).await });
    }
    assert_eq!(tasks.join_all().await.iter().sum::<usize>(), 100, "600 requests at once, at three replicas");

    let limits = [limit("steady", BY_CLIENT, &[(100, 1, 10)], shared(SharingMode::Strict, StoreLoss::Closed))];
    let (passed, took) = pressed(&replicas, &limits, Duration::from_secs(2), Duration::from_millis(4)).await;
    let most = 10.0 + 100.0 * took.as_secs_f64();
    assert!(passed as f64 <= most + 1.0, "{passed} of {most}");
    assert!(passed as f64 >= most * 0.6, "{passed} of {most}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn synced_limits_stay_within_their_overshoot() {
    let redis = Redis::start(&[]).await;
    let replicas = three(&redis).await;
    let limits = [limit("steady", BY_CLIENT, &[(100, 1, 20)], shared(SharingMode::Synced, StoreLoss::Local))];
    let (passed, took) = pressed(&replicas, &limits, Duration::from_secs(4), Duration::from_millis(4)).await;
    let (exact, lag) = (20.0 + 100.0 * took.as_secs_f64(), 0.2);
    // Between two beats each of the two others may let a burst and the rate of that time through; all of it is paid back.
    let most = exact + 2.0 * (20.0 + 100.0 * lag);
    assert!(passed as f64 <= most, "{passed} of {exact}, {most} with overshoot");
    assert!(passed as f64 >= exact * 0.5, "{passed} of {exact}");
    assert!(replicas.iter().all(|replica| replica.quotas.busy()[0].1 == 1), "one key is busy everywhere");
}

/// A replica that a client hardly visits hears of what it does elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_busy_elsewhere_is_busy_here() {
    let redis = Redis::start(&[]).await;
    let replicas = three(&redis).await;
    let limits = [limit("day", BY_CLIENT, &[(1, 3600, 60)], shared(SharingMode::Synced, StoreLoss::Local))];
    let client = from("192.0.2.1");
    assert_eq!(replicas[1].passing(&limits, &client, 5).await, 5);
    assert_eq!(replicas[1].quotas.busy()[0].1, 0, "less than half of its share");
    assert_eq!(replicas[0].passing(&limits, &client, 70).await, 60);
    // What the second has let through is debt now: both are told.
    let debt = || redis.ask(&key_of(&redis, "test:{limits}:day:*")).contains(' ');
    until("the counts met", debt).await;
    let deadline = Instant::now() + crate::harness::PATIENCE;
    while replicas[1].passing(&limits, &client, 1).await == 1 {
        assert!(Instant::now() < deadline, "the second replica never hears of the first");
        tokio::task::yield_now().await;
    }
    assert!(replicas[1].quotas.busy()[0].1 == 1);
}

/// The command that reads the first key of a pattern.
fn key_of(redis: &Redis, pattern: &str) -> String {
    let keys = redis.ask(&format!("KEYS {pattern}"));
    let key = keys.lines().find(|line| line.starts_with("test:")).unwrap_or("none").to_owned();
    format!("GET {key}")
}

/// The long tail costs the store nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_matter_to_nobody_are_not_told() {
    let redis = Redis::start(&[]).await;
    let replicas = three(&redis).await;
    let limits = [limit("tail", BY_CLIENT, &[(1, 3600, 60)], shared(SharingMode::Synced, StoreLoss::Local))];
    for n in 0..2000 {
        let client = format!("10.0.{}.{}", n / 250, n % 250);
        assert_eq!(replicas[n % 3].passing(&limits, &from(&client), 3).await, 3);
    }
    let beats = replicas[0].notes.calls(Op::Sync);
    until("some beats", || replicas[0].notes.calls(Op::Sync) >= beats + 3).await;
    assert!(replicas.iter().all(|replica| replica.quotas.busy()[0].1 == 0));
    assert_eq!(redis.ask("KEYS *tail*"), "*0\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_limit_stays_in_the_store() {
    let redis = Redis::start(&[]).await;
    let replica = Replica::joined(redis.address, "a").await;
    for mode in [SharingMode::Strict, SharingMode::Synced] {
        let limits = [limit("brief", BY_CLIENT, &[(50, 1, 4)], shared(mode, StoreLoss::Closed))];
        replica.quotas.reconfigure(&limits);
        assert!(replica.passing(&limits, &from("192.0.2.1"), 10).await >= 4);
        until("counted", || redis.ask("KEYS *brief*").contains("brief")).await;
        let keys = redis.ask("KEYS *brief*");
        let clients = ["192.0.2.1", "192"].iter().any(|part| keys.contains(part));
        assert!(!clients, "a key says no address: {keys}");
        until("forgotten", || redis.ask("KEYS *brief*") == "*0\r\n").await;
    }
}

/// A replica that is gone is no longer counted; one that comes is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_count_each_other() {
    let redis = Redis::start(&[]).await;
    let mut replicas = three(&redis).await;
    replicas.pop();
    until("two are left", || replicas.iter().all(|replica| replica.store().replicas() == 2)).await;
}
