//! The client's address behind proxies that are trusted: `X-Forwarded-For` and `Forwarded` (RFC 7239).
use crate::fields::trim;
use crate::request::is_token;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use ipnet::IpNet;

/// Which header the trusted hops write; the other one is never read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientHeader {
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `Forwarded` (RFC 7239)
    Forwarded,
}

/// How many hops are walked at most; behind more, the farthest one walked counts.
pub const MAX_HOPS: usize = 32;

/// The client's address, in canonical form (IPv4 where IPv6 only wraps it: RFC 4291, 2.5.5.2).
///
/// Each hop appends the address it was called from, so the list is read from its right end, and the first address that
/// is not `trusted` is the client: what stands left of it was written by the client or further away, and whatever it
/// is, it does not change how the right side is read. Nothing is read where `peer` itself is not trusted. A hop that
/// cannot be read (malformed, `unknown`, or an obfuscated name of RFC 7239, 6.3) ends the walk, and the last good
/// address counts; so does the leftmost one where all are trusted.
///
/// `values` are the header's field lines in the order of the message.
pub fn client<'a>(
    peer: IpAddr,
    trusted: &[IpNet],
    header: ClientHeader,
    values: impl DoubleEndedIterator<Item = &'a [u8]>,
) -> IpAddr {
    let mut client = peer.to_canonical();
    let (mut lines, mut rest) = (values.rev(), None);
    for _ in 0..MAX_HOPS {
        if !trusted.iter().any(|net| net.contains(&client)) {
            return client;
        }
        let Some(list) = rest.take().or_else(|| lines.next()) else { return client };
        let (before, hop) = match header {
            ClientHeader::XForwardedFor => last_plain(list),
            ClientHeader::Forwarded => last_element(list),
        };
        let Some(address) = hop else { return client };
        client = address.to_canonical();
        rest = before;
    }
    client
}

/// What stands before the last element of a list, and the address in that element.
type Last<'a> = (Option<&'a [u8]>, Option<IpAddr>);

/// The last address of `X-Forwarded-For`, which no standard describes: an address, perhaps with a port or in brackets.
fn last_plain(list: &[u8]) -> Last<'_> {
    let (before, element) = split_last_comma(list);
    (before, std::str::from_utf8(trim(element)).ok().and_then(plain))
}

/// An address, perhaps with a port or in brackets.
pub(crate) fn plain(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Some(inside) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return inside.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    // A zone names an interface of the hop's own machine.
    text.parse::<SocketAddr>().ok().filter(|_| !text.contains('%')).map(|address| address.ip())
}

/// The address of the last element of `Forwarded`.
///
/// A comma may stand inside quotes, and whether it does seems to depend on all that stands before, which the client may
/// have written: one quote of its own would then hide what the trusted hop appended. So the last element is the
/// shortest text after a comma that is an element in itself. Text that begins inside quotes holds an odd number of
/// them and never is one. The search is linear: while one beginning reads over a comma inside quotes, every later one
/// meets that comma outside of them and ends there.
fn last_element(list: &[u8]) -> Last<'_> {
    let mut before = Some(list);
    while let Some(head) = before {
        let (left, _) = split_last_comma(head);
        let start = left.map_or(0, |left| left.len() + 1);
        if let Some(node) = list.get(start..).and_then(element) {
            return (left, node.and_then(address));
        }
        before = left;
    }
    (None, None)
}

fn split_last_comma(list: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match list.iter().rposition(|b| *b == b',') {
        Some(at) => (list.get(..at), list.get(at + 1..).unwrap_or_default()),
        None => (None, list),
    }
}

/// The value of `for` in an element, the inner `None` where there is none; the outer one where this is no element:
/// `[ forwarded-pair ] *( ";" [ forwarded-pair ] )`, a pair being `token "=" ( token / quoted-string )` (RFC 7239, 4).
fn element(text: &[u8]) -> Option<Option<&[u8]>> {
    let (mut rest, mut found) = (trim(text), None);
    while !rest.is_empty() {
        // White space around a semicolon is not in the grammar, but many hops write it.
        if let [b';', more @ ..] = rest {
            rest = trim(more);
            continue;
        }
        let (name, value) = token(rest)?;
        let value = value.strip_prefix(b"=")?;
        let (value, after) = match value {
            [b'"', quoted @ ..] => quoted_string(quoted)?,
            _ => token(value)?,
        };
        // Each parameter may come once (RFC 7239, 4).
        if name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
            return None;
        }
        rest = trim(after);
        if !matches!(rest, [] | [b';', ..]) {
            return None;
        }
    }
    Some(found)
}

fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|b| !is_token(*b)).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(token, _)| !token.is_empty())
}

/// The inside of a quoted string, escapes and all (no address needs one), and what follows the closing quote.
fn quoted_string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut escaped = false;
    let end = text.iter().position(|b| {
        let closes = *b == b'"' && !escaped;
        escaped = *b == b'\\' && !escaped;
        closes
    })?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

