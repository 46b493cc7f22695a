//! An upstream's endpoints: choice, ejection, retries, names that move.
use super::adaptive::Sample;
use super::endpoint::State;
use super::retry::{Attempt, Budget, Denied, Failure, may_retry};
use super::*;
use crate::config::settings::{Endpoint as Entry, Found, HttpVersion, Outlier, Retry};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 80))
}

fn entry(n: u8) -> Entry {
    Entry { place: Place::Address(address(n)), weight: 1, zone: None, max_in_flight: None }
}

fn upstream(endpoints: Vec<Entry>) -> Upstream {
    Upstream {
        name: "app".into(),
        region: None,
        endpoints,
        balance: Balance::LeastRequests,
        zone: None,
        tls: None,
        version: HttpVersion::Http1,
        timeouts: TIMEOUTS,
        health: None,
        outlier: OUTLIER,
        retry: RETRY,
        max_in_flight: None,
        adaptive_min: None,
        fairness: None,
        refresh: Duration::from_secs(30),
    }
}

const TIMEOUTS: Timeouts = Timeouts { connect: SECOND, first_byte: SECOND, idle: SECOND, total: None };
const SECOND: Duration = Duration::from_secs(1);
const OUTLIER: Outlier = Outlier { consecutive_5xx: Some(3), eject_for: SECOND, max_ejected: 5_000 };
const RETRY: Retry = Retry { connect_failure: true, refused_stream: true, reset: true, attempts: 3, budget: 2_000 };

fn pool(settings: Upstream) -> Arc<Pool> {
    Arc::new(Pool::new(Arc::new(settings), None))
}

/// A pool of one endpoint that has met something of everything, for tests of others.
pub(crate) fn example() -> Arc<Pool> {
    let fairness = Some(settings::Fairness { reserve: 1_000, weights: Vec::new() });
    let pool = pool(Upstream { max_in_flight: Some(4), fairness, ..upstream(vec![entry(1)]) });
    let held: Vec<Lease> = (0..4).map_while(|_| lease(&pool, Asker::default()).ok()).collect();
    assert_eq!(lease(&pool, Asker::default()).unwrap_err(), NoEndpoint::Share, "{} are held", held.len());
    take_of(&held).may_retry(&Attempt { failure: Failure::Connect, idempotent: true, replayable: true, tries: 1 });
    pool
}

fn take_of(held: &[Lease]) -> &Lease {
    held.first().expect("one that is held")
}

fn lease(pool: &Arc<Pool>, asker: Asker<'_>) -> Result<Lease, NoEndpoint> {
    pool.lease_for(asker, None, &[], TIMEOUTS)
}

fn take(pool: &Arc<Pool>) -> Lease {
    pool.lease_for(Asker::default(), None, &[], TIMEOUTS).expect("an endpoint")
}

fn last(lease: &Lease) -> u8 {
    match lease.address() {
        SocketAddr::V4(v4) => v4.ip().octets()[3],
        SocketAddr::V6(_) => unreachable!(),
    }
}

/// How often each endpoint is chosen when requests follow each other.
fn spread(pool: &Arc<Pool>, requests: usize) -> BTreeMap<u8, usize> {
    let mut counts = BTreeMap::new();
    (0..requests).for_each(|_| *counts.entry(last(&take(pool))).or_default() += 1);
    counts
}

