//! A backup that is put back: what it brings to life again, what heals by itself, and the order that makes it safe.
use super::stage::{self, hold, revoke};
use crate::families;
use crate::harness::{Gateway, moat};
use crate::sessions::{SESSION, cookie, me};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_brings_back_who_was_ended_and_one_order_ends_them_again() {
    let (mut gateway, _upstream) = stage::gateway(&[]).await;
    let held = hold(&gateway).await;
    let before = gateway.call("POST", SESSION).bearer(&gateway.token("acme", &["viewer"])).send().await;
    let before = cookie(&before).unwrap();
    assert_eq!(gateway.stop(), Some(0));
    let (file, copy) = (gateway.bundle.path("state/state.redb"), gateway.bundle.path("backup.redb"));
    std::fs::copy(&file, &copy).unwrap();

    let mut gateway = gateway.restart().await;
    stage::ready(&gateway).await;
    // Since then: a session and a family went on, a session was signed out, and a user was ended.
    let refreshed = families::refresh(&gateway, &held.refresh).await;
    let newer = families::text(&refreshed, "refresh_token");
    let out = gateway.call("DELETE", SESSION).header("cookie", &before).header("sec-fetch-site", "same-origin");
    assert_eq!(out.send().await.verdict(), "204");
    assert_eq!(me(&gateway, &before).send().await.verdict(), "401 session.revoked");
    assert_eq!(gateway.stop(), Some(0));
    std::fs::rename(&copy, &file).unwrap();

    let gateway: Gateway = gateway.restart().await;
    stage::ready(&gateway).await;
    // Who moved on is not logged out: what they hold proves that we had moved on, too.
    assert_eq!(me(&gateway, &held.cookie).send().await.verdict(), "200");
    let healed = families::refresh(&gateway, &newer).await;
    assert_eq!(healed.status, 200, "{}", healed.text());
    // But the end of a session is forgotten with everything else that came after the backup.
    assert_eq!(me(&gateway, &before).send().await.verdict(), "200", "docs/state.md says so, until this fails");
    let admin = gateway.address("admin").to_string();
    let args = ["sessions", "revoke", "--admin", &admin, "--actor", "olga", "--issuer", "workforce", "--yes"];
    let ended = moat(gateway.bundle.root(), &args);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for cookie in [&before, &held.cookie] {
        assert_eq!(me(&gateway, cookie).send().await.verdict(), "401 session.revoked");
    }
    assert_ne!(families::refresh(&gateway, &families::text(&healed, "refresh_token")).await.status, 200);
    assert_eq!(revoke(&gateway, "trudy"), Some(0), "and the file is as good as before");
}
