//! The wire format of Redis and Valkey (RESP2): commands out, replies in, nothing longer or deeper than we ask for.
use std::fmt::Write;

/// The longest text of one reply.
const MAX_BULK: usize = 1 << 20;
/// The longest list.
const MAX_ITEMS: usize = 1 << 16;
/// The longest line: a status, an error, or a length.
const MAX_LINE: usize = 4 << 10;
/// Lists in lists: streams, of which each has rows of an id and fields.
const MAX_DEPTH: usize = 5;

/// What the server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing there.
    Nil,
    /// A word such as `OK`.
    Status(String),
    /// A refusal; it begins with a word such as `NOSCRIPT`.
    Error(String),
    /// A whole number.
    Number(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// Several replies.
    List(Vec<Reply>),
}

/// The bytes are no reply, or a longer one than we asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not in the protocol of Redis")]
pub struct Malformed;

/// Adds a command: its name and arguments.
pub fn command<'p>(out: &mut Vec<u8>, parts: impl ExactSizeIterator<Item = &'p [u8]>) {
    length(out, '*', parts.len());
    for part in parts {
        length(out, '$', part.len());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

fn length(out: &mut Vec<u8>, kind: char, length: usize) {
    let mut line = String::with_capacity(16);
    // Writing to a String cannot fail.
    let _ = write!(line, "{kind}{length}\r\n");
    out.extend_from_slice(line.as_bytes());
}

/// Reads the reply at the beginning of `bytes`, and says how many of them it took. `None` where it is not whole yet.
pub fn reply(bytes: &[u8]) -> Result<Option<(Reply, usize)>, Malformed> {
    let mut cursor = Cursor { bytes, at: 0 };
    match cursor.reply(MAX_DEPTH) {
        Ok(reply) => Ok(Some((reply, cursor.at))),
        Err(Stop::Short) => Ok(None),
        Err(Stop::Malformed) => Err(Malformed),
    }
}

/// Why there is no reply.
enum Stop {
    Short,
    Malformed,
}

struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    fn reply(&mut self, depth: usize) -> Result<Reply, Stop> {
        let line = self.line()?;
        let (kind, rest) = line.split_first().ok_or(Stop::Malformed)?;
        Ok(match kind {
            b'+' => Reply::Status(String::from_utf8_lossy(rest).into_owned()),
            b'-' => Reply::Error(String::from_utf8_lossy(rest).into_owned()),
            b':' => Reply::Number(number(rest)?),
            b'$' => match size(rest, MAX_BULK)? {
                None => Reply::Nil,
                Some(size) => Reply::Bulk(self.bulk(size)?.to_vec()),
            },
            b'*' => match size(rest, MAX_ITEMS)? {
                None => Reply::Nil,
                Some(_) if depth == 0 => return Err(Stop::Malformed),
                // No room is made for what has only been announced.
                Some(size) => Reply::List((0..size).map(|_| self.reply(depth - 1)).collect::<Result<_, _>>()?),
            },
            _ => return Err(Stop::Malformed),
        })
    }

    /// The next line without its end. A line that is too long is malformed before it is whole.
    fn line(&mut self) -> Result<&'b [u8], Stop> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let known = rest.get(..MAX_LINE).unwrap_or(rest);
        let Some(end) = known.iter().position(|byte| *byte == b'\n') else {
            return Err(if rest.len() >= MAX_LINE { Stop::Malformed } else { Stop::Short });
        };
        self.at += end + 1;
        rest.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(Stop::Malformed)
    }

    fn bulk(&mut self, size: usize) -> Result<&'b [u8], Stop> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let bytes = rest.get(..size).ok_or(Stop::Short)?;
        match rest.get(size..size + 2) {
            None => Err(Stop::Short),
            Some(b"\r\n") => {
                self.at += size + 2;
                Ok(bytes)
            }
            Some(_) => Err(Stop::Malformed),
        }
    }
}

fn number(text: &[u8]) -> Result<i64, Stop> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Stop::Malformed)
}

/// A length; -1 means that there is nothing.
fn size(text: &[u8], most: usize) -> Result<Option<usize>, Stop> {
    match number(text)? {
        -1 => Ok(None),
        size => usize::try_from(size).ok().filter(|size| *size <= most).map(Some).ok_or(Stop::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_command_is_a_list_of_texts() {
        let mut out = Vec::new();
        command(&mut out, [b"SET".as_slice(), b"k", b"\r\n\x00"].into_iter());
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n\r\n\x00\r\n");
    }

    #[test]
    fn replies_are_read_one_at_a_time() {
        let bytes = b"+OK\r\n-NOSCRIPT no\r\n:-7\r\n$2\r\na\n\r\n$-1\r\n*2\r\n:1\r\n*1\r\n$0\r\n\r\n";
        let (mut rest, mut read) = (&bytes[..], Vec::new());
        while let Some((one, length)) = reply(rest).unwrap() {
            read.push(one);
            rest = &rest[length..];
        }
        let list = Reply::List(vec![Reply::Number(1), Reply::List(vec![Reply::Bulk(Vec::new())])]);
        let expected = [
            Reply::Status("OK".into()),
            Reply::Error("NOSCRIPT no".into()),
            Reply::Number(-7),
            Reply::Bulk(b"a\n".to_vec()),
            Reply::Nil,
            list,
        ];
        assert_eq!(read, expected);
        assert!(rest.is_empty());
    }

    #[test]
    fn what_is_no_reply_or_too_long_is_refused() {
        let long = format!("+{}", "x".repeat(MAX_LINE));
        let deep = "*1\r\n".repeat(MAX_DEPTH + 1);
        for bytes in [
            "HTTP/1.1 400 Bad Request\r\n",
            "\r\n",
            "+OK\n",
            ":x\r\n",
            ":\r\n",
            "$-2\r\n",
            "$1048577\r\n",
            "*65537\r\n",
            "$1\r\nab\r\n",
            "$99999999999999999999\r\n",
            &long,
            &deep,
        ] {
            assert_eq!(reply(bytes.as_bytes()), Err(Malformed), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some((_, length))) = reply(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }

        #[test]
        fn a_reply_cut_anywhere_is_awaited(cut in 0usize..40) {
            let whole = b"*3\r\n:1\r\n$5\r\nhello\r\n*1\r\n+a\r\n";
            let cut = cut.min(whole.len());
            let read = reply(&whole[..cut]).unwrap();
            prop_assert_eq!(read.is_some(), cut == whole.len());
        }
    }
}
