//! `moat audit verify`: is the log what was written?
use super::Format;
use crate::store::audit::{self, Broken, Verified};
use anyhow::Result;
use decide::record::time;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// `moat audit verify`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the log
    #[arg(value_name = "DIR", default_value = "state/audit")]
    pub directory: PathBuf,
    /// Public keys of the log, one per line [default: DIR/audit.pub]
    ///
    /// Who can write to the folder can also replace the keys in it. Keep a copy elsewhere.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// A signed head (a copy of DIR/head) that was kept elsewhere; the log must still hold what it covers. May be repeated
    #[arg(long = "expect-head", value_name = "FILE")]
    pub heads: Vec<PathBuf>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let key_path = args.key.clone().unwrap_or_else(|| args.directory.join("audit.pub"));
    let keys = audit::read_keys(&key_path)?;
    match audit::verify(&args.directory, &keys, &args.heads) {
        Ok(verified) => {
            let notes = notes(&verified, args);
            match args.format {
                Format::Text => write!(out, "{}", text(args, &verified, &notes))?,
                Format::Json => writeln!(out, "{}", success(&verified, &notes))?,
            }
            out.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        Err(Broken::Unreadable(fault)) => Err(fault.into()),
        Err(broken) => {
            match args.format {
                Format::Text => writeln!(out, "broken: {broken}")?,
                Format::Json => writeln!(out, "{}", failure(&broken))?,
            }
            out.flush()?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn text(args: &Args, verified: &Verified, notes: &[String]) -> String {
    let report = &verified.report;
    let mut text = format!(
        "{}: {} in {}, chain intact, {} verified\n",
        args.directory.display(),
        count(report.entries(), "entry", "entries"),
        count(verified.segments as u64, "segment", "segments"),
        count(report.heads, "signed head", "signed heads"),
    );
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "  entries {} to {}, signed up to {}\n  {} to {}\n  {}, {}, {}",
        report.first,
        report.last.seq,
        report.signed_to,
        time::format(report.first_ms),
        time::format(report.last_ms),
        count(report.requests, "request", "requests"),
        count(report.intents, "intent", "intents"),
        count(report.system, "system entry", "system entries"),
    );
    for note in notes {
        let _ = writeln!(text, "  note: {note}");
    }
    text
}

/// What is no flaw, and yet somebody should know.
fn notes(verified: &Verified, args: &Args) -> Vec<String> {
    let report = &verified.report;
    let mut notes = Vec::new();
    if args.key.is_none() {
        notes.push("the keys are those of the folder itself; keep a copy elsewhere and pass it with --key".to_owned());
    }
    if report.first > 1 {
        notes
            .push(format!("entries before {} were deleted because of their age, as the log itself says", report.first));
    }
    if report.refused_unlogged > 0 {
        let requests = count(report.refused_unlogged, "request", "requests");
        notes.push(format!("{requests} refused without an entry while the log could not be written; see `gap`"));
    }
    if report.folded > 0 {
        let requests = count(report.folded, "request shares", "requests share");
        notes.push(format!("{requests} an entry with others of their kind; see `folded`"));
    }
    if verified.set_aside > 0 {
        let lines = count(verified.set_aside as u64, "unfinished line was", "unfinished lines were");
        notes.push(format!("{lines} set aside after a crash; see `recovered`"));
    }
    if verified.unfinished > 0 {
        notes.push(format!("the last {} bytes are being written by a running gateway", verified.unfinished));
    }
    if report.backwards > 0 {
        notes.push(format!("the clock was set back {}", count(report.backwards, "time", "times")));
    }
    notes
}

fn success(verified: &Verified, notes: &[String]) -> Value {
    let report = &verified.report;
    json!({
        "ok": true,
        "entries": report.entries(),
        "first": report.first,
        "last": report.last.seq,
        "hash": report.last.hash.to_string(),
        "segments": verified.segments,
        "heads": report.heads,
        "signed_to": report.signed_to,
        "from": time::format(report.first_ms),
        "to": time::format(report.last_ms),
        "requests": report.requests,
        "intents": report.intents,
        "system": report.system,
        "refused_unlogged": report.refused_unlogged,
        "folded": report.folded,
        "notes": notes,
    })
}

fn failure(broken: &Broken) -> Value {
    match broken {
        Broken::Flawed { path, line, flaw } => json!({
            "ok": false,
            "file": path,
            "line": line,
            "seq": flaw.seq,
            "reason": flaw.reason.to_string(),
        }),
        Broken::Head { path, reason } => json!({ "ok": false, "file": path, "reason": reason }),
        Broken::Unreadable(fault) => json!({ "ok": false, "reason": fault.to_string() }),
    }
}

fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
