//! Heads as bytes: the fields as they were edited, and of the framing and the connection only what we say ourselves.
use decide::headers::request::IdentityHeaders;
use decide::trailers::may_trail;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::cell::RefCell;
use std::io::Write;

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

fn framing(out: &mut Vec<u8>, framing: Framing, map: &HeaderMap, identity: &IdentityHeaders) {
    match framing {
        Framing::None | Framing::Close => {}
        Framing::Length(length) => {
            // Writing to a vector cannot fail.
            let _ = write!(out, "content-length: {length}\r\n");
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

/// The fields that `Connection` names, in lowercase.
fn named(map: &HeaderMap) -> Vec<String> {
    let lines = map.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
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

/// A request head. `Expect` is said where we wait for the answer to it ourselves.
pub(super) fn request(
    out: &mut Vec<u8>,
    (method, target): (&str, &str),
    map: &HeaderMap,
    body: Framing,
    (expects, about): (bool, Connection),
    identity: &IdentityHeaders,
) {
    out.reserve(1024);
    [method, " ", target, " HTTP/1.1\r\n"].iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    fields(out, map, |name| !expects && name == header::EXPECT);
    framing(out, body, map, identity);
    connection(out, about);
}

/// The head of an answer. Fields that its `Connection` names are of the connection and stay behind.
pub(super) fn answer(
    out: &mut Vec<u8>,
    status: StatusCode,
    map: &HeaderMap,
    body: Framing,
    about: Connection,
    identity: &IdentityHeaders,
) {
    out.reserve(1024);
    status_line(out, status);
    let named = if map.contains_key(header::CONNECTION) { named(map) } else { Vec::new() };
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

fn status_line(out: &mut Vec<u8>, status: StatusCode) {
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
