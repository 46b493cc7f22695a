//! A limit that slows down instead of refusing.
use super::{limited, over, value};
use crate::harness::{Bundle, Gateway, with};
use std::time::{Duration, Instant};

#[tokio::test]
async fn what_is_too_much_waits_for_its_turn_and_the_entry_says_how_long() {
    for h2 in [false, true] {
        let (gateway, upstream) = with(|bundle: &mut Bundle| {
            limited(
                bundle,
                "slow",
                "{key: [client.ip_prefix], rate: 1/h, burst: 1, on_exceed: {delay: 400ms, waiting: 2}}",
            );
        })
        .await;
        let call = || async {
            let begun = Instant::now();
            let reply = over(h2, gateway.get("https://acme.localhost/slow")).send().await;
            (reply, begun.elapsed())
        };
        let (first, _) = call().await;
        assert_eq!(first.verdict(), "200");
        // The second turn comes 400 ms after the first, which was taken a moment before it asked.
        let (a, b, c, d) = tokio::join!(call(), call(), call(), call());
        let mut all = [a, b, c, d];
        all.sort_by_key(|(reply, took)| (reply.status, *took));
        let statuses = all.each_ref().map(|(reply, _)| reply.status);
        assert_eq!(statuses, [200, 200, 429, 429], "h2: {h2}");
        let [(quick, took), (late, longer), (refused, _), _] = &all;
        assert!(*took >= Duration::from_millis(400) && *longer >= Duration::from_millis(600), "{took:?} {longer:?}");
        assert!(refused.header("retry-after").is_some());
        assert_eq!(upstream.seen().len(), 3, "who waits has not reached the application");
        for (reply, least) in [(quick, 400), (late, 600)] {
            let entry = gateway.outcome(&reply.header("x-request-id").unwrap()).await;
            assert!(
                entry["outcome"]["delayed_ms"].as_u64().is_some_and(|ms| (least..least + 5000).contains(&ms)),
                "{entry}"
            );
        }
        let entry = gateway.outcome(&first.header("x-request-id").unwrap()).await;
        assert_eq!(entry["outcome"].get("delayed_ms"), None, "{entry}");
        assert_eq!(value(&gateway, "moat_ratelimit_delay_seconds_count").await, Some(2.0));
        let delayed =
            "moat_ratelimit_decisions_total{decision=\"delay\",limit=\"slow\",mode=\"enforce\",tenant=\"none\"}";
        assert_eq!(value(&gateway, delayed).await.unwrap_or_default() as u64 + unnamed(&gateway).await, 2);
    }
}

/// Delays of requests whose tenant has a label.
async fn unnamed(gateway: &Gateway) -> u64 {
    let text = gateway.metrics().await;
    let delays = text.lines().filter(|line| line.contains("decision=\"delay\"") && !line.contains("tenant=\"none\""));
    delays.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

#[tokio::test]
async fn who_leaves_while_waiting_never_reaches_the_application() {
    for h2 in [false, true] {
        let (mut gateway, upstream) = with(|bundle: &mut Bundle| {
            limited(bundle, "slow", "{key: [client.ip_prefix], rate: 1/h, burst: 1, on_exceed: {delay: 60s}}");
        })
        .await;
        let waits = |count: f64| async move |g: &Gateway| value(g, "moat_ratelimit_waiting").await == Some(count);
        let post = || over(h2, gateway.post("https://acme.localhost/slow", "{\"a\":1}")).send();
        assert_eq!(post().await.verdict(), "200");
        {
            let second = post();
            tokio::select! {
                reply = second => panic!("answered: {reply:?}"),
                () = gateway.until("it waits", waits(1.0)) => {}
            }
        }
        gateway.until("it has left", waits(0.0)).await;
        assert_eq!(upstream.seen().len(), 1);
        assert_eq!(gateway.stop(), Some(0), "nobody waits for it at the end");
        let left: Vec<_> = crate::harness::outcomes(&gateway)
            .into_iter()
            .filter(|entry| entry["outcome"].get("delayed_ms").is_some())
            .collect();
        assert_eq!(left.len(), 1, "{left:#?}");
        assert_eq!(left[0]["outcome"]["status"], 0, "{left:#?}");
        let id = &left[0]["id"];
        let all = crate::harness::entries(&gateway);
        assert_eq!(
            all.iter().filter(|entry| entry["id"] == *id).count(),
            1,
            "no intent: nothing was meant to happen yet"
        );
    }
}

#[tokio::test]
async fn a_shadow_limit_and_a_shadow_guard_slow_nobody_down() {
    let (gateway, _upstream) = with(|bundle: &mut Bundle| {
        limited(
            bundle,
            "watched",
            "{key: [client.ip_prefix], rate: 1/h, burst: 1, shadow: true, on_exceed: {delay: 60s}}",
        );
        limited(bundle, "loose", "{key: [client.ip_prefix], rate: 1/h, burst: 1, on_exceed: {delay: 60s}}");
        bundle.replace("rate_limits: [loose]", "rate_limits: [loose]\n    shadow: [quota.address]");
    })
    .await;
    for path in ["/watched", "/loose"] {
        for _ in 0..3 {
            assert_eq!(gateway.get(&format!("https://acme.localhost{path}")).send().await.verdict(), "200", "{path}");
        }
    }
    assert_eq!(value(&gateway, "moat_ratelimit_waiting").await, Some(0.0));
}
