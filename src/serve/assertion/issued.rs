//! Assertions that were signed a moment ago: a bounded table in sets, as that of verified tokens ([`super::super::tokens`]).
use super::{About, Signed};
use http::HeaderValue;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Entries of one set.
const WAYS: usize = 8;

/// The table. Nothing grows beyond its capacity; a full set gives up the entry that was used longest ago.
pub(super) struct Issued(Vec<Mutex<Set>>);

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
        Issued(std::iter::repeat_with(Mutex::default).take(capacity.div_ceil(WAYS)).collect())
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
        let index = about.identity.handles.number().checked_rem(self.0.len() as u64)?;
        let set = self.0.get(usize::try_from(index).ok()?)?;
        Some(set.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.iter().map(|set| set.lock().unwrap_or_else(PoisonError::into_inner).entries.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::fixtures::identity;
    use std::sync::Arc;

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
