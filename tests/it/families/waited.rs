//! Requests that take their time: who waited for the store is no thief, and who holds the body back gains nothing.
use super::*;
use crate::harness::{OWNER, Postgres, Weather, Wire};
use std::net::SocketAddr;

/// A gateway that keeps its families there, and does not allow for clocks that are off.
async fn replica(store: SocketAddr, upstream: &Upstream, keys: &str, leeway: &str) -> Gateway {
    let mut bundle = Bundle::standard(upstream.address);
    bundle.write("jwks.json", keys);
    bundle.write("keys", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    bundle.write("postgres-password", OWNER.1);
    issuing(&mut bundle, &format!(", refresh: {{reuse_leeway: {leeway}, clock_skew: 0s}}"));
    bundle.replace("sessions:\n", "sessions:\n  keys: {file: keys}\n");
    let storage = format!(
        "storage:
  postgres: {{url: \"postgresql://{}@{store}/postgres\", password: {{file: postgres-password}},
    use_for: [refresh_families], command_timeout: 20s}}
routes:\n",
        OWNER.0
    );
    bundle.replace("routes:\n", &storage);
    crate::sessions::unhurried(&bundle);
    Gateway::start(bundle).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_the_store_while_another_replica_is_faster_gets_the_same_successor() {
    let (upstream, postgres) = (Upstream::start().await, Postgres::start(&[]).await);
    let issuer = Bundle::empty();
    let keys = issuer.read("jwks.json");
    let wire = Wire::to(postgres.address).await;
    let slow = replica(wire.address, &upstream, &keys, "5s").await;
    let fast = replica(postgres.address, &upstream, &keys, "5s").await;
    let opened = form(&slow, ACME, &exchange(&Token::of("acme", &[]).signed(&issuer.key))).await;
    assert_eq!(opened.status, 200, "{}", opened.text());
    let first = text(&opened, "refresh_token");

    // It has come to the slow one first, and is judged there after the other has exchanged it.
    wire.turns(Weather::Held);
    let late = refresh(&slow, &first);
    let meanwhile = async {
        wire.holds().await;
        let second = text(&refresh(&fast, &first).await, "refresh_token");
        wire.turns(Weather::Fair);
        second
    };
    let (late, second) = tokio::join!(late, meanwhile);
    assert_eq!(late.status, 200, "{}", late.text());
    assert_eq!(text(&late, "refresh_token"), second);
    assert_eq!(refresh(&fast, &second).await.status, 200, "nobody is logged out");
}

/// The row has forgotten the exchange, and no clock may be off: that the store takes a moment spares no thief.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_takes_a_moment_spares_no_thief() {
    let (upstream, postgres) = (Upstream::start().await, Postgres::start(&[]).await);
    let issuer = Bundle::empty();
    let wire = Wire::to(postgres.address).await;
    let gateway = replica(wire.address, &upstream, &issuer.read("jwks.json"), "1s").await;
    let mut opened = Vec::new();
    for _ in 0..2 {
        let reply = form(&gateway, ACME, &exchange(&Token::of("acme", &[]).signed(&issuer.key))).await;
        opened.push(text(&reply, "refresh_token"));
    }
    let (stolen, clock) = (&opened[0], &opened[1]);
    let second = text(&refresh(&gateway, stolen).await, "refresh_token");
    assert_eq!(refresh(&gateway, clock).await.status, 200);
    let over = async |gateway: &Gateway| said(&refresh(gateway, clock).await) == "400 invalid_grant session.reused";
    gateway.until("the leeway is over", over).await;
    assert_eq!(refresh(&gateway, &second).await.status, 200, "which pushes the first exchange out of the row");

    wire.turns(Weather::Held);
    let thief = refresh(&gateway, stolen);
    let meanwhile = async {
        wire.holds().await;
        wire.turns(Weather::Fair);
    };
    let (thief, ()) = tokio::join!(thief, meanwhile);
    assert_eq!(said(&thief), "400 invalid_grant session.reused");
}

#[tokio::test]
async fn who_holds_the_body_back_does_not_stretch_the_leeway() {
    let (gateway, _upstream) = start(", refresh: {reuse_leeway: 1s, clock_skew: 0s}").await;
    let clock = text(&open(&gateway, &Token::of("acme", &[])).await, "refresh_token");
    let stolen = text(&open(&gateway, &Token::of("acme", &[])).await, "refresh_token");
    assert_eq!(refresh(&gateway, &stolen).await.status, 200);
    let thief = gateway.withhold("/.moat/token", "", &format!("grant_type=refresh_token&refresh_token={stolen}")).await;
    assert_eq!(refresh(&gateway, &clock).await.status, 200);
    let over = async |gateway: &Gateway| said(&refresh(gateway, &clock).await) == "400 invalid_grant session.reused";
    gateway.until("the leeway is over", over).await;
    assert_eq!(thief.refused().await, "session.reused");
}

#[tokio::test]
async fn who_holds_the_body_back_does_not_stretch_the_life_of_what_is_exchanged() {
    let (gateway, _upstream) = start("").await;
    let token = Token::of("acme", &[]).claim("exp", harness::now() + 2).signed(&gateway.bundle.key);
    let thief = gateway.withhold("/.moat/token", "", &exchange(&token)).await;
    let over = async |gateway: &Gateway| {
        said(&form(gateway, ACME, &exchange(&token)).await) == "400 invalid_grant session.expired"
    };
    gateway.until("the token has expired", over).await;
    assert_eq!(thief.refused().await, "session.expired");
}
