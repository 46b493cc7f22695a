//! `Permissions-Policy` as a structured field (RFC 8941 dictionary): load-time checks and merging with the application's.
use super::options::PermissionsOptions;
use super::problems::Problems;
use http::HeaderValue;
use std::collections::BTreeSet;

/// The compiled policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permissions {
    /// Ready to be sent where the application says nothing.
    pub(super) value: HeaderValue,
    /// (feature, member as text, whether it denies).
    members: Vec<(String, String, bool)>,
}

impl Permissions {
    /// Checks the options and renders the header.
    pub(super) fn compile(options: &PermissionsOptions, path: &str, problems: &mut Problems) -> Option<Permissions> {
        let before = problems.0.len();
        let mut seen = BTreeSet::new();
        let mut members = Vec::new();
        for (i, feature) in options.deny.iter().enumerate() {
            let at = format!("{path}.deny[{i}]");
            check_feature(feature, &at, problems);
            if !seen.insert(feature.as_str()) {
                problems.plain(&at, format!("feature `{feature}` stands here twice"));
            }
            members.push((feature.clone(), format!("{feature}=()"), true));
        }
        for (feature, allowed) in &options.allow {
            let at = format!("{path}.allow.{feature}");
            check_feature(feature, &at, problems);
            if !seen.insert(feature.as_str()) {
                problems.plain(&at, format!("feature `{feature}` is both denied and allowed"));
            }
            let items: Vec<String> = allowed.iter().filter_map(|who| allow_item(who, &at, problems)).collect();
            members.push((feature.clone(), format!("{feature}=({})", items.join(" ")), items.is_empty()));
        }
        if members.is_empty() {
            problems.hinted(path, "the policy names no feature", "write `deny: [camera, …]`, or leave the header out");
        }
        let value = HeaderValue::try_from(join(members.iter().map(|(_, text, _)| text.as_str()))).ok();
        let value = value.filter(|_| problems.0.len() == before)?;
        Some(Permissions { value, members })
    }

    /// Ours, with what the application says on top: features we do not name keep its word, and a feature that it denies
    /// stays denied. A value that browsers would not understand is dropped, as browsers would.
    pub(super) fn merge<'a>(&self, theirs: impl Iterator<Item = &'a HeaderValue>) -> HeaderValue {
        let lines: Option<Vec<&str>> = theirs.map(|line| line.to_str().ok()).collect();
        let line = lines.unwrap_or_default().join(",");
        let Some(entries) = entries(&line) else { return self.value.clone() };
        let mut kept: Vec<String> = Vec::with_capacity(self.members.len() + entries.len());
        for (feature, text, denies) in &self.members {
            let denied = entries.iter().rev().find(|e| e.feature == feature).is_some_and(Entry::denies);
            kept.push(if denied && !denies { format!("{feature}=()") } else { text.clone() });
        }
        for (i, entry) in entries.iter().enumerate() {
            let repeated = entries.iter().skip(i + 1).any(|later| later.feature == entry.feature);
            if !repeated && !self.members.iter().any(|(feature, _, _)| feature == entry.feature) {
                kept.push(entry.text.to_owned());
            }
        }
        HeaderValue::try_from(join(kept.iter().map(String::as_str))).unwrap_or_else(|_| self.value.clone())
    }
}

/// One dictionary member of the application's header.
struct Entry<'a> {
    feature: &'a str,
    text: &'a str,
    value: &'a str,
}

impl Entry<'_> {
    fn denies(&self) -> bool {
        self.value.strip_prefix('(').and_then(|v| v.strip_suffix(')')).is_some_and(|v| v.trim().is_empty())
    }
}

