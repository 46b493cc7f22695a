//! What replicas tell each other when something was ended or taken back: marks, sessions to look at again, and when somebody
//! said so.
use crate::store::seal::{Keyring, Place, SealError};
use decide::revocation::{MARK_BYTES, Mark};

/// What a note is sealed for: the feed, and no place in it, which the engine gives.
const PLACE: Place<'static> = Place { kind: "note", tenant: "", key: b"" };
/// First byte of a note.
const VERSION: u8 = 2;

/// Most marks of a note: it must fit into one of the feed's.
pub const MOST: usize = 100;

/// One note of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When whoever ended it was asked to, milliseconds since the Unix epoch, by that replica's clock.
    pub asked_ms: u64,
    /// What ended; at most 100 in a note.
    pub marks: Vec<Mark>,
    /// Places of sessions that are no longer what they were; at most 100 in a note.
    pub changed: Vec<[u8; 32]>,
}

impl Note {
    /// As it is sent.
    pub fn seal(&self, ring: &Keyring) -> Result<Vec<u8>, SealError> {
        ring.seal(PLACE, &self.to_bytes())
    }

    /// What [`Note::seal`] made; `None` for anything else, and where the ring lacks the key.
    pub fn open(ring: &Keyring, sealed: &[u8]) -> Option<Note> {
        Note::from_bytes(&ring.open(PLACE, sealed).ok()?)
    }

    /// Version, time, how many marks, marks, places of sessions.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(10 + self.marks.len() * MARK_BYTES + self.changed.len() * 32);
        bytes.push(VERSION);
        bytes.extend(self.asked_ms.to_be_bytes());
        let marks = self.marks.iter().take(MOST);
        bytes.extend(u8::try_from(marks.len()));
        marks.for_each(|mark| bytes.extend(mark.to_bytes()));
        self.changed.iter().for_each(|place| bytes.extend(place));
        bytes
    }

    /// What [`Note::to_bytes`] made; `None` for anything else.
    fn from_bytes(bytes: &[u8]) -> Option<Note> {
        let (version, rest) = bytes.split_first()?;
        let (asked, rest) = rest.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first()?;
        let (marks, rest) = rest.split_at_checked(usize::from(*count) * MARK_BYTES)?;
        let (changed, []) = rest.as_chunks::<32>() else { return None };
        if *version != VERSION {
            return None;
        }
        let marks = marks.chunks_exact(MARK_BYTES).map(Mark::from_bytes).collect::<Option<_>>()?;
        Some(Note { asked_ms: u64::from_be_bytes(*asked), marks, changed: changed.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use decide::revocation::{Scope, Target};

    #[test]
    fn a_note_is_read_back_or_not_at_all() {
        let mark = Mark::of(&Target::Tenant { id: "acme" }, 5_000, 1, 9);
        assert_eq!(mark.scope, Scope::Tenant);
        let note = Note { asked_ms: 5_000, marks: vec![mark; MOST], changed: vec![[7; 32]; 2] };
        let bytes = note.to_bytes();
        let longest = Note { changed: vec![[7; 32]; MOST], marks: Vec::new(), ..note.clone() };
        let (ring, other) = (Keyring::new([&[1; 32]]), Keyring::new([&[2; 32]]));
        let sealed = note.seal(&ring).unwrap();
        assert!(sealed.len() <= crate::store::state::MAX_NOTE);
        assert!(longest.seal(&ring).unwrap().len() <= crate::store::state::MAX_NOTE);
        assert!(!sealed.windows(16).any(|piece| piece == mark.handle.bytes()), "nobody can try names");
        assert_eq!((Note::open(&ring, &sealed), Note::open(&other, &sealed)), (Some(note.clone()), None));
        assert_eq!(Note::from_bytes(&bytes), Some(note));
        for length in 0..bytes.len() {
            let read = Note::from_bytes(&bytes[..length]);
            let whole = length >= 10 + MOST * MARK_BYTES && (length - 10 - MOST * MARK_BYTES).is_multiple_of(32);
            assert_eq!(read.is_some(), whole, "{length}");
        }
        assert_eq!(Note::from_bytes(&[&[1], &bytes[1..]].concat()), None);
    }
}
