//! What replicas share: one Redis or Valkey, its connection, and what is known of it while it is silent.
//!
//! - **A request never waits for a connection, nor for a server that is known to be silent.** One task connects, with
//!   pauses that grow and differ between replicas; requests use the connection that there is, or learn at once that
//!   there is none.
//! - **One call that takes too long is enough**: from then on requests are spared, until the server has answered the task
//!   over the same connection, or over a new one. So a server that stalls costs the calls under way their time limit,
//!   once.
//! - **A server that answers and cannot be used is a silent one**: out of memory, read-only, loading, without rights.
//! - **Replicas count each other**: each writes its name with the server's time once a second; a name that is older than
//!   five seconds is gone. While the server is silent, the last known number holds.
pub(super) mod link;
pub(super) mod resp;
mod script;
mod watcher;

pub use resp::Reply;
pub use script::Script;
pub(super) use watcher::random_pause as pause;

use arc_swap::ArcSwapOption;
use link::Link;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// How the server is reached, and how long it is waited for.
pub struct Options {
    /// Where it is.
    pub place: Place,
    /// How it proves that it is the one; `None` speaks in the clear.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The user, where the server has several.
    pub username: Option<String>,
    /// Reads the password, anew for every connection. May wait for the disk.
    pub password: Option<Password>,
    /// The number of the database.
    pub database: u32,
    /// What all keys begin with.
    pub prefix: String,
    /// This replica's name among the others; without one nothing is written by itself.
    pub instance: Option<String>,
    /// Time for a connection, and for an answer outside of requests.
    pub connect_timeout: Duration,
    /// Time that a request waits for an answer.
    pub command_timeout: Duration,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A host name or address, and a port.
    Tcp {
        /// The host; it is also the name in the certificate.
        host: String,
        /// The port.
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Reads a password.
pub type Password = Arc<dyn Fn() -> std::io::Result<String> + Send + Sync>;

/// Why the server gave no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be reached.
    #[error("{0}")]
    Unreachable(#[from] std::io::Error),
    /// It does not answer in time.
    #[error("no answer in time")]
    Silent,
    /// It ended the connection.
    #[error("the connection was closed")]
    Closed,
    /// It is no Redis.
    #[error("{0}")]
    Strange(#[from] resp::Malformed),
    /// It answers with something else than what was asked for.
    #[error("an answer of another kind")]
    Malformed,
    /// It refuses us, in its words.
    #[error("refused: {0}")]
    Refused(String),
}

impl Fault {
    /// The `result` label of metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Fault::Unreachable(_) | Fault::Closed => "unreachable",
            Fault::Silent => "timeout",
            Fault::Strange(_) | Fault::Malformed => "malformed",
            Fault::Refused(_) => "refused",
        }
    }
}

/// What a call was for: the `op` label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Takes requests from strict limits.
    Take,
    /// Brings counts of synced limits together.
    Sync,
    /// Says that this replica lives, and counts the others.
    Presence,
    /// Opens a connection.
    Connect,
    /// Reads or writes state; `store::state` says which.
    State,
}

impl Op {
    /// All of them.
    pub const ALL: [Op; 5] = [Op::Take, Op::Sync, Op::Presence, Op::Connect, Op::State];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Op::Take => "take",
            Op::Sync => "sync",
            Op::Presence => "presence",
            Op::Connect => "connect",
            Op::State => "state",
        }
    }
}

/// Somebody who wants to know: metrics, logs, the audit log.
pub trait Observer: Send + Sync {
    /// A call was answered (`ok`) or not (the word of its fault), after this time.
    fn called(&self, op: Op, result: &'static str, took: Duration);
    /// The server is of use again (`Ok`), or no longer (the reason).
    fn changed(&self, state: Result<(), &str>);
}

/// How the server does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether requests may use it.
    pub up: bool,
    /// Why not, as of the last attempt.
    pub trouble: Option<String>,
    /// Replicas that live, as far as known; 0 before the first answer.
    pub replicas: u32,
}

/// The server, as all requests share it. Dropping the last owner ends the connection.
pub struct SharedStore {
    core: Arc<Core>,
    watcher: JoinHandle<()>,
}

impl Drop for SharedStore {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// What requests and the watching task share.
struct Core {
    options: Options,
    /// The connection, while it may be used.
    live: ArcSwapOption<Link>,
    replicas: AtomicU32,
    /// A request met trouble.
    doubt: Notify,
    trouble: Mutex<Option<String>>,
    /// How many attempts to be of use have ended.
    tries: watch::Sender<u64>,
    observer: Arc<dyn Observer>,
}

impl SharedStore {
    /// Begins to connect. Needs a tokio runtime.
    pub fn start(options: Options, observer: Arc<dyn Observer>) -> SharedStore {
        let core = Arc::new(Core {
            options,
            live: ArcSwapOption::empty(),
            replicas: AtomicU32::new(0),
            doubt: Notify::new(),
            trouble: Mutex::default(),
            tries: watch::Sender::new(0),
            observer,
        });
        SharedStore { watcher: tokio::spawn(watcher::watch_over(core.clone())), core }
    }

