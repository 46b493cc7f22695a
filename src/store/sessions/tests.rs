//! Sessions over a store in memory: two processes, two tenants, lost and late writes.
use super::*;
use decide::facts::Person;
use decide::revocation::{Handles, Source};

const AT: u64 = 1_800_000_000_000;
const RULES: Rules = Rules { idle_ms: 600_000, absolute_ms: 3_600_000, leeway_ms: 10_000, every_ms: Some(60_000) };

fn realm(tenant: &str) -> Realm {
    let renewing = Renewing { step_up: true, role_change: true };
    Realm { ring: Arc::new(Keyring::new(&[[7; 32]])), tenant: tenant.into(), rules: RULES, renewing }
}

fn ada() -> Identity {
    Identity {
        issuer: "workforce".into(),
        subject: Person("ada".into()),
        tenant: Some("acme".into()),
        roles: vec!["buyer".into()],
        session: None,
        auth_time: Some(AT / 1000 - 5),
        acr: None,
        amr: vec!["mfa".into()],
        issued_at: AT / 1000,
        not_before: 0,
        expires_at: AT / 1000 + 60,
        bound_to: None,
        scopes: None,
        handles: Handles::of(&Source {
            issuer: "workforce",
            subject: "ada",
            tenant: Some("acme"),
            ..Source::default()
        }),
    }
}

struct World {
    state: Arc<State>,
    here: Arc<Sessions>,
    there: Arc<Sessions>,
    handle: String,
}

impl World {
    async fn new() -> World {
        let state = Arc::new(State::in_memory_at(Arc::new(|| AT)));
        let process = || Arc::new(Sessions::new(state.clone()));
        let (here, there) = (process(), process());
        let handle = here.open(&realm("acme"), &ada(), None, None, AT).await.unwrap().handle;
        World { state, here, there, handle }
    }

