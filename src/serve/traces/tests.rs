//! Spans as they are made: words, parents, links, what is not said.
use super::otlp::{Span, Value};
use super::{Forwarding, Place, Record, Traces, spans};
use crate::config::settings::{self, Collector};
use crate::serve::metrics::Metrics;
use decide::deliberation::{Trail, Verdict};
use decide::facts::{Protocol, RequestId, TlsFacts};
use decide::guards::Guard;
use decide::headers::TraceParent;
use decide::refusal::Code;
use decide::request::Method;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;

const INBOUND: TraceParent = TraceParent { trace: 0xabc, span: 0xdef, sampled: true };

fn settings(sample_ppm: u32, trust_inbound: bool) -> settings::Traces {
    let url = "http://127.0.0.1:4318/v1/traces".parse().unwrap();
    let collector = Some(Arc::new(Collector { url, ca: None, headers: Vec::new() }));
    settings::Traces { collector, sample_ppm, trust_inbound, client_address: true }
}

fn record() -> Record {
    Record {
        place: Place::at_edge(&settings(1_000_000, false), [7; 32], None, false),
        id: RequestId(0x019a_a2f0_1234_7abc_8def_0123_4567_89ab),
        at_ms: 1_763_690_000_123,
        duration: Duration::from_micros(1500),
        listener: Arc::from("public"),
        client: Some("203.0.113.9".parse().unwrap()),
        method: Some(Method::Get),
        host: Some((Arc::from("acme.example.com"), Some(8443))),
        route: Some((Arc::from("api-read"), Arc::from("/api/orders/{id}"))),
        tenant: Some(Arc::from("acme")),
        protocol: Some(Protocol::Http2),
        tls: Some(Arc::new(TlsFacts {
            version: "1.3".to_owned(),
            cipher: "TLS13_AES_256_GCM_SHA384".to_owned(),
            group: "X25519MLKEM768".to_owned(),
            server_name: None,
            resumed: false,
        })),
        status: 200,
        code: None,
        trail: Trail::from_iter([(Guard::Network, Verdict::Skip), (Guard::Session, Verdict::Pass)]),
        forwarding: Some(Forwarding {
            upstream: Arc::from("api"),
            endpoint: Some("10.0.0.2:8080".parse().unwrap()),
            after: Duration::from_micros(200),
            waited: Some(Duration::from_micros(1000)),
            status: Some(200),
            resent: 1,
            tried: vec![(Duration::from_micros(300), "10.0.0.1:8080".parse().unwrap())],
        }),
    }
}

fn spans_of(record: Record) -> Vec<Span> {
    let request = spans::request("edge-1", &[record]);
    let bytes = request.encode_to_vec();
    let again = super::otlp::ExportTraceServiceRequest::decode(&*bytes).unwrap();
    assert_eq!(again, request);
    again.resource_spans.into_iter().flat_map(|all| all.scope_spans).flat_map(|scope| scope.spans).collect()
}

