//! Gathers the facts of a request: its head → `decide::Request` and `Facts`, or a refusal.
use crate::config::settings::{Edge, Listener};
use crate::serve::admit::Asked;
use crate::serve::listener::{ConnInfo, Glimpse};
use decide::edge;
use decide::facts::{Body, Facts, Person, Protocol, RequestId};
use decide::fields::{check_fields, twin_of};
use decide::forwarded::{self, ClientHeader};
use decide::headers::request::IdentityHeaders;
use decide::refusal::{Code, Refusal};
use decide::request::Request;
use decide::site::{self, Own, Said};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, FORWARDED, HOST, ORIGIN, REFERER};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Names that are ours besides the configured ones; a client's header that differs from one of them only by marks would
/// reach many applications as the same variable.
const OURS: [&str; 10] = [
    "content-length",
    "content-type",
    "forwarded",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
];

/// Clock and id of one request.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The request's id.
    pub id: RequestId,
}

/// Reads the request once. The refusals are `request.malformed`, `request.ambiguous`, `request.too-large` and
/// `method.not-allowed`. Heads of HTTP/1 have passed `decide::head` before; the fields of HTTP/2 are checked here.
pub fn gather(
    asked: &Asked<'_>,
    conn: &ConnInfo,
    listener: &Listener,
    identity: &IdentityHeaders,
    stamp: Stamp,
) -> Result<(Request, Facts), Refusal> {
    conn.admitted_to(listener)?;
    let headers = asked.headers;
    let malformed = |cause: &'static str| Refusal::new(Code::RequestMalformed, cause);
    let host = match asked.protocol {
        Protocol::Http2 => {
            let fields = headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
            check_fields(asked.authority, fields, &listener.head)?.host
        }
        Protocol::Http1 => {
            let host = headers.get(HOST).ok_or_else(|| Refusal::new(Code::RequestAmbiguous, "Host is missing"))?;
            host.to_str().map_err(|_| malformed("Host is not ASCII"))?
        }
    };
    let ours = || OURS.into_iter().chain(identity.names().iter().chain(identity.edges()).map(HeaderName::as_str));
    let is_twin = |name: &[u8]| twin_of(name, ours());
    if let Some(twin) = headers.keys().find(|name| is_twin(name.as_str().as_bytes())) {
        return Err(Refusal::new(Code::RequestAmbiguous, format!("header `{twin}` is a twin of one of ours")));
    }
    let target = std::str::from_utf8(asked.target).map_err(|_| malformed("the target is not ASCII"))?;
    let request = Request::parse(asked.method, target, host)?;
    let one = |name: http::HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    let lines = match listener.client_header {
        ClientHeader::XForwardedFor => headers.get_all(X_FORWARDED_FOR),
        ClientHeader::Forwarded => headers.get_all(FORWARDED),
    };
    let lines = lines.iter().map(HeaderValue::as_bytes);
    let client = match listener.edge.as_deref() {
        _ if conn.own_hop => conn.peer.ip().to_canonical(),
        Some(Edge { header: Some(name), .. }) => edge::client(headers.get_all(name).iter().map(HeaderValue::as_bytes))?,
        Some(Edge { hops, .. }) => forwarded::client(conn.peer.ip(), hops, listener.client_header, lines),
        None => forwarded::client(conn.peer.ip(), &listener.trusted, listener.client_header, lines),
    };
    let scheme = if conn.tls.is_some() { "https" } else { "http" };
    let own = Own { scheme, host: &request.host, port: request.port };
    let facts = Facts {
        at_ms: stamp.at_ms,
        id: stamp.id,
        client: Person(client),
        listener: conn.listener.clone(),
        protocol: asked.protocol,
        tls: conn.tls.clone(),
        site: site::read(
            &own,
            &Said {
                fetch_site: one(SEC_FETCH_SITE),
                fetch_mode: one(SEC_FETCH_MODE),
                fetch_dest: one(SEC_FETCH_DEST),
                origin: one(ORIGIN),
                referer: one(REFERER),
            },
        ),
        body: Body {
            length: headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok()),
            present: asked.body,
            content_type: headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(media_type),
        },
        upgrade: asked.upgrade,
    };
    Ok((request, facts))
}

/// What the entry of an unreadable request can say: bounded, and never the query.
pub fn glimpse(method: &str, target: &[u8], authority: Option<&str>, headers: &HeaderMap) -> Glimpse {
    let bounded = |text: &str| text.chars().take(256).collect::<String>();
    let target = String::from_utf8_lossy(target);
    Glimpse {
        method: Some(bounded(method)),
        host: match headers.get(HOST) {
            Some(host) => Some(bounded(&String::from_utf8_lossy(host.as_bytes()))),
            None => authority.map(bounded),
        },
        path: target.split('?').next().map(bounded),
    }
}

const SEC_FETCH_SITE: http::HeaderName = http::HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: http::HeaderName = http::HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: http::HeaderName = http::HeaderName::from_static("sec-fetch-dest");
const X_FORWARDED_FOR: http::HeaderName = http::HeaderName::from_static("x-forwarded-for");

/// `type/subtype`, lowercase, without parameters (RFC 9110, 8.3.1).
fn media_type(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
