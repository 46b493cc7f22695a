//! A client library of somebody else's (oauth4webapi, from npm) opens, uses, refreshes and ends families with proof of its key.
use super::*;
use crate::apps::stage::{install, installed, run_to_end, source};
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn a_library_of_oauth_clients_is_served() {
    let (gateway, _upstream) = start("").await;
    let token = Token::of("acme", &["viewer"]).signed(&gateway.bundle.key);
    let port = gateway.address("public").port().to_string();
    let ca = gateway.bundle.path("certs/dev/ca.crt");
    for algorithm in ["ES256", "Ed25519", "PS256", "RS256", "ES384"] {
        let (token, port, ca) = (token.clone(), port.clone(), ca.clone());
        let said = tokio::task::spawn_blocking(move || {
            install("oauth-client");
            let script = installed("oauth-client").join("client.mjs");
            std::fs::copy(source("oauth-client").join("client.mjs"), &script).unwrap();
            run_to_end(Command::new("node").arg(script).args([&port]).arg(ca).arg(token).env("ALG", algorithm))
        });
        let said = said.await.unwrap();
        let lines: Vec<&str> = said.lines().collect();
        let turn = ["{\"used\":200}", "{\"refreshed\":\"dpop\"}"];
        let mut expected = vec!["{\"opened\":\"dpop\"}"];
        expected.extend([turn; 3].concat());
        expected.extend(["{\"stolen\":401}", "{\"ended\":\"invalid_grant\"}"]);
        assert_eq!(lines, expected, "{algorithm}");
    }
}
