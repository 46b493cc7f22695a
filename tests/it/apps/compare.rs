//! Two records of the same visit, step by step: what may differ is what the gateway was told to change, and no more.
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// What the gateway was told to change.
pub struct Dressing {
    /// Headers that every answer wears, in lowercase, with their values. `*`: any value.
    pub wears: &'static [(&'static str, &'static str)],
    /// Headers of the application that nobody outside sees.
    pub hides: &'static [&'static str],
    /// Attributes that every cookie has.
    pub cookies: &'static [&'static str],
    /// Cookies that scripts may read, and so lack `HttpOnly`.
    pub readable: &'static [&'static str],
    /// Steps that may differ, because of a gap that ARCHITECTURE.md names.
    pub gaps: &'static [&'static str],
}

/// Fields of one connection, or of one moment: each server on the way writes its own (RFC 9110, 7.6.1 and 6.6.1).
const OF_THE_HOP: [&str; 4] = ["connection", "keep-alive", "transfer-encoding", "date"];

/// Everything that differs and should not; one line each.
pub fn differences(direct: &Value, through: &Value, dressing: &Dressing) -> Vec<String> {
    let steps = |record: &Value| record["steps"].as_array().cloned().expect("a record has steps");
    let (direct, through) = (steps(direct), steps(through));
    let mut found = Vec::new();
    if direct.len() != through.len() {
        found.push(format!("{} steps directly, {} through", direct.len(), through.len()));
    }
    for (direct, through) in direct.iter().zip(&through) {
        let name = direct["name"].as_str().unwrap_or_default();
        if dressing.gaps.contains(&name) {
            continue;
        }
        let mut differ = |what: &str, direct: &Value, through: &Value| {
            if direct != through {
                found.push(format!("{name}: {what}\n    directly {direct}\n    through  {through}"));
            }
        };
        differ("name", &direct["name"], &through["name"]);
        differ("value", &direct["value"], &through["value"]);
        differ("status", &direct["status"], &through["status"]);
        differ("length", &direct["length"], &through["length"]);
        differ("body", &direct["sha256"], &through["sha256"]);
        differ("cookies", &hardened(&direct["cookies"], dressing), &through["cookies"]);
        if through["headers"].is_array() {
            let (expected, got) = (expected(&direct["headers"], dressing), fields(&through["headers"]));
            let missing: Vec<_> = expected.iter().filter(|line| !got.iter().any(|g| is(line, g))).collect();
            let extra: Vec<_> = got.iter().filter(|line| !expected.iter().any(|e| is(e, line))).collect();
            if !missing.is_empty() || !extra.is_empty() {
                found.push(format!("{name}: headers\n    missing {missing:?}\n    extra   {extra:?}"));
            }
        }
    }
    found
}

/// A header, by lowercase name; the attributes of a cookie sorted.
type Line = (String, String);

fn is(expected: &Line, got: &Line) -> bool {
    expected.0 == got.0 && (expected.1 == got.1 || expected.1 == "*")
}

fn fields(headers: &Value) -> BTreeSet<Line> {
    let lines = headers.as_array().into_iter().flatten().map(|line| {
        let text = |i: usize| line[i].as_str().unwrap_or_default().to_owned();
        match text(0).as_str() {
            "set-cookie" => (text(0), cookie(&text(1), &[])),
            _ => (text(0), text(1)),
        }
    });
    lines.filter(|(name, _)| !OF_THE_HOP.contains(&name.as_str())).collect()
}

fn expected(direct: &Value, dressing: &Dressing) -> BTreeSet<Line> {
    let wears = dressing.wears.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let own = fields(direct).into_iter().filter(|(name, _)| {
        // Browsers obey every content security policy that a page has: the application's stays beside ours.
        let worn = |(worn, _): &(&str, &str)| worn == name && name != "content-security-policy";
        !dressing.hides.contains(&name.as_str()) && !dressing.wears.iter().any(worn)
    });
    let harden = |(name, value): Line| match name.as_str() {
        "set-cookie" => {
            let bare = value.split('=').next().unwrap_or_default();
            let kept = |a: &&&str| !(a.eq_ignore_ascii_case("httponly") && dressing.readable.contains(&bare));
            let more: Vec<&str> = dressing.cookies.iter().filter(kept).copied().collect();
            let value = cookie(&value, &more);
            (name, value)
        }
        _ => (name, value),
    };
    own.map(harden).chain(wears).collect()
}

