//! API keys of the state engine in every engine: found by all replicas, changed by one at a time, and good for as long as is said.
use super::{Clock, in_redis, state};
use crate::harness::Redis;
use moat::store::key_sets::{Content, Fault, Hash, KeySets, Shelf};
use moat::store::sessions::{FRESH_MS, GRACE_MS};
use moat::store::state::State;
use std::sync::Arc;

fn shelf(set: &str) -> Shelf {
    Shelf::new(set.into(), &[7; 32])
}

fn content(id: &str, at_s: u64) -> Content {
    Content {
        id: id.to_owned(),
        name: "a test".to_owned(),
        subject: format!("key:{id}"),
        tenant: Some("acme".to_owned()),
        roles: vec!["viewer".to_owned()],
        scopes: None,
        hash: Hash::Hmac([1; 32]),
        imported: false,
        created_s: at_s,
        expires_s: None,
        revoked_s: None,
        successor: None,
    }
}

/// The ids of a set, as a replica lists them.
async fn listed(sets: &KeySets, shelf: &Shelf) -> Vec<String> {
    sets.list(shelf).await.unwrap().into_iter().map(|content| content.id).collect()
}

/// `one` and `two` are two replicas over the same store.
pub(super) async fn keys_of_sets(one: &Arc<State>, two: &Arc<State>, clock: &Clock) {
    let (here, there) = (Arc::new(KeySets::new(one.clone())), Arc::new(KeySets::new(two.clone())));
    let (a, b, now_s) = (shelf("a"), shelf("b"), clock.now() / 1000);
    let found = async |sets: &KeySets, shelf: &Shelf, id: &str| {
        sets.find(shelf, id, clock.now()).await.unwrap().map(|(key, stale)| (key.content.clone(), stale))
    };
    assert!(here.add(&a, &content("first00000", now_s)).await.unwrap());
    assert!(!there.add(&a, &content("first00000", now_s)).await.unwrap(), "there is one");
    assert!(here.add(&b, &content("first00000", now_s + 1)).await.unwrap(), "another set has its own");
    assert_eq!(found(&there, &a, "first00000").await, Some((content("first00000", now_s), false)));
    assert_eq!(found(&there, &a, "other00000").await, None);
    assert_eq!(found(&there, &Shelf::new("a".into(), &[8; 32]), "first00000").await, None, "another pepper");
    let mut many: Vec<String> = (0..1_200).map(|n| format!("many{n:06}")).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for id in many.clone() {
        let here = here.clone();
        tasks.spawn(async move { here.add(&shelf("a"), &content(&id, now_s + 2)).await.unwrap() });
    }
    assert!(tasks.join_all().await.into_iter().all(|added| added));
    many.insert(0, "first00000".to_owned());
    assert_eq!(listed(&there, &a).await, many, "more than one answer holds");
    assert_eq!(listed(&there, &b).await, ["first00000"]);

    // Of sixteen who give it a successor at once, one does.
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let there = there.clone();
        tasks.spawn(async move {
            let (a, successor) = (shelf("a"), format!("next{n:06}"));
            let named = there.change(&a, "first00000", |content| {
                let free = content.successor.is_none();
                content.successor.get_or_insert(successor.clone());
                free
            });
            named.await.unwrap().unwrap().successor == Some(successor)
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|won| *won).count(), 1);
    assert_eq!(found(&there, &a, "first00000").await.unwrap().0.successor.map(|id| id.len()), Some(10));
    assert!(here.change(&a, "other00000", |_| true).await.unwrap().is_none());
    here.remove(&b, "first00000").await.unwrap();
    assert_eq!((found(&here, &b, "first00000").await, listed(&there, &b).await), (None, Vec::new()));

    // Imported ones are found by what a text begins with, the longest first, and no other is.
    for id in ["ak_live", "ak_live_1", "ak_other_keys"] {
        assert!(here.add(&b, &Content { imported: true, ..content(id, now_s) }).await.unwrap());
    }
    for (text, id) in [
        ("ak_live_12345", Some("ak_live_1")),
        ("ak_live_23456", Some("ak_live")),
        ("ak_live", Some("ak_live")),
        ("ak_liv", None),
        ("none of them", None),
    ] {
        let found = there.find_imported(&b, text, clock.now()).await.unwrap();
        assert_eq!(found.map(|(key, _)| key.content.id.clone()).as_deref(), id, "{text}");
    }
    assert!(here.add(&b, &Content { imported: true, ..content("ak_a", now_s) }).await.unwrap());
    let fifth = here.add(&b, &Content { imported: true, ..content("ak_ab", now_s) }).await;
    assert_eq!(fifth, Err(Fault::Lengths), "each length is a look-up for whoever guesses");

    // What has expired is listed for a while, and then gone.
    let over = Content { expires_s: Some(now_s + 10), ..content("over000000", now_s) };
    assert!(here.add(&shelf("c"), &over).await.unwrap());
    clock.advance(11_000);
    assert_eq!(listed(&there, &shelf("c")).await, ["over000000"]);
    assert_eq!(over.state(clock.now() / 1000), "expired");
    clock.advance(91 * 86_400_000);
    assert_eq!(listed(&there, &shelf("c")).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_goes_on_for_a_minute_after_it_was_read_and_no_longer() {
    let mut redis = Redis::start(&[]).await;
    let clock = Clock::new();
    let sets = KeySets::new(state(in_redis(redis.address).await, &clock));
    let (a, at) = (shelf("a"), clock.now());
    for id in ["read000000", "changed000", "not-read00"] {
        assert!(sets.add(&a, &content(id, at / 1000)).await.unwrap());
    }
    let answer = async |id: &str, after_ms: u64| match sets.find(&a, id, at + after_ms).await {
        Ok(Some((_, false))) => "good",
        Ok(Some((_, true))) => "stale",
        Ok(None) => "unknown",
        Err(Fault::Silent(_)) => "silent",
        Err(_) => "wrong",
    };
    assert_eq!((answer("read000000", 0).await, answer("changed000", 0).await), ("good", "good"));
    assert_eq!(answer("never-made", 0).await, "unknown");
    assert!(sets.change(&a, "changed000", |content| content.revoked_s.replace(1).is_none()).await.unwrap().is_some());
    redis.kill();
    for (id, after_ms, expected) in [
        ("read000000", FRESH_MS - 1, "good"),
        ("read000000", FRESH_MS, "stale"),
        ("read000000", GRACE_MS - 1, "stale"),
        ("read000000", GRACE_MS, "silent"),
        ("changed000", 1, "silent"),
        ("not-read00", 1, "silent"),
        ("never-made", FRESH_MS - 1, "unknown"),
        ("never-made", FRESH_MS, "silent"),
    ] {
        assert_eq!(answer(id, after_ms).await, expected, "{id} {after_ms}");
    }
}
