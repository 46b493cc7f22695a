//! A start that finds broken files: the last bundle that was in force stands in for them, loudly, until they hold again.
use crate::harness::{Gateway, field, moat, standard};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const PAGE: &str = "https://acme.localhost/page";

/// Suspends globex, and makes a mistake.
fn break_files(gateway: &Gateway) {
    gateway.bundle.replace("globex: {class: standard}", "globex: {class: standard, status: suspended}");
    gateway.bundle.replace("permission: bookings.read", "permission: bookings.reed");
}

async fn wait_until_kept(gateway: &Gateway) {
    let kept = gateway.bundle.path("state/last-good/bundle");
    gateway
        .until("the bundle is kept", async |g: &Gateway| {
            g.metrics().await;
            kept.exists()
        })
        .await;
}

#[tokio::test]
async fn a_start_with_broken_files_serves_the_last_good_bundle_and_takes_the_files_up_once_they_hold() {
    let (gateway, _upstream) = standard().await;
    wait_until_kept(&gateway).await;
    let mode = fs::metadata(gateway.bundle.path("state/last-good/bundle")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = gateway.bundle.read("state/last-good/bundle");
    assert!(kept.contains("tenancy") && kept.contains("extends: [viewer]"), "policies are kept too");
    assert!(!kept.contains("PRIVATE KEY"));

    break_files(&gateway);
    let gateway = gateway.restart().await;
    assert_eq!(gateway.get(PAGE).send().await.status, 200);
    assert_eq!(gateway.get("https://globex.localhost/page").send().await.status, 200, "as it was before");
    assert!(gateway.log_lines().iter().any(|line| line.contains("unknown permission `bookings.reed`")));
    let told = |line: &serde_json::Value| {
        field(line, "level") == Some("ERROR")
            && crate::harness::message(line).is_some_and(|said| said.contains("the last good bundle is in force"))
    };
    gateway.wait_for_log("an error that says so", told).unwrap();
    assert!(gateway.metrics().await.contains("moat_config_last_good_in_use 1"));
    let entry = gateway.audit_entry(|entry| entry["detail"]["fallback"] == 1).await;
    assert_eq!(entry["event"], "config.load", "{entry:#}");
    let ready = gateway.admin("/readyz?verbose").await;
    assert_eq!(ready.status, 200, "it serves");
    assert!(ready.text().contains("the last good bundle is in force"), "{}", ready.text());

    // Half put right, and then whole: only then is it used.
    gateway.bundle.replace("permission: bookings.reed", "permission: bookings.read\n    wrong: 1");
    gateway.signal("HUP");
    gateway
        .until("that is refused", async |g: &Gateway| {
            g.metrics().await.contains("moat_config_last_reload_successful 0")
        })
        .await;
    assert!(gateway.metrics().await.contains("moat_config_last_good_in_use 1"));
    gateway.bundle.replace("permission: bookings.read\n    wrong: 1", "permission: bookings.read");
    gateway
        .until("the files are in force", async |g: &Gateway| {
            g.get("https://globex.localhost/page").send().await.verdict() == "403 tenant.suspended"
        })
        .await;
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("moat_config_last_good_in_use 0"), "{metrics}");
    assert!(!gateway.admin("/readyz?verbose").await.text().contains("last good"));
}

#[tokio::test]
async fn files_that_are_put_back_as_they_were_end_the_emergency() {
    let (gateway, _upstream) = standard().await;
    wait_until_kept(&gateway).await;
    let good = gateway.bundle.read("gateway.yaml");
    // Not even YAML: the state folder is found all the same.
    gateway.bundle.write("gateway.yaml", &format!("{good}\n  - [}}"));
    let gateway = gateway.restart().await;
    assert!(gateway.metrics().await.contains("moat_config_last_good_in_use 1"));
    gateway.bundle.write("gateway.yaml", &good);
    gateway.until("it is over", async |g: &Gateway| g.metrics().await.contains("moat_config_last_good_in_use 0")).await;
    assert_eq!(gateway.get(PAGE).send().await.status, 200);
}

#[tokio::test]
async fn a_copy_that_was_changed_is_not_used_and_strict_uses_none() {
    let (mut gateway, _upstream) = standard().await;
    wait_until_kept(&gateway).await;
    break_files(&gateway);
    gateway.kill();
    let run = |args: &[&str]| moat(gateway.bundle.root(), &[&["run", "--config", "gateway.yaml"], args].concat());
    let strict = run(&["--strict"]);
    assert_eq!(strict.code, Some(78), "{strict:?}");
    assert!(strict.stderr.contains("bookings.reed") && !strict.stderr.contains("last good"), "{}", strict.stderr);

    let file = gateway.bundle.path("state/last-good/bundle");
    let good = fs::read_to_string(&file).unwrap();
    let laxer = good.replace("status: suspended", "status: active");
    assert_ne!(good, laxer);
    fs::write(&file, &laxer).unwrap();
    let changed = run(&[]);
    assert_eq!(changed.code, Some(78), "{changed:?}");
    assert!(changed.stderr.contains("is not what the gateway wrote: its hash is another"), "{}", changed.stderr);
    fs::write(&file, &good[..good.len() / 2]).unwrap();
    assert_eq!(run(&[]).code, Some(78));
    fs::remove_file(&file).unwrap();
    assert_eq!(run(&[]).code, Some(78));
}
