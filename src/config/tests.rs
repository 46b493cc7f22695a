//! Bundles on disk: the repository's own example, and tables of what is wrong with others.
mod key_sets;
mod limits;
mod mistakes;
mod reload;
mod sessions;
mod sign_in;
mod storage;
mod tokens;
mod upstreams;

use crate::config::problem::Problems;
use crate::config::settings::{ListenerKind, Snapshot};
use crate::config::yaml::{Kind, Node};
use crate::config::{Loaded, Purpose, World};
use crate::config::{Parsed, options};
use serde_json::Value;
use std::fs;
use std::path::Path;

pub(crate) fn load(dir: &Path) -> Result<Loaded, Problems> {
    load_with(dir, &|_| None)
}

fn load_with(dir: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
    let world = World { env, certificates: &|_| Ok(()), purpose: Purpose::Check };
    Snapshot::load(&dir.join("gateway.yaml"), &world)
}

pub(crate) fn bundle(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

/// The repository's own bundle, with the certificates that `moat certs dev` would make left empty.
pub(crate) fn example() -> tempfile::TempDir {
    let dir = bundle(&[("certs/dev/ca.crt", "")]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    copy(&root.join("policies"), &dir.path().join("policies"));
    fs::copy(root.join("gateway.yaml"), dir.path().join("gateway.yaml")).unwrap();
    dir
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn the_example_of_the_repository_holds() {
    let dir = example();
    let loaded = load(dir.path()).unwrap_or_else(|problems| panic!("{}", problems.text()));
    let snapshot = &loaded.snapshot;
    assert_eq!((snapshot.rules.routes.len(), snapshot.rules.tenants.len(), loaded.tests), (9, 4, 12));
    assert_eq!(snapshot.digest.len(), 64);
}

#[test]
fn a_key_is_where_it_or_what_is_above_it_stands() {
    let dir = whole(&sound());
    let loaded = load(dir.path()).unwrap_or_else(|problems| panic!("{}", problems.text()));
    for key in ["server", "server.state_dir", "server.instance"] {
        assert_eq!(loaded.place_or_above(key).as_deref(), Some("gateway.yaml:2"), "{key}");
    }
    assert_eq!(loaded.place("server.state_dir").as_deref(), Some("gateway.yaml:2"));
    assert_eq!((loaded.place("server.instance"), loaded.place_or_above("audit.chain.checkpoint.key")), (None, None));
    assert_eq!(loaded.place("roles.clerk").as_deref(), Some("roles.yaml:4"));
    assert_eq!(loaded.place_or_above("roles.clerk"), None);
}

/// What a file said is remembered, not what came of it: the rest of the bundle judges it anew.
#[test]
fn a_file_that_is_what_it_was_is_parsed_once_and_judged_each_time() {
    let mut files = sound().to_vec();
    files[0].1 = SOUND.replace("  resolve: [", "  file: t.yaml\n  resolve: [");
    files.push(("t.yaml", "version: 1\ntenants:\n  globex: {class: gold}\n".to_owned()));
    let dir = whole(&files);
    let parsed = Parsed::default();
    let world = World { env: &|_| None, certificates: &|_| Ok(()), purpose: Purpose::Check };
    let again = || Snapshot::load_again(&dir.path().join("gateway.yaml"), &world, &parsed);
    let remembered = |file: u32, text: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        parsed.find::<options::TenantsFile>("t.yaml", file, digest.as_ref()).is_some()
    };
    let first = again().unwrap_or_else(|problems| panic!("{}", problems.text()));
    let at = first.names.iter().position(|name| name == "t.yaml").unwrap();
    assert!(remembered(u32::try_from(at).unwrap(), &files[5].1), "parsed once");
    let second = again().unwrap_or_else(|problems| panic!("{}", problems.text()));
    assert_eq!((&first.snapshot.digest, second.snapshot.rules.tenants.len()), (&second.snapshot.digest, 2));
    assert_eq!(first.snapshot.rules.tenants, second.snapshot.rules.tenants);
    // Another file takes the class away that this one names: found in the file that was not parsed again, at its place.
    fs::write(dir.path().join("limits.yaml"), LIMITS.replace("gold", "silver")).unwrap();
    let problems = again().unwrap_err().text();
    assert!(problems.contains("unknown class `gold`\n --> t.yaml:3:19"), "{problems}");
    assert!(problems.contains("3 |   globex: {class: gold}"), "{problems}");
    fs::write(dir.path().join("limits.yaml"), LIMITS).unwrap();
    // The file itself changes, and no longer holds; what it said before does not stand in for it.
    fs::write(dir.path().join("t.yaml"), "version: 1\ntenants:\n  globex: {klass: gold}\n").unwrap();
    assert!(again().unwrap_err().text().contains("unknown key `klass`"));
    assert!(again().unwrap_err().text().contains("unknown key `klass`"), "a file with a problem is not remembered");
    // Variables are looked up each time.
    let with = |class: &'static str| {
        let env = move |_: &str| Some(class.to_owned());
        let world = World { env: &env, certificates: &|_| Ok(()), purpose: Purpose::Check };
        Snapshot::load_again(&dir.path().join("gateway.yaml"), &world, &parsed).map(|_| ())
    };
    let text = "version: 1\ntenants:\n  globex:\n    class: ${CLASS}\n";
    fs::write(dir.path().join("t.yaml"), text).unwrap();
    assert!(with("gold").is_ok());
    assert!(with("silver").unwrap_err().text().contains("unknown class `silver`"));
}

/// A bundle that holds; every case below changes one line of it.
const SOUND: &str = r#"version: 1
server: {state_dir: state}
listeners:
  public: {address: "127.0.0.1:8443"}
tls: {certificates: certs}
issuers:
  login: {issuer: "https://login.example/", audiences: [a], algorithms: [ES256]}
tenancy:
  resolve: [{host: "{tenant}.example"}]
tenants:
  acme: {class: gold}
upstreams:
  app: {endpoints: ["127.0.0.1:9000"]}
sessions: {step_up: {fresh: {max_age: 15m}}}
policies: {roles: roles.yaml, rate_limits: limits.yaml, headers: headers.yaml, tests: tests.yaml}
routes:
  home:
    match: {hosts: ["*.example"], paths: ["/"], methods: [GET]}
    upstream: app
    public: "the front page"
    headers: page
  orders:
    match: {hosts: ["*.example"], paths: ["/orders/{id}"], methods: [GET, POST]}
    upstream: app
    auth: {bearer: login}
    require: {permission: orders.read, step_up: fresh}
    rate_limits: [calm]
"#;
const ROLES: &str = "version: 1
permissions: {orders: [read]}
roles:
  clerk: {grants: [orders.read]}
  boss: {extends: [clerk]}
exclusive_roles: [[clerk, boss]]
step_up: {fresh: [orders.read]}
";
const LIMITS: &str = "version: 1
limits:
  calm: {key: [tenant, user], rate: {gold: 10/s}, burst: 2x}
";
const HEADERS: &str = "version: 1
profiles:
  page:
    set: {x-content-type-options: nosniff}
";
const TESTS: &str = "version: 1
cases:
  - name: a clerk reads
    request: {method: GET, url: \"https://acme.example/orders/1\", as: {role: clerk, tenant: acme, auth_age: 1m}}
    expect: {permit: app}
";

/// These files, and a folder for certificates.
fn whole(files: &[(&str, String)]) -> tempfile::TempDir {
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let dir = bundle(&files);
    fs::create_dir_all(dir.path().join("certs")).unwrap();
    dir
}

fn sound() -> [(&'static str, String); 5] {
    [
        ("gateway.yaml", SOUND.to_owned()),
        ("roles.yaml", ROLES.to_owned()),
        ("limits.yaml", LIMITS.to_owned()),
        ("headers.yaml", HEADERS.to_owned()),
        ("tests.yaml", TESTS.to_owned()),
    ]
}

/// Replaces `from` (which stands exactly once in the bundle) by `to` and gives every problem, one per line.
fn changed(changes: &[(&str, &str)]) -> String {
    let mut files = sound();
    for (from, to) in changes {
        let count: usize = files.iter().map(|(_, text)| text.matches(from).count()).sum();
        assert_eq!(count, 1, "`{from}` stands {count} times");
        for (_, text) in &mut files {
            *text = text.replace(from, to);
        }
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let dir = bundle(&files);
    fs::create_dir(dir.path().join("certs")).unwrap();
    match load(dir.path()) {
        Ok(_) => "ok".to_owned(),
        Err(problems) => lines(&problems),
    }
}

fn lines(problems: &Problems) -> String {
    let line = |p: &crate::config::problem::Problem| {
        let hint = p.hint.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
        format!("{}:{}:{} {}{hint}", p.file, p.line, p.column, p.message)
    };
    problems.0.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_sound_bundle_has_no_problem() {
    assert_eq!(changed(&[]), "ok");
}

/// Each of these changes has this message.
fn told(mistakes: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (from, to, expected) in mistakes {
        let found = changed(&[(from, to)]);
        if found != *expected {
            wrong.push(format!("`{from}` → `{to}`\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn ten_mistakes_are_reported_in_one_run_and_nothing_follows_from_them() {
    let found = changed(&[
        ("state_dir: state", "stat_dir: state"),
        ("address: \"127.0.0.1:8443\"", "address: \"127.0.0.1:8443\", tls: modren"),
        ("algorithms: [ES256]", "algorithms: [HS256]"),
        ("endpoints: [\"127.0.0.1:9000\"]", "endpoints: [nowhere]"),
        ("    public: \"the front page\"\n", ""),
        ("auth: {bearer: login}", "auth: {bearer: logon}"),
        ("permission: orders.read,", "permission: orders.raed,"),
        ("extends: [clerk]", "extends: [clrk]"),
        ("rate: {gold: 10/s}", "rate: {gold: 10/d}"),
        ("nosniff", "sniff"),
        ("expect: {permit: app}", "expect: {permit: true, refuse: access.denied}"),
    ]);
    let places: Vec<&str> = found.lines().filter_map(|line| line.split_once(' ').map(|(place, _)| place)).collect();
    assert_eq!(
        places,
        [
            "gateway.yaml:2:10",
            "gateway.yaml:4:44",
            "gateway.yaml:7:74",
            "gateway.yaml:13:21",
            "gateway.yaml:17:3",
            "gateway.yaml:24:20",
            "gateway.yaml:25:27",
            "headers.yaml:4:35",
            "roles.yaml:5:20",
            "limits.yaml:3:44",
            "tests.yaml:5:13",
        ],
        "{found}"
    );
}

#[test]
fn a_literal_secret_is_never_printed() {
    let files = [("gateway.yaml", "version: 1\naudit: {chain: {checkpoint: {key: hunter2, evry: 1s}}}\n")];
    let dir = bundle(&files);
    let problems = load(dir.path()).unwrap_err();
    assert!(problems.text().contains("unknown key `evry`") && problems.text().contains("key: *******"));
    assert!(!problems.text().contains("hunter2") && !problems.json().contains("hunter2"), "{}", problems.text());
}

#[test]
fn included_files_are_merged_and_nothing_is_defined_twice() {
    let changed = SOUND.replace("server: {state_dir: state}", "include: [more/*.yaml]");
    let more = "version: 1\nroutes:\n  orders: {}\nserver: {state_dir: x}\ntenants: {globex: {class: gold}}\nupstreams: 1\ninclude: [a]\n";
    let mut files = sound().to_vec();
    files[0].1 = changed;
    files.push(("more/a.yaml", more.to_owned()));
    files.push(("certs/x", String::new()));
    files.push(("more/.hidden.yaml", "nonsense".to_owned()));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let problems = lines(&load(bundle(&files).path()).unwrap_err());
    assert_eq!(
        problems,
        "more/a.yaml:3:3 `orders` is defined twice (it stands in gateway.yaml:22 already)\n\
         more/a.yaml:6:1 `upstreams` is defined twice (it stands in gateway.yaml:12 already)\n\
         more/a.yaml:7:1 an included file includes no others"
    );
}

#[test]
fn variables_change_values_and_the_digest_but_never_the_structure() {
    let mut files = sound().to_vec();
    files[0].1 = SOUND.replace("server: {state_dir: state}", "server:\n  state_dir: ${WHERE:-state}");
    files.push(("certs/x", String::new()));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let dir = bundle(&files);
    let plain = load(dir.path()).unwrap().snapshot;
    let evil = "x\nroutes: {open: {public: yes}}";
    let env = |name: &str| (name == "WHERE").then(|| evil.to_owned());
    let other = load_with(dir.path(), &env).unwrap().snapshot;
    assert_eq!(other.rules.routes.len(), plain.rules.routes.len());
    assert_eq!(other.server.state_dir, dir.path().join(evil));
    assert_ne!(other.digest, plain.digest);
    assert_eq!(load(dir.path()).unwrap().snapshot.digest, plain.digest);
}

#[test]
fn tenants_domains_and_parameters_come_from_files_of_their_own() {
    let mut files = sound().to_vec();
    files[0].1 = SOUND
        .replace(
            "resolve: [{host: \"{tenant}.example\"}]",
            "file: t.yaml\n  resolve: [{custom_domain: {map: d.yaml}}, {host: \"{tenant}.example\"}]",
        )
        .replace("rate_limits: [calm]", "rate_limits: [calm]\n    tenant: {from: path_param, param: id, map: p.yaml}");
    files.push(("t.yaml", "version: 1\ntenants:\n  globex: {class: gold}\n  acme: {class: gold}\n".to_owned()));
    files.push(("d.yaml", "version: 1\nmap: {shop.example.org: globex, a/b: acme, x.example.org: glbex}\n".to_owned()));
    files.push(("p.yaml", "version: 1\nmap: {one: globex, two: nobody-else}\n".to_owned()));
    files.push(("certs/x", String::new()));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    assert_eq!(
        lines(&load(bundle(&files).path()).unwrap_err()),
        "t.yaml:4:3 tenant `acme` is defined twice (it stands in gateway.yaml:12 already)\n\
         d.yaml:2:33 `a/b` is not a host in lower case\n\
         d.yaml:2:59 unknown tenant `glbex` (did you mean `globex`?)\n\
         p.yaml:2:25 unknown tenant `nobody-else`"
    );
}

#[test]
fn ten_thousand_tenants_and_a_thousand_routes_load_quickly() {
    let mut tenants = "version: 1\ntenants:\n".to_owned();
    for n in 0..10_000 {
        tenants.push_str(&format!("  tenant-{n}: {{class: gold, ip_allow: [10.{}.0.0/16]}}\n", n % 256));
    }
    let mut gateway = SOUND.replace("  resolve: [", "  file: t.yaml\n  resolve: [");
    for n in 0..1000 {
        gateway.push_str(&format!(
            "  route-{n}:\n    match: {{hosts: [\"*.example\"], paths: [\"/r{n}/**\", \"/s{n}/{{id}}\"], methods: [GET, POST]}}\n    upstream: app\n    auth: {{bearer: login}}\n    require: {{permission: orders.read}}\n    rate_limits: [calm]\n"
        ));
    }
    let mut files = sound().to_vec();
    files[0].1 = gateway;
    files.push(("t.yaml", tenants));
    files.push(("certs/x", String::new()));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let dir = bundle(&files);
    let begin = std::time::Instant::now();
    let loaded = load(dir.path()).unwrap_or_else(|problems| panic!("{}", problems.text()));
    let took = begin.elapsed();
    println!("10,001 tenants, 1,002 routes: {took:?}");
    assert_eq!((loaded.snapshot.rules.tenants.len(), loaded.snapshot.rules.routes.len()), (10_001, 1002));
    // The bound for an optimised build is one second; this one is unoptimised and shares the machine.
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
}

#[test]
fn token_types_are_compared_in_their_short_form() {
    let mut files = sound();
    files[0].1 = SOUND.replace("algorithms: [ES256]", "algorithms: [ES256], token_types: [application/AT+jwt, JWT]");
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let dir = bundle(&files);
    fs::create_dir(dir.path().join("certs")).unwrap();
    let loaded = load(dir.path()).unwrap_or_else(|problems| panic!("{}", problems.text()));
    assert_eq!(loaded.snapshot.issuers[0].rules.token_types, ["at+jwt", "jwt"]);
}

#[test]
fn a_redirect_leads_to_the_port_of_the_tls_listener() {
    for (tls, redirect, expected) in [
        ("0.0.0.0:8443", "https", "8443"),
        ("0.0.0.0:443", "https", "443"),
        ("0.0.0.0:0", "https", "443"),
        ("0.0.0.0:8443", "{https_port: 443}", "443"),
        ("0.0.0.0:8443", "{https_port: 9443}", "9443"),
        ("0.0.0.0:8443\"}\n  more: {address: \"[::]:8443", "https", "8443"),
        ("0.0.0.0:8443\"}\n  more: {address: \"[::]:443", "https", "443"),
        (
            "0.0.0.0:8443\"}\n  more: {address: \"[::]:9443",
            "https",
            "gateway.yaml:6:20 `redirect: https` could lead to port 8443 or 9443 (write `redirect: {https_port: …}`)",
        ),
    ] {
        let mut files = sound();
        let listeners = format!("{tls}\"}}\n  plain: {{address: \"127.0.0.1:80\", redirect: {redirect}}}");
        files[0].1 = SOUND.replace("127.0.0.1:8443\"}", &listeners);
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let dir = bundle(&files);
        fs::create_dir(dir.path().join("certs")).unwrap();
        let found = match load(dir.path()) {
            Ok(loaded) => match loaded.snapshot.listeners.last().unwrap().kind {
                ListenerKind::Redirect { https_port } => https_port.unwrap_or(443).to_string(),
                ListenerKind::Tls { .. } | ListenerKind::Plaintext => "no redirect".to_owned(),
            },
            Err(problems) => lines(&problems),
        };
        assert_eq!(found, expected, "{tls} {redirect}");
    }
}

/// Paths of keys that a JSON schema does not allow, and of values that are no map or list where it wants one.
pub(crate) fn against(node: &Node, schema: &Value, root: &Value, path: &str) -> Vec<String> {
    let mut schema = schema;
    while let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        schema = &root["$defs"][name.trim_start_matches("#/$defs/")];
    }
    let choices = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)).and_then(Value::as_array);
    if let Some(choices) = choices {
        let results: Vec<Vec<String>> = choices.iter().map(|choice| against(node, choice, root, path)).collect();
        return results.into_iter().min_by_key(Vec::len).unwrap_or_default();
    }
    match &node.kind {
        Kind::Map(entries) => entries
            .iter()
            .flat_map(|(key, value)| {
                let path = format!("{path}.{}", key.text);
                match (schema["properties"].get(&key.text), schema.get("additionalProperties")) {
                    (Some(property), _) => against(value, property, root, &path),
                    (None, Some(each)) if each.is_object() => against(value, each, root, &path),
                    _ => vec![path],
                }
            })
            .collect(),
        Kind::List(items) => match schema.get("items") {
            Some(each) => items.iter().flat_map(|item| against(item, each, root, path)).collect(),
            None => vec![path.to_owned()],
        },
        Kind::Scalar { .. } if schema.get("properties").is_some() || schema.get("items").is_some() => {
            vec![path.to_owned()]
        }
        Kind::Null | Kind::Broken | Kind::Scalar { .. } => Vec::new(),
    }
}

#[test]
fn a_file_that_is_cut_or_damaged_anywhere_is_a_problem_and_no_panic() {
    let files = sound();
    let borrowed: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let dir = bundle(&borrowed);
    fs::create_dir(dir.path().join("certs")).unwrap();
    for (name, text) in &files {
        for at in (0..text.len()).step_by(3) {
            let cut = text.get(..at).unwrap().to_owned();
            let damaged: Vec<String> = ["[", "\"", "\t", "&a ", "*a ", "${", "- ", "\u{0}"]
                .iter()
                .map(|junk| format!("{cut}{junk}{}", &text[at..]))
                .collect();
            // Every third place is cut; some are damaged in each way.
            for broken in std::iter::once(cut).chain(damaged.into_iter().filter(|_| at % 21 == 0)) {
                fs::write(dir.path().join(name), &broken).unwrap();
                if let Err(problems) = load(dir.path()) {
                    assert!(!problems.0.is_empty() && !problems.text().is_empty());
                }
            }
        }
        fs::write(dir.path().join(name), text).unwrap();
    }
}
