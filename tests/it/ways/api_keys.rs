//! API keys from `moat keys` to the application: let in, refused, rotated, revoked, imported, and never forwarded.
use crate::harness::{Bundle, Gateway, Output, Redis, Upstream, moat, outcomes};
use serde_json::Value;

const AUTH: &str = "auth: {api_key: {prefix: nlk_, keys: {file: keys.yaml}}}";
const ROOT: &str = "https://acme.localhost/machine";

/// A bundle whose routes accept API keys; its file of keys is yet to be made.
async fn bundle() -> (Bundle, Upstream) {
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    for (name, rest) in [
        ("machine", format!("{AUTH}\n    require: {{permission: bookings.read}}\n    rate_limits: [per-key]")),
        ("widget", format!("{AUTH}\n    require: {{session: any}}\n    tenant: {{from: api_key}}")),
        (
            "mixed",
            format!(
                "auth: {{any_of: [{{cookie: {{name: __Host-nl, issuer: workforce}}}}, {{{}}}]}}\n    require: {{session: any}}",
                &AUTH[7..AUTH.len() - 1]
            ),
        ),
    ] {
        bundle.route(&format!(
            "  {name}:\n    match: {{hosts: [\"*.localhost\", keys.test], paths: [/{name}], methods: [GET, POST]}}\n    upstream: app\n    headers: api-json\n    {rest}"
        ));
    }
    bundle.replace(
        "hosts: [\"*.localhost\", keys.test], paths: [/machine]",
        "hosts: [\"*.localhost\"], paths: [/machine]",
    );
    bundle.replace("hosts: [\"*.localhost\", keys.test], paths: [/mixed]", "hosts: [\"*.localhost\"], paths: [/mixed]");
    let limits = bundle.read("policies/rate-limits.yaml");
    bundle.write(
        "policies/rate-limits.yaml",
        &format!("{limits}  per-key: {{key: [api_key.id], rate: 1/h, burst: 30}}\n"),
    );
    (bundle, upstream)
}

fn keys(bundle: &Bundle, args: &[&str]) -> Output {
    moat(bundle.root(), &[&["keys"], args].concat())
}

