//! What a certificate has opened ends with it: WebSockets with a word, streams visibly.
use super::BY_HOST;
use super::clients::{Ca, Caller, Leaf};
use crate::harness::{PATIENCE, Token, b64, now, read_head, read_until};
use crate::live::{App, echoes, rest};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// 1008 with `session.revoked` and `session.expired`, unmasked.
const REVOKED: &[u8] = b"\x88\x11\x03\xf0session.revoked";
const EXPIRED: &[u8] = b"\x88\x11\x03\xf0session.expired";

const SOCKET: &str = "GET PATH HTTP/1.1\r\nHost: acme.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://acme.localhost\r\n";

#[tokio::test]
async fn what_is_open_is_closed_by_a_list_and_by_time_and_nobody_elses() {
    let ca = Ca::new("partners");
    let app = App::start().await;
    let gateway = app
        .gateway(|bundle| {
            bundle.write("partners.pem", &ca.pem());
            bundle.write("partners.crl", &ca.list(&[]));
            bundle.replace("    tls: modern\n", "    tls: modern\n    client_certificates: {accept: [partners]}\n");
            let entry = format!("client_certificates:\n  partners: {{ca: partners.pem, crl: [partners.crl], {BY_HOST}}}\n");
            bundle.replace("tenancy:\n", &format!("{entry}tenancy:\n"));
            bundle.replace("sessions:\n", "sessions:\n  close_at_expiry: websockets\n");
            for (path, auth) in [("shown", "certificate: partners"), ("bound", "bearer: workforce")] {
                bundle.route(&format!(
                    "  {path}:\n    match: {{hosts: [\"*.localhost\"], paths: [/{path}/**], methods: [GET]}}\n    upstream: app\n    auth: {{{auth}}}\n    require: {{session: any}}"
                ));
            }
        })
        .await;
    let client = ca.leaf(Leaf::of("acme.partner.example"));
    let other = ca.leaf(Leaf::of("acme.partner.example"));
    let short = ca.leaf(Leaf { until_s: now() + 6, ..Leaf::of("acme.partner.example") });
    let token = Token::of("acme", &["viewer"]).claim("cnf", json!({ "x5t#S256": b64(&client.hash()) }));
    let bearer = format!("Authorization: Bearer {}\r\n", token.signed(&gateway.bundle.key));
    let socket = async |leaf, path: &str, more: &str| {
        let mut stream = Caller::new(&gateway, Some(leaf), false).bytes("acme.localhost").await;
        let head = format!("{}{more}\r\n", SOCKET.replace("PATH", path));
        stream.write_all(head.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        stream
    };
    let mut ending = socket(&short, "/shown/socket", "").await;
    let mut revoked = socket(&client, "/shown/socket", "").await;
    let mut bound = socket(&client, "/bound/socket", &bearer).await;
    let mut kept = socket(&other, "/shown/socket", "").await;
    let mut events = Caller::new(&gateway, Some(&client), false).bytes("acme.localhost").await;
    let head = "GET /shown/events HTTP/1.1\r\nHost: acme.localhost\r\nAccept: text/event-stream\r\n\r\n";
    events.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut events, "data: x\n\n\r\n").await;
    echoes(&mut revoked, &app).await;
    echoes(&mut bound, &app).await;

    gateway.bundle.write("partners.crl", &ca.list(&[client.serial]));
    let mut frame = vec![0; REVOKED.len()];
    for stream in [&mut revoked, &mut bound] {
        timeout(PATIENCE, stream.read_exact(&mut frame)).await.expect("no goodbye").unwrap();
        assert_eq!(frame, REVOKED);
    }
    let left = rest(&mut events).await;
    assert!(!left.ends_with(b"0\r\n\r\n"), "an end that looks whole: {:?}", String::from_utf8_lossy(&left));
    timeout(PATIENCE, ending.read_exact(&mut frame)).await.expect("no goodbye").unwrap();
    assert_eq!(frame, EXPIRED);
    kept.write_all(b"\x81\x84\0\0\0\0ping").await.unwrap();
    let mut back = [0; 10];
    timeout(PATIENCE, kept.read_exact(&mut back)).await.expect("no echo").unwrap();
    assert_eq!(&back, b"\x81\x84\0\0\0\0ping");
}
