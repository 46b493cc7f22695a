//! Every way in which a store can be silent, on a real one: what each `on_store_loss` makes of it, what it costs, and how
//! it ends.
use super::{Replica, from, limit, shared, until};
use crate::harness::{Redis, Weather, Wire};
use decide::rules::{KeyPart, Limit, SharingMode, StoreLoss};
use moat::store::quota::Silent;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The rights that docs/shared-limits.md asks for, and no others.
const RIGHTS: &str =
    "~test:* +eval +evalsha +select +time +get +set +zadd +zcard +zrangebyscore +zremrangebyscore +pexpire";

const BY_CLIENT: &[KeyPart] = &[KeyPart::ClientPrefix];

/// One strict limit for each word.
fn by_loss(mode: SharingMode) -> [Arc<Limit>; 3] {
    [("local", StoreLoss::Local), ("open", StoreLoss::Open), ("closed", StoreLoss::Closed)]
        .map(|(name, loss)| limit(name, BY_CLIENT, &[(1, 3600, 3)], shared(mode, loss)))
}

/// What holds while the store is silent.
async fn holds_without(replica: &Replica, mode: SharingMode, client: &str) {
    let [local, open, closed] = by_loss(mode).map(|limit| [limit]);
    let client = from(client);
    assert_eq!(replica.passing(&local, &client, 10).await, 3, "`local` counts here");
    assert_eq!(replica.passing(&open, &client, 10).await, 10, "`open` passes");
    assert!(replica.take(&open, &client).await.tightest.is_none(), "nothing is told of a limit that nobody counts");
    let refused = replica.try_take(&closed, &client).await;
    assert_eq!(refused, Err(Silent { limit: "closed".into() }));
    let mut trial = Limit::clone(&closed[0]);
    trial.shadow = true;
    assert!(replica.try_take(&[Arc::new(trial)], &client).await.is_ok(), "a shadow limit refuses nobody");
}