/// A `Set-Cookie` with these attributes too, in one spelling and order; `SameSite` is added where there is none.
fn cookie(line: &str, more: &[&str]) -> String {
    let mut parts = line.split(';').map(str::trim);
    let pair = parts.next().unwrap_or_default();
    let mut attributes: BTreeSet<String> = parts.map(str::to_ascii_lowercase).collect();
    for attribute in more.iter().map(|a| a.to_ascii_lowercase()) {
        let key = attribute.split('=').next().unwrap_or_default();
        if !attributes.iter().any(|a| a.split('=').next() == Some(key)) {
            attributes.insert(attribute);
        }
    }
    attributes.into_iter().fold(pair.to_owned(), |line, attribute| format!("{line}; {attribute}"))
}

/// The cookies of a browser as they should be through the gateway.
fn hardened(cookies: &Value, dressing: &Dressing) -> Value {
    let Some(jar) = cookies.as_object() else { return cookies.clone() };
    let has = |attribute: &str| dressing.cookies.iter().any(|a| a.eq_ignore_ascii_case(attribute));
    let harden = |(name, flags): (&String, &Value)| {
        let mut flags: Map<String, Value> = flags.as_object().cloned().unwrap_or_default();
        if has("secure") {
            flags.insert("secure".to_owned(), true.into());
        }
        if has("httponly") && !dressing.readable.contains(&name.as_str()) {
            flags.insert("httpOnly".to_owned(), true.into());
        }
        (name.clone(), Value::Object(flags))
    };
    Value::Object(jar.iter().map(harden).collect())
}

#[test]
fn whatever_differs_is_found() {
    use serde_json::json;
    let dressing = Dressing {
        wears: &[("x-a", "1")],
        hides: &["server"],
        cookies: &["Secure", "HttpOnly"],
        readable: &["open"],
        gaps: &["known"],
    };
    let record = |changed: Value| {
        let mut step = json!({"name": "a", "status": 200, "length": 3, "sha256": "x", "value": ["shown"],
            "headers": [["x-a", "1"], ["vary", "cookie"], ["set-cookie", "s=1; path=/; Secure; HttpOnly"], ["set-cookie", "open=1; secure"]],
            "cookies": {"s": {"secure": true, "httpOnly": true}, "open": {"secure": true, "httpOnly": false}}});
        step.as_object_mut().unwrap().extend(changed.as_object().cloned().unwrap());
        json!({"steps": [step]})
    };
    let direct = record(json!({
        "headers": [["server", "it"], ["date", "then"], ["vary", "cookie"], ["set-cookie", "s=1; Path=/"], ["set-cookie", "open=1"]],
        "cookies": {"s": {"secure": false, "httpOnly": false}, "open": {"secure": false, "httpOnly": false}}}));
    assert_eq!(differences(&direct, &record(json!({})), &dressing), Vec::<String>::new());
    for changed in [
        json!({"name": "b"}),
        json!({"status": 404}),
        json!({"length": 4}),
        json!({"sha256": "y"}),
        json!({"value": ["other"]}),
        json!({"cookies": {}}),
        json!({"cookies": {"s": {"secure": true, "httpOnly": false}, "open": {"secure": true, "httpOnly": false}}}),
        json!({"headers": [["x-a", "1"], ["vary", "cookie"], ["set-cookie", "s=1; path=/"], ["set-cookie", "open=1; secure"]]}),
        json!({"headers": [["x-a", "1"], ["set-cookie", "s=1; path=/; Secure; HttpOnly"], ["set-cookie", "open=1; secure"]]}),
        json!({"headers": [["x-a", "2"], ["vary", "cookie"], ["set-cookie", "s=1; path=/; Secure; HttpOnly"], ["set-cookie", "open=1; secure"]]}),
        json!({"headers": [["x-a", "1"], ["vary", "cookie"], ["server", "it"], ["set-cookie", "s=1; path=/; Secure; HttpOnly"], ["set-cookie", "open=1; secure"]]}),
    ] {
        assert_ne!(differences(&direct, &record(changed.clone()), &dressing), Vec::<String>::new(), "{changed}");
    }
    let more = json!({"steps": [direct["steps"][0], direct["steps"][0]]});
    assert_eq!(differences(&more, &record(json!({})), &dressing), ["2 steps directly, 1 through"]);
}
