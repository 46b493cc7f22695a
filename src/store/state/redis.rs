//! The engine in a Redis (6.2 or later) or Valkey: one script for each operation, so that nothing comes between.
//!
//! It is spoken to by the client that shared limits use, over a connection of its own: a limit that has lost patience ends no
//! session. Keys, all below `PREFIX:{state}:`, are in docs/state.md. Expiry is the server's, a minute late; whether a record
//! is there is for this process's clock to say. What the server has not kept on its disk, it may forget: the feed tells
//! its followers so.
mod scripts;

use super::{Cause, EngineName, Expect, Found, Kind, MOST, NEVER, News, Position, Put, Record, Scan, Silent};
use crate::store::shared::link::Link;
use crate::store::shared::{Fault, Health, Observer, Op, Options, Reply, Script, SharedStore, resp};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long the server keeps what has expired, for the case that its clock is ahead of ours.
const SLACK_MS: u64 = 60_000;
/// Records that are asked for at once.
const PIECE: usize = 500;

/// The server, as all requests share it.
pub struct Redis {
    store: SharedStore,
    /// The connection on which the server is waited for: nothing else is answered on it meanwhile.
    feed: Mutex<Option<Link>>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

impl Redis {
    /// Begins to connect. Answers are waited for as long as [`Options::connect_timeout`] says. Needs a tokio runtime.
    pub fn start(options: Options, observer: Arc<dyn Observer>) -> Redis {
        Redis { store: SharedStore::start(options, observer), feed: Mutex::default() }
    }

    /// Waits until the first attempt to connect has ended, one way or the other.
    pub async fn tried(&self) {
        self.store.tried().await;
    }

    /// How the server does.
    pub fn health(&self) -> Health {
        self.store.health()
    }

    pub(super) async fn get(&self, kind: Kind, key: &[u8], now: u64) -> Result<Option<Record>, Silent> {
        match self.run(&scripts::GET, &[self.record(kind, key)], &[]).await? {
            Reply::Nil => Ok(None),
            Reply::Bulk(bytes) => Ok(Some(read(&bytes)?).filter(|record| record.lives(now))),
            Reply::Status(_) | Reply::Error(_) | Reply::Number(_) | Reply::List(_) => Err(strange()),
        }
    }

    pub(super) async fn put(
        &self,
        kind: Kind,
        key: &[u8],
        expect: Expect,
        record: Record,
        now: u64,
    ) -> Result<Put, Silent> {
        let (how, version) = match expect {
            Expect::Absent => (b"A".as_slice(), 0),
            Expect::Version(version) => (b"V".as_slice(), version),
            Expect::Any => (b"*".as_slice(), 0),
        };
        let gone = match record.expires_at_ms {
            NEVER => String::new(),
            at => at.saturating_add(SLACK_MS).saturating_sub(now).clamp(1, 1 << 48).to_string(),
        };
        let values = [
            how.to_vec(),
            version.to_be_bytes().to_vec(),
            now.to_string().into_bytes(),
            record.bytes(),
            gone.into_bytes(),
            key.to_vec(),
            self.name(kind, "@"),
            record.index.map(|index| index.to_vec()).unwrap_or_default(),
            self.name(kind, ":"),
        ];
        match self.run(&scripts::PUT, &[self.record(kind, key)], &values).await? {
            Reply::Nil => Ok(Put::Conflict(None)),
            Reply::Bulk(bytes) => Ok(Put::Conflict(Some(read(&bytes)?))),
            Reply::Number(_) => Ok(Put::Written { version: record.version }),
            Reply::Status(_) | Reply::Error(_) | Reply::List(_) => Err(strange()),
        }
    }

