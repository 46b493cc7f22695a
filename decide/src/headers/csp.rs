//! `Content-Security-Policy` (CSP Level 3): load-time checks, and policies rendered but for the nonce.
use super::Nonce;
use super::options::{CspMode, CspOptions};
use super::problems::Problems;
use http::HeaderValue;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, HeaderName};
use lint::Lint;
use std::collections::BTreeMap;

mod lint;
#[cfg(test)]
mod tests;

/// The source that stands for the nonce of the response.
const NONCE: &str = "'nonce'";
/// Name of the reporting endpoint (Reporting API).
const ENDPOINT: &str = "moat-csp";

/// The compiled option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Csp {
    /// One policy, or an enforced and a reported one.
    pub(super) policies: Vec<Policy>,
    /// `Reporting-Endpoints`, where reports are wanted.
    pub(super) endpoints: Option<HeaderValue>,
    /// What the enforced policy says about frames.
    pub(super) framing: Framing,
}

/// `frame-ancestors` of the enforced policy, in the words of `X-Frame-Options`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Nothing is enforced.
    Unsaid,
    /// `'none'`
    Deny,
    /// `'self'`
    SameOrigin,
    /// Hosts, which `X-Frame-Options` has no word for.
    Others,
}

/// One policy, ready but for the nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// Enforced or report-only.
    pub(super) name: HeaderName,
    /// The text around the places of the nonce; a single part where there is none.
    parts: Vec<Box<str>>,
    /// The policy without nonce sources: stricter, for answers that were made without one.
    bare: HeaderValue,
}

impl Policy {
    /// The header's value; without a nonce, what needs one is blocked.
    pub(super) fn render(&self, nonce: Option<&Nonce>) -> HeaderValue {
        let (Some(nonce), [first, rest @ ..]) = (nonce, self.parts.as_slice()) else { return self.bare.clone() };
        if rest.is_empty() {
            return self.bare.clone();
        }
        let nonce = nonce.as_str();
        let length = self.parts.iter().map(|part| part.len() + nonce.len()).sum();
        let mut text = String::with_capacity(length);
        text.push_str(first);
        for part in rest {
            text.push_str(nonce);
            text.push_str(part);
        }
        HeaderValue::try_from(text).unwrap_or_else(|_| self.bare.clone())
    }

    /// Whether the policy has a place for a nonce.
    pub(super) fn needs_nonce(&self) -> bool {
        self.parts.len() > 1
    }

    fn compile(name: HeaderName, directives: &BTreeMap<String, Vec<String>>, reports: &str) -> Option<Policy> {
        let sources = |sources: &[&str]| sources.iter().map(|source| format!(" {source}")).collect::<String>();
        let mut text = Vec::new();
        let mut bare = Vec::new();
        for (directive, list) in directives {
            let marked: Vec<&str> = list.iter().map(|s| if s == NONCE { "'nonce-\0'" } else { s }).collect();
            // Without its nonce, `'unsafe-inline'` beside it would come to life.
            let nonced = list.iter().any(|s| s == NONCE);
            let kept = |s: &&str| !(nonced && matches!(*s, NONCE | "'unsafe-inline'"));
            let mut plain: Vec<&str> = list.iter().map(String::as_str).filter(kept).collect();
            if plain.is_empty() && !list.is_empty() {
                plain.push("'none'");
            }
            text.push(format!("{directive}{}", sources(&marked)));
            bare.push(format!("{directive}{}", sources(&plain)));
        }
        let text = format!("{}{reports}", text.join("; "));
        let bare = HeaderValue::try_from(format!("{}{reports}", bare.join("; "))).ok()?;
        Some(Policy { name, parts: text.split('\0').map(Box::from).collect(), bare })
    }
}

