//! The stage of a trial: a gateway before recording applications, and connections to it over which bytes go as they are.
use super::case::{Case, PLACE, Results, Wants};
use crate::harness::{Bundle, Gateway, outcomes};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Connections at a time.
const AT_ONCE: usize = 24;
/// For the answer to one case: longer than all of the gateway's own deadlines on this stage.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between two segments, unless an answer comes.
const PAUSE: Duration = Duration::from_millis(2);

/// How the bytes of a case travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// TLS, one record, to an HTTP/1.1 application.
    Tls,
    /// Without TLS, in two segments.
    Plain,
    /// Without TLS, to an application that speaks HTTP/2: the proxy's own data path.
    Http2,
}

impl Way {
    pub const ALL: [Way; 3] = [Way::Tls, Way::Plain, Way::Http2];

    /// The first letter of the path, by which the gateway routes.
    pub fn kind(self) -> char {
        match self {
            Way::Tls => 't',
            Way::Plain => 'p',
            Way::Http2 => 'u',
        }
    }
}

/// A bundle with a TLS and a plain listener; `one` speaks HTTP/1.1, `two` HTTP/2. Everything below `/t`, `/p` and `/u` is
/// public, everything below `/admin` takes a permission.
pub fn bundle(one: SocketAddr, two: SocketAddr) -> Bundle {
    let mut bundle = Bundle::standard(one);
    bundle.listeners.push("open".to_owned());
    bundle.replace(
        "  plain: {address",
        "  open:\n    address: 127.0.0.1:0\n    plaintext: \"a trial\"\n    limits: {request_headers: {bytes: 16KiB, count: 64}, header_timeout: 2s, idle_timeout: 5s}\n  plain: {address",
    );
    let times = "http: {connect_timeout: 1s, first_byte_timeout: 8s, idle_timeout: 1s, total_timeout: 20s";
    bundle.replace(
        "http: {connect_timeout: 1s, first_byte_timeout: 1s, total_timeout: 30s}",
        &format!("{times}}}\n  two:\n    endpoints: [\"{two}\"]\n    {times}, version: h2}}"),
    );
    // A quick machine begins more handshakes a second than one address may.
    bundle.replace("handshake_timeout: 1s", "handshake_timeout: 1s, handshakes_per_second: 100000");
    // Each refusal has an entry of its own here, however many there are.
    bundle.replace("audit: {directory: state/audit}", "audit: {directory: state/audit, fold: {after: 1000000}}");
    for (name, paths, upstream) in [("trial", "/t/**\", \"/p/**\", \"/v/**", "app"), ("trial-h2", "/u/**", "two")] {
        bundle.route(&format!(
            "  {name}:\n    match: {{hosts: [\"*.localhost\"], paths: [\"{paths}\"], methods: [GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE]}}\n    upstream: {upstream}\n    public: \"a trial\"\n    body: {{max: 1MiB}}\n    headers: api-json"
        ));
    }
    bundle.route(
        "  admin:\n    match: {hosts: [\"*.localhost\"], paths: [/admin, \"/admin/**\"], methods: [GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE]}\n    upstream: app\n    auth: {bearer: workforce}\n    require: {permission: accounts.refund}\n    csrf: off\n    headers: api-json",
    );
    bundle
}

/// Where to connect, and how.
#[derive(Clone)]
pub struct Doors {
    tls: SocketAddr,
    open: SocketAddr,
    connector: TlsConnector,
    http2: TlsConnector,
}

/// Any connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Doors {
    pub fn of(gateway: &Gateway) -> Doors {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(gateway.bundle.path("certs/dev/ca.crt")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let connector = TlsConnector::from(Arc::new(config.clone()));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let http2 = TlsConnector::from(Arc::new(config));
        Doors { tls: gateway.address("public"), open: gateway.address("open"), connector, http2 }
    }

    /// A connection on which HTTP/2 was agreed.
    pub async fn http2(&self, host: &'static str) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.tls).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        self.http2.connect(ServerName::try_from(host).unwrap(), tcp).await.unwrap()
    }

    pub async fn open(&self, tls: bool) -> Box<dyn Stream> {
        let tcp = TcpStream::connect(if tls { self.tls } else { self.open }).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        if !tls {
            return Box::new(tcp);
        }
        let name = ServerName::try_from("acme.localhost").unwrap();
        Box::new(self.connector.connect(name, tcp).await.unwrap())
    }

    /// Sends the segments and returns what comes until the gateway closes; `Err` where it does not.
    pub async fn send(&self, tls: bool, segments: &[&[u8]]) -> Result<Vec<u8>, Vec<u8>> {
        let mut stream = self.open(tls).await;
        let mut answer = Vec::new();
        for (i, segment) in segments.iter().enumerate() {
            // The gateway may refuse and close before it has read everything.
            let _ = stream.write_all(segment).await;
            let _ = stream.flush().await;
            if i + 1 < segments.len() {
                let mut piece = [0; 4096];
                if let Ok(Ok(count)) = timeout(PAUSE, stream.read(&mut piece)).await {
                    answer.extend(&piece[..count]);
                }
            }
        }
        match timeout(PATIENCE, stream.read_to_end(&mut answer)).await {
            Ok(_) => Ok(answer),
            Err(_) => Err(answer),
        }
    }
}

