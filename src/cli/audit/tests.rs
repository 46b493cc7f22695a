//! The commands on a real log, and the documentation's own ways to verify one.
use super::*;
use crate::store::audit::{AuditLog, Options};
use decide::facts::{Person, RequestId};
use decide::record::{Circumstances, Entry, Event, Exchange, Kind, Outcome, Verdict};
use decide::refusal::Code;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

struct Log {
    folder: TempDir,
}

impl Log {
    fn new() -> Log {
        let log = Log { folder: TempDir::new().unwrap() };
        let options = Options::new(log.path(), log.folder.path().to_owned(), "gw-1".to_owned());
        let audit = AuditLog::open(options, Arc::new(|| 1_700_000_000_000)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let verdicts = [Verdict::Permit, Verdict::Refuse(Code::TenantMismatch), Verdict::Permit];
        for (i, verdict) in verdicts.into_iter().enumerate() {
            let refused = verdict != Verdict::Permit;
            let exchange = Exchange {
                id: RequestId(i as u128 + 1),
                snapshot: "0123456789abcdef",
                facts: Circumstances {
                    tenant: Some(if i == 2 { "globex" } else { "acme" }),
                    method: Some("GET"),
                    host: Some("acme.example.com"),
                    path: Some("/orders/1"),
                    route: Some("orders"),
                    subject: Some(Person("u-1\u{1b}[2J\u{202e}")),
                    ..Circumstances::new("public", Person([203, 0, 113, 7].into()))
                },
                trail: &[],
                verdict,
                cause: refused.then_some("the session is of tenant `globex`"),
                outcome: Some(Outcome {
                    status: if refused { 403 } else { 200 },
                    duration_us: 1234,
                    ..Outcome::default()
                }),
                action: None,
            };
            let mut body = Vec::new();
            Entry { time_ms: 1_700_000_000_000 + i as u64, node: "gw-1", kind: Kind::Request(&exchange) }
                .write(&mut body);
            runtime.block_on(audit.reserve()).unwrap().write(body);
        }
        audit
            .system(Event::ConfigLoad { digest: "abc", previous: None, loosened: &["a".to_owned()], fallback: None })
            .unwrap();
        audit.close(Duration::from_secs(5)).unwrap();
        log
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit")
    }

    fn segment(&self) -> PathBuf {
        self.path().join("audit-00000000000000000001.jsonl")
    }

    fn verify(&self, format: Format) -> (ExitCode, String) {
        let args = verify::Args { directory: self.path(), key: None, heads: Vec::new(), format };
        let mut out = Vec::new();
        let code = verify::run(&args, &mut out).unwrap();
        (code, String::from_utf8(out).unwrap().replace(self.path().to_str().unwrap(), "DIR"))
    }

    fn show(&self, args: show::Args) -> Vec<String> {
        let mut out = Vec::new();
        show::run(&show::Args { directory: self.path(), ..args }, &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    /// Runs a program of the documentation on the log.
    fn documented(&self, program: &str, flag: &str, script: &str) -> process::Output {
        process::Command::new(program).args([flag, script]).arg(self.path()).current_dir(self.path()).output().unwrap()
    }
}

fn same(code: ExitCode, expected: ExitCode) -> bool {
    format!("{code:?}") == format!("{expected:?}")
}

#[test]
fn verify_tells_what_it_found() {
    let log = Log::new();
    let (code, text) = log.verify(Format::Text);
    assert!(same(code, ExitCode::SUCCESS));
    assert_eq!(
        text,
        "DIR: 8 entries in 1 segment, chain intact, 2 signed heads verified\n\
         \x20 entries 1 to 8, signed up to 7\n\
         \x20 2023-11-14T22:13:20.000Z to 2023-11-14T22:13:20.002Z\n\
         \x20 3 requests, 0 intents, 3 system entries\n\
         \x20 note: the keys are those of the folder itself; keep a copy elsewhere and pass it with --key\n"
    );
    let (_, json) = log.verify(Format::Json);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["ok"], &json["entries"], &json["signed_to"]), (&true.into(), &8.into(), &7.into()));
}

#[test]
fn verify_names_the_first_bad_entry() {
    let log = Log::new();
    let text = fs::read_to_string(log.segment()).unwrap();
    fs::write(log.segment(), text.replace("tenant.mismatch", "permit")).unwrap();
    let (code, text) = log.verify(Format::Text);
    assert!(same(code, ExitCode::FAILURE));
    assert_eq!(
        text,
        "broken: DIR/audit-00000000000000000001.jsonl:4: entry 4: the line does not have the hash that it names\n"
    );
    let (_, json) = log.verify(Format::Json);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["ok"], &json["seq"], &json["line"]), (&false.into(), &4.into(), &4.into()));
    fs::remove_file(log.path().join("head")).unwrap();
    assert!(log.verify(Format::Text).1.starts_with("broken: DIR/head: "));
}

