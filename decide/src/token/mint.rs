//! Our own access tokens (RFC 9068): made from a family's holder, signed with a key that is derived from the keyring, and read
//! back by the rules of the issuer that is built in.
use super::{Algorithm, ClaimNames, IssuerRules};
use crate::facts::{Bound, Identity, Person};
use crate::revocation::Handles;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The name of the built-in issuer in `gateway.yaml`: that of access tokens from `/.moat/token`.
pub const OURS: &str = "moat";

/// Who holds a family of refresh tokens, as its issuer's token said when the family was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Name of the issuer in `gateway.yaml`.
    pub issuer: Arc<str>,
    /// The issuer's word for the user.
    pub subject: Arc<str>,
    /// The tenant.
    pub tenant: Option<Arc<str>>,
    /// Roles.
    pub roles: Vec<Arc<str>>,
    /// When the user last authenticated, seconds since the epoch.
    pub auth_time: Option<u64>,
    /// `iat` of the token that the family was opened with.
    pub issued_at: u64,
    /// Authentication context class.
    pub acr: Option<Arc<str>>,
    /// Authentication methods.
    pub amr: Vec<Arc<str>>,
    /// The key that all tokens of the family are bound to.
    pub bound_to: Option<Arc<str>>,
    /// By what the family can be ended.
    pub handles: Handles,
}

impl Holder {
    /// Of a verified identity; `bound_to` is the key whose possession was proven.
    pub fn of(identity: &Identity, bound_to: Option<Arc<str>>) -> Holder {
        Holder {
            issuer: identity.issuer.clone(),
            subject: identity.subject.0.clone(),
            tenant: identity.tenant.clone(),
            roles: identity.roles.clone(),
            auth_time: identity.auth_time,
            issued_at: identity.issued_at,
            acr: identity.acr.clone(),
            amr: identity.amr.clone(),
            bound_to,
            handles: identity.handles.clone(),
        }
    }

    /// The identity of whoever holds the family, as its access tokens name it.
    pub fn identity(&self, session: Option<Arc<str>>, expires_at: u64) -> Identity {
        Identity {
            issuer: self.issuer.clone(),
            subject: Person(self.subject.clone()),
            tenant: self.tenant.clone(),
            roles: self.roles.clone(),
            session,
            auth_time: self.auth_time,
            acr: self.acr.clone(),
            amr: self.amr.clone(),
            issued_at: self.issued_at,
            not_before: 0,
            expires_at,
            bound_to: self.bound_to.clone().map(Bound::Key),
            scopes: None,
            handles: self.handles.clone(),
        }
    }
}

/// What one access token says besides its holder.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// `iss`
    pub issuer: &'a str,
    /// `aud`
    pub audience: &'a str,
    /// `sid`: the family's id.
    pub family: &'a str,
    /// `jti`
    pub id: &'a str,
    /// `iat`, seconds.
    pub issued_at_s: u64,
    /// `exp`, seconds.
    pub expires_at_s: u64,
}

/// A key that signs access tokens: Ed25519, derived from a key of the keyring, so that replicas with one keyring have one key.
#[derive(Debug)]
pub struct SigningKey {
    pair: Ed25519KeyPair,
    kid: String,
    x: String,
    head: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    client_id: &'static str,
    jti: &'a str,
    sid: &'a str,
    iat: u64,
    exp: u64,
    /// The issuer that knows `sub`, by its name in `gateway.yaml`.
    idp: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    roles: &'a [Arc<str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    amr: &'a [Arc<str>],
    /// By what the holder's sign-in can be ended; see [`Handles::to_bytes`].
    rev: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation<'a>>,
}

#[derive(Serialize)]
struct Confirmation<'a> {
    jkt: &'a str,
}

