//! Literate cases over real sockets: the same files that `moat check` runs on the engine, each request sent for real.
use crate::harness::{Bundle, Call, Gateway, Token, Upstream, moat};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The repository's own configuration, with a key set of the test's making and ports of the system's choice.
fn repository(upstream: std::net::SocketAddr) -> Bundle {
    let bundle = Bundle::empty();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["roles", "headers", "rate-limits"].map(|name| format!("policies/{name}.yaml")) {
        bundle.write(&name, &fs::read_to_string(source.join(&name)).unwrap());
    }
    for path in files(&OWN) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        bundle.write(&format!("policies/tests/{name}"), &fs::read_to_string(&path).unwrap());
    }
    bundle.write("gateway.yaml", &fs::read_to_string(source.join("gateway.yaml")).unwrap());
    let replace_line = |key: &str, new: &str| {
        let text = bundle.read("gateway.yaml");
        let line = text.lines().find(|line| line.trim_start().starts_with(key)).unwrap_or_else(|| panic!("no `{key}`"));
        bundle.replace(line, new);
    };
    replace_line("address: ${MOAT_ADMIN", "  address: 127.0.0.1:0");
    replace_line("address: ${MOAT_PUBLIC", "    address: 127.0.0.1:0");
    replace_line("address: ${MOAT_PLAIN", "    address: 127.0.0.1:0");
    replace_line("- ${MOAT_APP", &format!("      - {upstream}"));
    replace_line("ca: certs/dev/ca.crt", "    jwks: {file: jwks.json}");
    replace_line("state_dir:", "  state_dir: state");
    bundle
}

/// A bundle for applications with forms: two that sign in, one whose pages hand out tokens.
fn with_forms(upstream: std::net::SocketAddr) -> Bundle {
    let bundle = Bundle::standard(upstream);
    let limits = bundle.read("policies/rate-limits.yaml");
    let limit = |name: &str, key: &str| format!("  {name}: {{key: [{key}], rate: 1000/s, burst: 1000}}\n");
    let more = limit("sign-in", "form.username_hash") + &limit("either", "body.username_hash");
    bundle.write("policies/rate-limits.yaml", &format!("{limits}{more}"));
    let public = "public: \"there is no session yet\"";
    let session = "auth: {cookie: {name: __Host-nl, issuer: workforce}}\n    require: {session: any}";
    for (name, rest) in [
        ("sign-in", format!("{public}\n    rate_limits: [sign-in]")),
        ("either", format!("{public}\n    rate_limits: [either]")),
        ("old", format!("{session}\n    csrf: token")),
    ] {
        bundle.route(&format!(
            "  {name}:\n    match: {{hosts: [\"*.localhost\"], paths: [/{name}], methods: [GET, POST]}}\n    upstream: app\n    {rest}\n    headers: base"
        ));
    }
    bundle.replace("  roles: policies/roles.yaml\n", "  roles: policies/roles.yaml\n  tests: policies/tests/*.yaml\n");
    for path in files(&["tests/cases/old"]) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        bundle.write(&format!("policies/tests/{name}"), &fs::read_to_string(&path).unwrap());
    }
    bundle
}

/// Those of the repository's own bundle.
const OWN: [&str; 2] = ["policies/tests", "tests/cases"];

/// The files with cases in these folders.
fn files(folders: &[&str]) -> Vec<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| fs::read_dir(source.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    all.sort();
    all
}

fn seconds(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.len() - 1);
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => panic!("`{text}`"),
    };
    number.parse::<u64>().unwrap() * factor
}

/// The caller of a case as a signed token, with the defaults of the engine's own runner.
fn token(caller: &Value, gateway: &Gateway) -> String {
    let roles: Vec<&str> = match (caller["role"].as_str(), caller["roles"].as_array()) {
        (Some(role), _) => vec![role],
        (None, Some(roles)) => roles.iter().map(|role| role.as_str().unwrap()).collect(),
        (None, None) => Vec::new(),
    };
    let tenant = caller["tenant"].as_str();
    let standard = gateway.bundle.read("gateway.yaml").contains("https://login.test/");
    let issuer = if standard { "https://login.test/" } else { "https://localhost:8444/" };
    let mut token = Token::of(tenant.unwrap_or_default(), &roles)
        .claim("iss", issuer)
        .claim("sub", caller["subject"].as_str().unwrap_or("user-1"))
        .claim("amr", caller.get("amr").cloned().unwrap_or_else(|| serde_json::json!(["pwd", "mfa"])));
    token = match caller["auth_age"].as_str() {
        Some(age) => token.auth_age(seconds(age)),
        None => token.without("auth_time"),
    };
    if let Some(acr) = caller["acr"].as_str() {
        token = token.claim("acr", acr);
    }
    if tenant.is_none() {
        token = token.without("org_id");
    }
    token.signed(&gateway.bundle.key)
}

