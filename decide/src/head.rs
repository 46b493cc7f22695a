//! The strict grammar of a raw HTTP/1 request head (RFC 9112), checked on the bytes before any tolerant parser.
use crate::fields::{Fields, Wire, ambiguous, is_text, malformed, too_large, trim};
use crate::refusal::Refusal;
use crate::request::{Method, is_token};
use memchr::memchr2;

/// Cause of `request.too-large` where the request line is the matter (status 414 rather than 431).
pub const LINE_TOO_LONG: &str = "request line is too long";

/// How large a request head may be; all limits are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The whole head in bytes.
    pub bytes: usize,
    /// Number of header fields.
    pub count: usize,
    /// The request line in bytes, without its line end.
    pub line: usize,
}

impl Default for HeadLimits {
    fn default() -> HeadLimits {
        HeadLimits { bytes: 64 * 1024, count: 100, line: 8 * 1024 }
    }
}

/// The two versions that HTTP/1 has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    Http11,
}

/// What the loop of a connection needs to know of a head that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadView<'a> {
    /// The method.
    pub method: Method,
    /// The request target as sent: visible ASCII, otherwise the matter of `Request::parse`.
    pub target: &'a str,
    /// The version.
    pub version: Version,
    /// The one `Host`: ASCII, not empty, otherwise the matter of `Request::parse`.
    pub host: &'a str,
    /// `Content-Length`, where given; never together with `chunked`.
    pub content_length: Option<u64>,
    /// Whether the body is chunked.
    pub chunked: bool,
    /// Whether the client wants to keep the connection (RFC 9112, 9.3).
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` (RFC 9110, 10.1.1).
    pub expect_continue: bool,
    /// Whether the client asks for a WebSocket (RFC 6455, 4.1).
    pub websocket: bool,
    /// Whether the client reads trailers (RFC 9110, 10.1.4).
    pub trailers: bool,
    fields: &'a [u8],
}

impl<'a> HeadView<'a> {
    /// Whether a body follows the head.
    pub fn has_body(&self) -> bool {
        self.chunked || self.content_length.is_some_and(|n| n > 0)
    }

    /// Names and values of the fields, in order, without white space around the values.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        section(self.fields)
    }
}

/// Names and values of a field section that was checked before, up to its empty line: it is taken apart, and not checked
/// again. An error, which cannot come, would only end the list.
pub fn section<'a>(bytes: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let end = rest.iter().position(|b| matches!(b, b':' | b'\r'))?;
        let (name, after) = rest.split_at_checked(end)?;
        let after = after.strip_prefix(b":")?;
        let (value, after) = after.split_at_checked(text_length(after))?;
        rest = after.strip_prefix(b"\r\n")?;
        Some((name, trim(value)))
    })
}

/// Checks a request head, from its first byte to its empty line, and nothing after it.
///
/// Refuses with `request.malformed` what breaks RFC 9112: line ends other than CRLF, folded lines, white space before a
/// colon, control characters, names that are no tokens, more than single spaces in the request line, versions other
/// than HTTP/1.0 and HTTP/1.1, non-ASCII in fields that decide anything. Refuses with `request.ambiguous` what two
/// recipients could read differently: no or two `Host`s, `Content-Length` beside `Transfer-Encoding`, lists or
/// repetition in either, codings other than `chunked`, `Connection` naming fields that are not of the connection,
/// repeated `Authorization`, `Cookie` and other single fields, upgrades to anything but a WebSocket (in particular
/// `h2c`, with which requests are hidden in a tunnel), and headers that override method or path.
/// Then `method.not-allowed`, as [`Method::read`] says, and `request.too-large` beyond `limits`, where the cause
/// [`LINE_TOO_LONG`] tells 414 from 431.
///
/// After a refusal the connection is to be closed: where the body ends is not known.
pub fn check<'a>(head: &'a [u8], limits: &HeadLimits) -> Result<HeadView<'a>, Refusal> {
    check_each(head, limits, |_, _| {})
}

/// The same, and gives out name and value of each field as it is read, so that nobody needs to read them again. Of a head
/// that is refused in the end, those before the reason have been given out.
pub fn check_each<'a>(
    head: &'a [u8],
    limits: &HeadLimits,
    mut each: impl FnMut(&'a [u8], &'a [u8]),
) -> Result<HeadView<'a>, Refusal> {
    let line = memchr2(b'\r', b'\n', head).unwrap_or(head.len());
    if line > limits.line {
        return Err(too_large(LINE_TOO_LONG));
    }
    if head.len() > limits.bytes {
        return Err(too_large("head is too large"));
    }
    let (line, rest) = head.split_at_checked(line).ok_or_else(|| malformed("head is not complete"))?;
    let first = rest.strip_prefix(b"\r\n").ok_or_else(|| line_end(rest))?;
    let (method, target, version) = request_line(line)?;
    let wire = match version {
        Version::Http10 => Wire::Http10,
        Version::Http11 => Wire::Http11,
    };

    let (mut rest, mut count, mut fields) = (first, 0usize, Fields::default());
    let rest = loop {
        if let Some(after) = rest.strip_prefix(b"\r\n") {
            break after;
        }
        let field = field(rest)?;
        count += 1;
        if count > limits.count {
            return Err(too_large("too many header fields"));
        }
        fields.take(wire, field.name, field.value)?;
        each(field.name, field.value);
        rest = field.rest;
    };
    if !rest.is_empty() {
        return Err(malformed("bytes after the head"));
    }
    if fields.chunked && fields.content_length.is_some() {
        return Err(ambiguous("Content-Length with Transfer-Encoding"));
    }
    let websocket = fields.websocket(wire)?;
    let host = fields.host.ok_or_else(|| ambiguous("no Host"))?;
    let method = Method::read(method)?;
    if websocket && method != Method::Get {
        return Err(ambiguous("Upgrade with a method other than GET"));
    }
    Ok(HeadView {
        method,
        target,
        version,
        host,
        content_length: fields.content_length,
        chunked: fields.chunked,
        keep_alive: !fields.close && (version == Version::Http11 || fields.keep_alive),
        expect_continue: fields.expect_continue,
        websocket,
        trailers: fields.trailers.unwrap_or_default(),
        fields: first,
    })
}

/// RFC 9112, 3: `method SP request-target SP HTTP-version`.
fn request_line(line: &[u8]) -> Result<(&[u8], &str, Version), Refusal> {
    let mut parts = line.split(|b| *b == b' ');
    let (method, target, version) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(method), Some(target), Some(version), None) => (method, target, version),
        _ => return Err(malformed("request line is not three words")),
    };
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Err(malformed("method is not a token"));
    }
    if target.is_empty() {
        return Err(malformed("empty target"));
    }
    if !target.iter().all(u8::is_ascii_graphic) {
        return Err(if target.iter().any(u8::is_ascii_control) {
            malformed("control character in target")
        } else {
            ambiguous("non-ASCII character in target")
        });
    }
    let target = std::str::from_utf8(target).map_err(|_| ambiguous("non-ASCII character in target"))?;
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        _ => return Err(malformed("version is neither HTTP/1.1 nor HTTP/1.0")),
    };
    Ok((method, target, version))
}

pub(crate) struct Field<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) rest: &'a [u8],
}

/// RFC 9112, 5: `field-name ":" OWS field-value OWS CRLF`.
pub(crate) fn field(bytes: &[u8]) -> Result<Field<'_>, Refusal> {
    let end = bytes.iter().position(|b| !is_token(*b)).unwrap_or(bytes.len());
    let (name, rest) = bytes.split_at_checked(end).ok_or_else(|| malformed("head is not complete"))?;
    let rest = match (name, rest) {
        (_, []) => return Err(malformed("head is not complete")),
        ([], [b' ' | b'\t', ..]) => return Err(malformed("folded line")),
        (_, [b'\r' | b'\n', ..]) => return Err(if name.is_empty() { line_end(rest) } else { malformed("no colon") }),
        ([_, ..], [b':', rest @ ..]) => rest,
        ([_, ..], [b' ' | b'\t', ..]) => return Err(malformed("white space before colon")),
        _ => return Err(malformed("invalid field name")),
    };
    let (value, rest) = rest.split_at_checked(text_length(rest)).unwrap_or((rest, &[]));
    let rest = match rest {
        [b'\r', b'\n', rest @ ..] => rest,
        [] | [b'\r' | b'\n', ..] => return Err(line_end(rest)),
        _ => return Err(malformed("control character in field value")),
    };
    Ok(Field { name, value: trim(value), rest })
}

/// Number of bytes before the first that may not stand in a field value.
pub(crate) fn text_length(bytes: &[u8]) -> usize {
    // Whole chunks without a control character are most of a head, and a branch-free test of a chunk is one of vectors.
    let is_clean = |chunk: &[u8; 16]| !chunk.iter().fold(false, |found, b| found | (*b < b' ') | (*b == 0x7f));
    let clean = bytes.as_chunks::<16>().0.iter().take_while(|chunk| is_clean(chunk)).count() * 16;
    let mut at = clean;
    for word in bytes.get(clean..).unwrap_or_default().as_chunks::<8>().0 {
        let control = first_control(*word);
        at += control;
        if control < word.len() {
            break;
        }
    }
    let tail = bytes.get(at..).unwrap_or_default();
    at + tail.iter().position(|b| !is_text(*b)).unwrap_or(tail.len())
}

/// Where the first control character is, tabs among them; 8 where there is none. In a word, a byte below 0x20 borrows from
/// its own high bit, and DEL becomes zero, which borrows too; what the borrow spoils stands behind it.
const fn first_control(word: [u8; 8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let word = u64::from_le_bytes(word);
    let del = word ^ (0x7f * ONES);
    let low = word.wrapping_sub(0x20 * ONES) & !word;
    let found = (low | (del.wrapping_sub(ONES) & !del)) & (0x80 * ONES);
    (found.trailing_zeros() / 8) as usize
}

/// Why these bytes are no CRLF (RFC 9112, 2.2).
fn line_end(rest: &[u8]) -> Refusal {
    match rest {
        [] | [b'\r'] => malformed("head is not complete"),
        [b'\n', ..] => malformed("bare line feed"),
        _ => malformed("bare carriage return"),
    }
}

#[cfg(test)]
mod tests;
