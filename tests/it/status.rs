//! The status page, its JSON twin and `moat status`: the same facts three times, and every kind of trouble shows.
use crate::harness::{Bundle, Gateway, Upstream, moat, standard, with};
use serde_json::Value;
use std::process::{Command, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

impl Gateway {
    async fn status(&self) -> Value {
        let reply = self.admin("/status.json").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    /// Asks until there is a finding of this kind; returns it and the page of that moment.
    async fn finding(&self, id: &str) -> (Value, String) {
        let found = async |g: &Gateway| {
            let status = g.status().await;
            status["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == id).cloned()
        };
        self.until(id, async |g: &Gateway| found(g).await.is_some()).await;
        (found(self).await.unwrap(), self.admin("/status").await.text())
    }

    /// `moat status` about this gateway: exit code and screen.
    fn screen(&self) -> (Option<i32>, String) {
        let ran = moat(self.bundle.root(), &["status", "--admin", &self.address("admin").to_string()]);
        (ran.code, ran.stdout + &ran.stderr)
    }

    /// Sends bytes to the admin listener and returns all that comes back.
    async fn admin_raw(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.address("admin")).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply
    }
}

/// Text of a page: entities decoded, tags gone.
fn text(html: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => inside = false,
            c if !inside => out.push(c),
            _ => {}
        }
    }
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
        .into_iter()
        .fold(out, |text, (entity, c)| text.replace(entity, c))
}

/// Rows of a section's table, by cells.
fn rows(page: &str, section: &str) -> Vec<Vec<String>> {
    let begin = format!("<section id=\"{section}\">");
    let section = page.split_once(&begin).unwrap_or_else(|| panic!("no {begin} in {page}")).1;
    let section = section.split("</section>").next().unwrap();
    let body = section.split_once("<tbody>").map_or("", |(_, body)| body);
    let cells =
        |row: &str| row.split("<td").skip(1).map(|cell| text(&format!("<td{cell}")).trim().to_owned()).collect();
    body.split("<tr>").skip(1).map(cells).collect()
}

fn list<'v>(status: &'v Value, pointer: &str) -> &'v Vec<Value> {
    status.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("{pointer} in {status:#}"))
}

fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Hosts and paths of strangers that get as far as the page: what the grammar of targets refuses is not told at all.
const HOSTILE: [(&str, &str); 5] = [
    ("<script>document.title='pwned'</script>", "/"),
    ("\"><img/src=x/onerror=document.title='pwned'>", "/a"),
    ("acme.localhost", "/&lt;script&gt;'+'&quot;"),
    ("acme.localhost", "/\u{202e}gnp.exe"),
    ("acme.localhost", "/nothing?token=secret-in-a-query"),
];

#[tokio::test]
async fn a_browser_shows_the_page_under_its_policy_and_hostile_names_are_text() {
    let (gateway, _upstream) = with(|bundle| bundle.replace("paths: [\"/**\"]", "paths: [\"/page\"]")).await;
    for (host, path) in HOSTILE {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        gateway.raw("acme.localhost", request.as_bytes()).await;
    }
    gateway.until("the refusals are told", async |g| list(&g.status().await, "/refusals").len() == HOSTILE.len()).await;
    let (dom, log) = browse(&format!("http://{}/status?refresh=300", gateway.address("admin")));
    assert!(dom.contains("<h2>Nothing is wrong now</h2>"), "{dom}\n{log}");
    for word in ["<script", "<img", "\u{202e}", "secret-in-a-query", "pwned</title>"] {
        assert!(!dom.contains(word), "`{word}` in {dom}");
    }
    let shown = text(&dom);
    for word in [HOSTILE[0].0, HOSTILE[1].0, HOSTILE[2].1, "/\\u{202e}gnp.exe", "acme.localhost/nothing"] {
        assert!(shown.contains(word), "`{word}` in {shown}");
    }
    assert!(!log.contains("Content Security Policy") && !log.contains("Content-Security-Policy"), "{log}");
    assert!(dom.contains("<meta http-equiv=\"refresh\" content=\"300\">"), "{dom}");
}

