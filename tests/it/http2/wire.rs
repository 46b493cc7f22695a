//! An HTTP/2 client that sends whatever frames it is told to, and remembers what came back.
use crate::harness::{Gateway, PATIENCE};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const PRIORITY_UPDATE: u8 = 16;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 32;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// SETTINGS with HEADER_TABLE_SIZE 0, so that every answer's fields are spelt out.
pub const OUR_SETTINGS: [u8; 6] = [0, 1, 0, 0, 0, 0];

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A setting in the payload of SETTINGS.
pub fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// An integer of HPACK (RFC 7541, 5.1).
fn integer(prefix: u8, first: u8, value: usize, out: &mut Vec<u8>) {
    let most = (1usize << prefix) - 1;
    if value < most {
        out.push(first | u8::try_from(value).unwrap());
        return;
    }
    out.push(first | u8::try_from(most).unwrap());
    let mut left = value - most;
    while left >= 128 {
        out.push(u8::try_from(left % 128).unwrap() | 128);
        left /= 128;
    }
    out.push(u8::try_from(left).unwrap());
}

/// A field spelt out and not remembered (RFC 7541, 6.2.2).
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        integer(7, 0, text.len(), &mut out);
        out.extend_from_slice(text);
    }
    out
}

/// A field spelt out and remembered (RFC 7541, 6.2.1).
pub fn remembered(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = field(name, value);
    out[0] = 0x40;
    out
}

pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name.as_ref(), value.as_ref())).collect()
}

/// The block of an ordinary request.
pub fn request(method: &str, path: &str) -> Vec<u8> {
    block(&[(":method", method), (":scheme", "https"), (":authority", "acme.localhost"), (":path", path)])
}

/// HEADERS of an ordinary request without body.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", path))
}

/// What came back on a stream.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    pub ended: bool,
    pub reset: Option<u32>,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub streams: BTreeMap<u32, Answer>,
    pub goaway: Option<u32>,
    pub pongs: usize,
    pub settings_acks: usize,
    pub frames: usize,
    pub closed: bool,
}

impl Seen {
    /// How a request ended, if it has: its status and code, or how it was cut off.
    pub fn outcome(&self, stream: u32) -> Option<String> {
        let answer = self.streams.get(&stream).cloned().unwrap_or_default();
        if answer.status != 0 && (answer.ended || answer.reset.is_some()) {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let code = serde_json::from_str::<serde_json::Value>(&text).ok();
            return Some(match code.as_ref().and_then(|value| value["code"].as_str()) {
                Some(code) => format!("{} {code}", answer.status),
                None => answer.status.to_string(),
            });
        }
        if let Some(error) = answer.reset {
            return Some(format!("reset {error}"));
        }
        if self.closed {
            return Some(self.goaway.map_or("closed".to_owned(), |error| format!("goaway {error}")));
        }
        None
    }

    fn take(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.frames += 1;
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match kind {
            HEADERS => {
                let answer = self.streams.entry(stream).or_default();
                if answer.status == 0 {
                    answer.status = status(payload);
                }
                answer.ended |= flags & END_STREAM != 0;
            }
            DATA => {
                let answer = self.streams.entry(stream).or_default();
                answer.body.extend_from_slice(payload);
                answer.ended |= flags & END_STREAM != 0;
            }
            RST_STREAM => self.streams.entry(stream).or_default().reset = Some(number(0)),
            GOAWAY => self.goaway = Some(number(4)),
            PING if flags & ACK != 0 => self.pongs += 1,
            SETTINGS if flags & ACK != 0 => self.settings_acks += 1,
            _ => {}
        }
    }
}

/// The status of an answer: its first field, from the static table or spelt out, with digits of either coding.
fn status(block: &[u8]) -> u16 {
    // A change of the table's size may come first.
    let block = if block[0] & 0xe0 == 0x20 { &block[1..] } else { block };
    let fixed = [200, 204, 206, 304, 400, 404, 500];
    match block[0] {
        index @ 0x88..=0x8e => fixed[usize::from(index - 0x88)],
        _ => {
            let (huffman, length) = (block[1] & 0x80 != 0, usize::from(block[1] & 0x7f));
            let text = &block[2..2 + length];
            if !huffman {
                return std::str::from_utf8(text).unwrap().parse().unwrap();
            }
            let mut bits = text.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
            let mut take = |n: usize| (0..n).fold(0, |sum, _| sum * 2 + bits.next().unwrap());
            (0..3).fold(0, |sum, _| {
                let five = take(5);
                sum * 10 + if five < 3 { five } else { five * 2 + take(1) - 22 }
            })
        }
    }
}

