//! Real processes that die in the middle: this test binary runs itself as a writer and kills it.
use super::*;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

const FOLDER: &str = "MOAT_TEST_AUDIT_WRITER";

/// Not a test of its own: the writer that [`a_killed_process_loses_no_whole_entry`] runs and kills. It says which intents
/// it was told are written, at full speed.
#[test]
fn writer_process() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let options = Options { roll_bytes: 64 << 10, checkpoint_entries: 50, capacity: 16, ..options(Path::new(&folder)) };
    let log = Arc::new(AuditLog::open(options, clock()).unwrap());
    let noise = Arc::clone(&log);
    std::thread::spawn(move || record(&noise, (0..).map(|i| format!("n{i}"))));
    runtime().block_on(async {
        for i in 0u64.. {
            let Ok(slot) = log.reserve().await else { continue };
            if slot.intent(body(&format!("i{i}")).replace("\"request\"", "\"intent\""), false).await.is_ok() {
                println!("acknowledged {i}");
            }
            slot.write(body(&format!("r{i}")));
        }
    });
}

fn spawn(folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "store::audit::tests::crash::writer_process", "--nocapture"]).env(FOLDER, folder);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Lets the child run until it has said so many things, kills it, and returns the intents that it was sure of.
fn run_and_kill(child: &mut Child, lines: usize) -> Vec<u64> {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    // Not each number: a log that has no room for a while says so, and the writer goes on with the next.
    let mut sure = Vec::new();
    let mut note = |line: &str| {
        if let Some(i) = line.strip_prefix("acknowledged ").and_then(|i| i.trim_end().parse().ok()) {
            sure.push(i);
        }
    };
    let mut line = String::new();
    for _ in 0..lines {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the writer ended by itself");
        note(&line);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it managed to say before it died counts as well; a last line without its end does not.
    loop {
        line.clear();
        if output.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
            return sure;
        }
        note(&line);
    }
}

#[test]
fn a_killed_process_loses_no_whole_entry() {
    let folder = TempDir::new().unwrap();
    let options = options(folder.path());
    for round in 0..12 {
        let mut child = spawn(folder.path());
        let sure = run_and_kill(&mut child, 5 + 11 * round);
        // Whatever it was told is written must be there, after any number of lives.
        let log = open(&options).unwrap();
        let text: String =
            segments(&options.directory).unwrap().iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect();
        // The last start is ours; the one before was the killed process's.
        let starts: Vec<usize> = text.match_indices("\"event\":\"start\"").map(|(at, _)| at).collect();
        let ids = text[starts[starts.len() - 2]..].split("\"id\":\"").skip(1);
        let intents: HashSet<&str> = ids.filter_map(|rest| rest.split('"').next()).collect();
        assert!(!sure.is_empty(), "round {round}");
        for i in &sure {
            assert!(intents.contains(format!("i{i}").as_str()), "round {round}: intent {i} of {sure:?} is missing");
        }
        log.close(Duration::from_secs(5)).unwrap();
        verified(&options);
    }
    let report = verified(&options).report;
    assert!(report.entries() > 1000);
}

/// A real limit of the system: the file may not grow. It is lifted while the process runs.
#[test]
fn a_real_limit_of_the_system_is_a_gap_and_no_more() {
    let folder = TempDir::new().unwrap();
    let options = options(folder.path());
    let script = "trap '' XFSZ; ulimit -S -f 16; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "store::audit::tests::crash::limited_process", "--nocapture"]).env(FOLDER, folder.path());
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("refused") {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the writer ended by itself");
    }
    let lifted =
        Command::new("prlimit").args(["--pid", &child.id().to_string(), "--fsize=unlimited"]).status().unwrap();
    assert!(lifted.success());
    child.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    assert!(child.wait().unwrap().success());
    let report = verified(&options).report;
    assert!(report.refused_unlogged > 0 && report.stopped);
    let ids: Vec<u64> = entries(&options).iter().filter_map(|entry| entry["id"].as_str()?.parse().ok()).collect();
    assert_eq!(ids, (0..ids.len() as u64).collect::<Vec<_>>(), "each request that was let in has its entry");
}

/// Not a test of its own: writes until the disk refuses, then until it accepts again.
#[test]
fn limited_process() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let log = AuditLog::open(options(Path::new(&folder)), clock()).unwrap();
    let mut next = 0;
    let mut write = || {
        let slot = runtime().block_on(log.reserve());
        slot.map(|slot| {
            slot.write(body(&next.to_string()));
            next += 1;
        })
    };
    while write().is_ok() {}
    println!("refused");
    let mut line = String::new();
    io::stdin().read_line(&mut line).unwrap();
    wait_until(|| log.state().failing_since_ms.is_none());
    write().unwrap();
    log.close(Duration::from_secs(5)).unwrap();
}
