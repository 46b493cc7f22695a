//! Large answers of several streams to a client that takes them in small pieces: each byte where it belongs.
use super::unread::unread;
use super::wire::*;
use crate::harness::{Bundle, Gateway, PATIENCE, Upstream};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// No multiple of a frame, a record or a buffer, and together more than the sockets hold.
const LARGE: usize = 1_500_007;

/// Each byte says whose it is and where it stands.
fn body(of: usize) -> Vec<u8> {
    (0..LARGE).map(|at| u8::try_from((at * 7 + at / 251 + of * 31) % 251).unwrap()).collect()
}

async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::answering(|seen| {
        let of = seen.target.trim_start_matches("/large/").parse().unwrap();
        Response::new(Full::from(Bytes::from(body(of))))
    })
    .await;
    let bundle = Bundle::standard(upstream.address);
    bundle.replace("first_byte_timeout: 1s", "first_byte_timeout: 20s");
    (Gateway::start(bundle).await, upstream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_of_many_streams_arrive_whole_in_small_pieces() {
    const STREAMS: usize = 6;
    let (gateway, _upstream) = gateway().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let tcp = socket.connect(gateway.address("public")).await.unwrap();
    let name = ServerName::try_from("acme.localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(gateway.tls_client(&[b"h2"])));
    let mut client = connector.connect(name, tcp).await.unwrap();
    let most = 0x7fff_ffff_u32;
    let mut said = [PREFACE, &frame(SETTINGS, 0, 0, &setting(4, most))].concat();
    said.extend(frame(WINDOW_UPDATE, 0, 0, &(most - 65_535).to_be_bytes()));
    for n in 0..STREAMS {
        said.extend(get(1 + 2 * u32::try_from(n).unwrap(), &format!("/large/{n}")));
    }
    client.write_all(&said).await.unwrap();
    gateway.until("answers wait for their client", async |g: &Gateway| unread(g).await > 0).await;

    let (mut came, mut ended) = (BTreeMap::<u32, Vec<u8>>::new(), 0);
    while ended < STREAMS {
        let mut head = [0; 9];
        timeout(PATIENCE, client.read_exact(&mut head)).await.unwrap().unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        for piece in payload.chunks_mut(1000) {
            timeout(PATIENCE, client.read_exact(piece)).await.unwrap().unwrap();
        }
        match head[3] {
            DATA => came.entry(stream).or_default().extend(payload),
            RST_STREAM | GOAWAY => panic!("{head:?} {payload:?}"),
            _ => {}
        }
        ended += usize::from(stream > 0 && [DATA, HEADERS].contains(&head[3]) && head[4] & END_STREAM > 0);
    }
    for n in 0..STREAMS {
        assert!(came[&(1 + 2 * u32::try_from(n).unwrap())] == body(n), "stream {n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_over_http1_arrive_whole() {
    let (gateway, _upstream) = gateway().await;
    for n in 0..3 {
        let reply = gateway.get(&format!("https://acme.localhost/large/{n}")).send().await;
        assert_eq!(reply.status, 200);
        assert!(reply.body == body(n), "answer {n}");
    }
}
