//! The engine in memory: for tests, and the plainest statement of what the others must do.
use super::{Expect, Found, Kind, MOST, News, Position, Put, Record, Scan};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Records of one process.
#[derive(Debug, Default)]
pub struct Memory {
    held: Mutex<Held>,
    end: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Held {
    records: BTreeMap<(Kind, Vec<u8>), Record>,
    feed: BTreeMap<u64, Vec<u8>>,
}

impl Memory {
    pub(super) fn get(&self, kind: Kind, key: &[u8], now: u64) -> Option<Record> {
        self.held().records.get(&(kind, key.to_vec())).filter(|record| record.lives(now)).cloned()
    }

    pub(super) fn put(&self, kind: Kind, key: &[u8], expect: Expect, record: Record, now: u64) -> Put {
        let mut held = self.held();
        let key = (kind, key.to_vec());
        let there = held.records.get(&key).filter(|record| record.lives(now));
        if !expect.is_met(there) {
            return Put::Conflict(there.cloned());
        }
        let version = record.version;
        held.records.insert(key, record);
        Put::Written { version }
    }

    pub(super) fn remove(&self, kind: Kind, key: &[u8], now: u64) -> Option<Record> {
        self.held().records.remove(&(kind, key.to_vec())).filter(|record| record.lives(now))
    }

    pub(super) fn list(
        &self,
        kind: Kind,
        index: &[u8; 32],
        after: Option<&[u8]>,
        limit: usize,
        now: u64,
    ) -> Vec<Found> {
        let fits = |record: &Record| record.index.as_ref() == Some(index) && record.lives(now);
        self.behind(kind, after, limit, fits).found
    }

    pub(super) fn scan(&self, kind: Kind, from: Option<&[u8]>, limit: usize, now: u64) -> Scan {
        self.behind(kind, from, limit, |record| record.lives(now))
    }

    fn behind(&self, kind: Kind, after: Option<&[u8]>, limit: usize, fits: impl Fn(&Record) -> bool) -> Scan {
        let held = self.held();
        let from =
            after.map_or(Bound::Included(Vec::new()), |after| Bound::Excluded(after.to_vec())).map(|key| (kind, key));
        let all = held.records.range((from, Bound::Unbounded)).take_while(|((of, _), _)| *of == kind);
        let found: Vec<Found> = all
            .filter(|(_, record)| fits(record))
            .take(limit)
            .map(|((_, key), record)| Found { key: key.clone(), record: record.clone() })
            .collect();
        let next = found.last().filter(|_| found.len() == limit).map(|last| last.key.clone());
        Scan { found, next }
    }

    pub(super) fn append(&self, note: &[u8]) -> Position {
        let mut held = self.held();
        let position = held.feed.last_key_value().map_or(0, |(last, _)| *last) + 1;
        held.feed.insert(position, note.to_vec());
        self.end.send_replace(position);
        Position(position.into())
    }

    pub(super) fn feed_end(&self) -> Position {
        Position((*self.end.borrow()).into())
    }

    pub(super) async fn follow(&self, after: Position, wait: Duration) -> News {
        let after = u64::try_from(after.0).unwrap_or(u64::MAX);
        let mut end = self.end.subscribe();
        let more = end.wait_for(|end| *end != after);
        // Neither the end of patience nor that of the sender is news.
        let _ = tokio::time::timeout(wait, more).await.map(|end| end.map(|end| *end));
        let held = self.held();
        let missed = after > 0 && !held.feed.contains_key(&after);
        let behind = held.feed.range((Bound::Excluded(after), Bound::Unbounded)).take(MOST);
        News { notes: behind.map(|(at, note)| (Position((*at).into()), note.clone())).collect(), missed }
    }

    pub(super) fn sweep(&self, now: u64) {
        self.held().records.retain(|_, record| record.lives(now));
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
