//! Heads that pass, heads that are refused and why, and what a changed byte must not change.
use super::*;
use proptest::prelude::*;

fn read(head: impl AsRef<[u8]>) -> String {
    match check(head.as_ref(), &HeadLimits::default()) {
        Ok(view) => {
            let mut out = format!("{} {} {}", view.method.as_str(), view.host, view.target);
            for (flag, word) in [
                (view.version == Version::Http10, " 1.0".to_owned()),
                (view.content_length.is_some(), format!(" length={}", view.content_length.unwrap_or_default())),
                (view.chunked, " chunked".to_owned()),
                (!view.keep_alive, " close".to_owned()),
                (view.expect_continue, " expect".to_owned()),
                (view.websocket, " websocket".to_owned()),
                (view.has_body(), " body".to_owned()),
            ] {
                out.push_str(if flag { &word } else { "" });
            }
            out
        }
        Err(refusal) => format!("{}: {}", refusal.code.id(), refusal.cause),
    }
}

/// A head with `Host: a` and these further lines.
fn with(lines: &str) -> String {
    let line_end = if lines.is_empty() { "" } else { "\r\n" };
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}{line_end}\r\n")
}

#[test]
fn heads_that_pass() {
    for (lines, expected) in [
        ("", "GET a /"),
        ("Accept: */*", "GET a /"),
        ("X-Empty:", "GET a /"),
        ("X:  \t a\tb \t", "GET a /"),
        ("X-Utf8: caf\u{e9}", "GET a /"),
        ("x!#$%&'*+-.^_`|~9: a", "GET a /"),
        ("Content-Length: 0", "GET a / length=0"),
        ("Content-Length:5", "GET a / length=5 body"),
        ("content-length: 5 ", "GET a / length=5 body"),
        ("Transfer-Encoding: chunked", "GET a / chunked body"),
        ("TRANSFER-ENCODING:chunked", "GET a / chunked body"),
        ("Connection: close", "GET a / close"),
        ("Connection: keep-alive, Close", "GET a / close"),
        ("Connection: keep-alive\r\nConnection: close", "GET a / close"),
        ("Connection: TE\r\nTE: trailers, deflate;q=0.5", "GET a /"),
        ("Expect: 100-Continue\r\nContent-Length: 1", "GET a / length=1 expect body"),
        ("Connection: keep-alive, Upgrade\r\nUpgrade: websocket", "GET a / websocket"),
        ("Cookie: a=b; c=d", "GET a /"),
        ("Accept: a\r\nAccept: b\r\nX-Forwarded-For: 1\r\nX-Forwarded-For: 2", "GET a /"),
    ] {
        assert_eq!(read(with(lines)), expected, "{lines:?}");
    }
    for (head, expected) in [
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "GET a / 1.0 close"),
        ("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", "GET a / 1.0"),
        (
            "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
            "POST a / 1.0 length=1 close body",
        ),
        ("DELETE /a?b HTTP/1.1\r\nHOST:\tb:80\r\n\r\n", "DELETE b:80 /a?b"),
        ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "GET a http://a/"),
    ] {
        assert_eq!(read(head), expected, "{head:?}");
    }
}

