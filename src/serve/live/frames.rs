//! Where WebSocket frames begin and end in a stream of bytes (RFC 6455, 5.2), and the frame that says goodbye.

/// Longest header of a frame: two bytes, eight of length, four of mask.
const HEADER: usize = 14;
/// Most bytes of a close frame's reason: a control frame holds 125, two of which are the status (RFC 6455, 5.5).
const REASON: usize = 123;
/// FIN and the opcode of a close frame.
const CLOSE: u8 = 0x88;
/// The bit that says that a payload is masked.
const MASKED: u8 = 0x80;

/// Follows the frames of one direction. Between any two frames a control frame may stand, also in the middle of a
/// fragmented message (RFC 6455, 5.4), so the end of a frame is all that has to be known.
#[derive(Debug, Default)]
pub struct Frames {
    header: [u8; HEADER],
    have: usize,
    payload: u64,
}

impl Frames {
    /// Whether the bytes so far end with a whole frame, or there were none.
    pub fn at_boundary(&self) -> bool {
        self.have == 0 && self.payload == 0
    }

    /// Takes note of bytes that were passed on, in order and without gaps.
    pub fn note(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = rest.get(self.take(rest)..).unwrap_or_default();
        }
    }

    /// How many of `bytes` belong to the frame that is under way: all of them where it does not end in them. At a
    /// boundary the next frame counts as not begun: 0.
    pub fn until_boundary(&self, bytes: &[u8]) -> usize {
        let mut ahead = Frames { header: self.header, have: self.have, payload: self.payload };
        let mut passed = 0;
        while !ahead.at_boundary() {
            let Some(rest) = bytes.get(passed..).filter(|rest| !rest.is_empty()) else { break };
            passed += ahead.take(rest);
        }
        passed
    }

    /// Bytes that surely belong to the frame under way, though they have not come yet; 0 at a boundary.
    pub fn owed(&self) -> u64 {
        if self.payload > 0 { self.payload } else { u64::from(self.have > 0) }
    }

    /// Takes a piece of payload or of a header and says how long it was; never past the end of a frame.
    fn take(&mut self, bytes: &[u8]) -> usize {
        if self.payload > 0 {
            let piece = bytes.len().min(usize::try_from(self.payload).unwrap_or(usize::MAX));
            self.payload -= piece as u64;
            return piece;
        }
        for (taken, byte) in (1..).zip(bytes) {
            if let Some(place) = self.header.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            if let Some(payload) = self.complete() {
                (self.have, self.payload) = (0, payload);
                return taken;
            }
        }
        bytes.len()
    }

    /// The payload's length, once the header is whole.
    fn complete(&self) -> Option<u64> {
        let [_, second, rest @ ..] = self.header;
        let extended = match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & MASKED == 0 { 0 } else { 4 };
        if self.have < 2 + extended + mask {
            return None;
        }
        let length = rest.iter().take(extended).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        // The highest bit must be 0; whoever sets it will not be understood, and no stream is that long.
        Some(if extended == 0 { u64::from(second & !MASKED) } else { length & (u64::MAX >> 1) })
    }
}

/// A close frame with a status and a reason; masked, as a client's must be, where a key is given.
pub fn close(status: u16, reason: &str, key: Option<[u8; 4]>) -> Vec<u8> {
    let reason = reason.as_bytes().get(..REASON).unwrap_or(reason.as_bytes());
    let payload = status.to_be_bytes().into_iter().chain(reason.iter().copied());
    let length = u8::try_from(reason.len() + 2).unwrap_or_default();
    let mut frame = vec![CLOSE];
    match key {
        None => {
            frame.push(length);
            frame.extend(payload);
        }
        Some(key) => {
            frame.push(MASKED | length);
            frame.extend(key);
            frame.extend(payload.zip(key.into_iter().cycle()).map(|(byte, key)| byte ^ key));
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut frame = vec![first];
        match payload {
            0..126 => frame.push(mask | payload as u8),
            126..65_536 => {
                frame.push(mask | 126);
                frame.extend((payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend(if masked { vec![7; 4] } else { Vec::new() });
        // Payloads that look like headers must not be taken for them.
        frame.extend(std::iter::repeat_n(0x88, payload));
        frame
    }

    #[test]
    fn every_boundary_is_found_however_the_bytes_are_cut() {
        for masked in [false, true] {
            let frames: Vec<_> =
                [(0x01, 5), (0x00, 0), (0x80, 125), (0x89, 4), (0x82, 126), (0x82, 65_536), (0x81, 300)]
                    .map(|(first, payload)| frame(first, payload, masked))
                    .into();
            let (mut wire, mut ends) = (Vec::new(), vec![0]);
            for frame in &frames {
                wire.extend(frame);
                ends.push(wire.len());
            }
            for size in [1, 2, 3, 13, 700, 70_000] {
                let mut followed = Frames::default();
                let mut passed = 0;
                for piece in wire.chunks(size) {
                    assert_eq!(followed.at_boundary(), ends.contains(&passed), "{passed} in pieces of {size}");
                    let next = ends.iter().copied().find(|end| *end >= passed).unwrap_or_default();
                    assert_eq!(followed.until_boundary(piece), piece.len().min(next - passed), "{passed}, {size}");
                    assert!(followed.owed() <= (next - passed) as u64 && (followed.owed() > 0) == (next > passed));
                    followed.note(piece);
                    passed += piece.len();
                }
                assert!(followed.at_boundary());
            }
        }
    }

    #[test]
    fn a_close_frame_is_well_formed_and_never_too_long() {
        let plain = close(1008, "tenant.suspended", None);
        assert_eq!(plain, [&[0x88, 18, 3, 0xf0][..], b"tenant.suspended"].concat());
        let masked = close(1008, "tenant.suspended", Some([1, 2, 3, 4]));
        assert_eq!(masked[..6], [0x88, 0x80 | 18, 1, 2, 3, 4]);
        let unmasked: Vec<u8> = masked[6..].iter().zip([1, 2, 3, 4].iter().cycle()).map(|(a, b)| a ^ b).collect();
        assert_eq!(unmasked, plain[2..]);
        assert_eq!(close(1008, &"x".repeat(500), None).len(), 127);
        let mut followed = Frames::default();
        followed.note(&masked);
        assert!(followed.at_boundary());
    }
}
