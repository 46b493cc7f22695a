//! Certificates that end: by a list, by their time, by an order; on connections that are already open, and on new ones.
use super::clients::{Ca, Caller, Client, Leaf, Talk};
use super::{BY_HOST, OPEN, SHOWN, gateway};
use crate::harness::{Gateway, moat, now};
use tokio::sync::Mutex;

/// Asks again and again on one connection until the answer is this.
async fn until(gateway: &Gateway, talk: &Mutex<Talk>, url: &str, expected: &str) {
    gateway
        .until(expected, async |_| {
            let reply = talk.lock().await.ask("GET", url, &[]).await;
            reply.map_or("refused".to_owned(), |reply| reply.verdict()) == expected
        })
        .await;
}

/// Listeners follow requests by a moment.
async fn refused(gateway: &Gateway, caller: &Caller<'_>) {
    gateway.until("connections are refused", async |_| caller.once("GET", OPEN, &[]).await.is_err()).await;
}

fn good(ca: &Ca) -> Client {
    ca.leaf(Leaf::of("acme.partner.example"))
}

#[tokio::test]
async fn a_list_that_comes_later_ends_a_certificate_on_open_connections_and_resumed_ones() {
    for h2 in [false, true] {
        let ca = Ca::new("partners");
        let (gateway, _upstream) = gateway(&ca, BY_HOST, |_| ()).await;
        let (client, other) = (good(&ca), good(&ca));
        let caller = Caller::new(&gateway, Some(&client), h2);
        let innocent = Caller::new(&gateway, Some(&other), h2);
        let mut first = caller.connect("acme.localhost").await.unwrap();
        assert!(!first.resumed);
        assert_eq!(first.ask("GET", SHOWN, &[]).await.unwrap().verdict(), "200");
        let mut second = caller.connect("acme.localhost").await.unwrap();
        assert!(second.resumed, "a session is resumed, its certificate too");
        assert_eq!(second.ask("GET", SHOWN, &[]).await.unwrap().verdict(), "200");
        let mut bystander = innocent.connect("acme.localhost").await.unwrap();
        assert_eq!(bystander.ask("GET", SHOWN, &[]).await.unwrap().verdict(), "200");

        gateway.bundle.write("partners.crl", &ca.list(&[client.serial]));
        // Not asked for by requests: one that is under way then is refused, and its connection closed.
        gateway.wait_for_log("the new list", |line| line["message"] == "reloaded").unwrap();
        let (first, second) = (Mutex::new(first), Mutex::new(second));
        for talk in [&first, &second] {
            assert_eq!(talk.lock().await.ask("GET", SHOWN, &[]).await.unwrap().verdict(), "401 session.revoked");
        }
        let open = first.lock().await.ask("GET", OPEN, &[]).await.unwrap();
        assert_eq!(open.verdict(), "200", "a public route asks nobody who they are");
        assert_eq!(bystander.ask("GET", SHOWN, &[]).await.unwrap().verdict(), "200");
        // Neither a ticket nor the certificate helps.
        refused(&gateway, &caller).await;
        assert_eq!(innocent.once("GET", SHOWN, &[]).await.unwrap().verdict(), "200");

        // What was revoked by mistake and taken off the list is good again, on the same connection.
        gateway.bundle.write("partners.crl", &ca.list(&[]));
        until(&gateway, &first, SHOWN, "200").await;
    }
}

#[tokio::test]
async fn a_certificate_ends_with_its_time_on_open_connections_and_resumed_ones() {
    let ca = Ca::new("partners");
    let (gateway, _upstream) = gateway(&ca, BY_HOST, |_| ()).await;
    let client = ca.leaf(Leaf { until_s: now() + 4, ..Leaf::of("acme.partner.example") });
    let caller = Caller::new(&gateway, Some(&client), true);
    let mut talk = caller.connect("acme.localhost").await.unwrap();
    assert_eq!(talk.ask("GET", SHOWN, &[]).await.unwrap().verdict(), "200");
    let talk = Mutex::new(talk);
    until(&gateway, &talk, SHOWN, "401 session.expired").await;
    // Its ticket still opens a connection; nobody takes its holder for anybody.
    let mut again = caller.connect("acme.localhost").await.unwrap();
    assert!(again.resumed);
    assert_eq!(again.ask("GET", SHOWN, &[]).await.unwrap().verdict(), "401 session.expired");
    assert!(Caller::new(&gateway, Some(&client), true).once("GET", OPEN, &[]).await.is_err());
}

#[tokio::test]
async fn a_list_that_is_out_of_date_lets_nobody_in_and_says_that_it_is_our_fault() {
    let ca = Ca::new("partners");
    let (gateway, _upstream) = gateway(&ca, BY_HOST, |bundle| {
        bundle.write("partners.crl", &ca.list_until(&[1], now() + 8));
    })
    .await;
    let (client, revoked) = (good(&ca), good(&ca));
    let caller = Caller::new(&gateway, Some(&client), true);
    let mut talk = caller.connect("acme.localhost").await.unwrap();
    assert_eq!(talk.ask("GET", SHOWN, &[]).await.unwrap().verdict(), "200");
    let talk = Mutex::new(talk);
    until(&gateway, &talk, SHOWN, "503 gateway.unavailable").await;
    // New connections come about, so that their clients are told; what is not theirs to decide is served.
    let fresh = Caller::new(&gateway, Some(&client), true);
    assert_eq!(fresh.once("GET", SHOWN, &[]).await.unwrap().verdict(), "503 gateway.unavailable");
    assert_eq!(fresh.once("GET", OPEN, &[]).await.unwrap().verdict(), "200");
    // A list that is out of date already is refused, whatever it says, and the last good bundle stays.
    gateway.bundle.write("partners.crl", &ca.list_until(&[], now() - 10));
    let check = moat(gateway.bundle.root(), &["check"]);
    assert_eq!(check.code, Some(78), "{check:?}");
    assert!(check.stderr.contains("`partners.crl` is out of date"), "{check:?}");
    gateway.bundle.write("partners.crl", &ca.list(&[revoked.serial]));
    until(&gateway, &talk, SHOWN, "200").await;
}

