//! `Content-Security-Policy` (CSP Level 3): load-time checks, and policies rendered but for the nonce.
use super::Nonce;
use super::options::{CspMode, CspOptions};
use super::problems::Problems;
use http::HeaderValue;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, HeaderName};
use std::collections::BTreeMap;

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
struct Lint<'a> {
    path: String,
    nonce: bool,
    problems: &'a mut Problems,
}

impl Lint<'_> {
    /// What no browser would understand, or would understand otherwise than it reads.
    fn grammar(&mut self, directives: &BTreeMap<String, Vec<String>>) {
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
    fn strength(&mut self, directives: &BTreeMap<String, Vec<String>>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str, nonce: bool) -> CspOptions {
        let directives = text.split(';').filter(|d| !d.trim().is_empty()).map(|directive| {
            let mut words = directive.split_whitespace().map(str::to_owned);
            (words.next().unwrap(), words.collect())
        });
        CspOptions {
            mode: CspMode::Enforce,
            nonce,
            directives: directives.collect(),
            report_directives: BTreeMap::new(),
            report_to: None,
            unsafe_because: None,
        }
    }

    fn problems(options: &CspOptions) -> String {
        let mut problems = Problems::default();
        let compiled = Csp::compile(options, "csp", &mut problems);
        assert_eq!(compiled.is_none(), !problems.0.is_empty());
        let lines = problems.0.iter().map(|p| format!("{}: {}", p.path.trim_start_matches("csp."), p.message));
        lines.collect::<Vec<_>>().join(" | ")
    }

    const REST: &str = "object-src 'none'; base-uri 'none'; frame-ancestors 'none'";

    #[test]
    fn each_mistake_is_named() {
        let h = "'sha256-n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg='";
        for (directives, nonce, expected) in [
            ("default-src 'self'", false, ""),
            ("default-src 'self'; img-src * data:; connect-src https://*.example.com:8443/api wss:", false, ""),
            ("script-src 'nonce' 'strict-dynamic' https: 'unsafe-inline'", true, ""),
            (&format!("script-src {h} 'strict-dynamic'"), false, ""),
            (
                "default-src 'self'; upgrade-insecure-requests; sandbox allow-forms; require-trusted-types-for 'script'; trusted-types app",
                false,
                "",
            ),
            ("default-src 'self'; scriptsrc 'self'", false, "directives.scriptsrc: unknown directive `scriptsrc`"),
            ("default-src 'self'; report-uri /x", false, "directives.report-uri: unknown directive `report-uri`"),
            (
                "default-src 'self' 'unsafe-inline'",
                false,
                "directives.default-src: `'unsafe-inline'` undoes the policy",
            ),
            (
                "default-src 'self'; style-src 'unsafe-inline'",
                false,
                "directives.style-src: `'unsafe-inline'` undoes the policy",
            ),
            (
                "default-src 'self'; script-src 'self' 'unsafe-eval'",
                false,
                "directives.script-src: `'unsafe-eval'` undoes the policy",
            ),
            ("default-src *", false, "directives.default-src: `*` undoes the policy"),
            ("default-src 'self'; script-src https:", false, "directives.script-src: `https:` undoes the policy"),
            ("default-src 'self'; script-src data:", false, "directives.script-src: `data:` undoes the policy"),
            (
                "script-src 'strict-dynamic'",
                false,
                "directives.script-src: `'strict-dynamic'` without nonce or hash blocks every script",
            ),
            ("img-src 'self'", false, "directives: neither `script-src` nor `default-src`: every script may run"),
            ("default-src self", false, "directives.default-src: `self` would be read as a host"),
            ("default-src 'none' 'self'", false, "directives.default-src: `'none'` stands beside other sources"),
            (
                "default-src 'selfish'",
                false,
                "directives.default-src: `'selfish'` is not a source that `default-src` takes",
            ),
            (
                "default-src 'sha256-short'",
                false,
                "directives.default-src: `'sha256-short'` is not a source that `default-src` takes",
            ),
            (
                "default-src http://a\"b",
                false,
                "directives.default-src: `http://a\"b` is not a source that `default-src` takes",
            ),
            ("default-src 'self' a,b", false, "directives.default-src: `a,b` is not a source"),
            (
                "default-src 'self'; form-action 'unsafe-inline'",
                false,
                "directives.form-action: `'unsafe-inline'` is not a source that `form-action` takes | directives.form-action: `'unsafe-inline'` undoes the policy",
            ),
            (
                "default-src 'self'; sandbox allow-everything",
                false,
                "directives.sandbox: `allow-everything` is not a source that `sandbox` takes",
            ),
            (
                "default-src 'self'; script-src 'nonce'",
                false,
                "directives.script-src: `'nonce'` stands here without `nonce: true`",
            ),
            (
                "default-src 'nonce'",
                true,
                "directives.default-src: `'nonce'` belongs under `script-src` or `style-src`",
            ),
            ("script-src 'nonce-abc'", false, "directives.script-src: a fixed nonce"),
            ("default-src 'self'", true, "nonce: no directive uses the nonce"),
            ("default-src 'self'; img-src", false, "directives.img-src: the list is empty"),
            (
                "default-src 'self'; upgrade-insecure-requests 1",
                false,
                "directives.upgrade-insecure-requests: `1` is not a source that `upgrade-insecure-requests` takes",
            ),
        ] {
            assert_eq!(problems(&options(&format!("{directives}; {REST}"), nonce)), expected, "{directives}");
        }
        assert_eq!(problems(&options("default-src 'none'; frame-ancestors 'none'", false)), "");
        assert_eq!(
            problems(&options("default-src 'self'", false)),
            "directives: `object-src` is missing | directives: `base-uri` is missing | directives: `frame-ancestors` is missing"
        );
        assert_eq!(
            problems(&options("object-src *; default-src 'self'; base-uri 'self'; frame-ancestors 'self'", false)),
            "directives.object-src: `*` undoes the policy"
        );
    }

    #[test]
    fn a_written_reason_excuses_weakness_but_not_nonsense() {
        let excused = |text: &str, reason: &str| {
            problems(&CspOptions { unsafe_because: Some(reason.into()), ..options(text, false) })
        };
        assert_eq!(excused("default-src * 'unsafe-inline'", "the old editor"), "");
        assert_eq!(
            excused("default-src * selfie;", " "),
            "unsafe_because: the reason is empty | directives.default-src: `*` undoes the policy | directives: `object-src` is missing | directives: `base-uri` is missing | directives: `frame-ancestors` is missing"
        );
        assert_eq!(excused("default-source *", "x"), "directives.default-source: unknown directive `default-source`");
    }

    #[test]
    fn modes_and_reports() {
        let both = CspOptions { mode: CspMode::Both, ..options(&format!("default-src 'self'; {REST}"), false) };
        assert_eq!(problems(&both), "mode: `both` needs a second policy");
        let second =
            CspOptions { report_directives: options(&format!("default-src 'none'; {REST}"), false).directives, ..both };
        let csp = Csp::compile(&second, "csp", &mut Problems::default()).unwrap();
        let lines: Vec<String> =
            csp.policies.iter().map(|p| format!("{}: {}", p.name, p.render(None).to_str().unwrap())).collect();
        assert_eq!(
            lines,
            [
                "content-security-policy: base-uri 'none'; default-src 'self'; frame-ancestors 'none'; object-src 'none'",
                "content-security-policy-report-only: base-uri 'none'; default-src 'none'; frame-ancestors 'none'; object-src 'none'",
            ]
        );
        assert_eq!(
            problems(&CspOptions { mode: CspMode::Enforce, ..second }),
            "report_directives: a second policy is read with `mode: both` only"
        );
        let to = |target: &str| CspOptions {
            report_to: Some(target.into()),
            ..options(&format!("default-src 'self'; {REST}"), false)
        };
        for bad in ["gateway", "http://a", "https://", "//a", "https://a;b", "https://a b", ""] {
            assert_eq!(problems(&to(bad)), format!("report_to: `{bad}` is not a place that reports can go to"));
        }
        let csp = Csp::compile(&to("https://r.example/csp"), "csp", &mut Problems::default()).unwrap();
        assert_eq!(csp.endpoints.unwrap(), "moat-csp=\"https://r.example/csp\"");
        assert!(
            csp.policies[0]
                .render(None)
                .to_str()
                .unwrap()
                .ends_with("; report-to moat-csp; report-uri https://r.example/csp")
        );
    }

    #[test]
    fn the_nonce_stands_where_it_was_asked_for_and_its_absence_blocks() {
        let text = "script-src 'nonce' 'strict-dynamic'; style-src 'self' 'nonce' 'unsafe-inline'; object-src 'none'; base-uri 'none'; frame-ancestors 'self'";
        let csp = Csp::compile(&options(text, true), "csp", &mut Problems::default()).unwrap();
        let nonce = Nonce::new([0xfb; 16]);
        assert_eq!(
            csp.policies[0].render(Some(&nonce)),
            "base-uri 'none'; frame-ancestors 'self'; object-src 'none'; script-src 'nonce-+/v7+/v7+/v7+/v7+/v7+w==' 'strict-dynamic'; style-src 'self' 'nonce-+/v7+/v7+/v7+/v7+/v7+w==' 'unsafe-inline'"
        );
        assert_eq!(
            csp.policies[0].render(None),
            "base-uri 'none'; frame-ancestors 'self'; object-src 'none'; script-src 'strict-dynamic'; style-src 'self'"
        );
        assert_eq!(csp.framing, Framing::SameOrigin);
        let only = options("script-src 'nonce'; object-src 'none'; base-uri 'none'; frame-ancestors a.example", true);
        let csp = Csp::compile(&only, "csp", &mut Problems::default()).unwrap();
        assert_eq!(
            csp.policies[0].render(None),
            "base-uri 'none'; frame-ancestors a.example; object-src 'none'; script-src 'none'"
        );
        assert_eq!(csp.framing, Framing::Others);
    }
}
