//! An application that reads HTTP/1 as strictly as can be, and writes down what it gets.
use crate::harness::PATIENCE;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the application got.
#[derive(Clone, Debug)]
pub struct Got {
    pub line: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Got {
    /// The number of the case that it is of.
    pub fn case(&self) -> Option<usize> {
        let (_, rest) = self.line.split_once("POST /case/")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    /// Whether it is well-formed, and for the host that was matched.
    pub fn is_ours(&self) -> bool {
        let host = self.fields.iter().find(|(name, _)| name == "host").map(|(_, value)| value.as_str());
        self.line.starts_with("POST /case/") && matches!(host, Some("acme.localhost" | "acme.localhost:443"))
    }
}

/// An application that reads strictly and writes everything down; what it cannot read is written down as `BROKEN`.
pub struct Recorder {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    open: Arc<AtomicUsize>,
}

impl Recorder {
    pub async fn start() -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::<Mutex<Vec<Got>>>::default();
        let open = Arc::<AtomicUsize>::default();
        let (all, count) = (got.clone(), open.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (all, count) = (all.clone(), count.clone());
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    record(stream, &all).await;
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Recorder { address, got, open }
    }

    /// Everything it got, once nobody is connected any more.
    pub async fn all(&self) -> Vec<Got> {
        let deadline = Instant::now() + PATIENCE;
        while self.open.load(Ordering::SeqCst) > 0 {
            assert!(Instant::now() < deadline, "somebody is still connected");
            tokio::task::yield_now().await;
        }
        self.got.lock().unwrap().clone()
    }
}

async fn record(mut stream: TcpStream, all: &Mutex<Vec<Got>>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) if head.is_empty() => return,
                Err(_) => break,
            }
        }
        let got = match read(&head, &mut stream).await {
            Ok(got) => got,
            // Its end never came: no request, and every application sees that.
            Err(Why::Cut) => return,
            Err(Why::Broken) => {
                Got { line: format!("BROKEN {}", head.escape_ascii()), fields: Vec::new(), body: Vec::new() }
            }
        };
        all.lock().unwrap().push(got);
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}

/// Why there is no request.
enum Why {
    Cut,
    Broken,
}

fn token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// The strictest reading of a request there is.
async fn read(head: &[u8], stream: &mut TcpStream) -> Result<Got, Why> {
    let (line, fields) = fields(head).ok_or(Why::Broken)?;
    let all = |wanted: &str| fields.iter().filter(|(n, _)| n == wanted).map(|(_, v)| v.clone()).collect::<Vec<_>>();
    if all("host").len() != 1 {
        return Err(Why::Broken);
    }
    let body = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Vec::new(),
        ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => {
            let mut body = vec![0; length.parse().map_err(|_| Why::Broken)?];
            stream.read_exact(&mut body).await.map_err(|_| Why::Cut)?;
            body
        }
        ([], [coding]) if coding == "chunked" => chunks(stream).await?,
        _ => return Err(Why::Broken),
    };
    Ok(Got { line, fields, body })
}

fn fields(head: &[u8]) -> Option<(String, Vec<(String, String)>)> {
    let text: String = head.strip_suffix(b"\r\n\r\n")?.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.split("\r\n");
    let line = lines.next()?.to_owned();
    let [method, target, "HTTP/1.1"] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
    if !token(method) || !target.starts_with('/') || !target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return None;
    }
    let mut fields = Vec::new();
    for field in lines {
        let (name, value) = field.split_once(':')?;
        let value = value.trim_matches([' ', '\t']);
        if !token(name) || value.chars().any(|c| c != '\t' && (c < ' ' || c == '\x7f')) {
            return None;
        }
        fields.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    Some((line, fields))
}

async fn chunks(stream: &mut TcpStream) -> Result<Vec<u8>, Why> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.map_err(|_| Why::Cut)?);
        }
        let digits = std::str::from_utf8(&line[..line.len() - 2]).map_err(|_| Why::Broken)?;
        let size = usize::from_str_radix(digits, 16).map_err(|_| Why::Broken)?;
        let mut piece = vec![0; size + 2];
        stream.read_exact(&mut piece).await.map_err(|_| Why::Cut)?;
        body.extend(piece.strip_suffix(b"\r\n").ok_or(Why::Broken)?);
        if size == 0 {
            return Ok(body);
        }
    }
}
