//! Stores of each kind, and what fills them: the facades that the gateway itself writes by.
use crate::gateway::KEY;
use crate::harness::{Bundle, OWNER, Postgres, Redis};
use decide::facts::{Identity, Person};
use decide::revocation::{Handles, Mark, Scope, Source, Target, Within};
use decide::session::browser::Rules;
use moat::store::revocations::{Observer, Revocations, seal};
use moat::store::seal::Keyring;
use moat::store::sessions::{Realm, Renewing, Sessions};
use moat::store::shared::{self, Op};
use moat::store::state::embedded::{self, Embedded};
use moat::store::state::postgres::{self, Watcher};
use moat::store::state::{Engine, State, Unobserved};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;

/// Writers at a time: what waits together is committed together.
const WRITERS: usize = 512;
const HOURS_12_MS: u64 = 12 * 3_600_000;

/// Where a gateway keeps its sessions and marks.
pub enum Store {
    Redb,
    Redis(Redis),
    Postgres(Postgres),
}

struct Quiet;

impl Watcher for Quiet {
    fn changed(&self, _: Result<(), &str>) {}
}

impl shared::Observer for Quiet {
    fn called(&self, _: Op, _: &'static str, _: Duration) {}
    fn changed(&self, _: Result<(), &str>) {}
}

impl Observer for Quiet {
    fn applied(&self, _: Duration) {}
    fn heard(&self, _: Result<(), &str>) {}
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

impl Store {
    pub async fn start(name: &str) -> Store {
        match name {
            "redb" => Store::Redb,
            "redis" => Store::Redis(Redis::start(&[]).await),
            // Durability costs the server, not the gateway, whose CPU is measured.
            _ => Store::Postgres(Postgres::start(&["fsync=off", "shared_buffers=256MB", "max_wal_size=4GB"]).await),
        }
    }

    /// Its part of `storage:`.
    pub fn storage(&self) -> Option<String> {
        match self {
            Store::Redb => None,
            Store::Redis(redis) => Some(format!(
                "redis: {{url: \"redis://{}\", hash_key: {{file: hash-key}}, connect_timeout: 10s, use_for: [sessions, revocations]}}",
                redis.address
            )),
            Store::Postgres(postgres) => Some(format!(
                "postgres: {{url: \"postgresql://{}@{}/postgres\", password: {{file: password}}, connect_timeout: 10s, command_timeout: 10s, use_for: [sessions, revocations]}}",
                OWNER.0, postgres.address
            )),
        }
    }

    async fn state(&self, bundle: &Bundle) -> Arc<State> {
        let engine = match self {
            Store::Redb => {
                let path = bundle.path("state/state.redb");
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                let options = embedded::Options { patience: Duration::from_secs(60), ..embedded::Options::new(path) };
                Engine::Embedded(Arc::new(Embedded::open(options).unwrap()))
            }
            Store::Redis(redis) => {
                let patience = Duration::from_secs(60);
                let options = shared::Options {
                    place: shared::Place::Tcp { host: redis.address.ip().to_string(), port: redis.address.port() },
                    tls: None,
                    username: None,
                    password: None,
                    database: 0,
                    prefix: "moat".to_owned(),
                    instance: Some("filler".to_owned()),
                    connect_timeout: patience,
                    command_timeout: patience,
                };
                let redis = moat::store::state::redis::Redis::start(options, Arc::new(Quiet));
                redis.tried().await;
                Engine::Redis(Arc::new(redis))
            }
            Store::Postgres(postgres) => {
                let patience = Duration::from_secs(60);
                let options = postgres::Options {
                    place: postgres::Place::Tcp {
                        host: postgres.address.ip().to_string(),
                        port: postgres.address.port(),
                    },
                    tls: None,
                    user: OWNER.0.to_owned(),
                    password: Some(Arc::new(|| Ok(OWNER.1.to_owned()))),
                    database: "postgres".to_owned(),
                    instance: "filler".to_owned(),
                    reads: None,
                    connections: 8,
                    connect_timeout: patience,
                    command_timeout: patience,
                };
                let postgres = moat::store::state::postgres::Postgres::start(options, Arc::new(Quiet));
                postgres.tried().await;
                Engine::Postgres(Arc::new(postgres))
            }
        };
        Arc::new(State::new(|_| engine.clone(), Arc::new(now_ms), Arc::new(Unobserved)))
    }

