//! The tables of the file, and what is done with them inside a transaction.
use super::super::{Expect, Found, Kind, NEVER, News, Position, Put, Record, Scan};
use redb::{
    Database, Error, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction,
};
use std::ops::Bound;

/// The version of the tables. Another one is refused at the start.
pub(super) const VERSION: u64 = 1;

type Bytes = &'static [u8];

/// `version` → [`VERSION`].
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Kind and key → record.
const RECORDS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("records");
/// Kind, index and key → nothing.
const INDEX: TableDefinition<'_, Bytes, ()> = TableDefinition::new("index");
/// Minute in which it may be removed, kind and key → nothing.
const EXPIRY: TableDefinition<'_, Bytes, ()> = TableDefinition::new("expiry");
/// Position → time and note.
const FEED: TableDefinition<'_, u64, Bytes> = TableDefinition::new("feed");

/// Records of one sweep. What waits for it waits as long as their removal takes.
const SWEEP: usize = 1000;
/// Expiries are kept to the minute, so that a session that is used does not change the table at every use.
const MINUTE_MS: u64 = 60_000;
/// How long notes are kept: whoever has not heard for longer reads everything anew.
const FEED_KEPT_MS: u64 = 24 * 3_600_000;

/// Makes tables where there are none, and says of which version they are.
pub(super) fn prepare(database: &Database) -> Result<u64, Error> {
    match database.begin_read()?.open_table(META) {
        Ok(meta) => {
            if let Some(version) = meta.get("version")? {
                return Ok(version.value());
            }
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let writer = database.begin_write()?;
    writer.open_table(META)?.insert("version", VERSION)?;
    drop((writer.open_table(RECORDS)?, writer.open_table(INDEX)?));
    drop((writer.open_table(EXPIRY)?, writer.open_table(FEED)?));
    writer.commit()?;
    Ok(VERSION)
}

pub(super) fn get(reader: &ReadTransaction, kind: Kind, key: &[u8]) -> Result<Option<Record>, Error> {
    let found = reader.open_table(RECORDS)?.get(named(kind, key).as_slice())?;
    found.map(|found| decode(found.value())).transpose()
}

pub(super) fn list(
    reader: &ReadTransaction,
    kind: Kind,
    index: &[u8; 32],
    after: Option<&[u8]>,
    limit: usize,
    now: u64,
) -> Result<Vec<Found>, Error> {
    let (records, index) = (reader.open_table(RECORDS)?, [&[kind.byte()], index.as_slice()].concat());
    let from = [index.as_slice(), after.unwrap_or_default()].concat();
    let from = if after.is_some() { Bound::Excluded(from.as_slice()) } else { Bound::Included(from.as_slice()) };
    let mut found = Vec::new();
    for row in reader.open_table(INDEX)?.range::<&[u8]>((from, Bound::Unbounded))? {
        let row = row?.0;
        let Some(key) = row.value().strip_prefix(index.as_slice()).filter(|_| found.len() < limit) else { break };
        if let Some(record) = records.get(named(kind, key).as_slice())? {
            let record = decode(record.value())?;
            if record.lives(now) {
                found.push(Found { key: key.to_vec(), record });
            }
        }
    }
    Ok(found)
}

pub(super) fn scan(
    reader: &ReadTransaction,
    kind: Kind,
    from: Option<&[u8]>,
    limit: usize,
    now: u64,
) -> Result<Scan, Error> {
    let start = named(kind, from.unwrap_or_default());
    let start = if from.is_some() { Bound::Excluded(start.as_slice()) } else { Bound::Included(start.as_slice()) };
    let mut scan = Scan::default();
    for (seen, row) in reader.open_table(RECORDS)?.range::<&[u8]>((start, Bound::Unbounded))?.enumerate() {
        let (name, record) = row?;
        let Some(key) = name.value().strip_prefix(&[kind.byte()]) else { return Ok(scan) };
        let record = decode(record.value())?;
        if record.lives(now) {
            scan.found.push(Found { key: key.to_vec(), record });
        }
        if seen + 1 == limit {
            scan.next = Some(key.to_vec());
            return Ok(scan);
        }
    }
    Ok(scan)
}

pub(super) fn feed_end(reader: &ReadTransaction) -> Result<u64, Error> {
    Ok(reader.open_table(FEED)?.last()?.map_or(0, |(position, _)| position.value()))
}

pub(super) fn news(reader: &ReadTransaction, after: Position, limit: usize) -> Result<News, Error> {
    let feed = reader.open_table(FEED)?;
    let after = u64::try_from(after.0).unwrap_or(u64::MAX);
    let missed = after > 0 && feed.get(after)?.is_none();
    let mut news = News { notes: Vec::new(), missed };
    for row in feed.range((Bound::Excluded(after), Bound::Unbounded))?.take(limit) {
        let (position, value) = row?;
        let (_, note) = value.value().split_at_checked(8).ok_or_else(damaged)?;
        news.notes.push((Position(position.value().into()), note.to_vec()));
    }
    Ok(news)
}

pub(super) fn put(
    writer: &WriteTransaction,
    kind: Kind,
    key: &[u8],
    expect: Expect,
    record: &Record,
    now: u64,
) -> Result<Put, Error> {
    let name = named(kind, key);
    let mut records = writer.open_table(RECORDS)?;
    let before = records.get(name.as_slice())?.map(|found| decode(found.value())).transpose()?;
    let living = before.as_ref().filter(|record| record.lives(now));
    if !expect.is_met(living) {
        return Ok(Put::Conflict(living.cloned()));
    }
    records.insert(name.as_slice(), record.bytes().as_slice())?;
    relink(writer, kind, key, before.as_ref(), Some(record))?;
    Ok(Put::Written { version: record.version })
}

pub(super) fn remove(writer: &WriteTransaction, kind: Kind, key: &[u8], now: u64) -> Result<Option<Record>, Error> {
    let name = named(kind, key);
    let before = writer.open_table(RECORDS)?.remove(name.as_slice())?.map(|found| decode(found.value())).transpose()?;
    relink(writer, kind, key, before.as_ref(), None)?;
    Ok(before.filter(|record| record.lives(now)))
}

pub(super) fn append(writer: &WriteTransaction, note: &[u8], now: u64) -> Result<u64, Error> {
    let mut feed = writer.open_table(FEED)?;
    let position = feed.last()?.map_or(0, |(last, _)| last.value()) + 1;
    feed.insert(position, [&now.to_be_bytes(), note].concat().as_slice())?;
    Ok(position)
}

/// What a sweep has found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Swept {
    /// Something was removed.
    pub some: bool,
    /// There is more.
    pub more: bool,
}

/// Removes some of what has expired.
pub(super) fn sweep(writer: &WriteTransaction, now: u64) -> Result<Swept, Error> {
    let until = (now / MINUTE_MS).to_be_bytes();
    let mut due = Vec::new();
    for row in writer.open_table(EXPIRY)?.range::<&[u8]>(..until.as_slice())?.take(SWEEP) {
        due.push(row?.0.value().to_vec());
    }
    for row in &due {
        let Some(name) = row.get(8..) else { return Err(damaged()) };
        let (Some(kind), Some(key)) = (name.first().and_then(|byte| Kind::of_byte(*byte)), name.get(1..)) else {
            return Err(damaged());
        };
        remove(writer, kind, key, now)?;
    }
    // The last note stays: by it, whoever has heard everything knows that.
    let mut feed = writer.open_table(FEED)?;
    let last = feed.last()?.map_or(0, |(last, _)| last.value());
    let mut forgotten = Vec::new();
    for row in feed.range(..last)?.take(SWEEP) {
        let (position, value) = row?;
        let at = value.value().first_chunk::<8>().map(|at| u64::from_be_bytes(*at)).ok_or_else(damaged)?;
        if at.saturating_add(FEED_KEPT_MS) > now {
            break;
        }
        forgotten.push(position.value());
    }
    for position in &forgotten {
        feed.remove(position)?;
    }
    let some = !due.is_empty() || !forgotten.is_empty();
    Ok(Swept { some, more: due.len() == SWEEP || forgotten.len() == SWEEP })
}

/// Brings the rows that lead to a record up to date.
fn relink(
    writer: &WriteTransaction,
    kind: Kind,
    key: &[u8],
    before: Option<&Record>,
    after: Option<&Record>,
) -> Result<(), Error> {
    let index = |record: Option<&Record>| {
        record.and_then(|record| record.index).map(|index| [&[kind.byte()], index.as_slice(), key].concat())
    };
    let expiry = |record: Option<&Record>| {
        let minute = record.filter(|record| record.expires_at_ms != NEVER)?.expires_at_ms / MINUTE_MS;
        Some([minute.to_be_bytes().as_slice(), &[kind.byte()], key].concat())
    };
    for (table, before, after) in [(INDEX, index(before), index(after)), (EXPIRY, expiry(before), expiry(after))] {
        if before == after {
            continue;
        }
        let mut table = writer.open_table(table)?;
        if let Some(row) = before {
            table.remove(row.as_slice())?;
        }
        if let Some(row) = after {
            table.insert(row.as_slice(), ())?;
        }
    }
    Ok(())
}

fn named(kind: Kind, key: &[u8]) -> Vec<u8> {
    [&[kind.byte()], key].concat()
}

fn decode(bytes: &[u8]) -> Result<Record, Error> {
    Record::read(bytes).ok_or_else(damaged)
}

fn damaged() -> Error {
    Error::Corrupted("a record is not what was written".to_owned())
}
