//! A disk that takes its time: what goes on while a sync is under way, and what waits for it.
use super::*;
use std::future::poll_fn;
use std::io::{self, Write};
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::{Condvar, MutexGuard};
use std::task::Poll;

/// Bytes that may be written and not synced.
const MOST: u64 = 16 << 20;

/// A disk whose syncs end when the test lets them.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    shut: bool,
    begun: u64,
    /// Verdicts for syncs that wait, the oldest first.
    verdicts: Vec<bool>,
    /// Segments in their order, and the bytes of each that are on the disk for sure.
    safe: Vec<u64>,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on each sync waits. Returns how many have begun, of which none is under way.
    fn shut(&self) -> u64 {
        let mut state = self.lock();
        state.shut = true;
        state.begun
    }

    fn open(&self) {
        self.lock().shut = false;
        self.changed.notify_all();
    }

    /// Ends one sync.
    fn end(&self, well: bool) {
        self.lock().verdicts.push(well);
        self.changed.notify_all();
    }

    /// Waits until so many syncs have begun.
    fn begun(&self, syncs: u64) {
        let state = self.changed.wait_timeout_while(self.lock(), Duration::from_secs(20), |s| s.begun < syncs).unwrap();
        assert!(!state.1.timed_out(), "no sync began");
    }
}

/// The test's end of it, which opens it where the test ends early.
struct Keeper(Arc<Gate>);

impl Deref for Keeper {
    type Target = Gate;

    fn deref(&self) -> &Gate {
        &self.0
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.open();
    }
}

struct Gated {
    file: File,
    segment: usize,
    gate: Arc<Gate>,
}

impl Medium for Gated {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.file).write(bytes)
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.gate.lock();
        let length = self.file.metadata()?.len();
        state.begun += 1;
        self.gate.changed.notify_all();
        while state.shut && state.verdicts.is_empty() {
            state = self.gate.changed.wait(state).unwrap();
        }
        if state.verdicts.is_empty() || state.verdicts.remove(0) {
            state.safe[self.segment] = length;
            return Ok(());
        }
        // What the kernel could not write it may forget, also what was appended meanwhile.
        let all = self.file.metadata()?.len();
        self.file.set_len(state.safe[self.segment])?;
        self.file.set_len(all)?;
        Err(io::Error::other("the disk could not write"))
    }

    fn forget(&self, _: u64, _: u64) {}
}

fn open_gated(options: &Options) -> (AuditLog, Keeper) {
    let gate = Arc::new(Gate::default());
    let maker: MediumMaker = Box::new({
        let gate = Arc::clone(&gate);
        move |file| {
            let mut state = gate.lock();
            state.safe.push(0);
            Arc::new(Gated { file, segment: state.safe.len() - 1, gate: Arc::clone(&gate) })
        }
    });
    (AuditLog::open_on(options.clone(), clock(), maker).unwrap(), Keeper(gate))
}

/// Nobody is refused for waiting, and nothing is held back for its age, however slow the machine.
fn batch(folder: &Path) -> Options {
    Options { durability: Durability::Batch, max_wait: Duration::from_secs(600), ..options(folder) }
}

/// Writes an entry and waits until a sync of it hangs; the number of that sync.
fn hang(log: &AuditLog, gate: &Gate) -> u64 {
    let before = gate.shut();
    record(log, ["hangs".to_owned()]);
    gate.begun(before + 1);
    before + 1
}

async fn intent(slot: &Slot, id: &str, durable: bool) -> Result<(), AuditUnavailable> {
    slot.intent(body(id).replace("request", "intent"), durable).await
}

