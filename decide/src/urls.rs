//! The URL cases of web-platform-tests (`tests/corpus/url`), under `#[cfg(test)]` only: what a browser calls, we read alike.
use crate::request::Request;
use crate::site::{Own, Said, read};
use serde_json::Value;

const CASES: &str = include_str!("../../tests/corpus/url/urltestdata.json");

/// What we accept and a browser does not open. The names say that they are encoded and are not (RFC 3492): who asks DNS for
/// one finds nothing, and nobody reads another name in it, so there is nothing to confuse.
const NOT_OPENED: [&str; 7] = [
    "http://a.b.c.xn--pokxncvks",
    "http://10.0.0.xn--pokxncvks",
    "http://a.b.c.XN--pokxncvks",
    "http://a.b.c.Xn--pokxncvks",
    "http://10.0.0.XN--pokxncvks",
    "http://10.0.0.xN--pokxncvks",
    "https://xn--/",
];

/// Percent-decoding, so that two spellings of one path are one.
fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *byte == b'%') {
            Some(value) => (out.push(value), rest = &after[2..]).1,
            None => (out.push(*byte), rest = after).1,
        }
    }
    out
}

/// Scheme, authority and what follows, of a text as it stands.
fn parts(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    known.then(|| (scheme, &rest[..end], &rest[end..]))
}

fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap_or_default()
}

#[test]
fn what_we_accept_of_a_url_browsers_read_alike() {
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    let (mut accepted, mut refused, mut broken, mut differ) = (0, 0, 0, Vec::new());
    for case in cases.iter().filter(|case| case.is_object()) {
        let input = text(case, "input");
        let base = case["base"].as_str().filter(|base| *base != "about:blank");
        // In absolute-form as it stands; and in origin-form, as the path of a page that links to it.
        let (target, host, scheme) = match (parts(input), base.and_then(parts)) {
            (Some((scheme, host, _)), _) => (input, host, scheme),
            (None, Some((scheme, host, _))) if input.starts_with('/') => (input, host, scheme),
            (None, _) => continue,
        };
        let read = Request::parse("GET", target, host);
        if case["failure"] == true {
            broken += 1;
        }
        let Ok(request) = read else {
            refused += 1;
            continue;
        };
        accepted += 1;
        let known = NOT_OPENED.contains(&input);
        let default = if scheme.eq_ignore_ascii_case("https") { "443" } else { "80" };
        let port = request.port.map(|port| port.to_string()).filter(|port| port != default).unwrap_or_default();
        let search = request.query.as_ref().filter(|query| !query.is_empty()).map(|query| format!("?{query}"));
        let same = case["failure"] != true
            && text(case, "hostname") == &*request.host
            && text(case, "port") == port
            && decoded(text(case, "pathname")) == decoded(&request.path)
            && decoded(text(case, "search")) == decoded(&search.unwrap_or_default());
        if same == known {
            differ.push(format!("{input:?} (base {base:?}): {} {}", request.host, request.target()));
        }
    }
    assert_eq!(differ, Vec::<String>::new());
    // Rules become stricter; but some must be accepted for the test to say something.
    assert!(accepted >= 30 && refused >= 300 && broken == 193, "{accepted} {refused} {broken}");
}

/// An origin as browsers serialise it is our own origin where it is, and nowhere else.
#[test]
fn origins_that_browsers_send_are_told_apart() {
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    let mut origins: Vec<(&str, &str, &str)> = Vec::new();
    for case in cases.iter().filter(|case| case.is_object()) {
        let (origin, host) = (text(case, "origin"), text(case, "hostname"));
        if host.is_empty() {
            continue;
        }
        if let Some((scheme @ ("http" | "https"), _, "")) = parts(origin) {
            origins.push((origin, scheme, host));
        }
    }
    origins.sort();
    origins.dedup();
    assert!(origins.len() > 50, "{}", origins.len());
    for (one, scheme, host) in &origins {
        let port = one.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        // No request can be made to port 0, so no origin of ours has it.
        if port == Some(0) {
            continue;
        }
        let own = Own { scheme, host, port };
        for (other, ..) in &origins {
            let seen = read(&own, &Said { origin: Some(other.as_bytes()), ..Said::default() }).same_origin;
            assert_eq!(seen, Some(one == other), "{one} and {other}");
        }
    }
}
