//! What was ended before its time: durable in the engine of marks, in memory for every request, and told to all replicas.
//!
//! **Ending.** A mark is written, then in force here, then told; only then is whoever asked told that it is done. Where the
//! engine is silent, nothing has been ended and the caller hears so. Where it fell silent between writing and telling,
//! the mark stands and is in force here, the caller hears that the others may not know, and they are told as soon as
//! that can be done.
//!
//! **Keyed.** A mark lies sealed under a hash with a key, and notes of the feed are sealed, so that whoever reads the engine
//! cannot try names; in memory it is found by its plain handle, so that no request hashes anything. What cannot be opened
//! is not overlooked: it may end anybody, so that this process does not know who is out until it has the key.
//!
//! **Following.** [`Revocations::follow`] reads where the feed ends, then all marks, then follows the feed from there: nothing
//! can be missed between. Until the marks, and what was told while they were read, were read once, this process does not know who is out, and no session may be
//! served ([`Revocations::is_ready`]). Where the feed says that something was missed, all marks are read anew.
//!
//! **Hearing.** An answer of the feed, even an empty one, says that all is known that was acknowledged before it was asked.
//! How long ago that was ([`Revocations::silence`]) is how old the knowledge of this process is at most.
mod kept;
mod note;
mod table;
#[cfg(test)]
mod tests;

pub use kept::{Kept, seal};
pub use note::Note;
pub use table::Table;

use crate::store::seal::Keyring;
use crate::store::state::{Cause, Expect, Kind, MOST as PIECE, Position, Put, Silent, State};
use arc_swap::ArcSwap;
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
    /// There are as many marks as there may be for whoever asks.
    #[error("there are {0} marks, as many as `sessions.revocation.max_marks` allows for this")]
    Full(u64),
}

/// Who wants to know what happens.
pub trait Observer: Send + Sync {
    /// Marks of a replica, perhaps of this one, are in force here, this long after somebody asked for it.
    fn applied(&self, took: Duration);
    /// The feed can be heard, or no longer.
    fn heard(&self, state: Result<(), &str>);
}

/// What one reading of the feed brought.
struct Told {
    /// Where it goes on.
    stand: Position,
    /// Whether there was no more.
    all: bool,
}

/// All that was ended.
pub struct Revocations {
    state: Arc<State>,
    /// What marks lie under and are sealed with.
    ring: ArcSwap<Keyring>,
    /// Whether it is another than the marks were read with, and who waits to hear so.
    rekeyed: (AtomicBool, Notify),
    /// Marks that no key of the ring opens.
    shut: AtomicU64,
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
    /// Places of sessions that somebody has made weaker.
    changed: Mutex<Vec<[u8; 32]>>,
}

impl Revocations {
    /// Over this state. The keys of `ring` are those of all replicas, `seed` is a secret of this process. Nothing is known
    /// until [`Revocations::follow`] runs.
    pub fn new(
        state: Arc<State>,
        ring: Keyring,
        seed: u64,
        clock: crate::store::state::Clock,
        observer: Arc<dyn Observer>,
    ) -> Revocations {
        Revocations {
            state,
            ring: ArcSwap::from_pointee(ring),
            rekeyed: (AtomicBool::new(false), Notify::new()),
            shut: AtomicU64::new(0),
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
            changed: Mutex::default(),
        }
    }

    /// Other keys are in force: all marks are read with them, and written under the first of them.
    pub fn rekey(&self, ring: Keyring) {
        self.ring.store(Arc::new(ring));
        self.rekeyed.0.store(true, Ordering::Release);
        self.rekeyed.1.notify_one();
    }

