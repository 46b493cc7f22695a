//! The strict grammar of a raw HTTP/1 response head (RFC 9112): an application is no more trusted to frame than a client.
use crate::fields::{content_length, is_text, trim};
use crate::head::{Version, field, section};
use memchr::memchr2;
use std::borrow::Cow;

/// What the head of an answer says about the answer's bytes and about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyView<'a> {
    /// 100..=599.
    pub status: u16,
    /// The version.
    pub version: Version,
    /// `Content-Length`, where given; never together with `chunked`.
    pub content_length: Option<u64>,
    /// Whether the body is chunked.
    pub chunked: bool,
    /// Whether the connection goes on after the answer (RFC 9112, 9.3).
    pub keep_alive: bool,
    /// Whether it offers to speak WebSocket from now on.
    pub websocket: bool,
    fields: &'a [u8],
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// After so many bytes; often none.
    Length(u64),
    /// With the last chunk.
    Chunks,
    /// With the connection.
    Close,
}

impl<'a> ReplyView<'a> {
    /// Names and values of the fields, in order, without white space around the values.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        section(self.fields)
    }

    /// RFC 9112, 6.3: how the body ends. `to_head` says whether the request was HEAD.
    pub fn ending(&self, to_head: bool) -> Ending {
        if to_head || matches!(self.status, 100..200 | 204 | 304) {
            return Ending::Length(0);
        }
        match (self.chunked, self.content_length) {
            (true, _) => Ending::Chunks,
            (false, Some(length)) => Ending::Length(length),
            (false, None) => Ending::Close,
        }
    }
}

/// Checks a response head, from its first byte to its empty line, and nothing after it. An error is the cause in words.
///
/// Refuses what breaks RFC 9112 (line ends other than CRLF, folded lines, white space before a colon, control
/// characters, names that are no tokens, a status that is not of three digits or not below 600) and what two recipients
/// could end in different places: `Content-Length` that is no number, is a list, comes twice or comes beside
/// `Transfer-Encoding`; codings other than `chunked`, or any coding from HTTP/1.0.
pub fn check(head: &[u8], most_fields: usize) -> Result<ReplyView<'_>, Cow<'static, str>> {
    check_each(head, most_fields, |_, _| {})
}

