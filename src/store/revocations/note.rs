//! What replicas tell each other when something was ended: marks, and when somebody said so.
use decide::revocation::{MARK_BYTES, Mark};

/// First byte of a note.
const VERSION: u8 = 1;

/// Most marks of a note: it must fit into one of the feed's.
pub const MOST: usize = 100;

/// One note of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When whoever ended it was asked to, milliseconds since the Unix epoch, by that replica's clock.
    pub asked_ms: u64,
    /// What ended.
    pub marks: Vec<Mark>,
}

impl Note {
    /// As it is sent: version, time, marks.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(9 + self.marks.len() * MARK_BYTES);
        bytes.push(VERSION);
        bytes.extend(self.asked_ms.to_be_bytes());
        self.marks.iter().for_each(|mark| bytes.extend(mark.to_bytes()));
        bytes
    }

    /// What [`Note::to_bytes`] made; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Note> {
        let (version, rest) = bytes.split_first()?;
        let (asked, rest) = rest.split_first_chunk::<8>()?;
        if *version != VERSION || !rest.len().is_multiple_of(MARK_BYTES) {
            return None;
        }
        let marks = rest.chunks_exact(MARK_BYTES).map(Mark::from_bytes).collect::<Option<_>>()?;
        Some(Note { asked_ms: u64::from_be_bytes(*asked), marks })
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
        let note = Note { asked_ms: 5_000, marks: vec![mark; MOST] };
        let bytes = note.to_bytes();
        assert!(bytes.len() <= crate::store::state::MAX_NOTE);
        assert_eq!(Note::from_bytes(&bytes), Some(note));
        for length in 0..bytes.len() {
            let read = Note::from_bytes(&bytes[..length]);
            let whole = length >= 9 && (length - 9) % MARK_BYTES == 0;
            assert_eq!(read.is_some(), whole, "{length}");
        }
        assert_eq!(Note::from_bytes(&[&[2], &bytes[1..]].concat()), None);
    }
}
