//! The life of an issuer's keys: fetched before ready, refreshed in the background, asked for once more when a token
//! names an unknown key, kept on disk for a bounded time; and the verification of tokens under them.
//!
//! Each ring has one task that does all its fetching, one fetch at a time. Requests never fetch: they read what is
//! published, and only a token with an unknown key id may wait, for a bounded time, for the task's next result. So a
//! client that goes away cannot cancel a fetch, and any number of strange tokens cause one fetch per `min_interval`.
//!
//! | keys | a token with a known key id | a token with an unknown key id |
//! | --- | --- | --- |
//! | never had, or older than `max_stale` | unavailable | unavailable |
//! | usable, last fetch succeeded | by its signature | one fetch per interval, then invalid |
//! | usable, last fetch failed | by its signature | one fetch per interval, then unavailable |
mod asked;
mod bound;
mod copy;
mod fetch;
mod life;
mod other;
mod tend;
#[cfg(test)]
mod tests;

pub use other::Unverified;

use crate::config::settings::{Issuer, KeySource};
use crate::serve::inquiry::{Counts, No, Verdict};
use crate::serve::introspection::Introspector;
use crate::serve::tokens::{TokenKey, Tokens};
use arc_swap::{ArcSwap, ArcSwapOption};
use decide::facts::Identity;
use decide::token::{self, KeySet, TokenError};
use foldhash::HashMap;
use life::{Life, UnknownKey};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;

/// How long a request waits for the key it needs: a fetch's deadline and a little more.
const WAIT: Duration = Duration::from_secs(6);

/// Most requests of one issuer that wait for keys at the same time; further ones are told that keys cannot be had.
const MAX_WAITING: usize = 256;

/// What befell an issuer's keys, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// Name of the issuer in `gateway.yaml`.
    pub issuer: Arc<str>,
    /// Counts the key sets of this ring, from 1.
    pub generation: u64,
    /// Usable keys in the new set.
    pub keys: usize,
    /// Key ids that the set before did not have.
    pub added: Vec<String>,
    /// Key ids that only the set before had: their tokens no longer verify.
    pub removed: Vec<String>,
    /// Whether the set came from the copy on disk.
    pub from_copy: bool,
}

/// The state of one issuer's keys, for `/readyz` and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// Name of the issuer in `gateway.yaml`.
    pub issuer: Arc<str>,
    /// Whether tokens can be verified now.
    pub usable: bool,
    /// Usable keys.
    pub keys: usize,
    /// Counts key sets, from 1; 0 before the first.
    pub generation: u64,
    /// When the keys in use were fetched, seconds since the epoch.
    pub last_success_s: Option<u64>,
    /// Why the last fetch failed; `None` after a success.
    pub failure: Option<Arc<str>>,
    /// Keys of the set that cannot be used, with reasons.
    pub skipped: Vec<String>,
}

/// Makes rings, and holds what they share over reloads: the state folder, the table of verified tokens, the listener
/// for changes.
pub struct KeyRings {
    shared: Arc<Shared>,
}

struct Shared {
    state_dir: PathBuf,
    tokens: ArcSwap<Tokens>,
    /// Numbers key sets across all rings. Verified tokens are remembered under the number of their set, so that
    /// neither new keys nor new settings ever meet an old entry.
    epochs: AtomicU64,
    on_change: Box<dyn Fn(KeyChange) + Send + Sync>,
}

impl KeyRings {
    /// `state_dir` keeps copies of key sets; `on_change` hears of every change of keys and must not block.
    pub fn new(state_dir: PathBuf, on_change: impl Fn(KeyChange) + Send + Sync + 'static) -> KeyRings {
        KeyRings {
            shared: Arc::new(Shared {
                state_dir,
                tokens: ArcSwap::from_pointee(Tokens::new(0)),
                epochs: AtomicU64::new(1),
                on_change: Box::new(on_change),
            }),
        }
    }

