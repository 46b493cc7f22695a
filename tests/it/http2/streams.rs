//! Streams of HTTP/2 clients before an application that speaks HTTP/1.1: what both versions have arrives, the rest is refused.
use super::wire::{DATA, END_HEADERS, END_STREAM, HEADERS, Peer, block, frame};
use crate::harness::{Bundle, Gateway, PATIENCE, Scripted, read_head, read_until};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const UPLOAD: &str = "  upload:\n    match: {hosts: [\"*.localhost\"], paths: [/upload], methods: [POST, PUT]}\n    upstream: app\n    public: \"a test\"\n    csrf: off\n    body: {max: 1MiB}\n";

async fn before(script: &Scripted) -> Gateway {
    let bundle = Bundle::standard(script.address);
    bundle.route(UPLOAD);
    Gateway::start(bundle).await
}

async fn connect(gateway: &Gateway) -> SendRequest<Full<Bytes>> {
    let io = TokioIo::new(gateway.tls("acme.localhost", &[b"h2"]).await);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn get(sender: &mut SendRequest<Full<Bytes>>, path: &str) -> Response<Incoming> {
    let request = Request::get(format!("https://acme.localhost{path}")).header("te", "trailers");
    sender.send_request(request.body(Full::default()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn trailers_of_an_answer_arrive_and_never_those_that_decide() {
    let script = Scripted::start(|_, mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.contains("\r\nte: trailers\r\n"), "{head}");
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status, Set-Cookie\r\nConnection: x-own\r\nX-Own: 1\r\n\r\n3\r\nyes\r\n0\r\nGrpc-Status: 0\r\nSet-Cookie: a=b\r\nContent-Length: 7\r\nX-Sum: 9\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.read_u8().await.ok();
    })
    .await;
    let gateway = before(&script).await;
    let answer = get(&mut connect(&gateway).await, "/page").await;
    assert_eq!(answer.headers().get("trailer").unwrap(), "grpc-status");
    assert!(!answer.headers().contains_key("x-own"), "{answer:?}");
    let whole = answer.into_body().collect().await.unwrap();
    let mut trailers: Vec<_> = whole.trailers().unwrap().iter().map(|(n, v)| format!("{n}: {v:?}")).collect();
    trailers.sort();
    assert_eq!(trailers, ["grpc-status: \"0\"", "x-sum: \"9\""]);
    assert_eq!(whole.to_bytes(), "yes");
}

#[tokio::test]
async fn a_request_with_trailers_never_arrives_whole() {
    let (tell, mut got) = tokio::sync::mpsc::unbounded_channel();
    let script = Scripted::start(move |_, mut stream| {
        let tell = tell.clone();
        async move {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.ok();
            tell.send(String::from_utf8_lossy(&all).into_owned()).unwrap();
        }
    })
    .await;
    let gateway = before(&script).await;
    for length in [None, Some("5")] {
        let mut peer = Peer::open(&gateway).await;
        let mut fields =
            vec![(":method", "POST"), (":scheme", "https"), (":authority", "acme.localhost"), (":path", "/upload")];
        fields.extend(length.map(|length| ("content-length", length)));
        let stream = peer.stream();
        let request = [
            frame(HEADERS, END_HEADERS, stream, &block(&fields)),
            frame(DATA, 0, stream, b"hello"),
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[("x-sum", "1")])),
        ];
        assert!(peer.send(&request.concat()).await);
        assert_eq!(peer.outcome(stream).await, "400 request.malformed", "{length:?}");
        gateway.audit_entry(|entry| entry.to_string().contains("trailers of a request over HTTP/2")).await;
        let request = timeout(PATIENCE, got.recv()).await.unwrap().unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let whole = if head.contains("chunked") { body.ends_with("0\r\n\r\n") } else { body.len() >= 5 };
        assert!(!whole, "{request}");
    }
}

#[tokio::test]
async fn a_pause_in_an_answer_has_its_own_clock() {
    let script = Scripted::start(|_, mut stream| async move {
        let head = read_head(&mut stream).await;
        if head.starts_with("GET /never") {
            std::future::pending::<()>().await;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await.unwrap();
        // Longer than a first byte may take, and shorter than a pause.
        let pause = timeout(Duration::from_millis(1500), stream.read_u8()).await;
        assert!(pause.is_err(), "the gateway gave up");
        stream.write_all(b"-last").await.unwrap();
        stream.read_u8().await.ok();
    })
    .await;
    let gateway = before(&script).await;
    let mut sender = connect(&gateway).await;
    let answer = get(&mut sender, "/page").await;
    assert_eq!(answer.headers().get("content-length").unwrap(), "10");
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "first-last");
    assert_eq!(get(&mut sender, "/never").await.status(), 504);
}

#[tokio::test]
async fn bodies_arrive_as_they_were_sent() {
    let script = Scripted::start(|_, mut stream| async move {
        loop {
            let head = read_head(&mut stream).await;
            let body = match head.contains("transfer-encoding: chunked") {
                true => read_until(&mut stream, "0\r\n\r\n").await,
                false => {
                    let length = head.split_once("content-length: ").unwrap().1;
                    let mut body = vec![0; length.split_once('\r').unwrap().0.parse().unwrap()];
                    stream.read_exact(&mut body).await.unwrap();
                    String::from_utf8(body).unwrap()
                }
            };
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let gateway = before(&script).await;
    let mut peer = Peer::open(&gateway).await;
    for (length, pieces, arrives) in [
        (None, &["hello", " ", "you"][..], "5\r\nhello\r\n1\r\n \r\n3\r\nyou\r\n0\r\n\r\n"),
        (Some("9"), &["hello", " ", "you"][..], "hello you"),
        (None, &[], ""),
    ] {
        let mut fields =
            vec![(":method", "POST"), (":scheme", "https"), (":authority", "acme.localhost"), (":path", "/upload")];
        fields.extend(length.map(|length| ("content-length", length)));
        let (stream, last) = (peer.stream(), if pieces.is_empty() { END_STREAM } else { 0 });
        peer.send(&frame(HEADERS, END_HEADERS | last, stream, &block(&fields))).await;
        for (at, piece) in pieces.iter().enumerate() {
            // The last piece ends the stream in one case, an empty frame behind it in the other.
            let last = if at + 1 == pieces.len() && length.is_none() { END_STREAM } else { 0 };
            peer.send(&frame(DATA, last, stream, piece.as_bytes())).await;
        }
        if length.is_some() {
            peer.send(&frame(DATA, END_STREAM, stream, b"")).await;
        }
        assert_eq!(peer.outcome(stream).await, "200");
        let body = String::from_utf8(peer.seen().streams[&stream].body.clone()).unwrap();
        // How it was cut into chunks is no promise.
        let plain = |text: &str| text.split("\r\n").skip(1).step_by(2).collect::<String>();
        match arrives.contains('\r') {
            true => assert_eq!(plain(&body), plain(arrives)),
            false => assert_eq!(body, arrives),
        }
    }
    assert_eq!(script.connections(), 1, "one connection carries them all");
}
