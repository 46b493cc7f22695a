//! How a mark lies in the engine: sealed, under a hash with a key, so that whoever reads it cannot try names.
use super::Revocations;
use crate::store::seal::{Keyring, Place, SealError};
use crate::store::state::{Expect, Kind, MOST, NEVER, Put, Record, Silent};
use decide::revocation::Mark;

const KIND: &str = "mark";

/// A mark as it is written.
#[derive(Debug)]
pub struct Kept {
    /// Under what it lies.
    pub place: [u8; 16],
    /// What lies there.
    pub record: Record,
}

/// A mark under the key that seals.
pub fn seal(ring: &Keyring, mark: &Mark) -> Result<Kept, SealError> {
    let place = ring.mark(Place { kind: KIND, tenant: "", key: mark.handle.bytes() })?;
    let sealed = ring.seal(Place { kind: KIND, tenant: "", key: &place }, &mark.to_bytes())?;
    let expires_at_ms = if mark.until_s == NEVER { NEVER } else { mark.until_s.saturating_mul(1000) };
    Ok(Kept { place, record: Record::new(sealed, expires_at_ms) })
}

/// The mark that lies in a place; `None` where no key of the ring opens it.
pub(super) fn open(ring: &Keyring, place: &[u8], value: &[u8]) -> Option<Mark> {
    Mark::from_bytes(&ring.open(Place { kind: KIND, tenant: "", key: place }, value).ok()?)
}

impl Revocations {
    /// Writes each mark that lies under a key which no longer seals under the one that does, and takes the old one away; how
    /// many there were.
    pub(super) async fn renew(&self, ring: &Keyring) -> Result<u64, Silent> {
        let (mut renewed, mut from) = (0, None::<Vec<u8>>);
        loop {
            let piece = self.state.scan(Kind::Mark, from.as_deref(), MOST).await?;
            for found in piece.found {
                let mut old = Some(found.record);
                while let Some(record) = old.filter(|record| !ring.seals_like(&record.value)) {
                    let Some(mark) = open(ring, &found.key, &record.value) else { break };
                    self.write(ring, mark).await?;
                    // Gone only as it was read: who has another order of keys may have written there meanwhile.
                    let gone = Record { expires_at_ms: 0, ..record };
                    old = match self.state.put(Kind::Mark, &found.key, Expect::Version(gone.version), gone).await? {
                        Put::Written { .. } => None,
                        Put::Conflict(there) => there,
                    };
                    renewed += 1;
                }
            }
            match piece.next {
                Some(next) => from = Some(next),
                None => return Ok(renewed),
            }
        }
    }
}
