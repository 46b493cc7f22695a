//! Silence of the shared engines, and what is left after it.
use super::{Clock, in_postgres, in_redis, postgres_at, state, until};
use crate::harness::{PATIENCE, Postgres, Redis, Weather, Wire};
use moat::store::state::postgres::SCHEMA;
use moat::store::state::{Cause, EngineName, Expect, Kind, NEVER, Position, Put, Record, State};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Writes until somebody is silent; how many were acknowledged.
async fn writes_until_silent(state: Arc<State>, first: u64) -> u64 {
    for number in first.. {
        let record = Record::new(number.to_be_bytes().to_vec(), NEVER);
        if state.put(Kind::Session, &number.to_be_bytes(), Expect::Any, record).await.is_err() {
            return number;
        }
    }
    first
}

async fn all_there(state: &State, count: u64) {
    for number in 0..count {
        let there = state.get(Kind::Session, &number.to_be_bytes()).await.unwrap();
        assert!(there.is_some(), "{number} of {count} acknowledged is gone");
    }
}

async fn back(state: &State) {
    until("it is of use again", async || state.get(Kind::Session, b"probe").await.is_ok()).await;
}

/// From the first call on that went without an answer, the others know at once.
async fn spared(state: &State) {
    let _ = state.get(Kind::Session, b"probe").await;
    until("it is known to be silent", async || {
        let began = Instant::now();
        let silent = state.get(Kind::Session, b"probe").await.is_err();
        silent && began.elapsed() < Duration::from_millis(250)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_with_a_log_loses_nothing_when_it_is_killed() {
    let mut redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let state = state(in_redis(redis.address).await, &Clock::new());
    let mut at = 0;
    for _ in 0..2 {
        let writer = tokio::spawn(writes_until_silent(state.clone(), at));
        until("enough is written", async || {
            state.get(Kind::Session, &(at + 100).to_be_bytes()).await.is_ok_and(|record| record.is_some())
        })
        .await;
        redis.kill();
        at = tokio::time::timeout(PATIENCE, writer).await.unwrap().unwrap();
        let silent = state.get(Kind::Session, b"probe").await.unwrap_err();
        assert_eq!((silent.engine, silent.cause), (EngineName::Redis, Cause::Unreachable));
        redis.restart().await;
        back(&state).await;
        all_there(&state, at).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_without_a_log_forgets_and_the_feed_says_so() {
    let mut redis = Redis::start(&[]).await;
    let state = state(in_redis(redis.address).await, &Clock::new());
    state.put(Kind::Session, b"k", Expect::Any, Record::new(Vec::new(), NEVER)).await.unwrap();
    let at = state.append_feed(b"a").await.unwrap();
    let follower = tokio::spawn({
        let state = state.clone();
        async move { state.follow(at, PATIENCE).await }
    });
    redis.restart().await;
    let heard = tokio::time::timeout(PATIENCE, follower).await.unwrap().unwrap();
    assert!(heard.is_err() || heard.is_ok_and(|news| news.missed), "who waits is not left waiting");
    back(&state).await;
    assert_eq!(state.get(Kind::Session, b"k").await, Ok(None));
    until("the loss is told", async || state.follow(at, Duration::ZERO).await.is_ok_and(|news| news.missed)).await;
    assert_eq!(state.feed_end().await, Ok(Position::default()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_redis_costs_one_patience_and_comes_back() {
    let redis = Redis::start(&[]).await;
    let state = state(in_redis(redis.address).await, &Clock::new());
    state.put(Kind::Session, b"k", Expect::Any, Record::new(Vec::new(), NEVER)).await.unwrap();
    redis.stall();
    assert_eq!(state.get(Kind::Session, b"k").await.unwrap_err().cause, Cause::Timeout);
    spared(&state).await;
    redis.resume();
    back(&state).await;
    assert!(state.get(Kind::Session, b"k").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_before_redis_is_silence() {
    let redis = Redis::start(&[]).await;
    let wire = Wire::to(redis.address).await;
    let state = state(in_redis(wire.address).await, &Clock::new());
    back(&state).await;
    wire.turns(Weather::Hole);
    spared(&state).await;
    wire.turns(Weather::Fair);
    back(&state).await;
    wire.turns(Weather::Cut);
    spared(&state).await;
    wire.turns(Weather::Fair);
    back(&state).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_without_room_says_so_and_still_answers() {
    let redis = Redis::start(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]).await;
    let state = state(in_redis(redis.address).await, &Clock::new());
    let mut kept = 0_u64;
    let silent = loop {
        let record = Record::new(vec![7; 60_000], NEVER);
        match state.put(Kind::Session, &kept.to_be_bytes(), Expect::Any, record).await {
            Ok(_) => kept += 1,
            Err(silent) => break silent,
        }
        assert!(kept < 1000, "it has room without end");
    };
    assert!(matches!(silent.cause, Cause::Full | Cause::Unreachable), "{silent}");
    assert!(kept > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_loses_nothing_when_it_is_killed() {
    // Whoever runs it has made commits lax: state does not rely on that.
    let mut postgres = Postgres::start(&["synchronous_commit=off", "wal_writer_delay=10s"]).await;
    let state = state(in_postgres(postgres_at(postgres.address, "postgres")).await, &Clock::new());
    let note = state.append_feed(b"a").await.unwrap();
    let mut at = 0;
    for _ in 0..2 {
        let writer = tokio::spawn(writes_until_silent(state.clone(), at));
        until("enough is written", async || {
            state.get(Kind::Session, &(at + 100).to_be_bytes()).await.is_ok_and(|record| record.is_some())
        })
        .await;
        postgres.kill();
        at = tokio::time::timeout(PATIENCE, writer).await.unwrap().unwrap();
        let silent = state.get(Kind::Session, b"probe").await.unwrap_err();
        assert_eq!((silent.engine, silent.cause), (EngineName::Postgres, Cause::Unreachable));
        postgres.restart().await;
        back(&state).await;
        all_there(&state, at).await;
        let news = state.follow(note, Duration::ZERO).await.unwrap();
        assert_eq!((news.notes.len(), news.missed), (0, false));
    }
    // Who listens hears again after all that.
    let follower = tokio::spawn({
        let state = state.clone();
        async move { state.follow(note, PATIENCE).await.unwrap() }
    });
    state.append_feed(b"b").await.unwrap();
    assert_eq!(follower.await.unwrap().notes.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_postgresql_costs_one_patience_a_connection_and_comes_back() {
    let postgres = Postgres::start(&[]).await;
    let mut options = postgres_at(postgres.address, "postgres");
    options.command_timeout = Duration::from_millis(500);
    options.connect_timeout = Duration::from_millis(1000);
    let state = state(in_postgres(options).await, &Clock::new());
    back(&state).await;
    state.put(Kind::Session, b"k", Expect::Any, Record::new(Vec::new(), NEVER)).await.unwrap();
    postgres.stall();
    assert_eq!(state.get(Kind::Session, b"k").await.unwrap_err().cause, Cause::Timeout);
    spared(&state).await;
    postgres.resume();
    back(&state).await;
    assert!(state.get(Kind::Session, b"k").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_before_postgresql_is_silence() {
    let postgres = Postgres::start(&[]).await;
    let wire = Wire::to(postgres.address).await;
    let mut options = postgres_at(wire.address, "postgres");
    options.command_timeout = Duration::from_millis(500);
    options.connect_timeout = Duration::from_millis(2000);
    let state = state(in_postgres(options).await, &Clock::new());
    back(&state).await;
    for weather in [Weather::Hole, Weather::Cut] {
        wire.turns(weather);
        spared(&state).await;
        wire.turns(Weather::Fair);
        back(&state).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_rights_postgresql_is_refused_with_what_to_run() {
    let postgres = Postgres::start(&[]).await;
    postgres
        .ask("postgres", "CREATE ROLE small LOGIN PASSWORD 'small'; REVOKE CREATE ON SCHEMA public FROM public")
        .await;
    let mut options = postgres_at(postgres.address, "postgres");
    options.user = "small".to_owned();
    options.password = Some(Arc::new(|| Ok("small".to_owned())));
    let small = state(in_postgres(options).await, &Clock::new());
    let silent = small.get(Kind::Session, b"k").await.unwrap_err();
    assert!(silent.text.contains(SCHEMA), "{silent}");
    // Done as it says, it works by itself.
    postgres.ask("postgres", SCHEMA).await;
    let grant =
        "GRANT SELECT, INSERT, UPDATE, DELETE ON moat_state, moat_feed TO small; GRANT SELECT ON moat_schema TO small";
    postgres.ask("postgres", grant).await;
    back(&small).await;
    assert!(matches!(
        small.put(Kind::Session, b"k", Expect::Absent, Record::new(Vec::new(), NEVER)).await,
        Ok(Put::Written { .. })
    ));
    small.append_feed(b"a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_of_another_version_or_read_only_is_not_written_to() {
    let postgres = Postgres::start(&[]).await;
    postgres.ask("postgres", &format!("{SCHEMA} UPDATE moat_schema SET version = 2")).await;
    let newer = state(in_postgres(postgres_at(postgres.address, "postgres")).await, &Clock::new());
    let silent = newer.get(Kind::Session, b"k").await.unwrap_err();
    assert!(silent.text.contains("version 2"), "{silent}");
    postgres.ask("postgres", "CREATE DATABASE still").await;
    postgres.ask("postgres", "ALTER DATABASE still SET default_transaction_read_only = on").await;
    let standby = state(in_postgres(postgres_at(postgres.address, "still")).await, &Clock::new());
    let silent = standby.get(Kind::Session, b"k").await.unwrap_err();
    assert!(silent.text.contains("read-only"), "{silent}");
}
