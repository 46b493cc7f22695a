//! The one thread that writes: takes all that waits, commits it together, and answers.
use super::super::{Expect, Kind, Put, Record, Silent};
use super::tables::{self, Swept};
use super::{Shared, guarded};
use redb::{Database, WriteTransaction};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Orders of one commit.
const GROUP: usize = 1024;
/// The first pause after the disk has refused, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Something to be written.
pub(super) struct Order {
    pub work: Work,
    /// The time of the request.
    pub now: u64,
    pub tell: oneshot::Sender<Result<Done, Silent>>,
}

/// What is to be done.
pub(super) enum Work {
    Put { kind: Kind, key: Vec<u8>, expect: Expect, record: Record },
    Remove { kind: Kind, key: Vec<u8> },
    Append(Vec<u8>),
    Sweep,
}

/// What was done.
pub(super) enum Done {
    Put(Put),
    Removed(Option<Record>),
    Appended(u64),
    Swept(Swept),
}

/// Starts the thread. It ends with the last sender.
pub(super) fn start(shared: Arc<Shared>, mut queue: mpsc::Receiver<Order>) -> io::Result<()> {
    let work = move || {
        let mut writer = Writer { shared, refusal: None };
        let mut orders = Vec::with_capacity(GROUP);
        while queue.blocking_recv_many(&mut orders, GROUP) > 0 {
            writer.write(std::mem::take(&mut orders));
        }
    };
    std::thread::Builder::new().name("state".to_owned()).spawn(work).map(|_| ())
}

struct Writer {
    shared: Arc<Shared>,
    /// The disk has refused: what it said, how often running, and until when it is left alone.
    refusal: Option<(Silent, u32, Instant)>,
}

impl Writer {
    fn write(&mut self, orders: Vec<Order>) {
        let result = self.try_to(&orders);
        let trouble = result.as_ref().err().map(|silent| silent.text.clone());
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        match result {
            Ok(done) => {
                self.refusal = None;
                let told = done.iter().any(|done| matches!(done, Done::Appended(_)));
                for (order, done) in orders.into_iter().zip(done) {
                    // Who asked may have lost patience.
                    let _ = order.tell.send(Ok(done));
                }
                if told {
                    self.shared.told.send_modify(|count| *count += 1);
                }
            }
            Err(silent) => orders.into_iter().for_each(|order| drop(order.tell.send(Err(silent.clone())))),
        }
    }

    fn try_to(&mut self, orders: &[Order]) -> Result<Vec<Done>, Silent> {
        let times = match &self.refusal {
            Some((silent, _, until)) if Instant::now() < *until => return Err(silent.clone()),
            Some((_, times, _)) => *times,
            None => 0,
        };
        let result = self.shared.made().and_then(|database| guarded(|| commit(&self.shared, &database, orders)));
        if let Err(silent) = &result {
            tracing::error!(path = %self.shared.options.path.display(), "state cannot be written: {}", silent.text);
            let pause = PAUSES.0.saturating_mul(1 << times.min(10)).min(PAUSES.1);
            self.refusal = Some((silent.clone(), times + 1, Instant::now() + pause));
            // It does not serve any more after an error, not even for reading: begin anew with what is on the disk.
            // Where that fails, whoever comes next tries again.
            self.shared.database.store(None);
            let _ = self.shared.there();
        }
        result
    }
}

/// All of them in one transaction. Nothing is written where nothing changes.
fn commit(shared: &Shared, database: &Database, orders: &[Order]) -> Result<Vec<Done>, redb::Error> {
    let writer = database.begin_write()?;
    let done: Vec<Done> = orders.iter().map(|order| carry_out(&writer, order)).collect::<Result<_, _>>()?;
    let changed = done.iter().any(|done| match done {
        Done::Put(Put::Written { .. }) | Done::Removed(Some(_)) | Done::Appended(_) => true,
        Done::Put(Put::Conflict(_)) | Done::Removed(None) => false,
        Done::Swept(swept) => swept.some,
    });
    if changed {
        writer.commit()?;
        shared.commits.fetch_add(1, Ordering::Relaxed);
    } else {
        writer.abort()?;
    }
    Ok(done)
}

fn carry_out(writer: &WriteTransaction, order: &Order) -> Result<Done, redb::Error> {
    let now = order.now;
    match &order.work {
        Work::Put { kind, key, expect, record } => {
            Ok(Done::Put(tables::put(writer, *kind, key, *expect, record, now)?))
        }
        Work::Remove { kind, key } => Ok(Done::Removed(tables::remove(writer, *kind, key, now)?)),
        Work::Append(note) => Ok(Done::Appended(tables::append(writer, note, now)?)),
        Work::Sweep => Ok(Done::Swept(tables::sweep(writer, now)?)),
    }
}
