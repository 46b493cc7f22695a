//! The admin listener: metrics, liveness, readiness.
use crate::harness::standard;

#[tokio::test]
async fn readiness_lists_its_checks_and_liveness_is_plain() {
    let (gateway, _upstream) = standard().await;
    assert_eq!(gateway.admin("/livez").await.status, 200);
    let ready = gateway.admin("/readyz?verbose").await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    for check in ["draining", "keys", "audit", "certificates"] {
        assert!(ready.text().contains(check), "`{check}` in {}", ready.text());
    }
    assert_eq!(gateway.admin("/elsewhere").await.status, 404);
}

#[tokio::test]
async fn metrics_count_decisions_by_code_and_never_by_what_a_client_can_choose() {
    let (gateway, _upstream) = standard().await;
    for path in ["secret-path-1", "secret-path-2"] {
        gateway.get(&format!("https://acme.localhost/api/bookings/{path}")).send().await;
    }
    gateway.get("https://nobody.localhost/api/bookings").send().await;
    let metrics = gateway.metrics().await;
    for word in
        ["moat_authz_decisions_total", "session.missing", "tenant.unknown", "moat_build_info", "moat_connections"]
    {
        assert!(metrics.contains(word), "`{word}` in {metrics}");
    }
    for word in ["secret-path", "nobody"] {
        assert!(!metrics.contains(word), "`{word}` became a label");
    }
}
