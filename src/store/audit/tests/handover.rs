//! One log over two writers: each entry once, in one chain, whoever dies when.
use super::*;
use std::io;

/// Writes to the successor, and fails from the delivery with this number on; half of that one is written all the same.
pub(super) struct To {
    successor: Option<AuditLog>,
    deliveries: usize,
    fails_at: usize,
}

impl To {
    /// Never fails.
    pub(super) fn new(successor: AuditLog) -> To {
        To { successor: Some(successor), deliveries: 0, fails_at: usize::MAX }
    }
}

impl Courier for To {
    fn deliver(&mut self, delivery: &Delivery<'_>) -> io::Result<()> {
        self.deliveries += 1;
        let Some(successor) = &self.successor else { return Err(io::ErrorKind::BrokenPipe.into()) };
        if self.deliveries < self.fails_at {
            return runtime().block_on(successor.receive(delivery)).map_err(io::Error::other);
        }
        let half = delivery.parcels[..delivery.parcels.len() / 2].to_vec();
        runtime().block_on(successor.receive(&Delivery { parcels: half, durable: true })).unwrap();
        self.successor = None;
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

fn names(prefix: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("{prefix}{n}")).collect()
}

fn requests(options: &Options) -> Vec<String> {
    let mut ids: Vec<_> = entries(options)
        .iter()
        .filter(|entry| entry["kind"] == "request")
        .map(|entry| entry["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

fn events(options: &Options) -> Vec<String> {
    told(options).into_iter().filter(|word| word.starts_with("handover") || word == "start" || word == "stop").collect()
}

#[test]
fn both_processes_write_one_chain_and_every_entry_is_in_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let old = open(&options).unwrap();
    record(&old, names("a", 0..5));
    let before = runtime().block_on(old.leave(77)).unwrap();
    // What ends meanwhile waits.
    record(&old, names("b", 0..50));
    let new = AuditLog::succeed(options.clone(), clock()).unwrap();
    record(&new, names("c", 0..5));
    assert!(matches!(open(&options), Err(AuditFault::Locked { .. })), "there is one writer");
    old.forward(Box::new(To { successor: Some(new), deliveries: 0, fails_at: usize::MAX }));
    let intent = runtime().block_on(async {
        let slot = old.reserve().await.unwrap();
        slot.intent(body("d").replace("request", "intent"), true).await.unwrap();
        let seen = fs::read_to_string(&segments(&options.directory).unwrap().last().unwrap().1).unwrap();
        slot.write(body("d"));
        seen
    });
    assert!(intent.contains("\"kind\":\"intent\""), "written before anything is forwarded: {intent}");
    old.close(Duration::from_secs(5)).unwrap();
    drop(old);
    let mut expected = [names("a", 0..5), names("b", 0..50), names("c", 0..5), names("d", 0..0)].concat();
    expected.push("d".to_owned());
    expected.sort();
    assert_eq!(requests(&options), expected);
    assert_eq!(events(&options), ["start", "handover", "start", "handover.end", "stop"]);
    let start = entries(&options).into_iter().filter(|entry| entry["event"] == "start").nth(1).unwrap();
    assert_eq!(start["detail"]["previous"], "handed-over");
    assert_eq!(start["prev"], before.hash.to_string(), "it follows the head of its predecessor");
    assert_eq!(verified(&options).report.requests, expected.len() as u64);
}

#[test]
fn a_successor_that_does_not_come_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let old = open(&options).unwrap();
    for round in 0..3 {
        runtime().block_on(old.leave(77)).unwrap();
        record(&old, names(&format!("{round}-"), 0..20));
        runtime().block_on(old.resume("it was not ready".to_owned())).unwrap();
    }
    // One that came as far as the log, and ended.
    runtime().block_on(old.leave(78)).unwrap();
    drop(AuditLog::succeed(options.clone(), clock()).unwrap());
    runtime().block_on(old.resume("it ended".to_owned())).unwrap();
    record(&old, names("last", 0..1));
    old.close(Duration::from_secs(5)).unwrap();
    assert_eq!(requests(&options).len(), 61);
    assert_eq!(verified(&options).report.refused_unlogged, 0);
    let failed = entries(&options).into_iter().filter(|entry| entry["event"] == "handover.failed").count();
    assert_eq!(failed, 4);
}

#[test]
fn a_successor_that_dies_while_it_writes_for_us_leaves_no_gap_and_no_twin() {
    for fails_at in 1..4 {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let old = open(&options).unwrap();
        runtime().block_on(old.leave(77)).unwrap();
        record(&old, names("a", 0..10));
        let new = AuditLog::succeed(options.clone(), clock()).unwrap();
        old.forward(Box::new(To { successor: Some(new), deliveries: 0, fails_at }));
        for round in 0..5 {
            record(&old, names(&format!("b{round}-"), 0..10));
            // An intent waits for its delivery, so that there are several.
            runtime().block_on(async {
                let slot = old.reserve().await.unwrap();
                slot.intent(body("x").replace("request", "intent"), false).await.unwrap();
                slot.write(body(&format!("x{round}")));
            });
        }
        old.close(Duration::from_secs(5)).unwrap();
        let mut expected: Vec<_> = (0..5).flat_map(|round| names(&format!("b{round}-"), 0..10)).collect();
        expected.extend(names("a", 0..10).into_iter().chain(names("x", 0..5)));
        expected.sort();
        assert_eq!(requests(&options), expected, "fails at delivery {fails_at}");
        assert_eq!(verified(&options).report.requests, 65);
    }
}

#[test]
fn a_writer_that_is_asked_to_end_while_nobody_writes_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let old = open(&options).unwrap();
    runtime().block_on(old.leave(77)).unwrap();
    record(&old, names("a", 0..3));
    old.close(Duration::from_secs(5)).unwrap();
    assert_eq!(requests(&options), names("a", 0..3));
    assert_eq!(events(&options), ["start", "handover", "handover.failed", "stop"]);
    verified(&options);
}