/// What the browser made of a page, and what it complained about.
fn browse(url: &str) -> (String, String) {
    let profile = tempfile::tempdir().unwrap();
    let run = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--dump-dom"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"])
        .args(["--enable-logging=stderr", "--log-level=0"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&run.stdout), text(&run.stderr))
}

#[tokio::test]
async fn the_page_and_its_twin_and_the_terminal_say_the_same() {
    let (gateway, _upstream) = standard().await;
    let token = gateway.token("acme", &["viewer"]);
    for _ in 0..5 {
        gateway.get("https://acme.localhost/api/bookings").bearer(&token).send().await;
        gateway.get("https://globex.localhost/api/bookings").send().await;
        gateway.get("https://acme.localhost/api/limited").bearer(&token).send().await;
    }
    gateway.until("all are counted", async |g| list(&g.status().await, "/refusals").len() == 7).await;
    let (status, page) = (gateway.status().await, gateway.admin("/").await.text());

    let columns = |section: &str, columns: &[usize]| -> Vec<Vec<String>> {
        rows(&page, section).iter().map(|row| columns.iter().map(|column| row[*column].clone()).collect()).collect()
    };
    let of = |pointer: &str, fields: &[&str]| -> Vec<Vec<String>> {
        let row =
            |item: &Value| fields.iter().map(|field| words(item.pointer(field).unwrap_or(&Value::from(0)))).collect();
        list(&status, pointer).iter().map(row).collect()
    };
    let routes = of("/routes/shown", &["/name", "/classes/2xx", "/classes/4xx", "/classes/5xx"]);
    assert_eq!(columns("routes", &[0, 4, 6, 7]), routes);
    assert!(routes.contains(&["limited", "3", "2", "0"].map(str::to_owned).to_vec()), "{routes:?}");
    assert_eq!(columns("tenants", &[0, 2, 3]), of("/tenants/shown", &["/name", "/allowed", "/refused"]));
    assert_eq!(columns("refusals", &[6]), of("/refusals", &["/id"]));
    assert_eq!(columns("issuers", &[0, 2]), of("/issuers", &["/name", "/keys"]));
    assert_eq!(columns("limits", &[0, 1]), of("/limits", &["/name", "/keys"]));
    let pairs = of("/certificates/shown", &["/state", "/days_left", "/not_after", "/key"]);
    assert_eq!(columns("certificates", &[1, 2, 3, 4]), pairs);
    assert_eq!(pairs[0][3], "ECDSA P-256");
    let endpoint = status.pointer("/upstreams/shown/0/endpoints/0").unwrap();
    assert_eq!(rows(&page, "upstreams")[0][1], words(&endpoint["address"]));
    assert_eq!(rows(&page, "upstreams")[0][4], words(&endpoint["state"]));
    let listeners = of("/listeners", &["/name", "/address", "/kind", "/accepted"]);
    assert_eq!(columns("listeners", &[0, 1, 2, 6]), listeners);
    assert_eq!(listeners[0][1], gateway.address("public").to_string(), "with the port that was chosen");
    assert_eq!(rows(&page, "audit")[0][0], "writing");

    let (code, screen) = gateway.screen();
    assert_eq!((code, status["ok"].as_bool()), (Some(0), Some(true)), "{screen}\n{status:#}");
    for row in of("/refusals", &["/id"]).iter().chain(&routes) {
        assert!(screen.contains(&row[0]), "`{}` in {screen}", row[0]);
    }
    let address = gateway.address("admin").to_string();
    let json = moat(gateway.bundle.root(), &["status", "--json", "--admin", &address]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["gateway"]["snapshot"], status["gateway"]["snapshot"]);
    assert_eq!(json["routes"]["total"], status["routes"]["total"]);
}

