//! The engine in PostgreSQL (13 or later): one statement for each operation, over a few connections.
//!
//! Each statement is a transaction of its own, and each connection carries many of them one behind the other; the server
//! commits those of several connections together. A record is compared and swapped by one `UPDATE … WHERE version`.
//! Notes of the feed are written one after the other, under a lock of the database that ends with the commit, so that
//! nobody reads a later one before an earlier one; `LISTEN` only says that there is something to read.
mod pool;
mod reader;
mod schema;
mod wire;

pub use reader::Reader;
pub use schema::SCHEMA;

use super::{Cause, EngineName, Expect, Found, Kind, MOST, NEVER, News, Position, Put, Record, Scan, Silent};
use crate::store::shared::Password;
use pool::Pool;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

/// How the server is reached, and how long it is waited for.
#[derive(Clone)]
pub struct Options {
    /// Where it is.
    pub place: Place,
    /// How it proves that it is the one; `None` speaks in the clear.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The role.
    pub user: String,
    /// Reads the password, anew for every connection. May wait for the disk.
    pub password: Option<Password>,
    /// The database.
    pub database: String,
    /// What this replica is called in the server's views.
    pub instance: String,
    /// The one statement that is asked over it, with `$1`, a text: then nothing is made or written there, and the server
    /// holds us to it.
    pub reads: Option<Arc<str>>,
    /// Connections.
    pub connections: usize,
    /// Time for a connection.
    pub connect_timeout: Duration,
    /// Time for an answer.
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

/// The server, as all requests share it.
pub struct Postgres {
    pool: Pool,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

/// Notes that are older are forgotten: whoever has not heard for longer reads everything anew.
const FEED_KEPT_MS: u64 = 24 * 3_600_000;
/// Records of one sweep.
const SWEEP: u64 = 1000;
const MINUTE_MS: u64 = 60_000;

const GET: &str = "SELECT version, expires_at, idx, value, key FROM moat_state WHERE kind = $1 AND key = $2";
const INSERT: &str = "INSERT INTO moat_state AS s (kind, key, version, expires_at, minute, idx, value) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (kind, key) DO UPDATE SET version = excluded.version, \
     expires_at = excluded.expires_at, minute = excluded.minute, idx = excluded.idx, value = excluded.value \
     WHERE s.expires_at <= $8";
const UPDATE: &str = "UPDATE moat_state SET version = $3, expires_at = $4, minute = $5, idx = $6, value = $7 \
     WHERE kind = $1 AND key = $2 AND version = $8 AND expires_at > $9";
const DELETE: &str =
    "DELETE FROM moat_state WHERE kind = $1 AND key = $2 RETURNING version, expires_at, idx, value, key";
const LIST: &str = "SELECT version, expires_at, idx, value, key FROM moat_state \
     WHERE kind = $1 AND idx = $2 AND key > $3 AND expires_at > $4 ORDER BY key LIMIT $5";
const PAGE: &str = "SELECT version, expires_at, idx, value, key FROM moat_state \
     WHERE kind = $1 AND key > $2 ORDER BY key LIMIT $3";
const SWEEP_RECORDS: &str = "DELETE FROM moat_state WHERE ctid = ANY (ARRAY(SELECT ctid FROM moat_state \
     WHERE minute < $1 LIMIT 1000 FOR UPDATE SKIP LOCKED))";
const SWEEP_FEED: &str = "DELETE FROM moat_feed WHERE at < $1 AND position < (SELECT max(position) FROM moat_feed)";
/// The number is `moat` in ASCII. The lock is taken before the position is drawn.
const APPEND: &str = "WITH one AS MATERIALIZED (SELECT pg_advisory_xact_lock(1836016996, 1)), \
     new AS (INSERT INTO moat_feed (at, note) SELECT $1, $2 FROM one RETURNING position) \
     SELECT position, pg_notify('moat_feed', '')::text FROM new";
const END: &str = "SELECT coalesce(max(position), 0) FROM moat_feed";
const NEWS: &str = "SELECT position, note FROM moat_feed WHERE position >= $1 ORDER BY position LIMIT $2";

type Values<'v> = &'v [(&'v (dyn ToSql + Sync), Type)];

impl Postgres {
    /// Begins to connect. Needs a tokio runtime.
    pub fn start(options: Options, observer: Arc<dyn Watcher>) -> Postgres {
        Postgres { pool: Pool::start(options, observer) }
    }

    /// Waits until the first attempt to connect has ended, one way or the other.
    pub async fn tried(&self) {
        self.pool.tried().await;
    }

    /// Whether it is of use; else why not.
    pub fn health(&self) -> Result<(), String> {
        self.pool.health()
    }

    pub(super) async fn get(&self, kind: Kind, key: &[u8], now: u64) -> Result<Option<Record>, Silent> {
        let rows = self.pool.rows(GET, &[(&number(kind), Type::INT2), (&key, Type::BYTEA)]).await?;
        let found = rows.first().map(found).transpose()?;
        Ok(found.map(|found| found.record).filter(|record| record.lives(now)))
    }

    pub(super) async fn put(
        &self,
        kind: Kind,
        key: &[u8],
        expect: Expect,
        record: Record,
        now: u64,
    ) -> Result<Put, Silent> {
        let (number, version, expires) = (number(kind), signed(record.version), signed(record.expires_at_ms));
        let minute = (record.expires_at_ms != NEVER).then(|| signed(record.expires_at_ms / MINUTE_MS));
        let index = record.index.as_ref().map(<[u8; 32]>::as_slice);
        let written: [(&(dyn ToSql + Sync), Type); 7] = [
            (&number, Type::INT2),
            (&key, Type::BYTEA),
            (&version, Type::INT8),
            (&expires, Type::INT8),
            (&minute, Type::INT8),
            (&index, Type::BYTEA),
            (&record.value, Type::BYTEA),
        ];
        let (now_ms, most) = (signed(now), i64::MAX);
        let count = match expect {
            Expect::Absent => self.pool.execute(INSERT, &with(&written, &[(&now_ms, Type::INT8)])).await?,
            Expect::Any => self.pool.execute(INSERT, &with(&written, &[(&most, Type::INT8)])).await?,
            Expect::Version(version) => {
                let expected = signed(version);
                let condition: [(&(dyn ToSql + Sync), Type); 2] = [(&expected, Type::INT8), (&now_ms, Type::INT8)];
                self.pool.execute(UPDATE, &with(&written, &condition)).await?
            }
        };
        if count > 0 {
            return Ok(Put::Written { version: record.version });
        }
        Ok(Put::Conflict(self.get(kind, key, now).await?))
    }

    pub(super) async fn remove(&self, kind: Kind, key: &[u8], now: u64) -> Result<Option<Record>, Silent> {
        let rows = self.pool.rows(DELETE, &[(&number(kind), Type::INT2), (&key, Type::BYTEA)]).await?;
        let found = rows.first().map(found).transpose()?;
        Ok(found.map(|found| found.record).filter(|record| record.lives(now)))
    }

    pub(super) async fn list(
        &self,
        kind: Kind,
        index: &[u8; 32],
        after: Option<&[u8]>,
        limit: usize,
        now: u64,
    ) -> Result<Vec<Found>, Silent> {
        let values: Values<'_> = &[
            (&number(kind), Type::INT2),
            (&index.as_slice(), Type::BYTEA),
            (&after.unwrap_or_default(), Type::BYTEA),
            (&signed(now), Type::INT8),
            (&many(limit), Type::INT8),
        ];
        self.pool.rows(LIST, values).await?.iter().map(found).collect()
    }

    pub(super) async fn scan(&self, kind: Kind, from: Option<&[u8]>, limit: usize, now: u64) -> Result<Scan, Silent> {
        let values: Values<'_> =
            &[(&number(kind), Type::INT2), (&from.unwrap_or_default(), Type::BYTEA), (&many(limit), Type::INT8)];
        let rows = self.pool.rows(PAGE, values).await?;
        let mut all: Vec<Found> = rows.iter().map(found).collect::<Result<_, _>>()?;
        let next = all.last().filter(|_| all.len() == limit).map(|last| last.key.clone());
        all.retain(|found| found.record.lives(now));
        Ok(Scan { found: all, next })
    }

    pub(super) async fn append(&self, note: &[u8], now: u64) -> Result<Position, Silent> {
        let rows = self.pool.rows(APPEND, &[(&signed(now), Type::INT8), (&note, Type::BYTEA)]).await?;
        let position: i64 = rows.first().and_then(|row| row.try_get(0).ok()).ok_or_else(strange)?;
        Ok(place(position))
    }

    pub(super) async fn feed_end(&self) -> Result<Position, Silent> {
        let rows = self.pool.rows(END, &[]).await?;
        let position: i64 = rows.first().and_then(|row| row.try_get(0).ok()).ok_or_else(strange)?;
        Ok(place(position))
    }

    pub(super) async fn follow(&self, after: Position, wait: Duration) -> Result<News, Silent> {
        let (mut told, until) = (self.pool.told(), Instant::now() + wait);
        loop {
            told.mark_unchanged();
            let news = self.news(after).await?;
            let left = until.saturating_duration_since(Instant::now());
            if news.missed || !news.notes.is_empty() || left.is_zero() {
                return Ok(news);
            }
            // Also woken when the listening connection is lost or made anew: then nobody may have told.
            let _ = tokio::time::timeout(left, told.changed()).await;
        }
    }

    async fn news(&self, after: Position) -> Result<News, Silent> {
        let from = i64::try_from(after.0).unwrap_or(i64::MAX);
        let rows = self.pool.rows(NEWS, &[(&from, Type::INT8), (&many(MOST), Type::INT8)]).await?;
        let note = |row: &Row| {
            let (position, note) = (row.try_get::<_, i64>(0).ok()?, row.try_get::<_, Vec<u8>>(1).ok()?);
            Some((place(position), note))
        };
        let mut notes: Vec<_> = rows.iter().map(note).collect::<Option<_>>().ok_or_else(strange)?;
        let there = notes.first().is_some_and(|(position, _)| *position == after);
        if there {
            notes.remove(0);
        }
        Ok(News { notes, missed: after > Position::default() && !there })
    }

    pub(super) async fn sweep(&self, now: u64) -> Result<(), Silent> {
        // Late by a minute and more: replicas' clocks differ.
        let minute = signed((now / MINUTE_MS).saturating_sub(1));
        while self.pool.execute(SWEEP_RECORDS, &[(&minute, Type::INT8)]).await? >= SWEEP {}
        self.pool.execute(SWEEP_FEED, &[(&signed(now.saturating_sub(FEED_KEPT_MS)), Type::INT8)]).await?;
        Ok(())
    }
}

/// Somebody who wants to know when the server becomes of use (`Ok`) or no longer is (the reason).
pub trait Watcher: Send + Sync {
    /// It has changed.
    fn changed(&self, state: Result<(), &str>);
}

fn with<'v>(
    values: &[(&'v (dyn ToSql + Sync), Type)],
    more: &[(&'v (dyn ToSql + Sync), Type)],
) -> Vec<(&'v (dyn ToSql + Sync), Type)> {
    values.iter().chain(more).cloned().collect()
}

fn found(row: &Row) -> Result<Found, Silent> {
    let parts = || {
        let (version, expires) = (row.try_get::<_, i64>(0).ok()?, row.try_get::<_, i64>(1).ok()?);
        let index = row.try_get::<_, Option<Vec<u8>>>(2).ok()?;
        let record = Record {
            version: u64::try_from(version).ok()?,
            value: row.try_get(3).ok()?,
            expires_at_ms: if expires == i64::MAX { NEVER } else { u64::try_from(expires).ok()? },
            index: index.map(<[u8; 32]>::try_from).transpose().ok()?,
        };
        Some(Found { key: row.try_get(4).ok()?, record })
    };
    parts().ok_or_else(strange)
}

fn number(kind: Kind) -> i16 {
    i16::from(kind.byte())
}

/// The greatest stands for never, here as there.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn many(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn place(position: i64) -> Position {
    Position(u128::try_from(position).unwrap_or_default())
}

fn silent(cause: Cause, text: impl Into<String>) -> Silent {
    Silent::new(EngineName::Postgres, cause, text)
}

fn strange() -> Silent {
    silent(Cause::Damaged, "an answer of another kind")
}
