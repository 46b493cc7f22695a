//! `decide::forwarded`: nobody but a trusted hop chooses the client's address.
use crate::input::without_space;
use decide::forwarded::{ClientHeader, MAX_HOPS, client};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

pub fn run(data: &[u8]) {
    let trusted: [IpNet; 2] = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
    let lines: Vec<&[u8]> = data.split(|b| *b == b'\n').collect();
    let joined = lines.join(b", ".as_slice());
    let seen = |header, lines: &[&[u8]]| client(PEER, &trusted, header, lines.iter().copied());

    let plain = seen(ClientHeader::XForwardedFor, &lines);
    assert_eq!(plain, seen(ClientHeader::XForwardedFor, &[&joined]), "lines are one list");
    assert_eq!(plain, naive(&joined, &trusted), "another reader believes somebody else");

    let stranger: IpAddr = "192.0.2.1".parse().unwrap();
    for (header, own) in [
        (ClientHeader::XForwardedFor, "198.51.100.7"),
        (ClientHeader::XForwardedFor, "[2001:db8::7]:80"),
        (ClientHeader::Forwarded, "for=198.51.100.7"),
        (ClientHeader::Forwarded, "proto=https;for=\"[2001:db8::7]:80\";host=\"a,b\""),
    ] {
        let found = seen(header, &lines);
        assert_eq!(found, found.to_canonical());
        assert_eq!(client(stranger, &trusted, header, lines.iter().copied()), stranger, "a stranger is believed");
        // What a trusted hop appends is what is seen, whatever stands left of it, on its line or another.
        let expected: IpAddr = if own.contains("198") { "198.51.100.7" } else { "2001:db8::7" }.parse().unwrap();
        let appended = [joined.as_slice(), b", ", own.as_bytes()].concat();
        assert_eq!(seen(header, &[&appended]), expected);
        assert_eq!(seen(header, &[&joined, own.as_bytes()]), expected);
    }
}

/// `X-Forwarded-For` from right to left.
fn naive(list: &[u8], trusted: &[IpNet]) -> IpAddr {
    let mut seen = PEER;
    for element in list.rsplit(|b| *b == b',').take(MAX_HOPS) {
        if !trusted.iter().any(|net| net.contains(&seen)) {
            break;
        }
        let Some(address) = std::str::from_utf8(without_space(element)).ok().and_then(address) else { break };
        seen = address.to_canonical();
    }
    seen
}

fn address(text: &str) -> Option<IpAddr> {
    if text.contains('%') {
        return None;
    }
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(bracketed).or_else(with_port)
}
