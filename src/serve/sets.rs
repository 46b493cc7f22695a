//! A bounded table in sets: what is remembered of many, with no housekeeping.
//!
//! A set has eight places; one that is full gives up what was used longest ago, so nothing grows beyond the capacity. The
//! first place of each set lies in the table itself: in a table with room to spare, what is found is one step away.
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Places of one set.
pub(super) const WAYS: usize = 8;

/// The table. What an entry is found by is the caller's matter; its number, spread evenly, says in which set it stands.
pub(super) struct Sets<T> {
    sets: Box<[Mutex<Set<T>>]>,
}

struct Set<T> {
    /// Counts uses of the set; orders its entries by their last one.
    clock: u32,
    first: Option<Place<T>>,
    more: Vec<Place<T>>,
}

struct Place<T> {
    used: u32,
    entry: T,
}

impl<T> Default for Set<T> {
    fn default() -> Set<T> {
        Set { clock: 0, first: None, more: Vec::new() }
    }
}

impl<T> Set<T> {
    fn places(&mut self) -> impl Iterator<Item = &mut Place<T>> {
        self.first.iter_mut().chain(&mut self.more)
    }

    fn count(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }
}

impl<T> Sets<T> {
    /// A table for about `capacity` entries (rounded up to whole sets); 0 remembers nothing.
    pub(super) fn new(capacity: u64) -> Sets<T> {
        let sets = usize::try_from(capacity.div_ceil(WAYS as u64)).unwrap_or(usize::MAX);
        Sets { sets: std::iter::repeat_with(Mutex::default).take(sets).collect() }
    }

    /// What `pick` makes of the first entry of the number's set of which it makes anything; that entry was used now.
    pub(super) fn find<R>(&self, number: u64, mut pick: impl FnMut(&T) -> Option<R>) -> Option<R> {
        let mut set = self.set(number)?;
        set.clock = set.clock.wrapping_add(1);
        let clock = set.clock;
        set.places().find_map(|place| {
            let found = pick(&place.entry)?;
            place.used = clock;
            Some(found)
        })
    }

    /// Puts an entry where its predecessor stands (`same`), else where one is over, else where none is, else in place of
    /// the one used longest ago.
    pub(super) fn insert(&self, number: u64, entry: T, same: impl Fn(&T) -> bool, over: impl Fn(&T) -> bool) {
        let Some(mut set) = self.set(number) else { return };
        set.clock = set.clock.wrapping_add(1);
        let (clock, full) = (set.clock, set.count() == WAYS);
        let rank = |place: &Place<T>| (same(&place.entry), over(&place.entry), clock.wrapping_sub(place.used));
        let chosen = set.places().map(|place| (rank(place), place)).max_by_key(|(rank, _)| *rank);
        let chosen = chosen.filter(|((same, over, _), _)| full || *same || *over);
        let new = Place { used: clock, entry };
        if let Some((_, place)) = chosen {
            *place = new;
        } else if set.first.is_none() {
            set.first = Some(new);
        } else {
            set.more.push(new);
        }
    }

    /// How many entries there are of which this holds.
    pub(super) fn count(&self, like: impl Fn(&T) -> bool) -> usize {
        let of = |set: &Mutex<Set<T>>| {
            let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
            set.places().filter(|place| like(&place.entry)).count()
        };
        self.sets.iter().map(of).sum()
    }

    /// The number of places.
    pub(super) fn capacity(&self) -> usize {
        self.sets.len() * WAYS
    }

    fn set(&self, number: u64) -> Option<MutexGuard<'_, Set<T>>> {
        let index = number.checked_rem(self.sets.len() as u64)?;
        let set = self.sets.get(usize::try_from(index).ok()?)?;
        Some(set.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
