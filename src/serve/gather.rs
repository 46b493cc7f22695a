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
use http::header::{FORWARDED, HOST};
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
    let heard = Heard::of(headers, identity);
    let malformed = |cause: &'static str| Refusal::new(Code::RequestMalformed, cause);
    let host = match asked.protocol {
        Protocol::Http2 => {
            let fields = headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
            check_fields(asked.authority, fields, &listener.head)?.host
        }
        Protocol::Http1 => {
            let host = heard.host.ok_or_else(|| Refusal::new(Code::RequestAmbiguous, "Host is missing"))?;
            host.to_str().map_err(|_| malformed("Host is not ASCII"))?
        }
    };
    if let Some(twin) = heard.twin {
        return Err(Refusal::new(Code::RequestAmbiguous, format!("header `{twin}` is a twin of one of ours")));
    }
    let target = std::str::from_utf8(asked.target).map_err(|_| malformed("the target is not ASCII"))?;
    let request = Request::parse(asked.method, target, host)?;
    let name = match listener.client_header {
        ClientHeader::XForwardedFor => X_FORWARDED_FOR,
        ClientHeader::Forwarded => FORWARDED,
    };
    // Looked for only where the peer is trusted.
    let lines = std::iter::once(name).flat_map(|name| headers.get_all(name)).map(HeaderValue::as_bytes);
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
                fetch_site: heard.fetch_site.map(HeaderValue::as_bytes),
                fetch_mode: heard.fetch_mode.map(HeaderValue::as_bytes),
                fetch_dest: heard.fetch_dest.map(HeaderValue::as_bytes),
                origin: heard.origin.map(HeaderValue::as_bytes),
                referer: heard.referer.map(HeaderValue::as_bytes),
            },
        ),
        body: Body {
            length: heard.content_length.and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok()),
            present: asked.body,
            content_type: heard.content_type.and_then(|v| v.to_str().ok()).map(media_type),
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

/// The fields that facts are made of, each as it stands first.
#[derive(Debug, Default)]
struct Heard<'a> {
    host: Option<&'a HeaderValue>,
    content_length: Option<&'a HeaderValue>,
    content_type: Option<&'a HeaderValue>,
    origin: Option<&'a HeaderValue>,
    referer: Option<&'a HeaderValue>,
    fetch_site: Option<&'a HeaderValue>,
    fetch_mode: Option<&'a HeaderValue>,
    fetch_dest: Option<&'a HeaderValue>,
    /// A name that some readers take for one of ours.
    twin: Option<&'a str>,
}

impl<'a> Heard<'a> {
    /// Goes through the fields once, which costs less than to look for each.
    fn of(headers: &'a HeaderMap, identity: &IdentityHeaders) -> Heard<'a> {
        let ours = || OURS.into_iter().chain(identity.names().iter().chain(identity.edges()).map(HeaderName::as_str));
        let mut heard = Heard::default();
        for (name, value) in headers {
            let place = match name.as_str() {
                "host" => &mut heard.host,
                "origin" => &mut heard.origin,
                "referer" => &mut heard.referer,
                "content-type" => &mut heard.content_type,
                "content-length" => &mut heard.content_length,
                "sec-fetch-site" => &mut heard.fetch_site,
                "sec-fetch-mode" => &mut heard.fetch_mode,
                "sec-fetch-dest" => &mut heard.fetch_dest,
                other => {
                    if twin_of(other.as_bytes(), ours()) {
                        heard.twin.get_or_insert(other);
                    }
                    continue;
                }
            };
            place.get_or_insert(value);
        }
        heard
    }
}

const X_FORWARDED_FOR: http::HeaderName = http::HeaderName::from_static("x-forwarded-for");

/// `type/subtype`, lowercase, without parameters (RFC 9110, 8.3.1).
fn media_type(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
