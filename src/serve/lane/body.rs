//! A body on its way: how far it is in its framing as it came, and its bytes on their way out in ours.
use bytes::{Buf, BytesMut};
use decide::chunks::{Chunks, Piece};
use decide::head::section;
use decide::headers::request::IdentityHeaders;
use decide::refusal::Refusal;
use decide::trailers::may_trail;
use std::io::{self, IoSlice, Write};
use std::task::{Poll, ready};

/// Most bytes of a body that stand ready before they are passed on.
pub(super) const PIECE: usize = 32 * 1024;

/// A body as it comes.
#[derive(Debug)]
pub(super) enum Source {
    /// So many bytes more.
    Length(u64),
    /// Chunks, and the trailers so far.
    Chunks(Chunks, Vec<u8>),
    /// Until the connection ends.
    Close,
    /// Until the stream of an HTTP/2 client ends, which is said apart from the bytes.
    Stream {
        /// Whether it has.
        ended: bool,
    },
}

/// What to do next about a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes at the front are data, to be passed on.
    Data(usize),
    /// More must be read first.
    More,
    /// It is over.
    Over,
}

impl Source {
    pub(super) fn chunks() -> Source {
        Source::Chunks(Chunks::default(), Vec::new())
    }

    /// Whether all of it has been seen.
    pub(super) fn over(&self) -> bool {
        match self {
            Source::Length(left) => *left == 0,
            Source::Chunks(chunks, _) => chunks.done(),
            Source::Close => false,
            Source::Stream { ended } => *ended,
        }
    }

    /// Nothing more will come; whether that may be.
    pub(super) fn end(&mut self) -> bool {
        match self {
            Source::Stream { ended } => {
                *ended = true;
                true
            }
            Source::Length(_) | Source::Chunks(..) | Source::Close => false,
        }
    }

    /// Looks at what has come. What is framing is taken away; data is left for whoever passes it on.
    pub(super) fn step(&mut self, pending: &mut BytesMut) -> Result<Step, Refusal> {
        match self {
            Source::Length(0) => Ok(Step::Over),
            Source::Length(left) => {
                let piece = usize::try_from(*left).unwrap_or(usize::MAX).min(pending.len());
                *left = left.saturating_sub(piece as u64);
                Ok(if piece == 0 { Step::More } else { Step::Data(piece) })
            }
            Source::Close => Ok(if pending.is_empty() { Step::More } else { Step::Data(pending.len()) }),
            Source::Stream { ended } => Ok(match (pending.len(), *ended) {
                (0, true) => Step::Over,
                (0, false) => Step::More,
                (bytes, _) => Step::Data(bytes),
            }),
            Source::Chunks(chunks, trailers) => loop {
                if chunks.done() {
                    return Ok(Step::Over);
                }
                if pending.is_empty() {
                    return Ok(Step::More);
                }
                let (taken, piece) = chunks.step(pending)?;
                match piece {
                    Piece::Data => return Ok(Step::Data(taken)),
                    Piece::Trailers => trailers.extend_from_slice(pending.get(..taken).unwrap_or_default()),
                    Piece::Framing | Piece::End => {}
                }
                pending.advance(taken);
            },
        }
    }

    /// Trailers that may be passed on.
    pub(super) fn trailers<'a>(&'a self, identity: &'a IdentityHeaders) -> impl Iterator<Item = (String, &'a [u8])> {
        let bytes = match self {
            Source::Chunks(_, trailers) => &**trailers,
            Source::Length(_) | Source::Close | Source::Stream { .. } => &[],
        };
        let all = section(bytes).map(|(name, value)| (String::from_utf8_lossy(name).to_ascii_lowercase(), value));
        all.filter(|(name, _)| may_trail(name, identity))
    }
}

/// Bytes on their way out: our own, then data that still lies where it was read, then the end of a chunk.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) before: Vec<u8>,
    at: usize,
    data: usize,
    after: &'static [u8],
}

