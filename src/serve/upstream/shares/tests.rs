//! The arithmetic of shares, and what becomes of it over many requests.
use super::*;
use proptest::prelude::*;

fn room(places: usize) -> Room {
    Room { places, reserve: 1_000 }
}

/// Tenants that ask again and again, and requests that end.
struct Trial {
    ledger: Ledger,
    in_flight: AtomicUsize,
    room: Room,
    tenants: Vec<(Arc<str>, u32)>,
    places: Vec<Vec<Place>>,
}

impl Trial {
    fn new(places: usize, weights: &[u32]) -> Trial {
        let tenants: Vec<(Arc<str>, u32)> =
            weights.iter().enumerate().map(|(n, w)| (format!("t{n}").into(), *w)).collect();
        Trial {
            ledger: Ledger::default(),
            in_flight: AtomicUsize::new(0),
            room: room(places),
            places: tenants.iter().map(|_| Vec::new()).collect(),
            tenants,
        }
    }

    fn ask(&mut self, who: usize) -> Result<(), Short> {
        let (tenant, weight) = &self.tenants[who];
        let place = self.ledger.take(&self.in_flight, self.room, tenant, *weight)?;
        self.places[who].push(place);
        Ok(())
    }

    fn end(&mut self, who: usize) {
        if let Some(place) = self.places[who].pop() {
            self.ledger.give_back(&self.in_flight, &place);
        }
    }

    fn held(&self) -> Vec<usize> {
        self.places.iter().map(Vec::len).collect()
    }

    /// Everybody wants everything, the first one a hundred times as hard, and the requests of each end in turn.
    fn settle(&mut self) {
        for round in 0..20_000 {
            let who = round % self.tenants.len();
            self.end(who);
            for _ in 0..100 {
                let _ = self.ask(0);
            }
            for who in 1..self.tenants.len() {
                let _ = self.ask(who);
            }
        }
    }
}

#[test]
fn alone_a_tenant_has_all_but_the_reserve() {
    let mut trial = Trial::new(100, &[1, 1]);
    while trial.ask(0).is_ok() {}
    assert_eq!(trial.held(), [90, 0]);
    assert_eq!(trial.ask(0), Err(Short::Share));
    // The other gets in at once, while nothing of the first one has ended.
    while trial.ask(1).is_ok() {}
    assert_eq!((trial.held(), trial.ask(1)), (vec![90, 10], Err(Short::Full)));
}

#[test]
fn what_ends_goes_to_whoever_is_below_the_share() {
    let mut trial = Trial::new(100, &[1, 1]);
    trial.settle();
    assert_eq!(trial.held(), [45, 45], "equal weights");
    let mut trial = Trial::new(100, &[1, 4]);
    trial.settle();
    assert_eq!(trial.held(), [18, 72], "by weight");
    let mut trial = Trial::new(100, &[1, 1, 1]);
    trial.settle();
    assert_eq!(trial.held(), [30, 30, 30]);
}

/// What one does not want, another may have.
#[test]
fn small_wishes_are_granted_whole() {
    let mut trial = Trial::new(100, &[1, 1]);
    for round in 0..10_000 {
        trial.end(round % 2);
        while trial.held()[1] < 12 {
            assert_eq!(trial.ask(1), Ok(()), "round {round}: {:?}", trial.held());
        }
        while trial.ask(0).is_ok() {}
    }
    assert_eq!(trial.held(), [68, 12], "the rest, but for twice the reserve");
}

#[test]
fn a_small_room_has_no_reserve() {
    for places in 1..4 {
        let mut trial = Trial::new(places, &[1]);
        while trial.ask(0).is_ok() {}
        assert_eq!(trial.held(), [places]);
        assert_eq!(trial.ask(0), Err(Short::Full));
    }
    assert_eq!(reserve(room(4)), 1);
    assert_eq!(reserve(room(usize::MAX)), usize::MAX / 10);
}

