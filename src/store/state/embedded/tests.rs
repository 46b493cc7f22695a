//! What the file promises about waiting: writes share a commit, and a read waits for none.
use super::*;
use std::sync::atomic::Ordering;

const NOW: u64 = 1_000;

fn record(text: &str) -> Record {
    Record::new(text.as_bytes().to_vec(), u64::MAX)
}

/// Gives an order without waiting for it.
async fn ordered(engine: &Embedded, key: String) -> oneshot::Receiver<Result<Done, Silent>> {
    let (tell, told) = oneshot::channel();
    let work = Work::Put { kind: Kind::Session, key: key.into_bytes(), expect: Expect::Absent, record: record("new") };
    engine.orders.send(Order { work, now: NOW, tell }).await.unwrap_or_else(|_| panic!("the writer has ended"));
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_wait_share_one_commit_and_a_read_waits_for_none_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Arc::new(Embedded::open(Options::new(folder.path().join("state"))).unwrap());
    engine.put(Kind::Session, b"before", Expect::Absent, record("old"), NOW).await.unwrap();
    let commits = || engine.shared.commits.load(Ordering::Relaxed);
    assert_eq!(commits(), 1);

    // While somebody else writes, the writer waits with the first order in its hands, and all others behind it.
    let database = engine.shared.database.load_full().unwrap();
    let held = database.begin_write().unwrap();
    let mut orders = vec![ordered(&engine, "first".to_owned()).await];
    while engine.orders.capacity() < engine.orders.max_capacity() {
        tokio::task::yield_now().await;
    }
    for number in 0..200 {
        orders.push(ordered(&engine, number.to_string()).await);
    }
    let reading = engine.clone();
    let read = tokio::task::spawn_blocking(move || {
        let of = |key: &str| reading.get(Kind::Session, key.as_bytes(), NOW).unwrap().map(|record| record.value);
        (of("before"), of("first"), of("199"))
    });
    let read = tokio::time::timeout(Duration::from_secs(10), read).await.expect("a read waits for a write").unwrap();
    assert_eq!(read, (Some(b"old".to_vec()), None, None), "what is not on the disk is not read");
    assert_eq!(commits(), 1);

    held.abort().unwrap();
    for order in orders {
        assert!(matches!(order.await.unwrap(), Ok(Done::Put(Put::Written { .. }))));
    }
    assert_eq!(commits(), 3, "one for the first, one for all that waited");
    assert!(engine.get(Kind::Session, b"199", NOW).unwrap().is_some());
}
