//! gRPC's use of HTTP/2, end to end: messages both ways at once, trailers after data, trailers alone; and streams that an
//! application refuses before it has done anything.
use super::{bundle, metric};
use crate::harness::{Gateway, PATIENCE};
use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// `Connection` of the h2 crate, as the application sees it.
type Wire = Connection<TcpStream, Bytes>;

/// An application that speaks frames; `serve` gets each connection with its number.
async fn application<F>(serve: impl Fn(usize, Wire) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(connection) = h2::server::handshake(stream).await else { continue };
            tokio::spawn(serve(number, connection));
        }
    });
    address
}

/// A message in its frame (length-prefixed, gRPC over HTTP/2).
fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0][..], &length, text.as_bytes()].concat().into()
}

fn trailers(status: &str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())])
}

/// Echoes every message as it comes; `/echo.Echo/Fail` is answered with trailers alone.
async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    assert_eq!(request.headers()["te"], "trailers");
    let response = Response::builder().header("content-type", "application/grpc");
    if request.uri().path().ends_with("/Fail") {
        let response = response.header("grpc-status", "5").header("grpc-message", "no such thing").body(()).unwrap();
        respond.send_response(response, true).unwrap();
        return;
    }
    let mut body = request.into_body();
    let mut out = respond.send_response(response.body(()).unwrap(), false).unwrap();
    while let Some(Ok(piece)) = body.data().await {
        body.flow_control().release_capacity(piece.len()).unwrap();
        out.send_data(piece, false).unwrap();
    }
    out.send_trailers(trailers("0")).unwrap();
}

async fn echoing() -> SocketAddr {
    application(|_, mut connection| async move {
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::spawn(echo(request, respond));
        }
    })
    .await
}

async fn gateway(app: SocketAddr, more: &str) -> Gateway {
    let bundle = bundle(&format!("    endpoints: [\"{app}\"]\n    http: {{version: h2}}\n{more}"));
    bundle.route(
        "  grpc:\n    match: {hosts: [\"*.localhost\"], paths: [\"/echo.Echo/**\"], methods: [POST]}\n    upstream: app\n    public: \"a test\"\n    csrf: off\n    body: {max: none, content_types: [application/grpc]}",
    );
    Gateway::start(bundle).await
}

type Client = h2::client::SendRequest<Bytes>;

async fn client(gateway: &Gateway) -> Client {
    let io = gateway.tls("acme.localhost", &[b"h2"]).await;
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    client
}

fn call(method: &str) -> Request<()> {
    let request = Request::post(format!("https://acme.localhost/echo.Echo/{method}"));
    request.header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap()
}

async fn next(body: &mut RecvStream) -> Bytes {
    let piece = timeout(PATIENCE, body.data()).await.expect("a message in time").expect("not the end").unwrap();
    body.flow_control().release_capacity(piece.len()).unwrap();
    piece
}

async fn end(mut body: RecvStream) -> HeaderMap {
    while let Some(piece) = timeout(PATIENCE, body.data()).await.expect("an end in time") {
        let piece = piece.unwrap();
        assert!(piece.is_empty(), "{piece:?}");
    }
    body.trailers().await.unwrap().expect("trailers")
}

#[tokio::test]
async fn a_call_has_its_message_and_its_trailers() {
    let gateway = gateway(echoing().await, "").await;
    let mut client = client(&gateway).await;
    let (response, mut out) = client.send_request(call("Unary"), false).unwrap();
    out.send_data(message("hello"), true).unwrap();
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(
        (response.status(), &response.headers()["content-type"]),
        (200.try_into().unwrap(), &"application/grpc".parse().unwrap())
    );
    let mut body = response.into_body();
    assert_eq!(next(&mut body).await, message("hello"));
    assert_eq!(end(body).await["grpc-status"], "0");
}