    /// The rings for these issuers, by name. Rings of `before` whose settings are the same live on with their keys;
    /// for each new one, the first fetch has ended when this returns, well or not (see [`KeyRing::status`]).
    pub async fn rings(
        &self,
        issuers: &[Arc<Issuer>],
        token_cache: u64,
        before: Option<&HashMap<Arc<str>, Arc<KeyRing>>>,
    ) -> HashMap<Arc<str>, Arc<KeyRing>> {
        let tokens = Tokens::new(token_cache);
        if tokens.capacity() != self.shared.tokens.load().capacity() {
            self.shared.tokens.store(Arc::new(tokens));
        }
        let ring = |issuer: &Arc<Issuer>| {
            let kept = before.and_then(|rings| rings.get(&issuer.rules.name));
            let kept = kept.filter(|ring| *ring.inner.issuer == **issuer).cloned();
            let counts = || {
                let named = before.and_then(|rings| rings.get(&issuer.rules.name));
                named.map(|ring| ring.inner.asked.clone()).unwrap_or_default()
            };
            kept.unwrap_or_else(|| Arc::new(KeyRing::start(issuer.clone(), self.shared.clone(), counts())))
        };
        let rings: HashMap<_, _> = issuers.iter().map(|issuer| (issuer.rules.name.clone(), ring(issuer))).collect();
        for ring in rings.values() {
            ring.settled().await;
        }
        rings
    }
}

/// The keys of one issuer, and the task that looks after them. The task ends with the ring.
pub struct KeyRing {
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

struct Inner {
    issuer: Arc<Issuer>,
    shared: Arc<Shared>,
    published: ArcSwapOption<Published>,
    life: watch::Sender<Life>,
    /// Number of the fetch that some request waits for.
    wanted: AtomicU64,
    /// Tells the task to look at `wanted`.
    called: Notify,
    waiting: Semaphore,
    /// Says what tokens mean that only the issuer can read.
    introspector: Option<Introspector>,
    asked: Arc<Counts>,
}

/// A key set that is in use.
struct Published {
    keys: KeySet,
    skipped: Vec<String>,
    epoch: u64,
    generation: u64,
    /// When it may no longer be used, unless it is fetched again.
    stale_at: Instant,
}

/// What a token turned out to be.
enum Judgement {
    /// Signed by the issuer, or known to it; the session guard looks at its end.
    Signed(Arc<Identity>),
    Invalid(String),
    Unavailable(String),
}

impl Drop for KeyRing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl KeyRing {
    fn start(issuer: Arc<Issuer>, shared: Arc<Shared>, asked: Arc<Counts>) -> KeyRing {
        let inner = Arc::new(Inner {
            introspector: Introspector::new(&issuer, &asked),
            asked,
            issuer,
            shared,
            published: ArcSwapOption::empty(),
            life: watch::Sender::new(Life::default()),
            wanted: AtomicU64::new(0),
            called: Notify::new(),
            waiting: Semaphore::new(MAX_WAITING),
        });
        let keyless = inner.issuer.keys == KeySource::Nowhere;
        let task = if keyless { tokio::spawn(std::future::ready(())) } else { tokio::spawn(tend::tend(inner.clone())) };
        KeyRing { task, inner }
    }

    /// The issuer's settings.
    pub fn settings(&self) -> &Issuer {
        &self.inner.issuer
    }

    /// How many remembered tokens, of whatever issuer, are of identities like this. Looks at all of them.
    pub fn remembered(&self, like: impl Fn(&Identity) -> bool) -> u64 {
        self.inner.shared.tokens.load().matching(like)
    }

    /// The state of the keys now.
    pub fn status(&self) -> KeyStatus {
        self.inner.status(Instant::now())
    }

    /// Waits until the first fetch has ended, and no longer than a fetch may take.
    async fn settled(&self) {
        if self.inner.issuer.keys == KeySource::Nowhere {
            return;
        }
        let mut life = self.inner.life.subscribe();
        let _ = tokio::time::timeout(WAIT, life.wait_for(|life| life.attempts > 0)).await;
    }
}

impl Inner {
    async fn judge(&self, token: &str, now_s: u64, now: Instant) -> Judgement {
        if token.len() > token::MAX_TOKEN_BYTES {
            return Judgement::Invalid("larger than 16 KiB".to_owned());
        }
        if let Some(introspector) = self.introspector.as_ref().filter(|one| one.asks_about(token)) {
            // Boxed, so that tokens that are not asked about do not carry the room for it.
            return match Box::pin(introspector.judge(token, now_s)).await {
                Verdict::Known(identity) => Judgement::Signed(identity),
                Verdict::Refused(No::Invalid(cause) | No::Over(cause)) => Judgement::Invalid(cause.to_owned()),
                Verdict::Refused(No::Nobody) => Judgement::Invalid("the token is nobody's".to_owned()),
                Verdict::Unavailable(cause) => Judgement::Unavailable(cause.as_ref().to_owned()),
            };
        }
        let key = self.shared.tokens.load().key(token);
        let published = match self.usable(now) {
            Ok(published) => published,
            Err(cause) => return Judgement::Unavailable(cause),
        };
        let unknown = match self.verify_under(&published, token, key, now_s) {
            Ok(judgement) => return judgement,
            Err(unknown) => unknown,
        };
        let failure = match self.next_fetch(now).await {
            Ok(failure) => failure,
            Err(cause) => return Judgement::Unavailable(cause),
        };
        // The set may have changed even where we did not wait: between our look at the keys and at their life.
        let latest = self.published.load_full();
        if let Some(latest) = latest.filter(|latest| latest.epoch != published.epoch)
            && let Ok(judgement) = self.verify_under(&latest, token, key, now_s)
        {
            return judgement;
        }
        match failure {
            None => Judgement::Invalid(unknown.to_string()),
            Some(failure) => Judgement::Unavailable(format!("{unknown}, and the last fetch failed: {failure}")),
        }
    }

