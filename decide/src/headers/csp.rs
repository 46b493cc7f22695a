//! `Content-Security-Policy` (CSP Level 3): load-time checks, and policies rendered but for the nonce.
use super::options::{CspMode, CspOptions};
use super::problems::Problems;
use super::{Nonce, unindexed};
use http::HeaderValue;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, HeaderName};
use lint::Lint;
use std::collections::BTreeMap;

mod lint;
#[cfg(test)]
mod tests;

/// The source that stands for the nonce of the response.
const NONCE: &str = "'nonce'";
/// The source that stands for the origins that the request's tenant is embedded by.
const TENANT: &str = "tenant.embed_origins";
/// Where the nonce goes, in a text that is being put together.
const NONCE_MARK: char = '\0';
/// Where the tenant's origins go; alone in their directive, and beside other sources.
const TENANT_MARKS: [char; 2] = ['\u{1}', '\u{2}'];
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
    /// With nonce sources, where it has any.
    nonced: Option<Template>,
    /// Without: stricter, for answers that were made without one.
    bare: Template,
}

/// A policy's text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Template {
    /// The same in every answer.
    Fixed(HeaderValue),
    /// With places to fill.
    Pieces(Vec<Piece>),
}

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Nonce,
    /// The tenant's origins; whether nothing else is in their directive.
    Origins {
        alone: bool,
    },
}

impl Template {
    fn compile(text: &str) -> Option<Template> {
        let mut pieces = Vec::new();
        for part in text.split_inclusive(|c| c == NONCE_MARK || TENANT_MARKS.contains(&c)) {
            let plain = part.trim_end_matches(|c| c == NONCE_MARK || TENANT_MARKS.contains(&c));
            pieces.push(Piece::Text(plain.into()));
            match part.chars().next_back() {
                Some(NONCE_MARK) => pieces.push(Piece::Nonce),
                Some(mark) if TENANT_MARKS.contains(&mark) => {
                    pieces.push(Piece::Origins { alone: Some(&mark) == TENANT_MARKS.first() });
                }
                Some(_) | None => {}
            }
        }
        match pieces.as_slice() {
            [] | [Piece::Text(_)] => HeaderValue::from_str(text).ok().map(Template::Fixed),
            [_, ..] => Some(Template::Pieces(pieces)),
        }
    }

    fn render(&self, nonce: &str, origins: &[Box<str>]) -> Option<HeaderValue> {
        let pieces = match self {
            Template::Fixed(value) => return Some(value.clone()),
            Template::Pieces(pieces) => pieces,
        };
        let mut text = String::with_capacity(512);
        for piece in pieces {
            match piece {
                Piece::Text(part) => text.push_str(part),
                Piece::Nonce => text.push_str(nonce),
                Piece::Origins { alone: true } if origins.is_empty() => text.push_str(" 'none'"),
                Piece::Origins { .. } => origins.iter().for_each(|origin| {
                    text.push(' ');
                    text.push_str(origin);
                }),
            }
        }
        HeaderValue::try_from(text).ok()
    }
}

/// What is sent should a text not become a header's value, which the checks at load rule out.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

impl Policy {
    /// The header's value; without a nonce, what needs one is blocked.
    pub(super) fn render(&self, nonce: Option<&Nonce>, origins: &[Box<str>]) -> HeaderValue {
        let rendered = match (nonce, &self.nonced) {
            (Some(nonce), Some(nonced)) => nonced.render(nonce.as_str(), origins).map(unindexed),
            (_, _) => self.bare.render("", origins),
        };
        rendered.unwrap_or(NOTHING)
    }

    /// Whether the policy has a place for a nonce.
    pub(super) fn needs_nonce(&self) -> bool {
        self.nonced.is_some()
    }

    fn compile(name: HeaderName, directives: &BTreeMap<String, Vec<String>>, reports: &str) -> Option<Policy> {
        let sources = |sources: &[&str]| {
            let [alone, beside] = TENANT_MARKS;
            let mark = if sources.len() == 1 { alone } else { beside };
            let each = sources.iter().map(|s| if *s == TENANT { mark.to_string() } else { format!(" {s}") });
            each.collect::<String>()
        };
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
        let nonced = text.contains(NONCE_MARK).then(|| Template::compile(&text));
        let bare = Template::compile(&format!("{}{reports}", bare.join("; ")))?;
        let nonced = match nonced {
            Some(nonced) => Some(nonced?),
            None => None,
        };
        Some(Policy { name, nonced, bare })
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
