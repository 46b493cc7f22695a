//! What was read of the store a moment ago: gone by while it is fresh, and for a while longer where the store is silent.
use super::sessions::{FRESH_MS, GRACE_MS};
use super::state::{Record, Silent};
use moka::sync::Cache;
use std::sync::Arc;
use std::time::Duration;

/// Values by their keys, of which the less used are forgotten where there are too many.
pub struct Recent<T> {
    known: Cache<[u8; 32], Arc<Read<T>>>,
}

/// A value and when it was read.
struct Read<T> {
    value: Arc<T>,
    at_ms: u64,
}

impl<T> Read<T> {
    fn is_within(&self, ms: u64, now_ms: u64) -> bool {
        now_ms < self.at_ms.saturating_add(ms)
    }
}

impl<T: Send + Sync + 'static> Recent<T> {
    /// Room for so many.
    pub fn new(most: u64) -> Recent<T> {
        Recent { known: Cache::builder().max_capacity(most).time_to_live(Duration::from_millis(GRACE_MS)).build() }
    }

    /// The value, and whether it is told from before only, because the store is silent. It is read and opened where it was not
    /// read within [`FRESH_MS`]; `None` where the store has none.
    pub async fn recall<F: From<Silent>>(
        &self,
        key: [u8; 32],
        now_ms: u64,
        read: impl Future<Output = Result<Option<Record>, Silent>>,
        open: impl FnOnce(Record) -> Result<T, F>,
    ) -> Result<Option<(Arc<T>, bool)>, F> {
        let old = self.known.get(&key);
        if let Some(known) = old.as_ref().filter(|known| known.is_within(FRESH_MS, now_ms)) {
            return Ok(Some((known.value.clone(), false)));
        }
        match read.await {
            Ok(Some(record)) => {
                let value = Arc::new(open(record)?);
                self.known.insert(key, Arc::new(Read { value: value.clone(), at_ms: now_ms }));
                Ok(Some((value, false)))
            }
            Ok(None) => {
                self.forget(&key);
                Ok(None)
            }
            Err(silent) => {
                // What was forgotten meanwhile was changed here.
                let still = old.filter(|known| self.known.contains_key(&key) && known.is_within(GRACE_MS, now_ms));
                still.map(|known| Some((known.value.clone(), true))).ok_or_else(|| silent.into())
            }
        }
    }

    /// Whether a value would be told without reading.
    pub fn is_fresh(&self, key: &[u8; 32], now_ms: u64) -> bool {
        self.known.get(key).is_some_and(|known| known.is_within(FRESH_MS, now_ms))
    }

    /// It is read anew with its next use.
    pub fn forget(&self, key: &[u8; 32]) {
        self.known.invalidate(key);
    }
}
