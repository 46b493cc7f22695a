//! Verification of what an issuer signs besides access tokens, under the same keys.
use super::{Inner, KeyRing, WAIT};
use decide::token::{KeySet, TokenError};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Why something that an issuer should have signed does not verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unverified {
    /// It is not what it should be; the cause is for the audit entry.
    Invalid(String),
    /// The keys cannot be had.
    Unavailable(String),
}

impl KeyRing {
    /// Verifies an ID token, a logout token or whatever else the issuer signed, by a function of its keys; waits for a key
    /// that is not known yet as [`KeyRing::verify`] does. Nothing is remembered.
    pub async fn verify_with<T>(&self, verify: impl Fn(&KeySet) -> Result<T, TokenError>) -> Result<T, Unverified> {
        self.inner.try_keys(verify, Instant::now()).await
    }

    /// Waits until there are keys to verify with, where there are none: fetches them, at most once a second, instead of waiting
    /// for the next attempt, which may be half a minute away. The error is for the audit entry.
    ///
    /// For what can be done only once, such as making a code into tokens, after the issuer has shown that it is there.
    pub async fn at_hand(&self) -> Result<(), String> {
        let inner = &self.inner;
        let Err(cause) = inner.usable(Instant::now()) else { return Ok(()) };
        let Ok(_place) = inner.waiting.try_acquire() else { return Err(cause) };
        let mut life = inner.life.subscribe();
        let (seen, pause) = {
            let life = life.borrow_and_update();
            (life.attempts, life.pause(Instant::now()))
        };
        tokio::time::sleep(pause).await;
        inner.wanted.fetch_max(seen.saturating_add(1), Ordering::AcqRel);
        inner.called.notify_one();
        // Late or not: whether there are keys is what counts.
        drop(tokio::time::timeout(WAIT, life.wait_for(|life| life.attempts != seen)).await);
        inner.usable(Instant::now()).map(|_| ())
    }
}

impl Inner {
    /// Verifies something else that the issuer signed; with the same patience for an unknown key.
    async fn try_keys<T>(
        &self,
        verify: impl Fn(&KeySet) -> Result<T, TokenError>,
        now: Instant,
    ) -> Result<T, Unverified> {
        let settle = |result: Result<T, TokenError>| match result {
            Ok(verified) => Ok(Ok(verified)),
            Err(unknown @ TokenError::UnknownKey { .. }) => Err(unknown),
            Err(error) => Ok(Err(Unverified::Invalid(error.to_string()))),
        };
        let published = self.usable(now).map_err(Unverified::Unavailable)?;
        let unknown = match settle(verify(&published.keys)) {
            Ok(settled) => return settled,
            Err(unknown) => unknown,
        };
        let failure = self.next_fetch(now).await.map_err(Unverified::Unavailable)?;
        let latest = self.published.load_full().filter(|latest| latest.epoch != published.epoch);
        if let Some(latest) = latest
            && let Ok(settled) = settle(verify(&latest.keys))
        {
            return settled;
        }
        Err(match failure {
            None => Unverified::Invalid(unknown.to_string()),
            Some(failure) => Unverified::Unavailable(format!("{unknown}, and the last fetch failed: {failure}")),
        })
    }
}
