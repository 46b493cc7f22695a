//! Requests that share an entry: each is in exactly one, whoever writes, and however the log ends.
use super::handover::To;
use super::*;
use decide::facts::RequestId;
use decide::record::Verdict;
use decide::refusal::Code;

const FEW: Folding = Folding { after: 2, per_second: 1, in_all_per_second: 100 };

/// `count` refused requests of one sort; how many of them have entries of their own.
fn refuse(log: &AuditLog, client: &str, count: usize) -> usize {
    let own = async |n: usize| {
        let mut slot = log.reserve().await.unwrap();
        slot.identify(RequestId(n as u128));
        let sort = Sort::new("public".into(), client.parse().unwrap(), Verdict::Refuse(Code::RequestMalformed));
        slot.write_or_fold(sort, n as u64, || body(&format!("{client}/{n}")).into_bytes())
    };
    runtime().block_on(async {
        let mut written = 0;
        for n in 0..count {
            written += usize::from(own(n).await);
        }
        written
    })
}

/// Requests in entries of their own, and in common ones.
fn accounted(options: &Options) -> (u64, u64) {
    let report = verified(options).report;
    (report.requests, report.folded)
}

#[test]
fn a_flood_has_one_entry_that_says_how_large_it_was() {
    let folder = TempDir::new().unwrap();
    let options = Options { folding: FEW, ..options(folder.path()) };
    let log = open(&options).unwrap();
    let own = refuse(&log, "192.0.2.1", 1000);
    assert!((2..20).contains(&own), "{own}");
    assert_eq!(refuse(&log, "192.0.2.2", 1), 1);
    // Nobody asks for it; the writer wakes by itself.
    wait_until(|| log.state().folded == 1000 - own as u64);
    let common: Vec<_> = entries(&options).into_iter().filter(|entry| entry["event"] == "folded").collect();
    assert!(common.len() < 10, "{common:#?}");
    let detail = &common.last().unwrap()["detail"];
    assert_eq!((&detail["verdict"], &detail["client"]), (&"request.malformed".into(), &"192.0.2.1".into()));
    assert_eq!((&detail["listener"], &detail["clients"]), (&"public".into(), &1.into()));
    assert_eq!(detail["last_id"], "00000000-0000-0000-0000-0000000003e7");
    log.close(Duration::from_secs(5)).unwrap();
    assert_eq!(accounted(&options), (own as u64 + 1, 1000 - own as u64));
}

#[test]
fn an_end_writes_what_is_counted_and_room_is_given_back() {
    let folder = TempDir::new().unwrap();
    let options = Options { folding: FEW, capacity: 4, ..options(folder.path()) };
    let log = open(&options).unwrap();
    let own = refuse(&log, "192.0.2.1", 500);
    log.close(Duration::from_secs(5)).unwrap();
    let report = verified(&options).report;
    assert_eq!((report.requests, report.folded, report.stopped), (own as u64, 500 - own as u64, true));
    let stop = entries(&options).into_iter().find(|entry| entry["event"] == "stop").unwrap();
    assert_eq!(stop["detail"]["unfinished"], 0);
}

#[test]
fn counts_go_with_the_log_to_a_successor() {
    let folder = TempDir::new().unwrap();
    let options = Options { folding: FEW, ..options(folder.path()) };
    let old = open(&options).unwrap();
    let mut own = refuse(&old, "192.0.2.1", 100);
    runtime().block_on(old.leave(77)).unwrap();
    own += refuse(&old, "192.0.2.1", 100);
    let new = AuditLog::succeed(options.clone(), clock()).unwrap();
    old.forward(Box::new(To::new(new)));
    own += refuse(&old, "192.0.2.1", 100);
    old.close(Duration::from_secs(5)).unwrap();
    wait_until(|| fs::read_dir(&options.directory).is_ok() && !folder::is_locked(&options.directory));
    assert_eq!(accounted(&options), (own as u64, 300 - own as u64));
}

#[test]
fn a_reload_changes_the_allowance() {
    let folder = TempDir::new().unwrap();
    let options = Options { folding: FEW, ..options(folder.path()) };
    let log = open(&options).unwrap();
    log.reconfigure(Options {
        folding: Folding { after: 1000, per_second: 1, in_all_per_second: 1 },
        ..options.clone()
    });
    assert_eq!(refuse(&log, "192.0.2.1", 1000), 1000);
    log.close(Duration::from_secs(5)).unwrap();
}

#[test]
fn a_reload_changes_the_room_also_while_it_is_taken() {
    let folder = TempDir::new().unwrap();
    let options = Options { capacity: 8, max_wait: Duration::from_millis(50), ..options(folder.path()) };
    let log = open(&options).unwrap();
    let runtime = runtime();
    let take = || runtime.block_on(log.reserve());
    let mut held: Vec<Slot> = (0..6).map(|_| take().unwrap()).collect();
    log.reconfigure(Options { capacity: 4, ..options.clone() });
    assert_eq!(log.room(), (4, 0));
    assert!(take().is_err(), "six are out, and four are allowed");
    held.drain(..3).for_each(|slot| slot.write(body("x")));
    wait_until(|| log.room() == (4, 1));
    held.push(take().unwrap());
    assert!(take().is_err());
    log.reconfigure(Options { capacity: 6, ..options.clone() });
    assert_eq!(log.room(), (6, 2));
    held.drain(..).for_each(|slot| slot.write(body("y")));
    wait_until(|| log.room() == (6, 6));
    log.close(Duration::from_secs(5)).unwrap();
}
