//! How requests end badly, each with exactly one entry: clients that leave, streams that are reset, applications that
//! die or talk nonsense.
use crate::harness::{Bundle, Gateway, PATIENCE, Scripted, outcomes, read_head, read_until};
use http::Request;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

async fn before(script: Scripted) -> (Gateway, Scripted) {
    (Gateway::start(Bundle::standard(script.address)).await, script)
}

/// Stops the gateway and counts the entries for `/page`.
fn entries_of_page(mut gateway: Gateway) -> Vec<serde_json::Value> {
    assert_eq!(gateway.stop(), Some(0));
    outcomes(&gateway).into_iter().filter(|entry| entry["facts"]["path"] == "/page").collect()
}

const GET: &[u8] = b"GET /page HTTP/1.1\r\nHost: acme.localhost\r\n\r\n";

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_has_one_entry() {
    let (arrived, mut has_arrived) = tokio::sync::mpsc::unbounded_channel();
    let script = Scripted::start(move |_, mut stream| {
        let arrived = arrived.clone();
        async move {
            read_head(&mut stream).await;
            arrived.send(()).unwrap();
            std::future::pending::<()>().await;
        }
    });
    let (gateway, _script) = before(script.await).await;
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    stream.write_all(GET).await.unwrap();
    has_arrived.recv().await.unwrap();
    drop(stream);
    let entry = gateway.outcome_of_path("/page").await;
    assert_eq!(entry["verdict"], "permit", "{entry:#}");
    assert_eq!(entries_of_page(gateway).len(), 1);
}

