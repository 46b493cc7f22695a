//! TLS on our side: one provider for the whole process, and per listener who may connect, how, and with which certificate.
mod ciphers;
mod clients;
mod edge;
mod tickets;

pub(crate) use tickets::Tickets;

use super::certificates::{CertStore, Certificate};
use super::client_certificates::Presented;
use crate::config::settings::{AskedOfClients, EdgeCertificate, Listener, TlsProfile};
use arc_swap::ArcSwap;
use decide::facts::{Protocol, TlsFacts};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::server::{Acceptor, NoServerSessionStorage, ServerConfig};
use rustls::sign::SingleCertAndKey;
use rustls::{ProtocolVersion, ServerConnection};
use std::io;
use std::sync::{Arc, OnceLock};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// A fatal `unrecognized_name` alert (RFC 6066, 3) in a record of its own: rustls has no way to send it.
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];

/// The cryptography of the whole process: aws-lc-rs with the post-quantum hybrid preferred.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())).clone()
}

/// Makes [`provider`] the default of every library in the process. To be called first thing in `main`: pingora would
/// otherwise install another one. Harmless when called again.
pub fn install_provider() {
    // Refused where one is installed already, which is what is wanted.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// How a TLS handshake ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It succeeded.
    Done(Arc<TlsFacts>),
    /// It was not over in time.
    Timeout,
    /// The client named a server, or none, for which there is no certificate.
    UnknownName,
    /// The client showed no certificate where there must be one, or none that is good.
    Uncertified,
    /// The two sides could not agree on version, group or cipher, or the client gave up or spoke something else.
    Failed,
}

impl Handshake {
    /// The word for it in metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Handshake::Done(_) => "ok",
            Handshake::Timeout => "timeout",
            Handshake::UnknownName => "unknown_name",
            Handshake::Uncertified => "uncertified",
            Handshake::Failed => "failed",
        }
    }
}

/// Whose certificates a listener asks for in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Callers {
    /// Nobody's.
    Unasked,
    /// That of a delivery network.
    Edge(Arc<EdgeCertificate>),
    /// Those of clients.
    Clients(Arc<AskedOfClients>),
}

impl Callers {
    /// As the settings say.
    pub(crate) fn of(settings: &Listener) -> Callers {
        let edge = settings.edge.as_ref().and_then(|edge| edge.certificate.clone());
        match (edge, &settings.client_certificates) {
            (Some(edge), _) => Callers::Edge(edge),
            (None, Some(asked)) => Callers::Clients(asked.clone()),
            (None, None) => Callers::Unasked,
        }
    }
}

/// A finished handshake.
pub(crate) struct Secured {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) facts: Arc<TlsFacts>,
    pub(crate) server_name: Option<Arc<str>>,
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) client: Option<Arc<Presented>>,
    pub(crate) protocol: Protocol,
}

/// A listener's half of TLS.
pub(crate) struct TlsAcceptor {
    base: ServerConfig,
    store: Arc<CertStore>,
    configs: ArcSwap<Configs>,
    /// Handshakes whose costly part may be done at once.
    turns: Semaphore,
    /// Whether clients are asked for certificates.
    asks: bool,
}

/// One configuration per certificate, made anew when the certificates change.
struct Configs {
    certificates: Arc<super::certificates::Certificates>,
    by_index: Vec<Arc<ServerConfig>>,
}

impl std::fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsAcceptor").field("store", &self.store).finish_non_exhaustive()
    }
}

impl TlsAcceptor {
    pub(crate) fn new(
        profile: &TlsProfile,
        protocols: &[Protocol],
        store: Arc<CertStore>,
        callers: &Callers,
        tickets: Option<Tickets>,
    ) -> Result<TlsAcceptor, String> {
        let base = base_config(profile, protocols, callers, tickets)?;
        let configs = ArcSwap::from_pointee(Configs::new(&base, &store));
        // One worker is left for those who have shaken hands, where there is more than one.
        let workers = Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
        let turns = Semaphore::new(workers.saturating_sub(1).max(1));
        let asks = matches!(callers, Callers::Clients(_));
        Ok(TlsAcceptor { base, store, configs, turns, asks })
    }

    /// Shakes hands until `deadline`.
    pub(crate) async fn accept(&self, tcp: TcpStream, deadline: Instant) -> Result<Secured, Handshake> {
        timeout_at(deadline, self.shake_hands(tcp)).await.unwrap_or(Err(Handshake::Timeout))
    }