/// RFC 9112, 2.2, 3 and 5: one way to write a line.
#[test]
fn grammar() {
    for (head, expected) in [
        ("GET / HTTP/1.1\nHost: a\n\n", "request.malformed: bare line feed"),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", "request.malformed: bare line feed"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", "request.malformed: bare line feed"),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", "request.malformed: bare line feed"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\nTransfer-Encoding: chunked\r\n\r\n", "request.malformed: bare line feed"),
        ("GET / HTTP/1.1\rHost: a\r\n\r\n", "request.malformed: bare carriage return"),
        ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", "request.malformed: bare carriage return"),
        ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", "request.malformed: bare carriage return"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", "request.malformed: bare carriage return"),
        ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "request.malformed: folded line"),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "request.malformed: folded line"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\tb: c\r\n\r\n", "request.malformed: folded line"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "request.malformed: white space before colon"),
        ("GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", "request.malformed: white space before colon"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n", "request.malformed: white space before colon"),
        ("GET / HTTP/1.1\r\n: a\r\n\r\n", "request.malformed: invalid field name"),
        ("GET / HTTP/1.1\r\nH\0st: a\r\n\r\n", "request.malformed: invalid field name"),
        ("GET / HTTP/1.1\r\nH(st: a\r\n\r\n", "request.malformed: invalid field name"),
        ("GET / HTTP/1.1\r\nH\u{f6}st: a\r\n\r\n", "request.malformed: invalid field name"),
        ("GET / HTTP/1.1\r\n\u{feff}Host: a\r\n\r\n", "request.malformed: invalid field name"),
        ("GET / HTTP/1.1\r\nHost\r\n\r\n", "request.malformed: no colon"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "request.malformed: control character in field value"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\x0bb\r\n\r\n", "request.malformed: control character in field value"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\x7f\r\n\r\n", "request.malformed: control character in field value"),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "request.malformed: request line is not three words"),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "request.malformed: request line is not three words"),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "request.malformed: request line is not three words"),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "request.malformed: request line is not three words"),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "request.malformed: request line is not three words"),
        ("GET /\r\nHost: a\r\n\r\n", "request.malformed: request line is not three words"),
        ("GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", "request.malformed: request line is not three words"),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "request.malformed: request line is not three words"),
        ("GET /\t HTTP/1.1\r\nHost: a\r\n\r\n", "request.malformed: control character in target"),
        ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", "request.malformed: control character in target"),
        ("GET /caf\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", "request.ambiguous: non-ASCII character in target"),
        (" / HTTP/1.1\r\nHost: a\r\n\r\n", "request.malformed: method is not a token"),
        ("G\"T / HTTP/1.1\r\nHost: a\r\n\r\n", "request.malformed: method is not a token"),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", "request.malformed: version is neither HTTP/1.1 nor HTTP/1.0"),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "request.malformed: version is neither HTTP/1.1 nor HTTP/1.0"),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", "request.malformed: version is neither HTTP/1.1 nor HTTP/1.0"),
        ("GET / HTTP/01.1\r\nHost: a\r\n\r\n", "request.malformed: version is neither HTTP/1.1 nor HTTP/1.0"),
        ("PRI * HTTP/2.0\r\n\r\n", "request.malformed: version is neither HTTP/1.1 nor HTTP/1.0"),
        ("", "request.malformed: head is not complete"),
        ("GET", "request.malformed: head is not complete"),
        ("GET / HTTP/1.1\r\n", "request.malformed: head is not complete"),
        ("GET / HTTP/1.1\r\nHost: a\r\n", "request.malformed: head is not complete"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r", "request.malformed: head is not complete"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\nX", "request.malformed: bytes after the head"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\nX: y\r\n\r\n", "request.malformed: bytes after the head"),
    ] {
        assert_eq!(read(head), expected, "{head:?}");
    }
}

/// RFC 9112, 6.3 and RFC 9110, 7.2: who a message is for and where it ends has one answer.
#[test]
fn framing() {
    for (lines, expected) in [
        ("Host: a", "request.ambiguous: repeated Host"),
        ("host: b", "request.ambiguous: repeated Host"),
        ("Content-Length: 5\r\nContent-Length: 5", "request.ambiguous: repeated Content-Length"),
        ("Content-Length: 5\r\nContent-Length: 6", "request.ambiguous: repeated Content-Length"),
        ("Content-Length: 5, 5", "request.ambiguous: list in Content-Length"),
        ("Content-Length: +5", "request.malformed: Content-Length is not a number"),
        ("Content-Length:", "request.malformed: Content-Length is not a number"),
        ("Content-Length: 05", "request.ambiguous: leading zero in Content-Length"),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", "request.ambiguous: Content-Length with Transfer-Encoding"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", "request.ambiguous: Content-Length with Transfer-Encoding"),
        ("Transfer-Encoding: gzip, chunked", "request.ambiguous: transfer coding other than `chunked`"),
        ("Transfer-Encoding: chunked, chunked", "request.ambiguous: transfer coding other than `chunked`"),
        ("Transfer-Encoding: ,chunked", "request.ambiguous: transfer coding other than `chunked`"),
        ("Transfer-Encoding: identity", "request.ambiguous: transfer coding other than `chunked`"),
        ("Transfer-Encoding: chunked;q=1", "request.ambiguous: transfer coding other than `chunked`"),
        ("Transfer-Encoding: Chunked", "request.ambiguous: transfer coding other than `chunked`"),
        ("Transfer-Encoding: \"chunked\"", "request.ambiguous: transfer coding other than `chunked`"),
        ("Transfer-Encoding: xchunked", "request.ambiguous: transfer coding other than `chunked`"),
        ("Transfer-Encoding:", "request.ambiguous: transfer coding other than `chunked`"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "request.ambiguous: repeated Transfer-Encoding"),
        ("Transfer-Encoding: \x0bchunked", "request.malformed: control character in field value"),
        ("Transfer-Encoding: chunked\u{a0}", "request.malformed: non-ASCII character in a field that decides"),
        ("Content-Length: \u{665}", "request.malformed: non-ASCII character in a field that decides"),
    ] {
        assert_eq!(read(with(lines)), expected, "{lines:?}");
    }
    for (head, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", "request.ambiguous: no Host"),
        ("GET / HTTP/1.0\r\n\r\n", "request.ambiguous: no Host"),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "request.malformed: empty host"),
        ("GET / HTTP/1.1\r\nHost: \u{e4}\r\n\r\n", "request.malformed: non-ASCII character in a field that decides"),
        (
            "GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "request.ambiguous: Transfer-Encoding in HTTP/1.0",
        ),
    ] {
        assert_eq!(read(head), expected, "{head:?}");
    }
}

