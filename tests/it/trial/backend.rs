//! An application that records every byte of every connection, answers what it can read by the letter, and no more.
use super::readers::{Next, Read, STRICT};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

type Transcript = Arc<Mutex<Vec<u8>>>;

/// Speaks HTTP/1.1.
pub struct Recorder {
    pub address: SocketAddr,
    connections: Arc<Mutex<Vec<Transcript>>>,
    task: JoinHandle<()>,
}

impl Recorder {
    pub async fn start() -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections: Arc<Mutex<Vec<Transcript>>> = Arc::default();
        let all = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let transcript = Transcript::default();
                all.lock().unwrap().push(transcript.clone());
                tokio::spawn(converse(stream, transcript));
            }
        });
        Recorder { address, connections, task }
    }

    /// All bytes of each connection so far.
    pub fn transcripts(&self) -> Vec<Vec<u8>> {
        self.connections.lock().unwrap().iter().map(|transcript| transcript.lock().unwrap().clone()).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(mut stream: TcpStream, transcript: Transcript) {
    let (mut at, mut told) = (0, false);
    let mut piece = vec![0; 64 * 1024];
    loop {
        let answer = {
            let bytes = transcript.lock().unwrap();
            match STRICT.next(&bytes[at..]) {
                Next::Request(read, length) => {
                    (at, told) = (at + length, false);
                    Some(answer(&read))
                }
                Next::Body { expects: true } if !told => {
                    told = true;
                    Some("HTTP/1.1 100 Continue\r\n\r\n".to_owned())
                }
                Next::Body { .. } | Next::Incomplete => None,
                // Left in the transcript, where it will be found.
                Next::Nonsense(_) => return,
            }
        };
        match answer {
            Some(answer) => {
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            None => match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(count) => transcript.lock().unwrap().extend(&piece[..count]),
            },
        }
    }
}

fn answer(read: &Read) -> String {
    let body = format!("seen {} {}\n", read.method, read.target);
    let shown = if read.method == "HEAD" { "" } else { &*body };
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Seen: yes\r\n\r\n{shown}", body.len())
}

/// Speaks HTTP/2, by prior knowledge.
pub struct Recorder2 {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Read>>>,
    task: JoinHandle<()>,
}

impl Recorder2 {
    pub async fn start() -> Recorder2 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Read>>> = Arc::default();
        let all = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let all = all.clone();
                let service = hyper::service::service_fn(move |request| remember(request, all.clone()));
                tokio::spawn(async move {
                    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    // Requests that clients break off are many here, and a server that is behind ends the connection over 20 of them.
                    builder.max_pending_accept_reset_streams(100_000);
                    drop(builder.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Recorder2 { address, seen, task }
    }

    /// The requests that came whole.
    pub fn seen(&self) -> Vec<Read> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Recorder2 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn remember(request: Request<Incoming>, all: Arc<Mutex<Vec<Read>>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pairs = |map: &http::HeaderMap| -> Vec<(String, String)> {
        map.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect()
    };
    let target = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let answer = format!("seen {} {target}\n", head.method);
    let mut fields = pairs(&head.headers);
    fields.extend(head.uri.authority().map(|authority| ("host".to_owned(), authority.to_string())));
    if let Ok(collected) = body.collect().await {
        let trailers = collected.trailers().map(pairs).unwrap_or_default();
        let body = collected.to_bytes().to_vec();
        let read = Read { method: head.method.to_string(), target, fields, body, trailers };
        all.lock().unwrap().push(read);
    }
    Ok(Response::builder().header("x-seen", "yes").body(Full::from(answer)).unwrap())
}
