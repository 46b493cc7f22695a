//! The engine in a file (redb): one thread writes, everybody reads.
//!
//! - **Reads never wait**: each is of the last commit, while the next one is being written.
//! - **Writes are committed in groups**: the thread takes whatever waits, writes it in one transaction, forces it to the
//!   disk, and only then answers. The more wait, the more share one `fsync`.
//! - **Several processes may have the file open**, so that a successor begins with everything while its predecessor
//!   drains. One writes at a time; what one has acknowledged, the other reads.
//! - **A disk that refuses is silence**: the file is closed, opened anew, and tried again after a pause. What was
//!   acknowledged is there.
//! - **There is no file until something is kept**: a gateway without sessions has none.
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use super::{Cause, EngineName, Expect, Found, Kind, MOST, News, Position, Put, Record, Scan, Silent};
use arc_swap::ArcSwapOption;
use redb::backends::FileBackend;
use redb::{ConcurrencyMode, Database, ReadTransaction, ReadableDatabase};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};
use tables::Swept;
use tokio::sync::{mpsc, oneshot, watch};
use writer::{Done, Order, Work};

/// How a file is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The file.
    pub path: PathBuf,
    /// Bytes of it that are kept in memory. What the system keeps of it besides is its business.
    pub cache_bytes: usize,
    /// How long a write may take.
    pub patience: Duration,
}

impl Options {
    /// This file, with 64 MiB in memory, and five seconds for a write.
    pub fn new(path: PathBuf) -> Options {
        Options { path, cache_bytes: 64 << 20, patience: Duration::from_secs(5) }
    }
}

/// Why a file cannot be used at the start: the operator has to look.
#[derive(Debug, thiserror::Error)]
pub enum StateFault {
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another program has it open and does not share it.
    #[error("{}: another process has it open and does not share it: end that one first", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is not what was written.
    #[error(
        "{}: {reason}; put the last backup in its place, or move it away and start without: everybody signs in again, \
         and API keys and second factors that were made here are gone",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another version of this program wrote it.
    #[error("{}: its tables are of version {found}, this program knows version {known}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u64,
        /// What is known.
        known: u64,
    },
    /// The writer's thread could not be started.
    #[error("the writer of state cannot be started: {source}")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
}

impl StateFault {
    /// The same, while the gateway runs.
    fn silent(&self) -> Silent {
        match self {
            StateFault::Io { source, .. } => refused(source),
            StateFault::Damaged { .. } => silent(Cause::Damaged, self.to_string()),
            StateFault::Locked { .. } | StateFault::Version { .. } | StateFault::Thread { .. } => {
                silent(Cause::Refused, self.to_string())
            }
        }
    }
}

/// The file, as all requests share it. Dropping the last owner writes what waits, and closes it.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
}

/// What readers and the writer share.
struct Shared {
    options: Options,
    /// The open file: none before something is kept, and none while the disk refuses.
    database: ArcSwapOption<Database>,
    /// Why it could not be opened, and until when that is not tried again. Held by whoever opens it.
    closed: Mutex<Option<(Silent, Instant)>>,
    /// Counts commits: each is forced to the disk once.
    commits: AtomicU64,
    /// Counts commits that told something.
    told: watch::Sender<u64>,
    /// The file is being made, for the first write: nothing is kept yet.
    making: AtomicBool,
    /// Why the last write failed; `None` where it did not.
    trouble: Mutex<Option<String>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shared { options, commits, .. } = self;
        f.debug_struct("Shared").field("options", options).field("commits", commits).finish_non_exhaustive()
    }
}

/// Writes that may wait for the writer; more wait outside.
const QUEUE: usize = 4096;
/// How long a file that could not be opened is left alone.
const AGAIN: Duration = Duration::from_millis(200);
/// How often the feed is looked at for what another process has told. Only during an upgrade is there one.
const LOOK: Duration = Duration::from_millis(100);

impl Embedded {
    /// Opens the file where there is one. May wait for the disk.
    pub fn open(options: Options) -> Result<Embedded, StateFault> {
        let exists = options.path.try_exists();
        let exists = exists.map_err(|source| StateFault::Io { path: options.path.clone(), source })?;
        let database = if exists { Some(Arc::new(open(&options)?)) } else { None };
        let (orders, queue) = mpsc::channel(QUEUE);
        let database = ArcSwapOption::new(database);
        let shared = Arc::new(Shared {
            options,
            database,
            closed: Mutex::default(),
            commits: AtomicU64::new(0),
            told: watch::Sender::new(0),
            making: AtomicBool::new(false),
            trouble: Mutex::default(),
        });
        writer::start(shared.clone(), queue).map_err(|source| StateFault::Thread { source })?;
        Ok(Embedded { shared, orders })
    }

