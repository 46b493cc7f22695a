//! The signed assertion: a short-lived JWT by which an application can check for itself who calls, whatever the network.
use self::issued::Issued;
use self::key::{Keys, PublicKey};
use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use decide::deliberation::Permit;
use decide::facts::Identity;
use http::HeaderValue;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod issued;
mod key;

pub use key::KeyFault;

/// How long an assertion is valid, in seconds.
pub const LIFE_S: u64 = 60;
/// How long one is handed out again, in seconds: what is left is for clocks that disagree and requests that wait.
const REUSE_S: u64 = LIFE_S / 2;
/// How many are remembered; each takes about a kilobyte.
const CACHE_MAX: u64 = 20_000;

/// Signs assertions and remembers them, so that a request costs a look-up and not a signature.
///
/// There is no `jti`: an assertion says who the caller is, not which request this is, and is the same for all requests
/// of a session to one upstream for half a minute. The request's id travels in its own header.
pub struct Assertions {
    folder: PathBuf,
    issuer: Arc<str>,
    signer: ArcSwap<Signer>,
    cache: Issued,
}

/// What can be exchanged by a rotation.
struct Signer {
    keys: Keys,
    /// The first part of every token, with its dot.
    head: String,
    jwks: Bytes,
}

/// What an assertion is about, and to whom.
#[derive(Clone, Copy)]
struct About<'a> {
    identity: &'a Arc<Identity>,
    tenant: Option<&'a Arc<str>>,
    upstream: &'a Arc<str>,
}

/// An assertion, and when it is handed out.
struct Signed {
    value: HeaderValue,
    /// Seconds since the epoch.
    from_s: u64,
    until_s: u64,
}

impl Signed {
    fn serves(&self, now_s: u64) -> bool {
        (self.from_s..self.until_s).contains(&now_s)
    }
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    kid: &'a str,
}

/// The claims (RFC 7519, 4; OpenID Connect for `auth_time`, `acr`, `amr`, `sid`).
#[derive(Serialize)]
struct Claims<'a> {
    /// This gateway.
    iss: &'a str,
    /// The upstream: an application must refuse what was meant for another.
    aud: &'a str,
    sub: &'a str,
    /// The issuer that knows `sub`, by its name in `gateway.yaml`.
    idp: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    roles: &'a [Arc<str>],
    /// What the credential is good for of what the roles grant, separated by spaces (RFC 8693, 4.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// A hash of the session's id, never the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    amr: &'a [Arc<str>],
    iat: u64,
    exp: u64,
}

/// The claims of a client assertion (RFC 7523, 3).
#[derive(Serialize)]
struct ClientClaims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: u64,
    exp: u64,
}

impl Assertions {
    /// Loads the key of a state folder, or makes one; `issuer` is the `iss` of every assertion.
    pub fn open(folder: &Path, issuer: &str) -> Result<Assertions, KeyFault> {
        let signer = Signer::new(Keys::open(folder)?);
        Ok(Assertions {
            folder: folder.to_owned(),
            issuer: issuer.into(),
            signer: ArcSwap::from_pointee(signer),
            cache: Issued::new(CACHE_MAX),
        })
    }

    /// The assertion for a request that was let in; `None` where nobody is known to have sent it.
    pub fn issue(&self, permit: &Permit, now_s: u64) -> Option<HeaderValue> {
        let findings = permit.findings();
        let tenant = findings.seat.as_ref().map(|seat| &seat.id);
        self.about(findings.identity.as_ref()?, tenant, &permit.destination().name, now_s)
    }

    /// The assertion that an identity acts for a tenant, addressed to an upstream. `None` once the identity has expired:
    /// no assertion outlives what it rests on.
    pub fn about(
        &self,
        identity: &Arc<Identity>,
        tenant: Option<&Arc<str>>,
        upstream: &Arc<str>,
        now_s: u64,
    ) -> Option<HeaderValue> {
        let about = About { identity, tenant, upstream };
        if let Some(known) = self.cache.find(about, now_s) {
            return Some(known);
        }
        let expires_s = now_s.checked_add(LIFE_S)?.min(identity.expires_at);
        if expires_s <= now_s {
            return None;
        }
        let value = self.signer.load().sign(&self.issuer, about, now_s, expires_s)?;
        let until_s = expires_s.min(now_s + REUSE_S);
        self.cache.insert(about, Signed { value: value.clone(), from_s: now_s, until_s }, now_s);
        Some(value)
    }

    /// Proves to an OpenID provider that this gateway is its client (`private_key_jwt`, RFC 7523, 2.2): addressed to the
    /// provider by its issuer name and to nobody else, good for a minute and once.
    pub fn client(&self, client_id: &str, provider: &str, now_s: u64) -> Option<String> {
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).ok()?;
        let claims = ClientClaims {
            iss: client_id,
            sub: client_id,
            aud: provider,
            jti: URL_SAFE_NO_PAD.encode(id),
            iat: now_s,
            exp: now_s.checked_add(LIFE_S)?,
        };
        self.signer.load().sign_client(&claims)
    }

    /// The key set for `/.moat/jwks.json` (RFC 7517): the key in use first, then its predecessor.
    pub fn jwks(&self) -> Bytes {
        self.signer.load().jwks.clone()
    }

    /// Makes a new key and signs with it from now on. The old one stays listed until the next rotation, so that what it
    /// signed can be checked. Applications fetch the key set again when they meet an unknown `kid`.
    pub fn rotate(&self) -> Result<(), KeyFault> {
        self.signer.store(Arc::new(Signer::new(Keys::rotate(&self.folder)?)));
        Ok(())
    }
}

