//! The application log (`tracing`, to standard error) and the access log (one JSON line per request, to standard output).
//!
//! Neither ever makes a request wait: lines go to a bounded queue and are dropped, and counted, where the reader of the
//! log is too slow. What must not be lost belongs into the audit log.
mod access;
mod lines;

pub use access::{AccessLine, AccessLog};
pub use lines::Lines;

use std::io::{self, Write};
use std::sync::Arc;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Bytes that may wait for a slow reader of either log.
pub const QUEUE_BYTES: usize = 4 << 20;

/// Levels of libraries that log what clients do wrong: pingora names path and host of each failed request at `error`,
/// which is ours to tell, in the audit log. The operator's own directives come after these and win.
const CAPS: &str = "pingora=off,rustls=error,h2=error,hyper=warn";

/// Why there is no application log.
#[derive(Debug, thiserror::Error)]
pub enum LogFault {
    /// `logs.level` is not a filter.
    #[error("`{0}` is not a log level or filter")]
    Filter(String),
    /// The writer's thread cannot be started.
    #[error("cannot start the log writer: {0}")]
    Thread(#[from] io::Error),
    /// A log is in place already.
    #[error("the log was started twice: {0}")]
    Twice(#[from] TryInitError),
}

/// Starts the application log of this process on standard error. `level` is a level or a filter in the syntax of
/// `tracing`. Keep the result until the process ends: dropping the last of it writes what still waits.
pub fn init(json: bool, level: &str) -> Result<Arc<Lines>, LogFault> {
    let lines = Arc::new(Lines::start("log", Box::new(io::stderr()), QUEUE_BYTES)?);
    subscriber(json, level, lines.clone())?.try_init()?;
    Ok(lines)
}

fn subscriber(
    json: bool,
    level: &str,
    lines: Arc<Lines>,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, LogFault> {
    let refuse = |_| LogFault::Filter(level.to_owned());
    let filter = EnvFilter::try_new(format!("{CAPS},{level}")).map_err(refuse)?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_ansi(false);
    Ok(if json {
        Box::new(registry.with(layer.json().flatten_event(true).with_writer(Sink { lines, escape: false })))
    } else {
        Box::new(registry.with(layer.with_writer(Sink { lines, escape: true })))
    })
}

/// Where `tracing` writes: one call per event, the whole line in it.
struct Sink {
    lines: Arc<Lines>,
    /// Text is escaped here; JSON has escaped itself.
    escape: bool,
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = &'a Sink;

    fn make_writer(&'a self) -> &'a Sink {
        self
    }
}

impl Write for &Sink {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if self.escape {
            self.lines.push(one_line(&String::from_utf8_lossy(event)).as_bytes());
        } else {
            self.lines.push(event);
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event as one line: whatever moves a cursor, ends a line or turns text around is written out as an escape.
fn one_line(event: &str) -> String {
    let mut line = String::with_capacity(event.len() + 8);
    for c in event.strip_suffix('\n').unwrap_or(event).chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            line.extend(c.escape_unicode());
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use lines::tests::Captured;

    fn logged(json: bool, level: &str, log: impl FnOnce()) -> String {
        let captured = Captured::default();
        let lines = Arc::new(Lines::start("test", Box::new(captured.clone()), QUEUE_BYTES).expect("a thread"));
        let subscriber = subscriber(json, level, lines.clone()).expect("a filter");
        tracing::subscriber::with_default(subscriber, log);
        drop(lines);
        captured.text()
    }

    #[test]
    fn a_client_cannot_write_lines_of_its_own() {
        let evil = "x\n2026-11-21T00:00:00Z ERROR moat: all keys leaked\r\u{1b}[2J\u{9b}2J\u{202e}";
        let text = logged(false, "info", || tracing::info!(path = %evil, "refused {evil}"));
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.chars().all(|c| !c.is_control() || c == '\n') && !text.contains('\u{202e}'), "{text:?}");
        let json = logged(true, "info", || tracing::info!(path = %evil, "refused {evil}"));
        assert_eq!(json.lines().count(), 1, "{json}");
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value["path"], evil);
    }

    #[test]
    fn libraries_are_quiet_unless_asked_for() {
        let log = || {
            tracing::error!(target: "pingora_core::services::listening", "a client hung up");
            tracing::error!(target: "pingora_proxy", "a client hung up");
            tracing::info!(target: "moat", "started");
            tracing::debug!(target: "moat", "details");
        };
        let quiet = logged(false, "info", log);
        assert!(quiet.contains("started") && quiet.lines().count() == 1, "{quiet}");
        let asked = logged(false, "warn,pingora_proxy=debug", log);
        assert!(asked.contains("pingora_proxy") && asked.lines().count() == 1, "{asked}");
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        let lines = Arc::new(Lines::start("test", Box::new(io::sink()), 1024).expect("a thread"));
        let refused = subscriber(false, "moat=loud", lines).err().expect("refused");
        assert_eq!(refused.to_string(), "`moat=loud` is not a log level or filter");
    }
}
