//! Finds the frames in the bytes of an HTTP/2 connection, however they are cut, and looks at the first bytes of some.

/// Bytes of a frame header (RFC 9113, 4.1).
const HEADER: usize = 9;
/// Most bytes of a payload that are looked at: eight settings.
const PEEK: usize = 48;

/// Types of frames (RFC 9113, 6; RFC 9218, 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes of a body.
    Data,
    /// A header block begins.
    Headers,
    /// Which stream matters how much, in the old way or the new one.
    Priority,
    /// RST_STREAM.
    Reset,
    /// What one side lets the other do.
    Settings,
    /// Asks whether somebody is there.
    Ping,
    /// The connection ends.
    GoAway,
    /// More may be sent.
    WindowUpdate,
    /// A header block goes on.
    Continuation,
    /// Whatever else: PUSH_PROMISE, which no client may send, and what this table does not know.
    Other,
}

impl Kind {
    const fn of(byte: u8) -> Kind {
        match byte {
            0 => Kind::Data,
            1 => Kind::Headers,
            // PRIORITY_UPDATE says the same in another way.
            2 | 16 => Kind::Priority,
            3 => Kind::Reset,
            4 => Kind::Settings,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            _ => Kind::Other,
        }
    }

    /// How many bytes of the payload tell what the frame is about.
    const fn peek(self) -> usize {
        match self {
            Kind::Data => 1,
            Kind::Reset | Kind::WindowUpdate => 4,
            Kind::GoAway => 8,
            Kind::Settings => PEEK,
            Kind::Headers | Kind::Priority | Kind::Ping | Kind::Continuation | Kind::Other => 0,
        }
    }
}

/// A frame whose header has passed.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its type.
    pub kind: Kind,
    /// Its flags, which mean something else for each type.
    pub flags: u8,
    /// The stream that it is about; 0 for the connection.
    pub stream: u32,
    /// Length of its payload.
    pub length: usize,
    /// The first bytes of it, at most as many as `Kind::peek` asks for.
    pub peek: &'a [u8],
}

impl Frame<'_> {
    /// END_STREAM of DATA and HEADERS, ACK of SETTINGS and PING.
    pub const fn is_last_or_ack(&self) -> bool {
        self.flags & 0x1 != 0
    }

    /// END_HEADERS.
    pub const fn ends_headers(&self) -> bool {
        self.flags & 0x4 != 0
    }

    /// Whether a DATA frame brings nothing but padding.
    pub fn is_empty_data(&self) -> bool {
        let padding = if self.flags & 0x8 == 0 { 0 } else { self.peek.first().map_or(0, |p| usize::from(*p) + 1) };
        self.length <= padding
    }

    /// The number of 32 bits that the payload has at `at`.
    pub fn number(&self, at: usize) -> Option<u32> {
        let bytes = self.peek.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*bytes))
    }
}

/// Where in the bytes of one direction we are.
#[derive(Debug)]
pub struct Splitter {
    /// Bytes of a payload that are of no interest.
    skip: usize,
    held: [u8; HEADER + PEEK],
    have: usize,
}

impl Default for Splitter {
    fn default() -> Splitter {
        Splitter::new()
    }
}

impl Splitter {
    /// At the beginning.
    pub const fn new() -> Splitter {
        Splitter { skip: 0, held: [0; HEADER + PEEK], have: 0 }
    }

    /// The next frame of `bytes`, which are in order and without gaps; what was read of them is taken away.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame<'_>> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        *bytes = bytes.get(skipped..).unwrap_or_default();
        if !self.gather(bytes, HEADER) {
            return None;
        }
        let [a, b, c, kind, flags, w, x, y, z, ..] = self.held;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let kind = Kind::of(kind);
        let peek = kind.peek().min(length);
        if !self.gather(bytes, HEADER + peek) {
            return None;
        }
        self.have = 0;
        self.skip = length - peek;
        let stream = u32::from_be_bytes([w, x, y, z]) & 0x7fff_ffff;
        let peek = self.held.get(HEADER..HEADER + peek).unwrap_or_default();
        Some(Frame { kind, flags, stream, length, peek })
    }

    /// Whether there is more to come of the last frame's payload.
    pub const fn in_payload(&self) -> bool {
        self.skip > 0
    }

    /// Takes what there is of the last frame's payload, beyond what was looked at, away from `bytes`.
    pub fn payload<'b>(&mut self, bytes: &mut &'b [u8]) -> &'b [u8] {
        let (piece, rest) = bytes.split_at_checked(self.skip.min(bytes.len())).unwrap_or_default();
        self.skip -= piece.len();
        *bytes = rest;
        piece
    }

    fn gather(&mut self, bytes: &mut &[u8], until: usize) -> bool {
        let piece = until.saturating_sub(self.have).min(bytes.len());
        let Some((now, rest)) = bytes.split_at_checked(piece) else { return false };
        if let Some(room) = self.held.get_mut(self.have..self.have + piece) {
            room.copy_from_slice(now);
        }
        self.have += piece;
        *bytes = rest;
        self.have >= until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut wire = frame(4, 0, 0, &[0, 4, 0, 0, 0, 9]);
        wire.extend(frame(1, 5, 1, &[3; 700]));
        wire.extend(frame(0, 8, 1, &[2, 1, 1]));
        wire.extend(frame(6, 0, 0, &[7; 8]));
        wire.extend(frame(8, 0, 0x8000_0003, &[0, 0, 0, 1]));
        wire.extend(frame(3, 0, 3, &[0, 0, 0, 8]));
        wire.extend(frame(0xbe, 0, 0, &[]));
        let expected = [
            (Kind::Settings, 0, 6, None),
            (Kind::Headers, 1, 700, None),
            (Kind::Data, 1, 3, None),
            (Kind::Ping, 0, 8, None),
            (Kind::WindowUpdate, 3, 4, Some(1)),
            (Kind::Reset, 3, 4, Some(8)),
            (Kind::Other, 0, 0, None),
        ];
        for size in [1, 2, 9, 10, 13, 57, 700, wire.len()] {
            let mut splitter = Splitter::new();
            let mut seen = Vec::new();
            for mut piece in wire.chunks(size) {
                while let Some(frame) = splitter.next(&mut piece) {
                    let number = matches!(frame.kind, Kind::WindowUpdate | Kind::Reset).then(|| frame.number(0));
                    seen.push((frame.kind, frame.stream, frame.length, number.flatten()));
                }
            }
            assert_eq!(seen, expected, "pieces of {size}");
            assert!(!splitter.in_payload());
        }
    }

    #[test]
    fn padding_is_no_content() {
        for (flags, payload, empty) in [
            (0, &[][..], true),
            (0, &[1], false),
            (8, &[0], true),
            (8, &[2, 0, 0], true),
            (8, &[1, 9, 0], false),
            (9, &[0], true),
        ] {
            let wire = frame(0, flags, 1, payload);
            let mut splitter = Splitter::new();
            let frame = splitter.next(&mut wire.as_slice()).unwrap();
            assert_eq!(frame.is_empty_data(), empty, "{flags} {payload:?}");
        }
    }
}
