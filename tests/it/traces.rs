//! Traces: spans in a real collector, what they say and do not say, and that no request waits for one.
use crate::harness::{Bundle, Gateway, PATIENCE, Program, Scripted, Sink, Upstream, free_address, message, tool, with};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

/// A collector (rotel) that sends on what it takes.
async fn collector(address: SocketAddr, sink: &Sink) -> Program {
    let mut command = Command::new(tool("rotel"));
    command.args(["start", "--disable-batching", "--exporter", "otlp", "--otlp-exporter-protocol", "http"]);
    command.args(["--otlp-http-endpoint", &address.to_string(), "--otlp-grpc-endpoint", &free_address().to_string()]);
    command.args(["--otlp-exporter-endpoint", &format!("http://{}", sink.address())]);
    Program::start(&mut command, address).await
}

fn traces(bundle: &Bundle, lines: &str) {
    let lines = if lines.starts_with('\n') { lines.to_owned() } else { format!(" {{{lines}}}") };
    bundle
        .replace("logs: {format: json, level: info}", &format!("logs: {{format: json, level: info}}\ntraces:{lines}"));
}

/// Stops the gateway while the applications of the test go on.
async fn ended(mut gateway: Gateway) -> Option<i32> {
    tokio::task::spawn_blocking(move || gateway.stop()).await.unwrap()
}

/// A counter or gauge without labels but these.
async fn metric(gateway: &Gateway, series: &str) -> f64 {
    let metrics = gateway.metrics().await;
    let line = metrics.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("no {series}")).rsplit(' ').next().unwrap().parse().unwrap()
}

