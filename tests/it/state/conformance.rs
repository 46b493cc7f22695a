//! What every engine must do, and does.
use super::{Clock, in_file, in_postgres, in_redis, postgres_at, state, until};
use crate::harness::{PATIENCE, Postgres, Redis};
use moat::store::state::memory::Memory;
use moat::store::state::{
    Cause, Engine, Expect, Kind, MAX_KEY, MAX_NOTE, MAX_VALUE, NEVER, Position, Put, Record, State,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_in_memory_conforms() {
    let memory = Engine::Memory(Arc::new(Memory::default()));
    let clock = Clock::new();
    conforms(&state(memory.clone(), &clock), &state(memory, &clock), &clock).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_in_a_file_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let clock = Clock::new();
    // Two processes during an upgrade have it open at the same time; two handles in one are no different to the file.
    conforms(&state(in_file(&path), &clock), &state(in_file(&path), &clock), &clock).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_in_redis_conforms() {
    let redis = Redis::start(&[]).await;
    let clock = Clock::new();
    conforms(&state(in_redis(redis.address).await, &clock), &state(in_redis(redis.address).await, &clock), &clock)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_in_postgresql_conforms() {
    let postgres = Postgres::start(&[]).await;
    let (clock, options) = (Clock::new(), postgres_at(postgres.address, "postgres"));
    let (one, two) = (in_postgres(options.clone()).await, in_postgres(options).await);
    conforms(&state(one, &clock), &state(two, &clock), &clock).await;
}

/// `one` and `two` are two replicas over the same store.
async fn conforms(one: &Arc<State>, two: &Arc<State>, clock: &Clock) {
    reads_and_writes(one, two, clock).await;
    odd_bytes_and_sizes(one, two, clock).await;
    expiry(one, two, clock).await;
    sixteen_writers(one, two, clock).await;
    indexes(one, two, clock).await;
    scans(one, clock).await;
    the_feed(one, two).await;
    super::key_sets::keys_of_sets(one, two, clock).await;
}

fn soon(clock: &Clock) -> u64 {
    clock.now() + 3_600_000
}

async fn written(state: &State, kind: Kind, key: &[u8], expect: Expect, record: Record) -> u64 {
    match state.put(kind, key, expect, record).await.unwrap() {
        Put::Written { version } => version,
        Put::Conflict(there) => panic!("not written, there is {there:?}"),
    }
}

/// Some at a time, so that they share commits and none waits long.
async fn all_written(state: &Arc<State>, kind: Kind, records: impl Iterator<Item = (Vec<u8>, Record)>) {
    let mut records = records.peekable();
    while records.peek().is_some() {
        let writes = records.by_ref().take(64).map(|(key, record)| {
            let state = state.clone();
            tokio::spawn(async move { written(&state, kind, &key, Expect::Absent, record).await })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.unwrap();
        }
    }
}

async fn reads_and_writes(one: &State, two: &State, clock: &Clock) {
    let record = Record::new(b"a".to_vec(), soon(clock));
    assert_eq!(one.get(Kind::Session, b"k").await, Ok(None));
    let missing = one.put(Kind::Session, b"k", Expect::Version(7), record.clone()).await;
    assert_eq!(missing, Ok(Put::Conflict(None)), "what is not there has no version");
    let first = written(one, Kind::Session, b"k", Expect::Absent, record.clone()).await;
    let there = Record { version: first, ..record.clone() };
    assert_eq!(two.get(Kind::Session, b"k").await, Ok(Some(there.clone())), "what one writes the other reads");
    assert_eq!(one.get(Kind::Family, b"k").await, Ok(None), "kinds are apart");
    let other = Record::new(b"b".to_vec(), NEVER);
    let conflict = two.put(Kind::Session, b"k", Expect::Absent, other.clone()).await;
    assert_eq!(conflict, Ok(Put::Conflict(Some(there.clone()))), "a conflict says what is there");
    let second = written(two, Kind::Session, b"k", Expect::Version(first), other.clone()).await;
    assert_ne!(first, second, "each write has another version");
    let stale = one.put(Kind::Session, b"k", Expect::Version(first), record.clone()).await;
    let there = Record { version: second, ..other };
    assert_eq!(stale, Ok(Put::Conflict(Some(there.clone()))));
    written(one, Kind::Session, b"k", Expect::Any, record.clone()).await;
    assert_eq!(two.get(Kind::Session, b"k").await.unwrap().unwrap().value, b"a");
    assert_eq!(two.remove(Kind::Session, b"k").await.unwrap().unwrap().value, b"a", "it comes along");
    assert_eq!(one.remove(Kind::Session, b"k").await, Ok(None));
    assert_eq!(one.get(Kind::Session, b"k").await, Ok(None));
    let again = one.put(Kind::Session, b"k", Expect::Version(second), record.clone()).await;
    assert_eq!(again, Ok(Put::Conflict(None)), "a version does not outlive its record");
    written(one, Kind::ApiKey, b"forever", Expect::Any, Record::new(Vec::new(), NEVER)).await;
    clock.advance(1_000);
    assert_eq!(two.get(Kind::ApiKey, b"forever").await.unwrap().unwrap().expires_at_ms, NEVER);
}

async fn odd_bytes_and_sizes(one: &State, two: &State, clock: &Clock) {
    let all: Vec<u8> = (0..=255).collect();
    let keys = [vec![0], vec![0, 0], b"*?[a]\\".to_vec(), b"a\r\n$5\r\n".to_vec(), vec![0xff; MAX_KEY], all.clone()];
    let values = [Vec::new(), vec![0], all.repeat(MAX_VALUE / 256), b"'; DROP TABLE moat_state; --".to_vec()];
    for key in &keys {
        for value in &values {
            let record = Record::new(value.clone(), soon(clock)).indexed([0xff; 32]);
            let version = written(one, Kind::Factor, key, Expect::Any, record.clone()).await;
            assert_eq!(two.get(Kind::Factor, key).await, Ok(Some(Record { version, ..record })));
        }
    }
    let found = two.list(Kind::Factor, &[0xff; 32], None, 100).await.unwrap();
    let mut sorted = keys.to_vec();
    sorted.sort();
    assert_eq!(found.into_iter().map(|found| found.key).collect::<Vec<_>>(), sorted);
    for (key, value) in [(0, 1), (MAX_KEY + 1, 1), (1, MAX_VALUE + 1)] {
        let refused = one.put(Kind::Factor, &vec![1; key], Expect::Any, Record::new(vec![1; value], NEVER)).await;
        assert_eq!(refused.unwrap_err().cause, Cause::TooLong, "{key} {value}");
    }
    assert_eq!(one.append_feed(&vec![0; MAX_NOTE + 1]).await.unwrap_err().cause, Cause::TooLong);
}

async fn expiry(one: &State, two: &State, clock: &Clock) {
    let record = Record::new(b"a".to_vec(), clock.now() + 1_000).indexed([1; 32]);
    let version = written(one, Kind::SignIn, b"e", Expect::Absent, record.clone()).await;
    let lasting = Record::new(b"b".to_vec(), soon(clock)).indexed([1; 32]);
    written(one, Kind::SignIn, b"l", Expect::Absent, lasting).await;
    clock.advance(999);
    assert!(two.get(Kind::SignIn, b"e").await.unwrap().is_some());
    clock.advance(1);
    assert_eq!(two.get(Kind::SignIn, b"e").await, Ok(None), "from that time on it is not there");
    let listed = two.list(Kind::SignIn, &[1; 32], None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|found| found.key.as_slice()).collect::<Vec<_>>(), [b"l"]);
    assert!(one.scan(Kind::SignIn, None, 1000).await.unwrap().found.iter().all(|found| found.key != b"e"));
    assert_eq!(two.remove(Kind::SignIn, b"e").await, Ok(None), "nobody gets what has expired");
    written(one, Kind::SignIn, b"e", Expect::Absent, record.clone()).await;
    let late = one.put(Kind::SignIn, b"e", Expect::Version(version), record.clone()).await;
    assert_eq!(late, Ok(Put::Conflict(None)), "it has expired already, so nothing is there");
    written(one, Kind::SignIn, b"e", Expect::Absent, Record::new(Vec::new(), soon(clock))).await;
    assert!(one.once(Kind::Once, b"jti", clock.now() + 1_000).await.unwrap());
    assert!(!two.once(Kind::Once, b"jti", clock.now() + 1_000).await.unwrap(), "the second is not the first");
    clock.advance(1_000);
    assert!(two.once(Kind::Once, b"jti", clock.now() + 1_000).await.unwrap(), "until then");
    clock.advance(200_000);
    one.sweep().await;
    assert!(two.get(Kind::SignIn, b"l").await.unwrap().is_some(), "what lives is not swept");
    assert!(two.get(Kind::SignIn, b"e").await.unwrap().is_some(), "nor what took the place of something that did not");
}

async fn sixteen_writers(one: &Arc<State>, two: &Arc<State>, clock: &Clock) {
    const ROUNDS: u64 = 12;
    let expires = soon(clock);
    written(one, Kind::Family, b"count", Expect::Absent, Record::new(0_u64.to_be_bytes().to_vec(), expires)).await;
    let writers = (0..16).map(|number| {
        let state = if number % 2 == 0 { one.clone() } else { two.clone() };
        tokio::spawn(async move {
            let mut record = state.get(Kind::Family, b"count").await.unwrap().unwrap();
            let mut done = 0;
            while done < ROUNDS {
                let count = u64::from_be_bytes(record.value.try_into().unwrap()) + 1;
                let next = Record::new(count.to_be_bytes().to_vec(), expires);
                record = match state.put(Kind::Family, b"count", Expect::Version(record.version), next.clone()).await {
                    Ok(Put::Written { version }) => {
                        done += 1;
                        Record { version, ..next }
                    }
                    Ok(Put::Conflict(Some(there))) => there,
                    other => panic!("{other:?}"),
                };
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let count = one.get(Kind::Family, b"count").await.unwrap().unwrap().value;
    assert_eq!(u64::from_be_bytes(count.try_into().unwrap()), 16 * ROUNDS, "no write was lost");

    let first = racing(one, two, |state| async move { state.once(Kind::Once, b"race", expires).await.unwrap() }).await;
    assert_eq!(first, 1, "one of sixteen is the first");
    written(one, Kind::SignIn, b"prize", Expect::Absent, Record::new(Vec::new(), expires)).await;
    let taken =
        racing(one, two, |state| async move { state.remove(Kind::SignIn, b"prize").await.unwrap().is_some() }).await;
    assert_eq!(taken, 1, "one of sixteen gets it");
}

async fn racing<F>(one: &Arc<State>, two: &Arc<State>, run: impl Fn(Arc<State>) -> F) -> usize
where
    F: Future<Output = bool> + Send + 'static,
{
    let racers = (0..16).map(|n| tokio::spawn(run(if n % 2 == 0 { one.clone() } else { two.clone() })));
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        won += usize::from(racer.await.unwrap());
    }
    won
}

async fn indexes(one: &Arc<State>, two: &Arc<State>, clock: &Clock) {
    let key = |number: u32| format!("s{number:03}").into_bytes();
    let index = |number: u32| if number.is_multiple_of(3) { [3; 32] } else { [4; 32] };
    let record = |number| Record::new(vec![b'x'; 30_000], soon(clock)).indexed(index(number));
    all_written(one, Kind::Session, (0..60).map(|number| (key(number), record(number)))).await;
    written(one, Kind::Family, &key(0), Expect::Absent, Record::new(Vec::new(), soon(clock)).indexed([3; 32])).await;
    let keys = |found: Vec<moat::store::state::Found>| found.into_iter().map(|found| found.key).collect::<Vec<_>>();
    let threes: Vec<_> = (0..60).step_by(3).map(key).collect();
    assert_eq!(keys(two.list(Kind::Session, &[3; 32], None, 100).await.unwrap()), threes, "more than one answer holds");
    assert_eq!(keys(two.list(Kind::Session, &[3; 32], None, 2).await.unwrap()), threes[..2]);
    assert_eq!(keys(two.list(Kind::Session, &[3; 32], Some(&key(6)), 2).await.unwrap()), threes[3..5]);
    assert_eq!(keys(two.list(Kind::Session, &[3; 32], Some(&key(57)), 2).await.unwrap()), Vec::<Vec<u8>>::new());
    assert_eq!(keys(two.list(Kind::Session, &[5; 32], None, 9).await.unwrap()), Vec::<Vec<u8>>::new());
    // Another index, none, and gone.
    written(two, Kind::Session, &key(0), Expect::Any, Record::new(Vec::new(), soon(clock)).indexed([5; 32])).await;
    written(two, Kind::Session, &key(3), Expect::Any, Record::new(Vec::new(), soon(clock))).await;
    two.remove(Kind::Session, &key(6)).await.unwrap();
    assert_eq!(keys(one.list(Kind::Session, &[3; 32], None, 100).await.unwrap()), threes[3..]);
    assert_eq!(keys(one.list(Kind::Session, &[5; 32], None, 100).await.unwrap()), [key(0)]);
}

async fn scans(one: &Arc<State>, clock: &Clock) {
    let expected: BTreeSet<Vec<u8>> = (0..700_u32).map(|number| number.to_be_bytes().to_vec()).collect();
    let record = |key: &Vec<u8>| (key.clone(), Record::new(vec![1; 10], soon(clock)));
    all_written(one, Kind::Mark, expected.iter().map(record)).await;
    let (mut from, mut seen, mut pieces) = (None, BTreeSet::new(), 0);
    loop {
        let scan = one.scan(Kind::Mark, from.as_deref(), 100).await.unwrap();
        seen.extend(scan.found.into_iter().map(|found| found.key));
        pieces += 1;
        from = scan.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
    assert!(pieces >= 7, "{pieces}");
}

async fn the_feed(one: &Arc<State>, two: &Arc<State>) {
    let begin = two.feed_end().await.unwrap();
    assert_eq!(one.follow(begin, Duration::ZERO).await.unwrap().notes, []);
    let position = one.append_feed(b"a").await.unwrap();
    assert!(position > begin);
    let news = two.follow(begin, PATIENCE).await.unwrap();
    assert_eq!((news.notes, news.missed), (vec![(position, b"a".to_vec())], false));

    // Somebody waits, and is told at once.
    let waiting = tokio::spawn({
        let two = two.clone();
        async move { two.follow(position, PATIENCE).await.unwrap() }
    });
    let binary = [0, b'\n', 0xff, b'$'];
    let next = one.append_feed(&binary).await.unwrap();
    assert_eq!(waiting.await.unwrap().notes, [(next, binary.to_vec())]);

    // Two replicas tell; who follows hears all of it once, in one order, wherever it resumes.
    let told = |state: &Arc<State>, word: &'static str| {
        let state = state.clone();
        tokio::spawn(async move {
            for number in 0..20 {
                state.append_feed(format!("{word}{number}").as_bytes()).await.unwrap();
            }
        })
    };
    let (left, right) = (told(one, "l"), told(two, "r"));
    let (mut heard, mut at) = (Vec::new(), next);
    until("all is heard", async || {
        let news = two.follow(at, Duration::from_millis(100)).await.unwrap();
        assert!(!news.missed);
        at = news.notes.last().map_or(at, |(position, _)| *position);
        heard.extend(news.notes);
        heard.len() >= 40
    })
    .await;
    left.await.unwrap();
    right.await.unwrap();
    assert_eq!(heard.len(), 40);
    assert!(heard.windows(2).all(|pair| pair[0].0 < pair[1].0));
    for word in ["l", "r"] {
        let own: Vec<_> = heard.iter().filter(|(_, note)| note.starts_with(word.as_bytes())).collect();
        let expected: Vec<_> = (0..20).map(|number| format!("{word}{number}").into_bytes()).collect();
        assert_eq!(own.into_iter().map(|(_, note)| note.clone()).collect::<Vec<_>>(), expected, "in their order");
    }
    assert_eq!(one.follow(next, Duration::ZERO).await.unwrap().notes, heard, "the same for everybody");
    assert_eq!(one.feed_end().await.unwrap(), at);
    let elsewhere = Position(at.0 + 1_000);
    assert!(two.follow(elsewhere, PATIENCE).await.unwrap().missed, "a place that is not there tells of a loss at once");
    assert!(!two.follow(at, Duration::from_millis(20)).await.unwrap().missed);
}
