//! Caps, costs that the answer tells, and turns: on a clock of the test's own.
use super::*;
use decide::rules::{Settle, Statuses};
use http::{HeaderMap, HeaderName, HeaderValue};

const CLIENT: &[KeyPart] = &[KeyPart::ClientPrefix];

fn capped(most: u32, rates: &[(u32, u32, u32)]) -> Arc<Limit> {
    Arc::new(Limit { concurrent: vec![most], ..Limit::clone(&limit("cap", CLIENT, rates)) })
}

fn settled(settle: Settle, rate: (u32, u32, u32)) -> [Arc<Limit>; 1] {
    [Arc::new(Limit { settle, ..Limit::clone(&limit("cost", CLIENT, &[rate])) })]
}

impl Bench {
    /// Takes and keeps what is owed.
    fn owe(&self, limits: &[Arc<Limit>], client: &str) -> (Reading, Dues<FakeRelativeClock>) {
        let mut dues = Dues::default();
        let reading = self.quotas.take(limits, Stage::Address, &from(client), &mut dues);
        (reading, dues)
    }

    /// Requests answered one after the other; whether each passed.
    fn answers(&self, limits: &[Arc<Limit>], answer: impl Fn(&mut Dues<FakeRelativeClock>), tries: usize) -> String {
        let one = |_| {
            let (reading, mut dues) = self.owe(limits, "192.0.2.1");
            if reading.exceeded.is_some() {
                return '!';
            }
            answer(&mut dues);
            '.'
        };
        (0..tries).map(one).collect()
    }
}

fn status(status: u16) -> impl Fn(&mut Dues<FakeRelativeClock>) {
    move |dues| dues.answered(status, &HeaderMap::new())
}

#[test]
fn a_place_is_held_until_the_dues_are_dropped() {
    let bench = Bench::new(100);
    let limits = [capped(2, &[])];
    let (first, held) = bench.owe(&limits, "192.0.2.1");
    assert_eq!(told(&first), "cap q=2 w=0 r=1 t=1");
    let (second, also) = bench.owe(&limits, "192.0.2.1");
    assert_eq!(told(&second), "cap q=2 w=0 r=0 t=1");
    assert_eq!(told(&bench.take(&limits, &from("192.0.2.1"))), "!cap q=2 w=0 r=0 t=1");
    assert_eq!(told(&bench.take(&limits, &from("192.0.2.2"))), "cap q=2 w=0 r=1 t=1", "another key");
    assert_eq!(bench.quotas.held(), [("cap".into(), 2)]);
    drop(held);
    assert_eq!(bench.passing(&limits, &from("192.0.2.1"), 1), 1);
    drop(also);
    assert_eq!(bench.quotas.held(), [("cap".into(), 0)]);
    let table = bench.quotas.table.load();
    assert_eq!(table["cap"].holders.keys(), 0, "nothing is kept of keys without requests");
}

#[test]
fn a_request_refused_by_the_cap_is_not_charged_to_the_rate_and_the_tighter_of_both_is_told() {
    let bench = Bench::new(100);
    let limits = [capped(1, &[(1, 60, 3)])];
    let (reading, held) = bench.owe(&limits, "192.0.2.1");
    assert_eq!(told(&reading), "cap q=1 w=0 r=0 t=1");
    assert_eq!(bench.passing(&limits, &from("192.0.2.1"), 50), 0);
    drop(held);
    assert_eq!(bench.passing(&limits, &from("192.0.2.1"), 5), 2, "two of three were left");
    assert_eq!(told(&bench.take(&limits, &from("192.0.2.1"))), "!cap q=3 w=180 r=0 t=60");
}

#[test]
fn holders_stay_counted_over_reloads() {
    let bench = Bench::new(100);
    bench.quotas.reconfigure(&[capped(2, &[])]);
    let (_, first) = bench.owe(&[capped(2, &[])], "192.0.2.1");
    bench.quotas.reconfigure(&[capped(1, &[(1, 1, 9)])]);
    assert_eq!(bench.passing(&[capped(1, &[(1, 1, 9)])], &from("192.0.2.1"), 3), 0, "the one from before counts");
    drop(first);
    assert_eq!(bench.passing(&[capped(1, &[(1, 1, 9)])], &from("192.0.2.1"), 1), 1);
}

#[test]
fn a_shadow_cap_only_counts() {
    let bench = Bench::new(100);
    let limits = [shadow(capped(1, &[]))];
    let (_, held) = bench.owe(&limits, "192.0.2.1");
    assert_eq!(told(&bench.take(&limits, &from("192.0.2.1"))), "- (cap)");
    drop(held);
    assert_eq!(told(&bench.take(&limits, &from("192.0.2.1"))), "-");
}

