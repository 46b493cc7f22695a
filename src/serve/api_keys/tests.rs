//! Keys of ours and imported ones, against what clients may send.
use super::*;
use crate::serve::fixtures::identity;
use aws_lc_rs::hmac;
use std::collections::{BTreeMap, HashMap};
use tokio::sync::Mutex;

const NOW: u64 = 1_000_000;

/// The one place for first checks is everybody's: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

fn key(subject: &str, hash: KeyHash, revoked: bool) -> Arc<ApiKey> {
    Arc::new(ApiKey {
        identity: Arc::new(identity(decide::rules::API_KEY, subject, u64::MAX)),
        hash,
        revoked,
        used_s: Default::default(),
    })
}

fn keys(entries: Vec<(&str, Arc<ApiKey>)>) -> ApiKeys {
    let lengths = |key: &Arc<ApiKey>| matches!(key.hash, KeyHash::Bcrypt { .. });
    let imported = entries.iter().filter(|(_, key)| lengths(key)).map(|(id, _)| id.len()).collect();
    ApiKeys {
        name: "keys.yaml".into(),
        prefix: "nlk_".into(),
        pepper: hmac::Key::new(hmac::HMAC_SHA256, &[9; 32]),
        keys: entries.into_iter().map(|(id, key)| (Box::from(id), key)).collect::<HashMap<_, _>>(),
        imported,
    }
}

fn bcrypted(text: &str) -> KeyHash {
    KeyHash::Bcrypt { hash: bcrypt::hash(text, 4).unwrap().into(), seen: OnceLock::new() }
}

async fn subject(keys: &ApiKeys, text: &str) -> Result<String, &'static str> {
    match judge(keys, text, NOW).await {
        Verdict::Known(identity) => Ok(identity.subject.0.to_string()),
        Verdict::Revoked => Err("revoked"),
        Verdict::Unknown(cause) | Verdict::Unclear(cause) => Err(cause),
    }
}

#[tokio::test]
async fn a_key_is_known_by_all_of_it() {
    let ours = api_key::make("nlk_", &[11; 64]).unwrap();
    let gone = api_key::make("nlk_", &[12; 64]).unwrap();
    let other = api_key::make("nlk_", &[[11; 10].as_slice(), &[13; 40]].concat()).unwrap();
    let pepper = keys(Vec::new());
    let all = keys(vec![
        ("BBBBBBBBBB", key("ours", KeyHash::Hmac(pepper.hash(&ours)), false)),
        ("CCCCCCCCCC", key("gone", KeyHash::Hmac(pepper.hash(&gone)), true)),
    ]);
    assert_eq!(subject(&all, &ours).await, Ok("ours".to_owned()));
    assert_eq!(subject(&all, &gone).await, Err("revoked"));
    assert_eq!(subject(&all, &other).await, Err("the API key's secret is wrong"));
    assert_eq!(subject(&all, &api_key::make("nlk_", &[14; 64]).unwrap()).await, Err("no such API key"));
    assert_eq!(subject(&all, &"x".repeat(513)).await, Err("the API key is too long"));
    assert_eq!(subject(&all, "BBBBBBBBBB").await, Err("the API key has another prefix"));
    let elsewhere = ApiKeys { pepper: hmac::Key::new(hmac::HMAC_SHA256, &[8; 32]), ..all };
    assert_eq!(subject(&elsewhere, &ours).await, Err("the API key's secret is wrong"), "another pepper");
    assert_eq!(
        elsewhere.keys["BBBBBBBBBB"].used_s.load(Ordering::Relaxed),
        NOW,
        "written once, by the one that passed"
    );
    assert_eq!(elsewhere.keys["CCCCCCCCCC"].used_s.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_imported_key_is_checked_the_slow_way_once() {
    let _alone = ALONE.lock().await;
    let all = keys(vec![("ak_live_1", key("old", bcrypted("ak_live_1234567"), false))]);
    assert_eq!(subject(&all, "ak_live_9234567").await, Err("the API key has another prefix"));
    assert_eq!(subject(&all, "ak_live_1234567").await, Ok("old".to_owned()));
    let free = FIRST.available_permits();
    assert_eq!(subject(&all, "ak_live_1234567").await, Ok("old".to_owned()));
    // Known by now: guesses are settled by HMAC, and ask for no turn.
    assert_eq!(subject(&all, "ak_live_1999999").await, Err("the API key's secret is wrong"));
    assert!(FIRST.available_permits() >= free);
    let KeyHash::Bcrypt { seen, .. } = &all.keys["ak_live_1"].hash else { panic!() };
    assert_eq!(seen.get(), Some(&all.hash("ak_live_1234567")));
}

#[tokio::test]
async fn who_leaves_during_a_first_check_makes_no_room_for_another() {
    let _alone = ALONE.lock().await;
    let slow = KeyHash::Bcrypt { hash: bcrypt::hash("ak_slow_1234567", 8).unwrap().into(), seen: OnceLock::new() };
    let all = Arc::new(keys(vec![("ak_slow_1", key("slow", slow, false))]));
    let guess = tokio::spawn({
        let all = all.clone();
        async move { subject(&all, "ak_slow_1999999").await }
    });
    while FIRST.available_permits() > 0 {
        assert!(!guess.is_finished(), "the check was over before anybody looked");
        tokio::task::yield_now().await;
    }
    guess.abort();
    assert!(guess.await.unwrap_err().is_cancelled());
    assert_eq!(FIRST.available_permits(), 0, "the processor is still at it");
    // And in the end there is room again.
    drop(FIRST.acquire().await.unwrap());
}

#[test]
fn last_use_is_kept_and_never_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let all = |used_s: u64| {
        let one = key("ours", KeyHash::Hmac([0; 32]), false);
        one.used_s.store(used_s, Ordering::Relaxed);
        BTreeMap::from([("keys.yaml".to_owned(), Arc::new(keys(vec![("id", one)])))])
    };
    assert_eq!(recall(dir.path()).of("keys.yaml", "id"), None);
    remember(dir.path(), &all(70)).unwrap();
    remember(dir.path(), &all(50)).unwrap();
    assert_eq!(recall(dir.path()).of("keys.yaml", "id"), Some(70));
    std::fs::write(dir.path().join("api-keys-used.json"), "{half").unwrap();
    assert_eq!(recall(dir.path()).of("keys.yaml", "id"), None);
    remember(dir.path(), &all(80)).unwrap();
    assert_eq!(recall(dir.path()).of("keys.yaml", "id"), Some(80));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
