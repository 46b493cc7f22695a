//! A disk that refuses, writes half, cannot sync, or hangs.
use super::*;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::Condvar;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a failing disk does next; shared by a test and the writer.
#[derive(Default)]
struct Disk {
    mode: Mutex<Mode>,
    changed: Condvar,
    appends: AtomicU64,
    /// Syncs that succeeded.
    syncs: AtomicU64,
    /// What the kernel need not keep in memory, as it was told.
    forgotten: Mutex<Vec<(u64, u64)>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Mode {
    #[default]
    Fine,
    /// Every append fails.
    Full,
    /// Appends take the first so many bytes of each call and fail at the next.
    Short(usize),
    /// Even cutting fails.
    Dead,
    /// Appends work; syncing fails.
    NoSync,
    /// Appends hang until the mode changes.
    Stalled,
}

impl Disk {
    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
        self.changed.notify_all();
    }
}

struct Faulty {
    file: File,
    disk: Arc<Disk>,
    short: AtomicBool,
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl Medium for Faulty {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.appends.fetch_add(1, Ordering::SeqCst);
        let mut mode = self.disk.mode.lock().unwrap();
        while *mode == Mode::Stalled {
            mode = self.disk.changed.wait(mode).unwrap();
        }
        match *mode {
            Mode::Full | Mode::Dead => Err(full()),
            Mode::Short(n) if !self.short.fetch_xor(true, Ordering::SeqCst) => {
                (&self.file).write(&bytes[..n.min(bytes.len())])
            }
            Mode::Short(_) => Err(full()),
            Mode::Fine | Mode::NoSync | Mode::Stalled => (&self.file).write(bytes),
        }
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        if *self.disk.mode.lock().unwrap() == Mode::Dead { Err(full()) } else { self.file.set_len(len) }
    }

