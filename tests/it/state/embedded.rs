//! The file of one machine: two processes, kills between writes, a full disk, damage.
use super::{Clock, in_file, state, until};
use crate::harness::PATIENCE;
use moat::store::state::embedded::{Embedded, Options, StateFault};
use moat::store::state::{Cause, Engine, Expect, Kind, NEVER, Put, Record};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// What this test program is told when it is started as the other process.
const ROLE: &str = "MOAT_TEST_STATE_ROLE";
const FILE: &str = "MOAT_TEST_STATE_FILE";

/// Starts this program again, as another process with the same file; `wrapped` is a shell's line before it.
fn other(role: &str, path: &Path, wrapped: &str) -> Child {
    let this = std::env::current_exe().unwrap();
    Command::new("sh")
        .args(["-c", &format!("{wrapped} exec \"$@\"",), "sh"])
        .arg(this)
        .args(["state::embedded::the_other_process", "--exact", "--nocapture"])
        .env(ROLE, role)
        .env(FILE, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What it says, without what the test runner says.
fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    lines.filter_map(|line| line.strip_prefix("> ").map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_process() {
    let (Ok(role), Some(path)) = (std::env::var(ROLE), std::env::var_os(FILE)) else { return };
    let state = state(in_file(Path::new(&path)), &Clock::new());
    match role.as_str() {
        "writes" => {
            for number in 0_u64.. {
                let record = Record::new(vec![7; 700], NEVER);
                let put = state.put(Kind::Session, &number.to_be_bytes(), Expect::Absent, record).await;
                assert!(matches!(put, Ok(Put::Written { .. })), "{put:?}");
                println!("\n> {number}");
            }
        }
        "fills" => {
            let mut kept = 0_u64;
            let silent = loop {
                let record = Record::new(vec![7; 60_000], NEVER);
                match state.put(Kind::Session, &kept.to_be_bytes(), Expect::Absent, record).await {
                    Ok(_) => kept += 1,
                    Err(silent) => break silent,
                }
            };
            println!("\n> {:?}", silent.cause);
            until("what was kept can be read", async || {
                matches!(state.get(Kind::Session, &(kept - 1).to_be_bytes()).await, Ok(Some(_)))
            })
            .await;
            let again = state.put(Kind::Session, b"more", Expect::Any, Record::new(vec![7; 60_000], NEVER)).await;
            println!("> {}", if again.is_err() { "still full" } else { "not full" });
            println!("> {kept}");
        }
        "answers" => {
            let mut at = state.feed_end().await.unwrap();
            println!("\n> ready");
            loop {
                let news = state.follow(at, PATIENCE).await.unwrap();
                for (position, note) in news.notes {
                    at = position;
                    let seen = state.get(Kind::Session, &note).await.unwrap().is_some();
                    state
                        .put(Kind::Family, &note, Expect::Any, Record::new(vec![u8::from(seen)], NEVER))
                        .await
                        .unwrap();
                }
            }
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill_between_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    for round in 1..=3 {
        let path = path.clone();
        let fresh = path.with_extension(round.to_string());
        let file = fresh.clone();
        let acknowledged = tokio::task::spawn_blocking(move || {
            let mut child = other("writes", &file, "");
            let mut said = lines(&mut child);
            for _ in 0..20 * round {
                said.next().unwrap();
            }
            child.kill().unwrap();
            child.wait().unwrap();
            // What it had said and we had not read.
            20 * round + said.count() as u64
        })
        .await
        .unwrap();
        let state = state(in_file(&fresh), &Clock::new());
        for number in 0..acknowledged {
            let record = state.get(Kind::Session, &number.to_be_bytes()).await.unwrap();
            assert_eq!(record.unwrap().value, vec![7; 700], "{number} of {acknowledged}");
        }
        assert!(matches!(
            state.put(Kind::Session, b"more", Expect::Absent, Record::new(Vec::new(), NEVER)).await,
            Ok(Put::Written { .. })
        ));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_silence_and_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let file = path.clone();
    let said: Vec<String> = tokio::task::spawn_blocking(move || {
        // The signal that would end it is ignored, so that writing fails as on a full disk.
        let mut child = other("fills", &file, "trap '' XFSZ; ulimit -f 8192;");
        let said = lines(&mut child).collect();
        child.wait().unwrap();
        said
    })
    .await
    .unwrap();
    let [cause, still, kept] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!((cause.as_str(), still.as_str()), ("Full", "still full"));
    let kept: u64 = kept.parse().unwrap();
    assert!(kept > 10, "{kept}");
    // With room again it goes on, with all that was acknowledged.
    let state = state(in_file(&path), &Clock::new());
    for number in 0..kept {
        assert!(state.get(Kind::Session, &number.to_be_bytes()).await.unwrap().is_some(), "{number} of {kept}");
    }
    let more = state.put(Kind::Session, b"more", Expect::Absent, Record::new(vec![7; 60_000], NEVER)).await;
    assert!(matches!(more, Ok(Put::Written { .. })), "{more:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_shares_the_file_with_its_predecessor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let state = state(in_file(&path), &Clock::new());
    let seed = state.put(Kind::Session, b"before", Expect::Absent, Record::new(Vec::new(), NEVER)).await.unwrap();
    assert!(matches!(seed, Put::Written { .. }));
    let file = path.clone();
    let mut child = tokio::task::spawn_blocking(move || {
        let mut child = other("answers", &file, "");
        assert_eq!(lines(&mut child).next().as_deref(), Some("ready"));
        child
    })
    .await
    .unwrap();
    // What this process has acknowledged and told, the other reads and answers, and this one reads the answer.
    for round in 0..20_u8 {
        let key = [b'k', round];
        state.put(Kind::Session, &key, Expect::Absent, Record::new(Vec::new(), NEVER)).await.unwrap();
        state.append_feed(&key).await.unwrap();
        until("the other has answered", async || {
            state.get(Kind::Family, &key).await.unwrap().is_some_and(|record| record.value == [1])
        })
        .await;
    }
    // Killed at work, it leaves nothing locked.
    child.kill().unwrap();
    child.wait().unwrap();
    let after = state.put(Kind::Session, b"after", Expect::Absent, Record::new(Vec::new(), NEVER)).await;
    assert!(matches!(after, Ok(Put::Written { .. })), "{after:?}");
    assert!(state.get(Kind::Session, b"before").await.unwrap().is_some());
}

#[test]
fn a_damaged_file_is_a_fault_at_the_start_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let fault = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Embedded::open(Options::new(path.clone())).err().map(|fault| fault.to_string())
    };
    for bytes in [b"not a database at all".as_slice(), &[0xff; 8192], &[b'r'; 4096]] {
        let text = fault(bytes).expect("a fault");
        assert!(text.contains("state.redb: ") && text.contains("move it away"), "{text}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), [b'r'; 4096], "it is left as it was found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_changed_from_outside_never_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    {
        let state = state(in_file(&path), &Clock::new());
        let writes = (0..200_u64).map(|number| {
            let record = Record::new(vec![7; 500], NEVER).indexed([1; 32]);
            let (state, key) = (state.clone(), number.to_be_bytes());
            tokio::spawn(async move { state.put(Kind::Session, &key, Expect::Absent, record).await.unwrap() })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.unwrap();
        }
    }
    let sound = std::fs::read(&path).unwrap();
    // Each page in turn is overwritten, the header's too: a fault at the start, silence, or an answer; never a panic.
    let mut told = 0;
    for page in 0..sound.len().min(40 * 4096) / 4096 {
        let mut bytes = sound.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0xa5);
        let damaged = path.with_extension(format!("{page}"));
        std::fs::write(&damaged, &bytes).unwrap();
        match Embedded::open(Options::new(damaged)) {
            Err(StateFault::Damaged { .. } | StateFault::Locked { .. } | StateFault::Version { .. }) => told += 1,
            Err(other) => panic!("{other}"),
            Ok(engine) => {
                let state = state(Engine::Embedded(Arc::new(engine)), &Clock::new());
                let mut silent = false;
                for number in 0..200_u64 {
                    match state.get(Kind::Session, &number.to_be_bytes()).await {
                        Ok(_) => {}
                        Err(error) => silent |= matches!(error.cause, Cause::Damaged | Cause::Unreachable),
                    }
                }
                let _ = state.put(Kind::Session, b"more", Expect::Any, Record::new(vec![1; 60_000], NEVER)).await;
                told += usize::from(silent);
            }
        }
    }
    assert!(told > 0, "some of it was noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_file_until_something_is_kept_and_then_it_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let clock = Clock::new();
    let (one, two) = (state(in_file(&path), &clock), state(in_file(&path), &clock));
    assert_eq!(one.get(Kind::Session, b"k").await, Ok(None));
    assert!(one.follow(one.feed_end().await.unwrap(), Duration::ZERO).await.unwrap().notes.is_empty());
    one.sweep().await;
    assert!(!path.exists());
    one.put(Kind::Session, b"k", Expect::Absent, Record::new(Vec::new(), NEVER)).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(two.get(Kind::Session, b"k").await.unwrap().is_some(), "who began without it finds it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_leaves_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let clock = Clock::new();
    let state = state(in_file(&path), &clock);
    let writes = (0..2500_u64).map(|number| {
        let record = Record::new(vec![7; 10], clock.now() + 1_000).indexed([1; 32]);
        let (state, key) = (state.clone(), number.to_be_bytes());
        tokio::spawn(async move { state.put(Kind::Once, &key, Expect::Absent, record).await.unwrap() })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap();
    }
    assert_eq!(state.list(Kind::Once, &[1; 32], None, 1000).await.unwrap().len(), 1000);
    state.append_feed(b"old").await.unwrap();
    state.append_feed(b"last").await.unwrap();
    clock.advance(25 * 3_600_000);
    state.sweep().await;
    // By the clock of before, they would all be there: they are gone for good.
    clock.0.fetch_sub(25 * 3_600_000, std::sync::atomic::Ordering::SeqCst);
    assert!(state.scan(Kind::Once, None, 1000).await.unwrap().found.is_empty());
    assert!(state.list(Kind::Once, &[1; 32], None, 10).await.unwrap().is_empty());
    let end = state.feed_end().await.unwrap();
    assert!(!state.follow(end, Duration::ZERO).await.unwrap().missed, "who has heard everything has missed nothing");
    assert!(state.follow(moat::store::state::Position(1), Duration::ZERO).await.unwrap().missed);
}
