//! API keys at work: which key a text is, and when each was last used.
//!
//! **Cost.** What somebody made up fails by its form and checksum, before anything is looked up; an unknown id costs a
//! look-up more, a wrong secret one HMAC. Only imported keys cost more, whose bcrypt hash takes a part of a second by
//! design: each is checked that way once in a process, and from then on by HMAC, so that whoever guesses at a key that
//! is in use costs nothing. First checks run one at a time, at a quarter of one processor, and few may wait for them.
mod used;

pub use used::{recall, remember};

use crate::config::settings::{ApiKey, ApiKeys, KeyHash};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use decide::api_key;
use decide::facts::Identity;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};

/// Longer texts are no keys.
pub(super) const MAX_BYTES: usize = 512;
/// How exactly the last use is told, in seconds.
const GRAIN_S: u64 = 60;
/// Requests that may wait for the first check of an imported key.
const WAITING: usize = 16;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// For every second of a first check, so many without one.
const REST: u32 = 3;

/// The one place where imported keys are checked for the first time: a bound on the processor, hence one for all.
static FIRST: Semaphore = Semaphore::const_new(1);
static WAIT: AtomicUsize = AtomicUsize::new(0);

/// What a text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A key of this holder; whether it has expired is in the identity.
    Known(Arc<Identity>),
    /// A key that was revoked.
    Revoked,
    /// No key of ours, and why.
    Unknown(&'static str),
    /// It cannot be told now, and why.
    Unclear(&'static str),
}

/// Which key a text is, at `now_s` (seconds since the epoch).
pub async fn judge(keys: &ApiKeys, text: &str, now_s: u64) -> Verdict {
    if text.len() > MAX_BYTES {
        return Verdict::Unknown("the API key is too long");
    }
    let (key, wrong) = match api_key::parse(text, &keys.prefix) {
        Ok(written) => (keys.key(written.id), "no such API key"),
        Err(flaw) => {
            let parts = keys.imported.iter().filter_map(|length| text.get(..*length));
            (parts.filter_map(|id| keys.key(id)).find(|key| matches!(key.hash, KeyHash::Bcrypt { .. })), flaw.cause())
        }
    };
    let Some(key) = key else { return Verdict::Unknown(wrong) };
    let right = match &key.hash {
        KeyHash::Hmac(hash) => Ok(equal(hash, &keys.hash(text))),
        KeyHash::Bcrypt { hash, seen } => imported(keys.hash(text), text, hash, seen).await,
    };
    match right {
        Err(cause) => Verdict::Unclear(cause),
        Ok(false) => Verdict::Unknown("the API key's secret is wrong"),
        Ok(true) if key.revoked => Verdict::Revoked,
        Ok(true) => {
            note(key, now_s);
            Verdict::Known(key.identity.clone())
        }
    }
}

/// In a time that does not tell where they differ.
pub(super) fn equal(one: &[u8; 32], other: &[u8; 32]) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}

/// Written at most once a minute, so that busy keys do not make processors wait for each other.
fn note(key: &ApiKey, now_s: u64) {
    if now_s >= key.identity.expires_at {
        return;
    }
    let before = key.used_s.load(Ordering::Relaxed);
    if now_s >= before.saturating_add(GRAIN_S) {
        key.used_s.fetch_max(now_s, Ordering::Relaxed);
    }
}

/// Whether a text, whose keyed hash this is, is the key of a bcrypt hash.
pub(super) async fn imported(
    keyed: [u8; 32],
    text: &str,
    hash: &str,
    seen: &OnceLock<[u8; 32]>,
) -> Result<bool, &'static str> {
    if let Some(seen) = seen.get() {
        return Ok(equal(seen, &keyed));
    }
    let _waiting = Waiting::begin().ok_or("too many imported API keys wait for their first check")?;
    let turn = tokio::time::timeout(PATIENCE, FIRST.acquire()).await;
    let turn = turn.map_err(|_| "imported API keys wait too long for their first check")?;
    let turn = turn.map_err(|_| "imported API keys are not checked any more")?;
    if let Some(seen) = seen.get() {
        return Ok(equal(seen, &keyed));
    }
    let (text, hash) = (text.to_owned(), hash.to_owned());
    let (tell, told) = oneshot::channel();
    // The place stays taken while the processor works and rests, whatever becomes of this request: a client that leaves would
    // else make room for the next check, beside its own.
    tokio::spawn(async move {
        let began = Instant::now();
        let right = tokio::task::spawn_blocking(move || bcrypt::verify(text, &hash)).await;
        let took = began.elapsed();
        // Who asked may have left.
        let _ = tell.send(right.ok().and_then(Result::ok));
        tokio::time::sleep(took * REST).await;
        drop(turn);
    });
    match told.await {
        Ok(Some(true)) => {
            let _ = seen.set(keyed);
            Ok(true)
        }
        Ok(Some(false)) => Ok(false),
        Ok(None) | Err(_) => Err("the hash of an imported API key cannot be checked"),
    }
}

/// A new key, written from random bytes, with its id; `None` where the system has none.
pub fn draw(prefix: &str, write: impl Fn(&[u8]) -> Option<String>) -> Option<(String, String)> {
    // Of 96 bytes, some four are left out and 42 are needed.
    for _ in 0..8 {
        let mut random = [0; 96];
        aws_lc_rs::rand::fill(&mut random).ok()?;
        let Some(key) = write(&random) else { continue };
        if let Ok(written) = api_key::parse(&key, prefix) {
            return Some((written.id.to_owned(), key));
        }
    }
    None
}

/// One of those who wait.
struct Waiting;

impl Waiting {
    fn begin() -> Option<Waiting> {
        let place = Waiting;
        // Counted first: dropped where there are too many.
        (WAIT.fetch_add(1, Ordering::Relaxed) < WAITING).then_some(place)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAIT.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