/// The same, and gives out name and value of each field as it is read, so that nobody needs to read them again.
pub fn check_each<'a>(
    head: &'a [u8],
    most_fields: usize,
    mut each: impl FnMut(&'a [u8], &'a [u8]),
) -> Result<ReplyView<'a>, Cow<'static, str>> {
    let end = memchr2(b'\r', b'\n', head).unwrap_or(head.len());
    let (line, rest) = head.split_at_checked(end).unwrap_or((head, &[]));
    let first = rest.strip_prefix(b"\r\n").ok_or("the status line does not end with CRLF")?;
    let (version, status) = status_line(line)?;
    let mut view = ReplyView {
        status,
        version,
        content_length: None,
        chunked: false,
        keep_alive: version == Version::Http11,
        websocket: false,
        fields: first,
    };
    let (mut rest, mut count, mut close, mut upgrade, mut protocol) = (first, 0usize, false, false, false);
    loop {
        if let Some(after) = rest.strip_prefix(b"\r\n") {
            if !after.is_empty() {
                return Err("bytes after the head".into());
            }
            break;
        }
        let field = field(rest).map_err(|refusal| refusal.cause)?;
        count += 1;
        if count > most_fields {
            return Err("too many header fields".into());
        }
        let is = |name: &[u8]| field.name.eq_ignore_ascii_case(name);
        if is(b"content-length") {
            if view.content_length.is_some() {
                return Err("repeated Content-Length".into());
            }
            view.content_length = Some(content_length(field.value).map_err(|refusal| refusal.cause)?);
        } else if is(b"transfer-encoding") {
            if view.chunked || !field.value.eq_ignore_ascii_case(b"chunked") || version == Version::Http10 {
                return Err("transfer coding other than one `chunked` of HTTP/1.1".into());
            }
            view.chunked = true;
        } else if is(b"connection") {
            for option in field.value.split(|b| *b == b',').map(trim) {
                close |= option.eq_ignore_ascii_case(b"close");
                upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                view.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if is(b"upgrade") {
            protocol = field.value.eq_ignore_ascii_case(b"websocket");
        }
        each(field.name, field.value);
        rest = field.rest;
    }
    if view.chunked && view.content_length.is_some() {
        return Err("Content-Length with Transfer-Encoding".into());
    }
    view.keep_alive &= !close;
    view.websocket = status == 101 && upgrade && protocol;
    Ok(view)
}

/// Checks how the fields of a response that somebody else has read frame it, by the rules of [`check`].
pub fn check_framing<'a>(
    old: bool,
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), Cow<'static, str>> {
    let (mut length, mut chunked) = (false, false);
    for (name, value) in fields {
        if name.eq_ignore_ascii_case(b"content-length") {
            if std::mem::replace(&mut length, true) {
                return Err("repeated Content-Length".into());
            }
            content_length(value).map_err(|refusal| refusal.cause)?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding")
            && (std::mem::replace(&mut chunked, true) || !value.eq_ignore_ascii_case(b"chunked") || old)
        {
            return Err("transfer coding other than one `chunked` of HTTP/1.1".into());
        }
    }
    if length && chunked { Err("Content-Length with Transfer-Encoding".into()) } else { Ok(()) }
}

/// RFC 9112, 4: `HTTP-version SP status-code SP [reason-phrase]`. Many applications leave out the last space.
fn status_line(line: &[u8]) -> Result<(Version, u16), Cow<'static, str>> {
    let version = match line.get(..9) {
        Some(b"HTTP/1.1 ") => Version::Http11,
        Some(b"HTTP/1.0 ") => Version::Http10,
        _ => return Err("no status line of HTTP/1".into()),
    };
    let digits = line.get(9..12).filter(|digits| digits.iter().all(u8::is_ascii_digit));
    let status = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let status = status.filter(|status| (100..600).contains(status)).ok_or("no status from 100 to 599")?;
    match line.get(12..) {
        Some([]) | None => Ok((version, status)),
        Some([b' ', reason @ ..]) if reason.iter().copied().all(is_text) => Ok((version, status)),
        Some(_) => Err("invalid reason phrase".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(head: &str) -> String {
        match check(head.as_bytes(), 4) {
            Ok(view) => format!("{} {:?} keep {}", view.status, view.ending(false), view.keep_alive),
            Err(cause) => cause.into_owned(),
        }
    }

    #[test]
    fn an_answer_has_one_reading() {
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200 Length(5) keep true"),
            ("HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n", "200 Chunks keep true"),
            ("HTTP/1.1 200 \r\nConnection: Close\r\n\r\n", "200 Close keep false"),
            ("HTTP/1.0 200 OK\r\n\r\n", "200 Close keep false"),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", "200 Length(0) keep true"),
            ("HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\n\r\n", "200 Close keep false"),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "204 Length(0) keep true"),
            ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", "304 Length(0) keep true"),
            ("HTTP/1.1 200 caf\u{e9}\r\nX:\r\n\r\n", "200 Close keep true"),
            ("HTTP/2 200 OK\r\n\r\n", "no status line of HTTP/1"),
            ("HTTP/1.1  200 OK\r\n\r\n", "no status from 100 to 599"),
            ("HTTP/1.1 2x0 OK\r\n\r\n", "no status from 100 to 599"),
            ("HTTP/1.1 099 OK\r\n\r\n", "no status from 100 to 599"),
            ("HTTP/1.1 600 OK\r\n\r\n", "no status from 100 to 599"),
            ("HTTP/1.1 2000 OK\r\n\r\n", "invalid reason phrase"),
            ("HTTP/1.1 200 O\0K\r\n\r\n", "invalid reason phrase"),
            ("HTTP/1.1 200 OK\n\n", "the status line does not end with CRLF"),
            ("HTTP/1.1 200 OK\rX: y\r\n\r\n", "the status line does not end with CRLF"),
            ("HTTP/1.1 200 OK\r\nX: y\n\r\n", "bare line feed"),
            ("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", "folded line"),
            ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "white space before colon"),
            ("HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n", "control character in field value"),
            ("HTTP/1.1 200 OK\r\nX\r\n\r\n", "no colon"),
            ("HTTP/1.1 200 OK\r\n\r\nmore", "bytes after the head"),
            ("HTTP/1.1 200 OK\r\nX: y\r\n", "head is not complete"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "repeated Content-Length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", "list in Content-Length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "Content-Length is not a number"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                "Content-Length with Transfer-Encoding",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                "transfer coding other than one `chunked` of HTTP/1.1",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                "transfer coding other than one `chunked` of HTTP/1.1",
            ),
            (
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "transfer coding other than one `chunked` of HTTP/1.1",
            ),
            ("HTTP/1.1 200 OK\r\nA:\r\nB:\r\nC:\r\nD:\r\nE:\r\n\r\n", "too many header fields"),
        ] {
            assert_eq!(read(head), expected, "{head:?}");
        }
        let switch = b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
        assert!(check(switch, 9).unwrap().websocket);
        assert!(!check(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n", 9).unwrap().websocket);
        assert_eq!(check(b"HTTP/1.1 200 OK\r\n\r\n", 9).unwrap().ending(true), Ending::Length(0));
    }

    #[test]
    fn fields_that_somebody_else_has_read_frame_one_body_too() {
        let read = |old, fields: &[(&str, &str)]| {
            check_framing(old, fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()))).map_err(Cow::into_owned)
        };
        assert_eq!(read(false, &[("x", "y"), ("Content-Length", "5")]), Ok(()));
        assert_eq!(read(false, &[("transfer-encoding", "Chunked")]), Ok(()));
        for fields in [
            [("content-length", "5"), ("content-length", "5")],
            [("content-length", "5, 5"), ("x", "y")],
            [("content-length", "+5"), ("x", "y")],
            [("content-length", "5"), ("transfer-encoding", "chunked")],
            [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            [("transfer-encoding", "gzip, chunked"), ("x", "y")],
        ] {
            assert!(read(false, &fields).is_err(), "{fields:?}");
        }
        assert!(read(true, &[("transfer-encoding", "chunked")]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_decided(head in "HTTP/1.1 200[ -~\\r\\n]{0,60}") {
            let _ = check(head.as_bytes(), 9);
        }
    }
}
