//! An issuer's public keys (RFC 7517), read once into verification keys that are fixed to one algorithm each.
use super::json::{Map, Value};
use super::{Algorithm, TokenError, json};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Largest key set that is read, in bytes.
pub const MAX_KEY_SET_BYTES: usize = 256 * 1024;

/// Most keys that a set may hold.
const MAX_KEYS: usize = 100;

/// Members that only a private or symmetric key has (RFC 7518, 6).
const PRIVATE_MEMBERS: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "k"];

/// Public keys of one issuer, at least one of them usable.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    digest: [u8; 32],
}

/// Why a key set as a whole cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// More than 256 KiB.
    #[error("the key set is larger than 256 KiB")]
    TooLarge,
    /// More than 100 keys.
    #[error("the key set holds more than 100 keys")]
    TooMany,
    /// Not a JSON object with an array `keys`, or a member is named twice somewhere in it.
    #[error("the key set is not a strict JSON object with an array `keys`")]
    Malformed,
    /// No key can verify a signature with one of our algorithms.
    #[error("the key set holds no usable key")]
    NoUsableKey,
}

/// One key with one algorithm. An RSA key that names no algorithm stands here twice.
#[derive(Clone, Debug)]
pub(super) struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    public: ParsedPublicKey,
}

impl Key {
    /// Its id, where it has one.
    pub(super) fn id(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Whether `signature` is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.public.verify_sig(message, signature).is_ok()
    }
}

impl KeySet {
    /// Reads a JWKS document. Keys that we cannot use are skipped, each with a line that says why (RFC 7517, 5 asks
    /// for tolerance here): other purposes (`use`, `key_ops`), other algorithms, private or symmetric material,
    /// RSA below 2048 bits, points off their curve, a `kid` that an earlier key of the same algorithm has.
    pub fn parse(document: &[u8]) -> Result<(KeySet, Vec<String>), KeySetError> {
        if document.len() > MAX_KEY_SET_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let mut members = json::object(document).ok_or(KeySetError::Malformed)?;
        let Some(Value::Array(list)) = members.remove("keys") else { return Err(KeySetError::Malformed) };
        if list.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let mut keys: Vec<Key> = Vec::new();
        let mut skipped = Vec::new();
        for (position, jwk) in list.iter().enumerate() {
            let Value::Object(jwk) = jwk else { return Err(KeySetError::Malformed) };
            match usable(jwk) {
                Err(reason) => skipped.push(format!("keys[{position}]: {reason}")),
                Ok(found) => {
                    for key in found {
                        if keys.iter().any(|k| k.kid == key.kid && k.algorithm == key.algorithm) {
                            skipped.push(format!("keys[{position}]: an earlier key has the same `kid` and algorithm"));
                        } else {
                            keys.push(key);
                        }
                    }
                }
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey);
        }
        let digest = fingerprint(&keys);
        Ok((KeySet { keys, digest }, skipped))
    }

