//! Listeners behind balancers that say in a PROXY header for whom they connect.
use super::fixture::*;
use crate::config::settings::{Listener, ListenerKind};
use crate::serve::limits::Rejection;
use bytes::{Buf, Bytes};
use decide::refusal::Code;
use rustls::pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const LINE: &[u8] = b"PROXY TCP4 198.51.100.7 192.0.2.1 12345 443\r\n";
const CLIENT: &str = "198.51.100.7:12345 trusted=false own=false";

/// The same in version 2, with an extension.
fn binary() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11".to_vec();
    header.extend([198, 51, 100, 7, 192, 0, 2, 1, 0x30, 0x39, 0x01, 0xbb, 4, 0, 2, 0, 0]);
    header
}

fn behind_balancer(kind: ListenerKind) -> Listener {
    Listener { proxy_protocol: true, trusted: vec!["127.0.0.0/8".parse().unwrap()], ..settings(kind) }
}

/// A balancer whose first write carries the header and the client's first bytes together.
struct Together(TcpStream, Vec<u8>);

impl AsyncRead for Together {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Together {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.1.is_empty() {
            return Pin::new(&mut this.0).poll_write(cx, buf);
        }
        let first = [this.1.as_slice(), buf].concat();
        let sent = ready!(Pin::new(&mut this.0).poll_write(cx, &first))?;
        assert_eq!(sent, first.len(), "a small write is taken whole");
        this.1.clear();
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    alpn: &str,
    stream: S,
) -> io::Result<tokio_rustls::client::TlsStream<S>> {
    let name = ServerName::try_from("main.example").unwrap();
    TlsConnector::from(client(&[alpn])).connect(name, stream).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_behind_a_balancer_is_known_with_and_without_tls_over_both_protocols() {
    let plain = Gate::open(behind_balancer(ListenerKind::Plaintext)).await;
    let gate = Gate::open(behind_balancer(modern())).await;
    for header in [LINE.to_vec(), binary()] {
        let mut tcp = plain.tcp().await;
        let answer = ask(&mut tcp, &[header.clone(), get("/", "main.example")].concat()).await.unwrap();
        assert_eq!(answer.header("x-peer"), Some(CLIENT));

        let mut tls = shake_hands("http/1.1", Together(gate.tcp().await, header.clone())).await.unwrap();
        let answer = ask(&mut tls, &get("/", "main.example")).await.unwrap();
        assert_eq!(answer.header("x-peer"), Some(CLIENT));

        let tls = shake_hands("h2", Together(gate.tcp().await, header.clone())).await.unwrap();
        let (requests, link) = h2::client::handshake(tls).await.unwrap();
        let link = tokio::spawn(link);
        let request = http::Request::get("https://main.example/").body(()).unwrap();
        let (answer, _) = requests.ready().await.unwrap().send_request(request, true).unwrap();
        let answer: http::Response<h2::RecvStream> = answer.await.unwrap();
        assert_eq!(answer.headers()["x-peer"], CLIENT);
        link.abort();
    }
    assert!(gate.front.rejections.lock().unwrap().is_empty() && plain.front.rejections.lock().unwrap().is_empty());
}

/// The whole beginning of a connection, header and ClientHello, in two segments of every size.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_and_client_hello_may_be_cut_anywhere() {
    let gate = Gate::open(behind_balancer(modern())).await;
    for header in [LINE.to_vec(), binary()] {
        for cut in 0..header.len() + 8 {
            let mut config =
                rustls::ClientConnection::new(client(&["http/1.1"]), "main.example".try_into().unwrap()).unwrap();
            let mut first = header.clone();
            config.write_tls(&mut first).unwrap();
            let mut tcp = gate.tcp().await;
            tcp.set_nodelay(true).unwrap();
            tcp.write_all(&first[..cut]).await.unwrap();
            tcp.flush().await.unwrap();
            tokio::task::yield_now().await;
            tcp.write_all(&first[cut..]).await.unwrap();
            // The beginning of a ServerHello: a handshake record.
            let mut answer = [0; 6];
            tokio::io::AsyncReadExt::read_exact(&mut tcp, &mut answer).await.unwrap();
            assert_eq!((answer[0], answer[5]), (22, 2), "cut at {cut}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_proper_header_a_connection_is_closed_counted_and_recorded() {
    let gate = Gate::open(behind_balancer(ListenerKind::Plaintext)).await;
    let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    for (bytes, cause) in [
        (get("/", "main.example"), "the connection does not begin with a PROXY header"),
        (
            b"PROXY TCP4 198.51.100.7\r\n".to_vec(),
            "the words of the PROXY header are not protocol, addresses and ports",
        ),
        (long, "the line of the PROXY header is too long or not printable"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\0".to_vec(), "the PROXY header is not about TCP over IPv4 or IPv6"),
    ] {
        let mut tcp = gate.tcp().await;
        let _ = tcp.write_all(&bytes).await;
        assert!(closed(&mut tcp).await);
        until(|| !gate.front.refused.lock().unwrap().is_empty()).await;
        let (refusal, glimpse) = gate.front.refused.lock().unwrap().remove(0);
        assert_eq!((refusal.code, &*refusal.cause), (Code::RequestMalformed, cause));
        assert_eq!(glimpse, Default::default());
    }
    assert_eq!(*gate.front.rejections.lock().unwrap(), [Rejection::ProxyHeader; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_but_a_trusted_balancer_is_believed() {
    let strangers = Listener { trusted: vec!["192.0.2.0/24".parse().unwrap()], ..behind_balancer(modern()) };
    let gate = Gate::open(strangers).await;
    if let Ok(mut tcp) = TcpStream::connect(gate.address).await {
        let _ = tcp.write_all(LINE).await;
        assert!(closed(&mut tcp).await);
    }
    until(|| !gate.front.refused.lock().unwrap().is_empty()).await;
    assert_eq!(gate.front.refused.lock().unwrap()[0].0.code, Code::NetworkDenied);
    assert_eq!(*gate.front.rejections.lock().unwrap(), [Rejection::ProxyHeader]);

    let none = Gate::open(settings(ListenerKind::Plaintext)).await;
    let answer = ask(&mut none.tcp().await, &[LINE, &get("/", "main.example")].concat()).await.unwrap();
    assert_eq!((answer.status(), answer.header("x-code")), ("400", Some("request.malformed")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_that_connects_for_itself_is_known_by_its_own_address() {
    let gate = Gate::open(behind_balancer(ListenerKind::Plaintext)).await;
    for header in [b"PROXY UNKNOWN\r\n".as_slice(), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut tcp = gate.tcp().await;
        let own = format!("{} trusted=false own=true", tcp.local_addr().unwrap());
        let answer = ask(&mut tcp, &[header, &get("/", "main.example")].concat()).await.unwrap();
        assert_eq!(answer.header("x-peer"), Some(own.as_str()));
    }
    // A check of the port alone leaves no trace but a count.
    drop(gate.tcp().await);
    until(|| gate.front.rejections.lock().unwrap().len() == 1).await;
    assert!(gate.front.refused.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_connections_are_counted_and_not_the_balancers() {
    let gate = Gate::open(Listener { connections_per_ip: 1, ..behind_balancer(ListenerKind::Plaintext) }).await;
    let line = |client: &str| format!("PROXY TCP4 {client} 192.0.2.1 12345 443\r\n").into_bytes();
    let mut held = Vec::new();
    // One each, and hops that are trusted without count.
    for client in ["198.51.100.7", "198.51.100.8", "127.0.0.9", "127.0.0.9"] {
        let mut tcp = gate.tcp().await;
        let answer = ask(&mut tcp, &[line(client), get("/", "main.example")].concat()).await.unwrap();
        assert_eq!(answer.status(), "200", "{client}");
        held.push(tcp);
    }
    let mut second = gate.tcp().await;
    let _ = second.write_all(&[line("198.51.100.7"), get("/", "main.example")].concat()).await;
    assert!(closed(&mut second).await);
    until(|| *gate.front.rejections.lock().unwrap() == [Rejection::PerAddress]).await;
    held.remove(0);
    until(|| gate.drain.live() == 3).await;
    let mut again = gate.tcp().await;
    assert_eq!(
        ask(&mut again, &[line("198.51.100.7"), get("/", "main.example")].concat()).await.unwrap().status(),
        "200"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_header_is_waited_for_as_long_as_the_handshake_may_take() {
    let patient = Duration::from_millis(200);
    let gate = Gate::open(Listener { handshake_timeout: patient, ..behind_balancer(modern()) }).await;
    let mut silent = gate.tcp().await;
    let mut half = gate.tcp().await;
    half.write_all(&LINE[..20]).await.unwrap();
    // The handshake has what the header has left of the time.
    let mut idle = gate.tcp().await;
    idle.write_all(LINE).await.unwrap();
    for tcp in [&mut silent, &mut half, &mut idle] {
        assert!(closed(tcp).await);
    }
    until(|| gate.front.rejections.lock().unwrap().len() == 2).await;
    until(|| gate.front.refused.lock().unwrap().len() == 1).await;
    assert_eq!(gate.front.refused.lock().unwrap()[0].0.code, Code::RequestTimeout);
    until(|| *gate.front.handshakes.lock().unwrap() == [crate::serve::tls::Handshake::Timeout]).await;
}

/// An attacker behind a balancer that speaks only with the client's first byte: it holds silent connections, and those who
/// come after it are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_keep_nobody_out() {
    let gate = Gate::open_with(behind_balancer(ListenerKind::Plaintext), 300, Some("main")).await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(gate.tcp().await);
    }
    until(|| gate.front.rejections.lock().unwrap().len() == 325).await;
    assert!(gate.front.rejections.lock().unwrap().iter().all(|reason| *reason == Rejection::Waiting));
    until(|| gate.drain.live() == 75).await;
    let mut tcp = gate.tcp().await;
    let mut request = Bytes::from([LINE, &get("/", "main.example")].concat());
    while request.has_remaining() {
        let piece = request.split_to(request.len().min(7));
        tcp.write_all(&piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(read_answer(&mut tcp).await.unwrap().header("x-peer"), Some(CLIENT));
}
