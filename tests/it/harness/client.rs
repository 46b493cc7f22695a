//! Clients: HTTP/1.1 and HTTP/2 over TLS that verifies the gateway, and raw bytes for what no client would send.
use super::PATIENCE;
use super::gateway::Gateway;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A request in the making.
pub struct Call<'g> {
    gateway: &'g Gateway,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    h2: bool,
    server_name: Option<String>,
}

impl Gateway {
    /// `gateway.call("GET", "https://acme.localhost/api/bookings")`; `http:` goes to the plain listener.
    pub fn call(&self, method: &str, url: &str) -> Call<'_> {
        Call {
            gateway: self,
            method: method.parse().unwrap(),
            uri: url.parse().unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            h2: false,
            server_name: None,
        }
    }

    pub fn get(&self, url: &str) -> Call<'_> {
        self.call("GET", url)
    }

    pub fn post(&self, url: &str, json: &str) -> Call<'_> {
        self.call("POST", url).header("content-type", "application/json").body(json.to_owned())
    }

    /// GET on the admin listener.
    pub async fn admin(&self, target: &str) -> Reply {
        self.admin_accepting(target, "*/*").await
    }

    /// The same with an `Accept` of its own.
    pub async fn admin_accepting(&self, target: &str, accept: &str) -> Reply {
        let tcp = TcpStream::connect(self.address("admin")).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(target).header("host", "localhost").header("accept", accept);
        let request = request.body(Full::new(Bytes::new())).unwrap();
        Reply::read(sender.send_request(request).await.unwrap()).await
    }

    /// The metrics as text.
    pub async fn metrics(&self) -> String {
        self.admin("/metrics").await.text()
    }

    /// What a client of TLS needs that verifies the gateway.
    pub fn tls_client(&self, alpn: &[&[u8]]) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.bundle.path("certs/dev/ca.crt")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    }

    /// A verified TLS connection with this server name.
    pub async fn tls(&self, host: &str, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
        let config = self.tls_client(alpn);
        let tcp = TcpStream::connect(self.address("public")).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
    }

    /// Sends bytes as they are over TLS and returns all that comes until the gateway closes.
    pub async fn raw(&self, host: &str, bytes: &[u8]) -> String {
        let mut stream = self.tls(host, &[b"http/1.1"]).await;
        // The gateway may refuse and close before it has read everything.
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "the connection stays open after {:?}", String::from_utf8_lossy(&answer));
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Call<'_> {
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, value.parse().unwrap());
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Asks on a connection that was made for another host.
    pub fn on_connection_for(mut self, host: &str) -> Self {
        self.server_name = Some(host.to_owned());
        self
    }

    /// Speaks HTTP/2.
    pub fn h2(mut self) -> Self {
        self.h2 = true;
        self
    }

    /// Sends it on a connection of its own.
    pub async fn send(self) -> Reply {
        timeout(PATIENCE, self.exchange()).await.expect("no answer in time")
    }

    async fn exchange(self) -> Reply {
        let host = self.server_name.unwrap_or_else(|| self.uri.host().unwrap().to_owned());
        let target = match self.h2 {
            true => self.uri.clone(),
            false => self.uri.path_and_query().map_or("/", |target| target.as_str()).parse().unwrap(),
        };
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = target;
        *request.headers_mut() = self.headers;
        if !self.h2 && !request.headers().contains_key("host") {
            request.headers_mut().insert("host", self.uri.authority().unwrap().as_str().parse().unwrap());
        }
        let response = if self.uri.scheme_str() == Some("http") {
            let tcp = TcpStream::connect(self.gateway.address("plain")).await.unwrap();
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else if self.h2 {
            let io = TokioIo::new(self.gateway.tls(&host, &[b"h2"]).await);
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let io = TokioIo::new(self.gateway.tls(&host, &[b"http/1.1"]).await);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        Reply::read(response).await
    }
}

/// A response, whole.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub async fn read(response: http::Response<hyper::body::Incoming>) -> Reply {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// Of the bytes of one HTTP/1.1 answer that ends with the connection.
    pub fn parse(bytes: &str) -> Reply {
        let (head, body) = bytes.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {bytes:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let fields = lines.map(|line| line.split_once(": ").unwrap());
        let headers = fields.map(|(name, value)| {
            (http::HeaderName::try_from(name).unwrap(), http::HeaderValue::try_from(value).unwrap())
        });
        Reply { status, headers: headers.collect(), body: Bytes::from(body.to_owned()) }
    }

    /// All values of a header, joined by `|` so that a second one shows.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<_> =
            self.headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect();
        (!values.is_empty()).then(|| values.join("|"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// `403 access.denied` of a refusal, the bare status of anything else.
    pub fn verdict(&self) -> String {
        let problem = self.header("content-type").is_some_and(|value| value.starts_with("application/problem+json"));
        match problem.then(|| self.json()["code"].as_str().map(str::to_owned)).flatten() {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.to_string(),
        }
    }
}
