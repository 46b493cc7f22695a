//! What is known of the tokens that the issuer itself is asked about.
use super::KeyRing;
use crate::serve::inquiry::Counts;
use decide::facts::Identity;

impl KeyRing {
    /// Whether the issuer itself is asked about this token.
    pub fn asks_about(&self, token: &str) -> bool {
        self.inner.introspector.as_ref().is_some_and(|introspector| introspector.asks_about(token))
    }

    /// How many tokens that this issuer was asked about, and that are remembered, are of identities like this.
    pub fn asked_about(&self, like: impl Fn(&Identity) -> bool) -> u64 {
        self.inner.introspector.as_ref().map_or(0, |introspector| introspector.remembered(like))
    }

    /// How questions about tokens ended; `None` for an issuer that is not asked.
    pub fn asked(&self) -> Option<&Counts> {
        self.inner.introspector.as_ref().map(|_| &*self.inner.asked)
    }
}