impl Signer {
    fn new(keys: Keys) -> Signer {
        let header = Header { alg: "EdDSA", typ: "moat-assertion+jwt", kid: &keys.public.kid };
        let mut head = encode(&header).unwrap_or_default();
        head.push('.');
        let listed: Vec<String> = std::iter::once(&keys.public).chain(&keys.previous).map(PublicKey::jwk).collect();
        let jwks = Bytes::from(format!("{{\"keys\":[{}]}}", listed.join(",")));
        Signer { keys, head, jwks }
    }

    fn sign_client(&self, claims: &ClientClaims<'_>) -> Option<String> {
        // Of another type than assertions about callers: neither can be passed off as the other.
        let header = Header { alg: "EdDSA", typ: "JWT", kid: &self.keys.public.kid };
        let mut token = format!("{}.{}", encode(&header)?, encode(claims)?);
        let signature = self.keys.sign(token.as_bytes())?;
        token.push('.');
        token.push_str(&signature);
        Some(token)
    }

    fn sign(&self, issuer: &str, about: About<'_>, now_s: u64, expires_s: u64) -> Option<HeaderValue> {
        let identity = &**about.identity;
        let claims = Claims {
            iss: issuer,
            aud: about.upstream,
            sub: &identity.subject.0,
            idp: &identity.issuer,
            tenant: about.tenant.map(|tenant| &**tenant),
            roles: &identity.roles,
            scope: identity.scopes.as_ref().map(|scopes| scopes.join(" ")),
            sid: identity.session.as_deref(),
            auth_time: identity.auth_time,
            acr: identity.acr.as_deref(),
            amr: &identity.amr,
            iat: now_s,
            exp: expires_s,
        };
        let mut token = self.head.clone();
        token.push_str(&encode(&claims)?);
        let signature = self.keys.sign(token.as_bytes())?;
        token.push('.');
        token.push_str(&signature);
        HeaderValue::try_from(token).ok()
    }
}

