//! Mistakes in a content security policy: what browsers would not understand, and what attackers would.
use super::{NONCE, TENANT};
use crate::headers::problems::Problems;
use std::collections::BTreeMap;

/// What the sources of a directive may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Hosts, schemes, keywords, nonces and hashes.
    Fetch,
    /// Hosts, schemes and `'self'` only.
    Places,
    /// One of fixed words.
    Words(&'static [&'static str]),
    /// Names of Trusted Types policies.
    Names,
    /// No value.
    Bare,
}

const SANDBOX: &[&str] = &[
    "allow-downloads",
    "allow-forms",
    "allow-modals",
    "allow-orientation-lock",
    "allow-pointer-lock",
    "allow-popups",
    "allow-popups-to-escape-sandbox",
    "allow-presentation",
    "allow-same-origin",
    "allow-scripts",
    "allow-storage-access-by-user-activation",
    "allow-top-navigation",
    "allow-top-navigation-by-user-activation",
    "allow-top-navigation-to-custom-protocols",
];

fn kind(directive: &str) -> Option<Kind> {
    Some(match directive {
        "default-src" | "script-src" | "script-src-elem" | "script-src-attr" | "style-src" | "style-src-elem"
        | "style-src-attr" | "img-src" | "font-src" | "connect-src" | "media-src" | "object-src" | "frame-src"
        | "child-src" | "worker-src" | "manifest-src" => Kind::Fetch,
        "base-uri" | "form-action" | "frame-ancestors" => Kind::Places,
        "sandbox" => Kind::Words(SANDBOX),
        "require-trusted-types-for" => Kind::Words(&["'script'"]),
        "trusted-types" => Kind::Names,
        "upgrade-insecure-requests" => Kind::Bare,
        _ => return None,
    })
}

const KEYWORDS: &[&str] = &[
    "'none'",
    "'self'",
    "'unsafe-inline'",
    "'unsafe-eval'",
    "'wasm-unsafe-eval'",
    "'unsafe-hashes'",
    "'strict-dynamic'",
    "'report-sample'",
    "'inline-speculation-rules'",
    NONCE,
];

/// Looks for mistakes in one list of directives.
pub(super) struct Lint<'a> {
    pub(super) path: String,
    pub(super) nonce: bool,
    pub(super) problems: &'a mut Problems,
}

