//! Limits that replicas share, on a real Redis: all modes mean the same, replicas together stay within bounds, and every
//! way in which a store can be silent ends as the limit says.
mod conformance;
mod faults;
mod gateway;
mod together;
mod transport;

use crate::harness::PATIENCE;
use decide::facts::{Reading, Stage};
use decide::rules::{KeyPart, Limit, Rate, Sharing, SharingMode, StoreLoss};
use moat::store::quota::{Common, Dues, HashKeys, KeyInput, Quotas, Silent};
use moat::store::shared::{Observer, Op, Options, Place, SharedStore};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Writes down what a store tells.
#[derive(Default)]
struct Notes {
    calls: Mutex<Vec<(Op, &'static str)>>,
    changes: Mutex<Vec<Result<(), String>>>,
}

impl Observer for Notes {
    fn called(&self, op: Op, result: &'static str, _: Duration) {
        self.calls.lock().unwrap().push((op, result));
    }

    fn changed(&self, state: Result<(), &str>) {
        self.changes.lock().unwrap().push(state.map_err(str::to_owned));
    }
}

impl Notes {
    fn calls(&self, op: Op) -> usize {
        self.calls.lock().unwrap().iter().filter(|(known, _)| *known == op).count()
    }
}

/// One replica: limits, and the store if it shares any.
struct Replica {
    quotas: Arc<Quotas>,
    store: Option<Arc<SharedStore>>,
    notes: Arc<Notes>,
    keeper: tokio::task::JoinHandle<()>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Replica {
    /// Without a store.
    fn alone() -> Replica {
        let quotas = Arc::new(Quotas::new());
        let keeper = tokio::spawn(quotas.clone().keep_together());
        Replica { quotas, store: None, notes: Arc::default(), keeper }
    }

    /// With this store, and much patience: the machine may be busy.
    async fn joined(address: SocketAddr, instance: &str) -> Replica {
        Replica::with(address, instance, |options| options.command_timeout = Duration::from_secs(5)).await
    }

    async fn with(address: SocketAddr, instance: &str, change: impl FnOnce(&mut Options)) -> Replica {
        let mut options = Options {
            place: Place::Tcp { host: address.ip().to_string(), port: address.port() },
            tls: None,
            username: None,
            password: None,
            database: 0,
            prefix: "test".to_owned(),
            instance: Some(instance.to_owned()),
            connect_timeout: Duration::from_secs(5),
            command_timeout: Duration::from_millis(50),
        };
        change(&mut options);
        let mut replica = Replica::alone();
        let store = Arc::new(SharedStore::start(options, replica.notes.clone()));
        store.tried().await;
        let keys = HashKeys::derive(b"a secret that all replicas have");
        replica.quotas.share(Some(Arc::new(Common { store: store.clone(), keys })));
        replica.store = Some(store);
        replica
    }

    fn store(&self) -> &SharedStore {
        self.store.as_ref().unwrap()
    }

    async fn try_take(&self, limits: &[Arc<Limit>], input: &KeyInput<'_>) -> Result<Reading, Silent> {
        let stage = limits.first().map_or(Stage::Address, |limit| limit.stage());
        self.quotas.take_shared(limits, stage, input, &mut Dues::default()).await
    }

    async fn take(&self, limits: &[Arc<Limit>], input: &KeyInput<'_>) -> Reading {
        self.try_take(limits, input).await.unwrap()
    }

    /// How many of `tries` requests pass.
    async fn passing(&self, limits: &[Arc<Limit>], input: &KeyInput<'_>, tries: usize) -> usize {
        let mut passed = 0;
        for _ in 0..tries {
            passed += usize::from(self.take(limits, input).await.exceeded.is_none());
        }
        passed
    }

    async fn until_up(&self, up: bool) {
        until(&format!("up: {up}"), || self.store().is_up() == up).await;
    }
}

/// Waits for something that comes without being told.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        pace.tick().await;
    }
}

fn limit(name: &str, key: &[KeyPart], rates: &[(u32, u32, u32)], sharing: Option<Sharing>) -> Arc<Limit> {
    let rates = rates.iter().map(|&(count, period_s, burst)| Rate { count, period_s, burst }).collect();
    Arc::new(Limit { sharing, ..Limit::new(name, key.to_vec(), rates) })
}

fn shared(mode: SharingMode, on_store_loss: StoreLoss) -> Option<Sharing> {
    Some(Sharing { mode, on_store_loss })
}

fn from(client: &str) -> KeyInput<'static> {
    KeyInput::of(client.parse().unwrap(), "r")
}
