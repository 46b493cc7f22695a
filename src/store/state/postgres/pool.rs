//! A few connections to PostgreSQL, each looked after by a task of its own.
//!
//! A request never waits for a connection: it uses one that there is, or learns at once that there is none. A connection
//! over which an answer did not come in time is closed: what it was about to do may have been done.
use super::wire::{Wire, silent_of};
use super::{Cause, Options, Silent, Values, Watcher, silent};
use crate::store::shared::pause;
use arc_swap::ArcSwapOption;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::Row;

/// How often a connection is asked whether it still is one.
const PULSE: Duration = Duration::from_secs(1);

pub(super) struct Pool {
    core: Arc<Core>,
    /// Ends with the pool.
    _keepers: JoinSet<()>,
}

struct Core {
    options: Options,
    slots: Vec<Slot>,
    next: AtomicUsize,
    told: watch::Sender<u64>,
    /// How many attempts to connect have ended.
    tries: watch::Sender<u64>,
    /// Why it is of no use; `None` where it is. Unset before the first attempt.
    state: Mutex<Option<Result<(), String>>>,
    watcher: Arc<dyn Watcher>,
}

#[derive(Default)]
struct Slot {
    wire: ArcSwapOption<Wire>,
}

impl Pool {
    pub fn start(options: Options, watcher: Arc<dyn Watcher>) -> Pool {
        let slots = (0..options.connections.max(1)).map(|_| Slot::default()).collect::<Vec<_>>();
        let core = Arc::new(Core {
            options,
            slots,
            next: AtomicUsize::new(0),
            told: watch::Sender::new(0),
            tries: watch::Sender::new(0),
            state: Mutex::default(),
            watcher,
        });
        let mut keepers = JoinSet::new();
        for number in 0..core.slots.len() {
            let core = core.clone();
            keepers.spawn(async move { core.keep(number).await });
        }
        Pool { core, _keepers: keepers }
    }

    pub async fn tried(&self) {
        // The sender is in the core, so there is no error.
        let _ = self.core.tries.subscribe().wait_for(|tries| *tries > 0).await;
    }

    pub fn health(&self) -> Result<(), String> {
        let state = self.core.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clone().unwrap_or_else(|| Err("not connected yet".to_owned()))
    }

    /// Counts notifications, and connections that have ended.
    pub fn told(&self) -> watch::Receiver<u64> {
        self.core.told.subscribe()
    }

    pub async fn rows(&self, statement: &str, values: Values<'_>) -> Result<Vec<Row>, Silent> {
        self.core.call(async |wire| wire.client.query_typed(statement, values).await).await
    }

    /// The same with values that are somebody else's; `None` where one is none that its type has.
    pub async fn rows_of(&self, statement: &str, values: Values<'_>) -> Result<Option<Vec<Row>>, Silent> {
        // No number, no UUID, no such day.
        let senseless = |error: &tokio_postgres::Error| {
            error.code().is_some_and(|code| matches!(code.code(), "22P02" | "22003" | "22007" | "22008"))
        };
        let call = async |wire: &Wire| match wire.client.query_typed(statement, values).await {
            Err(error) if senseless(&error) => Ok(None),
            rows => rows.map(Some),
        };
        self.core.call(call).await
    }

    pub async fn execute(&self, statement: &str, values: Values<'_>) -> Result<u64, Silent> {
        self.core.call(async |wire| wire.client.execute_typed(statement, values).await).await
    }
}

impl Core {
    async fn call<T>(&self, work: impl AsyncFnOnce(&Wire) -> Result<T, tokio_postgres::Error>) -> Result<T, Silent> {
        let Some((slot, wire)) = self.choose() else {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let why = state.and_then(Result::err).unwrap_or_else(|| "no connection".to_owned());
            return Err(silent(Cause::Unreachable, why));
        };
        // The server gives up by itself at this time; a little later nothing will come any more.
        let limit = self.options.command_timeout + self.options.command_timeout / 4;
        match tokio::time::timeout(limit, work(&wire)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                if error.is_closed() {
                    slot.suspect(&wire);
                }
                Err(silent_of(&error))
            }
            Err(_) => {
                slot.suspect(&wire);
                Err(silent(Cause::Timeout, "no answer in time"))
            }
        }
    }

    /// The next connection in turn that there is.
    fn choose(&self) -> Option<(&Slot, Arc<Wire>)> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len().max(1);
        let (before, from) = self.slots.split_at_checked(first)?;
        from.iter().chain(before).find_map(|slot| {
            let wire = slot.wire.load_full().filter(|wire| !wire.client.is_closed())?;
            Some((slot, wire))
        })
    }

    /// Looks after one connection. Never ends.
    async fn keep(&self, number: usize) {
        let Some(slot) = self.slots.get(number) else { return };
        let mut failures = 0;
        loop {
            match Wire::open(&self.options, &self.told).await {
                Ok(wire) => {
                    let wire = Arc::new(wire);
                    failures = 0;
                    slot.wire.store(Some(wire.clone()));
                    self.now(Ok(()));
                    self.told.send_modify(|count| *count += 1);
                    let why = self.until_lost(&wire).await;
                    slot.suspect(&wire);
                    if self.choose().is_none() {
                        self.now(Err(why));
                    }
                }
                Err(silent) => {
                    failures += 1;
                    if self.choose().is_none() {
                        self.now(Err(silent.text));
                    }
                }
            }
            tokio::time::sleep(pause(failures)).await;
        }
    }

    async fn until_lost(&self, wire: &Wire) -> String {
        let mut pace = tokio::time::interval(PULSE);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        pace.reset();
        loop {
            tokio::select! {
                () = wire.ended() => return "the connection was closed".to_owned(),
                () = wire.doubt.notified() => return "no answer in time".to_owned(),
                _ = pace.tick() => {}
            }
            // Behind what is under way, so it may take longer than one answer does.
            match tokio::time::timeout(self.options.connect_timeout, wire.client.check_connection()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return silent_of(&error).text,
                Err(_) => return "no answer in time".to_owned(),
            }
        }
    }

    /// Tells when something has changed.
    fn now(&self, new: Result<(), String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.as_ref() != Some(&new) {
            *state = Some(new.clone());
            drop(state);
            self.watcher.changed(new.as_ref().copied().map_err(String::as_str));
        }
        self.tries.send_modify(|tries| *tries += 1);
    }
}

impl Slot {
    /// From now on nobody uses this connection.
    fn suspect(&self, wire: &Arc<Wire>) {
        let live = self.wire.load();
        if live.as_ref().is_some_and(|live| Arc::ptr_eq(live, wire)) {
            self.wire.compare_and_swap(&*live, None);
        }
        wire.doubt.notify_one();
    }
}
