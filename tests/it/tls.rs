//! TLS as clients meet it: versions, groups, certificates that change while the gateway runs, hosts that do not fit.
use crate::harness::{Gateway, standard};
use moat::cli::certs::{self, Existing};
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The certificate that a client with this server name gets.
async fn certificate(gateway: &Gateway, host: &str) -> Vec<u8> {
    let stream = gateway.tls(host, &[b"http/1.1"]).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn tls_1_3_with_a_hybrid_group_and_nothing_older() {
    let (gateway, _upstream) = standard().await;
    let stream = gateway.tls("acme.localhost", &[b"h2", b"http/1.1"]).await;
    let session = stream.get_ref().1;
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let group = session.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let old = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let tcp = TcpStream::connect(gateway.address("public")).await.unwrap();
    let name = ServerName::try_from("acme.localhost").unwrap();
    let refused = tokio_rustls::TlsConnector::from(Arc::new(old)).connect(name, tcp).await.unwrap_err();
    assert!(refused.to_string().contains("ProtocolVersion"), "{refused}");
}

#[tokio::test]
async fn a_new_pair_is_served_without_a_restart_and_a_pair_that_does_not_match_is_not() {
    let (gateway, _upstream) = standard().await;
    let first = certificate(&gateway, "acme.localhost").await;
    let folder = gateway.bundle.path("certs");
    let open = gateway.tls("acme.localhost", &[b"http/1.1"]).await;

    // A key of another pair: the last good pair stays in use, and the process says so.
    let other = tempfile::tempdir().unwrap();
    certs::ensure(other.path(), &[], Existing::Keep).unwrap();
    let key = std::fs::read_to_string(folder.join("localhost.key")).unwrap();
    gateway.bundle.write("certs/localhost.key", &std::fs::read_to_string(other.path().join("localhost.key")).unwrap());
    gateway.signal("HUP");
    gateway
        .until("the refusal is in the metrics", async |g: &Gateway| {
            g.metrics().await.contains("moat_config_last_reload_successful 0")
        })
        .await;
    assert_eq!(certificate(&gateway, "acme.localhost").await, first);

    // A whole pair: served to new connections, while open ones go on.
    gateway.bundle.write("certs/localhost.key", &key);
    std::fs::remove_file(folder.join("localhost.crt")).unwrap();
    certs::ensure(&folder, &[], Existing::Keep).unwrap();
    gateway
        .until("the new certificate is served", async |g: &Gateway| certificate(g, "acme.localhost").await != first)
        .await;
    let mut open = open;
    open.write_all(b"GET /page HTTP/1.1\r\nHost: acme.localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_silent_handshake_is_closed_in_time() {
    let (gateway, _upstream) = standard().await;
    let mut stream = TcpStream::connect(gateway.address("public")).await.unwrap();
    let mut buffer = Vec::new();
    // `handshake_timeout` of the bundle is a second.
    let read = tokio::time::timeout(crate::harness::PATIENCE, stream.read_to_end(&mut buffer)).await;
    assert!(read.is_ok(), "still open");
    assert_eq!(gateway.get("https://acme.localhost/page").send().await.status, 200);
}

#[tokio::test]
async fn plaintext_on_the_tls_port_gets_no_answer_that_helps() {
    let (gateway, upstream) = standard().await;
    let mut stream = TcpStream::connect(gateway.address("public")).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: acme.localhost\r\n\r\n").await.unwrap();
    let mut buffer = Vec::new();
    let _ = tokio::time::timeout(crate::harness::PATIENCE, stream.read_to_end(&mut buffer)).await.unwrap();
    assert!(!String::from_utf8_lossy(&buffer).contains("HTTP/1.1 200"));
    assert!(upstream.seen().is_empty());
}
