//! Settings of the process that change while it runs: each is seen to take effect, and no request fails by it.
use crate::harness::{Gateway, PATIENCE, read_head, standard, with};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const PAGE: &str = "https://acme.localhost/page";

/// Replaces a piece of `gateway.yaml` and waits until that is in force.
async fn change(gateway: &Gateway, old: &str, new: &str) {
    // The watch and the signal may both find the change; what finds nothing any more does not count.
    let counts = |line: &&String| {
        line.contains("reloaded") && !line.contains("not reloaded") && !line.contains("nothing has changed")
    };
    let reloads = |g: &Gateway| g.log_lines().iter().filter(counts).count();
    let before = reloads(gateway);
    gateway.bundle.replace(old, new);
    gateway.signal("HUP");
    gateway.until("the change is in force", async |g: &Gateway| after(g, reloads(g) > before).await).await;
}

/// Lets others run, then says what it was told.
async fn after(gateway: &Gateway, holds: bool) -> bool {
    gateway.metrics().await;
    holds
}

async fn refused(gateway: &Gateway, old: &str, new: &str) -> String {
    gateway.bundle.replace(old, new);
    gateway.signal("HUP");
    let refused = |line: &serde_json::Value| {
        crate::harness::message(line).is_some_and(|message| message.starts_with("not reloaded"))
    };
    let line = tokio::task::block_in_place(|| gateway.wait_for_log("a refusal", refused)).unwrap();
    crate::harness::field(&line, "problems").unwrap().to_owned()
}

/// A port that is free at this moment.
async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_listener_moves_to_another_address_under_load_and_no_request_fails() {
    let first = free().await;
    let (gateway, _upstream) =
        with(|bundle| bundle.replace("    address: 127.0.0.1:0\n    tls", &format!("    address: {first}\n    tls")))
            .await;
    let mut kept = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    let second = free().await;
    let stop = Arc::new(AtomicBool::new(false));
    let streams =
        [gateway.tls("acme.localhost", &[b"http/1.1"]).await, gateway.tls("acme.localhost", &[b"http/1.1"]).await];
    let load: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(b"GET /page HTTP/1.1\r\nHost: acme.localhost\r\n\r\n").await.unwrap();
                    let head = read_head(&mut stream).await.to_lowercase();
                    assert!(head.starts_with("http/1.1 200"), "after {count}: {head:?}");
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                    stream.read_exact(&mut vec![0; length.parse().unwrap()]).await.unwrap();
                    count += 1;
                    if head.contains("connection: close") {
                        return count;
                    }
                }
                count
            })
        })
        .collect();
    change(&gateway, &first.to_string(), &second.to_string()).await;
    stop.store(true, Ordering::Relaxed);
    for task in load {
        assert!(task.await.unwrap() > 0);
    }
    // The old address is closed; a connection to it gets one more answer, which says that it is the last.
    let gone = async |_: &Gateway| TcpStream::connect(first).await.is_err();
    gateway.until("the old address is closed", gone).await;
    kept.write_all(b"GET /page HTTP/1.1\r\nHost: acme.localhost\r\n\r\n").await.unwrap();
    let last = read_head(&mut kept).await.to_lowercase();
    assert!(last.starts_with("http/1.1 200") && last.contains("connection: close"), "{last}");
    TcpStream::connect(second).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_come_go_and_change_their_name_and_a_port_that_is_taken_refuses_all_of_it() {
    let (gateway, _upstream) = standard().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let busy = format!("  plain: {{address: {}, redirect: https}}", taken.local_addr().unwrap());
    let both = format!("{busy}\n  more: {{address: 127.0.0.1:0, redirect: https}}");
    let said = refused(&gateway, "  plain: {address: 127.0.0.1:0, redirect: https}", &both).await;
    assert!(said.contains("listener `plain`: cannot listen on") && !said.contains("more"), "{said}");
    assert_eq!(gateway.get("http://acme.localhost/").send().await.status, 308, "the old one stays");

    let address = free().await;
    change(&gateway, &both, &format!("  plain: {{address: {address}, redirect: https}}")).await;
    assert!(plain(address).await.contains("https://acme.localhost/x"));
    let port = gateway.address("plain");
    gateway.until("the old port is closed", async |_: &Gateway| TcpStream::connect(port).await.is_err()).await;
    // Another name and another https port, on the same socket.
    change(&gateway, "  plain: {", "  front: {").await;
    let metrics = gateway.metrics().await;
    assert!(plain(address).await.contains("https://acme.localhost/x"), "{metrics}");
    change(&gateway, &format!("  front: {{address: {address}, redirect: https}}\n"), "").await;
    gateway.until("the listener is gone", async |_: &Gateway| TcpStream::connect(address).await.is_err()).await;
    assert_eq!(gateway.get(PAGE).send().await.status, 200);
}

async fn plain(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: acme.localhost\r\n\r\n").await.unwrap();
    read_head(&mut stream).await
}