/// An answer as it stood on the wire.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The code of a refusal; the answer to HEAD has none.
    pub fn code(&self) -> Option<String> {
        let body: Value = serde_json::from_str(&self.body).ok()?;
        Some(body["code"].as_str()?.to_owned())
    }
}

/// Reads all final answers of a connection; an error where something is left that is none.
pub fn answers(mut bytes: &[u8]) -> Result<Vec<Answer>, String> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or_else(|| format!("no whole head in {:?}", bytes.escape_ascii().to_string()))?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 4..];
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status: u16 = status.ok_or_else(|| format!("no status line: {line:?}"))?;
        let split = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned()));
        let fields: Option<Vec<(String, String)>> = lines.map(split).collect();
        let mut answer = Answer { status, fields: fields.ok_or("a bad field")?, body: String::new() };
        if status < 200 {
            continue;
        }
        let body = match answer.field("content-length") {
            // The answer to HEAD has a length and no body; no body here begins like an answer.
            Some(_) if bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 ") => Vec::new(),
            Some(length) => {
                let length: usize = length.parse().map_err(|_| "a bad length")?;
                let (body, rest) = bytes.split_at_checked(length).ok_or("a body that ends early")?;
                bytes = rest;
                body.to_vec()
            }
            None if answer.field("transfer-encoding").is_some() => {
                let (mut body, mut last) = (Vec::new(), false);
                while !last {
                    let end = bytes.windows(2).position(|two| two == b"\r\n").ok_or("no size of a chunk")?;
                    let size = usize::from_str_radix(&String::from_utf8_lossy(&bytes[..end]), 16);
                    let size = size.map_err(|e| e.to_string())?;
                    let data = bytes.get(end + 2..end + 2 + size).ok_or("a chunk that ends early")?;
                    body.extend(data);
                    bytes = &bytes[end + 2 + size..];
                    last = size == 0;
                    // Trailers are fields of the answer here.
                    while last && !bytes.starts_with(b"\r\n") {
                        let end = bytes.windows(2).position(|two| two == b"\r\n").ok_or("no end of the trailers")?;
                        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
                        answer.fields.push(split(&line).ok_or("a bad trailer")?);
                        bytes = &bytes[end + 2..];
                    }
                    bytes = bytes.strip_prefix(b"\r\n").ok_or("a chunk without end")?;
                }
                body
            }
            None => Vec::new(),
        };
        answer.body = String::from_utf8_lossy(&body).into_owned();
        all.push(answer);
    }
    Ok(all)
}

/// Runs `run` for each item, so many at a time; results in order.
pub async fn each<T, R, F>(items: Vec<T>, run: impl Fn(usize, T) -> F) -> Vec<R>
where
    F: Future<Output = R> + Send + 'static,
    R: Send + 'static,
{
    let (mut tasks, mut results) = (JoinSet::new(), Vec::new());
    let keep = |done: (usize, R), results: &mut Vec<Option<R>>| results[done.0] = Some(done.1);
    results.resize_with(items.len(), || None);
    for (i, item) in items.into_iter().enumerate() {
        if tasks.len() == AT_ONCE {
            let done = tasks.join_next().await.unwrap().unwrap();
            keep(done, &mut results);
        }
        let future = run(i, item);
        tasks.spawn(async move { (i, future.await) });
    }
    while let Some(done) = tasks.join_next().await {
        keep(done.unwrap(), &mut results);
    }
    results.into_iter().map(Option::unwrap).collect()
}

/// The request behind each case: what is answered to it shows where the gateway saw the case end.
fn last(kind: char, number: usize) -> Vec<u8> {
    format!("GET /{kind}/{number:04}/end HTTP/1.1\r\nHost: acme.localhost\r\nConnection: close\r\n\r\n").into_bytes()
}

/// What was sent for a case and what came back.
pub struct Played {
    pub number: usize,
    pub case: Case,
    pub way: Way,
    pub sent: Vec<u8>,
    pub answer: Result<Vec<u8>, Vec<u8>>,
}