/// A new key and its id.
fn new(bundle: &Bundle, args: &[&str]) -> (String, String) {
    let output = keys(bundle, &[&["new", "--name", "a test"], args].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    let key = output.stdout.trim().to_owned();
    let id = key[4..14].to_owned();
    assert!(output.stderr.contains(&id), "{output:?}");
    (key, id)
}

fn list(bundle: &Bundle) -> Vec<Value> {
    let output = keys(bundle, &["list", "--format", "json"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    serde_json::from_str(&output.stdout).unwrap()
}

fn row(bundle: &Bundle, id: &str) -> Value {
    list(bundle).into_iter().find(|row| row["id"] == id).unwrap()
}

async fn verdict(gateway: &Gateway, url: &str, key: &str) -> String {
    gateway.get(url).header("x-api-key", key).send().await.verdict()
}

async fn becomes(gateway: &Gateway, key: &str, wanted: &str) {
    let what = format!("the key is answered with {wanted}");
    gateway.until(&what, async |g: &Gateway| verdict(g, ROOT, key).await == wanted).await;
}

#[tokio::test]
async fn a_key_lets_in_its_holder_and_reaches_no_application() {
    let (bundle, upstream) = bundle().await;
    let (key, id) = new(&bundle, &["--tenant", "acme", "--role", "viewer", "--subject", "billing sync"]);
    let (clerk, _) = new(&bundle, &["--tenant", "acme"]);
    let (homeless, _) = new(&bundle, &[]);
    let file = bundle.read("keys.yaml");
    assert!(!file.contains(&key) && !file.contains(&key[15..47]), "the file holds the key: {file}");
    assert_eq!(row(&bundle, &id)["last_used"], Value::Null);

    let mut gateway = Gateway::start(bundle).await;
    for h2 in [false, true] {
        let call =
            gateway.get(ROOT).header("x-api-key", &key).header("x_api_key", "a twin").header("x-user-id", "root");
        let reply = if h2 { call.h2() } else { call }.send().await;
        assert_eq!(reply.verdict(), "200", "{reply:?}");
        let seen = upstream.last();
        assert_eq!(seen.header("x-user-id").as_deref(), Some("billing%20sync"));
        assert_eq!(seen.header("x-tenant-id").as_deref(), Some("acme"));
        assert_eq!(seen.header("x-user-roles").as_deref(), Some("viewer"));
        assert_eq!((seen.header("x-api-key"), seen.header("x_api_key")), (None, None), "{seen:?}");
    }
    let before = upstream.seen().len();
    let wrong = format!("{}{}", &key[..20], "0000000000000000000000000000000000");
    let broken = format!("{}{}", &key[..52], if key.ends_with('x') { 'y' } else { 'x' });
    for (url, key, expected) in [
        (ROOT, &*wrong, "401 session.invalid"),
        (ROOT, &*broken, "401 session.invalid"),
        (ROOT, "", "401 session.invalid"),
        (ROOT, "Bearer nlk_", "401 session.invalid"),
        (ROOT, &*clerk, "403 access.denied"),
        (ROOT, &*homeless, "403 tenant.mismatch"),
        ("https://globex.localhost/machine", &*key, "403 tenant.mismatch"),
        ("https://acme.localhost/api/bookings", &*key, "401 session.missing"),
        ("https://acme.localhost/widget", &*homeless, "403 tenant.mismatch"),
    ] {
        assert_eq!(verdict(&gateway, url, key).await, expected, "{url} {key}");
    }
    let twice = gateway.get(ROOT).header("x-api-key", &key).header("x-api-key", &key).send().await;
    assert_eq!(twice.verdict(), "401 session.invalid");
    let query = gateway.get(&format!("{ROOT}?x-api-key={key}")).send().await;
    assert_eq!(query.verdict(), "401 session.missing", "a key in an address is in every log");
    assert_eq!(upstream.seen().len(), before, "a refused request reached the application");

    // A route whose tenant is the key's; and no evidence of an origin is asked of what no browser sends by itself.
    assert_eq!(verdict(&gateway, "https://acme.localhost/widget", &key).await, "200");
    assert_eq!(
        gateway.post("https://acme.localhost/mixed", "{}").header("x-api-key", &key).send().await.verdict(),
        "200"
    );
    let cookie = format!("__Host-nl={}", gateway.token("acme", &["viewer"]));
    let both = gateway.get("https://acme.localhost/mixed").header("cookie", &cookie).header("x-api-key", "junk");
    assert_eq!(both.send().await.verdict(), "401 session.invalid", "a bad key is not passed over for a good cookie");
    assert_eq!(gateway.get("https://acme.localhost/mixed").header("cookie", &cookie).send().await.verdict(), "200");

    // Counted by key, for each of them alone.
    let mut left = 40;
    while verdict(&gateway, ROOT, &key).await == "200" {
        left -= 1;
        assert!(left > 0, "the limit by key does not hold");
    }
    assert_eq!(verdict(&gateway, ROOT, &key).await, "429 quota.exceeded");
    assert_eq!(verdict(&gateway, ROOT, &clerk).await, "403 access.denied");

    let metrics = gateway.metrics().await;
    let accepted =
        metrics.lines().find(|l| l.starts_with("moat_authn_total{") && l.contains("api_key") && l.contains("machine"));
    assert!(accepted.is_some_and(|line| line.contains("\"ok\"")), "{metrics}");
    assert_eq!(gateway.stop(), Some(0));
    assert_ne!(row(&gateway.bundle, &id)["last_used"], Value::Null, "written at the end");
    let entries = outcomes(&gateway);
    let used = entries.iter().filter(|entry| entry["facts"]["carrier"] == "api_key").collect::<Vec<_>>();
    assert!(used.iter().any(|entry| entry["facts"]["session"] == id.as_str() && entry["facts"]["issuer"] == "api_key"));
    assert!(!serde_json::to_string(&entries).unwrap().contains(&key[15..40]), "a secret is in the log");
}

#[tokio::test]
async fn keys_are_rotated_with_an_overlap_and_revoked_without_a_restart() {
    let (bundle, _upstream) = bundle().await;
    let (key, id) = new(&bundle, &["--tenant", "acme", "--role", "viewer", "--expires", "30d"]);
    let gateway = Gateway::start(bundle).await;
    assert_eq!(verdict(&gateway, ROOT, &key).await, "200");

    let output = keys(&gateway.bundle, &["rotate", &id, "--overlap", "1h"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let successor = output.stdout.trim().to_owned();
    becomes(&gateway, &successor, "200").await;
    assert_eq!(verdict(&gateway, ROOT, &key).await, "200", "both work meanwhile");
    let (old, new) = (row(&gateway.bundle, &id), row(&gateway.bundle, &successor[4..14]));
    assert_eq!(old["successor"], &successor[4..14]);
    assert_eq!(new["subject"], format!("key:{id}"), "the application knows it by the same name");
    assert!(old["expires"].as_str() < new["expires"].as_str(), "{old} {new}");
    let again = keys(&gateway.bundle, &["rotate", &id]);
    assert!(again.code == Some(1) && again.stderr.contains("has a successor already"), "{again:?}");

    // The overlap is over: as if an hour had passed.
    let file = gateway.bundle.read("keys.yaml");
    let expires = old["expires"].as_str().unwrap();
    gateway.bundle.write("keys.yaml", &file.replace(expires, "2020-01-01T00:00:00Z"));
    becomes(&gateway, &key, "401 session.expired").await;
    assert_eq!(verdict(&gateway, ROOT, &successor).await, "200");

    let revoked = keys(&gateway.bundle, &["revoke", &successor[4..14]]);
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    becomes(&gateway, &successor, "401 session.revoked").await;
    let told = |entry: &Value| entry["event"] == "config.load" && entry.to_string().contains("` is new");
    gateway.audit_entry(told).await;
    let text = keys(&gateway.bundle, &["list"]);
    assert!(text.stdout.contains("revoked") && text.stdout.contains("expired"), "{text:?}");
    assert!(!text.stdout.contains("hmac"), "{text:?}");
}

/// The claims of the assertion that came last; the application's own check of it is elsewhere.
pub fn claims(upstream: &Upstream) -> Value {
    let assertion = upstream.last().header("moat-assertion").expect("an assertion");
    let part = assertion.split('.').nth(1).unwrap();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, part).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn a_key_with_scopes_may_do_only_those_of_what_its_roles_grant() {
    const WRITE: &str = "https://acme.localhost/ledger";
    let (bundle, upstream) = bundle().await;
    bundle.route(&format!(
        "  ledger:\n    match: {{hosts: [\"*.localhost\"], paths: [/ledger], methods: [GET]}}\n    upstream: app\n    {AUTH}\n    \
         require: {{permission: bookings.write}}"
    ));
    let who = ["--tenant", "acme", "--role", "cashier"];
    let (all, _) = new(&bundle, &who);
    let (reads, id) = new(&bundle, &[&who[..], &["--scope", "bookings.read", "--scope", "accounts.refund"]].concat());
    let (writes, _) = new(&bundle, &["--tenant", "acme", "--role", "viewer", "--scope", "bookings.write"]);
    assert_eq!(row(&bundle, &id)["scopes"], serde_json::json!(["bookings.read", "accounts.refund"]));
    assert_eq!(row(&bundle, &all[4..14])["scopes"], Value::Null);
    let text = keys(&bundle, &["list"]).stdout;
    assert!(text.contains("a test (only bookings.read, accounts.refund)\n") && text.contains("a test\n"), "{text}");
    let unknown = keys(&bundle, &["new", "--name", "x", "--role", "viewer", "--scope", "bookings.raed"]);
    assert!(unknown.code == Some(78) && unknown.stderr.contains("did you mean `bookings.read`?"), "{unknown:?}");

    let gateway = Gateway::start(bundle).await;
    for (key, read, write) in [
        (&all, "200", "200"),
        (&reads, "200", "403 access.denied"),
        (&writes, "403 access.denied", "403 access.denied"),
    ] {
        assert_eq!(verdict(&gateway, ROOT, key).await, read);
        assert_eq!(verdict(&gateway, WRITE, key).await, write);
    }
    let refused = gateway.get(WRITE).header("x-api-key", &reads).send().await;
    assert_eq!(refused.header("www-authenticate"), None, "another key is no better, the same one with more scopes is");
    let of = |entry: &Value, key: &str| entry["kind"] == "request" && entry["facts"]["session"] == key[4..14];
    let entry = gateway.audit_entry(|e| of(e, &reads) && e["verdict"] == "access.denied").await;
    assert_eq!(entry["cause"], "role `cashier` grants `bookings.write`, and no scope of the key names it");
    assert_eq!(entry["facts"]["scopes"], serde_json::json!(["bookings.read", "accounts.refund"]), "{entry:#}");
    let entry = gateway.audit_entry(|e| of(e, &all)).await;
    assert!(entry["facts"].get("scopes").is_none(), "{entry:#}");
    assert_eq!(verdict(&gateway, ROOT, &all).await, "200");
    assert!(claims(&upstream).get("scope").is_none());
    assert_eq!(verdict(&gateway, ROOT, &reads).await, "200");
    assert_eq!(claims(&upstream)["scope"], "bookings.read accounts.refund");

    // A successor has the scopes of its predecessor; what a key gains by an edit is told.
    let rotated = keys(&gateway.bundle, &["rotate", &id]);
    let successor = rotated.stdout.trim().to_owned();
    becomes(&gateway, &successor, "200").await;
    assert_eq!(verdict(&gateway, WRITE, &successor).await, "403 access.denied");
    let file = gateway.bundle.read("keys.yaml");
    let wider = file.replace("accounts.refund", "bookings.write");
    assert_ne!(file, wider);
    gateway.bundle.write("keys.yaml", &wider);
    gateway.until("the edit holds", async |g: &Gateway| verdict(g, WRITE, &successor).await == "200").await;
    let told = format!("API key `{}` has more scopes", &successor[4..14]);
    gateway.audit_entry(|entry| entry["event"] == "config.load" && entry.to_string().contains(&told)).await;
}

#[tokio::test]
async fn a_key_of_another_program_is_taken_over_by_its_bcrypt_hash() {
    let (bundle, _upstream) = bundle().await;
    let foreign = "ak_live_Q7c1f0e2a9b84d55";
    let hash = bcrypt::hash(foreign, 5).unwrap();
    let who = ["--name", "an older one", "--tenant", "acme", "--role", "viewer"];
    let output = keys(&bundle, &[&["import", "--id", "ak_live_Q7c1", "--hash", &hash], who.as_slice()].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    let dear = keys(
        &bundle,
        &[&["import", "--id", "ak_live_9999", "--hash", &hash.replace("$05$", "$17$")], who.as_slice()].concat(),
    );
    assert!(dear.code == Some(78) && dear.stderr.contains("this is no bcrypt hash that can be used"), "{dear:?}");
    assert_eq!(list(&bundle).len(), 1, "what was refused is not in the file");
    let gateway = Gateway::start(bundle).await;
    assert_eq!(verdict(&gateway, ROOT, "ak_live_Q7c1f0e2a9b84d56").await, "401 session.invalid");
    assert_eq!(verdict(&gateway, ROOT, foreign).await, "200");
    assert_eq!(verdict(&gateway, ROOT, foreign).await, "200");
    assert_eq!(verdict(&gateway, ROOT, "ak_live_Q7c1f0e2a9b84d56").await, "401 session.invalid");
    let rotated = keys(&gateway.bundle, &["rotate", "ak_live_Q7c1"]);
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    becomes(&gateway, rotated.stdout.trim(), "200").await;
}

#[tokio::test]
async fn commands_say_what_is_wrong_and_change_nothing() {
    let (bundle, _upstream) = bundle().await;
    let (_, id) = new(&bundle, &["--tenant", "acme", "--role", "viewer"]);
    let before = bundle.read("keys.yaml");
    for (args, code, message) in [
        (&["new", "--name", "x", "--role", "viewr"][..], 78, "did you mean `viewer`?"),
        (&["new", "--name", "x", "--tenant", "acne"], 78, "unknown tenant `acne`"),
        (&["new", "--name", "x", "--expires", "0s"], 1, "is no duration"),
        (&["new", "--name", "${HOME}"], 1, "stands for a variable"),
        (&["revoke", "0000000000"], 1, "has no key `0000000000`"),
        (&["rotate", &id, "--overlap", "soon"], 1, "is no duration"),
        (&["import", "--name", "x", "--id", &id, "--hash", "y"], 1, "there is a key"),
        (&["list", "--keys", "other.yaml"], 1, "no route names `other.yaml`"),
    ] {
        let output = keys(&bundle, args);
        assert_eq!(output.code, Some(code), "{args:?}: {output:?}");
        assert!(output.stderr.contains(message), "{args:?}: {output:?}");
        assert_eq!(bundle.read("keys.yaml"), before, "{args:?}");
    }
    // A leaked key is revoked even where something else is wrong, and what that means is told.
    bundle.replace("  workforce:\n", "  workforce:\n    wrong: true\n");
    let revoked = keys(&bundle, &["revoke", &id]);
    assert!(revoked.code == Some(78) && revoked.stderr.contains("will not take this over"), "{revoked:?}");
    assert_eq!(row(&bundle, &id)["state"], "revoked");
}

/// Which key nobody uses any more is told by all replicas together, or somebody revokes one that is in use.
#[tokio::test]
async fn replicas_tell_each_other_when_a_key_was_used() {
    let redis = Redis::start(&[]).await;
    let replica = async |instance: &str| {
        let (bundle, upstream) = bundle().await;
        bundle.replace("instance: test-1", &format!("instance: {instance}"));
        let storage = format!(
            "storage:\n  redis: {{url: \"redis://{}\", hash_key: {{file: pepper}}, use_for: [api_keys]}}\nroutes:\n  home:",
            redis.address
        );
        bundle.replace("routes:\n  home:", &storage);
        bundle.write("pepper", "thirty-two bytes of a pepper, or a few more\n");
        let text = bundle.read("gateway.yaml");
        bundle.write(
            "gateway.yaml",
            &text.replace("keys: {file: keys.yaml}}", "keys: {file: keys.yaml}, pepper: {file: pepper}}"),
        );
        (bundle, upstream)
    };
    let (first, _one) = replica("one").await;
    let (second, _two) = replica("two").await;
    let (key, id) = new(&first, &["--tenant", "acme", "--role", "viewer"]);
    second.write("keys.yaml", &first.read("keys.yaml"));
    let (mut used, mut idle) = (Gateway::start(first).await, Gateway::start(second).await);
    assert_eq!(verdict(&used, ROOT, &key).await, "200");
    assert_eq!(used.stop(), Some(0));
    assert_eq!(row(&idle.bundle, &id)["last_used"], Value::Null);
    assert_eq!(idle.stop(), Some(0));
    assert_eq!(row(&idle.bundle, &id)["last_used"], row(&used.bundle, &id)["last_used"]);
    assert_ne!(row(&idle.bundle, &id)["last_used"], Value::Null, "it was used at the other");
}

/// The configurations of the page are ones that `moat check` accepts.
#[test]
fn what_the_page_shows_loads() {
    let page = include_str!("../../../docs/api-keys.md");
    let blocks: Vec<&str> = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
        for secret in ["pepper", "session-keys", "postgres"] {
            bundle.write(&format!("secrets/{secret}"), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
        }
        let (routes, shared) = block.split_once("storage:\n").unwrap_or((block, ""));
        bundle.route(routes.strip_prefix("routes:\n").unwrap());
        if let Some((storage, _)) = shared.split_once("sessions: {keys: {file: secrets/session-keys}}") {
            bundle.replace("sessions:\n", "sessions:\n  keys: {file: secrets/session-keys}\n");
            bundle.replace("tenancy:\n", &format!("storage:\n{storage}tenancy:\n"));
        } else {
            let missing = moat(bundle.root(), &["check"]);
            assert!(missing.code == Some(78) && missing.stderr.contains("make the first key"), "{missing:?}");
            new(&bundle, &["--tenant", "acme", "--role", "viewer"]);
        }
        let checked = moat(bundle.root(), &["check"]);
        assert_eq!(checked.code, Some(0), "{block}\n{checked:?}");
    }
}
