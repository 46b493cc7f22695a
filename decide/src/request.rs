//! One reading of a request: method, host, path and query, or a refusal.
use crate::authority::Authority;
use crate::cut::cut;
use crate::path;
use crate::refusal::{Code, Refusal};
use std::borrow::Cow;
use std::sync::Arc;

/// The methods that can be routed (RFC 9110, 9; PATCH: RFC 5789). TRACE and CONNECT are always refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// OPTIONS
    Options,
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 7] =
        [Method::Get, Method::Head, Method::Options, Method::Post, Method::Put, Method::Patch, Method::Delete];

    /// The token on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Options => "OPTIONS",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }

    /// Reads the token; methods are case-sensitive (RFC 9110, 9.1).
    pub fn parse(token: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|m| m.as_str() == token)
    }

    /// Reads the token or says why it is refused: `request.malformed` where it is no token (RFC 9110, 5.6.2),
    /// `method.not-allowed` where it is one that cannot be routed.
    pub fn read(token: &[u8]) -> Result<Method, Refusal> {
        if let Some(method) = Method::ALL.into_iter().find(|m| m.as_str().as_bytes() == token) {
            return Ok(method);
        }
        if token.is_empty() || !token.iter().copied().all(is_token) {
            return Err(Refusal::new(Code::RequestMalformed, "method is not a token"));
        }
        let mut refusal = Refusal::new(Code::MethodNotAllowed, "method cannot be routed");
        refusal.allow = Some(Methods::all());
        Err(refusal)
    }
}

/// Whether a byte is `tchar`, of which methods and field names are made (RFC 9110, 5.6.2).
#[expect(clippy::indexing_slicing, reason = "the table has an entry for each value of a byte")]
pub const fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would refuse an index out of range")]
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        byte += 1;
    }
    table
};

/// A set of methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Methods(u8);

impl Methods {
    /// Every method that can be routed.
    pub const fn all() -> Methods {
        Methods(0x7f)
    }

    /// No method.
    pub const fn none() -> Methods {
        Methods(0)
    }

    /// The set with one more.
    pub const fn with(self, method: Method) -> Methods {
        Methods(self.0 | 1 << method as u8)
    }

    /// Whether the set holds the method.
    pub const fn contains(self, method: Method) -> bool {
        self.0 & (1 << method as u8) != 0
    }

    /// What both sets hold.
    pub const fn intersection(self, other: Methods) -> Methods {
        Methods(self.0 & other.0)
    }

    /// What either set holds.
    pub const fn union(self, other: Methods) -> Methods {
        Methods(self.0 | other.0)
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its members, in the order of the table.
    pub fn iter(self) -> impl Iterator<Item = Method> {
        Method::ALL.into_iter().filter(move |m| self.contains(*m))
    }
}

/// A request, read once; every later stage (route, policy, log, upstream) uses these very strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Lowercase host without port and trailing dot.
    pub host: Arc<str>,
    /// Port of the authority, where one was given.
    pub port: Option<u16>,
    /// The canonical path: begins with `/`, no dot segments, no empty segments but the last, needless
    /// percent-encoding removed, the rest in upper-case hex (RFC 3986, 6.2.2).
    pub path: Arc<str>,
    /// The query as sent, without `?`.
    pub query: Option<Arc<str>>,
}

