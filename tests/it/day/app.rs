//! Endpoints that are killed and started again: requests, event streams and WebSockets over plain HTTP/1.1.
use crate::harness::read_head;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::interval;

/// One of them.
pub struct Endpoint {
    pub address: SocketAddr,
    tasks: JoinSet<()>,
}

impl Endpoint {
    pub async fn start() -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut endpoint = Endpoint { address, tasks: JoinSet::new() };
        endpoint.serve(listener);
        endpoint
    }

    fn serve(&mut self, listener: TcpListener) {
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                connections.spawn(converse(stream));
                while connections.try_join_next().is_some() {}
            }
        });
    }

    /// Closes everything at once, whatever is going on. Returns from when to when that took.
    pub async fn kill(&mut self) -> (Instant, Instant) {
        let began = Instant::now();
        self.tasks.shutdown().await;
        (began, Instant::now())
    }

    /// Listens again, at the same address.
    pub async fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }
}

async fn converse(mut stream: TcpStream) {
    loop {
        let Ok(head) = tokio::time::timeout(Duration::from_secs(600), head(&mut stream)).await else { return };
        let lower = head.to_lowercase();
        let Some(target) = head.split(' ').nth(1) else { return };
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let done = match target {
            "/live/events" => return events(stream).await,
            "/live/socket" => return echo(stream).await,
            _ => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n").await,
        };
        if done.is_err() {
            return;
        }
    }
}

/// A head, with no bound on the wait for it: connections are pooled.
async fn head(stream: &mut TcpStream) -> String {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) => read_head(stream).await,
        Ok(_) | Err(_) => String::new(),
    }
}

/// Counts aloud.
async fn events(mut stream: TcpStream) {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    if stream.write_all(head).await.is_err() {
        return;
    }
    let mut tick = interval(Duration::from_millis(300));
    for count in 0_u64.. {
        tick.tick().await;
        let event = format!("data: {count}\n\n");
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Answers each masked frame of four bytes with the same four, unmasked.
async fn echo(mut stream: TcpStream) {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    // No application is faster than the proxy's first look for an answer.
    interval(Duration::from_millis(20)).tick().await;
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    let mut frame = [0; 10];
    while stream.read_exact(&mut frame).await.is_ok() {
        let [_, _, a, b, c, d, w, x, y, z] = frame;
        let answer = [0x81, 4, w ^ a, x ^ b, y ^ c, z ^ d];
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}