#[test]
fn the_least_loaded_endpoint_is_next_and_weights_count() {
    let pool_of_three = pool(upstream(vec![entry(1), entry(2), entry(3)]));
    let held: Vec<Lease> = (0..9).map(|_| take(&pool_of_three)).collect();
    assert!((1..=3).all(|n| held.iter().filter(|lease| last(lease) == n).count() == 3));
    let (freed, _held): (Vec<_>, Vec<_>) = held.into_iter().partition(|lease| last(lease) == 2);
    drop(freed);
    let next: Vec<Lease> = (0..3).map(|_| take(&pool_of_three)).collect();
    assert!(next.iter().all(|lease| last(lease) == 2));

    for balance in [Balance::LeastRequests, Balance::RoundRobin] {
        let weighted = [(1, 1), (2, 3), (3, 6)].map(|(n, weight)| Entry { weight, ..entry(n) });
        let weighted = pool(Upstream { balance, ..upstream(weighted.to_vec()) });
        assert_eq!(spread(&weighted, 1000), BTreeMap::from([(1, 100), (2, 300), (3, 600)]));
    }
    // With requests in flight too.
    let weighted = pool(upstream([(1, 1), (2, 3)].map(|(n, weight)| Entry { weight, ..entry(n) }).to_vec()));
    let held: Vec<Lease> = (0..40).map(|_| take(&weighted)).collect();
    assert_eq!(held.iter().filter(|lease| last(lease) == 1).count(), 10);
}

proptest! {
    #[test]
    fn a_hash_moves_only_the_keys_of_the_endpoint_that_leaves(keys in prop::collection::vec(any::<u64>(), 200), gone in 1_u8..=8) {
        let all = pool(upstream((1..=8).map(entry).collect()));
        let rest = pool(upstream((1..=8).filter(|n| *n != gone).map(entry).collect()));
        for key in keys {
            let before = last(&all.lease_for(Asker::default(), Some(key), &[], TIMEOUTS).unwrap());
            let after = last(&rest.lease_for(Asker::default(), Some(key), &[], TIMEOUTS).unwrap());
            prop_assert!(before == after || before == gone, "{key}: {before} became {after}");
            // And it goes back to where it would have gone, while the endpoint is passed over.
            let skipped = last(&all.lease_for(Asker::default(), Some(key), &[address(gone)], TIMEOUTS).unwrap());
            prop_assert_eq!(skipped, after);
        }
    }

    #[test]
    fn a_budget_never_allows_more_than_its_share(requests in 0_u64..500, share in 0_u32..10_000) {
        let budget = Budget::default();
        (0..requests).for_each(|n| budget.request(n * 10));
        let rules = Retry { budget: share, ..RETRY };
        let attempt = Attempt { failure: Failure::Connect, idempotent: false, replayable: true, tries: 1 };
        let granted = (0..1000).filter(|_| may_retry(&rules, &budget, &attempt, requests * 10).is_ok()).count();
        prop_assert_eq!(granted as u64, (requests * u64::from(share) / 10_000).max(10));
    }
}

#[test]
fn a_hash_spreads_by_weight_and_is_the_same_in_every_process() {
    let weighted = pool(upstream([(1, 1), (2, 3)].map(|(n, weight)| Entry { weight, ..entry(n) }).to_vec()));
    let key = |n: u32| Some(stable_hash(format!("tenant-{n}").as_bytes()));
    let first = (0..10_000)
        .filter(|n| last(&weighted.lease_for(Asker::default(), key(*n), &[], TIMEOUTS).unwrap()) == 1)
        .count();
    assert!((2_300..2_700).contains(&first), "{first} of 10000 for a quarter of the weight");
    // A promise to replicas of other versions.
    assert_eq!(stable_hash(b"acme"), 1_372_038_925_648_144_367);
}

