//! The life of a session, step by step.
use super::*;

const RULES: Rules = Rules { idle_ms: 1_000_000, absolute_ms: 10_000_000, leeway_ms: 10_000, every_ms: Some(100_000) };
const AT: u64 = 50_000_000;

/// What becomes of a handle, in one line, and the row afterwards.
fn present(life: &Life, presented: u32, after_ms: u64, rules: &Rules) -> (String, Life) {
    match life.present(presented, AT + after_ms, rules) {
        Use::Good { life, hand: None } => ("good".to_owned(), life),
        Use::Good { life, hand: Some(hand) } => (format!("good, {hand}"), life),
        Use::Reused(life) => ("reused".to_owned(), life),
        Use::Over(over) => (format!("{over:?}"), life.clone()),
    }
}

/// Presents one handle after the other.
fn story(rules: &Rules, steps: &[(u32, u64, &str)]) {
    let mut life = Life::open(AT);
    for (presented, after_ms, expected) in steps {
        let (said, next) = present(&life, *presented, *after_ms, rules);
        assert_eq!(said, *expected, "{presented} after {after_ms} of {steps:?}");
        life = next;
    }
}

#[test]
fn a_handle_is_replaced_when_its_time_has_come() {
    story(&RULES, &[(1, 0, "good"), (1, 99_999, "good"), (1, 100_000, "good, 2"), (2, 100_100, "good")]);
}

#[test]
fn with_every_use_it_is_replaced_as_often_as_the_leeway_lets_it() {
    let rules = Rules { every_ms: None, ..RULES };
    let steps =
        [(1, 0, "good"), (1, 19_999, "good"), (1, 20_000, "good, 2"), (2, 20_001, "good"), (2, 40_001, "good, 3")];
    story(&rules, &steps);
}

#[test]
fn requests_under_way_get_the_same_successor() {
    story(
        &RULES,
        &[
            (1, 0, "good"),
            (1, 100_000, "good, 2"),
            (1, 100_001, "good, 2"),
            (2, 100_002, "good"),
            (1, 110_001, "good, 2"),
            (1, 110_002, "reused"),
            (2, 110_003, "Ended(Reused)"),
        ],
    );
}

#[test]
fn an_answer_that_never_arrived_is_given_again() {
    story(&RULES, &[(1, 0, "good"), (1, 100_000, "good, 2"), (1, 900_000, "good, 2"), (2, 900_001, "good")]);
}

#[test]
fn what_a_crash_has_lost_heals() {
    let (_, rotated) = present(&present(&Life::open(AT), 1, 0, &RULES).1, 1, 100_000, &RULES);
    assert_eq!(rotated.generation, 2);
    // The row never learnt of it, nor of the next.
    story(
        &RULES,
        &[(1, 0, "good"), (2, 100_001, "good"), (1, 100_002, "good, 2"), (4, 400_000, "good"), (2, 420_000, "reused")],
    );
}

#[test]
fn idle_and_absolute_are_exclusive_and_a_tenant_may_only_be_stricter() {
    let life = Life::open(AT);
    let over = |after_ms, rules: &Rules| life.over(AT + after_ms, rules);
    assert_eq!((over(999_999, &RULES), over(1_000_000, &RULES)), (None, Some(Over::Idle)));
    assert_eq!(over(10_000_000, &RULES), Some(Over::Expired));
    let strict = RULES.bounded(Some(10), Some(u64::MAX));
    assert_eq!((strict.idle_ms, strict.absolute_ms), (10, RULES.absolute_ms), "laxer bounds change nothing");
    assert_eq!(over(10, &strict), Some(Over::Idle));
    let (said, used) = present(&life, 1, 900_000, &RULES);
    assert_eq!((said.as_str(), used.over(AT + 1_800_000, &RULES)), ("good", None), "use keeps it alive");
}

#[test]
fn a_promotion_replaces_the_handle_at_once() {
    let (_, life) = present(&Life::open(AT), 1, 0, &RULES);
    let (said, life) = present(&life.promoted(), 1, 1, &RULES);
    assert_eq!(said, "good, 2");
    let (said, life) = present(&life, 2, 2, &RULES);
    assert_eq!(said, "good");
    assert_eq!(present(&life, 1, 10_002, &RULES).0, "reused");
}

#[test]
fn an_ended_session_says_why_whatever_is_presented() {
    let life = Life::open(AT).end(Ending::SignedOut).end(Ending::Reused);
    for (presented, after_ms) in [(1, 0), (7, 0), (1, u64::MAX - AT)] {
        assert_eq!(present(&life, presented, after_ms, &RULES).0, "Ended(SignedOut)");
    }
}
