//! The life of a family, token by token.
use super::*;
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000_000;
const RULES: Rules = Rules { ttl_ms: 1_000_000, idle_ms: None, single_use: true, leeway_ms: 5_000, skew_ms: 1_000 };

fn rotated(family: &Family, presented: u64, now_ms: u64) -> Family {
    match family.present(presented, Moment::at(now_ms), &RULES) {
        Step::Rotate(row) => row,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_token_gives_the_next() {
    let mut family = Family::open(NOW);
    for generation in 1..40 {
        assert_eq!(family.generation, generation);
        family = rotated(&family, generation, NOW + generation * 10_000);
        assert!(family.exchanged_ms.len() <= 8);
    }
}

#[test]
fn inside_the_leeway_a_token_gives_the_same_successor_and_outside_it_ends_the_family() {
    let family = rotated(&Family::open(NOW), 1, NOW + 10_000);
    for (later, step) in [
        (0, Step::Again(2)),
        (6_000, Step::Again(2)),
        (6_001, Step::Reused(family.end(Ending::Reused))),
        (500_000, Step::Reused(family.end(Ending::Reused))),
    ] {
        assert_eq!(family.present(1, Moment::at(NOW + 10_000 + later), &RULES), step, "{later}");
    }
    // A clock that runs behind, by what it may and by more.
    assert_eq!(family.present(1, Moment::at(NOW + 9_000), &RULES), Step::Again(2));
    assert_eq!(family.present(1, Moment::at(NOW + 8_999), &RULES), Step::Reused(family.end(Ending::Reused)));
}

#[test]
fn a_late_twin_is_no_thief_although_its_successor_was_exchanged_too() {
    let mut family = Family::open(NOW);
    for generation in 1..=3 {
        family = rotated(&family, generation, NOW + generation * 1_000);
    }
    assert_eq!(family.present(1, Moment::at(NOW + 7_000), &RULES), Step::Again(2));
    assert_eq!(family.present(2, Moment::at(NOW + 8_000), &RULES), Step::Again(3));
    assert!(matches!(family.present(1, Moment::at(NOW + 7_001), &RULES), Step::Reused(_)));
    assert!(matches!(family.present(0, Moment::at(NOW + 3_000), &RULES), Step::Reused(_)));
}

#[test]
fn who_waited_for_the_row_is_no_thief() {
    let family = rotated(&Family::open(NOW), 1, NOW + 10_000);
    let waited = |asked, judged| family.present(1, Moment { asked_ms: NOW + asked, now_ms: NOW + judged }, &RULES);
    // Asked before the exchange, and read after it: however long before, and however long after.
    for (asked, judged) in [(8_000, 10_000), (2_000, 9_000), (9_999, 60_000), (16_000, 60_000)] {
        assert_eq!(waited(asked, judged), Step::Again(2), "{asked} {judged}");
    }
    // Who asked too late is not less late for having waited.
    assert!(matches!(waited(16_001, 60_000), Step::Reused(_)));
    // What was exchanged since has pushed it out of the row: nobody can say, unless the row came at once.
    let later = rotated(&family, 2, NOW + 20_000);
    let late = Moment { asked_ms: NOW + 10_500, now_ms: NOW + 20_500 };
    assert_eq!(later.present(1, late, &RULES), Step::Late);
    assert!(matches!(later.present(1, Moment { asked_ms: NOW + 19_500, ..late }, &RULES), Step::Reused(_)));
    // Every row takes a little, also where clocks may not differ.
    let strict = Rules { skew_ms: 0, ..RULES };
    assert!(matches!(later.present(1, Moment { asked_ms: NOW + 19_500, ..late }, &strict), Step::Reused(_)));
    assert_eq!(later.present(1, Moment { asked_ms: NOW + 19_499, ..late }, &strict), Step::Late);
}

#[test]
fn a_row_that_lost_writes_catches_up() {
    let family = rotated(&Family::open(NOW), 1, NOW + 10_000);
    let healed = rotated(&family, 7, NOW + 20_000);
    assert_eq!(healed.generation, 8);
    assert_eq!(healed.present(7, Moment::at(NOW + 21_000), &RULES), Step::Again(8));
    assert!(matches!(healed.present(7, Moment::at(NOW + 30_000), &RULES), Step::Reused(_)));
    // Further ahead than the row remembers.
    let far = rotated(&family, 5_000, NOW + 20_000);
    assert_eq!((far.generation, far.exchanged_ms.len()), (5_001, 8));
    assert_eq!(family.present(u64::MAX, Moment::at(NOW + 20_000), &RULES), Step::Over(Over::Expired));
}

#[test]
fn time_is_up_when_it_is_up_and_the_first_ending_stays() {
    let family = Family::open(NOW);
    assert!(matches!(family.present(1, Moment::at(NOW + 999_999), &RULES), Step::Rotate(_)));
    assert_eq!(family.present(1, Moment::at(NOW + 1_000_000), &RULES), Step::Over(Over::Expired));
    let idle = RULES.bounded(None, Some(20_000));
    assert!(matches!(family.present(1, Moment::at(NOW + 19_999), &idle), Step::Rotate(_)));
    assert_eq!(family.present(1, Moment::at(NOW + 20_000), &idle), Step::Over(Over::Expired));
    let ended = family.end(Ending::Reused);
    assert_eq!(ended.end(Ending::Revoked), ended);
    assert_eq!(ended.present(1, Moment::at(NOW + 2_000_000), &RULES), Step::Over(Over::Ended(Ending::Reused)));
}

#[test]
fn a_tenant_is_stricter_and_never_laxer() {
    let platform = RULES.bounded(None, Some(30));
    assert_eq!(platform.bounded(Some(2_000_000), Some(60)), platform);
    let strict = platform.bounded(Some(500), Some(10));
    assert_eq!((strict.ttl_ms, strict.idle_ms), (500, Some(10)));
    assert_eq!(RULES.bounded(None, None), RULES);
}

#[test]
fn tokens_for_more_than_one_use_stay_what_they_are() {
    let rules = Rules { single_use: false, ..RULES };
    let family = Family::open(NOW);
    assert_eq!(family.present(1, Moment::at(NOW + 100_000), &rules), Step::Again(1));
    let family = Family { generation: 3, ..family };
    assert!(matches!(family.present(1, Moment::at(NOW + 100_000), &rules), Step::Reused(_)));
}

#[test]
fn what_the_fate_of_a_write_means() {
    let row = Family { generation: 2, ..Family::open(NOW) };
    let other = Family { generation: 9, ..Family::open(NOW) };
    let (rotate, reused) = (Step::Rotate(row.clone()), Step::Reused(row.clone()));
    for (step, written, outcome) in [
        (&rotate, Written::Yes, Outcome::Grant(2)),
        (&rotate, Written::Unknown, Outcome::Grant(2)),
        (&rotate, Written::No, Outcome::Unavailable),
        (&rotate, Written::Conflict(Some(other.clone())), Outcome::Again(other.clone())),
        (&rotate, Written::Conflict(None), Outcome::Unknown),
        (&reused, Written::Yes, Outcome::Reused),
        (&reused, Written::Unknown, Outcome::Unavailable),
        (&reused, Written::No, Outcome::Unavailable),
        (&reused, Written::Conflict(Some(other.clone())), Outcome::Again(other.clone())),
        (&reused, Written::Conflict(None), Outcome::Unknown),
    ] {
        assert_eq!(step.clone().conclude(written.clone()), outcome, "{step:?} {written:?}");
    }
    assert_eq!(Step::Again(4).conclude(Written::Yes), Outcome::Grant(4));
    assert_eq!((Step::Late.row(), Step::Late.conclude(Written::Yes)), (None, Outcome::Late));
    assert_eq!(Step::Over(Over::Expired).conclude(Written::Yes), Outcome::Over(Over::Expired));
    assert_eq!((rotate.row(), Step::Again(4).row()), (Some(&row), None));
}

proptest! {
    /// Whatever a row says and whatever is presented: nothing but the presented token's own successor is handed out,
    /// no row goes back, and a family that has ended hands out nothing.
    #[test]
    fn one_successor_and_never_back(
        generation in 1_u64..50,
        presented in 0_u64..60,
        exchanged in prop::collection::vec(NOW - 20_000..NOW + 20_000, 0..8),
        now_ms in NOW - 30_000..NOW + 2_000_000,
        waited_ms in 0_u64..20_000,
        ended in prop::option::of(prop::sample::select(vec![Ending::Reused, Ending::Revoked])),
    ) {
        let family = Family { generation, exchanged_ms: exchanged, opened_at_ms: NOW - 30_000, ended };
        match family.present(presented, Moment { asked_ms: now_ms - waited_ms, now_ms }, &RULES) {
            Step::Late => prop_assert!(presented < generation && ended.is_none() && waited_ms > 1_000),
            Step::Rotate(row) => {
                prop_assert!(presented >= generation && ended.is_none());
                prop_assert_eq!(row.generation, presented + 1);
                prop_assert_eq!(row.opened_at_ms, family.opened_at_ms);
                prop_assert_eq!(row.exchanged_ms.last(), Some(&now_ms));
                prop_assert_eq!(row.present(presented, Moment::at(now_ms), &RULES), Step::Again(presented + 1));
            }
            Step::Again(successor) => {
                prop_assert!(presented < generation && ended.is_none());
                prop_assert_eq!(successor, presented + 1);
            }
            Step::Reused(row) => {
                prop_assert!(presented < generation && ended.is_none());
                prop_assert_eq!(row.ended, Some(Ending::Reused));
            }
            Step::Over(Over::Ended(ending)) => prop_assert_eq!(ended, Some(ending)),
            Step::Over(Over::Expired) => prop_assert!(now_ms >= family.expires_at_ms(&RULES)),
        }
    }
}
