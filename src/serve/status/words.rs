//! Figures in words, alike on the page and in the terminal.
use super::window::Quantile;
use decide::record::time;
use std::collections::BTreeMap;

/// `1 problem`, `2 problems`.
pub fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// `access.denied 3, session.missing 12`, the most frequent first.
pub fn counts(counts: &BTreeMap<String, u64>) -> String {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by(|a, b| (b.1, a.0).cmp(&(a.1, b.0)));
    let parts: Vec<String> = sorted.into_iter().map(|(name, count)| format!("{name} {count}")).collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

/// A rate or a time with as many digits as say something.
pub fn figure(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        ..1.0 => format!("{value:.2}"),
        1.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// `3.2 ms`, `1.4 s`, or `-`.
pub fn quantile(quantile: Option<Quantile>) -> String {
    match quantile {
        None => "-".to_owned(),
        Some(Quantile { below_ms: None, about_ms }) => format!("> {}", duration(about_ms)),
        Some(Quantile { about_ms, .. }) => duration(about_ms),
    }
}

/// `< 5 ms`, or nothing.
pub fn bound(quantile: Option<Quantile>) -> String {
    quantile.and_then(|q| q.below_ms).map(|below| format!("< {}", duration(below))).unwrap_or_default()
}

fn duration(ms: f64) -> String {
    if ms < 1000.0 { format!("{} ms", trimmed(ms)) } else { format!("{} s", trimmed(ms / 1000.0)) }
}

/// At most one decimal, and none where it is zero.
fn trimmed(value: f64) -> String {
    format!("{value:.1}").trim_end_matches(".0").to_owned()
}

/// `45 s`, `12 min`, `3 h 2 min`, `5 d 4 h`.
pub fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{minutes} min"),
        7200..172_800 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// How long before `now` a time of the document is; the time itself where one cannot be read.
pub fn ago(now: &str, at: &str) -> String {
    match (time::parse(now), time::parse(at)) {
        (Some(now_ms), Some(at_ms)) => format!("{} ago", span(now_ms.saturating_sub(at_ms) / 1000)),
        _ => at.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_as_many_digits_as_say_something() {
        assert_eq!([0.0, 0.25, 3.21, 99.95, 1234.5].map(figure).join(" "), "0 0.25 3.2 100.0 1234");
        assert_eq!([45, 119, 720, 10_920, 360_000].map(span).join(", "), "45 s, 119 s, 12 min, 3 h 2 min, 4 d 4 h");
        let q = |about_ms, below_ms| Some(Quantile { about_ms, below_ms });
        assert_eq!((quantile(q(3.2, Some(5.0))), bound(q(3.2, Some(5.0)))), ("3.2 ms".to_owned(), "< 5 ms".to_owned()));
        assert_eq!((quantile(q(1400.0, Some(2500.0))), quantile(None)), ("1.4 s".to_owned(), "-".to_owned()));
        assert_eq!((quantile(q(10_000.0, None)), bound(q(10_000.0, None))), ("> 10 s".to_owned(), String::new()));
        assert_eq!(ago("2026-11-21T10:02:10.000Z", "2026-11-21T10:00:00.000Z"), "2 min ago");
        assert_eq!(ago("?", "then"), "then");
        let mut some = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 5)]);
        assert_eq!(counts(&some), "b 5, a 1");
        some.clear();
        assert_eq!(counts(&some), "-");
    }
}