    /// Marks that no key opens: while there are any, nobody knows here who is out.
    pub fn shut(&self) -> u64 {
        self.shut.load(Ordering::Relaxed)
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

    /// Completes when somebody more is out than when it was last called, or a session is to be looked at again. For one
    /// waiter.
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
        let ring = self.ring.load_full();
        let mut failed = None;
        let mut written = Vec::with_capacity(marks.len());
        for mark in marks {
            match self.write(&ring, *mark).await {
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
            let note = Note { asked_ms, marks: marks.to_vec(), changed: Vec::new() };
            untold = self.tell_or_keep(&ring, note).await.err().or(untold);
        }
        match (failed, untold) {
            (None, None) => Ok(()),
            (Some(silent), _) => Err(Fault::Unwritten(silent.to_string())),
            (None, Some(silent)) => Err(Fault::Untold(silent.to_string())),
        }
    }

    /// Writes one mark, together with what stands there already.
    async fn write(&self, ring: &Keyring, mark: Mark) -> Result<Mark, Silent> {
        let (mut merged, mut expect) = (mark, Expect::Absent);
        let mut last = None;
        for _ in 0..ROUNDS {
            let Kept { place, record } =
                kept::seal(ring, &merged).map_err(|error| self.silent(Cause::Refused, error))?;
            match self.state.put(Kind::Mark, &place, expect, record).await? {
                Put::Written { .. } => return Ok(merged),
                Put::Conflict(None) => expect = Expect::Absent,
                Put::Conflict(Some(found)) => {
                    expect = Expect::Version(found.version);
                    // What does not open in this mark's own place was made by nobody who may.
                    let standing = kept::open(ring, &place, &found.value).filter(|one| one.handle == mark.handle);
                    merged = standing.map_or(mark, |standing| mark.merge(standing));
                    if standing == Some(merged) {
                        return Ok(merged);
                    }
                    last = standing;
                }
            }
        }
        tracing::error!(scope = mark.scope.as_str(), ?last, "a mark is written by others all the time");
        Err(self.silent(Cause::Timeout, "others write the same mark all the time"))
    }

    /// Tells all replicas, this one too, that sessions in these places are no longer what they were. They are told later where
    /// that cannot be done now.
    pub async fn change(&self, places: &[[u8; 32]], asked_ms: u64) -> Result<(), Silent> {
        self.look_at(places);
        let ring = self.ring.load_full();
        let mut untold = Ok(());
        for places in places.chunks(note::MOST) {
            let note = Note { asked_ms, marks: Vec::new(), changed: places.to_vec() };
            untold = self.tell_or_keep(&ring, note).await.and(untold);
        }
        untold
    }

    /// Sessions to look at again since this was last called, by their places.
    pub fn take_changed(&self) -> Vec<[u8; 32]> {
        std::mem::take(&mut self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has these be looked at again with the next [`Revocations::take_changed`], whenever that is.
    pub fn look_at_later(&self, places: &[[u8; 32]]) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MOST_UNTOLD.saturating_sub(changed.len());
        changed.extend(places.iter().take(room));
    }

    fn look_at(&self, places: &[[u8; 32]]) {
        if !places.is_empty() {
            self.look_at_later(places);
            self.news.notify_one();
        }
    }

    async fn tell_or_keep(&self, ring: &Keyring, note: Note) -> Result<(), Silent> {
        let told = self.tell(ring, &note).await;
        if told.is_err() {
            let mut waiting = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() < MOST_UNTOLD {
                waiting.push(note);
            }
        }
        told
    }

    async fn tell(&self, ring: &Keyring, note: &Note) -> Result<(), Silent> {
        let sealed = note.seal(ring).map_err(|error| self.silent(Cause::Refused, error))?;
        self.state.append_feed(&sealed).await.map(|_| ())
    }

    fn silent(&self, cause: Cause, text: impl ToString) -> Silent {
        Silent { engine: self.state.engine(Kind::Mark), cause, text: text.to_string() }
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
            if self.rekeyed.0.swap(false, Ordering::AcqRel) {
                stand = None;
            }
            let began = Instant::now();
            let step = match stand {
                None => self.read_all().await,
                Some(at) => self.read_on(at, PATIENCE).await.map(|news| news.map(|news| news.stand)),
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
                    // Reading everything again and again takes half of a core at most; waiting in vain takes nothing.
                    let rest = if stand.is_none() { pause.max(began.elapsed()) } else { pause };
                    drop(tokio::time::timeout(rest, self.rekeyed.1.notified()).await);
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
            if swept.elapsed() >= SWEEP_EVERY {
                // Not here: ten million marks take longer than a worker may be away, and the feed need not wait for them.
                let all = self.clone();
                drop(tokio::task::spawn_blocking(move || all.sweep()));
                swept = Instant::now();
            }
        }
    }

    /// Forgets what is over.
    pub fn sweep(&self) {
        self.table.sweep((self.clock)() / 1000, std::thread::yield_now);
    }

    /// Everything, and where to go on.
    async fn read_all(self: &Arc<Self>) -> Result<Option<Position>, Silent> {
        let asked = self.began.elapsed();
        let ring = self.ring.load_full();
        let stand = self.state.feed_end().await?;
        let mut from = None;
        let now_s = (self.clock)() / 1000;
        let (mut shut, mut old) = (0_u64, false);
        loop {
            let piece = self.state.scan(Kind::Mark, from.as_deref(), PIECE).await?;
            for found in &piece.found {
                match kept::open(&ring, &found.key, &found.record.value) {
                    Some(mark) if mark.is_over(now_s) => {}
                    Some(mark) => {
                        self.apply(&[mark]);
                        old |= !ring.seals_like(&found.record.value);
                    }
                    None => shut += 1,
                }
            }
            from = match piece.next {
                Some(next) => Some(next),
                None => break,
            };
            // The scan of an engine in this process need not wait for anything.
            tokio::task::yield_now().await;
        }
        self.shut.store(shut, Ordering::Relaxed);
        if shut > 0 {
            let text =
                format!("{shut} marks do not open: `sessions.keys` lacks the key, or an earlier version wrote them");
            return Err(self.silent(Cause::Damaged, text));
        }
        if old {
            tokio::spawn(self.clone().catch_up(ring));
        }
        self.heard.fetch_max(nanos(asked), Ordering::Release);
        // Many marks take their time to read, and what was known when it began is old by now: nobody is served by that.
        let mut stand = stand;
        loop {
            let Some(news) = self.read_on(stand, Duration::ZERO).await? else { return Ok(None) };
            stand = news.stand;
            if news.all {
                break;
            }
        }
        self.ready.store(true, Ordering::Release);
        self.first.notify_waiters();
        Ok(Some(stand))
    }

    /// Writes what lies under a key that no longer seals under the one that does. What cannot be done now is done when all is
    /// read the next time.
    async fn catch_up(self: Arc<Self>, ring: Arc<Keyring>) {
        match self.renew(&ring).await {
            Ok(count) => tracing::info!(count, "marks lie under the first key of `sessions.keys` now"),
            Err(silent) => tracing::warn!(error = %silent, "marks lie under an old key of `sessions.keys` still"),
        }
    }

    /// What was told behind a place, waiting so long for it at most; `None` where all must be read anew.
    async fn read_on(&self, at: Position, patience: Duration) -> Result<Option<Told>, Silent> {
        let asked = self.began.elapsed();
        let news = self.state.follow(at, patience).await?;
        let ring = self.ring.load();
        let now_ms = (self.clock)();
        let (mut stand, mut missed) = (at, news.missed);
        for (position, bytes) in &news.notes {
            stand = stand.max(*position);
            match Note::open(&ring, bytes) {
                Some(note) => {
                    self.apply(&note.marks);
                    self.look_at(&note.changed);
                    self.observer.applied(Duration::from_millis(now_ms.saturating_sub(note.asked_ms)));
                }
                None => missed = true,
            }
        }
        if missed {
            tracing::warn!("something of the feed of revocations was missed: all marks are read anew");
            return Ok(None);
        }
        let all = news.notes.len() < PIECE;
        if all {
            self.heard.fetch_max(nanos(asked), Ordering::Release);
        }
        Ok(Some(Told { stand, all }))
    }

    /// Tells what could not be told when it was written.
    async fn tell_untold(&self) {
        loop {
            let note = self.untold.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(note) = note else { return };
            if self.tell(&self.ring.load_full(), &note).await.is_err() {
                self.untold.lock().unwrap_or_else(PoisonError::into_inner).push(note);
                return;
            }
        }
    }
}

fn nanos(since: Duration) -> u64 {
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
