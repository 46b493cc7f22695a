//! When API keys were last used, as replicas tell each other: one small record a key, exchanged in batches behind all requests.
//!
//! It decides nothing. A record lies under a keyed hash of the key's id and holds a time, no more.
use super::state::{Expect, Kind, MOST, Put, Record, Silent, State};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::task::JoinSet;

/// How long a use is remembered, in milliseconds: more than a year, so that a key of a yearly job is not taken for dead.
const KEPT_MS: u64 = 400 * 86_400_000;
/// Writes under way at a time.
const AT_ONCE: usize = 32;
/// What all of these records are found by: the keys themselves lie beside them.
const USES: [u8; 32] = *b"when each API key was last used.";

/// Tells when keys were last used here (seconds since the epoch, by their places), and learns when they were used anywhere: the
/// later of both. Only what is news is written.
pub async fn exchange(
    state: &Arc<State>,
    here: &HashMap<[u8; 32], u64>,
    now_ms: u64,
) -> Result<HashMap<[u8; 32], u64>, Silent> {
    let known = read(state).await?;
    let mut writes = JoinSet::new();
    for (place, at_s) in here {
        let expect = match known.get(place) {
            Some((there_s, _)) if there_s >= at_s => continue,
            Some((_, version)) => Expect::Version(*version),
            None => Expect::Absent,
        };
        if writes.len() >= AT_ONCE
            && let Some(written) = writes.join_next().await
        {
            taken(written)?;
        }
        let record = Record::new(at_s.to_be_bytes().to_vec(), now_ms.saturating_add(KEPT_MS)).indexed(USES);
        let (state, place) = (state.clone(), *place);
        writes.spawn(async move { state.put(Kind::ApiKey, &place, expect, record).await });
    }
    while let Some(written) = writes.join_next().await {
        taken(written)?;
    }
    Ok(known.into_iter().map(|(place, (at_s, _))| (place, at_s)).collect())
}

/// When keys were last used anywhere, seconds since the epoch, by their places.
pub async fn known(state: &State) -> Result<HashMap<[u8; 32], u64>, Silent> {
    Ok(read(state).await?.into_iter().map(|(place, (at_s, _))| (place, at_s)).collect())
}

/// The same, each with the version of its record.
async fn read(state: &State) -> Result<HashMap<[u8; 32], (u64, u64)>, Silent> {
    let mut known = HashMap::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let found = state.list(Kind::ApiKey, &USES, after.as_deref(), MOST).await?;
        let Some(last) = found.last() else { return Ok(known) };
        after = Some(last.key.clone());
        for one in &found {
            let (Ok(place), Some(at_s)) = (one.key.as_slice().try_into(), time(&one.record)) else { continue };
            known.insert(place, (at_s, one.record.version));
        }
    }
}

/// Who was first has a use of the same minute, or will hear of ours with the next exchange.
fn taken(written: Result<Result<Put, Silent>, tokio::task::JoinError>) -> Result<(), Silent> {
    match written {
        Ok(Ok(Put::Written { .. } | Put::Conflict(_))) | Err(_) => Ok(()),
        Ok(Err(silent)) => Err(silent),
    }
}

fn time(record: &Record) -> Option<u64> {
    Some(u64::from_be_bytes(record.value.as_slice().try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;
    const A: [u8; 32] = [1; 32];
    const B: [u8; 32] = [2; 32];

    #[tokio::test]
    async fn the_later_use_wins_wherever_it_was() {
        let state = Arc::new(State::in_memory_at(Arc::new(|| NOW_MS)));
        let told = async |here: &[([u8; 32], u64)]| {
            let here = here.iter().copied().collect();
            let mut all: Vec<_> = exchange(&state, &here, NOW_MS).await.unwrap().into_iter().collect();
            all.sort_unstable();
            all
        };
        assert_eq!(told(&[(A, 100), (B, 50)]).await, [], "nobody had used any before");
        assert_eq!(told(&[(A, 70)]).await, [(A, 100), (B, 50)], "another replica learns of it");
        assert_eq!(told(&[(A, 160)]).await, [(A, 100), (B, 50)], "and an older use does not undo it");
        assert_eq!(told(&[]).await, [(A, 160), (B, 50)]);
    }

    #[tokio::test]
    async fn many_keys_are_told_in_pieces() {
        let state = Arc::new(State::in_memory_at(Arc::new(|| NOW_MS)));
        let place = |n: u64| {
            let mut place = [0; 32];
            place[..8].copy_from_slice(&n.to_be_bytes());
            place
        };
        let here: HashMap<[u8; 32], u64> = (0..2_500).map(|n| (place(n), n + 1)).collect();
        exchange(&state, &here, NOW_MS).await.unwrap();
        assert_eq!(exchange(&state, &HashMap::new(), NOW_MS).await.unwrap(), here);
    }
}
