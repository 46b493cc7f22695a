//! Quotas: against a slow reference, under floods, over reloads.
mod dues;

use super::*;
use decide::rules::{KeyPart, Rate};
use governor::clock::FakeRelativeClock;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn limit(name: &str, key: &[KeyPart], rates: &[(u32, u32, u32)]) -> Arc<Limit> {
    let rates = rates.iter().map(|&(count, period_s, burst)| Rate { count, period_s, burst }).collect();
    Arc::new(Limit::new(name, key.to_vec(), rates))
}

fn shadow(limit: Arc<Limit>) -> Arc<Limit> {
    Arc::new(Limit { shadow: true, ..Limit::clone(&limit) })
}

fn from(client: &str) -> KeyInput<'static> {
    KeyInput::of(client.parse().expect("an address"), "r")
}

fn user(tenant: &'static str, subject: &'static str) -> KeyInput<'static> {
    KeyInput { tenant: Some(tenant), issuer: "idp", subject: Some(subject), ..from("192.0.2.1") }
}

struct Bench {
    clock: FakeRelativeClock,
    quotas: Quotas<FakeRelativeClock>,
}

impl Bench {
    fn new(keys_per_limit: usize) -> Bench {
        let clock = FakeRelativeClock::default();
        let quotas = Quotas::with(clock.clone(), keys_per_limit);
        clock.advance(Duration::from_secs(1000));
        Bench { clock, quotas }
    }

    fn take(&self, limits: &[Arc<Limit>], input: &KeyInput<'_>) -> Reading {
        let stage = limits.first().map_or(Stage::Address, |limit| limit.stage());
        self.quotas.take(limits, stage, input, &mut Dues::default())
    }

    fn stage(&self, limits: &[Arc<Limit>], stage: Stage, input: &KeyInput<'_>) -> Reading {
        self.quotas.take(limits, stage, input, &mut Dues::default())
    }

    /// How many of `tries` requests pass.
    fn passing(&self, limits: &[Arc<Limit>], input: &KeyInput<'_>, tries: usize) -> usize {
        (0..tries).filter(|_| self.take(limits, input).exceeded.is_none()).count()
    }

    fn bytes(&self, name: &str) -> usize {
        self.quotas.table.load()[name].meters.iter().filter_map(|(_, meter)| meter.as_ref()).map(|m| m.bytes()).sum()
    }
}

/// `name r=remaining t=reset`, `!` before it where exceeded, then the shadowed names.
fn told(reading: &Reading) -> String {
    let state = match &reading.tightest {
        Some(s) => format!("{} q={} w={} r={} t={}", s.name, s.quota, s.window_s, s.remaining, s.reset_s),
        None => "-".to_owned(),
    };
    let shadowed: String = reading.shadowed.iter().map(|name| format!(" ({name})")).collect();
    if reading.exceeded.is_some() {
        assert_eq!(reading.exceeded, reading.tightest);
    }
    format!("{}{state}{shadowed}", if reading.exceeded.is_some() { "!" } else { "" })
}

#[test]
fn a_reading_counts_down_refuses_and_recovers() {
    let bench = Bench::new(100);
    let limits = [limit("ip", &[KeyPart::ClientPrefix], &[(1, 10, 3)])];
    let client = from("192.0.2.1");
    assert_eq!(told(&bench.take(&limits, &client)), "ip q=3 w=30 r=2 t=10");
    assert_eq!(told(&bench.take(&limits, &client)), "ip q=3 w=30 r=1 t=20");
    assert_eq!(told(&bench.take(&limits, &client)), "ip q=3 w=30 r=0 t=30");
    assert_eq!(told(&bench.take(&limits, &client)), "!ip q=3 w=30 r=0 t=10");
    bench.clock.advance(Duration::from_millis(9_999));
    assert_eq!(told(&bench.take(&limits, &client)), "!ip q=3 w=30 r=0 t=1");
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(told(&bench.take(&limits, &client)), "ip q=3 w=30 r=0 t=30");
    assert_eq!(told(&bench.take(&limits, &from("192.0.2.2"))), "ip q=3 w=30 r=2 t=10");
}

