//! Sessions that an application keeps in its own Redis or PostgreSQL: found by the application's cookie, believed in what they
//! say, and missed by nobody when the store is gone.
use crate::apps::stage::{App, install, installed};
use crate::harness::{Bundle, Gateway, OWNER, Postgres, Redis, Upstream, Weather, Wire, field, moat, outcomes};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::net::SocketAddr;
use std::process::Command;

const PAGE: &str = "https://acme.localhost/shop";
const ANN: &str = r#"{"cookie":{"path":"/"},"user":{"id":42,"org":"acme","roles":["cashier"]},"at":1700000000000}"#;
const CLAIMS: &str = "claims: {subject: /user/id, tenant: /user/org, roles: /user/roles, auth_time: /at}";

/// The standard bundle with a store called `shop`, and a route that accepts its sessions.
fn bundle(app: &Upstream, store: &str) -> Bundle {
    let bundle = Bundle::standard(app.address);
    bundle.write("password", OWNER.1);
    bundle.replace("tenancy:\n", &format!("app_sessions:\n  shop: {{cookie: sid, {CLAIMS}, {store}}}\ntenancy:\n"));
    bundle.route("  shop:\n    match: {hosts: [\"*.localhost\"], paths: [/shop], methods: [GET, POST]}\n    upstream: app\n    headers: api-json\n    auth: {any_of: [{bearer: workforce}, {app_session: shop}]}\n    require: {permission: bookings.read}");
    bundle
}

fn in_redis(address: SocketAddr, more: &str) -> String {
    format!("redis: {{url: \"redis://{address}\", key: \"sess:{{cookie}}\"}}{more}")
}

async fn verdict(gateway: &Gateway, cookie: &str) -> String {
    gateway.get(PAGE).header("cookie", &format!("sid={cookie}")).send().await.verdict()
}

async fn becomes(gateway: &Gateway, cookie: &str, wanted: &str) {
    gateway.until(wanted, async |gateway| verdict(gateway, cookie).await == wanted).await;
}

/// Reads that the server has done.
fn reads(redis: &Redis) -> String {
    let stats = redis.ask("INFO commandstats");
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_getrange:calls="));
    line.and_then(|rest| rest.split(',').next()).unwrap_or("0").to_owned()
}

