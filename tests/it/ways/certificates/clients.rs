//! Authorities, what they sign and revoke, and clients that show it.
use crate::harness::{Gateway, PATIENCE, Reply, now};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// An authority with its lists.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// What a certificate is to say.
pub struct Leaf {
    pub dns: &'static str,
    pub uris: Vec<&'static str>,
    pub emails: Vec<&'static str>,
    pub common_name: Option<&'static str>,
    pub from_s: u64,
    pub until_s: u64,
    /// For servers only.
    pub server: bool,
    /// May sign others.
    pub signs: bool,
    /// Bytes of ballast.
    pub ballast: usize,
}

impl Leaf {
    /// One that is valid now.
    pub fn of(dns: &'static str) -> Leaf {
        let (uris, emails, common_name) = (Vec::new(), Vec::new(), None);
        let (from_s, until_s) = (1_600_000_000, 4_000_000_000);
        Leaf { dns, uris, emails, common_name, from_s, until_s, server: false, signs: false, ballast: 0 }
    }
}

/// A certificate with its key and those between it and an authority.
pub struct Client {
    pub chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pub serial: u64,
}

fn next_serial() -> u64 {
    static SERIAL: AtomicU64 = AtomicU64::new(1000);
    SERIAL.fetch_add(1, Ordering::Relaxed)
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Ca {
    pub fn new(name: &str) -> Ca {
        Ca(CertifiedIssuer::self_signed(params(name), KeyPair::generate().unwrap()).unwrap())
    }

    /// An authority below this one.
    pub fn below(&self, name: &str) -> Ca {
        Ca(CertifiedIssuer::signed_by(params(name), KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub fn leaf(&self, leaf: Leaf) -> Client {
        let mut params = CertificateParams::new(vec![leaf.dns.to_owned()]).unwrap();
        for uri in &leaf.uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        for email in &leaf.emails {
            params.subject_alt_names.push(SanType::Rfc822Name((*email).try_into().unwrap()));
        }
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = leaf.common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        if leaf.ballast > 0 {
            params.distinguished_name.push(DnType::OrganizationName, "x".repeat(leaf.ballast));
        }
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(leaf.from_s);
        params.not_after = epoch + Duration::from_secs(leaf.until_s);
        let serial = next_serial();
        params.serial_number = Some(SerialNumber::from(serial));
        let usage = if leaf.server { ExtendedKeyUsagePurpose::ServerAuth } else { ExtendedKeyUsagePurpose::ClientAuth };
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if leaf.signs {
            params.key_usages.push(KeyUsagePurpose::KeyCertSign);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Client { chain: vec![certificate.der().clone()], key, serial }
    }

    /// Its list of what was revoked, good for a day.
    pub fn list(&self, revoked: &[u64]) -> String {
        self.list_until(revoked, now() + 86_400)
    }

    /// Its list of what was revoked, out of date from this second on.
    pub fn list_until(&self, revoked: &[u64], next_update_s: u64) -> String {
        let epoch = date_time_ymd(1970, 1, 1);
        let at = |seconds: u64| epoch + Duration::from_secs(seconds);
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: at(now() - 60),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: at(next_update_s.min(now()) - 3600),
            next_update: at(next_update_s),
            crl_number: SerialNumber::from(next_serial()),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

/// A certificate that only its holder vouches for.
pub fn self_signed(dns: &str) -> Client {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![dns.to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Client { chain: vec![certificate.der().clone()], key, serial: 0 }
}

impl Client {
    /// SHA-256 in hex.
    pub fn fingerprint(&self) -> String {
        self.hash().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn hash(&self) -> Vec<u8> {
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.chain[0]).as_ref().to_vec()
    }

    /// With more certificates behind its own.
    pub fn through(mut self, authorities: &[&Ca]) -> Client {
        self.chain.extend(authorities.iter().map(|ca| ca.der()));
        self
    }
}

/// A client of the gateway, whose sessions of TLS can be resumed.
pub struct Caller<'g> {
    gateway: &'g Gateway,
    config: Arc<ClientConfig>,
    h2: bool,
}

/// A connection.
pub struct Talk {
    sender: Sender,
    pub resumed: bool,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl<'g> Caller<'g> {
    pub fn new(gateway: &'g Gateway, client: Option<&Client>, h2: bool) -> Caller<'g> {
        let config = gateway.tls_client(&[if h2 { b"h2" } else { b"http/1.1" }]);
        Caller { gateway, config: Arc::new(showing(config, client)), h2 }
    }

    /// The same, speaking TLS 1.2.
    pub fn tls12(self) -> Caller<'g> {
        let before = &self.config;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.gateway.bundle.path("certs/dev/ca.crt")).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(before.crypto_provider().clone())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = before.alpn_protocols.clone();
        config.client_auth_cert_resolver = before.client_auth_cert_resolver.clone();
        Caller { config: Arc::new(config), ..self }
    }

    /// A connection of HTTP/1.1 whose bytes are the test's own.
    pub async fn bytes(&self, host: &str) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.gateway.address("public")).await.unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(self.config.clone()).connect(name, tcp).await.unwrap()
    }

    /// One request on a connection of its own; an error where the connection was refused.
    pub async fn once(&self, method: &str, url: &str, headers: &[(&'static str, &str)]) -> Result<Reply, String> {
        let host = url.split('/').nth(2).unwrap();
        self.connect(host).await?.ask(method, url, headers).await
    }

    pub async fn connect(&self, host: &str) -> Result<Talk, String> {
        timeout(PATIENCE, self.shake_hands(host)).await.expect("no handshake in time")
    }

    async fn shake_hands(&self, host: &str) -> Result<Talk, String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let tcp = TcpStream::connect(self.gateway.address("public")).await.map_err(|e| said(&e))?;
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let tls = TlsConnector::from(self.config.clone()).connect(name, tcp).await.map_err(|e| said(&e))?;
        let resumed = tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        let io = TokioIo::new(tls);
        let sender = if self.h2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(|e| said(&e))?;
            tokio::spawn(connection);
            Sender::Two(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(|e| said(&e))?;
            tokio::spawn(connection);
            Sender::One(sender)
        };
        Ok(Talk { sender, resumed })
    }
}

/// The same, with a certificate to show.
pub fn showing(mut config: ClientConfig, client: Option<&Client>) -> ClientConfig {
    let Some(client) = client else { return config };
    let provider = config.crypto_provider().clone();
    let signing = provider.key_provider.load_private_key(client.key.clone_key()).unwrap();
    let certified = rustls::sign::CertifiedKey::new(client.chain.clone(), signing);
    config.client_auth_cert_resolver = Arc::new(Always(Arc::new(certified)));
    config
}

/// Shows the same certificate, whatever the server hints at.
#[derive(Debug)]
struct Always(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Always {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Talk {
    pub async fn ask(&mut self, method: &str, url: &str, headers: &[(&'static str, &str)]) -> Result<Reply, String> {
        let uri: http::Uri = url.parse().unwrap();
        let mut request = Request::builder().method(method);
        request = match &self.sender {
            Sender::One(_) => request.uri(uri.path()).header("host", uri.authority().unwrap().as_str()),
            Sender::Two(_) => request.uri(uri.clone()),
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let sent = async {
            match &mut self.sender {
                Sender::One(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Sender::Two(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        let response = timeout(PATIENCE, sent).await.expect("no answer in time").map_err(|error| error.to_string())?;
        Ok(Reply::read(response).await)
    }
}
