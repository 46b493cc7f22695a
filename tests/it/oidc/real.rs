//! oidc-provider of npm and Chromium: two tabs at once, step-up, signing out on either side.
use crate::apps::stage::{App, Stage};
use crate::harness::{Gateway, Seen, Upstream, free_address};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::json;
use std::process::Command;

/// Shows who calls, as the gateway says, with a link to sign out.
fn page(seen: &Seen) -> Response<Full<Bytes>> {
    let said = |name: &str| seen.header(name).unwrap_or_default();
    let who = format!("{} {} {}", said("x-user-id"), said("x-tenant-id"), said("x-user-roles"));
    let text = format!(
        "<!doctype html><title>App</title><p id=\"shown\">{who} {}</p><a id=\"out\" href=\"/.moat/logout\">Sign out</a>",
        seen.target.replace('&', "&amp;")
    );
    Response::builder().header("content-type", "text/html").body(Full::from(text)).unwrap()
}

fn signs_in_and_out(auth_method: &str) {
    let stage = Stage::of("oidc");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let upstream = runtime.block_on(Upstream::answering(page));
    // Each must know where the other is before it starts.
    let (public, provider) = (free_address().port(), free_address().port());
    let mut bundle = stage.bundle(upstream.address.port());
    bundle.environment.retain(|(name, _)| name != "MOAT_PUBLIC");
    let secret = "a secret that nobody knows but the two";
    bundle.write("client-secret", secret);
    bundle.environment.extend([
        ("MOAT_PUBLIC".to_owned(), format!("127.0.0.1:{public}")),
        ("PROVIDER".to_owned(), format!("https://localhost:{provider}")),
        ("PROVIDER_AUTH".to_owned(), auth_method.to_owned()),
    ]);
    if auth_method != "private_key_jwt" {
        bundle.replace("      id: moat\n", "      id: moat\n      secret: {file: client-secret}\n");
    }
    let certificate = bundle.path("certs/localhost.crt");
    let key = bundle.path("certs/localhost.key");
    let ca = bundle.path("certs/dev/ca.crt");
    let gateway = Gateway::start_blocking(bundle);
    let jwks = runtime.block_on(gateway.get("https://acme.localhost/.moat/jwks.json").send()).json();
    let client = json!([{
        "client_id": "moat",
        "client_secret": (auth_method != "private_key_jwt").then_some(secret),
        "token_endpoint_auth_method": auth_method,
        "jwks": (auth_method == "private_key_jwt").then_some(jwks),
        "grant_types": ["authorization_code", "refresh_token"],
        "redirect_uris": [format!("https://acme.localhost:{public}/.moat/callback")],
        "post_logout_redirect_uris": [format!("https://acme.localhost:{public}/.moat/signed-out")],
        "backchannel_logout_uri": format!("https://localhost:{public}/.moat/backchannel-logout"),
        "backchannel_logout_session_required": true,
    }]);
    let mut client = client;
    if let Some(members) = client[0].as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    let mut command = Command::new("node");
    command.arg(stage.source().join("provider.js")).env("NODE_MODULES_AT", stage.packages());
    command.env("PROVIDER_PORT", provider.to_string()).env("PROVIDER_CLIENTS", client.to_string());
    command.env("PROVIDER_CERT", certificate).env("PROVIDER_KEY", key).env("NODE_EXTRA_CA_CERTS", ca);
    let _provider = App::start(&mut command, "listening at https://localhost:", Some(provider));
    let record = stage.drive_at(&gateway, &[("PROVIDER", &format!("https://localhost:{provider}"))]);
    let steps: Vec<&str> =
        record["steps"].as_array().unwrap().iter().filter_map(|step| step["name"].as_str()).collect();
    let expected = [
        "signed in",
        "a script",
        "two tabs",
        "stepped up",
        "signed out here",
        "signed out there",
        "denied",
        "another tenant",
        "console",
    ];
    assert_eq!(steps, expected);
    drop(gateway);
}

#[test]
fn a_browser_signs_in_and_out_with_a_key_of_the_gateways_own() {
    signs_in_and_out("private_key_jwt");
}

#[test]
fn a_browser_signs_in_and_out_with_a_secret() {
    signs_in_and_out("client_secret_basic");
}
