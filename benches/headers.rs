//! What dressing a response costs, and what the edits of a request cost.
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use decide::facts::RequestId;
use decide::headers::options::HeadersFile;
use decide::headers::request::{IdentityHeaders, Origin, Outbound, Presented, edit};
use decide::headers::{DressContext, Nonce, Profile, TraceParent, Values, dress};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, StatusCode};
use std::net::{IpAddr, Ipv4Addr};

fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

#[expect(clippy::unwrap_used, reason = "a bench may fail loudly when the repository's profiles do not compile")]
fn response(c: &mut Criterion) {
    let file: HeadersFile = serde_yaml::from_str(include_str!("../policies/headers.yaml")).unwrap();
    let profiles = Profile::compile_all(&file).unwrap();
    let answer = map(&[
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", "1024"),
        ("date", "Sat, 21 Nov 2026 00:00:00 GMT"),
        ("server", "nginx"),
        ("cache-control", "max-age=0"),
        ("etag", "\"abc\""),
    ]);
    let nonce = Nonce::new([9; 16]);
    for (name, profile) in &profiles {
        let nonce = profile.needs_nonce().then_some(&nonce);
        let cx = DressContext {
            tls: true,
            now_s: 1,
            status: StatusCode::OK,
            authenticated: true,
            nonce,
            embed_origins: &[],
        };
        c.bench_function(&format!("dress/{name}"), |b| {
            b.iter_batched_ref(|| answer.clone(), |fields| dress(fields, profile, &cx), BatchSize::SmallInput)
        });
    }
}

fn request(c: &mut Criterion) {
    let headers = IdentityHeaders::default();
    let inbound = map(&[
        ("host", "acme.northlane.example"),
        ("user-agent", "Mozilla/5.0"),
        ("accept", "text/html"),
        ("accept-encoding", "gzip, br"),
        ("authorization", "Bearer x"),
        ("sec-fetch-site", "same-origin"),
        ("cookie", "a=1; b=2"),
    ]);
    let outbound = Outbound {
        request_id: RequestId(7),
        tenant: Some("acme"),
        identity: None,
        assertion: None,
        nonce: None,
        origin: Origin {
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            hops: &[],
            https: true,
            authority: b"acme.northlane.example",
        },
        trace: (TraceParent::begin([3; 24], 0), false),
        presented: Presented { bearer: true, ..Presented::default() },
        certificates: None,
    };
    c.bench_function("edit", |b| {
        b.iter_batched_ref(
            || inbound.clone(),
            |fields| edit(fields, &headers, &outbound, &mut Values::default()),
            BatchSize::SmallInput,
        )
    });
}

criterion_group!(benches, response, request);
criterion_main!(benches);