/// `node = nodename [ ":" node-port ]` where the name is an address (RFC 7239, 6).
fn address(node: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(node).ok()?;
    let (address, port) = match text.strip_prefix('[') {
        Some(inside) => {
            let (address, port) = inside.split_once(']')?;
            (IpAddr::V6(address.parse().ok()?), port)
        }
        None => {
            let (address, port) = text.split_at_checked(text.find(':').unwrap_or(text.len()))?;
            (IpAddr::V4(address.parse::<Ipv4Addr>().ok()?), port)
        }
    };
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(address)
}

fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        }
        None => (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ClientHeader::{Forwarded, XForwardedFor};
    use proptest::prelude::*;

    fn seen(header: ClientHeader, peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        client(peer.parse().unwrap(), &trusted, header, lines.iter().map(|l| l.as_bytes())).to_string()
    }

    #[test]
    fn who_is_believed() {
        for (peer, lines, expected, why) in [
            ("192.0.2.1", &["198.51.100.7"][..], "192.0.2.1", "the peer is a stranger"),
            ("10.0.0.1", &[], "10.0.0.1", "a trusted hop that calls for itself"),
            ("10.0.0.1", &["198.51.100.7"], "198.51.100.7", "one hop"),
            ("10.0.0.1", &["6.6.6.6, 198.51.100.7"], "198.51.100.7", "the client wrote the left one"),
            ("10.0.0.1", &["10.9.9.9, 198.51.100.7"], "198.51.100.7", "trusted in name only"),
            ("10.0.0.1", &["6.6.6.6, 198.51.100.7, 10.0.0.2"], "198.51.100.7", "two hops"),
            ("10.0.0.1", &["6.6.6.6", "198.51.100.7"], "198.51.100.7", "two lines are one list"),
            ("10.0.0.1", &["6.6.6.6, 198.51.100.7", "10.0.0.2"], "198.51.100.7", "two lines, two hops"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3", "all trusted: the leftmost"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7", "wrapped IPv4 is IPv4"),
            ("fd00::1", &["2001:db8::7"], "2001:db8::7", "IPv6"),
            ("::ffff:192.0.2.1", &["1.1.1.1"], "192.0.2.1", "a wrapped stranger"),
        ] {
            assert_eq!(seen(XForwardedFor, peer, lines), expected, "{why}");
            let quoted: Vec<String> = lines.iter().map(|l| as_forwarded(l)).collect();
            let quoted: Vec<&str> = quoted.iter().map(String::as_str).collect();
            assert_eq!(seen(Forwarded, peer, &quoted), expected, "Forwarded: {why}");
        }
    }

    fn as_forwarded(list: &str) -> String {
        let element = |a: &str| if a.contains(':') { format!("for=\"[{a}]\"") } else { format!("for={a}") };
        list.split(", ").map(element).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn spellings_of_x_forwarded_for() {
        for (line, expected) in [
            ("198.51.100.7:1234", "198.51.100.7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("6.6.6.6,198.51.100.7", "198.51.100.7"),
            ("6.6.6.6 ,\t198.51.100.7 ", "198.51.100.7"),
            ("garbage, 198.51.100.7", "198.51.100.7"),
            // Not to be read: the last good hop is the peer.
            ("", "10.0.0.1"),
            ("198.51.100.7,", "10.0.0.1"),
            ("198.51.100.7, unknown", "10.0.0.1"),
            ("198.51.100.7, 10.0.0.2x", "10.0.0.1"),
            ("198.51.100.7, , 10.0.0.2", "10.0.0.2"),
            ("198.51.100.07", "10.0.0.1"),
            ("0xc6336407", "10.0.0.1"),
            ("198.51.100", "10.0.0.1"),
            ("fe80::1%eth0", "10.0.0.1"),
            ("[fe80::1%1]:80", "10.0.0.1"),
            ("[198.51.100.7]", "10.0.0.1"),
            ("\"198.51.100.7\"", "10.0.0.1"),
            ("198.51.100.7:99999", "10.0.0.1"),
            ("198.51.100.7 6.6.6.6", "10.0.0.1"),
            ("caf\u{e9}", "10.0.0.1"),
        ] {
            assert_eq!(seen(XForwardedFor, "10.0.0.1", &[line]), expected, "{line}");
        }
    }

    /// RFC 7239, 4 and 6.
    #[test]
    fn spellings_of_forwarded() {
        for (line, expected) in [
            ("for=198.51.100.7", "198.51.100.7"),
            ("For=198.51.100.7;Proto=https;By=10.0.0.1", "198.51.100.7"),
            ("proto=https; for=198.51.100.7 ; by=10.0.0.1", "198.51.100.7"),
            (";for=198.51.100.7;", "198.51.100.7"),
            ("for=\"198.51.100.7\"", "198.51.100.7"),
            ("for=\"198.51.100.7:1234\"", "198.51.100.7"),
            ("for=\"198.51.100.7:_hidden\"", "198.51.100.7"),
            ("for=\"[2001:db8::7]\"", "2001:db8::7"),
            ("for=\"[2001:db8::7]:4711\"", "2001:db8::7"),
            ("for=\"[::ffff:198.51.100.7]\"", "198.51.100.7"),
            ("for=6.6.6.6, for=198.51.100.7", "198.51.100.7"),
            ("for=6.6.6.6,for=198.51.100.7;host=\"a,b\"", "198.51.100.7"),
            ("for=198.51.100.7;host=\"a, for=6.6.6.6\"", "198.51.100.7"),
            ("for=198.51.100.7;host=\"a, for=6.6.6.6;x=\"", "198.51.100.7"),
            ("for=198.51.100.7;host=\"a\\\", for=6.6.6.6;x=\\\"\"", "198.51.100.7"),
            // What the client wrote does not hide what the hop appended.
            ("\", for=198.51.100.7", "198.51.100.7"),
            ("for=\"6.6.6.6, for=198.51.100.7", "198.51.100.7"),
            ("for=6.6.6.6;x=\"\\, for=198.51.100.7", "198.51.100.7"),
            ("for=6.6.6.6;x=\", for=\"198.51.100.7\"", "198.51.100.7"),
            // Not to be read: the last good hop is the peer.
            ("", "10.0.0.1"),
            ("for=unknown", "10.0.0.1"),
            ("for=6.6.6.6, for=_hidden", "10.0.0.1"),
            ("for=6.6.6.6, by=10.0.0.2", "10.0.0.1"),
            ("for=6.6.6.6, for=unknown, for=10.0.0.2", "10.0.0.2"),
            ("for=6.6.6.6,", "10.0.0.1"),
            ("for=198.51.100.7;for=6.6.6.6", "10.0.0.1"),
            ("for=[2001:db8::7]", "10.0.0.1"),
            ("for=\"2001:db8::7\"", "10.0.0.1"),
            ("for=198.51.100.7:80", "10.0.0.1"),
            ("for=\"198.51.100.7:\"", "10.0.0.1"),
            ("for=\"198.51.100.7:123456\"", "10.0.0.1"),
            ("for=\"[::1]x\"", "10.0.0.1"),
            ("for=\"198.51.100.7", "10.0.0.1"),
            ("for=\"198.51.100.7\"x", "10.0.0.1"),
            ("for = 198.51.100.7", "10.0.0.1"),
            ("for=", "10.0.0.1"),
            ("198.51.100.7", "10.0.0.1"),
        ] {
            assert_eq!(seen(Forwarded, "10.0.0.1", &[line]), expected, "{line}");
        }
    }

    #[test]
    fn a_walk_ends() {
        let hops = vec!["10.0.0.2"; MAX_HOPS];
        let line = format!("198.51.100.7, {}", hops.join(", "));
        assert_eq!(seen(XForwardedFor, "10.0.0.1", &[&line]), "10.0.0.2");
    }

    #[test]
    fn a_long_malformed_line_is_decided() {
        for piece in ["\",", "a=\",", "a=\"x\",b,", ",\";a=\"", "a=\"\\\","] {
            let line = format!("for=198.51.100.7{};x=\"", piece.repeat(64 * 1024 / piece.len()));
            assert_eq!(seen(Forwarded, "10.0.0.1", &[&line]), "10.0.0.1", "{piece}");
        }
    }

    proptest! {
        /// Whatever a client writes, the address that the trusted hop appends is the one seen.
        #[test]
        fn a_client_cannot_choose_its_address(left in "\\PC{0,40}|[for=\",;.0-9\\\\ ]{0,40}", own_line: bool) {
            for (header, element) in [
                (XForwardedFor, "198.51.100.7"),
                (Forwarded, "for=198.51.100.7"),
                (Forwarded, "for=\"198.51.100.7:80\";proto=https"),
            ] {
                let joined = format!("{left}, {element}");
                let lines = if own_line { vec![left.as_str(), element] } else { vec![joined.as_str()] };
                prop_assert_eq!(seen(header, "10.0.0.1", &lines), "198.51.100.7");
            }
        }

        /// Nor does what the hop quotes of the request.
        #[test]
        fn a_quoted_host_chooses_no_address(
            host in "([a-z0-9=;:, .]|\\\\[\"\\\\,]){0,40}|(a, for=6[.]6[.]6[.]6(;x=|;x=\\\\\")?){0,30}",
            proto in "https|\"\"|\"a,b\"",
        ) {
            let line = format!("for=198.51.100.7;host=\"{host}\";proto={proto}");
            prop_assert_eq!(seen(Forwarded, "10.0.0.1", &[&line]), "198.51.100.7");
        }

        #[test]
        fn any_bytes_are_decided(value: Vec<u8>) {
            let trusted = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
            for header in [XForwardedFor, Forwarded] {
                let _ = client(IpAddr::from([10, 0, 0, 1]), &trusted, header, [value.as_slice()].into_iter());
            }
        }
    }
}