#[test]
fn single_fields_and_the_connection() {
    for (lines, expected) in [
        ("Authorization: a\r\nAuthorization: b", "request.ambiguous: repeated Authorization"),
        ("Cookie: a=1\r\nCookie: b=2", "request.ambiguous: repeated Cookie"),
        ("Origin: null\r\nOrigin: https://a", "request.ambiguous: repeated field that may come once"),
        ("Referer: a\r\nReferer: b", "request.ambiguous: repeated field that may come once"),
        ("Content-Type: a/b\r\nContent-Type: a/b", "request.ambiguous: repeated field that may come once"),
        ("Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site", "request.ambiguous: repeated field that may come once"),
        ("Idempotency-Key: a\r\nIdempotency-Key: b", "request.ambiguous: repeated field that may come once"),
        ("Cookie: caf\u{e9}=1", "request.malformed: non-ASCII character in a field that decides"),
        ("Authorization: Bearer \u{e9}", "request.malformed: non-ASCII character in a field that decides"),
        ("Connection: host", "request.ambiguous: Connection names a field that is not of the connection"),
        (
            "Connection: close, Authorization",
            "request.ambiguous: Connection names a field that is not of the connection",
        ),
        ("Connection: X-Tenant-Id", "request.ambiguous: Connection names a field that is not of the connection"),
        ("Connection: X-Forwarded-For", "request.ambiguous: Connection names a field that is not of the connection"),
        ("Connection: content-length", "request.ambiguous: Connection names a field that is not of the connection"),
        ("Connection: transfer-encoding", "request.ambiguous: Connection names a field that is not of the connection"),
        ("Connection: close cookie", "request.ambiguous: Connection names a field that is not of the connection"),
        ("Expect: 200-ok", "request.malformed: unknown expectation"),
        ("Expect:", "request.malformed: unknown expectation"),
        ("Expect: 100-continue\r\nExpect: 100-continue", "request.ambiguous: repeated field that may come once"),
        ("Upgrade: websocket", "request.ambiguous: Upgrade without `Connection: upgrade`"),
        ("Connection: upgrade", "request.ambiguous: `Connection: upgrade` without Upgrade"),
        ("Connection: upgrade\r\nUpgrade: h2c", "request.ambiguous: upgrade to something other than a WebSocket"),
        (
            "Connection: upgrade\r\nUpgrade: websocket, h2c",
            "request.ambiguous: upgrade to something other than a WebSocket",
        ),
        ("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1", "request.ambiguous: Upgrade with a body"),
        (
            "Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked",
            "request.ambiguous: Upgrade with a body",
        ),
        ("HTTP2-Settings: AAMAAABkAAQAAP__", "request.ambiguous: upgrade to HTTP/2 inside a connection"),
        ("X-HTTP-Method-Override: DELETE", "request.ambiguous: field that overrides method, path or proxy"),
        ("X_HTTP_Method_Override: DELETE", "request.ambiguous: field that overrides method, path or proxy"),
        ("X-Original-URL: /admin", "request.ambiguous: field that overrides method, path or proxy"),
        ("x-rewrite-url: /admin", "request.ambiguous: field that overrides method, path or proxy"),
        ("Proxy: http://evil", "request.ambiguous: field that overrides method, path or proxy"),
    ] {
        assert_eq!(read(with(lines)), expected, "{lines:?}");
    }
    for (head, expected) in [
        (
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "request.ambiguous: Upgrade with a method other than GET",
        ),
        (
            "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "request.ambiguous: Upgrade outside HTTP/1.1",
        ),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "method.not-allowed: method cannot be routed"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "method.not-allowed: method cannot be routed"),
        ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", "method.not-allowed: method cannot be routed"),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", "method.not-allowed: method cannot be routed"),
    ] {
        assert_eq!(read(head), expected, "{head:?}");
    }
}

