//! Tokens that only their issuer can read: asked about over real TLS, remembered for a while, and never taken for more than
//! what the issuer said.
use crate::harness::secure::Authority;
use crate::harness::{Bundle, Gateway, Upstream, moat, now, outcomes};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

const PAGE: &str = "https://acme.localhost/api/bookings";

/// What an endpoint does with a question.
enum Say {
    /// Says this about the token.
    Json(Value),
    /// Says something else altogether.
    Other(Response<Full<Bytes>>),
    /// Says nothing, until it is told to go on.
    Nothing,
}

/// A question as it arrived.
#[derive(Clone, Debug)]
struct Asked {
    authorization: String,
    kind: String,
    target: String,
    body: String,
}

/// An introspection endpoint over TLS.
struct Endpoint {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    go: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Endpoint {
    async fn start(authority: &Authority, say: impl Fn(&str) -> Say + Send + Sync + 'static) -> Endpoint {
        Endpoint::at(SocketAddr::from(([127, 0, 0, 1], 0)), authority, say).await
    }

    /// At an address of the past, for an endpoint that comes back.
    async fn at(address: SocketAddr, authority: &Authority, say: impl Fn(&str) -> Say + Send + Sync + 'static) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener: TcpListener = socket.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(authority.good("localhost").server(&["http/1.1"], None)));
        let (asked, go): (Arc<Mutex<Vec<Asked>>>, Arc<Notify>) = Default::default();
        let (seen, gate, say) = (asked.clone(), go.clone(), Arc::new(say));
        let task = tokio::spawn(async move {
            // Ends with the task: a dead endpoint has no connections either.
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, seen, gate, say) = (acceptor.clone(), seen.clone(), gate.clone(), say.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (seen, gate, say) = (seen.clone(), gate.clone(), say.clone());
                        async move { Ok::<_, Infallible>(answer(request, &seen, &gate, &*say).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Endpoint { address, asked, go, task }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    async fn stop(mut self) -> SocketAddr {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.address
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: &Mutex<Vec<Asked>>,
    gate: &Notify,
    say: &(impl Fn(&str) -> Say + ?Sized),
) -> Response<Full<Bytes>> {
    let header =
        |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let (authorization, kind) = (header("authorization"), header("content-type"));
    let target = format!("{} {}", request.method(), request.uri());
    let body = String::from_utf8(request.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let token = body.strip_prefix("token=").and_then(|rest| rest.split('&').next()).unwrap_or_default().to_owned();
    seen.lock().unwrap().push(Asked { authorization, kind, target, body });
    match say(&token) {
        Say::Json(body) => of(200, "application/json;charset=UTF-8", &body.to_string()),
        Say::Other(response) => response,
        Say::Nothing => {
            gate.notified().await;
            of(200, "application/json", &active("late").to_string())
        }
    }
}

fn of(status: u16, kind: &str, body: &str) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .header("location", "https://localhost:9/elsewhere")
        .body(Full::from(body.to_owned()))
        .unwrap()
}

/// An answer about a token of a cashier of acme.
fn active(id: &str) -> Value {
    json!({
        "active": true, "iss": "https://login.test/", "aud": "northlane-api", "sub": "ann@acme", "client_id": "app",
        "token_type": "Bearer", "iat": now() - 30, "exp": now() + 600, "auth_time": now() - 40,
        "org_id": "acme", "roles": ["cashier"], "sid": "session-of-ann", "jti": id,
    })
}

fn with(changes: Value) -> Value {
    let mut answer = active("tok");
    for (name, value) in changes.as_object().unwrap() {
        answer[name] = value.clone();
    }
    answer
}

/// The standard bundle, whose issuer is asked at this address; `more` are further options.
fn bundle(app: &Upstream, address: SocketAddr, authority: &Authority, more: &str) -> Bundle {
    let bundle = Bundle::standard(app.address);
    bundle.write("idp-ca.pem", &authority.pem());
    bundle.write("secret", "s3cret:with/odd chars\n");
    let port = address.port();
    bundle.replace(
        "    jwks: {file: jwks.json}\n",
        &format!("    jwks: {{file: jwks.json}}\n    ca: idp-ca.pem\n    introspection: {{url: \"https://localhost:{port}/introspect?realm=a\", client_id: moat, secret: {{file: secret}}{more}}}\n"),
    );
    bundle
}

async fn verdict(gateway: &Gateway, token: &str) -> String {
    gateway.get(PAGE).bearer(token).send().await.verdict()
}

#[tokio::test]
async fn an_opaque_token_is_asked_about_once_and_held_to_the_rules_of_signed_ones() {
    let authority = Authority::new();
    let endpoint = Endpoint::start(&authority, |token| {
        let say = match token {
            "good" | "Ab-._~%2B%2F%3D%3D" => active("tok"),
            "refresh" => with(json!({"token_type": "refresh_token"})),
            "theirs" => with(json!({"aud": "other-api"})),
            "foreign" => with(json!({"iss": "https://evil.test/"})),
            "old" => with(json!({"exp": now() - 1})),
            "bound" => with(json!({"cnf": {"jkt": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"}})),
            "certified" => with(json!({"cnf": {"x5t#S256": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"}})),
            "globex" => with(json!({"org_id": "globex"})),
            "nobody" => with(json!({"roles": []})),
            _ => json!({"active": false}),
        };
        Say::Json(say)
    })
    .await;
    let app = Upstream::start().await;
    let mut gateway = Gateway::start(bundle(&app, endpoint.address, &authority, "")).await;

    for h2 in [false, true] {
        let call = gateway.get(PAGE).bearer("good");
        let reply = if h2 { call.h2() } else { call }.send().await;
        assert_eq!(reply.verdict(), "200", "{reply:?}");
    }
    assert_eq!(endpoint.count(), 1, "the second time it is remembered");
    let seen = app.last();
    for (name, value) in
        [("x-user-id", Some("ann@acme")), ("x-tenant-id", Some("acme")), ("x-user-roles", Some("cashier"))]
    {
        assert_eq!(seen.header(name).as_deref(), value, "{name}");
    }
    let asked = &endpoint.asked()[0];
    assert_eq!(asked.target, "POST /introspect?realm=a");
    assert_eq!(asked.kind, "application/x-www-form-urlencoded");
    assert_eq!(asked.body, "token=good&token_type_hint=access_token");
    // `moat:s3cret%3Awith%2Fodd%20chars`
    assert_eq!(asked.authorization, "Basic bW9hdDpzM2NyZXQlM0F3aXRoJTJGb2RkJTIwY2hhcnM=");

    let signed = gateway.token("acme", &["cashier"]);
    assert_eq!(verdict(&gateway, &signed).await, "200");
    assert_eq!(endpoint.count(), 1, "a signed token is nobody's question");
    assert_eq!(verdict(&gateway, "Ab-._~+/==").await, "200");
    assert_eq!(endpoint.count(), 2);
    for (token, expected) in [
        ("unknown", "401 session.invalid"),
        ("refresh", "401 session.invalid"),
        ("theirs", "401 session.invalid"),
        ("foreign", "401 session.invalid"),
        ("bound", "401 session.invalid"),
        ("certified", "401 session.invalid"),
        ("old", "401 session.expired"),
        ("globex", "403 tenant.mismatch"),
        ("nobody", "403 access.denied"),
    ] {
        assert_eq!(verdict(&gateway, token).await, expected, "{token}");
    }
    assert_eq!(endpoint.count(), 11);
    assert_eq!(verdict(&gateway, "unknown").await, "401 session.invalid");
    assert_eq!(endpoint.count(), 11, "a refusal is remembered too");
    let long = "a".repeat(16 * 1024 + 1);
    for strange in ["a b", "a\"b", "a&token=good", "{}"] {
        assert_eq!(verdict(&gateway, strange).await, "401 session.invalid", "{strange}");
    }
    assert_ne!(verdict(&gateway, &long).await, "200");
    assert_eq!(endpoint.count(), 11, "nobody is asked about what cannot be a token");
    let cookie = gateway.get(PAGE).header("cookie", "__Host-nl=good").send().await;
    assert_eq!((cookie.verdict(), endpoint.count()), ("200".to_owned(), 11), "the same token, in a cookie");

    let metrics = gateway.metrics().await;
    for (result, count) in [("remembered", 3), ("known", 7), ("refused", 4), ("unavailable", 0)] {
        let line = format!("moat_introspections_total{{issuer=\"workforce\",result=\"{result}\"}} {count}");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    assert_eq!(gateway.stop(), Some(0));
    let written = outcomes(&gateway);
    let causes: Vec<&str> = written.iter().filter_map(|entry| entry["cause"].as_str()).collect();
    for cause in [
        "the issuer says that the token is not active",
        "the token is no access token",
        "the token is bound to a key, and came without proof",
        "this is no bearer token",
    ] {
        assert!(causes.contains(&cause), "{cause}: {causes:#?}");
    }
    let text = format!("{written:?}");
    assert!(!text.contains("s3cret") && !text.contains("Ab-._~"), "neither secret nor token is written down");
}

#[tokio::test]
async fn an_endpoint_that_is_of_no_use_signs_nobody_out_and_lets_nobody_in() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let huge = with(json!({"roles": vec!["cashier"; 10_000]}));
    let endpoint = Endpoint::start(&authority, move |token| match token {
        "good" => Say::Json(active("tok")),
        "unauthorized" => Say::Other(of(401, "application/json", "{\"active\":true}")),
        "moved" => Say::Other(of(307, "application/json", "{\"active\":true}")),
        "created" => Say::Other(of(201, "application/json", &active("tok").to_string())),
        "broken" => Say::Other(of(500, "application/json", "{\"active\":false}")),
        "html" => Say::Other(of(200, "text/html", &active("tok").to_string())),
        "garbage" => Say::Other(of(200, "application/json", "{\"active\":true,,")),
        "twice" => Say::Other(of(200, "application/json", "{\"active\":false,\"active\":true}")),
        "wordy" => Say::Json(with(json!({"active": "true"}))),
        "silent" => Say::Nothing,
        "huge" => Say::Json(huge.clone()),
        _ => Say::Json(json!({"active": false})),
    })
    .await;
    let app = Upstream::start().await;
    // Remembered for as long as may be: the clock must not decide this test.
    let more = ", timeout: 500ms, cache: {max_age: 1m}";
    let mut gateway = Gateway::start(bundle(&app, endpoint.address, &authority, more)).await;
    assert_eq!(verdict(&gateway, "good").await, "200");
    for token in ["unauthorized", "moved", "created", "broken", "html", "garbage", "twice", "wordy", "silent", "huge"] {
        assert_eq!(verdict(&gateway, token).await, "503 gateway.unavailable", "{token}");
    }
    assert_eq!((endpoint.count(), app.seen().len()), (11, 1), "no redirect was followed");
    let address = endpoint.stop().await;
    assert_eq!(verdict(&gateway, "unknown").await, "503 gateway.unavailable");
    assert_eq!(verdict(&gateway, "good").await, "200", "what is remembered goes on");
    let signed = gateway.token("acme", &["cashier"]);
    assert_eq!(verdict(&gateway, &signed).await, "200", "signed tokens need nobody");
    let back = Endpoint::at(address, &authority, |_| Say::Json(active("tok"))).await;
    assert_eq!(verdict(&gateway, "unknown").await, "200", "and comes back by itself");
    back.stop().await;
    let impostor = Endpoint::at(address, &stranger, |_| Say::Json(active("tok"))).await;
    assert_eq!(verdict(&gateway, "another").await, "503 gateway.unavailable");
    assert_eq!(impostor.count(), 0, "nobody else learns the secret or the token");
    assert_eq!(gateway.stop(), Some(0));
    let causes = format!("{:?}", outcomes(&gateway));
    for cause in [
        "the introspection of `workforce` says 401",
        "the introspection of `workforce` says 307",
        "the introspection of `workforce` does not answer with JSON",
        "its answer does not say whether the token is active",
        "`workforce` did not answer within 500 ms",
        "the introspection of `workforce`: length limit exceeded",
    ] {
        assert!(causes.contains(cause), "{cause}: {causes}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_asks_once_and_guesses_do_not_push_out_those_who_are_known() {
    let authority = Authority::new();
    let endpoint = Arc::new(
        Endpoint::start(&authority, |token| match token {
            "good" => Say::Json(active("tok")),
            _ => Say::Nothing,
        })
        .await,
    );
    let app = Upstream::start().await;
    let more = ", timeout: 10s, max_in_flight: 3, cache: {max_age: 1m, entries: 8}";
    let gateway = Arc::new(Gateway::start(bundle(&app, endpoint.address, &authority, more)).await);
    assert_eq!(verdict(&gateway, "good").await, "200");
    let ask = |token: String| {
        let gateway = gateway.clone();
        tokio::spawn(async move { verdict(&gateway, &token).await })
    };
    let crowd: Vec<_> = (0..12).map(|_| ask("late".to_owned())).collect();
    let asked = async |count: usize| {
        tokio::task::yield_now().await;
        endpoint.count() == count
    };
    gateway.until("the crowd's one question", async |_| asked(2).await).await;
    let guesses: Vec<_> = (0..2).map(|number| ask(format!("guess-{number}"))).collect();
    gateway.until("two guesses", async |_| asked(4).await).await;
    for number in 2..20 {
        assert_eq!(verdict(&gateway, &format!("guess-{number}")).await, "503 gateway.unavailable");
    }
    assert_eq!(verdict(&gateway, "good").await, "200", "whoever is known needs no question");
    assert_eq!(endpoint.count(), 4, "no more than three under way");
    endpoint.go.notify_waiters();
    for one in crowd.into_iter().chain(guesses) {
        assert_eq!(one.await.unwrap(), "200");
    }
    assert_eq!(endpoint.count(), 4, "twelve requests, one question");
}

#[tokio::test]
async fn what_is_revoked_here_ends_at_once_though_it_is_remembered() {
    let authority = Authority::new();
    let endpoint = Endpoint::start(&authority, |token| Say::Json(active(token))).await;
    let app = Upstream::start().await;
    let gateway = Gateway::start(bundle(&app, endpoint.address, &authority, ", cache: {max_age: 1m}")).await;
    for token in ["tok-1", "tok-2"] {
        assert_eq!(verdict(&gateway, token).await, "200");
    }
    let told = crate::revocation::ended(&gateway, &["--token-id", "tok-1"]);
    assert!(told.starts_with("ended: 1 tokens seen here lately"), "{told}");
    assert_eq!(verdict(&gateway, "tok-1").await, "401 session.revoked");
    assert_eq!(verdict(&gateway, "tok-2").await, "200");
    crate::revocation::ended(&gateway, &["--subject", "ann@acme", "--issuer", "workforce"]);
    assert_eq!(verdict(&gateway, "tok-2").await, "401 session.revoked");
    assert_eq!(endpoint.count(), 2);
}

/// An issuer that is asked about everything has no keys, and needs none; a route with two of them knows by its own words
/// whom a signed token is from.
#[tokio::test]
async fn an_issuer_without_keys_is_asked_about_all_of_its_tokens() {
    let authority = Authority::new();
    let endpoint = Endpoint::start(&authority, |_| {
        let mut answer = with(json!({"iss": "https://legacy.test/"}));
        for name in ["aud", "iat", "token_type", "iss", "auth_time"] {
            answer.as_object_mut().unwrap().remove(name);
        }
        Say::Json(answer)
    })
    .await;
    let app = Upstream::start().await;
    let bundle = Bundle::standard(app.address);
    bundle.write("idp-ca.pem", &authority.pem());
    bundle.write("secret", "s3cret");
    let port = endpoint.address.port();
    bundle.replace(
        "tenancy:\n",
        &format!("  legacy:\n    issuer: https://legacy.test/\n    ca: idp-ca.pem\n    claims: {{tenant: org_id}}\n    introspection: {{url: \"https://localhost:{port}/\", client_id: moat, secret: {{file: secret}}, auth_method: client_secret_post, tokens: all, may_lack: [iss, aud, iat, token_type], cache: {{max_age: 0s}}}}\ntenancy:\n"),
    );
    bundle.route("  both:\n    match: {hosts: [\"*.localhost\"], paths: [/both], methods: [GET]}\n    upstream: app\n    headers: api-json\n    auth: {any_of: [{bearer: workforce}, {bearer: legacy}]}\n    require: {permission: bookings.read}");
    let gateway = Gateway::start(bundle).await;
    let url = "https://acme.localhost/both";
    for count in 1..=2 {
        assert_eq!(gateway.get(url).bearer("opaque").send().await.verdict(), "200");
        assert_eq!(endpoint.count(), count, "nothing is remembered");
    }
    assert_eq!(
        endpoint.asked()[0].body,
        "token=opaque&token_type_hint=access_token&client_id=moat&client_secret=s3cret"
    );
    assert_eq!(endpoint.asked()[0].authorization, "");
    let signed = gateway.token("acme", &["cashier"]);
    assert_eq!(gateway.get(url).bearer(&signed).send().await.verdict(), "200");
    assert_eq!(endpoint.count(), 2, "the other issuer's token is not shown to this one");
    assert_eq!(app.last().header("x-user-id").as_deref(), Some("someone@acme"));
    assert_eq!(gateway.admin("/readyz").await.status, 200);
    // Whoever was signed out once stays so, where nobody says when the token was issued.
    crate::revocation::ended(&gateway, &["--subject", "ann@acme", "--issuer", "legacy"]);
    assert_eq!(gateway.get(url).bearer("opaque").send().await.verdict(), "401 session.revoked");
}

#[tokio::test]
async fn what_introspection_may_be_is_said_at_once() {
    let app = Upstream::start().await;
    let authority = Authority::new();
    let whole = bundle(&app, "127.0.0.1:443".parse().unwrap(), &authority, "");
    assert_eq!(moat(whole.root(), &["check"]).code, Some(0));
    let text = whole.read("gateway.yaml");
    for (old, new, message) in [
        ("https://localhost:443/introspect?realm=a", "http://localhost/", "is no plain https URL"),
        ("https://localhost:443/introspect?realm=a", "https://u:p@localhost/", "is no plain https URL"),
        ("client_id: moat", "client_id: \"\"", "`client_id` is visible ASCII"),
        ("secret: {file: secret}", "secret: s3cret", "a secret is never a literal"),
        ("secret: {file: secret}", "secret: {file: nowhere}", "`nowhere` does not exist"),
        ("secret: {file: secret}", "secret: {file: secret}, timeout: 0s", "expected at least `10ms`"),
        ("secret: {file: secret}", "secret: {file: secret}, max_in_flight: 0", "expected at least `1`"),
        ("secret: {file: secret}", "secret: {file: secret}, cache: {max_age: 61s}", "expected at most `1m`"),
        ("secret: {file: secret}", "secret: {file: secret}, cache: {max_age: 1500ms}", "whole seconds"),
        ("secret: {file: secret}", "secret: {file: secret}, cache: {entries: 0}", "expected at least `1`"),
        ("secret: {file: secret}", "secret: {file: secret}, may_lack: [aud, aud]", "stands there already"),
        ("secret: {file: secret}", "secret: {file: secret}, may_lack: [exp]", "may_lack"),
    ] {
        whole.write("gateway.yaml", &text.replace(old, new));
        let output = moat(whole.root(), &["check"]);
        assert!(output.code == Some(78) && output.stderr.contains(message), "{new}: {output:?}");
    }
    let keyless = "secret: {file: secret}, tokens: all";
    let (asks, keys) = ("secret: {file: secret}", "    algorithms: [ES256]\n");
    for (text, message) in [
        (text.replace(keys, ""), "has no `algorithms`"),
        (text.replace("    audiences: [northlane-api]\n", ""), "has no `audiences`"),
        (
            text.replace(asks, keyless).replace(keys, "").replace("jwks: {file: jwks.json}", "signals: {caep: x}"),
            "security events are signed",
        ),
    ] {
        whole.write("gateway.yaml", &text);
        let output = moat(whole.root(), &["check"]);
        assert!(output.code == Some(78) && output.stderr.contains(message), "{message}: {output:?}");
    }
    // Two who could be asked about one opaque token.
    let start = text.find("  workforce:\n").unwrap();
    let end = text.find("tenancy:\n").unwrap();
    let second = text[start..end].replace("  workforce:", "  second:").replace("login.test", "second.test");
    let both = format!("{}{second}{}", &text[..end], &text[end..]);
    let both = both.replace("any_of: [{bearer: workforce}", "any_of: [{bearer: workforce}, {bearer: second}");
    whole.write("gateway.yaml", &both);
    let output = moat(whole.root(), &["check"]);
    assert!(output.code == Some(78) && output.stderr.contains("opaque tokens do not say whether"), "{output:?}");
}

/// The example of the page is one that `moat check` accepts.
#[test]
fn the_example_of_the_page_loads() {
    let page = include_str!("../../../docs/introspection.md");
    let blocks: Vec<&str> = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
        bundle.write("secrets/introspection", "s3cret");
        bundle.write("certs/idp-ca.pem", &Authority::new().pem());
        let issuers = block.strip_prefix("issuers:\n").unwrap();
        let (issuers, routes) = issuers.split_once("routes:\n").unwrap();
        bundle.replace("tenancy:\n", &format!("{issuers}tenancy:\n"));
        bundle.route(routes);
        let checked = moat(bundle.root(), &["check"]);
        assert_eq!(checked.code, Some(0), "{block}\n{checked:?}");
    }
}
