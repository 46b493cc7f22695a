//! The authority of a request: one spelling of host and port, or a refusal.
use crate::cut::cut;
use crate::refusal::{Code, Refusal};
use core::net::{Ipv4Addr, Ipv6Addr};
use std::borrow::Cow;

/// Greatest length of a host name in bytes (RFC 1035, 2.3.4: 255 on the wire, 253 as text).
pub const MAX_HOST: usize = 253;
/// Greatest length of one label of a host name in bytes (RFC 1035, 2.3.4).
pub const MAX_LABEL: usize = 63;

/// Host and port as every later stage sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Lowercase name without trailing dot, dotted quad, or IPv6 address in brackets in the form of RFC 5952.
    pub host: Cow<'a, str>,
    /// The port, where one was given; 1..=65535.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `host [ ":" port ]` (RFC 9110, 7.2; RFC 3986, 3.2.2).
    ///
    /// A host is an IPv4 address in four plain decimal parts, an IPv6 address in brackets, or a name of letters, digits,
    /// `-` and `_` in labels of 1..=63 bytes. The rest of RFC 3986's `reg-name` is refused: percent-encoding and
    /// sub-delimiters mean different things to different readers, and no DNS name needs them. So are userinfo
    /// (RFC 9110, 4.2.4), an empty port or one with leading zeros, and names whose last label is a number, which URL
    /// libraries read as an address (`127.1`, `0x7f.1`, `2130706433`).
    pub fn parse(text: &'a str) -> Result<Authority<'a>, Refusal> {
        if text.is_empty() {
            return Err(malformed("empty host"));
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']').ok_or_else(|| malformed("unclosed bracket in host"))?;
                let port = match after.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if after.is_empty() => None,
                    None => return Err(malformed("text after the bracket of an IPv6 host")),
                };
                (ipv6(address)?, port)
            }
            None => {
                let (host, port) = match cut(text, b':') {
                    Some((host, port)) => (host, Some(port)),
                    None => (text, None),
                };
                // A userinfo may hold a colon itself, so that the at sign would be looked for in the port.
                if port.is_some_and(|port| port.contains('@')) {
                    return Err(ambiguous("userinfo in host"));
                }
                (name(host)?, port)
            }
        };
        Ok(Authority { host, port: port.map(self::port).transpose()? })
    }

    /// The port, or the one that the scheme implies.
    pub fn port_or(&self, default: u16) -> u16 {
        self.port.unwrap_or(default)
    }
}

fn ipv6(address: &str) -> Result<Cow<'static, str>, Refusal> {
    // Zone identifiers (RFC 6874) and IPvFuture fail here too: neither can name a host of ours.
    let address: Ipv6Addr = address.parse().map_err(|_| malformed("invalid IPv6 host"))?;
    Ok(Cow::Owned(format!("[{address}]")))
}

fn port(digits: &str) -> Result<u16, Refusal> {
    if digits.is_empty() {
        return Err(ambiguous("empty port"));
    }
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed("port is not a number"));
    }
    if digits.starts_with('0') {
        return Err(if digits.bytes().all(|b| b == b'0') {
            malformed("port is zero")
        } else {
            ambiguous("leading zero in port")
        });
    }
    digits.parse().map_err(|_| malformed("port is out of range"))
}

fn name(text: &str) -> Result<Cow<'_, str>, Refusal> {
    let host = text.strip_suffix('.').unwrap_or(text);
    if host.is_empty() {
        return Err(malformed("empty host"));
    }
    if host.len() > MAX_HOST {
        return Err(malformed("host is too long"));
    }
    let (mut label, mut upper) = (0usize, false);
    for byte in host.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => label += 1,
            b'A'..=b'Z' => (label, upper) = (label + 1, true),
            b'.' if label == 0 => return Err(malformed("empty label in host")),
            b'.' => label = 0,
            b'@' => return Err(ambiguous("userinfo in host")),
            b'%' => return Err(ambiguous("percent-encoding in host")),
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => {
                return Err(ambiguous("sub-delimiter in host"));
            }
            _ => return Err(malformed("invalid character in host")),
        }
        if label > MAX_LABEL {
            return Err(malformed("label of host is too long"));
        }
    }
    if label == 0 {
        return Err(malformed("empty label in host"));
    }
    let last = host.get(host.len() - label..).unwrap_or(host);
    if is_number(last) && host.parse::<Ipv4Addr>().is_err() {
        return Err(ambiguous("host may be read as an IPv4 address"));
    }
    if host.len() != text.len() && is_number(last) {
        return Err(ambiguous("IPv4 host with a trailing dot"));
    }
    Ok(if upper { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) })
}

/// Whether a URL parser may take the label for a number: decimal, octal, or hexadecimal with `0x`.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x").or_else(|| label.strip_prefix("0X")) {
        Some(hex) => hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

fn malformed(cause: &'static str) -> Refusal {
    Refusal::new(Code::RequestMalformed, cause)
}

