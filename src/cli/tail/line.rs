//! One entry as one aligned line for people.
use crate::cli::audit::show::{event, word};
use crate::visible::visible;
use serde_json::Value;
use std::fmt::Write;

const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const GREEN: &str = "\u{1b}[32m";
const CYAN: &str = "\u{1b}[36m";
const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// Time, status, code, duration, request, route, tenant, upstream, id; the cause of a refusal at the end. Everything
/// from outside is made visible before it gets between our own colours.
pub(super) fn readable(entry: &Value, color: bool) -> String {
    let paint = |code: &'static str| if color { code } else { "" };
    let end = paint(PLAIN);
    // The day is that of whoever looks; `--json` has all of it.
    let at = word(entry, "/time").and_then(|time| time.get(11..23)).unwrap_or("?");
    if word(entry, "/kind") == Some("system") {
        let mut text = String::new();
        event(entry, &mut text);
        return format!("{} {}{}{end}", visible(at), paint(DIM), visible(&text));
    }
    let status = entry.pointer("/outcome/status").and_then(Value::as_u64).unwrap_or_default();
    let hue = match status / 100 {
        2 => GREEN,
        1 | 3 => CYAN,
        4 => YELLOW,
        _ => RED,
    };
    let verdict = word(entry, "/verdict").unwrap_or("?");
    let code = if verdict == "permit" { "-" } else { verdict };
    let field = |pointer: &str| visible(word(entry, pointer).unwrap_or("-"));
    let us = entry.pointer("/outcome/duration_us").and_then(Value::as_f64).unwrap_or_default();
    let path = word(entry, "/facts/path").unwrap_or_default();
    let place = format!("{}{}", field("/facts/host"), visible(path));
    let mut line = format!(
        "{} {}{status:<3}{end} {}{:<19}{end} {:>9} {:<6} {place:<44} {:<16} {:<12} {:<10} {}{}{end}",
        visible(at),
        paint(hue),
        paint(if code == "-" { DIM } else { hue }),
        visible(code),
        milliseconds(us),
        field("/facts/method"),
        field("/facts/route"),
        field("/facts/tenant"),
        field("/outcome/upstream"),
        paint(DIM),
        field("/id"),
    );
    if let Some(cause) = word(entry, "/cause") {
        let _ = write!(line, " ({})", visible(cause));
    }
    line
}

fn milliseconds(us: f64) -> String {
    match us / 1000.0 {
        ms if ms < 1000.0 => format!("{ms:.1}ms"),
        ms => format!("{:.1}s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Value {
        serde_json::json!({
            "kind": "request", "time": "2026-11-21T10:00:00.123Z", "id": "7", "verdict": "session.expired",
            "cause": "the token\u{1b}[2J has expired", "outcome": {"status": 401, "duration_us": 1234},
            "facts": {"method": "GET", "host": "a.test", "path": "/\u{9b}31m\u{202e}", "route": "r\n", "tenant": "acme"},
        })
    }

    #[test]
    fn values_cannot_steer_and_columns_are_aligned() {
        assert_eq!(
            readable(&entry(), false),
            "10:00:00.123 401 session.expired         1.2ms GET    a.test/\\u{9b}31m\\u{202e}                     \
             r\\u{a}           acme         -          7 (the token\\u{1b}[2J has expired)"
        );
    }

    #[test]
    fn colours_are_ours_and_end() {
        let line = readable(&entry(), true);
        assert!(line.contains("\u{1b}[33m401\u{1b}[0m"), "{line}");
        assert!(!line.contains('\u{9b}') && line.matches('\u{1b}').count() == 6, "{line:?}");
        let system = serde_json::json!({"kind": "system", "time": "x", "event": "e\u{7}", "detail": {"a": "\u{1b}"}});
        assert_eq!(readable(&system, false), "? e\\u{7} a=\\u{1b}");
    }
}
