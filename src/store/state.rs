//! State that outlives a request: small records by kind and key, in one of a closed set of engines.
//!
//! What a record means is its owner's business: values are opaque and come sealed. An engine promises this much, and one
//! suite holds all of them to it (`tests/it/state`):
//!
//! - **Compare and swap.** Each write gives a record another version, drawn at random. A write that expects a version
//!   happens only where that version stands, also after an engine has lost its last writes.
//! - **What has expired is not there**, by this process's clock, whenever housekeeping removes it.
//! - **An answer is durable**, where the engine is: what was acknowledged survives a kill of either side.
//! - **Silence is told apart from absence**: whoever cannot be asked is [`Silent`], and the caller refuses.
//! - **The feed** is a short log that all replicas follow: in one order, from where one has left off, and whoever has
//!   missed something is told so.
pub mod embedded;
pub mod memory;
pub mod postgres;
mod record;
pub mod redis;

pub use record::{Expect, Found, Kind, MAX_KEY, MAX_NOTE, MAX_VALUE, NEVER, News, Position, Put, Record, Scan};

use embedded::Embedded;
use memory::Memory;
use postgres::Postgres;
use redis::Redis;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The time, in milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The most that one answer of [`State::list`], [`State::scan`] or [`State::follow`] holds.
pub const MOST: usize = 1000;

/// Where records are kept: the `engine` label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EngineName {
    /// This process's memory. For tests.
    Memory,
    /// A file on this machine.
    Embedded,
    /// A Redis or Valkey.
    Redis,
    /// A PostgreSQL.
    Postgres,
}

impl EngineName {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            EngineName::Memory => "memory",
            EngineName::Embedded => "embedded",
            EngineName::Redis => "redis",
            EngineName::Postgres => "postgres",
        }
    }
}

/// Why an engine gives no answer that could be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It cannot be reached, or ended the conversation.
    Unreachable,
    /// It did not answer in time. The write may have been carried out.
    Timeout,
    /// It has no room.
    Full,
    /// What it holds, or says, is not what was written.
    Damaged,
    /// It refuses us: no rights, read-only, another schema.
    Refused,
    /// A key, value or note is longer than it may be: a mistake of the caller's.
    TooLong,
}

impl Cause {
    /// The `result` label of metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Cause::Unreachable => "unreachable",
            Cause::Timeout => "timeout",
            Cause::Full => "full",
            Cause::Damaged => "damaged",
            Cause::Refused => "refused",
            Cause::TooLong => "too_long",
        }
    }
}

/// The world is silent: nobody knows what is there. Never the same as nothing being there; the caller refuses with
/// `gateway.unavailable`, or does what its configuration says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is silent: {text}", engine.word())]
pub struct Silent {
    /// Who is silent.
    pub engine: EngineName,
    /// Why.
    pub cause: Cause,
    /// The same in words, for the operator only.
    pub text: String,
}

impl Silent {
    pub(super) fn new(engine: EngineName, cause: Cause, text: impl Into<String>) -> Silent {
        Silent { engine, cause, text: text.into() }
    }
}

/// What is done with records: the `op` label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Reads one.
    Get,
    /// Writes one.
    Put,
    /// Takes one away.
    Remove,
    /// Reads those with one index.
    List,
    /// Reads all of a kind.
    Scan,
    /// Adds to the feed.
    Append,
    /// Reads the feed.
    Follow,
    /// Removes what has expired.
    Sweep,
}

impl Op {
    /// All of them.
    pub const ALL: [Op; 8] = [Op::Get, Op::Put, Op::Remove, Op::List, Op::Scan, Op::Append, Op::Follow, Op::Sweep];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Op::Get => "get",
            Op::Put => "put",
            Op::Remove => "remove",
            Op::List => "list",
            Op::Scan => "scan",
            Op::Append => "append",
            Op::Follow => "follow",
            Op::Sweep => "sweep",
        }
    }
}

