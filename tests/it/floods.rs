//! Too much and too slow: what costs the gateway is bounded, and clients who do nothing wrong are served beside it.
mod flood;
mod slow;

use crate::harness::{Gateway, PATIENCE, read_head};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Time between two drips.
const TICK: Duration = Duration::from_millis(50);

/// A TCP connection to the TLS listener from an address of this machine's own network, with a small receive buffer
/// where that is asked for.
async fn tcp_from(gateway: &Gateway, source: &str, small: bool) -> TcpStream {
    knock(gateway, source, small).await.unwrap()
}

/// The same for whoever may be turned away: that may be so fast that the connection is gone before it is had.
async fn knock(gateway: &Gateway, source: &str, small: bool) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    if small {
        socket.set_recv_buffer_size(2048).unwrap();
    }
    socket.connect(gateway.address("public")).await
}

/// TLS on it.
async fn tls_on(gateway: &Gateway, tcp: TcpStream, alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    let config = Arc::new(gateway.tls_client(&[alpn]));
    TlsConnector::from(config).connect("acme.localhost".try_into().unwrap(), tcp).await
}

/// How the gateway ended a conversation: after how long, and what it said.
struct Cut {
    after: Duration,
    said: String,
}

/// Says `first`, then `drips` again and again, one at a time, until the gateway ends it; `None` where it never does.
async fn until_cut<S>(stream: &mut S, first: &[u8], drips: &[&[u8]]) -> Option<Cut>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let begun = Instant::now();
    let (mut said, mut piece, mut next) = (Vec::new(), [0; 4096], drips.iter().cycle());
    let mut open = stream.write_all(first).await.is_ok() && stream.flush().await.is_ok();
    while begun.elapsed() < PATIENCE {
        match timeout(TICK, stream.read(&mut piece)).await {
            Ok(Ok(0) | Err(_)) => {
                let said = String::from_utf8_lossy(&said).into_owned();
                return Some(Cut { after: begun.elapsed(), said });
            }
            Ok(Ok(count)) => said.extend_from_slice(&piece[..count]),
            Err(_) => {}
        }
        if open && let Some(drip) = next.next() {
            // The gateway may have closed its side; what it said is still read.
            open = stream.write_all(drip).await.is_ok() && stream.flush().await.is_ok();
        }
    }
    None
}

/// A client that does nothing wrong, ten requests on one connection after the other, twenty a second, until it is told to stop.
struct Honest {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    task: JoinHandle<Duration>,
}

impl Honest {
    fn begin(gateway: &Arc<Gateway>, source: &'static str) -> Honest {
        let (stop, answers): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let (gateway, over, count) = (gateway.clone(), stop.clone(), answers.clone());
        let task = tokio::spawn(async move {
            let (mut slowest, mut pace) = (Duration::ZERO, tokio::time::interval(TICK));
            while !over.load(Ordering::Relaxed) {
                let tcp = tcp_from(&gateway, source, false).await;
                let mut stream = timeout(PATIENCE, tls_on(&gateway, tcp, b"http/1.1")).await.unwrap().unwrap();
                for _ in 0..10 {
                    pace.tick().await;
                    let asked = Instant::now();
                    let request = b"GET /page HTTP/1.1\r\nHost: acme.localhost\r\n\r\n";
                    stream.write_all(request).await.unwrap();
                    let head = read_head(&mut stream).await.to_lowercase();
                    assert!(head.starts_with("http/1.1 200"), "an honest client is refused: {head}");
                    let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
                    let mut body = vec![0; length.parse().unwrap()];
                    stream.read_exact(&mut body).await.unwrap();
                    slowest = slowest.max(asked.elapsed());
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            slowest
        });
        Honest { stop, answers, task }
    }

    /// Waits for so many answers more.
    async fn is_served(&self, more: usize) {
        let wanted = self.answers.load(Ordering::Relaxed) + more;
        let deadline = Instant::now() + PATIENCE;
        while self.answers.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < deadline && !self.task.is_finished(), "an honest client waits in vain");
            tokio::task::yield_now().await;
        }
    }

    /// How many answers it got, none of them a refusal, and the longest that it waited for one.
    async fn end(self) -> (usize, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let slowest = self.task.await.unwrap();
        (self.answers.load(Ordering::Relaxed), slowest)
    }
}

impl Gateway {
    /// The sum over the series of a metric that hold these words.
    async fn counted(&self, name: &str, words: &str) -> u64 {
        let metrics = self.metrics().await;
        let series = metrics.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(words)
        });
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}
