//! `moat::serve::live::frames`: frames of a WebSocket end in the same places, however the bytes are cut.
use moat::serve::live::frames::{Frames, close};

pub fn run(data: &[u8]) {
    let (cut, wire) = crate::input::number(data);
    let ends = naive(wire);
    for size in [1, cut % 5 + 2, cut + 1] {
        let mut followed = Frames::default();
        let mut passed = 0;
        for piece in wire.chunks(size) {
            let next = ends.iter().copied().find(|end| *end >= passed);
            assert_eq!(followed.at_boundary(), next == Some(passed), "at {passed}, in pieces of {size}");
            assert_eq!(followed.owed() == 0, followed.at_boundary());
            let left = next.map_or(piece.len(), |next| piece.len().min(next - passed));
            assert_eq!(followed.until_boundary(piece), left, "at {passed}, in pieces of {size}");
            if let Some(next) = next {
                assert!(followed.owed() <= (next - passed) as u64, "more is owed than the frame has");
            }
            followed.note(piece);
            passed += piece.len();
        }
        assert_eq!(followed.at_boundary(), ends.contains(&wire.len()));
    }
    let reason = String::from_utf8_lossy(wire);
    let mut followed = Frames::default();
    let goodbye = close(1008, &reason, Some([cut as u8; 4]));
    assert!(goodbye.len() <= 2 + 4 + 125 && followed.at_boundary());
    followed.note(&goodbye);
    assert!(followed.at_boundary(), "a close frame that is not one frame");
}

/// RFC 6455, 5.2 with all bytes at hand: where frames end, beginning with 0.
fn naive(wire: &[u8]) -> Vec<usize> {
    let (mut ends, mut at) = (vec![0], 0usize);
    loop {
        let Some([_, second]) = wire.get(at..at + 2) else { return ends };
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(length) = wire.get(at + 2..at + 2 + extended) else { return ends };
        let length = length.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)) & (u64::MAX >> 1);
        let payload = if extended == 0 { u64::from(second & 0x7f) } else { length };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let header = at + 2 + extended + mask;
        let Some(end) = usize::try_from(payload).ok().and_then(|n| header.checked_add(n)) else { return ends };
        if end > wire.len() {
            return ends;
        }
        ends.push(end);
        at = end;
    }
}
