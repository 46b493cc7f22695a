//! What a request costs: more than one, what the application says, its bytes, or nothing where it went well.
use super::{limited, over};
use crate::harness::{Bundle, Gateway, Upstream};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;

/// An application that does what the query says: `status`, `cost` (of `x-cost`), `bytes`.
async fn application() -> Upstream {
    Upstream::answering(|seen| {
        let said = |name: &str| {
            let query = seen.target.split_once('?').map_or("", |(_, query)| query);
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
        };
        let mut answer = Response::builder().status(said("status").map_or(200, |status| status.parse().unwrap()));
        if let Some(cost) = said("cost") {
            answer = answer.header("x-cost", cost);
        }
        let length = said("bytes").map_or(0, |bytes| bytes.parse().unwrap());
        answer.body(Full::from(Bytes::from(vec![b'x'; length]))).unwrap()
    })
    .await
}

async fn answers(gateway: &Gateway, h2: bool, targets: &[&str]) -> Vec<u16> {
    let mut answers = Vec::new();
    for target in targets {
        let reply = over(h2, gateway.get(&format!("https://acme.localhost{target}"))).send().await;
        assert_eq!(reply.header("x-cost"), None, "the client must not see it");
        answers.push(reply.status);
    }
    answers
}

#[tokio::test]
async fn requests_are_charged_what_they_cost() {
    for h2 in [false, true] {
        let upstream = application().await;
        let bundle = Bundle::standard(upstream.address);
        limited(&bundle, "dear", "{key: [client.ip_prefix], rate: 10/h, burst: 10, cost: 4}");
        limited(
            &bundle,
            "said",
            "{key: [client.ip_prefix], rate: 10/h, burst: 10, cost: {by_response: {header: X-Cost, max: 50}}}",
        );
        limited(
            &bundle,
            "long",
            "{key: [client.ip_prefix], rate: 10/h, burst: 10, cost: {by_response: {bytes: 1KiB, max: 50}}}",
        );
        limited(&bundle, "fails", "{key: [client.ip_prefix], rate: 2/h, burst: 2, count: failures}");
        limited(&bundle, "forms", "{key: [client.ip_prefix], rate: 2/h, burst: 2, count: [200, 4xx]}");
        limited(&bundle, "listed", "{key: [client.ip_prefix], rate: 10/h, burst: 10}");
        bundle.replace("rate_limits: [listed]", "rate_limits: [{limit: listed, cost: 6}]");
        limited(
            &bundle,
            "quiet",
            "{key: [client.ip_prefix], rate: 1/h, burst: 1, shadow: true, cost: {by_response: {header: x-cost, max: 9}}}",
        );
        let gateway = Gateway::start(bundle).await;
        let answers = async |targets: &[&str]| answers(&gateway, h2, targets).await;
        assert_eq!(answers(&["/dear", "/dear", "/dear"]).await, [200, 200, 429], "h2: {h2}");
        assert_eq!(answers(&["/listed", "/listed"]).await, [200, 429], "h2: {h2}");
        assert_eq!(answers(&["/said?cost=0"; 12]).await, [200; 12], "free, as often as one likes; h2: {h2}");
        assert_eq!(answers(&["/said?cost=4", "/said?cost=30", "/said"]).await, [200, 200, 429], "h2: {h2}");
        assert_eq!(answers(&["/long?bytes=3000", "/long?bytes=9000", "/long"]).await, [200, 200, 429], "h2: {h2}");
        assert_eq!(answers(&["/fails"; 5]).await, [200; 5], "h2: {h2}");
        assert_eq!(answers(&["/fails?status=401", "/fails?status=503", "/fails"]).await, [401, 503, 429], "h2: {h2}");
        assert_eq!(answers(&["/forms?status=302"; 4]).await, [302; 4], "h2: {h2}");
        assert_eq!(answers(&["/forms", "/forms?status=403", "/forms?status=302"]).await, [200, 403, 429], "h2: {h2}");
        assert_eq!(answers(&["/quiet?cost=9"; 3]).await, [200; 3], "h2: {h2}");
    }
}

#[tokio::test]
async fn a_request_that_ends_without_an_answer_costs_what_was_reserved() {
    let (gateway, _upstream) = crate::harness::with(|bundle: &mut Bundle| {
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        bundle.replace("upstreams:\n", &format!("upstreams:\n  dead: {{endpoints: [\"{dead}\"]}}\n"));
        limited(bundle, "lost", "{key: [client.ip_prefix], rate: 2/h, burst: 2, count: failures}");
        let text = bundle.read("gateway.yaml");
        let (before, lost) = text.split_once("  lost:\n").unwrap();
        bundle.write("gateway.yaml", &format!("{before}  lost:\n{}", lost.replace("upstream: app", "upstream: dead")));
    })
    .await;
    assert_eq!(answers(&gateway, false, &["/lost"; 3]).await, [502, 502, 429]);
}

#[tokio::test]
async fn clients_are_told_in_the_old_names_too_where_it_is_asked_for() {
    let (gateway, _upstream) = crate::harness::with(|bundle: &mut Bundle| {
        limited(bundle, "told", "{key: [client.ip_prefix], rate: 6/m, burst: 2}");
        let limits = bundle.read("policies/rate-limits.yaml");
        bundle.write("policies/rate-limits.yaml", &format!("{limits}defaults: {{headers: legacy}}\n"));
    })
    .await;
    for h2 in [false, true] {
        let reply = over(h2, gateway.get("https://acme.localhost/told")).send().await;
        let left = if h2 { "0" } else { "1" };
        assert_eq!(reply.header("x-ratelimit-limit").as_deref(), Some("2"));
        assert_eq!(reply.header("x-ratelimit-remaining").as_deref(), Some(left));
        let reset: u32 = reply.header("x-ratelimit-reset").unwrap().parse().unwrap();
        assert!((1..=20).contains(&reset), "{reset}");
        assert!(reply.header("ratelimit").is_some_and(|field| field.starts_with(&format!("\"told\";r={left};"))));
    }
    let refused = gateway.get("https://acme.localhost/told").send().await;
    assert_eq!((refused.status, refused.header("x-ratelimit-remaining").as_deref()), (429, Some("0")));
}