impl Request {
    /// Reads method, target and authority.
    ///
    /// `target` is the request target as sent: origin-form, or absolute-form with `http` or `https` whose authority must
    /// name the same host and port as `host` (RFC 9112, 3.2). `host` is the `Host` header or `:authority`.
    ///
    /// Refuses with `request.malformed` what breaks grammar, `request.ambiguous` what two parsers could read
    /// differently, `method.not-allowed` a method that cannot be routed, and `request.too-large` a path beyond
    /// [`path::MAX_PATH`] or [`path::MAX_SEGMENTS`] or a query beyond [`path::MAX_QUERY`]. The asterisk-form and the
    /// authority-form name no resource behind the gate and are malformed here.
    ///
    /// Reading is idempotent: [`Request::target`] and the host of the result give the same request again.
    pub fn parse(method: &str, target: &str, host: &str) -> Result<Request, Refusal> {
        let method = Method::read(method.as_bytes())?;
        let authority = Authority::parse(host)?;
        let target = match target.as_bytes().first() {
            Some(b'/') => target,
            _ => absolute(method, target, &authority)?,
        };
        let (raw, query) = match cut(target, b'?') {
            Some((raw, query)) => (raw, Some(query)),
            None => (target, None),
        };
        // An empty path is a slash (RFC 9110, 4.2.3); only the absolute-form can have one.
        let path = path::canonical(if raw.is_empty() { "/" } else { raw })?;
        if let Some(query) = query {
            path::check_query(query)?;
        }
        Ok(Request {
            method,
            host: Arc::from(&*authority.host),
            port: authority.port,
            path: Arc::from(path),
            query: query.map(Arc::from),
        })
    }

    /// The canonical target in origin-form, as the upstream receives it.
    pub fn target(&self) -> Cow<'_, str> {
        match &self.query {
            Some(query) => Cow::Owned([&*self.path, "?", query].concat()),
            None => Cow::Borrowed(&self.path),
        }
    }
}

