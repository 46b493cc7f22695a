//! `moat tail`: what the gateway does, line by line, while it does it.
//!
//! It reads the audit log's segments, so it needs nothing of the running process: it goes on over restarts, upgrades and
//! rotation, and shows what is recorded, neither more nor less.
mod follow;
mod line;

use crate::cli::audit::show::{moment, verdict, word};
use crate::config::{glance, process_env};
use anyhow::{Result, anyhow};
use decide::record::time;
use follow::{Follower, Wake};
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

/// Time after which the files are looked at without being told of a change.
const POLL: Duration = Duration::from_millis(500);

/// `moat tail`
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Folder of the audit log. Default: that of the configuration
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// The configuration; only the folder's name is read, so it may have problems
    #[arg(long, short, value_name = "FILE", default_value = "gateway.yaml", env = "MOAT_CONFIG")]
    pub config: PathBuf,
    /// Only requests that were refused with this code
    #[arg(long)]
    pub code: Option<String>,
    /// Only requests that were refused
    #[arg(long)]
    pub refused: bool,
    /// Only requests of this tenant
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only requests of this route
    #[arg(long)]
    pub route: Option<String>,
    /// Only requests of this user
    #[arg(long)]
    pub subject: Option<String>,
    /// Only requests that were answered so: `404`, or `5xx` for a whole class
    #[arg(long, value_parser = status)]
    pub status: Option<Status>,
    /// Begin with what was written from then on: `10m` ago, or `2026-11-21T10:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<u64>,
    /// Begin with the last N lines that would have been shown; without `--since` only
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 10)]
    pub lines: usize,
    /// The very lines of the log
    #[arg(long)]
    pub json: bool,
    /// End instead of waiting for more
    #[arg(long)]
    pub no_follow: bool,
}

/// Statuses to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// This one.
    Exactly(u64),
    /// All with this first digit.
    Class(u64),
}

fn status(text: &str) -> Result<Status, String> {
    let wrong = || "not a status; write `404`, or `5xx` for a whole class".to_owned();
    match text.strip_suffix("xx") {
        Some(class) => class.parse().ok().filter(|class| (1..=5).contains(class)).map(Status::Class),
        None => text.parse().ok().filter(|status| (100..600).contains(status)).map(Status::Exactly),
    }
    .ok_or_else(wrong)
}

/// Runs `moat tail`, until Ctrl-C or until nobody reads any more; the exit code is 0 then.
pub fn run(args: Args) -> Result<ExitCode> {
    let directory = match &args.directory {
        Some(directory) => directory.clone(),
        None => {
            let hint = "name the log's folder with `--directory`";
            glance::glance(&args.config, &process_env).map_err(|message| anyhow!("{message}\nhint: {hint}"))?.audit
        }
    };
    let stdout = io::stdout();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let show = Show { color: stdout.is_terminal() && !no_color, args: &args };
    let (wake, woken) = mpsc::channel();
    if !args.no_follow {
        follow::on_interrupt(wake.clone());
    }
    // Kept to the end: dropping it ends the watch. Where there is none, polling does.
    let _watcher = follow::watch(&directory, wake);
    let (mut follower, begin) = Follower::begin(&directory, args.since)?;
    let mut out = io::BufWriter::new(stdout.lock());
    let mut newest = VecDeque::new();
    for line in begin {
        let Some(shown) = show.line(&line) else { continue };
        newest.push_back(shown);
        if args.since.is_none() && newest.len() > args.lines {
            newest.pop_front();
        }
    }
    for line in newest {
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    if args.no_follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        match woken.recv_timeout(POLL) {
            Ok(Wake::Stop) => break,
            Ok(Wake::Changed) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            // Without watcher and handler nobody sends: polling it is.
            Err(mpsc::RecvTimeoutError::Disconnected) => std::thread::sleep(POLL),
        }
        follower.read(&mut |line| match show.line(line) {
            Some(shown) => writeln!(out, "{shown}"),
            None => Ok(()),
        })?;
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Chooses entries and writes them.
struct Show<'a> {
    color: bool,
    args: &'a Args,
}

impl Show<'_> {
    /// The line for an entry; `None` where it is not wanted.
    fn line(&self, bytes: &[u8]) -> Option<String> {
        let Ok(entry) = serde_json::from_slice::<Value>(bytes) else {
            return Some("a line of the log is no entry: run `moat audit verify`".to_owned());
        };
        if !self.wants(&entry) {
            return None;
        }
        match self.args.json {
            true => Some(String::from_utf8_lossy(bytes).into_owned()),
            false => Some(line::readable(&entry, self.color)),
        }
    }

    fn wants(&self, entry: &Value) -> bool {
        let args = self.args;
        if args.since.is_some_and(|since| word(entry, "/time").and_then(time::parse).is_none_or(|at| at < since)) {
            return false;
        }
        let chosen = args.refused
            || args.status.is_some()
            || [&args.code, &args.tenant, &args.route, &args.subject].into_iter().any(Option::is_some);
        match word(entry, "/kind") {
            Some("request") => {}
            // Refusals that share an entry say no more about themselves than their code.
            Some("system") if chosen && word(entry, "/event") == Some("folded") => {
                let only = [&args.tenant, &args.route, &args.subject].into_iter().all(Option::is_none);
                let fits = args.code.as_deref().is_none_or(|wanted| verdict(entry) == Some(wanted));
                return only && args.status.is_none() && fits && verdict(entry) != Some("permit");
            }
            // What the gateway itself did, but not its heartbeats.
            Some("system") => return !chosen && word(entry, "/event") != Some("heartbeat"),
            _ => return false,
        }
        let is = |wanted: &Option<String>, pointer: &str| {
            wanted.as_deref().is_none_or(|wanted| word(entry, pointer) == Some(wanted))
        };
        let status = entry.pointer("/outcome/status").and_then(Value::as_u64).unwrap_or_default();
        is(&args.code, "/verdict")
            && is(&args.tenant, "/facts/tenant")
            && is(&args.route, "/facts/route")
            && is(&args.subject, "/facts/subject")
            && (!args.refused || word(entry, "/verdict") != Some("permit"))
            && match args.status {
                None => true,
                Some(Status::Exactly(wanted)) => status == wanted,
                Some(Status::Class(class)) => status / 100 == class,
            }
    }
}