fn call<'g>(gateway: &'g Gateway, request: &Value, shown: Option<&str>) -> Call<'g> {
    let (mut method, url) = (request["method"].as_str().unwrap(), request["url"].as_str().unwrap());
    let preflight = request["preflight"].as_bool().unwrap_or_default();
    let announced = method;
    if preflight {
        method = "OPTIONS";
    }
    let mut call = gateway.call(method, url);
    if preflight {
        call = call.header("access-control-request-method", announced);
    }
    let (origin, cookie) = (request["origin"].as_str(), request["as"]["by"] == "cookie");
    // As the engine's runner has it, the browser says that the request is our own site's.
    let usual = if origin.is_some() { "cross-site" } else { "same-origin" };
    let said: &[(&'static str, &str)] = match (request["site"].as_str().unwrap_or(usual), origin) {
        ("same-origin", _) if !cookie => &[],
        ("same-origin", _) => &[("sec-fetch-site", "same-origin")],
        ("same-site", _) => &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")],
        ("cross-site", None) => &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
        ("cross-site", Some(_)) => &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors")],
        ("navigation", _) => {
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]
        }
        ("unsaid", _) => &[],
        (other, _) => panic!("`{other}`"),
    };
    call = said.iter().fold(call, |call, (name, value)| call.header(name, value));
    if let Some(origin) = origin {
        call = call.header("origin", origin);
    }
    let content_type = request["content_type"].as_str();
    match request["fields"].as_object() {
        Some(fields) if content_type.is_none() => {
            let encoded = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
            let pairs =
                fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value.as_str().unwrap())));
            let form = pairs.collect::<Vec<_>>().join("&");
            call = call.header("content-type", "application/x-www-form-urlencoded").body(form);
        }
        Some(fields) => {
            call = call.header("content-type", content_type.unwrap()).body(Value::from(fields.clone()).to_string());
        }
        None if matches!(method, "POST" | "PUT" | "PATCH") => {
            call = call.header("content-type", content_type.unwrap_or("application/json")).body("{}");
        }
        None => {}
    }
    let caller = &request["as"];
    if caller.is_null() {
        return call;
    }
    let token = token(caller, gateway);
    match (caller["by"].as_str(), shown) {
        (Some("cookie"), Some(shown)) => {
            let value = shown.split_once('=').unwrap().1;
            call.header("cookie", &format!("__Host-nl={token}; {shown}")).header("x-csrf-token", value)
        }
        (Some("cookie"), None) => call.header("cookie", &format!("__Host-nl={token}")),
        (_, _) => call.bearer(&token),
    }
}

/// The cookie with the token that the page at the request's address hands out, where the case shows one.
async fn shown(gateway: &Gateway, request: &Value) -> Option<String> {
    if !request["csrf_token"].as_bool().unwrap_or_default() {
        return None;
    }
    let cookie = format!("__Host-nl={}", token(&request["as"], gateway));
    let page = gateway.get(request["url"].as_str().unwrap()).header("cookie", &cookie).send().await;
    let set = page.header("set-cookie").unwrap_or_else(|| panic!("no token: {page:?}"));
    Some(set.split(';').next().unwrap().to_owned())
}

#[tokio::test]
async fn every_literate_case_holds_over_http_1_and_http_2() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(repository(upstream.address)).await;
    assert!(holding(&gateway, &upstream, &OWN).await > 20);
}

#[tokio::test]
async fn and_so_do_those_of_applications_with_forms() {
    let page = |_: &_| Response::builder().header("content-type", "text/html").body(Full::from(Bytes::new())).unwrap();
    let upstream = Upstream::answering(page).await;
    let gateway = Gateway::start(with_forms(upstream.address)).await;
    assert!(holding(&gateway, &upstream, &["tests/cases/old"]).await > 20);
}

/// Sends each case of these folders for real; how many there were.
async fn holding(gateway: &Gateway, upstream: &Upstream, folders: &[&str]) -> usize {
    let mut count = 0;
    for path in files(folders) {
        let text = fs::read_to_string(&path).unwrap();
        let file: Value = serde_yaml::from_str(&text).unwrap();
        for case in file["cases"].as_array().unwrap() {
            for h2 in [false, true] {
                let shown = shown(gateway, &case["request"]).await;
                let before = upstream.seen().len();
                let call = call(gateway, &case["request"], shown.as_deref());
                let reply = if h2 { call.h2() } else { call }.send().await;
                let verdict = reply.verdict();
                let name = format!("{}: {} (h2: {h2}): {verdict}", path.display(), case["name"]);
                match case["expect"]["refuse"].as_str() {
                    Some(code) => {
                        assert!(verdict.ends_with(&format!(" {code}")), "{name}");
                        assert_eq!(upstream.seen().len(), before, "{name}: the application was called");
                    }
                    None => {
                        assert_eq!(verdict, "200", "{name}");
                        assert_eq!(upstream.seen().len(), before + 1, "{name}");
                    }
                }
                count += 1;
            }
        }
    }
    count
}

#[tokio::test]
async fn the_same_cases_hold_on_the_engine() {
    let bundle = repository("127.0.0.1:9".parse().unwrap());
    let checked = moat(bundle.root(), &["check", "--config", "gateway.yaml"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let forms = with_forms("127.0.0.1:9".parse().unwrap());
    let checked = moat(forms.root(), &["check"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let wrong = forms.read("policies/tests/sign-in.yaml").replacen("refuse: csrf.unproven", "permit: app", 1);
    forms.write("policies/tests/sign-in.yaml", &wrong);
    assert_eq!(moat(forms.root(), &["check"]).code, Some(78));
    // And they are really run: one whose expectation is wrong stops the check.
    let wrong = bundle.read("policies/tests/refunds.yaml").replacen("access.denied", "tenant.mismatch", 1);
    bundle.write("policies/tests/refunds.yaml", &wrong);
    let checked = moat(bundle.root(), &["check", "--config", "gateway.yaml"]);
    assert_eq!(checked.code, Some(78), "{checked:?}");
}
