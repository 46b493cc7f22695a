//! Test issuers, under `#[cfg(test)]` only: a key pair per algorithm, and tokens with whatever header, claims and
//! signature a test asks for.
use super::{Algorithm, ClaimNames, IssuerRules, KeySet};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The moment at which every test happens.
pub const NOW: u64 = 1_800_000_000;

/// One private key of each type; made once, RSA takes its time.
pub struct Pairs {
    pub rsa: RsaKeyPair,
    pub p256: EcdsaKeyPair,
    pub p384: EcdsaKeyPair,
    pub ed25519: Ed25519KeyPair,
}

pub static PAIRS: LazyLock<Pairs> = LazyLock::new(|| Pairs {
    rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
    p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
    p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
    ed25519: Ed25519KeyPair::generate().unwrap(),
});

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The key id that `jwks` gives an algorithm's key.
pub fn kid(algorithm: Algorithm) -> &'static str {
    algorithm.as_str()
}

pub fn sign(algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let rsa = |padding| {
        let mut signature = vec![0; PAIRS.rsa.public_modulus_len()];
        PAIRS.rsa.sign(padding, &random, message, &mut signature).unwrap();
        signature
    };
    match algorithm {
        Algorithm::Rs256 => rsa(&RSA_PKCS1_SHA256),
        Algorithm::Ps256 => rsa(&RSA_PSS_SHA256),
        Algorithm::Es256 => PAIRS.p256.sign(&random, message).unwrap().as_ref().to_vec(),
        Algorithm::Es384 => PAIRS.p384.sign(&random, message).unwrap().as_ref().to_vec(),
        Algorithm::EdDsa => PAIRS.ed25519.sign(message).as_ref().to_vec(),
    }
}

/// The public JWK of an algorithm's key, bound to it.
pub fn jwk(algorithm: Algorithm) -> Value {
    let point = |public: &[u8], curve: &str| {
        let (x, y) = public[1..].split_at((public.len() - 1) / 2);
        json!({"kty": "EC", "crv": curve, "x": b64(x), "y": b64(y)})
    };
    let mut jwk = match algorithm {
        Algorithm::Rs256 | Algorithm::Ps256 => {
            let public = PAIRS.rsa.public_key();
            let strip = |n: &[u8]| b64(&n[n.iter().take_while(|b| **b == 0).count()..]);
            json!({
                "kty": "RSA",
                "n": strip(public.modulus().big_endian_without_leading_zero()),
                "e": strip(public.exponent().big_endian_without_leading_zero()),
            })
        }
        Algorithm::Es256 => point(PAIRS.p256.public_key().as_ref(), "P-256"),
        Algorithm::Es384 => point(PAIRS.p384.public_key().as_ref(), "P-384"),
        Algorithm::EdDsa => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(PAIRS.ed25519.public_key())}),
    };
    jwk["kid"] = kid(algorithm).into();
    jwk["alg"] = algorithm.as_str().into();
    jwk["use"] = "sig".into();
    jwk
}

/// One key per algorithm.
pub fn keys() -> KeySet {
    let document = json!({"keys": Algorithm::ALL.map(jwk)});
    let (keys, skipped) = KeySet::parse(document.to_string().as_bytes()).unwrap();
    assert_eq!(skipped, Vec::<String>::new());
    keys
}

pub fn rules() -> IssuerRules {
    IssuerRules {
        name: "workforce".into(),
        issuer: "https://login.example/".into(),
        audiences: vec!["orders-api".into(), "billing-api".into()],
        algorithms: Algorithm::ALL.to_vec(),
        token_types: vec!["at+jwt".into()],
        clock_skew_s: 30,
        max_lifetime_s: Some(3600),
        claims: ClaimNames::default(),
        firebase: false,
        ours: false,
        session_pepper: [7; 32],
    }
}

pub fn header(algorithm: Algorithm) -> Value {
    json!({"alg": algorithm.as_str(), "kid": kid(algorithm), "typ": "at+jwt"})
}

pub fn claims() -> Value {
    json!({
        "iss": "https://login.example/", "aud": "orders-api", "sub": "user-1",
        "iat": NOW - 60, "exp": NOW + 600,
        "tenant": "acme", "roles": ["buyer", "clerk"], "sid": "s-1",
        "auth_time": NOW - 120, "acr": "mfa", "amr": ["pwd", "otp"],
    })
}

/// A token of these exact texts, signed.
pub fn token_of(algorithm: Algorithm, header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", b64(header), b64(claims));
    let signature = b64(sign(algorithm, signed.as_bytes()));
    format!("{signed}.{signature}")
}

pub fn token(algorithm: Algorithm, header: &Value, claims: &Value) -> String {
    token_of(algorithm, &header.to_string(), &claims.to_string())
}

pub fn good(algorithm: Algorithm) -> String {
    token(algorithm, &header(algorithm), &claims())
}
