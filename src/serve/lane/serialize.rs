//! Heads as bytes: the fields as they were edited, and of the framing and the connection only what we say ourselves.
use decide::digits::decimal;
use decide::headers::request::IdentityHeaders;
use decide::headers::{Fields, Said, Values};
use decide::trailers::may_trail;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::cell::RefCell;

/// How we frame a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none, and nothing is said about it.
    None,
    Length(u64),
    Chunked,
    /// Ends with the connection.
    Close,
}

/// What is said about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    /// Nothing: it goes on.
    Silent,
    /// `keep-alive`, for HTTP/1.0.
    KeepAlive,
    Close,
    /// WebSocket from now on.
    Upgrade,
    /// `te`, whose value is `trailers`.
    Trailers,
}

/// Whether a field is about this connection or this framing (RFC 9110, 7.6.1), so that it is never passed on.
fn of_the_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "content-length"
            | "http2-settings"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "trailer"
    )
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn fields(out: &mut Vec<u8>, map: &HeaderMap, but: impl Fn(&HeaderName) -> bool) {
    for (name, value) in map.iter().filter(|(name, _)| !of_the_hop(name) && !but(name)) {
        field(out, name.as_str(), value.as_bytes());
    }
}

/// The fields of a head that is being written: what others say is in the map, what we say goes into the head at once, and
/// needs neither a value nor a place in the map.
pub(super) struct Lines<'a> {
    pub(super) map: &'a mut HeaderMap,
    pub(super) out: &'a mut Vec<u8>,
}

impl Fields for Lines<'_> {
    fn value(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.map.get(name)
    }

    fn values(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue> {
        self.map.get_all(name).into_iter()
    }

    fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.map.keys()
    }

    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        self.map.insert(name, value);
    }

    fn append(&mut self, name: &HeaderName, value: HeaderValue) {
        self.map.append(name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        self.map.remove(name);
    }

    fn say(&mut self, name: &HeaderName, said: Said<'_>, _values: &mut Values) {
        debug_assert!(!self.map.contains_key(name), "{name} would stand twice");
        self.out.extend_from_slice(name.as_str().as_bytes());
        self.out.extend_from_slice(b": ");
        said.write(self.out);
        self.out.extend_from_slice(b"\r\n");
    }
}

fn framing(out: &mut Vec<u8>, framing: Framing, map: &HeaderMap, identity: &IdentityHeaders) {
    match framing {
        Framing::None | Framing::Close => {}
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            if let Some(names) = announced(map, identity) {
                field(out, "trailer", names.as_bytes());
            }
        }
    }
}

/// Trailers that are announced and may come.
fn announced(map: &HeaderMap, identity: &IdentityHeaders) -> Option<String> {
    let announced = map.get_all(header::TRAILER).iter().filter_map(|value| value.to_str().ok());
    let names = announced.flat_map(|value| value.split(',')).map(str::trim).map(str::to_ascii_lowercase);
    let names: Vec<String> = names.filter(|name| !name.is_empty() && may_trail(name, identity)).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Makes of an answer's fields those of a stream of HTTP/2, where nothing is of the connection (RFC 9113, 8.2.2).
pub(super) fn stream_fields(map: &mut HeaderMap, body: Framing, identity: &IdentityHeaders) {
    let named = named(map);
    let announced = announced(map, identity);
    let stay = |name: &HeaderName| !of_the_hop(name) && !named.iter().any(|other| other == name.as_str());
    let gone: Vec<HeaderName> = map.keys().filter(|name| !stay(name)).cloned().collect();
    gone.iter().for_each(|name| drop(map.remove(name)));
    if let Framing::Length(length) = body {
        map.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if let Some(names) = announced.and_then(|names| HeaderValue::try_from(names).ok()) {
        map.insert(header::TRAILER, names);
    }
}

/// The fields that `Connection` names, in lowercase. `keep-alive` and `close` alone name none that would be passed on.
fn named(map: &HeaderMap) -> Vec<String> {
    let lines = map.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let lines = lines.filter(|value| !matches!(*value, "keep-alive" | "close"));
    lines.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect()
}

fn connection(out: &mut Vec<u8>, connection: Connection) {
    out.extend_from_slice(match connection {
        Connection::Silent => b"\r\n".as_slice(),
        Connection::KeepAlive => b"connection: keep-alive\r\n\r\n",
        Connection::Close => b"connection: close\r\n\r\n",
        Connection::Upgrade => b"connection: upgrade\r\nupgrade: websocket\r\n\r\n",
        Connection::Trailers => b"connection: te\r\nte: trailers\r\n\r\n",
    });
}

/// The beginning of a request head.
pub(super) fn request_line(method: &str, target: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    [method, " ", target, " HTTP/1.1\r\n"].iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    out
}

/// The rest of a request head. `Expect` is said where we wait for the answer to it ourselves.
pub(super) fn request(
    out: &mut Vec<u8>,
    map: &HeaderMap,
    body: Framing,
    (expects, about): (bool, Connection),
    identity: &IdentityHeaders,
) {
    fields(out, map, |name| !expects && name == header::EXPECT);
    framing(out, body, map, identity);
    connection(out, about);
}

/// The head of an answer after its first line. Fields that its `Connection` names are of the connection and stay behind.
pub(super) fn answer(
    out: &mut Vec<u8>,
    status: StatusCode,
    map: &HeaderMap,
    body: Framing,
    about: Connection,
    identity: &IdentityHeaders,
) {
    let named = named(map);
    fields(out, map, |name| named.iter().any(|other| other == name.as_str()));
    if !status.is_informational() && !map.contains_key(header::DATE) {
        date(out);
    }
    framing(out, body, map, identity);
    connection(out, about);
}

/// The head of an interim answer.
pub(super) fn interim(out: &mut Vec<u8>, status: StatusCode, map: &HeaderMap) {
    status_line(out, status);
    fields(out, map, |_| false);
    out.extend_from_slice(b"\r\n");
}

/// The first line of an answer.
pub(super) fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    out.reserve(1024);
    let reason = status.canonical_reason().unwrap_or_default();
    ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"].iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

thread_local! {
    /// The second, and how `Date` says it.
    static DATE: RefCell<(i64, Option<HeaderValue>)> = const { RefCell::new((0, None)) };
}

/// `Date` (RFC 9110, 6.6.1), which whoever passes on an answer without one adds.
fn date(out: &mut Vec<u8>) {
    let now = jiff::Timestamp::now();
    DATE.with_borrow_mut(|(second, text)| {
        if text.is_none() || *second != now.as_second() {
            let printed = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
            (*second, *text) = (now.as_second(), printed.ok().and_then(|text| HeaderValue::try_from(text).ok()));
        }
        if let Some(text) = text {
            field(out, "date", text.as_bytes());
        }
    });
}
