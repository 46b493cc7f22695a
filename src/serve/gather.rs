//! Gathers the facts of a request: pingora's header → `decide::Request` and `Facts`, or a refusal.
use crate::config::settings::{ClientHeader, Listener};
use crate::serve::listener::ConnInfo;
use decide::facts::{Body, Facts, Person, Protocol, RequestId};
use decide::refusal::{Code, Refusal};
use decide::request::Request;
use decide::{forwarded, head, site};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use pingora_proxy::Session;

/// Names of the headers that Moat itself sets towards applications; a client's header that differs from one of them
/// only by underscores would reach many applications as the same variable.
pub const OURS: &[&str] = &[
    "forwarded",
    "moat-assertion",
    "traceparent",
    "tracestate",
    "x-csp-nonce",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
    "x-tenant-id",
    "x-user-id",
    "x-user-roles",
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
/// `method.not-allowed`.
pub fn gather(session: &mut Session, conn: &ConnInfo, listener: &Listener, stamp: Stamp) -> Result<(Request, Facts), Refusal> {
    let h2 = session.is_http2();
    let present = !session.is_body_empty();
    let upgrade = session.is_upgrade_req();
    let header = session.req_header();
    let headers = &header.headers;
    if h2 {
        let authority = header.uri.authority().map(|a| a.as_str());
        let fields = headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        head::check_fields(fields, authority, &listener.head)?;
    }
    for name in headers.keys() {
        if head::is_twin(name.as_str(), OURS) {
            return Err(Refusal::new(Code::RequestAmbiguous, format!("header `{name}` is the underscore twin of one of ours")));
        }
    }
    let text = |bytes: &[u8]| {
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Refusal::new(Code::RequestMalformed, "the target is not ASCII"))
    };
    let target = text(header.raw_path())?;
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (header.uri.authority().filter(|_| h2), hosts.next(), hosts.next()) {
        (_, _, Some(_)) => return Err(Refusal::new(Code::RequestAmbiguous, "Host is repeated")),
        (Some(authority), _, _) => authority.as_str(),
        (None, Some(host), None) => {
            host.to_str().map_err(|_| Refusal::new(Code::RequestMalformed, "Host is not ASCII"))?
        }
        (None, None, None) => return Err(Refusal::new(Code::RequestAmbiguous, "Host is missing")),
    };
    let request = Request::parse(header.method.as_str(), &target, host)?;
    let all = |name: &http::HeaderName| headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect::<Vec<_>>();
    let peer = conn.peer.ip();
    let client = if conn.trusted_peer {
        match listener.client_header {
            ClientHeader::XForwardedFor => forwarded::client_xff(peer, &listener.trusted, &all(&X_FORWARDED_FOR))?,
            ClientHeader::Forwarded => forwarded::client_forwarded(peer, &listener.trusted, &all(&http::header::FORWARDED))?,
        }
    } else {
        peer.to_canonical()
    };
    let secure = conn.tls.is_some();
    let body = Body {
        length: headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok()),
        present,
        content_type: headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(media_type),
    };
    let facts = Facts {
        at_ms: stamp.at_ms,
        id: stamp.id,
        client: Person(client),
        listener: conn.listener.clone(),
        protocol: if h2 { Protocol::Http2 } else { Protocol::Http1 },
        tls: conn.tls.clone(),
        site: site::read(headers, secure, &request.host, request.port),
        body,
        upgrade,
    };
    Ok((request, facts))
}

const X_FORWARDED_FOR: http::HeaderName = http::HeaderName::from_static("x-forwarded-for");

/// `type/subtype`, lowercase, without parameters (RFC 9110, 8.3.1).
fn media_type(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