fn ambiguous(cause: &'static str) -> Refusal {
    Refusal::new(Code::RequestAmbiguous, cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> String {
        match Authority::parse(text) {
            Ok(Authority { host, port: Some(port) }) => format!("{host} {port}"),
            Ok(Authority { host, port: None }) => host.into_owned(),
            Err(refusal) => format!("{}: {}", refusal.code.id(), refusal.cause),
        }
    }

    #[test]
    fn one_spelling_of_a_host() {
        for (text, expected) in [
            ("app.example.com", "app.example.com"),
            ("APP.Example.COM", "app.example.com"),
            ("app.example.com.", "app.example.com"),
            ("app.example.com:443", "app.example.com 443"),
            ("app.example.com.:8443", "app.example.com 8443"),
            ("localhost", "localhost"),
            ("my_tenant.example.com", "my_tenant.example.com"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("3com.com", "3com.com"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1:80", "127.0.0.1 80"),
            ("[::1]", "[::1]"),
            ("[2001:DB8:0:0::1]:8443", "[2001:db8::1] 8443"),
            ("[::FFFF:127.0.0.1]", "[::ffff:127.0.0.1]"),
            ("a:65535", "a 65535"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn a_host_that_is_refused() {
        for (text, expected) in [
            ("", "request.malformed: empty host"),
            (".", "request.malformed: empty host"),
            ("..", "request.malformed: empty label in host"),
            ("a..", "request.malformed: empty label in host"),
            (".a", "request.malformed: empty label in host"),
            ("a..b", "request.malformed: empty label in host"),
            (":443", "request.malformed: empty host"),
            ("a b", "request.malformed: invalid character in host"),
            ("a/b", "request.malformed: invalid character in host"),
            ("a\\b", "request.malformed: invalid character in host"),
            ("a?b", "request.malformed: invalid character in host"),
            ("a#b", "request.malformed: invalid character in host"),
            ("a\0", "request.malformed: invalid character in host"),
            ("a\t", "request.malformed: invalid character in host"),
            ("bücher.example", "request.malformed: invalid character in host"),
            ("user@a", "request.ambiguous: userinfo in host"),
            ("user:pass@a", "request.ambiguous: userinfo in host"),
            ("a:80@b", "request.ambiguous: userinfo in host"),
            ("%61", "request.ambiguous: percent-encoding in host"),
            ("a,b", "request.ambiguous: sub-delimiter in host"),
            ("a;b", "request.ambiguous: sub-delimiter in host"),
            ("a:", "request.ambiguous: empty port"),
            ("a:080", "request.ambiguous: leading zero in port"),
            ("a:0", "request.malformed: port is zero"),
            ("a:65536", "request.malformed: port is out of range"),
            ("a:+80", "request.malformed: port is not a number"),
            ("a:80:80", "request.malformed: port is not a number"),
            ("a:http", "request.malformed: port is not a number"),
            ("::1", "request.malformed: empty host"),
            ("[::1", "request.malformed: unclosed bracket in host"),
            ("[::1]a", "request.malformed: text after the bracket of an IPv6 host"),
            ("[fe80::1%25eth0]", "request.malformed: invalid IPv6 host"),
            ("[v1.a]", "request.malformed: invalid IPv6 host"),
            ("[127.0.0.1]", "request.malformed: invalid IPv6 host"),
            ("127.1", "request.ambiguous: host may be read as an IPv4 address"),
            ("2130706433", "request.ambiguous: host may be read as an IPv4 address"),
            ("0x7f.1", "request.ambiguous: host may be read as an IPv4 address"),
            ("0x7f000001", "request.ambiguous: host may be read as an IPv4 address"),
            ("127.0.0.01", "request.ambiguous: host may be read as an IPv4 address"),
            ("256.0.0.1", "request.ambiguous: host may be read as an IPv4 address"),
            ("1.2.3.4.5", "request.ambiguous: host may be read as an IPv4 address"),
            ("127.0.0.1.", "request.ambiguous: IPv4 host with a trailing dot"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn lengths_are_inclusive() {
        let label = "a".repeat(MAX_LABEL);
        assert_eq!(read(&label), label);
        assert_eq!(read(&format!("{label}a")), "request.malformed: label of host is too long");
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(MAX_HOST - 3 * (MAX_LABEL + 1)));
        assert_eq!(read(&longest), longest);
        assert_eq!(read(&format!("{longest}.")), longest);
        assert_eq!(read(&format!("{longest}a")), "request.malformed: host is too long");
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_is_idempotent(text in "[a-zA-Z0-9.:\\[\\]_%@-]{0,40}|\\PC{0,40}") {
            if let Ok(first) = Authority::parse(&text) {
                let again = Authority::parse(&first.host).map(|a| a.host.into_owned());
                prop_assert_eq!(again, Ok(first.host.clone().into_owned()));
            }
        }
    }
}
