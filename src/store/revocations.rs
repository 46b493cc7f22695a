//! What was ended before its time: durable in the engine of marks, in memory for every request, and told to all replicas.
//!
//! **Ending.** A mark is written, then in force here, then told; only then is whoever asked told that it is done. Where the
//! engine is silent, nothing has been ended and the caller hears so. Where it fell silent between writing and telling,
//! the mark stands and is in force here, the caller hears that the others may not know, and they are told as soon as
//! that can be done.
//!
//! **Following.** [`Revocations::follow`] reads where the feed ends, then all marks, then follows the feed from there: nothing
//! can be missed between. Until the marks were read once, this process does not know who is out, and no session may be
//! served ([`Revocations::is_ready`]). Where the feed says that something was missed, all marks are read anew.
//!
//! **Hearing.** An answer of the feed, even an empty one, says that all is known that was acknowledged before it was asked.
//! How long ago that was ([`Revocations::silence`]) is how old the knowledge of this process is at most.
mod note;
mod table;
#[cfg(test)]
mod tests;

pub use note::Note;
pub use table::Table;

use crate::store::state::{Expect, Kind, NEVER, Position, Put, Record, Silent, State};
use decide::facts::Identity;
use decide::revocation::{Mark, Scope, Target};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Rounds of reading, merging and writing one mark before it is given up: others would have to write the same one all
/// the time.
const ROUNDS: usize = 16;
/// How long the feed may take to say that there is nothing new. The shorter, the fresher this process knows itself to be.
const PATIENCE: Duration = Duration::from_millis(500);
/// Pauses after a silent feed: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often marks that are over are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Marks that wait to be told; what is more is found by whoever reads all marks.
const MOST_UNTOLD: usize = 100_000;

/// Why something could not be ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing was written: nothing has ended.
    #[error("nothing was ended: {0}")]
    Unwritten(String),
    /// Written, and in force here; the other replicas will be told later.
    #[error("it is ended here, and the other replicas are told as soon as they can be: {0}")]
    Untold(String),
    /// There are as many marks as there may be.
    #[error("there are {0} marks, as many as `sessions.revocation.max_marks` allows")]
    Full(u64),
}

/// Who wants to know what happens.
pub trait Observer: Send + Sync {
    /// Marks of a replica, perhaps of this one, are in force here, this long after somebody asked for it.
    fn applied(&self, took: Duration);
    /// The feed can be heard, or no longer.
    fn heard(&self, state: Result<(), &str>);
}

/// All that was ended.
pub struct Revocations {
    state: Arc<State>,
    table: Table,
    clock: crate::store::state::Clock,
    observer: Arc<dyn Observer>,
    /// Whether all marks were read once.
    ready: AtomicBool,
    /// Says so.
    first: Notify,
    began: Instant,
    /// When the knowledge of this process was complete, nanoseconds after it began.
    heard: AtomicU64,
    /// Whether that is longer ago than it may be, as of a moment ago.
    stale: AtomicBool,
    /// Somebody more is out.
    news: Notify,
    /// Written and in force here, but not told yet.
    untold: Mutex<Vec<Note>>,
}

impl Revocations {
    /// Over this state. `seed` is a secret of this process. Nothing is known until [`Revocations::follow`] runs.
    pub fn new(
        state: Arc<State>,
        seed: u64,
        clock: crate::store::state::Clock,
        observer: Arc<dyn Observer>,
    ) -> Revocations {
        Revocations {
            state,
            table: Table::new(seed),
            clock,
            observer,
            ready: AtomicBool::new(false),
            first: Notify::new(),
            began: Instant::now(),
            heard: AtomicU64::new(0),
            stale: AtomicBool::new(false),
            news: Notify::new(),
            untold: Mutex::default(),
        }
    }

