//! Changing the configuration while requests run: all or nothing, and nobody notices.
use crate::harness::{Gateway, moat, standard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const PAGE: &str = "https://acme.localhost/page";

#[tokio::test]
async fn a_change_of_the_file_is_taken_over_and_a_broken_one_is_not() {
    let (gateway, _upstream) = standard().await;
    assert_eq!(gateway.get("https://globex.localhost/page").send().await.status, 200);
    gateway.bundle.replace("globex: {class: standard}", "globex: {class: standard, status: suspended}");
    gateway
        .until("globex is suspended", async |g: &Gateway| {
            g.get("https://globex.localhost/page").send().await.verdict() == "403 tenant.suspended"
        })
        .await;
    let good = gateway.bundle.read("gateway.yaml");
    gateway
        .bundle
        .write("gateway.yaml", &good.replace("acme: {class: standard}", "acme: {class: standard, colour: red}"));
    gateway.signal("HUP");
    gateway
        .until("the problem is in the metrics", async |g: &Gateway| {
            g.metrics().await.contains("moat_config_last_reload_successful 0")
        })
        .await;
    assert_eq!(gateway.get(PAGE).send().await.status, 200);
    assert_eq!(gateway.get("https://globex.localhost/page").send().await.verdict(), "403 tenant.suspended");
}

#[tokio::test]
async fn a_reload_under_load_loses_no_request() {
    let (gateway, _upstream) = standard().await;
    let gateway = Arc::new(gateway);
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (gateway, stop) = (gateway.clone(), stop.clone());
            tokio::spawn(async move {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    let reply = gateway.get(PAGE).send().await;
                    assert_eq!(reply.status, 200, "{reply:?}");
                    count += 1;
                }
                count
            })
        })
        .collect();
    for round in 0..5 {
        let text = gateway.bundle.read("gateway.yaml");
        let next = format!("  extra{round}: {{class: standard}}\nupstreams:\n");
        gateway.bundle.write("gateway.yaml", &text.replace("upstreams:\n", &next));
        gateway.signal("HUP");
        let host = format!("https://extra{round}.localhost/page");
        gateway
            .until("the new tenant is served", async |g: &Gateway| {
                // The certificate does not hold this name, so ask on a connection for another and look at the code.
                g.get(PAGE).header("host", host.trim_start_matches("https://").trim_end_matches("/page")).send().await;
                g.metrics().await.contains("moat_config_last_reload_successful 1")
            })
            .await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut total = 0;
    for task in load {
        total += task.await.unwrap();
    }
    assert!(total > 20, "{total} requests are no load");
}

#[tokio::test]
async fn every_problem_is_reported_at_once_with_its_place() {
    let (gateway, _upstream) = standard().await;
    let text = gateway.bundle.read("gateway.yaml");
    let broken = text
        .replace("globex: {class: standard}", "globex: {class: standard, colour: red}")
        .replace("permission: bookings.read", "permission: bookings.reed")
        .replace("headers: app-strict", "headers: app-strickt");
    gateway.bundle.write("gateway.yaml", &broken);
    let checked = moat(gateway.bundle.root(), &["check", "--config", "gateway.yaml"]);
    assert_eq!(checked.code, Some(78), "{checked:?}");
    let said = format!("{}{}", checked.stdout, checked.stderr);
    for word in ["colour", "bookings.reed", "bookings.read", "app-strickt", "app-strict", "gateway.yaml:", "hint"] {
        assert!(said.contains(word), "`{word}` in {said}");
    }
    // `--strict`: otherwise the bundle that was in force last would stand in for the files.
    let refused = moat(gateway.bundle.root(), &["run", "--strict", "--config", "gateway.yaml"]);
    assert_eq!(refused.code, Some(78), "{refused:?}");
}