impl SigningKey {
    /// The key that follows from this one of the keyring; nothing else follows from the same. `None` where the library
    /// refuses the seed, which it does for none.
    pub fn derive(key: &[u8; 32]) -> Option<SigningKey> {
        let seed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"moat access token 1");
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).ok()?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        // RFC 7638, 3.2; RFC 8037, 2.
        let canonical = format!("{{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"{x}\"}}");
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
        let mut head = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"{kid}\"}}"));
        head.push('.');
        Some(SigningKey { pair, kid, x, head })
    }

    /// The public half (RFC 7517).
    pub fn jwk(&self) -> String {
        let SigningKey { kid, x, .. } = self;
        format!(r#"{{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"{kid}","x":"{x}"}}"#)
    }

    /// An access token. `None` where the library cannot sign.
    pub fn sign(&self, holder: &Holder, terms: &Terms<'_>) -> Option<String> {
        let claims = Claims {
            iss: terms.issuer,
            aud: terms.audience,
            sub: &holder.subject,
            client_id: OURS,
            jti: terms.id,
            sid: terms.family,
            iat: terms.issued_at_s,
            exp: terms.expires_at_s,
            idp: &holder.issuer,
            tenant: holder.tenant.as_deref(),
            roles: &holder.roles,
            auth_time: holder.auth_time,
            acr: holder.acr.as_deref(),
            amr: &holder.amr,
            rev: URL_SAFE_NO_PAD.encode(holder.handles.to_bytes()),
            cnf: holder.bound_to.as_deref().map(|jkt| Confirmation { jkt }),
        };
        let mut token = self.head.clone();
        token.push_str(&URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).ok()?));
        let signature = self.pair.try_sign(token.as_bytes()).ok()?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Some(token)
    }
}

