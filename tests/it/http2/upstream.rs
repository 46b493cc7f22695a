//! Applications that speak HTTP/2 (h2c) and mean harm: the client gets 502, 504 or a visible cut, never what belongs to
//! another; the gateway stays up, small, and serves the others.
use super::wire::*;
use crate::harness::{Bundle, Gateway, PATIENCE, Scripted, Upstream};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The frames that an application sends once it has read a request on this stream; then the connection stays open.
type Script = Arc<dyn Fn(u32) -> Vec<u8> + Send + Sync>;

/// Reads frames until a request is complete, and answers it by the script; goes on for as long as it may.
async fn play(mut stream: TcpStream, script: Script) {
    let mut preface = [0; 24];
    if stream.read_exact(&mut preface).await.is_err() || preface != *PREFACE {
        return;
    }
    let _ = stream.write_all(&frame(SETTINGS, 0, 0, &[])).await;
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let [a, b, c, kind, flags, w, x, y, z] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        if stream.read_exact(&mut payload).await.is_err() {
            return;
        }
        if kind == SETTINGS && flags & ACK == 0 {
            let _ = stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await;
        }
        if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            let bytes = script(u32::from_be_bytes([w, x, y, z]));
            // The gateway may have had enough before all of it is out.
            let _ = timeout(PATIENCE, stream.write_all(&bytes)).await;
        }
    }
}

async fn hostile(script: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Scripted {
    let script: Script = Arc::new(script);
    Scripted::start(move |_, stream| play(stream, script.clone())).await
}

/// `/evil` goes to the hostile application, everything else to a good one.
async fn gateway(evil: &Scripted) -> (Gateway, Upstream) {
    let good = Upstream::start().await;
    let bundle = Bundle::standard(good.address);
    bundle.replace(
        "upstreams:\n",
        &format!(
            "upstreams:\n  evil:\n    endpoints: [\"{}\"]\n    http: {{version: h2, first_byte_timeout: 1s, idle_timeout: 1s, total_timeout: 5s}}\n",
            evil.address
        ),
    );
    bundle.route(
        "  evil:\n    match: {hosts: [\"*.localhost\"], paths: [\"/evil/**\"], methods: [GET]}\n    upstream: evil\n    \
         public: \"a test\"\n    headers: api-json",
    );
    (Gateway::start(bundle).await, good)
}

fn answer(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(fields))
}

const OK: (&str, &str) = (":status", "200");

fn resident_kib(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What the client may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum May {
    /// 502 or 504, before anything of the application has gone out.
    Fail,
    /// The same, or the beginning of an answer that visibly does not end.
    Break,
    /// Or an answer that is right.
    Serve,
}

/// One request to the hostile application; then an honest one, on the same connection and on a fresh one.
async fn meets(about: &str, may: May, script: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) {
    let evil = hostile(script).await;
    let (gateway, _good) = gateway(&evil).await;
    let before = resident_kib(&gateway);
    // With room for whatever comes.
    let mut peer = Peer::with(&gateway, &[&OUR_SETTINGS[..], &setting(4, 1 << 28)].concat()).await;
    peer.send(&frame(WINDOW_UPDATE, 0, 0, &(1u32 << 28).to_be_bytes())).await;
    let stream = peer.stream();
    peer.send(&get(stream, "/evil/one")).await;
    let outcome = peer.outcome(stream).await;
    let seen = peer.seen().streams.get(&stream).cloned().unwrap_or_default();
    let failed = matches!(outcome.as_str(), "502 upstream.unreachable" | "504 upstream.timeout");
    let cut = seen.reset.is_some() && !seen.ended;
    let held = match may {
        May::Fail => failed,
        May::Break => failed || cut,
        May::Serve => failed || cut || outcome == "200",
    };
    assert!(held, "{about}: {may:?}, but {outcome}, {seen:?}");
    assert!(!String::from_utf8_lossy(&seen.body).contains("SECRET"), "{about}: {seen:?}");
    assert_eq!(peer.ask("/honest").await, "200", "{about}");
    assert_eq!(Peer::open(&gateway).await.ask("/honest").await, "200", "{about}");
    let grown = resident_kib(&gateway).saturating_sub(before);
    assert!(grown < 96 * 1024, "{about}: the gateway grew by {grown} KiB");
    gateway.outcome_of_path("/evil/one").await;
}

#[tokio::test]
async fn floods_of_an_application_are_its_own_loss() {
    let flood = |frames: Vec<u8>| move |_: u32| frames.repeat(20_000);
    meets("PING", May::Fail, flood(frame(PING, 0, 0, &[0; 8]))).await;
    meets("SETTINGS", May::Fail, flood(frame(SETTINGS, 0, 0, &setting(4, 65_535)))).await;
    meets("WINDOW_UPDATE", May::Fail, flood(frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()))).await;
    meets("PRIORITY", May::Fail, flood(frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]))).await;
    meets("unknown frames", May::Fail, flood(frame(0xee, 0, 0, &[0; 50]))).await;
    meets("interim answers", May::Fail, |stream| answer(stream, 0, &[(":status", "100")]).repeat(20_000)).await;
    meets("early hints", May::Fail, |stream| answer(stream, 0, &[(":status", "103"), ("link", "</a>")]).repeat(20_000))
        .await;
    meets("CONTINUATION", May::Fail, |stream| {
        [frame(HEADERS, 0, stream, &block(&[OK])), frame(CONTINUATION, 0, stream, &[]).repeat(50_000)].concat()
    })
    .await;
    meets("empty DATA", May::Break, |stream| {
        [answer(stream, 0, &[OK]), frame(DATA, 0, stream, &[]).repeat(50_000)].concat()
    })
    .await;
    meets("GOAWAY", May::Fail, |_| frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0]).repeat(1000)).await;
}

