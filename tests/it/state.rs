//! State in every engine: one suite that all of them pass, and every way in which one can be silent, for real.
mod backup;
mod conformance;
mod embedded;
mod faults;
mod key_sets;
mod placed;
mod secure;
mod silence;
mod stage;

use crate::harness::{OWNER, PATIENCE};
use moat::store::shared;
use moat::store::state::embedded::{self as file, Embedded};
use moat::store::state::postgres::{self as pg, Watcher};
use moat::store::state::{Engine, State, Unobserved};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A clock that tests set: it begins now.
#[derive(Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn new() -> Clock {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Clock(Arc::new(AtomicU64::new(u64::try_from(since.as_millis()).unwrap())))
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

struct Quiet;

impl Watcher for Quiet {
    fn changed(&self, _: Result<(), &str>) {}
}

impl shared::Observer for Quiet {
    fn called(&self, _: shared::Op, _: &'static str, _: Duration) {}
    fn changed(&self, _: Result<(), &str>) {}
}

/// State whose kinds all lie in one engine.
fn state(engine: Engine, clock: &Clock) -> Arc<State> {
    let clock = clock.clone();
    Arc::new(State::new(|_| engine.clone(), Arc::new(move || clock.now()), Arc::new(Unobserved)))
}

fn in_file(path: &Path) -> Engine {
    Engine::Embedded(Arc::new(Embedded::open(file::Options::new(path.to_owned())).unwrap()))
}

async fn in_redis(address: SocketAddr) -> Engine {
    let options = shared::Options {
        place: shared::Place::Tcp { host: address.ip().to_string(), port: address.port() },
        tls: None,
        username: None,
        password: None,
        database: 0,
        prefix: "test".to_owned(),
        instance: Some("a".to_owned()),
        connect_timeout: Duration::from_secs(2),
        command_timeout: Duration::from_millis(10),
    };
    let redis = moat::store::state::redis::Redis::start(options, Arc::new(Quiet));
    redis.tried().await;
    Engine::Redis(Arc::new(redis))
}

fn postgres_at(address: SocketAddr, database: &str) -> pg::Options {
    pg::Options {
        place: pg::Place::Tcp { host: address.ip().to_string(), port: address.port() },
        tls: None,
        user: OWNER.0.to_owned(),
        password: Some(Arc::new(|| Ok(OWNER.1.to_owned()))),
        database: database.to_owned(),
        instance: "a".to_owned(),
        reads: None,
        connections: 4,
        connect_timeout: Duration::from_secs(5),
        command_timeout: Duration::from_secs(5),
    }
}

async fn in_postgres(options: pg::Options) -> Engine {
    let postgres = pg::Postgres::start(options, Arc::new(Quiet));
    postgres.tried().await;
    Engine::Postgres(Arc::new(postgres))
}

/// Asks until it is so; the engines' own pauses are short.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::task::yield_now().await;
    }
}