#[test]
fn the_tightest_is_reported_and_the_longest_wait_refuses() {
    let bench = Bench::new(100);
    let quick = limit("quick", &[KeyPart::ClientPrefix], &[(1, 1, 2)]);
    let slow = limit("slow", &[KeyPart::ClientPrefix], &[(1, 60, 2)]);
    let wide = limit("wide", &[KeyPart::ClientPrefix], &[(1, 1, 50)]);
    let limits = [wide, quick, slow];
    let client = from("192.0.2.1");
    assert_eq!(told(&bench.take(&limits, &client)), "slow q=2 w=120 r=1 t=60");
    assert_eq!(told(&bench.take(&limits, &client)), "slow q=2 w=120 r=0 t=120");
    assert_eq!(told(&bench.take(&limits, &client)), "!slow q=2 w=120 r=0 t=60");
    // All limits were charged, also by the refused request.
    assert_eq!(told(&bench.take(&limits[..1], &client)), "wide q=50 w=50 r=46 t=4");
}

#[test]
fn a_shadow_limit_counts_and_never_refuses() {
    let bench = Bench::new(100);
    let strict = shadow(limit("strict", &[KeyPart::ClientPrefix], &[(1, 60, 1)]));
    let loose = limit("loose", &[KeyPart::ClientPrefix], &[(1, 1, 9)]);
    let limits = [strict, loose];
    let client = from("192.0.2.1");
    assert_eq!(told(&bench.take(&limits, &client)), "loose q=9 w=9 r=8 t=1");
    assert_eq!(told(&bench.take(&limits, &client)), "loose q=9 w=9 r=7 t=2 (strict)");
    assert_eq!(told(&bench.take(&limits[..1], &client)), "- (strict)");
}

#[test]
fn each_stage_takes_its_own_limits_only() {
    let bench = Bench::new(100);
    let limits =
        [limit("ip", &[KeyPart::ClientPrefix], &[(1, 1, 5)]), limit("tenant", &[KeyPart::Tenant], &[(1, 1, 3)])];
    let caller = user("acme", "ann");
    assert_eq!(told(&bench.stage(&limits, Stage::Address, &caller)), "ip q=5 w=5 r=4 t=1");
    assert_eq!(told(&bench.stage(&limits, Stage::Caller, &caller)), "tenant q=3 w=3 r=2 t=1");
    assert_eq!(told(&bench.stage(&limits, Stage::Caller, &caller)), "tenant q=3 w=3 r=1 t=2");
    assert_eq!(told(&bench.stage(&[], Stage::Caller, &caller)), "-");
}

#[test]
fn keys_tell_apart_what_they_should() {
    let by = |parts: &[KeyPart], a: KeyInput<'static>, b: KeyInput<'static>| {
        let hasher = KeyHasher::new();
        hasher.own(parts, &a) == hasher.own(parts, &b)
    };
    let client = &[KeyPart::ClientPrefix];
    assert!(!by(client, from("192.0.2.1"), from("192.0.2.2")));
    assert!(by(client, from("192.0.2.1"), from("::ffff:192.0.2.1")), "mapped is the same client");
    assert!(by(client, from("2001:db8::1"), from("2001:db8::ffff:1")), "one /64");
    assert!(!by(client, from("2001:db8::1"), from("2001:db8:0:1::1")), "two /64");
    assert!(!by(client, from("0.0.0.0"), from("::")));

    let subject = &[KeyPart::Subject];
    assert!(by(subject, user("acme", "ann"), user("globex", "ann")));
    assert!(!by(subject, user("acme", "ann"), user("acme", "bob")));
    assert!(!by(subject, user("acme", "ann"), KeyInput { issuer: "other", ..user("acme", "ann") }));
    assert!(!by(subject, KeyInput { issuer: "ab", ..user("t", "c") }, KeyInput { issuer: "a", ..user("t", "bc") }));
    assert!(!by(subject, from("192.0.2.1"), from("192.0.2.2")), "anonymous callers do not share a key");

    let both = &[KeyPart::Tenant, KeyPart::Subject];
    assert!(!by(both, user("acme", "ann"), user("globex", "ann")));
    assert!(!by(&[KeyPart::Tenant], user("", "ann"), from("192.0.2.1")), "no tenant is not the empty tenant");
    assert!(!by(&[KeyPart::Route], from("192.0.2.1"), KeyInput { route: "s", ..from("192.0.2.1") }));
}

#[test]
fn the_class_chooses_the_rate() {
    let bench = Bench::new(100);
    let limits = [limit("tenant", &[KeyPart::Tenant], &[(1, 60, 2), (1, 60, 5)])];
    let class = |class| KeyInput { class, ..user("acme", "ann") };
    assert_eq!(bench.passing(&limits, &class(Some(1)), 10), 5);
    assert_eq!(bench.passing(&limits, &class(Some(0)), 10), 2);
    assert_eq!(bench.passing(&limits, &class(None), 10), 0, "without a class the first rate counts");
}