#[tokio::test]
async fn an_error_of_trailers_alone_arrives_as_one() {
    let gateway = gateway(echoing().await, "").await;
    let mut client = client(&gateway).await;
    let (response, mut out) = client.send_request(call("Fail"), false).unwrap();
    out.send_data(message("hello"), true).unwrap();
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.headers()["grpc-status"], "5");
    assert_eq!(response.headers()["grpc-message"], "no such thing");
    let mut body = response.into_body();
    assert!(timeout(PATIENCE, body.data()).await.unwrap().is_none());
    assert!(body.trailers().await.unwrap().is_none());
}

#[tokio::test]
async fn messages_go_both_ways_at_once() {
    let gateway = gateway(echoing().await, "").await;
    let mut client = client(&gateway).await;
    let (response, mut out) = client.send_request(call("Chat"), false).unwrap();
    out.send_data(message("first"), false).unwrap();
    let mut body = timeout(PATIENCE, response).await.unwrap().unwrap().into_body();
    assert_eq!(next(&mut body).await, message("first"));
    for n in 0..20 {
        // Each is answered before the next is sent: nothing is held back.
        out.send_data(message(&format!("message {n}")), false).unwrap();
        assert_eq!(next(&mut body).await, message(&format!("message {n}")));
    }
    out.send_data(Bytes::new(), true).unwrap();
    assert_eq!(end(body).await["grpc-status"], "0");
}

#[tokio::test]
async fn a_stream_that_the_application_refuses_is_sent_again_whatever_its_method() {
    let refusals = Arc::new(AtomicUsize::new(0));
    let count = refusals.clone();
    let app = application(move |_, mut connection| {
        let count = count.clone();
        async move {
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                if count.fetch_add(1, Ordering::SeqCst) == 0 {
                    respond.send_reset(Reason::REFUSED_STREAM);
                } else {
                    tokio::spawn(echo(request, respond));
                }
            }
        }
    })
    .await;
    let gateway = gateway(app, "").await;
    let mut client = client(&gateway).await;
    let (response, mut out) = client.send_request(call("Unary"), false).unwrap();
    out.send_data(message("hello"), true).unwrap();
    let mut body = timeout(PATIENCE, response).await.unwrap().unwrap().into_body();
    assert_eq!(next(&mut body).await, message("hello"));
    assert_eq!(end(body).await["grpc-status"], "0");
    assert_eq!(refusals.load(Ordering::SeqCst), 2);
    let retried = "moat_upstream_retries_total{reason=\"refused_stream\",result=\"retried\",upstream=\"app\"}";
    assert_eq!(metric(&gateway, retried).await, Some(1.0));
}

#[tokio::test]
async fn a_stream_that_is_broken_off_is_not_sent_again() {
    let streams = Arc::new(AtomicUsize::new(0));
    let count = streams.clone();
    let app = application(move |_, mut connection| {
        let count = count.clone();
        async move {
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                respond.send_reset(Reason::INTERNAL_ERROR);
            }
        }
    })
    .await;
    let gateway = gateway(app, "").await;
    let mut client = client(&gateway).await;
    let (response, mut out) = client.send_request(call("Unary"), false).unwrap();
    out.send_data(message("hello"), true).unwrap();
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(streams.load(Ordering::SeqCst), 1, "it may have had an effect");
}

#[tokio::test]
async fn a_connection_that_is_going_away_costs_no_request() {
    // Every connection serves one request and says goodbye.
    let app = application(|_, mut connection| async move {
        let mut served = false;
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::spawn(echo(request, respond));
            if !std::mem::replace(&mut served, true) {
                connection.graceful_shutdown();
            }
        }
    })
    .await;
    let gateway = gateway(app, "").await;
    let mut client = client(&gateway).await;
    for n in 0..10 {
        let (response, mut out) = client.send_request(call("Unary"), false).unwrap();
        out.send_data(message("hello"), true).unwrap();
        let response = timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(response.status(), 200, "{n}");
        let mut body = response.into_body();
        assert_eq!(next(&mut body).await, message("hello"));
        assert_eq!(end(body).await["grpc-status"], "0");
    }
}