    /// The key for a token. A token without `kid` is served only when one key alone fits its algorithm; a `kid` that
    /// exists for another algorithm is a mismatch, not an unknown key.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&Key, TokenError> {
        let Some(kid) = kid else {
            let mut fitting = self.keys.iter().filter(|k| k.algorithm == algorithm);
            return match (fitting.next(), fitting.next()) {
                (Some(key), None) => Ok(key),
                (Some(_), Some(_)) => Err(TokenError::Invalid("`kid` is missing and several keys fit")),
                (None, _) => Err(TokenError::Invalid("`kid` is missing and no key fits")),
            };
        };
        let mut same_id = self.keys.iter().filter(|k| k.kid.as_deref() == Some(kid)).peekable();
        if same_id.peek().is_none() {
            return Err(TokenError::UnknownKey { kid: kid.to_owned() });
        }
        same_id
            .find(|k| k.algorithm == algorithm)
            .ok_or(TokenError::Invalid("the algorithm does not belong to the key"))
    }

    /// Whether a token with this algorithm could verify under one of its keys.
    pub fn serves(&self, algorithm: Algorithm) -> bool {
        self.keys.iter().any(|key| key.algorithm == algorithm)
    }

    /// How many keys can be used.
    pub fn count(&self) -> usize {
        let ambiguous_twins = self
            .keys
            .iter()
            .filter(|k| k.algorithm == Algorithm::Ps256)
            .filter(|k| self.keys.iter().any(|o| o.algorithm == Algorithm::Rs256 && o.kid == k.kid))
            .count();
        self.keys.len() - ambiguous_twins
    }

    /// The ids of its keys, each once, in the order of the document.
    pub fn key_ids(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = Vec::new();
        for id in self.keys.iter().filter_map(|k| k.kid.as_deref()) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    /// SHA-256 over ids, algorithms and key material: two sets with the same digest accept the same tokens, in
    /// whatever order and with whatever other members they were published.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// The verification keys that a JWK gives, or why it gives none.
fn usable(jwk: &Map<'_>) -> Result<Vec<Key>, &'static str> {
    if PRIVATE_MEMBERS.iter().any(|name| jwk.contains_key(name)) {
        return Err("private or symmetric key material");
    }
    match jwk.get("use") {
        None => {}
        Some(Value::String(purpose)) if purpose == "sig" => {}
        Some(_) => return Err("`use` is not `sig`"),
    }
    match jwk.get("key_ops") {
        None => {}
        Some(Value::Array(operations)) if operations.iter().any(|o| o == "verify") => {}
        Some(_) => return Err("`key_ops` does not hold `verify`"),
    }
    let kid = match jwk.get("kid") {
        None => None,
        Some(Value::String(kid)) if !kid.is_empty() && kid.len() <= 256 => Some(kid.to_string()),
        Some(_) => return Err("`kid` is not a short string"),
    };
    let bound = match jwk.get("alg") {
        None => None,
        Some(Value::String(name)) => Some(Algorithm::parse(name).ok_or("`alg` is not one of ours")?),
        Some(_) => return Err("`alg` is not a string"),
    };
    let mut keys = Vec::new();
    for algorithm in fitting(jwk)? {
        if bound.is_none_or(|b| b == *algorithm) {
            keys.push(Key { kid: kid.clone(), algorithm: *algorithm, public: material(jwk, *algorithm)? });
        }
    }
    if keys.is_empty() { Err("`alg` does not fit the key type") } else { Ok(keys) }
}

/// The key of a JWK that stands alone, for this algorithm.
pub(super) fn single(jwk: &Map<'_>, algorithm: Algorithm) -> Result<Key, &'static str> {
    let found = usable(jwk)?.into_iter().find(|key| key.algorithm == algorithm);
    found.ok_or("the algorithm does not belong to the key")
}

/// The algorithms that a key's type and curve can serve.
fn fitting(jwk: &Map<'_>) -> Result<&'static [Algorithm], &'static str> {
    match (text(jwk, "kty"), text(jwk, "crv")) {
        (Some("RSA"), _) => Ok(&[Algorithm::Rs256, Algorithm::Ps256]),
        (Some("EC"), Some("P-256")) => Ok(&[Algorithm::Es256]),
        (Some("EC"), Some("P-384")) => Ok(&[Algorithm::Es384]),
        (Some("OKP"), Some("Ed25519")) => Ok(&[Algorithm::EdDsa]),
        (Some("oct"), _) => Err("symmetric key"),
        (Some("EC" | "OKP"), _) => Err("a curve that is not one of ours"),
        (Some(_), _) | (None, _) => Err("a key type that is not one of ours"),
    }
}

/// Builds the verification key; the parsed form is kept so that no request pays for parsing.
fn material(jwk: &Map<'_>, algorithm: Algorithm) -> Result<ParsedPublicKey, &'static str> {
    const OFF_CURVE: &str = "not a point of its curve";
    match algorithm {
        Algorithm::Rs256 => rsa(jwk)?.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).map_err(|_| "not an RSA key"),
        Algorithm::Ps256 => rsa(jwk)?.to_parsed_public_key(&RSA_PSS_2048_8192_SHA256).map_err(|_| "not an RSA key"),
        Algorithm::Es256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point(jwk, 32)?).map_err(|_| OFF_CURVE),
        Algorithm::Es384 => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point(jwk, 48)?).map_err(|_| OFF_CURVE),
        Algorithm::EdDsa => ParsedPublicKey::new(&ED25519, octets(jwk, "x", 32)?).map_err(|_| OFF_CURVE),
    }
}

/// Modulus and exponent (RFC 7518, 6.3.1): 2048 to 8192 bits, an odd exponent of at most 33 bits.
fn rsa(jwk: &Map<'_>) -> Result<RsaPublicKeyComponents<Vec<u8>>, &'static str> {
    let n = decoded(jwk, "n")?;
    let e = decoded(jwk, "e")?;
    let bits = n.len() * 8 - n.first().map_or(0, |top| top.leading_zeros() as usize);
    if n.first() == Some(&0) || e.first() == Some(&0) {
        return Err("a number with leading zeros");
    }
    if !(2048..=8192).contains(&bits) {
        return Err("RSA outside 2048 to 8192 bits");
    }
    if e.len() > 5 || e == [1] || e.last().is_none_or(|low| low % 2 == 0) {
        return Err("an unsafe RSA exponent");
    }
    Ok(RsaPublicKeyComponents { n, e })
}

/// The uncompressed point (SEC 1, 2.3.3) of coordinates that have their full length (RFC 7518, 6.2.1).
fn point(jwk: &Map<'_>, length: usize) -> Result<Vec<u8>, &'static str> {
    let mut bytes = vec![4];
    bytes.extend(octets(jwk, "x", length)?);
    bytes.extend(octets(jwk, "y", length)?);
    Ok(bytes)
}

fn octets(jwk: &Map<'_>, name: &str, length: usize) -> Result<Vec<u8>, &'static str> {
    let bytes = decoded(jwk, name)?;
    if bytes.len() == length { Ok(bytes) } else { Err("a coordinate of the wrong length") }
}

fn decoded(jwk: &Map<'_>, name: &str) -> Result<Vec<u8>, &'static str> {
    let encoded = text(jwk, name).ok_or("a key member is missing")?;
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| "a key member is not canonical base64url")
}

fn text<'a>(jwk: &'a Map<'_>, name: &str) -> Option<&'a str> {
    jwk.get(name).and_then(Value::as_str)
}

/// The digest of a set, independent of order.
fn fingerprint(keys: &[Key]) -> [u8; 32] {
    let mut lines: Vec<Vec<u8>> = keys
        .iter()
        .map(|key| {
            let mut line = Vec::new();
            for part in
                [key.kid.as_deref().unwrap_or("").as_bytes(), key.algorithm.as_str().as_bytes(), key.public.as_ref()]
            {
                line.extend((part.len() as u64).to_be_bytes());
                line.extend(part);
            }
            line
        })
        .collect();
    lines.sort();
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, &lines.concat()).as_ref());
    out
}
