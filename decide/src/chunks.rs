//! The strict grammar of a chunked body (RFC 9112, 7.1), checked on the bytes before any tolerant parser.
use crate::fields::malformed;
use crate::refusal::Refusal;
use crate::request::is_token;

/// Digits of a chunk's size: enough for all that memory can hold, too few to overflow.
const MAX_DIGITS: u8 = 15;
/// Bytes of all chunk extensions of a body. Nobody uses them, but they cost a sender one byte for one byte of data.
const MAX_EXTENSIONS: u16 = 1024;
/// Bytes of the trailer section, without line ends.
const MAX_TRAILERS: u16 = 8 * 1024;
/// Number of trailers.
const MAX_TRAILER_COUNT: u8 = 100;

/// Reads along with the bytes that follow a head with `Transfer-Encoding: chunked`.
///
/// Tolerant readers end a chunk's size at a bare line feed, take extensions that hold one, read no digits as zero, or
/// pass over garbage among the trailers; each such difference between two readers in a row hides a request in a body.
/// Here every line ends with CRLF, a size is 1..=15 hexadecimal digits without anything around them, extensions and
/// trailers are made of text, and trailers have a name. What follows the end of the body is not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    state: State,
    size: u64,
    digits: u8,
    extensions: u16,
    trailers: u16,
    trailer_count: u8,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    /// The line feed after a size and its extensions.
    SizeEnd,
    /// This many bytes of data.
    Data(u64),
    DataCr,
    DataLf,
    /// The first byte of a trailer, or of the empty line.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    LastLf,
    Done,
}

/// What a run of bytes in a chunked body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Sizes, extensions and line ends.
    Framing,
    /// Data.
    Data,
    /// The trailer section, up to its empty line.
    Trailers,
    /// Nothing: the body is over.
    End,
}

impl Chunks {
    /// Takes bytes up to where something else begins; returns how many, and what they are. Of none it takes none.
    pub fn step(&mut self, bytes: &[u8]) -> Result<(usize, Piece), Refusal> {
        let piece = self.piece();
        if let State::Data(left) = self.state {
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let left = left.saturating_sub(taken as u64);
            self.state = if left == 0 { State::DataCr } else { State::Data(left) };
            return Ok((taken, piece));
        }
        let mut taken = 0;
        for byte in bytes {
            if self.piece() != piece || self.state == State::Done {
                break;
            }
            self.state = self.next(*byte)?;
            taken += 1;
        }
        Ok((taken, piece))
    }

    /// Whether the body is over.
    pub fn done(&self) -> bool {
        self.state == State::Done
    }

    fn piece(&self) -> Piece {
        match self.state {
            State::Size | State::Extension | State::SizeEnd | State::DataCr | State::DataLf => Piece::Framing,
            State::Data(_) => Piece::Data,
            State::Trailer | State::TrailerName | State::TrailerValue | State::TrailerEnd | State::LastLf => {
                Piece::Trailers
            }
            State::Done => Piece::End,
        }
    }

