//! `decide::frames`: what is read along with a connection of HTTP/2 says the same however its bytes are cut.
use decide::frames::{Flood, Inbound, Kind, Limits, Outbound, Said, Splitter};
use std::time::Duration;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A clock that stands still: budgets do not come back.
const NOW: Duration = Duration::ZERO;

pub fn run(data: &[u8]) {
    let (cut, wire) = crate::input::number(data);
    let sizes = [1, cut % 7 + 2, cut + 1, wire.len().max(1)];
    let frames = naive(wire);
    for size in sizes {
        let mut found = Vec::new();
        let mut splitter = Splitter::new();
        for mut piece in wire.chunks(size) {
            while let Some(frame) = splitter.next(&mut piece) {
                found.push((frame.kind, frame.flags, frame.stream, frame.length));
            }
        }
        // Of the last frame, the first bytes of the payload may be missing.
        assert!(frames.starts_with(&found) && frames.len() - found.len() <= 1, "{found:?} of {frames:?}");
    }
    for wire in [wire.to_vec(), [PREFACE, wire].concat()] {
        let seen: Vec<_> = sizes.iter().map(|size| received(&wire, *size)).collect();
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
        if wire.starts_with(PREFACE) && seen[0].0.is_none() {
            assert!(seen[0].1 as usize <= naive(&wire[PREFACE.len()..]).len(), "streams that no frame opens");
        }
    }
    let said: Vec<_> = sizes.iter().map(|size| sent(wire, *size)).collect();
    assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "{said:?}");
}

/// What is found wrong with the bytes of a client, how many streams they open, and whether they end within headers.
fn received(wire: &[u8], size: usize) -> (Option<Flood>, u32, bool, bool) {
    let limits = Limits {
        resets_per_second: 3,
        control_per_second: 4,
        window_updates_per_second: 2,
        block_bytes: 300,
        refused_streams: 2,
    };
    let mut inbound = Inbound::new(&limits, NOW);
    let flood = wire.chunks(size.max(1)).find_map(|piece| inbound.note(|| NOW, piece).err());
    // After the end nothing more is asked.
    let open = flood.is_none();
    (flood, inbound.opened(), open && inbound.in_headers(), open && inbound.is_shut())
}

fn sent(wire: &[u8], size: usize) -> Vec<Said> {
    let mut outbound = Outbound::new();
    let mut all = Vec::new();
    for mut piece in wire.chunks(size.max(1)) {
        all.extend(std::iter::from_fn(|| outbound.next(&mut piece)));
    }
    all
}

/// The frames whose headers are whole, with all bytes at hand.
fn naive(wire: &[u8]) -> Vec<(Kind, u8, u32, usize)> {
    let (mut frames, mut at) = (Vec::new(), 0usize);
    while let Some(&[a, b, c, kind, flags, w, x, y, z]) = wire.get(at..).and_then(|rest| rest.first_chunk::<9>()) {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Headers,
            2 | 16 => Kind::Priority,
            3 => Kind::Reset,
            4 => Kind::Settings,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            _ => Kind::Other,
        };
        frames.push((kind, flags, u32::from_be_bytes([w, x, y, z]) & 0x7fff_ffff, length));
        at += 9 + length;
    }
    frames
}
