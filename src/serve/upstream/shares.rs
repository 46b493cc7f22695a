//! Fair shares of an upstream's room: no tenant takes so much of it that another finds none.
//!
//! Of a room of N, R places are a reserve. A tenant that holds fewer than R gets a place as long as there is one: whoever comes
//! new need not wait for the others' slow requests to end. Up to its share of the rest, by weight among the tenants that hold
//! places at this moment, it gets one while the reserve is free. Beyond its share it gets what others leave, but for twice the
//! reserve, so that places that become free go to those who are below theirs. Together that approaches max-min fairness
//! (Bertsekas and Gallager, Data Networks, 6.5.2) without a queue and without knowing what anybody will want next.
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Tenants remembered before those that hold nothing are forgotten.
const REMEMBERED: usize = 4096;

/// How much room there is, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Places in all.
    pub(super) places: usize,
    /// Those of them that are for tenants with few, in hundredths of a percent.
    pub(super) reserve: u32,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    /// All are taken.
    Full,
    /// There are some, but the tenant holds its share.
    Share,
}

/// Who holds how much of one upstream.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    holders: HashMap<Arc<str>, Holder>,
    /// Sum of the weights of those who hold something.
    weights: u64,
    /// Refusals of tenants that were forgotten.
    forgotten: u64,
    /// Number of holders at which to look for some to forget.
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct Holder {
    held: usize,
    weight: u32,
    refused: u64,
}

/// What one tenant holds, and how often it was refused a place beyond its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The tenant; empty for requests without one.
    pub tenant: Arc<str>,
    /// Places that it holds.
    pub held: usize,
    /// Refusals since the start.
    pub refused: u64,
}

/// One tenant's place; to be given back with [`Ledger::give_back`].
#[derive(Debug)]
pub(super) struct Place(Arc<str>);

impl Ledger {
    /// Takes a place, and counts it in `in_flight`, which nobody else raises while shares are kept.
    pub(super) fn take(
        &self,
        in_flight: &AtomicUsize,
        room: Room,
        tenant: &Arc<str>,
        weight: u32,
    ) -> Result<Place, Short> {
        let mut book = self.book();
        if !book.holders.contains_key(tenant) {
            book.make_room();
            book.holders.insert(tenant.clone(), Holder::default());
        }
        let weights = book.weights;
        let Some(holder) = book.holders.get_mut(tenant) else { return Err(Short::Full) };
        // A reload may have changed it.
        let before = if holder.held > 0 { holder.weight } else { 0 };
        let weights = weights - u64::from(before) + u64::from(weight);
        let most = reach(room, holder.held, weight, weights);
        let taken = in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < most).then(|| n + 1));
        match taken {
            Ok(_) => {
                holder.held += 1;
                holder.weight = weight;
                book.weights = weights;
                Ok(Place(tenant.clone()))
            }
            Err(taken) if taken >= room.places => Err(Short::Full),
            Err(_) => {
                holder.refused += 1;
                Err(Short::Share)
            }
        }
    }

    /// Gives a place back.
    pub(super) fn give_back(&self, in_flight: &AtomicUsize, place: &Place) {
        let mut book = self.book();
        let mut leaves = 0;
        if let Some(holder) = book.holders.get_mut(&place.0) {
            holder.held = holder.held.saturating_sub(1);
            leaves = if holder.held == 0 { holder.weight } else { 0 };
        }
        book.weights = book.weights.saturating_sub(u64::from(leaves));
        in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// Who holds something or was ever refused, those with the most first.
    pub(super) fn holdings(&self) -> Vec<Holding> {
        let book = self.book();
        let some = book.holders.iter().filter(|(_, holder)| holder.held > 0 || holder.refused > 0);
        let one = |(tenant, holder): (&Arc<str>, &Holder)| Holding {
            tenant: tenant.clone(),
            held: holder.held,
            refused: holder.refused,
        };
        let mut all: Vec<Holding> = some.map(one).collect();
        drop(book);
        all.sort_by(|a, b| b.held.cmp(&a.held).then_with(|| a.tenant.cmp(&b.tenant)));
        all
    }

    /// Refusals since the start of tenants that are not remembered any more.
    pub(super) fn forgotten(&self) -> u64 {
        self.book().forgotten
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Forgets tenants that hold nothing, where many are remembered. Seldom enough to cost a request next to nothing.
    fn make_room(&mut self) {
        if self.holders.len() < self.sweep_at.max(REMEMBERED) {
            return;
        }
        let forgotten = &mut self.forgotten;
        self.holders.retain(|_, holder| {
            let stays = holder.held > 0;
            *forgotten += if stays { 0 } else { holder.refused };
            stays
        });
        self.sweep_at = self.holders.len().saturating_mul(2);
    }
}

/// How full the room may be for a tenant that holds `held` places to get one more. `weights` are those of all who hold some,
/// this tenant's included.
fn reach(room: Room, held: usize, weight: u32, weights: u64) -> usize {
    let reserve = reserve(room);
    let rest = room.places - reserve;
    let wide = |n: usize| u128::try_from(n).unwrap_or(u128::MAX);
    // held < rest * weight / weights, without rounding.
    let below_share = wide(held) * u128::from(weights.max(1)) < wide(rest) * u128::from(weight);
    if held < reserve {
        room.places
    } else if held == 0 || below_share {
        rest
    } else {
        rest - reserve
    }
}

/// Places of the reserve: at least one, at most a quarter, so that a small room has none.
fn reserve(room: Room) -> usize {
    let part = u128::try_from(room.places).unwrap_or(u128::MAX) * u128::from(room.reserve) / 10_000;
    usize::try_from(part).unwrap_or(usize::MAX).max(1).min(room.places / 4)
}

#[cfg(test)]
mod tests;
