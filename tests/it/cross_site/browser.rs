//! Two pages of other origins in Chromium: one that has leave, and one that tries everything without.
use super::open_to;
use crate::harness::{Bundle, Gateway, PATIENCE, Seen, Upstream};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What both pages try. Each attempt is marked in the query, so that the application can tell what reached it.
const PAGE: &str = r#"<!doctype html><title>x</title><body><script>
const [app, by, next] = ["APP", "BY", "NEXT"];
const url = what => `${app}/spa?by=${by}-${what}`;
const told = {};
const attempt = async (what, f) => { try { told[what] = await f(url(what)) } catch { told[what] = "blocked" } };
const read = (url, more) => fetch(url, more).then(async r => `${r.status} ${r.headers.get("etag")} ${await r.text()}`);
const json = {"content-type": "application/json"};
const element = (tag, url) => new Promise(done => {
  const e = document.createElement(tag);
  e.onload = () => done("loaded");
  e.onerror = () => done("blocked");
  e[tag === "object" ? "data" : "src"] = url;
  document.body.append(e);
});
const form = url => new Promise(done => {
  const [frame, form] = [document.createElement("iframe"), document.createElement("form")];
  frame.name = "target";
  Object.assign(form, {method: "post", action: url, target: "target"});
  document.body.append(frame, form);
  frame.onload = () => done("sent");
  form.submit();
});
const socket = url => new Promise(done => {
  const s = new WebSocket(url.replace("https", "wss"));
  s.onopen = () => done("open");
  s.onerror = () => done("blocked");
});
(async () => {
  await attempt("read", u => read(u, {credentials: "include"}));
  await attempt("anonymous", u => read(u));
  await attempt("put", u => read(u, {method: "PUT", credentials: "include", headers: json, body: "{}"}));
  await attempt("delete", u => read(u, {method: "DELETE", credentials: "include"}));
  await attempt("header", u => read(u, {method: "PUT", credentials: "include", headers: {"x-own": "1"}, body: "{}"}));
  await attempt("blind", u => fetch(u, {method: "POST", mode: "no-cors", credentials: "include", body: "a"}).then(r => r.type));
  await attempt("image", u => element("img", u));
  await attempt("script", u => element("script", u));
  await attempt("frame", u => element("iframe", u));
  await attempt("form", form);
  await attempt("socket", socket);
  await fetch(`/report?by=${by}`, {method: "POST", body: JSON.stringify(told)});
  location = next;
})();
</script>"#;

struct Browser(Child, #[allow(dead_code, reason = "removed with the browser")] tempfile::TempDir);

impl Browser {
    fn open(url: &str) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        // With cookies in the pages of others, as some browsers still send them: without, there is less to defend.
        std::fs::create_dir_all(profile.path().join("Default")).unwrap();
        let preferences = r#"{"profile": {"cookie_controls_mode": 0, "block_third_party_cookies": false}}"#;
        std::fs::write(profile.path().join("Default/Preferences"), preferences).unwrap();
        let child = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"])
            .args(["--host-resolver-rules=MAP * 127.0.0.1", "--ignore-certificate-errors", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Browser(child, profile)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn page(text: String) -> Response<Full<Bytes>> {
    Response::builder().header("content-type", "text/html").body(Full::from(text)).unwrap()
}

fn to(place: &str) -> Response<Full<Bytes>> {
    Response::builder().status(302).header("location", place).body(Full::default()).unwrap()
}

#[tokio::test]
async fn a_browser_lets_the_page_with_leave_do_what_was_opened_and_the_other_nothing() {
    // What the servers say depends on addresses and a token that are known only later.
    let words: Arc<Mutex<[String; 3]>> = Arc::default();
    let said = words.clone();
    let application = Upstream::answering(move |seen: &Seen| {
        let [_, token, pages] = &*said.lock().unwrap();
        let by = seen.target.rsplit_once("by=").map_or("", |(_, by)| by);
        match (&*seen.target, by) {
            ("/enter", _) => {
                let mut reply = to(&format!("http://evil.test:{pages}/evil"));
                let cookie = format!("__Host-nl={token}; Secure; HttpOnly; Path=/; SameSite=None");
                reply.headers_mut().insert("set-cookie", cookie.parse().unwrap());
                reply
            }
            (_, "navigation") => to(&format!("http://spa.localhost:{pages}/spa")),
            (_, _) => Response::builder().header("etag", "\"7\"").body(Full::from("mine")).unwrap(),
        }
    })
    .await;
    let said = words.clone();
    let pages = Upstream::answering(move |seen: &Seen| {
        let [app, _, own] = &*said.lock().unwrap();
        let made = |by: &str, next: &str| page(PAGE.replace("APP", app).replace("BY", by).replace("NEXT", next));
        match &*seen.target {
            "/evil" => made("evil", &format!("{app}/spa?by=navigation")),
            "/spa" => made("spa", &format!("http://spa.localhost:{own}/end")),
            _ => page(String::new()),
        }
    })
    .await;

    let bundle = Bundle::standard(application.address);
    open_to(&bundle, &format!("http://spa.localhost:{}", pages.address.port()));
    bundle.route(
        "  enter:\n    match: {hosts: [\"*.localhost\"], paths: [/enter], methods: [GET]}\n    upstream: app\n    public: \"signs in\"\n    headers: api-json",
    );
    let gateway = Gateway::start(bundle).await;
    let app = format!("https://acme.localhost:{}", gateway.address("public").port());
    *words.lock().unwrap() = [app.clone(), gateway.token("acme", &["viewer"]), pages.address.port().to_string()];

    let _browser = Browser::open(&format!("{app}/enter"));
    let deadline = Instant::now() + 3 * PATIENCE;
    while !pages.seen().iter().any(|seen| seen.target == "/end") {
        assert!(Instant::now() < deadline, "{:#?}\n{:#?}", pages.seen(), application.seen());
        tokio::task::yield_now().await;
    }
    let told = |by: &str| -> Value {
        let seen = pages.seen();
        let report = seen.iter().find(|seen| seen.target == format!("/report?by={by}")).unwrap();
        serde_json::from_slice(&report.body).unwrap()
    };
    let reached = |by: &str| -> Vec<String> {
        let seen = application.seen();
        let marked = seen.iter().filter_map(|seen| Some((&seen.method, seen.target.strip_prefix("/spa?by=")?)));
        marked.filter(|(_, mark)| mark.starts_with(by)).map(|(method, mark)| format!("{method} {mark}")).collect()
    };
    let blocked = serde_json::json!({
        "read": "blocked", "anonymous": "blocked", "put": "blocked", "delete": "blocked", "header": "blocked",
        "blind": "blocked", "image": "blocked", "script": "blocked", "frame": "loaded", "form": "sent",
        "socket": "blocked",
    });
    assert_eq!(told("evil"), blocked, "what a frame shows is the browser's own page");
    assert_eq!(reached("evil"), [] as [&str; 0]);
    assert_eq!(reached("navigation"), ["GET navigation"], "a link of another page opens the application");
    let spa = told("spa");
    assert_eq!((&spa["read"], &spa["put"]), (&"200 \"7\" mine".into(), &"200 \"7\" mine".into()), "{spa}");
    assert!(spa["anonymous"].as_str().unwrap().starts_with("401 null "), "{spa}");
    for (attempt, expected) in blocked.as_object().unwrap() {
        assert!(matches!(&**attempt, "read" | "put" | "anonymous") || spa[attempt] == *expected, "{attempt}: {spa}");
    }
    assert_eq!(reached("spa"), ["GET spa-read", "PUT spa-put", "GET spa-socket"]);
}