#[test]
fn eight_threads_never_hold_more_than_the_cap() {
    let bench = Bench::new(100);
    let limits = [capped(5, &[])];
    let (under_way, most, passed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5000 {
                    let (reading, dues) = bench.owe(&limits, "192.0.2.1");
                    if reading.exceeded.is_none() {
                        passed.fetch_add(1, Ordering::SeqCst);
                        most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        under_way.fetch_sub(1, Ordering::SeqCst);
                    }
                    drop(dues);
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 5, "{most:?} at once");
    assert!(passed.load(Ordering::SeqCst) > 5000, "{passed:?}");
    assert_eq!(bench.quotas.held(), [("cap".into(), 0)], "every place was given back");
}

#[test]
fn a_request_takes_what_it_costs() {
    let bench = Bench::new(100);
    let dear = [Arc::new(Limit { cost: 4, ..Limit::clone(&limit("dear", CLIENT, &[(1, 1, 10)])) })];
    assert_eq!(told(&bench.take(&dear, &from("192.0.2.1"))), "dear q=10 w=10 r=6 t=4");
    assert_eq!(told(&bench.take(&dear, &from("192.0.2.1"))), "dear q=10 w=10 r=2 t=8");
    assert_eq!(told(&bench.take(&dear, &from("192.0.2.1"))), "!dear q=10 w=10 r=0 t=2");
    bench.clock.advance(Duration::from_secs(2));
    assert_eq!(told(&bench.take(&dear, &from("192.0.2.1"))), "dear q=10 w=10 r=0 t=10");
}

#[test]
fn only_answers_that_count_are_charged() {
    let bench = Bench::new(100);
    let limits = settled(Settle::Status(Statuses::failures()), (1, 60, 3));
    assert_eq!(bench.answers(&limits, status(200), 50), ".".repeat(50), "successes are free");
    assert_eq!(bench.answers(&limits, status(401), 5), "...!!");
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(bench.answers(&limits, status(200), 3), "...", "one is left, and it is given back each time");
    assert_eq!(bench.answers(&limits, status(500), 2), ".!");
}

#[test]
fn guesses_made_at_once_get_no_further_than_one_after_the_other() {
    let bench = Bench::new(100);
    let limits = settled(Settle::Status(Statuses::failures()), (1, 60, 3));
    let mut open: Vec<_> = (0..10).map(|_| bench.owe(&limits, "192.0.2.1")).collect();
    open.retain(|(reading, _)| reading.exceeded.is_none());
    assert_eq!(open.len(), 3, "what is not answered counts as taken");
    open.iter_mut().for_each(|(_, dues)| dues.answered(401, &HeaderMap::new()));
    drop(open);
    assert_eq!(bench.answers(&limits, status(401), 2), "!!");
}

#[test]
fn who_leaves_before_the_answer_pays_as_if_it_had_counted() {
    let bench = Bench::new(100);
    let limits = settled(Settle::Status(Statuses::failures()), (1, 60, 3));
    assert_eq!(bench.answers(&limits, |_| {}, 5), "...!!");
}

#[test]
fn the_application_says_what_it_cost() {
    let name = HeaderName::from_static("x-cost");
    let says = |values: &'static [&'static str]| {
        let name = HeaderName::from_static("x-cost");
        move |dues: &mut Dues<FakeRelativeClock>| {
            let mut fields = HeaderMap::new();
            for value in values {
                fields.append(&name, HeaderValue::from_static(value));
            }
            dues.answered(200, &fields);
        }
    };
    let limits = settled(Settle::Header { name, max: 40 }, (1, 1, 10));
    let debt = |values: &'static [&'static str]| {
        let bench = Bench::new(100);
        assert_eq!(bench.answers(&limits, says(values), 1), ".");
        bench.take(&limits, &from("192.0.2.1")).tightest.map(|state| (state.remaining, state.reset_s))
    };
    // After the first answer one more is reserved: 10 − cost − 1 left, or a debt to be waited for.
    assert_eq!(debt(&["0"]), Some((9, 1)));
    assert_eq!(debt(&["7"]), Some((2, 8)));
    assert_eq!(debt(&["25"]), Some((0, 16)), "15 beyond the burst, and one more");
    assert_eq!(debt(&["99"]), Some((0, 31)), "never more than the most");
    assert_eq!(debt(&[]), Some((8, 2)), "silence costs what was reserved");
    for nonsense in [&["1", "1"][..], &["-1"], &["1.5"], &[""], &["99999999999999999999"]] {
        assert_eq!(debt(nonsense), Some((0, 31)), "{nonsense:?} costs the most");
    }
}

#[test]
fn bytes_are_charged_at_the_end() {
    let bench = Bench::new(100);
    let limits = settled(Settle::Bytes { each: 1000, max: 50 }, (1, 1, 10));
    let sends = |bytes| {
        move |dues: &mut Dues<FakeRelativeClock>| {
            dues.answered(200, &HeaderMap::new());
            dues.ended(bytes);
        }
    };
    assert_eq!(bench.answers(&limits, sends(0), 20), ".".repeat(20));
    assert_eq!(bench.answers(&limits, sends(1), 11), "..........!");
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(bench.answers(&limits, sends(30_000), 2), ".!");
    assert_eq!(bench.take(&limits, &from("192.0.2.1")).exceeded.map(|state| state.reset_s), Some(21));
}

