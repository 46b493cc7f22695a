//! Floods of frames: what ends them, what is written down, and what an honest client beside them notices.
//!
//! CVE-2019-9511 to 9518 (data dribble, ping, resource loop, reset, settings, empty header names, internal buffering, empty frames),
//! CVE-2023-44487 (rapid reset), CVE-2024-27316 (CONTINUATION), CVE-2025-8671 (MadeYouReset), CVE-2016-6581 (HPACK bomb),
//! CVE-2016-1546 (windows that never open).
use super::wire::*;
use crate::harness::{Bundle, Gateway, Upstream, entries};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinHandle;

/// More memory than this no attack of one connection may cost the gateway: a debug build with all its buffers, and what the
/// honest client beside it needs.
const MOST_KIB: u64 = 48 * 1024;
const ENHANCE_YOUR_CALM: u32 = 11;

fn resident_kib(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A gateway whose application answers `/big` with 256 KiB, and whose clocks are quick.
async fn gateway() -> (Arc<Gateway>, Upstream) {
    let upstream = Upstream::answering(|seen| {
        let size = if seen.target.starts_with("/big") { 256 * 1024 } else { 5 };
        Response::new(Full::from(Bytes::from(vec![b'x'; size])))
    })
    .await;
    let bundle = Bundle::standard(upstream.address);
    // Those that are not the matter are slow, so that a busy machine is not taken for a slow client.
    bundle.replace("header_timeout: 1s", "header_timeout: 3s");
    bundle.replace("handshake_timeout: 1s}", "handshake_timeout: 20s, h2: {stall_timeout: 1s}}");
    bundle.replace("first_byte_timeout: 1s", "first_byte_timeout: 20s");
    (Arc::new(Gateway::start(bundle).await), upstream)
}

/// An honest client that asks again and again on a connection of its own; how often it was served, once told to stop.
struct Honest {
    stop: Arc<AtomicBool>,
    served: tokio::sync::watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Honest {
    async fn start(gateway: &Arc<Gateway>) -> Honest {
        let (stop, (count, served)) = (Arc::<AtomicBool>::default(), tokio::sync::watch::channel(0));
        let (told, gateway) = (stop.clone(), gateway.clone());
        let task = tokio::spawn(async move {
            let mut peer = Peer::open(&gateway).await;
            while !told.load(Ordering::Relaxed) {
                assert_eq!(peer.ask("/honest").await, "200");
                count.send_modify(|served| *served += 1);
            }
        });
        let mut honest = Honest { stop, served, task };
        honest.another().await;
        honest
    }

    /// Waits until it has been served once more.
    async fn another(&mut self) {
        let before = *self.served.borrow_and_update();
        let served = self.served.wait_for(|served| *served > before).await.is_ok();
        assert!(served, "the honest client was cut off");
    }

    async fn end(mut self) -> usize {
        self.another().await;
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        *self.served.borrow()
    }
}

/// Runs an attack beside an honest client; what it cost, and what was written down: the causes of entries without a request.
async fn beside<A: AsyncFnOnce(&Gateway)>(attack: A) -> Vec<String> {
    let (gateway, _upstream) = gateway().await;
    let honest = Honest::start(&gateway).await;
    let before = resident_kib(&gateway);
    attack(&gateway).await;
    let grown = resident_kib(&gateway).saturating_sub(before);
    honest.end().await;
    assert!(grown < MOST_KIB, "the gateway grew by {grown} KiB");
    // Entries are written in order.
    assert_eq!(Peer::open(&gateway).await.ask("/last").await, "200");
    gateway.outcome_of_path("/last").await;
    causes(&gateway)
}

/// Causes of the entries so far that tell of no request.
fn causes(gateway: &Gateway) -> Vec<String> {
    let about = |entry: &serde_json::Value| entry["kind"] == "request" && entry["facts"]["path"].is_null();
    let found = entries(gateway).into_iter().filter(about);
    found.map(|entry| format!("{} {}", entry["verdict"].as_str().unwrap_or_default(), entry["cause"])).collect()
}

/// The same frame again and again ends the connection with ENHANCE_YOUR_CALM, after so many at most, with one entry.
async fn is_ended(most: usize, cause: &'static str, piece: impl Fn(usize) -> Vec<u8>) {
    let (gateway, _upstream) = gateway().await;
    let honest = Honest::start(&gateway).await;
    let before = resident_kib(&gateway);
    let mut peer = Peer::open(&gateway).await;
    let open = peer.stream();
    peer.send(&frame(HEADERS, END_HEADERS, open, &request("POST", "/api/bookings"))).await;
    peer.flood(100_000, piece).await;
    assert_eq!(peer.end().await, Some(ENHANCE_YOUR_CALM), "{cause}: {:?}", peer.seen());
    let grown = resident_kib(&gateway).saturating_sub(before);
    assert!(grown < MOST_KIB, "{cause}: the gateway grew by {grown} KiB");
    honest.end().await;
    let entry = gateway.audit_entry(|entry| entry["kind"] == "request" && entry.to_string().contains(cause)).await;
    let without_request = causes(&gateway);
    assert!(without_request.len() <= most, "{entry}: {without_request:?}");
    let metrics = gateway.metrics().await;
    let counted = metrics.lines().find(|line| line.contains("rejected") && line.contains("\"abuse\""));
    assert!(counted.is_some_and(|line| line.ends_with(" 1")), "{counted:?}");
}

#[tokio::test]
async fn floods_of_control_frames_end_the_connection() {
    is_ended(1, "too many PING frames", |_| frame(PING, 0, 0, b"12345678").repeat(10)).await;
    is_ended(1, "too many SETTINGS frames", |_| frame(SETTINGS, 0, 0, &setting(4, 65_535)).repeat(10)).await;
    is_ended(1, "too many SETTINGS frames", |_| frame(SETTINGS, 0, 0, &setting(0xff, 1).repeat(2000))).await;
    is_ended(1, "too many PRIORITY frames", |n| {
        // Loops of streams that depend on each other (CVE-2019-9513).
        let (one, other) = (1001 + 2 * (n as u32 % 50), 1003 + 2 * (n as u32 % 50));
        let depends = |stream: u32, on: u32| {
            frame(PRIORITY, 0, stream, &[&(on | 0x8000_0000).to_be_bytes()[..], &[255]].concat())
        };
        [depends(one, other), depends(other, one)].concat()
    })
    .await;
    is_ended(1, "too many PRIORITY frames", |_| frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1").repeat(10)).await;
    is_ended(1, "frames of unknown type", |n| frame(0x40 + (n % 64) as u8, 0, 0, &[0; 100]).repeat(10)).await;
}

#[tokio::test]
async fn floods_of_windows_and_empty_frames_end_the_connection() {
    is_ended(1, "too many WINDOW_UPDATE frames", |_| frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()).repeat(100)).await;
    is_ended(1, "too many WINDOW_UPDATE frames", |_| frame(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes()).repeat(100)).await;
    is_ended(2, "frames without content", |_| frame(DATA, 0, 1, &[]).repeat(10)).await;
    is_ended(2, "frames without content", |_| frame(DATA, PADDED, 1, &[4, 0, 0, 0, 0]).repeat(10)).await;
}

#[tokio::test]
async fn rapid_reset_ends_the_connection() {
    is_ended(1, "resets streams too often", |n| {
        let streams = (0..20).map(|k| 3 + 2 * (n * 20 + k) as u32);
        streams
            .flat_map(|stream| [get(stream, "/reset"), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat())
            .collect()
    })
    .await;
}

#[tokio::test]
async fn a_client_that_makes_us_reset_is_cut_off() {
    // MadeYouReset: five ways to have the server reset a stream that it works on.
    let ways: [fn(u32) -> Vec<u8>; 5] = [
        |stream| frame(WINDOW_UPDATE, 0, stream, &0u32.to_be_bytes()),
        |stream| frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffffu32.to_be_bytes()),
        |stream| frame(DATA, 0, stream, b"after the end"),
        |stream| frame(HEADERS, END_HEADERS, stream, &block(&[("x", "after the end")])),
        |stream| frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[0]].concat()),
    ];
    for way in ways {
        let causes = beside(async |gateway| {
            let mut peer = Peer::open(gateway).await;
            let mut sent = 0;
            while !peer.over() && sent < 2000 {
                let stream = peer.stream();
                sent += 1;
                if !peer.send(&[get(stream, "/big"), way(stream)].concat()).await {
                    break;
                }
            }
            assert!(peer.end().await.is_some(), "{:?} after {sent}", peer.seen().goaway);
        })
        .await;
        assert!(!causes.is_empty() && causes.len() <= 20, "{causes:?}");
    }
}