#[test]
fn a_limit_that_allows_nothing_refuses_everything() {
    let bench = Bench::new(100);
    for rates in [&[][..], &[(0, 1, 1)], &[(1, 1, 0)], &[(1, 0, 1)]] {
        let limits = [limit(&format!("{rates:?}"), &[KeyPart::ClientPrefix], rates)];
        assert_eq!(bench.passing(&limits, &from("192.0.2.1"), 3), 0, "{rates:?}");
    }
}

#[test]
fn extreme_rates_do_not_overflow() {
    let bench = Bench::new(100);
    let most = u32::MAX;
    for (i, rate) in [(1, most, most), (most, most, most), (most, 1, most), (most, 1, 1)].into_iter().enumerate() {
        let limits = [limit(&i.to_string(), &[KeyPart::ClientPrefix], &[rate])];
        assert!(bench.take(&limits, &from("192.0.2.1")).exceeded.is_none(), "{rate:?}");
        bench.clock.advance(Duration::from_secs(most.into()));
        assert!(bench.take(&limits, &from("192.0.2.1")).exceeded.is_none(), "{rate:?}");
    }
}

#[test]
fn a_reload_keeps_the_counts_of_unchanged_rates() {
    let bench = Bench::new(100);
    let client = from("192.0.2.1");
    let ip = |rate| [limit("ip", &[KeyPart::ClientPrefix], &[rate])];
    let before = ip((1, 60, 3));
    bench.quotas.reconfigure(&before);
    assert_eq!(bench.passing(&before, &client, 5), 3);

    let same = ip((1, 60, 3));
    bench.quotas.reconfigure(&same);
    assert_eq!(bench.passing(&same, &client, 5), 0, "the same rate goes on counting");
    let shadowed = [shadow(same[0].clone())];
    bench.quotas.reconfigure(&shadowed);
    assert_eq!(told(&bench.take(&shadowed, &client)), "- (ip)", "shadow is not a new limit");
    assert_eq!(bench.quotas.keys(), [("ip".into(), 1)]);

    let wider = ip((1, 60, 4));
    bench.quotas.reconfigure(&wider);
    assert_eq!(bench.quotas.keys(), [("ip".into(), 0)], "the keys of the old rate are given back");
    assert_eq!(bench.passing(&wider, &client, 5), 4, "another rate starts afresh");

    bench.quotas.reconfigure(&[]);
    assert!(bench.quotas.keys().is_empty());
    assert_eq!(bench.passing(&wider, &client, 5), 4, "a request of an older snapshot is still limited");
}

#[test]
fn a_flood_of_fresh_keys_is_bounded_and_still_limited() {
    const CAP: usize = 100_000;
    let bench = Bench::new(CAP);
    let limits = [limit("ip", &[KeyPart::ClientPrefix], &[(1, 3600, 2)])];
    let known = from("198.51.100.7");
    assert_eq!(bench.passing(&limits, &known, 1), 1);

    // 2,000,000 addresses (/64) of one provider (/32).
    let flood = |n: u64| {
        let address = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n) << 64);
        KeyInput { client: IpAddr::V6(address), ..known }
    };
    let passed: usize = (0..2_000_000).map(|n| bench.passing(&limits, &flood(n), 1)).sum();
    assert_eq!(bench.quotas.keys(), [("ip".into(), CAP)]);
    // One request for each key of its own, then two for each of the 64 overflow cells of that network.
    assert_eq!(passed, CAP - 1 + 64 * 2);
    let bytes = bench.bytes("ip");
    assert!(bytes < CAP * 48 + (1 << 20), "{bytes} bytes");

    // Who was known keeps an own cell; fresh clients of other networks get in, but for those whose lanes coincide.
    assert_eq!(bench.passing(&limits, &known, 5), 1);
    let honest = |n: u32| KeyInput { client: IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | n << 8 | 1)), ..known };
    let welcome = (0..1000).filter(|n| bench.passing(&limits, &honest(*n), 1) == 1).count();
    assert!(welcome > 900, "{welcome} of 1000");

    // When their hour is over, a sweep gives places and memory back.
    bench.quotas.sweep();
    assert_eq!(bench.quotas.keys(), [("ip".into(), CAP)], "nothing is forgotten early");
    bench.clock.advance(Duration::from_secs(2 * 3600 + 1));
    bench.quotas.sweep();
    assert_eq!(bench.quotas.keys(), [("ip".into(), 0)]);
    assert!(bench.bytes("ip") < 1 << 20);
    assert_eq!(bench.passing(&limits, &flood(0), 5), 2);
}