    /// The keys, unless there are none or they are too old.
    fn usable(&self, now: Instant) -> Result<Arc<Published>, String> {
        match self.published.load_full() {
            Some(published) if now < published.stale_at => Ok(published),
            stale => {
                let life = self.life.borrow();
                let cause = life.failure.as_deref().unwrap_or("not fetched yet");
                let what = if stale.is_some() { "are older than `max_stale`" } else { "could not be had" };
                Err(format!("the keys of issuer `{}` {what}: {cause}", self.issuer.rules.name))
            }
        }
    }

    /// Verifies under one key set, by memory or by signature; `Err` is an unknown key.
    fn verify_under(
        &self,
        published: &Published,
        token: &str,
        key: Option<TokenKey>,
        now_s: u64,
    ) -> Result<Judgement, TokenError> {
        let tokens = self.shared.tokens.load();
        if let Some(identity) = key.as_ref().and_then(|key| tokens.find(key, published.epoch, now_s)) {
            return Ok(Judgement::Signed(identity));
        }
        match token::verify(token, &self.issuer.rules, &published.keys, now_s) {
            Ok(identity) => {
                let identity = Arc::new(identity);
                if let Some(key) = key {
                    tokens.insert(key, published.epoch, now_s, identity.clone());
                }
                Ok(Judgement::Signed(identity))
            }
            Err(TokenError::Expired { identity }) => Ok(Judgement::Signed(Arc::from(identity))),
            Err(TokenError::Invalid(cause)) => Ok(Judgement::Invalid(cause.to_owned())),
            Err(unknown @ TokenError::UnknownKey { .. }) => Err(unknown),
        }
    }

    /// Waits for a fetch where one may bring an unknown key, and says how the last one ended.
    async fn next_fetch(&self, now: Instant) -> Result<Option<Arc<str>>, String> {
        let mut life = self.life.subscribe();
        let (seen, meaning, failure) = {
            let life = life.borrow_and_update();
            (life.attempts, life.unknown_key(now, self.issuer.min_interval), life.failure.clone())
        };
        match meaning {
            UnknownKey::Refuse | UnknownKey::CannotTell => return Ok(failure),
            UnknownKey::Fetch => {}
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err("too many requests wait for keys".to_owned());
        };
        self.wanted.fetch_max(seen.saturating_add(1), Ordering::AcqRel);
        self.called.notify_one();
        match tokio::time::timeout(WAIT, life.wait_for(|life| life.attempts != seen)).await {
            Ok(Ok(life)) => Ok(life.failure.clone()),
            Ok(Err(_)) | Err(_) => Err("the keys were not fetched in time".to_owned()),
        }
    }

    fn status(&self, now: Instant) -> KeyStatus {
        let published = self.published.load_full();
        let published = published.as_deref();
        let life = self.life.borrow();
        KeyStatus {
            issuer: self.issuer.rules.name.clone(),
            usable: self.issuer.keys == KeySource::Nowhere
                || published.is_some_and(|published| now < published.stale_at),
            keys: published.map_or(0, |published| published.keys.count()),
            generation: published.map_or(0, |published| published.generation),
            last_success_s: life.last_success_s,
            failure: life.failure.clone(),
            skipped: published.map(|published| published.skipped.clone()).unwrap_or_default(),
        }
    }
}
