//! The outer form of a token: three segments, and the header that says how to read them (RFC 7515, 3 and 4).
use super::json::Value;
use super::{Algorithm, IssuerRules, MAX_TOKEN_BYTES, TokenError, json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Largest header, encoded. Real ones hold three short members.
const MAX_HEADER_BYTES: usize = 2048;

/// Longest `kid`, in bytes.
const MAX_KID_BYTES: usize = 256;

/// Header parameters that let a token bring its own key, or change how its bytes are read. We need none of them, and a
/// reader that ignores one reads another token than its author wrote.
const REFUSED_PARAMETERS: [&str; 7] = ["crit", "b64", "zip", "jku", "x5u", "jwk", "x5c"];

/// The segments of the compact form, still encoded.
pub struct Compact<'a> {
    pub header: &'a str,
    pub payload: &'a str,
    pub signature: &'a str,
    /// Header, dot and payload: what the signature covers.
    pub signed: &'a [u8],
}

impl<'a> Compact<'a> {
    /// Splits at exactly two dots into three segments, none of them empty.
    pub fn split(token: &'a str) -> Result<Compact<'a>, TokenError> {
        const SHAPE: TokenError = TokenError::Invalid("not three segments");
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid("larger than 16 KiB"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(SHAPE)?;
        let (header, payload) = signed.split_once('.').ok_or(SHAPE)?;
        if header.is_empty() || payload.is_empty() || signature.is_empty() || payload.contains('.') {
            return Err(SHAPE);
        }
        Ok(Compact { header, payload, signature, signed: signed.as_bytes() })
    }
}

/// Decodes base64url without padding; other alphabets, padding, white space and stray trailing bits are refused, so
/// that each value has one spelling.
pub fn decode(segment: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| TokenError::Invalid("a segment is not canonical base64url"))
}

/// What of the header counts.
pub struct Header {
    pub algorithm: Algorithm,
    pub kid: Option<String>,
    /// `typ`, lowercase and without `application/`.
    pub token_type: Option<String>,
}

impl Header {
    /// Reads the header segment.
    pub fn parse(segment: &str) -> Result<Header, TokenError> {
        if segment.len() > MAX_HEADER_BYTES {
            return Err(TokenError::Invalid("the header is larger than 2 KiB"));
        }
        let header = decode(segment)?;
        let members = json::object(&header).ok_or(TokenError::Invalid("the header is not one strict JSON object"))?;
        if REFUSED_PARAMETERS.iter().any(|name| members.contains_key(name)) {
            return Err(TokenError::Invalid("a header parameter that is never accepted"));
        }
        let algorithm = match members.get("alg") {
            Some(Value::String(name)) => Algorithm::parse(name),
            _ => None,
        }
        .ok_or(TokenError::Invalid("`alg` is missing or not one of ours"))?;
        let kid = match members.get("kid") {
            None => None,
            Some(Value::String(kid)) if !kid.is_empty() && kid.len() <= MAX_KID_BYTES => Some(kid.to_string()),
            Some(_) => return Err(TokenError::Invalid("`kid` is not a short string")),
        };
        let token_type = match members.get("typ") {
            None => None,
            Some(Value::String(name)) => {
                let name = name.to_ascii_lowercase();
                Some(name.strip_prefix("application/").map(str::to_owned).unwrap_or(name))
            }
            Some(_) => return Err(TokenError::Invalid("`typ` is not a string")),
        };
        Ok(Header { algorithm, kid, token_type })
    }

    /// Holds the header against what the issuer may send.
    pub fn check(&self, rules: &IssuerRules) -> Result<(), TokenError> {
        if !rules.algorithms.contains(&self.algorithm) || (rules.firebase && self.algorithm != Algorithm::Rs256) {
            return Err(TokenError::Invalid("the algorithm is not allowed for this issuer"));
        }
        if rules.firebase && self.kid.is_none() {
            return Err(TokenError::Invalid("`kid` is missing"));
        }
        let accepted = match &self.token_type {
            None => rules.firebase,
            Some(name) => rules.token_types.contains(name) || (rules.firebase && name == "jwt"),
        };
        if accepted { Ok(()) } else { Err(TokenError::Invalid("`typ` is missing or not one of the issuer's")) }
    }
}

/// The issuer that a token *claims*, unverified: good for choosing among the issuers that a route allows, and for
/// nothing else. The chosen issuer's rules then demand the same `iss`.
pub fn peek_issuer(token: &str) -> Option<String> {
    let compact = Compact::split(token).ok()?;
    let payload = decode(compact.payload).ok()?;
    json::object(&payload)?.get("iss")?.as_str().map(str::to_owned)
}