    /// Waits until the first attempt has ended, one way or the other.
    pub async fn tried(&self) {
        // The sender is in the core, so there is no error.
        let _ = self.core.tries.subscribe().wait_for(|tries| *tries > 0).await;
    }

    /// Whether requests may use it.
    pub fn is_up(&self) -> bool {
        self.core.live.load().is_some()
    }

    /// Replicas that live, as far as known; at least one.
    pub fn replicas(&self) -> u32 {
        self.core.replicas.load(Ordering::Relaxed).max(1)
    }

    /// How it does.
    pub fn health(&self) -> Health {
        Health {
            up: self.is_up(),
            trouble: self.core.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            replicas: self.core.replicas.load(Ordering::Relaxed),
        }
    }

    /// What all keys begin with. All keys of one purpose end up in one slot of a cluster: the scripts name several.
    pub fn prefix(&self) -> &str {
        &self.core.options.prefix
    }

    /// One command for a request, under the same law. A refusal of the command says nothing about the server.
    pub async fn command(&self, op: Op, parts: &[&[u8]]) -> Result<Reply, Fault> {
        let core = &self.core;
        let Some(link) = core.live.load_full() else { return Err(Fault::Closed) };
        let mut bytes = Vec::with_capacity(128);
        resp::command(&mut bytes, parts.iter().copied());
        let call = async {
            match link.call(bytes, core.options.command_timeout).await? {
                Reply::Error(text) => Err(Fault::Refused(text)),
                other => Ok(other),
            }
        };
        let result = core.timed(op, call).await;
        match &result {
            Ok(_) | Err(Fault::Refused(_)) => {}
            Err(_) => core.suspect(&link),
        }
        result
    }

    /// Runs a script for a request: answers within `Options::command_timeout`, or at once where the server is known to
    /// be silent. Without an answer it may have been carried out all the same.
    pub async fn run(&self, op: Op, script: &Script, keys: &[Vec<u8>], values: &[Vec<u8>]) -> Result<Reply, Fault> {
        self.core.run(op, script, keys, values, self.core.options.command_timeout).await
    }

    /// The same off the path of requests, with `Options::connect_timeout`.
    pub async fn run_patiently(
        &self,
        op: Op,
        script: &Script,
        keys: &[Vec<u8>],
        values: &[Vec<u8>],
    ) -> Result<Reply, Fault> {
        self.core.run(op, script, keys, values, self.core.options.connect_timeout).await
    }
}

impl SharedStore {
    /// How the server is reached.
    pub(super) fn options(&self) -> &Options {
        &self.core.options
    }
}

impl Core {
    async fn run(
        &self,
        op: Op,
        script: &Script,
        keys: &[Vec<u8>],
        values: &[Vec<u8>],
        limit: Duration,
    ) -> Result<Reply, Fault> {
        let Some(link) = self.live.load_full() else { return Err(Fault::Closed) };
        let result = self.timed(op, script.run_on(&link, keys, values, limit)).await;
        if result.is_err() {
            self.suspect(&link);
        }
        result
    }

    /// Tells the observer how a call ended.
    async fn timed<T>(&self, op: Op, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let began = Instant::now();
        let result = call.await;
        let word = result.as_ref().map_or_else(Fault::word, |_| "ok");
        self.observer.called(op, word, began.elapsed());
        result
    }

    /// From now on requests are spared, until the watching task has made sure.
    fn suspect(&self, link: &Arc<Link>) {
        let live = self.live.load();
        if live.as_ref().is_some_and(|live| Arc::ptr_eq(live, link)) {
            self.live.compare_and_swap(&*live, None);
            self.doubt.notify_one();
        }
    }
}

impl Script {
    /// One call, by name; with the source where the server has forgotten it.
    async fn run_on(&self, link: &Link, keys: &[Vec<u8>], values: &[Vec<u8>], limit: Duration) -> Result<Reply, Fault> {
        let mut bytes = Vec::with_capacity(256);
        self.short(&mut bytes, keys, values);
        let mut reply = link.call(bytes, limit).await?;
        if matches!(&reply, Reply::Error(text) if text.starts_with("NOSCRIPT")) {
            let mut bytes = Vec::with_capacity(2048);
            self.whole(&mut bytes, keys, values);
            reply = link.call(bytes, limit).await?;
        }
        match reply {
            Reply::Error(text) => Err(Fault::Refused(text)),
            other => Ok(other),
        }
    }
}
