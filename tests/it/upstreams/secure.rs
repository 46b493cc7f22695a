//! TLS to applications: always verified, resumed, with a certificate of ours; HTTP/2 with it and without.
use super::{bundle, cause};
use crate::harness::secure::{App, Authority};
use crate::harness::{Gateway, Scripted};
use rustls::HandshakeKind;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncReadExt;

const PAGE: &str = "https://acme.localhost/page";

fn over_tls(app: &App, more: &str) -> String {
    let (address, h1) = (app.address, "{connect_timeout: 2s, first_byte_timeout: 2s}");
    let http = if more.contains("http:") { "" } else { h1 };
    let http = if http.is_empty() { String::new() } else { format!("\n    http: {http}") };
    let (tls, more) = more.split_once('\n').unwrap_or((more, ""));
    format!("    endpoints: [\"{address}\"]\n    tls: {{server_name: app.internal, ca: app-ca.pem{tls}}}{http}\n{more}")
}

#[tokio::test]
async fn an_application_over_tls_is_verified_by_its_own_authority() {
    let authority = Authority::new();
    let app = App::start("secure", Some(authority.good("app.internal").server(&["http/1.1"], None))).await;
    let bundle = bundle(&over_tls(&app, ""));
    bundle.write("app-ca.pem", &authority.pem());
    let gateway = Gateway::start(bundle).await;
    for h2 in [false, true] {
        let call = gateway.get(PAGE);
        let reply = if h2 { call.h2() } else { call }.send().await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "secure"));
    }
    assert!(app.requests().iter().all(|request| request == "HTTP/1.1 /page"));
}

#[tokio::test]
async fn what_cannot_be_verified_gets_no_request_and_never_one_in_clear() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let certificates = [
        ("a stranger's authority", stranger.good("app.internal")),
        ("another name", authority.good("other.internal")),
        ("expired", authority.pair("app.internal", (2020, 2021))),
        ("not yet valid", authority.pair("app.internal", (2080, 2090))),
    ];
    for (what, pair) in certificates {
        let app = App::start("secure", Some(pair.server(&["http/1.1", "h2"], None))).await;
        for http in ["", "\n    http: {version: h2}"] {
            let bundle = bundle(&over_tls(&app, http));
            bundle.write("app-ca.pem", &authority.pem());
            let gateway = Gateway::start(bundle).await;
            for h2 in [false, true] {
                let call = gateway.get(PAGE);
                let reply = if h2 { call.h2() } else { call }.send().await;
                assert_eq!(reply.verdict(), "502 upstream.unreachable", "{what}: {reply:?}");
            }
            let cause = cause(&gateway, "/page").await;
            assert!(cause.to_lowercase().contains("cert"), "{what}: {cause}");
        }
        assert_eq!(app.requests(), Vec::<String>::new(), "{what}");
    }
    // An application without TLS sees a ClientHello and nothing else.
    let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
    let listening = heard.clone();
    let plain = Scripted::start(move |_, mut stream| {
        let heard = listening.clone();
        async move {
            let mut bytes = vec![0; 4096];
            let n = stream.read(&mut bytes).await.unwrap_or_default();
            heard.lock().unwrap().extend(&bytes[..n]);
        }
    })
    .await;
    let bundle = bundle(&format!(
        "    endpoints: [\"{}\"]\n    tls: {{server_name: app.internal, ca: app-ca.pem}}",
        plain.address
    ));
    bundle.write("app-ca.pem", &authority.pem());
    let gateway = Gateway::start(bundle).await;
    assert_eq!(gateway.get(PAGE).send().await.verdict(), "502 upstream.unreachable");
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard.first(), Some(&22), "a handshake record");
    assert!(!String::from_utf8_lossy(&heard).contains("GET"), "never in clear");
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_rotates_without_a_restart() {
    let (authority, callers) = (Authority::new(), Authority::new());
    let server = authority.good("app.internal").server(&["h2"], Some(&callers));
    let app = App::start("mutual", Some(server)).await;
    let bundle = bundle(&over_tls(&app, ", client_certificate: moat-to-app\n    http: {version: h2}"));
    bundle.write("app-ca.pem", &authority.pem());
    let first = callers.good("moat.internal");
    bundle.write("certs/moat-to-app.crt", &first.certificate);
    bundle.write("certs/moat-to-app.key", &first.key);
    let gateway = Gateway::start(bundle).await;
    assert_eq!(gateway.get(PAGE).send().await.text(), "mutual");
    let shown = || app.met.lock().unwrap().callers.last().cloned().unwrap();
    let before = shown();
    let second = callers.good("moat.internal");
    gateway.bundle.write("certs/moat-to-app.crt", &second.certificate);
    gateway.bundle.write("certs/moat-to-app.key", &second.key);
    gateway
        .until("the new certificate is shown", async |g: &Gateway| {
            assert_eq!(g.get(PAGE).send().await.status, 200);
            shown() != before
        })
        .await;
    // One that the application does not know is a failure of ours, and the application says so.
    let strange = authority.good("moat.internal");
    gateway.bundle.write("certs/moat-to-app.crt", &strange.certificate);
    gateway.bundle.write("certs/moat-to-app.key", &strange.key);
    gateway
        .until("the application refuses", async |g: &Gateway| {
            g.get(PAGE).send().await.verdict() == "502 upstream.unreachable"
        })
        .await;
}