#[tokio::test]
async fn a_stream_that_the_client_resets_has_one_entry_and_the_connection_goes_on() {
    let (arrived, mut has_arrived) = tokio::sync::mpsc::unbounded_channel();
    let script = Scripted::start(move |_, mut stream| {
        let arrived = arrived.clone();
        async move {
            let head = read_head(&mut stream).await;
            if head.starts_with("GET /page") {
                arrived.send(()).unwrap();
                std::future::pending::<()>().await;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
        }
    });
    let (gateway, _script) = before(script.await).await;
    let io = gateway.tls("acme.localhost", &[b"h2"]).await;
    let (mut client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = |path: &str| Request::get(format!("https://acme.localhost{path}")).body(()).unwrap();
    let (response, mut stream) = client.send_request(request("/page"), true).unwrap();
    has_arrived.recv().await.unwrap();
    stream.send_reset(h2::Reason::CANCEL);
    drop((response, stream));
    gateway.outcome_of_path("/page").await;
    let (response, _) = client.send_request(request("/other"), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    drop(client);
    assert_eq!(entries_of_page(gateway).len(), 1);
}

#[tokio::test]
async fn an_application_that_dies_in_its_body_cannot_make_it_look_whole() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let (gateway, _script) = before(Scripted::answering(answer).await).await;
        let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
        stream.write_all(GET).await.unwrap();
        let head = read_head(&mut stream).await;
        // One that dies before its first bytes were passed on is a 502 of ours, whole and honest.
        if head.starts_with("HTTP/1.1 502") {
            continue;
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "still open after {:?}", String::from_utf8_lossy(&rest));
        let rest = String::from_utf8_lossy(&rest);
        assert!(!rest.ends_with("0\r\n\r\n") && rest.len() < 100, "{head:?} {rest:?}");
        // On HTTP/2 the stream is reset instead of ended.
        let io = gateway.tls("acme.localhost", &[b"h2"]).await;
        let (mut client, connection) = h2::client::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("https://acme.localhost/again").body(()).unwrap();
        let answered = timeout(PATIENCE, client.send_request(request, true).unwrap().0).await.expect("an answer");
        // A head that waits to be sent may go with its stream: then there is no answer that could look whole.
        if let Ok(response) = answered {
            let (mut broken, mut body) = (response.status() == 502, response.into_body());
            while let Some(piece) = timeout(PATIENCE, body.data()).await.expect("the stream stays open") {
                if piece.is_err() {
                    broken = true;
                    break;
                }
            }
            assert!(broken, "the answer looks whole");
        }
        drop((client, stream));
        let entry = gateway.outcome_of_path("/page").await;
        assert_eq!((&entry["verdict"], &entry["outcome"]["status"]), (&"upstream.unreachable".into(), &200.into()));
        assert_eq!(entries_of_page(gateway).len(), 1);
    }
}

#[tokio::test]
async fn what_is_no_http_becomes_a_dressed_502_and_never_reaches_the_client() {
    let bomb = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-Bomb: 0123456789\r\n".repeat(100_000));
    let wide = format!("HTTP/1.1 200 OK\r\nX-Wide: {}\r\n\r\n", "w".repeat(2 << 20));
    let answers = Arc::new(vec![
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nevil!".to_owned()),
        ("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 4, 5\r\n\r\nevil!".to_owned()),
        ("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\nevil".to_owned()),
        ("garbage", "evil evil evil evil\r\n\r\n".to_owned()),
        ("another protocol", "SSH-2.0-evil\r\n".to_owned()),
        ("a status that is none", "HTTP/1.1 9x9 evil\r\n\r\n".to_owned()),
        ("nothing", "".to_owned()),
        ("half a head", "HTTP/1.1 200 OK\r\nX-Evil: ye".to_owned()),
        ("a bomb of headers", bomb),
        ("a header of 2 MiB", wide),
    ]);
    let script = {
        let answers = answers.clone();
        Scripted::start(move |_, mut stream| {
            let answers = answers.clone();
            async move {
                let head = read_head(&mut stream).await;
                let at: usize = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
                let _ = stream.write_all(answers[at].1.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    };
    let (mut gateway, _script) = before(script).await;
    for (at, (what, _)) in answers.iter().enumerate() {
        for h2 in [false, true] {
            let call = gateway.get(&format!("https://acme.localhost/{at}"));
            let reply = if h2 { call.h2() } else { call }.send().await;
            assert_eq!(reply.verdict(), "502 upstream.unreachable", "{what}, h2: {h2}: {reply:?}");
            assert_eq!(reply.header("server"), None, "{what}");
            assert_eq!(reply.header("x-content-type-options").as_deref(), Some("nosniff"), "{what}");
            assert!(!format!("{reply:?}").to_lowercase().contains("evil"), "{what}: {reply:?}");
        }
    }
    assert_eq!(gateway.stop(), Some(0));
    let all = outcomes(&gateway);
    assert_eq!(all.len(), 2 * answers.len());
    assert!(all.iter().all(|entry| entry["verdict"] == "upstream.unreachable"), "{all:#?}");
}

#[tokio::test]
async fn length_together_with_chunks_from_an_application_is_refused_or_framed_once() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    let (gateway, _script) = before(Scripted::answering(answer).await).await;
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    stream.write_all(b"GET /page HTTP/1.1\r\nHost: acme.localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let head = read_head(&mut stream).await.to_lowercase();
    let framings = head.matches("content-length:").count() + head.matches("transfer-encoding:").count();
    assert!(framings <= 1, "{head}");
    assert_eq!(entries_of_page(gateway).len(), 1);
}

#[tokio::test]
async fn interim_answers_pass_or_vanish_but_the_final_one_arrives_once() {
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nServer: App\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let (gateway, _script) = before(Scripted::answering(answer).await).await;
    for h2 in [false, true] {
        let call = gateway.get("https://acme.localhost/page");
        let reply = if h2 { call.h2() } else { call }.send().await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
        assert_eq!(reply.header("x-content-type-options").as_deref(), Some("nosniff"));
    }
    let entries = entries_of_page(gateway);
    assert!(entries.len() == 2 && entries.iter().all(|entry| entry["outcome"]["status"] == 200), "{entries:#?}");
}

#[tokio::test]
async fn a_refusal_keeps_the_connection_where_the_request_was_whole_and_failures_close_it() {
    let (gateway, _script) = before(Scripted::answering("garbage\r\n\r\n").await).await;
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    for _ in 0..3 {
        stream.write_all(b"GET /api/bookings HTTP/1.1\r\nHost: acme.localhost\r\n\r\n").await.unwrap();
        let answer = read_until(&mut stream, "}").await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        assert!(!answer.to_lowercase().contains("connection: close"), "{answer}");
    }
    stream.write_all(GET).await.unwrap();
    let answer = read_until(&mut stream, "\0").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    // It closes, so it must not promise to stay.
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
}