#[test]
fn show_is_readable_and_harmless() {
    let log = Log::new();
    let lines = log.show(show::Args::default());
    assert_eq!(lines.len(), 8);
    assert!(lines[0].starts_with("2023-11-14T22:13:20.000Z      1 system  start "), "{}", lines[0]);
    assert_eq!(lines[1], "2023-11-14T22:13:20.000Z      2 head    covers=1");
    assert_eq!(
        lines[3],
        "2023-11-14T22:13:20.001Z      4 request 403 tenant.mismatch    GET acme.example.com/orders/1 tenant=acme \
         subject=u-1\\u{1b}[2J\\u{202e} route=orders from=203.0.113.7 request=00000000-0000-0000-0000-000000000002 \
         1.2ms (the session is of tenant `globex`)"
    );
    assert_eq!(lines[5], "2023-11-14T22:13:20.000Z      6 system  config.load digest=abc loosened=[\"a\"]");
}

#[test]
fn show_chooses() {
    let log = Log::new();
    let some = |text: &str| Some(text.to_owned());
    let chosen = |args: show::Args| log.show(args).len();
    assert_eq!(chosen(show::Args { tenant: some("acme"), ..Default::default() }), 2);
    assert_eq!(chosen(show::Args { code: some("permit"), ..Default::default() }), 2);
    assert_eq!(chosen(show::Args { denied: true, ..Default::default() }), 1);
    assert_eq!(chosen(show::Args { route: some("orders"), limit: Some(2), ..Default::default() }), 2);
    assert_eq!(chosen(show::Args { subject: some("u-1\u{1b}[2J\u{202e}"), ..Default::default() }), 3);
    assert_eq!(
        chosen(show::Args { request_id: some("00000000-0000-0000-0000-000000000003"), ..Default::default() }),
        1
    );
    assert_eq!(chosen(show::Args { since: Some(1_700_000_000_001), ..Default::default() }), 2);
    assert_eq!(chosen(show::Args { until: Some(1_700_000_000_002), ..Default::default() }), 7);
    let raw = log.show(show::Args { limit: Some(8), format: Format::Json, ..Default::default() });
    assert_eq!(raw.join("\n") + "\n", fs::read_to_string(log.segment()).unwrap());
}

#[test]
fn times_are_read_as_people_write_them() {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: show::Args,
    }
    let since = |text: &str| {
        <Cli as clap::Parser>::try_parse_from(["show", "dir", "--since", text]).ok().and_then(|cli| cli.args.since)
    };
    assert_eq!(since("2023-11-14T22:13:20.001Z"), Some(1_700_000_000_001));
    assert_eq!(since("2023-11-14T23:13:20+01:00"), Some(1_700_000_000_000));
    assert_eq!(since("2023-11-14"), Some(1_699_920_000_000));
    assert!(since("2h").zip(since("1h")).is_some_and(|(two, one)| two < one));
    assert_eq!(since("yesterday"), None);
}

/// The fenced block of `docs/audit.md` in this language.
fn documented(language: &str) -> String {
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit.md")).unwrap();
    let (_, rest) = docs.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_documented_program_verifies_the_chain() {
    let log = Log::new();
    let program = documented("python");
    assert!(program.lines().count() <= 20);
    let output = log.documented("python3", "-c", &program);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "8 entries, signed up to 7\n");
    let original = fs::read_to_string(log.segment()).unwrap();
    let lines: Vec<&str> = original.split_inclusive('\n').collect();
    for changed in [original.replace("u-1", "u-2"), [&lines[..3], &lines[4..]].concat().concat(), lines[..6].concat()] {
        fs::write(log.segment(), changed).unwrap();
        assert!(!log.documented("python3", "-c", &program).status.success());
    }
}

#[test]
fn the_documented_commands_verify_the_signature() {
    let log = Log::new();
    let script = documented("sh");
    let output = log.documented("sh", "-ec", &script);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let head = fs::read_to_string(log.path().join("head")).unwrap();
    fs::write(log.path().join("head"), head.replacen("\n7\n", "\n6\n", 1)).unwrap();
    assert!(!log.documented("sh", "-ec", &script).status.success());
}