    async fn shake_hands(&self, tcp: TcpStream) -> Result<Secured, Handshake> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), tcp).await.map_err(failed)?;
        let server_name = hello.client_hello().server_name().map(str::to_ascii_lowercase);
        let slow_aes = ciphers::prefers_chacha(hello.client_hello().cipher_suites());
        let configs = self.configs();
        let chosen = configs
            .certificates
            .find(server_name.as_deref())
            .and_then(|at| Some((configs.certificates.entries.get(at)?.clone(), configs.by_index.get(at)?.clone())));
        let Some((certificate, config)) = chosen else {
            let mut tcp = hello.io;
            // The client learns why, if it is still there.
            let _ = tcp.write_all(&UNRECOGNIZED_NAME).await;
            let _ = tcp.shutdown().await;
            return Err(Handshake::UnknownName);
        };
        let config = if slow_aes { in_the_clients_order(&config) } else { config };
        let handshake = {
            // What costs a handshake most is done here and now. So many at once, and everybody else in between: others
            // wait for a few handshakes, not for all that a flood has begun.
            let turn = self.turns.acquire().await;
            let handshake = hello.into_stream(config);
            tokio::task::yield_now().await;
            drop(turn);
            handshake
        };
        let stream = handshake.await.map_err(failed)?;
        let tls = stream.get_ref().1;
        let client = match tls.peer_certificates().filter(|_| self.asks) {
            // In a session that was resumed nobody has looked at it: requests do.
            Some(chain) => Some(Arc::new(Presented::new(chain).map_err(|_| Handshake::Uncertified)?)),
            None => None,
        };
        let protocol = if tls.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
        Ok(Secured {
            facts: Arc::new(facts(tls, server_name.clone())),
            server_name: server_name.map(Arc::from),
            certificate,
            client,
            protocol,
            stream,
        })
    }

    fn configs(&self) -> Arc<Configs> {
        let configs = self.configs.load_full();
        if configs.certificates.generation == self.store.generation() {
            return configs;
        }
        let fresh = Arc::new(Configs::new(&self.base, &self.store));
        self.configs.store(fresh.clone());
        fresh
    }
}

fn failed(error: io::Error) -> Handshake {
    tracing::debug!(%error, "tls handshake failed");
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)) => Handshake::Uncertified,
        Some(_) | None => Handshake::Failed,
    }
}

impl Configs {
    fn new(base: &ServerConfig, store: &CertStore) -> Configs {
        let certificates = store.current();
        let one = |certificate: &Arc<Certificate>| {
            let mut config = base.clone();
            config.cert_resolver = Arc::new(SingleCertAndKey::from(certificate.key.clone()));
            Arc::new(config)
        };
        Configs { by_index: certificates.entries.iter().map(one).collect(), certificates }
    }
}

fn base_config(
    profile: &TlsProfile,
    protocols: &[Protocol],
    callers: &Callers,
    tickets: Option<Tickets>,
) -> Result<ServerConfig, String> {
    let mut provider = (*provider()).clone();
    provider.kx_groups = profile.groups.iter().map(|name| group(name)).collect::<Result<_, _>>()?;
    provider.cipher_suites = ciphers::suites(&profile.ciphers)?;
    let versions: &[&rustls::SupportedProtocolVersion] =
        if profile.tls12 { &[&rustls::version::TLS13, &rustls::version::TLS12] } else { &[&rustls::version::TLS13] };
    let builder = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .map_err(|e| format!("the TLS profile cannot be used: {e}"))?;
    let builder = match callers {
        Callers::Edge(wanted) => builder.with_client_cert_verifier(edge::verifier(wanted)?),
        Callers::Clients(asked) => builder.with_client_cert_verifier(clients::verifier(asked)),
        Callers::Unasked => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Nobody));
    config.alpn_protocols = protocols
        .iter()
        .map(|protocol| match protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        })
        .collect();
    // Tickets instead of a cache: resumption costs no memory and works for any number of clients. Keys that nobody has
    // configured live in this process only and rotate by themselves.
    match (callers, tickets) {
        (Callers::Unasked, Some(tickets)) => config.ticketer = Arc::new(tickets),
        // Of clients, requests look at the certificate again, and other authorities or lists are another acceptor, which
        // knows none of the tickets of this one.
        (Callers::Unasked, None) | (Callers::Clients(_), _) => {
            config.ticketer = aws_lc_rs::Ticketer::new().map_err(|e| format!("no session tickets: {e}"))?;
        }
        // A ticket would stand for a certificate long after it has expired or its authority has been taken out. A delivery
        // network keeps its connections, so whole handshakes cost little.
        (Callers::Edge(_), _) => config.send_tls13_tickets = 0,
    }
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ignore_client_order = true;
    // 0-RTT data can be replayed (RFC 8446, 8).
    config.max_early_data_size = 0;
    Ok(config)
}

/// The same, for clients whose best cipher is not ours.
fn in_the_clients_order(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.ignore_client_order = false;
    Arc::new(config)
}

fn group(name: &str) -> Result<&'static dyn rustls::crypto::SupportedKxGroup, String> {
    [
        ("X25519MLKEM768", kx_group::X25519MLKEM768),
        ("SecP256r1MLKEM768", kx_group::SECP256R1MLKEM768),
        ("X25519", kx_group::X25519),
        ("secp256r1", kx_group::SECP256R1),
        ("secp384r1", kx_group::SECP384R1),
    ]
    .into_iter()
    .find_map(|(known, group)| known.eq_ignore_ascii_case(name).then_some(group))
    .ok_or_else(|| format!("unknown key exchange group `{name}`"))
}

/// Stands in until the certificate is known.
#[derive(Debug)]
struct Nobody;

impl rustls::server::ResolvesServerCert for Nobody {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
}

fn facts(tls: &ServerConnection, server_name: Option<String>) -> TlsFacts {
    let version = match tls.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        Some(_) | None => "",
    };
    let cipher = tls.negotiated_cipher_suite().map(|suite| {
        // rustls marks 1.3 suites in its own way; the registry's name has no `13`.
        format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
    });
    TlsFacts {
        version: version.to_owned(),
        cipher: cipher.unwrap_or_default(),
        group: tls.negotiated_key_exchange_group().map(|g| format!("{:?}", g.name())).unwrap_or_default(),
        server_name,
        resumed: tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
    }
}
