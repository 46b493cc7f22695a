//! The log on real files: recovery at every byte, a disk that refuses, a writer that stalls, slots that vanish.
use super::*;
use decide::record::Reason;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

mod crash;
mod disk;
mod fold;
mod handover;
mod sync;

fn options(folder: &Path) -> Options {
    Options {
        durability: Durability::Os,
        max_wait: Duration::from_millis(300),
        ..Options::new(folder.join("audit"), folder.to_owned(), "gw-1".to_owned())
    }
}

fn clock() -> Clock {
    Arc::new(|| 1_700_000_000_000)
}

fn open(options: &Options) -> Result<AuditLog, AuditFault> {
    AuditLog::open(options.clone(), clock())
}

fn body(id: &str) -> String {
    format!("\"time\":\"2023-11-14T22:13:20.000Z\",\"kind\":\"request\",\"id\":\"{id}\",\"verdict\":\"permit\"")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn record(log: &AuditLog, ids: impl IntoIterator<Item = String>) {
    runtime().block_on(async {
        for id in ids {
            log.reserve().await.unwrap().write(body(&id));
        }
    });
}

fn verified(options: &Options) -> Verified {
    let keys = read_keys(&options.directory.join("audit.pub")).unwrap();
    verify(&options.directory, &keys, &[]).unwrap()
}

fn entries(options: &Options) -> Vec<Value> {
    let paths = segments(&options.directory).unwrap().into_iter().map(|(_, path)| path);
    let text: String = paths.map(|path| fs::read_to_string(path).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn told(options: &Options) -> Vec<String> {
    let word = |entry: &Value| match entry["kind"].as_str() {
        Some("system") => entry["event"].as_str().map(str::to_owned),
        Some("request") => entry["id"].as_str().map(str::to_owned),
        kind => kind.map(str::to_owned),
    };
    entries(options).iter().filter_map(word).collect()
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "it did not happen");
        std::thread::yield_now();
    }
}

#[test]
fn a_log_tells_its_whole_life() {
    let folder = TempDir::new().unwrap();
    let options = options(folder.path());
    let log = open(&options).unwrap();
    record(&log, ["a".to_owned(), "b".to_owned()]);
    log.system(Event::ConfigLoad { digest: "ab", previous: None, loosened: &[], fallback: None }).unwrap();
    log.close(Duration::from_secs(5)).unwrap();
    assert_eq!(told(&options), ["start", "head", "a", "b", "config.load", "stop", "head"]);
    open(&options).unwrap().close(Duration::from_secs(5)).unwrap();
    assert_eq!(told(&options)[7..], ["start", "head", "stop", "head"]);
    let previous: Vec<_> = entries(&options).iter().map(|entry| entry["detail"]["previous"].clone()).collect();
    assert_eq!((&previous[0], &previous[7]), (&Value::from("none"), &Value::from("stopped")));
    let report = verified(&options).report;
    assert_eq!((report.entries(), report.requests, report.heads, report.stopped), (11, 2, 4, true));
}

#[test]
fn one_process_at_a_time() {
    let folder = TempDir::new().unwrap();
    let options = options(folder.path());
    let log = open(&options).unwrap();
    assert!(matches!(open(&options), Err(AuditFault::Locked { .. })));
    drop(log);
    drop(open(&options).unwrap());
}

#[test]
fn a_slot_that_vanishes_leaves_an_entry() {
    let folder = TempDir::new().unwrap();
    let options = options(folder.path());
    let log = open(&options).unwrap();
    runtime().block_on(async {
        let mut slot = log.reserve().await.unwrap();
        slot.identify(decide::facts::RequestId(7));
        drop(slot);
        // An account that would break its line is not let through either.
        log.reserve().await.unwrap().write("\"a\":\n1");
    });
    log.close(Duration::from_secs(5)).unwrap();
    let lost: Vec<_> = entries(&options).into_iter().filter(|entry| entry["verdict"] == "lost-context").collect();
    assert_eq!(lost.len(), 2);
    assert_eq!(lost[0]["id"], "00000000-0000-0000-0000-000000000007");
    assert_eq!(lost[1]["cause"], "the account was not one line");
    assert_eq!(verified(&options).report.requests, 2);
}

#[test]
fn the_end_waits_for_slots_and_counts_those_that_do_not_come() {
    let folder = TempDir::new().unwrap();
    let options = options(folder.path());
    let log = Arc::new(open(&options).unwrap());
    let slot = runtime().block_on(log.reserve()).unwrap();
    let closing = std::thread::spawn({
        let log = Arc::clone(&log);
        move || log.close(Duration::from_secs(60))
    });
    while runtime().block_on(log.reserve()).map(Slot::forget) != Err(AuditUnavailable::Closed) {}
    slot.write(body("late"));
    closing.join().unwrap().unwrap();
    let log = open(&options).unwrap();
    let slot = runtime().block_on(log.reserve()).unwrap();
    log.close(Duration::ZERO).unwrap();
    drop(slot);
    let entries = entries(&options);
    let stops: Vec<_> = entries.iter().filter(|entry| entry["event"] == "stop").collect();
    assert_eq!((&stops[0]["detail"]["unfinished"], &stops[1]["detail"]["unfinished"]), (&0.into(), &1.into()));
    assert!(entries.iter().any(|entry| entry["id"] == "late"));
}

impl Slot {
    /// For a loop that probes whether slots are still given out.
    fn forget(self) {
        self.write(body("probe"));
    }
}

/// A closed log of a few entries, cut at every byte of its last three lines: each whole entry stays, what is left of
/// the rest is set aside, the chain goes on.
#[test]
fn recovery_at_every_byte() {
    let folder = TempDir::new().unwrap();
    let made = options(folder.path());
    let log = open(&made).unwrap();
    record(&log, (0..4).map(|i| i.to_string()));
    log.close(Duration::from_secs(5)).unwrap();
    let segment = segments(&made.directory).unwrap().remove(0).1;
    let bytes = fs::read(&segment).unwrap();
    let ends: Vec<usize> = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
    for cut in ends[ends.len() - 4]..=bytes.len() {
        let folder = TempDir::new().unwrap();
        let options = options(folder.path());
        fs::create_dir(&options.directory).unwrap();
        fs::copy(made.state_dir.join(key::FILE), options.state_dir.join(key::FILE)).unwrap();
        fs::copy(made.directory.join("audit.pub"), options.directory.join("audit.pub")).unwrap();
        let copy = options.directory.join(segment.file_name().unwrap());
        fs::write(&copy, &bytes[..cut]).unwrap();
        open(&options).unwrap().close(Duration::from_secs(5)).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let after = fs::read(&copy).unwrap();
        assert!(after.starts_with(&bytes[..ends[whole - 1]]), "cut at {cut}");
        let torn = cut - ends[whole - 1];
        let entries = entries(&options);
        assert_eq!(entries[whole]["event"], if torn == 0 { "start" } else { "recovered" }, "cut at {cut}");
        if torn != 0 {
            assert_eq!(entries[whole]["detail"]["bytes"], torn as u64);
            let aside = options.directory.join(entries[whole]["detail"]["file"].as_str().unwrap());
            assert_eq!(fs::read(aside).unwrap(), &bytes[ends[whole - 1]..cut]);
        }
        assert_eq!(verified(&options).set_aside, usize::from(torn != 0));
    }
}

#[test]
fn a_start_refuses_what_was_not_written() {
    let folder = TempDir::new().unwrap();
    let options = options(folder.path());
    let log = open(&options).unwrap();
    record(&log, (0..4).map(|i| i.to_string()));
    log.close(Duration::from_secs(5)).unwrap();
    let segment = segments(&options.directory).unwrap().remove(0).1;
    let original = fs::read_to_string(&segment).unwrap();
    let lines: Vec<&str> = original.split_inclusive('\n').collect();
    let refused = |content: String| {
        fs::write(&segment, content).unwrap();
        let fault = open(&options).unwrap_err().to_string();
        fault.strip_prefix(options.directory.to_str().unwrap()).unwrap().to_owned()
    };
    let evidence = "keep the folder as evidence and name another";
    assert_eq!(
        refused(original.replacen("\"id\":\"1\"", "\"id\":\"7\"", 1)),
        format!(
            "/audit-00000000000000000001.jsonl:4: entry 4: the line does not have the hash that it names; \
             the log was changed or the disk is damaged: {evidence}"
        )
    );
    assert_eq!(
        refused([&lines[..3], &lines[4..]].concat().concat()),
        format!(
            "/audit-00000000000000000001.jsonl:4: entry 4: the sequence number is 5; \
             the log was changed or the disk is damaged: {evidence}"
        )
    );
    assert_eq!(
        refused(lines[..5].concat()),
        format!("/head: the signed head covers 7 entries, and the log ends with entry 5: its tail was cut; {evidence}")
    );
    fs::write(&segment, &original).unwrap();
    fs::remove_file(&segment).unwrap();
    assert!(open(&options).unwrap_err().to_string().contains("its tail was cut"));
    fs::write(&segment, &original).unwrap();
    open(&options).unwrap();
}

#[test]
fn segments_roll_and_the_old_ones_go() {
    let folder = TempDir::new().unwrap();
    // Rolling waits for the disk, which others may keep busy.
    let mut options = Options { roll_bytes: 4096, max_wait: Duration::from_secs(60), ..options(folder.path()) };
    let log = open(&options).unwrap();
    for i in 0..40 {
        record(&log, (0..5).map(|j| format!("{i}-{j}")));
        let before = log.state().last_seq;
        runtime().block_on(async {
            let slot = log.reserve().await.unwrap();
            slot.intent(body("intent").replace("request", "intent"), false).await.unwrap();
            slot.write(body("end"));
        });
        assert!(log.state().last_seq > before);
    }
    log.close(Duration::from_secs(5)).unwrap();
    let all = segments(&options.directory).unwrap();
    assert!(all.len() > 5, "{}", all.len());
    let report = verified(&options).report;
    assert_eq!((report.first, report.requests, report.intents), (1, 240, 40));
    let writable = |path: &Path| fs::metadata(path).unwrap().permissions();
    use std::os::unix::fs::PermissionsExt;
    assert!(all[..all.len() - 1].iter().all(|(_, path)| writable(path).mode() & 0o777 == 0o400));

    // Two days later, all of it is too old but the segment in use, which does not roll on what is said about the others.
    options.retain = Some(Duration::from_secs(86_400));
    let later: Clock = Arc::new(|| 1_700_000_000_000 + 2 * 86_400_000);
    let roomy = Options { roll_bytes: 1 << 20, ..options.clone() };
    AuditLog::open(roomy, later).unwrap().close(Duration::from_secs(5)).unwrap();
    assert_eq!(segments(&options.directory).unwrap().len(), 1);
    let first = verified(&options).report.first;
    assert_eq!(first, all.last().unwrap().0);
    // Deleting without leave is found.
    fs::write(segments(&options.directory).unwrap()[0].1.with_extension("x"), "").unwrap();
    let log = AuditLog::open(Options { retain: None, ..options.clone() }, clock()).unwrap();
    record(&log, (0..40).map(|i| i.to_string()));
    log.close(Duration::from_secs(5)).unwrap();
    record_until_rolled(&options);
    fs::remove_file(&segments(&options.directory).unwrap()[0].1).unwrap();
    let keys = read_keys(&options.directory.join("audit.pub")).unwrap();
    let Err(Broken::Flawed { flaw, .. }) = verify(&options.directory, &keys, &[]) else { panic!("not found") };
    assert_eq!(flaw.reason, Reason::Beginning);
}

fn record_until_rolled(options: &Options) {
    while segments(&options.directory).unwrap().len() < 2 {
        let log = AuditLog::open(Options { retain: None, ..options.clone() }, clock()).unwrap();
        record(&log, (0..40).map(|i| i.to_string()));
        log.close(Duration::from_secs(5)).unwrap();
    }
}

#[test]
fn another_key_is_told_and_the_old_heads_still_count() {
    let folder = TempDir::new().unwrap();
    let options = options(folder.path());
    drop(open(&options).unwrap());
    fs::remove_file(options.state_dir.join(key::FILE)).unwrap();
    drop(open(&options).unwrap());
    assert!(told(&options).contains(&"keys.change".to_owned()));
    assert_eq!(verified(&options).report.heads, 4);
    assert_eq!(read_keys(&options.directory.join("audit.pub")).unwrap().0.len(), 2);
}

#[test]
fn a_head_kept_elsewhere_shows_a_cut_that_the_folder_hides() {
    let folder = TempDir::new().unwrap();
    let options = options(folder.path());
    let log = open(&options).unwrap();
    let early = fs::read(options.directory.join("head")).unwrap();
    record(&log, (0..4).map(|i| i.to_string()));
    log.close(Duration::from_secs(5)).unwrap();
    let kept = folder.path().join("kept-head");
    fs::copy(options.directory.join("head"), &kept).unwrap();
    let segment = segments(&options.directory).unwrap().remove(0).1;
    let keys = read_keys(&options.directory.join("audit.pub")).unwrap();
    verify(&options.directory, &keys, std::slice::from_ref(&kept)).unwrap();
    // Somebody cuts the log back to its first head, and puts that head beside it.
    let text = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, text.split_inclusive('\n').take(2).collect::<String>()).unwrap();
    fs::write(options.directory.join("head"), early).unwrap();
    verify(&options.directory, &keys, &[]).unwrap();
    let Err(Broken::Flawed { flaw, .. }) = verify(&options.directory, &keys, &[kept]) else { panic!("not found") };
    assert_eq!(flaw.reason, Reason::Cut { size: 7 });
}

