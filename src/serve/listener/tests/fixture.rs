//! A whole gateway's worth of listener for tests: certificates, application, proxy, recording front, TLS client.
use crate::config::settings::{Listener, ListenerKind, TlsProfile};
use crate::serve::accept::serve;
use crate::serve::certificates::CertStore;
use crate::serve::drain::Drain;
use crate::serve::inherited::Inherited;
use crate::serve::limits::{Budget, Rejection};
use crate::serve::listener::*;
use crate::serve::listening::Listening;
use crate::serve::tls::{Handshake, install_provider, provider};
use bytes::Bytes;
use decide::facts::Protocol;
use decide::forwarded::ClientHeader;
use decide::head::HeadLimits;
use decide::refusal::Refusal;
use http::{HeaderName, HeaderValue, StatusCode, header};
use hyper::service::service_fn;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::ResponseHeader;
use pingora_proxy::{HttpProxy, ProxyHttp, Session};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, SignatureScheme};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What the listener told the gateway.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) refused: Mutex<Vec<(Refusal, Glimpse)>>,
    pub(super) handshakes: Mutex<Vec<Handshake>>,
    pub(super) rejections: Mutex<Vec<Rejection>>,
    pub(super) open: AtomicI64,
}

impl Front for Recorder {
    async fn refuse(&self, _conn: &Arc<ConnInfo>, refusal: Refusal, glimpse: Glimpse) -> Reply {
        let code = refusal.code;
        self.refused.lock().unwrap().push((refusal, glimpse));
        reply(StatusCode::from_u16(code.status()).unwrap(), Some(("x-code", HeaderValue::from_static(code.id()))))
    }

    async fn turned_away(&self, _conn: &Arc<ConnInfo>, refusal: Refusal) {
        self.refused.lock().unwrap().push((refusal, Glimpse::default()));
    }

    async fn redirect(&self, _conn: &Arc<ConnInfo>, location: HeaderValue, _glimpse: Glimpse) -> Reply {
        reply(StatusCode::PERMANENT_REDIRECT, Some(("location", location)))
    }

    fn tls_handshake(&self, _listener: &str, outcome: &Handshake) {
        self.handshakes.lock().unwrap().push(outcome.clone());
    }

    fn connection_rejected(&self, _listener: &str, reason: Rejection) {
        self.rejections.lock().unwrap().push(reason);
    }

    fn connections(&self, _listener: &str, delta: i64) {
        self.open.fetch_add(delta, Ordering::SeqCst);
    }
}

fn reply(status: StatusCode, more: Option<(&'static str, HeaderValue)>) -> Reply {
    let mut headers = vec![(HeaderName::from_static("x-dressed"), HeaderValue::from_static("yes"))];
    headers.extend(more.map(|(name, value)| (HeaderName::from_static(name), value)));
    Reply { status, headers, body: Bytes::from_static(b"dressed\n") }
}

/// The gateway of these tests: forwards everything, and says in the answer what it knows of the connection.
pub(super) struct Forward {
    upstream: SocketAddr,
}

#[async_trait::async_trait]
impl ProxyHttp for Forward {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _modules: &mut pingora_core::modules::http::HttpModules) {}

    async fn request_filter(&self, session: &mut Session, _ctx: &mut ()) -> pingora_error::Result<bool> {
        let conn = conn_info(session).expect("the connection is known");
        conn.request_begins();
        let req = session.req_header();
        let host = req.uri.host().map(str::to_owned).or_else(|| {
            req.headers.get(header::HOST).and_then(|h| h.to_str().ok()).map(|h| h.split(':').next().unwrap().to_owned())
        });
        if misdirected(&conn, &host.expect("a host")) {
            session.respond_error(421).await?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, _ctx: &mut ()) -> pingora_error::Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.upstream, false, String::new());
        match session.req_header().uri.path() {
            "/panic" => panic!("a bug in a filter"),
            "/impatient" => peer.options.read_timeout = Some(Duration::from_millis(200)),
            _ => {}
        }
        Ok(Box::new(peer))
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        _ctx: &mut (),
    ) -> pingora_error::Result<()> {
        let conn = conn_info(session).expect("the connection is known");
        if conn.draining() {
            session.set_keepalive(None);
        }
        let tls = conn.tls.as_deref().cloned().unwrap_or_default();
        response.insert_header("x-tls", format!("{} {} {} {}", tls.version, tls.group, tls.cipher, tls.resumed))?;
        response.insert_header("x-conn", conn.id.to_string())?;
        response
            .insert_header("x-peer", format!("{} trusted={} own={}", conn.peer, conn.trusted_peer, conn.own_hop))?;
        Ok(())
    }
}

