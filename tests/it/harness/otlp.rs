//! Spans as they arrive: a reader of protobuf that knows nothing of the gateway's own messages, only the numbers in
//! `opentelemetry/proto/trace/v1/trace.proto`.
use super::{PATIENCE, Seen, Upstream};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Map, Value, json};
use std::io::Read;
use std::net::SocketAddr;
use std::time::Instant;

/// One span.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    /// 2 is server, 3 is client.
    pub kind: u64,
    pub start: u64,
    pub end: u64,
    pub attributes: Map<String, Value>,
    /// Name and attributes.
    pub events: Vec<(String, Map<String, Value>)>,
    /// Trace and span.
    pub links: Vec<(String, String)>,
    /// 2 is an error.
    pub status: u64,
    /// Attributes of the resource.
    pub resource: Map<String, Value>,
}

impl Span {
    pub fn said(&self, key: &str) -> &str {
        self.attributes.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("no {key} in {self:#?}"))
    }
}

/// What spans are sent to in the end.
pub struct Sink {
    upstream: Upstream,
}

impl Sink {
    pub async fn start() -> Sink {
        Sink { upstream: Upstream::answering(|_| Response::new(Full::new(Bytes::new()))).await }
    }

    pub fn address(&self) -> SocketAddr {
        self.upstream.address
    }

    /// Posts so far.
    pub fn posts(&self) -> Vec<Seen> {
        self.upstream.seen()
    }

    /// The message of a post; collectors compress what they send on.
    pub fn body(post: &Seen) -> Vec<u8> {
        let mut message = Vec::new();
        match post.header("content-encoding").as_deref() {
            Some("gzip") => drop(flate2::read::GzDecoder::new(&*post.body).read_to_end(&mut message).unwrap()),
            None => message.extend_from_slice(&post.body),
            Some(other) => panic!("{other}"),
        }
        message
    }

    pub fn spans(&self) -> Vec<Span> {
        self.posts().iter().flat_map(|post| spans(&Self::body(post))).collect()
    }

    /// Waits for this many spans of the request with this id, parents first.
    pub async fn spans_of(&self, request: impl AsRef<str>, count: usize) -> Vec<Span> {
        let request = request.as_ref();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = self.spans();
            let server = all.iter().find(|span| span.attributes.get("moat.request_id") == Some(&json!(request)));
            if let Some(server) = server {
                let below = all.iter().filter(|span| span.parent == server.id);
                let found: Vec<Span> = std::iter::once(server).chain(below).cloned().collect();
                if found.len() == count {
                    return found;
                }
            }
            assert!(Instant::now() < deadline, "no {count} spans of {request} among {all:#?}");
            tokio::task::yield_now().await;
        }
    }
}

/// The spans of an ExportTraceServiceRequest.
pub fn spans(message: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource_spans in all(message, 1) {
        let resource = all(&resource_spans, 1).first().map(|resource| attributes(resource, 1)).unwrap_or_default();
        for scope_spans in all(&resource_spans, 2) {
            spans.extend(all(&scope_spans, 2).iter().map(|message| span(message, &resource)));
        }
    }
    spans
}

fn span(message: &[u8], resource: &Map<String, Value>) -> Span {
    Span {
        trace: hex(message, 1),
        id: hex(message, 2),
        parent: hex(message, 4),
        name: text(message, 5),
        kind: number(message, 6),
        start: number(message, 7),
        end: number(message, 8),
        attributes: attributes(message, 9),
        events: all(message, 11).iter().map(|event| (text(event, 2), attributes(event, 3))).collect(),
        links: all(message, 13).iter().map(|link| (hex(link, 1), hex(link, 2))).collect(),
        status: all(message, 15).first().map(|status| number(status, 3)).unwrap_or_default(),
        resource: resource.clone(),
    }
}

fn attributes(message: &[u8], field: u64) -> Map<String, Value> {
    let pair = |pair: &Vec<u8>| {
        let value = all(pair, 2).into_iter().next().unwrap_or_default();
        let value = match fields(&value).into_iter().next() {
            Some((1, Field::Bytes(text))) => json!(String::from_utf8(text).unwrap()),
            Some((2, Field::Number(flag))) => json!(flag == 1),
            Some((3, Field::Number(number))) => json!(number),
            other => panic!("an attribute with {other:?}"),
        };
        (text(pair, 1), value)
    };
    all(message, field).iter().map(pair).collect()
}

#[derive(Debug)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                Field::Bytes(take(&mut bytes, length).to_vec())
            }
            5 => Field::Number(u64::from(u32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap()))),
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, field));
    }
    found
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn all(message: &[u8], field: u64) -> Vec<Vec<u8>> {
    let wanted = |(number, value)| match value {
        Field::Bytes(bytes) if number == field => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(wanted).collect()
}

fn number(message: &[u8], field: u64) -> u64 {
    let wanted = |(number, value)| match value {
        Field::Number(value) if number == field => Some(value),
        _ => None,
    };
    fields(message).into_iter().find_map(wanted).unwrap_or_default()
}

fn text(message: &[u8], field: u64) -> String {
    all(message, field).pop().map(|text| String::from_utf8(text).unwrap()).unwrap_or_default()
}

fn hex(message: &[u8], field: u64) -> String {
    all(message, field).pop().unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect()
}
