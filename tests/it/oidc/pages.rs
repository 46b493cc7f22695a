//! The pages about signing in and about tokens: what they show as configuration is one, and the keys that they name are there.
use crate::harness::{Bundle, moat};
use std::fs;
use std::path::Path;

/// What a page leaves out of a `gateway.yaml`, by the key that it begins with.
const REST: [(&str, &str); 10] = [
    ("version", "version: 1\n"),
    ("server", "server: {state_dir: state}\n"),
    ("listeners", "listeners: {public: {address: 127.0.0.1:0, tls: modern}}\n"),
    ("tls", "tls: {certificates: certs/, default_certificate: localhost}\n"),
    ("issuers", ISSUERS),
    ("sessions", "sessions: {browser: {}}\n"),
    ("tenancy", "tenancy: {resolve: [{host: \"{tenant}.app.example.com\"}]}\n"),
    ("tenants", "tenants: {acme: {}}\n"),
    ("upstreams", "upstreams: {web: {endpoints: [\"127.0.0.1:3000\"]}}\n"),
    (
        "routes",
        "routes: {open: {match: {hosts: [\"*.app.example.com\"], paths: [/open], methods: [GET]}, upstream: web, public: \"a page\"}}\n",
    ),
];

const ISSUERS: &str = "issuers:
  people: {issuer: https://people.example.com, algorithms: [ES256], claims: {tenant: org}, client: {id: moat, auth_method: private_key_jwt}}
  partners: {issuer: https://partners.example.com, algorithms: [ES256], claims: {tenant: org}, client: {id: moat, auth_method: private_key_jwt}}
";

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

#[test]
fn every_configuration_shown_is_one() {
    let mut shown = 0;
    for name in ["sign-in.md", "migrate-from-oauth2-proxy.md", "tokens.md"] {
        for block in page(name).split("```yaml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()) {
            let has = |key: &str| block.lines().any(|line| line.starts_with(&format!("{key}:")));
            // A page whose hosts name no tenant has none.
            let alone = has("version");
            let rest: String = REST.iter().filter(|(key, _)| !has(key) && !alone).map(|(_, text)| *text).collect();
            let bundle = Bundle::empty();
            for kind in ["crt", "key"] {
                bundle
                    .write(&format!("certs/app.example.com.{kind}"), &bundle.read(&format!("certs/localhost.{kind}")));
            }
            bundle.write("secret", "s\n");
            let secrets = ["/run/secrets/oidc-client", "/run/secrets/client"];
            let block = secrets.iter().fold(block, |block, place| block.replace(place, "secret"));
            bundle.write("gateway.yaml", &format!("{rest}{block}\n"));
            let checked = moat(bundle.root(), &["check"]);
            assert_eq!(checked.code, Some(0), "{name}:\n{rest}{block}\n{checked:?}");
            shown += 1;
        }
    }
    assert_eq!(shown, 4);
}

/// Keys in the second column, as `sessions.browser.cookie` or `client.id`: each is in the reference, below something.
#[test]
fn every_key_of_the_table_is_in_the_reference() {
    let reference =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/gateway.md")).unwrap();
    let known: Vec<&str> = reference.lines().filter_map(|line| line.strip_prefix("- `")?.split('`').next()).collect();
    let page = page("migrate-from-oauth2-proxy.md");
    let mut keys = 0;
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let column = row.split(" | ").nth(1).unwrap();
        for span in column.split('`').skip(1).step_by(2) {
            // Up to the value that is shown with it; paths of the gateway's own are no keys.
            let key = span.split(':').next().unwrap();
            if span.contains('/')
                || span.starts_with("GET")
                || !key.bytes().all(|b| b.is_ascii_lowercase() || b"._X".contains(&b))
            {
                continue;
            }
            let key = key.replace('X', "*");
            let there = known.iter().any(|name| *name == key || name.ends_with(&format!(".{key}")));
            assert!(there, "`{key}` of `{row}` is no key of the configuration");
            keys += 1;
        }
    }
    assert!(keys > 20, "{keys}");
}