/// Plays all cases on one way.
pub async fn play(doors: &Doors, cases: &[Case], way: Way) -> Vec<Played> {
    let doors = doors.clone();
    each(cases.to_vec(), move |number, case| {
        let doors = doors.clone();
        async move {
            let mut sent = case.at(way.kind(), number);
            sent.extend(last(way.kind(), number));
            let cut = 1 + number * 7 % (sent.len() - 1);
            let segments = if way == Way::Plain { vec![&sent[..cut], &sent[cut..]] } else { vec![&sent[..]] };
            let answer = doors.send(way == Way::Tls, &segments).await;
            Played { number, case, way, sent, answer }
        }
    })
    .await
}

/// The audit entries by request id; more than one for an id is a failure.
pub fn entries_by_id(gateway: &Gateway) -> HashMap<String, Vec<Value>> {
    let mut entries: HashMap<String, Vec<Value>> = HashMap::new();
    for entry in outcomes(gateway) {
        entries.entry(entry["id"].as_str().unwrap().to_owned()).or_default().push(entry);
    }
    entries
}

/// Judges what came back: whole answers, each dressed and recorded once, refusals with a code, and what the case wants.
/// `arrived` is how many requests of the case reached the application whole.
pub fn judge(played: &Played, arrived: usize, entries: &mut HashMap<String, Vec<Value>>, results: &mut Results) {
    let mut wrong = Vec::new();
    let bytes = match &played.answer {
        Ok(bytes) => bytes,
        Err(bytes) => {
            wrong.push("the connection stays open".to_owned());
            bytes
        }
    };
    let all = answers(bytes).unwrap_or_else(|why| {
        wrong.push(why);
        Vec::new()
    });
    let served = all.iter().filter(|answer| answer.field("x-seen").is_some()).count();
    let refusals: Vec<&Answer> = all.iter().filter(|answer| answer.field("x-seen").is_none()).collect();
    if served != arrived {
        wrong.push(format!("{served} answers of the application to {arrived} requests that reached it"));
    }
    for answer in &all {
        let id = answer.field("x-request-id").unwrap_or_default();
        match entries.remove(id).as_deref() {
            Some([entry]) => {
                let code = answer.code();
                if answer.field("x-seen").is_none() && code.is_some_and(|code| entry["verdict"] != *code) {
                    wrong.push(format!("the entry says {}: {answer:?}", entry["verdict"]));
                }
            }
            Some(entries) => wrong.push(format!("{} entries for {answer:?}", entries.len())),
            None => wrong.push(format!("no entry for {answer:?}")),
        }
        let dressed = answer.field("x-content-type-options") == Some("nosniff");
        let strict = answer.field("strict-transport-security").is_some() == (played.way == Way::Tls);
        if !dressed || !strict {
            wrong.push(format!("undressed: {answer:?}"));
        }
    }
    for refusal in &refusals {
        let known = refusal.code().is_some_and(|code| decide::refusal::Code::parse(&code).is_some());
        let to_head = played.case.bytes.starts_with(b"HEAD") && refusal.body.is_empty();
        if !(known || to_head) || refusal.status < 400 {
            wrong.push(format!("no refusal: {refusal:?}"));
        }
        if refusal.status >= 500 {
            wrong.push(format!("the application is blamed: {refusal:?}"));
        }
    }
    match played.case.wants {
        // The proxy's own path ends the connection where it does not trust the end of a body.
        Wants::Served(count) if played.way == Way::Http2 => {
            if !(1..=count + 1).contains(&served) || !refusals.is_empty() {
                wrong.push(format!("served {served} instead of {count}"));
            }
        }
        Wants::Refused(count) if played.way == Way::Http2 => {
            if served > count || refusals.len() > 1 || all.is_empty() {
                wrong.push(format!("served {served} instead of {count}, refused {}", refusals.len()));
            }
        }
        Wants::Served(count) if served != count + 1 || !refusals.is_empty() => {
            wrong.push(format!("served {} instead of {count} with the one behind", served));
        }
        Wants::Refused(count) if served != count || refusals.len() != 1 => {
            wrong.push(format!("served {served} instead of {count}, refused {}", refusals.len()));
        }
        Wants::Safe if all.is_empty() => wrong.push("no answer at all".to_owned()),
        Wants::Served(_) | Wants::Refused(_) | Wants::Safe => {}
    }
    let described = |why: String| {
        let (case, sent) = (&played.case, played.sent.escape_ascii());
        let came = bytes.escape_ascii();
        format!(
            "{} / {} ({:?}, {:04}): {why}\n    sent {sent}\n    came {came}",
            case.class, case.name, played.way, played.number
        )
    };
    let wrong = wrong.into_iter().map(described).collect();
    results.add(played.case.class, served > 0, !refusals.is_empty(), wrong);
}

/// The case of a request that reached an application, by its path.
pub fn number_of(target: &str) -> Option<usize> {
    target.get(3..PLACE.len())?.parse().ok()
}
