//! What applications are told of certificates, and what nobody tells them in our name; chains, long and large ones.
use super::clients::{Ca, Caller, Leaf};
use super::{BY_HOST, OPEN, SHOWN, gateway};
use crate::harness::secure::App;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use std::net::SocketAddr;

const FORGED: &[(&str, &str)] = &[
    ("client-cert", ":Zm9yZ2Vk:"),
    ("client-cert", ":YWdhaW4=:"),
    ("client-cert-chain", ":Zm9yZ2Vk:"),
    ("x-forwarded-client-cert", "Hash=1"),
    ("x-client-cert", "forged"),
    ("ssl-client-cert", "forged"),
    ("x-ssl-client-verify", "SUCCESS"),
];

fn item(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

#[tokio::test]
async fn an_application_is_told_of_the_certificate_that_was_shown_and_of_no_other() {
    let ca = Ca::new("partners");
    let below = ca.below("partners below");
    let (gateway, upstream) = gateway(&ca, BY_HOST, |bundle| {
        bundle.replace("crl: [partners.crl], ", "");
        bundle.route(
            "  leaf:\n    match: {hosts: [\"*.localhost\"], paths: [/leaf], methods: [GET]}\n    upstream: app\n    public: \"a page\"\n    forward_certificate: leaf",
        );
    })
    .await;
    let client = below.leaf(Leaf::of("acme.partner.example")).through(&[&below]);
    let (leaf, chain) = (item(&client.chain[0]), item(&client.chain[1]));
    let forged: Vec<_> = FORGED.iter().map(|(name, value)| (*name, *value)).collect();
    for h2 in [false, true] {
        let with = Caller::new(&gateway, Some(&client), h2);
        let without = Caller::new(&gateway, None, h2);
        for headers in [&[][..], &forged] {
            for (caller, url, told) in [
                (&with, SHOWN, (Some(&leaf), Some(&chain))),
                (&with, "https://acme.localhost/leaf", (Some(&leaf), None)),
                (&with, OPEN, (None, None)),
                (&without, "https://acme.localhost/leaf", (None, None)),
                (&without, OPEN, (None, None)),
            ] {
                assert_eq!(caller.once("GET", url, headers).await.unwrap().verdict(), "200", "{url}");
                let seen = upstream.last();
                assert_eq!(seen.header("client-cert").as_ref(), told.0, "{url} h2: {h2}");
                assert_eq!(seen.header("client-cert-chain").as_ref(), told.1, "{url} h2: {h2}");
                for (name, _) in FORGED.iter().skip(3) {
                    assert_eq!(seen.header(name), None, "{url}");
                }
            }
        }
    }
}

/// Where pingora carries the bytes, too.
#[tokio::test]
async fn applications_of_http2_are_told_the_same() {
    let told = |request: &http::Request<hyper::body::Incoming>| {
        let of = |name: &str| {
            let values = request.headers().get_all(name).iter().map(|value| value.to_str().unwrap());
            values.collect::<Vec<_>>().join("|")
        };
        Response::new(Full::new(Bytes::from(format!("{} {}", of("client-cert"), of("client-cert-chain")))))
    };
    let app = App::answering(SocketAddr::from(([127, 0, 0, 1], 0)), None, told).await;
    let ca = Ca::new("partners");
    let (gateway, _upstream) = gateway(&ca, BY_HOST, |bundle| {
        let text = bundle.read("gateway.yaml");
        let endpoints = text.lines().find(|line| line.trim_start().starts_with("endpoints:")).unwrap().to_owned();
        bundle.replace(&endpoints, &format!("    endpoints: [\"{}\"]", app.address));
        bundle.replace("    http: {connect_timeout: 1s", "    http: {version: h2, connect_timeout: 1s");
    })
    .await;
    let client = ca.leaf(Leaf::of("acme.partner.example"));
    for h2 in [false, true] {
        let caller = Caller::new(&gateway, Some(&client), h2);
        let reply = caller.once("GET", SHOWN, &FORGED[..3]).await.unwrap();
        assert_eq!(reply.text(), format!("{} ", item(&client.chain[0])), "h2: {h2}");
    }
}

#[tokio::test]
async fn chains_are_as_long_and_large_as_anybody_needs() {
    let ca = Ca::new("partners");
    let (gateway, _upstream) = gateway(&ca, BY_HOST, |bundle| bundle.replace("crl: [partners.crl], ", "")).await;
    let steps: Vec<Ca> = (0..6).fold(Vec::new(), |mut steps: Vec<Ca>, step| {
        let next = steps.last().unwrap_or(&ca).below(&format!("step {step}"));
        steps.push(next);
        steps
    });
    for (count, good) in [(1, true), (4, true), (5, true), (6, false)] {
        let behind: Vec<&Ca> = steps[..count].iter().rev().collect();
        let client = steps[count - 1].leaf(Leaf::of("acme.partner.example")).through(&behind);
        let came = Caller::new(&gateway, Some(&client), true).once("GET", SHOWN, &[]).await;
        assert_eq!(came.is_ok_and(|reply| reply.verdict() == "200"), good, "{count} between");
    }
    let strangers: Vec<Ca> = (0..7).map(|n| Ca::new(&format!("stranger {n}"))).collect();
    let with = ca.leaf(Leaf::of("acme.partner.example")).through(&strangers.iter().collect::<Vec<_>>());
    assert!(Caller::new(&gateway, Some(&with), true).once("GET", OPEN, &[]).await.is_err(), "more than are looked at");
    for (ballast, good) in [(5_000, true), (9_000, false), (60_000, false)] {
        let client = ca.leaf(Leaf { ballast, ..Leaf::of("acme.partner.example") });
        let came = Caller::new(&gateway, Some(&client), false).once("GET", SHOWN, &[]).await;
        assert_eq!(came.is_ok_and(|reply| reply.verdict() == "200"), good, "{ballast} bytes");
    }
    assert_eq!(gateway.get(OPEN).send().await.verdict(), "200", "and the gateway goes on");
}

#[tokio::test]
async fn every_authority_of_a_chain_needs_a_list_once_there_are_lists() {
    let ca = Ca::new("partners");
    let below = ca.below("partners below");
    let (gateway, _upstream) = gateway(&ca, BY_HOST, |_| ()).await;
    let client = below.leaf(Leaf::of("acme.partner.example")).through(&[&below]);
    let came = async || Caller::new(&gateway, Some(&client), true).once("GET", SHOWN, &[]).await;
    assert!(came().await.is_err(), "nobody tells whether it was revoked");
    gateway.bundle.write("below.crl", &below.list(&[]));
    gateway.bundle.replace("crl: [partners.crl]", "crl: [partners.crl, below.crl]");
    let good = async |_: &crate::harness::Gateway| came().await.is_ok_and(|reply| reply.verdict() == "200");
    gateway.until("the list of the one between is there", good).await;
    gateway.bundle.write("below.crl", &below.list(&[client.serial]));
    gateway.until("it is revoked", async |_| came().await.is_err()).await;
}
