//! Room for pieces of bodies, and where in it they begin: not where a page of memory does.
//!
//! A piece that begins with a page is copied into a record of TLS that begins with another, five bytes behind its start.
//! On AMD's processors since Zen 3 `rep movsb`, with which glibc copies more than 2,112 bytes, needs up to thirty times as
//! long where the target lies 1 to 15 bytes behind the source, modulo 4,096 (glibc bug 30994; measured here: 4.6 us instead
//! of 0.16 for 16 KiB).
use bytes::{Buf, BufMut, BytesMut};

/// From where on a piece that is read lies in its buffer, in bytes. It may be copied to the same place of another.
pub(crate) const BEGIN: usize = 64;
/// From where on what waits to be sent lies in its buffer: pieces arrive there behind the nine bytes of a frame's head
/// (RFC 9113, 4.1), which must not bring them into that range either.
pub(crate) const BEGIN_OUT: usize = 2 * BEGIN;

/// Sees to room for `room` bytes more, of which an empty buffer gives [`BEGIN`] away.
pub(crate) fn make_room(buffer: &mut BytesMut, room: usize) {
    if !buffer.is_empty() {
        buffer.reserve(room);
    } else if buffer.capacity() < room.saturating_sub(BEGIN) {
        buffer.reserve(room);
        set_off(buffer);
    }
}

/// An empty buffer for a piece of so many bytes.
pub(crate) fn piece(bytes: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(BEGIN + bytes);
    set_off(&mut buffer);
    buffer
}

fn set_off(buffer: &mut BytesMut) {
    buffer.put_bytes(0, BEGIN);
    buffer.advance(BEGIN);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a copy from here to there, both counted from the start of a page, is slow.
    fn slow(source: usize, target: usize) -> bool {
        (1..16).contains(&((4096 + target - source) % 4096))
    }

    #[test]
    fn no_piece_is_copied_to_where_that_is_slow() {
        // Behind the head of a record (RFC 8446, 5.1) and that of a frame (RFC 9113, 4.1).
        let (record, frame) = (5, 9);
        assert!(slow(0, record) && slow(0, frame), "why pieces do not begin with their buffers");
        for (source, target) in [(BEGIN, record), (BEGIN, BEGIN), (BEGIN, BEGIN_OUT + frame), (BEGIN_OUT, record)] {
            assert!(!slow(source, target), "from {source} to {target}");
        }
    }

    #[test]
    fn a_buffer_with_nothing_in_it_is_used_from_its_start_again() {
        let mut buffer = BytesMut::new();
        make_room(&mut buffer, 4096);
        let begin = buffer.as_ptr();
        assert_eq!((buffer.len(), buffer.capacity()), (0, 4096 - BEGIN));
        for used in [1, 4000, 4096 - BEGIN] {
            buffer.put_bytes(b'x', used);
            buffer.advance(used);
            make_room(&mut buffer, 4096);
            assert_eq!((buffer.as_ptr(), buffer.len(), buffer.capacity()), (begin, 0, 4096 - BEGIN), "after {used}");
        }
        // What is there stays, and has room behind it.
        buffer.extend_from_slice(b"begun");
        make_room(&mut buffer, 4096);
        assert!(&*buffer == b"begun" && buffer.capacity() >= 4096 + 5);
        assert_eq!((piece(100).len(), piece(100).capacity()), (0, 100));
    }
}
