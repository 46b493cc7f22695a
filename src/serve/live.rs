//! What is running: every request that was permitted, from its permit to its end, so that a reload can judge it again.
//!
//! A snapshot that takes over decides about new requests at once. What is already under way goes on, unless the new
//! rules would have refused it: then it is ended, and the reason is told where the protocol has a place for it. A
//! request without an answer is refused; of an answer, the rest does not come; a WebSocket gets close frames.
//!
//! Judging happens in a task of its own, piece by piece: the swap of snapshots never waits for it.
pub mod farewell;
pub mod frames;
mod judge;
mod leash;
mod weaker;

pub use judge::Exchange;
pub use leash::{Leash, Phase, Pull};

use crate::config::settings::CloseAtExpiry;
use crate::serve::gateway::Shared;
use decide::facts::Identity;
use decide::refusal::{Code, Refusal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Parts of the register: requests of different cores should not wait for each other.
const SHARDS: usize = 16;
/// How often to look for sessions that have ended.
const TICK: Duration = Duration::from_secs(1);
/// Exchanges judged before others get the core.
const JUDGED_AT_ONCE: usize = 64;
/// Exchanges ended before a pause, and the pause: clients that were closed together come back together.
const CLOSED_AT_ONCE: (usize, Duration) = (100, Duration::from_millis(10));

tokio::task_local! {
    /// The leash of the exchange that the current task carries; set by whoever can let go of it.
    pub static LEASH: Arc<Leash>;
}

/// The leash of the current task, where it has one.
pub fn leash() -> Option<Arc<Leash>> {
    LEASH.try_with(Arc::clone).ok()
}

/// The register of what is running.
#[derive(Debug, Default)]
pub struct Live {
    shards: [Mutex<Shelf>; SHARDS],
    bell: Notify,
}

/// What is running, by how far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// Without an answer yet.
    pub waiting: usize,
    /// Answers that have begun and not ended.
    pub answering: usize,
    /// Upgraded connections.
    pub tunnels: usize,
}

/// Places of a shelf that are kept while nothing is running.
const KEPT: usize = 64;

/// Numbered places.
#[derive(Debug, Default)]
struct Shelf {
    places: Vec<Option<Arc<Exchange>>>,
    free: Vec<usize>,
}

/// A place in the register; gives itself back when dropped.
pub struct Stay {
    shared: Arc<Shared>,
    place: (usize, usize),
    leash: Arc<Leash>,
}

impl Stay {
    /// By which the exchange is ended.
    pub fn leash(&self) -> &Leash {
        &self.leash
    }

    /// Why the exchange was ended while it ran, where it was.
    pub fn ended(&self) -> Option<Refusal> {
        self.leash.pulled().map(Pull::refusal)
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.shared.live.leave(self.place);
    }
}

impl Live {
    /// Registers an exchange that was permitted by the snapshot of `generation`. `random` spreads exchanges.
    pub fn enter(shared: &Arc<Shared>, exchange: Exchange, generation: u64, random: usize) -> Stay {
        let leash = exchange.leash.clone();
        let place = shared.live.place(exchange, random % SHARDS);
        // The snapshot may have been replaced between the decision and this line.
        if shared.active().generation != generation {
            shared.live.bell.notify_one();
        }
        Stay { shared: shared.clone(), place, leash }
    }

    fn place(&self, exchange: Exchange, shard: usize) -> (usize, usize) {
        let exchange = Arc::new(exchange);
        let Some(shelf) = self.shards.get(shard) else { return (shard, usize::MAX) };
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let free = shelf.free.pop();
        let at = free.unwrap_or(shelf.places.len());
        match shelf.places.get_mut(at) {
            Some(place) => *place = Some(exchange),
            None => shelf.places.push(Some(exchange)),
        }
        (shard, at)
    }

    fn leave(&self, (shard, at): (usize, usize)) {
        let Some(shelf) = self.shards.get(shard) else { return };
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let left = shelf.places.get_mut(at).and_then(Option::take);
        if left.is_some() {
            shelf.free.push(at);
        }
        if shelf.places.len() > KEPT && shelf.free.len() == shelf.places.len() {
            // A day's peak is not kept for ever.
            *shelf = Shelf::default();
        }
        drop(shelf);
        // Its strings are freed by nobody who holds the lock.
        drop(left);
    }

    /// How many are running.
    pub fn count(&self) -> usize {
        let of = |shelf: &Mutex<Shelf>| {
            let shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            shelf.places.len() - shelf.free.len()
        };
        self.shards.iter().map(of).sum()
    }

    /// How many are running, by how far they have come.
    pub fn running(&self) -> Running {
        let mut running = Running::default();
        for shelf in &self.shards {
            let shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            for exchange in shelf.places.iter().flatten() {
                match exchange.leash.phase() {
                    Phase::Waiting => running.waiting += 1,
                    Phase::Answering => running.answering += 1,
                    Phase::Tunnel => running.tunnels += 1,
                }
            }
        }
        running
    }

