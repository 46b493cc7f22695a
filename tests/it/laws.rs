//! The laws that the gateway is built on: for each a test that fails when the law is broken.
use crate::harness::{Bundle, Gateway, Token, moat, standard, with};
use decide::refusal::TABLE;
use std::fs;
use std::path::Path;

const BOOKINGS: &str = "https://acme.localhost/api/bookings";

/// Bundles that must not compile: file, what stands there, what stands there instead, a word of the problem.
const BROKEN: [(&str, &str, &str, &str); 16] = [
    ("gateway.yaml", "    public: \"the pages that anybody may see\"\n", "", "home"),
    ("gateway.yaml", "public: \"the pages that anybody may see\"", "public: \"\"", "reason"),
    ("gateway.yaml", "    require: {permission: bookings.read}\n", "", "bookings-read"),
    ("gateway.yaml", "require: {permission: bookings.read}", "require: {permission: bookings.reed}", "bookings.reed"),
    ("gateway.yaml", "require: {session: any}", "require: {session: some}", "some"),
    ("gateway.yaml", "logs: {format: json, level: info}", "logs: {format: json, level: info, colour: red}", "colour"),
    ("gateway.yaml", "acme: {class: standard}", "acme: {class: standard, class: standard}", "class"),
    ("gateway.yaml", "ip_allow: [203.0.113.0/24]", "ip_allow: [203.0.113.0/33]", "203.0.113.0/33"),
    ("gateway.yaml", "paths: [/api/limited]", "paths: [/api/bookings]", "bookings-read"),
    ("gateway.yaml", "rate_limits: [few-per-user]", "rate_limits: [few-per-usr]", "few-per-usr"),
    ("gateway.yaml", "jwks: {file: jwks.json}", "jwks: {file: gone.json}", "gone.json"),
    ("gateway.yaml", "algorithms: [ES256]", "algorithms: [none]", "none"),
    ("policies/roles.yaml", "bookings: [read, write]", "bookings: [read, write, burn]", "bookings.burn"),
    (
        "policies/roles.yaml",
        "extends: [viewer], grants: [bookings.write]",
        "extends: [vewer], grants: [bookings.write]",
        "vewer",
    ),
    ("policies/headers.yaml", "x-frame-options: DENY", "x-frame-options: SAMEORIGIN", "x-frame-options"),
    ("policies/rate-limits.yaml", "rate: 3/m", "rate: 3/parsec", "3/parsec"),
];

fn change(bundle: &Bundle, (file, old, new, _): (&str, &str, &str, &str)) {
    let text = bundle.read(file);
    assert!(text.contains(old), "`{old}` in {file}");
    bundle.write(file, &text.replacen(old, new, 1));
}

#[test]
fn law_1_all_problems_are_reported_at_once_with_place_and_hint() {
    let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
    // Those that do not hide one another.
    let some = [BROKEN[3], BROKEN[5], BROKEN[9], BROKEN[13], BROKEN[15]];
    for broken in some {
        change(&bundle, broken);
    }
    let checked = moat(bundle.root(), &["check", "--config", "gateway.yaml"]);
    assert_eq!(checked.code, Some(78), "{checked:?}");
    let said = format!("{}{}", checked.stdout, checked.stderr);
    for (file, _, _, word) in some {
        assert!(said.contains(word), "`{word}` in {said}");
        let mut places = said.lines().filter_map(|line| line.trim().strip_prefix("--> ")?.strip_prefix(file));
        let whole = |place: &str| place.split(':').skip(1).filter(|number| number.parse::<u32>().is_ok()).count() == 2;
        assert!(places.any(whole), "line and column in {file}: {said}");
    }
    assert!(said.matches("hint").count() >= 3, "{said}");
}

#[tokio::test]
async fn law_1_any_problem_anywhere_and_the_running_snapshot_stays() {
    let (gateway, _upstream) = standard().await;
    let digest = async |gateway: &Gateway| {
        let metrics = gateway.metrics().await;
        metrics.lines().find(|line| line.starts_with("moat_config_info")).unwrap().to_owned()
    };
    let before = digest(&gateway).await;
    let refused = |g: &Gateway| g.log_lines().iter().filter(|line| line.contains("not reloaded")).count();
    for broken in BROKEN {
        let good = gateway.bundle.read(broken.0);
        let count = refused(&gateway);
        change(&gateway.bundle, broken);
        gateway.signal("HUP");
        gateway.until("the change is refused", async |g: &Gateway| refused(g) > count).await;
        assert_eq!(gateway.get("https://acme.localhost/page").send().await.status, 200, "{broken:?}");
        assert_eq!(gateway.get(BOOKINGS).send().await.verdict(), "401 session.missing", "{broken:?}");
        assert_eq!(digest(&gateway).await, before, "{broken:?}");
        gateway.bundle.write(broken.0, &good);
    }
}