async fn pending<F: Future>(mut future: Pin<&mut F>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

fn length(options: &Options) -> u64 {
    fs::metadata(&segments(&options.directory).unwrap().last().unwrap().1).unwrap().len()
}

fn ids(options: &Options) -> Vec<String> {
    let of_clients = |entry: &Value| entry["id"].as_str().map(str::to_owned);
    entries(options).iter().filter_map(of_clients).collect()
}

#[test]
fn an_intent_does_not_wait_for_a_sync_and_a_durable_one_waits_for_its_own() {
    for durability in [Durability::Batch, Durability::Os] {
        let folder = TempDir::new().unwrap();
        let options = Options { durability, ..batch(folder.path()) };
        let (log, gate) = open_gated(&options);
        let slot = runtime().block_on(log.reserve()).unwrap();
        runtime().block_on(async {
            let first = gate.shut() + 1;
            let mut early = pin!(intent(&slot, "early", true));
            assert!(pending(early.as_mut()).await);
            gate.begun(first);
            intent(&slot, "written", false).await.unwrap();
            let mut late = pin!(intent(&slot, "late", true));
            assert!(pending(late.as_mut()).await);
            wait_until(|| log.state().backlog == 0);
            assert!(ids(&options).contains(&"late".to_owned()), "it is written");
            assert!(pending(early.as_mut()).await && pending(late.as_mut()).await);
            gate.end(true);
            early.await.unwrap();
            // The sync that began before it was written says nothing about it.
            gate.begun(first + 1);
            assert!(pending(late.as_mut()).await, "{durability:?}");
            gate.end(true);
            late.await.unwrap();
            gate.open();
        });
        slot.write(body("end"));
        log.close(Duration::from_secs(5)).unwrap();
        assert_eq!(ids(&options), ["early", "written", "late", "end"]);
        verified(&options);
    }
}

#[test]
fn with_each_everybody_waits_for_a_sync_of_their_own() {
    let folder = TempDir::new().unwrap();
    let options = Options { durability: Durability::Each, ..batch(folder.path()) };
    let (log, gate) = open_gated(&options);
    let first = hang(&log, &gate);
    let slot = runtime().block_on(log.reserve()).unwrap();
    runtime().block_on(async {
        let mut told = pin!(intent(&slot, "told", false));
        assert!(pending(told.as_mut()).await);
        wait_until(|| log.state().backlog == 0);
        gate.end(true);
        gate.begun(first + 1);
        assert!(pending(told.as_mut()).await);
        gate.end(true);
        told.await.unwrap();
        gate.open();
    });
    slot.write(body("end"));
    log.close(Duration::from_secs(5)).unwrap();
    verified(&options);
}

#[test]
fn a_sync_that_fails_late_costs_nothing_of_what_came_meanwhile() {
    for failures in 1..4 {
        let folder = TempDir::new().unwrap();
        let options = batch(folder.path());
        let (log, gate) = open_gated(&options);
        record(&log, ["before".to_owned()]);
        let first = hang(&log, &gate);
        let slot = runtime().block_on(log.reserve()).unwrap();
        runtime().block_on(async {
            intent(&slot, "intent", false).await.unwrap();
            let mut durable = pin!(intent(&slot, "durable", true));
            assert!(pending(durable.as_mut()).await);
            log.reserve().await.unwrap().write(body("meanwhile"));
            wait_until(|| log.state().backlog == 0);
            for failure in 1..=failures {
                gate.end(false);
                wait_until(|| log.state().write_errors == failure && log.state().failing_since_ms.is_some());
                // It is written again, and only a sync says that the disk accepts again.
                gate.begun(first + failure);
                assert!(log.state().failing_since_ms.is_some());
                assert!(pending(durable.as_mut()).await);
            }
            gate.open();
            durable.await.unwrap();
        });
        slot.write(body("end"));
        wait_until(|| log.state().failing_since_ms.is_none());
        log.close(Duration::from_secs(5)).unwrap();
        assert_eq!(ids(&options), ["before", "hangs", "intent", "durable", "meanwhile", "end"]);
        verified(&options);
    }
}

#[test]
fn a_sync_that_hangs_holds_the_writer_where_too_much_would_wait_for_it() {
    let folder = TempDir::new().unwrap();
    let options = Options { capacity: 8, ..batch(folder.path()) };
    let (log, gate) = open_gated(&options);
    hang(&log, &gate);
    let large = "x".repeat(500_000);
    let mut large_entries = 0;
    while length(&options) < MOST {
        record(&log, [format!("{large}{large_entries}")]);
        large_entries += 1;
        wait_until(|| log.state().backlog == 0);
    }
    let full = length(&options);
    assert!(full < MOST + (1 << 20));
    // As much as there is room for is let in, and waits in memory.
    record(&log, (0..8).map(|i| format!("waits{i}")));
    let held = runtime().block_on(async { timeout(Duration::from_millis(50), log.reserve()).await });
    assert!(held.is_err(), "there is room");
    assert_eq!((length(&options), log.state().backlog), (full, 8));
    gate.open();
    wait_until(|| log.state().backlog == 0);
    log.close(Duration::from_secs(5)).unwrap();
    assert_eq!(ids(&options).len(), 1 + large_entries + 8);
    verified(&options);
}

#[test]
fn a_sync_that_hangs_for_too_long_holds_the_writer_and_intents_are_refused() {
    let folder = TempDir::new().unwrap();
    let options = Options { max_wait: Duration::from_millis(200), ..batch(folder.path()) };
    let (log, gate) = open_gated(&options);
    hang(&log, &gate);
    let refused = runtime().block_on(async {
        let slot = log.reserve().await.unwrap();
        while intent(&slot, "written", false).await.is_ok() {}
        let held = length(&options);
        assert!(held < MOST, "{held}: it is held for its age");
        let refused = intent(&slot, "refused", false).await;
        assert_eq!(length(&options), held, "nothing more is written");
        // The disk has not refused, so that what nobody waits for is let in as long as there is room.
        log.reserve().await.unwrap().write(body("other"));
        assert_eq!((log.state().failing_since_ms, log.state().write_errors), (None, 0));
        gate.open();
        slot.write(body("end"));
        refused
    });
    assert_eq!(refused, Err(AuditUnavailable::Full));
    log.close(Duration::from_secs(5)).unwrap();
    assert!(["refused", "other", "end"].iter().all(|id| ids(&options).iter().filter(|i| i == id).count() == 1));
    verified(&options);
}

#[test]
fn the_end_waits_for_a_sync_that_hangs() {
    for well in [true, false] {
        let folder = TempDir::new().unwrap();
        let options = batch(folder.path());
        let (log, gate) = open_gated(&options);
        let log = Arc::new(log);
        hang(&log, &gate);
        record(&log, ["meanwhile".to_owned()]);
        let closing = std::thread::spawn({
            let log = Arc::clone(&log);
            move || log.close(Duration::from_secs(60))
        });
        while runtime().block_on(log.reserve()).map(Slot::forget) != Err(AuditUnavailable::Closed) {}
        assert!(!closing.is_finished());
        gate.end(well);
        gate.open();
        closing.join().unwrap().unwrap();
        assert_eq!(ids(&options)[..2], ["hangs", "meanwhile"]);
        let end = told(&options);
        assert_eq!(end[end.len() - 2..], ["stop", "head"]);
        assert_eq!(gate.lock().safe, [length(&options)]);
        verified(&options);
    }
}

#[test]
fn a_segment_is_closed_when_all_of_it_is_on_the_disk() {
    for well in [true, false] {
        let folder = TempDir::new().unwrap();
        let options = Options { roll_bytes: 4096, ..batch(folder.path()) };
        let (log, gate) = open_gated(&options);
        hang(&log, &gate);
        record(&log, (0..40).map(|i| format!("r{i}")));
        wait_until(|| log.state().heads == 2);
        assert_eq!(segments(&options.directory).unwrap().len(), 1);
        gate.end(well);
        gate.open();
        wait_until(|| segments(&options.directory).unwrap().len() == 2);
        log.close(Duration::from_secs(5)).unwrap();
        let lengths = segments(&options.directory).unwrap().into_iter().map(|(_, path)| path.metadata().unwrap().len());
        assert_eq!(lengths.collect::<Vec<_>>(), gate.lock().safe, "all of it was synced before the next began");
        assert_eq!(ids(&options).len(), 41);
        verified(&options);
    }
}

#[test]
fn a_log_is_left_to_a_successor_when_all_of_it_is_on_the_disk() {
    let folder = TempDir::new().unwrap();
    let options = batch(folder.path());
    let (log, gate) = open_gated(&options);
    hang(&log, &gate);
    let before = length(&options);
    runtime().block_on(async {
        let mut leaving = pin!(log.leave(77));
        assert!(pending(leaving.as_mut()).await);
        wait_until(|| length(&options) > before);
        assert!(pending(leaving.as_mut()).await);
        gate.open();
        leaving.await.unwrap();
    });
    let first = &segments(&options.directory).unwrap()[0].1;
    assert_eq!(gate.lock().safe[0], first.metadata().unwrap().len());
    let successor = AuditLog::succeed(options.clone(), clock()).unwrap();
    successor.close(Duration::from_secs(5)).unwrap();
    verified(&options);
}

#[test]
fn a_head_comes_beside_the_log_after_what_it_covers_is_on_the_disk() {
    for durability in [Durability::Batch, Durability::Os] {
        let folder = TempDir::new().unwrap();
        let options = Options { checkpoint_entries: 1, durability, ..batch(folder.path()) };
        let (log, gate) = open_gated(&options);
        let beside = || fs::read_to_string(options.directory.join("head")).unwrap();
        for i in 0..4 {
            let old = beside();
            let mut sync = gate.shut() + 1;
            record(&log, [format!("{i}-a")]);
            gate.begun(sync);
            record(&log, [format!("{i}-b")]);
            wait_until(|| log.state().backlog == 0);
            assert_eq!(beside(), old, "the sync is under way");
            // What the system was trusted with is not written again.
            if i % 2 == 1 && durability == Durability::Batch {
                gate.end(false);
                sync += 1;
                gate.begun(sync);
                assert_eq!(beside(), old, "the sync has failed");
            }
            // It may be that the next head is too early for this sync.
            while beside() == old {
                gate.end(true);
                sync += 1;
                wait_until(|| beside() != old || gate.lock().begun == sync);
            }
            let covered: u64 = beside().lines().nth(1).unwrap().parse().unwrap();
            let segment = fs::read(&segments(&options.directory).unwrap()[0].1).unwrap();
            let safe = &segment[..usize::try_from(gate.lock().safe[0]).unwrap()];
            let lines = safe.iter().filter(|byte| **byte == b'\n').count() as u64;
            assert!(covered <= lines, "{covered} are signed and {lines} are safe");
            gate.open();
            let newest = || entries(&options).into_iter().rfind(|entry| entry["kind"] == "head").unwrap();
            wait_until(|| newest()["note"].as_str() == Some(&beside()));
        }
        log.close(Duration::from_secs(5)).unwrap();
        verified(&options);
    }
}
