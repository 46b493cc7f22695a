//! State, made from its settings: which engine keeps what, watched by logs, metrics and the audit log.
use crate::config::settings::{Kept, Postgres as PostgresSettings, PostgresPlace, Redis as RedisSettings, Snapshot};
use crate::serve::authorities;
use crate::serve::herald::Herald;
use crate::serve::metrics::{StateMetrics, StoreMetrics};
use crate::serve::run::now_ms;
use crate::serve::storage;
use crate::store::shared::{self, Password};
use crate::store::state::embedded::{self, Embedded};
use crate::store::state::postgres::{self, Postgres};
use crate::store::state::redis::Redis;
use crate::store::state::{Engine, EngineName, Kind, Observer, Op, State};
use anyhow::{Context, Result, anyhow};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Opens the file and begins to connect. A file that cannot be used ends the start; a server that cannot be reached does
/// not. Needs a tokio runtime.
pub async fn open(snapshot: &Snapshot, metrics: (StateMetrics, StoreMetrics), herald: &Arc<Herald>) -> Result<State> {
    let (metrics, stores) = metrics;
    let options = embedded::Options::new(snapshot.embedded.path.clone());
    let opened = tokio::task::spawn_blocking(move || Embedded::open(options)).await?;
    let file = Engine::Embedded(Arc::new(opened.context("state")?));
    let instance = snapshot.server.instance.clone();
    let watcher = |engine| Watcher { engine, stores: stores.clone(), herald: herald.clone() };
    let redis = match snapshot.redis.as_ref().filter(|redis| !redis.keeps.is_empty()) {
        None => None,
        Some(settings) => {
            let tls = trust(settings.tls.as_ref().map(|tls| tls.ca.clone()), "storage.redis.ca").await?;
            let options = storage::reached(settings, &instance, tls);
            let redis = Redis::start(options, Arc::new(watcher(EngineName::Redis)));
            redis.tried().await;
            Some((settings, Engine::Redis(Arc::new(redis))))
        }
    };
    let postgres = match &snapshot.postgres {
        None => None,
        Some(settings) => {
            let tls = trust(settings.tls.as_ref().map(|tls| tls.ca.clone()), "storage.postgres.ca").await?;
            let postgres = Postgres::start(reached(settings, instance, tls), Arc::new(watcher(EngineName::Postgres)));
            postgres.tried().await;
            Some((settings, Engine::Postgres(Arc::new(postgres))))
        }
    };
    let place = |kind| place(kind, redis.as_ref(), postgres.as_ref()).unwrap_or_else(|| file.clone());
    Ok(State::new(place, Arc::new(now_ms), Arc::new(metrics)))
}

/// The shared engine that keeps a kind, if one does.
fn place(
    kind: Kind,
    redis: Option<&(&RedisSettings, Engine)>,
    postgres: Option<&(&PostgresSettings, Engine)>,
) -> Option<Engine> {
    let kept = match kind {
        Kind::Session => Kept::Sessions,
        Kind::Family => Kept::RefreshFamilies,
        Kind::Mark => Kept::Revocations,
        Kind::ApiKey => Kept::ApiKeys,
        Kind::Once => Kept::Once,
        Kind::SignIn => Kept::SignIns,
        Kind::Factor => Kept::Factors,
    };
    let redis = redis.filter(|(settings, _)| settings.keeps.contains(&kept)).map(|(_, engine)| engine);
    let postgres = postgres.filter(|(settings, _)| settings.keeps.contains(&kept)).map(|(_, engine)| engine);
    redis.or(postgres).cloned()
}

/// TLS under the authorities of a file, or under the system's; `None` speaks in the clear.
async fn trust(
    tls: Option<Option<std::path::PathBuf>>,
    key: &'static str,
) -> Result<Option<Arc<rustls::ClientConfig>>> {
    let Some(ca) = tls else { return Ok(None) };
    let config = tokio::task::spawn_blocking(move || authorities::client_tls(ca.as_deref().map(Path::new))).await?;
    Ok(Some(Arc::new(config.map_err(|error| anyhow!("{key}: {error}"))?)))
}

fn reached(settings: &PostgresSettings, instance: String, tls: Option<Arc<rustls::ClientConfig>>) -> postgres::Options {
    let password = settings.password.clone();
    postgres::Options {
        place: match &settings.place {
            PostgresPlace::Tcp(host, port) => postgres::Place::Tcp { host: host.clone(), port: *port },
            PostgresPlace::Unix(path) => postgres::Place::Unix(path.clone()),
        },
        tls,
        user: settings.user.clone(),
        password: password.map(|place| -> Password { Arc::new(move || place.read()) }),
        database: settings.database.clone(),
        instance,
        reads: None,
        connections: settings.connections,
        connect_timeout: settings.connect_timeout,
        command_timeout: settings.command_timeout,
    }
}

/// Tells when a shared engine comes and goes.
struct Watcher {
    engine: EngineName,
    stores: StoreMetrics,
    herald: Arc<Herald>,
}

impl Watcher {
    fn tell(&self, state: Result<(), &str>) {
        let engine = self.engine.word();
        self.herald.store_changed(if self.engine == EngineName::Redis { "redis-state" } else { engine }, state);
        match state {
            Ok(()) => tracing::info!(engine, "the store of state is of use"),
            Err(reason) => {
                tracing::error!(engine, reason, "the store of state is not of use: what needs it is refused")
            }
        }
    }
}

impl postgres::Watcher for Watcher {
    fn changed(&self, state: Result<(), &str>) {
        self.tell(state);
    }
}

impl shared::Observer for Watcher {
    fn called(&self, op: shared::Op, result: &'static str, took: Duration) {
        // What is done with state is counted by what it is, below.
        if op != shared::Op::State {
            self.stores.called(op, result, took);
        }
    }

    fn changed(&self, state: Result<(), &str>) {
        self.tell(state);
    }
}

impl Observer for StateMetrics {
    fn called(&self, engine: EngineName, kind: Option<Kind>, op: Op, result: &'static str, took: Duration) {
        self.count(engine, kind, op, result, took);
    }
}