fn said(span: &Span, key: &str) -> Option<String> {
    let mut values = span.attributes.iter().filter(|attribute| attribute.key == key);
    let value = values.next()?.value.clone()?.value?;
    assert!(values.next().is_none(), "{key} twice");
    Some(match value {
        Value::Text(text) => text,
        Value::Flag(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
    })
}

#[test]
fn a_forwarded_request_makes_a_server_span_and_a_client_span_below_it() {
    let spans = spans_of(record());
    let [server, client] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!((server.name.as_str(), client.name.as_str()), ("GET /api/orders/{id}", "GET"));
    assert_eq!((server.kind, client.kind), (2, 3));
    assert_eq!(server.trace_id, client.trace_id);
    assert_eq!(client.parent_span_id, server.span_id);
    assert_ne!(client.span_id, server.span_id);
    assert!(server.parent_span_id.is_empty() && server.links.is_empty() && server.status.is_none());
    assert_eq!((server.flags, client.flags), (0x001, 0x101));
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/api/orders/{id}"),
        ("url.path", "/api/orders/{id}"),
        ("url.scheme", "https"),
        ("http.response.status_code", "200"),
        ("server.address", "acme.example.com"),
        ("server.port", "8443"),
        ("client.address", "203.0.113.9"),
        ("network.protocol.version", "2"),
        ("tls.protocol.version", "1.3"),
        ("tls.curve", "X25519MLKEM768"),
        ("moat.tenant", "acme"),
        ("moat.route", "api-read"),
        ("moat.upstream", "api"),
        ("moat.request_id", "019aa2f0-1234-7abc-8def-0123456789ab"),
    ] {
        assert_eq!(said(server, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(said(server, "error.type"), None);
    assert_eq!(said(client, "network.peer.address").as_deref(), Some("10.0.0.2"));
    assert_eq!(said(client, "http.request.resend_count").as_deref(), Some("1"));
    let start = 1_763_690_000_123_000_000;
    assert_eq!((server.start_time_unix_nano, server.end_time_unix_nano), (start, start + 1_500_000));
    assert_eq!((client.start_time_unix_nano, client.end_time_unix_nano), (start + 200_000, start + 1_500_000));
    let events: Vec<_> = client.events.iter().map(|e| (e.name.as_str(), e.time_unix_nano - start)).collect();
    assert_eq!(events, [("moat.endpoint.failed", 300_000), ("moat.response.head", 1_200_000)]);
}

#[test]
fn a_refusal_is_no_error_of_the_server_and_says_its_code_and_guard() {
    let refused = Record {
        status: 403,
        code: Some(Code::TenantMismatch),
        trail: Trail::from_iter([
            (Guard::Csrf, Verdict::Shadow(Code::CsrfUnproven)),
            (Guard::Tenant, Verdict::Refuse(Code::TenantMismatch)),
        ]),
        forwarding: None,
        ..record()
    };
    let spans = spans_of(refused);
    let [server] = spans.as_slice() else { panic!("{spans:?}") };
    assert!(server.status.is_none());
    assert_eq!(said(server, "error.type").as_deref(), Some("tenant.mismatch"));
    let events: Vec<String> = server
        .events
        .iter()
        .map(|event| {
            let all = Span { attributes: event.attributes.clone(), ..Span::default() };
            ["moat.guard", "moat.code", "moat.mode"].map(|key| said(&all, key).unwrap()).join(" ")
        })
        .collect();
    assert_eq!(events, ["csrf csrf.unproven shadow", "tenant tenant.mismatch enforce"]);
}

#[test]
fn failures_are_errors_with_the_code_of_their_kind() {
    let failed = |status, code, answered: Option<u16>| {
        let forwarding = Forwarding { status: answered, ..record().forwarding.unwrap() };
        let spans = spans_of(Record { status, code, forwarding: Some(forwarding), ..record() });
        let of = |span: &Span| (span.status.as_ref().map(|s| s.code), said(span, "error.type"));
        (of(&spans[0]), of(&spans[1]))
    };
    let error = |word: &str| (Some(2), Some(word.to_owned()));
    let fine = (None, None);
    assert_eq!(failed(200, None, Some(200)), (fine.clone(), fine.clone()));
    assert_eq!(failed(404, None, Some(404)), (fine.clone(), error("404")));
    assert_eq!(failed(500, None, Some(500)), (error("500"), error("500")));
    let (code, word) = (Some(Code::UpstreamTimeout), "upstream.timeout");
    assert_eq!(failed(504, code, None), (error(word), error(word)));
    assert_eq!(failed(0, None, None), (error("disconnected"), error("disconnected")));
}

#[test]
fn what_a_client_names_is_linked_and_only_a_trusted_hop_is_continued() {
    let place = |trust, hop| Place::at_edge(&settings(0, trust), [7; 32], Some(INBOUND), hop);
    for (trust, hop) in [(false, false), (false, true), (true, false)] {
        let place = place(trust, hop);
        assert!(!place.continued && place.server.trace != INBOUND.trace && !place.server.sampled, "{trust} {hop}");
        let spans = spans_of(Record { place, ..record() });
        assert_eq!((spans[0].links.len(), spans[0].parent_span_id.len()), (1, 0));
        assert_eq!(spans[0].links[0].trace_id, INBOUND.trace.to_be_bytes());
        assert_eq!((spans[0].links[0].flags, spans[0].flags), (0x301, 0x000));
    }
    let place = place(true, true);
    let (onward, continued) = place.onward();
    assert!(continued && onward.sampled, "the hop decided that it is recorded");
    assert_eq!((onward.trace, onward.span), (INBOUND.trace, place.client));
    let spans = spans_of(Record { place, ..record() });
    assert_eq!(spans[0].parent_span_id, INBOUND.span.to_be_bytes());
    assert_eq!((spans[0].links.len(), spans[0].flags), (0, 0x301));
    assert_eq!(spans[1].span_id, onward.span.to_be_bytes());
}

#[test]
fn the_share_is_decided_by_the_trace_alone() {
    let share = |ppm| {
        let sampled = |n: u32| {
            let mut seed = [0; 32];
            seed.chunks_exact_mut(4).zip(1_u32..).for_each(|(part, i)| {
                part.copy_from_slice(
                    &n.wrapping_mul(0x9E37_79B9).wrapping_add(i).wrapping_mul(0x85EB_CA6B).to_be_bytes(),
                );
            });
            let at = |ppm| Place::at_edge(&settings(ppm, false), seed, None, false);
            assert_eq!(at(ppm), at(ppm));
            at(ppm).server.sampled
        };
        (0..10_000).filter(|n| sampled(*n)).count()
    };
    assert_eq!((share(0), share(1_000_000)), (0, 10_000));
    assert!((50..200).contains(&share(10_000)), "{}", share(10_000));
    let off = settings::Traces::default();
    assert!(Place::at_edge(&off, [7; 32], None, false).server.sampled, "without a collector the application decides");
}

#[tokio::test]
async fn what_finds_no_room_is_counted_and_not_even_made() {
    let metrics = Metrics::new(10).unwrap();
    let (traces, exporter) = Traces::new(metrics.traces());
    (0..super::QUEUE).for_each(|_| traces.push(2, record));
    traces.push(2, || panic!("there is no room for it"));
    let text = String::from_utf8(metrics.render().unwrap()).unwrap();
    assert!(text.contains("moat_trace_spans_total{result=\"dropped\"} 2\n"), "{text}");
    drop(exporter);
}
