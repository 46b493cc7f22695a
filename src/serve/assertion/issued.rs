//! Assertions that were signed a moment ago: a bounded table in sets, as that of verified tokens ([`super::super::tokens`]).
use super::{About, Signed};
use foldhash::fast::RandomState;
use http::HeaderValue;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Entries of one set.
const WAYS: usize = 8;

/// The table. Nothing grows beyond its capacity; a full set gives up the entry that was used longest ago.
pub(super) struct Issued {
    sets: Vec<Mutex<Set>>,
    hasher: RandomState,
}

#[derive(Default)]
struct Set {
    entries: Vec<Entry>,
    /// Counts uses of the set; orders its entries by their last one.
    clock: u32,
}

struct Entry {
    about: About,
    signed: Signed,
    used: u32,
}

impl Issued {
    /// A table for about `capacity` assertions, rounded up to whole sets.
    pub(super) fn new(capacity: usize) -> Issued {
        let sets = std::iter::repeat_with(Mutex::default).take(capacity.div_ceil(WAYS)).collect();
        Issued { sets, hasher: RandomState::default() }
    }

    /// What was signed about this and still serves at `now_s`. A clock that went back behind the signing finds nothing.
    pub(super) fn find(&self, about: &About, now_s: u64) -> Option<HeaderValue> {
        let mut set = self.set(about)?;
        set.clock = set.clock.wrapping_add(1);
        let clock = set.clock;
        let entry = set.entries.iter_mut().find(|entry| entry.about == *about && entry.signed.serves(now_s))?;
        entry.used = clock;
        Some(entry.signed.value.clone())
    }

    /// Remembers what was signed at `now_s`.
    pub(super) fn insert(&self, about: About, signed: Signed, now_s: u64) {
        let Some(mut set) = self.set(&about) else { return };
        set.clock = set.clock.wrapping_add(1);
        let (clock, full) = (set.clock, set.entries.len() == WAYS);
        let entry = Entry { about, signed, used: clock };
        // Its own place; else one whose time is over; else, where the set is full, the one used longest ago.
        let rank = |e: &Entry| (e.about == entry.about, !e.signed.serves(now_s), clock.wrapping_sub(e.used));
        let place = set.entries.iter_mut().max_by_key(|e| rank(e));
        match place.filter(|e| full || e.about == entry.about || !e.signed.serves(now_s)) {
            Some(place) => *place = entry,
            None => set.entries.push(entry),
        }
    }

    fn set(&self, about: &About) -> Option<MutexGuard<'_, Set>> {
        // All that one caller may have many of: tokens, tenants, upstreams.
        let About { identity, tenant, upstream } = about;
        let number = self.hasher.hash_one((identity.handles.number(), identity.issued_at, tenant, upstream));
        let index = number.checked_rem(self.sets.len() as u64)?;
        let set = self.sets.get(usize::try_from(index).ok()?)?;
        Some(set.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.sets.iter().map(|set| set.lock().unwrap_or_else(PoisonError::into_inner).entries.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::fixtures::identity;
    use std::sync::Arc;

    #[test]
    fn one_caller_with_many_tokens_and_upstreams_is_remembered() {
        let issued = Issued::new(20_000);
        let about = |token: u64, upstream: u64| {
            let identity = identity("idp", "service", 10_000);
            About {
                identity: Arc::new(decide::facts::Identity { issued_at: token, ..identity }),
                tenant: None,
                upstream: format!("upstream-{upstream}").into(),
            }
        };
        let all = || (0..20).flat_map(|token| (0..20).map(move |upstream| (token, upstream)));
        for (token, upstream) in all() {
            let signed = Signed { value: HeaderValue::from(token * 100 + upstream), from_s: 0, until_s: 30 };
            issued.insert(about(token, upstream), signed, 0);
        }
        let known = all().filter(|(token, upstream)| issued.find(&about(*token, *upstream), 1).is_some()).count();
        // By chance, more than eight of 400 may share one of 2,500 sets.
        assert!(known > 395, "{known}");
    }

    #[test]
    fn it_forgets_but_never_errs_and_stays_in_its_bounds() {
        let issued = Issued::new(32);
        let about = |n: u64| About {
            identity: Arc::new(identity("idp", &format!("user-{n}"), 10_000)),
            tenant: None,
            upstream: "api".into(),
        };
        let signed = |n: u64, from_s| Signed { value: HeaderValue::from(n), from_s, until_s: from_s + 30 };
        for n in 0..500 {
            issued.insert(about(n), signed(n, n), n);
            assert_eq!(issued.find(&about(n), n), Some(HeaderValue::from(n)), "what came last is there");
            for other in n.saturating_sub(60)..n {
                let found = issued.find(&about(other), n);
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
            (issued.count(), issued.find(&about(499), 500)),
            (lost, Some(HeaderValue::from(1_u64))),
            "one place each"
        );
    }
}