/// Somebody who wants to know: metrics, logs, the audit log.
pub trait Observer: Send + Sync {
    /// A call has ended: with `ok`, `conflict`, or the word of its [`Cause`].
    fn called(&self, engine: EngineName, kind: Option<Kind>, op: Op, result: &'static str, took: Duration);
}

/// Nobody wants to know.
#[derive(Clone, Copy, Debug)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn called(&self, _: EngineName, _: Option<Kind>, _: Op, _: &'static str, _: Duration) {}
}

/// One engine.
#[derive(Clone, Debug)]
pub enum Engine {
    /// This process's memory.
    Memory(Arc<Memory>),
    /// A file.
    Embedded(Arc<Embedded>),
    /// A Redis or Valkey.
    Redis(Arc<Redis>),
    /// A PostgreSQL.
    Postgres(Arc<Postgres>),
}

impl Engine {
    /// Which one it is.
    pub fn name(&self) -> EngineName {
        match self {
            Engine::Memory(_) => EngineName::Memory,
            Engine::Embedded(_) => EngineName::Embedded,
            Engine::Redis(_) => EngineName::Redis,
            Engine::Postgres(_) => EngineName::Postgres,
        }
    }
}

/// All state of this process, as all requests share it.
pub struct State {
    /// The engine of each kind, in the order of [`Kind::ALL`].
    engines: [Engine; Kind::ALL.len()],
    clock: Clock,
    observer: Arc<dyn Observer>,
}

impl State {
    /// Kept where `place` says for each kind. The feed lies where marks lie.
    pub fn new(place: impl Fn(Kind) -> Engine, clock: Clock, observer: Arc<dyn Observer>) -> State {
        State { engines: Kind::ALL.map(place), clock, observer }
    }

    /// In memory alone, with the clock of the system: for tests.
    pub fn in_memory() -> State {
        let since = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        State::in_memory_at(Arc::new(move || u64::try_from(since().as_millis()).unwrap_or(u64::MAX)))
    }

    /// In memory alone, with a clock of the caller's: for tests.
    pub fn in_memory_at(clock: Clock) -> State {
        let memory = Arc::new(Memory::default());
        State::new(|_| Engine::Memory(memory.clone()), clock, Arc::new(Unobserved))
    }

    /// Which engine keeps a kind.
    pub fn engine(&self, kind: Kind) -> EngineName {
        self.of(kind).name()
    }

    /// How each engine in use does; else why not.
    pub fn health(&self) -> Vec<(EngineName, Result<(), String>)> {
        let mut all: Vec<(EngineName, Result<(), String>)> = Vec::new();
        for engine in &self.engines {
            if all.iter().any(|(known, _)| *known == engine.name()) {
                continue;
            }
            let health = match engine {
                Engine::Memory(_) => Ok(()),
                Engine::Embedded(engine) => engine.health(),
                Engine::Redis(engine) => match engine.health() {
                    health if health.up => Ok(()),
                    health => Err(health.trouble.unwrap_or_else(|| "not connected yet".to_owned())),
                },
                Engine::Postgres(engine) => engine.health(),
            };
            all.push((engine.name(), health));
        }
        all
    }

    /// The record of a key; `None` where there is none, or one that has expired. Never waits for a write.
    pub async fn get(&self, kind: Kind, key: &[u8]) -> Result<Option<Record>, Silent> {
        let (engine, now) = (self.of(kind), (self.clock)());
        let call = async {
            fits(engine, key, 0)?;
            match engine {
                Engine::Memory(engine) => Ok(engine.get(kind, key, now)),
                Engine::Embedded(engine) => engine.get(kind, key, now),
                Engine::Redis(engine) => engine.get(kind, key, now).await,
                Engine::Postgres(engine) => engine.get(kind, key, now).await,
            }
        };
        self.told(engine, Some(kind), Op::Get, |_| "ok", call).await
    }

