//! RFC 9113 and RFC 7541, rule by rule: what a server must take, ignore, or answer with which error. After each case the
//! gateway serves others; cases that go against the connection leave one entry.
use super::wire::*;
use crate::harness::{Gateway, entries, standard};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

/// What must come of a case.
#[derive(Clone, Copy, Debug)]
enum Must {
    /// The connection goes on, and serves.
    Serve,
    /// GOAWAY with one of these errors, and the end of the connection. RFC 9113, 5.4.1: an endpoint may treat any stream error
    /// so, and may close without saying why.
    Connection(&'static [u32]),
    /// RST_STREAM of stream 1 with one of these errors, or the same as an error of the connection.
    Stream(&'static [u32]),
}
use Must::{Connection, Serve, Stream};

fn headers(stream: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, flags, stream, &request("POST", "/api/bookings"))
}

/// A request whose body is still to come.
fn open() -> Vec<u8> {
    headers(1, END_HEADERS)
}

/// A request that is complete.
fn whole() -> Vec<u8> {
    get(1, "/")
}

fn cases() -> Vec<(&'static str, Must, Vec<u8>)> {
    let raw = |block: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&request("GET", "/"), block].concat());
    let cut = |stream: u32| frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
    let wider = |stream: u32, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let set = |id: u16, value: u32| frame(SETTINGS, 0, 0, &setting(id, value));
    let on_itself = [&1u32.to_be_bytes()[..], &[15]].concat();
    vec![
        ("4.1 a frame of unknown type is ignored", Serve, frame(0xee, 0, 0, b"grease")),
        ("4.1 and on a stream", Serve, frame(0xee, 0xff, 7, b"grease")),
        ("4.1 flags without meaning are ignored", Serve, frame(PING, 0xfe, 0, &[0; 8])),
        ("4.1 the reserved bit is ignored", Serve, frame(PING, 0, 0x8000_0000, &[0; 8])),
        (
            "4.2 DATA beyond 16,384 bytes",
            Connection(&[FRAME_SIZE_ERROR]),
            [open(), frame(DATA, 0, 1, &[0; 16_385])].concat(),
        ),
        ("4.2 HEADERS beyond 16,384 bytes", Connection(&[FRAME_SIZE_ERROR]), frame(HEADERS, 5, 1, &[0x82; 16_385])),
        ("4.2 DATA of 16,384 bytes", Serve, [open(), frame(DATA, 0, 1, &[0; 16_384])].concat()),
        (
            "4.3 another frame within a header block",
            Connection(&[PROTOCOL_ERROR]),
            [headers(1, END_STREAM), frame(PRIORITY, 0, 1, &[0; 5])].concat(),
        ),
        (
            "4.3 another stream within a header block",
            Connection(&[PROTOCOL_ERROR]),
            [headers(1, END_STREAM), get(3, "/")].concat(),
        ),
        (
            "4.3 an unknown frame within a header block",
            Connection(&[PROTOCOL_ERROR]),
            [headers(1, END_STREAM), frame(0xee, 0, 0, &[])].concat(),
        ),
        ("5.1 DATA on an idle stream", Connection(&[PROTOCOL_ERROR]), frame(DATA, 0, 1, b"x")),
        ("5.1 RST_STREAM on an idle stream", Connection(&[PROTOCOL_ERROR]), cut(1)),
        ("5.1 WINDOW_UPDATE on an idle stream", Connection(&[PROTOCOL_ERROR]), wider(1, 1)),
        (
            "5.1 CONTINUATION on an idle stream",
            Connection(&[PROTOCOL_ERROR]),
            frame(CONTINUATION, 4, 1, &request("GET", "/")),
        ),
        ("5.1 PRIORITY on an idle stream", Serve, frame(PRIORITY, 0, 9, &[0; 5])),
        (
            "5.1 DATA on a half-closed stream",
            Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]),
            [whole(), frame(DATA, 1, 1, b"x")].concat(),
        ),
        ("5.1 HEADERS on a half-closed stream", Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]), [whole(), whole()].concat()),
        (
            "5.1 CONTINUATION on a half-closed stream",
            Connection(&[STREAM_CLOSED, PROTOCOL_ERROR]),
            [whole(), frame(CONTINUATION, 4, 1, &[])].concat(),
        ),
        (
            "5.1 PRIORITY and WINDOW_UPDATE on a half-closed stream",
            Serve,
            [whole(), frame(PRIORITY, 0, 1, &[0; 5]), wider(1, 1)].concat(),
        ),
        (
            "5.1 DATA on a stream that the client has reset",
            Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]),
            [open(), cut(1), frame(DATA, 1, 1, b"x")].concat(),
        ),
        (
            "5.1 HEADERS on a stream that the client has reset",
            Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]),
            [open(), cut(1), headers(1, 5)].concat(),
        ),
        ("5.1 a second RST_STREAM", Serve, [open(), cut(1), cut(1)].concat()),
        ("5.1.1 a stream of even number", Connection(&[PROTOCOL_ERROR]), get(2, "/")),
        (
            "5.1.1 a stream below the newest",
            Connection(&[PROTOCOL_ERROR, STREAM_CLOSED]),
            [get(5, "/"), get(3, "/")].concat(),
        ),
        (
            "5.3 HEADERS that depend on themselves",
            Stream(&[PROTOCOL_ERROR]),
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | WITH_PRIORITY,
                1,
                &[on_itself.clone(), request("GET", "/")].concat(),
            ),
        ),
        (
            "5.3 PRIORITY that depends on itself",
            Stream(&[PROTOCOL_ERROR]),
            [open(), frame(PRIORITY, 0, 1, &on_itself)].concat(),
        ),
        ("6.1 DATA on stream 0", Connection(&[PROTOCOL_ERROR]), frame(DATA, 0, 0, b"x")),
        (
            "6.1 DATA with more padding than payload",
            Connection(&[PROTOCOL_ERROR]),
            [open(), frame(DATA, PADDED, 1, &[9, 0, 0])].concat(),
        ),
        ("6.1 DATA with padding", Serve, [open(), frame(DATA, PADDED, 1, &[2, b'x', 0, 0])].concat()),
        ("6.2 HEADERS on stream 0", Connection(&[PROTOCOL_ERROR]), get(0, "/")),
        (
            "6.2 HEADERS with more padding than payload",
            Connection(&[PROTOCOL_ERROR]),
            frame(HEADERS, 5 | PADDED, 1, &[200, 0x82]),
        ),
        ("6.3 PRIORITY on stream 0", Connection(&[PROTOCOL_ERROR]), frame(PRIORITY, 0, 0, &[0; 5])),
        (
            "6.3 PRIORITY of another length",
            Stream(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
            [open(), frame(PRIORITY, 0, 1, &[0; 4])].concat(),
        ),
        ("6.4 RST_STREAM on stream 0", Connection(&[PROTOCOL_ERROR]), cut(0)),
        (
            "6.4 RST_STREAM of another length",
            Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
            [open(), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
        ),
        (
            "6.5 SETTINGS that acknowledge and say something",
            Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
            frame(SETTINGS, ACK, 0, &setting(4, 1)),
        ),
        ("6.5 SETTINGS on a stream", Connection(&[PROTOCOL_ERROR]), frame(SETTINGS, 0, 1, &[])),
        ("6.5 SETTINGS cut short", Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]), frame(SETTINGS, 0, 0, &[0, 4, 0])),
        ("6.5.2 ENABLE_PUSH of 2", Connection(&[PROTOCOL_ERROR]), set(2, 2)),
        (
            "6.5.2 INITIAL_WINDOW_SIZE beyond 31 bits",
            Connection(&[FLOW_CONTROL_ERROR, PROTOCOL_ERROR]),
            set(4, 0x8000_0000),
        ),
        ("6.5.2 MAX_FRAME_SIZE too small", Connection(&[PROTOCOL_ERROR]), set(5, 16_383)),
        ("6.5.2 MAX_FRAME_SIZE too large", Connection(&[PROTOCOL_ERROR]), set(5, 1 << 24)),
        ("6.5.2 a setting that is unknown", Serve, set(0xff, 1)),
        (
            "6.6 PUSH_PROMISE of a client",
            Connection(&[PROTOCOL_ERROR]),
            [open(), frame(PUSH_PROMISE, 4, 1, &[&[0, 0, 0, 2][..], &request("GET", "/")].concat())].concat(),
        ),
        ("6.7 PING on a stream", Connection(&[PROTOCOL_ERROR]), frame(PING, 0, 1, &[0; 8])),
        ("6.7 PING of another length", Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]), frame(PING, 0, 0, &[0; 6])),
        ("6.7 an answer to a PING that nobody sent", Serve, frame(PING, ACK, 0, &[9; 8])),
        ("6.8 GOAWAY on a stream", Connection(&[PROTOCOL_ERROR]), frame(GOAWAY, 0, 1, &[0; 8])),
        ("6.9 WINDOW_UPDATE of nothing, connection", Connection(&[PROTOCOL_ERROR]), wider(0, 0)),
        ("6.9 WINDOW_UPDATE of nothing, stream", Stream(&[PROTOCOL_ERROR]), [open(), wider(1, 0)].concat()),
        (
            "6.9 WINDOW_UPDATE of another length",
            Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
            frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
        ),
        (
            "6.9.1 a connection's window that overflows",
            Connection(&[FLOW_CONTROL_ERROR]),
            wider(0, 0x7fff_ffff).repeat(2),
        ),
        (
            "6.9.1 a stream's window that overflows",
            Stream(&[FLOW_CONTROL_ERROR]),
            [open(), wider(1, 0x7fff_ffff).repeat(2)].concat(),
        ),
        (
            "6.10 CONTINUATION behind END_HEADERS",
            Connection(&[PROTOCOL_ERROR]),
            [open(), frame(CONTINUATION, 4, 1, &[])].concat(),
        ),
        (
            "6.10 CONTINUATION on stream 0",
            Connection(&[PROTOCOL_ERROR]),
            [headers(1, 0), frame(CONTINUATION, 4, 0, &[])].concat(),
        ),
        (
            "6.10 CONTINUATION of another stream",
            Connection(&[PROTOCOL_ERROR]),
            [headers(1, 0), frame(CONTINUATION, 4, 3, &[])].concat(),
        ),
        ("6.10 CONTINUATION without HEADERS", Connection(&[PROTOCOL_ERROR]), frame(CONTINUATION, 4, 1, &[])),
        (
            "6.10 several CONTINUATIONs",
            Serve,
            [
                headers(1, END_STREAM),
                frame(CONTINUATION, 0, 1, &field(b"x-a", b"1")),
                frame(CONTINUATION, 4, 1, &field(b"x-b", b"1")),
            ]
            .concat(),
        ),
        (
            "8.1 HEADERS in the midst of a body",
            Stream(&[PROTOCOL_ERROR]),
            [open(), frame(HEADERS, END_HEADERS, 1, &block(&[("x-a", "1")]))].concat(),
        ),
        ("7541 2.3.3 index 0", Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]), raw(&[0x80])),
        (
            "7541 2.3.3 an index beyond both tables",
            Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
            raw(&[0xff, 0x20]),
        ),
        (
            "7541 4.2 a table larger than announced",
            Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
            frame(HEADERS, 5, 1, &[&[0x3f, 0xe1, 0xff, 0x03][..], &request("GET", "/")].concat()),
        ),
        (
            "7541 4.2 a change of the table behind a field",
            Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
            raw(&[0x20]),
        ),
        (
            "7541 5.1 an integer without end",
            Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
            raw(&[&[0xff][..], &[0xff; 20]].concat()),
        ),
        (
            "7541 5.2 a text longer than its block",
            Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
            raw(&[0x00, 0x05, b'a']),
        ),
        (
            "7541 5.2 padding of a Huffman text with zeros",
            Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
            raw(&[0x00, 0x01, b'x', 0x81, 0x1e]),
        ),
        (
            "7541 5.2 EOS in a Huffman text",
            Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
            raw(&[0x00, 0x01, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
        ),
        (
            "7541 5.2 padding of more than 7 bits",
            Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
            raw(&[0x00, 0x01, b'x', 0x82, 0x1f, 0xff]),
        ),
    ]
}

