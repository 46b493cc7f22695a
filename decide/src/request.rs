//! One reading of a request: method, host, path and query, or a refusal.
use crate::refusal::Refusal;
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
}

/// A set of methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Methods(u8);

impl Methods {
    /// Every method that can be routed.
    pub const fn all() -> Methods {
        Methods(0x7f)
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
    pub path: String,
    /// The query as sent, without `?`.
    pub query: Option<String>,
}

impl Request {
    /// Reads method, target and authority.
    ///
    /// `target` is the request target as sent (origin-form, or absolute-form which must agree with `host`);
    /// `host` is the `Host` header or `:authority`. Refuses with `request.malformed` what breaks grammar and
    /// `request.ambiguous` what two parsers could read differently.
    pub fn parse(method: &str, target: &str, host: &str) -> Result<Request, Refusal> {
        let _ = (method, target, host);
        Err(Refusal::new(crate::refusal::Code::RequestMalformed, "not built yet"))
    }
}