type Shared = Arc<(Mutex<Seen>, Notify)>;

/// A connection.
pub struct Peer {
    write: WriteHalf<TlsStream<TcpStream>>,
    shared: Shared,
    next: u32,
}

impl Peer {
    /// Connects and begins as a client does.
    pub async fn open(gateway: &Gateway) -> Peer {
        Peer::with(gateway, &OUR_SETTINGS).await
    }

    /// The same with these settings.
    pub async fn with(gateway: &Gateway, settings: &[u8]) -> Peer {
        let mut peer = Peer::silent(gateway).await;
        peer.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await;
        peer
    }

    /// Connects and says nothing.
    pub async fn silent(gateway: &Gateway) -> Peer {
        let (read, write) = tokio::io::split(gateway.tls("acme.localhost", &[b"h2"]).await);
        let shared = Shared::default();
        tokio::spawn(listen(read, shared.clone()));
        Peer { write, shared, next: 1 }
    }

    /// The number of the next stream.
    pub fn stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Sends bytes; `false` where the gateway takes no more. A gateway that stops reading is given some patience.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = async { self.write.write_all(bytes).await.is_ok() && self.write.flush().await.is_ok() };
        timeout(PATIENCE, sent).await.unwrap_or(false)
    }

    /// Sends the same bytes until the gateway has had enough, at most so often; how often it was.
    pub async fn flood(&mut self, times: usize, mut piece: impl FnMut(usize) -> Vec<u8>) -> usize {
        for n in 0..times {
            if self.over() || !self.send(&piece(n)).await {
                return n;
            }
        }
        times
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.0.lock().unwrap()
    }

    /// Whether the gateway has said goodbye.
    pub fn over(&self) -> bool {
        let seen = self.seen();
        seen.closed || seen.goaway.is_some()
    }

    /// Waits until it is so.
    pub async fn until(&self, what: &str, holds: impl Fn(&Seen) -> bool) {
        let wait = async {
            loop {
                let news = self.shared.1.notified();
                if holds(&self.seen()) {
                    return;
                }
                news.await;
            }
        };
        let waited = timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "waited in vain for {what}: {:?}", self.seen());
    }

    /// How a request ends.
    pub async fn outcome(&self, stream: u32) -> String {
        self.until(&format!("the end of stream {stream}"), |seen| seen.outcome(stream).is_some()).await;
        self.seen().outcome(stream).unwrap()
    }

    /// How the connection ends: the error code of GOAWAY, where there was one.
    pub async fn end(&self) -> Option<u32> {
        self.until("the end of the connection", |seen| seen.closed).await;
        self.seen().goaway
    }

    /// Sends a request and waits for how it ends.
    pub async fn ask(&mut self, path: &str) -> String {
        let stream = self.stream();
        self.send(&get(stream, path)).await;
        self.outcome(stream).await
    }

    /// Whether the connection still serves: PING is answered, and no goodbye is said.
    pub async fn lives(&mut self) -> bool {
        let before = self.seen().pongs;
        if !self.send(&frame(PING, 0, 0, b"are you?")).await {
            return false;
        }
        self.until("a pong or the end", |seen| seen.pongs > before || seen.closed || seen.goaway.is_some()).await;
        !self.over()
    }
}

async fn listen(mut read: ReadHalf<TlsStream<TcpStream>>, shared: Shared) {
    let mut head = [0; 9];
    while read.read_exact(&mut head).await.is_ok() {
        let [a, b, c, kind, flags, w, x, y, z] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        if read.read_exact(&mut payload).await.is_err() {
            break;
        }
        let stream = u32::from_be_bytes([w, x, y, z]) & 0x7fff_ffff;
        shared.0.lock().unwrap().take(kind, flags, stream, &payload);
        shared.1.notify_waiters();
    }
    shared.0.lock().unwrap().closed = true;
    shared.1.notify_waiters();
}
