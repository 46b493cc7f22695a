//! API keys in the state engine: made, rotated and revoked at one replica, in force at all of them, without a file.
use crate::harness::{Bundle, Gateway, OWNER, Output, PATIENCE, Postgres, Redis, Upstream, moat};
use crate::live::{App, echoes, websocket};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

const AUTH: &str = "auth: {api_key: {prefix: nlk_, keys: {state: machines}, pepper: {file: pepper}}}";
const ROOT: &str = "https://acme.localhost/live/machine";
/// What two replicas may share.
fn in_redis(address: SocketAddr) -> String {
    format!("redis: {{url: \"redis://{address}\", hash_key: {{file: pepper}}, use_for: [api_keys, revocations]}}")
}

fn in_postgres(address: SocketAddr) -> String {
    format!(
        "postgres: {{url: \"postgresql://{}@{address}/postgres\", password: {{file: password}}, connect_timeout: 10s, use_for: [api_keys, revocations]}}",
        OWNER.0
    )
}

/// A bundle whose route accepts keys of a set.
fn bundle(upstream: SocketAddr, storage: &str) -> Bundle {
    let bundle = Bundle::standard(upstream);
    bundle.write("pepper", "thirty-two bytes of a pepper, or a few more\n");
    bundle.write("password", OWNER.1);
    // What marks are found by is sealed, and replicas share it.
    bundle.write("session-keys", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    bundle.replace("sessions:\n", "sessions:\n  keys: {file: session-keys}\n");
    bundle.route(&format!(
        "  machine:\n    match: {{hosts: [\"*.localhost\"], paths: [/live/**], methods: [GET]}}\n    upstream: app\n    {AUTH}\n    require: {{session: any}}"
    ));
    if !storage.is_empty() {
        bundle.replace("routes:\n", &format!("storage:\n  {storage}\nroutes:\n"));
    }
    bundle
}

/// `moat keys` at the admin listener of a gateway.
pub fn keys(gateway: &Gateway, args: &[&str]) -> Output {
    let admin = gateway.address("admin").to_string();
    moat(gateway.bundle.root(), &[&["keys"], args, &["--admin", &admin, "--actor", "olga"]].concat())
}

/// A new key and its id.
pub fn new(gateway: &Gateway, args: &[&str]) -> (String, String) {
    let output = keys(gateway, &[&["new", "--name", "a test"], args].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    let key = output.stdout.trim().to_owned();
    let id = key[4..14].to_owned();
    assert!(output.stderr.contains(&id), "{output:?}");
    (key, id)
}

fn row(gateway: &Gateway, id: &str) -> Value {
    let output = keys(gateway, &["list", "--format", "json"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let rows: Vec<Value> = serde_json::from_str(&output.stdout).unwrap();
    rows.into_iter().find(|row| row["id"] == id).unwrap()
}

async fn verdict(gateway: &Gateway, key: &str) -> String {
    gateway.get(ROOT).header("x-api-key", key).send().await.verdict()
}

async fn becomes(gateway: &Gateway, key: &str, wanted: &str) {
    let what = format!("the key is answered with {wanted}");
    gateway.until(&what, async |g: &Gateway| verdict(g, key).await == wanted).await;
}

/// Waits for the close frame with 1008 and this code, on each of both sides.
async fn closes(app: &App, socket: &mut (impl AsyncReadExt + Unpin), code: &str) {
    let payload = [&[3, 0xf0], code.as_bytes()].concat();
    let length = u8::try_from(payload.len()).unwrap();
    let mut frame = vec![0; 2 + payload.len()];
    timeout(PATIENCE, socket.read_exact(&mut frame)).await.expect("no goodbye").unwrap();
    assert_eq!(frame, [&[0x88, length], &*payload].concat(), "{code}");
    assert_eq!(app.hears().await, [&[0x88, 0x80 | length], &*payload].concat(), "{code}");
}

/// Two replicas over one store.
async fn replicas(storage: &str) {
    let app = App::start().await;
    let start = async |instance: &str| {
        let bundle = bundle(app.script.address, storage);
        bundle.replace("instance: test-1", &format!("instance: {instance}"));
        let gateway = Gateway::start(bundle).await;
        gateway.until("the marks were read", async |g: &Gateway| g.admin("/readyz").await.status == 200).await;
        gateway
    };
    let (one, two) = (start("one").await, start("two").await);
    let (key, id) = new(&one, &["--tenant", "acme", "--role", "viewer", "--expires", "30d"]);
    assert_eq!(verdict(&two, &key).await, "200", "no file was distributed, and nothing reloaded");
    assert_eq!(verdict(&one, &key).await, "200");
    let header = format!("X-Api-Key: {key}\r\n");
    let mut before = websocket(&one, "acme", "/live/socket", &header).await;
    let mut beyond = websocket(&two, "acme", "/live/socket", &header).await;

    // Rotated at the other one: both work, until the old one does not.
    let rotated = keys(&two, &["rotate", &id, "--overlap", "8s"]);
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let successor = rotated.stdout.trim().to_owned();
    for gateway in [&one, &two] {
        assert_eq!(verdict(gateway, &key).await, "200", "both work meanwhile");
        assert_eq!(verdict(gateway, &successor).await, "200");
    }
    let again = keys(&one, &["rotate", &id]);
    assert!(again.code == Some(1) && again.stderr.contains("has a successor already"), "{again:?}");
    assert_eq!(row(&one, &successor[4..14])["subject"], format!("key:{id}"));
    for gateway in [&one, &two] {
        assert_eq!(verdict(gateway, &successor).await, "200");
    }
    // What it had open before anybody thought of a rotation ends with it.
    for (gateway, socket) in [(&one, &mut before), (&two, &mut beyond)] {
        becomes(gateway, &key, "401 session.expired").await;
        closes(&app, socket, "session.expired").await;
    }
    assert_eq!((&row(&one, &id)["state"], &row(&two, &id)["successor"]), (&"expired".into(), &successor[4..14].into()));
    assert_ne!(row(&two, &id)["last_used"], Value::Null);

    // Revoked at one: refused at the other, whose memory of it is fresh, and what it has open there is closed.
    let header = format!("X-Api-Key: {successor}\r\n");
    let mut here = websocket(&one, "acme", "/live/socket", &header).await;
    let mut there = websocket(&two, "acme", "/live/socket", &header).await;
    echoes(&mut there, &app).await;
    assert_eq!(verdict(&two, &successor).await, "200");
    let began = Instant::now();
    let revoked = keys(&one, &["revoke", &successor[4..14]]);
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    assert_eq!(verdict(&one, &successor).await, "401 session.revoked");
    becomes(&two, &successor, "401 session.revoked").await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "that is as long as a memory of it lasts: {took:?}");
    for socket in [&mut here, &mut there] {
        closes(&app, socket, "session.revoked").await;
    }
    let again = keys(&two, &["revoke", &successor[4..14]]);
    assert!(again.code == Some(0) && again.stdout.contains("already"), "{again:?}");
    let never = keys(&two, &["rotate", &successor[4..14]]);
    assert!(never.code == Some(1) && never.stderr.contains("was revoked"), "{never:?}");
    for (gateway, event, of) in [
        (&one, "api_key.new", &id),
        (&two, "api_key.rotate", &id),
        (&one, "api_key.revoke", &successor[4..14].to_owned()),
    ] {
        let entry = gateway.audit_entry(|e| e["event"] == event && e["detail"]["id"] == **of).await;
        assert_eq!((&entry["actor"], &entry["detail"]["set"]), (&"olga".into(), &"machines".into()), "{entry:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_share_a_redis_share_their_keys() {
    let redis = Redis::start(&[]).await;
    replicas(&in_redis(redis.address)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_share_a_postgresql_share_their_keys() {
    let postgres = Postgres::start(&[]).await;
    replicas(&in_postgres(postgres.address)).await;
}

/// The same with keys of a file, which a reload takes over.
#[tokio::test]
async fn what_a_rotated_key_of_a_file_has_open_ends_with_its_overlap() {
    let app = App::start().await;
    let bundle = bundle(app.script.address, "");
    bundle.replace("keys: {state: machines}, pepper: {file: pepper}", "keys: {file: keys.yaml}");
    let of_file = |bundle: &Bundle, args: &[&str]| {
        let output = moat(bundle.root(), &[&["keys"], args].concat());
        assert_eq!(output.code, Some(0), "{output:?}");
        output.stdout.trim().to_owned()
    };
    let key = of_file(&bundle, &["new", "--name", "a test", "--tenant", "acme"]);
    let kept = of_file(&bundle, &["new", "--name", "another", "--tenant", "acme"]);
    let gateway = Gateway::start(bundle).await;
    let mut sockets = Vec::new();
    for key in [&key, &kept] {
        sockets.push(websocket(&gateway, "acme", "/live/socket", &format!("X-Api-Key: {key}\r\n")).await);
    }
    let successor = of_file(&gateway.bundle, &["rotate", &key[4..14], "--overlap", "4s"]);
    becomes(&gateway, &successor, "200").await;
    echoes(&mut sockets[0], &app).await;
    closes(&app, &mut sockets[0], "session.expired").await;
    assert_eq!(verdict(&gateway, &key).await, "401 session.expired");
    echoes(&mut sockets[1], &app).await;
}

#[tokio::test]
async fn a_file_keeps_them_over_a_restart_and_a_reload_takes_their_roles_away() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(bundle(upstream.address, "")).await;
    let (key, id) = new(&gateway, &["--tenant", "acme", "--role", "viewer", "--subject", "billing sync"]);
    let (other, _) = new(&gateway, &["--tenant", "globex"]);
    let (gone, gone_id) = new(&gateway, &["--tenant", "acme"]);
    assert_eq!(keys(&gateway, &["revoke", &gone_id]).code, Some(0));
    let gateway = gateway.restart().await;
    assert_eq!(verdict(&gateway, &key).await, "200");
    let seen = upstream.last();
    assert_eq!(seen.header("x-user-id").as_deref(), Some("billing%20sync"));
    assert_eq!((seen.header("x-user-roles").as_deref(), seen.header("x-api-key")), (Some("viewer"), None));
    assert_eq!(verdict(&gateway, &other).await, "403 tenant.mismatch");
    assert_eq!(verdict(&gateway, &gone).await, "401 session.revoked");
    assert_ne!(row(&gateway, &id)["last_used"], Value::Null);

    // A role and a tenant go: so do those who have them, and nobody else.
    let roles = gateway.bundle.read("policies/roles.yaml");
    gateway.bundle.write("policies/roles.yaml", &roles.replace("viewer", "watcher"));
    becomes(&gateway, &key, "401 session.invalid").await;
    let entry = gateway.audit_entry(|e| e.to_string().contains("a role of the API key is not known any more")).await;
    assert_eq!(entry["facts"]["path"], "/live/machine", "{entry:#}");
    assert_eq!(verdict(&gateway, &other).await, "403 tenant.mismatch");
    let refused = keys(&gateway, &["new", "--name", "x", "--role", "viewer"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("unknown role `viewer`"), "{refused:?}");
    gateway.bundle.write("policies/roles.yaml", &roles);
    becomes(&gateway, &key, "200").await;
}

#[tokio::test]
async fn scopes_of_a_key_in_the_state_hold_over_a_rotation_and_a_restart() {
    let upstream = Upstream::start().await;
    let bundle = bundle(upstream.address, "");
    for (name, permission) in [("reading", "bookings.read"), ("writing", "bookings.write")] {
        bundle.route(&format!(
            "  {name}:\n    match: {{hosts: [\"*.localhost\"], paths: [/{name}], methods: [GET]}}\n    upstream: app\n    {AUTH}\n    \
             require: {{permission: {permission}}}"
        ));
    }
    let gateway = Gateway::start(bundle).await;
    let may = async |gateway: &Gateway, key: &str| {
        let of = async |path: &str| {
            let url = format!("https://acme.localhost/{path}");
            gateway.get(&url).header("x-api-key", key).send().await.verdict()
        };
        (of("reading").await, of("writing").await)
    };
    let read_only = ("200".to_owned(), "403 access.denied".to_owned());
    let who = ["--tenant", "acme", "--role", "cashier", "--scope", "bookings.read"];
    let (key, id) = new(&gateway, &who);
    assert_eq!(may(&gateway, &key).await, read_only);
    assert_eq!(verdict(&gateway, &key).await, "200", "any session will do there");
    assert_eq!(super::api_keys::claims(&upstream)["scope"], "bookings.read");
    let entry = gateway.audit_entry(|e| e["event"] == "api_key.new").await;
    assert_eq!(entry["detail"]["scopes"], serde_json::json!(["bookings.read"]), "{entry:#}");
    let rotated = keys(&gateway, &["rotate", &id]);
    let successor = rotated.stdout.trim().to_owned();
    assert_eq!(row(&gateway, &successor[4..14])["scopes"], serde_json::json!(["bookings.read"]));
    let foreign = "ak_live_Q7c1f0e2a9b84d55";
    let hash = bcrypt::hash(foreign, 5).unwrap();
    let import = ["import", "--name", "an older one", "--id", "ak_live_Q7c1", "--hash", &hash];
    assert_eq!(keys(&gateway, &[&import, &who[..]].concat()).code, Some(0));
    let (all, _) = new(&gateway, &["--tenant", "acme", "--role", "cashier"]);
    assert_eq!(row(&gateway, &all[4..14])["scopes"], Value::Null);

    let gateway = gateway.restart().await;
    for narrow in [&*key, &*successor, foreign] {
        assert_eq!(may(&gateway, narrow).await, read_only, "{narrow}");
    }
    assert_eq!(may(&gateway, &all).await, ("200".to_owned(), "200".to_owned()));
    // A permission that is gone is granted to nobody, and leaves the others as they were.
    let text = gateway.bundle.read("gateway.yaml");
    gateway.bundle.write("gateway.yaml", &text.replace("permission: bookings.read", "permission: bookings.see"));
    let roles = gateway.bundle.read("policies/roles.yaml");
    let renamed = roles.replace("[read, write]", "[see, write]").replace("bookings.read", "bookings.see");
    gateway.bundle.write("policies/roles.yaml", &renamed);
    let neither = ("403 access.denied".to_owned(), "403 access.denied".to_owned());
    gateway.until("nothing is left", async |g: &Gateway| may(g, &successor).await == neither).await;
    assert_eq!(may(&gateway, &all).await.0, "200");
}

/// How often the store was asked for a key.
async fn asked(gateway: &Gateway) -> f64 {
    let metrics = gateway.metrics().await;
    let of = |line: &&str| line.contains("kind=\"api_key\"") && line.contains("op=\"get\"");
    let lines = metrics.lines().filter(|line| line.starts_with("moat_state_operations_total{")).filter(of);
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

#[tokio::test]
async fn what_somebody_makes_up_costs_no_look_up() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(bundle(upstream.address, "")).await;
    let (key, _) = new(&gateway, &["--tenant", "acme"]);
    assert_eq!(verdict(&gateway, &key).await, "200");
    let before = asked(&gateway).await;
    for byte in 0..40 {
        // Prefix, form and checksum are right, as anybody can make them; the mark is not.
        let made_up = decide::api_key::make("nlk_", &[byte; 64]).unwrap();
        assert_eq!(verdict(&gateway, &made_up).await, "401 session.invalid");
    }
    // Whether there are imported keys is asked for once in five seconds.
    let after = asked(&gateway).await;
    assert!(after - before < 20.0, "{before} look-ups, then {after}");

    // Imported ones cannot be marked: who guesses at them is remembered.
    let foreign = "ak_live_Q7c1f0e2a9b84d55";
    let hash = bcrypt::hash(foreign, 5).unwrap();
    let who = ["--name", "an older one", "--tenant", "acme", "--role", "viewer"];
    let import = |id: &str| keys(&gateway, &[&["import", "--id", id, "--hash", &hash], who.as_slice()].concat());
    let imported = import("ak_live_Q7c1");
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let twice = import("ak_live_Q7c1");
    assert!(twice.code == Some(1) && twice.stderr.contains("there is a key `ak_live_Q7c1` already"), "{twice:?}");
    becomes(&gateway, foreign, "200").await;
    assert_eq!(verdict(&gateway, "ak_live_Q7c1f0e2a9b84d56").await, "401 session.invalid");
    let before = asked(&gateway).await;
    for _ in 0..40 {
        assert_eq!(verdict(&gateway, "ak_live_XXXXf0e2a9b84d55").await, "401 session.invalid");
    }
    let after = asked(&gateway).await;
    assert!(after - before < 20.0, "{before} look-ups, then {after}");
    let gateway = gateway.restart().await;
    assert_eq!(verdict(&gateway, foreign).await, "200");
    let rotated = keys(&gateway, &["rotate", "ak_live_Q7c1"]);
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    assert_eq!(verdict(&gateway, rotated.stdout.trim()).await, "200");
}

#[tokio::test]
async fn orders_about_a_set_say_what_is_wrong_and_change_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(bundle(upstream.address, "")).await;
    let (_, id) = new(&gateway, &["--tenant", "acme", "--role", "viewer"]);
    let before = keys(&gateway, &["list", "--format", "json"]).stdout;
    let long = "x".repeat(300);
    for (args, code, message) in [
        (&["new", "--name", "x", "--role", "viewr"][..], 1, "did you mean `viewer`?"),
        (&["new", "--name", "x", "--scope", "bookings.raed"], 1, "did you mean `bookings.read`?"),
        (&["new", "--name", "x", "--scope", "bookings.read,bookings.read"], 1, "`bookings.read` stands twice"),
        (&["new", "--name", "x", "--tenant", "acne"], 1, "unknown tenant `acne`"),
        (&["new", "--name", "x", "--expires", "0s"], 1, "is no duration"),
        (&["new", "--name", &long], 1, "name and subject have 1 to 256 bytes"),
        (&["revoke", "0000000000"], 1, "has no key `0000000000`"),
        (&["rotate", "0000000000"], 1, "has no key `0000000000`"),
        (&["rotate", &id, "--overlap", "soon"], 1, "is no duration"),
        (&["import", "--name", "x", "--id", "ak_live", "--hash", "y"], 1, "this is no bcrypt hash that can be used"),
        (&["list", "--set", "other"], 1, "no route names the set `other`"),
        (&["list", "--set", "machines", "--keys", "keys.yaml"], 2, "cannot be used with"),
    ] {
        let output = keys(&gateway, args);
        assert_eq!(output.code, Some(code), "{args:?}: {output:?}");
        assert!(output.stderr.contains(message), "{args:?}: {output:?}");
        assert_eq!(keys(&gateway, &["list", "--format", "json"]).stdout, before, "{args:?}");
    }
    // Being on this machine is not enough for it: it takes the pepper.
    gateway.bundle.write("stranger/gateway.yaml", &gateway.bundle.read("gateway.yaml"));
    gateway.bundle.write("stranger/pepper", "another pepper of thirty-two bytes, or more\n");
    for args in [&["list"][..], &["new", "--name", "x"], &["revoke", &id]] {
        let stranger = keys(&gateway, &[args, &["--config", "stranger/gateway.yaml"]].concat());
        assert!(stranger.code == Some(1) && stranger.stderr.contains("the order is not proven"), "{stranger:?}");
    }
    let nobody = moat(gateway.bundle.root(), &["keys", "list", "--admin", "127.0.0.1:1"]);
    assert!(nobody.code == Some(4) && nobody.stderr.contains("no gateway answers"), "{nobody:?}");
    assert_eq!(keys(&gateway, &["list", "--format", "json"]).stdout, before);
}
