//! The keys and rules by which a snapshot in force issues tokens of our own.
use crate::config::settings::{SealingKeys, Tokens};
use crate::store::families::{self, FamilyId};
use crate::store::seal::{Keyring, Place};
use decide::token::mint::{Holder, SigningKey, Terms};
use std::net::IpAddr;
use std::sync::Arc;

/// Issues tokens under one snapshot.
pub struct Issuing {
    /// The rules.
    pub settings: Arc<Tokens>,
    /// Seals rows and marks refresh tokens.
    pub ring: Keyring,
    signer: SigningKey,
    /// The public halves of all keys that access tokens may be signed with, each a JSON Web Key.
    jwks: String,
}

impl Issuing {
    /// By these rules and keys; `None` without a key.
    pub fn new(settings: Arc<Tokens>, keys: &SealingKeys) -> Option<Issuing> {
        let all: Vec<SigningKey> = keys.iter().filter_map(SigningKey::derive).collect();
        let list: Vec<String> = all.iter().map(SigningKey::jwk).collect();
        let signer = all.into_iter().next()?;
        Some(Issuing { settings, ring: Keyring::new(keys.iter()), signer, jwks: list.join(",") })
    }

    /// Public keys, separated by commas.
    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    /// An access token of a family, that ends with `ends_at_s` at the latest; with its life in seconds.
    pub fn access(&self, holder: &Holder, family: FamilyId, now_s: u64, ends_at_s: u64) -> Option<(String, u64)> {
        let expires_at_s = now_s.saturating_add(self.settings.access_ttl_s).min(ends_at_s);
        let life_s = expires_at_s.checked_sub(now_s).filter(|life| *life > 0)?;
        let id = uuid::Uuid::now_v7().to_string();
        let family = family.word();
        let terms = Terms {
            issuer: &self.settings.issuer,
            audience: &self.settings.audience,
            family: &family,
            id: &id,
            issued_at_s: now_s,
            expires_at_s,
        };
        Some((self.signer.sign(holder, &terms)?, life_s))
    }

    /// The refresh token of a family's generation.
    pub fn refresh(&self, family: FamilyId, generation: u64) -> Option<String> {
        families::token(&self.ring, family, generation)
    }

    /// What tells clients apart in entries about reuse, and says nothing else about them: a keyed hash of the network and of
    /// the program.
    pub fn client(&self, address: IpAddr, agent: &[u8]) -> String {
        let mut key: Vec<u8> = match address {
            IpAddr::V4(address) => address.octets().into_iter().take(3).collect(),
            IpAddr::V6(address) => address.octets().into_iter().take(6).collect(),
        };
        key.push(b'|');
        key.extend_from_slice(agent);
        let mark = self.ring.mark(Place { kind: "client", tenant: "", key: &key }).unwrap_or_default();
        mark.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}
