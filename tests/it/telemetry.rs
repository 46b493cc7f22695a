//! Dashboards and alerts against a real Prometheus that scrapes a real gateway under traffic: every expression parses,
//! every panel shows something, every name exists, every alert is provoked.
use crate::harness::{Bundle, Gateway, PATIENCE, Program, Token, Upstream, free_address, message, tool};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use tokio::io::AsyncWriteExt;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn promtool(args: &[&str], input: &str) -> (bool, String) {
    use std::io::Write;
    let mut child = Command::new(tool("promtool"))
        .args(args)
        .current_dir(project("contrib/prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), said)
}

/// Title and expression of every query of a dashboard.
fn queries(board: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for panel in board["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push((title.to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    for annotation in board["annotations"]["list"].as_array().unwrap() {
        all.push((annotation["name"].as_str().unwrap().to_owned(), annotation["expr"].as_str().unwrap().to_owned()));
    }
    all
}

fn boards() -> Vec<Value> {
    ["moat-overview", "moat-security"]
        .iter()
        .map(|name| serde_json::from_str(&read(&format!("contrib/grafana/{name}.json"))).unwrap())
        .collect()
}

/// Name, expression and the rest of every alert.
fn alerts() -> Vec<(String, String, Value)> {
    let file: Value = serde_yaml::from_str(&read("contrib/prometheus/alerts.yaml")).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let text = |rule: &Value, key: &str| rule[key].as_str().unwrap_or_else(|| panic!("{key} in {rule}")).to_owned();
    rules.map(|rule| (text(rule, "alert"), text(rule, "expr"), rule.clone())).collect()
}

/// As Grafana would send it: windows of ten seconds, all instances, routes and tenants.
fn filled(expression: &str) -> String {
    let mut filled = expression.replace("$__rate_interval", "10s").replace("[1h]", "[1m]");
    for name in ["instance", "route", "upstream", "tenant"] {
        filled = filled.replace(&format!("${name}"), ".*");
    }
    assert!(!filled.contains('$'), "{filled}");
    filled
}

/// Names of metrics in an expression.
fn names(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = |word: &&str| ["moat_", "http_server_", "http_client_", "process_"].iter().any(|p| word.starts_with(p));
    let family = |word: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix)).unwrap_or(word);
        base.to_owned()
    };
    words.filter(ours).map(family).collect()
}

/// Selectors of an expression: a name with its matchers.
fn selectors(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for name in names(expression) {
        for (at, _) in expression.match_indices(&name) {
            let rest = &expression[at..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let close = if rest[end..].starts_with('{') { rest.find('}').unwrap() + 1 } else { end };
            found.insert(rest[..close].to_owned());
        }
    }
    found
}

struct Prometheus {
    _program: Program,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    async fn start(scraped: SocketAddr) -> Prometheus {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
        let rules = project("contrib/prometheus/alerts.yaml");
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}}\nrule_files: ['{}']\n\
             scrape_configs:\n  - {{job_name: moat, static_configs: [{{targets: ['{scraped}']}}]}}\n",
            rules.display()
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(tool("prometheus"));
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let prometheus = Prometheus { _program: Program::start(&mut command, address).await, address, _folder: folder };
        let deadline = Instant::now() + PATIENCE;
        while prometheus.ask("/-/ready").await.0 != 200 {
            assert!(Instant::now() < deadline, "Prometheus does not become ready");
            tokio::task::yield_now().await;
        }
        prometheus
    }

    async fn ask(&self, path: &str) -> (u16, bytes::Bytes) {
        use http_body_util::{BodyExt, Empty};
        let tcp = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(tcp);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(path).header("host", "localhost").body(Empty::<bytes::Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes())
    }

    async fn get(&self, path: &str) -> Value {
        let (_, answer) = self.ask(path).await;
        serde_json::from_slice(&answer).unwrap_or_else(|_| panic!("{path}: {}", String::from_utf8_lossy(&answer)))
    }

    /// The result of a query; fails the test where it does not parse.
    async fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).await;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }

    /// Asks until there is an answer.
    async fn until(&self, expression: &str) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while self.query(expression).await.is_empty() {
            if Instant::now() > deadline {
                return false;
            }
            tokio::task::yield_now().await;
        }
        true
    }
}

