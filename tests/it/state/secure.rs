//! PostgreSQL over TLS: spoken with whom the configured authority vouches for, and with nobody else.
use super::stage;
use crate::harness::secure::Authority;
use crate::harness::{Gateway, OWNER, PATIENCE, Postgres, Scripted, Upstream};
use crate::sessions::{SESSION, cookie, me};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

fn storage(host: &str, address: SocketAddr) -> Vec<String> {
    vec![format!(
        "postgres: {{url: \"postgresql://{}@{host}:{}/postgres\", password: {{file: password}}, ca: ca.pem, connect_timeout: 10s, command_timeout: 5s, use_for: [sessions, revocations]}}",
        OWNER.0,
        address.port()
    )]
}

/// A gateway that trusts this authority.
async fn gateway(upstream: &Upstream, storage: &[String], trusted: &Authority) -> Gateway {
    let bundle = stage::bundle(upstream, storage);
    bundle.write("ca.pem", &trusted.pem());
    Gateway::start(bundle).await
}

/// What opening a session comes to, and why where it fails.
async fn opened(gateway: &Gateway) -> (String, String) {
    let reply = gateway.call("POST", SESSION).bearer(&gateway.token("acme", &["cashier"])).send().await;
    let log = gateway.log_lines().join("\n");
    (reply.verdict(), log)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_is_spoken_to_over_tls_under_the_configured_authority() {
    let upstream = Upstream::start().await;
    let (authority, stranger) = (Authority::new(), Authority::new());
    let postgres = Postgres::start_secure(&authority.good("localhost")).await;

    let good = gateway(&upstream, &storage("localhost", postgres.address), &authority).await;
    stage::ready(&good).await;
    let reply = good.call("POST", SESSION).bearer(&good.token("acme", &["cashier"])).send().await;
    assert_eq!(reply.verdict(), "201", "{}", reply.text());
    assert_eq!(me(&good, &cookie(&reply).unwrap()).send().await.verdict(), "200");
    // As the server sees it: every connection of ours is encrypted, with what only TLS 1.3 has.
    let asked = "SELECT count(*) >= 4, bool_and(ssl), min(version) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) \
                 WHERE application_name = 'moat test-1'";
    assert_eq!(postgres.ask("postgres", asked).await, [["t", "t", "TLSv1.3"]]);

    // Somebody else's authority, and a certificate for another name: no word is said, least of all the password.
    let wary = gateway(&upstream, &storage("localhost", postgres.address), &stranger).await;
    let (verdict, log) = opened(&wary).await;
    assert_eq!(verdict, "503 gateway.unavailable");
    assert!(log.contains("invalid peer certificate"), "{log}");
    let misled = gateway(&upstream, &storage("127.0.0.1", postgres.address), &authority).await;
    let (verdict, log) = opened(&misled).await;
    assert_eq!(verdict, "503 gateway.unavailable");
    assert!(log.contains("invalid peer certificate") && log.contains("127.0.0.1"), "{log}");
    assert_eq!(me(&good, &cookie(&reply).unwrap()).send().await.verdict(), "200", "who was right goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_speaks_no_tls_is_not_spoken_to_in_the_clear() {
    let upstream = Upstream::start().await;
    let authority = Authority::new();
    let postgres = Postgres::start(&["log_connections=on"]).await;
    let gateway = gateway(&upstream, &storage("localhost", postgres.address), &authority).await;
    let (verdict, log) = opened(&gateway).await;
    assert_eq!(verdict, "503 gateway.unavailable");
    assert!(log.contains("it does not speak TLS"), "{log}");
    let known = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'moat %'";
    assert_eq!(postgres.ask("postgres", known).await, [["0"]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_ahead_of_the_encryption_are_no_answers() {
    let upstream = Upstream::start().await;
    let (say, mut heard) = mpsc::unbounded_channel();
    let middle = Scripted::start(move |_, mut stream| {
        let say = say.clone();
        async move {
            let mut asked = [0; 8];
            if stream.read_exact(&mut asked).await.is_err() {
                return;
            }
            // Yes to TLS, and in the clear behind it what a server says to whom it trusts without a password.
            let ahead = b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
            let _ = stream.write_all(ahead).await;
            let mut next = [0; 1];
            if stream.read_exact(&mut next).await.is_ok() {
                let _ = say.send(next[0]);
            }
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await;
    let gateway = gateway(&upstream, &storage("localhost", middle.address), &Authority::new()).await;
    let (verdict, log) = opened(&gateway).await;
    assert_eq!(verdict, "503 gateway.unavailable");
    assert!(log.contains("received corrupt message"), "{log}");
    let first = tokio::time::timeout(PATIENCE, heard.recv()).await.unwrap();
    assert_eq!(first, Some(0x16), "what it was sent is a handshake");
}