impl Lint<'_> {
    /// What no browser would understand, or would understand otherwise than it reads.
    pub(super) fn grammar(&mut self, directives: &BTreeMap<String, Vec<String>>) {
        if directives.is_empty() {
            self.problems.hinted(&self.path, "the policy is empty", "start from `default-src: [\"'self'\"]`");
        }
        for (directive, sources) in directives {
            let at = format!("{}.{directive}", self.path);
            let Some(kind) = kind(directive) else {
                let hint = match directive.as_str() {
                    "report-uri" | "report-to" => "write `report_to` beside `directives`",
                    "frame-options" | "x-frame-options" => "the directive is called `frame-ancestors`",
                    _ => "directives are listed in CSP Level 3, e.g. `script-src`, `img-src`",
                };
                self.problems.hinted(&at, format!("unknown directive `{directive}`"), hint);
                continue;
            };
            if sources.len() > 1 && sources.iter().any(|s| s == "'none'") {
                self.problems.hinted(&at, "`'none'` stands beside other sources", "`'none'` counts only when alone");
            }
            if sources.is_empty() && matches!(kind, Kind::Fetch | Kind::Places | Kind::Words(&["'script'"])) {
                self.problems.hinted(&at, "the list is empty", "write `[\"'none'\"]` to allow nothing");
            }
            for source in sources {
                self.source(kind, directive, source, &at);
            }
        }
    }

    fn source(&mut self, kind: Kind, directive: &str, source: &str, at: &str) {
        if source.is_empty() || !source.bytes().all(|b| b.is_ascii_graphic() && b != b';' && b != b',') {
            let hint = "one source per list item, without spaces, `;` or `,`";
            return self.problems.hinted(at, format!("`{source}` is not a source"), hint);
        }
        if source == TENANT {
            if directive != "frame-ancestors" {
                let hint = "write it under `frame-ancestors`";
                self.problems.hinted(at, format!("`{TENANT}` says who may embed a page, nothing else"), hint);
            }
            return;
        }
        let unquoted = KEYWORDS.iter().any(|k| k.trim_matches('\'') == source) || source.starts_with("nonce-");
        let known = match kind {
            Kind::Bare => false,
            Kind::Words(words) => words.contains(&source),
            Kind::Names => {
                matches!(source, "'none'" | "'allow-duplicates'" | "*")
                    || source.bytes().all(|b| b.is_ascii_alphanumeric() || b"-#=_/@.%".contains(&b))
            }
            Kind::Fetch | Kind::Places if unquoted => {
                let hint = format!("write `'{source}'` within its quotes: \"'{source}'\"");
                return self.problems.hinted(at, format!("`{source}` would be read as a host"), hint);
            }
            Kind::Fetch => KEYWORDS.contains(&source) || is_hash(source) || is_place(source),
            Kind::Places => matches!(source, "'none'" | "'self'") || is_place(source),
        };
        if source.starts_with("'nonce-") {
            let hint = "write `'nonce'` and `nonce: true`: a nonce that never changes protects nobody";
            self.problems.hinted(at, "a fixed nonce", hint);
        } else if !known {
            self.problems.plain(at, format!("`{source}` is not a source that `{directive}` takes"));
        } else if source == NONCE {
            if !matches!(directive, "script-src" | "script-src-elem" | "style-src" | "style-src-elem") {
                self.problems.plain(at, "`'nonce'` belongs under `script-src` or `style-src`");
            } else if !self.nonce {
                self.problems.hinted(
                    at,
                    "`'nonce'` stands here without `nonce: true`",
                    "write `nonce: true` beside `mode`",
                );
            }
        }
    }

    /// What browsers understand, and attackers too.
    pub(super) fn strength(&mut self, directives: &BTreeMap<String, Vec<String>>) {
        let list = |name: &str| directives.get(name).map(Vec::as_slice);
        let excuse = "mend it, or say why it must be with `unsafe_because: \"…\"`";
        let none = |sources: Option<&[String]>| matches!(sources, Some([only]) if only == "'none'");
        for (directive, sources) in directives {
            let at = format!("{}.{directive}", self.path);
            let scripts =
                matches!(directive.as_str(), "default-src" | "script-src" | "script-src-elem" | "script-src-attr");
            let guarded = sources.iter().any(|s| s == NONCE || is_hash(s));
            let dynamic = sources.iter().any(|s| s == "'strict-dynamic'");
            for source in sources {
                let open = match source.as_str() {
                    "'unsafe-inline'" => !guarded,
                    "'unsafe-eval'" => scripts,
                    // With 'strict-dynamic', browsers that know it ignore hosts and schemes.
                    "*" | "http:" | "https:" | "data:" | "blob:" | "http://*" | "https://*" => {
                        (scripts && !dynamic || directive == "object-src")
                            && (directive != "default-src" || source == "*")
                    }
                    _ => false,
                };
                if open {
                    self.problems.hinted(&at, format!("`{source}` undoes the policy"), excuse);
                }
            }
            if dynamic && !guarded {
                let hint = "put `'nonce'` beside it, with `nonce: true`";
                self.problems.hinted(&at, "`'strict-dynamic'` without nonce or hash blocks every script", hint);
            }
        }
        let default = list("default-src");
        if none(list("script-src").or(default)) && none(default) {
            return;
        }
        if list("script-src").or(default).is_none() {
            self.problems.hinted(&self.path, "neither `script-src` nor `default-src`: every script may run", excuse);
        }
        if list("object-src").is_none() && !none(default) {
            self.problems.hinted(&self.path, "`object-src` is missing", "write `object-src: [\"'none'\"]`");
        }
        if list("base-uri").is_none() {
            self.problems.hinted(&self.path, "`base-uri` is missing", "write `base-uri: [\"'none'\"]`");
        }
        if list("frame-ancestors").is_none() {
            self.problems.hinted(&self.path, "`frame-ancestors` is missing", "write `frame-ancestors: [\"'none'\"]`");
        }
    }
}

/// `'sha256-…'`, `'sha384-…'`, `'sha512-…'` with a digest of the right length.
fn is_hash(source: &str) -> bool {
    let Some((algorithm, digest)) = source.strip_prefix("'sha").and_then(|s| s.strip_suffix('\'')?.split_once('-'))
    else {
        return false;
    };
    let length = match algorithm {
        "256" => 44,
        "384" => 64,
        "512" => 88,
        _ => return false,
    };
    digest.len() == length && digest.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=-_".contains(&b))
}

/// `https:`, `https://host:port/path`, `*.host`, `*` (CSP 3, 2.3.1); no quotes.
fn is_place(source: &str) -> bool {
    let scheme = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphabetic())
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    };
    if source.strip_suffix(':').is_some_and(scheme) {
        return true;
    }
    let rest = match source.split_once("://") {
        Some((name, _)) if !scheme(name) => return false,
        Some((_, rest)) => rest,
        None => source,
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "*"));
    let labels = host.strip_prefix("*.").unwrap_or(host);
    let plain = |s: &str| {
        s.split('.').all(|l| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'))
    };
    (host == "*" || plain(labels))
        && (port == "*" || !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
        && !path.contains(['\'', '"', '?', '#'])
}