#[tokio::test]
async fn a_flood_of_continuation_ends_at_once() {
    for piece in [Vec::new(), field(b"x", b""), field(b"x", &[b'a'; 16_000])] {
        is_ended(1, "header block takes too many", |n| match n {
            0 => frame(HEADERS, END_STREAM, 3, &request("GET", "/")),
            _ => frame(CONTINUATION, 0, 3, &piece),
        })
        .await;
    }
}

#[tokio::test]
async fn a_header_block_that_does_not_end_has_a_clock() {
    for whole in [true, false] {
        let (gateway, _upstream) = gateway().await;
        let mut peer = Peer::open(&gateway).await;
        assert_eq!(peer.ask("/first").await, "200");
        let begun = frame(HEADERS, END_STREAM, 3, &request("GET", "/"));
        peer.send(if whole { &begun } else { &begun[..begun.len() - 3] }).await;
        assert_eq!(peer.end().await, Some(ENHANCE_YOUR_CALM));
        gateway.audit_entry(|entry| entry["verdict"] == "request.timeout").await;
    }
}

#[tokio::test]
async fn bombs_of_compressed_headers_cost_nothing() {
    // One large field that is remembered, then named again and again (CVE-2016-6581).
    let causes = beside(async |gateway| {
        let mut peer = Peer::open(gateway).await;
        for _ in 0..50 {
            if peer.over() {
                break;
            }
            let stream = peer.stream();
            let bomb = [request("GET", "/bomb"), remembered(b"x-bomb", &[b'a'; 3900]), vec![0xbe; 9000]].concat();
            if !peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &bomb)).await {
                break;
            }
        }
        assert!(peer.end().await.is_some());
    })
    .await;
    assert!(!causes.is_empty() && causes.len() <= 20, "{causes:?}");
}

