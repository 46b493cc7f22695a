//! Where a browser says a request comes from: Fetch Metadata, `Origin` and `Referer`, read against our own origin.
use crate::facts::{FetchDest, FetchMode, FetchSite, Site};

/// The origin that a request was made to (RFC 6454, 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own<'a> {
    /// `https` or `http`, lowercase.
    pub scheme: &'a str,
    /// Host in the canonical form of `Request::host`.
    pub host: &'a str,
    /// Port of the authority, where one was given.
    pub port: Option<u16>,
}

/// The headers that browsers say it in; each is `None` where absent. Repeated ones are refused before (see
/// [`crate::fields`]).
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'a> {
    /// `Sec-Fetch-Site`
    pub fetch_site: Option<&'a [u8]>,
    /// `Sec-Fetch-Mode`
    pub fetch_mode: Option<&'a [u8]>,
    /// `Sec-Fetch-Dest`
    pub fetch_dest: Option<&'a [u8]>,
    /// `Origin`
    pub origin: Option<&'a [u8]>,
    /// `Referer`
    pub referer: Option<&'a [u8]>,
}

/// An `Origin` beyond this many bytes is nobody's: a host has 253 at most.
const ORIGIN_MAX: usize = 300;

/// Reads what a browser says.
///
/// `Origin` decides and `Referer` stands in where it is absent. Both are compared in the one spelling that browsers
/// serialise (RFC 6454, 6.2): whatever else they hold is another origin, and so is `null`, which any sandboxed frame
/// sends. Nothing here refuses: what is not proven is not the same origin.
pub fn read(own: &Own<'_>, said: &Said<'_>) -> Site {
    let same_origin = match (said.origin, said.referer) {
        (Some(origin), _) => Some(names(origin, own) == Some(b"")),
        // RFC 9110, 10.1.3: a URL, whose origin ends where its path begins.
        (None, Some(referer)) => Some(matches!(names(referer, own), Some(b"" | [b'/' | b'?', ..]))),
        (None, None) => None,
    };
    let other = said.origin.filter(|origin| same_origin == Some(false) && origin.len() <= ORIGIN_MAX);
    let opaque = other == Some(b"null");
    Site {
        fetch_site: said.fetch_site.map(read_fetch_site),
        fetch_mode: said.fetch_mode.map(read_fetch_mode),
        fetch_dest: said.fetch_dest.map(read_fetch_dest),
        same_origin,
        opaque,
        foreign: other.filter(|_| !opaque).and_then(|origin| str::from_utf8(origin).ok()).map(Box::from),
    }
}

fn read_fetch_mode(value: &[u8]) -> FetchMode {
    match value {
        b"navigate" => FetchMode::Navigate,
        b"cors" => FetchMode::Cors,
        b"websocket" => FetchMode::Websocket,
        _ => FetchMode::Other,
    }
}

fn read_fetch_dest(value: &[u8]) -> FetchDest {
    match value {
        b"document" => FetchDest::Document,
        b"iframe" | b"frame" | b"fencedframe" | b"object" | b"embed" => FetchDest::Embedded,
        _ => FetchDest::Other,
    }
}

fn read_fetch_site(value: &[u8]) -> FetchSite {
    match value {
        b"same-origin" => FetchSite::SameOrigin,
        b"same-site" => FetchSite::SameSite,
        b"cross-site" => FetchSite::CrossSite,
        b"none" => FetchSite::None,
        _ => FetchSite::Unknown,
    }
}