    fn sync(&self) -> io::Result<()> {
        if *self.disk.mode.lock().unwrap() == Mode::NoSync {
            return Err(full());
        }
        self.file.sync_data()?;
        self.disk.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn forget(&self, from: u64, to: u64) {
        self.file.forget(from, to);
        self.disk.forgotten.lock().unwrap().push((from, to));
    }
}

fn open_faulty(options: &Options) -> (AuditLog, Arc<Disk>) {
    let disk = Arc::new(Disk::default());
    let maker: MediumMaker = Box::new({
        let disk = Arc::clone(&disk);
        move |file| Arc::new(Faulty { file, disk: Arc::clone(&disk), short: AtomicBool::new(false) })
    });
    (AuditLog::open_on(options.clone(), clock(), maker).unwrap(), disk)
}

#[test]
fn a_disk_that_refuses_refuses_requests_and_loses_nothing() {
    for durability in [Durability::Os, Durability::Batch, Durability::Each] {
        for mode in [Mode::Full, Mode::Short(100), Mode::Dead, Mode::NoSync] {
            if mode == Mode::NoSync && durability == Durability::Os {
                continue;
            }
            let folder = TempDir::new().unwrap();
            let options = Options { durability, ..options(folder.path()) };
            let (log, disk) = open_faulty(&options);
            let syncs = disk.syncs.load(Ordering::SeqCst);
            record(&log, ["before".to_owned()]);
            wait_until(|| log.state().backlog == 0);
            wait_until(|| durability == Durability::Os || disk.syncs.load(Ordering::SeqCst) > syncs);
            disk.set(mode);
            record(&log, ["during".to_owned()]);
            wait_until(|| log.state().failing_since_ms.is_some());
            runtime().block_on(async {
                assert_eq!(log.reserve().await.unwrap_err(), AuditUnavailable::Failing, "{mode:?}");
                assert_eq!(log.reserve().await.unwrap_err(), AuditUnavailable::Failing, "{mode:?}");
            });
            assert!(log.state().write_errors > 0);
            let on_disk = fs::read(&segments(&options.directory).unwrap()[0].1).unwrap();
            if mode != Mode::Dead {
                assert_eq!(on_disk.last(), Some(&b'\n'), "{mode:?} leaves whole entries only");
            }
            disk.set(Mode::Fine);
            wait_until(|| log.state().failing_since_ms.is_none());
            record(&log, ["after".to_owned()]);
            log.close(Duration::from_secs(5)).unwrap();
            assert_eq!(told(&options), ["start", "head", "before", "during", "gap", "after", "stop", "head"]);
            let entries = entries(&options);
            assert_eq!(entries[4]["detail"]["refused"], 2, "{mode:?}");
            assert_eq!(entries[4]["detail"]["since"], "2023-11-14T22:13:20.000Z");
            assert_eq!(verified(&options).report.refused_unlogged, 2);
        }
    }
}

#[test]
fn an_intent_waits_for_the_disk_and_fails_without_it() {
    let folder = TempDir::new().unwrap();
    let options = options(folder.path());
    let (log, disk) = open_faulty(&options);
    runtime().block_on(async {
        let slot = log.reserve().await.unwrap();
        let before = disk.appends.load(Ordering::SeqCst);
        slot.intent(body("i1").replace("request", "intent"), false).await.unwrap();
        assert!(disk.appends.load(Ordering::SeqCst) > before);
        slot.intent(body("i2").replace("request", "intent"), true).await.unwrap();
        disk.set(Mode::NoSync);
        assert!(slot.intent(body("i3").replace("request", "intent"), true).await.is_err());
        disk.set(Mode::Fine);
        slot.write(body("end"));
    });
    log.close(Duration::from_secs(5)).unwrap();
    let report = verified(&options).report;
    assert_eq!((report.intents, report.requests), (3, 1));
}

#[test]
fn a_stalled_writer_holds_requests_back_and_then_refuses_them() {
    let folder = TempDir::new().unwrap();
    let options = Options { capacity: 4, ..options(folder.path()) };
    let (log, disk) = open_faulty(&options);
    disk.set(Mode::Stalled);
    record(&log, (0..4).map(|i| i.to_string()));
    let started = std::time::Instant::now();
    assert_eq!(runtime().block_on(log.reserve()).unwrap_err(), AuditUnavailable::Full);
    assert!(started.elapsed() >= options.max_wait);
    assert!(log.system(Event::Heartbeat).is_err());
    // Somebody who is still waiting when it goes on gets in.
    runtime().block_on(async {
        let (slot, ()) = tokio::join!(log.reserve(), async {
            tokio::task::yield_now().await;
            disk.set(Mode::Fine);
        });
        slot.unwrap().write(body("patient"));
    });
    log.close(Duration::from_secs(5)).unwrap();
    let told = told(&options);
    assert!(["0", "1", "2", "3", "patient", "gap"].iter().all(|word| told.iter().any(|t| t == word)), "{told:?}");
    verified(&options);
}

#[test]
fn a_disk_that_never_comes_back_ends_in_a_fault() {
    let folder = TempDir::new().unwrap();
    let options = options(folder.path());
    let (log, disk) = open_faulty(&options);
    disk.set(Mode::Full);
    record(&log, ["gone".to_owned()]);
    assert!(matches!(log.close(Duration::from_millis(50)), Err(AuditFault::Io { .. })));
    disk.set(Mode::Fine);
    open(&options).unwrap().close(Duration::from_secs(5)).unwrap();
    assert_eq!(entries(&options)[2]["detail"]["previous"], "interrupted");
}

#[test]
fn a_device_without_room_refuses_the_start() {
    let folder = TempDir::new().unwrap();
    let options = options(folder.path());
    let maker: MediumMaker = Box::new(|_| Arc::new(OpenOptions::new().append(true).open("/dev/full").unwrap()));
    assert!(matches!(AuditLog::open_on(options, clock(), maker), Err(AuditFault::Io { .. })));
}

#[test]
fn memory_of_the_log_is_let_go_but_for_what_was_written_last() {
    const FOLLOWED: u64 = 16 << 20;
    let folder = TempDir::new().unwrap();
    let options = Options { durability: Durability::Each, ..options(folder.path()) };
    let (log, disk) = open_faulty(&options);
    for i in 0..220 {
        record(&log, [format!("r{i}-{}", "x".repeat(100_000))]);
        wait_until(|| log.state().requests > i);
    }
    log.close(Duration::from_secs(5)).unwrap();
    let told = disk.forgotten.lock().unwrap().clone();
    let mut end = 0;
    for (from, to) in &told {
        assert!(*from == end && to > from && to % 4096 == 0, "{told:?}");
        end = *to;
    }
    let length = fs::metadata(&segments(&options.directory).unwrap()[0].1).unwrap().len();
    assert!(end > 0 && length - end >= FOLLOWED && length - end < FOLLOWED + 4096, "{end} of {length}");
    verified(&options);
}