#[tokio::test]
async fn the_figures_of_the_last_minute_are_right() {
    let (gateway, _upstream) = standard().await;
    for _ in 0..40 {
        gateway.get("https://acme.localhost/page").send().await;
    }
    gateway
        .until("all are counted", async |g| g.status().await.pointer("/traffic/classes/2xx") == Some(&Value::from(40)))
        .await;
    let status = gateway.status().await;
    let rate = status.pointer("/traffic/rate").unwrap().as_f64().unwrap();
    let window_s = status["window_s"].as_f64().unwrap();
    assert!((rate * window_s - 40.0).abs() < 3.0, "{rate}/s over {window_s} s");
    let home = &list(&status, "/routes/shown")[0];
    let (p50, p99) = (home["p50"]["about_ms"].as_f64().unwrap(), home["p99"]["about_ms"].as_f64().unwrap());
    assert!(p50 > 0.0 && p50 <= p99 && p50 <= home["p50"]["below_ms"].as_f64().unwrap(), "{home}");
}

#[tokio::test]
async fn an_expired_certificate_is_the_first_thing_to_see() {
    let (gateway, _upstream) = with(|bundle| {
        let mut params = rcgen::CertificateParams::new(vec!["old.localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2024, 1, 1), rcgen::date_time_ymd(2025, 1, 1));
        let key = rcgen::KeyPair::generate().unwrap();
        let pair = params.self_signed(&key).unwrap();
        bundle.write("certs/old.crt", &pair.pem());
        bundle.write("certs/old.key", &key.serialize_pem());
    })
    .await;
    let (finding, page) = gateway.finding("certificate.expired").await;
    assert_eq!(finding["severity"], "problem");
    assert!(finding["what"].as_str().unwrap().contains("old.localhost"), "{finding}");
    assert!(text(&page).contains("certificate old has expired"), "{page}");
    assert_eq!(rows(&page, "certificates")[0][1], "expired");
    let (code, screen) = gateway.screen();
    assert!(code == Some(1) && screen.contains("PROBLEM certificate.expired"), "{screen}");
}

#[tokio::test]
async fn a_key_server_that_is_dark_shows_and_so_does_the_reason() {
    let (gateway, _upstream) = with(|bundle| {
        bundle.replace("jwks: {file: jwks.json}", "jwks: {url: \"https://127.0.0.1:1/jwks\"}");
    })
    .await;
    let (finding, page) = gateway.finding("keys.dark").await;
    assert!(finding["what"].as_str().unwrap().contains("issuer `workforce`"), "{finding}");
    assert_eq!(rows(&page, "issuers")[0][1], "dark");
    assert!(rows(&page, "issuers")[0][4].len() > 5, "the reason: {:?}", rows(&page, "issuers"));
}

#[tokio::test]
async fn a_refused_reload_shows_all_its_problems_until_one_succeeds() {
    let (gateway, _upstream) = standard().await;
    let status = gateway.status().await;
    assert_eq!((&status["reload"]["trigger"], &status["reload"]["outcome"]), (&"start".into(), &"applied".into()));
    let good = gateway.bundle.read("gateway.yaml");
    let broken = good
        .replace("acme: {class: standard}", "acme: {class: standard, colour: red}")
        .replace("permission: bookings.read", "permission: bookings.reed");
    gateway.bundle.write("gateway.yaml", &broken);
    gateway.signal("HUP");
    let (finding, page) = gateway.finding("config.refused").await;
    assert_eq!(finding["severity"], "problem");
    let page = text(&page);
    assert!(page.contains("colour") && page.contains("bookings.reed") && page.contains("hint:"), "{page}");
    let (code, screen) = gateway.screen();
    assert!(code == Some(1) && screen.contains("bookings.reed"), "{screen}");
    gateway.bundle.write(
        "gateway.yaml",
        &good.replace("globex: {class: standard}", "globex: {class: standard, status: suspended}"),
    );
    gateway.signal("HUP");
    gateway.until("the reload is applied", async |g| g.status().await["reload"]["outcome"] == "applied").await;
    let status = gateway.status().await;
    assert_eq!(list(&status, "/findings").len(), 0, "{status:#}");
    assert_ne!(status["reload"]["trigger"], "start");
}

#[tokio::test]
async fn a_start_on_the_last_good_bundle_is_a_problem_until_the_files_hold() {
    let (gateway, _upstream) = standard().await;
    let kept = gateway.bundle.path("state/last-good/bundle");
    gateway.until("the bundle is kept", async |g| g.status().await["ok"] == true && kept.exists()).await;
    gateway.bundle.replace("permission: bookings.read", "permission: bookings.reed");
    let gateway = gateway.restart().await;
    let (finding, page) = gateway.finding("config.last-good").await;
    assert_eq!(finding["severity"], "problem");
    assert!(text(&page).contains("bookings.reed") && text(&page).contains("last-good"), "{page}");
    assert_eq!(gateway.screen().0, Some(1));
    // The very bytes of the bundle that is kept.
    gateway.bundle.replace("permission: bookings.reed", "permission: bookings.read");
    gateway.until("nothing is wrong", async |g| g.status().await["ok"] == true).await;
}

#[tokio::test]
async fn an_audit_log_that_cannot_be_written_shows_and_heals() {
    let (gateway, _upstream) = with(|bundle| {
        bundle.replace("audit: {directory: state/audit}", "audit: {directory: state/audit, segments: {roll: 4KiB}}");
    })
    .await;
    let (folder, away) = (gateway.bundle.path("state/audit"), gateway.bundle.path("state/away"));
    std::fs::rename(&folder, &away).unwrap();
    let failing = async |g: &Gateway| {
        g.get("https://acme.localhost/page").send().await;
        !g.status().await["audit"]["failing_since"].is_null()
    };
    gateway.until("the next segment cannot be made", failing).await;
    let (finding, page) = gateway.finding("audit.failing").await;
    assert_eq!(finding["severity"], "problem");
    assert!(rows(&page, "audit")[0][0].starts_with("failing since"), "{page}");
    std::fs::rename(&away, &folder).unwrap();
    gateway.until("it is written again", async |g| g.status().await["audit"]["failing_since"].is_null()).await;
}

#[tokio::test]
async fn an_endpoint_that_is_gone_shows_with_what_it_did() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    bundle.replace(&format!("[{}]", upstream.address), &format!("[{}, {gone}]", upstream.address));
    let gateway = Gateway::start(bundle).await;
    let noticed = async |g: &Gateway| {
        g.get("https://acme.localhost/page").send().await;
        list(&g.status().await, "/findings").iter().any(|finding| finding["id"] == "upstream.degraded")
    };
    gateway.until("one endpoint is passed over", noticed).await;
    let page = gateway.admin("/status").await.text();
    let row = rows(&page, "upstreams").into_iter().find(|row| row[1] == gone.to_string()).unwrap();
    assert!(row[4].contains("unreachable") && row[6] != "-", "{row:?}");
    let gateway = Gateway::start(Bundle::standard(gone)).await;
    let down = async |g: &Gateway| {
        g.get("https://acme.localhost/page").send().await;
        list(&g.status().await, "/findings").iter().any(|finding| finding["id"] == "upstream.down")
    };
    gateway.until("none is left", down).await;
    assert_eq!(gateway.screen().0, Some(1));
}

#[tokio::test]
async fn no_page_reaches_it_through_a_name_of_its_own() {
    let (gateway, _upstream) = standard().await;
    for path in ["/", "/status", "/status.json", "/metrics", "/readyz"] {
        for host in ["evil.example", "127.0.0.1.evil.example:9901", "localhost.evil.example"] {
            let reply =
                gateway.admin_raw(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await;
            assert!(reply.starts_with("HTTP/1.1 421 ") && !reply.contains("bookings"), "{path} {host}: {reply}");
        }
        let reply =
            gateway.admin_raw(&format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await;
        assert!(reply.starts_with("HTTP/1.1 405 ") && reply.contains("\r\nallow: GET, HEAD\r\n"), "{path}: {reply}");
        let head =
            gateway.admin_raw(&format!("HEAD {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{path}: {head}");
        for header in ["cache-control: no-store", "x-content-type-options: nosniff", "frame-ancestors 'none'"] {
            assert!(head.contains(header), "`{header}` in {head}");
        }
    }
}

#[tokio::test]
async fn it_can_be_turned_off() {
    let (gateway, _upstream) = with(|bundle| {
        bundle.replace("admin: {address: 127.0.0.1:0}", "admin: {address: 127.0.0.1:0, status_page: false}")
    })
    .await;
    for path in ["/", "/status", "/status.json"] {
        assert_eq!(gateway.admin(path).await.status, 404, "{path}");
    }
    assert_eq!(gateway.admin("/metrics").await.status, 200);
    let (code, screen) = gateway.screen();
    assert!(code == Some(1) && screen.contains("admin.status_page"), "{screen}");
}

#[test]
fn paths_of_the_admin_listener_are_distinct() {
    let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
    bundle.replace(
        "admin: {address: 127.0.0.1:0}",
        "admin: {address: 127.0.0.1:0, metrics: {path: /status}, health: {live: /up, ready: /up}}",
    );
    let checked = moat(bundle.root(), &["check"]);
    assert_eq!(checked.code, Some(78), "{checked:?}");
    for word in ["`/status` twice", "`/up` twice"] {
        assert!(checked.stderr.contains(word), "{}", checked.stderr);
    }
}

#[tokio::test]
async fn every_command_of_the_page_runs_and_every_field_is_there() {
    let (gateway, _upstream) = standard().await;
    gateway.get("https://acme.localhost/api/bookings").send().await;
    gateway.get("https://acme.localhost/page").send().await;
    gateway.until("both are counted", async |g| list(&g.status().await, "/routes/shown").len() == 2).await;
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/status.md")).unwrap();
    let address = gateway.address("admin").to_string();
    let block = page.split_once("```sh\n").unwrap().1.split("```").next().unwrap();
    for line in block.lines() {
        let command = line.split(" #").next().unwrap().trim();
        let mut args: Vec<&str> = command.split(' ').skip(1).collect();
        match (command.split(' ').next().unwrap(), args[0]) {
            ("curl", url) => {
                let path = url.strip_prefix("127.0.0.1:9901").unwrap();
                assert_eq!(gateway.admin(path).await.status, 200, "{command}");
                continue;
            }
            ("moat", "status") => args.extend(["--admin", &address]),
            ("moat", "tail") => args.push("--no-follow"),
            other => panic!("{other:?} has no case here"),
        }
        let ran = moat(gateway.bundle.root(), &args);
        assert_eq!(ran.code, Some(0), "{command}: {ran:?}");
    }
    // Both ways: what the page names is in the document, and what is in the document is named.
    let table = page.split_once("## The document").unwrap().1;
    let named: Vec<&str> = table.split('`').skip(1).step_by(2).map(|name| name.trim_end_matches("[]")).collect();
    let status = gateway.status().await;
    let mut fields = Vec::new();
    keys(&status, &mut fields);
    for field in &fields {
        let told = |name: &&str| *name == field || name.ends_with(&format!(".{field}"));
        let free = ["shown", "total", "2xx", "4xx"].contains(&field.as_str()) || field.contains(['-', '.']);
        assert!(free || named.iter().any(|name| told(name) || name.split('.').next() == Some(field)), "`{field}`");
    }
    for (section, names) in table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | `")) {
        for name in names.split('`').step_by(2).filter(|name| !name.contains([' ', '(']) && !section.contains(", ")) {
            let known = fields.iter().any(|field| field == name.trim_end_matches("[]"));
            // Of its words, some are values.
            let value = section == "reload";
            let absent = section == "findings[]";
            assert!(known || value || absent || name.len() < 2, "`{name}` of `{section}`");
        }
    }
}

/// Names of all fields of a document.
fn keys(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                out.push(name.clone());
                keys(value, out);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, out)),
        _ => {}
    }
}

#[test]
fn without_a_gateway_the_command_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let ran = moat(folder.path(), &["status", "--admin", "127.0.0.1:1"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("127.0.0.1:1"), "{ran:?}");
}