/// Answers `METHOD path body`; `/slow` waits until [`Gate::release`] is told.
async fn application(release: Arc<tokio::sync::Notify>) -> SocketAddr {
    use http_body_util::{BodyExt, Full};
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = socket.accept().await.unwrap();
            let release = release.clone();
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let release = release.clone();
                async move {
                    if request.headers().contains_key(header::UPGRADE) {
                        release.notified().await;
                        return Ok(echo_upgraded(request));
                    }
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    if head.uri.path() == "/slow" {
                        release.notified().await;
                    }
                    let text = format!("{} {} {}", head.method, head.uri, String::from_utf8_lossy(&body));
                    Ok::<_, hyper::Error>(hyper::Response::new(Full::new(Bytes::from(text))))
                }
            });
            let io = hyper_util::rt::TokioIo::new(tcp);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades());
        }
    });
    address
}

/// Switches protocols and sends back whatever comes.
fn echo_upgraded(request: hyper::Request<hyper::body::Incoming>) -> hyper::Response<http_body_util::Full<Bytes>> {
    tokio::spawn(async move {
        let mut io = hyper_util::rt::TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        let mut piece = [0; 1024];
        while let Ok(read @ 1..) = io.read(&mut piece).await {
            io.write_all(&piece[..read]).await.unwrap();
        }
    });
    let mut response = hyper::Response::new(http_body_util::Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response
}

/// Settings that suit a test; change what it is about.
pub(super) fn settings(kind: ListenerKind) -> Listener {
    Listener {
        name: "public".into(),
        address: "127.0.0.1:0".parse().unwrap(),
        kind,
        trusted: Vec::new(),
        proxy_protocol: false,
        edge: None,
        client_certificates: None,
        client_header: ClientHeader::XForwardedFor,
        head: HeadLimits { bytes: 4096, count: 20, line: 1024 },
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(30),
        handshake_timeout: Duration::from_secs(10),
        stall_timeout: Duration::from_secs(60),
        handshakes_per_second: 1000,
        connections_per_ip: 10_000,
        h2_concurrent_streams: 100,
        h2_resets_per_second: 50,
        h2_control_frames_per_second: 100,
        h2_window_updates_per_second: 1000,
        h2_stall_timeout: Duration::from_secs(60),
    }
}

pub(super) fn modern() -> ListenerKind {
    let groups = ["X25519MLKEM768", "X25519", "secp256r1"].map(str::to_owned).to_vec();
    ListenerKind::Tls {
        protocols: vec![Protocol::Http2, Protocol::Http1],
        profile: TlsProfile { tls12: false, groups, ciphers: ciphers() },
        tickets: None,
    }
}

pub(super) fn ciphers() -> Vec<String> {
    crate::config::options::CIPHERS.map(str::to_owned).to_vec()
}

/// A running listener.
pub(super) struct Gate {
    pub(super) address: SocketAddr,
    pub(super) front: Arc<Recorder>,
    pub(super) drain: Drain,
    pub(super) certificates: Arc<CertStore>,
    pub(super) folder: tempfile::TempDir,
    pub(super) release: Arc<tokio::sync::Notify>,
}

/// Writes a self-signed pair into the folder.
pub(super) fn write_pair(folder: &Path, name: &str, hosts: &[&str]) {
    let made = rcgen::generate_simple_self_signed(hosts.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.crt")), made.cert.pem()).unwrap();
}

impl Gate {
    pub(super) async fn open(settings: Listener) -> Gate {
        Gate::open_with(settings, 10_000, Some("main")).await
    }

    pub(super) async fn open_with(settings: Listener, max_connections: usize, default: Option<&str>) -> Gate {
        install_provider();
        let folder = tempfile::tempdir().unwrap();
        write_pair(folder.path(), "main", &["main.example", "also.example"]);
        write_pair(folder.path(), "wild", &["*.wild.example"]);
        write_pair(folder.path(), "exact", &["exact.wild.example"]);
        let certificates = Arc::new(CertStore::load(folder.path(), default).unwrap());
        let release = Arc::new(tokio::sync::Notify::new());
        let upstream = application(release.clone()).await;
        let conf = Arc::new(ServerConf { threads: 1, ..ServerConf::default() });
        let app: HttpProxy<Forward> = pingora_proxy::http_proxy(&conf, Forward { upstream });
        let house = House {
            app: Arc::new(app),
            front: Arc::new(Recorder::default()),
            drain: Drain::new(),
            budget: Budget::new(max_connections),
            listening: Listening::default(),
        };
        let bound = bind(&Arc::new(settings), Some(&certificates), &mut Inherited::none(), false).unwrap();
        let address = bound.address;
        tokio::spawn(serve(bound, house.clone()));
        Gate { address, front: house.front, drain: house.drain, certificates, folder, release }
    }

    pub(super) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(super) async fn tls(&self, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(config.clone()).connect(name, self.tcp().await).await
    }

    /// A TLS connection for HTTP/1.1 with the name of the default certificate.
    pub(super) async fn h1(&self) -> TlsStream<TcpStream> {
        self.tls(&client(&["http/1.1"]), "main.example").await.unwrap()
    }
}

/// A client that trusts everyone and speaks these protocols.
pub(super) fn client(alpn: &[&str]) -> Arc<ClientConfig> {
    Arc::new(client_with(alpn, &[&rustls::version::TLS13, &rustls::version::TLS12]))
}

pub(super) fn client_with(alpn: &[&str], versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    client_showing(alpn, versions, None)
}

/// A client that shows a certificate, where it has one.
pub(super) fn client_showing(
    alpn: &[&str],
    versions: &[&'static rustls::SupportedProtocolVersion],
    pair: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> ClientConfig {
    client_by(provider(), alpn, versions, pair)
}

/// A client with cryptography of its own.
pub(super) fn client_by(
    provider: Arc<rustls::crypto::CryptoProvider>,
    alpn: &[&str],
    versions: &[&'static rustls::SupportedProtocolVersion],
    pair: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting));
    let mut config = match pair {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    config
}

#[derive(Debug)]
struct Trusting;

impl rustls::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// An answer as the client read it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (n, value) = line.split_once(": ")?;
            n.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Reads one answer with `Content-Length` or chunks; `None` where the connection ends before its first byte.
pub(super) async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> Option<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return None,
            Err(e) => panic!("half a head: {e}: {}", String::from_utf8_lossy(&head)),
        }
    }
    let mut answer = Answer { head: String::from_utf8(head).unwrap(), body: String::new() };
    let length = answer.header("content-length").map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    answer.body = String::from_utf8(body).unwrap();
    Some(answer)
}

pub(super) async fn ask<S: AsyncRead + tokio::io::AsyncWrite + Unpin>(
    stream: &mut S,
    request: &[u8],
) -> Option<Answer> {
    // A server that has refused the beginning need not read the end.
    let _ = stream.write_all(request).await;
    let _ = stream.flush().await;
    read_answer(stream).await
}

/// A GET for `host`.
pub(super) fn get(path: &str, host: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

/// Until the listener has told what the test waits for.
pub(super) async fn until(mut met: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !met() {
        assert!(std::time::Instant::now() < deadline, "waited in vain");
        tokio::task::yield_now().await;
    }
}

/// Whether the other side has closed, within the patience of a test.
pub(super) async fn closed(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.is_ok()
}