#[test]
fn law_2_what_is_not_written_is_closed_and_what_is_written_wrong_does_not_compile() {
    for broken in BROKEN {
        let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
        change(&bundle, broken);
        let checked = moat(bundle.root(), &["check", "--config", "gateway.yaml"]);
        assert_eq!(checked.code, Some(78), "{broken:?}: {checked:?}");
        let said = format!("{}{}", checked.stdout, checked.stderr);
        assert!(said.contains(broken.3), "`{}` in {said}", broken.3);
    }
}

#[tokio::test]
async fn law_3_a_key_server_that_is_down_refuses_with_503_and_logs_nobody_out() {
    let (gateway, upstream) = with(|bundle| {
        bundle.replace("jwks: {file: jwks.json}", "jwks: {url: \"https://127.0.0.1:1/jwks\"}");
    })
    .await;
    let key = &gateway.bundle.key;
    let cashier = Token::of("acme", &["cashier"]);
    for token in [cashier.signed(key), cashier.clone().expired().signed(key), Token::of("globex", &[]).signed(key)] {
        for h2 in [false, true] {
            let bearer = gateway.get(BOOKINGS).bearer(&token);
            let cookie = gateway.get(BOOKINGS).header("cookie", &format!("__Host-nl={token}"));
            let post = gateway.post(BOOKINGS, "{}").bearer(&token);
            for call in [bearer, cookie, post] {
                let reply = if h2 { call.h2() } else { call }.send().await;
                assert_eq!(reply.verdict(), "503 gateway.unavailable");
                assert_eq!(reply.header("www-authenticate"), None, "{reply:?}");
                assert_eq!(reply.header("set-cookie"), None, "{reply:?}");
                assert!(reply.header("retry-after").is_some(), "{reply:?}");
            }
        }
    }
    assert!(upstream.seen().is_empty(), "somebody was let in");
    // Who brings no credential misses one all the same, and public pages are open.
    assert_eq!(gateway.get(BOOKINGS).send().await.verdict(), "401 session.missing");
    assert_eq!(gateway.get("https://acme.localhost/page").send().await.status, 200);
}

