//! The policy of header fields, one for HTTP/1 and HTTP/2: which may come once, which never, and what frames the body.
use crate::head::{HeadLimits, text_length};
use crate::refusal::{Code, Refusal};
use crate::request::is_token;

/// The greatest `Content-Length`: what every reader's signed 64-bit number can hold.
pub const MAX_CONTENT_LENGTH: u64 = i64::MAX as u64;

/// What the fields of an HTTP/2 request say, beside its pseudo-header fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldsView<'a> {
    /// `:authority`, or `Host` where there is none (RFC 9113, 8.3.1). Its syntax is the matter of `Request::parse`.
    pub host: &'a str,
    /// `Content-Length`, where given.
    pub content_length: Option<u64>,
    /// Whether the client waits for `100 Continue` (RFC 9110, 10.1.1).
    pub expect_continue: bool,
}

/// Checks the fields of an HTTP/2 request by the policy of [`crate::head::check`], and by RFC 9113: lowercase names
/// (8.2.1), no fields of the connection, `TE` only as `trailers` (8.2.2), `Host` like `:authority` (8.3.1).
/// Pseudo-header fields are the HTTP/2 layer's and not among `fields`. `Cookie` may be split (8.2.3).
pub fn check_fields<'a>(
    authority: Option<&'a str>,
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    limits: &HeadLimits,
) -> Result<FieldsView<'a>, Refusal> {
    let mut seen = Fields::default();
    let (mut count, mut bytes) = (0usize, 0usize);
    for (name, value) in fields {
        (count, bytes) = (count + 1, bytes + name.len() + value.len() + 4);
        if count > limits.count {
            return Err(too_large("too many header fields"));
        }
        if bytes > limits.bytes {
            return Err(too_large("head is too large"));
        }
        if name.is_empty() || !name.iter().copied().all(|b| is_token(b) && !b.is_ascii_uppercase()) {
            return Err(malformed("invalid field name"));
        }
        if text_length(value) != value.len() {
            return Err(malformed("control character in field value"));
        }
        if trim(value).len() != value.len() {
            return Err(malformed("white space around field value"));
        }
        seen.take(Wire::Http2, name, value)?;
    }
    let host = match (authority, seen.host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            return Err(ambiguous("Host and :authority disagree"));
        }
        (Some(host), _) | (None, Some(host)) => host,
        (None, None) => return Err(ambiguous("no Host")),
    };
    Ok(FieldsView { host, content_length: seen.content_length, expect_continue: seen.expect_continue })
}

/// Whether a field name is a twin of one of `ours`, the lowercase names that the gateway sets: equal for readers that
/// fold case and turn every mark into `_` or `-`, as CGI and its heirs do (RFC 3875, 4.1.18), and yet another name.
///
/// The very name, in any case, is no twin: it is stripped and replaced. Names of letters, digits and `-` are never
/// twins and cost one pass over the name.
pub fn twin_of(name: &[u8], ours: impl IntoIterator<Item: AsRef<str>>) -> bool {
    !is_plain(name) && ours.into_iter().any(|our| folds_to(name, our.as_ref().as_bytes()))
}

fn is_plain(name: &[u8]) -> bool {
    name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

fn folds_to(name: &[u8], our: &[u8]) -> bool {
    let alike = |(n, o): (&u8, &u8)| n.eq_ignore_ascii_case(o) || (*o == b'-' && !n.is_ascii_alphanumeric());
    name.len() == our.len() && name.iter().zip(our).all(alike)
}

/// The wire that a field came on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Http10,
    Http11,
    Http2,
}

/// What the fields read so far say.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a> {
    seen: u32,
    pub(crate) host: Option<&'a str>,
    pub(crate) content_length: Option<u64>,
    pub(crate) chunked: bool,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) expect_continue: bool,
    /// What the first `TE` says.
    pub(crate) trailers: Option<bool>,
    upgrade_named: bool,
    upgrade: bool,
}