#[test]
fn nothing_is_lost_between_many_threads() {
    const THREADS: u64 = 8;
    const EACH: u64 = 10_000;
    let folder = TempDir::new().unwrap();
    let options = Options { capacity: 512, max_wait: Duration::from_secs(60), ..options(folder.path()) };
    let log = Arc::new(open(&options).unwrap());
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || record(&log, (0..EACH).map(|i| format!("{thread}-{i}"))))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    log.close(Duration::from_secs(60)).unwrap();
    let entries = entries(&options);
    let mut next = BTreeMap::new();
    let mut seen = HashSet::new();
    for id in entries.iter().filter_map(|entry| entry["id"].as_str()) {
        let (thread, i) = id.split_once('-').unwrap();
        let expected: &mut u64 = next.entry(thread.to_owned()).or_default();
        assert_eq!(i.parse::<u64>().unwrap(), *expected, "the order of one thread");
        *expected += 1;
        assert!(seen.insert(id.to_owned()));
    }
    assert_eq!(seen.len() as u64, THREADS * EACH);
    assert_eq!(verified(&options).report.requests, THREADS * EACH);
    assert_eq!(log.state().backlog, 0);
}

#[test]
fn silence_is_told_by_heartbeats_and_signed() {
    let folder = TempDir::new().unwrap();
    let options = Options {
        heartbeat: Duration::from_millis(5),
        checkpoint_every: Duration::from_millis(10),
        ..options(folder.path())
    };
    let log = open(&options).unwrap();
    wait_until(|| log.state().system > 4 && log.state().heads > 2);
    log.close(Duration::from_secs(5)).unwrap();
    assert!(told(&options).iter().filter(|word| *word == "heartbeat").count() >= 3);
    verified(&options);
}

#[test]
fn the_newest_head_comes_beside_the_log_though_nothing_more_is_written() {
    let folder = TempDir::new().unwrap();
    let options = Options { checkpoint_entries: 1, ..options(folder.path()) };
    let log = open(&options).unwrap();
    // Each has a head of its own, more than may be put beside the log in so short a time.
    for i in 0..20 {
        record(&log, [format!("r{i}")]);
        wait_until(|| log.state().requests > i && log.state().heads > i);
    }
    let newest = || entries(&options).into_iter().rfind(|entry| entry["kind"] == "head").unwrap();
    let beside = || fs::read_to_string(options.directory.join("head")).unwrap();
    wait_until(|| newest()["note"].as_str() == Some(&beside()));
    assert!(verified(&options).report.heads > 20);
    log.close(Duration::from_secs(5)).unwrap();
    assert_eq!(newest()["note"].as_str(), Some(&*beside()), "the last head of all does not wait");
}
