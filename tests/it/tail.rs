//! `moat tail` on a gateway that runs: over rotation and restarts, with bytes of strangers, and to an orderly end.
use crate::harness::{Gateway, PATIENCE, entries, moat, standard, with};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

/// A running `moat tail`.
struct Tail {
    child: Child,
    lines: Receiver<String>,
}

impl Tail {
    fn start(gateway: &Gateway, args: &[&str]) -> Tail {
        let mut child = Command::new(env!("CARGO_BIN_EXE_moat"))
            .arg("tail")
            .args(args)
            .current_dir(gateway.bundle.root())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let out = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).take_while(|line| send.send(line.clone()).is_ok()).count()
        });
        Tail { child, lines }
    }

    /// The next line that contains this, and all before it.
    fn until(&self, word: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no `{word}` among {lines:#?}"));
            let last = line.contains(word);
            lines.push(line);
            if last {
                return lines;
            }
        }
    }

    fn signal(mut self, name: &str) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn every_request_has_its_line_over_rotation_and_a_restart() {
    let (gateway, _upstream) = with(|bundle| {
        bundle.replace("audit: {directory: state/audit}", "audit: {directory: state/audit, segments: {roll: 4KiB}}");
    })
    .await;
    let tail = Tail::start(&gateway, &["-n", "1000"]);
    tail.until("config.load");
    for number in 0..40 {
        gateway.get(&format!("https://acme.localhost/page-{number}-")).send().await;
    }
    let mut lines = tail.until("/page-39-");
    let segments = || std::fs::read_dir(gateway.bundle.path("state/audit")).unwrap().count();
    // How many there are depends on how many entries a batch had.
    assert!(segments() > 3, "{} files: rotation", segments());
    let gateway = gateway.restart().await;
    gateway.get("https://acme.localhost/after").send().await;
    lines.extend(tail.until("/after"));
    for number in 0..40 {
        let count = lines.iter().filter(|line| line.contains(&format!("/page-{number}-"))).count();
        assert_eq!(count, 1, "page {number}: {lines:#?}");
    }
    assert_eq!(tail.signal("INT"), Some(0), "Ctrl-C is how it ends");
}

#[tokio::test]
async fn bytes_of_strangers_do_not_steer_the_terminal() {
    let (gateway, _upstream) = standard().await;
    let tail = Tail::start(&gateway, &["--refused"]);
    for path in ["/a\u{1b}]0;owned\u{7}", "/b\u{9b}2J", "/c\u{202e}d\u{200b}"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: acme.localhost\r\n\r\n");
        gateway.raw("acme.localhost", request.as_bytes()).await;
    }
    gateway.get("https://acme.localhost/api/bookings").send().await;
    let lines = tail.until("session.missing");
    assert_eq!(lines.len(), 4, "{lines:#?}");
    let steers = |c: char| c.is_control() || matches!(c, '\u{200b}' | '\u{202e}');
    assert!(!lines.iter().any(|line| line.contains(steers)), "{lines:#?}");
    assert!(lines[2].contains("\\u{202e}d\\u{200b}"), "{lines:#?}");
    let last = &lines[3];
    for word in ["401 session.missing", "GET", "acme.localhost/api/bookings", "bookings-read", "(no credential)"] {
        assert!(last.contains(word), "`{word}` in {last}");
    }
}

#[tokio::test]
async fn the_lines_are_those_that_were_asked_for() {
    let (gateway, _upstream) = standard().await;
    let token = gateway.token("acme", &["viewer"]);
    gateway.get("https://acme.localhost/page").send().await;
    gateway.get("https://acme.localhost/api/bookings").bearer(&token).send().await;
    gateway.get("https://globex.localhost/api/bookings").send().await;
    gateway.get("https://globex.localhost/api/bookings").bearer(&token).send().await;
    gateway
        .until("four are written", async |g| entries(g).iter().filter(|entry| entry["kind"] == "request").count() == 4)
        .await;
    let tail = |args: &[&str]| {
        let ran = moat(gateway.bundle.root(), &[&["tail", "--no-follow"], args].concat());
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
        ran.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(tail(&["--refused"]).len(), 2);
    assert_eq!(tail(&["--code", "tenant.mismatch"]).len(), 1);
    assert_eq!(tail(&["--tenant", "globex"]).len(), 2);
    assert_eq!(tail(&["--route", "home"]).len(), 1);
    assert_eq!(tail(&["--status", "2xx"]).len(), 2);
    assert_eq!(tail(&["--status", "403"]).len(), 1);
    assert_eq!(tail(&["--refused", "-n", "1"]).len(), 1);
    assert_eq!(tail(&["--since", "1h", "--refused"]).len(), 2);
    assert_eq!(tail(&["--since", "2030-01-01"]).len(), 0);
    let everything = tail(&["-n", "100"]);
    assert!(everything.iter().any(|line| line.contains("config.load")), "{everything:#?}");
    let json = tail(&["--json", "--refused"]);
    assert!(json.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{json:#?}");
    let wrong = moat(gateway.bundle.root(), &["tail", "--status", "9xx"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("5xx"), "{wrong:?}");

    // A configuration with problems still says where the log is.
    gateway.bundle.replace("acme: {class: standard}", "acme: {class: standard, colour: red}");
    assert_eq!(tail(&["--refused"]).len(), 2);
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_it_quietly() {
    let (gateway, _upstream) = standard().await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_moat"))
        .arg("tail")
        .current_dir(gateway.bundle.root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    let ended = std::cell::RefCell::new(None);
    let child = std::cell::RefCell::new(child);
    let over = async |g: &Gateway| {
        g.get("https://acme.localhost/page").send().await;
        *ended.borrow_mut() = child.borrow_mut().try_wait().unwrap();
        ended.borrow().is_some()
    };
    gateway.until("the tail has ended", over).await;
    assert_eq!(ended.into_inner().unwrap().code(), Some(0));
    let mut child = child.into_inner();
    child.wait().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn without_a_log_it_says_where_to_look() {
    let folder = tempfile::tempdir().unwrap();
    let ran = moat(folder.path(), &["tail", "--no-follow"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("--directory"), "{ran:?}");
}
