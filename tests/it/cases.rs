//! Literate cases over real sockets: the same files that `moat check` runs on the engine, each request sent for real.
use crate::harness::{Bundle, Call, Gateway, Token, Upstream, moat};
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
    for path in files() {
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

/// `policies/tests/*.yaml` and `tests/cases/*.yaml`.
fn files() -> Vec<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all: Vec<PathBuf> = ["policies/tests", "tests/cases"]
        .into_iter()
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
    let mut token = Token::of(tenant.unwrap_or_default(), &roles)
        .claim("iss", "https://localhost:8444/")
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

fn call<'g>(gateway: &'g Gateway, request: &Value) -> Call<'g> {
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
    if matches!(method, "POST" | "PUT" | "PATCH") {
        call = call.header("content-type", "application/json").body("{}");
    }
    let caller = &request["as"];
    if caller.is_null() {
        return call;
    }
    let token = token(caller, gateway);
    match caller["by"].as_str() {
        Some("cookie") => call.header("cookie", &format!("__Host-nl={token}")),
        Some(_) | None => call.bearer(&token),
    }
}

#[tokio::test]
async fn every_literate_case_holds_over_http_1_and_http_2() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(repository(upstream.address)).await;
    let mut count = 0;
    for path in files() {
        let text = fs::read_to_string(&path).unwrap();
        let file: Value = serde_yaml::from_str(&text).unwrap();
        for case in file["cases"].as_array().unwrap() {
            for h2 in [false, true] {
                let before = upstream.seen().len();
                let call = call(&gateway, &case["request"]);
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
    assert!(count > 20, "{count} cases");
}

#[tokio::test]
async fn the_same_cases_hold_on_the_engine() {
    let bundle = repository("127.0.0.1:9".parse().unwrap());
    let checked = moat(bundle.root(), &["check", "--config", "gateway.yaml"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    // And they are really run: one whose expectation is wrong stops the check.
    let wrong = bundle.read("policies/tests/refunds.yaml").replacen("access.denied", "tenant.mismatch", 1);
    bundle.write("policies/tests/refunds.yaml", &wrong);
    let checked = moat(bundle.root(), &["check", "--config", "gateway.yaml"]);
    assert_eq!(checked.code, Some(78), "{checked:?}");
}
