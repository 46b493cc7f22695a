//! A gateway that keeps something of every kind, for tests of where it lies and of what happens without it.
use crate::families::{self, bound, bound::Key};
use crate::harness::{Bundle, Gateway, OWNER, Postgres, Redis, Reply, Token, Upstream, moat};
use crate::sessions::{self, totp};
use crate::ways::key_sets;
use std::net::SocketAddr;

const KEYS: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const KEYED: &str = "api_key: {prefix: nlk_, keys: {state: machines}, pepper: {file: pepper}}";
pub const SECRET: &str = "https://acme.localhost/secret";

/// A part of `storage:`.
pub fn in_redis(address: SocketAddr, kinds: &str) -> String {
    format!(
        "redis: {{url: \"redis://{address}\", hash_key: {{file: hash-key}}, connect_timeout: 5s, use_for: [{kinds}]}}"
    )
}

/// A part of `storage:`.
pub fn in_postgres(address: SocketAddr, kinds: &str) -> String {
    format!(
        "postgres: {{url: \"postgresql://{}@{address}/postgres\", password: {{file: password}}, connect_timeout: 10s, command_timeout: 5s, use_for: [{kinds}]}}",
        OWNER.0
    )
}

/// Sessions, families, proofs, second factors, API keys and revocations, kept where `storage` says; `/secret` is a sensitive route.
pub fn bundle(upstream: &Upstream, storage: &[String]) -> Bundle {
    let bundle = Bundle::standard(upstream.address);
    bundle.write("keys", KEYS);
    bundle.write("pepper", "a pepper of thirty-two bytes, or a few more\n");
    bundle.write("hash-key", "a secret that all replicas have in common\n");
    bundle.write("password", OWNER.1);
    bundle.replace(
        "sessions:\n",
        "sessions:
  keys: {file: keys}
  browser: {cookie: __Host-sid, exchange: [workforce]}
  tokens: {exchange: [workforce]}
  totp: {issuer: North Lane, acr: mfa}
",
    );
    bundle.replace("  workforce:\n", "  workforce:\n    signals: {caep: \"https://login.test/ssf\"}\n");
    let storage: String = storage.iter().map(|part| format!("  {part}\n")).collect();
    if !storage.is_empty() {
        bundle.replace("routes:\n", &format!("storage:\n{storage}routes:\n"));
    }
    for (name, path, auth, more) in [
        ("me", "/me", "any_of: [{bearer: workforce}, {session: browser}]", ""),
        ("secret", "/secret", "session: browser", "\n    audit: {sensitive: true}"),
        ("held", "/api/held", "any_of: [{bearer: moat}, {dpop: moat}]", ""),
        ("keyed", "/keyed", KEYED, ""),
        ("key-secret", "/keyed/secret", KEYED, "\n    audit: {sensitive: true}"),
    ] {
        bundle.route(&format!(
            "  {name}:
    match: {{hosts: [\"*.localhost\"], paths: [{path}], methods: [GET]}}
    upstream: app
    auth: {{{auth}}}
    require: {{session: any}}{more}"
        ));
    }
    bundle
}

pub async fn gateway(storage: &[String]) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(bundle(&upstream, storage)).await;
    ready(&gateway).await;
    (gateway, upstream)
}

/// Waits until it knows who was ended; before that nobody is served.
pub async fn ready(gateway: &Gateway) {
    gateway.until("the marks were read", async |g: &Gateway| g.admin("/readyz").await.status == 200).await;
}

/// What clients hold, of every kind.
pub struct Holdings {
    /// The cookie of a session.
    pub cookie: String,
    /// The secret of its user's app.
    pub app: String,
    pub access: String,
    pub refresh: String,
    /// A key, and an access token that is bound to it.
    pub key: Key,
    pub bound: String,
    /// API keys: one that is used, and its id; one that is not.
    pub api_key: (String, String),
    pub idle_key: String,
}

/// Opens one of each, and revokes somebody.
pub async fn hold(gateway: &Gateway) -> Holdings {
    let (cookie, app, _) = totp::enrolled(gateway).await;
    let cookie = sessions::cookie(&sessions::me(gateway, &cookie).send().await).unwrap_or(cookie);
    let family = open_family(gateway).await;
    assert_eq!(family.status, 200, "{}", family.text());
    let key = Key::new();
    let bound = families::text(&bound::opened(gateway, &key).await, "access_token");
    let holdings = Holdings {
        cookie,
        app,
        access: families::text(&family, "access_token"),
        refresh: families::text(&family, "refresh_token"),
        key,
        bound,
        api_key: key_sets::new(gateway, &["--tenant", "acme"]),
        idle_key: key_sets::new(gateway, &["--tenant", "acme"]).0,
    };
    assert_eq!(keyed(gateway, "/keyed", &holdings.api_key.0).await.verdict(), "200");
    assert_eq!(prove(gateway, &holdings).await, "200");
    assert_eq!(revoke(gateway, "mallory"), Some(0));
    holdings
}

pub async fn open_family(gateway: &Gateway) -> Reply {
    let token = Token::of("acme", &["viewer"]).signed(&gateway.bundle.key);
    families::form(gateway, families::ACME, &families::exchange(&token)).await
}

/// Uses the bound token with a new proof.
pub async fn prove(gateway: &Gateway, holdings: &Holdings) -> String {
    let proof = holdings.key.proof("GET", "https://acme.localhost/api/held", Some(&holdings.bound));
    bound::used(gateway, &holdings.bound, &proof).await
}

/// A request with an API key.
pub async fn keyed(gateway: &Gateway, path: &str, key: &str) -> Reply {
    gateway.get(&format!("https://acme.localhost{path}")).header("x-api-key", key).send().await
}

/// `moat sessions revoke --subject NAME`; the exit code.
pub fn revoke(gateway: &Gateway, subject: &str) -> Option<i32> {
    let admin = gateway.address("admin").to_string();
    let args =
        ["sessions", "revoke", "--admin", &admin, "--actor", "olga", "--issuer", "workforce", "--subject", subject];
    moat(gateway.bundle.root(), &args).code
}

/// Kinds and how many records of each, `family=1 session=2`, as the server itself says.
pub fn redis_has(redis: &Redis) -> String {
    let script = "local o={} for _,k in ipairs(redis.call('KEYS','*')) do \
         local w=string.match(k,'^moat:{state}:([a-z_]+):') or string.match(k,'^moat:{state}:(feed)$') \
         if w then o[w]=(o[w] or 0)+1 end end \
         local t={} for w,n in pairs(o) do t[#t+1]=w..'='..n end table.sort(t) return table.concat(t,' ')";
    redis.ask(&format!("EVAL \"{script}\" 0")).lines().nth(1).unwrap_or_default().trim_end_matches("+OK").to_owned()
}

/// How many of its values have this text in them.
pub fn redis_finds(redis: &Redis, text: &str) -> String {
    let script = format!(
        "local n=0 for _,k in ipairs(redis.call('KEYS','*')) do if redis.call('TYPE',k).ok=='string' and \
         (string.find(redis.call('GET',k),'{text}',1,true) or string.find(k,'{text}',1,true)) then n=n+1 end end return n"
    );
    redis.ask(&format!("EVAL \"{script}\" 0")).lines().next().unwrap_or_default().trim_end_matches("+OK").to_owned()
}

/// The same of a PostgreSQL.
pub async fn postgres_has(postgres: &Postgres) -> String {
    let words = "CASE kind WHEN 1 THEN 'session' WHEN 2 THEN 'family' WHEN 3 THEN 'mark' WHEN 4 THEN 'api_key' \
         WHEN 5 THEN 'once' WHEN 6 THEN 'sign_in' WHEN 7 THEN 'factor' END";
    let asked = format!(
        "SELECT coalesce(string_agg(line, ' ' ORDER BY line), '') FROM (SELECT {words} || '=' || count(*) AS line \
         FROM moat_state GROUP BY kind UNION ALL SELECT 'feed=1' FROM moat_feed HAVING count(*) > 0) AS lines"
    );
    let rows = postgres.ask("postgres", &asked).await;
    rows.into_iter().flatten().next().unwrap_or_default()
}

pub async fn postgres_finds(postgres: &Postgres, text: &str) -> String {
    let asked = format!("SELECT count(*) FROM moat_state WHERE position('{text}'::bytea IN value || key) > 0");
    postgres.ask("postgres", &asked).await.into_iter().flatten().next().unwrap_or_default()
}
