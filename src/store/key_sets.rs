//! API keys kept in the state engine, by set: made, changed and found by any replica, without a file.
//!
//! A key is judged by what this process has read of it within [`FRESH_MS`]; while the store is silent, by what it has read within
//! a minute, and that is told. That a key was revoked is told by a mark besides (`store::revocations`), so that no replica waits
//! for its memory to get old.
//!
//! **Strangers.** Keys that the gateway made are marked, so nobody can make up ids that cost a read of the store
//! (`decide::api_key`). Imported keys cannot be marked: what may be one is looked up by a few at a time, and what was not there is
//! remembered for a while, in a bounded place of its own.
mod content;

pub use content::{Content, Hash, Key, handle, is_of};

use crate::store::recent::Recent;
use crate::store::seal::{Keyring, Place, SealError};
use crate::store::sessions::FRESH_MS;
use crate::store::state::{Expect, Kind, MOST, NEVER, Put, Record, Silent, State};
use moka::sync::Cache;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Keys that a process remembers; each takes about a kilobyte.
const REMEMBERED: u64 = 100_000;
/// Ids that were not there; each takes about 150 bytes.
const UNKNOWN: u64 = 10_000;
/// Look-ups of what may be imported keys under way at a time.
const GUESSES: usize = 8;
/// Lengths that ids of imported keys of a set may have: each is a look-up for whatever is no key of ours.
pub const MOST_LENGTHS: usize = 4;
/// Rounds of reading, changing and writing before a write is given up.
const ROUNDS: usize = 16;
/// How long a use waits to be told to others.
const TOLD_WITHIN: Duration = Duration::from_secs(600);
/// The words that records are sealed and found under.
const KIND: &str = "api key";
const ALL: &str = "api keys of a set";
const LENGTHS: &str = "lengths of imported api keys";

/// A set: where its keys lie and what they are sealed with.
#[derive(Debug)]
pub struct Shelf {
    /// Its name.
    pub set: Arc<str>,
    ring: Keyring,
}