#[test]
fn requests_stay_in_their_zone_until_too_little_of_it_is_left() {
    let zoned = |n: u8, zone: &str| Entry { zone: Some(zone.into()), ..entry(n) };
    let entries = vec![zoned(1, "a"), zoned(2, "a"), zoned(3, "b"), zoned(4, "b")];
    let pool = pool(Upstream { zone: Some("a".into()), ..upstream(entries) });
    assert_eq!(spread(&pool, 100), BTreeMap::from([(1, 50), (2, 50)]));
    take(&pool).unreachable("down");
    let left = *spread(&pool, 1).keys().next().unwrap();
    assert_eq!(spread(&pool, 100), BTreeMap::from([(left, 100)]), "half of the zone still carries it");
    take(&pool).unreachable("down");
    assert_eq!(spread(&pool, 100), BTreeMap::from([(3, 50), (4, 50)]), "the other zone takes over");
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_passed_over_and_returns_after_a_growing_while() {
    let state = State::default();
    for (at, until) in [(0, 1_000), (1_000, 3_000), (3_500, 6_500)] {
        assert!(state.unreachable(&OUTLIER, at, "refused"), "{at}");
        assert!(!state.unreachable(&OUTLIER, at, "refused"), "many requests meet the same failure");
        assert!(state.is_ejected(until - 1) && !state.is_ejected(until), "from {at} until {until}");
    }
    // After a good while it begins anew.
    assert!(state.unreachable(&OUTLIER, 60_000, "refused"));
    assert!(!state.is_ejected(61_000));
}

#[test]
fn failed_answers_eject_but_never_too_many_and_never_the_last() {
    let pool = pool(upstream((1..=4).map(entry).collect()));
    for _ in 0..40 {
        let lease = take(&pool);
        lease.answered(503);
    }
    let ejected = pool.status().iter().filter(|endpoint| endpoint.ejected.is_some()).count();
    assert_eq!(ejected, 2, "half of four");
    assert_eq!(pool.counts().ejections, [0, 2]);

    let only = super::tests::pool(upstream(vec![entry(1)]));
    (0..10).for_each(|_| take(&only).answered(500));
    assert_eq!(only.status()[0].ejected, None);
    assert_eq!(only.status()[0].last_error.as_deref(), Some("status 500"));
}

#[test]
fn good_answers_between_bad_ones_keep_an_endpoint() {
    let pool = pool(upstream(vec![entry(1), entry(2)]));
    for _ in 0..20 {
        [500, 502, 200].iter().for_each(|status| {
            pool.lease_for(Asker::default(), None, &[address(2)], TIMEOUTS).unwrap().answered(*status)
        });
    }
    assert!(pool.status().iter().all(EndpointStatus::is_fit));
}

#[test]
fn when_none_is_fit_all_are_tried_and_it_is_counted() {
    let pool = pool(upstream(vec![entry(1), entry(2)]));
    for n in [1, 2] {
        pool.lease_for(Asker::default(), None, &[address(3 - n)], TIMEOUTS).unwrap().unreachable("down");
    }
    assert_eq!(spread(&pool, 10).len(), 2);
    assert_eq!(pool.counts().panicked, 10);
    assert_eq!(
        pool.lease_for(Asker::default(), None, &[address(1), address(2)], TIMEOUTS).unwrap_err(),
        NoEndpoint::AllTried
    );
}

#[test]
fn max_in_flight_is_exact_and_its_places_come_back() {
    let pool = pool(Upstream { max_in_flight: Some(5), ..upstream(vec![entry(1), entry(2)]) });
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let pool = pool.clone();
            std::thread::spawn(move || {
                (0..5).filter_map(|_| pool.lease_for(Asker::default(), None, &[], TIMEOUTS).ok()).collect::<Vec<_>>()
            })
        })
        .collect();
    let held: Vec<Lease> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(held.len(), 5);
    assert_eq!(pool.lease_for(Asker::default(), None, &[], TIMEOUTS).unwrap_err(), NoEndpoint::Full);
    assert_eq!(pool.counts().full, 36);
    drop(held);
    assert_eq!((pool.counts().in_flight, take(&pool).pool().len()), (0, 2));
    let refusal = NoEndpoint::Full.refusal();
    assert_eq!((refusal.code, refusal.retry_after_s), (Code::GatewayUnavailable, Some(1)));
}

#[test]
fn an_endpoint_with_a_bound_of_its_own_leaves_the_rest_to_the_others() {
    let bounded = Entry { max_in_flight: Some(1), ..entry(1) };
    let pool = pool(upstream(vec![bounded.clone(), entry(2)]));
    let held: Vec<Lease> = (0..10).map(|_| take(&pool)).collect();
    assert_eq!(held.iter().filter(|lease| last(lease) == 1).count(), 1);
    // One that is not well does not get what those that are well cannot take.
    let pool = super::tests::pool(upstream(vec![bounded, entry(2)]));
    pool.lease_for(Asker::default(), None, &[address(1)], TIMEOUTS).unwrap().unreachable("down");
    let _held = take(&pool);
    assert_eq!(pool.lease_for(Asker::default(), None, &[], TIMEOUTS).unwrap_err(), NoEndpoint::Full);
    assert_eq!(pool.counts().in_flight, 1, "a refused request leaves nothing behind");
}

