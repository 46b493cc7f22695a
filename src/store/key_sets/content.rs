//! What is kept of an API key: whose it is and by what it is recognised, sealed for its set and its place.
use super::Shelf;
use crate::store::state::NEVER;
use decide::facts::{Identity, Person};
use decide::revocation::{Handles, Source, Target};
use decide::rules::API_KEY;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

/// How long a key is listed after it has expired, in seconds.
const LISTED_S: u64 = 90 * 86_400;

/// What is kept of a key. Times are in seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// By which it is found; of imported keys, what they begin with.
    pub id: String,
    /// What it is for, in words.
    pub name: String,
    /// Whom the application is told of.
    pub subject: String,
    /// The tenant that it belongs to.
    pub tenant: Option<String>,
    /// What it may do.
    pub roles: Vec<String>,
    /// The permissions that it is good for, of those that its roles grant; all of them where nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// By what it is recognised.
    pub hash: Hash,
    /// Whether another program made it.
    pub imported: bool,
    /// When it was made.
    pub created_s: u64,
    /// From when on it is expired.
    pub expires_s: Option<u64>,
    /// When it was revoked.
    pub revoked_s: Option<u64>,
    /// Id of the key that takes its place.
    pub successor: Option<String>,
}

/// By what a key is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hash {
    /// HMAC-SHA-256 of the key with the pepper.
    Hmac([u8; 32]),
    /// What another program made of it, `$2b$…`.
    Bcrypt(String),
}

/// A key as it was read.
#[derive(Debug)]
pub struct Key {
    /// What is kept of it.
    pub content: Content,
    /// Who it is.
    pub identity: Arc<Identity>,
    /// The HMAC of an imported key, once it was seen.
    pub seen: OnceLock<[u8; 32]>,
    /// When it last let somebody in since it was read, seconds since the epoch; 0 for never.
    pub used_s: AtomicU64,
}

/// What a key is ended by: ids are of their set, since imported ones are what somebody chose.
pub fn handle(set: &str, id: &str) -> String {
    format!("{set}/{id}")
}

/// Whether an identity came from a key of this set.
pub fn is_of(set: &str, identity: &Identity) -> bool {
    let id = handle(set, identity.session.as_deref().unwrap_or_default());
    identity.handles.has(&Target::Key { issuer: API_KEY, id: &id })
}

impl Content {
    /// When its record may go, in milliseconds: what never expires is kept.
    pub(super) fn kept_until_ms(&self) -> u64 {
        self.expires_s.map_or(NEVER, |at_s| at_s.saturating_add(LISTED_S).saturating_mul(1000))
    }

    /// Whether it works at this time.
    pub fn state(&self, now_s: u64) -> &'static str {
        match (self.revoked_s, self.expires_s) {
            (Some(_), _) => "revoked",
            (None, Some(at_s)) if at_s <= now_s => "expired",
            (None, _) => "active",
        }
    }

    fn identity(&self, set: &str) -> Identity {
        let key = handle(set, &self.id);
        let source = Source {
            issuer: API_KEY,
            subject: &self.subject,
            tenant: self.tenant.as_deref(),
            key: Some(&key),
            ..Source::default()
        };
        Identity {
            issuer: API_KEY.into(),
            subject: Person(self.subject.as_str().into()),
            tenant: self.tenant.as_deref().map(Arc::from),
            roles: self.roles.iter().map(|role| role.as_str().into()).collect(),
            session: Some(self.id.as_str().into()),
            auth_time: None,
            acr: None,
            amr: Vec::new(),
            issued_at: self.created_s,
            not_before: 0,
            expires_at: self.expires_s.unwrap_or(u64::MAX),
            bound_to: None,
            scopes: self.scopes.as_ref().map(|all| all.iter().map(|scope| scope.as_str().into()).collect()),
            handles: Handles::of(&source),
        }
    }
}

impl Key {
    pub(super) fn new(shelf: &Shelf, content: Content) -> Key {
        let identity = Arc::new(content.identity(&shelf.set));
        Key { content, identity, seen: OnceLock::new(), used_s: AtomicU64::new(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a build without scopes has kept, byte for byte.
    #[test]
    fn a_key_without_scopes_is_kept_as_ever_and_one_with_them_says_so() {
        let kept = r#"{"id":"4f7Ka91BxQ","name":"a test","subject":"key:4f7Ka91BxQ","tenant":"acme","roles":["viewer"],"hash":{"bcrypt":"$2b$"},"imported":true,"created_s":7,"expires_s":null,"revoked_s":null,"successor":null}"#;
        let mut content: Content = serde_json::from_str(kept).unwrap();
        assert_eq!(content.identity("machines").scopes, None);
        assert_eq!(serde_json::to_string(&content).unwrap(), kept);
        content.scopes = Some(vec!["bookings.read".to_owned()]);
        let again: Content = serde_json::from_str(&serde_json::to_string(&content).unwrap()).unwrap();
        assert_eq!(again.identity("machines").scopes, Some(Box::from([Arc::from("bookings.read")])));
    }
}