/// Splits a dictionary at the commas outside parentheses and strings; `None` when it is not one.
fn entries(text: &str) -> Option<Vec<Entry<'_>>> {
    let mut members = Vec::new();
    let (mut depth, mut quoted, mut escaped) = (0_u32, false, false);
    let mut start = 0;
    for (at, byte) in text.bytes().enumerate() {
        match (byte, quoted) {
            _ if escaped => escaped = false,
            (b'\\', true) => escaped = true,
            (b'"', _) => quoted = !quoted,
            (b'(', false) => depth += 1,
            (b')', false) => depth = depth.checked_sub(1)?,
            (b',', false) if depth == 0 => {
                members.push(text.get(start..at)?);
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth != 0 || quoted {
        return None;
    }
    members.push(text.get(start..)?);
    members
        .into_iter()
        .filter(|member| !member.trim().is_empty())
        .map(|member| {
            let text = member.trim_matches([' ', '\t']);
            let (feature, value) = text.split_once('=')?;
            is_key(feature).then_some(Entry { feature, text, value })
        })
        .collect()
}

fn join<'a>(members: impl Iterator<Item = &'a str>) -> String {
    members.collect::<Vec<_>>().join(", ")
}

/// RFC 8941, 3.2: a key begins with a lowercase letter or `*`; feature names use letters, digits and `-` only.
fn is_key(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn check_feature(name: &str, at: &str, problems: &mut Problems) {
    if !is_key(name) {
        problems.hinted(
            at,
            format!("`{name}` is not a feature name"),
            "features are lowercase words with `-`, e.g. `camera`",
        );
    }
}

fn allow_item(who: &str, at: &str, problems: &mut Problems) -> Option<String> {
    let host = who.strip_prefix("https://");
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '*');
    match who {
        "self" => Some("self".to_owned()),
        _ if host.is_some_and(|h| !h.is_empty() && h.chars().all(plain)) => Some(format!("\"{who}\"")),
        _ => {
            problems.hinted(
                at,
                format!("`{who}` is neither `self` nor an origin"),
                "write origins like `https://maps.example`",
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(deny: &[&str], allow: &[(&str, &[&str])]) -> Result<Permissions, String> {
        let options = PermissionsOptions {
            deny: deny.iter().map(|f| f.to_string()).collect(),
            allow: allow.iter().map(|(f, w)| (f.to_string(), w.iter().map(|w| w.to_string()).collect())).collect(),
        };
        let mut problems = Problems::default();
        Permissions::compile(&options, "p", &mut problems).ok_or_else(|| {
            problems.0.into_iter().map(|p| format!("{}: {}", p.path, p.message)).collect::<Vec<_>>().join(" | ")
        })
    }

    #[test]
    fn values_and_problems() {
        let text = |d: &[&str], a: &[(&str, &[&str])]| match policy(d, a) {
            Ok(p) => p.value.to_str().unwrap().to_owned(),
            Err(problems) => problems,
        };
        assert_eq!(text(&["camera", "usb"], &[]), "camera=(), usb=()");
        assert_eq!(
            text(&["usb"], &[("fullscreen", &["self", "https://v.example"])]),
            "usb=(), fullscreen=(self \"https://v.example\")"
        );
        assert_eq!(text(&["Camera"], &[]), "p.deny[0]: `Camera` is not a feature name");
        assert_eq!(text(&["usb", "usb"], &[]), "p.deny[1]: feature `usb` stands here twice");
        assert_eq!(text(&["usb"], &[("usb", &["self"])]), "p.allow.usb: feature `usb` is both denied and allowed");
        assert_eq!(text(&[], &[("usb", &["*"])]), "p.allow.usb: `*` is neither `self` nor an origin");
        assert_eq!(
            text(&[], &[("usb", &["https://a\", x=*"])]),
            "p.allow.usb: `https://a\", x=*` is neither `self` nor an origin"
        );
        assert_eq!(text(&[], &[]), "p: the policy names no feature");
    }

    #[test]
    fn merging_keeps_what_is_stricter() {
        let ours = policy(&["camera"], &[("fullscreen", &["self"])]).unwrap();
        let merged = |lines: &[&'static str]| {
            let lines: Vec<HeaderValue> = lines.iter().map(|l| HeaderValue::from_static(l)).collect();
            ours.merge(lines.iter()).to_str().unwrap().to_owned()
        };
        for (theirs, expected) in [
            (&["camera=*"][..], "camera=(), fullscreen=(self)"),
            (&["camera=(self)", "midi=()"], "camera=(), fullscreen=(self), midi=()"),
            (&["fullscreen=()"], "camera=(), fullscreen=()"),
            (&["fullscreen=( ), fullscreen=*"], "camera=(), fullscreen=(self)"),
            (
                &["midi=(self \"https://a,b\"), usb=()"],
                "camera=(), fullscreen=(self), midi=(self \"https://a,b\"), usb=()",
            ),
            (&["midi=(", "usb=()"], "camera=(), fullscreen=(self)"),
            (&["camera 'none'"], "camera=(), fullscreen=(self)"),
            (&[""], "camera=(), fullscreen=(self)"),
        ] {
            assert_eq!(merged(theirs), expected, "{theirs:?}");
        }
    }
}