    pub(super) async fn remove(&self, kind: Kind, key: &[u8], now: u64) -> Result<Option<Record>, Silent> {
        let values = [key.to_vec(), self.name(kind, "@")];
        match self.run(&scripts::REMOVE, &[self.record(kind, key)], &values).await? {
            Reply::Nil => Ok(None),
            Reply::Bulk(bytes) => Ok(Some(read(&bytes)?).filter(|record| record.lives(now))),
            Reply::Status(_) | Reply::Error(_) | Reply::Number(_) | Reply::List(_) => Err(strange()),
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
        let mut set = self.name(kind, "@");
        set.extend_from_slice(index);
        let (mut found, mut after) = (Vec::new(), after.map(<[u8]>::to_vec));
        while found.len() < limit {
            let least = after.map_or_else(|| b"-".to_vec(), |after| [b"(", after.as_slice()].concat());
            let values = [least, self.name(kind, ":"), PIECE.min(limit).to_string().into_bytes()];
            let Reply::List(rows) = self.run(&scripts::LIST, &[set.clone()], &values).await? else {
                return Err(strange());
            };
            let mut rows = rows.into_iter();
            let Some(Reply::Bulk(last)) = rows.next() else { return Ok(found) };
            while let (Some(Reply::Bulk(key)), Some(Reply::Bulk(bytes))) = (rows.next(), rows.next()) {
                let record = read(&bytes)?;
                if record.lives(now) && record.index.as_ref() == Some(index) && found.len() < limit {
                    found.push(Found { key, record });
                }
            }
            after = Some(last);
        }
        Ok(found)
    }

    pub(super) async fn scan(&self, kind: Kind, from: Option<&[u8]>, limit: usize, now: u64) -> Result<Scan, Silent> {
        let name = self.name(kind, ":");
        let cursor = from.unwrap_or(b"0").to_vec();
        let pattern = [name.as_slice(), b"*"].concat();
        let values = [cursor, pattern, limit.min(PIECE).to_string().into_bytes()];
        let Reply::List(parts) = self.run(&scripts::SCAN, &[], &values).await? else { return Err(strange()) };
        let mut parts = parts.into_iter();
        let (Some(Reply::Bulk(next)), Some(Reply::List(keys))) = (parts.next(), parts.next()) else {
            return Err(strange());
        };
        let keys: Vec<Vec<u8>> =
            keys.into_iter().filter_map(|key| if let Reply::Bulk(key) = key { Some(key) } else { None }).collect();
        let (mut scan, mut rest) = (Scan::default(), keys.as_slice());
        scan.next = (next != b"0").then_some(next);
        while !rest.is_empty() {
            let Reply::List(values) = self.run(&scripts::MANY, rest, &[]).await? else { return Err(strange()) };
            if values.is_empty() {
                return Err(strange());
            }
            let (now_read, later) = rest.split_at(values.len().min(rest.len()));
            for (key, value) in now_read.iter().zip(values) {
                // It may have gone since its key was read.
                let Reply::Bulk(bytes) = value else { continue };
                let record = read(&bytes)?;
                if let Some(key) = key.strip_prefix(name.as_slice()).filter(|_| record.lives(now)) {
                    scan.found.push(Found { key: key.to_vec(), record });
                }
            }
            rest = later;
        }
        Ok(scan)
    }

    pub(super) async fn append(&self, note: &[u8]) -> Result<Position, Silent> {
        match self.run(&scripts::APPEND, &[self.stream()], &[note.to_vec()]).await? {
            Reply::Bulk(id) => position(&id),
            Reply::Nil | Reply::Status(_) | Reply::Error(_) | Reply::Number(_) | Reply::List(_) => Err(strange()),
        }
    }

    pub(super) async fn feed_end(&self) -> Result<Position, Silent> {
        match self.run(&scripts::END, &[self.stream()], &[]).await? {
            Reply::Nil => Ok(Position::default()),
            Reply::Bulk(id) => position(&id),
            Reply::Status(_) | Reply::Error(_) | Reply::Number(_) | Reply::List(_) => Err(strange()),
        }
    }

    pub(super) async fn follow(&self, after: Position, wait: Duration) -> Result<News, Silent> {
        let count = MOST.to_string().into_bytes();
        let news = self.run(&scripts::NEWS, &[self.stream()], &[id(after).into_bytes(), count]).await?;
        let Reply::List(parts) = news else { return Err(strange()) };
        let mut parts = parts.into_iter();
        let (Some(Reply::Number(there)), Some(Reply::List(rows))) = (parts.next(), parts.next()) else {
            return Err(strange());
        };
        let news = News { notes: notes(rows)?, missed: after > Position::default() && there == 0 };
        if news.missed || !news.notes.is_empty() || wait.is_zero() {
            return Ok(news);
        }
        Ok(News { notes: self.wait_for_more(after, wait).await?, missed: false })
    }

    /// Waits on the connection that is there for this.
    async fn wait_for_more(&self, after: Position, wait: Duration) -> Result<Vec<(Position, Vec<u8>)>, Silent> {
        let options = self.store.options();
        let mut feed = self.feed.lock().await;
        // Taken out, so that a wait that is given up leaves no answer behind for the next one.
        let link = match feed.take() {
            Some(link) => link,
            None => Link::open(options).await.map_err(|fault| silent(&fault))?,
        };
        let (stream, after) = (self.stream(), id(after));
        let (count, block) = (MOST.to_string(), wait.as_millis().max(1).to_string());
        let parts: [&[u8]; 8] = [
            b"XREAD",
            b"COUNT",
            count.as_bytes(),
            b"BLOCK",
            block.as_bytes(),
            b"STREAMS",
            stream.as_slice(),
            after.as_bytes(),
        ];
        let mut bytes = Vec::new();
        resp::command(&mut bytes, parts.into_iter());
        let reply = link.call(bytes, wait + options.connect_timeout).await.map_err(|fault| silent(&fault))?;
        *feed = Some(link);
        match reply {
            Reply::Nil => Ok(Vec::new()),
            Reply::Error(text) => Err(silent(&Fault::Refused(text))),
            Reply::List(streams) => match streams.into_iter().next() {
                Some(Reply::List(stream)) => match stream.into_iter().nth(1) {
                    Some(Reply::List(rows)) => notes(rows),
                    _ => Err(strange()),
                },
                _ => Err(strange()),
            },
            Reply::Status(_) | Reply::Number(_) | Reply::Bulk(_) => Err(strange()),
        }
    }

    async fn run(&self, script: &Script, keys: &[Vec<u8>], values: &[Vec<u8>]) -> Result<Reply, Silent> {
        match self.store.run_patiently(Op::State, script, keys, values).await {
            Ok(reply) => Ok(reply),
            Err(Fault::Closed) => {
                let known = self.store.health().trouble;
                Err(Silent::new(
                    EngineName::Redis,
                    Cause::Unreachable,
                    known.unwrap_or_else(|| Fault::Closed.to_string()),
                ))
            }
            Err(fault) => Err(silent(&fault)),
        }
    }

    fn name(&self, kind: Kind, sign: &str) -> Vec<u8> {
        format!("{}:{{state}}:{}{sign}", self.store.prefix(), kind.word()).into_bytes()
    }

    fn record(&self, kind: Kind, key: &[u8]) -> Vec<u8> {
        [self.name(kind, ":").as_slice(), key].concat()
    }

    fn stream(&self) -> Vec<u8> {
        format!("{}:{{state}}:feed", self.store.prefix()).into_bytes()
    }
}

fn silent(fault: &Fault) -> Silent {
    let cause = match fault {
        Fault::Unreachable(_) | Fault::Closed => Cause::Unreachable,
        Fault::Silent => Cause::Timeout,
        Fault::Strange(_) | Fault::Malformed => Cause::Damaged,
        Fault::Refused(text) if text.starts_with("OOM") || text.contains(" OOM ") => Cause::Full,
        Fault::Refused(_) => Cause::Refused,
    };
    Silent::new(EngineName::Redis, cause, fault.to_string())
}

fn strange() -> Silent {
    silent(&Fault::Malformed)
}

fn read(bytes: &[u8]) -> Result<Record, Silent> {
    let damaged = || Silent::new(EngineName::Redis, Cause::Damaged, "a record is not what was written");
    Record::read(bytes).ok_or_else(damaged)
}

/// The name of a place in a stream: milliseconds, and a number within them.
fn id(position: Position) -> String {
    format!("{}-{}", position.0 >> 64, position.0 & u128::from(u64::MAX))
}

fn position(id: &[u8]) -> Result<Position, Silent> {
    let parts = || {
        let (ms, number) = std::str::from_utf8(id).ok()?.split_once('-')?;
        Some((u128::from(ms.parse::<u64>().ok()?) << 64) | u128::from(number.parse::<u64>().ok()?))
    };
    parts().map(Position).ok_or_else(strange)
}

/// Rows of a stream: an id, and a list of one field and its value.
fn notes(rows: Vec<Reply>) -> Result<Vec<(Position, Vec<u8>)>, Silent> {
    let note = |row: Reply| {
        let Reply::List(row) = row else { return Err(strange()) };
        let mut row = row.into_iter();
        let (Some(Reply::Bulk(id)), Some(Reply::List(fields))) = (row.next(), row.next()) else {
            return Err(strange());
        };
        let Some(Reply::Bulk(note)) = fields.into_iter().nth(1) else { return Err(strange()) };
        Ok((position(&id)?, note))
    };
    rows.into_iter().map(note).collect()
}
