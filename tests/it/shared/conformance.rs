//! One table of cases for all modes: a limit means the same, whoever counts.
use super::{Replica, from, limit, shared};
use crate::harness::Redis;
use decide::facts::{Reading, Stage};
use decide::rules::{KeyPart, Limit, Sharing, SharingMode, StoreLoss};
use moat::store::quota::{Dues, KeyInput};
use std::sync::Arc;
use std::time::{Duration, Instant};

const BY_CLIENT: &[KeyPart] = &[KeyPart::ClientPrefix];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_limits_conform() {
    conforms(&Replica::alone(), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn synced_limits_of_one_replica_conform() {
    let redis = Redis::start(&[]).await;
    let replica = Replica::joined(redis.address, "a").await;
    conforms(&replica, shared(SharingMode::Synced, StoreLoss::Closed)).await;
    assert!(replica.quotas.lost().iter().all(|(_, _, count)| *count == 0), "the store was there all the time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_limits_conform() {
    let redis = Redis::start(&[]).await;
    let replica = Replica::joined(redis.address, "a").await;
    conforms(&replica, shared(SharingMode::Strict, StoreLoss::Closed)).await;
    assert!(replica.quotas.lost().iter().all(|(_, _, count)| *count == 0), "the store was there all the time");
    assert!(redis.ask("DBSIZE").starts_with(':'));
}

/// `name q=quota w=window r=remaining t=reset`, `!` before it where exceeded, then the shadowed names. `t` in minutes,
/// rounded up: real clocks run meanwhile.
fn told(reading: &Reading) -> String {
    let state = match &reading.tightest {
        Some(s) => {
            format!("{} q={} w={} r={} t={}m", s.name, s.quota, s.window_s, s.remaining, s.reset_s.div_ceil(60))
        }
        None => "-".to_owned(),
    };
    let shadowed: String = reading.shadowed.iter().map(|name| format!(" ({name})")).collect();
    if reading.exceeded.is_some() {
        assert_eq!(reading.exceeded, reading.tightest);
    }
    format!("{}{state}{shadowed}", if reading.exceeded.is_some() { "!" } else { "" })
}

async fn conforms(replica: &Replica, sharing: Option<Sharing>) {
    bursts_and_what_is_told(replica, sharing).await;
    several_limits(replica, sharing).await;
    classes_and_keys(replica, sharing).await;
    shadows_and_zeros(replica, sharing).await;
    costs(replica, sharing).await;
    steady_rates(replica, sharing).await;
    reloads(replica, sharing).await;
}

async fn bursts_and_what_is_told(replica: &Replica, sharing: Option<Sharing>) {
    let limits = [limit("hourly", BY_CLIENT, &[(1, 3600, 3)], sharing)];
    let client = from("192.0.2.1");
    for expected in [
        "hourly q=3 w=10800 r=2 t=60m",
        "hourly q=3 w=10800 r=1 t=120m",
        "hourly q=3 w=10800 r=0 t=180m",
        "!hourly q=3 w=10800 r=0 t=60m",
        "!hourly q=3 w=10800 r=0 t=60m",
    ] {
        assert_eq!(told(&replica.take(&limits, &client).await), expected);
    }
    assert_eq!(told(&replica.take(&limits, &from("192.0.2.2")).await), "hourly q=3 w=10800 r=2 t=60m");
    assert_eq!(told(&replica.take(&limits, &from("::ffff:192.0.2.2")).await), "hourly q=3 w=10800 r=1 t=120m");
}

async fn several_limits(replica: &Replica, sharing: Option<Sharing>) {
    // A limit of one's own stands among them, whatever the others are.
    let wide = limit("wide", BY_CLIENT, &[(1, 60, 50)], None);
    let quick = limit("quick", BY_CLIENT, &[(1, 60, 2)], sharing);
    let slow = limit("slow", BY_CLIENT, &[(1, 3600, 2)], sharing);
    let limits = [wide, quick, slow];
    let client = from("192.0.2.1");
    for expected in ["slow q=2 w=7200 r=1 t=60m", "slow q=2 w=7200 r=0 t=120m", "!slow q=2 w=7200 r=0 t=60m"] {
        assert_eq!(told(&replica.take(&limits, &client).await), expected);
    }
    // All limits were charged, also by the refused request.
    assert_eq!(told(&replica.take(&limits[..1], &client).await), "wide q=50 w=3000 r=46 t=4m");
    assert_eq!(told(&replica.take(&limits[1..2], &client).await), "!quick q=2 w=120 r=0 t=1m");
    let caller = limit("caller", &[KeyPart::Tenant], &[(1, 60, 9)], sharing);
    let both = [limits[0].clone(), caller];
    let taken = replica.quotas.take_shared(&both, Stage::Caller, &client, &mut Dues::default()).await;
    let reading = taken.unwrap();
    assert_eq!(told(&reading), "caller q=9 w=540 r=8 t=1m", "each stage takes its own limits only");
}

async fn classes_and_keys(replica: &Replica, sharing: Option<Sharing>) {
    let key = &[KeyPart::Tenant, KeyPart::Subject];
    let limits = [limit("classes", key, &[(1, 3600, 2), (1, 3600, 5), (1, 3600, 2)], sharing)];
    let user = |tenant, class, subject| KeyInput {
        tenant: Some(tenant),
        class: Some(class),
        issuer: "idp",
        subject: Some(subject),
        ..from("192.0.2.1")
    };
    assert_eq!(replica.passing(&limits, &user("acme", 1, "ann"), 10).await, 5);
    assert_eq!(replica.passing(&limits, &user("acme", 0, "ann"), 10).await, 2, "another class has another rate");
    assert_eq!(
        replica.passing(&limits, &user("acme", 2, "ann"), 10).await,
        2,
        "equal rates of two classes count apart"
    );
    assert_eq!(replica.passing(&limits, &user("acme", 9, "ann"), 10).await, 0, "the first rate, used up already");
    assert_eq!(replica.passing(&limits, &user("acme", 1, "bob"), 10).await, 5);
    assert_eq!(replica.passing(&limits, &user("globex", 1, "ann"), 10).await, 5);
    let other = KeyInput { issuer: "other", ..user("acme", 1, "ann") };
    assert_eq!(replica.passing(&limits, &other, 10).await, 5, "another issuer's user");
}

async fn shadows_and_zeros(replica: &Replica, sharing: Option<Sharing>) {
    let mut trial = limit("trial", BY_CLIENT, &[(1, 3600, 1)], sharing);
    Arc::get_mut(&mut trial).unwrap().shadow = true;
    let limits = [trial, limit("loose", BY_CLIENT, &[(1, 60, 9)], sharing)];
    let client = from("192.0.2.1");
    assert_eq!(told(&replica.take(&limits, &client).await), "loose q=9 w=540 r=8 t=1m");
    assert_eq!(told(&replica.take(&limits, &client).await), "loose q=9 w=540 r=7 t=2m (trial)");
    assert_eq!(told(&replica.take(&limits[..1], &client).await), "- (trial)");
    for (at, rates) in [&[][..], &[(0, 1, 1)], &[(1, 1, 0)], &[(1, 0, 1)]].into_iter().enumerate() {
        let limits = [limit(&format!("zero-{at}"), BY_CLIENT, rates, sharing)];
        assert_eq!(replica.passing(&limits, &client, 3).await, 0, "{rates:?}");
    }
    let most = u32::MAX;
    for (at, rate) in [(1, most, most), (most, most, most), (most, 1, most), (most, 1, 1)].into_iter().enumerate() {
        let limits = [limit(&format!("extreme-{at}"), BY_CLIENT, &[rate], sharing)];
        assert_eq!(replica.passing(&limits, &client, 1).await, 1, "{rate:?}");
    }
}

/// A request may cost more than one.
async fn costs(replica: &Replica, sharing: Option<Sharing>) {
    let mut dear = limit("dear", BY_CLIENT, &[(1, 3600, 10)], sharing);
    Arc::get_mut(&mut dear).unwrap().cost = 4;
    let (limits, client) = ([dear], from("192.0.2.1"));
    for expected in ["dear q=10 w=36000 r=6 t=240m", "dear q=10 w=36000 r=2 t=480m", "!dear q=10 w=36000 r=0 t=120m"] {
        assert_eq!(told(&replica.take(&limits, &client).await), expected);
    }
}

/// Clients that never rest get the burst and the rate, and no request more.
async fn steady_rates(replica: &Replica, sharing: Option<Sharing>) {
    let (rate, burst) = (40, 4);
    let limits = [limit("steady", BY_CLIENT, &[(rate, 1, burst)], sharing)];
    let (client, began) = (from("192.0.2.1"), Instant::now());
    let mut passed = 0;
    while began.elapsed() < Duration::from_millis(1500) {
        passed += u32::from(replica.take(&limits, &client).await.exceeded.is_none());
        tokio::task::yield_now().await;
    }
    let most = f64::from(burst) + f64::from(rate) * began.elapsed().as_secs_f64();
    assert!(f64::from(passed) <= most + 1.0, "{passed} of {most}");
    assert!(f64::from(passed) >= most / 2.0, "{passed} of {most}: it refills");
}

async fn reloads(replica: &Replica, sharing: Option<Sharing>) {
    let client = from("192.0.2.1");
    let ip = |rate| [limit("ip", BY_CLIENT, &[rate], sharing)];
    let before = ip((1, 3600, 3));
    replica.quotas.reconfigure(&before);
    assert_eq!(replica.passing(&before, &client, 5).await, 3);
    let same = ip((1, 3600, 3));
    replica.quotas.reconfigure(&same);
    assert_eq!(replica.passing(&same, &client, 5).await, 0, "the same rate goes on counting");
    let mut shadowed = Limit::clone(&same[0]);
    shadowed.shadow = true;
    let shadowed = [Arc::new(shadowed)];
    replica.quotas.reconfigure(&shadowed);
    assert_eq!(told(&replica.take(&shadowed, &client).await), "- (ip)", "shadow is not a new limit");
    let wider = ip((1, 3600, 4));
    replica.quotas.reconfigure(&wider);
    assert_eq!(replica.passing(&wider, &client, 5).await, 4, "another rate starts afresh");
}
