//! `moat reload`: has a running gateway read its files now, or say what would happen if it did.
use crate::cli::{EXIT_PROBLEM, desk};
use crate::serve::reload::report::{Report, Verdict};
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Nothing has changed, since something of it takes a restart.
const EXIT_RESTART: u8 = 3;
/// No gateway answers at the address.
const EXIT_ABSENT: u8 = 4;
/// More than a report ever has.
const MOST_BYTES: usize = 64 << 20;
/// Names of one kind that are listed; more are counted.
const MOST_NAMES: usize = 20;

const AFTER_HELP: &str = "\
Exit codes:
  0   the files are in force, or would be; also where nothing has changed
  1   failed; the reason is on stderr
  3   something in the files takes a restart: it is named, and nothing has changed
  4   no gateway answers there
  78  the files have problems: each is listed, and nothing has changed";

/// `moat reload`
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Only load and compare: say what a reload would change, loosen, or could not do
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// The admin listener
    #[arg(long, default_value = "127.0.0.1:9901", env = "MOAT_ADMIN", value_name = "ADDRESS")]
    admin: SocketAddr,
    /// Seconds for the whole answer
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// Runs `moat reload`.
pub fn run(args: Args) -> Result<ExitCode> {
    let until = Instant::now() + Duration::from_secs(args.timeout);
    let stream = match TcpStream::connect_timeout(&args.admin, Duration::from_secs(args.timeout)) {
        Ok(stream) => stream,
        Err(error) => {
            eprintln!(
                "error: no gateway answers at {}: {error}\n  hint: name its admin listener with `--admin`",
                args.admin
            );
            return Ok(ExitCode::from(EXIT_ABSENT));
        }
    };
    let path = if args.dry_run { "/reload?dry_run=1" } else { "/reload" };
    let answer = desk::order(stream, path, until, MOST_BYTES);
    let (status, body) = answer.with_context(|| format!("http://{}{path}", args.admin))?;
    match status {
        200 => {}
        503 => bail!("the gateway takes no orders now: it is starting, ending, or busy with others"),
        other => bail!("http://{}{path} answered {other}", args.admin),
    }
    let report: Report = serde_json::from_str(&body).context("the gateway answers in another version's words")?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{}", told(&report))?;
    }
    Ok(ExitCode::from(match report.verdict {
        Verdict::Unchanged | Verdict::Reloaded | Verdict::WouldReload => 0,
        Verdict::NeedsRestart => EXIT_RESTART,
        Verdict::Problems => EXIT_PROBLEM,
    }))
}

/// The report for people.
fn told(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = match report.verdict {
        Verdict::Unchanged => writeln!(out, "nothing has changed"),
        Verdict::Reloaded => writeln!(out, "reloaded"),
        Verdict::WouldReload => writeln!(out, "a reload would change this:"),
        Verdict::NeedsRestart => writeln!(out, "nothing was changed: a restart is needed"),
        Verdict::Problems => writeln!(out, "nothing was changed: the files have problems"),
    };
    let changes = &report.changes;
    for (word, names) in [("added", &changes.added), ("removed", &changes.removed), ("changed", &changes.changed)] {
        let (routes, others): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| name.starts_with("routes."));
        list(&mut out, &format!("routes {word}"), routes.iter().filter_map(|name| name.strip_prefix("routes.")));
        list(&mut out, word, others.iter().map(|name| name.as_str()));
    }
    lines(&mut out, "loosens", &report.loosened);
    lines(&mut out, "needs a restart", &report.needs_restart);
    if report.verdict == Verdict::Problems {
        let _ = writeln!(out, "{}", report.text.trim_end());
    }
    out
}

/// `  routes added: a, b`
fn list<'n>(out: &mut String, title: &str, names: impl Iterator<Item = &'n str>) {
    let names: Vec<&str> = names.collect();
    if let Some(more) = names.len().checked_sub(MOST_NAMES).filter(|more| *more > 0) {
        let shown = names.get(..MOST_NAMES).unwrap_or_default();
        let _ = writeln!(out, "  {title}: {}, and {more} more", shown.join(", "));
    } else if !names.is_empty() {
        let _ = writeln!(out, "  {title}: {}", names.join(", "));
    }
}

fn lines<T: std::fmt::Display>(out: &mut String, title: &str, lines: &[T]) {
    if !lines.is_empty() {
        let _ = writeln!(out, "  {title}:");
        for line in lines {
            let _ = writeln!(out, "    {line}");
        }
    }
}
