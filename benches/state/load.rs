//! Requests over kept connections, and the application that answers them.
use crate::gateway::Gateway;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

const CONNECTIONS: usize = 16;

/// Answers everything with a kilobyte.
pub struct Application {
    pub address: SocketAddr,
}

impl Application {
    pub async fn start() -> Application {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Arc<str> = format!("HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n{}", "x".repeat(1024)).into();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = answer.clone();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    let mut piece = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut piece).await {
                        head.extend_from_slice(&piece[..count]);
                        if head.ends_with(b"\r\n\r\n") {
                            head.clear();
                            if stream.write_all(answer.as_bytes()).await.is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        Application { address }
    }
}

/// A request with a session.
pub fn cookie(handle: &str) -> String {
    request(&format!("Cookie: __Host-sid={handle}"))
}

/// A request with a token.
pub fn bearer(token: &str) -> String {
    request(&format!("Authorization: Bearer {token}"))
}

fn request(line: &str) -> String {
    format!("GET /me HTTP/1.1\r\nHost: acme.localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n{line}\r\n\r\n")
}

/// Connections that are kept.
#[derive(Default)]
pub struct Load {
    open: Vec<TlsStream<TcpStream>>,
}

impl Load {
    /// To this gateway from now on; each has carried something already.
    pub async fn connect(&mut self, gateway: &Gateway) {
        self.open.clear();
        for _ in 0..CONNECTIONS {
            let mut stream = secure(gateway).await;
            let head = b"GET /page HTTP/1.1\r\nHost: acme.localhost\r\n\r\n";
            exchange(&mut stream, head).await;
            self.open.push(stream);
        }
    }

    /// Sends all of them, each on the connection whose turn it is, and sees that all are served.
    pub async fn send(&mut self, requests: Vec<String>) {
        let mut parts: Vec<Vec<String>> = vec![Vec::new(); CONNECTIONS];
        for (number, request) in requests.into_iter().enumerate() {
            parts[number % CONNECTIONS].push(request);
        }
        let mut work = JoinSet::new();
        for (mut stream, part) in self.open.drain(..).zip(parts) {
            work.spawn(async move {
                for request in part {
                    let head = exchange(&mut stream, request.as_bytes()).await;
                    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                }
                stream
            });
        }
        while let Some(stream) = work.join_next().await {
            self.open.push(stream.unwrap());
        }
    }
}

pub async fn secure(gateway: &Gateway) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(gateway.bundle.path("certs/dev/ca.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tcp = TcpStream::connect(gateway.public).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from("acme.localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

/// One request and its answer, of which the head is returned.
pub async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::with_capacity(4096);
    loop {
        let count = stream.read_buf(&mut answer).await.unwrap();
        assert!(count > 0, "the gateway has closed after {:?}", String::from_utf8_lossy(&answer));
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let length = head
            .to_ascii_lowercase()
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        if answer.len() >= end + length.unwrap_or(0) {
            return head;
        }
    }
}

/// An answer of a listener in the clear.
pub async fn plain(address: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    exchange(&mut stream, format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await
}
