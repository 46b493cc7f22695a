//! Refresh tokens: good for one successor, the same for whoever asks at once, and the end of the family when one comes back.
use super::*;

#[tokio::test]
async fn a_refresh_token_is_good_for_one_successor() {
    let (gateway, _upstream) = start("").await;
    let mut token = text(&open(&gateway, &Token::of("acme", &["viewer"])).await, "refresh_token");
    for _ in 0..5 {
        let reply = refresh(&gateway, &token).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(held(&gateway, &text(&reply, "access_token")).await, "200");
        let next = text(&reply, "refresh_token");
        assert_ne!(next, token);
        token = next;
    }
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("moat_session_refresh_total{result=\"ok\"} 5"), "{metrics}");
    assert!(metrics.contains("moat_session_families_opened_total 1"));
}

/// Tabs and threads refresh at once: all get the same.
#[tokio::test]
async fn twenty_at_once_get_one_successor() {
    let (gateway, _upstream) = harness::with(|bundle| {
        issuing(bundle, "");
        bundle.replace("handshake_timeout: 1s", "handshake_timeout: 10s");
    })
    .await;
    let mut token = text(&open(&gateway, &Token::of("acme", &[])).await, "refresh_token");
    for _ in 0..5 {
        let mut calls = Vec::new();
        for _ in 0..20 {
            calls.push(refresh(&gateway, &token));
        }
        let mut successors = std::collections::BTreeSet::new();
        for reply in futures(calls).await {
            assert_eq!(reply.status, 200, "{}", reply.text());
            successors.insert(text(&reply, "refresh_token"));
        }
        assert_eq!(successors.len(), 1);
        token = successors.pop_first().unwrap();
    }
}

/// Outside the leeway a token that comes back ends the family for whoever holds any of its tokens.
#[tokio::test]
async fn reuse_ends_the_family() {
    let (gateway, _upstream) = start(", refresh: {reuse_leeway: 1s, clock_skew: 0s}").await;
    let first = text(&open(&gateway, &Token::of("acme", &[])).await, "refresh_token");
    let second = text(&refresh(&gateway, &first).await, "refresh_token");
    assert_eq!(text(&refresh(&gateway, &first).await, "refresh_token"), second, "inside the leeway");
    let third = text(&refresh(&gateway, &second).await, "refresh_token");
    let reply = std::cell::RefCell::new(None);
    gateway
        .until("the leeway is over", async |gateway| {
            let call = gateway.call("POST", ACME).header("content-type", "application/x-www-form-urlencoded");
            let call = call.header("user-agent", "thief/1.0");
            let answer = call.body(format!("grant_type=refresh_token&refresh_token={first}")).send().await;
            let over = answer.status == 400;
            *reply.borrow_mut() = Some(answer);
            over
        })
        .await;
    let reply = reply.into_inner().unwrap();
    assert_eq!(said(&reply), "400 invalid_grant session.reused");
    // Neither the thief's nor the owner's tokens are good any more.
    for token in [&third, &second, &first] {
        let over = async |gateway: &Gateway| said(&refresh(gateway, token).await) == "400 invalid_grant session.reused";
        gateway.until("the family is over for all of its tokens", over).await;
    }
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("moat_session_refresh_reuse_total{tenant=\"acme\"} 1"), "{metrics}");
    let entry = gateway.audit_entry(|entry| entry["action"] == "session.reused").await;
    let cause = entry["verdict"]["cause"].as_str().or(entry["cause"].as_str()).unwrap_or_default().to_owned();
    let text = entry.to_string();
    let clients: Vec<&str> =
        text.match_indices("by client ").map(|(at, word)| &text[at + word.len()..][..16]).collect();
    assert_eq!(clients.len(), 2, "{cause} {entry}");
    assert_ne!(clients[0], clients[1], "two programs are told apart");
}

#[tokio::test]
async fn a_family_belongs_to_its_tenant() {
    let (gateway, _upstream) = start("").await;
    let token = text(&open(&gateway, &Token::of("acme", &[])).await, "refresh_token");
    let body = format!("grant_type=refresh_token&refresh_token={token}");
    let elsewhere = form(&gateway, "https://globex.localhost/.moat/token", &body).await;
    assert_eq!(said(&elsewhere), "403 access_denied tenant.mismatch");
    assert_eq!(refresh(&gateway, &token).await.status, 200);
    // Suspended tenants get nothing, and nothing is lost by it.
    gateway.bundle.replace("  acme: {class: standard}", "  acme: {class: standard, status: suspended}");
    gateway.signal("HUP");
    gateway
        .until("the tenant is suspended", async |g| g.get("https://acme.localhost/").send().await.status == 403)
        .await;
    assert_eq!(said(&refresh(&gateway, &token).await), "403 access_denied tenant.suspended");
}

#[tokio::test]
async fn a_tenant_bounds_the_life_of_its_families() {
    let (gateway, _upstream) = harness::with(|bundle| {
        issuing(bundle, "");
        bundle.replace("  acme: {class: standard}", "  acme: {class: standard, session: {absolute: 10s}}");
    })
    .await;
    let opened = open(&gateway, &Token::of("acme", &[])).await;
    assert!(opened.json()["expires_in"].as_u64().unwrap() <= 10, "{}", opened.text());
    let token = std::cell::RefCell::new(text(&opened, "refresh_token"));
    let over = async |gateway: &Gateway| {
        let held = token.borrow().clone();
        let reply = refresh(gateway, &held).await;
        if reply.status == 200 {
            *token.borrow_mut() = text(&reply, "refresh_token");
        }
        said(&reply) == "400 invalid_grant session.expired"
    };
    gateway.until("the family has expired", over).await;
}

#[tokio::test]
async fn whoever_holds_a_token_can_end_its_family() {
    let (gateway, _upstream) = start("").await;
    let opened = open(&gateway, &Token::of("acme", &[])).await;
    let token = text(&opened, "refresh_token");
    let revoke = "https://acme.localhost/.moat/revoke";
    assert_eq!(form(&gateway, revoke, "token=made-up").await.status, 200, "RFC 7009, 2.2");
    assert_eq!(said(&form(&gateway, revoke, "").await), "400 invalid_request body.invalid");
    assert_eq!(form(&gateway, revoke, &format!("token={token}&token_type_hint=refresh_token")).await.status, 200);
    assert_eq!(said(&refresh(&gateway, &token).await), "400 invalid_grant session.revoked");
    gateway.audit_entry(|entry| entry["action"] == "session.revoked").await;
}

/// The row outlives the process: tokens go on after a power cut.
#[tokio::test]
async fn families_survive_the_process() {
    let (gateway, _upstream) = start("").await;
    let opened = open(&gateway, &Token::of("acme", &[])).await;
    let second = text(&refresh(&gateway, &text(&opened, "refresh_token")).await, "refresh_token");
    let gateway = gateway.restart().await;
    assert_eq!(refresh(&gateway, &second).await.status, 200);
    assert_eq!(held(&gateway, &text(&opened, "access_token")).await, "200", "the key is the same");
}

/// All of them at once, in order.
async fn futures<T>(calls: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut calls: Vec<_> = calls.into_iter().map(|call| (Box::pin(call), None)).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (call, done) in calls.iter_mut().filter(|(_, done)| done.is_none()) {
            match call.as_mut().poll(context) {
                std::task::Poll::Ready(value) => *done = Some(value),
                std::task::Poll::Pending => pending = true,
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    calls.into_iter().filter_map(|(_, done)| done).collect()
}