    async fn writes(&self) {
        // What is written behind an answer is in tasks of this same thread.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }
}

async fn present(at: &Arc<Sessions>, text: &str, after_ms: u64) -> (String, Option<String>) {
    present_in(&realm("acme"), at, text, after_ms).await
}

async fn present_in(realm: &Realm, at: &Arc<Sessions>, text: &str, after_ms: u64) -> (String, Option<String>) {
    let client = IpAddr::from([192, 0, 2, 1]);
    match at.present(realm, text, client, AT + after_ms).await.unwrap() {
        Presented::Good { identity, hand, .. } => (format!("good {}", identity.subject.0), hand),
        Presented::Foreign(_) => ("foreign".to_owned(), None),
        Presented::Unknown => ("unknown".to_owned(), None),
        Presented::Over(over) => (format!("{over:?}"), None),
        Presented::Reused { key, .. } => {
            assert!(at.end(realm, key, Ending::Reused).await.unwrap());
            ("reused".to_owned(), None)
        }
    }
}

#[tokio::test]
async fn one_tenants_handle_is_nothing_to_another() {
    let world = World::new().await;
    let client = IpAddr::from([192, 0, 2, 1]);
    let said = world.here.present(&realm("globex"), &world.handle, client, AT).await.unwrap();
    assert!(matches!(said, Presented::Foreign(_)), "{said:?}");
    assert_eq!(world.here.key_of(&realm("globex"), &world.handle), None);
    // Nor is the record, were it copied to the place of another.
    let key = world.here.key_of(&realm("acme"), &world.handle).unwrap();
    let record = world.state.get(Kind::Session, &key).await.unwrap().unwrap();
    assert_eq!(Content::open(&realm("globex").ring, "globex", &key, &record.value), Err(SealError::Broken));
    assert!(!String::from_utf8_lossy(&record.value).contains("ada"), "who reads the store reads no names");
}

#[tokio::test]
async fn what_is_made_up_asks_no_store() {
    let world = World::new().await;
    for text in ["", "x", &"A".repeat(71), &world.handle.replace(&world.handle[60..], "AAAAAAAAAAA")] {
        assert_eq!(present(&world.here, text, 0).await.0, "foreign", "{text}");
    }
}

/// Else a copy would be served at a replica that read the session before its successor came back.
#[tokio::test]
async fn what_was_read_is_gone_by_no_longer_than_a_replaced_handle_is_good() {
    let world = World::new().await;
    let realm = Realm { rules: Rules { leeway_ms: 1_000, every_ms: None, ..RULES }, ..realm("acme") };
    let shown = async |at, text: &str, after_ms| present_in(&realm, at, text, after_ms).await;
    assert_eq!(shown(&world.here, &world.handle, 0).await.1, None);
    world.writes().await;
    let next = shown(&world.here, &world.handle, 2_000).await.1.unwrap();
    world.writes().await;
    assert_eq!(shown(&world.there, &world.handle, 2_001).await.1.as_ref(), Some(&next), "read here");
    assert_eq!(shown(&world.here, &next, 2_002).await.0, "good ada");
    world.writes().await;
    assert_eq!(shown(&world.there, &world.handle, 3_001).await.0, "good ada");
    assert_eq!(shown(&world.there, &world.handle, 3_002).await.0, "reused");
}

#[tokio::test]
async fn parallel_requests_get_the_same_successor_on_every_replica() {
    let world = World::new().await;
    assert_eq!(present(&world.here, &world.handle, 0).await, ("good ada".to_owned(), None));
    world.writes().await;
    let (_, first) = present(&world.here, &world.handle, 60_000).await;
    let first = first.unwrap();
    let mut others = Vec::new();
    for process in [&world.here, &world.there, &world.there] {
        others.push(present(process, &world.handle, 60_001).await.1.unwrap());
    }
    assert!(others.iter().all(|other| *other == first));
    assert_eq!(present(&world.there, &first, 60_002).await, ("good ada".to_owned(), None));
    world.writes().await;
    // A straggler, then a thief.
    assert_eq!(present(&world.here, &world.handle, 65_100).await.1, Some(first.clone()));
    assert_eq!(present(&world.here, &world.handle, 80_000).await.0, "reused");
    assert_eq!(present(&world.here, &first, 80_001).await.0, "Ended(Reused)");
    assert_eq!(
        present(&world.there, &first, 80_001).await.0,
        "Ended(Reused)",
        "and everywhere once what was read is old"
    );
}

#[tokio::test]
async fn a_lost_write_logs_nobody_out() {
    let world = World::new().await;
    let key = world.here.key_of(&realm("acme"), &world.handle).unwrap();
    let opened = world.state.get(Kind::Session, &key).await.unwrap().unwrap();
    present(&world.here, &world.handle, 0).await;
    world.writes().await;
    let next = present(&world.here, &world.handle, 60_000).await.1.unwrap();
    world.writes().await;
    // The store fails over, to before the handle was replaced; then the process is another one.
    world.state.put(Kind::Session, &key, Expect::Any, opened).await.unwrap();
    assert_eq!(present(&world.there, &next, 60_500).await, ("good ada".to_owned(), None));
    world.writes().await;
    assert_eq!(present(&world.there, &world.handle, 60_600).await.1, Some(next));
}

#[tokio::test]
async fn the_end_is_known_at_once_here_and_soon_elsewhere() {
    let world = World::new().await;
    let key = world.here.key_of(&realm("acme"), &world.handle).unwrap();
    assert_eq!(present(&world.there, &world.handle, 0).await.0, "good ada");
    assert!(world.here.end(&realm("acme"), key, Ending::SignedOut).await.unwrap());
    assert!(!world.here.end(&realm("acme"), key, Ending::Revoked).await.unwrap(), "it has ended already");
    assert_eq!(present(&world.here, &world.handle, 1).await.0, "Ended(SignedOut)");
    assert_eq!(present(&world.there, &world.handle, FRESH_MS).await.0, "Ended(SignedOut)");
}

#[tokio::test]
async fn a_use_elsewhere_keeps_it_alive_here() {
    let world = World::new().await;
    assert_eq!(present(&world.here, &world.handle, 0).await.0, "good ada");
    assert_eq!(present(&world.there, &world.handle, 590_000).await.0, "good ada");
    world.writes().await;
    assert_eq!(present(&world.here, &world.handle, 610_000).await.0, "good ada");
    assert_eq!(present(&world.here, &world.handle, 1_300_000).await.0, "Idle");
}

/// Each of `rotate_id.on` by itself: what is listed replaces the handle with the next use, and nothing else does.
#[tokio::test]
async fn a_handle_is_replaced_after_what_is_listed_and_nothing_else() {
    let stronger = |identity: Identity| Identity { auth_time: Some(AT / 1000), acr: Some("mfa".into()), ..identity };
    let other = |identity: Identity| Identity { roles: vec!["approver".into()], ..identity };
    for (step_up, role_change, identity, due) in [
        (true, false, stronger(ada()), true),
        (true, false, other(ada()), false),
        (false, true, stronger(ada()), false),
        (false, true, other(ada()), true),
        (false, false, other(stronger(ada())), false),
        (true, true, ada(), false),
    ] {
        let world = World::new().await;
        let realm = Realm { renewing: Renewing { step_up, role_change }, ..realm("acme") };
        let key = world.here.key_of(&realm, &world.handle).unwrap();
        assert!(world.here.promote(&realm, key, &identity, None).await.unwrap());
        let (said, hand) = present(&world.here, &world.handle, 1).await;
        assert_eq!((said, hand.is_some()), ("good ada".to_owned(), due), "{step_up} {role_change} {identity:?}");
        let content = world.here.content(&realm, &key).await.unwrap().unwrap();
        assert_eq!(content.who, Who::of(&identity), "what it says is taken over all the same");
    }
}

#[tokio::test]
async fn a_second_factor_that_is_taken_away_leaves_what_the_sign_in_was() {
    let world = World::new().await;
    let realm = realm("acme");
    let key = world.here.key_of(&realm, &world.handle).unwrap();
    assert!(!world.here.weaken(&realm, key).await.unwrap(), "nothing had made it stronger");
    for minute in 0..2 {
        let shown = Identity { auth_time: Some(AT / 1000 + minute), amr: vec!["mfa".into(), "otp".into()], ..ada() };
        assert!(world.here.strengthen(&realm, key, &shown).await.unwrap());
    }
    assert!(world.here.weaken(&realm, key).await.unwrap());
    let content = world.here.content(&realm, &key).await.unwrap().unwrap();
    assert_eq!((content.who, content.before), (Who::of(&ada()), None), "as before the first of them");
    // What the provider has confirmed meanwhile stays.
    let again = Identity { auth_time: Some(AT / 1000 + 9), acr: Some("phr".into()), ..ada() };
    world.here.strengthen(&realm, key, &ada()).await.unwrap();
    world.here.promote(&realm, key, &again, None).await.unwrap();
    assert!(!world.here.weaken(&realm, key).await.unwrap());
    assert_eq!(world.here.content(&realm, &key).await.unwrap().unwrap().who, Who::of(&again));
}
