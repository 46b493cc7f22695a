//! Session tickets whose keys replicas and restarts share: real clients that come back elsewhere, and later.
use crate::harness::{Bundle, Gateway, PATIENCE, Upstream};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme};
use std::process::Command;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const OLD: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const NEW: &str = "f00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Takes every certificate: who the gateway is, is not asked here.
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A client that keeps its tickets.
struct Client(Arc<ClientConfig>);

impl Client {
    fn new(versions: &[&'static rustls::SupportedProtocolVersion]) -> Client {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        Client(Arc::new(config))
    }

    /// Asks for a page on a new connection: how the handshake went.
    async fn visit(&self, gateway: &Gateway) -> HandshakeKind {
        let tcp = TcpStream::connect(gateway.address("public")).await.unwrap();
        let name = ServerName::try_from("acme.localhost").unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(self.0.clone()).connect(name, tcp).await.unwrap();
        stream.write_all(b"GET /page HTTP/1.1\r\nHost: acme.localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        stream.get_ref().1.handshake_kind().unwrap()
    }
}

fn tls13() -> Client {
    Client::new(&[&rustls::version::TLS13])
}

fn replica(upstream: &Upstream, keys: Option<&str>) -> Bundle {
    let bundle = Bundle::standard(upstream.address);
    if let Some(keys) = keys {
        bundle.write("ticket-keys", keys);
        let text = bundle.read("gateway.yaml");
        let tls = text.lines().find(|line| line.starts_with("tls:")).unwrap();
        let more = tls.replacen('{', "{session_tickets: {keys: {file: ticket-keys}, rotate: 7d}, ", 1);
        bundle.replace(tls, &more);
    }
    bundle
}

/// The configuration in force.
async fn digest(gateway: &Gateway) -> String {
    let metrics = gateway.metrics().await;
    metrics.lines().find(|line| line.starts_with("moat_config_info")).unwrap().to_owned()
}

fn resumed(kind: HandshakeKind) -> bool {
    kind == HandshakeKind::Resumed
}

#[tokio::test]
async fn a_session_is_resumed_after_a_restart_and_at_another_replica() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(replica(&upstream, Some(OLD))).await;
    let second = Gateway::start(replica(&upstream, Some(OLD))).await;
    let stranger = Gateway::start(replica(&upstream, Some(NEW))).await;
    let clients: Vec<Client> = (0..20).map(|_| tls13()).collect();
    for client in &clients {
        assert!(!resumed(client.visit(&gateway).await), "nothing to resume yet");
    }
    let gateway = gateway.restart().await;
    for (index, client) in clients.iter().enumerate() {
        let place = if index % 2 == 0 { &gateway } else { &second };
        assert!(resumed(client.visit(place).await), "client {index}");
    }
    assert!(!resumed(clients[0].visit(&stranger).await), "its keys are others");
    let metrics = gateway.metrics().await;
    assert!(metrics.contains(r#"result="resumed""#), "{metrics}");
}

#[tokio::test]
async fn without_shared_keys_a_restart_ends_all_tickets() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(replica(&upstream, None)).await;
    let client = tls13();
    assert!(!resumed(client.visit(&gateway).await) && resumed(client.visit(&gateway).await));
    let gateway = gateway.restart().await;
    assert!(!resumed(client.visit(&gateway).await));
}

#[tokio::test]
async fn keys_are_exchanged_by_a_reload_and_the_older_ones_still_open() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(replica(&upstream, Some(&format!("{OLD}\n")))).await;
    let (early, late) = (tls13(), tls13());
    early.visit(&gateway).await;
    late.visit(&gateway).await;
    // As docs/session-tickets.md says it.
    let said = include_str!("../../docs/session-tickets.md");
    let command = said.lines().find(|line| line.starts_with("umask 077;")).unwrap();
    let old = gateway.bundle.read("ticket-keys");
    let before = digest(&gateway).await;
    assert!(Command::new("sh").args(["-c", command]).current_dir(gateway.bundle.root()).status().unwrap().success());
    gateway.until("the new key is in force", async |g: &Gateway| digest(g).await != before).await;
    let both = gateway.bundle.read("ticket-keys");
    assert_eq!(both.lines().nth(1), old.lines().next());
    assert!(resumed(early.visit(&gateway).await), "the older key still opens");
    assert!(resumed(early.visit(&gateway).await), "and the newer one has made the next ticket");
    let before = digest(&gateway).await;
    gateway.bundle.write("ticket-keys", both.lines().next().unwrap());
    gateway.signal("HUP");
    gateway.until("the older key is gone", async |g: &Gateway| digest(g).await != before).await;
    assert!(resumed(early.visit(&gateway).await), "made with the key that is left");
    // A ticket of the key that is gone: a whole handshake, and no failure.
    assert!(!resumed(late.visit(&gateway).await));
}