    /// What it takes: of the disk, or of the server's memory.
    pub async fn bytes(&self, bundle: &Bundle) -> u64 {
        match self {
            Store::Redb => std::fs::metadata(bundle.path("state/state.redb")).map_or(0, |file| file.len()),
            Store::Redis(redis) => {
                let info = redis.ask("INFO memory");
                let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
                line.trim().parse().unwrap()
            }
            Store::Postgres(postgres) => {
                let asked = "SELECT coalesce(pg_total_relation_size(to_regclass('moat_state')), 0)";
                postgres.ask("postgres", asked).await[0][0].parse().unwrap()
            }
        }
    }
}

fn ring() -> Keyring {
    Keyring::new(&[KEY])
}

fn realm() -> Realm {
    let rules =
        Rules { idle_ms: HOURS_12_MS, absolute_ms: HOURS_12_MS, leeway_ms: 10_000, every_ms: Some(HOURS_12_MS) };
    let renewing = Renewing { step_up: true, role_change: true };
    Realm { ring: Arc::new(ring()), tenant: "acme".into(), rules, renewing }
}

/// Somebody as a usual token makes one.
fn somebody(number: usize, at_ms: u64) -> Identity {
    let subject = format!("7f6c1d0e-5a0b-4f7e-9b57-{number:012x}");
    let sid = format!("b1946ac9-2490-4a3e-8d5f-{number:012x}");
    let handles = Handles::of(&Source {
        issuer: "https://login.test/",
        subject: &subject,
        tenant: Some("acme"),
        session: Some(&sid),
        ..Source::default()
    });
    Identity {
        issuer: "workforce".into(),
        subject: Person(subject.into()),
        tenant: Some("acme".into()),
        roles: vec!["cashier".into(), "viewer".into(), "finance".into()],
        session: Some(sid.into()),
        auth_time: Some(at_ms / 1000 - 5),
        acr: Some("urn:mace:incommon:iap:silver".into()),
        amr: vec!["pwd".into(), "otp".into()],
        issued_at: at_ms / 1000,
        not_before: 0,
        expires_at: at_ms / 1000 + 600,
        bound_to: None,
        scopes: None,
        handles,
    }
}

/// Opens so many sessions; their handles.
pub async fn sessions(store: &Store, bundle: &Bundle, count: usize) -> Vec<String> {
    let sessions = Arc::new(Sessions::new(store.state(bundle).await));
    let mut writers = JoinSet::new();
    for first in 0..WRITERS {
        let sessions = sessions.clone();
        writers.spawn(async move {
            let realm = realm();
            let mut handles = Vec::with_capacity(count / WRITERS + 1);
            for number in (first..count).step_by(WRITERS) {
                let at_ms = now_ms();
                let client = Some([192, 0, 2, 1].into());
                let opened = sessions.open(&realm, &somebody(number, at_ms), client, None, at_ms).await;
                handles.push(opened.expect("the store answers").handle);
            }
            handles
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(handles) = writers.join_next().await {
        all.extend(handles.unwrap());
    }
    all
}

/// Ends so many users in a PostgreSQL: one by the facade, to have the tables, and the others as it would have written them. How
/// long that took.
pub async fn marks(store: &Store, bundle: &Bundle, count: usize) -> Duration {
    let Store::Postgres(postgres) = store else { panic!("marks are written to a PostgreSQL") };
    let began = Instant::now();
    let state = store.state(bundle).await;
    let revocations = Revocations::new(state, ring(), 7, Arc::new(now_ms), Arc::new(Quiet));
    let now_s = now_ms() / 1000;
    revocations.end(&[mark(0, now_s)], now_ms(), u64::MAX).await.expect("the store answers");
    let keys = ring();
    for first in (1..count).step_by(ROWS) {
        let rows: Vec<String> = (first..count.min(first + ROWS)).map(|number| row(&keys, number, now_s)).collect();
        let written = format!(
            "INSERT INTO moat_state (kind, key, version, expires_at, minute, idx, value) \
             SELECT kind, decode(k, 'hex'), version, expires_at, minute, idx, decode(v, 'hex') \
             FROM (SELECT * FROM moat_state WHERE kind = 3 LIMIT 1) AS one, (VALUES {}) AS new (k, v)",
            rows.join(",")
        );
        postgres.ask("postgres", &written).await;
    }
    postgres.ask("postgres", "ANALYZE moat_state").await;
    let there = &postgres.ask("postgres", "SELECT count(*) FROM moat_state WHERE kind = 3").await[0][0];
    assert_eq!(there.parse::<usize>().unwrap(), count);
    began.elapsed()
}

/// Marks of one statement.
const ROWS: usize = 10_000;

fn row(keys: &Keyring, number: usize, now_s: u64) -> String {
    let kept = seal(keys, &mark(number, now_s)).expect("there is a key");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("('{}','{}')", hex(&kept.place), hex(&kept.record.value))
}

fn mark(number: usize, now_s: u64) -> Mark {
    let subject = format!("9a1c4d0e-5a0b-4f7e-9b57-{number:012x}");
    let target = Target::Subject { issuer: "https://login.test/", subject: &subject, within: Within::Tenant("acme") };
    Mark { scope: Scope::Subject, handle: target.handle(), not_before_s: now_s, until_s: now_s + 30 * 86_400 }
}
