//! `decide::token::KeySet`: a key set gives the same keys in whatever order and clothing it comes.
use decide::token::{Algorithm, KeySet, MAX_KEY_SET_BYTES};
use serde_json::Value;

pub fn run(data: &[u8]) {
    let Ok((keys, skipped)) = KeySet::parse(data) else { return };
    assert!(data.len() <= MAX_KEY_SET_BYTES);
    assert!((1..=100).contains(&keys.count()) && keys.key_ids().len() <= keys.count());
    assert!(Algorithm::ALL.iter().any(|algorithm| keys.serves(*algorithm)));

    let mut document: Value = serde_json::from_slice(data).expect("JSON");
    let list = document["keys"].as_array_mut().expect("a list");
    assert!(keys.count() <= list.len() && skipped.len() <= 2 * list.len());
    for private in ["d", "p", "q", "k"] {
        assert!(keys.count() <= list.iter().filter(|key| key.get(private).is_none()).count());
    }
    if skipped.iter().any(|line| line.contains("an earlier key")) {
        return;
    }
    list.reverse();
    let (reversed, _) = KeySet::parse(document.to_string().as_bytes()).expect("the same keys the other way round");
    assert_eq!((reversed.digest(), reversed.count()), (keys.digest(), keys.count()));
}
