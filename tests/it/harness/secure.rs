//! Applications behind TLS or HTTP/2, under authorities of the test's own, that count what they met.
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub struct Pair {
    pub certificate: String,
    pub key: String,
    chain: Vec<CertificateDer<'static>>,
    private: PrivateKeyDer<'static>,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// In PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A pair for this name, valid from one year to another.
    pub fn pair(&self, name: &str, years: (i32, i32)) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            chain: vec![certificate.der().clone()],
            private: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        }
    }

    /// One that is valid now.
    pub fn good(&self, name: &str) -> Pair {
        self.pair(name, (2020, 2090))
    }
}

impl Pair {
    /// A server that shows it and speaks these protocols; clients of `callers` only, where given.
    pub fn server(&self, alpn: &[&str], callers: Option<&Authority>) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match callers {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(self.chain.clone(), self.private.clone_key()).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

/// What an application met.
#[derive(Default)]
pub struct Met {
    /// Connections accepted.
    pub connections: usize,
    /// Handshakes that came about, and how.
    pub handshakes: Vec<HandshakeKind>,
    /// Leaf certificates that clients showed.
    pub callers: Vec<CertificateDer<'static>>,
    /// Requests: version and target.
    pub requests: Vec<String>,
}

/// An application that answers every request with its name.
pub struct App {
    pub address: SocketAddr,
    pub met: Arc<Mutex<Met>>,
    task: JoinHandle<()>,
}

impl App {
    /// Over TLS where a configuration is given; HTTP/1.1 or HTTP/2 as the client begins.
    pub async fn start(name: &'static str, tls: Option<ServerConfig>) -> App {
        App::at(SocketAddr::from(([127, 0, 0, 1], 0)), name, tls).await
    }

    /// At an address of the past, for an application that comes back.
    pub async fn at(address: SocketAddr, name: &'static str, tls: Option<ServerConfig>) -> App {
        App::answering(address, tls, move |request| {
            // `/status/503` is answered with it.
            let status =
                request.uri().path().strip_prefix("/status/").and_then(|code| code.parse().ok()).unwrap_or(200);
            Response::builder().status(status).body(Full::from(name)).unwrap()
        })
        .await
    }

    pub async fn answering(
        address: SocketAddr,
        tls: Option<ServerConfig>,
        answer: impl Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
    ) -> App {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(128).unwrap();
        App::serve(listener, tls, answer)
    }

    fn serve(
        listener: TcpListener,
        tls: Option<ServerConfig>,
        answer: impl Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
    ) -> App {
        let address = listener.local_addr().unwrap();
        let met: Arc<Mutex<Met>> = Arc::default();
        let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let remembered = met.clone();
        let task = tokio::spawn(async move {
            // Ends with the task, as the listener does: a dead application has no connections either.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                let (acceptor, met, answer) = (acceptor.clone(), remembered.clone(), answer.clone());
                connections.spawn(async move {
                    met.lock().unwrap().connections += 1;
                    let Some(acceptor) = acceptor else { return converse(tcp, met, answer).await };
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    {
                        let (tls, mut met) = (stream.get_ref().1, met.lock().unwrap());
                        met.handshakes.extend(tls.handshake_kind());
                        met.callers.extend(tls.peer_certificates().and_then(|chain| chain.first()).cloned());
                    }
                    converse(stream, met, answer).await;
                });
            }
        });
        App { address, met, task }
    }

    /// Requests so far, `HTTP/2.0 /path`.
    pub fn requests(&self) -> Vec<String> {
        self.met.lock().unwrap().requests.clone()
    }

    /// Ends it with all its connections.
    pub async fn stop(mut self) -> SocketAddr {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.address
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    met: Arc<Mutex<Met>>,
    answer: impl Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        met.lock().unwrap().requests.push(format!("{:?} {}", request.version(), request.uri().path()));
        let response = answer(&request);
        async move {
            // Over HTTP/2 one that answers earlier ends the stream, in the middle of what is still being sent.
            let _ = request.into_body().collect().await;
            Ok::<_, Infallible>(response)
        }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}