    /// Whether the last write succeeded; else why not.
    pub fn health(&self) -> Result<(), String> {
        let trouble = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        trouble.map_or(Ok(()), Err)
    }

    pub(super) fn get(&self, kind: Kind, key: &[u8], now: u64) -> Result<Option<Record>, Silent> {
        let record = self.shared.read(|reader| tables::get(reader, kind, key))?.flatten();
        Ok(record.filter(|record| record.lives(now)))
    }

    pub(super) async fn put(
        &self,
        kind: Kind,
        key: &[u8],
        expect: Expect,
        record: Record,
        now: u64,
    ) -> Result<Put, Silent> {
        match self.order(Work::Put { kind, key: key.to_vec(), expect, record }, now).await? {
            Done::Put(put) => Ok(put),
            Done::Removed(_) | Done::Appended(_) | Done::Swept(_) => Err(strange()),
        }
    }

    pub(super) async fn remove(&self, kind: Kind, key: &[u8], now: u64) -> Result<Option<Record>, Silent> {
        match self.order(Work::Remove { kind, key: key.to_vec() }, now).await? {
            Done::Removed(record) => Ok(record),
            Done::Put(_) | Done::Appended(_) | Done::Swept(_) => Err(strange()),
        }
    }

    pub(super) async fn list(
        &self,
        kind: Kind,
        index: &[u8; 32],
        after: Option<&[u8]>,
        limit: usize,
        now: u64,
    ) -> Result<Vec<Found>, Silent> {
        let (index, after) = (*index, after.map(<[u8]>::to_vec));
        let found = self.aside(move |reader| tables::list(reader, kind, &index, after.as_deref(), limit, now));
        Ok(found.await?.unwrap_or_default())
    }

    pub(super) async fn scan(&self, kind: Kind, from: Option<&[u8]>, limit: usize, now: u64) -> Result<Scan, Silent> {
        let from = from.map(<[u8]>::to_vec);
        let scan = self.aside(move |reader| tables::scan(reader, kind, from.as_deref(), limit, now));
        Ok(scan.await?.unwrap_or_default())
    }

    pub(super) async fn append(&self, note: &[u8], now: u64) -> Result<Position, Silent> {
        match self.order(Work::Append(note.to_vec()), now).await? {
            Done::Appended(position) => Ok(Position(position.into())),
            Done::Put(_) | Done::Removed(_) | Done::Swept(_) => Err(strange()),
        }
    }

    pub(super) fn feed_end(&self) -> Result<Position, Silent> {
        Ok(Position(self.shared.read(tables::feed_end)?.unwrap_or_default().into()))
    }

    pub(super) async fn follow(&self, after: Position, wait: Duration) -> Result<News, Silent> {
        let (mut told, until) = (self.shared.told.subscribe(), Instant::now() + wait);
        loop {
            told.mark_unchanged();
            let news = match self.shared.read(|reader| tables::news(reader, after, MOST))? {
                Some(news) => news,
                // Without a file nothing was ever told.
                None => News { notes: Vec::new(), missed: after > Position::default() },
            };
            let left = until.saturating_duration_since(Instant::now());
            if news.missed || !news.notes.is_empty() || left.is_zero() {
                return Ok(news);
            }
            // The end of this wait is as good as its success: the other process tells nobody.
            let _ = tokio::time::timeout(left.min(LOOK), told.changed()).await;
        }
    }

    pub(super) async fn sweep(&self, now: u64) -> Result<(), Silent> {
        if self.shared.database.load().is_none() {
            return Ok(());
        }
        loop {
            match self.order(Work::Sweep, now).await? {
                Done::Swept(Swept { more: true, .. }) => {}
                Done::Swept(Swept { more: false, .. }) => return Ok(()),
                Done::Put(_) | Done::Removed(_) | Done::Appended(_) => return Err(strange()),
            }
        }
    }

    /// Has the writer do something, and waits until it is on the disk.
    async fn order(&self, work: Work, now: u64) -> Result<Done, Silent> {
        let (tell, told) = oneshot::channel();
        let done = async {
            let gone = || silent(Cause::Unreachable, "the writer of state has ended");
            self.orders.send(Order { work, now, tell }).await.map_err(|_| gone())?;
            told.await.unwrap_or_else(|_| Err(gone()))
        };
        let late = || Err(silent(Cause::Timeout, "the disk does not take it in time"));
        tokio::time::timeout(self.shared.options.patience, done).await.unwrap_or_else(|_| late())
    }

