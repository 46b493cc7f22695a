//! A listener that only a content delivery network may reach: who is in front of it, and whom that one names as its client.
use crate::forwarded::plain;
use crate::refusal::{Code, Refusal};
use core::net::IpAddr;
use ipnet::IpNet;

/// Refuses a direct hit with `network.denied`: `peer` is in none of the network's `ranges`.
pub fn admit(peer: IpAddr, ranges: &[IpNet]) -> Result<(), Refusal> {
    let peer = peer.to_canonical();
    if ranges.iter().any(|range| range.contains(&peer)) {
        Ok(())
    } else {
        Err(Refusal::new(Code::NetworkDenied, "a direct hit: the peer is outside the ranges of the edge"))
    }
}

/// The client's address, in canonical form, as the network's own header names it: one address, perhaps with a port or in
/// brackets. To be called for peers that were [admitted](admit) only.
///
/// The network always sends the header. So its absence is refused with `network.denied`, as it would else make one client of
/// everybody; two of them, or one that is no address, with `request.ambiguous`.
pub fn client<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<IpAddr, Refusal> {
    let Some(value) = values.next() else {
        return Err(Refusal::new(Code::NetworkDenied, "the edge does not name its client"));
    };
    let text = std::str::from_utf8(value).ok().filter(|_| values.next().is_none());
    match text.and_then(|text| plain(text.trim_matches([' ', '\t']))) {
        Some(address) => Ok(address.to_canonical()),
        None => Err(Refusal::new(Code::RequestAmbiguous, "the header of the edge does not hold one address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(values: &[&str]) -> String {
        match client(values.iter().map(|value| value.as_bytes())) {
            Ok(address) => address.to_string(),
            Err(refusal) => refusal.code.id().to_owned(),
        }
    }

    #[test]
    fn only_the_ranges_are_admitted() {
        let ranges = ["173.245.48.0/20".parse().unwrap(), "2400:cb00::/32".parse().unwrap()];
        let code = |peer: &str| admit(peer.parse().unwrap(), &ranges).err().map(|refusal| refusal.code.id());
        for peer in ["173.245.48.0", "173.245.63.255", "::ffff:173.245.50.1", "2400:cb00::1"] {
            assert_eq!(code(peer), None, "{peer}");
        }
        for peer in ["173.245.64.0", "198.51.100.7", "2400:cb01::1", "::1"] {
            assert_eq!(code(peer), Some("network.denied"), "{peer}");
        }
        assert!(admit("173.245.48.1".parse().unwrap(), &[]).is_err(), "no ranges admit nobody");
    }

    #[test]
    fn the_client_that_the_edge_names() {
        for (values, expected) in [
            (&["198.51.100.7"][..], "198.51.100.7"),
            (&[" 198.51.100.7\t"], "198.51.100.7"),
            (&["198.51.100.7:46532"], "198.51.100.7"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["[2001:db8::7]:46532"], "2001:db8::7"),
            (&["::ffff:198.51.100.7"], "198.51.100.7"),
            (&[], "network.denied"),
            (&[""], "request.ambiguous"),
            (&["unknown"], "request.ambiguous"),
            (&["198.51.100.7, 6.6.6.6"], "request.ambiguous"),
            (&["198.51.100.7", "198.51.100.7"], "request.ambiguous"),
            (&["198.51.100.07"], "request.ambiguous"),
            (&["fe80::1%eth0"], "request.ambiguous"),
            (&["caf\u{e9}"], "request.ambiguous"),
        ] {
            assert_eq!(said(values), expected, "{values:?}");
        }
    }
}
