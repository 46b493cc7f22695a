//! oidc-provider of npm and Chromium: two tabs at once, step-up, signing out on either side.
use crate::apps::stage::{App, Stage};
use crate::harness::{Gateway, Seen, Upstream, free_address};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};
use std::path::Path;
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

const LISTENING: &str = "listening at https://localhost:";

/// The provider with its certificate, key and authority, at a port, for these clients.
fn command(stage: &Stage, [certificate, key, ca]: [&Path; 3], port: u16, clients: &Value) -> Command {
    let mut command = Command::new("node");
    command.arg(stage.source().join("provider.js")).env("NODE_MODULES_AT", stage.packages());
    command.env("PROVIDER_PORT", port.to_string()).env("PROVIDER_CLIENTS", clients.to_string());
    command.env("PROVIDER_CERT", certificate).env("PROVIDER_KEY", key).env("NODE_EXTRA_CA_CERTS", ca);
    command
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
    let mut command = command(&stage, [&certificate, &key, &ca], provider, &client);
    let _provider = App::start(&mut command, LISTENING, Some(provider));
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

/// docs/introspection.md with a provider that is not ours: its access tokens say nothing to anybody else.
#[test]
fn the_provider_is_asked_about_tokens_that_only_it_can_read() {
    let stage = Stage::of("oidc");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let upstream = runtime.block_on(Upstream::answering(page));
    let port = free_address().port();
    let mut bundle = stage.bundle(upstream.address.port());
    let issuer = format!("https://localhost:{port}");
    bundle.write("client-secret", "a secret of both");
    bundle.environment.extend([("PROVIDER".to_owned(), issuer.clone())]);
    bundle.environment.push(("PROVIDER_AUTH".to_owned(), "client_secret_basic".to_owned()));
    bundle.replace("      id: moat\n", "      id: moat\n      secret: {file: client-secret}\n");
    bundle.replace(
        "    algorithms: [RS256, ES256]\n",
        &format!(
            "    algorithms: [RS256, ES256]\n    audiences: [orders-api]\n    introspection:\n      url: {issuer}/token/introspection\n      client_id: moat\n      secret: {{file: client-secret}}\n      timeout: 10s\n"
        ),
    );
    bundle.replace(
        "routes:\n",
        "routes:\n  orders:\n    match: {hosts: [\"*.localhost\"], paths: [/orders], methods: [GET]}\n    upstream: app\n    auth: {bearer: people}\n    require: {session: any}\n    headers: pages\n    rate_limits: [per-address]\n",
    );
    let files = ["certs/localhost.crt", "certs/localhost.key", "certs/dev/ca.crt"].map(|name| bundle.path(name));
    let client = json!([{
        "client_id": "moat", "client_secret": "a secret of both", "token_endpoint_auth_method": "client_secret_basic",
        "grant_types": ["authorization_code"], "redirect_uris": ["https://acme.localhost/.moat/callback"],
    }]);
    let mut command = command(&stage, [&files[0], &files[1], &files[2]], port, &client);
    command.env("PROVIDER_TOKENS", "ada@acme bob@globex eve@acme");
    let provider = App::start(&mut command, LISTENING, Some(port));
    let [ada, bob, eve] = ["ada@acme", "bob@globex", "eve@acme"].map(|who| provider.said(&format!("token of {who}: ")));
    let gateway = Gateway::start_blocking(bundle);
    let orders = |host: &str, token: &str| {
        runtime.block_on(gateway.get(&format!("https://{host}.localhost/orders")).bearer(token).send())
    };
    let reply = orders("acme", &ada);
    assert!(
        reply.text().contains("<p id=\"shown\">ada@acme acme member /orders</p>"),
        "{}: {}",
        reply.verdict(),
        reply.text()
    );
    assert!(orders("globex", &bob).text().contains("bob@globex globex member"));
    assert_eq!(orders("globex", &ada).verdict(), "403 tenant.mismatch");
    for made_up in [&ada[1..], &format!("{ada}A"), "0"] {
        assert_eq!(orders("acme", made_up).verdict(), "401 session.invalid", "{made_up}");
    }
    drop(provider);
    assert_eq!(orders("acme", &ada).verdict(), "200", "remembered");
    assert_eq!(orders("acme", &eve).verdict(), "503 gateway.unavailable", "nobody can tell");
}
