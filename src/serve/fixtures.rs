//! What several unit tests need.
use decide::facts::{Identity, Person};
use decide::revocation::{Handles, Source};

/// Somebody of whom nothing else is known.
pub(super) fn identity(issuer: &str, subject: &str, expires_at: u64) -> Identity {
    Identity {
        issuer: issuer.into(),
        subject: Person(subject.into()),
        tenant: None,
        roles: Vec::new(),
        session: None,
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        issued_at: 0,
        not_before: 0,
        expires_at,
        bound_to: None,
        scopes: None,
        handles: Handles::of(&Source::default()),
    }
}
