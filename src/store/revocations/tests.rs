//! Replicas over one state in memory: what is ended at one is ended at all, whatever they missed.
use super::*;
use crate::store::state::State;
use decide::facts::Person;
use decide::revocation::{Handles, Source, Within};
use futures_util::FutureExt;
use std::sync::atomic::AtomicUsize;

const NOW_S: u64 = 1_000_000;

#[derive(Default)]
struct Heard(AtomicUsize);

impl Observer for Heard {
    fn applied(&self, _: Duration) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn heard(&self, _: Result<(), &str>) {}
}

fn state() -> Arc<State> {
    Arc::new(State::in_memory_at(Arc::new(|| NOW_S * 1000)))
}

fn ring(keys: &[u8]) -> Keyring {
    let keys: Vec<[u8; 32]> = keys.iter().map(|key| [*key; 32]).collect();
    Keyring::new(&keys)
}

fn replica(state: &Arc<State>) -> Arc<Revocations> {
    replica_with(state, &[1])
}

fn replica_with(state: &Arc<State>, keys: &[u8]) -> Arc<Revocations> {
    let clock = Arc::new(|| NOW_S * 1000);
    Arc::new(Revocations::new(state.clone(), ring(keys), 7, clock, Arc::new(Heard::default())))
}

fn identity(subject: &str, issued_at: u64) -> Identity {
    let source = Source { issuer: "idp", subject, tenant: Some("acme"), ..Source::default() };
    Identity {
        issuer: "idp".into(),
        subject: Person(subject.into()),
        tenant: Some("acme".into()),
        roles: Vec::new(),
        session: None,
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        issued_at,
        not_before: 0,
        bound_to: None,
        scopes: None,
        expires_at: NOW_S + 600,
        handles: Handles::of(&source),
    }
}

fn of(subject: &str, at_s: u64) -> Mark {
    let target = Target::Subject { issuer: "idp", subject, within: Within::Anywhere };
    Mark::of(&target, at_s * 1000, 0, NOW_S + 3600)
}

/// Lets a follower take in all that was told.
async fn heard(replica: &Arc<Revocations>, subject: &str) {
    let knows = async {
        while replica.ended(&identity(subject, 0), None).is_none() {
            replica.changed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), knows).await.expect("nothing is heard");
}

#[tokio::test]
async fn what_one_replica_ends_is_ended_at_all_of_them_and_after_a_restart() {
    let state = state();
    let (one, two) = (replica(&state), replica(&state));
    assert!(!one.is_ready(), "nobody knows yet who is out");
    let tasks = [tokio::spawn(one.clone().follow()), tokio::spawn(two.clone().follow())];
    one.end(&[of("ann", NOW_S)], NOW_S * 1000, 10).await.unwrap();
    assert_eq!(one.ended(&identity("ann", NOW_S), None), Some(Scope::Subject));
    heard(&two, "ann").await;
    two.read_within(Duration::from_secs(10)).await;
    assert_eq!(two.ended(&identity("ann", NOW_S), None), Some(Scope::Subject));
    assert_eq!(two.ended(&identity("ann", NOW_S + 1), None), None, "who signs in later stays in");
    assert_eq!(two.ended(&identity("bob", NOW_S), None), None);
    assert!(two.is_ready() && two.silence() < Duration::from_secs(5));

    let three = replica(&state);
    let third = tokio::spawn(three.clone().follow());
    three.read_within(Duration::from_secs(10)).await;
    assert!(three.is_ready());
    assert_eq!(three.ended(&identity("ann", NOW_S), None), Some(Scope::Subject));
    tasks.into_iter().chain([third]).for_each(|task| task.abort());
}

