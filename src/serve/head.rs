//! Reading a request head: one deadline for the first byte, one for the rest, and limits on what is kept meanwhile.
use super::lane::UNREAD;
use super::listener::Glimpse;
use super::stream::Wire;
use crate::config::settings::Listener;
use bytes::Bytes;
use decide::head::{HeadLimits, HeadView, LINE_TOO_LONG, Version, check_each};
use decide::refusal::{Code, Refusal};
use decide::request::Request;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use memchr::memchr_iter;
use tokio::time::Instant;

/// Longest text of a [`Glimpse`], in bytes.
const GLIMPSE: usize = 256;
/// Room for the fields of the usual head, and those that the gateway adds.
pub(crate) const USUAL_FIELDS: usize = 24;

/// What came of waiting for a head.
pub(crate) enum Read {
    /// A head that keeps to the grammar, taken out of the wire.
    Head(Taken),
    /// The client has left.
    Gone,
    /// Nothing came in time.
    Idle,
    /// Something came that is not served.
    Refused(Refusal, Glimpse),
}

/// A head that was found good, with its bytes and what was read of them on the way.
#[derive(Debug)]
pub struct Taken {
    /// The bytes, of which target and values are slices.
    pub(crate) raw: Bytes,
    /// What the loop of the connection needs to know.
    pub(crate) head: Head,
    /// The method.
    pub(crate) method: Method,
    /// The target as sent.
    pub(crate) target: Bytes,
    /// The fields.
    pub(crate) fields: HeaderMap,
}

/// A head that was found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head with its empty line.
    pub(crate) length: usize,
    /// What follows it.
    pub(crate) after: After,
    /// Whether it is of HTTP/1.0.
    pub(crate) old: bool,
    /// Whether the client wants to keep the connection.
    pub(crate) keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub(crate) expects: bool,
    /// Whether it reads trailers.
    pub(crate) trailers: bool,
    /// Whether it says how long the body is.
    pub(crate) says_length: bool,
}

/// What follows a head on the wire, before the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// A body of so many bytes; often none.
    Body(u64),
    /// Chunks, whose end only reading on can tell.
    Chunks,
    /// A body of so many bytes, then WebSocket frames, if the application agrees.
    WebSocket(u64),
}

/// Waits for the next head of `wire`. Cancel-safe: what was read stays in the wire.
pub(crate) async fn read_head(wire: &mut Wire, settings: &Listener) -> Read {
    if wire.pending().is_empty() {
        match wire.fill_until(Instant::now() + settings.idle_timeout).await {
            Some(Ok(0) | Err(_)) => return Read::Gone,
            Some(Ok(_)) => {}
            None => return Read::Idle,
        }
    }
    let mut deadline = None;
    let mut scan = Scan::default();
    loop {
        match scan.advance(wire.pending(), &settings.head) {
            Progress::Complete(length) => {
                let raw = wire.take_head(length);
                return match judge(&raw, &settings.head) {
                    Ok(taken) => Read::Head(taken),
                    Err(refusal) => {
                        wire.give_back(&raw);
                        Read::Refused(refusal, glimpse(&raw))
                    }
                };
            }
            Progress::Refused(refusal) => return Read::Refused(refusal, glimpse(wire.pending())),
            Progress::More => {}
        }
        // Most heads come in one piece, and need no clock.
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + settings.header_timeout);
        match wire.fill_until(deadline).await {
            Some(Ok(0) | Err(_)) => return Read::Gone,
            Some(Ok(_)) => {}
            None => {
                let refusal = Refusal::new(Code::RequestTimeout, "the head was not complete in time");
                return Read::Refused(refusal, glimpse(wire.pending()));
            }
        }
    }
}

fn judge(raw: &Bytes, limits: &HeadLimits) -> Result<Taken, Refusal> {
    let mut fields = Some(HeaderMap::with_capacity(USUAL_FIELDS));
    let view = check_each(raw, limits, |name, value| add_field(&mut fields, raw, name, value))?;
    one_spelling(&view)?;
    // The grammar is the stricter one, so that neither of these comes.
    let unread = || Refusal::new(Code::RequestMalformed, UNREAD);
    let method = Method::from_bytes(view.method.as_str().as_bytes()).map_err(|_| unread())?;
    let fields = fields.ok_or_else(unread)?;
    let body = view.content_length.unwrap_or(0);
    let after = if view.chunked {
        After::Chunks
    } else if view.websocket {
        After::WebSocket(body)
    } else {
        After::Body(body)
    };
    let head = Head {
        length: raw.len(),
        after,
        old: view.version == Version::Http10,
        keep_alive: view.keep_alive,
        expects: view.expect_continue,
        trailers: view.trailers,
        says_length: view.content_length.is_some(),
    };
    Ok(Taken { raw: raw.clone(), head, method, target: raw.slice_ref(view.target.as_bytes()), fields })
}

/// Adds a field that lies in `raw` to the fields of a head; they are none where it is none.
pub(crate) fn add_field(fields: &mut Option<HeaderMap>, raw: &Bytes, name: &[u8], value: &[u8]) {
    let Some(map) = fields else { return };
    let value = if value.is_empty() { Bytes::new() } else { raw.slice_ref(value) };
    let added = HeaderName::from_bytes(name).ok().zip(HeaderValue::from_maybe_shared(value).ok());
    if added.is_none_or(|(name, value)| map.try_append(name, value).is_err()) {
        *fields = None;
    }
}