impl<'a> Fields<'a> {
    /// Takes one field. `name` is a token, `value` is free of control characters and of white space around it.
    pub(crate) fn take(&mut self, wire: Wire, name: &[u8], value: &'a [u8]) -> Result<(), Refusal> {
        let Some(known) = Known::find(name) else {
            return Ok(());
        };
        if wire == Wire::Http2 && known.of_the_connection() {
            return Err(malformed("field of the connection in HTTP/2"));
        }
        // RFC 9110, 5.5: what bytes beyond ASCII mean is for each reader to say.
        if known != Known::Referer && !value.is_ascii() {
            return Err(malformed("non-ASCII character in a field that decides"));
        }
        if !known.may_repeat(wire) {
            let bit = 1 << known as u32;
            if self.seen & bit != 0 {
                return Err(ambiguous(known.repeated()));
            }
            self.seen |= bit;
        }
        match known {
            Known::Host => {
                let host = std::str::from_utf8(value).map_err(|_| malformed("invalid character in host"))?;
                if host.is_empty() {
                    return Err(malformed("empty host"));
                }
                self.host = Some(host);
            }
            Known::ContentLength => self.content_length = Some(content_length(value)?),
            Known::TransferEncoding => {
                // RFC 9112, 6.1: a sender of HTTP/1.0 does not know the coding, and its body would be read two ways.
                if wire == Wire::Http10 {
                    return Err(ambiguous("Transfer-Encoding in HTTP/1.0"));
                }
                // Names of codings ignore case, but not every reader does; every known client writes `chunked`.
                if value != b"chunked" {
                    return Err(ambiguous("transfer coding other than `chunked`"));
                }
                self.chunked = true;
            }
            Known::Connection => self.connection(value)?,
            Known::Upgrade => {
                if !value.eq_ignore_ascii_case(b"websocket") {
                    return Err(ambiguous("upgrade to something other than a WebSocket"));
                }
                self.upgrade = true;
            }
            Known::Expect => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(malformed("unknown expectation"));
                }
                // RFC 9110, 10.1.1: to be ignored in HTTP/1.0.
                self.expect_continue = wire != Wire::Http10;
            }
            Known::Te => {
                if wire == Wire::Http2 && value != b"trailers" {
                    return Err(malformed("TE other than `trailers` in HTTP/2"));
                }
                self.trailers.get_or_insert_with(|| value.eq_ignore_ascii_case(b"trailers"));
            }
            Known::Http2Settings => return Err(ambiguous("upgrade to HTTP/2 inside a connection")),
            Known::Override => return Err(ambiguous("field that overrides method, path or proxy")),
            Known::KeepAlive
            | Known::ProxyConnection
            | Known::Authorization
            | Known::ProxyAuthorization
            | Known::Cookie
            | Known::ContentType
            | Known::Origin
            | Known::Referer
            | Known::FetchSite
            | Known::FetchMode
            | Known::FetchDest
            | Known::FetchUser
            | Known::IdempotencyKey => {}
        }
        Ok(())
    }

    /// `Connection` makes a proxy drop the fields it names (RFC 9110, 7.6.1), which has served to drop identity and
    /// forwarding headers on the way. So only options and fields that are about the connection may be named.
    fn connection(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for option in value.split(|b| *b == b',') {
            let option = trim(option);
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            if is(b"close") {
                self.close = true;
            } else if is(b"keep-alive") {
                self.keep_alive = true;
            } else if is(b"upgrade") {
                self.upgrade_named = true;
            } else if !(option.is_empty() || is(b"te") || is(b"trailer")) {
                return Err(ambiguous("Connection names a field that is not of the connection"));
            }
        }
        Ok(())
    }

    /// Whether the request asks for a WebSocket, once all fields are read.
    pub(crate) fn websocket(&self, wire: Wire) -> Result<bool, Refusal> {
        match (self.upgrade, self.upgrade_named) {
            (false, false) => Ok(false),
            (true, true) if wire != Wire::Http11 => Err(ambiguous("Upgrade outside HTTP/1.1")),
            // The body would be read as the first bytes of the new protocol (RUSTSEC-2026-0033).
            (true, true) if self.chunked || self.content_length.is_some_and(|n| n > 0) => {
                Err(ambiguous("Upgrade with a body"))
            }
            (true, true) => Ok(true),
            (true, false) => Err(ambiguous("Upgrade without `Connection: upgrade`")),
            (false, true) => Err(ambiguous("`Connection: upgrade` without Upgrade")),
        }
    }
}

/// The fields that this policy knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    Upgrade,
    Http2Settings,
    Te,
    Expect,
    Authorization,
    ProxyAuthorization,
    Cookie,
    ContentType,
    Origin,
    Referer,
    FetchSite,
    FetchMode,
    FetchDest,
    FetchUser,
    IdempotencyKey,
    /// Makes some frameworks serve another method or path than the one that was checked, or another proxy be used
    /// (`Proxy`, CVE-2016-5385).
    Override,
}

/// The names of [`Known::Override`]: Symfony, IIS and Zend read the URL headers, Rails and many others the methods.
const OVERRIDES: [&[u8]; 6] =
    [b"proxy", b"x-http-method", b"x-rewrite-url", b"x-original-url", b"x-method-override", b"x-http-method-override"];

