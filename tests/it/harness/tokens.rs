//! Tokens as the test issuer signs them, and as attackers would like to.
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::PublicKeyData;
use serde_json::{Map, Value, json};
use std::time::SystemTime;

pub struct TokenKey {
    pair: EcdsaKeyPair,
    public: Vec<u8>,
    pub kid: String,
}

impl TokenKey {
    /// A fresh P-256 key.
    pub fn new(kid: &str) -> TokenKey {
        let pair = rcgen::KeyPair::generate().unwrap();
        TokenKey {
            public: pair.der_bytes().to_vec(),
            pair: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.serialized_der()).unwrap(),
            kid: kid.to_owned(),
        }
    }

    /// A JWKS document with the public halves.
    pub fn set(keys: &[&TokenKey]) -> String {
        let keys: Vec<Value> = keys
            .iter()
            .map(|key| {
                let (x, y) = key.public[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": key.kid, "x": b64(x), "y": b64(y)})
            })
            .collect();
        json!({"keys": keys}).to_string()
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec()
    }
}

/// A token in the making: valid for ten minutes unless changed.
#[derive(Clone)]
pub struct Token {
    pub header: Map<String, Value>,
    pub claims: Map<String, Value>,
}

impl Token {
    /// `Token::of("acme", &["cashier"])`
    pub fn of(tenant: &str, roles: &[&str]) -> Token {
        let now = now();
        let header = json!({"alg": "ES256", "typ": "at+jwt"});
        let claims = json!({
            "iss": "https://login.test/", "aud": "northlane-api", "sub": format!("someone@{tenant}"),
            "iat": now, "exp": now + 600, "auth_time": now - 60,
            "org_id": tenant, "roles": roles, "sid": format!("session-of-{tenant}"),
        });
        Token { header: object(header), claims: object(claims) }
    }

    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Token {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    pub fn without(mut self, name: &str) -> Token {
        self.claims.remove(name);
        self
    }

    /// Issued and expired in the past.
    pub fn expired(self) -> Token {
        let now = now();
        self.claim("iat", now - 1200).claim("exp", now - 600)
    }

    pub fn auth_age(self, seconds: u64) -> Token {
        self.claim("auth_time", now() - seconds)
    }

    pub fn signed(&self, key: &TokenKey) -> String {
        let mut header = self.header.clone();
        header.entry("kid").or_insert_with(|| json!(key.kid));
        let text = format!("{}.{}", b64_json(&header), b64_json(&self.claims));
        let signature = key.sign(&text);
        format!("{text}.{}", b64(&signature))
    }
}

pub fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn b64_json(map: &Map<String, Value>) -> String {
    b64(Value::Object(map.clone()).to_string().as_bytes())
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
