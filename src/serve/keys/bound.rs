//! Verification of tokens, those included that are bound to a key or to the certificate of the connection.
use super::{Judgement, KeyRing};
use decide::facts::{Answer, Bound, Carrier, Credential};
use std::time::Instant;

impl KeyRing {
    /// Verifies a token at `now_s` (wall clock, seconds since the epoch).
    ///
    /// An expired token is answered as `Valid` with an identity whose `expires_at` has passed: the session guard
    /// refuses it as `session.expired`. Where keys cannot be had the answer is `Unavailable`, so that nobody is
    /// signed out because a key server is down. A token that is bound to a certificate is refused: see [`KeyRing::verify_held`].
    pub async fn verify(&self, token: &str, now_s: u64, carrier: Carrier) -> Answer {
        let refused = |_: &str| invalid("the token is bound to a certificate, and is not taken here");
        self.verify_held(token, now_s, carrier, refused).await
    }

    /// The same; where a token is bound to a certificate, `unheld` says what stands against the connection's holding that
    /// one (RFC 8705, 3).
    pub async fn verify_held(
        &self,
        token: &str,
        now_s: u64,
        carrier: Carrier,
        unheld: impl FnOnce(&str) -> Option<Answer>,
    ) -> Answer {
        match self.inner.judge(token, now_s, Instant::now()).await {
            Judgement::Signed(identity) => {
                let objection = match &identity.bound_to {
                    None => None,
                    Some(Bound::Certificate(thumbprint)) => unheld(thumbprint),
                    Some(Bound::Key(_)) if carrier == Carrier::Dpop => None,
                    // Whoever can take the token could send it without the proof, too (RFC 9449, 7.2).
                    Some(Bound::Key(_)) => invalid("the token is bound to a key, and came without proof"),
                };
                objection.unwrap_or(Answer::Credential(Credential::Valid { identity, carrier }))
            }
            Judgement::Invalid(cause) => Answer::Credential(Credential::Invalid(cause)),
            Judgement::Unavailable(cause) => Answer::Unavailable(cause),
        }
    }
}

fn invalid(cause: &str) -> Option<Answer> {
    Some(Answer::Credential(Credential::Invalid(cause.to_owned())))
}
