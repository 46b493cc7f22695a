//! Proof of possession (RFC 9449): a JWT by which a client shows, for one request, that it holds the private key that its
//! tokens are bound to.
use super::json::{Map, Value};
use super::{Algorithm, json, keys, parse};
use crate::authority::Authority;
use crate::path;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::Arc;

/// Largest proof that is looked at, in bytes: room for an RSA key of 4096 bits and its signature.
pub const MAX_PROOF_BYTES: usize = 4096;

/// Longest `jti`, and longest nonce, in bytes.
const MAX_ID_BYTES: usize = 256;

/// Longest `htu`, in bytes.
const MAX_URI_BYTES: usize = 2048;

/// Header parameters that would bring another key than `jwk`, or change how the bytes are read.
const REFUSED_PARAMETERS: [&str; 6] = ["crit", "b64", "zip", "jku", "x5u", "x5c"];

/// What the proof of one request must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The request's method, as sent.
    pub method: &'a str,
    /// `https` or `http`, as the client sees it.
    pub scheme: &'a str,
    /// Our one reading of the host, without port.
    pub host: &'a str,
    /// The port, where the authority gave one.
    pub port: Option<u16>,
    /// Our one reading of the path.
    pub path: &'a str,
    /// The access token that came along, where one did.
    pub token: Option<&'a str>,
    /// The nonces that we have handed out of late; `None` where none is asked for.
    pub nonces: Option<&'a [Box<str>]>,
    /// Seconds since the epoch.
    pub now_s: u64,
    /// How old a proof may be, in seconds.
    pub max_age_s: u64,
    /// How far the client's clock may run ahead, in seconds.
    pub skew_s: u64,
    /// Signature algorithms that may be used.
    pub algorithms: &'a [Algorithm],
}

/// A proof that holds, but for its being the first of its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The key: SHA-256 thumbprint of RFC 7638, base64url. What `cnf.jkt` of a token must equal.
    pub thumbprint: Arc<str>,
    /// What may be seen once: a hash of key and `jti`.
    pub id: [u8; 32],
    /// From when on a copy is too old to be accepted, seconds since the epoch.
    pub dies_at_s: u64,
}

/// Why a proof does not hold; no cause repeats anything that it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It lacks a nonce of ours, or has an old one: the client is told a new one (RFC 9449, 8).
    #[error("the proof lacks a current nonce")]
    Nonce,
    /// It is not a proof for this request.
    #[error("the proof does not hold: {0}")]
    Invalid(&'static str),
}

impl From<super::TokenError> for ProofError {
    fn from(error: super::TokenError) -> ProofError {
        match error {
            super::TokenError::Invalid(cause) => ProofError::Invalid(cause),
            super::TokenError::UnknownKey { .. } | super::TokenError::Expired { .. } => {
                ProofError::Invalid("not a proof")
            }
        }
    }
}