/// A gateway with a route in shadow, a collector that is not there, and few connections.
async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::answering(|seen| {
        let status = if seen.target.contains("broken") { 500 } else { 200 };
        let answer = http::Response::builder().status(status).header("set-cookie", "plain=1");
        answer.body(http_body_util::Full::from("fine")).unwrap()
    })
    .await;
    let bundle = Bundle::standard(upstream.address);
    bundle.replace("    limits: {request_headers", "    limits: {connections_per_ip: 32, request_headers");
    bundle.replace("    csrf: strict\n", "    csrf: strict\n    shadow: [csrf]\n");
    bundle.replace("http: {connect_timeout: 1s,", "http: {connect_timeout: 100ms,");
    let (app, dead) = (upstream.address, free_address());
    bundle.replace(
        &format!("upstreams:\n  app:\n    endpoints: [{app}]"),
        &format!("upstreams:\n  gone: {{endpoints: [\"{dead}\"], health: {{path: /up, every: 1s, timeout: 1s}}}}\n  app:\n    max_in_flight: 1000\n    endpoints: [{app}]"),
    );
    bundle.route(
        "  gone:\n    match: {hosts: [\"*.localhost\"], paths: [/gone], methods: [GET]}\n    upstream: gone\n    public: \"nobody is there\"\n    headers: api-json",
    );
    bundle.route(
        "  forms:\n    match: {hosts: [\"*.localhost\"], paths: [/forms], methods: [POST]}\n    upstream: app\n    auth: {cookie: {name: __Host-nl, issuer: workforce}}\n    require: {session: any}\n    csrf: strict\n    headers: api-json",
    );
    bundle.replace(
        "logs: {format: json, level: info}",
        &format!("logs: {{format: json, level: info}}\ntraces: {{otlp: \"http://{dead}\", sample: 100%}}"),
    );
    (Gateway::start(bundle).await, upstream)
}

/// One of everything that a panel shows.
async fn provoke(gateway: &Gateway) {
    let (acme, globex) = (gateway.token("acme", &["viewer"]), gateway.token("globex", &["viewer"]));
    let bookings = "https://acme.localhost/api/bookings";
    gateway.get("https://acme.localhost/").send().await;
    gateway.get("https://acme.localhost/").h2().send().await;
    gateway.get("https://acme.localhost/broken").send().await;
    gateway.get("https://acme.localhost/gone").send().await;
    gateway.get(bookings).bearer(&acme).send().await;
    gateway.get(bookings).send().await;
    gateway.get(bookings).bearer("not-a-token").send().await;
    gateway.get(bookings).bearer(&Token::of("acme", &["viewer"]).expired().signed(&gateway.bundle.key)).send().await;
    gateway.get(bookings).bearer(&globex).send().await;
    gateway.post(bookings, "{}").bearer(&acme).send().await;
    let cookie = format!("__Host-nl={}", gateway.token("acme", &["cashier"]));
    gateway.post(bookings, "{}").header("cookie", &cookie).header("origin", "https://evil.example").send().await;
    let forged = gateway.post("https://acme.localhost/forms", "{}").header("cookie", &cookie);
    forged.header("origin", "https://evil.example").send().await;
    for _ in 0..5 {
        gateway.get("https://acme.localhost/api/limited").bearer(&acme).send().await;
    }
    gateway.get("https://nobody.localhost/").send().await;
    gateway.call("GET", "http://acme.localhost/").send().await;
    // Not a handshake.
    let mut noise = tokio::net::TcpStream::connect(gateway.address("public")).await.unwrap();
    let _ = noise.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
    // More connections than one address may have.
    let mut open = Vec::new();
    for _ in 0..40 {
        open.push(tokio::net::TcpStream::connect(gateway.address("public")).await);
    }
    // What follows must find room again.
    gateway
        .until("connections are rejected", async |gateway| {
            gateway.metrics().await.contains("moat_connections_rejected_total{listener=\"public\"")
        })
        .await;
    drop((open, noise));
    let closed = "moat_connections{listener=\"public\",state=\"open\"} 0\n";
    gateway.until("all are closed", async |gateway| gateway.metrics().await.contains(closed)).await;
}

