//! `moat audit show`: entries for people, chosen by what they say.
use super::Format;
use crate::store::audit;
use crate::visible::visible;
use anyhow::{Context, Result};
use decide::record::time;
use serde_json::Value;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// `moat audit show`
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Folder of the log
    #[arg(value_name = "DIR", default_value = "state/audit")]
    pub directory: PathBuf,
    /// Only requests of this tenant
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only requests with this verdict: a refusal's code, `permit` or `lost-context`
    #[arg(long)]
    pub code: Option<String>,
    /// Only requests of this route
    #[arg(long)]
    pub route: Option<String>,
    /// Only requests of this user
    #[arg(long)]
    pub subject: Option<String>,
    /// Only what is about this request
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Only entries from then on: `2026-11-21T10:00:00Z`, `2026-11-21` (UTC), or `2h` before now
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<u64>,
    /// Only entries before then, in the same forms
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<u64>,
    /// Only requests that were not permitted
    #[arg(long)]
    pub denied: bool,
    /// Only the newest N of them
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// One readable line, or the very line of the log
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let mut newest = VecDeque::new();
    let mut odd = 0;
    for (_, path) in audit::segments(&args.directory)? {
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            reader.read_until(b'\n', &mut line).with_context(|| path.display().to_string())?;
            // Without its line feed, a line is being written at this moment, or was when the process died.
            if line.pop() != Some(b'\n') {
                break;
            }
            let Ok(entry) = serde_json::from_slice::<Value>(&line) else {
                odd += 1;
                continue;
            };
            if !args.wants(&entry) {
                continue;
            }
            let shown = match args.format {
                Format::Text => readable(&entry),
                Format::Json => String::from_utf8_lossy(&line).into_owned(),
            };
            match args.limit {
                None => writeln!(out, "{shown}")?,
                Some(limit) => {
                    newest.push_back(shown);
                    if newest.len() > limit {
                        newest.pop_front();
                    }
                }
            }
        }
    }
    for line in newest {
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    if odd == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("warning: {odd} lines are not entries\nhint: run `moat audit verify {}`", args.directory.display());
    Ok(ExitCode::FAILURE)
}

impl Args {
    fn wants(&self, entry: &Value) -> bool {
        let is = |wanted: &Option<String>, pointer: &str| {
            wanted.as_deref().is_none_or(|wanted| entry.pointer(pointer).and_then(Value::as_str) == Some(wanted))
        };
        let at_ms = word(entry, "/time").and_then(time::parse).unwrap_or_default();
        is(&self.tenant, "/facts/tenant")
            && self.code.as_deref().is_none_or(|wanted| verdict(entry) == Some(wanted))
            && is(&self.route, "/facts/route")
            && is(&self.subject, "/facts/subject")
            && self.request_id.as_deref().is_none_or(|id| word(entry, "/id") == Some(id) || may_count(entry, id))
            && self.since.is_none_or(|since| at_ms >= since)
            && self.until.is_none_or(|until| at_ms < until)
            && (!self.denied || verdict(entry).is_some_and(|verdict| verdict != "permit"))
    }
}

/// Whether a request with this id may be among those that share the entry: ids grow with time.
fn may_count(entry: &Value, id: &str) -> bool {
    let bounds = (word(entry, "/detail/first_id"), word(entry, "/detail/last_id"));
    matches!(bounds, (Some(first), Some(last)) if first <= id && id <= last)
}

/// What was decided about the request of an entry, or about all that share it.
pub(in crate::cli) fn verdict(entry: &Value) -> Option<&str> {
    word(entry, "/verdict").or_else(|| word(entry, "/detail/verdict"))
}

/// Reads a time: an instant, a day, or how long ago.
pub(in crate::cli) fn moment(text: &str) -> Result<u64, String> {
    let timestamp = match (text.parse::<jiff::Timestamp>(), text.parse::<jiff::civil::Date>()) {
        (Ok(timestamp), _) => timestamp,
        (_, Ok(date)) if text.len() == 10 => {
            date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|error| error.to_string())?.timestamp()
        }
        _ => {
            let ago: jiff::SignedDuration = text.parse().map_err(|_| {
                "not a time; write `2026-11-21T10:00:00Z`, `2026-11-21`, or `2h` for two hours ago".to_owned()
            })?;
            jiff::Timestamp::now().checked_sub(ago).map_err(|error| error.to_string())?
        }
    };
    Ok(u64::try_from(timestamp.as_millisecond()).unwrap_or(0))
}

/// One line: when, what, who, and how it ended.
fn readable(entry: &Value) -> String {
    let mut line = format!("{} {:>6} ", word(entry, "/time").unwrap_or("?"), entry["seq"].to_string());
    match word(entry, "/kind") {
        Some(kind @ ("request" | "intent")) => {
            let _ = write!(line, "{kind:<7} ");
            if let Some(status) = entry.pointer("/outcome/status") {
                let _ = write!(line, "{status} ");
            }
            let verdict = word(entry, "/verdict").unwrap_or("?");
            let method = word(entry, "/facts/method").unwrap_or("-");
            let host = word(entry, "/facts/host").unwrap_or("-");
            let path = word(entry, "/facts/path").unwrap_or_default();
            let _ = write!(line, "{verdict:<18} {method} {host}{path}");
            for (name, pointer) in [
                ("tenant", "/facts/tenant"),
                ("subject", "/facts/subject"),
                ("route", "/facts/route"),
                ("action", "/action"),
                ("from", "/facts/client"),
                ("request", "/id"),
            ] {
                if let Some(value) = word(entry, pointer) {
                    let _ = write!(line, " {name}={value}");
                }
            }
            if let Some(us) = entry.pointer("/outcome/duration_us").and_then(Value::as_f64) {
                let _ = write!(line, " {:.1}ms", us / 1000.0);
            }
            if let Some(cause) = word(entry, "/cause") {
                let _ = write!(line, " ({cause})");
            }
            let shadows = entry["trail"].as_array().into_iter().flatten();
            for shadow in shadows.filter_map(|step| word(step, "/1")).filter(|verdict| verdict.starts_with("shadow:")) {
                let _ = write!(line, " [{shadow}]");
            }
        }
        Some("system") => {
            line.push_str("system  ");
            event(entry, &mut line);
        }
        Some("head") => {
            let covered = word(entry, "/note").and_then(|note| note.lines().nth(1)).unwrap_or("?");
            let _ = write!(line, "head    covers={covered}");
        }
        _ => line.push('?'),
    }
    visible(&line)
}

/// What the gateway itself did, and the details of it.
pub(in crate::cli) fn event(entry: &Value, line: &mut String) {
    line.push_str(word(entry, "/event").unwrap_or("?"));
    if let Some(actor) = word(entry, "/actor").filter(|actor| *actor != "system") {
        let _ = write!(line, " actor={actor}");
    }
    for (name, value) in entry["detail"].as_object().into_iter().flatten() {
        let _ = match value {
            Value::String(text) => write!(line, " {name}={text}"),
            other => write!(line, " {name}={other}"),
        };
    }
}

pub(in crate::cli) fn word<'a>(entry: &'a Value, pointer: &str) -> Option<&'a str> {
    entry.pointer(pointer).and_then(Value::as_str)
}
