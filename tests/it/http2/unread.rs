//! Answers over HTTP/2 that nobody takes: how many wait, for how long, and what they cost. Windows kept shut, and windows wide
//! open on a line that takes nothing (CVE-2019-9517).
use super::wire::*;
use crate::harness::{Bundle, Gateway, Upstream};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const LARGE: usize = 512 * 1024;

async fn gateway(places: usize, h2: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::answering(|_| Response::new(Full::from(Bytes::from(vec![b'x'; LARGE])))).await;
    let bundle = Bundle::standard(upstream.address);
    bundle.replace("drain_timeout: 5s,", &format!("drain_timeout: 5s, unread_answers: {places},"));
    bundle.replace("handshake_timeout: 1s}", &format!("handshake_timeout: 20s{h2}}}"));
    bundle.replace("first_byte_timeout: 1s", "first_byte_timeout: 20s");
    (Gateway::start(bundle).await, upstream)
}

/// A client at this address that asks so often and reads nothing. `wide` opens all windows as far as they go.
async fn asks(gateway: &Gateway, address: &str, times: u32, wide: bool) -> TlsStream<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    let tcp = socket.connect(gateway.address("public")).await.unwrap();
    let config = Arc::new(gateway.tls_client(&[b"h2"]));
    let name = ServerName::try_from("acme.localhost").unwrap();
    let mut stream = TlsConnector::from(config).connect(name, tcp).await.unwrap();
    let most = 0x7fff_ffff_u32;
    let mut said = [PREFACE, &frame(SETTINGS, 0, 0, &setting(4, if wide { most } else { 65_535 }))].concat();
    if wide {
        said.extend(frame(WINDOW_UPDATE, 0, 0, &(most - 65_535).to_be_bytes()));
    }
    for n in 0..times {
        said.extend(get(1 + 2 * n, "/large"));
    }
    stream.write_all(&said).await.unwrap();
    stream
}

pub(super) async fn unread(gateway: &Gateway) -> u64 {
    let metrics = gateway.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix("moat_unread_answers ")).unwrap();
    line.parse().unwrap()
}

fn resident_kib(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_whose_windows_are_shut_wait_only_where_there_is_a_place() {
    let (gateway, _upstream) = gateway(2, "").await;
    let mut open = Vec::new();
    for n in 1..=3 {
        open.push(asks(&gateway, &format!("127.0.0.{n}"), 1, false).await);
    }
    // `stall_timeout` is a minute, so that this one was cut for want of a place.
    gateway.until("one of three is cut", async |g: &Gateway| g.refusals("request.timeout").await == 1).await;
    assert_eq!(unread(&gateway).await, 2);
    drop(open);
    gateway.until("the places are free", async |g: &Gateway| unread(g).await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_answers_on_lines_that_take_nothing_cost_what_their_places_do() {
    const PLACES: u64 = 16;
    let (gateway, _upstream) = gateway(PLACES as usize, "").await;
    // What serving costs once is there before it is measured.
    for _ in 0..3 {
        assert_eq!(gateway.get("https://acme.localhost/page").send().await.status, 200);
    }
    let before = resident_kib(&gateway);
    let mut grown = Vec::new();
    for round in 1..=6 {
        let mut open = Vec::new();
        for n in 1..=4 {
            open.push(asks(&gateway, &format!("127.0.{round}.{n}"), 50, true).await);
        }
        let cut = round * 200 - PLACES * round;
        let all = async |g: &Gateway| g.refusals("request.timeout").await >= cut;
        gateway.until("those without a place are cut", all).await;
        assert!(unread(&gateway).await <= PLACES);
        grown.push(resident_kib(&gateway).saturating_sub(before));
        drop(open);
        gateway.until("the places are free", async |g: &Gateway| unread(g).await == 0).await;
    }
    println!("200 answers of {LARGE} bytes, {PLACES} places: {grown:?} KiB more after each round");
    // As docs/limits.md reckons: each connection, and 400 KiB for each answer, until those without a place are cut. A round
    // takes a third of that, so that six of them would be twice as much if what is cut were kept.
    let reckoned = 4 * 280 + 200 * 400;
    assert!(grown.iter().all(|grown| *grown < reckoned), "{grown:?}");
    assert_eq!(gateway.get("https://acme.localhost/page").send().await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_takes_nothing_is_given_up() {
    let (gateway, _upstream) = gateway(100, ", h2: {stall_timeout: 2s}").await;
    let open = asks(&gateway, "127.0.0.1", 20, true).await;
    gateway.audit_entry(|entry| entry["cause"].as_str().is_some_and(|cause| cause.contains("windows closed"))).await;
    gateway.until("the places are free", async |g: &Gateway| unread(g).await == 0).await;
    drop(open);
}
