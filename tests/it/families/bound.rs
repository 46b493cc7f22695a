//! Proof of possession (RFC 9449): tokens that are worth nothing to a thief, and proofs that serve once.
use super::*;
use crate::harness::{b64, now};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;

const HELD: &str = "https://acme.localhost/api/held";

/// A key that a client proves to have.
pub struct Key(EcdsaKeyPair);

impl Key {
    pub fn new() -> Key {
        Key(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub fn proof(&self, method: &str, url: &str, token: Option<&str>) -> String {
        let mut claims = json!({"jti": uuid::Uuid::now_v7().to_string(), "htm": method, "htu": url, "iat": now()});
        if let Some(token) = token {
            claims["ath"] = b64(digest(&SHA256, token.as_bytes()).as_ref()).into();
        }
        self.sign(&claims)
    }

    fn sign(&self, claims: &Value) -> String {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)});
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk});
        let signed = format!("{}.{}", b64(header.to_string().as_bytes()), b64(claims.to_string().as_bytes()));
        format!("{signed}.{}", b64(self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref()))
    }
}

async fn asked(gateway: &Gateway, body: &str, proof: Option<&str>) -> Reply {
    let mut call = gateway.call("POST", ACME).header("content-type", "application/x-www-form-urlencoded");
    if let Some(proof) = proof {
        call = call.header("dpop", proof);
    }
    call.body(body.to_owned()).send().await
}

pub async fn opened(gateway: &Gateway, key: &Key) -> Reply {
    let body = exchange(&Token::of("acme", &["viewer"]).signed(&gateway.bundle.key));
    asked(gateway, &body, Some(&key.proof("POST", ACME, None))).await
}

/// What comes of an access token with a proof.
pub async fn used(gateway: &Gateway, token: &str, proof: &str) -> String {
    let call = gateway.get(HELD).header("authorization", &format!("DPoP {token}")).header("dpop", proof);
    call.send().await.verdict()
}

#[tokio::test]
async fn a_bound_token_is_good_with_proof_only() {
    let (gateway, _upstream) = start("").await;
    let (key, thief) = (Key::new(), Key::new());
    let reply = opened(&gateway, &key).await;
    assert_eq!((reply.status, text(&reply, "token_type").as_str()), (200, "DPoP"), "{}", reply.text());
    let access = text(&reply, "access_token");
    let good = key.proof("GET", HELD, Some(&access));
    assert_eq!(used(&gateway, &access, &good).await, "200");
    assert_eq!(used(&gateway, &access, &good).await, "401 session.invalid", "a proof serves once");
    assert_eq!(held(&gateway, &access).await, "401 session.invalid", "as a bearer token it is none");
    for (proof, what) in [
        (thief.proof("GET", HELD, Some(&access)), "another key"),
        (key.proof("POST", HELD, Some(&access)), "another method"),
        (key.proof("GET", "https://globex.localhost/api/held", Some(&access)), "another host"),
        (key.proof("GET", "https://acme.localhost/api/other", Some(&access)), "another path"),
        (key.proof("GET", HELD, Some("another")), "another token"),
        (key.proof("GET", HELD, None), "no token"),
        ("not.a.proof".to_owned(), "no proof"),
    ] {
        assert_eq!(used(&gateway, &access, &proof).await, "401 session.invalid", "{what}");
    }
    let twice = gateway.get(HELD).header("authorization", &format!("DPoP {access}"));
    let twice = twice.header("dpop", &key.proof("GET", HELD, Some(&access)));
    let twice = twice.header("dpop", &key.proof("GET", HELD, Some(&access))).send().await;
    assert_eq!(twice.verdict(), "401 session.invalid", "two proofs");
    let none = gateway.get(HELD).header("authorization", &format!("DPoP {access}")).send().await;
    assert_eq!(none.verdict(), "401 session.invalid", "without");
    // A query does not matter (RFC 9449, 4.3), and the scheme's port is the scheme's port.
    let call = gateway.get("https://acme.localhost/api/held?page=2").header("authorization", &format!("dpop {access}"));
    let call = call.header("dpop", &key.proof("GET", "https://ACME.localhost:443/api/held", Some(&access)));
    assert_eq!(call.send().await.verdict(), "200");
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("moat_dpop_proofs_total{result=\"replayed\"} 1"), "{metrics}");
    let entry =
        gateway.audit_entry(|entry| entry["facts"]["carrier"] == "dpop" && entry["facts"]["path"] == "/api/held").await;
    assert_eq!(entry["facts"]["subject"], "someone@acme");
}

#[tokio::test]
async fn proofs_have_their_time() {
    let (gateway, _upstream) = start("").await;
    let key = Key::new();
    let access = text(&opened(&gateway, &key).await, "access_token");
    let hash = b64(digest(&SHA256, access.as_bytes()).as_ref());
    for (iat, expected) in
        [(now() - 50, "200"), (now() - 61, "401 session.invalid"), (now() + 60, "401 session.invalid")]
    {
        let claims = json!({"jti": format!("at-{iat}"), "htm": "GET", "htu": HELD, "iat": iat, "ath": hash});
        assert_eq!(used(&gateway, &access, &key.sign(&claims)).await, expected, "{iat}");
    }
}