    /// Takes the next bytes. After a refusal the connection is to be closed: where the body ends is not known.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let mut rest = bytes;
        while let [byte, after @ ..] = rest {
            match self.state {
                State::Done => return Ok(()),
                State::Data(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let left = left.saturating_sub(taken as u64);
                    self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                    rest = rest.get(taken..).unwrap_or_default();
                }
                _ => {
                    self.state = self.next(*byte)?;
                    rest = after;
                }
            }
        }
        Ok(())
    }

    fn next(&mut self, byte: u8) -> Result<State, Refusal> {
        let text = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => Ok(State::SizeEnd),
            (State::Size, b';') if self.digits > 0 => Ok(State::Extension),
            (State::Size, _) => {
                let digit =
                    char::from(byte).to_digit(16).ok_or_else(|| malformed("size of a chunk is not a number"))?;
                if self.digits == MAX_DIGITS {
                    return Err(malformed("size of a chunk is too long"));
                }
                (self.digits, self.size) = (self.digits + 1, self.size << 4 | u64::from(digit));
                Ok(State::Size)
            }
            (State::Extension, b'\r') => Ok(State::SizeEnd),
            (State::Extension, _) if text && self.extensions < MAX_EXTENSIONS => {
                self.extensions += 1;
                Ok(State::Extension)
            }
            (State::Extension, _) => Err(malformed("invalid chunk extension")),
            (State::SizeEnd, b'\n') => {
                let size = std::mem::take(&mut self.size);
                self.digits = 0;
                Ok(if size == 0 { State::Trailer } else { State::Data(size) })
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size),
            (State::DataCr | State::DataLf, _) => Err(malformed("chunk is longer than its size")),
            (State::Trailer, b'\r') => Ok(State::LastLf),
            (State::Trailer | State::TrailerName | State::TrailerValue, _) if self.trailers == MAX_TRAILERS => {
                Err(malformed("trailers are too large"))
            }
            (State::Trailer, _) if self.trailer_count == MAX_TRAILER_COUNT => Err(malformed("too many trailers")),
            (State::Trailer, _) if is_token(byte) => {
                self.trailer_count += 1;
                self.in_trailer(State::TrailerName)
            }
            (State::TrailerName, b':') => self.in_trailer(State::TrailerValue),
            (State::TrailerName, _) if is_token(byte) => self.in_trailer(State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerEnd),
            (State::TrailerValue, _) if text => self.in_trailer(State::TrailerValue),
            (State::Trailer | State::TrailerName | State::TrailerValue, _) => Err(malformed("invalid trailer")),
            (State::TrailerEnd, b'\n') => Ok(State::Trailer),
            (State::LastLf, b'\n') => Ok(State::Done),
            (State::SizeEnd | State::TrailerEnd | State::LastLf, _) => Err(malformed("bare carriage return")),
            (State::Data(_) | State::Done, _) => Ok(self.state),
        }
    }

    fn in_trailer(&mut self, state: State) -> Result<State, Refusal> {
        self.trailers += 1;
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &[u8], piece: usize) -> Result<bool, String> {
        let mut chunks = Chunks::default();
        for part in body.chunks(piece) {
            chunks.take(part).map_err(|refusal| refusal.cause.into_owned())?;
        }
        Ok(chunks.state == State::Done)
    }

    #[test]
    fn a_chunked_body_has_one_reading() {
        let long_extension = [b"1;".as_slice(), &[b'x'; 1025], b"\r\na\r\n0\r\n\r\n"].concat();
        let long_trailer = [b"0\r\nx: ".as_slice(), &[b'x'; 8192], b"\r\n\r\n"].concat();
        let many_extensions = [&b"1;123456789\r\na\r\n".repeat(120)[..], b"0\r\n\r\n"].concat();
        let some_trailers = [b"0\r\n".as_slice(), &b"a: b\r\n".repeat(100), b"\r\n"].concat();
        let many_trailers = [b"0\r\n".as_slice(), &b"a: b\r\n".repeat(101), b"\r\n"].concat();
        for (body, expected) in [
            (b"0\r\n\r\n".as_slice(), Ok(true)),
            (b"2\r\nab\r\n0\r\n\r\n", Ok(true)),
            (b"0000A\r\n0123456789\r\nf\r\n\r\n0\r\n56789abcde\r\n0\r\n\r\n", Ok(true)),
            (b"1;a=\"b\";c\r\na\r\n0;d\r\nX-Sum: 1\r\nY:\r\n\r\n", Ok(true)),
            (b"0\r\n\r\nGET /next HTTP/1.1\r\n", Ok(true)),
            (b"2\r\nab\r\n0\r\n", Ok(false)),
            (b"5\r\nab", Ok(false)),
            // The corpus of "Funky chunks" (2025) and of HTTP Garden: line ends, and what stands around a size.
            (b"2\nab\r\n0\r\n\r\n", Err("size of a chunk is not a number")),
            (b"2;\nab\r\nxx\r\n0\r\n\r\n", Err("invalid chunk extension")),
            (b"2;a\rb\r\nab\r\n0\r\n\r\n", Err("bare carriage return")),
            (b"2\rXab\r\n0\r\n\r\n", Err("bare carriage return")),
            (b"2\r\nabXX0\r\n\r\n", Err("chunk is longer than its size")),
            (b"2\r\nab\n0\r\n\r\n", Err("chunk is longer than its size")),
            (b"2\r\nab\rX0\r\n\r\n", Err("chunk is longer than its size")),
            (b"0\r\n\rX", Err("bare carriage return")),
            (b"0\n\n", Err("size of a chunk is not a number")),
            (b"\r\n\r\n", Err("size of a chunk is not a number")),
            (b";x\r\n\r\n", Err("size of a chunk is not a number")),
            (b" 2\r\nab\r\n", Err("size of a chunk is not a number")),
            (b"2 \r\nab\r\n", Err("size of a chunk is not a number")),
            (b"2\t;x\r\nab\r\n", Err("size of a chunk is not a number")),
            (b"0x2\r\nab\r\n", Err("size of a chunk is not a number")),
            (b"+2\r\nab\r\n", Err("size of a chunk is not a number")),
            (b"-2\r\nab\r\n", Err("size of a chunk is not a number")),
            (b"1_0\r\nab\r\n", Err("size of a chunk is not a number")),
            (b"2\0\r\nab\r\n", Err("size of a chunk is not a number")),
            (b"ffffffffffffffff\r\n", Err("size of a chunk is too long")),
            (b"00000000000000000000002\r\nab\r\n", Err("size of a chunk is too long")),
            (b"0\r\nGET / HTTP/1.1\r\n\r\n", Err("invalid trailer")),
            (b"0\r\nX : y\r\n\r\n", Err("invalid trailer")),
            (b"0\r\n: y\r\n\r\n", Err("invalid trailer")),
            (b"0\r\n folded\r\n\r\n", Err("invalid trailer")),
            (b"0\r\nX: y\n\r\n", Err("invalid trailer")),
            (b"0\r\nX: \0\r\n\r\n", Err("invalid trailer")),
            (&long_extension, Err("invalid chunk extension")),
            (&many_extensions, Err("invalid chunk extension")),
            (&long_trailer, Err("trailers are too large")),
            (&some_trailers, Ok(true)),
            (&many_trailers, Err("too many trailers")),
        ] {
            for piece in [1, 3, 4096] {
                let shown = String::from_utf8_lossy(body);
                assert_eq!(read(body, piece), expected.map_err(str::to_owned), "{shown:?} in pieces of {piece}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_a_sender_writes_is_read(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6)) {
            let mut body = Vec::new();
            for part in &parts {
                body.extend(format!("{:x}\r\n", part.len()).bytes());
                body.extend(part);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n\r\n");
            for piece in [1, 7, 100_000] {
                prop_assert_eq!(read(&body, piece), Ok(true));
            }
            prop_assert_eq!(read(&body[..body.len() - 1], 50), Ok(false));
        }

        #[test]
        fn steps_give_back_what_was_sent(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..90), 0..5), cut in 1usize..50) {
            let mut body = Vec::new();
            for part in &parts {
                body.extend(format!("{:x};e=1\r\n", part.len()).bytes());
                body.extend(part);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\nA: b\r\n\r\nNEXT");
            let (mut chunks, mut data, mut trailers, mut read) = (Chunks::default(), Vec::<u8>::new(), Vec::<u8>::new(), 0);
            while !chunks.done() {
                let piece = &body[read..body.len().min(read + cut)];
                let (taken, what) = chunks.step(piece).unwrap();
                prop_assert!(taken > 0);
                match what {
                    Piece::Data => data.extend(&piece[..taken]),
                    Piece::Trailers => trailers.extend(&piece[..taken]),
                    Piece::Framing | Piece::End => {}
                }
                read += taken;
            }
            prop_assert_eq!(data, parts.concat());
            prop_assert_eq!(trailers, b"A: b\r\n\r\n".to_vec());
            prop_assert_eq!(&body[read..], b"NEXT");
            prop_assert_eq!(chunks.step(b"NEXT").unwrap(), (0, Piece::End));
        }

        #[test]
        fn any_bytes_are_decided_alike_however_they_are_cut(body in "[0-9a-f;: \\r\\nXx-]{0,40}", piece in 1usize..9) {
            prop_assert_eq!(read(body.as_bytes(), piece), read(body.as_bytes(), 4096));
        }
    }
}