/// In absolute-form (RFC 9112, 3.2.2) the authority stands twice. Where the two are the same host in other letters, or
/// with the port that goes without saying, pingora would refuse by itself, undressed and unrecorded; so we do.
fn one_spelling(view: &HeadView<'_>) -> Result<(), Refusal> {
    if view.target.starts_with('/') {
        return Ok(());
    }
    Request::parse(view.method.as_str(), view.target, view.host)?;
    let rest = view.target.split_once("://").map_or("", |(_, rest)| rest);
    match rest.get(..rest.find(['/', '?']).unwrap_or(rest.len())) {
        Some(authority) if authority == view.host => Ok(()),
        Some(_) | None => Err(Refusal::new(Code::RequestAmbiguous, "target and Host spell the authority differently")),
    }
}

/// How far a growing head has been looked at.
#[derive(Debug, Default)]
struct Scan {
    seen: usize,
    line_start: usize,
    first_line_done: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Complete(usize),
    More,
    Refused(Refusal),
}

impl Scan {
    fn advance(&mut self, bytes: &[u8], limits: &HeadLimits) -> Progress {
        let from = self.seen;
        for at in memchr_iter(b'\n', bytes.get(from..).unwrap_or_default()).map(|at| from + at) {
            self.seen = at + 1;
            if at == 0 || bytes.get(at - 1) != Some(&b'\r') {
                return Progress::Refused(Refusal::new(Code::RequestMalformed, "a line ends without carriage return"));
            }
            if !self.first_line_done && at - 1 > limits.line {
                return too_large(LINE_TOO_LONG);
            }
            if at + 1 > limits.bytes {
                return too_large("head is too large");
            }
            // An empty line ends the head, also where it is the first one: the grammar then refuses the whole.
            if at == self.line_start + 1 {
                return Progress::Complete(at + 1);
            }
            self.line_start = at + 1;
            self.first_line_done = true;
        }
        self.seen = bytes.len();
        if !self.first_line_done && bytes.len() > limits.line.saturating_add(2) {
            return too_large(LINE_TOO_LONG);
        }
        if bytes.len() > limits.bytes {
            return too_large("head is too large");
        }
        Progress::More
    }
}

fn too_large(cause: &'static str) -> Progress {
    Progress::Refused(Refusal::new(Code::RequestTooLarge, cause))
}

/// Picks out of a head, perhaps broken or half read, what helps whoever reads the audit log.
pub(crate) fn glimpse(head: &[u8]) -> Glimpse {
    let head = head.get(..head.len().min(GLIMPSE * 16)).unwrap_or_default();
    let mut lines = head.split(|b| *b == b'\n');
    let mut words = lines.next().unwrap_or_default().split(|b| *b == b' ' || *b == b'\r');
    let method = words.next();
    let path = words.next().and_then(|target| target.split(|b| *b == b'?').next());
    let host = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(5)?;
        name.eq_ignore_ascii_case(b"host:").then_some(value)
    });
    Glimpse { method: text(method), host: text(host), path: text(path) }
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    let bytes = bytes?.trim_ascii();
    let bytes = bytes.get(..bytes.len().min(GLIMPSE)).unwrap_or_default();
    let text: String =
        String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 64, count: 10, line: 24 };

    fn scan(bytes: &[u8], piece: usize) -> Progress {
        let mut scan = Scan::default();
        let mut end = 0;
        loop {
            end = bytes.len().min(end + piece);
            match scan.advance(&bytes[..end], &LIMITS) {
                Progress::More if end < bytes.len() => {}
                done => return done,
            }
        }
    }

    #[test]
    fn a_head_ends_at_its_empty_line_however_it_arrives() {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /next";
        for piece in 1..request.len() {
            assert_eq!(scan(request, piece), Progress::Complete(27), "pieces of {piece}");
        }
        assert_eq!(scan(b"\r\nGET / HTTP/1.1\r\n\r\n", 1), Progress::Complete(2));
        assert_eq!(scan(b"GET / HTTP/1.1\r\nHost: a\r\n", 3), Progress::More);
    }

    #[test]
    fn bare_line_feeds_and_excess_end_the_reading_at_once() {
        let code = |bytes: &[u8], piece| match scan(bytes, piece) {
            Progress::Refused(refusal) => refusal.code,
            other => panic!("{other:?}"),
        };
        for piece in [1, 7, 100] {
            assert_eq!(code(b"GET /aaaaaaaaaaaaa HTTP/1.1\r\n\r\n", piece), Code::RequestTooLarge);
            assert_eq!(code(b"GET / HTTP/1.1\nHost: a\n\n", piece), Code::RequestMalformed);
            assert_eq!(code(b"\n", piece), Code::RequestMalformed);
            assert_eq!(code(&[b'a'; 40], piece), Code::RequestTooLarge);
            let long = [b"GET / HTTP/1.1\r\n".as_slice(), &[b'a'; 60]].concat();
            assert_eq!(code(&long, piece), Code::RequestTooLarge);
            let many = [b"GET / HTTP/1.1\r\n".as_slice(), &b"a: b\r\n".repeat(20), b"\r\n"].concat();
            assert_eq!(code(&many, piece), Code::RequestTooLarge);
        }
    }

    #[test]
    fn a_glimpse_is_bounded_and_printable() {
        let seen = glimpse(b"GET /a\x1b[2Jb?secret=1 HTTP/1.1\r\nhOST:  x.example \r\n");
        assert_eq!(seen.method.as_deref(), Some("GET"));
        assert_eq!(seen.path.as_deref(), Some("/a\u{fffd}[2Jb"));
        assert_eq!(seen.host.as_deref(), Some("x.example"));
        assert_eq!(glimpse(&[0xff; 100_000]).method.map(|m| m.chars().count()), Some(GLIMPSE));
        assert_eq!(glimpse(b""), Glimpse::default());
    }
}
