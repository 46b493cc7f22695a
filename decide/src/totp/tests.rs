//! Codes of RFC 6238, and what a thief with a keyboard can do with them.
use super::*;
use proptest::prelude::*;

const NOW: u64 = 1_700_000_010;

fn secret() -> Secret {
    Secret::new(*b"12345678901234567890")
}

fn factor() -> Factor {
    let mut factor = Factor::new(secret(), NOW - 60);
    assert_eq!(factor.check(&code(NOW - 60), NOW - 60), Check::Code);
    factor.renew_recovery(&[recovery_code([7; 10]), recovery_code([8; 10])]);
    factor
}

fn code(at_s: u64) -> String {
    String::from_utf8(secret().code(at_s / STEP_S).to_vec()).unwrap()
}

/// RFC 6238, appendix B, SHA-1: the last six of its eight digits.
#[test]
fn the_codes_are_those_of_the_rfc() {
    for (at_s, expected) in [
        (59, "287082"),
        (1_111_111_109, "081804"),
        (1_111_111_111, "050471"),
        (1_234_567_890, "005924"),
        (2_000_000_000, "279037"),
        (20_000_000_000, "353130"),
    ] {
        assert_eq!(code(at_s), expected, "at {at_s}");
    }
}

/// RFC 4226, appendix D: counters 0 to 9.
#[test]
fn the_codes_by_counter_are_those_of_the_rfc() {
    let expected = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"];
    for (step, expected) in (0..).zip(expected) {
        assert_eq!(str::from_utf8(&secret().code(step)).unwrap(), expected);
    }
}

#[test]
fn secrets_are_written_as_apps_read_them_and_never_by_debug() {
    assert_eq!(secret().text(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    assert_eq!(
        secret().uri("North Lane", "ann@acme.example"),
        "otpauth://totp/North%20Lane:ann@acme.example?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=North%20Lane&period=30"
    );
    assert!(secret().uri("a&b", "x:y").starts_with("otpauth://totp/a%26b:x%3Ay?"));
    assert_eq!(recovery_code([0xff; 10]), "7777-7777-7777-7777");
    let shown = format!("{:?}", Factor::new(secret(), NOW));
    assert!(shown.contains("Secret(..)") && !shown.contains("49, 50"), "{shown}");
}

#[test]
fn a_code_is_good_for_a_step_before_and_after_and_only_once() {
    let fresh = factor();
    for (at_s, good) in
        [(NOW - 60, false), (NOW - 30, true), (NOW, true), (NOW + 30, true), (NOW + 60, false), (NOW - 90, false)]
    {
        let mut factor = fresh.clone();
        assert_eq!(factor.check(&code(at_s), NOW).passed(), good, "{}", i128::from(at_s) - i128::from(NOW));
        assert_eq!(factor.check(&code(at_s), NOW), Check::Wrong, "twice is once too often");
    }
    let mut factor = fresh;
    assert!(factor.check(&code(NOW + 30), NOW).passed());
    assert_eq!(factor.check(&code(NOW), NOW), Check::Wrong, "older than one that was taken");
}

#[test]
fn nothing_counts_before_the_first_code_and_that_must_come_in_time() {
    let mut factor = Factor::new(secret(), NOW);
    assert!(!factor.is_confirmed() && factor.unconfirmed() == Some(&secret()));
    assert_eq!(factor.clone().check(&code(NOW + 900), NOW + CONFIRM_WITHIN_S), Check::Lapsed);
    assert_eq!(factor.check(&code(NOW + 870), NOW + CONFIRM_WITHIN_S - 1), Check::Code);
    assert!(factor.is_confirmed() && factor.unconfirmed().is_none());
}

#[test]
fn a_recovery_code_is_good_once_however_it_is_typed() {
    let mut factor = factor();
    assert_eq!(
        factor.check(&recovery_code([7; 10]).to_lowercase().replace('-', " "), NOW),
        Check::Recovery { left: 1 }
    );
    assert_eq!(factor.check(&recovery_code([7; 10]), NOW), Check::Wrong);
    assert_eq!(factor.check(&recovery_code([8; 10]), NOW), Check::Recovery { left: 0 });
    assert_eq!(factor.recovery_left(), 0);
    for junk in ["", "-", "      ", "000000000000", "ααααα", &"A".repeat(10_000)] {
        assert!(!factor.clone().check(junk, NOW).passed());
    }
}

#[test]
fn who_guesses_waits_ever_longer_and_nobody_is_locked_out_for_good() {
    let (mut factor, mut now, mut tries) = (factor(), NOW, 0);
    let end = NOW + 86_400;
    while now < end {
        match factor.check("000001", now) {
            Check::Wrong => tries += 1,
            Check::TooMany { wait_s } => now += wait_s,
            other => panic!("{other:?}"),
        }
    }
    assert!((25..40).contains(&tries), "{tries} guesses a day, of a million codes");
    assert_eq!(
        factor.check(&code(NOW), NOW),
        Check::TooMany { wait_s: factor.waits_until_s - NOW },
        "nor the right one"
    );
    let later = factor.waits_until_s;
    assert_eq!(factor.check(&code(later), later), Check::Code);
    assert_eq!((factor.failures, factor.waits_until_s), (0, 0));
}

proptest! {
    /// Whatever is tried at whatever time (clocks go back, too): no step is taken twice, and none outside the window.
    #[test]
    fn no_step_is_taken_twice(tries in prop::collection::vec((0..40_u64, -3..4_i64), 1..60)) {
        let (mut factor, mut taken) = (factor(), std::collections::HashSet::new());
        for (later, off) in tries {
            let now = NOW + later * STEP_S;
            let step = (now / STEP_S).checked_add_signed(off).unwrap();
            let attempt = String::from_utf8(secret().code(step).to_vec()).unwrap();
            if factor.check(&attempt, now).passed() {
                prop_assert!(off.abs() <= 1 && taken.insert(step));
            }
        }
    }
}