#[tokio::test]
async fn an_earlier_mark_does_not_replace_a_later_one() {
    let state = state();
    let (one, two) = (replica(&state), replica(&state));
    one.end(&[of("ann", NOW_S)], NOW_S * 1000, 10).await.unwrap();
    // Its clock is behind, and it has not heard of the other one.
    two.end(&[of("ann", NOW_S - 500)], NOW_S * 1000, 10).await.unwrap();
    assert_eq!(two.ended(&identity("ann", NOW_S), None), Some(Scope::Subject), "what stands there is merged");
    let three = replica(&state);
    let task = tokio::spawn(three.clone().follow());
    heard(&three, "ann").await;
    assert_eq!(three.ended(&identity("ann", NOW_S), None), Some(Scope::Subject));
    task.abort();
}

#[tokio::test]
async fn a_replica_that_missed_the_feed_reads_everything_anew() {
    let state = state();
    let (one, two) = (replica(&state), replica(&state));
    let stand = two.read_all().await.unwrap().unwrap();
    for name in 0..20_000 {
        one.end(&[of(&name.to_string(), NOW_S)], NOW_S * 1000, u64::MAX).await.unwrap();
    }
    let mut stand = Some(stand);
    for _ in 0..1000 {
        stand = match stand {
            Some(at) => two.read_on(at, PATIENCE).await.unwrap().map(|news| news.stand),
            None => two.read_all().await.unwrap(),
        };
        if two.count(Scope::Subject) == 20_000 {
            return;
        }
    }
    panic!("{} of 20000", two.count(Scope::Subject));
}

#[tokio::test]
async fn what_is_told_while_all_marks_are_read_is_known_when_it_is_ready() {
    let state = state();
    let one = replica(&state);
    // Its clock is read once all that was told before is behind it, and before the first mark is.
    let telling = one.clone();
    let told = Arc::new(AtomicBool::new(false));
    let clock = Arc::new(move || {
        if !told.swap(true, Ordering::SeqCst) {
            telling.change(&[[9; 32]], NOW_S * 1000).now_or_never().expect("memory answers at once").unwrap();
        }
        NOW_S * 1000
    });
    let two = Arc::new(Revocations::new(state.clone(), ring(&[1]), 7, clock, Arc::new(Heard::default())));
    two.read_all().await.unwrap().unwrap();
    assert!(two.is_ready());
    assert_eq!(two.take_changed(), [[9; 32]], "a session that was changed meanwhile would be served as it was");
}

#[tokio::test]
async fn there_are_no_more_marks_than_there_may_be_and_none_is_lost_for_it() {
    let state = state();
    let (one, two) = (replica(&state), replica(&state));
    for name in ["ann", "bob"] {
        one.end(&[of(name, NOW_S)], NOW_S * 1000, 2).await.unwrap();
    }
    assert_eq!(one.end(&[of("eve", NOW_S)], NOW_S * 1000, 2).await, Err(Fault::Full(2)));
    assert_eq!(one.ended(&identity("eve", NOW_S), None), None);
    // What others have ended is taken in all the same.
    two.end(&[of("eve", NOW_S)], NOW_S * 1000, 2).await.unwrap();
    let task = tokio::spawn(one.clone().follow());
    heard(&one, "eve").await;
    task.abort();
}

#[tokio::test]
async fn the_tenant_of_the_request_counts_where_the_credential_names_none() {
    let state = state();
    let one = replica(&state);
    one.end(&[Mark::of(&Target::Tenant { id: "globex" }, NOW_S * 1000, 0, NOW_S + 60)], 0, 10).await.unwrap();
    let anybody = Identity {
        tenant: None,
        handles: Handles::of(&Source { issuer: "idp", subject: "ann", ..Source::default() }),
        ..identity("ann", NOW_S)
    };
    assert_eq!(one.ended(&anybody, Some("globex")), Some(Scope::Tenant));
    assert_eq!(one.ended(&anybody, Some("acme")), None);
    assert_eq!(one.ended(&anybody, None), None);
    assert_eq!(one.ended(&identity("ann", NOW_S), Some("globex")), None, "a session of acme is no session of globex");
}

