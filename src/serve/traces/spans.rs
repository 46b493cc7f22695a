//! Records → spans, in the words of OpenTelemetry's semantic conventions for HTTP; our own words begin with `moat.`.
use super::otlp::{
    Event, ExportTraceServiceRequest, KeyValue, Kind, Link, Resource, ResourceSpans, Scope, ScopeSpans, Span, Status,
    StatusCode, attribute,
};
use super::record::{Forwarding, Record};
use decide::deliberation::Verdict;
use decide::facts::Protocol;
use decide::headers::TraceParent;
use decide::refusal::Code;
use decide::request::Method;
use std::time::Duration;

/// `flags`: the parent's or link's context says whether it is remote, and it is.
const REMOTE: u32 = 0x300;
/// `flags`: it says so, and it is not.
const LOCAL: u32 = 0x100;
/// `http.request.method` of what is no known method.
const OTHER: &str = "_OTHER";

/// A batch as it is posted.
pub(super) fn request(instance: &str, records: &[Record]) -> ExportTraceServiceRequest {
    let version = env!("CARGO_PKG_VERSION");
    let mut spans = Vec::with_capacity(records.len() * 2);
    for record in records {
        spans.push(server(record));
        spans.extend(record.forwarding.as_ref().map(|forwarding| client(record, forwarding)));
    }
    let resource = vec![
        attribute("service.name", "moat"),
        attribute("service.version", version),
        attribute("service.instance.id", instance),
    ];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: resource }),
            scope_spans: vec![ScopeSpans {
                scope: Some(Scope { name: "moat".to_owned(), version: version.to_owned() }),
                spans,
            }],
        }],
    }
}

/// The span about the request as its client sees it.
fn server(record: &Record) -> Span {
    let method = record.method.map_or(OTHER, Method::as_str);
    let mut attributes = vec![
        attribute("http.request.method", method),
        attribute("url.scheme", if record.tls.is_some() { "https" } else { "http" }),
        attribute("moat.request_id", record.id.to_string()),
        attribute("moat.listener", &*record.listener),
    ];
    let mut say = |key: &str, value: Option<&str>| attributes.extend(value.map(|value| attribute(key, value)));
    // The path itself may hold names and secrets; the template says which resource it was.
    say("http.route", record.route.as_ref().map(|(_, template)| &**template));
    say("url.path", record.route.as_ref().map(|(_, template)| &**template));
    say("moat.route", record.route.as_ref().map(|(name, _)| &**name));
    say("moat.tenant", record.tenant.as_deref());
    say("moat.upstream", record.forwarding.as_ref().map(|forwarding| &*forwarding.upstream));
    say("server.address", record.host.as_ref().map(|(host, _)| &**host));
    say("client.address", record.client.map(|client| client.to_string()).as_deref());
    say("network.protocol.name", record.protocol.map(|_| "http"));
    say("network.protocol.version", record.protocol.map(version));
    if let Some(tls) = &record.tls {
        say("tls.protocol.name", Some("tls"));
        say("tls.protocol.version", Some(&tls.version));
        say("tls.cipher", Some(&tls.cipher));
        say("tls.curve", Some(&tls.group));
        attributes.push(attribute("tls.resumed", tls.resumed));
    }
    attributes.extend(record.host.as_ref().and_then(|(_, port)| *port).map(|port| attribute("server.port", port)));
    attributes.extend((record.status > 0).then(|| attribute("http.response.status_code", record.status)));
    let failed = record.status >= 500 || (record.status == 0 && record.code.is_none());
    attributes.extend(error_type(record.code, record.status, failed));
    let parent = record.place.parent();
    Span {
        parent_span_id: parent.map(|parent| span_id(parent.span)).unwrap_or_default(),
        // Without a template the name is the method alone, `HTTP` where that could be anything.
        name: match (&record.route, record.method) {
            (Some((_, template)), _) => format!("{method} {template}"),
            (None, Some(_)) => method.to_owned(),
            (None, None) => "HTTP".to_owned(),
        },
        kind: Kind::Server.into(),
        start_time_unix_nano: nanos(record, Duration::ZERO),
        end_time_unix_nano: nanos(record, record.duration),
        attributes,
        events: verdicts(record),
        links: record.place.link().map(link).into_iter().collect(),
        // A refusal with 4xx is the gate working, so it is no error of the server (HTTP conventions, Status).
        status: failed.then(|| Status { code: StatusCode::Error.into() }),
        flags: parent.map_or(flags(record, 0), |_| flags(record, REMOTE)),
        ..span(record, record.place.server.span)
    }
}