#[tokio::test]
async fn a_bound_family_is_refreshed_with_its_key_only() {
    let (gateway, _upstream) = start("").await;
    let (key, thief) = (Key::new(), Key::new());
    let token = text(&opened(&gateway, &key).await, "refresh_token");
    let body = format!("grant_type=refresh_token&refresh_token={token}");
    assert_eq!(said(&asked(&gateway, &body, None).await), "400 invalid_dpop_proof session.invalid");
    let stolen = thief.proof("POST", ACME, None);
    assert_eq!(said(&asked(&gateway, &body, Some(&stolen)).await), "400 invalid_dpop_proof session.invalid");
    assert_eq!(said(&asked(&gateway, &body, Some("x")).await), "400 invalid_dpop_proof session.invalid");
    let good = key.proof("POST", ACME, None);
    let reply = asked(&gateway, &body, Some(&good)).await;
    assert_eq!((reply.status, text(&reply, "token_type").as_str()), (200, "DPoP"), "{}", reply.text());
    assert_eq!(said(&asked(&gateway, &body, Some(&good)).await), "400 invalid_dpop_proof session.invalid", "used");
    let access = text(&reply, "access_token");
    assert_eq!(used(&gateway, &access, &key.proof("GET", HELD, Some(&access))).await, "200");
}

#[tokio::test]
async fn where_proof_is_required_nobody_gets_tokens_without() {
    let (gateway, _upstream) = start(", dpop: required").await;
    let body = exchange(&Token::of("acme", &[]).signed(&gateway.bundle.key));
    assert_eq!(said(&asked(&gateway, &body, None).await), "400 invalid_dpop_proof session.invalid");
    assert_eq!(opened(&gateway, &Key::new()).await.status, 200);
}

/// A route that asks for proof says so, and an unbound token does not do there.
#[tokio::test]
async fn a_route_can_ask_for_proof() {
    let (gateway, _upstream) = harness::with(|bundle| {
        issuing(bundle, "");
        bundle.replace("auth: {any_of: [{bearer: moat}, {dpop: moat}]}", "auth: {dpop: moat}");
    })
    .await;
    let key = Key::new();
    let unbound = text(&open(&gateway, &Token::of("acme", &[])).await, "access_token");
    let reply = gateway.get(HELD).bearer(&unbound).send().await;
    assert_eq!(reply.verdict(), "401 session.missing");
    assert!(reply.header("www-authenticate").unwrap().starts_with("DPoP algs=\""), "{:?}", reply.headers);
    assert_eq!(used(&gateway, &unbound, &key.proof("GET", HELD, Some(&unbound))).await, "401 session.invalid");
    let reply = gateway.get(HELD).header("authorization", &format!("DPoP {unbound}")).send().await;
    assert!(reply.header("www-authenticate").unwrap().starts_with("DPoP error=\"invalid_token\""));
}

/// Proofs are remembered across a restart: what was seen stays seen.
#[tokio::test]
async fn a_proof_serves_once_even_if_the_process_dies() {
    let (gateway, _upstream) = start("").await;
    let key = Key::new();
    let access = text(&opened(&gateway, &key).await, "access_token");
    let proof = key.proof("GET", HELD, Some(&access));
    assert_eq!(used(&gateway, &access, &proof).await, "200");
    let gateway = gateway.restart().await;
    assert_eq!(used(&gateway, &access, &proof).await, "401 session.invalid");
}

/// Tokens that another issuer has bound are held to the same: they are no bearer tokens anywhere.
#[tokio::test]
async fn tokens_that_others_have_bound_need_proof_too() {
    let (gateway, _upstream) = start("").await;
    let bound = Token::of("acme", &["viewer"]).claim("cnf", json!({"jkt": b64(&[7; 32])})).signed(&gateway.bundle.key);
    let reply = gateway.get("https://acme.localhost/api/bookings").bearer(&bound).send().await;
    assert_eq!(reply.verdict(), "401 session.invalid");
    assert_eq!(said(&form(&gateway, ACME, &exchange(&bound)).await), "400 invalid_grant session.invalid");
}

/// Anybody can make a key and proofs: what is used up is written to a store, and so only with a token that is good for it.
#[tokio::test]
async fn proofs_of_strangers_are_not_written_down() {
    let (gateway, _upstream) = start("").await;
    let stranger = Key::new();
    for _ in 0..3 {
        let proof = stranger.proof("GET", HELD, Some("made.up.token"));
        assert_eq!(used(&gateway, "made.up.token", &proof).await, "401 session.invalid");
    }
    let metrics = gateway.metrics().await;
    let of = |line: &&str| line.contains("kind=\"once\"") && line.contains("op=\"put\"");
    let lines = metrics.lines().filter(|line| line.starts_with("moat_state_operations_total{")).filter(of);
    let written: u64 = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
    assert_eq!(written, 0, "{metrics}");
}
