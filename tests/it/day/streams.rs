//! Streams that stay: a WebSocket that is asked again and again, and an event stream that counts.
use crate::harness::{Gateway, PATIENCE, read_head};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use tokio_rustls::client::TlsStream;

const SOCKET: &str = "GET /live/socket HTTP/1.1\r\nHost: acme.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Origin: https://acme.localhost\r\n\r\n";
const EVENTS: &str = "GET /live/events HTTP/1.1\r\nHost: acme.localhost\r\nAccept: text/event-stream\r\n\r\n";

/// A stream in use.
pub struct Stream {
    id: String,
    over: Arc<AtomicBool>,
    task: JoinHandle<Result<(), String>>,
}

impl Stream {
    /// As many of either kind.
    pub async fn some(gateway: &Arc<Gateway>, of_each: usize) -> Vec<Stream> {
        let mut streams = Vec::new();
        for _ in 0..of_each {
            streams.push(Stream::open(gateway, SOCKET).await);
            streams.push(Stream::open(gateway, EVENTS).await);
        }
        streams
    }

    async fn open(gateway: &Arc<Gateway>, request: &'static str) -> Stream {
        let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101") || head.starts_with("HTTP/1.1 200"), "{head}");
        let lower = head.to_lowercase();
        let id = lower.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().to_owned();
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        let task = match request {
            SOCKET => tokio::spawn(ask(stream, stop)),
            _ => tokio::spawn(listen(stream, stop)),
        };
        Stream { id, over, task }
    }

    /// Ends it from the client's side. Its request's id, or how it was lost before.
    pub async fn end(self) -> Result<String, String> {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.unwrap().map_err(|why| format!("{}: {why}", self.id))?;
        Ok(self.id)
    }
}

async fn ask(mut stream: TlsStream<TcpStream>, over: Arc<AtomicBool>) -> Result<(), String> {
    let mut tick = interval(Duration::from_millis(500));
    let mut count = 0_u32;
    while !over.load(Ordering::Relaxed) {
        tick.tick().await;
        count += 1;
        let payload = count.to_be_bytes();
        let mut frame = vec![0x81, 0x84, 0, 0, 0, 0];
        frame.extend(payload);
        stream.write_all(&frame).await.map_err(|error| format!("frame {count}: {error}"))?;
        let mut answer = [0; 6];
        let read = timeout(PATIENCE, stream.read_exact(&mut answer)).await;
        read.map_err(|_| format!("no answer to frame {count}"))?.map_err(|error| format!("answer {count}: {error}"))?;
        if answer[2..] != payload {
            return Err(format!("answer {count} is {answer:?}"));
        }
    }
    // A close frame, masked; the application then closes.
    let _ = stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await;
    Ok(())
}

async fn listen(mut stream: TlsStream<TcpStream>, over: Arc<AtomicBool>) -> Result<(), String> {
    let (mut text, mut next, mut buffer) = (String::new(), 0_u64, [0; 4096]);
    while !over.load(Ordering::Relaxed) {
        let read = timeout(PATIENCE, stream.read(&mut buffer)).await;
        let count = read.map_err(|_| format!("no event {next}"))?.map_err(|error| format!("event {next}: {error}"))?;
        if count == 0 {
            return Err(format!("ended before event {next}"));
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        while let Some(at) = text.find(&format!("data: {next}\n\n")) {
            text.drain(..at + 7);
            next += 1;
        }
        if text.len() > 8192 {
            return Err(format!("event {next} is missing in {text:?}"));
        }
    }
    Ok(())
}