#[tokio::test]
async fn a_list_that_the_codec_refuses_by_itself_has_an_entry() {
    let (gateway, upstream) = gateway().await;
    let mut peer = Peer::open(&gateway).await;
    let large: Vec<_> = (0..20).map(|n| (format!("x-{n}"), "a".repeat(4000))).collect();
    let stream = peer.stream();
    let all = [request("GET", "/large"), block(&large)].concat();
    let (first, rest) = all.split_at(16_000);
    peer.send(&frame(HEADERS, END_STREAM, stream, first)).await;
    let pieces: Vec<_> = rest.chunks(16_000).collect();
    for (n, piece) in pieces.iter().enumerate() {
        peer.send(&frame(CONTINUATION, if n + 1 == pieces.len() { END_HEADERS } else { 0 }, stream, piece)).await;
    }
    // The codec answers by itself, and bare: this is how far it is ours.
    assert_eq!(peer.outcome(stream).await, "431");
    let entry = gateway.audit_entry(|entry| entry["verdict"] == "request.too-large").await;
    assert!(entry.to_string().contains("too large to be decoded"), "{entry}");
    assert_eq!(gateway.refusals("request.too-large").await, 1);
    assert!(upstream.seen().is_empty() && peer.lives().await);
}

#[tokio::test]
async fn windows_that_stay_closed_end_the_connection() {
    for (settings, more) in [(setting(4, 0), 0), (setting(4, 1), 0), (setting(4, 1), 1), (setting(4, 1 << 20), 0)] {
        let causes = beside(async |gateway| {
            let mut peer = Peer::with(gateway, &[&OUR_SETTINGS[..], &settings].concat()).await;
            for _ in 0..50 {
                let stream = peer.stream();
                peer.send(&get(stream, "/big")).await;
            }
            // Byte by byte: something moves, and it is nothing.
            let mut dribble = 0;
            while more > 0 && !peer.over() && dribble < 400 {
                dribble += 1;
                peer.send(&frame(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes())).await;
                tokio::task::yield_now().await;
            }
            peer.until("the end of it", |seen| seen.closed || seen.goaway.is_some()).await;
        })
        .await;
        assert!(causes.iter().any(|cause| cause.contains("windows closed")), "{causes:?}");
    }
}

#[tokio::test]
async fn a_window_that_overflows_ends_the_stream_or_the_connection() {
    let causes = beside(async |gateway| {
        let mut peer = Peer::open(gateway).await;
        peer.send(&frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes()).repeat(2)).await;
        assert_eq!(peer.end().await, Some(3), "FLOW_CONTROL_ERROR");
        let mut peer = Peer::open(gateway).await;
        peer.send(&frame(SETTINGS, 0, 0, &setting(4, 0x8000_0000))).await;
        assert_eq!(peer.end().await, Some(1), "the codec calls it PROTOCOL_ERROR");
    })
    .await;
    assert_eq!(causes.len(), 2, "{causes:?}");
}

#[tokio::test]
async fn more_streams_than_announced_are_refused_and_then_the_connection_is() {
    let causes = beside(async |gateway| {
        let mut peer = Peer::open(gateway).await;
        let mut sent = 0;
        while !peer.over() && sent < 20_000 {
            let batch: Vec<u8> = (0..100)
                .flat_map(|_| frame(HEADERS, END_HEADERS, peer.stream(), &request("POST", "/api/bookings")))
                .collect();
            sent += 100;
            if !peer.send(&batch).await {
                break;
            }
        }
        assert_eq!(peer.end().await, Some(ENHANCE_YOUR_CALM), "after {sent}");
    })
    .await;
    assert!(causes.iter().any(|cause| cause.contains("too many streams")), "{causes:?}");
    assert!(causes.len() <= 2, "{causes:?}");
}

