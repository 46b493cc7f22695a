//! A provider over HTTPS that says what it is told to, and a client of one exchange.
use super::*;

/// What the server says to a request for the key set.
#[derive(Clone, Debug)]
pub(super) enum Say {
    Keys(String),
    Status(u16),
    /// 302 to the place where good keys are.
    Redirect,
    Bytes(usize),
    /// Closes the connection without an answer.
    Nothing,
}

/// A provider over HTTPS: discovery at its place, keys at `/keys`, good keys always at `/moved`.
pub(super) struct Server {
    /// `https://localhost:PORT/`
    pub(super) url: String,
    pub(super) folder: tempfile::TempDir,
    pub(super) script: Arc<Script>,
    _task: JoinSet<()>,
}

pub(super) struct Script {
    pub(super) say: Mutex<Say>,
    /// What discovery says in `issuer` and `jwks_uri`; `None` for the truth.
    pub(super) discovery: Mutex<Option<String>>,
    pub(super) fetches: AtomicUsize,
    /// While shut, requests for keys wait.
    pub(super) gate: Semaphore,
}

pub(super) const OPEN: usize = 1_000_000;

/// A certificate authority, and a server certificate for localhost under it.
pub(super) fn certificates(folder: &Path) -> Arc<rustls::ServerConfig> {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(folder.join("ca.crt"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(ca, ca_key)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap());
    Arc::new(config.unwrap())
}

impl Server {
    pub(super) async fn start(say: Say) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(certificates(folder.path()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        let script = Arc::new(Script {
            say: Mutex::new(say),
            discovery: Mutex::new(None),
            fetches: AtomicUsize::new(0),
            gate: Semaphore::new(OPEN),
        });
        let mut task = JoinSet::new();
        let (shared, issuer) = (script.clone(), url.clone());
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, script, issuer) = (acceptor.clone(), shared.clone(), issuer.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                        let (script, issuer) = (script.clone(), issuer.clone());
                        async move { script.answer(&issuer, request.uri().path()).await }
                    });
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Server { url, folder, script, _task: task }
    }

    pub(super) fn say(&self, say: Say) {
        *self.script.say.lock().unwrap() = say;
    }

    pub(super) fn fetches(&self) -> usize {
        self.script.fetches.load(Ordering::SeqCst)
    }

    /// Settings that fetch from here at a pace that no test meets by itself.
    pub(super) fn issuer(&self, keys: KeySource) -> Issuer {
        Issuer {
            rules: IssuerRules {
                name: "workforce".into(),
                issuer: self.url.clone(),
                audiences: vec![DEV_AUDIENCE.into()],
                algorithms: vec![Algorithm::Es256],
                token_types: vec!["at+jwt".into()],
                clock_skew_s: 0,
                max_lifetime_s: None,
                claims: ClaimNames { tenant: ClaimName::new("org_id"), ..ClaimNames::default() },
                firebase: false,
                ours: false,
                session_pepper: [0; 32],
            },
            introspection: None,
            keys,
            refresh: Duration::from_secs(24 * 3600),
            min_interval: Duration::from_secs(3600),
            max_stale: Duration::from_secs(12 * 3600),
            ca: Some(self.folder.path().join("ca.crt")),
            client: None,
            signals: None,
        }
    }

    pub(super) fn by_url(&self) -> Issuer {
        self.issuer(KeySource::Url(format!("{}keys", self.url)))
    }

    pub(super) fn rings(&self) -> (KeyRings, Arc<Mutex<Vec<KeyChange>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hear = heard.clone();
        let rings = KeyRings::new(self.folder.path().join("state"), move |change| hear.lock().unwrap().push(change));
        (rings, heard)
    }

    pub(super) async fn ring(&self, issuer: Issuer) -> Arc<KeyRing> {
        one(&self.rings().0, issuer, None).await.remove("workforce").unwrap()
    }

    pub(super) fn token(&self, key: &DevKey) -> String {
        mint(key, &Grant { issuer: self.url.clone(), tenant: Some("acme".into()), ..Grant::default() }, wall_s())
            .unwrap()
    }
}

impl Script {
    async fn answer(&self, issuer: &str, path: &str) -> Result<Response<Full<Bytes>>, std::io::Error> {
        let reply = |status: u16, body: String| Response::builder().status(status).body(Full::new(body.into()));
        if path == "/.well-known/openid-configuration" {
            let truth = json!({"issuer": issuer, "jwks_uri": format!("{issuer}keys")}).to_string();
            let told = self.discovery.lock().unwrap().clone();
            return Ok(reply(200, told.unwrap_or(truth)).unwrap());
        }
        if path == "/moved" {
            return Ok(reply(200, keys(&[&DEFAULT_KEY])).unwrap());
        }
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let _open = self.gate.acquire().await.unwrap();
        let say = self.say.lock().unwrap().clone();
        match say {
            Say::Keys(document) => Ok(reply(200, document).unwrap()),
            Say::Status(status) => Ok(reply(status, String::new()).unwrap()),
            Say::Bytes(count) => Ok(reply(200, " ".repeat(count)).unwrap()),
            Say::Redirect => {
                let to = Response::builder().status(302).header("location", format!("{issuer}moved"));
                Ok(to.body(Full::default()).unwrap())
            }
            Say::Nothing => Err(std::io::Error::other("told to say nothing")),
        }
    }
}

pub(super) static DEFAULT_KEY: std::sync::LazyLock<DevKey> = std::sync::LazyLock::new(dev_key);

pub(super) fn dev_key() -> DevKey {
    DevKey::from_pem(rcgen::KeyPair::generate().unwrap().serialize_pem().as_bytes()).unwrap()
}

/// A key set with the public halves of these keys.
pub(super) fn keys(keys: &[&DevKey]) -> String {
    let sets = keys.iter().map(|key| serde_json::from_str::<serde_json::Value>(&key.jwks().unwrap()).unwrap());
    json!({"keys": sets.map(|set| set["keys"][0].clone()).collect::<Vec<_>>()}).to_string()
}

/// One HTTPS exchange with a host header of choice.
pub(super) async fn exchange(
    port: u16,
    roots: &Path,
    method: &str,
    path: &str,
    host: &str,
    form: &str,
) -> (u16, String) {
    use http_body_util::BodyExt as _;
    use rustls::pki_types::pem::PemObject as _;
    let mut store = rustls::RootCertStore::empty();
    store.add(rustls::pki_types::CertificateDer::from_pem_file(roots).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", host);
    let answer = sender.send_request(request.body(Full::new(Bytes::from(form.to_owned()))).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    drop(sender);
    let _ = connection.await;
    (status, String::from_utf8(body.to_vec()).unwrap())
}