/// Expressions that show nothing although all is well, with the reason.
const SILENT: [(&str, &str); 13] = [
    ("moat_tls_revocation_list", "clients are asked for no certificates here; tests of those have a list"),
    ("moat_state_operation", "nothing is kept here; tests of state keep something"),
    ("moat_store_", "there is no shared store here; tests of shared limits have one"),
    ("moat_ratelimit_fallback_total", "the same"),
    ("moat_ratelimit_busy_keys", "the same"),
    ("moat_ratelimit_held", "no limit here is a cap; tests of limits have some"),
    ("decision=\"delay\"", "no limit here has requests wait; tests of limits do"),
    ("moat_streams_closed_total", "no stream was open when the configuration changed; tests of live streams see it"),
    ("moat_revocation_orders_total", "nobody ends a session here; tests of revocation do"),
    ("moat_signals_total", "no issuer sends events here; tests of revocation have one"),
    ("moat_introspections_total", "no issuer is asked about tokens here; tests of introspection have one"),
    ("moat_app_session_", "no application keeps sessions here; tests of those have a store"),
    ("moat_upstream_share_refused_total", "no tenant asked for more than its share; tests of fairness see it"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_and_alert_is_answered_by_a_real_prometheus() {
    let (gateway, _upstream) = gateway().await;
    let prometheus = Prometheus::start(gateway.address("admin")).await;
    assert!(prometheus.until("moat_build_info").await);
    // Rates need a value before and one after.
    provoke(&gateway).await;
    assert!(prometheus.until("moat_refusals_total{code=\"upstream.unreachable\"}").await);
    gateway.bundle.write("gateway.yaml", &gateway.bundle.read("gateway.yaml").replace("burst: 3", "burst: 4"));
    gateway.signal("HUP");
    gateway.wait_for_log("the reload", |line| message(line).is_some_and(|text| text.starts_with("reloaded")));
    provoke(&gateway).await;
    assert!(prometheus.until("increase(moat_refusals_total{code=\"upstream.unreachable\"}[10s]) > 0").await);

    let silent = |expression: &str| SILENT.iter().any(|(part, _)| expression.contains(part));
    let mut wrong = Vec::new();
    for board in boards() {
        for (title, expression) in queries(&board) {
            let asked = filled(&expression);
            // The annotation is an event that has passed; it must parse.
            let event = title == "Reloads" && expression.contains("changes(");
            if prometheus.query(&asked).await.is_empty() && !event && !silent(&expression) {
                provoke(&gateway).await;
                if !prometheus.until(&asked).await {
                    wrong.push(format!("{title}: {asked}"));
                }
            }
        }
    }
    for (name, expression, _) in alerts() {
        // It must parse; alerts_test.yaml makes it fire. What it looks at must be there.
        prometheus.query(&expression).await;
        for selector in selectors(&expression) {
            if prometheus.query(&selector).await.is_empty() && !silent(&selector) {
                wrong.push(format!("{name}: {selector}"));
            }
        }
    }
    assert!(wrong.is_empty(), "show nothing:\n{}", wrong.join("\n"));

    // Prometheus has loaded the rules, and evaluates all of them without a fault.
    let rules = prometheus.get("/api/v1/rules").await;
    let groups = rules["data"]["groups"].as_array().unwrap().clone();
    let loaded: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert_eq!(loaded.len(), alerts().len());
    for rule in loaded {
        assert!(rule["lastError"].is_null() && rule["health"] != "err", "{rule}");
    }
    // It asked for OpenMetrics, which it prefers, and could read it.
    let targets = prometheus.get("/api/v1/targets").await;
    assert_eq!(targets["data"]["activeTargets"][0]["lastError"], "", "{targets}");
    assert!(!prometheus.query("moat_added_latency_seconds_bucket{le=\"1.0\"}").await.is_empty());
}

#[test]
fn rules_and_their_provocations_pass_promtool() {
    let (fine, said) = promtool(&["check", "rules", "alerts.yaml"], "");
    assert!(fine, "{said}");
    let (fine, said) = promtool(&["test", "rules", "alerts_test.yaml"], "");
    assert!(fine, "{said}");
    let provoked = read("contrib/prometheus/alerts_test.yaml");
    for (name, _, _) in alerts() {
        assert!(provoked.contains(&format!("alertname=\"{name}\"")), "{name} is never provoked");
    }
}

#[test]
fn every_alert_says_what_to_do_and_has_a_section_in_the_runbook() {
    let runbook = read("docs/runbook.md");
    let headings: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let alerts = alerts();
    for (name, _, rule) in &alerts {
        assert!(["page", "ticket"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        for key in ["summary", "description"] {
            assert!(rule["annotations"][key].as_str().is_some_and(|text| text.len() > 10), "{name}: {key}");
        }
        let anchor = format!("docs/runbook.md#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook_url"], anchor.as_str());
        assert!(headings.contains(name.as_str()), "{name} is not in docs/runbook.md");
        let section = runbook.split(&format!("### {name}\n")).nth(1).unwrap().split("\n### ").next().unwrap();
        assert!(
            ["Means", "First", "Cause", "Cure"].iter().all(|word| section.contains(&format!("**{word}**"))),
            "{name}"
        );
    }
    let known: BTreeSet<&str> = alerts.iter().map(|(name, _, _)| name.as_str()).collect();
    assert_eq!(headings, known, "sections of alerts that are gone");
}

/// First commands that are not ours, nor answered by the gateway.
const OTHERS: [&str; 6] = ["journalctl", "openssl", "timedatectl", "df", "iostat", "getent"];

#[tokio::test]
async fn the_first_command_of_every_section_of_the_runbook_answers() {
    let (gateway, _upstream) = gateway().await;
    provoke(&gateway).await;
    let runbook = read("docs/runbook.md");
    let mut tried = 0;
    for line in runbook.lines().filter_map(|line| line.strip_prefix("**First**: ")) {
        let command =
            line.strip_prefix('`').and_then(|line| line.strip_suffix('`')).unwrap_or_else(|| panic!("{line}"));
        let words: Vec<&str> = command.split(' ').collect();
        match (words[0], words.last().unwrap().trim_matches('\'').strip_prefix("127.0.0.1:9901")) {
            ("curl", Some(target)) => assert_eq!(gateway.admin(target).await.status, 200, "{command}"),
            ("moat", _) => {
                let ran = crate::harness::moat(gateway.bundle.root(), &words[1..]);
                assert!(ran.code == Some(0) && !ran.stdout.is_empty(), "{command}: {ran:?}");
            }
            (other, _) => {
                assert!(OTHERS.contains(&other), "{command}");
                continue;
            }
        }
        tried += 1;
    }
    assert!(tried > 15, "{tried}");
}

#[test]
fn dashboards_and_alerts_name_every_metric_that_exists_and_no_other() {
    let reference = read("docs/metrics.md");
    let documented: BTreeSet<String> = reference
        .lines()
        .filter_map(|line| line.strip_prefix("### `"))
        .map(|heading| heading.split(['{', '`']).next().unwrap().to_owned())
        .collect();
    let mut shown = BTreeSet::new();
    for board in boards() {
        queries(&board).iter().for_each(|(_, expression)| shown.extend(names(expression)));
        let variables = board["templating"]["list"].as_array().unwrap().iter();
        variables.for_each(|variable| shown.extend(names(variable["definition"].as_str().unwrap_or_default())));
    }
    let missing: Vec<_> = documented.difference(&shown).collect();
    assert!(missing.is_empty(), "in no panel: {missing:?}");
    alerts().iter().for_each(|(_, expression, _)| shown.extend(names(expression)));
    let unknown: Vec<_> = shown.difference(&documented).collect();
    assert!(unknown.is_empty(), "not in docs/metrics.md: {unknown:?}");
}

#[test]
fn dashboards_are_what_their_script_writes_and_whole() {
    let script = project("contrib/grafana/dashboards.py");
    let output =
        Command::new("python3").arg(script).arg("--check").env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut uids = BTreeSet::new();
    for board in boards() {
        assert!(uids.insert(board["uid"].as_str().unwrap().to_owned()));
        let mut ids = BTreeSet::new();
        let mut places: Vec<[u64; 4]> = Vec::new();
        for panel in board["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            assert!(x + w <= 24, "{title}");
            let apart = |o: &[u64; 4]| x >= o[0] + o[2] || o[0] >= x + w || y >= o[1] + o[3] || o[1] >= y + h;
            assert!(places.iter().all(apart), "{title} lies over another panel");
            places.push([x, y, w, h]);
            if panel["type"] == "row" {
                continue;
            }
            assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

#[tokio::test]
async fn the_metrics_please_promtool_and_the_parser_of_openmetrics() {
    let (gateway, _upstream) = gateway().await;
    provoke(&gateway).await;
    let (fine, said) = promtool(&["check", "metrics"], &gateway.metrics().await);
    assert!(fine && said.trim().is_empty(), "{said}");

    let open = gateway.admin_accepting("/metrics", "application/openmetrics-text;version=1.0.0").await;
    assert_eq!(
        open.header("content-type").as_deref(),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics");
    std::fs::write(&file, open.text()).unwrap();
    let parse = "import sys\nfrom prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
                 print(sum(len(f.samples) for f in parse(open(sys.argv[1]).read())))";
    let output = Command::new("python3").args(["-c", parse]).arg(&file).env("PYTHONPATH", tool("openmetrics")).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let samples: usize = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!(samples > 100, "{samples}");
}