impl Csp {
    /// Checks the options and renders the policies.
    pub(super) fn compile(options: &CspOptions, path: &str, problems: &mut Problems) -> Option<Csp> {
        let before = problems.0.len();
        let excused = match &options.unsafe_because {
            None => false,
            Some(reason) if reason.trim().is_empty() => {
                problems.plain(&format!("{path}.unsafe_because"), "the reason is empty");
                false
            }
            Some(_) => true,
        };
        let check = |directives: &BTreeMap<String, Vec<String>>, key: &str, problems: &mut Problems| {
            let mut lint = Lint { path: format!("{path}.{key}"), nonce: options.nonce, problems };
            lint.grammar(directives);
            if !excused {
                lint.strength(directives);
            }
        };
        check(&options.directives, "directives", problems);
        match (options.mode, options.report_directives.is_empty()) {
            (CspMode::Both, false) => check(&options.report_directives, "report_directives", problems),
            (CspMode::Both, true) => problems.hinted(
                &format!("{path}.mode"),
                "`both` needs a second policy",
                "write the stricter one under `report_directives`",
            ),
            (CspMode::Enforce | CspMode::ReportOnly, false) => problems.hinted(
                &format!("{path}.report_directives"),
                "a second policy is read with `mode: both` only",
                "write `mode: both`, or drop `report_directives`",
            ),
            (CspMode::Enforce | CspMode::ReportOnly, true) => {}
        }
        let places = options.directives.values().chain(options.report_directives.values()).flatten();
        if options.nonce && !places.into_iter().any(|source| source == NONCE) {
            problems.hinted(
                &format!("{path}.nonce"),
                "no directive uses the nonce",
                "write `'nonce'` under `script-src`, or `nonce: false`",
            );
        }
        let (reports, endpoints) = reporting(options.report_to.as_deref(), path, problems);
        let (first, second) = match options.mode {
            CspMode::Enforce => (CONTENT_SECURITY_POLICY, None),
            CspMode::ReportOnly => (CONTENT_SECURITY_POLICY_REPORT_ONLY, None),
            CspMode::Both => (CONTENT_SECURITY_POLICY, Some(CONTENT_SECURITY_POLICY_REPORT_ONLY)),
        };
        let mut policies = vec![Policy::compile(first, &options.directives, &reports)];
        policies.extend(second.map(|name| Policy::compile(name, &options.report_directives, &reports)));
        let framing = match options.mode {
            CspMode::Enforce | CspMode::Both => framing(&options.directives),
            CspMode::ReportOnly => Framing::Unsaid,
        };
        let policies: Option<Vec<Policy>> = policies.into_iter().collect();
        policies.filter(|_| problems.0.len() == before).map(|policies| Csp { policies, endpoints, framing })
    }
}

fn framing(directives: &BTreeMap<String, Vec<String>>) -> Framing {
    match directives.get("frame-ancestors").map(|sources| sources.iter().map(String::as_str).collect::<Vec<_>>()) {
        None => Framing::Unsaid,
        Some(sources) => match sources.as_slice() {
            [] | ["'none'"] => Framing::Deny,
            ["'self'"] => Framing::SameOrigin,
            [_, ..] => Framing::Others,
        },
    }
}

/// The directives that send reports, and the header that says where to.
fn reporting(target: Option<&str>, path: &str, problems: &mut Problems) -> (String, Option<HeaderValue>) {
    let Some(url) = target else { return (String::new(), None) };
    let plain = url.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\;,".contains(&b));
    let local = url.starts_with('/') && !url.starts_with("//");
    if !plain || !(local || url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty())) {
        problems.hinted(
            &format!("{path}.report_to"),
            format!("`{url}` is not a place that reports can go to"),
            "write an `https://` URL of your collector, or a path of the application; the gateway collects none itself",
        );
        return (String::new(), None);
    }
    let endpoints = HeaderValue::try_from(format!("{ENDPOINT}=\"{url}\"")).ok();
    (format!("; report-to {ENDPOINT}; report-uri {url}"), endpoints)
}