impl IssuerRules {
    /// The rules of our own access tokens.
    pub fn ours(issuer: &str, audience: &str, max_lifetime_s: u64, clock_skew_s: u64, pepper: [u8; 32]) -> IssuerRules {
        IssuerRules {
            name: OURS.into(),
            issuer: issuer.to_owned(),
            audiences: vec![audience.to_owned()],
            algorithms: vec![Algorithm::EdDsa],
            token_types: vec!["at+jwt".to_owned()],
            clock_skew_s,
            max_lifetime_s: Some(max_lifetime_s),
            claims: ClaimNames::default(),
            firebase: false,
            ours: true,
            session_pepper: pepper,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::{FAMILIES, NEVER, Source, Target};
    use crate::token::{KeySet, TokenError, verify};

    const NOW: u64 = 1_800_000_000;

    fn holder(bound_to: Option<&str>) -> Holder {
        let source = Source {
            issuer: "https://idp.test/",
            subject: "zoë",
            tenant: Some("acme"),
            session: Some("sid-of-the-idp"),
            token: Some("jti-of-the-idp"),
            key: Some("kid-of-the-idp"),
        };
        Holder {
            issuer: "workforce".into(),
            subject: "zoë".into(),
            tenant: Some("acme".into()),
            roles: vec!["buyer".into()],
            auth_time: Some(NOW - 500),
            issued_at: NOW - 100,
            acr: Some("phr".into()),
            amr: vec!["hwk".into()],
            bound_to: bound_to.map(Into::into),
            handles: Handles::of(&source).held_as(FAMILIES, "fam"),
        }
    }

    fn terms() -> Terms<'static> {
        Terms { issuer: "moat", audience: "api", family: "fam", id: "tok", issued_at_s: NOW, expires_at_s: NOW + 600 }
    }

    fn rules() -> IssuerRules {
        IssuerRules::ours("moat", "api", 600, 5, [0; 32])
    }

    fn keys(keys: &[&SigningKey]) -> KeySet {
        let list: Vec<String> = keys.iter().map(|key| key.jwk()).collect();
        KeySet::parse(format!("{{\"keys\":[{}]}}", list.join(",")).as_bytes()).unwrap().0
    }

    #[test]
    fn what_is_signed_is_read_back_as_whoever_the_issuer_said() {
        let key = SigningKey::derive(&[7; 32]).unwrap();
        let jkt = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
        let token = key.sign(&holder(Some(jkt)), &terms()).unwrap();
        let identity = verify(&token, &rules(), &keys(&[&key]), NOW).unwrap();
        assert_eq!((&*identity.issuer, &identity.subject), ("workforce", &Person("zoë".into())));
        assert_eq!((identity.tenant.as_deref(), identity.acr.as_deref()), (Some("acme"), Some("phr")));
        assert_eq!((identity.auth_time, identity.expires_at), (Some(NOW - 500), NOW + 600));
        assert_eq!((identity.roles.len(), identity.amr.len()), (1, 1));
        assert_eq!(identity.bound_to, Some(Bound::Key(jkt.into())));
        assert!(identity.handles.is_held());
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!((header.typ.as_deref(), header.alg), (Some("at+jwt"), jsonwebtoken::Algorithm::EdDSA));
    }

    /// The access token ends with its family, with the sign-in that the family came from, and by its own id.
    #[test]
    fn it_ends_with_whatever_it_came_from() {
        let key = SigningKey::derive(&[7; 32]).unwrap();
        let token = key.sign(&holder(None), &terms()).unwrap();
        let identity = verify(&token, &rules(), &keys(&[&key]), NOW).unwrap();
        let idp = "https://idp.test/";
        let within = crate::revocation::Within::Tenant("acme");
        for target in [
            Target::Session { issuer: FAMILIES, id: "fam" },
            Target::Session { issuer: idp, id: "sid-of-the-idp" },
            Target::Subject { issuer: idp, subject: "zoë", within },
            Target::Subject { issuer: idp, subject: "zoë", within: crate::revocation::Within::Anywhere },
            Target::Tenant { id: "acme" },
            Target::Issuer { issuer: idp },
            Target::Token { issuer: "moat", id: "tok" },
            Target::Key { issuer: "moat", id: &key.kid },
        ] {
            let handle = target.handle();
            let ended = identity.handles.ended(identity.began_s(), |_, found| (*found == handle).then_some(NEVER));
            assert!(ended.is_some(), "{target:?}");
        }
        let other = Target::Session { issuer: FAMILIES, id: "another" }.handle();
        assert_eq!(identity.handles.ended(NOW, |_, found| (*found == other).then_some(NEVER)), None);
    }

    #[test]
    fn keys_follow_from_the_keyring_and_rotate_with_an_overlap() {
        let (old, new) = (SigningKey::derive(&[1; 32]).unwrap(), SigningKey::derive(&[2; 32]).unwrap());
        assert_eq!(SigningKey::derive(&[1; 32]).unwrap().kid, old.kid);
        assert_ne!(old.kid, new.kid);
        let by_old = old.sign(&holder(None), &terms()).unwrap();
        assert!(verify(&by_old, &rules(), &keys(&[&new, &old]), NOW).is_ok());
        assert!(matches!(verify(&by_old, &rules(), &keys(&[&new]), NOW), Err(TokenError::UnknownKey { .. })));
        assert!(matches!(verify(&by_old, &rules(), &keys(&[&old]), NOW + 600), Err(TokenError::Expired { .. })));
    }

    /// Another issuer cannot speak for ours, nor leave out what ours always says.
    #[test]
    fn claims_that_only_we_write_are_required_of_us_and_ignored_from_others() {
        let key = SigningKey::derive(&[7; 32]).unwrap();
        let token = key.sign(&holder(None), &terms()).unwrap();
        let theirs = IssuerRules { ours: false, name: "partner".into(), ..rules() };
        let identity = verify(&token, &theirs, &keys(&[&key]), NOW).unwrap();
        assert_eq!(&*identity.issuer, "partner");
        assert!(!identity.handles.is_held());
        let strip = |name: &str| {
            let payload = token.split('.').nth(1).unwrap();
            let mut claims: serde_json::Value =
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
            claims.as_object_mut().unwrap().remove(name);
            let signed = format!("{}{}", key.head, URL_SAFE_NO_PAD.encode(claims.to_string()));
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(key.pair.sign(signed.as_bytes())))
        };
        for name in ["idp", "rev", "sid", "jti"] {
            assert!(
                matches!(verify(&strip(name), &rules(), &keys(&[&key]), NOW), Err(TokenError::Invalid(_))),
                "{name}"
            );
        }
        assert!(verify(&strip("acr"), &rules(), &keys(&[&key]), NOW).is_ok());
    }
}