#[test]
fn only_what_can_have_no_second_effect_is_sent_again() {
    let ask = |rules: &Retry, failure, idempotent, replayable, tries| {
        may_retry(rules, &Budget::default(), &Attempt { failure, idempotent, replayable, tries }, 0)
    };
    use Failure::{Connect, Refused, Reset};
    for (failure, idempotent, replayable, tries, expected) in [
        (Connect, false, true, 1, Ok(())),
        (Connect, false, true, 2, Ok(())),
        (Connect, true, true, 3, Err(Denied::Attempts)),
        (Connect, true, false, 1, Err(Denied::Unsafe)),
        (Refused, false, true, 1, Ok(())),
        (Refused, false, false, 1, Err(Denied::Unsafe)),
        (Reset, true, true, 1, Ok(())),
        (Reset, false, true, 1, Err(Denied::Unsafe)),
        (Reset, true, false, 1, Err(Denied::Unsafe)),
    ] {
        assert_eq!(ask(&RETRY, failure, idempotent, replayable, tries), expected, "{failure:?} {idempotent} {tries}");
    }
    let nothing = Retry { connect_failure: false, refused_stream: false, reset: false, ..RETRY };
    for failure in Failure::ALL {
        assert_eq!(ask(&nothing, failure, true, true, 1), Err(Denied::Policy));
    }
}

#[test]
fn a_spent_budget_ends_retries_until_the_seconds_have_passed() {
    let pool = pool(upstream(vec![entry(1), entry(2)]));
    let lease = take(&pool);
    let attempt = Attempt { failure: Failure::Connect, idempotent: true, replayable: true, tries: 1 };
    assert_eq!((0..15).filter(|_| lease.may_retry(&attempt)).count(), 10, "the floor");
    let counted: Vec<_> = pool.counts().retries.into_iter().filter(|(_, _, count)| *count > 0).collect();
    assert_eq!(counted, [("connect_failure", "retried", 10), ("connect_failure", "budget", 5)]);
    let budget = Budget::default();
    let granted = |now| (0..20).filter(|_| may_retry(&RETRY, &budget, &attempt, now).is_ok()).count();
    assert_eq!([granted(0), granted(9_000), granted(10_000), granted(10_000)], [10, 0, 10, 0]);
}

#[test]
fn checks_need_a_row_to_change_their_mind_but_the_first_word_counts() {
    let rules = settings::Health {
        path: "/".into(),
        host: None,
        every: SECOND,
        timeout: SECOND,
        unhealthy_after: 3,
        healthy_after: 2,
        expect: Vec::new(),
    };
    let state = State::default();
    state.is_checked(true);
    assert_eq!(state.health(), Health::Unproven);
    let (good, bad) = (Ok(()), Err("status 500".to_owned()));
    for (result, expected) in [
        (&good, Health::Healthy),
        (&bad, Health::Healthy),
        (&bad, Health::Healthy),
        (&good, Health::Healthy),
        (&bad, Health::Healthy),
        (&bad, Health::Healthy),
        (&bad, Health::Unhealthy),
        (&good, Health::Unhealthy),
        (&bad, Health::Unhealthy),
        (&good, Health::Unhealthy),
        (&good, Health::Healthy),
    ] {
        state.checked(&rules, 0, result);
        assert_eq!(state.health(), expected);
    }
    // Reaching it ends the rest after a failed connection.
    state.unreachable(&OUTLIER, 0, "refused");
    state.checked(&rules, 0, &good);
    assert!(!state.is_ejected(1));
}