#[tokio::test]
async fn an_application_that_breaks_http2_fails() {
    meets("RST_STREAM", May::Fail, |stream| frame(RST_STREAM, 0, stream, &2u32.to_be_bytes())).await;
    meets("RST_STREAM that refuses, again and again", May::Fail, |stream| {
        frame(RST_STREAM, 0, stream, &7u32.to_be_bytes())
    })
    .await;
    meets("GOAWAY with an error", May::Fail, |_| frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 1])).await;
    meets("an answer on a stream that nobody opened", May::Fail, |_| answer(77, END_STREAM, &[OK, ("x", "SECRET")]))
        .await;
    meets("an answer on a stream of the server's", May::Fail, |_| answer(2, END_STREAM, &[OK])).await;
    meets("an answer on stream 0", May::Fail, |_| answer(0, END_STREAM, &[OK])).await;
    meets("a body without a head", May::Fail, |stream| frame(DATA, END_STREAM, stream, b"SECRET")).await;
    meets("a body on stream 0", May::Fail, |_| frame(DATA, END_STREAM, 0, b"SECRET")).await;
    meets("a pushed answer", May::Fail, |stream| {
        frame(PUSH_PROMISE, END_HEADERS, stream, &[&[0, 0, 0, 2][..], &request("GET", "/evil/pushed")].concat())
    })
    .await;
    meets("a frame beyond every bound", May::Fail, |stream| frame(DATA, 0, stream, &[0; 70_000])).await;
    meets("HTTP/1", May::Fail, |_| b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nSECRET".to_vec()).await;
    meets("a window that overflows", May::Fail, |_| {
        frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes()).repeat(2)
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_malformed_fails() {
    for fields in [
        &[("x", "1")][..],
        &[(":status", "")],
        &[(":status", "abc")],
        &[(":status", "99")],
        &[(":status", "1000")],
        &[(":status", "200 OK\r\nx: 1")],
        &[OK, OK],
        &[OK, (":status", "302")],
        &[("x", "1"), OK],
        &[OK, (":unknown", "1")],
        &[OK, ("X-Upper", "1")],
        &[OK, ("", "1")],
        &[OK, ("x y", "1")],
        &[OK, ("x\r\ny", "1")],
        &[OK, ("x", "1\r\nset-cookie: a=SECRET")],
        &[OK, ("x", "1\nset-cookie: a=SECRET")],
        &[OK, ("x", "1\0")],
        &[OK, ("connection", "close")],
        &[OK, ("transfer-encoding", "chunked")],
        &[OK, ("upgrade", "h2c")],
        &[OK, ("keep-alive", "1")],
        &[OK, ("proxy-connection", "close")],
        &[OK, ("content-length", "5")],
        &[OK, ("content-length", "-1")],
        &[OK, ("content-length", "0"), ("content-length", "1")],
        &[(":status", "101")],
    ] {
        let fields: Vec<(String, String)> = fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        meets(&format!("{fields:?}"), May::Fail, move |stream| {
            let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            answer(stream, END_STREAM, &fields)
        })
        .await;
    }
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_visibly_cut() {
    let sized = |length: &'static str, body: &'static [u8]| {
        move |stream| {
            [answer(stream, 0, &[OK, ("content-length", length)]), frame(DATA, END_STREAM, stream, body)].concat()
        }
    };
    meets("shorter than announced", May::Break, sized("10", b"short")).await;
    meets("longer than announced", May::Break, sized("3", b"longer SECRET")).await;
    meets("none of it", May::Break, sized("10", b"")).await;
    meets("cut by a reset", May::Break, |stream| {
        [answer(stream, 0, &[OK]), frame(DATA, 0, stream, b"begun"), frame(RST_STREAM, 0, stream, &2u32.to_be_bytes())]
            .concat()
    })
    .await;
    meets("that does not end", May::Break, |stream| {
        [answer(stream, 0, &[OK]), frame(DATA, 0, stream, b"begun")].concat()
    })
    .await;
    meets("trailers that end nothing", May::Break, |stream| {
        [answer(stream, 0, &[OK]), frame(DATA, 0, stream, b"x"), answer(stream, 0, &[("x", "1")])].concat()
    })
    .await;
    // The codec drops pseudo-fields that have no place there, and the client never sees them.
    meets("an answer with a path", May::Serve, |stream| answer(stream, END_STREAM, &[OK, (":path", "/SECRET")])).await;
    meets("trailers with pseudo-fields", May::Serve, |stream| {
        [answer(stream, 0, &[OK]), frame(DATA, 0, stream, b"x"), answer(stream, END_STREAM, &[(":status", "200")])]
            .concat()
    })
    .await;
    meets("more than its window", May::Break, |stream| {
        // Ten million bytes, whatever the gateway has room for.
        [answer(stream, 0, &[OK]), frame(DATA, 0, stream, &[b'x'; 16_384]).repeat(1200)].concat()
    })
    .await;
}

#[tokio::test]
async fn a_bomb_of_headers_is_not_handed_on() {
    meets("one field, named again and again", May::Fail, |stream| {
        let bomb = [block(&[OK]), remembered(b"x-bomb", &[b'a'; 3900]), vec![0xbe; 12_000]].concat();
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &bomb)
    })
    .await;
    meets("two megabytes of fields", May::Fail, |stream| {
        let field = field(b"x-large", &[b'a'; 16_000]);
        let more = frame(CONTINUATION, 0, stream, &field).repeat(130);
        [frame(HEADERS, END_STREAM, stream, &block(&[OK])), more, frame(CONTINUATION, END_HEADERS, stream, &[])]
            .concat()
    })
    .await;
}

#[tokio::test]
async fn what_an_application_says_too_much_reaches_nobody() {
    // Behind each answer, one more for a stream that is over and one for a stream that is to come.
    let evil = hostile(|stream| {
        let body = format!("for stream {stream}");
        [
            answer(stream, 0, &[OK]),
            frame(DATA, END_STREAM, stream, body.as_bytes()),
            answer(stream, END_STREAM, &[OK, ("x", "SECRET")]),
            answer(stream + 2, END_STREAM, &[OK, ("x", "SECRET")]),
        ]
        .concat()
    })
    .await;
    let (gateway, _good) = gateway(&evil).await;
    let mut peer = Peer::open(&gateway).await;
    for n in 0..20 {
        let stream = peer.stream();
        peer.send(&get(stream, &format!("/evil/{n}"))).await;
        let outcome = peer.outcome(stream).await;
        let body = String::from_utf8_lossy(&peer.seen().streams[&stream].body).into_owned();
        assert!(body.starts_with("for stream") || !outcome.starts_with('2'), "{outcome}: {body}");
        assert!(!body.contains("SECRET"), "{body}");
    }
}
