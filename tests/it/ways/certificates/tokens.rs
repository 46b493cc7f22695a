//! Tokens that are bound to a certificate (RFC 8705): of use to whoever holds both.
use super::clients::{Ca, Caller, Client, Leaf};
use super::{BY_HOST, gateway};
use crate::harness::{Token, b64};
use serde_json::{Value, json};

const BOOKINGS: &str = "https://acme.localhost/api/bookings";

#[tokio::test]
async fn a_bound_token_is_good_with_its_certificate_only() {
    let ca = Ca::new("partners");
    let (gateway, _upstream) = gateway(&ca, BY_HOST, |_| ()).await;
    let (client, other) = (ca.leaf(Leaf::of("acme.partner.example")), ca.leaf(Leaf::of("acme.partner.example")));
    let print = b64(&client.hash());
    let token = |cnf: Option<Value>| {
        let token = Token::of("acme", &["viewer"]);
        cnf.map_or(token.clone(), |cnf| token.claim("cnf", cnf)).signed(&gateway.bundle.key)
    };
    let bound = || Some(json!({ "x5t#S256": print }));
    let invalid = "401 session.invalid";
    let cases: Vec<(Option<&Client>, Option<Value>, &str)> = vec![
        (Some(&client), bound(), "200"),
        (Some(&other), bound(), invalid),
        (None, bound(), invalid),
        (Some(&client), None, "200"),
        (None, None, "200"),
        (Some(&client), Some(json!({ "x5t#S256": print, "jkt": print })), invalid),
        (Some(&client), Some(json!({ "jkt": print })), invalid),
        (Some(&client), Some(json!({ "x5t#S256": client.fingerprint() })), invalid),
        (Some(&client), Some(json!({ "x5t#S256": "" })), invalid),
        (Some(&client), Some(json!({ "x5t#S256": [print] })), invalid),
        (Some(&client), Some(json!([print])), invalid),
    ];
    for h2 in [false, true] {
        for (shown, cnf, expected) in &cases {
            let token = token(cnf.clone());
            let caller = Caller::new(&gateway, *shown, h2);
            // Twice: what was verified a moment ago is remembered, whoever sends it next.
            for _ in 0..2 {
                for (name, value) in
                    [("authorization", format!("Bearer {token}")), ("cookie", format!("__Host-nl={token}"))]
                {
                    let reply = caller.once("GET", BOOKINGS, &[(name, &value)]).await.unwrap();
                    assert_eq!(reply.verdict(), *expected, "{cnf:?} in {name}, h2: {h2}");
                }
            }
        }
    }
    let bearer = format!("Bearer {}", token(bound()));
    let mut talk = Caller::new(&gateway, Some(&client), true).connect("acme.localhost").await.unwrap();
    assert_eq!(talk.ask("GET", BOOKINGS, &[("authorization", &bearer)]).await.unwrap().verdict(), "200");
    gateway.bundle.write("partners.crl", &ca.list(&[client.serial]));
    let talk = tokio::sync::Mutex::new(talk);
    gateway
        .until("the certificate is revoked, and the token is of no use", async |_| {
            let reply = talk.lock().await.ask("GET", BOOKINGS, &[("authorization", &bearer)]).await.unwrap();
            reply.verdict() == "401 session.revoked"
        })
        .await;
}