#[test]
fn an_endpoint_that_never_answered_is_not_preferred_and_not_refused() {
    let health = settings::Health {
        path: "/".into(),
        host: None,
        every: SECOND,
        timeout: SECOND,
        unhealthy_after: 1,
        healthy_after: 1,
        expect: Vec::new(),
    };
    let settings = Upstream { health: Some(health.clone()), ..upstream(vec![entry(1), entry(2)]) };
    let pool = pool(settings.clone());
    assert_eq!(spread(&pool, 10).len(), 2, "requests do not wait for checks");
    let set = pool.set.load_full();
    pool.checked(&set.endpoints[1], &health, Ok(()));
    assert_eq!(spread(&pool, 10), BTreeMap::from([(2, 10)]));
    pool.checked(&set.endpoints[1], &health, Err("status 500".to_owned()));
    assert_eq!(spread(&pool, 10), BTreeMap::from([(1, 10)]));
    assert_eq!(pool.counts().checks, [1, 1]);
    // A reload that changes something else keeps what is known, and the requests in flight.
    let held = take(&pool);
    let next = Pool::new(Arc::new(Upstream { refresh: SECOND, ..settings }), Some(&pool));
    assert_eq!(next.status()[1].health, Health::Unhealthy);
    assert_eq!((next.counts().in_flight, next.status()[0].in_flight), (1, 1));
    drop(held);
    assert_eq!(next.counts().in_flight, 0);
}

fn named(found: &[u8]) -> Upstream {
    let found = Found(found.iter().map(|n| address(*n)).collect());
    upstream(vec![Entry { place: Place::Name { host: "app.test".into(), port: 80, found }, ..entry(0) }])
}

#[test]
fn a_name_that_moves_takes_its_requests_along_and_one_that_is_lost_keeps_its_addresses() {
    let pool = pool(named(&[1, 2]));
    let held = take(&pool);
    let answer = Arc::new(Mutex::new(Some(vec![3, 2, 2])));
    let resolver = {
        let answer = answer.clone();
        Resolver::new(move |host, port| {
            assert_eq!((host, port), ("app.test", 80));
            let answer = answer.lock().unwrap().clone();
            answer.map(|list| list.into_iter().map(address).collect()).ok_or_else(|| std::io::Error::other("SERVFAIL"))
        })
    };
    let kept = pool.set.load().endpoints[1].state.clone();
    resolve::look_up(&pool, &resolver);
    assert_eq!(spread(&pool, 10).keys().copied().collect::<Vec<_>>(), [2, 3]);
    assert!(Arc::ptr_eq(&kept, &pool.set.load().endpoints[0].state), "what is known of an address that stays is kept");
    for broken in [None, Some(Vec::new())] {
        *answer.lock().unwrap() = broken;
        resolve::look_up(&pool, &resolver);
        assert_eq!(pool.len(), 2);
    }
    assert_eq!(pool.counts().unresolved, 2);
    // The request to the address that is gone still counts, and ends as any other.
    assert_eq!(pool.counts().in_flight, 1);
    drop(held);
    assert_eq!(pool.counts().in_flight, 0);
    // A reload while the name leads nowhere keeps the addresses.
    let next = Pool::new(Arc::new(Upstream { refresh: SECOND, ..named(&[]) }), Some(&pool));
    assert_eq!(next.len(), 2);
    assert_eq!(
        super::tests::pool(named(&[])).lease_for(Asker::default(), None, &[], TIMEOUTS).unwrap_err(),
        NoEndpoint::Nowhere
    );
}

#[tokio::test(start_paused = true)]
async fn names_are_looked_up_until_the_pool_is_retired_or_gone() {
    for retire in [true, false] {
        let pool = pool(named(&[1]));
        let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel();
        pool.watch_over(Resolver::new(move |_, _| {
            let _ = asked.send(());
            Ok(vec![address(9)])
        }));
        was_asked.recv().await.unwrap();
        was_asked.recv().await.unwrap();
        assert_eq!(last(&take(&pool)), 9);
        if retire {
            pool.retire()
        } else {
            drop(pool)
        }
        // The task drops the resolver, and with it the sender.
        while was_asked.recv().await.is_some() {}
    }
}