fn slowed(each_ms: u64, waiting: u32) -> [Arc<Limit>; 1] {
    let excess = Excess::Delay { each: Duration::from_millis(each_ms), waiting };
    [Arc::new(Limit { excess, ..Limit::clone(&limit("slow", CLIENT, &[(1, 60, 2)])) })]
}

#[test]
fn what_is_too_much_waits_for_its_turn_and_a_bounded_number_does() {
    let bench = Bench::new(100);
    let limits = slowed(1000, 3);
    let wait = |reading: &Reading| match (&reading.exceeded, &reading.delayed) {
        (Some(state), _) => format!("!{}", state.reset_s),
        (None, Some(delayed)) => delayed.wait_ms.to_string(),
        (None, None) => "-".to_owned(),
    };
    let all: Vec<_> = (0..7).map(|_| bench.owe(&limits, "192.0.2.1")).collect();
    let waits: Vec<String> = all.iter().map(|(reading, _)| wait(reading)).collect();
    assert_eq!(waits, ["-", "-", "1000", "2000", "3000", "!1", "!1"]);
    assert_eq!(bench.quotas.waiting(), 3);
    assert_eq!(wait(&bench.owe(&limits, "192.0.2.2").0), "-", "nobody else is slowed down");
    drop(all);
    assert_eq!(bench.quotas.waiting(), 0);
    bench.clock.advance(Duration::from_millis(1500));
    assert_eq!(wait(&bench.owe(&limits, "192.0.2.1").0), "2500", "turns that were taken stay taken");
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(wait(&bench.owe(&limits, "192.0.2.1").0), "-", "the limit itself has recovered by one");
    assert_eq!(wait(&bench.owe(&limits, "192.0.2.1").0), "1000");
}

#[test]
fn the_turns_are_bounded_in_all() {
    let bench = Bench::new(10_000);
    let limits = slowed(1000, 9);
    let mut kept = Vec::new();
    for n in 0..WAITING as u32 {
        let client = Ipv4Addr::from_bits(n + 1).to_string();
        bench.passing(&limits, &from("192.0.2.1"), 0);
        let last = (0..3).map(|_| bench.owe(&limits, &client)).last();
        kept.extend(last.filter(|(reading, _)| reading.delayed.is_some()));
    }
    assert_eq!((kept.len(), bench.quotas.waiting()), (WAITING, WAITING));
    let next = (0..3).map(|_| bench.owe(&limits, "198.51.100.1").0).last();
    assert!(next.is_some_and(|reading| reading.exceeded.is_some()), "beyond that, refused");
}

#[test]
fn nobody_takes_a_turn_who_is_refused_anyway() {
    let bench = Bench::new(100);
    let [slow] = slowed(1000, 1);
    let limits = [slow.clone(), limit("hard", CLIENT, &[(1, 60, 2)])];
    assert_eq!(bench.passing(&limits, &from("192.0.2.1"), 2), 2);
    for _ in 0..3 {
        let reading = bench.take(&limits, &from("192.0.2.1"));
        assert_eq!(reading.exceeded.map(|state| state.name), Some("hard".into()));
        assert_eq!(reading.delayed, None);
    }
    assert!(bench.take(&[slow], &from("192.0.2.1")).delayed.is_some(), "the one turn is still free");
}

proptest! {
    /// Whatever comes at once or after one another, answered well, badly or not at all: no more failures pass than a
    /// rate that counts failures alone would let through.
    #[test]
    fn failures_never_pass_the_rate(
        count in 1u32..30, burst in 1u32..8,
        steps in prop::collection::vec((0u64..20_000, 0usize..4, 0u8..4), 1..80),
    ) {
        let bench = Bench::new(10);
        let limits = settled(Settle::Status(Statuses::failures()), (count, 60, burst));
        let mut reference = Reference::new(Rate { count, period_s: 60, burst });
        let mut open = std::collections::VecDeque::new();
        for (pause_ms, answered, kind) in steps {
            bench.clock.advance(Duration::from_millis(pause_ms));
            reference.pass_time(pause_ms * 1_000_000);
            for _ in 0..answered.min(open.len()) {
                let Some((mut dues, kind)) = open.pop_front() else { break };
                let dues: &mut Dues<FakeRelativeClock> = &mut dues;
                match kind {
                    0 => dues.answered(200, &HeaderMap::new()),
                    1 | 2 => {
                        dues.answered(401, &HeaderMap::new());
                        prop_assert!(reference.take().0, "a failure too many");
                    }
                    _ => prop_assert!(reference.take().0, "an end without an answer too many"),
                }
            }
            let (reading, dues) = bench.owe(&limits, "192.0.2.1");
            if reading.exceeded.is_none() {
                open.push_back((dues, kind));
            }
        }
    }
}
