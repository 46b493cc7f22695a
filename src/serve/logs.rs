//! The application log (`tracing`, to standard error) and the access log (one JSON line per request, to standard output).
//!
//! Neither ever makes a request wait: lines go to a bounded queue and are dropped, and counted, where the reader of the
//! log is too slow. What must not be lost belongs into the audit log.
mod access;
mod lines;

pub use access::{AccessLine, AccessLog};
pub use lines::Lines;

use std::io::{self, Write};
use std::sync::{Arc, OnceLock, Weak};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Layered;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

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
    let (subscriber, handles) = subscriber(json, level, lines.clone())?;
    subscriber.try_init()?;
    // Whoever comes second has failed at the line above.
    let _ = HANDLES.set((handles, Arc::downgrade(&lines)));
    Ok(lines)
}

/// The application log of this process, for those who change it.
static HANDLES: OnceLock<(Handles, Weak<Lines>)> = OnceLock::new();

/// Lines that pass the filter, on their way into the form of the log.
type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Form = Box<dyn Layer<Filtered> + Send + Sync>;

/// By which level and form of the log are changed.
#[derive(Clone)]
struct Handles {
    filter: reload::Handle<EnvFilter, Registry>,
    form: reload::Handle<Form, Filtered>,
}

/// Another level and form of the application log, ready to be put in force.
pub struct Change {
    filter: EnvFilter,
    json: bool,
}

impl Change {
    /// Prepares a change; refuses a level that is none.
    pub fn prepare(json: bool, level: &str) -> Result<Change, LogFault> {
        Ok(Change { filter: filter(level)?, json })
    }

    /// Puts it in force, where this process has a log.
    pub fn apply(self) {
        let Some((handles, lines)) = HANDLES.get() else { return };
        let Some(lines) = lines.upgrade() else { return };
        self.apply_to(handles, lines);
    }

    fn apply_to(self, handles: &Handles, lines: Arc<Lines>) {
        // Fails only where the subscriber is gone, and nobody logs any more.
        let _ = handles.filter.reload(self.filter);
        let _ = handles.form.reload(form(self.json, lines));
    }
}

fn filter(level: &str) -> Result<EnvFilter, LogFault> {
    EnvFilter::try_new(format!("{CAPS},{level}")).map_err(|_| LogFault::Filter(level.to_owned()))
}

fn form(json: bool, lines: Arc<Lines>) -> Form {
    let layer = tracing_subscriber::fmt::layer().with_ansi(false);
    if json {
        Box::new(layer.json().flatten_event(true).with_writer(Sink { lines, escape: false }))
    } else {
        Box::new(layer.with_writer(Sink { lines, escape: true }))
    }
}

fn subscriber(
    json: bool,
    level: &str,
    lines: Arc<Lines>,
) -> Result<(impl tracing::Subscriber + Send + Sync, Handles), LogFault> {
    let (filter, filter_handle) = reload::Layer::new(filter(level)?);
    let (form, form_handle) = reload::Layer::new(form(json, lines));
    let subscriber = tracing_subscriber::registry().with(filter).with(form);
    Ok((subscriber, Handles { filter: filter_handle, form: form_handle }))
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
        let (subscriber, handles) = subscriber(json, level, lines.clone()).expect("a filter");
        tracing::subscriber::with_default(subscriber, log);
        drop((lines, handles));
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
    fn level_and_form_change_while_it_is_written() {
        let captured = Captured::default();
        let lines = Arc::new(Lines::start("test", Box::new(captured.clone()), QUEUE_BYTES).expect("a thread"));
        let (subscriber, handles) = subscriber(false, "info", lines.clone()).expect("a filter");
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("unseen");
            Change::prepare(true, "debug").expect("a level").apply_to(&handles, lines.clone());
            tracing::debug!(answer = 42, "seen");
        });
        drop((lines, handles));
        let line: serde_json::Value = serde_json::from_str(&captured.text()).expect("one line of JSON");
        assert_eq!((&line["message"], &line["answer"]), (&"seen".into(), &42.into()), "{line}");
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        let lines = Arc::new(Lines::start("test", Box::new(io::sink()), 1024).expect("a thread"));
        let refused = subscriber(false, "moat=loud", lines).err().expect("refused");
        assert_eq!(refused.to_string(), "`moat=loud` is not a log level or filter");
    }
}
