//! Whole gateways before one Redis: what clients, operators and the audit log see.
use crate::harness::{Bundle, Gateway, Output, Redis, Upstream, entries, moat};
use serde_json::Value;

fn reload(gateway: &Gateway) -> Output {
    moat(gateway.bundle.root(), &["reload", "--admin", &gateway.address("admin").to_string()])
}

const LIMITS: &str = "version: 1
limits:
  few-per-user: {key: [tenant, user], rate: 3/h, burst: 3, mode: strict, on_store_loss: LOSS}
";

fn bundle(upstream: &Upstream, redis: &Redis, instance: &str, loss: &str) -> Bundle {
    let bundle = Bundle::standard(upstream.address);
    bundle.write("policies/rate-limits.yaml", &LIMITS.replace("LOSS", loss));
    bundle.write("redis-password", "secret of the store\n");
    bundle.replace("instance: test-1", &format!("instance: {instance}"));
    let storage = format!(
        "storage:\n  redis: {{url: \"redis://{}\", password: {{file: redis-password}}, use_for: [limits], command_timeout: 2s}}\nroutes:\n  home:",
        redis.address
    );
    bundle.replace("routes:\n  home:", &storage);
    bundle
}

const PASSWORD: [&str; 2] = ["--requirepass", "secret of the store"];

async fn statuses(gateway: &Gateway, key: &Gateway, tries: usize) -> Vec<u16> {
    let token = key.token("acme", &["viewer"]);
    let mut statuses = Vec::new();
    for _ in 0..tries {
        let reply = gateway.get("https://acme.localhost/api/limited").bearer(&token).send().await;
        statuses.push(reply.status);
    }
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_count_together() {
    let (redis, upstream) = (Redis::start(&PASSWORD).await, Upstream::start().await);
    let first = Gateway::start(bundle(&upstream, &redis, "one", "closed")).await;
    let next = bundle(&upstream, &redis, "two", "closed");
    next.write("jwks.json", &first.bundle.read("jwks.json"));
    let second = Gateway::start(next).await;
    assert_eq!(statuses(&first, &first, 2).await, [200, 200]);
    assert_eq!(statuses(&second, &first, 2).await, [200, 429]);
    assert_eq!(statuses(&first, &first, 1).await, [429]);
    let metrics = second.metrics().await;
    assert!(metrics.contains("moat_store_up{backend=\"redis\"} 1"));
    assert!(metrics.contains("moat_store_operations_total{backend=\"redis\",op=\"take\",result=\"ok\"} 2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_says_what_it_does_without_its_store() {
    let (mut redis, upstream) = (Redis::start(&PASSWORD).await, Upstream::start().await);
    let gateway = Gateway::start(bundle(&upstream, &redis, "one", "closed")).await;
    assert_eq!(statuses(&gateway, &gateway, 1).await, [200]);
    redis.kill();
    gateway
        .until("silent", async |gateway| gateway.metrics().await.contains("moat_store_up{backend=\"redis\"} 0"))
        .await;
    let token = gateway.token("acme", &["viewer"]);
    let reply = gateway.get("https://acme.localhost/api/limited").bearer(&token).send().await;
    assert_eq!(reply.verdict(), "503 gateway.unavailable");
    let reply = gateway.get("https://acme.localhost/api/bookings").bearer(&token).send().await;
    assert_eq!(reply.status, 200, "who needs no shared limit notices nothing, and nobody is logged out");
    assert_eq!(gateway.admin("/readyz").await.status, 200, "its outage is not ours");
    let status = gateway.admin("/status.json").await.json();
    assert_eq!(status["store"]["up"], false);
    let findings = status["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["id"] == "store.lost"), "{findings:?}");
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("moat_ratelimit_fallback_total{limit=\"few-per-user\",on_store_loss=\"closed\"} 1"));

    // Another word, put in force while the store is silent.
    gateway.bundle.write("policies/rate-limits.yaml", &LIMITS.replace("LOSS", "local"));
    assert_eq!(reload(&gateway).code, Some(0));
    assert_eq!(statuses(&gateway, &gateway, 4).await, [200, 200, 200, 429]);
    redis.restart().await;
    gateway.until("back", async |gateway| gateway.metrics().await.contains("moat_store_up{backend=\"redis\"} 1")).await;
    assert_eq!(statuses(&gateway, &gateway, 4).await, [200, 200, 200, 429], "the store is empty, and counts again");
    gateway.audit_entry(|entry| entry["event"] == "store.back").await;
    let lost = gateway.audit_entry(|entry| entry["event"] == "store.lost").await;
    assert_eq!(lost["detail"]["store"], "redis");
    assert!(!gateway.log_lines().iter().any(|line| line.contains("secret of the store")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_starts_without_its_store_and_with_a_wrong_password() {
    let (mut redis, upstream) = (Redis::start(&PASSWORD).await, Upstream::start().await);
    let wrong = bundle(&upstream, &redis, "one", "local");
    wrong.write("redis-password", "not this one\n");
    let gateway = Gateway::start(wrong).await;
    let told = |line: &Value| line.to_string().contains("WRONGPASS") && line["level"] == "ERROR";
    gateway.wait_for_log("the wrong password", told).unwrap();
    assert_eq!(statuses(&gateway, &gateway, 4).await, [200, 200, 200, 429]);
    gateway.bundle.write("redis-password", "secret of the store\n");
    gateway.until("in", async |gateway| gateway.metrics().await.contains("moat_store_up{backend=\"redis\"} 1")).await;

    redis.kill();
    let gateway = Gateway::start(bundle(&upstream, &redis, "two", "open")).await;
    assert_eq!(statuses(&gateway, &gateway, 5).await, [200; 5]);
    assert!(entries(&gateway).iter().any(|entry| entry["event"] == "store.lost"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_joins_and_leaves_the_store() {
    let (redis, upstream) = (Redis::start(&PASSWORD).await, Upstream::start().await);
    let joined = bundle(&upstream, &redis, "one", "closed");
    let with = joined.read("gateway.yaml");
    let without: String = with
        .lines()
        .filter(|line| !line.starts_with("storage") && !line.starts_with("  redis"))
        .map(|line| format!("{line}\n"))
        .collect();
    joined.write("gateway.yaml", &without);
    let gateway = Gateway::start(joined).await;
    assert_eq!(statuses(&gateway, &gateway, 4).await, [200, 200, 200, 429], "alone");
    gateway.bundle.write("gateway.yaml", &with);
    assert_eq!(reload(&gateway).code, Some(0));
    gateway
        .until("joined", async |gateway| gateway.metrics().await.contains("moat_store_up{backend=\"redis\"} 1"))
        .await;
    assert_eq!(statuses(&gateway, &gateway, 4).await, [200, 200, 200, 429], "counted in the store, which knew nothing");
    gateway.bundle.write("gateway.yaml", &without);
    let output = reload(&gateway);
    assert_eq!(output.code, Some(0));
    assert!(!gateway.metrics().await.contains("moat_store_up"));
    let shown = moat(gateway.bundle.root(), &["config", "show"]);
    assert!(!shown.stdout.contains("secret of the store"));
}