#[tokio::test]
async fn churn_of_streams_leaves_nothing_behind() {
    let causes = beside(async |gateway| {
        let mut peer = Peer::open(gateway).await;
        for _ in 0..40 {
            let streams: Vec<u32> = (0..50).map(|_| peer.stream()).collect();
            let batch: Vec<u8> = streams.iter().flat_map(|stream| get(*stream, "/churn")).collect();
            peer.send(&batch).await;
            for stream in streams {
                assert_eq!(peer.outcome(stream).await, "200");
            }
        }
        assert!(peer.lives().await);
    })
    .await;
    assert!(causes.is_empty(), "{causes:?}");
}

#[tokio::test]
async fn a_path_with_a_fragment_is_refused_and_recorded() {
    let (gateway, upstream) = gateway().await;
    // Plain, and in the code of RFC 7541: `/#`.
    for path in [&b"\x04\x08/page#top"[..], b"\x44\x05/#top", b"\x44\x83\x63\xfe\xbf"] {
        let mut peer = Peer::open(&gateway).await;
        assert_eq!(peer.ask("/honest").await, "200");
        let others = block(&[(":method", "GET"), (":scheme", "https"), (":authority", "acme.localhost")]);
        let stream = peer.stream();
        peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &[&others[..], path].concat())).await;
        assert_eq!(peer.end().await, Some(ENHANCE_YOUR_CALM), "{path:?}");
    }
    gateway.until("all have an entry", async |gateway| causes(gateway).len() == 3).await;
    assert!(causes(&gateway).iter().all(|cause| cause.contains("request.ambiguous")), "{:?}", causes(&gateway));
    assert_eq!((upstream.seen().len(), gateway.refusals("request.ambiguous").await), (3, 3));
}

/// Milliseconds of processor time that the gateway has used, to 10 ms.
fn processor_ms(gateway: &Gateway) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10
}

/// The frames that an attack sends next.
type Piece = fn(usize) -> Vec<u8>;

/// What one connection of an attack costs until it is cut off, beside the handshake: `--nocapture` shows it.
#[tokio::test]
async fn an_attack_costs_little_more_than_its_handshake() {
    const TIMES: u64 = 10;
    let (gateway, _upstream) = gateway().await;
    let attacks: [(&str, Piece); 9] = [
        ("nothing", |_| Vec::new()),
        ("PING", |_| frame(PING, 0, 0, b"12345678").repeat(10)),
        ("SETTINGS", |_| frame(SETTINGS, 0, 0, &setting(4, 65_535)).repeat(10)),
        ("PRIORITY", |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 9, 1]).repeat(10)),
        ("WINDOW_UPDATE", |_| frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()).repeat(100)),
        ("empty DATA", |_| frame(DATA, 0, 1, &[]).repeat(10)),
        ("rapid reset", |n| {
            let streams = (0..10).map(|k| 3 + 2 * (n * 10 + k) as u32);
            let each = |stream| [get(stream, "/reset"), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat();
            streams.flat_map(each).collect()
        }),
        ("CONTINUATION", |n| match n {
            0 => frame(HEADERS, END_STREAM, 3, &request("GET", "/")),
            _ => frame(CONTINUATION, 0, 3, &field(b"x", &[b'a'; 16_000])),
        }),
        ("malformed", |n| frame(HEADERS, END_HEADERS | END_STREAM, 3 + 2 * n as u32, &block(&[("X", "1")]))),
    ];
    let mut plain = 0;
    for (name, piece) in attacks {
        let (before, resident) = (processor_ms(&gateway), resident_kib(&gateway));
        for _ in 0..TIMES {
            let mut peer = Peer::open(&gateway).await;
            peer.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", "/api/bookings"))).await;
            if name == "nothing" {
                assert!(peer.lives().await);
                continue;
            }
            peer.flood(100_000, piece).await;
            assert!(peer.end().await.is_some(), "{name}");
        }
        let spent = (processor_ms(&gateway) - before) / TIMES;
        let grown = resident_kib(&gateway).saturating_sub(resident) / TIMES;
        eprintln!("{name}: {spent} ms and {grown} KiB for each connection");
        plain = if name == "nothing" { spent } else { plain };
        // Without optimisation, on a machine that does other things as well.
        assert!(spent <= plain + 250, "{name}: {spent} ms for each connection, {plain} for its handshake");
    }
}

#[tokio::test]
async fn a_connection_that_is_none_of_http2_has_one_entry() {
    let (gateway, upstream) = gateway().await;
    for hello in [&b"GET / HTTP/1.1\r\nHost: acme.localhost\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r"] {
        let mut peer = Peer::silent(&gateway).await;
        peer.send(hello).await;
        peer.end().await;
    }
    gateway.until("both have an entry", async |gateway| causes(gateway).len() == 2).await;
    assert!(causes(&gateway).iter().all(|cause| cause.contains("request.malformed")));
    assert!(upstream.seen().is_empty());
}
