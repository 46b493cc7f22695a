//! The end of a WebSocket by our hand: a close frame to each side, at the next end of a frame of its direction.
use super::frames::{Frames, close};
use super::leash::{Leash, Pull};
use crate::serve::gateway::random;
use decide::refusal::Code;
use std::sync::Arc;

/// Policy violation (RFC 6455, 7.4.1): what was allowed is not any more.
const POLICY_VIOLATION: u16 = 1008;
/// Going away (RFC 6455, 7.4.1): the process ends, and nothing is wrong with the client.
const GOING_AWAY: u16 = 1001;
/// The end of a response head.
const HEAD_END: &[u8] = b"\r\n\r\n";

fn status(pull: &Pull) -> u16 {
    if pull.code == Code::GatewayUnavailable { GOING_AWAY } else { POLICY_VIOLATION }
}

/// Reads along with a WebSocket from the 101 on, and has the last word once the leash is pulled.
#[derive(Debug)]
pub struct Farewell {
    leash: Arc<Leash>,
    /// Bytes of [`HEAD_END`] seen so far; frames begin after all of them.
    head: usize,
    to_client: Frames,
    from_client: Frames,
    told_client: bool,
    told_application: bool,
}

impl Farewell {
    /// From the first byte of the 101 on.
    pub fn new(leash: Arc<Leash>) -> Farewell {
        Farewell {
            leash,
            head: 0,
            to_client: Frames::default(),
            from_client: Frames::default(),
            told_client: false,
            told_application: false,
        }
    }

    /// Whether the WebSocket is being ended.
    pub fn begun(&self) -> bool {
        self.leash.pulled().is_some()
    }

    /// How much of what the application sends may still go to the client: up to the end of the frame under way. What
    /// follows is to be thrown away.
    pub fn passable(&self, bytes: &[u8]) -> usize {
        if self.head < HEAD_END.len() { bytes.len() } else { self.to_client.until_boundary(bytes) }
    }

    /// Bytes that went to the client.
    pub fn went_to_client(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first()
            && self.head < HEAD_END.len()
        {
            self.head = match HEAD_END.get(self.head) {
                Some(wanted) if wanted == byte => self.head + 1,
                _ => usize::from(*byte == b'\r'),
            };
            rest = after;
        }
        self.to_client.note(rest);
    }

    /// Bytes that went to the application.
    pub fn went_to_application(&mut self, bytes: &[u8]) {
        self.from_client.note(bytes);
    }

    /// Whether a frame of the client's has begun and not ended.
    pub fn frame_under_way(&self) -> bool {
        !self.from_client.at_boundary()
    }

    /// The close frame for the client, once, as soon as it may stand.
    pub fn word_to_client(&mut self) -> Option<Vec<u8>> {
        let pull = self.leash.pulled()?;
        if self.told_client || self.head < HEAD_END.len() || !self.to_client.at_boundary() {
            return None;
        }
        self.told_client = true;
        Some(close(status(pull), pull.code.id(), None))
    }

    /// The close frame for the application, once, as soon as it may stand; masked, as if the client had sent it.
    pub fn word_to_application(&mut self) -> Option<Vec<u8>> {
        let pull = self.leash.pulled()?;
        if self.told_application || !self.from_client.at_boundary() {
            return None;
        }
        self.told_application = true;
        Some(close(status(pull), pull.code.id(), Some(random())))
    }

    /// Whether the client's close frame has gone out.
    pub fn told_client(&self) -> bool {
        self.told_client
    }

    /// Bytes that the application must still get from the client before its close frame; `None` once that is sent.
    pub fn owed_to_application(&self) -> Option<u64> {
        (!self.told_application).then(|| self.from_client.owed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::live::Pull;
    use decide::refusal::Code;

    #[test]
    fn the_last_word_waits_for_the_end_of_a_frame_and_is_said_once() {
        let leash = Arc::new(Leash::default());
        let mut farewell = Farewell::new(leash.clone());
        farewell.went_to_client(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05he");
        farewell.went_to_application(&[0x81, 0x85, 1, 2, 3, 4, 0]);
        assert!(!farewell.begun() && farewell.word_to_client().is_none() && farewell.word_to_application().is_none());
        leash.pull(Pull { code: Code::AccessDenied, cause: String::new() });
        assert!(farewell.begun() && farewell.word_to_client().is_none() && farewell.word_to_application().is_none());
        assert_eq!(farewell.passable(b"llo\x81\x01x"), 3);
        farewell.went_to_client(b"llo");
        assert_eq!(farewell.passable(b"\x81\x01x"), 0);
        assert_eq!(farewell.word_to_client().unwrap()[2..], [&[3, 0xf0][..], b"access.denied"].concat());
        assert!(farewell.word_to_client().is_none() && farewell.told_client());
        assert_eq!(farewell.owed_to_application(), Some(4));
        farewell.went_to_application(&[0; 4]);
        assert_eq!(farewell.word_to_application().map(|frame| frame[..2].to_vec()), Some(vec![0x88, 0x80 | 15]));
        assert_eq!(farewell.owed_to_application(), None);
    }
}