#[tokio::test]
async fn http2_is_spoken_with_tls_by_alpn_and_without_by_prior_knowledge_on_one_connection() {
    let authority = Authority::new();
    for tls in [true, false] {
        let config = authority.good("app.internal").server(&["h2", "http/1.1"], None);
        let app = App::start("second", tls.then_some(config)).await;
        let settings = match tls {
            true => over_tls(&app, "\n    http: {version: h2}"),
            false => format!("    endpoints: [\"{}\"]\n    http: {{version: h2}}", app.address),
        };
        let bundle = bundle(&settings);
        bundle.write("app-ca.pem", &authority.pem());
        let gateway = Gateway::start(bundle).await;
        for h2 in [false, true, false, true] {
            let call = gateway.get("https://acme.localhost/page?q=1");
            let reply = if h2 { call.h2() } else { call }.send().await;
            assert_eq!((reply.status, reply.text().as_str()), (200, "second"), "tls: {tls}, h2: {h2}");
        }
        assert_eq!(app.requests(), vec!["HTTP/2.0 /page"; 4]);
        assert_eq!(app.met.lock().unwrap().connections, 1, "tls: {tls}");
    }
}

#[tokio::test]
async fn an_application_that_does_not_speak_http2_is_unreachable_and_the_entry_says_why() {
    let authority = Authority::new();
    // One that knows no ALPN, one that refuses it, one without TLS.
    for alpn in [Some(&[][..]), Some(&["http/1.1"][..]), None] {
        let app = match alpn {
            Some(alpn) => App::start("first", Some(authority.good("app.internal").server(alpn, None))).await,
            None => App::start("first", None).await,
        };
        let plain = Scripted::answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        let bundle = bundle(&match alpn {
            Some(_) => over_tls(&app, "\n    http: {version: h2}"),
            None => format!("    endpoints: [\"{}\"]\n    http: {{version: h2}}", plain.address),
        });
        bundle.write("app-ca.pem", &authority.pem());
        let gateway = Gateway::start(bundle).await;
        assert_eq!(gateway.get(PAGE).send().await.verdict(), "502 upstream.unreachable", "{alpn:?}");
        let cause = cause(&gateway, "/page").await;
        let told = cause.contains("ALPN") || cause.contains("NoApplicationProtocol") || cause.contains("HTTP/2");
        assert!(told, "{alpn:?}: {cause}");
        assert_eq!(app.requests(), Vec::<String>::new(), "{alpn:?}");
    }
}

#[tokio::test]
async fn checks_resume_their_tls_sessions() {
    let authority = Authority::new();
    let app = App::start("secure", Some(authority.good("app.internal").server(&["h2"], None))).await;
    let bundle = bundle(&over_tls(
        &app,
        "\n    http: {version: h2}\n    health: {path: /healthz, every: 400ms, timeout: 400ms}",
    ));
    bundle.write("app-ca.pem", &authority.pem());
    let gateway = Gateway::start(bundle).await;
    gateway
        .until("a session is resumed", async |g: &Gateway| {
            g.admin("/livez").await;
            let met = app.met.lock().unwrap();
            met.handshakes.contains(&HandshakeKind::Resumed)
        })
        .await;
    assert!(app.requests().iter().all(|request| request == "HTTP/2.0 /healthz"));
}
