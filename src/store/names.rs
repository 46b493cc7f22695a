//! Where records that are found by somebody's name lie: under hashes keyed by a secret that lies beside them, sealed, so that
//! whoever reads the store cannot try names, and that keys can be changed without moving a record.
//!
//! The secret is made with the first record of its kind and never changes; what it is sealed with does. It is read for each
//! use and never kept: a process that remembered one which a failover had lost would look in places that nobody else knows.
use super::seal::{Keyring, Place, SealError};
use super::state::{Expect, Kind, MOST, NEVER, Put, Record, Silent, State};
use aws_lc_rs::{hmac, rand};

/// Where the secret itself lies. No place has this length.
pub const KEY: &[u8] = b"names";
const KIND: &str = "names";
/// Rounds of reading and writing before it is given up.
const ROUNDS: usize = 16;

/// Why nobody knows where anything lies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The store is silent.
    #[error(transparent)]
    Silent(#[from] Silent),
    /// The secret cannot be opened or made.
    #[error("what records are found by cannot be opened: {0}")]
    Seal(#[from] SealError),
    /// There are records and no secret: it was lost, or they were written before there was one.
    #[error("there are records, but not what they are found by: it was lost, or an earlier version wrote them")]
    Lost,
    /// Others write it all the time.
    #[error("what records are found by is being written by others")]
    Contended,
}

/// Says where records of a kind lie.
pub struct Names(hmac::Key);

impl Names {
    /// Those of a kind; made where there is no record of it yet. Sealed anew where the ring has another key in front.
    pub async fn of(state: &State, ring: &Keyring, kind: Kind) -> Result<Names, Fault> {
        let place = Place { kind: KIND, tenant: "", key: &[kind as u8] };
        let mut lost = false;
        for _ in 0..ROUNDS {
            let Some(found) = state.get(kind, KEY).await? else {
                if has_records(state, kind).await? {
                    // Somebody may have made it and written a record since we looked.
                    if lost {
                        return Err(Fault::Lost);
                    }
                    lost = true;
                    continue;
                }
                let mut secret = [0; 32];
                rand::fill(&mut secret).map_err(|_| SealError::CannotSeal)?;
                let record = Record::new(ring.seal(place, &secret)?, NEVER);
                match state.put(kind, KEY, Expect::Absent, record).await? {
                    Put::Written { .. } => return Ok(Names::by(&secret)),
                    Put::Conflict(_) => continue,
                }
            };
            let secret = ring.open(place, &found.value)?;
            if !ring.seals_like(&found.value) {
                // Who loses here loses to somebody who seals it as well.
                let record = Record::new(ring.seal(place, &secret)?, NEVER);
                state.put(kind, KEY, Expect::Version(found.version), record).await?;
            }
            return Ok(Names::by(&secret));
        }
        Err(Fault::Contended)
    }

    fn by(secret: &[u8]) -> Names {
        Names(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The place of what these words name, in this order.
    pub fn place(&self, words: &[&str]) -> [u8; 32] {
        let mut tag = hmac::Context::with_key(&self.0);
        for word in words {
            tag.update(&(word.len() as u64).to_be_bytes());
            tag.update(word.as_bytes());
        }
        tag.sign().as_ref().try_into().unwrap_or_default()
    }
}

/// Whether there is any record of a kind.
async fn has_records(state: &State, kind: Kind) -> Result<bool, Silent> {
    let mut from: Option<Vec<u8>> = None;
    loop {
        let piece = state.scan(kind, from.as_deref(), MOST).await?;
        if !piece.found.is_empty() {
            return Ok(true);
        }
        match piece.next {
            Some(next) => from = Some(next),
            None => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind::Factor;

    fn ring(keys: &[u8]) -> Keyring {
        let keys: Vec<[u8; 32]> = keys.iter().map(|key| [*key; 32]).collect();
        Keyring::new(&keys)
    }

    async fn place(state: &State, keys: &[u8]) -> Result<[u8; 32], Fault> {
        Ok(Names::of(state, &ring(keys), KIND).await?.place(&["idp", "acme", "ann"]))
    }

    #[tokio::test]
    async fn a_place_stays_where_it_is_whatever_key_seals() {
        let state = State::in_memory();
        let first = place(&state, &[1]).await.unwrap();
        assert_eq!(place(&state, &[1, 2]).await.unwrap(), first, "the next key is known");
        assert_eq!(place(&state, &[2, 1]).await.unwrap(), first, "the next key seals");
        assert_eq!(place(&state, &[2]).await.unwrap(), first, "the last key is gone");
        assert_eq!(place(&state, &[1]).await, Err(Fault::Seal(SealError::UnknownKey)));
        assert_ne!(place(&State::in_memory(), &[1]).await.unwrap(), first, "another store has another secret");
    }

    #[tokio::test]
    async fn words_are_told_apart() {
        let names = Names::of(&State::in_memory(), &ring(&[1]), KIND).await.unwrap();
        let places = [["ab", "c"], ["a", "bc"], ["", "abc"], ["c", "ab"]].map(|words| names.place(&words));
        assert!(places.iter().enumerate().all(|(i, place)| !places[..i].contains(place)), "{places:?}");
    }

    #[tokio::test]
    async fn records_without_it_are_lost_and_not_forgotten() {
        let state = State::in_memory();
        let record = Record::new(b"of an earlier version".to_vec(), NEVER);
        state.put(KIND, &[7; 32], Expect::Absent, record).await.unwrap();
        assert_eq!(place(&state, &[1]).await, Err(Fault::Lost));
        assert!(state.get(KIND, KEY).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn all_who_make_it_at_once_mean_one() {
        let state = State::in_memory();
        let (one, two, three) = tokio::join!(place(&state, &[1]), place(&state, &[1]), place(&state, &[1]));
        assert!(one.is_ok() && one == two && two == three);
    }
}
