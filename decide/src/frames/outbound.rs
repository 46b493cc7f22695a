//! What the codec says to an HTTP/2 client by itself: streams reset and connections ended for what the client did.
use super::splitter::{Kind, Splitter};

/// Error codes of RFC 9113, 7.
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const STREAM_CLOSED: u32 = 5;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
/// Most bytes of a header block that holds nothing but a status.
const BARE: usize = 10;

/// What the codec holds against a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request, or what followed it, breaks the protocol.
    Malformed,
    /// The header list is beyond what the codec decodes; it was answered with 431.
    Oversize,
    /// More streams than were announced.
    Refused,
    /// Something came for a stream that is over, as happens when both sides speak at once.
    Late,
}

/// A frame of the codec's that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// DATA of so many bytes.
    Data {
        /// The stream that it is of.
        stream: u32,
        /// How many.
        bytes: u32,
    },
    /// RST_STREAM, or an answer that none of us gave.
    Verdict(Verdict),
    /// GOAWAY with an error code other than NO_ERROR.
    GoAway(u32),
}

/// Reads along with what is sent.
#[derive(Debug)]
pub struct Outbound {
    splitter: Splitter,
    /// The last stream that was answered with a status and nothing else.
    bare: u32,
    /// Streams whose answer has begun: what comes next for them are trailers, which may be short.
    begun: Vec<u32>,
}

impl Default for Outbound {
    fn default() -> Outbound {
        Outbound::new()
    }
}

impl Outbound {
    /// Before the first byte.
    pub const fn new() -> Outbound {
        Outbound { splitter: Splitter::new(), bare: 0, begun: Vec::new() }
    }

    /// The next frame of `bytes` that matters; what was read of them is taken away.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Said> {
        while let Some(frame) = self.splitter.next(bytes) {
            match frame.kind {
                Kind::Data => {
                    if frame.is_last_or_ack() {
                        ends(&mut self.begun, frame.stream);
                    }
                    let bytes = u32::try_from(frame.length).unwrap_or(u32::MAX);
                    return Some(Said::Data { stream: frame.stream, bytes });
                }
                Kind::Headers if frame.is_last_or_ack() => {
                    // Ours are dressed. Pingora answers so too, on streams that were handed over.
                    if !ends(&mut self.begun, frame.stream) && frame.length <= BARE {
                        self.bare = frame.stream;
                        return Some(Said::Verdict(Verdict::Oversize));
                    }
                }
                Kind::Headers => {
                    if !self.begun.contains(&frame.stream) {
                        self.begun.push(frame.stream);
                    }
                }
                Kind::Reset => {
                    ends(&mut self.begun, frame.stream);
                    let verdict = match frame.number(0).unwrap_or_default() {
                        // Ours: an answer that was over before the request was, one that broke off, one that was ended.
                        NO_ERROR | INTERNAL_ERROR | CANCEL => continue,
                        REFUSED_STREAM => Verdict::Refused,
                        STREAM_CLOSED => Verdict::Late,
                        _ if self.bare == frame.stream => continue,
                        _ => Verdict::Malformed,
                    };
                    return Some(Said::Verdict(verdict));
                }
                Kind::GoAway => match frame.number(4).unwrap_or_default() {
                    NO_ERROR => {}
                    error => return Some(Said::GoAway(error)),
                },
                Kind::Priority
                | Kind::Settings
                | Kind::Ping
                | Kind::WindowUpdate
                | Kind::Continuation
                | Kind::Other => {}
            }
        }
        None
    }
}

/// Nothing more is said on this stream. Whether its answer had begun.
fn ends(begun: &mut Vec<u32>, stream: u32) -> bool {
    let at = begun.iter().position(|one| *one == stream);
    at.map(|at| begun.swap_remove(at)).is_some()
}

/// The name of an error code (RFC 9113, 7).
pub const fn error_name(code: u32) -> &'static str {
    match code {
        NO_ERROR => "NO_ERROR",
        1 => "PROTOCOL_ERROR",
        INTERNAL_ERROR => "INTERNAL_ERROR",
        3 => "FLOW_CONTROL_ERROR",
        4 => "SETTINGS_TIMEOUT",
        STREAM_CLOSED => "STREAM_CLOSED",
        6 => "FRAME_SIZE_ERROR",
        REFUSED_STREAM => "REFUSED_STREAM",
        CANCEL => "CANCEL",
        9 => "COMPRESSION_ERROR",
        10 => "CONNECT_ERROR",
        11 => "ENHANCE_YOUR_CALM",
        12 => "INADEQUATE_SECURITY",
        13 => "HTTP_1_1_REQUIRED",
        _ => "an unknown error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0], &stream.to_be_bytes(), payload].concat()
    }

    fn said(frames: &[Vec<u8>]) -> Vec<Said> {
        let wire = frames.concat();
        let (mut outbound, mut bytes) = (Outbound::new(), wire.as_slice());
        std::iter::from_fn(|| outbound.next(&mut bytes)).collect()
    }

    #[test]
    fn what_the_codec_does_by_itself_is_told_from_what_we_do() {
        let last = |stream: u32, block: &[u8]| {
            let mut frame = frame(1, stream, block);
            frame[4] = 5;
            frame
        };
        let reset = |stream: u32, code: u8| frame(3, stream, &[0, 0, 0, code]);
        for (frames, expected) in [
            (vec![reset(1, 1)], vec![Said::Verdict(Verdict::Malformed)]),
            (vec![reset(1, 3)], vec![Said::Verdict(Verdict::Malformed)]),
            (vec![reset(1, 7)], vec![Said::Verdict(Verdict::Refused)]),
            (vec![reset(1, 5)], vec![Said::Verdict(Verdict::Late)]),
            (vec![reset(1, 0), reset(3, 2), reset(5, 8)], vec![]),
            (vec![last(3, b"431"), reset(3, 1)], vec![Said::Verdict(Verdict::Oversize)]),
            (vec![last(3, b"431"), last(5, b"431")], vec![Said::Verdict(Verdict::Oversize); 2]),
            (vec![last(1, b"200 and fields"), reset(1, 1)], vec![Said::Verdict(Verdict::Malformed)]),
            (vec![frame(1, 1, b"200")], vec![]),
            (
                vec![frame(1, 1, b"200"), frame(0, 1, b"hello"), last(1, b"ok")],
                vec![Said::Data { stream: 1, bytes: 5 }],
            ),
            (vec![frame(1, 1, b"200"), last(1, b"ok"), last(1, b"431")], vec![Said::Verdict(Verdict::Oversize)]),
            (vec![frame(0, 1, b"hello")], vec![Said::Data { stream: 1, bytes: 5 }]),
            (vec![frame(7, 0, &[0, 0, 0, 1, 0, 0, 0, 0])], vec![]),
            (vec![frame(7, 0, &[0, 0, 0, 1, 0, 0, 0, 11, b'x'])], vec![Said::GoAway(11)]),
            (vec![frame(4, 0, &[]), frame(6, 0, &[0; 8]), frame(8, 0, &[0, 0, 0, 1])], vec![]),
        ] {
            assert_eq!(said(&frames), expected);
        }
    }
}
