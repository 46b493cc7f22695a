//! What is kept of a session: whom it is of and how far its life has come, sealed for its tenant and its place.
use super::Renewing;
use crate::store::seal::{Keyring, Place, SealError};
use decide::facts::{Identity, Person};
use decide::revocation::{Handles, OWN_SESSIONS};
use decide::session::browser::Life;
use decide::session::handle::public_id;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

/// The word that sessions are sealed under.
const KIND: &str = "session";

/// What is kept of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// How far its life has come.
    pub life: Life,
    /// Whose it is.
    pub who: Who,
    /// The address that it was last written down for.
    pub client: Option<IpAddr>,
    /// What the sign-in left with it.
    pub kept: Option<Kept>,
    /// How the user had authenticated before a second factor of ours was shown, where one was.
    #[serde(default)]
    pub before: Option<Shown>,
}

/// What a user has shown in a sign-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// When, seconds since the epoch.
    pub auth_time: Option<u64>,
    /// Class of that authentication.
    pub acr: Option<Arc<str>>,
    /// Its methods.
    pub amr: Vec<Arc<str>>,
}

impl Shown {
    /// Of the sign-in that a session goes by.
    pub fn of(who: &Who) -> Shown {
        Shown { auth_time: who.auth_time, acr: who.acr.clone(), amr: who.amr.clone() }
    }
}

/// Whose a session is, as verified when it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Name of the issuer in `gateway.yaml`.
    pub issuer: Arc<str>,
    /// The issuer's word for the user.
    pub subject: Arc<str>,
    /// The tenant.
    pub tenant: Option<Arc<str>>,
    /// Roles in the issuer's order.
    pub roles: Vec<Arc<str>>,
    /// When the user authenticated, seconds since the epoch.
    pub auth_time: Option<u64>,
    /// Class of that authentication.
    pub acr: Option<Arc<str>>,
    /// Its methods.
    pub amr: Vec<Arc<str>>,
    /// By what it can be ended.
    pub handles: Handles,
}

/// What the sign-in left: it stays on the server. Access and refresh tokens of the provider are not among it: nothing here uses
/// them.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kept {
    /// The ID token, for signing out at the provider.
    pub id_token: Option<String>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept")
    }
}

impl Who {
    /// Of a verified identity.
    pub fn of(identity: &Identity) -> Who {
        Who {
            issuer: identity.issuer.clone(),
            subject: identity.subject.0.clone(),
            tenant: identity.tenant.clone(),
            roles: identity.roles.clone(),
            auth_time: identity.auth_time,
            acr: identity.acr.clone(),
            amr: identity.amr.clone(),
            handles: identity.handles.clone(),
        }
    }
}

impl Content {
    /// Takes another word of who the user is. The handle becomes due where that is more than what is known, and `renewing`
    /// says so.
    pub fn become_who(&mut self, who: Who, renewing: Renewing) {
        let stepped = renewing.step_up && Shown::of(&self.who) != Shown::of(&who);
        let changed = renewing.role_change && self.who.roles != who.roles;
        self.who = who;
        if stepped || changed {
            self.life = self.life.promoted();
        }
    }

    /// The identity that requests have by the session under this key; over at `expires_at_ms`.
    pub fn identity(&self, key: &[u8; 32], expires_at_ms: u64) -> Identity {
        let (who, id) = (&self.who, public_id(key));
        Identity {
            issuer: who.issuer.clone(),
            subject: Person(who.subject.clone()),
            tenant: who.tenant.clone(),
            roles: who.roles.clone(),
            handles: who.handles.clone().held_as(OWN_SESSIONS, &id),
            session: Some(id.into()),
            auth_time: who.auth_time,
            acr: who.acr.clone(),
            amr: who.amr.clone(),
            issued_at: self.life.opened_at_ms / 1000,
            not_before: 0,
            expires_at: expires_at_ms / 1000,
            bound_to: None,
            scopes: None,
        }
    }

    /// Sealed for the tenant of the host and the key that it lies under.
    pub fn seal(&self, ring: &Keyring, tenant: &str, key: &[u8]) -> Result<Vec<u8>, SealError> {
        let bytes = serde_json::to_vec(self).map_err(|_| SealError::CannotSeal)?;
        ring.seal(Place { kind: KIND, tenant, key }, &bytes)
    }

    /// Opens what was sealed.
    pub fn open(ring: &Keyring, tenant: &str, key: &[u8], sealed: &[u8]) -> Result<Content, SealError> {
        let bytes = ring.open(Place { kind: KIND, tenant, key }, sealed)?;
        serde_json::from_slice(&bytes).map_err(|_| SealError::NotSealed)
    }
}