/// Verifies a proof (RFC 9449, 4.3, in its order where it has one). Whether it is the first of its id is asked by the caller,
/// of everybody who shares the answer, and only of a proof that holds: strangers cannot fill that memory for free.
pub fn verify(proof: &str, expected: &Expected<'_>) -> Result<Proof, ProofError> {
    use ProofError::Invalid;
    if proof.len() > MAX_PROOF_BYTES {
        return Err(Invalid("it is larger than 4 KiB"));
    }
    let compact = parse::Compact::split(proof)?;
    let header = parse::decode(compact.header)?;
    let header = json::object(&header).ok_or(Invalid("its header is not one strict JSON object"))?;
    if REFUSED_PARAMETERS.iter().any(|name| header.contains_key(name)) {
        return Err(Invalid("its header holds a parameter that no proof needs"));
    }
    match header.get("typ") {
        Some(Value::String(name)) if is_type(name) => {}
        _ => return Err(Invalid("`typ` is not `dpop+jwt`")),
    }
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::parse);
    let algorithm = algorithm.filter(|a| expected.algorithms.contains(a)).ok_or(Invalid("`alg` is not allowed"))?;
    let Some(Value::Object(jwk)) = header.get("jwk") else { return Err(Invalid("`jwk` is missing")) };
    let key = keys::single(jwk, algorithm).map_err(Invalid)?;
    if !key.verifies(compact.signed, &parse::decode(compact.signature)?) {
        return Err(Invalid("the signature does not verify"));
    }
    let claims = parse::decode(compact.payload)?;
    let claims = json::object(&claims).ok_or(Invalid("its claims are not one strict JSON object"))?;
    let text = |name: &str, most: usize| {
        claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty() && text.len() <= most)
    };
    let id = text("jti", MAX_ID_BYTES).ok_or(Invalid("`jti` is missing, empty or too long"))?;
    if text("htm", 16) != Some(expected.method) {
        return Err(Invalid("`htm` is not the method"));
    }
    let uri = text("htu", MAX_URI_BYTES).ok_or(Invalid("`htu` is missing, empty or too long"))?;
    if !names(uri, expected) {
        return Err(Invalid("`htu` is not the target"));
    }
    let issued_at = claims.get("iat").and_then(seconds).ok_or(Invalid("`iat` is missing or not a moment"))?;
    if issued_at > expected.now_s.saturating_add(expected.skew_s) {
        return Err(Invalid("`iat` is in the future"));
    }
    let dies_at_s = issued_at.saturating_add(expected.max_age_s);
    if dies_at_s <= expected.now_s {
        return Err(Invalid("it is too old"));
    }
    match (expected.token, claims.get("ath")) {
        (None, _) => {}
        (Some(token), Some(Value::String(hash))) if *hash == hash_of(token) => {}
        (Some(_), _) => return Err(Invalid("`ath` is not the hash of the token")),
    }
    if let Some(nonces) = expected.nonces {
        let nonce = text("nonce", MAX_ID_BYTES).ok_or(ProofError::Nonce)?;
        if !nonces.iter().any(|ours| **ours == *nonce) {
            return Err(ProofError::Nonce);
        }
    }
    let thumbprint = thumbprint(jwk).ok_or(Invalid("`jwk` is not a public key"))?;
    let mut seen = Vec::with_capacity(thumbprint.len() + 1 + id.len());
    seen.extend_from_slice(thumbprint.as_bytes());
    seen.push(0);
    seen.extend_from_slice(id.as_bytes());
    let mut once = [0; 32];
    once.copy_from_slice(digest(&SHA256, &seen).as_ref());
    Ok(Proof { thumbprint: thumbprint.into(), id: once, dies_at_s })
}

/// `ath` of a token: base64url of its SHA-256.
pub fn hash_of(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()))
}

/// Whether a text can be the thumbprint of a key: 32 bytes in base64url.
pub fn is_thumbprint(text: &str) -> bool {
    text.len() == 43 && URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

fn is_type(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.strip_prefix("application/").unwrap_or(&name) == "dpop+jwt"
}

/// Whether a URI is the request's, in our reading of both and without query and fragment (RFC 9449, 4.3; RFC 3986, 6.2).
/// A port that stands in one of them only must be the scheme's own.
fn names(uri: &str, expected: &Expected<'_>) -> bool {
    let uri = uri.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = uri.split_once("://") else { return false };
    if !scheme.eq_ignore_ascii_case(expected.scheme) {
        return false;
    }
    let (authority, path) = match rest.find('/') {
        None => (rest, "/"),
        Some(at) => rest.split_at(at),
    };
    let Ok(authority) = Authority::parse(authority) else { return false };
    let default = if expected.scheme == "https" { 443 } else { 80 };
    let same_port = authority.port_or(default) == expected.port.unwrap_or(default);
    same_port && authority.host == expected.host && path::canonical(path).is_ok_and(|path| path == expected.path)
}

/// A NumericDate (RFC 7519, 2) in whole seconds.
fn seconds(value: &Value<'_>) -> Option<u64> {
    let Value::Number(number) = value else { return None };
    let fraction = || number.as_f64().filter(|s| (0.0..=1e11).contains(s)).map(|s| s.floor() as u64);
    number.as_u64().or_else(fraction)
}

/// RFC 7638 over the members that its section 3.2 and RFC 8037 name. Only for a key that [`keys::single`] has read: its
/// members need no escaping.
fn thumbprint(jwk: &Map<'_>) -> Option<String> {
    let member = |name: &str| jwk.get(name).and_then(Value::as_str);
    let text = match member("kty")? {
        "EC" => {
            let (curve, x, y) = (member("crv")?, member("x")?, member("y")?);
            format!("{{\"crv\":\"{curve}\",\"kty\":\"EC\",\"x\":\"{x}\",\"y\":\"{y}\"}}")
        }
        "OKP" => format!("{{\"crv\":\"{}\",\"kty\":\"OKP\",\"x\":\"{}\"}}", member("crv")?, member("x")?),
        "RSA" => format!("{{\"e\":\"{}\",\"kty\":\"RSA\",\"n\":\"{}\"}}", member("e")?, member("n")?),
        _ => return None,
    };
    Some(URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes())))
}

#[cfg(test)]
mod tests;
