//! What an ended session has opened: closed, here and at once, in a way that the client can tell.
use super::ended;
use crate::harness::{PATIENCE, Token};
use crate::live::{App, echoes, events, rest, websocket};
use crate::sessions::{BROWSER, SESSION, held, open};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// 1008 with `session.revoked`, unmasked.
const REVOKED: &[u8] = b"\x88\x11\x03\xf0session.revoked";

#[tokio::test]
async fn websockets_events_and_streams_of_an_ended_session_are_closed_and_no_others() {
    let app = App::start().await;
    let gateway = app
        .gateway(|bundle| {
            bundle.route("  live:\n    match: {hosts: [\"*.localhost\"], paths: [/live/**], methods: [GET]}\n    upstream: app\n    auth: {bearer: workforce}\n    require: {session: any}");
        })
        .await;
    let of = |subject: &str| {
        let token = Token::of("acme", &["cashier"]).claim("sub", subject).signed(&gateway.bundle.key);
        format!("Authorization: Bearer {token}\r\n")
    };
    let (ann, bob) = (of("ann"), of("bob"));
    let mut hers = websocket(&gateway, "acme", "/live/socket", &ann).await;
    let mut his = websocket(&gateway, "acme", "/live/socket", &bob).await;
    let mut cut = events(&gateway, "acme", "/live/events", &ann).await;
    let mut kept = events(&gateway, "acme", "/live/events", &bob).await;
    let (client, connection) = h2::client::handshake(gateway.tls("acme.localhost", &[b"h2"]).await).await.unwrap();
    tokio::spawn(connection);
    let bearer = ann.trim_start_matches("Authorization: ").trim_end().to_owned();
    let request = http::Request::get("https://acme.localhost/live/events").header("authorization", bearer);
    let (answer, _) = client.ready().await.unwrap().send_request(request.body(()).unwrap(), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    assert!(body.data().await.unwrap().unwrap().starts_with(b"data: x"));
    echoes(&mut hers, &app).await;

    let began = Instant::now();
    let told = ended(&gateway, &["--subject", "ann"]);
    assert!(told.contains("3 requests and streams open here"), "{told}");
    let mut frame = vec![0; REVOKED.len()];
    timeout(PATIENCE, hers.read_exact(&mut frame)).await.expect("no goodbye").unwrap();
    assert_eq!(frame, REVOKED);
    hers.write_all(b"\x88\x80\0\0\0\0").await.unwrap();
    assert_eq!(rest(&mut hers).await, b"", "nothing follows a close frame");
    assert_eq!(app.hears().await, [&[0x88, 0x80 | 17, 3, 0xf0], &b"session.revoked"[..]].concat());
    let left = rest(&mut cut).await;
    assert!(!left.ends_with(b"0\r\n\r\n"), "an end that looks whole: {:?}", String::from_utf8_lossy(&left));
    let error = timeout(PATIENCE, body.data()).await.expect("the stream stays open").unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "{error}");
    eprintln!("all closed {:?} after the order began", began.elapsed());

    app.go.add_permits(3);
    crate::harness::read_until(&mut kept, "data: x\n\n").await;
    echoes(&mut his, &app).await;
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("moat_streams_closed_total{reason=\"session.revoked\"} 3"), "{metrics}");
    let entry = gateway
        .audit_entry(|entry| {
            entry["kind"] == "request" && entry["facts"]["path"] == "/live/socket" && entry["verdict"] != "permit"
        })
        .await;
    assert_eq!((&entry["verdict"], &entry["outcome"]["status"]), (&"session.revoked".into(), &101.into()), "{entry:#}");
}

#[tokio::test]
async fn a_session_whose_browser_signs_in_anew_takes_along_what_it_opened() {
    let app = App::start().await;
    let gateway = app
        .gateway(|bundle| {
            held(bundle, BROWSER);
            bundle.replace("paths: [/me]", "paths: [/me, \"/me/**\"]");
        })
        .await;
    let before = open(&gateway).await;
    let mut socket = websocket(&gateway, "acme", "/me/socket", &format!("Cookie: {before}\r\n")).await;
    echoes(&mut socket, &app).await;
    let token = Token::of("acme", &["cashier"]).claim("sub", "somebody else").signed(&gateway.bundle.key);
    let anew = gateway.call("POST", SESSION).bearer(&token).header("cookie", &before).send().await;
    assert_eq!(anew.verdict(), "201", "{}", anew.text());
    let mut frame = vec![0; REVOKED.len()];
    timeout(PATIENCE, socket.read_exact(&mut frame)).await.expect("it stays open").unwrap();
    assert_eq!(frame, REVOKED);
}