/// Why nothing can be said or done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The store is silent.
    #[error(transparent)]
    Silent(#[from] Silent),
    /// Something could not be sealed, or does not open.
    #[error("API keys: {0}")]
    Seal(#[from] SealError),
    /// Others write the same key all the time.
    #[error("API keys: one key is written by too many at once")]
    Busy,
    /// Too many are looked up that may be imported keys.
    #[error("API keys: too many are looked up at once that no key of ours looks like")]
    Crowded,
    /// There is no room for another length.
    #[error("imported API keys of a set have ids of at most {MOST_LENGTHS} different lengths")]
    Lengths,
}

/// All sets, as this process knows them.
pub struct KeySets {
    state: Arc<State>,
    known: Recent<Key>,
    lengths: Recent<Vec<usize>>,
    /// When a place was found empty.
    unknown: Cache<[u8; 32], u64>,
    guesses: Semaphore,
    /// When keys were last used here, by the places where that is told.
    uses: Cache<[u8; 32], u64>,
}

impl Shelf {
    /// The set of this name.
    pub fn new(set: Arc<str>, sealing_key: &[u8; 32]) -> Shelf {
        Shelf { set, ring: Keyring::new([sealing_key]) }
    }

    /// Where the key of an id lies.
    pub fn place(&self, id: &str) -> Result<[u8; 32], SealError> {
        self.spot(KIND, id.as_bytes())
    }

    /// Where something lies, or is found by.
    fn spot(&self, kind: &str, id: &[u8]) -> Result<[u8; 32], SealError> {
        let spots = self.ring.indices(Place { kind, tenant: &self.set, key: id });
        spots.first().copied().ok_or(SealError::CannotSeal)
    }

    /// Sealed for where it lies.
    fn seal(&self, spot: &[u8; 32], value: &impl Serialize) -> Result<Vec<u8>, SealError> {
        let bytes = serde_json::to_vec(value).map_err(|_| SealError::CannotSeal)?;
        self.ring.seal(Place { kind: KIND, tenant: &self.set, key: spot }, &bytes)
    }

    fn open<T: DeserializeOwned>(&self, spot: &[u8], sealed: &[u8]) -> Result<T, SealError> {
        let bytes = self.ring.open(Place { kind: KIND, tenant: &self.set, key: spot }, sealed)?;
        serde_json::from_slice(&bytes).map_err(|_| SealError::NotSealed)
    }

    fn record(&self, spot: &[u8; 32], content: &Content) -> Result<Record, SealError> {
        Ok(Record::new(self.seal(spot, content)?, content.kept_until_ms()).indexed(self.spot(ALL, b"")?))
    }
}

impl KeySets {
    /// Over this state.
    pub fn new(state: Arc<State>) -> KeySets {
        let bounded = |most, time| Cache::builder().max_capacity(most).time_to_live(time).build();
        KeySets {
            state,
            known: Recent::new(REMEMBERED),
            lengths: Recent::new(REMEMBERED),
            unknown: bounded(UNKNOWN, Duration::from_millis(FRESH_MS)),
            guesses: Semaphore::new(GUESSES),
            uses: bounded(REMEMBERED, TOLD_WITHIN),
        }
    }

    /// The key of an id that the gateway has marked, and whether it is known from before only, because the store is silent.
    pub async fn find(&self, shelf: &Shelf, id: &str, now_ms: u64) -> Result<Option<(Arc<Key>, bool)>, Fault> {
        self.look_up(shelf, shelf.place(id)?, now_ms).await
    }

    /// The imported key that a text may be, by what it begins with.
    pub async fn find_imported(
        &self,
        shelf: &Shelf,
        text: &str,
        now_ms: u64,
    ) -> Result<Option<(Arc<Key>, bool)>, Fault> {
        let spot = shelf.spot(LENGTHS, b"")?;
        let read = self.state.get(Kind::ApiKey, &spot);
        let open = |record: Record| Ok::<_, Fault>(shelf.open(&spot, &record.value)?);
        if self.is_missing(&spot, now_ms) {
            return Ok(None);
        }
        let Some((lengths, _)) = self.lengths.recall(spot, now_ms, read, open).await? else {
            self.unknown.insert(spot, now_ms);
            return Ok(None);
        };
        for length in lengths.iter() {
            let Some(id) = text.get(..*length) else { continue };
            let spot = shelf.place(id)?;
            let _place = match self.known.is_fresh(&spot, now_ms) {
                true => None,
                false => Some(self.guesses.try_acquire().map_err(|_| Fault::Crowded)?),
            };
            let found = self.look_up(shelf, spot, now_ms).await?;
            if let Some(found) = found.filter(|(key, _)| key.content.imported) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn look_up(&self, shelf: &Shelf, spot: [u8; 32], now_ms: u64) -> Result<Option<(Arc<Key>, bool)>, Fault> {
        if self.is_missing(&spot, now_ms) {
            return Ok(None);
        }
        let read = self.state.get(Kind::ApiKey, &spot);
        let open = |record: Record| Ok::<_, Fault>(Key::new(shelf, shelf.open(&spot, &record.value)?));
        let found = self.known.recall(spot, now_ms, read, open).await?;
        if found.is_none() {
            self.unknown.insert(spot, now_ms);
        }
        Ok(found)
    }

    /// Whether nothing was there a moment ago.
    fn is_missing(&self, spot: &[u8; 32], now_ms: u64) -> bool {
        self.unknown.get(spot).is_some_and(|at_ms| now_ms < at_ms.saturating_add(FRESH_MS))
    }

    /// Adds a key; it is written when this returns. `false` where there is one of this id.
    pub async fn add(&self, shelf: &Shelf, content: &Content) -> Result<bool, Fault> {
        if content.imported {
            // Before the key: a length without a key costs a look-up, a key without its length is never found.
            self.add_length(shelf, content.id.len()).await?;
        }
        let spot = shelf.place(&content.id)?;
        let put = self.state.put(Kind::ApiKey, &spot, Expect::Absent, shelf.record(&spot, content)?).await?;
        self.unknown.invalidate(&spot);
        Ok(matches!(put, Put::Written { .. }))
    }

    /// What is kept of a key, as it stands in the store.
    pub async fn content(&self, shelf: &Shelf, id: &str) -> Result<Option<Content>, Fault> {
        let spot = shelf.place(id)?;
        let Some(record) = self.state.get(Kind::ApiKey, &spot).await? else { return Ok(None) };
        Ok(Some(shelf.open(&spot, &record.value)?))
    }

    /// Changes what is kept of a key, whoever else does, unless `change` says that nothing is to be written; durable when this
    /// returns. What stands there then; `None` where there is no such key.
    pub async fn change(
        &self,
        shelf: &Shelf,
        id: &str,
        mut change: impl FnMut(&mut Content) -> bool,
    ) -> Result<Option<Content>, Fault> {
        let spot = shelf.place(id)?;
        for _ in 0..ROUNDS {
            let Some(standing) = self.state.get(Kind::ApiKey, &spot).await? else { return Ok(None) };
            let mut content = shelf.open(&spot, &standing.value)?;
            if !change(&mut content) {
                self.known.forget(&spot);
                return Ok(Some(content));
            }
            let expect = Expect::Version(standing.version);
            let put = self.state.put(Kind::ApiKey, &spot, expect, shelf.record(&spot, &content)?).await?;
            if let Put::Written { .. } = put {
                self.known.forget(&spot);
                return Ok(Some(content));
            }
        }
        Err(Fault::Busy)
    }

    /// What this process knows of the key in a place is read anew with its next use: somebody has changed it elsewhere.
    pub fn forget(&self, place: &[u8; 32]) {
        self.known.forget(place);
    }

    /// Takes a key away that nobody was told.
    pub async fn remove(&self, shelf: &Shelf, id: &str) -> Result<(), Fault> {
        let spot = shelf.place(id)?;
        self.state.remove(Kind::ApiKey, &spot).await?;
        self.known.forget(&spot);
        Ok(())
    }

    /// All keys of a set, by when they were made.
    pub async fn list(&self, shelf: &Shelf) -> Result<Vec<Content>, Fault> {
        let index = shelf.spot(ALL, b"")?;
        let mut all = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let found = self.state.list(Kind::ApiKey, &index, after.as_deref(), MOST).await?;
            let Some(last) = found.last() else { break };
            after = Some(last.key.clone());
            for one in &found {
                all.push(shelf.open::<Content>(&one.key, &one.record.value)?);
            }
        }
        all.sort_by(|a, b| (a.created_s, &a.id).cmp(&(b.created_s, &b.id)));
        Ok(all)
    }

    /// A key was used; `place` is where that is told to others.
    pub fn used(&self, place: [u8; 32], now_s: u64) {
        self.uses.insert(place, now_s);
    }

    /// When keys were used here within the last minutes, seconds since the epoch.
    pub fn uses(&self) -> HashMap<[u8; 32], u64> {
        self.uses.iter().map(|(place, at_s)| (*place, at_s)).collect()
    }

    async fn add_length(&self, shelf: &Shelf, length: usize) -> Result<(), Fault> {
        let spot = shelf.spot(LENGTHS, b"")?;
        for _ in 0..ROUNDS {
            let standing = self.state.get(Kind::ApiKey, &spot).await?;
            let mut lengths: Vec<usize> = match &standing {
                Some(record) => shelf.open(&spot, &record.value)?,
                None => Vec::new(),
            };
            if lengths.contains(&length) {
                return Ok(());
            }
            if lengths.len() >= MOST_LENGTHS {
                return Err(Fault::Lengths);
            }
            lengths.push(length);
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            let sealed = shelf.seal(&spot, &lengths)?;
            let expect = standing.map_or(Expect::Absent, |record| Expect::Version(record.version));
            let put = self.state.put(Kind::ApiKey, &spot, expect, Record::new(sealed, NEVER)).await?;
            if let Put::Written { .. } = put {
                self.lengths.forget(&spot);
                self.unknown.invalidate(&spot);
                return Ok(());
            }
        }
        Err(Fault::Busy)
    }
}
