//! Version 2 of the PROXY protocol: the binary header, its addresses, extensions and checksum.
use super::{Defect, Header, MAX_V2, Source};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What it begins with: nothing that a client of HTTP or TLS would send.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED: usize = 16;
/// Type and length of an extension.
const EXTENSION: usize = 3;
/// The extension that holds the CRC-32C of the whole header (2.2.4).
const PP2_TYPE_CRC32C: u8 = 0x03;

/// Reads a header of version 2, refusing with the first byte that cannot be part of one.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Header>, Defect> {
    if bytes.iter().zip(&SIGNATURE).any(|(byte, expected)| byte != expected) {
        return Err(Defect::Absent);
    }
    let Some(command) = bytes.get(SIGNATURE.len()) else { return Ok(None) };
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Defect::Command),
    };
    let Some(family) = bytes.get(SIGNATURE.len() + 1) else { return Ok(None) };
    // Bytes that two addresses and two ports take.
    let addresses = match family {
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        // Of LOCAL, family and addresses are to be ignored (2.2).
        _ if local => 0,
        _ => return Err(Defect::Family),
    };
    let Some([high, low]) = bytes.get(SIGNATURE.len() + 2..FIXED) else { return Ok(None) };
    let length = FIXED + usize::from(u16::from_be_bytes([*high, *low]));
    if length > MAX_V2 || (!local && length < FIXED + addresses) {
        return Err(Defect::Length);
    }
    let Some(header) = bytes.get(..length) else { return Ok(None) };
    if local {
        return Ok(Some(Header { source: Source::Own, length }));
    }
    let body = header.get(FIXED..).unwrap_or_default();
    let (named, extensions) = body.split_at_checked(addresses).ok_or(Defect::Length)?;
    check(header, extensions)?;
    let source = match named.len() {
        12 => ends::<4>(named).ok_or(Defect::Length)?,
        36 => ends::<16>(named).ok_or(Defect::Length)?,
        _ => return Ok(Some(Header { source: Source::Own, length })),
    };
    Ok(Some(Header { source: super::source(source.0, source.1)?, length }))
}

/// An address and its port.
type End = (IpAddr, u16);

/// The two ends: client, then whom it reached; addresses before ports.
fn ends<const N: usize>(bytes: &[u8]) -> Option<(End, End)>
where
    Address<N>: Into<IpAddr>,
{
    let (client, rest) = bytes.split_first_chunk::<N>()?;
    let (reached, rest) = rest.split_first_chunk::<N>()?;
    let (client_port, rest) = rest.split_first_chunk::<2>()?;
    let (reached_port, _) = rest.split_first_chunk::<2>()?;
    let end = |address: &[u8; N], port: &[u8; 2]| (Address(*address).into(), u16::from_be_bytes(*port));
    Some((end(client, client_port), end(reached, reached_port)))
}

/// An address as it is on the wire.
struct Address<const N: usize>([u8; N]);

impl From<Address<4>> for IpAddr {
    fn from(address: Address<4>) -> IpAddr {
        Ipv4Addr::from(address.0).into()
    }
}

impl From<Address<16>> for IpAddr {
    fn from(address: Address<16>) -> IpAddr {
        Ipv6Addr::from(address.0).into()
    }
}

/// Walks over the extensions, which must fill the rest exactly, and verifies the checksum where there is one.
fn check(header: &[u8], extensions: &[u8]) -> Result<(), Defect> {
    let (mut rest, mut stated) = (extensions, None);
    while !rest.is_empty() {
        let [kind, high, low, ..] = rest else { return Err(Defect::Extensions) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let value = rest.get(EXTENSION..EXTENSION + length).ok_or(Defect::Extensions)?;
        if *kind == PP2_TYPE_CRC32C {
            let value: [u8; 4] = value.try_into().map_err(|_| Defect::Checksum)?;
            let at = header.len() - rest.len() + EXTENSION;
            if stated.replace((u32::from_be_bytes(value), at)).is_some() {
                return Err(Defect::Checksum);
            }
        }
        rest = rest.get(EXTENSION + length..).unwrap_or_default();
    }
    match stated {
        Some((sum, at)) if sum != crc32c(header, at) => Err(Defect::Checksum),
        Some(_) | None => Ok(()),
    }
}

/// CRC-32C (RFC 3720, appendix B.4) of the header with zeros in the four bytes from `zeros` on. Bit by bit: a header has a
/// hundred bytes, and few have a checksum.
pub(super) fn crc32c(header: &[u8], zeros: usize) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = u32::MAX;
    for (at, byte) in header.iter().enumerate() {
        crc ^= if (zeros..zeros + 4).contains(&at) { 0 } else { u32::from(*byte) };
        for _ in 0..8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