    /// Writes a record where what is there is as expected. `record.version` does not matter: what is written has the
    /// version that [`Put::Written`] tells.
    pub async fn put(&self, kind: Kind, key: &[u8], expect: Expect, mut record: Record) -> Result<Put, Silent> {
        let (engine, now) = (self.of(kind), (self.clock)());
        record.version = record::draw();
        let call = async {
            fits(engine, key, record.value.len())?;
            match engine {
                Engine::Memory(engine) => Ok(engine.put(kind, key, expect, record, now)),
                Engine::Embedded(engine) => engine.put(kind, key, expect, record, now).await,
                Engine::Redis(engine) => engine.put(kind, key, expect, record, now).await,
                Engine::Postgres(engine) => engine.put(kind, key, expect, record, now).await,
            }
        };
        self.told(engine, Some(kind), Op::Put, Put::word, call).await
    }

    /// Takes a record away, and returns it: of several who take the same, one gets it.
    pub async fn remove(&self, kind: Kind, key: &[u8]) -> Result<Option<Record>, Silent> {
        let (engine, now) = (self.of(kind), (self.clock)());
        let call = async {
            fits(engine, key, 0)?;
            match engine {
                Engine::Memory(engine) => Ok(engine.remove(kind, key, now)),
                Engine::Embedded(engine) => engine.remove(kind, key, now).await,
                Engine::Redis(engine) => engine.remove(kind, key, now).await,
                Engine::Postgres(engine) => engine.remove(kind, key, now).await,
            }
        };
        self.told(engine, Some(kind), Op::Remove, |_| "ok", call).await
    }

    /// Records with this index by their keys in order, from the first behind `after`; at most `limit` and [`MOST`].
    pub async fn list(
        &self,
        kind: Kind,
        index: &[u8; 32],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Found>, Silent> {
        let (engine, now, limit) = (self.of(kind), (self.clock)(), limit.min(MOST));
        let call = async {
            match engine {
                Engine::Memory(engine) => Ok(engine.list(kind, index, after, limit, now)),
                Engine::Embedded(engine) => engine.list(kind, index, after, limit, now).await,
                Engine::Redis(engine) => engine.list(kind, index, after, limit, now).await,
                Engine::Postgres(engine) => engine.list(kind, index, after, limit, now).await,
            }
        };
        self.told(engine, Some(kind), Op::List, |_| "ok", call).await
    }

    /// All records of a kind, piece by piece, in no order: begin with `None`, go on with [`Scan::next`] until that is
    /// `None`. What stands there all the time comes at least once. For the start, not for requests.
    pub async fn scan(&self, kind: Kind, from: Option<&[u8]>, limit: usize) -> Result<Scan, Silent> {
        let (engine, now, limit) = (self.of(kind), (self.clock)(), limit.clamp(1, MOST));
        let call = async {
            match engine {
                Engine::Memory(engine) => Ok(engine.scan(kind, from, limit, now)),
                Engine::Embedded(engine) => engine.scan(kind, from, limit, now).await,
                Engine::Redis(engine) => engine.scan(kind, from, limit, now).await,
                Engine::Postgres(engine) => engine.scan(kind, from, limit, now).await,
            }
        };
        self.told(engine, Some(kind), Op::Scan, |_| "ok", call).await
    }

    /// Whether this is the first time that anybody says this, until then.
    pub async fn once(&self, kind: Kind, key: &[u8], expires_at_ms: u64) -> Result<bool, Silent> {
        match self.put(kind, key, Expect::Absent, Record::new(Vec::new(), expires_at_ms)).await? {
            Put::Written { .. } => Ok(true),
            Put::Conflict(_) => Ok(false),
        }
    }

    /// Tells all replicas. At most [`MAX_NOTE`] bytes.
    pub async fn append_feed(&self, note: &[u8]) -> Result<Position, Silent> {
        let (engine, now) = (self.of(Kind::Mark), (self.clock)());
        let call = async {
            if note.len() > MAX_NOTE {
                return Err(Silent::new(engine.name(), Cause::TooLong, "a note that is too long"));
            }
            match engine {
                Engine::Memory(engine) => Ok(engine.append(note)),
                Engine::Embedded(engine) => engine.append(note, now).await,
                Engine::Redis(engine) => engine.append(note).await,
                Engine::Postgres(engine) => engine.append(note, now).await,
            }
        };
        self.told(engine, None, Op::Append, |_| "ok", call).await
    }

    /// Where the feed ends now. Whoever begins to follow asks this first, then reads all there is, then follows from here.
    pub async fn feed_end(&self) -> Result<Position, Silent> {
        let engine = self.of(Kind::Mark);
        let call = async {
            match engine {
                Engine::Memory(engine) => Ok(engine.feed_end()),
                Engine::Embedded(engine) => engine.feed_end(),
                Engine::Redis(engine) => engine.feed_end().await,
                Engine::Postgres(engine) => engine.feed_end().await,
            }
        };
        self.told(engine, None, Op::Follow, |_| "ok", call).await
    }

    /// What was told behind `after`, as soon as there is something, or nothing after `wait`: then all is known that was
    /// acknowledged before this call. [`News::missed`] says that something behind `after` may have been lost or
    /// forgotten: read everything anew.
    pub async fn follow(&self, after: Position, wait: Duration) -> Result<News, Silent> {
        let engine = self.of(Kind::Mark);
        let call = async {
            match engine {
                Engine::Memory(engine) => Ok(engine.follow(after, wait).await),
                Engine::Embedded(engine) => engine.follow(after, wait).await,
                Engine::Redis(engine) => engine.follow(after, wait).await,
                Engine::Postgres(engine) => engine.follow(after, wait).await,
            }
        };
        self.told(engine, None, Op::Follow, |_| "ok", call).await
    }

    /// Removes what has expired, by and by. Never ends; to be spawned once.
    pub async fn keep_house(self: Arc<State>) {
        let mut pace = tokio::time::interval(SWEEP_EVERY);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            self.sweep().await;
        }
    }