fn encode(value: &impl Serialize) -> Option<String> {
    serde_json::to_vec(value).ok().map(|json| URL_SAFE_NO_PAD.encode(json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use decide::facts::Person;
    use decide::revocation::{Handles, Source};
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
    use serde_json::{Value, json};

    fn identity(subject: &str, expires_at: u64) -> Arc<Identity> {
        Arc::new(Identity {
            issuer: "workforce".into(),
            subject: Person(subject.into()),
            tenant: Some("acme".into()),
            roles: vec!["buyer".into(), "a\"b".into()],
            session: Some("5e55".into()),
            auth_time: Some(900),
            acr: None,
            amr: vec!["mfa".into()],
            issued_at: 990,
            not_before: 0,
            expires_at,
            handles: Handles::of(&Source { subject, ..Source::default() }),
            bound_to: None,
            scopes: None,
        })
    }

    /// What an application does with the header and the key set.
    fn check(token: &HeaderValue, jwks: &Bytes, audience: &str) -> Result<Value, String> {
        let token = token.to_str().unwrap();
        let header = decode_header(token).unwrap();
        assert_eq!(header.typ.as_deref(), Some("moat-assertion+jwt"));
        let set: JwkSet = serde_json::from_slice(jwks).unwrap();
        let key = set.find(&header.kid.unwrap()).ok_or("unknown key")?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[audience]);
        validation.set_issuer(&["moat-1"]);
        validation.validate_exp = false;
        let key = DecodingKey::from_jwk(key).unwrap();
        decode::<Value>(token, &key, &validation).map(|data| data.claims).map_err(|e| e.to_string())
    }

    fn open(folder: &Path) -> Assertions {
        Assertions::open(folder, "moat-1").unwrap()
    }

    #[test]
    fn an_application_can_check_it_with_the_key_set_alone() {
        let folder = tempfile::tempdir().unwrap();
        let assertions = open(folder.path());
        let (tenant, upstream): (Arc<str>, Arc<str>) = ("acme".into(), "api".into());
        let token = assertions.about(&identity("zoë", 5000), Some(&tenant), &upstream, 1000).unwrap();
        let claims = check(&token, &assertions.jwks(), "api").unwrap();
        let expected = json!({
            "iss": "moat-1", "aud": "api", "sub": "zoë", "idp": "workforce", "tenant": "acme",
            "roles": ["buyer", "a\"b"], "sid": "5e55", "auth_time": 900, "amr": ["mfa"], "iat": 1000, "exp": 1060,
        });
        assert_eq!(claims, expected);
        assert!(check(&token, &assertions.jwks(), "web").is_err(), "it was meant for another");
        assert_eq!(check(&token, &open(tempfile::tempdir().unwrap().path()).jwks(), "api"), Err("unknown key".into()));
        let mut forged = token.as_bytes().to_vec();
        *forged.last_mut().unwrap() = b'!';
        assert!(check(&HeaderValue::from_bytes(&forged).unwrap(), &assertions.jwks(), "api").is_err());
    }

    #[test]
    fn a_client_proves_itself_to_one_provider_once() {
        let folder = tempfile::tempdir().unwrap();
        let assertions = open(folder.path());
        let read = |token: &str| -> (Value, Value) {
            let parts: Vec<Vec<u8>> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
            (serde_json::from_slice(&parts[0]).unwrap(), serde_json::from_slice(&parts[1]).unwrap())
        };
        let (first, second) = (
            assertions.client("moat", "https://idp.example", 1000).unwrap(),
            assertions.client("moat", "https://idp.example", 1000).unwrap(),
        );
        let (header, mut claims) = read(&first);
        assert_eq!((&header["typ"], &header["alg"]), (&json!("JWT"), &json!("EdDSA")));
        assert_ne!(claims["jti"], read(&second).1["jti"]);
        claims.as_object_mut().unwrap().remove("jti");
        assert_eq!(
            claims,
            json!({"iss": "moat", "sub": "moat", "aud": "https://idp.example", "iat": 1000, "exp": 1060})
        );
        let set: JwkSet = serde_json::from_slice(&assertions.jwks()).unwrap();
        let key = DecodingKey::from_jwk(&set.keys[0]).unwrap();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&["https://idp.example"]);
        validation.validate_exp = false;
        assert!(decode::<Value>(&first, &key, &validation).is_ok());
    }

    #[test]
    fn it_is_reused_for_half_its_life_and_only_for_the_same_caller() {
        let folder = tempfile::tempdir().unwrap();
        let assertions = open(folder.path());
        let (acme, globex): (Arc<str>, Arc<str>) = ("acme".into(), "globex".into());
        let (api, web): (Arc<str>, Arc<str>) = ("api".into(), "web".into());
        let ada = identity("ada", 5000);
        let at = |identity: &Arc<Identity>, tenant, upstream, now_s| {
            assertions.about(identity, Some(tenant), upstream, now_s)
        };
        let first = at(&ada, &acme, &api, 1000);
        assert!(first.is_some());
        let mut promoted = (*ada).clone();
        promoted.roles.push("admin".into());
        let mut narrowed = (*ada).clone();
        narrowed.scopes = Some(Box::from(["orders.read".into(), "orders.list".into()]));
        let told = at(&Arc::new(narrowed.clone()), &acme, &api, 1000).unwrap();
        assert_eq!(check(&told, &assertions.jwks(), "api").unwrap()["scope"], "orders.read orders.list");
        for (what, other, same) in [
            ("a second later", at(&ada, &acme, &api, 1001), true),
            ("an equal identity", at(&identity("ada", 5000), &acme, &api, 1029), true),
            ("another caller", at(&identity("bob", 5000), &acme, &api, 1000), false),
            ("other roles", at(&Arc::new(promoted), &acme, &api, 1000), false),
            ("scopes", at(&Arc::new(narrowed), &acme, &api, 1000), false),
            ("another tenant", at(&ada, &globex, &api, 1000), false),
            ("another upstream", at(&ada, &acme, &web, 1000), false),
            ("after half its life", at(&ada, &acme, &api, 1030), false),
            ("a clock that went back", at(&ada, &acme, &api, 999), false),
        ] {
            assert_eq!(other == first, same, "{what}");
            assert!(other.is_some(), "{what}");
        }
    }

    #[test]
    fn it_never_outlives_the_session() {
        let folder = tempfile::tempdir().unwrap();
        let assertions = open(folder.path());
        let upstream: Arc<str> = "api".into();
        let ada = identity("ada", 1010);
        let token = assertions.about(&ada, None, &upstream, 1000).unwrap();
        let claims = check(&token, &assertions.jwks(), "api").unwrap();
        assert_eq!((claims["exp"].as_u64(), claims.get("tenant")), (Some(1010), None));
        assert_eq!(assertions.about(&ada, None, &upstream, 1009), Some(token));
        assert_eq!(assertions.about(&ada, None, &upstream, 1010), None);
        assert_eq!(assertions.about(&identity("eve", u64::MAX), None, &upstream, u64::MAX), None);
    }

    #[test]
    fn after_a_rotation_both_keys_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let assertions = open(folder.path());
        let upstream: Arc<str> = "api".into();
        let old = assertions.about(&identity("ada", 5000), None, &upstream, 1000).unwrap();
        assertions.rotate().unwrap();
        let new = assertions.about(&identity("bob", 5000), None, &upstream, 1000).unwrap();
        for token in [&old, &new] {
            assert!(check(token, &assertions.jwks(), "api").is_ok());
        }
        assert_eq!(open(folder.path()).jwks(), assertions.jwks(), "and after a restart");
        assertions.rotate().unwrap();
        assert_eq!(check(&old, &assertions.jwks(), "api"), Err("unknown key".into()));
    }
}
