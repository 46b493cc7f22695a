//! Each kind lies where the configuration says, and nowhere else, as the engines themselves tell.
use super::in_file;
use super::stage::{gateway, hold, in_postgres, in_redis, postgres_finds, postgres_has, redis_finds, redis_has};
use super::{Clock, state};
use crate::families;
use crate::harness::{Gateway, Postgres, Redis};
use crate::sessions::me;
use moat::store::state::Kind;

/// Kinds in the file of a gateway that has ended, and how many of each.
async fn file_has(gateway: &Gateway) -> String {
    let path = gateway.bundle.path("state/state.redb");
    if !path.exists() {
        return "no file".to_owned();
    }
    let state = state(in_file(&path), &Clock::new());
    let mut lines = Vec::new();
    for kind in Kind::ALL {
        let count = state.scan(kind, None, 100).await.unwrap().found.len();
        if count > 0 {
            lines.push(format!("{}={count}", kind.word()));
        }
    }
    if state.feed_end().await.unwrap() > Default::default() {
        lines.push("feed=1".to_owned());
    }
    lines.sort();
    lines.join(" ")
}

/// Opens one of each kind (of factors there is also the secret that they are found by), looks that all of it works, and ends the gateway.
async fn filled(storage: &[String]) -> Gateway {
    let (mut gateway, _upstream) = gateway(storage).await;
    let held = hold(&gateway).await;
    assert_eq!(me(&gateway, &held.cookie).send().await.verdict(), "200");
    assert_eq!(families::refresh(&gateway, &held.refresh).await.status, 200);
    assert_eq!(gateway.stop(), Some(0));
    gateway
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_list_names_is_in_the_file() {
    let gateway = filled(&[]).await;
    assert_eq!(file_has(&gateway).await, "api_key=3 factor=2 family=2 feed=1 mark=1 once=2 session=1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_lies_in_the_store_whose_list_names_it() {
    let (redis, postgres) = (Redis::start(&[]).await, Postgres::start(&[]).await);
    let storage =
        [in_redis(redis.address, "revocations, once"), in_postgres(postgres.address, "refresh_families, sessions")];
    let gateway = filled(&storage).await;
    assert_eq!(redis_has(&redis), "feed=1 mark=1 once=2");
    assert_eq!(postgres_has(&postgres).await, "family=2 session=1");
    assert_eq!(file_has(&gateway).await, "api_key=3 factor=2");

    // The other way round, and nothing in the file.
    let (redis, postgres) = (Redis::start(&[]).await, Postgres::start(&[]).await);
    let storage = [
        in_redis(redis.address, "sessions, refresh_families, factors, sign_ins, api_keys"),
        in_postgres(postgres.address, "revocations, once"),
    ];
    let gateway = filled(&storage).await;
    assert_eq!(redis_has(&redis), "api_key=3 factor=2 family=2 session=1");
    assert_eq!(postgres_has(&postgres).await, "feed=1 mark=1 once=2");
    assert_eq!(file_has(&gateway).await, "no file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_a_store_reads_no_names_and_no_handles() {
    let (redis, postgres) = (Redis::start(&[]).await, Postgres::start(&[]).await);
    let all = "sessions, refresh_families, revocations, once, factors, api_keys";
    for storage in [in_redis(redis.address, all), in_postgres(postgres.address, all)] {
        let (gateway, _upstream) = gateway(&[storage]).await;
        let held = hold(&gateway).await;
        let handle = held.cookie.strip_prefix("__Host-sid=").unwrap();
        for text in [
            "someone@acme",
            "workforce",
            "mallory",
            "127.0.0.1",
            handle,
            &held.refresh,
            &held.app,
            &held.api_key.1,
            "machines",
        ] {
            assert_eq!(redis_finds(&redis, text), ":0", "{text}");
            if !postgres.ask("postgres", "SELECT to_regclass('moat_state')").await.contains(&vec!["NULL".to_owned()]) {
                assert_eq!(postgres_finds(&postgres, text).await, "0", "{text}");
            }
        }
    }
    assert_eq!(
        redis_has(&redis),
        "api_key=2 factor=2 family=2 feed=1 mark=1 once=2 session=1",
        "there was something to read"
    );
    assert_eq!(postgres_has(&postgres).await, "api_key=2 factor=2 family=2 feed=1 mark=1 once=2 session=1");
}