#[tokio::test]
async fn a_listener_that_requires_a_certificate_serves_nobody_else_and_nobody_whose_was_revoked() {
    let ca = Ca::new("partners");
    let (gateway, _upstream) = gateway(&ca, BY_HOST, |bundle| {
        bundle.replace("accept: [partners]", "accept: [partners], required: true");
    })
    .await;
    let client = good(&ca);
    for h2 in [false, true] {
        assert!(Caller::new(&gateway, None, h2).once("GET", OPEN, &[]).await.is_err(), "h2: {h2}");
        assert_eq!(Caller::new(&gateway, Some(&client), h2).once("GET", OPEN, &[]).await.unwrap().verdict(), "200");
    }
    let caller = Caller::new(&gateway, Some(&client), true);
    let mut talk = caller.connect("acme.localhost").await.unwrap();
    assert_eq!(talk.ask("GET", OPEN, &[]).await.unwrap().verdict(), "200");
    gateway.bundle.write("partners.crl", &ca.list(&[client.serial]));
    let talk = Mutex::new(talk);
    until(&gateway, &talk, OPEN, "403 network.denied").await;
    until(&gateway, &talk, "https://acme.localhost/.moat/jwks.json", "403 network.denied").await;
    refused(&gateway, &caller).await;
    gateway.audit_entry(|entry| entry["verdict"] == "network.denied").await;
}

/// A connection that was made before anybody asked has nothing to show.
#[tokio::test]
async fn a_connection_older_than_the_demand_is_refused() {
    let ca = Ca::new("partners");
    let (gateway, _upstream) = gateway(&ca, BY_HOST, |_| ()).await;
    let mut talk = Caller::new(&gateway, None, true).connect("acme.localhost").await.unwrap();
    assert_eq!(talk.ask("GET", OPEN, &[]).await.unwrap().verdict(), "200");
    gateway.bundle.replace("accept: [partners]", "accept: [partners], required: true");
    until(&gateway, &Mutex::new(talk), OPEN, "403 network.denied").await;
}

/// Tickets of TLS 1.2 are made otherwise.
#[tokio::test]
async fn sessions_of_tls_1_2_are_no_way_around_a_list_either() {
    let ca = Ca::new("partners");
    let (gateway, _upstream) = gateway(&ca, BY_HOST, |bundle| {
        bundle.replace("    tls: modern\n", "    tls: older\n");
        let profile = "tls: {certificates: certs/, default_certificate: localhost, profiles: {older: {min_version: \"1.2\", groups: [X25519]}}}";
        bundle.replace("tls: {certificates: certs/, default_certificate: localhost}", profile);
    })
    .await;
    let client = good(&ca);
    let caller = Caller::new(&gateway, Some(&client), false).tls12();
    let none = Caller::new(&gateway, None, false).tls12();
    assert_eq!(none.once("GET", SHOWN, &[]).await.unwrap().verdict(), "401 session.missing");
    let mut first = caller.connect("acme.localhost").await.unwrap();
    assert_eq!(first.ask("GET", SHOWN, &[]).await.unwrap().verdict(), "200");
    let mut second = caller.connect("acme.localhost").await.unwrap();
    assert!(second.resumed);
    assert_eq!(second.ask("GET", SHOWN, &[]).await.unwrap().verdict(), "200");
    gateway.bundle.write("partners.crl", &ca.list(&[client.serial]));
    until(&gateway, &Mutex::new(second), SHOWN, "401 session.revoked").await;
    refused(&gateway, &caller).await;
}

#[tokio::test]
async fn an_operator_ends_a_certificate_by_its_fingerprint() {
    let ca = Ca::new("partners");
    let (gateway, _upstream) = gateway(&ca, BY_HOST, |_| ()).await;
    let (client, other) = (good(&ca), good(&ca));
    let verdict = async |client: &Client| {
        Caller::new(&gateway, Some(client), true).once("GET", SHOWN, &[]).await.unwrap().verdict()
    };
    assert_eq!(verdict(&client).await, "200");
    for whose in [["--key", &client.fingerprint()], ["--subject", "acme.partner.example"]] {
        let unsaid = crate::revocation::revoke(&gateway, &[&whose[..], &["--yes"]].concat());
        assert!(unsaid.code == Some(1) && unsaid.stderr.contains("name one of `workforce`, `partners`"), "{unsaid:?}");
    }
    let admin = gateway.address("admin").to_string();
    let end = |args: &[&str]| {
        let output = moat(gateway.bundle.root(), &[&["sessions", "revoke", "--admin", &admin], args].concat());
        assert_eq!(output.code, Some(0), "{output:?}");
    };
    end(&["--key", &client.fingerprint(), "--issuer", "partners", "--yes"]);
    assert_eq!(verdict(&client).await, "401 session.revoked");
    assert_eq!(verdict(&other).await, "200", "the same holder, another certificate");
    end(&["--subject", "acme.partner.example", "--issuer", "partners"]);
    assert_eq!(verdict(&other).await, "401 session.revoked");
}