/// What holds with it.
async fn holds_with(replica: &Replica, mode: SharingMode, client: &str) {
    for limit in by_loss(mode) {
        assert_eq!(replica.passing(&[limit], &from(client), 5).await, 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_store_ends_as_the_limit_says_and_comes_back() {
    for mode in [SharingMode::Strict, SharingMode::Synced] {
        let mut redis = Redis::start(&[]).await;
        let replica = Replica::joined(redis.address, "a").await;
        holds_with(&replica, mode, "192.0.2.1").await;
        redis.kill();
        replica.until_up(false).await;
        holds_without(&replica, mode, "192.0.2.2").await;
        let lost: Vec<u64> = replica.quotas.lost().iter().map(|(_, _, count)| *count).collect();
        assert_eq!(lost, [2, 10, 11], "closed, local, open");
        redis.restart().await;
        replica.until_up(true).await;
        holds_with(&replica, mode, "192.0.2.3").await;
        let changes = replica.notes.changes.lock().unwrap().clone();
        assert_eq!(changes.first(), Some(&Ok(())));
        assert!(changes.iter().any(Result::is_err) && changes.last() == Some(&Ok(())), "{changes:?}");
    }
}

/// A stalled server costs the requests under way their time limit, and the others nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_store_costs_a_time_limit_once() {
    let redis = Redis::start(&[]).await;
    let patience = Duration::from_millis(200);
    let replica = Replica::with(redis.address, "a", |options| {
        options.command_timeout = patience;
        options.connect_timeout = Duration::from_secs(1);
    })
    .await;
    let limits = [limit("l", BY_CLIENT, &[(1, 3600, 1000)], shared(SharingMode::Strict, StoreLoss::Local))];
    replica.passing(&limits, &from("192.0.2.1"), 10).await;
    redis.stall();
    let began = Instant::now();
    replica.take(&limits, &from("192.0.2.1")).await;
    assert!(began.elapsed() >= patience, "it was waited for: {:?}", began.elapsed());
    let began = Instant::now();
    let passed = replica.passing(&limits, &from("192.0.2.1"), 200).await;
    assert_eq!(passed, 200);
    assert!(began.elapsed() < patience * 4, "200 requests took {:?}", began.elapsed());
    redis.resume();
    replica.until_up(true).await;
    let left = replica.take(&limits, &from("192.0.2.1")).await.tightest.unwrap().remaining;
    // Eleven or twelve by the store: the call that nobody waited for may have been carried out.
    assert!((987..=989).contains(&left), "the store remembers: {left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_forgot_its_scripts_is_told_again() {
    let redis = Redis::start(&[]).await;
    let replica = Replica::joined(redis.address, "a").await;
    holds_with(&replica, SharingMode::Strict, "192.0.2.1").await;
    assert!(redis.ask("SCRIPT FLUSH").contains("OK"));
    holds_with(&replica, SharingMode::Strict, "192.0.2.2").await;
    assert!(replica.quotas.lost().iter().all(|(_, _, count)| *count == 0));
}

/// A server that answers and cannot be used is a silent one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_refuses_is_silent_until_it_does_not() {
    for (sick, well, word) in [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OOM"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "READONLY"),
    ] {
        let redis = Redis::start(&[]).await;
        let replica = Replica::joined(redis.address, "a").await;
        holds_with(&replica, SharingMode::Strict, "192.0.2.1").await;
        assert!(redis.ask(sick).contains("OK"));
        replica.until_up(false).await;
        holds_without(&replica, SharingMode::Strict, "192.0.2.2").await;
        until(word, || replica.store().health().trouble.is_some_and(|trouble| trouble.contains(word))).await;
        assert!(redis.ask(well).contains("OK"));
        replica.until_up(true).await;
        holds_with(&replica, SharingMode::Strict, "192.0.2.3").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_and_a_right_one_is_taken_up() {
    let mut arguments = vec!["--requirepass", "other", "--user", "moat", "on", ">right"];
    arguments.extend(RIGHTS.split(' '));
    let redis = Redis::start(&arguments).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "wrong").unwrap();
    let path = file.path().to_owned();
    let replica = Replica::with(redis.address, "a", |options| {
        options.username = Some("moat".to_owned());
        options.password = Some(Arc::new(move || std::fs::read_to_string(&path)));
        options.command_timeout = Duration::from_secs(5);
    })
    .await;
    assert!(!replica.store().is_up());
    assert!(replica.store().health().trouble.unwrap().contains("WRONGPASS"));
    holds_without(&replica, SharingMode::Strict, "192.0.2.1").await;
    std::fs::write(file.path(), "right").unwrap();
    replica.until_up(true).await;
    holds_with(&replica, SharingMode::Strict, "192.0.2.2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_or_cuts_is_survived() {
    let redis = Redis::start(&[]).await;
    let wire = Wire::to(redis.address).await;
    let replica = Replica::with(wire.address, "a", |options| {
        options.connect_timeout = Duration::from_millis(500);
        options.command_timeout = Duration::from_millis(400);
    })
    .await;
    replica.until_up(true).await;
    for (number, weather) in [Weather::Hole, Weather::Cut].into_iter().enumerate() {
        holds_with(&replica, SharingMode::Strict, &format!("192.0.2.{}", 10 + number)).await;
        wire.turns(weather);
        replica.until_up(false).await;
        holds_without(&replica, SharingMode::Strict, &format!("192.0.2.{}", 20 + number)).await;
        wire.turns(Weather::Fair);
        replica.until_up(true).await;
    }
    holds_with(&replica, SharingMode::Strict, "192.0.2.30").await;
}

/// Whatever stands there instead of a Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_in_its_place_is_no_store() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let replica = Replica::joined(address, "a").await;
    assert!(!replica.store().is_up());
    holds_without(&replica, SharingMode::Strict, "192.0.2.1").await;
}

/// While the store is silent, a replica has its part of the rate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_store_leaves_each_replica_its_share() {
    let mut redis = Redis::start(&[]).await;
    let replicas = [Replica::joined(redis.address, "a").await, Replica::joined(redis.address, "b").await];
    until("both know of two", || replicas.iter().all(|replica| replica.store().replicas() == 2)).await;
    let limits = [limit("l", BY_CLIENT, &[(1, 3600, 10)], shared(SharingMode::Strict, StoreLoss::Local))];
    for replica in &replicas {
        replica.quotas.reconfigure(&limits);
    }
    // The shares follow with the next beat.
    let beats = Instant::now();
    until("a beat", || beats.elapsed() > Duration::from_millis(500)).await;
    redis.kill();
    for replica in &replicas {
        replica.until_up(false).await;
        assert_eq!(replica.passing(&limits, &from("192.0.2.1"), 20).await, 5);
    }
}

/// Gateways do not ask their own clocks, and a server whose clock was set back locks nobody out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_of_the_store_counts_also_when_it_jumps() {
    let redis = Redis::start(&[]).await;
    let replica = Replica::joined(redis.address, "a").await;
    let limits = [limit("l", BY_CLIENT, &[(1, 60, 4)], shared(SharingMode::Strict, StoreLoss::Closed))];
    assert_eq!(replica.passing(&limits, &from("192.0.2.1"), 5).await, 4);
    let keys = redis.ask("KEYS *:l:*");
    let key = keys.lines().find(|line| line.starts_with("test:")).unwrap();
    // As if all of it had been written by a clock that was a day ahead.
    let ahead =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() + 86_400_000_000;
    redis.ask(&format!("SET {key} \"240000000000 {ahead}\""));
    let refused = replica.take(&limits, &from("192.0.2.1")).await.exceeded.unwrap();
    assert!(refused.reset_s <= 60, "no more than what was used: {refused:?}");
    // As if an hour had passed at once.
    let behind = ahead - 86_400_000_000 - 3_600_000_000;
    redis.ask(&format!("SET {key} \"240000000000 {behind}\""));
    assert_eq!(replica.passing(&limits, &from("192.0.2.1"), 5).await, 4);
    // Nonsense in a key of ours is a key without a state.
    redis.ask(&format!("SET {key} nonsense"));
    assert_eq!(replica.passing(&limits, &from("192.0.2.1"), 5).await, 4);
}