    /// Removes what has expired now. Who is silent is asked again next time.
    pub async fn sweep(&self) {
        let now = (self.clock)();
        let mut swept: Vec<EngineName> = Vec::new();
        for engine in &self.engines {
            if swept.contains(&engine.name()) {
                continue;
            }
            swept.push(engine.name());
            let call = async {
                match engine {
                    Engine::Memory(engine) => engine.sweep(now),
                    Engine::Embedded(engine) => engine.sweep(now).await?,
                    // The server forgets by itself.
                    Engine::Redis(_) => {}
                    Engine::Postgres(engine) => engine.sweep(now).await?,
                }
                Ok(())
            };
            if let Err(silent) = self.told(engine, None, Op::Sweep, |()| "ok", call).await {
                tracing::debug!(engine = engine.name().word(), "nothing was removed: {silent}");
            }
        }
    }

    fn of(&self, kind: Kind) -> &Engine {
        let [session, family, mark, api_key, once, sign_in, factor] = &self.engines;
        match kind {
            Kind::Session => session,
            Kind::Family => family,
            Kind::Mark => mark,
            Kind::ApiKey => api_key,
            Kind::Once => once,
            Kind::SignIn => sign_in,
            Kind::Factor => factor,
        }
    }

    /// Tells the observer how a call ended.
    async fn told<T>(
        &self,
        engine: &Engine,
        kind: Option<Kind>,
        op: Op,
        word: impl Fn(&T) -> &'static str,
        call: impl Future<Output = Result<T, Silent>>,
    ) -> Result<T, Silent> {
        let began = Instant::now();
        let result = call.await;
        let word = result.as_ref().map_or_else(|silent| silent.cause.word(), word);
        self.observer.called(engine.name(), kind, op, word, began.elapsed());
        result
    }
}

/// How often what has expired is removed.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

fn fits(engine: &Engine, key: &[u8], value: usize) -> Result<(), Silent> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(Silent::new(engine.name(), Cause::TooLong, "a key that is empty or too long"));
    }
    if value > MAX_VALUE {
        return Err(Silent::new(engine.name(), Cause::TooLong, "a value that is too long"));
    }
    Ok(())
}