    /// How many are running for callers like this.
    pub fn callers(&self, like: impl Fn(&Identity) -> bool) -> u64 {
        let of =
            |shard| self.shelf(shard).iter().filter(|exchange| exchange.caller().is_some_and(&like)).count() as u64;
        (0..SHARDS).map(of).sum()
    }

    /// Another snapshot is in force: what is running is to be judged by it.
    pub fn judge_again(&self) {
        self.bell.notify_one();
    }

    fn shelf(&self, shard: usize) -> Vec<Arc<Exchange>> {
        let Some(shelf) = self.shards.get(shard) else { return Vec::new() };
        let shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.places.iter().flatten().cloned().collect()
    }
}

/// Judges what is running whenever another snapshot takes over or sessions are ended before their time, and ends what outlives its session. Never ends.
pub async fn watch_over(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shared.live.bell.notified() => judge_all(&shared).await,
            () = shared.revocations.changed() => {
                end_revoked(&shared).await;
                weaker::look_again(&shared).await;
            }
            _ = tick.tick() => {
                expire(&shared).await;
                weaker::look_again(&shared).await;
            }
        }
    }
}

/// The process ends: WebSockets that are still open get close frames. What has no such end is cut a moment later. Returns
/// how many there were.
pub fn dismiss(shared: &Shared) -> usize {
    let mut dismissed = 0;
    for shard in 0..SHARDS {
        for exchange in shared.live.shelf(shard) {
            if exchange.leash.phase() == Phase::Tunnel {
                let cause = "the process ends, and the time to drain is over".to_owned();
                dismissed += usize::from(end(shared, &exchange, Pull { code: Code::GatewayUnavailable, cause }));
            }
        }
    }
    dismissed
}

/// Asks the snapshot in force about everything that another one permitted.
async fn judge_all(shared: &Shared) {
    let (mut judged, mut closed) = (0, 0);
    for shard in 0..SHARDS {
        for exchange in shared.live.shelf(shard) {
            // Anew for each: a reload during this round is obeyed from here on.
            let active = shared.active();
            if !exchange.is_new_to(active.generation) {
                continue;
            }
            judged += 1;
            if let Err(refusal) = exchange.judge(&active.snapshot) {
                let cause = format!("ended by a reload: {}", refusal.cause);
                if end(shared, &exchange, Pull { code: refusal.code, cause }) {
                    closed += 1;
                    pause(closed).await;
                }
            }
            if judged % JUDGED_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
    if closed > 0 {
        tracing::warn!(judged, closed, "ended what the new configuration would have refused");
    }
}

/// Ends what has outlived its session, as far as `sessions.close_at_expiry` says so.
async fn expire(shared: &Shared) {
    let of = |phase: Phase| match shared.active().snapshot.close_at_expiry {
        CloseAtExpiry::Nothing => false,
        CloseAtExpiry::Websockets => phase == Phase::Tunnel,
        CloseAtExpiry::Streams => phase != Phase::Waiting,
    };
    let now_s = crate::serve::run::now_ms() / 1000;
    let mut closed = 0;
    for shard in 0..SHARDS {
        for exchange in shared.live.shelf(shard) {
            let Some(refusal) = exchange.expired(now_s).filter(|_| of(exchange.leash.phase())) else { continue };
            let pull = Pull { code: refusal.code, cause: refusal.cause.into_owned() };
            if end(shared, &exchange, pull) {
                closed += 1;
                pause(closed).await;
            }
        }
    }
}

/// Ends what was opened by somebody who is out since. Without pauses: whoever comes back at once is refused.
async fn end_revoked(shared: &Shared) {
    let (mut judged, mut closed) = (0, 0);
    for shard in 0..SHARDS {
        for exchange in shared.live.shelf(shard) {
            judged += 1;
            if let Some(refusal) = exchange.revoked(&shared.revocations) {
                let pull = Pull { code: refusal.code, cause: refusal.cause.into_owned() };
                closed += usize::from(end(shared, &exchange, pull));
            }
            if judged % JUDGED_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
    if closed > 0 {
        tracing::info!(judged, closed, "ended what was opened by sessions that were ended");
    }
}

/// Pulls a leash. Whether something that had begun was ended by it: the rest are refusals like others.
fn end(shared: &Shared, exchange: &Exchange, pull: Pull) -> bool {
    let code = pull.code;
    match exchange.leash.pull(pull) {
        Some(Phase::Answering | Phase::Tunnel) => {
            shared.metrics.stream_closed(code);
            true
        }
        Some(Phase::Waiting) | None => false,
    }
}

async fn pause(closed: usize) {
    let (most, pause) = CLOSED_AT_ONCE;
    if closed.is_multiple_of(most) {
        tokio::time::sleep(pause).await;
    }
}
