//! The store that replicas share: made from its settings, watched by logs, metrics and the audit log.
use crate::config::settings::{Redis, RedisPlace};
use crate::serve::authorities;
use crate::serve::herald::Herald;
use crate::serve::metrics::StoreMetrics;
use crate::store::quota::{Common, HashKeys};
use crate::store::shared::{Health, Observer, Op, Options, Password, Place, SharedStore};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The shortest secret that keys may be hashed with.
const MIN_HASH_KEY: usize = 16;

/// The store in use, kept over reloads as long as nothing about it changes.
pub struct Storage {
    now: Mutex<Option<(Made, Arc<Common>)>>,
    metrics: StoreMetrics,
    herald: Arc<Herald>,
}

/// What a store was made from, the contents of its files included.
#[derive(Clone, PartialEq, Eq)]
struct Made {
    settings: Redis,
    instance: String,
    authorities: Option<Vec<u8>>,
    keys: HashKeys,
}

/// A store that is ready to be used.
pub struct Ready(Option<(Made, Option<Arc<rustls::ClientConfig>>)>);

impl Storage {
    /// None yet.
    pub fn new(metrics: StoreMetrics, herald: Arc<Herald>) -> Storage {
        Storage { now: Mutex::default(), metrics, herald }
    }

    /// Reads what a snapshot's store needs: its secret and its authorities. The error is for the operator. May wait for
    /// the disk. Whether the server can be reached is not asked.
    pub fn prepare(settings: Option<&Redis>, instance: &str) -> Result<Ready, String> {
        let Some(settings) = settings.filter(|settings| settings.limits) else { return Ok(Ready(None)) };
        let secret = match (&settings.hash_key, &settings.password) {
            (Some(place), _) => {
                let secret = place.read().map_err(|error| format!("storage.redis.hash_key: {error}"))?;
                if secret.len() < MIN_HASH_KEY {
                    return Err(format!("storage.redis.hash_key: the secret has fewer than {MIN_HASH_KEY} bytes"));
                }
                secret
            }
            (None, Some(place)) => place.read().map_err(|error| format!("storage.redis.password: {error}"))?,
            (None, None) => return Err("storage.redis: no secret to hash keys with".to_owned()),
        };
        let ca = settings.tls.as_ref().and_then(|tls| tls.ca.as_deref());
        let wrong = |error: String| format!("storage.redis.ca: {error}");
        let tls = match &settings.tls {
            None => None,
            Some(_) => Some(Arc::new(authorities::client_tls(ca).map_err(wrong)?)),
        };
        let authorities = ca.map(std::fs::read).transpose().map_err(|error| wrong(error.to_string()))?;
        let keys = HashKeys::derive(secret.as_bytes());
        let made = Made { settings: settings.clone(), instance: instance.to_owned(), authorities, keys };
        Ok(Ready(Some((made, tls))))
    }

    /// Puts it in force; the one before goes on where nothing about it has changed. Needs a tokio runtime.
    pub fn adopt(&self, ready: Ready) -> Option<Arc<Common>> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = match (ready.0, now.take()) {
            (None, _) => None,
            (Some((made, _)), Some((before, common))) if made == before => Some((made, common)),
            (Some((made, tls)), _) => {
                let observer = Arc::new(Watcher { metrics: self.metrics.clone(), herald: self.herald.clone() });
                self.metrics.up(false);
                let store = Arc::new(SharedStore::start(options(&made, tls), observer));
                let common = Arc::new(Common { store, keys: made.keys.clone() });
                Some((made, common))
            }
        };
        now.as_ref().map(|(_, common)| common.clone())
    }

    /// How the store does, and where it is; `None` without one.
    pub fn health(&self) -> Option<(String, Health)> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.as_ref().map(|(made, common)| (address(&made.settings), common.store.health()))
    }
}

/// Where a store is, without anything secret.
fn address(settings: &Redis) -> String {
    match (&settings.place, &settings.tls) {
        (RedisPlace::Unix(path), _) => format!("unix:{}", path.display()),
        (RedisPlace::Tcp(host, port), Some(_)) => format!("rediss://{host}:{port}"),
        (RedisPlace::Tcp(host, port), None) => format!("redis://{host}:{port}"),
    }
}

fn options(made: &Made, tls: Option<Arc<rustls::ClientConfig>>) -> Options {
    reached(&made.settings, &made.instance, tls)
}

/// How a Redis is reached.
pub(super) fn reached(settings: &Redis, instance: &str, tls: Option<Arc<rustls::ClientConfig>>) -> Options {
    let password = settings.password.clone();
    Options {
        place: match &settings.place {
            RedisPlace::Tcp(host, port) => Place::Tcp { host: host.clone(), port: *port },
            RedisPlace::Unix(path) => Place::Unix(path.clone()),
        },
        tls,
        username: settings.username.clone(),
        password: password.map(|place| -> Password { Arc::new(move || place.read()) }),
        database: settings.database,
        prefix: settings.key_prefix.clone(),
        instance: Some(instance.to_owned()),
        connect_timeout: settings.connect_timeout,
        command_timeout: settings.command_timeout,
    }
}

/// Tells of calls and changes.
struct Watcher {
    metrics: StoreMetrics,
    herald: Arc<Herald>,
}

impl Observer for Watcher {
    fn called(&self, op: Op, result: &'static str, took: Duration) {
        self.metrics.called(op, result, took);
    }

    fn changed(&self, state: Result<(), &str>) {
        self.metrics.up(state.is_ok());
        self.herald.store_changed("redis", state);
        match state {
            Ok(()) => tracing::info!(store = "redis", "the shared store is of use"),
            Err(reason) => tracing::error!(
                store = "redis",
                reason,
                "the shared store is not of use: limits go by their `on_store_loss`"
            ),
        }
    }
}