/// The span about the call of the application.
fn client(record: &Record, forwarding: &Forwarding) -> Span {
    let method = record.method.map_or(OTHER, Method::as_str);
    let mut attributes =
        vec![attribute("http.request.method", method), attribute("moat.upstream", &*forwarding.upstream)];
    if let Some(endpoint) = forwarding.endpoint {
        let address = endpoint.ip().to_string();
        attributes.extend([
            attribute("server.address", address.as_str()),
            attribute("server.port", endpoint.port()),
            attribute("network.peer.address", address.as_str()),
            attribute("network.peer.port", endpoint.port()),
        ]);
    }
    attributes.extend(record.route.as_ref().map(|(_, template)| attribute("url.template", &**template)));
    let resent = u16::try_from(forwarding.resent).unwrap_or(u16::MAX);
    attributes.extend((resent > 0).then(|| attribute("http.request.resend_count", resent)));
    attributes.extend(forwarding.status.map(|status| attribute("http.response.status_code", status)));
    let failed = forwarding.status.is_none_or(|status| status >= 400);
    let code = record.code.filter(|_| forwarding.status.is_none());
    attributes.extend(error_type(code, forwarding.status.unwrap_or_default(), failed));
    let mut events: Vec<Event> = forwarding
        .tried
        .iter()
        .map(|(after, endpoint)| Event {
            time_unix_nano: nanos(record, *after),
            name: "moat.endpoint.failed".to_owned(),
            attributes: vec![
                attribute("network.peer.address", endpoint.ip().to_string()),
                attribute("network.peer.port", endpoint.port()),
            ],
        })
        .collect();
    events.extend(forwarding.waited.map(|waited| Event {
        time_unix_nano: nanos(record, forwarding.after.saturating_add(waited)),
        name: "moat.response.head".to_owned(),
        attributes: Vec::new(),
    }));
    Span {
        parent_span_id: span_id(record.place.server.span),
        name: method.to_owned(),
        kind: Kind::Client.into(),
        start_time_unix_nano: nanos(record, forwarding.after),
        end_time_unix_nano: nanos(record, record.duration),
        attributes,
        events,
        status: failed.then(|| Status { code: StatusCode::Error.into() }),
        flags: flags(record, LOCAL),
        ..span(record, record.place.client)
    }
}

/// What all spans of a record have in common.
fn span(record: &Record, id: u64) -> Span {
    Span { trace_id: trace_id(record.place.server.trace), span_id: span_id(id), ..Span::default() }
}

/// Verdicts of guards that refused, or would have. They have no clocks; they fall before the request is forwarded.
fn verdicts(record: &Record) -> Vec<Event> {
    let at = nanos(record, record.forwarding.as_ref().map_or(record.duration, |forwarding| forwarding.after));
    let event = |guard: &decide::guards::Guard, code: Code, mode: &str| Event {
        time_unix_nano: at,
        name: "moat.guard.refused".to_owned(),
        attributes: vec![
            attribute("moat.guard", guard.name()),
            attribute("moat.code", code.id()),
            attribute("moat.mode", mode),
        ],
    };
    let refusal = |(guard, verdict): &(decide::guards::Guard, Verdict)| match verdict {
        Verdict::Pass | Verdict::Skip => None,
        Verdict::Shadow(code) => Some(event(guard, *code, "shadow")),
        Verdict::Refuse(code) => Some(event(guard, *code, "enforce")),
    };
    record.trail.iter().filter_map(refusal).collect()
}

/// `error.type`: our code, or the status of a failure; `disconnected` where there is neither.
fn error_type(code: Option<Code>, status: u16, failed: bool) -> Option<KeyValue> {
    match (code, status) {
        (Some(code), _) => Some(attribute("error.type", code.id())),
        (None, _) if !failed => None,
        (None, 0) => Some(attribute("error.type", "disconnected")),
        (None, status) => Some(attribute("error.type", status.to_string())),
    }
}

fn link(to: TraceParent) -> Link {
    Link { trace_id: trace_id(to.trace), span_id: span_id(to.span), flags: REMOTE | u32::from(to.sampled) }
}

fn flags(record: &Record, parent: u32) -> u32 {
    parent | u32::from(record.place.server.sampled)
}

/// Nanoseconds since the Unix epoch, so long after the request's beginning.
fn nanos(record: &Record, after: Duration) -> u64 {
    let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
    record.at_ms.saturating_mul(1_000_000).saturating_add(after)
}

fn trace_id(id: u128) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

fn span_id(id: u64) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

fn version(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "1.1",
        Protocol::Http2 => "2",
    }
}
