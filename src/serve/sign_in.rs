//! The gateway as a client of OpenID providers: what they say of themselves, and codes made into ID tokens that have
//! been verified.
//!
//! A provider is asked only when somebody signs in or out: its document is fetched once for everybody
//! who waits (one fetch at a time, one per `min_interval` where it fails), used for `refresh`, and, while the provider is
//! silent, for `max_stale`. What waits is bounded in number and time, so that a provider that hangs holds a bounded part of the
//! gateway and nobody who is signed in.
mod instead;
mod provider;
mod token;
mod wire;

pub use instead::{code_does, instead, just_signed_in, providers};
pub use token::Fault;

use crate::config::settings::{Client, Issuer};
use crate::serve::assertion::Assertions;
use crate::serve::keys::{KeyRing, Unverified};
use decide::facts::Identity;
use decide::sign_in::Provider;
use decide::token::{IdTokenRules, verify_id_token};
use provider::Known;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Most conversations with one provider at the same time; further ones are told to come again.
const AT_ONCE: usize = 64;

/// All providers that somebody has asked for.
#[derive(Default)]
pub struct SignIns {
    parties: Mutex<HashMap<Arc<str>, Arc<Party>>>,
}

/// One provider, and the conversations with it.
pub struct Party {
    issuer: Issuer,
    client: Arc<Client>,
    known: Known,
    places: Semaphore,
}

/// A code, and what is known of the flow that it answers.
#[derive(Clone, Copy)]
pub struct Exchange<'a> {
    /// The code.
    pub code: &'a str,
    /// Where it came back to.
    pub redirect_uri: &'a str,
    /// What its challenge was made from.
    pub verifier: &'a str,
    /// What the ID token must repeat.
    pub nonce: &'a str,
    /// When the flow began, seconds since the epoch.
    pub began_s: u64,
}

impl SignIns {
    /// The provider of an issuer as it is configured now; `None` where browsers do not sign in with it.
    pub fn party(&self, issuer: &Issuer) -> Option<Arc<Party>> {
        let client = issuer.client.clone()?;
        let mut parties = self.parties.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(party) = parties.get(&issuer.rules.name).filter(|party| party.issuer == *issuer) {
            return Some(party.clone());
        }
        let party = Arc::new(Party {
            issuer: issuer.clone(),
            client,
            known: Known::default(),
            places: Semaphore::new(AT_ONCE),
        });
        parties.insert(issuer.rules.name.clone(), party.clone());
        Some(party)
    }
}

impl Party {
    /// The gateway's settings as its client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What the provider says of itself. The error is for the audit entry and the operator.
    pub async fn provider(&self) -> Result<Arc<Provider>, String> {
        match &self.client.endpoints {
            Some(configured) => Ok(Arc::new(configured.clone())),
            None => self.known.current(&self.issuer).await,
        }
    }

    /// Makes a code into an ID token, and verifies it under the issuer's keys at `now_s`. Returns it as sent, and whose it is.
    pub async fn redeem(
        &self,
        exchange: &Exchange<'_>,
        assertions: &Assertions,
        ring: &KeyRing,
        now_s: u64,
    ) -> Result<(String, Arc<Identity>), Fault> {
        let _place =
            self.places.try_acquire().map_err(|_| Fault::Silent("too many sign-ins wait for it".to_owned()))?;
        let provider = self.provider().await.map_err(Fault::Silent)?;
        let proof = token::Proof::of(&self.client, &provider, assertions, now_s).await?;
        let granted = token::ask(&self.issuer, &provider, &proof, exchange).await?;
        let id_token = granted.id_token.ok_or_else(|| Fault::Nonsense("the provider gave no ID token".to_owned()))?;
        let expected = IdTokenRules {
            client_id: &self.client.id,
            nonce: exchange.nonce,
            access_token: granted.access_token.as_deref(),
            not_before_s: exchange.began_s,
        };
        let verified =
            ring.verify_with(|keys| verify_id_token(&id_token, &self.client.rules, &expected, keys, now_s)).await;
        match verified {
            Ok(identity) => Ok((id_token, Arc::new(identity))),
            Err(Unverified::Invalid(cause)) => Err(Fault::Nonsense(cause)),
            Err(Unverified::Unavailable(cause)) => Err(Fault::Silent(cause)),
        }
    }
}

impl std::fmt::Debug for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Party").field("issuer", &self.issuer.rules.name).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SignIns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignIns")
    }
}
