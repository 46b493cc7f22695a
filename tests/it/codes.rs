//! Every refusal code by its real cause, over both protocols: one word in answer, audit entry and metric, once each.
use crate::harness::{Bundle, Call, Gateway, Reply, Scripted, Token, Upstream, outcomes, with};
use decide::refusal::{Code, TABLE};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// Codes of sessions that the gateway itself opens and ends; they are provoked where those are tested.
const ELSEWHERE: [&str; 2] = ["session.revoked", "session.reused"];

const BOOKINGS: &str = "https://acme.localhost/api/bookings";

/// Routes that the standard bundle lacks: to a dead and a mute application, and for an issuer without keys.
async fn gateway() -> (Gateway, Upstream, Scripted) {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mute = Scripted::start(|_, stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let (gateway, upstream) = with(|bundle: &mut Bundle| {
        let more = format!(
            "upstreams:\n  dead: {{endpoints: [\"{dead}\"]}}\n  mute: {{endpoints: [\"{}\"], http: {{first_byte_timeout: 300ms}}}}\n",
            mute.address
        );
        bundle.replace("upstreams:\n", &more);
        bundle.replace(
            "issuers:\n",
            "issuers:\n  silent: {issuer: \"https://silent.test/\", audiences: [x], algorithms: [ES256], token_types: [at+jwt], claims: {tenant: org_id, roles: roles}, jwks: {url: \"https://127.0.0.1:1/jwks\"}}\n",
        );
        for (name, method, rest) in [
            ("dead", "GET", "upstream: dead\n    public: \"a test\""),
            ("mute", "GET", "upstream: mute\n    public: \"a test\""),
            ("silent", "GET", "upstream: app\n    auth: {bearer: silent}\n    require: {session: any}"),
            ("once", "GET", "upstream: app\n    public: \"a test\"\n    rate_limits: [one-per-address]"),
            ("sign-in", "POST", "upstream: app\n    public: \"a test\"\n    rate_limits: [by-account]"),
            ("small", "POST", "upstream: app\n    public: \"a test\"\n    body: {max: 1KiB}"),
        ] {
            bundle.route(&format!(
                "  {name}:\n    match: {{hosts: [\"*.localhost\"], paths: [/{name}], methods: [{method}]}}\n    headers: api-json\n    {rest}"
            ));
        }
        let limits = bundle.read("policies/rate-limits.yaml");
        bundle.write("policies/rate-limits.yaml", &format!("{limits}  one-per-address: {{key: [client.ip_prefix], rate: 1/h, burst: 1}}\n  by-account: {{key: [json.username_hash], rate: 9/s}}\n"));
    })
    .await;
    (gateway, upstream, mute)
}

/// What was provoked: request id → code.
#[derive(Default)]
struct Proof(Mutex<BTreeMap<String, &'static str>>);

impl Proof {
    /// One refusal, as the client meets it and as it is counted; the log is read at the end.
    async fn take(&self, gateway: &Gateway, code: &'static str, before: u64, reply: &Reply) {
        let row = Code::parse(code).unwrap().row();
        assert_eq!(reply.verdict(), format!("{} {code}", row.status), "{reply:?}");
        let body = reply.json();
        assert_eq!(
            (body["status"].as_u64(), body["title"].as_str()),
            (Some(row.status.into()), Some(row.title)),
            "{body}"
        );
        let id = reply.header("x-request-id").unwrap();
        assert_eq!(body["request_id"], id.as_str(), "{body}");
        assert_eq!(reply.header("server"), None, "{code}");
        assert_eq!(reply.header("x-content-type-options").as_deref(), Some("nosniff"), "{code}: {reply:?}");
        assert!(reply.header("cache-control").is_some_and(|value| value.contains("no-store")), "{code}: {reply:?}");
        assert!(reply.header("content-security-policy").is_some(), "{code}: {reply:?}");
        let tls = code != Code::RequestPlaintext.id();
        assert_eq!(reply.header("strict-transport-security").is_some(), tls, "{code}: {reply:?}");
        let what = format!("{code} is counted");
        gateway.until(&what, async |g: &Gateway| g.refusals(code).await > before).await;
        assert_eq!(gateway.refusals(code).await, before + 1, "{code} was counted twice");
        assert_eq!(self.0.lock().unwrap().insert(id, code), None, "two requests with one id");
    }

    async fn call(&self, call: Call<'_>, gateway: &Gateway, code: &'static str) {
        let before = gateway.refusals(code).await;
        let reply = call.send().await;
        self.take(gateway, code, before, &reply).await;
    }

    async fn raw(&self, gateway: &Gateway, code: &'static str, bytes: &str) {
        let before = gateway.refusals(code).await;
        let answer = gateway.raw("acme.localhost", bytes.as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        self.take(gateway, code, before, &Reply::parse(&answer)).await;
    }

    /// Ends the gateway and reads its log: one entry per request, with the same word.
    fn close(&self, mut gateway: Gateway) -> BTreeSet<&'static str> {
        assert_eq!(gateway.stop(), Some(0));
        let all = outcomes(&gateway);
        let proven = self.0.lock().unwrap();
        for (id, code) in proven.iter() {
            let entries: Vec<_> = all.iter().filter(|entry| entry["id"] == id.as_str()).collect();
            assert_eq!(entries.len(), 1, "{code}: {entries:#?}");
            let row = Code::parse(code).unwrap().row();
            assert_eq!(entries[0]["verdict"], *code, "{:#?}", entries[0]);
            assert_eq!(entries[0]["outcome"]["status"], row.status, "{:#?}", entries[0]);
            assert!(entries[0]["cause"].as_str().is_some_and(|cause| !cause.is_empty()), "{:#?}", entries[0]);
        }
        let refused = all.iter().filter(|entry| Code::parse(entry["verdict"].as_str().unwrap()).is_some());
        assert_eq!(refused.count(), proven.len(), "the log has refusals that nobody asked for");
        proven.values().copied().collect()
    }
}

#[tokio::test]
async fn every_code_is_provoked_by_its_cause_and_told_alike_everywhere() {
    let (gateway, upstream, _mute) = gateway().await;
    let g = &gateway;
    let key = &g.bundle.key;
    let cashier = g.token("acme", &["cashier"]);
    let finance = Token::of("acme", &["finance"]);
    let expired = Token::of("acme", &["cashier"]).expired().signed(key);
    let silent = Token::of("acme", &[]).claim("iss", "https://silent.test/").claim("aud", "x").signed(key);
    let of = |tenant: &str| g.token(tenant, &["cashier"]);
    let stale = finance.auth_age(3600).signed(key);
    let padding = "p".repeat(17 * 1024);
    assert_eq!(g.get("https://acme.localhost/once").send().await.verdict(), "200");
    let before = upstream.seen().len();

    let proof = Proof::default();
    for h2 in [false, true] {
        let send = async |code: &'static str, call: Call<'_>| {
            proof.call(if h2 { call.h2() } else { call }, g, code).await;
        };
        send("request.malformed", g.get("https://acme.localhost/").header("expect", "miracles")).await;
        send("request.ambiguous", g.get("https://acme.localhost/a%2fb")).await;
        send("request.ambiguous", g.get("https://acme.localhost/a/%2e%2e/b")).await;
        send("request.misdirected", g.get("https://other.example/").on_connection_for("acme.localhost")).await;
        send("request.too-large", g.post(BOOKINGS, &"x".repeat(70 * 1024)).bearer(&cashier)).await;
        send("request.too-large", g.get("https://acme.localhost/").header("x-padding", &padding)).await;
        let long = format!("https://acme.localhost/{}", "a".repeat(9000));
        send("request.too-large", g.get(&long)).await;
        send("route.unknown", g.get("https://localhost/api/bookings")).await;
        send("method.not-allowed", g.call("DELETE", "https://acme.localhost/api/nothing")).await;
        send("method.not-allowed", g.call("TRACE", "https://acme.localhost/")).await;
        send("network.denied", g.get("https://umbrella.localhost/api/bookings").bearer(&of("umbrella"))).await;
        send("quota.exceeded", g.get("https://acme.localhost/once")).await;
        send("session.missing", g.get(BOOKINGS)).await;
        send("session.invalid", g.get(BOOKINGS).bearer("not-a-token")).await;
        send("session.expired", g.get(BOOKINGS).bearer(&expired)).await;
        send("session.step-up", g.post("https://acme.localhost/api/refunds", "{}").bearer(&stale)).await;
        send("tenant.unknown", g.get("https://nobody.localhost/api/bookings").bearer(&cashier)).await;
        send("tenant.suspended", g.get("https://initech.localhost/api/bookings").bearer(&of("initech"))).await;
        send("tenant.mismatch", g.get("https://globex.localhost/api/bookings").bearer(&cashier)).await;
        let cookie = || g.post(BOOKINGS, "{}").header("cookie", &format!("__Host-nl={cashier}"));
        send("csrf.unproven", cookie()).await;
        send("csrf.unproven", cookie().header("sec-fetch-site", "cross-site")).await;
        send("access.denied", g.post(BOOKINGS, "{}").bearer(&g.token("acme", &["viewer"]))).await;
        let text = g.call("POST", BOOKINGS).header("content-type", "text/plain").body("{}").bearer(&cashier);
        send("body.unsupported", text).await;
        send("body.invalid", g.post("https://acme.localhost/sign-in", "{\"username\":[]}")).await;
        send("gateway.unavailable", g.get("https://acme.localhost/silent").bearer(&silent)).await;
        send("upstream.unreachable", g.get("https://acme.localhost/dead")).await;
        send("upstream.timeout", g.get("https://acme.localhost/mute")).await;
    }
    proof.call(g.post("http://acme.localhost/api/bookings", "{}"), g, "request.plaintext").await;

    // What only bytes can say: no line ends, no end, and a body that grows past the limit piece by piece.
    proof.raw(g, "request.malformed", "GET / HTTP/1.1\nHost: acme.localhost\n\n").await;
    proof.raw(g, "request.malformed", "BROKEN\r\n\r\n").await;
    proof.raw(g, "request.timeout", "GET / HTTP/1.1\r\nHost: acme.localhost\r\n").await;
    let pieces = "100\r\n".to_owned() + &"z".repeat(256) + "\r\n";
    let growing = "POST /small HTTP/1.1\r\nHost: acme.localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    proof.raw(g, "request.too-large", &format!("{growing}{}", pieces.repeat(8))).await;

    let reached: Vec<_> =
        upstream.seen().split_off(before).into_iter().filter(|seen| seen.target != "/small").collect();
    assert!(reached.is_empty(), "a refused request reached the application: {reached:?}");
    let all: BTreeSet<&str> = TABLE.iter().map(|row| row.id).filter(|id| !ELSEWHERE.contains(id)).collect();
    assert_eq!(proof.close(gateway), all);
}

#[tokio::test]
async fn when_the_audit_disk_fails_nothing_is_forwarded_unrecorded_and_afterwards_the_log_says_so() {
    let (gateway, upstream) = with(|bundle: &mut Bundle| {
        bundle.replace("audit: {directory: state/audit}", "audit: {directory: state/audit, segments: {roll: 4KiB}}");
    })
    .await;
    let token = gateway.token("acme", &["cashier"]);
    // The folder moves away, as a volume does that is unmounted: the next segment cannot be made.
    let (folder, away) = (gateway.bundle.path("state/audit"), gateway.bundle.path("state/away"));
    std::fs::rename(&folder, &away).unwrap();
    std::fs::write(&folder, "no folder").unwrap();
    gateway
        .until("the audit log fails", async |g: &Gateway| {
            g.post(BOOKINGS, "{}").bearer(&token).send().await.verdict() == "503 gateway.unavailable"
        })
        .await;
    let before = upstream.seen().len();
    for h2 in [false, true] {
        for call in [gateway.post(BOOKINGS, "{}").bearer(&token), gateway.get("https://acme.localhost/page")] {
            let reply = if h2 { call.h2() } else { call }.send().await;
            assert_eq!(reply.verdict(), "503 gateway.unavailable");
            assert_eq!(reply.header("retry-after").as_deref(), Some("5"));
            assert_eq!(reply.header("x-content-type-options").as_deref(), Some("nosniff"));
        }
    }
    assert_eq!(upstream.seen().len(), before, "something was done that nobody will know of");
    let ready = gateway.admin("/readyz?verbose").await;
    assert_ne!(ready.status, 200, "{}", ready.text());
    assert!(gateway.refusals("gateway.unavailable").await >= 4);

    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    gateway
        .until("the audit log is written again", async |g: &Gateway| {
            g.post(BOOKINGS, "{}").bearer(&token).send().await.verdict() == "200"
        })
        .await;
    gateway.audit_entry(|entry| entry["event"] == "gap").await;
    let verified = crate::harness::moat(gateway.bundle.root(), &["audit", "verify", "state/audit"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}