/// All that lies there: places and values of marks, and the notes of the feed.
async fn all_bytes(state: &State) -> Vec<Vec<u8>> {
    let marks = state.scan(Kind::Mark, None, PIECE).await.unwrap().found;
    let start = Position(0);
    let notes = state.follow(start, Duration::ZERO).await.unwrap().notes;
    let marks = marks.into_iter().flat_map(|found| [found.key, found.record.value]);
    marks.chain(notes.into_iter().map(|(_, note)| note)).collect()
}

#[tokio::test]
async fn who_reads_the_engine_cannot_try_names() {
    let state = state();
    let one = replica(&state);
    let mark = of("ann", NOW_S);
    one.end(&[mark], NOW_S * 1000, 10).await.unwrap();
    let there = all_bytes(&state).await;
    assert_eq!(there.len(), 3, "a place, its value and a note: {there:?}");
    let tried = mark.handle.bytes();
    assert!(!there.iter().any(|bytes| bytes.windows(tried.len()).any(|piece| piece == tried)), "{there:?}");
}

/// Lets a replica with these keys read all there is; whether it knows who is out.
async fn knows(state: &Arc<State>, keys: &[u8]) -> bool {
    let one = replica_with(state, keys);
    let read = one.read_all().await;
    assert_eq!((read.is_ok(), one.shut() == 0), (one.is_ready(), one.is_ready()), "{read:?}");
    one.is_ready() && one.ended(&identity("ann", NOW_S), None).is_some()
}

#[tokio::test]
async fn keys_can_be_changed_and_nobody_comes_in_again() {
    let state = state();
    let old = replica(&state);
    old.end(&[of("ann", NOW_S)], NOW_S * 1000, 10).await.unwrap();
    assert!(!knows(&state, &[2]).await, "what cannot be opened is not overlooked");
    // The new key is known, and seals nothing yet.
    assert!(knows(&state, &[1, 2]).await && !knows(&state, &[2]).await);
    // It seals: at the end of the reading, everything lies under it, and the old key may go.
    let ring = ring(&[2, 1]);
    let new = replica_with(&state, &[2, 1]);
    assert_eq!(new.renew(&ring).await, Ok(1));
    assert!(knows(&state, &[2]).await && !knows(&state, &[1]).await);
    assert_eq!(new.renew(&ring).await, Ok(0), "once");
    // Somebody with the order of before has ended a later sign-in.
    replica_with(&state, &[1, 2]).end(&[of("ann", NOW_S + 5)], NOW_S * 1000, 10).await.unwrap();
    assert_eq!(new.renew(&ring).await, Ok(1));
    let last = replica_with(&state, &[2]);
    last.read_all().await.unwrap();
    assert_eq!(last.ended(&identity("ann", NOW_S + 5), None), Some(Scope::Subject), "the later of both stands");
    assert_eq!(state.scan(Kind::Mark, None, PIECE).await.unwrap().found.len(), 1);
}

#[tokio::test]
async fn a_replica_that_gets_the_key_later_reads_everything_with_it() {
    let state = state();
    let (old, new) = (replica(&state), replica_with(&state, &[2]));
    let task = tokio::spawn(old.clone().follow());
    old.read_within(Duration::from_secs(10)).await;
    // A note that it cannot open may end anybody: it knows no longer who is out.
    new.end(&[of("ann", NOW_S)], NOW_S * 1000, 10).await.unwrap();
    let lost = async {
        while old.shut() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), lost).await.expect("it overlooks what it cannot open");
    assert_eq!(old.ended(&identity("ann", NOW_S), None), None);
    old.rekey(ring(&[1, 2]));
    heard(&old, "ann").await;
    task.abort();
}

#[tokio::test]
async fn a_mark_of_an_earlier_version_is_refused_and_not_forgotten() {
    let state = state();
    let mark = of("ann", NOW_S);
    let record = crate::store::state::Record::new(mark.to_bytes().to_vec(), NOW_S * 2000);
    state.put(Kind::Mark, mark.handle.bytes(), Expect::Absent, record).await.unwrap();
    assert!(!knows(&state, &[1]).await);
}