    /// By what an identity is out, as far as this process knows. `tenant` is that of the request, for those whose
    /// credential names none. Costs one look at six numbers where nothing was ended.
    pub fn ended(&self, identity: &Identity, tenant: Option<&str>) -> Option<Scope> {
        if self.table.is_empty() {
            return None;
        }
        let began_s = identity.began_s();
        let by_credential = identity.handles.ended(began_s, |scope, handle| self.table.find(scope, handle));
        by_credential.or_else(|| {
            let id = tenant.filter(|_| identity.tenant.is_none() && self.table.count(Scope::Tenant) > 0)?;
            let not_before_s = self.table.find(Scope::Tenant, &Target::Tenant { id }.handle())?;
            (began_s <= not_before_s).then_some(Scope::Tenant)
        })
    }

    /// Whether all marks were read: before that, nobody knows who is out.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Waits until all marks were read, for so long at most: a store that is silent keeps nobody from starting.
    pub async fn read_within(&self, patience: Duration) {
        let mut read = std::pin::pin!(self.first.notified());
        read.as_mut().enable();
        if !self.is_ready() {
            // Late is no error: until it is read, everybody with a credential is told to come back.
            drop(tokio::time::timeout(patience, read).await);
        }
    }

    /// How old the knowledge of this process may be.
    pub fn silence(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_nanos(self.heard.load(Ordering::Acquire)))
    }

    /// Whether its knowledge is older than it may be, as it was last said.
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// Says whether its knowledge is older than it may be; returns what was said before.
    pub fn set_stale(&self, stale: bool) -> bool {
        self.stale.swap(stale, Ordering::Relaxed)
    }

    /// How many marks of a scope there are.
    pub fn count(&self, scope: Scope) -> u64 {
        self.table.count(scope)
    }

    /// Completes when somebody more is out than when it was last called. For one waiter.
    pub async fn changed(&self) {
        self.news.notified().await;
    }

    /// Ends what these marks say: durable, in force here and told to all when it returns. `asked_ms` is when somebody
    /// asked for it; `most` is how many marks there may be.
    pub async fn end(&self, marks: &[Mark], asked_ms: u64, most: u64) -> Result<(), Fault> {
        let standing = self.table.len();
        if standing.saturating_add(marks.len() as u64) > most {
            return Err(Fault::Full(standing));
        }
        let mut failed = None;
        let mut written = Vec::with_capacity(marks.len());
        for mark in marks {
            match self.write(*mark).await {
                Ok(mark) => written.push(mark),
                Err(silent) => {
                    failed = Some(silent);
                    break;
                }
            }
        }
        // What was written is in force, and told, even where the rest could not be.
        self.apply(&written);
        let mut untold = None;
        for marks in written.chunks(note::MOST) {
            let note = Note { asked_ms, marks: marks.to_vec() };
            if let Err(silent) = self.state.append_feed(&note.to_bytes()).await {
                let mut waiting = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
                if waiting.len() < MOST_UNTOLD {
                    waiting.push(note);
                }
                untold = Some(silent);
            }
        }
        match (failed, untold) {
            (None, None) => Ok(()),
            (Some(silent), _) => Err(Fault::Unwritten(silent.to_string())),
            (None, Some(silent)) => Err(Fault::Untold(silent.to_string())),
        }
    }

    /// Writes one mark, together with what stands there already.
    async fn write(&self, mark: Mark) -> Result<Mark, Silent> {
        let (mut merged, mut expect) = (mark, Expect::Absent);
        let mut last = None;
        for _ in 0..ROUNDS {
            let expires_at_ms = if merged.until_s == NEVER { NEVER } else { merged.until_s.saturating_mul(1000) };
            let record = Record::new(merged.to_bytes().to_vec(), expires_at_ms);
            match self.state.put(Kind::Mark, mark.handle.bytes(), expect, record).await? {
                Put::Written { .. } => return Ok(merged),
                Put::Conflict(None) => expect = Expect::Absent,
                Put::Conflict(Some(found)) => {
                    expect = Expect::Version(found.version);
                    // What is not readable is not worth more than what is.
                    let standing = Mark::from_bytes(&found.value).filter(|standing| standing.handle == mark.handle);
                    merged = standing.map_or(mark, |standing| mark.merge(standing));
                    if standing == Some(merged) {
                        return Ok(merged);
                    }
                    last = standing;
                }
            }
        }
        tracing::error!(scope = mark.scope.as_str(), ?last, "a mark is written by others all the time");
        Err(Silent {
            engine: self.state.engine(Kind::Mark),
            cause: crate::store::state::Cause::Timeout,
            text: "others write the same mark all the time".to_owned(),
        })
    }

    fn apply(&self, marks: &[Mark]) {
        let mut more = false;
        for mark in marks {
            more |= self.table.take(mark);
        }
        if more {
            self.news.notify_one();
        }
    }

    /// Reads all marks, then follows what others end. Never ends; to be spawned once.
    pub async fn follow(self: Arc<Revocations>) {
        let mut pause = PAUSES.0;
        let mut stand = None;
        let mut swept = Instant::now();
        loop {
            let step = match stand {
                None => self.read_all().await,
                Some(at) => self.read_on(at).await,
            };
            match step {
                Ok(at) => {
                    if pause > PAUSES.0 || stand.is_none() {
                        self.observer.heard(Ok(()));
                    }
                    (stand, pause) = (at, PAUSES.0);
                    self.tell_untold().await;
                }
                Err(silent) => {
                    if pause == PAUSES.0 {
                        self.observer.heard(Err(&silent.to_string()));
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
            if swept.elapsed() >= SWEEP_EVERY {
                self.sweep();
                swept = Instant::now();
            }
        }
    }

    /// Forgets what is over.
    pub fn sweep(&self) {
        self.table.sweep((self.clock)() / 1000, std::thread::yield_now);
    }

    /// Everything, and where to go on.
    async fn read_all(&self) -> Result<Option<Position>, Silent> {
        let asked = self.began.elapsed();
        let stand = self.state.feed_end().await?;
        let mut from = None;
        let now_s = (self.clock)() / 1000;
        let mut strange = 0_u64;
        loop {
            let piece = self.state.scan(Kind::Mark, from.as_deref(), crate::store::state::MOST).await?;
            let (read, unread): (Vec<_>, Vec<_>) =
                piece.found.iter().map(|found| Mark::from_bytes(&found.record.value)).partition(Option::is_some);
            strange += unread.len() as u64;
            let marks: Vec<Mark> = read.into_iter().flatten().filter(|mark| !mark.is_over(now_s)).collect();
            self.apply(&marks);
            from = match piece.next {
                Some(next) => Some(next),
                None => break,
            };
            // The scan of an engine in this process need not wait for anything.
            tokio::task::yield_now().await;
        }
        if strange > 0 {
            tracing::error!(strange, "marks that this version cannot read end nobody here");
        }
        self.heard.fetch_max(nanos(asked), Ordering::Release);
        self.ready.store(true, Ordering::Release);
        self.first.notify_waiters();
        Ok(Some(stand))
    }

    /// What was told behind a place; `None` where all must be read anew.
    async fn read_on(&self, at: Position) -> Result<Option<Position>, Silent> {
        let asked = self.began.elapsed();
        let news = self.state.follow(at, PATIENCE).await?;
        let now_ms = (self.clock)();
        let mut stand = at;
        for (position, bytes) in &news.notes {
            stand = stand.max(*position);
            match Note::from_bytes(bytes) {
                Some(note) => {
                    self.apply(&note.marks);
                    self.observer.applied(Duration::from_millis(now_ms.saturating_sub(note.asked_ms)));
                }
                None => tracing::error!("a note that this version cannot read ends nobody here"),
            }
        }
        if news.missed {
            tracing::warn!("the feed of revocations has a gap: all marks are read anew");
            return Ok(None);
        }
        if news.notes.len() < crate::store::state::MOST {
            self.heard.fetch_max(nanos(asked), Ordering::Release);
        }
        Ok(Some(stand))
    }

    /// Tells what could not be told when it was written.
    async fn tell_untold(&self) {
        loop {
            let note = self.untold.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(note) = note else { return };
            if self.state.append_feed(&note.to_bytes()).await.is_err() {
                self.untold.lock().unwrap_or_else(PoisonError::into_inner).push(note);
                return;
            }
        }
    }
}

fn nanos(since: Duration) -> u64 {
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