#[test]
fn one_tenant_leaves_room_for_another_over_reloads() {
    let fairness = Some(settings::Fairness { reserve: 1_000, weights: vec![1, 4] });
    let shared = || Upstream { max_in_flight: Some(20), fairness: fairness.clone(), ..upstream(vec![entry(1)]) };
    let first = pool(shared());
    let [acme, globex]: [Arc<str>; 2] = ["acme".into(), "globex".into()];
    let of = |tenant, class| Asker { tenant: Some((tenant, class)), ..Asker::default() };
    let mut held: Vec<Lease> = std::iter::from_fn(|| lease(&first, of(&acme, 0)).ok()).collect();
    assert_eq!(held.len(), 18);
    assert_eq!(lease(&first, of(&acme, 0)).unwrap_err(), NoEndpoint::Share);
    // The same after a reload: what is held is known.
    let second = Arc::new(Pool::new(Arc::new(shared()), Some(&first)));
    assert_eq!(lease(&second, of(&acme, 0)).unwrap_err(), NoEndpoint::Share);
    let others: Vec<Lease> = std::iter::from_fn(|| lease(&second, of(&globex, 1)).ok()).collect();
    assert_eq!((others.len(), lease(&second, of(&globex, 1)).unwrap_err()), (2, NoEndpoint::Full));
    // Places that become free go to whoever is below the share, however often the other asks.
    held.truncate(15);
    assert_eq!(lease(&second, of(&acme, 0)).unwrap_err(), NoEndpoint::Share);
    let more = lease(&second, of(&globex, 1)).unwrap();
    let counts = second.counts();
    let told: Vec<_> = counts.holdings.iter().map(|h| (&*h.tenant, h.held, h.refused)).collect();
    assert_eq!(told, [("acme", 15, 4), ("globex", 3, 0)]);
    assert_eq!((counts.in_flight, counts.full, counts.limit), (18, 2, Some(20)));
    drop((held, others, more));
    assert_eq!(second.counts().in_flight, 0);
}

#[test]
fn while_the_limit_follows_the_application_its_last_fifth_is_for_those_who_are_signed_in() {
    let pool = pool(Upstream { max_in_flight: Some(10), adaptive_min: Some(2), ..upstream(vec![entry(1)]) });
    let known = Asker { signed_in: true, ..Asker::default() };
    let anonymous: Vec<Lease> = std::iter::from_fn(|| lease(&pool, Asker::default()).ok()).collect();
    assert_eq!((anonymous.len(), lease(&pool, Asker::default()).unwrap_err()), (8, NoEndpoint::Shed));
    let mut signed_in: Vec<Lease> = std::iter::from_fn(|| lease(&pool, known).ok()).collect();
    assert_eq!((signed_in.len(), lease(&pool, known).unwrap_err()), (2, NoEndpoint::Full));
    assert_eq!((pool.counts().shed, pool.counts().full), ([0, 2], 2));
    // A lowered limit sheds; what is under way stays.
    for n in 0..100 {
        let sample = Sample { took_us: if n < 25 { 1_000 } else { 900_000 }, timed_out: false, in_flight: 10 };
        pool.life.adaptive.note(n * 20, Bounds { min: 2, max: 10 }, sample);
    }
    assert_eq!((pool.limit(), pool.counts().in_flight), (Some(2), 10));
    assert_eq!(lease(&pool, known).unwrap_err(), NoEndpoint::Shed);
    drop(anonymous);
    signed_in.truncate(1);
    assert!(lease(&pool, known).is_ok(), "one of two");
    assert_eq!(pool.counts().shed, [1, 2]);
    // A reload keeps what was learnt, and its own bounds.
    let settings = Upstream { max_in_flight: Some(30), adaptive_min: Some(4), ..upstream(vec![entry(1)]) };
    assert_eq!(Pool::new(Arc::new(settings), Some(&pool)).limit(), Some(4));
}