/// What follows our own origin at the beginning of `text`; `None` where it begins with something else.
fn names<'a>(text: &'a [u8], own: &Own<'_>) -> Option<&'a [u8]> {
    let rest = text.strip_prefix(own.scheme.as_bytes())?.strip_prefix(b"://")?.strip_prefix(own.host.as_bytes())?;
    let default = match own.scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let (port, rest) = match rest {
        [b':', rest @ ..] => {
            let end = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
            let (digits, rest) = rest.split_at_checked(end)?;
            if digits.starts_with(b"0") {
                return None;
            }
            (std::str::from_utf8(digits).ok()?.parse::<u16>().ok()?, rest)
        }
        _ => (default, rest),
    };
    (port == own.port.unwrap_or(default)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: Own<'static> = Own { scheme: "https", host: "app.example", port: None };

    fn same(own: &Own<'_>, origin: Option<&str>, referer: Option<&str>) -> Option<bool> {
        let (origin, referer) = (origin.map(str::as_bytes), referer.map(str::as_bytes));
        read(own, &Said { origin, referer, ..Said::default() }).same_origin
    }

    #[test]
    fn fetch_site() {
        for (value, expected) in [
            (None, None),
            (Some("same-origin"), Some(FetchSite::SameOrigin)),
            (Some("same-site"), Some(FetchSite::SameSite)),
            (Some("cross-site"), Some(FetchSite::CrossSite)),
            (Some("none"), Some(FetchSite::None)),
            (Some("Same-Origin"), Some(FetchSite::Unknown)),
            (Some("same-origin, cross-site"), Some(FetchSite::Unknown)),
            (Some("\"same-origin\""), Some(FetchSite::Unknown)),
            (Some(""), Some(FetchSite::Unknown)),
        ] {
            let said = Said { fetch_site: value.map(str::as_bytes), ..Said::default() };
            assert_eq!(read(&OWN, &said).fetch_site, expected, "{value:?}");
        }
    }

    #[test]
    fn what_the_request_is_for() {
        for (mode, dest, expected) in [
            ("navigate", "document", (FetchMode::Navigate, FetchDest::Document)),
            ("navigate", "iframe", (FetchMode::Navigate, FetchDest::Embedded)),
            ("navigate", "object", (FetchMode::Navigate, FetchDest::Embedded)),
            ("navigate", "embed", (FetchMode::Navigate, FetchDest::Embedded)),
            ("cors", "empty", (FetchMode::Cors, FetchDest::Other)),
            ("websocket", "empty", (FetchMode::Websocket, FetchDest::Other)),
            ("no-cors", "image", (FetchMode::Other, FetchDest::Other)),
            ("Navigate", "Document", (FetchMode::Other, FetchDest::Other)),
            ("navigate, navigate", "document ", (FetchMode::Other, FetchDest::Other)),
            ("", "", (FetchMode::Other, FetchDest::Other)),
        ] {
            let (fetch_mode, fetch_dest) = (Some(mode.as_bytes()), Some(dest.as_bytes()));
            let site = read(&OWN, &Said { fetch_mode, fetch_dest, ..Said::default() });
            assert_eq!((site.fetch_mode, site.fetch_dest), (Some(expected.0), Some(expected.1)), "{mode} {dest}");
        }
    }

    #[test]
    fn the_other_origin() {
        let long = format!("https://{}", "a".repeat(300));
        for (origin, foreign, opaque) in [
            ("https://app.example", None, false),
            ("https://other.example", Some("https://other.example"), false),
            ("https://app.example.", Some("https://app.example."), false),
            ("null", None, true),
            ("NULL", Some("NULL"), false),
            (&long, None, false),
        ] {
            let site = read(&OWN, &Said { origin: Some(origin.as_bytes()), ..Said::default() });
            assert_eq!((site.foreign.as_deref(), site.opaque), (foreign, opaque), "{origin}");
        }
        let referer = Said { referer: Some(b"https://other.example/"), ..Said::default() };
        assert_eq!(read(&OWN, &referer).foreign, None, "a referer is no origin to be trusted");
    }

    #[test]
    fn origin() {
        for (origin, expected) in [
            ("https://app.example", true),
            ("https://app.example:443", true),
            ("null", false),
            ("", false),
            ("http://app.example", false),
            ("https://app.example:8443", false),
            ("https://app.example:0443", false),
            ("https://app.example:", false),
            ("https://app.example:443443", false),
            ("https://app.example.", false),
            ("https://APP.example", false),
            ("HTTPS://app.example", false),
            ("https://app.example/", false),
            ("https://app.example.evil", false),
            ("https://app.example@evil", false),
            ("https://app.example:443@evil", false),
            ("https://evil/https://app.example", false),
            ("https://app.example https://evil", false),
            ("https://app.example,https://evil", false),
            ("https://evil.app.example", false),
            ("https://xapp.example", false),
            ("//app.example", false),
            ("app.example", false),
        ] {
            assert_eq!(same(&OWN, Some(origin), None), Some(expected), "{origin}");
            // A referer cannot talk an origin down or up.
            assert_eq!(same(&OWN, Some(origin), Some("https://app.example/")), Some(expected), "{origin} with referer");
            assert_eq!(same(&OWN, Some(origin), Some("https://evil/")), Some(expected), "{origin} with referer");
        }
        let own = Own { port: Some(8443), ..OWN };
        assert_eq!(same(&own, Some("https://app.example:8443"), None), Some(true));
        assert_eq!(same(&own, Some("https://app.example"), None), Some(false));
        let own = Own { port: Some(443), ..OWN };
        assert_eq!(same(&own, Some("https://app.example"), None), Some(true));
        let own = Own { scheme: "http", host: "[::1]", port: Some(8080) };
        assert_eq!(same(&own, Some("http://[::1]:8080"), None), Some(true));
    }

    #[test]
    fn referer_where_origin_is_absent() {
        for (referer, expected) in [
            ("https://app.example/", true),
            ("https://app.example/a/b?c#d", true),
            ("https://app.example", true),
            ("https://app.example:443/a", true),
            ("https://app.example?a", true),
            ("https://app.example.evil/", false),
            ("https://app.example@evil/", false),
            ("https://app.example\\@evil/", false),
            ("https://app.example:80/", false),
            ("https://evil/?https://app.example/", false),
            ("http://app.example/", false),
            ("about:blank", false),
            ("/relative", false),
            ("", false),
        ] {
            assert_eq!(same(&OWN, None, Some(referer)), Some(expected), "{referer}");
        }
        assert_eq!(same(&OWN, None, None), None, "nothing is said");
    }

    proptest! {
        /// One flipped bit anywhere in an origin makes it another origin.
        #[test]
        fn a_flipped_bit_is_another_origin(at in 0usize..19, bit in 0u32..8) {
            let mut origin = b"https://app.example".to_vec();
            origin[at] ^= 1 << bit;
            let said = Said { origin: Some(&origin), ..Said::default() };
            prop_assert_eq!(read(&OWN, &said).same_origin, Some(false));
        }

        #[test]
        fn any_bytes_are_decided(origin: Option<Vec<u8>>, referer: Option<Vec<u8>>, site: Option<Vec<u8>>) {
            let (fetch_site, origin, referer) = (site.as_deref(), origin.as_deref(), referer.as_deref());
            let said = Said { fetch_site, fetch_mode: fetch_site, fetch_dest: fetch_site, origin, referer };
            let read = read(&OWN, &said);
            prop_assert!(read.foreign.is_none() || read.same_origin == Some(false));
        }
    }
}
