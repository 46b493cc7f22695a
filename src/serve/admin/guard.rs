//! Who may talk to the admin listener: programs on this machine, and no web page that a browser on it has open.
//!
//! Reading takes a `Host` that is an address or `localhost`, so that no page can reach the listener through a name that
//! it controls (DNS rebinding). Changing something takes more: a browser sends simple requests across origins without
//! asking (Fetch, CORS-safelisted methods and headers), so a change takes a header that only a program can set, and
//! nothing in the request may say that a page sent it.
use http::HeaderMap;
use http::header::{HOST, HeaderName, ORIGIN};
use std::net::{IpAddr, Ipv6Addr};

/// What a program must send with a request that changes something; any value. A page cannot set it on a request to
/// another origin without a preflight, which nobody answers here.
pub const CHANGE_HEADER: HeaderName = HeaderName::from_static("x-moat-admin");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the one `Host` is an address or `localhost`, with or without a port.
pub fn reaches_us(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(host) = host.to_str() else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        Some(_) | None => host,
    };
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()),
    }
}

/// Whether a request that [`reaches_us`] may change something: it carries [`CHANGE_HEADER`] and neither `Origin` nor
/// `Sec-Fetch-Site`, which browsers send and programs do not.
pub fn may_change(headers: &HeaderMap) -> bool {
    reaches_us(headers)
        && headers.contains_key(CHANGE_HEADER)
        && !headers.contains_key(ORIGIN)
        && !headers.contains_key(FETCH_SITE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(lines: &[(HeaderName, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).fold(
            HeaderMap::new(),
            |mut map, (name, value)| {
                map.append(name, value);
                map
            },
        )
    }

    #[test]
    fn only_addresses_and_localhost_are_hosts_of_ours() {
        let for_us = |hosts: &[&'static str]| {
            let lines: Vec<_> = hosts.iter().map(|host| (HOST, *host)).collect();
            reaches_us(&headers(&lines))
        };
        for host in ["127.0.0.1", "127.0.0.1:9901", "localhost", "LOCALHOST:1", "[::1]", "[::1]:9901", "10.0.0.7"] {
            assert!(for_us(&[host]), "{host}");
        }
        let rebound =
            ["evil.example", "evil.example:9901", "localhost.evil.example", "127.0.0.1.evil.example", "a:b", "::1"];
        for host in rebound.into_iter().chain(["", ":9901", "[::1", "[localhost]", "127.0.0.1:80:80", "localhost:x"]) {
            assert!(!for_us(&[host]), "{host}");
        }
        assert!(!for_us(&[]) && !for_us(&["localhost", "localhost"]));
    }

    #[test]
    fn a_change_takes_what_no_page_can_send() {
        let change = |extra: &[(HeaderName, &'static str)]| {
            may_change(&headers(&[&[(HOST, "localhost"), (CHANGE_HEADER, "1")], extra].concat()))
        };
        assert!(change(&[]));
        assert!(!change(&[(ORIGIN, "null")]));
        assert!(!change(&[(ORIGIN, "http://localhost:9901")]));
        assert!(!change(&[(FETCH_SITE, "same-origin")]));
        assert!(!change(&[(HOST, "localhost")]), "two hosts");
        assert!(!may_change(&headers(&[(HOST, "localhost")])));
        assert!(!may_change(&headers(&[(HOST, "evil.example"), (CHANGE_HEADER, "1")])));
    }
}