/// A handshake with TLS 1.2 alone; the end entity's DER where it succeeds.
async fn tls12(gateway: &Gateway, name: &str) -> Option<Vec<u8>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(gateway.bundle.path("certs/dev/ca.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(gateway.address("public")).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
}

#[tokio::test]
async fn limits_versions_and_certificates_change_for_connections_that_come_later() {
    let (gateway, _upstream) = standard().await;
    let fields: String = (0..70).map(|number| format!("x-{number}: 1\r\n")).collect();
    let many = format!("GET /page HTTP/1.1\r\nHost: acme.localhost\r\nConnection: close\r\n{fields}\r\n");
    assert!(gateway.raw("acme.localhost", many.as_bytes()).await.starts_with("HTTP/1.1 4"));
    change(&gateway, "count: 64", "count: 100").await;
    assert!(gateway.raw("acme.localhost", many.as_bytes()).await.starts_with("HTTP/1.1 200"));

    let mut open = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    let before = tls12(&gateway, "localhost").await;
    assert!(before.is_none());
    let file = gateway.bundle.read("gateway.yaml").replace("    tls: modern\n", "    tls: wide\n");
    gateway.bundle.write("gateway.yaml", &file);
    let profile = "default_certificate: localhost, profiles: {wide: {min_version: \"1.2\"}}}";
    change(&gateway, "default_certificate: localhost}", profile).await;
    let first = tls12(&gateway, "localhost").await.expect("TLS 1.2 is not spoken");

    // Another folder, with a pair of its own.
    std::fs::create_dir(gateway.bundle.path("others")).unwrap();
    moat::cli::certs::ensure(&gateway.bundle.path("others"), &[], moat::cli::certs::Existing::Keep).unwrap();
    for name in ["others/dev/ca.crt", "others/dev/ca.key"] {
        gateway.bundle.write(&name.replace("others", "certs"), &gateway.bundle.read(name));
    }
    change(&gateway, "certificates: certs/", "certificates: others/").await;
    let second = tls12(&gateway, "localhost").await.expect("the new certificate is not served");
    assert_ne!(first, second);
    gateway.audit_entry(|entry| entry["event"] == "certificate.change").await;

    open.write_all(b"GET /page HTTP/1.1\r\nHost: acme.localhost\r\n\r\n").await.unwrap();
    assert!(read_head(&mut open).await.starts_with("HTTP/1.1 200"), "an open connection goes on");
    let load = gateway.audit_entry(|entry| entry["detail"]["loosened"].to_string().contains("TLS 1.2")).await;
    assert_eq!(load["event"], "config.load");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_logs_and_audit_change_while_it_runs() {
    let (gateway, _upstream) = standard().await;
    change(&gateway, "drain_timeout: 5s", "drain_timeout: 5s, max_connections: 1").await;
    let held = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    // The reset may be here before the connection is known to stand.
    let turned_away = async { TcpStream::connect(gateway.address("public")).await?.read(&mut [0; 8]).await };
    let closed = timeout(PATIENCE, turned_away).await.expect("a second connection is served");
    assert_eq!(closed.unwrap_or(0), 0);
    change(&gateway, "max_connections: 1", "max_connections: 100").await;
    assert_eq!(gateway.get(PAGE).send().await.status, 200);
    drop(held);

    // The heartbeat is sooner than anything else could write.
    change(&gateway, "audit: {directory: state/audit}", "audit: {directory: state/audit, heartbeat: 1s}").await;
    gateway.audit_entry(|entry| entry["event"] == "heartbeat").await;

    change(&gateway, "logs: {format: json, level: info}", "logs: {format: text, level: debug, access: {sample: 0%}}")
        .await;
    assert_eq!(gateway.get(&format!("{PAGE}?unseen")).send().await.status, 200);
    gateway.bundle.replace("globex: {class: standard}", "globex: {class: standard, status: suspended}");
    gateway.signal("HUP");
    let told = |g: &Gateway| g.log_lines().iter().any(|line| line.contains(" INFO ") && line.contains("reloaded"));
    gateway.until("a line of text", async |g: &Gateway| after(g, told(g)).await).await;
    let access = gateway.log_lines().iter().filter(|line| line.contains("\"path\":\"/page\"")).count();
    assert_eq!(access, 1, "the one before the share was 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_restart_can_change_is_refused_with_its_place_and_nothing_else_happens() {
    let (gateway, _upstream) = standard().await;
    let file = gateway.bundle.read("gateway.yaml");
    let place = file.lines().position(|line| line.starts_with("server:")).unwrap() + 1;
    gateway.bundle.write(
        "gateway.yaml",
        &file.replace("globex: {class: standard}", "globex: {class: standard, status: suspended}"),
    );
    let said = refused(&gateway, "worker_threads: 2", "worker_threads: 3").await;
    assert_eq!(said, format!("needs a restart: `server.worker_threads` (gateway.yaml:{place})"));
    assert_eq!(gateway.get("https://globex.localhost/page").send().await.status, 200);
}
