//! Answers that are ready together leave together: one record of TLS, one system call.
use super::wire::{END_STREAM, OUR_SETTINGS, PREFACE, SETTINGS, frame, get};
use crate::harness::{Bundle, Gateway, PATIENCE, Scripted, read_head};
use rustls::pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const STREAMS: u32 = 6;
const BODY: usize = 1500;

/// A connection that remembers what came over it, still sealed.
struct Overheard(TcpStream, Arc<Mutex<Vec<u8>>>);

impl AsyncRead for Overheard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, buf))?;
        self.1.lock().unwrap().extend_from_slice(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Overheard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Lengths of the records of TLS (RFC 8446, 5.1).
fn records(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        lengths.push(length);
        bytes = &rest[length..];
    }
    lengths
}

#[tokio::test]
async fn answers_that_are_ready_together_leave_in_one_record() {
    let (asked, leave, answered) = [(); 3].map(|()| Arc::new(Semaphore::new(0))).into();
    let gates = (asked.clone(), leave.clone(), answered.clone());
    let script = Scripted::start(move |_, mut stream| {
        let (asked, leave, answered) = gates.clone();
        async move {
            read_head(&mut stream).await;
            asked.add_permits(1);
            leave.acquire().await.unwrap().forget();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n{}", "x".repeat(BODY));
            stream.write_all(answer.as_bytes()).await.unwrap();
            answered.add_permits(1);
            stream.read_u8().await.ok();
        }
    })
    .await;
    let bundle = Bundle::standard(script.address);
    bundle.replace("worker_threads: 2", "worker_threads: 1");
    let gateway = Gateway::start(bundle).await;

    let heard = Arc::new(Mutex::new(Vec::new()));
    let tcp = TcpStream::connect(gateway.address("public")).await.unwrap();
    let name = ServerName::try_from("acme.localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(gateway.tls_client(&[b"h2"])));
    let mut client = connector.connect(name, Overheard(tcp, heard.clone())).await.unwrap();
    client.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &OUR_SETTINGS)].concat()).await.unwrap();
    for n in 0..STREAMS {
        client.write_all(&get(2 * n + 1, "/page")).await.unwrap();
    }
    client.flush().await.unwrap();
    let all = |gate: Arc<Semaphore>| async move {
        timeout(PATIENCE, gate.acquire_many(STREAMS)).await.unwrap().unwrap().forget();
    };
    all(asked).await;
    // The gateway looks away, and finds all answers when it looks again.
    gateway.halt();
    leave.add_permits(STREAMS as usize);
    all(answered).await;
    let before = heard.lock().unwrap().len();
    gateway.signal("CONT");

    let (mut ended, mut plain) = (0, Vec::new());
    while ended < STREAMS {
        let mut piece = [0; 16 * 1024];
        let read = timeout(PATIENCE, client.read(&mut piece)).await.unwrap().unwrap();
        assert_ne!(read, 0, "the connection ends");
        plain.extend_from_slice(&piece[..read]);
        while plain.len() >= 9 && plain.len() >= 9 + usize::from(u16::from_be_bytes([plain[1], plain[2]])) {
            let length = usize::from(u16::from_be_bytes([plain[1], plain[2]]));
            ended += u32::from(plain[3] == 0 && plain[4] & END_STREAM != 0);
            plain.drain(..9 + length);
        }
    }
    // What lay unread before (settings, session tickets) is none of the answers; they are all that is long.
    let heard = heard.lock().unwrap().clone();
    let lengths = records(&heard);
    let long: Vec<usize> = lengths.into_iter().filter(|length| *length > BODY).collect();
    assert!(heard.len() - before > STREAMS as usize * BODY, "they came before");
    assert_eq!(long.len(), 1, "{long:?}");
}