/// How a case went, where not as it must.
async fn complaint(gateway: &Gateway, must: Must, bytes: &[u8]) -> Option<String> {
    let mut peer = Peer::open(gateway).await;
    peer.send(bytes).await;
    match must {
        Serve
            if peer.lives().await && {
                peer.send(&get(101, "/after")).await;
                peer.outcome(101).await == "200"
            } =>
        {
            None
        }
        Connection(errors) => {
            let end = peer.end().await;
            (!end.is_some_and(|error| errors.contains(&error))).then(|| format!("the end was {end:?}"))
        }
        Stream(errors) => {
            peer.until("a reset or the end", |seen| {
                seen.closed || seen.streams.get(&1).is_some_and(|answer| answer.reset.is_some())
            })
            .await;
            let seen = peer.seen().clone();
            let error = seen.goaway.or(seen.streams.get(&1).and_then(|answer| answer.reset));
            (!error.is_some_and(|error| errors.contains(&error))).then(|| format!("{error:?}"))
        }
        Serve => Some(format!("{:?}", peer.seen())),
    }
}

#[tokio::test]
async fn each_rule_is_kept_and_each_broken_connection_written_down() {
    let (gateway, _upstream) = standard().await;
    let mut wrong = Vec::new();
    let mut ended = 0;
    for (rule, must, bytes) in cases() {
        if let Some(how) = complaint(&gateway, must, &bytes).await {
            wrong.push(format!("{rule}: {must:?}, but {how}"));
        }
        ended += usize::from(matches!(must, Connection(_)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ended > 30);
    gateway
        .until("each connection that was ended has its entry", async |gateway| {
            let broke = |entry: &&serde_json::Value| entry.to_string().contains("the client broke HTTP/2");
            entries(gateway).iter().filter(broke).count() >= ended
        })
        .await;
}

#[tokio::test]
async fn more_streams_than_announced_are_refused_one_by_one() {
    let (gateway, _upstream) = standard().await;
    let mut peer = Peer::open(&gateway).await;
    let batch: Vec<u8> = (0..101).flat_map(|_| headers(peer.stream(), END_HEADERS)).collect();
    peer.send(&batch).await;
    assert_eq!(peer.outcome(201).await, format!("reset {REFUSED_STREAM}"));
    assert!(peer.lives().await);
    gateway.audit_entry(|entry| entry.to_string().contains("more streams than were announced")).await;
}

#[tokio::test]
async fn settings_and_pings_are_answered() {
    let (gateway, _upstream) = standard().await;
    let mut peer = Peer::open(&gateway).await;
    peer.until("the acknowledgement", |seen| seen.settings_acks == 1).await;
    for _ in 0..20 {
        assert!(peer.lives().await);
    }
    assert_eq!(peer.seen().pongs, 20);
}