/// Path and query of a target in absolute-form that agrees with the `Host` header.
fn absolute<'a>(method: Method, target: &'a str, host: &Authority<'_>) -> Result<&'a str, Refusal> {
    let refuse = |code, cause| Err(Refusal::new(code, cause));
    let Some((scheme, rest)) = target.split_once("://") else {
        return refuse(Code::RequestMalformed, "target is neither a path nor a URL");
    };
    let default = if scheme.eq_ignore_ascii_case("https") {
        443
    } else if scheme.eq_ignore_ascii_case("http") {
        80
    } else {
        return refuse(Code::RequestMalformed, "scheme of target is neither http nor https");
    };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    let named = Authority::parse(authority)?;
    // RFC 9112, 3.2.2 lets the target win over Host; who reads Host instead would serve another tenant.
    if named.host != host.host || named.port_or(default) != host.port_or(default) {
        return refuse(Code::RequestAmbiguous, "target and Host disagree");
    }
    // RFC 9112, 3.2.4: the last proxy turns this into the asterisk-form, others into a slash.
    if !after.starts_with('/') && method == Method::Options {
        return refuse(Code::RequestAmbiguous, "OPTIONS of a whole server");
    }
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(method: &str, target: &str, host: &str) -> String {
        match Request::parse(method, target, host) {
            Ok(r) => {
                let port = r.port.map(|p| format!(":{p}")).unwrap_or_default();
                format!("{} {}{port} {}", r.method.as_str(), r.host, r.target())
            }
            Err(refusal) => format!("{}: {}", refusal.code.id(), refusal.cause),
        }
    }

    #[test]
    fn targets() {
        for (target, host, expected) in [
            ("/", "a.example", "GET a.example /"),
            ("/x%7Ey?q=%7E", "A.example:8443", "GET a.example:8443 /x~y?q=%7E"),
            ("/x?", "a.example", "GET a.example /x?"),
            ("/x?a?b", "a.example", "GET a.example /x?a?b"),
            // RFC 9112, 3.2.2: absolute-form
            ("http://a.example/x", "a.example", "GET a.example /x"),
            ("HTTPS://A.EXAMPLE./x", "a.example", "GET a.example /x"),
            ("https://a.example", "a.example", "GET a.example /"),
            ("https://a.example?q", "a.example", "GET a.example /?q"),
            ("https://a.example:443/x", "a.example", "GET a.example /x"),
            ("https://a.example/x", "a.example:443", "GET a.example:443 /x"),
            ("https://[::1]:8443/x", "[::1]:8443", "GET [::1]:8443 /x"),
            ("https://b.example/x", "a.example", "request.ambiguous: target and Host disagree"),
            ("https://a.example:444/x", "a.example", "request.ambiguous: target and Host disagree"),
            ("http://a.example:443/x", "a.example", "request.ambiguous: target and Host disagree"),
            ("https://u@a.example/x", "a.example", "request.ambiguous: userinfo in host"),
            ("https://a.example\\@b/x", "a.example", "request.ambiguous: backslash in path"),
            ("https://a.example#/x", "a.example", "request.ambiguous: fragment in target"),
            ("https://a.example//x", "a.example", "request.ambiguous: empty segment"),
            ("https:///x", "a.example", "request.malformed: empty host"),
            ("ftp://a.example/", "a.example", "request.malformed: scheme of target is neither http nor https"),
            ("javascript://a.example/", "a.example", "request.malformed: scheme of target is neither http nor https"),
            ("foo", "a.example", "request.malformed: target is neither a path nor a URL"),
            ("", "a.example", "request.malformed: target is neither a path nor a URL"),
            // RFC 9112, 3.2.3 and 3.2.4: authority-form and asterisk-form
            ("a.example:443", "a.example", "request.malformed: target is neither a path nor a URL"),
            ("*", "a.example", "request.malformed: target is neither a path nor a URL"),
            ("/", "", "request.malformed: empty host"),
        ] {
            assert_eq!(read("GET", target, host), expected, "{target} at {host}");
        }
        assert_eq!(read("OPTIONS", "https://a", "a"), "request.ambiguous: OPTIONS of a whole server");
        assert_eq!(read("OPTIONS", "https://a?", "a"), "request.ambiguous: OPTIONS of a whole server");
        assert_eq!(read("OPTIONS", "https://a/", "a"), "OPTIONS a /");
    }

    #[test]
    fn methods() {
        for method in Method::ALL {
            assert_eq!(read(method.as_str(), "/", "a"), format!("{} a /", method.as_str()));
        }
        for (method, expected) in [
            ("TRACE", "method.not-allowed: method cannot be routed"),
            ("CONNECT", "method.not-allowed: method cannot be routed"),
            ("PROPFIND", "method.not-allowed: method cannot be routed"),
            // Methods are case-sensitive (RFC 9110, 9.1).
            ("get", "method.not-allowed: method cannot be routed"),
            ("", "request.malformed: method is not a token"),
            ("GE T", "request.malformed: method is not a token"),
            ("GET\0", "request.malformed: method is not a token"),
            ("GÉT", "request.malformed: method is not a token"),
            ("G(T", "request.malformed: method is not a token"),
        ] {
            assert_eq!(read(method, "/", "a"), expected, "{method}");
        }
        let refusal = Request::parse("TRACE", "/", "a").unwrap_err();
        assert_eq!(refusal.allow, Some(Methods::all()));
    }

    proptest! {
        #[test]
        fn reading_is_idempotent(
            target in "(https?://[aA](\\.b)?(:443|:80)?)?(/([a-z.~]|%[2-7][0-9a-f]|%c3%a9|[|]){0,4}){0,4}([?][a-z%2-9&]{0,6})?",
            host in "[aA](\\.b)?[.]?(:443|:80)?",
        ) {
            if let Ok(first) = Request::parse("GET", &target, &host) {
                let host = first.port.map_or(first.host.to_string(), |port| format!("{}:{port}", first.host));
                prop_assert_eq!(Request::parse("GET", &first.target(), &host), Ok(first));
            }
        }

        #[test]
        fn any_text_is_decided(method in "\\PC{0,8}", target in "\\PC{0,40}", host in "\\PC{0,20}") {
            let _ = Request::parse(&method, &target, &host);
        }

        /// One flipped bit of an accepted target is refused or changes what is read: nothing is silently equal.
        #[test]
        fn a_flipped_bit_is_seen(target in "/[a-z0-9]{1,8}/[a-z0-9]{1,8}(\\?[a-z]{1,8})?", at in 0usize..20, bit in 0u32..7) {
            let before = Request::parse("GET", &target, "a");
            let mut bytes = target.into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let flipped = String::from_utf8(bytes).unwrap();
            prop_assert_ne!(before, Request::parse("GET", &flipped, "a"));
        }
    }
}