const INBOUND: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_a_request_reach_a_real_collector_whole() {
    let (sink, address) = (Sink::start().await, free_address());
    let _collector = collector(address, &sink).await;
    let dead = free_address();
    let (gateway, upstream) = with(|bundle| {
        traces(bundle, &format!("otlp: \"http://{address}\", sample: 100%"));
        let app =
            bundle.read("gateway.yaml").split("endpoints: [").nth(1).unwrap().split(']').next().unwrap().to_owned();
        bundle.replace(&format!("[{app}]"), &format!("[\"{dead}\", {app}]"));
        bundle.replace("    http: {connect_timeout", "    load_balance: round_robin\n    http: {connect_timeout");
    })
    .await;
    let token = gateway.token("acme", &["viewer"]);
    let call = || gateway.get("https://acme.localhost/api/bookings/secret-id?q=secret-query").bearer(&token);
    let reply = call().header("traceparent", INBOUND).h2().send().await;
    assert_eq!(reply.status, 200);

    let id = reply.header("x-request-id").unwrap();
    let spans = sink.spans_of(&id, 2).await;
    let (server, client) = (&spans[0], &spans[1]);
    assert_eq!((server.kind, client.kind, server.name.as_str()), (2, 3, "GET /api/bookings/{id}"));
    assert_eq!(server.trace, client.trace);
    assert_eq!(server.links, [(INBOUND[3..35].to_owned(), INBOUND[36..52].to_owned())]);
    assert_eq!(server.parent, "");
    let onward = upstream.last().header("traceparent").unwrap();
    assert_eq!(onward, format!("00-{}-{}-01", server.trace, client.id), "our client span is the application's parent");
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/api/bookings/{id}"),
        ("server.address", "acme.localhost"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "2"),
        ("tls.protocol.version", "1.3"),
        ("moat.tenant", "acme"),
        ("moat.route", "bookings-read"),
        ("moat.upstream", "app"),
    ] {
        assert_eq!(server.said(key), value, "{key}");
    }
    assert_eq!(server.attributes["http.response.status_code"], json!(200));
    assert_eq!(server.resource["service.name"], json!("moat"));
    assert_eq!(server.resource["service.instance.id"], json!("test-1"));
    assert_eq!(client.said("network.peer.address"), "127.0.0.1");
    assert_eq!(client.attributes["network.peer.port"], json!(upstream.address.port()));
    assert!(server.start <= client.start && client.end <= server.end && client.start < client.end);

    // The same trace in the access log, the same request in the audit log.
    let access = gateway.wait_for_log("the access line", |line| line["id"] == id.as_str()).unwrap();
    assert_eq!(access["trace"], server.trace.as_str());
    assert_eq!(gateway.outcome(&id).await["facts"]["route"], "bookings-read");

    // One of two requests in turn meets the dead endpoint first.
    let mut again = call().send().await;
    if upstream.seen().len() < 3 {
        again = call().send().await;
    }
    let _ = again;
    gateway
        .until("an endpoint was tried in vain", async |_| {
            sink.spans().iter().any(|span| {
                span.events.iter().any(|(name, said)| {
                    name == "moat.endpoint.failed" && said["network.peer.port"] == json!(dead.port())
                })
            })
        })
        .await;
    for secret in ["secret-id", "secret-query", token.as_str(), "someone@"] {
        let found = sink.posts().iter().any(|post| String::from_utf8_lossy(&Sink::body(post)).contains(secret));
        assert!(!found, "{secret} is in a span");
    }
    assert_eq!(metric(&gateway, "moat_trace_spans_total{result=\"failed\"}").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_failures_have_spans_too() {
    let (sink, address) = (Sink::start().await, free_address());
    let _collector = collector(address, &sink).await;
    let (gateway, _upstream) = with(|bundle| {
        traces(bundle, &format!("otlp: \"http://{address}/\", sample: 100%, client_address: false"));
        bundle.replace("csrf: strict", "csrf: strict\n    shadow: [csrf]");
    })
    .await;
    let refused = gateway.get("https://acme.localhost/api/bookings").send().await;
    let spans = sink.spans_of(refused.header("x-request-id").unwrap(), 1).await;
    assert_eq!((spans[0].said("error.type"), spans[0].status), ("session.missing", 0));
    assert!(!spans[0].attributes.contains_key("client.address"));
    let event = |span: &crate::harness::Span| {
        let said = |said: &serde_json::Map<String, Value>, key: &str| said[key].as_str().unwrap().to_owned();
        span.events
            .iter()
            .map(|(_, s)| ["moat.guard", "moat.code", "moat.mode"].map(|key| said(s, key)))
            .collect::<Vec<_>>()
    };
    assert_eq!(event(&spans[0]), [["session", "session.missing", "enforce"]]);

    let cookie = format!("__Host-nl={}", gateway.token("acme", &["cashier"]));
    let call = gateway.post("https://acme.localhost/api/bookings", "{}").header("cookie", &cookie);
    let shadowed = call.header("origin", "https://evil.example").send().await;
    assert_eq!(shadowed.status, 200, "{}", shadowed.text());
    let spans = sink.spans_of(shadowed.header("x-request-id").unwrap(), 2).await;
    assert_eq!(event(&spans[0]), [["csrf", "csrf.unproven", "shadow"]]);

    // A head that is never parsed.
    let answer = gateway.raw("acme.localhost", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
    let id = answer.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().to_owned();
    let spans = sink.spans_of(&id, 1).await;
    assert!(spans[0].said("error.type").starts_with("request."), "{spans:#?}");
    assert!(!spans[0].attributes.contains_key("http.route"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_hop_is_continued_and_its_decision_is_kept() {
    let (sink, address) = (Sink::start().await, free_address());
    let _collector = collector(address, &sink).await;
    let (gateway, upstream) = with(|bundle| {
        traces(bundle, &format!("otlp: \"http://{address}\", sample: 0%, trust_inbound: true"));
        bundle.replace("    tls: modern\n", "    tls: modern\n    client_ip: {trusted: [127.0.0.0/8]}\n");
    })
    .await;
    let call =
        |parent: &str| gateway.get("https://acme.localhost/").header("traceparent", parent).header("tracestate", "a=b");
    let reply = call(INBOUND).send().await;
    let spans = sink.spans_of(reply.header("x-request-id").unwrap(), 2).await;
    assert_eq!((spans[0].trace.as_str(), spans[0].parent.as_str()), (&INBOUND[3..35], &INBOUND[36..52]));
    assert!(spans[0].links.is_empty());
    let seen = upstream.last();
    assert_eq!(seen.header("traceparent").unwrap(), format!("{}{}-01", &INBOUND[..36], spans[1].id));
    assert_eq!(seen.header("tracestate").as_deref(), Some("a=b"));

    // Not recorded there, not recorded here; and nothing is sent of what is not recorded.
    let before = sink.spans().len();
    let unrecorded = format!("{}00", &INBOUND[..53]);
    assert_eq!(call(&unrecorded).send().await.status, 200);
    assert!(upstream.last().header("traceparent").unwrap().ends_with("-00"));
    let reply = gateway.get("https://acme.localhost/").send().await;
    assert_eq!(reply.status, 200);
    assert!(upstream.last().header("traceparent").unwrap().ends_with("-00"), "sample: 0%");
    let last = call(INBOUND).send().await;
    sink.spans_of(last.header("x-request-id").unwrap(), 2).await;
    assert_eq!(sink.spans().len(), before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_the_application_decides() {
    let (gateway, upstream) = with(|bundle| traces(bundle, "\n  otlp: ${NO_SUCH_VARIABLE:-}\n  sample: 0%")).await;
    let reply = gateway.get("https://acme.localhost/").header("traceparent", INBOUND).send().await;
    assert_eq!(reply.status, 200);
    let onward = upstream.last().header("traceparent").unwrap();
    assert!(onward.ends_with("-01") && !onward.contains(&INBOUND[3..35]), "{onward}");
    let line = gateway.wait_for_log("the access line", |line| line["id"] == reply.header("x-request-id").unwrap());
    assert!(line.unwrap().get("trace").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_dies_costs_spans_and_no_request() {
    let sink = Sink::start().await;
    let address = free_address();
    let mut first = collector(address, &sink).await;
    let (gateway, _upstream) =
        with(|bundle| traces(bundle, &format!("otlp: \"http://{address}\", sample: 100%"))).await;
    let reply = gateway.get("https://acme.localhost/").send().await;
    sink.spans_of(reply.header("x-request-id").unwrap(), 2).await;
    first.kill();
    let before = metric(&gateway, "process_resident_memory_bytes").await;

    // More than queue and batch hold: the rest is dropped, counted, and every request is answered at once.
    let mut slowest = Duration::ZERO;
    let mut tls = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    let wanted = 4000;
    for _ in 0..wanted {
        let start = Instant::now();
        one(&mut tls).await;
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let dropped = metric(&gateway, "moat_trace_spans_total{result=\"dropped\"}").await;
    assert!(dropped > 0.0, "nothing was dropped");
    let grown = metric(&gateway, "process_resident_memory_bytes").await - before;
    assert!(grown < f64::from(48 << 20), "{grown} bytes more");
    gateway.wait_for_log("the complaint", |line| message(line) == Some("the collector does not take spans"));

    let _second = collector(address, &sink).await;
    gateway.wait_for_log("its return", |line| message(line) == Some("the collector takes spans again"));
    let reply = gateway.get("https://acme.localhost/").send().await;
    sink.spans_of(reply.header("x-request-id").unwrap(), 2).await;
    let exported = metric(&gateway, "moat_trace_spans_total{result=\"exported\"}").await;
    let failed = metric(&gateway, "moat_trace_spans_total{result=\"failed\"}").await;
    gateway
        .until("every span is accounted for", async |gateway| {
            let mut all = 0.0;
            for result in ["exported", "failed", "dropped"] {
                all += metric(gateway, &format!("moat_trace_spans_total{{result=\"{result}\"}}")).await;
            }
            all == f64::from((wanted + 2) * 2)
        })
        .await;
    assert!(exported > 0.0 && failed >= 0.0);
}

/// A request on a connection that stays.
async fn one(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(b"GET / HTTP/1.1\r\nHost: acme.localhost\r\n\r\n").await.unwrap();
    let head = crate::harness::read_head(stream).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap()];
    stream.read_exact(&mut body).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_silent_delays_nobody() {
    let silent = Scripted::start(|_, stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let (gateway, _upstream) =
        with(|bundle| traces(bundle, &format!("otlp: \"http://{}\", sample: 100%", silent.address))).await;
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(gateway.get("https://acme.localhost/").send().await.status, 200);
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    // The end of the process waits for it a little, and then no more.
    let start = Instant::now();
    assert_eq!(ended(gateway).await, Some(0));
    assert!(start.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_spans_leave_before_the_process_ends() {
    let sink = Sink::start().await;
    let (gateway, _upstream) =
        with(|bundle| traces(bundle, &format!("otlp: \"http://{}\", sample: 100%", sink.address()))).await;
    let reply = gateway.get("https://acme.localhost/").send().await;
    let id = reply.header("x-request-id").unwrap();
    assert_eq!(ended(gateway).await, Some(0));
    sink.spans_of(&id, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_collector_and_share() {
    let (first, second) = (Sink::start().await, Sink::start().await);
    let (gateway, upstream) =
        with(|bundle| traces(bundle, &format!("otlp: \"http://{}\", sample: 0%", first.address()))).await;
    gateway.get("https://acme.localhost/").send().await;
    assert!(upstream.last().header("traceparent").unwrap().ends_with("-00"));
    let text = gateway.bundle.read("gateway.yaml");
    let text = text.replace(&first.address().to_string(), &second.address().to_string());
    gateway.bundle.write("gateway.yaml", &text.replace("sample: 0%", "sample: 100%"));
    gateway.signal("HUP");
    let line = gateway.wait_for_log("the reload", |line| message(line) == Some("reloaded")).unwrap();
    assert!(line.to_string().contains("spans are sent to"), "{line}");
    let reply = gateway.get("https://acme.localhost/").send().await;
    second.spans_of(reply.header("x-request-id").unwrap(), 2).await;
    assert!(first.posts().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_collector_is_verified_and_gets_its_secret_as_it_is_now() {
    let bundle = Bundle::standard(Upstream::start().await.address);
    let sink = TlsSink::start(&bundle).await;
    bundle.write("collector.key", "first-secret\n");
    traces(
        &bundle,
        &format!(
            "otlp: \"https://localhost:{}\", sample: 100%, ca: certs/dev/ca.crt, headers: {{x-api-key: {{file: collector.key}}}}",
            sink.address.port()
        ),
    );
    let gateway = Gateway::start(bundle).await;
    gateway.get("https://acme.localhost/").send().await;
    sink.until("first-secret", &gateway).await;
    gateway.bundle.write("collector.key", "second-secret\n");
    gateway.get("https://acme.localhost/").send().await;
    sink.until("second-secret", &gateway).await;

    // Another authority: the certificate is not believed, and no byte of HTTP is sent.
    let other = Bundle::empty();
    gateway.bundle.write("other-ca.crt", &other.read("certs/dev/ca.crt"));
    gateway.bundle.replace("ca: certs/dev/ca.crt", "ca: other-ca.crt");
    gateway.bundle.replace("sample: 100%, ca", "sample: 99.99%, ca");
    gateway.signal("HUP");
    gateway.wait_for_log("the reload", |line| line.to_string().contains("other authorities vouch"));
    gateway.bundle.write("collector.key", "third-secret\n");
    gateway
        .until("the certificate is refused", async |gateway| {
            gateway.get("https://acme.localhost/").send().await;
            gateway.log_lines().iter().any(|line| line.contains("the collector does not take spans"))
        })
        .await;
    assert!(!sink.heads().iter().any(|head| head.contains("third-secret")));
    assert!(!gateway.log_lines().iter().any(|line| line.contains("-secret")));
}

/// A collector behind TLS, with the bundle's own certificate, that remembers heads.
struct TlsSink {
    address: SocketAddr,
    heads: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
    _scripted: Scripted,
}

impl TlsSink {
    async fn start(bundle: &Bundle) -> TlsSink {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let chain = CertificateDer::pem_file_iter(bundle.path("certs/localhost.crt")).unwrap();
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(bundle.path("certs/localhost.key")).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let heads: std::sync::Arc<std::sync::Mutex<Vec<String>>> = Default::default();
        let remembered = heads.clone();
        let scripted = Scripted::start(move |_, stream| {
            let (acceptor, heads) = (acceptor.clone(), remembered.clone());
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                loop {
                    let head = crate::harness::read_head(&mut stream).await;
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                    let Some(length) = length else { return };
                    let mut body = vec![0; length];
                    if stream.read_exact(&mut body).await.is_err() {
                        return;
                    }
                    heads.lock().unwrap().push(head);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
            }
        })
        .await;
        TlsSink { address: scripted.address, heads, _scripted: scripted }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    async fn until(&self, secret: &str, gateway: &Gateway) {
        let wanted = format!("x-api-key: {secret}\r\n");
        gateway.until(secret, async |_| self.heads().iter().any(|head| head.contains(&wanted))).await;
    }
}

#[test]
fn mistakes_in_the_configuration_are_named() {
    for (lines, expected) in [
        ("otlp: \"ftp://collector:21\"", "`ftp://collector:21` is no http or https URL"),
        ("otlp: \"https://user:pw@collector\"", "is no http or https URL"),
        ("otlp: \"https://collector/v1/traces\"", "`/v1/traces` is added to the URL by itself"),
        ("otlp: \"http://collector:4318\", headers: {x-api-key: {file: gateway.yaml}}", "in the clear"),
        ("headers: {x-api-key: secret}", "a secret is never a literal"),
        ("headers: {x-api-key: {file: missing.key}}", "`missing.key` does not exist"),
        ("headers: {x-api-key: {env: NO_SUCH_VARIABLE}}", "the variable `NO_SUCH_VARIABLE` is not set"),
        ("headers: {content-type: {file: gateway.yaml}}", "`content-type` cannot be a header of the export"),
        ("ca: missing.pem", "`missing.pem` does not exist"),
        ("sample: 0.001%", "expected a share"),
        ("sampling: 1%", "sampling"),
    ] {
        let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
        traces(&bundle, lines);
        let ran = crate::harness::moat(bundle.root(), &["check"]);
        assert_eq!(ran.code, Some(78), "{lines}: {ran:?}");
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains(expected), "{lines}: {ran:?}");
    }
}
