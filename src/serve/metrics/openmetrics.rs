//! The metrics in the other format, OpenMetrics 1.0, for whoever asks for it by `Accept`.
use http::HeaderMap;
use http::header::ACCEPT;

/// What is served where it is asked for.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether OpenMetrics is preferred over the Prometheus text format (RFC 9110, 12.5.1). Without the header it is not.
pub fn prefers_openmetrics(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (mut open, mut plain) = (0.0, 0.0);
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        match name.as_str() {
            "application/openmetrics-text" => open = f64::max(open, quality),
            "text/plain" => plain = f64::max(plain, quality),
            _ => {}
        }
    }
    open > 0.0 && open >= plain
}

/// Text format → OpenMetrics: counters are named without `_total`, except in their samples; bounds of buckets are
/// floating-point numbers; an end that says that nothing is missing.
pub(super) fn translate(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 32);
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            let (name, help) = (family(name), help.replace('"', "\\\""));
            out.extend(["# HELP ", name, " ", &help]);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            out.extend(["# TYPE ", family(name), " ", kind]);
        } else {
            sample(&mut out, line);
        }
        out.push('\n');
    }
    out.push_str("# EOF\n");
    out
}

/// In the text format only counters end like this.
fn family(name: &str) -> &str {
    name.strip_suffix("_total").unwrap_or(name)
}

fn sample(out: &mut String, line: &str) {
    // Quotes inside of a value are escaped, so this is the label and nothing else.
    let label = ["{le=\"", ",le=\""].iter().find_map(|label| Some(line.find(label)? + label.len()));
    let bound = label.and_then(|at| line.split_at_checked(at)).and_then(|(before, rest)| {
        let (bound, after) = rest.split_once('"')?;
        bound.bytes().all(|b| b.is_ascii_digit()).then_some([before, bound, ".0\"", after])
    });
    match bound {
        Some(pieces) => out.extend(pieces),
        None => out.push_str(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_buckets_and_the_end_are_written_the_other_way() {
        let text = "# HELP moat_a_total What \\ it \"counts\".\n# TYPE moat_a_total counter\nmoat_a_total{code=\"x\"} 3\n\
                    # HELP d_seconds Time.\n# TYPE d_seconds histogram\n\
                    d_seconds_bucket{route=\"r\",le=\"0.005\"} 1\nd_seconds_bucket{route=\"r\",le=\"1\"} 2\n\
                    d_seconds_bucket{route=\"r\",le=\"+Inf\"} 2\nd_seconds_sum{route=\"r\"} 0.5\nd_seconds_count{route=\"r\"} 2\n";
        let expected = "# HELP moat_a What \\ it \\\"counts\\\".\n# TYPE moat_a counter\nmoat_a_total{code=\"x\"} 3\n\
                    # HELP d_seconds Time.\n# TYPE d_seconds histogram\n\
                    d_seconds_bucket{route=\"r\",le=\"0.005\"} 1\nd_seconds_bucket{route=\"r\",le=\"1.0\"} 2\n\
                    d_seconds_bucket{route=\"r\",le=\"+Inf\"} 2\nd_seconds_sum{route=\"r\"} 0.5\nd_seconds_count{route=\"r\"} 2\n\
                    # EOF\n";
        assert_eq!(translate(text), expected);
    }

    #[test]
    fn it_is_served_to_those_who_prefer_it() {
        for (accept, open) in [
            ("", false),
            ("*/*", false),
            ("text/plain", false),
            ("application/openmetrics-text", true),
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                true,
            ),
            ("application/OpenMetrics-text; version=1.0.0; q=0.2, text/plain;q=0.3", false),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=x", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("a value"));
            assert_eq!(prefers_openmetrics(&headers), open, "{accept}");
        }
        assert!(!prefers_openmetrics(&HeaderMap::new()));
    }
}