impl Outgoing {
    /// Begins with bytes of ours.
    pub(super) fn of(before: Vec<u8>) -> Outgoing {
        Outgoing { before, ..Outgoing::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.before.len() && self.data == 0 && self.after.is_empty()
    }

    /// Whether another piece of data may be added.
    pub(super) fn has_room(&self) -> bool {
        self.data == 0 && self.after.is_empty()
    }

    /// Adds data at the front of what was read, as a chunk or as it is.
    pub(super) fn data(&mut self, bytes: usize, chunked: bool) {
        self.data = bytes;
        if chunked {
            // Writing to a vector cannot fail.
            let _ = write!(self.before, "{bytes:x}\r\n");
            self.after = b"\r\n";
        }
    }

    /// Adds the last chunk with these trailers.
    pub(super) fn last_chunk(&mut self, source: &Source, identity: &IdentityHeaders) {
        if !self.after.is_empty() && self.data == 0 {
            self.before.extend_from_slice(self.after);
            self.after = b"";
        }
        self.before.extend_from_slice(b"0\r\n");
        for (name, value) in source.trailers(identity) {
            let line = [name.as_bytes(), b": ", value, b"\r\n"];
            line.iter().for_each(|part| self.before.extend_from_slice(part));
        }
        self.before.extend_from_slice(b"\r\n");
    }

    /// Writes until nothing is left; returns how many bytes. Data that is written is taken out of `source`.
    pub(super) fn poll(
        &mut self,
        source: &mut BytesMut,
        mut write: impl FnMut(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut total = 0;
        while !self.is_empty() {
            let before = self.before.get(self.at..).unwrap_or_default();
            let data = source.get(..self.data).unwrap_or_default();
            let all = [IoSlice::new(before), IoSlice::new(data), IoSlice::new(self.after)];
            let from = usize::from(before.is_empty());
            let to = if self.after.is_empty() { if data.is_empty() { 1 } else { 2 } } else { 3 };
            let mut sent = ready!(write(all.get(from..to).unwrap_or(&all)))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            total += sent;
            let own = sent.min(before.len());
            self.at += own;
            sent -= own;
            let body = sent.min(self.data);
            source.advance(body.min(source.len()));
            self.data -= body;
            self.after = self.after.get(sent - body..).unwrap_or_default();
            if self.at == self.before.len() {
                self.before.clear();
                self.at = 0;
            }
        }
        Poll::Ready(Ok(total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes a body through and re-frames it, written in pieces of `most`.
    fn pass(mut source: Source, bytes: &[u8], most: usize) -> Result<(String, String), Refusal> {
        let (mut pending, mut out, mut sent) = (BytesMut::from(bytes), Outgoing::default(), Vec::new());
        let identity = IdentityHeaders::default();
        loop {
            let step = source.step(&mut pending)?;
            match step {
                Step::Data(count) => out.data(count, true),
                Step::Over => out.last_chunk(&source, &identity),
                Step::More => break,
            }
            let written = out.poll(&mut pending, |slices| {
                let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
                let taken = all.len().min(most);
                sent.extend(&all[..taken]);
                Poll::Ready(Ok(taken))
            });
            assert!(matches!(written, Poll::Ready(Ok(1..))) && out.is_empty());
            if step == Step::Over {
                break;
            }
        }
        Ok((String::from_utf8(sent).unwrap(), String::from_utf8(pending.to_vec()).unwrap()))
    }

    #[test]
    fn bodies_are_framed_anew_and_what_follows_stays() {
        for most in [1, 3, 100] {
            let chunked = b"2;x=y\r\nab\r\n3\r\ncde\r\n0\r\nGrpc-Status: 0\r\nX-Tenant-Id: forged\r\n\r\nNEXT";
            let (sent, left) = pass(Source::chunks(), chunked, most).unwrap();
            assert_eq!(sent, "2\r\nab\r\n3\r\ncde\r\n0\r\ngrpc-status: 0\r\n\r\n");
            assert_eq!(left, "NEXT");
            let (sent, left) = pass(Source::Length(5), b"abcdeNEXT", most).unwrap();
            assert_eq!((sent.as_str(), left.as_str()), ("5\r\nabcde\r\n0\r\n\r\n", "NEXT"));
        }
        assert!(pass(Source::chunks(), b"2\nab", 9).is_err());
    }
}
