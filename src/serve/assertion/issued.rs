//! Assertions that were signed a moment ago: a bounded table, as that of verified tokens ([`super::super::tokens`]).
use super::{About, Signed};
use crate::serve::sets::Sets;
use decide::facts::Identity;
use foldhash::fast::RandomState;
use http::HeaderValue;
use std::hash::BuildHasher;
use std::sync::Arc;

/// The table.
pub(super) struct Issued {
    sets: Sets<Entry>,
    hasher: RandomState,
}

struct Entry {
    identity: Arc<Identity>,
    tenant: Option<Arc<str>>,
    upstream: Arc<str>,
    signed: Signed,
}

impl Entry {
    fn is_about(&self, about: About<'_>) -> bool {
        let same = Arc::ptr_eq(&self.identity, about.identity) || self.identity == *about.identity;
        same && self.tenant.as_ref() == about.tenant && self.upstream == *about.upstream
    }
}

impl Issued {
    /// A table for about `capacity` assertions, rounded up to whole sets.
    pub(super) fn new(capacity: u64) -> Issued {
        Issued { sets: Sets::new(capacity), hasher: RandomState::default() }
    }

    /// What was signed about this and still serves at `now_s`. A clock that went back behind the signing finds nothing.
    pub(super) fn find(&self, about: About<'_>, now_s: u64) -> Option<HeaderValue> {
        let serves = |entry: &Entry| entry.signed.serves(now_s) && entry.is_about(about);
        self.sets.find(self.number(about), |entry| serves(entry).then(|| entry.signed.value.clone()))
    }

    /// Remembers what was signed at `now_s`.
    pub(super) fn insert(&self, about: About<'_>, signed: Signed, now_s: u64) {
        let About { identity, tenant, upstream } = about;
        let entry =
            Entry { identity: Arc::clone(identity), tenant: tenant.cloned(), upstream: Arc::clone(upstream), signed };
        self.sets.insert(self.number(about), entry, |e| e.is_about(about), |e| !e.signed.serves(now_s));
    }

    /// Of all that one caller may have many of: tokens, tenants, upstreams.
    fn number(&self, about: About<'_>) -> u64 {
        let About { identity, tenant, upstream } = about;
        self.hasher.hash_one((identity.handles.number(), identity.issued_at, tenant, upstream))
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.sets.count(|_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::fixtures::identity;

    #[test]
    fn one_caller_with_many_tokens_and_upstreams_is_remembered() {
        let issued = Issued::new(20_000);
        let about = |token: u64, upstream: u64| {
            let identity = identity("idp", "service", 10_000);
            (Arc::new(Identity { issued_at: token, ..identity }), Arc::from(format!("upstream-{upstream}")))
        };
        let of = |(identity, upstream): &(Arc<Identity>, Arc<str>)| {
            issued.find(About { identity, tenant: None, upstream }, 1)
        };
        let all = || (0..20).flat_map(|token| (0..20).map(move |upstream| (token, upstream)));
        for (token, upstream) in all() {
            let signed = Signed { value: HeaderValue::from(token * 100 + upstream), from_s: 0, until_s: 30 };
            let (identity, upstream) = &about(token, upstream);
            issued.insert(About { identity, tenant: None, upstream }, signed, 0);
        }
        let known = all().filter(|(token, upstream)| of(&about(*token, *upstream)).is_some()).count();
        // By chance, more than eight of 400 may share one of 2,500 sets.
        assert!(known > 395, "{known}");
    }

    #[test]
    fn it_forgets_but_never_errs_and_stays_in_its_bounds() {
        let issued = Issued::new(32);
        let upstream: Arc<str> = "api".into();
        let all: Vec<_> = (0..500).map(|n| Arc::new(identity("idp", &format!("user-{n}"), 10_000))).collect();
        let about = |n: u64| About { identity: &all[usize::try_from(n).unwrap()], tenant: None, upstream: &upstream };
        let signed = |n: u64, from_s| Signed { value: HeaderValue::from(n), from_s, until_s: from_s + 30 };
        for n in 0..500 {
            issued.insert(about(n), signed(n, n), n);
            assert_eq!(issued.find(about(n), n), Some(HeaderValue::from(n)), "what came last is there");
            for other in n.saturating_sub(60)..n {
                let found = issued.find(about(other), n);
                assert!(
                    found.is_none_or(|value| value == HeaderValue::from(other) && n < other + 30),
                    "{other} at {n}"
                );
            }
        }
        assert!(issued.count() <= 32, "{}", issued.count());
        let lost = issued.count();
        issued.insert(about(499), signed(1, 500), 500);
        assert_eq!(
            (issued.count(), issued.find(about(499), 500)),
            (lost, Some(HeaderValue::from(1_u64))),
            "one place each"
        );
    }
}