impl Known {
    fn find(name: &[u8]) -> Option<Known> {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        // The length comes first: most fields are decided by it alone.
        let known = match name.len() {
            2 if is(b"te") => Known::Te,
            4 if is(b"host") => Known::Host,
            5 if is(b"proxy") => Known::Override,
            6 if is(b"cookie") => Known::Cookie,
            6 if is(b"origin") => Known::Origin,
            6 if is(b"expect") => Known::Expect,
            7 if is(b"referer") => Known::Referer,
            7 if is(b"upgrade") => Known::Upgrade,
            10 if is(b"connection") => Known::Connection,
            10 if is(b"keep-alive") => Known::KeepAlive,
            12 if is(b"content-type") => Known::ContentType,
            13 if is(b"authorization") => Known::Authorization,
            14 if is(b"content-length") => Known::ContentLength,
            14 if is(b"sec-fetch-site") => Known::FetchSite,
            14 if is(b"sec-fetch-mode") => Known::FetchMode,
            14 if is(b"sec-fetch-dest") => Known::FetchDest,
            14 if is(b"sec-fetch-user") => Known::FetchUser,
            14 if is(b"http2-settings") => Known::Http2Settings,
            15 if is(b"idempotency-key") => Known::IdempotencyKey,
            16 if is(b"proxy-connection") => Known::ProxyConnection,
            17 if is(b"transfer-encoding") => Known::TransferEncoding,
            19 if is(b"proxy-authorization") => Known::ProxyAuthorization,
            13 | 14 | 17 | 22 if OVERRIDES.iter().any(|o| folds_to(name, o)) => Known::Override,
            _ => return None,
        };
        Some(known)
    }

    /// RFC 9113, 8.2.2.
    const fn of_the_connection(self) -> bool {
        matches!(
            self,
            Known::Connection
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::TransferEncoding
                | Known::Upgrade
                | Known::Http2Settings
        )
    }

    fn may_repeat(self, wire: Wire) -> bool {
        match self {
            Known::Connection | Known::KeepAlive | Known::ProxyConnection | Known::Te => true,
            Known::Cookie => wire == Wire::Http2,
            _ => false,
        }
    }

    const fn repeated(self) -> &'static str {
        match self {
            Known::Host => "repeated Host",
            Known::ContentLength => "repeated Content-Length",
            Known::TransferEncoding => "repeated Transfer-Encoding",
            Known::Authorization => "repeated Authorization",
            Known::Cookie => "repeated Cookie",
            _ => "repeated field that may come once",
        }
    }
}

/// RFC 9110, 8.6: one number. A list of equal numbers, which that section lets a recipient fold, is refused; so are
/// leading zeros, which some readers take for octal.
pub(crate) fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    if value.contains(&b',') {
        return Err(ambiguous("list in Content-Length"));
    }
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(malformed("Content-Length is not a number"));
    }
    if value.len() > 1 && value.starts_with(b"0") {
        return Err(ambiguous("leading zero in Content-Length"));
    }
    let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    value
        .iter()
        .try_fold(0, add)
        .filter(|n| *n <= MAX_CONTENT_LENGTH)
        .ok_or_else(|| malformed("Content-Length is out of range"))
}

/// Whether a byte may stand in a field value: VCHAR, SP, HTAB, obs-text (RFC 9110, 5.5).
pub(crate) const fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// Without optional white space around it (RFC 9110, 5.6.3).
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

pub(crate) fn malformed(cause: &'static str) -> Refusal {
    Refusal::new(Code::RequestMalformed, cause)
}

pub(crate) fn ambiguous(cause: &'static str) -> Refusal {
    Refusal::new(Code::RequestAmbiguous, cause)
}

