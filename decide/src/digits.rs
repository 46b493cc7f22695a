//! Numbers, hex and addresses as text, appended to a buffer: an entry, a log line and a head hold dozens of them, and each
//! formatted the usual way costs as much as a look-up of its route.
use bytes::BufMut;
use core::net::{IpAddr, Ipv4Addr};

/// Appends a number in decimal.
pub fn decimal(out: &mut impl BufMut, value: u64) {
    out.put_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends an address: IPv4 in dots, IPv6 as RFC 5952 writes it.
pub fn address(out: &mut impl BufMut, address: IpAddr) {
    match address {
        IpAddr::V4(address) => dotted(out, address),
        IpAddr::V6(address) => out.put_slice(address.to_string().as_bytes()),
    }
}

fn dotted(out: &mut impl BufMut, address: Ipv4Addr) {
    // Written in place and passed on once: at most four numbers of three digits, each with a dot behind it.
    let (mut text, mut length) = ([0; 16], 0);
    for octet in address.octets() {
        let places = [b'0' + octet / 100, b'0' + octet / 10 % 10, b'0' + octet % 10, b'.'];
        let unused = usize::from(octet < 100) + usize::from(octet < 10);
        for (to, from) in text.iter_mut().skip(length).zip(places.iter().skip(unused)) {
            *to = *from;
        }
        length += places.len() - unused;
    }
    out.put_slice(text.get(..length - 1).unwrap_or_default());
}

/// Writes bytes in lowercase hex, two places for each.
pub(crate) fn hex(bytes: &[u8], places: &mut [u8]) {
    for (byte, place) in bytes.iter().zip(places.as_chunks_mut::<2>().0) {
        *place = pair(*byte);
    }
}

/// The two digits of a byte.
#[expect(clippy::indexing_slicing, reason = "the table has an entry for each value of a byte")]
pub(crate) const fn pair(byte: u8) -> [u8; 2] {
    PAIRS[byte as usize]
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would refuse an index out of range")]
const PAIRS: [[u8; 2]; 256] = {
    let (mut table, digits) = ([[0; 2]; 256], b"0123456789abcdef");
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_formatting_writes(value: u64, v4: u32, v6: u128, bytes: [u8; 7]) {
            prop_assert_eq!(written(|out| decimal(out, value)), value.to_string());
            prop_assert_eq!(written(|out| decimal(out, value % 11)), (value % 11).to_string());
            for ip in [IpAddr::V4(v4.into()), IpAddr::V6(v6.into())] {
                prop_assert_eq!(written(|out| address(out, ip)), ip.to_string());
            }
            let mut places = [0; 14];
            hex(&bytes, &mut places);
            let expected: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(places.as_slice(), expected.as_bytes());
        }
    }
}
