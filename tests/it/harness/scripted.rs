//! An application that speaks bytes, for what no well-behaved one would send; and raw conversations with the gateway.
use super::PATIENCE;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub struct Scripted {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Scripted {
    /// Runs the script for each connection, with its number from 0.
    pub async fn start<F>(script: impl Fn(usize, TcpStream) -> F + Send + 'static) -> Scripted
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(script(count.fetch_add(1, Ordering::SeqCst), stream));
            }
        });
        Scripted { address, connections, task }
    }

    /// Reads a request head, sends these bytes, and closes.
    pub async fn answering(bytes: impl Into<Vec<u8>>) -> Scripted {
        let bytes = Arc::new(bytes.into());
        Scripted::start(move |_, mut stream| {
            let bytes = bytes.clone();
            async move {
                read_head(&mut stream).await;
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Everything up to the end of a head, and not a byte more; what there was, where the other side closes.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    read_until(stream, "\r\n\r\n").await
}

/// Everything up to these words, byte by byte; what there was, where the other side closes.
pub async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = Vec::new();
    let read = async {
        let mut byte = [0];
        while !text.ends_with(end.as_bytes()) && matches!(stream.read(&mut byte).await, Ok(1)) {
            text.push(byte[0]);
        }
    };
    let arrived = timeout(PATIENCE, read).await;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(arrived.is_ok(), "waited in vain for {end:?} after {text:?}");
    text
}