    /// Reads much, on a thread where that hinders nobody.
    async fn aside<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<Option<T>, Silent> {
        let shared = self.shared.clone();
        let reading = tokio::task::spawn_blocking(move || shared.read(read));
        reading.await.unwrap_or_else(|_| Err(silent(Cause::Damaged, "reading has ended by itself")))
    }
}

impl Shared {
    /// Reads the last commit; `None` where nothing was ever kept.
    fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<Option<T>, Silent> {
        let database = self.database.load();
        if let Some(database) = &*database {
            return guarded(|| read(&database.begin_read()?)).map(Some);
        }
        if self.making.load(Ordering::Acquire) {
            return Ok(None);
        }
        let Some(database) = self.there()? else { return Ok(None) };
        guarded(|| read(&database.begin_read()?)).map(Some)
    }

    /// The file, opened where another process has made it, or the disk has refused before. Readers do not wait for each
    /// other to open it.
    fn there(&self) -> Result<Option<Arc<Database>>, Silent> {
        if !self.options.path.try_exists().map_err(|error| refused(&error))? {
            return Ok(None);
        }
        let mut closed = match self.closed.try_lock() {
            Ok(closed) => closed,
            Err(TryLockError::Poisoned(closed)) => closed.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(silent(Cause::Unreachable, "the file is being opened")),
        };
        self.opened(&mut closed).map(Some)
    }

    /// The file, made where there is none.
    fn made(&self) -> Result<Arc<Database>, Silent> {
        match self.database.load_full() {
            Some(database) => Ok(database),
            None => {
                let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
                self.making.store(matches!(self.options.path.try_exists(), Ok(false)), Ordering::Release);
                let opened = self.opened(&mut closed);
                self.making.store(false, Ordering::Release);
                opened
            }
        }
    }

    fn opened(&self, closed: &mut Option<(Silent, Instant)>) -> Result<Arc<Database>, Silent> {
        if let Some(database) = self.database.load_full() {
            return Ok(database);
        }
        if let Some((silent, _)) = closed.as_ref().filter(|(_, until)| Instant::now() < *until) {
            return Err(silent.clone());
        }
        match open(&self.options) {
            Ok(database) => {
                let database = Arc::new(database);
                self.database.store(Some(database.clone()));
                *closed = None;
                Ok(database)
            }
            Err(fault) => {
                let silent = fault.silent();
                *closed = Some((silent.clone(), Instant::now() + AGAIN));
                Err(silent)
            }
        }
    }
}

/// What redb does with a file that somebody else has written to is to panic.
fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Silent> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| of(&error)),
        Err(_) => Err(silent(Cause::Damaged, "the file is damaged")),
    }
}

fn silent(cause: Cause, text: impl Into<String>) -> Silent {
    Silent::new(EngineName::Embedded, cause, text)
}

fn strange() -> Silent {
    silent(Cause::Damaged, "an answer to another question")
}

fn refused(error: &io::Error) -> Silent {
    let cause = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Cause::Full,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Cause::Refused,
        _ => Cause::Unreachable,
    };
    silent(cause, error.to_string())
}

fn of(error: &redb::Error) -> Silent {
    match error {
        redb::Error::Io(error) => refused(error),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => silent(Cause::Unreachable, error.to_string()),
        other => silent(Cause::Damaged, other.to_string()),
    }
}

/// Opens the file, or makes it, with all tables.
fn open(options: &Options) -> Result<Database, StateFault> {
    let path = &options.path;
    let io = |source: io::Error| StateFault::Io { path: path.clone(), source };
    let damaged = |reason: String| StateFault::Damaged { path: path.clone(), reason };
    let fresh = !path.try_exists().map_err(io)?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(io)?;
    if fresh {
        settle(path).map_err(io)?;
    }
    let opening = || {
        let mut builder = Database::builder();
        builder.set_cache_size(options.cache_bytes).set_concurrency_mode(ConcurrencyMode::MultiWriter);
        let database = builder.create_with_backend(FileBackend::new(file)?)?;
        let version = tables::prepare(&database)?;
        Ok((database, version))
    };
    let opened = catch_unwind(AssertUnwindSafe(opening))
        .unwrap_or_else(|_| Err(redb::Error::Corrupted("it is not what was written".to_owned())));
    match opened {
        Ok((database, tables::VERSION)) => Ok(database),
        Ok((_, found)) => Err(StateFault::Version { path: path.clone(), found, known: tables::VERSION }),
        Err(redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch) => {
            Err(StateFault::Locked { path: path.clone() })
        }
        Err(redb::Error::Io(source)) if source.kind() != io::ErrorKind::InvalidData => Err(io(source)),
        Err(other) => Err(damaged(other.to_string())),
    }
}

/// Makes the name of a new file as durable as what will be in it.
fn settle(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
