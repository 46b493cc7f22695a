//! Policies, one line per mistake, and their renderings.
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
        ("default-src 'self' 'unsafe-inline'", false, "directives.default-src: `'unsafe-inline'` undoes the policy"),
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
        ("default-src 'nonce'", true, "directives.default-src: `'nonce'` belongs under `script-src` or `style-src`"),
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
        csp.policies.iter().map(|p| format!("{}: {}", p.name, p.render(None, &[]).to_str().unwrap())).collect();
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
            .render(None, &[])
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
        csp.policies[0].render(Some(&nonce), &[]),
        "base-uri 'none'; frame-ancestors 'self'; object-src 'none'; script-src 'nonce-+/v7+/v7+/v7+/v7+/v7+w==' 'strict-dynamic'; style-src 'self' 'nonce-+/v7+/v7+/v7+/v7+/v7+w==' 'unsafe-inline'"
    );
    assert_eq!(
        csp.policies[0].render(None, &[]),
        "base-uri 'none'; frame-ancestors 'self'; object-src 'none'; script-src 'strict-dynamic'; style-src 'self'"
    );
    assert_eq!(csp.framing, Framing::SameOrigin);
    let only = options("script-src 'nonce'; object-src 'none'; base-uri 'none'; frame-ancestors a.example", true);
    let csp = Csp::compile(&only, "csp", &mut Problems::default()).unwrap();
    assert_eq!(
        csp.policies[0].render(None, &[]),
        "base-uri 'none'; frame-ancestors a.example; object-src 'none'; script-src 'none'"
    );
    assert_eq!(csp.framing, Framing::Others);
}

#[test]
fn each_tenants_embedding_origins_stand_in_its_own_answers() {
    let origins: Vec<Box<str>> = vec!["https://a.example".into(), "https://b.example:8443".into()];
    let rendered = |ancestors: &str, origins: &[Box<str>]| {
        let text = format!("script-src 'nonce'; object-src 'none'; base-uri 'none'; frame-ancestors {ancestors}");
        let csp = Csp::compile(&options(&text, true), "csp", &mut Problems::default()).unwrap();
        assert_eq!(csp.framing, Framing::Others);
        let nonced = csp.policies[0].render(Some(&Nonce::new([0; 16])), origins);
        assert!(nonced.to_str().unwrap().contains("'nonce-AAAAAAAAAAAAAAAAAAAAAA=='"));
        let bare = csp.policies[0].render(None, origins).to_str().unwrap().to_owned();
        let ancestors = |text: &str| text.split("; ").find(|d| d.starts_with("frame-ancestors")).unwrap().to_owned();
        assert_eq!(ancestors(&bare), ancestors(nonced.to_str().unwrap()));
        ancestors(&bare)
    };
    assert_eq!(rendered("tenant.embed_origins", &origins), "frame-ancestors https://a.example https://b.example:8443");
    assert_eq!(rendered("tenant.embed_origins", &[]), "frame-ancestors 'none'");
    assert_eq!(rendered("'self' tenant.embed_origins", &origins[..1]), "frame-ancestors 'self' https://a.example");
    assert_eq!(rendered("'self' tenant.embed_origins", &[]), "frame-ancestors 'self'");
    assert_eq!(
        problems(&options(&format!("default-src 'self' tenant.embed_origins; {REST}"), false)),
        "directives.default-src: `tenant.embed_origins` says who may embed a page, nothing else"
    );
}
