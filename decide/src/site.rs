//! Where a browser says a request comes from: `Sec-Fetch-Site`, `Origin` and `Referer`, read against our own origin.
use crate::facts::{FetchSite, Site};

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

/// Reads the three headers; each is `None` where absent. Repeated ones are refused before (see [`crate::fields`]).
///
/// `Origin` decides and `Referer` stands in where it is absent. Both are compared in the one spelling that browsers
/// serialise (RFC 6454, 6.2): whatever else they hold is another origin, and so is `null`, which any sandboxed frame
/// sends. Nothing here refuses: what is not proven is not the same origin.
pub fn read(own: &Own<'_>, fetch_site: Option<&[u8]>, origin: Option<&[u8]>, referer: Option<&[u8]>) -> Site {
    let same_origin = match (origin, referer) {
        (Some(origin), _) => Some(names(origin, own) == Some(b"")),
        // RFC 9110, 10.1.3: a URL, whose origin ends where its path begins.
        (None, Some(referer)) => Some(matches!(names(referer, own), Some(b"" | [b'/' | b'?', ..]))),
        (None, None) => None,
    };
    Site { fetch_site: fetch_site.map(read_fetch_site), same_origin }
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
        read(own, None, origin.map(str::as_bytes), referer.map(str::as_bytes)).same_origin
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
            assert_eq!(read(&OWN, value.map(str::as_bytes), None, None).fetch_site, expected, "{value:?}");
        }
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
            prop_assert_eq!(read(&OWN, None, Some(&origin), None).same_origin, Some(false));
        }

        #[test]
        fn any_bytes_are_decided(origin: Option<Vec<u8>>, referer: Option<Vec<u8>>, site: Option<Vec<u8>>) {
            let _ = read(&OWN, site.as_deref(), origin.as_deref(), referer.as_deref());
        }
    }
}