#[test]
fn a_room_that_shrinks_admits_nobody_until_it_has_emptied() {
    let mut trial = Trial::new(100, &[1, 1]);
    while trial.ask(0).is_ok() {}
    trial.room = room(40);
    assert_eq!(trial.ask(1), Err(Short::Full));
    (0..51).for_each(|_| trial.end(0));
    assert_eq!(trial.ask(1), Ok(()), "39 of 40");
    assert_eq!(trial.ask(0), Err(Short::Full));
}

#[test]
fn who_holds_nothing_is_forgotten_and_the_count_of_refusals_is_not() {
    let mut trial = Trial::new(8, &[1]);
    while trial.ask(0).is_ok() {}
    assert_eq!(trial.ledger.holdings(), [Holding { tenant: "t0".into(), held: 7, refused: 1 }]);
    (0..7).for_each(|_| trial.end(0));
    for n in 0..2 * REMEMBERED {
        let place = trial.ledger.take(&trial.in_flight, trial.room, &format!("x{n}").into(), 1).unwrap();
        trial.ledger.give_back(&trial.in_flight, &place);
        assert!(trial.ledger.book().holders.len() <= REMEMBERED);
    }
    assert_eq!((trial.ledger.forgotten(), trial.ledger.book().weights), (1, 0));
}

#[test]
fn the_counts_are_exact_whoever_asks_at_once() {
    let (ledger, in_flight) = (Ledger::default(), AtomicUsize::new(0));
    let most = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for n in 0..4u32 {
            let (ledger, in_flight, most) = (&ledger, &in_flight, &most);
            scope.spawn(move || {
                let tenant: Arc<str> = format!("t{}", n % 2).into();
                for _ in 0..20_000 {
                    if let Ok(place) = ledger.take(in_flight, room(10), &tenant, 1 + n % 2) {
                        most.fetch_max(in_flight.load(Ordering::Acquire), Ordering::AcqRel);
                        ledger.give_back(in_flight, &place);
                    }
                }
            });
        }
    });
    assert!(most.load(Ordering::Acquire) <= 10);
    assert_eq!((in_flight.load(Ordering::Acquire), ledger.book().weights), (0, 0));
}

proptest! {
    /// Whatever happened before: the room is never overfull, a tenant with less than the reserve gets any place that is free,
    /// and the books agree with the places.
    #[test]
    fn nobody_is_kept_out_while_there_is_room(
        places in 1usize..60,
        weights in prop::collection::vec(1u32..5, 1..5),
        steps in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..400),
    ) {
        let mut trial = Trial::new(places, &weights);
        for (who, asks) in steps {
            let who = who.index(weights.len());
            let (before, total) = (trial.held(), trial.in_flight.load(Ordering::Acquire));
            if asks {
                let outcome = trial.ask(who);
                if before[who] < reserve(trial.room) {
                    prop_assert_eq!(outcome.is_ok(), total < places);
                }
                if total >= places {
                    prop_assert_eq!(outcome, Err(Short::Full));
                }
            } else {
                trial.end(who);
            }
            let held = trial.held();
            prop_assert_eq!(held.iter().sum::<usize>(), trial.in_flight.load(Ordering::Acquire));
            prop_assert!(held.iter().sum::<usize>() <= places);
            let weighs = held.iter().zip(&weights).filter(|(held, _)| **held > 0).map(|(_, w)| u64::from(*w)).sum::<u64>();
            prop_assert_eq!(trial.ledger.book().weights, weighs);
        }
    }

    /// Holding more never opens a door, weighing more never closes one, and no tier reaches beyond the room.
    #[test]
    fn the_reach_falls_with_what_is_held(places in 1usize..1000, held in 0usize..1000, weight in 1u32..100, others in 0u64..1000) {
        let at = |held, weight: u32| reach(room(places), held, weight, others + u64::from(weight));
        prop_assert!(at(held, weight) <= places && at(held + 1, weight) <= at(held, weight));
        prop_assert!(at(held, weight + 1) >= at(held, weight));
    }
}