fn set(redis: &Redis, key: &str, value: &str) {
    assert!(redis.ask(&format!("SET {key} '{value}'")).contains("OK"), "{key}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_in_redis_says_who_it_is_and_nothing_else_does() {
    let redis = Redis::start(&[]).await;
    // What the page says is enough.
    redis.ask("ACL SETUSER reader on >secret-of-the-reader ~sess:* +getrange +ping");
    for (id, session) in [
        ("ann", ANN),
        ("Zz-_.~+/=9", ANN),
        ("visitor", r#"{"cookie":{"path":"/"},"cart":[1]}"#),
        ("odd", r#"{"user":{"id":{"a":1}}}"#),
        ("pickle", "gAWVCgAAAAAAAAB9lC4="),
        ("poor", r#"{"user":{"id":"bob","org":"acme"}}"#),
    ] {
        set(&redis, &format!("sess:{id}"), session);
    }
    set(&redis, "other", ANN);
    redis.ask("RPUSH sess:list a b");
    for (key, length) in [("sess:large", 70_000), ("sess:vast", 3 << 20)] {
        redis.ask(&format!("SETRANGE {key} {length} x"));
    }
    let app = Upstream::start().await;
    let store = format!(
        "redis: {{url: \"redis://{}\", key: \"sess:{{cookie}}\", username: reader, password: {{file: reader}}}}",
        redis.address
    );
    let bundle = bundle(&app, &store);
    bundle.write("reader", "secret-of-the-reader");
    let mut gateway = Gateway::start(bundle).await;

    for h2 in [false, true] {
        let call = gateway.get(PAGE).header("cookie", "a=b; sid=ann");
        let reply = if h2 { call.h2() } else { call }.send().await;
        assert_eq!(reply.verdict(), "200", "{reply:?}");
        let seen = app.last();
        for (name, value) in [
            ("x-user-id", Some("42")),
            ("x-tenant-id", Some("acme")),
            ("x-user-roles", Some("cashier")),
            ("cookie", Some("a=b; sid=ann")),
        ] {
            assert_eq!(seen.header(name).as_deref(), value, "{name}");
        }
    }
    assert_eq!(verdict(&gateway, "Zz-_.~+/=9").await, "200");
    let reached = app.seen().len();
    for (cookie, expected) in [
        ("unknown", "401 session.expired"),
        ("list", "401 session.expired"),
        ("visitor", "401 session.missing"),
        ("odd", "503 gateway.unavailable"),
        ("pickle", "503 gateway.unavailable"),
        ("large", "503 gateway.unavailable"),
        ("vast", "503 gateway.unavailable"),
        ("poor", "403 access.denied"),
    ] {
        assert_eq!(verdict(&gateway, cookie).await, expected, "{cookie}");
        assert_eq!(verdict(&gateway, "ann").await, "200", "nobody else is hurt by `{cookie}`");
    }
    let before = reads(&redis);
    let long = "x".repeat(257);
    for cookie in ["../other", "a:b", "a,b", "*", "ann%0d%0aFLUSHALL", "'", "$1", "{cookie}", "", &long, "ann; sid=ann"]
    {
        // A path is a word without meaning here, and found nowhere.
        let expected = if cookie == "../other" { "401 session.expired" } else { "401 session.invalid" };
        assert_eq!(verdict(&gateway, cookie).await, expected, "{cookie}");
    }
    let asked: u64 = before.parse::<u64>().unwrap() + 1;
    assert_eq!(reads(&redis), asked.to_string(), "nobody is asked about what cannot be an id");
    let elsewhere = gateway.get("https://globex.localhost/shop").header("cookie", "sid=ann").send().await;
    assert_eq!(elsewhere.verdict(), "403 tenant.mismatch");
    let forged = gateway.post(PAGE, "{}").header("cookie", "sid=ann").header("sec-fetch-site", "cross-site");
    assert_eq!(forged.send().await.verdict(), "403 csrf.unproven");
    let own = gateway.post(PAGE, "{}").header("cookie", "sid=ann").header("sec-fetch-site", "same-origin");
    assert_eq!(own.send().await.verdict(), "200");
    let token = gateway.token("acme", &["cashier"]);
    let both = gateway.get(PAGE).bearer(&token).header("cookie", "sid=unknown").send().await;
    assert_eq!(both.verdict(), "200", "what is sent on purpose comes first");
    assert_eq!(app.seen().len(), reached + 10, "refused requests reach no application");

    redis.ask("DEL sess:ann");
    assert_eq!(verdict(&gateway, "ann").await, "401 session.expired", "a sign-out holds at once");
    assert_eq!(gateway.get(PAGE).send().await.verdict(), "401 session.missing");
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("moat_app_session_store_up{store=\"shop\"} 1"), "{metrics}");
    for result in ["known", "refused", "unavailable"] {
        let line = format!("moat_app_session_lookups_total{{result=\"{result}\",store=\"shop\"}}");
        assert!(metrics.lines().any(|l| l.starts_with(&line) && !l.ends_with(" 0")), "{line}\n{metrics}");
    }
    assert_eq!(gateway.stop(), Some(0));
    let entries = outcomes(&gateway);
    let known = entries.iter().find(|entry| entry["facts"]["carrier"] == "cookie").unwrap();
    assert_eq!(
        (known["facts"]["issuer"].as_str(), known["facts"]["subject"].as_str()),
        (Some("shop"), Some("42")),
        "{known:#}"
    );
    let causes = format!("{entries:?}");
    for cause in ["one strict JSON object", "larger than 64 KiB", "the application knows no such session"] {
        assert!(causes.contains(cause), "{cause}: {causes}");
    }
    assert!(!causes.contains("Zz-_.~+") && !causes.contains("secret-of"), "no id or secret is written down");
}

/// As npm `cookie-signature` signs, and `encodeURIComponent` writes.
fn signed(id: &str, secret: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), id.as_bytes());
    let tag = STANDARD_NO_PAD.encode(tag).replace('+', "%2B").replace('/', "%2F");
    format!("s%3A{id}.{tag}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_of_express_are_checked_before_anybody_is_asked() {
    let redis = Redis::start(&[]).await;
    for id in ["one", "two", "three"] {
        set(&redis, &format!("sess:{id}"), &ANN.replace("42", &format!("\"user-{id}\"")));
    }
    let app = Upstream::start().await;
    let more = ", express_secrets: [{file: new}, {file: old}], cache: {max_age: 1m}";
    let bundle = bundle(&app, &in_redis(redis.address, more));
    bundle.write("new", "keyboard cat\n");
    bundle.write("old", "luna");
    let mut gateway = Gateway::start(bundle).await;
    assert_eq!(verdict(&gateway, &signed("one", "keyboard cat")).await, "200");
    assert_eq!(verdict(&gateway, &signed("one", "luna")).await, "200", "the secret before is good too");
    assert_eq!(reads(&redis), "1", "one session, however it is signed");
    for cookie in
        ["two", "s%3Atwo", "s%3Atwo.", &signed("two", "guess"), &signed("two", "luna").replace("two", "three")]
    {
        assert_eq!(verdict(&gateway, cookie).await, "401 session.invalid", "{cookie}");
    }
    assert_eq!(reads(&redis), "1", "guesses cost no look-up");
    for id in ["two", "three"] {
        assert_eq!(verdict(&gateway, &signed(id, "luna")).await, "200");
    }
    // What is remembered goes on for `max_age`, as the page says; what is revoked here ends at once.
    redis.ask("DEL sess:one");
    assert_eq!(verdict(&gateway, &signed("one", "luna")).await, "200");
    let entry = gateway.audit_entry(|entry| entry["facts"]["subject"] == "user-one").await;
    let session = entry["facts"]["session"].as_str().unwrap().to_owned();
    assert_eq!(session.len(), 32);
    let told = crate::revocation::ended(&gateway, &["--session", &session, "--issuer", "shop"]);
    assert!(told.starts_with("ended: 1 tokens seen here lately"), "{told}");
    assert_eq!(verdict(&gateway, &signed("one", "luna")).await, "401 session.revoked");
    let unsaid = crate::revocation::revoke(&gateway, &["--subject", "user-two"]);
    assert!(unsaid.code == Some(1) && unsaid.stderr.contains("name one of `workforce`, `shop`"), "{unsaid:?}");
    crate::revocation::ended(&gateway, &["--subject", "user-two", "--issuer", "shop"]);
    assert_eq!(verdict(&gateway, &signed("two", "luna")).await, "401 session.revoked");
    assert_eq!(verdict(&gateway, &signed("three", "luna")).await, "200");
    assert_eq!(reads(&redis), "3");

    // A secret that is taken away counts no more, after a reload; so does what was remembered.
    gateway.bundle.replace("[{file: new}, {file: old}]", "[{file: new}]");
    gateway.signal("HUP");
    becomes(&gateway, &signed("three", "luna"), "401 session.invalid").await;
    assert_eq!(verdict(&gateway, &signed("three", "keyboard cat")).await, "200");
    assert_eq!(gateway.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_gone_signs_nobody_out() {
    let mut redis = Redis::start(&[]).await;
    set(&redis, "sess:ann", ANN);
    let wire = Wire::to(redis.address).await;
    let app = Upstream::start().await;
    let gateway = Gateway::start(bundle(&app, &in_redis(wire.address, ", cache: {refused: 0s}, timeout: 200ms"))).await;
    assert_eq!(verdict(&gateway, "ann").await, "200");
    const SILENT: &str = "503 gateway.unavailable";
    wire.turns(Weather::Hole);
    assert_eq!(verdict(&gateway, "ann").await, SILENT);
    assert_eq!(verdict(&gateway, "nobody").await, SILENT);
    wire.turns(Weather::Fair);
    becomes(&gateway, "ann", "200").await;
    redis.stall();
    assert_eq!(verdict(&gateway, "ann").await, SILENT);
    redis.resume();
    becomes(&gateway, "ann", "200").await;
    wire.turns(Weather::Cut);
    becomes(&gateway, "ann", SILENT).await;
    wire.turns(Weather::Fair);
    becomes(&gateway, "ann", "200").await;
    redis.kill();
    becomes(&gateway, "ann", SILENT).await;
    let token = gateway.token("acme", &["cashier"]);
    assert_eq!(gateway.get(PAGE).bearer(&token).send().await.verdict(), "200", "others need no store");
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("moat_app_session_store_up{store=\"shop\"} 0"), "{metrics}");
    redis.restart().await;
    becomes(&gateway, "ann", "401 session.expired").await;
    set(&redis, "sess:ann", ANN);
    assert_eq!(verdict(&gateway, "ann").await, "200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_in_postgres_is_found_by_a_statement_that_can_only_read() {
    let mut postgres = Postgres::start(&[]).await;
    let tables = "CREATE TABLE session (sid varchar PRIMARY KEY, sess json NOT NULL, expire timestamp(6) NOT NULL); \
        CREATE TABLE people (id uuid PRIMARY KEY, name text, org text); CREATE SEQUENCE visits; \
        CREATE ROLE reader LOGIN PASSWORD 'an owner''s password'; GRANT SELECT ON session, people TO reader";
    postgres.ask("postgres", tables).await;
    let row = |sid: &str, sess: &str, expire: &str| {
        format!(
            "INSERT INTO session VALUES ('{sid}', '{}', now() at time zone 'utc' + interval '{expire}')",
            sess.replace('\'', "''")
        )
    };
    for (sid, sess, expire) in [
        ("ann", ANN, "1 hour"),
        ("old", ANN, "-1 second"),
        ("visitor", "{\"cart\": []}", "1 hour"),
        ("list", "[1]", "1 hour"),
        ("large", &format!("{{\"user\":{{\"id\":1}},\"x\":\"{}\"}}", "y".repeat(70_000)), "1 hour"),
    ] {
        postgres.ask("postgres", &row(sid, sess, expire)).await;
    }
    let id = "7b1c6b8e-5d0f-4b8e-9c58-0e6a1d1f2a3b";
    postgres.ask("postgres", &format!("INSERT INTO people VALUES ('{id}', 'bea', 'acme')")).await;
    let app = Upstream::start().await;
    let at = |user: &str, statement: &str| {
        format!(
            "postgres: {{url: \"postgresql://{user}@{}/postgres\", password: {{file: password}}, statement: \"{statement}\", connections: 2}}, timeout: 2s, cache: {{refused: 0s}}",
            postgres.address
        )
    };
    let statement =
        "SELECT sess FROM session WHERE sid = $1 AND expire > now() at time zone 'utc' -- not those of the past";
    let bundle = bundle(&app, &at("reader", statement));
    let more = |name: &str, statement: &str| {
        let claims = "claims: {subject: sub, tenant: org, roles: roles}";
        bundle.replace(
            "tenancy:\n",
            &format!("  {name}: {{cookie: sid, {claims}, {}}}\ntenancy:\n", at("reader", statement)),
        );
        bundle.route(&format!("  {name}:\n    match: {{hosts: [\"*.localhost\"], paths: [/{name}], methods: [GET]}}\n    upstream: app\n    headers: api-json\n    auth: {{app_session: {name}}}\n    require: {{session: any}}"));
    };
    more(
        "people",
        "SELECT json_build_object('sub', name, 'org', org, 'roles', 'viewer') FROM people WHERE id = $1::uuid",
    );
    more("several", "SELECT sess FROM session WHERE $1 <> ''");
    more("writes", "SELECT nextval('visits')::text WHERE $1 <> ''");
    more("missing", "SELECT sess FROM nowhere WHERE sid = $1");
    let mut gateway = Gateway::start(bundle).await;
    assert_eq!(verdict(&gateway, "ann").await, "200");
    let seen = app.last();
    assert_eq!(
        (seen.header("x-user-id").as_deref(), seen.header("x-tenant-id").as_deref()),
        (Some("42"), Some("acme"))
    );
    for (cookie, expected) in [
        ("old", "401 session.expired"),
        ("unknown", "401 session.expired"),
        ("visitor", "401 session.missing"),
        ("list", "503 gateway.unavailable"),
        ("large", "503 gateway.unavailable"),
        ("'", "401 session.invalid"),
        ("ann' OR 1=1", "401 session.invalid"),
    ] {
        assert_eq!(verdict(&gateway, cookie).await, expected, "{cookie}");
    }
    let on = async |path: &str, cookie: &str| {
        let url = format!("https://acme.localhost/{path}");
        gateway.get(&url).header("cookie", &format!("sid={cookie}")).send().await.verdict()
    };
    assert_eq!(on("people", id).await, "200");
    assert_eq!(app.last().header("x-user-id").as_deref(), Some("bea"));
    assert_eq!(on("people", "no-uuid").await, "401 session.expired", "a made-up value is no fault");
    assert_eq!(on("people", id).await, "200");
    // Even with the right to write, the connection cannot.
    postgres.ask("postgres", "GRANT USAGE ON SEQUENCE visits TO reader").await;
    for path in ["several", "writes", "missing"] {
        assert_eq!(on(path, "ann").await, "503 gateway.unavailable", "{path}");
    }
    let told = gateway.wait_for_log("a statement that cannot be", |line| {
        field(line, "reason").is_some_and(|reason| reason.contains("\"nowhere\" does not exist"))
    });
    assert!(told.is_some(), "{:#?}", gateway.log_lines());
    let tables = "SELECT count(*)::text FROM pg_tables WHERE tablename LIKE 'moat%'";
    assert_eq!(postgres.ask("postgres", tables).await, [["0"]], "nothing of ours is made in their database");

    postgres.kill();
    becomes(&gateway, "ann", "503 gateway.unavailable").await;
    postgres.restart().await;
    becomes(&gateway, "ann", "200").await;
    postgres.stall();
    becomes(&gateway, "ann", "503 gateway.unavailable").await;
    postgres.resume();
    becomes(&gateway, "ann", "200").await;
    assert_eq!(on("writes", "a").await, "503 gateway.unavailable");
    assert_eq!(
        postgres.ask("postgres", "SELECT is_called::text FROM visits").await,
        [["false"]],
        "nothing was counted"
    );
    assert_eq!(gateway.stop(), Some(0));
    let causes = format!("{:?}", outcomes(&gateway));
    for cause in
        ["several rows for one session", "one strict JSON object", "larger than 64 KiB", "read-only transaction"]
    {
        assert!(causes.contains(cause), "{cause}: {causes}");
    }
}

#[tokio::test]
async fn what_a_store_of_sessions_may_be_is_said_at_once() {
    let app = Upstream::start().await;
    let redis = bundle(&app, &in_redis("127.0.0.1:9".parse().unwrap(), ""));
    let statement = "SELECT sess FROM session WHERE sid = $1";
    let postgres = bundle(
        &app,
        &format!(
            "postgres: {{url: \"postgresql://reader@127.0.0.1/shop\", password: {{file: password}}, statement: \"{statement}\"}}"
        ),
    );
    let key = "key: \"sess:{cookie}\"";
    for (bundle, old, new, message) in [
        (&redis, key, "key: \"sess:\"", "this is no key of a session"),
        (&redis, key, "key: \"{cookie}{cookie}\"", "this is no key of a session"),
        (&redis, "redis://127.0.0.1:9", "redis://stores.example", "in the clear"),
        (&redis, "redis://127.0.0.1:9", "redis://u:p@127.0.0.1", "has no user, password or options"),
        (&redis, "cookie: sid", "cookie: \"s id\"", "cannot be the name of a cookie"),
        (&redis, "cookie: sid", "cookie: sid, timeout: 0s", "expected at least `10ms`"),
        (&redis, "cookie: sid", "cookie: sid, max_age: 0s", "expected at least `1s`"),
        (&redis, "cookie: sid", "cookie: sid, cache: {max_age: 2m}", "expected at most `1m`"),
        (&redis, "cookie: sid", "cookie: sid, cache: {refused: 10ms}", "whole seconds"),
        (&redis, "cookie: sid", "cookie: sid, max_in_flight: 0", "expected at least `1`"),
        (&redis, "cookie: sid", "cookie: sid, express_secrets: [s3cret]", "a secret is never a literal"),
        (&redis, "cookie: sid", "cookie: sid, express_secrets: [{file: nowhere}]", "`nowhere` does not exist"),
        (&redis, "subject: /user/id", "subject: \"\"", "this points at nothing"),
        (&redis, "{app_session: shop}", "{app_session: shops}", "did you mean `shop`?"),
        (&redis, "  shop: {cookie", "  workforce: {cookie", "somebody else who vouches for users"),
        (&redis, "redis: {", "postgres: {url: x, statement: y}, redis: {", "not both"),
        (&postgres, statement, "DELETE FROM session WHERE sid = $1", "no single query"),
        (&postgres, statement, "SELECT sess FROM session WHERE sid = $1; COMMIT", "no single query"),
        (&postgres, statement, "SELECT sess FROM session", "no place for the id"),
        (&postgres, statement, "SELECT sess FROM session WHERE sid = $1 AND a = $2", "no place for the id"),
        (&postgres, statement, "SELECT sess FROM session WHERE sid = $11", "no place for the id"),
        (&postgres, ", password: {file: password}", "", "needs a password"),
        (
            &postgres,
            "password: {file: password}",
            "password: {file: password}, connections: 0",
            "expected at least `1`",
        ),
    ] {
        let text = bundle.read("gateway.yaml");
        assert!(text.contains(old), "{old}");
        bundle.write("gateway.yaml", &text.replace(old, new));
        let output = moat(bundle.root(), &["check"]);
        assert!(output.code == Some(78) && output.stderr.contains(message), "{new}: {output:?}");
        bundle.write("gateway.yaml", &text);
        assert_eq!(moat(bundle.root(), &["check"]).code, Some(0));
    }
    let explained = moat(redis.root(), &["explain", "GET", PAGE]);
    assert!(explained.stdout.contains("session that `shop` keeps, of cookie `sid`"), "{explained:?}");
}

/// Express, express-session and connect-redis of npm: what they write is what is read, and what they end is ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_express_application_signs_in_and_out_and_the_gateway_knows() {
    let redis = Redis::start(&[]).await;
    let port = redis.address.port().to_string();
    let till = tokio::task::spawn_blocking(move || {
        install("express-sessions");
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps/express-sessions/server.js");
        let mut node = Command::new("node");
        node.arg(folder).env("NODE_MODULES_AT", installed("express-sessions")).env("REDIS", port);
        App::start(&mut node, "listening on http://127.0.0.1:", None)
    })
    .await
    .unwrap();
    let bundle = Bundle::standard(SocketAddr::from(([127, 0, 0, 1], till.port)));
    bundle.write("secret", "the secret of the till");
    let claims = "claims: {subject: /user/id, tenant: /user/org, roles: /user/roles, auth_time: /user/since}";
    let store = in_redis(redis.address, ", express_secrets: [{file: secret}]");
    bundle.replace(
        "tenancy:\n",
        &format!("app_sessions:\n  till: {{cookie: connect.sid, {claims}, {store}}}\ntenancy:\n"),
    );
    bundle.route("  shop:\n    match: {hosts: [\"*.localhost\"], paths: [/shop], methods: [GET]}\n    upstream: app\n    headers: api-json\n    auth: {app_session: till}\n    require: {permission: bookings.read}");
    let gateway = Gateway::start(bundle).await;
    let visit = async |path: &str, cookie: &str| {
        let reply = gateway.get(&format!("https://acme.localhost{path}")).header("cookie", cookie).send().await;
        let set = reply.header("set-cookie").and_then(|set| set.split(';').next().map(str::to_owned));
        (reply.verdict(), reply.text(), set.unwrap_or_else(|| cookie.to_owned()))
    };
    let (_, _, visitor) = visit("/basket", "a=b").await;
    assert!(visitor.starts_with("connect.sid=s%3A"), "{visitor}");
    assert_eq!(visit("/shop", &visitor).await.0, "401 session.missing", "a session of nobody");
    let (_, _, user) = visit("/sign-in", &visitor).await;
    assert_ne!(user, visitor);
    let (verdict, body, _) = visit("/shop", &user).await;
    assert_eq!((verdict.as_str(), body.as_str()), ("200", "{\"session\":42,\"gateway\":\"42\"}"));
    assert_eq!(visit("/shop", &visitor).await.0, "401 session.expired", "the session before was given up");
    assert_eq!(visit("/shop", &user.replace("s%3A", "s%3Ax")).await.0, "401 session.invalid");
    assert_eq!(visit("/sign-out", &user).await.1, "signed out");
    assert_eq!(visit("/shop", &user).await.0, "401 session.expired");
}

/// Every example of the page is one that `moat check` accepts.
#[test]
fn the_examples_of_the_page_load() {
    let page = include_str!("../../../docs/application-sessions.md");
    let blocks: Vec<&str> = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 4);
    for block in blocks {
        let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
        for name in ["express", "express-before", "redis", "postgres"] {
            bundle.write(&format!("secrets/{name}"), "s3cret");
        }
        let stores = block.strip_prefix("app_sessions:\n").unwrap();
        let (stores, routes) = stores.split_once("routes:\n").unwrap_or((stores, ""));
        bundle.replace("tenancy:\n", &format!("app_sessions:\n{stores}tenancy:\n"));
        let name = stores.trim_start().split(':').next().unwrap();
        let route = format!(
            "  {name}:\n    match: {{hosts: [\"*.localhost\"], paths: [/{name}], methods: [GET]}}\n    upstream: app\n    auth: {{app_session: {name}}}\n    require: {{session: any}}"
        );
        bundle.route(if routes.is_empty() { &route } else { routes });
        let checked = moat(bundle.root(), &["check"]);
        assert_eq!(checked.code, Some(0), "{block}\n{checked:?}");
    }
}
