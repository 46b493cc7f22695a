//! `decide::token`: what verifies was signed, and every reader of its JSON finds the same in it.
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use decide::facts::Identity;
use decide::token::{Algorithm, ClaimNames, IssuerRules, KeySet, TokenError, peek_issuer, verify};
use serde_json::Value;
use std::sync::LazyLock;

const NOW: u64 = 1_800_000_000;
const HEADER: &str = r#"{"alg":"EdDSA","typ":"at+jwt"}"#;

static PAIR: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed is a key"));

static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let x = URL_SAFE_NO_PAD.encode(PAIR.public_key());
    let jwks = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k","x":"{x}"}}]}}"#);
    KeySet::parse(jwks.as_bytes()).expect("one key").0
});

static RULES: LazyLock<IssuerRules> = LazyLock::new(|| IssuerRules {
    name: "test".into(),
    issuer: "https://id.example".to_owned(),
    audiences: vec!["api".to_owned()],
    algorithms: vec![Algorithm::EdDsa],
    token_types: vec!["at+jwt".to_owned()],
    clock_skew_s: 30,
    max_lifetime_s: Some(3600),
    claims: ClaimNames::default(),
    firebase: false,
    ours: false,
    session_pepper: [1; 32],
});

pub fn run(data: &[u8]) {
    let (mode, rest) = crate::input::line(data);
    match mode {
        // Bytes of a stranger.
        b"raw" => {
            let Ok(token) = std::str::from_utf8(rest) else { return };
            let _ = peek_issuer(token);
            let verdict = verify(token, &RULES, &KEYS, NOW);
            assert!(!matches!(verdict, Ok(_) | Err(TokenError::Expired { .. })), "an unsigned token verifies");
        }
        // An issuer that signs whatever it is given.
        b"signed" => {
            let (header, claims) = crate::input::line(rest);
            judge(header, claims);
        }
        // JSON deep inside claims that are in order otherwise.
        _ => judge(HEADER.as_bytes(), &claims_with(rest)),
    }
}

/// Claims in order, with somebody's JSON inside.
fn claims_with(json: &[u8]) -> Vec<u8> {
    let front =
        format!(r#"{{"iss":"https://id.example","aud":"api","sub":"u","iat":{},"exp":{},"x":"#, NOW - 10, NOW + 10);
    [front.as_bytes(), json, b"}"].concat()
}

fn judge(header: &[u8], claims: &[u8]) {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(PAIR.sign(signed.as_bytes())));
    let verdict = verify(&token, &RULES, &KEYS, NOW);
    let (identity, expired) = match &verdict {
        Ok(identity) => (identity, false),
        Err(TokenError::Expired { identity }) => (&**identity, true),
        Err(TokenError::UnknownKey { .. } | TokenError::Invalid(_)) => return,
    };
    assert_eq!(identity.expires_at <= NOW, expired);
    strict(header);
    strict(claims);
    let header: Value = serde_json::from_slice(header).expect("JSON");
    assert!(matches!(header["alg"].as_str(), Some("EdDSA" | "Ed25519")));
    assert!(["crit", "b64", "zip", "jwk", "jku", "x5u", "x5c"].iter().all(|name| header.get(name).is_none()));
    agree(identity, &serde_json::from_slice(claims).expect("JSON"));

    // The same token with one bit of its signed part changed is nobody's.
    let mut forged = token.into_bytes();
    let at = identity.expires_at as usize % signed.len();
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    let verdict = verify(&forged, &RULES, &KEYS, NOW);
    assert!(
        forged.starts_with(&signed) || matches!(verdict, Err(TokenError::Invalid(_) | TokenError::UnknownKey { .. }))
    );
}

/// A lenient reader finds the same claims.
fn agree(identity: &Identity, claims: &Value) {
    assert_eq!(claims["iss"], RULES.issuer);
    assert!(claims["aud"] == "api" || claims["aud"].as_array().is_some_and(|list| list.iter().any(|a| a == "api")));
    assert_eq!(claims["sub"].as_str(), Some(&*identity.subject.0));
    assert!(!identity.subject.0.is_empty() && identity.subject.0.len() <= 256);
    assert_eq!(claims.get("tenant").and_then(Value::as_str), identity.tenant.as_deref());
    assert_eq!(claims["exp"].as_f64().map(f64::floor), Some(identity.expires_at as f64));
    assert_eq!(claims["iat"].as_f64().map(f64::floor), Some(identity.issued_at as f64));
    assert!(identity.issued_at <= NOW + 30 && identity.not_before <= NOW + 30);
    assert!(identity.expires_at > identity.issued_at && identity.expires_at - identity.issued_at <= 3600);
    assert!(identity.auth_time.is_none_or(|at| at <= NOW + 30));
    for role in &identity.roles {
        assert!(!role.is_empty() && !role.contains([',', '\n', '\r']), "one role that may be read as two");
    }
}

/// No member is named twice: then a tree holds as many members as the text has colons outside of strings.
fn strict(json: &[u8]) {
    fn members(value: &Value) -> usize {
        match value {
            Value::Object(map) => map.len() + map.values().map(members).sum::<usize>(),
            Value::Array(list) => list.iter().map(members).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }
    let (mut colons, mut inside, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => inside = !inside,
            b':' if !inside => colons += 1,
            _ => {}
        }
    }
    let value: Value = serde_json::from_slice(json).expect("JSON");
    assert_eq!(members(&value), colons, "a member is named twice");
}
