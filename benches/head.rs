//! What reading a head costs: a request's and an answer's grammar, its fields, and the one reading of its target.
#![expect(clippy::expect_used, reason = "a bench that cannot be set up should stop")]
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use decide::head::{HeadLimits, check};
use decide::reply;
use decide::request::Request;
use std::hint::black_box;

/// A request as browsers' applications send it, with a token of usual length.
fn request_head() -> Vec<u8> {
    let lines = [
        "GET /api/orders/7f6c1d0e-5a0b-4f7e-9b57-3f2f8b8f0c11/lines?page=2 HTTP/1.1",
        "host: acme.northlane.example",
        "user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
        "accept: application/json, text/plain, */*",
        "accept-language: en-GB,en;q=0.9",
        "accept-encoding: gzip, deflate, br, zstd",
        "referer: https://acme.northlane.example/orders",
        "sec-fetch-dest: empty",
        "sec-fetch-mode: cors",
        "sec-fetch-site: same-origin",
    ];
    let token = format!("authorization: Bearer {}", "x".repeat(700));
    [lines.join("\r\n"), token, "\r\n".to_owned()].join("\r\n").into_bytes()
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nserver: app\r\ndate: Sat, 21 Nov 2026 00:00:00 GMT\r\n\
    content-type: application/json; charset=utf-8\r\ncontent-length: 1024\r\netag: \"5f2c\"\r\nvary: accept\r\n\r\n";

fn heads(c: &mut Criterion) {
    let (head, limits) = (request_head(), HeadLimits::default());
    let view = check(&head, &limits).expect("a good head");
    let mut group = c.benchmark_group("head");
    group.throughput(Throughput::Bytes(head.len() as u64));
    group.bench_function("request, checked", |b| b.iter(|| check(black_box(&head), &limits).is_ok()));
    group.bench_function("request, its fields again", |b| b.iter(|| black_box(&view).fields().count()));
    group.throughput(Throughput::Bytes(ANSWER.len() as u64));
    group.bench_function("answer, checked", |b| b.iter(|| reply::check(black_box(ANSWER), 200).is_ok()));
    group.throughput(Throughput::Bytes(view.target.len() as u64));
    group.bench_function("target and host, read", |b| {
        b.iter(|| Request::parse("GET", black_box(view.target), black_box(view.host)).is_ok())
    });
    group.finish();
}

criterion_group!(benches, heads);
criterion_main!(benches);