#[test]
fn the_lanes_of_a_flooded_limit_per_user_are_those_of_the_tenant() {
    let bench = Bench::new(10);
    let limits = [limit("user", &[KeyPart::Subject], &[(1, 3600, 1)])];
    let names: Vec<String> = (0..5000).map(|n| format!("u{n}")).collect();
    let at = |tenant, subject| KeyInput { tenant: Some(tenant), subject: Some(subject), ..user("", "") };
    let passed: usize = names.iter().map(|name| bench.passing(&limits, &at("acme", name), 1)).sum();
    assert_eq!(passed, 10 + 64);
    let others = names.iter().take(16).filter(|name| bench.passing(&limits, &at("globex", name), 1) == 1).count();
    assert!(others > 0, "another tenant's users have lanes of their own");
}

#[test]
fn eight_threads_take_exactly_the_burst() {
    let bench = Bench::new(1000);
    let limits = [limit("ip", &[KeyPart::ClientPrefix], &[(1, 3600, 1000)])];
    let passed: usize = std::thread::scope(|scope| {
        let run = || bench.passing(&limits, &from("192.0.2.1"), 500);
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(passed, 1000);
}

#[test]
fn threads_racing_for_the_last_places_stay_within_the_cap() {
    let bench = Bench::new(100);
    let limits = [limit("ip", &[KeyPart::ClientPrefix], &[(1, 3600, 1)])];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..2000 {
                    bench.take(&limits, &KeyInput { client: IpAddr::V4(Ipv4Addr::from_bits(n)), ..from("192.0.2.1") });
                }
            });
        }
    });
    assert_eq!(bench.quotas.keys(), [("ip".into(), 100)]);
}

#[test]
fn the_janitor_sweeps_and_ends() {
    let quotas = Arc::new(Quotas::with(FakeRelativeClock::default(), 10));
    let janitor = Janitor::start(quotas.clone(), Duration::from_secs(3600)).expect("a thread");
    drop(janitor);
    assert_eq!(Arc::strong_count(&quotas), 1);
}

/// The same limit, the slow way: credit that grows by one each nanosecond up to what a whole burst costs.
struct Reference {
    cost: u128,
    most: u128,
    credit: u128,
}

impl Reference {
    fn new(rate: Rate) -> Reference {
        let cost = (u128::from(rate.period_s) * 1_000_000_000).div_ceil(u128::from(rate.count));
        let most = cost * u128::from(rate.burst);
        Reference { cost, most, credit: most }
    }

    fn pass_time(&mut self, ns: u64) {
        self.credit = (self.credit + u128::from(ns)).min(self.most);
    }

    /// (allowed, remaining, ns until whole or until the next request)
    fn take(&mut self) -> (bool, u32, u128) {
        if self.credit < self.cost {
            return (false, 0, self.cost - self.credit);
        }
        self.credit -= self.cost;
        (true, (self.credit / self.cost) as u32, self.most - self.credit)
    }
}

proptest! {
    #[test]
    fn counts_like_the_reference(
        count in 1u32..200, period_s in 1u32..7200, burst in 1u32..40,
        steps in prop::collection::vec((0u64..4, 0u64..1_000_000_000_000, 1usize..20), 1..40),
    ) {
        let bench = Bench::new(10);
        let rate = Rate { count, period_s, burst };
        let limits = [limit("ip", &[KeyPart::ClientPrefix], &[(count, period_s, burst)])];
        let mut reference = Reference::new(rate);
        for (scale, ns, requests) in steps {
            let ns = ns / 1000u64.pow(scale as u32);
            bench.clock.advance(Duration::from_nanos(ns));
            reference.pass_time(ns);
            bench.quotas.sweep();
            for _ in 0..requests {
                let reading = bench.take(&limits, &from("192.0.2.1"));
                let (allowed, remaining, wait) = reference.take();
                prop_assert_eq!(reading.exceeded.is_none(), allowed);
                let state = reading.tightest.expect("one limit");
                prop_assert_eq!(state.remaining, remaining);
                // Never told too early, and late by less than one interval where the quota refills.
                let told = u128::from(state.reset_s) * 1_000_000_000;
                prop_assert!(told >= wait, "told {} ns, is {} ns", told, wait);
                let slack = 1_000_000_000 + if allowed { reference.cost } else { 0 };
                prop_assert!(told < wait + slack, "told {} ns, is {} ns", told, wait);
            }
        }
    }
}