/// The word in answer, entry and metric is held by `codes`.
#[test]
fn law_4_the_reference_lists_the_very_codes_that_are_sent() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/codes.md");
    let page = fs::read_to_string(page).unwrap();
    let documented: Vec<(String, String, String)> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`').to_owned());
            Some((cells.next()?, cells.next()?, cells.next()?))
        })
        .filter(|(code, _, _)| code.contains('.'))
        .collect();
    let table: Vec<(String, String, String)> =
        TABLE.iter().map(|row| (row.id.to_owned(), row.status.to_string(), row.title.to_owned())).collect();
    assert_eq!(documented, table);
}

#[tokio::test]
async fn law_5_a_shadow_guard_is_recorded_and_admits() {
    let (gateway, upstream) = with(|bundle| {
        for guard in ["network", "standing", "session", "tenant", "csrf", "quota.caller", "access", "body"] {
            let path = guard.replace('.', "-");
            bundle.route(&format!(
                "  shadow-{path}:\n    match: {{hosts: [\"*.localhost\"], paths: [/shadow/{path}], methods: [POST]}}\n    upstream: app\n    auth: {{any_of: [{{bearer: workforce}}, {{cookie: {{name: __Host-nl, issuer: workforce}}}}]}}\n    require: {{permission: bookings.write}}\n    body: {{max: 1KiB, content_types: [application/json]}}\n    rate_limits: [few-per-user]\n    headers: api-json\n    shadow: [{guard}]"
            ));
        }
    })
    .await;
    let g = &gateway;
    let url = |host: &str, guard: &str| format!("https://{host}.localhost/shadow/{guard}");
    let of = |tenant: &str, role: &str| g.token(tenant, &[role]);
    let frugal = Token::of("acme", &["cashier"]).claim("sub", "frugal").signed(&g.bundle.key);
    for _ in 0..3 {
        let spent = g.post(&url("acme", "quota-caller"), "{}").bearer(&frugal).send().await;
        assert_eq!(spent.verdict(), "200");
    }
    for (guard, code, call) in [
        ("network", "network.denied", g.post(&url("umbrella", "network"), "{}").bearer(&of("umbrella", "cashier"))),
        ("standing", "tenant.suspended", g.post(&url("initech", "standing"), "{}").bearer(&of("initech", "cashier"))),
        ("tenant", "tenant.mismatch", g.post(&url("globex", "tenant"), "{}").bearer(&of("acme", "cashier"))),
        (
            "csrf",
            "csrf.unproven",
            g.post(&url("acme", "csrf"), "{}").header("cookie", &format!("__Host-nl={}", of("acme", "cashier"))),
        ),
        ("quota.caller", "quota.exceeded", g.post(&url("acme", "quota-caller"), "{}").bearer(&frugal)),
        ("access", "access.denied", g.post(&url("acme", "access"), "{}").bearer(&of("acme", "viewer"))),
        (
            "body",
            "body.unsupported",
            g.call("POST", &url("acme", "body"))
                .header("content-type", "text/plain")
                .body("{}")
                .bearer(&of("acme", "cashier")),
        ),
    ] {
        let before = (upstream.seen().len(), g.refusals(code).await);
        let reply = call.send().await;
        assert_eq!(reply.verdict(), "200", "{guard}");
        assert_eq!(upstream.seen().len(), before.0 + 1, "{guard}");
        let entry = g.outcome(&reply.header("x-request-id").unwrap()).await;
        let mark = serde_json::json!([guard, format!("shadow:{code}")]);
        assert!(entry["trail"].as_array().unwrap().contains(&mark), "{guard}: {entry:#}");
        assert_eq!(entry["verdict"], "permit", "{guard}");
        assert_eq!(g.refusals(code).await, before.1, "{guard}: a shadow is no refusal");
    }
}

/// "What never happens" in ARCHITECTURE.md: how each sentence begins, and the tests that fail when it does happen.
const NEVER: [(&str, &[&str]); 8] = [
    ("A request reaches an application without", &["every_code_is_provoked_by_its_cause_and_told_alike_everywhere"]),
    ("A route without `require`", &["law_2_what_is_not_written_is_closed_and_what_is_written_wrong_does_not_compile"]),
    ("A decision reads a clock", &["the_core_is_pure"]),
    (
        "A secret",
        &[
            "no_token_and_no_query_value_is_in_the_log",
            "a_token_in_the_query_is_no_credential_and_is_written_down_nowhere",
        ],
    ),
    (
        "Two snapshots decide one request",
        &[
            "each_request_is_decided_by_one_snapshot_while_it_is_replaced_under_load",
            "a_request_in_flight_is_dressed_and_recorded_by_the_snapshot_that_decided_it",
        ],
    ),
    (
        "An entry is dropped silently",
        &[
            "when_the_audit_disk_fails_nothing_is_forwarded_unrecorded_and_afterwards_the_log_says_so",
            "a_disk_that_refuses_refuses_requests_and_loses_nothing",
        ],
    ),
    ("A reload leaves something half new", &["law_1_any_problem_anywhere_and_the_running_snapshot_stays"]),
    (
        "The bytes that were matched differ",
        &["the_canonical_path_is_what_the_application_sees", "the_application_reads_the_very_host_that_was_matched"],
    ),
];

#[test]
fn law_6_every_sentence_of_what_never_happens_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let chapter = page.split("## What never happens\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let sentences: Vec<&str> = chapter.lines().filter_map(|line| line.strip_prefix("- ")).collect();
    assert_eq!(sentences.len(), NEVER.len(), "{sentences:#?}");
    let tests = sources(root);
    for (sentence, (begins, names)) in sentences.iter().zip(NEVER) {
        assert!(sentence.starts_with(begins), "`{sentence}` begins otherwise than `{begins}`");
        for name in names {
            assert!(tests.contains(&format!("fn {name}()")), "`{name}` is gone; who holds `{sentence}`?");
        }
    }
}

fn sources(folder: &Path) -> String {
    let mut all = String::new();
    for below in ["src", "decide/src", "tests/it"] {
        let mut folders = vec![folder.join(below)];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    all.push_str(&fs::read_to_string(path).unwrap());
                }
            }
        }
    }
    all
}
