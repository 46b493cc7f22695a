//! What a token costs: verified anew per algorithm, beside the crate jsonwebtoken, and found in memory.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on should stop where it stands"
)]
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use decide::token::{Algorithm, ClaimName, ClaimNames, IssuerRules, KeySet, verify};
use moat::serve::tokens::{TokenKey, Tokens};
use serde_json::{Value, json};
use std::hint::black_box;
use std::sync::Arc;

const NOW: u64 = 1_800_000_000;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rules() -> IssuerRules {
    IssuerRules {
        name: "idp".into(),
        issuer: "https://login.northlane.example/".into(),
        audiences: vec!["northlane-api".into()],
        algorithms: Algorithm::ALL.to_vec(),
        token_types: vec!["at+jwt".into()],
        clock_skew_s: 30,
        max_lifetime_s: Some(3600),
        claims: ClaimNames { tenant: ClaimName::new("org_id"), ..ClaimNames::default() },
        firebase: false,
        ours: false,
        session_pepper: [1; 32],
    }
}

/// A key set of one key and a token of about the size that providers send.
fn issue(algorithm: Algorithm, jwk: Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> (KeySet, String, Value) {
    let header = json!({"alg": algorithm.as_str(), "kid": "2026-11", "typ": "at+jwt"});
    let claims = json!({
        "iss": "https://login.northlane.example/", "aud": ["northlane-api"], "sub": "auth0|64f0c2a7e1b2c3d4e5f60718",
        "iat": NOW - 60, "exp": NOW + 540, "auth_time": NOW - 60, "jti": "0193-4c1e-7d2a-8f3b", "client_id": "web",
        "org_id": "acme", "roles": ["cashier", "reports"], "sid": "7c1f0b52a9", "acr": "mfa", "amr": ["pwd", "otp"],
    });
    let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let token = format!("{signed}.{}", b64(sign(signed.as_bytes())));
    let mut jwk = jwk;
    jwk["kid"] = "2026-11".into();
    jwk["alg"] = algorithm.as_str().into();
    let (keys, _) = KeySet::parse(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
    (keys, token, jwk)
}

fn point(public: &[u8], curve: &str) -> Value {
    let (x, y) = public.get(1..).unwrap().split_at(public.len() / 2);
    json!({"kty": "EC", "crv": curve, "x": b64(x), "y": b64(y)})
}

fn tokens(c: &mut Criterion) {
    let random = SystemRandom::new();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let rsa_sign = |padding, message: &[u8]| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(padding, &random, message, &mut signature).unwrap();
        signature
    };
    let public = rsa.public_key();
    let rsa_jwk = json!({
        "kty": "RSA",
        "n": b64(public.modulus().big_endian_without_leading_zero()),
        "e": b64(public.exponent().big_endian_without_leading_zero()),
    });
    let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let ed25519 = Ed25519KeyPair::generate().unwrap();
    let issued = [
        issue(Algorithm::Rs256, rsa_jwk.clone(), |m| rsa_sign(&RSA_PKCS1_SHA256, m)),
        issue(Algorithm::Ps256, rsa_jwk, |m| rsa_sign(&RSA_PSS_SHA256, m)),
        issue(Algorithm::Es256, point(p256.public_key().as_ref(), "P-256"), |m| {
            p256.sign(&random, m).unwrap().as_ref().to_vec()
        }),
        issue(Algorithm::Es384, point(p384.public_key().as_ref(), "P-384"), |m| {
            p384.sign(&random, m).unwrap().as_ref().to_vec()
        }),
        issue(Algorithm::EdDsa, json!({"kty": "OKP", "crv": "Ed25519", "x": b64(ed25519.public_key())}), |m| {
            ed25519.sign(m).as_ref().to_vec()
        }),
    ];

    let rules = rules();
    for (algorithm, (keys, token, _)) in Algorithm::ALL.iter().zip(&issued) {
        let name = format!("verify {}, {} bytes", algorithm.as_str(), token.len());
        c.bench_function(&name, |b| b.iter(|| verify(black_box(token), &rules, keys, NOW).unwrap()));
    }
    for (algorithm, (_, token, jwk)) in Algorithm::ALL.iter().zip(&issued) {
        let theirs: jsonwebtoken::Algorithm = algorithm.as_str().parse().unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(&serde_json::from_value(jwk.clone()).unwrap()).unwrap();
        let mut validation = jsonwebtoken::Validation::new(theirs);
        validation.set_audience(&["northlane-api"]);
        validation.validate_exp = false;
        c.bench_function(&format!("jsonwebtoken {}", algorithm.as_str()), |b| {
            b.iter(|| jsonwebtoken::decode::<Value>(black_box(token), &key, &validation).unwrap());
        });
    }

    let table = Tokens::new(100_000);
    let Some((keys, token, _)) = issued.first() else { return };
    let identity = Arc::new(verify(token, &rules, keys, NOW).unwrap());
    for number in 0..50_000_u32 {
        table.insert(TokenKey::of(&number.to_string()).unwrap(), 1, NOW, identity.clone());
    }
    table.insert(TokenKey::of(token).unwrap(), 1, NOW, identity);
    c.bench_function("found in memory, hash and all", |b| {
        b.iter(|| table.find(&TokenKey::of(black_box(token)).unwrap(), 1, NOW).unwrap());
    });
    let others: Vec<TokenKey> = (0..50_000_u32).map(|number| TokenKey::of(&number.to_string()).unwrap()).collect();
    let mut next = others.iter().cycle();
    c.bench_function("found in memory, without the hash, 50,000 in turn", |b| {
        b.iter(|| next.next().and_then(|key| table.find(key, 1, NOW)));
    });
}

criterion_group!(benches, tokens);
criterion_main!(benches);