pub(crate) fn too_large(cause: &'static str) -> Refusal {
    Refusal::new(Code::RequestTooLarge, cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn h2(authority: Option<&str>, fields: &[(&str, &str)]) -> String {
        let fields = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()));
        match check_fields(authority, fields, &HeadLimits::default()) {
            Ok(view) => format!("{} {:?} {}", view.host, view.content_length, view.expect_continue),
            Err(refusal) => format!("{}: {}", refusal.code.id(), refusal.cause),
        }
    }

    #[test]
    fn fields_of_http2() {
        for (field, expected) in [
            (("accept", "*/*"), "a None false"),
            (("x-empty", ""), "a None false"),
            (("x-latin", "caf\u{e9}"), "a None false"),
            (("te", "trailers"), "a None false"),
            (("content-length", "5"), "a Some(5) false"),
            (("expect", "100-continue"), "a None true"),
            (("host", "A"), "a None false"),
            (("host", "b"), "request.ambiguous: Host and :authority disagree"),
            (("host", "a:443"), "request.ambiguous: Host and :authority disagree"),
            (("te", "gzip"), "request.malformed: TE other than `trailers` in HTTP/2"),
            (("connection", "close"), "request.malformed: field of the connection in HTTP/2"),
            (("keep-alive", "1"), "request.malformed: field of the connection in HTTP/2"),
            (("proxy-connection", "close"), "request.malformed: field of the connection in HTTP/2"),
            (("transfer-encoding", "chunked"), "request.malformed: field of the connection in HTTP/2"),
            (("upgrade", "websocket"), "request.malformed: field of the connection in HTTP/2"),
            (("http2-settings", ""), "request.malformed: field of the connection in HTTP/2"),
            (("Accept", "*/*"), "request.malformed: invalid field name"),
            (("", "x"), "request.malformed: invalid field name"),
            ((":path", "/"), "request.malformed: invalid field name"),
            (("a b", "x"), "request.malformed: invalid field name"),
            (("x", "a\r\nhost: b"), "request.malformed: control character in field value"),
            (("x", "a\0"), "request.malformed: control character in field value"),
            (("x", "a\u{7f}"), "request.malformed: control character in field value"),
            (("x", " a"), "request.malformed: white space around field value"),
            (("x", "a\t"), "request.malformed: white space around field value"),
            (("content-length", "+5"), "request.malformed: Content-Length is not a number"),
            (("content-length", "5, 5"), "request.ambiguous: list in Content-Length"),
            (("x-http-method-override", "DELETE"), "request.ambiguous: field that overrides method, path or proxy"),
        ] {
            assert_eq!(h2(Some("a"), &[field]), expected, "{field:?}");
        }
        assert_eq!(h2(None, &[("host", "a")]), "a None false");
        assert_eq!(h2(None, &[]), "request.ambiguous: no Host");
        assert_eq!(h2(Some("a"), &[("cookie", "a=1"), ("cookie", "b=2")]), "a None false");
        for name in ["authorization", "content-length", "content-type", "origin", "sec-fetch-site", "host"] {
            let value = if name == "content-length" { "1" } else { "a" };
            assert!(
                h2(Some("a"), &[(name, value), (name, value)]).starts_with("request.ambiguous: repeated"),
                "{name}"
            );
        }
    }

    #[test]
    fn lengths_of_a_body() {
        for (value, expected) in [
            ("0", Ok(0)),
            ("10", Ok(10)),
            ("9223372036854775807", Ok(MAX_CONTENT_LENGTH)),
            ("9223372036854775808", Err("Content-Length is out of range")),
            ("18446744073709551617", Err("Content-Length is out of range")),
            ("99999999999999999999999999", Err("Content-Length is out of range")),
            ("", Err("Content-Length is not a number")),
            ("-1", Err("Content-Length is not a number")),
            ("+1", Err("Content-Length is not a number")),
            ("1.0", Err("Content-Length is not a number")),
            ("0x5", Err("Content-Length is not a number")),
            ("5 5", Err("Content-Length is not a number")),
            ("5\t", Err("Content-Length is not a number")),
            ("5_0", Err("Content-Length is not a number")),
            ("05", Err("leading zero in Content-Length")),
            ("00", Err("leading zero in Content-Length")),
            ("5,5", Err("list in Content-Length")),
            ("5,", Err("list in Content-Length")),
        ] {
            assert_eq!(
                content_length(value.as_bytes()).map_err(|r| r.cause.into_owned()),
                expected.map_err(String::from),
                "{value}"
            );
        }
    }

    #[test]
    fn twins() {
        let ours = ["x-tenant-id", "x-forwarded-for", "forwarded", "moat-assertion"];
        for (name, expected) in [
            ("x_tenant_id", true),
            ("X_Tenant_Id", true),
            ("x-tenant_id", true),
            ("x.tenant.id", true),
            ("X~Forwarded-For", true),
            ("moat_assertion", true),
            ("x-tenant-id", false),
            ("X-TENANT-ID", false),
            ("x_tenant_ids", false),
            ("xtenantid", false),
            ("x_custom", false),
            ("forwarded_", false),
            ("", false),
        ] {
            assert_eq!(twin_of(name.as_bytes(), &ours), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_marked_spelling_of_a_name_is_a_twin(marks in prop::collection::vec("[_.!~*]", 1..=2), upper: bool) {
            let mut name = "x-tenant-id".to_owned();
            for mark in &marks {
                name = name.replacen('-', mark, 1);
            }
            let name = if upper { name.to_uppercase() } else { name };
            prop_assert!(twin_of(name.as_bytes(), &["x-tenant-id"]));
        }

        #[test]
        fn any_fields_are_decided(fields in prop::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..4)) {
            let fields = fields.iter().map(|(n, v)| (n.as_slice(), v.as_slice()));
            let _ = check_fields(Some("a"), fields, &HeadLimits::default());
        }
    }
}