#[test]
fn a_control_character_is_seen_at_every_place() {
    for length in 1..50 {
        for at in 0..length {
            for control in (0u8..32).chain([127]).filter(|b| *b != b'\t') {
                let mut value = vec![b'v'; length];
                value[at] = control;
                let head = [b"GET / HTTP/1.1\r\nHost: a\r\nX:".as_slice(), &value, b"\r\n\r\n"].concat();
                assert!(read(&head).starts_with("request.malformed"), "{control} at {at} of {length}");
            }
        }
    }
}

#[test]
fn limits_are_inclusive() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    let exact = HeadLimits { bytes: head.len(), count: 2, line: "GET / HTTP/1.1".len() };
    let decide = |limits: &HeadLimits| check(head.as_bytes(), limits).map(|_| ()).map_err(|r| (r.code.id(), r.cause));
    assert_eq!(decide(&exact), Ok(()));
    for (limits, cause) in [
        (HeadLimits { bytes: exact.bytes - 1, ..exact }, "head is too large"),
        (HeadLimits { count: 1, ..exact }, "too many header fields"),
        (HeadLimits { line: exact.line - 1, ..exact }, LINE_TOO_LONG),
    ] {
        assert_eq!(decide(&limits), Err(("request.too-large", cause.into())));
    }
}

#[test]
fn the_fields_of_a_view_are_those_of_the_head() {
    let head = with("X: a b \r\nEmpty:\r\nx_y:\tz");
    let view = check(head.as_bytes(), &HeadLimits::default()).unwrap();
    let fields: Vec<_> = view.fields().map(|(n, v)| [n, v].map(|b| std::str::from_utf8(b).unwrap())).collect();
    assert_eq!(fields, [["Host", "a"], ["X", "a b"], ["Empty", ""], ["x_y", "z"]]);
}

/// Heads made of the pieces that attacks are made of.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("Host: a\r\n".to_owned()),
        Just("Content-Length: 5\r\n".to_owned()),
        Just("Transfer-Encoding: chunked\r\n".to_owned()),
        Just("Connection: close\r\n".to_owned()),
        "[A-Za-z-]{1,6}:[ \t]?[ -~]{0,6}\r\n",
        "[\r\n\t :\0]{1,3}",
    ];
    prop::collection::vec(piece, 0..6).prop_map(|p| format!("GET / HTTP/1.1\r\n{}\r\n", p.concat()).into_bytes())
}

proptest! {
    #[test]
    fn a_value_ends_where_it_ends_byte_for_byte(bytes in proptest::collection::vec(
        prop_oneof![8 => b' '..=b'~', 2 => 0x80u8.., 1 => 0u8.., 1 => Just(b'\t'), 1 => 0x7eu8..=0x81], 0..60
    )) {
        let end = bytes.iter().position(|b| !is_text(*b)).unwrap_or(bytes.len());
        prop_assert_eq!(text_length(&bytes), end);
    }

    #[test]
    fn any_bytes_are_decided(head in any::<Vec<u8>>()) {
        let _ = read(head);
    }

    /// What passes has the same lines for a reader that splits at CRLF, at LF, or at CR.
    #[test]
    fn what_passes_has_one_reading(head in hostile()) {
        if let Ok(view) = check(&head, &HeadLimits::default()) {
            let text = String::from_utf8(head.clone()).unwrap();
            let lines = text.matches("\r\n").count();
            prop_assert_eq!(text.matches('\n').count(), lines);
            prop_assert_eq!(text.matches('\r').count(), lines);
            prop_assert_eq!(view.fields().count() + 2, lines);
            prop_assert!(!(view.chunked && view.content_length.is_some()));
            let lengths = view.fields().filter(|(n, _)| n.eq_ignore_ascii_case(b"content-length")).count();
            prop_assert!(lengths <= 1);
        }
    }

    /// A changed byte in a field that frames nothing is refused or changes nothing that frames.
    #[test]
    fn a_flipped_bit_elsewhere_frames_nothing(at in 0usize..16, bit in 0u32..8) {
        let lines = "Content-Length: 5\r\nUser-Agent: 0123456789abcdef\r\nX: y";
        let mut head = with(lines).into_bytes();
        let before = read(&head);
        let start = head.windows(4).position(|w| w == b"0123").unwrap();
        head[start + at] ^= 1 << bit;
        let after = read(&head);
        prop_assert!(after == before || after.starts_with("request.malformed"), "{}", after);
    }

    /// A cut head is never taken for a whole one.
    #[test]
    fn a_cut_head_is_refused(cut in 1usize..60) {
        let head = with("Content-Length: 5\r\nConnection: close\r\nAccept: */*");
        prop_assert!(read(&head[..head.len() - cut]).starts_with("request.malformed"));
    }
}
