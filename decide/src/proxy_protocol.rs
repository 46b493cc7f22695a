//! The PROXY protocol, versions 1 and 2: what a balancer says about a connection before its first byte, read strictly.
//!
//! The reader takes bytes and says whether they are a header, the beginning of one, or neither, so it makes no difference
//! in which pieces they came, and nothing behind the header is ever looked at. What the specification (HAProxy,
//! `proxy-protocol.txt`, 2.1 to 2.2) leaves to the receiver is refused: other transports than TCP, Unix sockets, addresses
//! that nobody can have, extensions beyond [`MAX_V2`].
mod v2;
#[cfg(test)]
mod tests;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Greatest length of a header of version 1, its end included (2.1).
pub const MAX_V1: usize = 107;
/// Greatest length of a header of version 2: addresses and extensions have 4,096 bytes. The specification would allow 65,535.
pub const MAX_V2: usize = 16 + 4096;

/// For whom the connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// For the balancer itself (LOCAL), or for somebody whom it cannot name (UNKNOWN): its own address stands.
    Own,
    /// For a client.
    Client {
        /// The client's address; IPv4 that is wrapped in IPv6 is unwrapped.
        client: SocketAddr,
        /// The address that the client connected to.
        reached: SocketAddr,
    },
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// For whom the connection was made.
    pub source: Source,
    /// Bytes that it took.
    pub length: usize,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// They begin like neither version.
    Absent,
    /// A line of version 1 that is longer than [`MAX_V1`], or has other characters than printable ones.
    Line,
    /// A line of version 1 whose words are not protocol, two addresses of its family and two ports.
    Words,
    /// A version or command of the binary header that does not exist.
    Command,
    /// A family that is neither unspecified nor TCP over IPv4 or IPv6, as a Unix socket or UDP.
    Family,
    /// A binary header shorter than its addresses, or longer than [`MAX_V2`].
    Length,
    /// Extensions that do not fill the rest of the header exactly.
    Extensions,
    /// A checksum that is not that of the header, or two.
    Checksum,
    /// A client address that no client has: unspecified, multicast or broadcast.
    Address,
}

impl Defect {
    /// In words, for the audit entry.
    pub const fn cause(self) -> &'static str {
        match self {
            Defect::Absent => "the connection does not begin with a PROXY header",
            Defect::Line => "the line of the PROXY header is too long or not printable",
            Defect::Words => "the words of the PROXY header are not protocol, addresses and ports",
            Defect::Command => "the PROXY header has an unknown version or command",
            Defect::Family => "the PROXY header is not about TCP over IPv4 or IPv6",
            Defect::Length => "the PROXY header is too short for its addresses, or too long",
            Defect::Extensions => "the extensions of the PROXY header do not fill it",
            Defect::Checksum => "the checksum of the PROXY header is wrong",
            Defect::Address => "the PROXY header names an address that no client has",
        }
    }
}

/// Reads the header at the beginning of `bytes`. `None` where they are the beginning of one and all belong to it: more
/// must come. Whatever follows a complete header is not looked at.
pub fn read(bytes: &[u8]) -> Result<Option<Header>, Defect> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => line(bytes),
        Some(_) => v2::read(bytes),
    }
}

/// Version 1: one line.
fn line(bytes: &[u8]) -> Result<Option<Header>, Defect> {
    const BEGINNING: &[u8] = b"PROXY ";
    if bytes.iter().zip(BEGINNING).any(|(byte, expected)| byte != expected) {
        return Err(Defect::Absent);
    }
    let window = bytes.get(..MAX_V1).unwrap_or(bytes);
    let Some(end) = window.iter().position(|byte| !matches!(byte, b' '..=b'~')) else {
        return if bytes.len() < MAX_V1 { Ok(None) } else { Err(Defect::Line) };
    };
    let text = window.get(BEGINNING.len()..end).and_then(|text| std::str::from_utf8(text).ok());
    match window.get(end..end + 2) {
        Some(b"\r\n") => {
            let source = words(text.ok_or(Defect::Absent)?)?;
            Ok(Some(Header { source, length: end + 2 }))
        }
        // The line feed is still to come, and fits.
        None if window.get(end) == Some(&b'\r') && end + 2 <= MAX_V1 => Ok(None),
        Some(_) | None => Err(Defect::Line),
    }
}

/// What stands between `PROXY ` and the end of the line.
fn words(text: &str) -> Result<Source, Defect> {
    // Whatever follows UNKNOWN is to be ignored (2.1).
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Ok(Source::Own);
    }
    let mut words = text.split(' ');
    let mut next = || words.next().ok_or(Defect::Words);
    let (family, client, reached) = (next()?, next()?, next()?);
    let (client_port, reached_port) = (port(next()?)?, port(next()?)?);
    if words.next().is_some() {
        return Err(Defect::Words);
    }
    let (client, reached) = match family {
        "TCP4" => (address::<Ipv4Addr>(client)?, address::<Ipv4Addr>(reached)?),
        "TCP6" => (address::<Ipv6Addr>(client)?, address::<Ipv6Addr>(reached)?),
        _ => return Err(Defect::Words),
    };
    source((client, client_port), (reached, reached_port))
}

fn address<T: std::str::FromStr + Into<IpAddr>>(word: &str) -> Result<IpAddr, Defect> {
    word.parse::<T>().map(Into::into).map_err(|_| Defect::Words)
}

/// Decimal, without sign and leading zeros.
fn port(word: &str) -> Result<u16, Defect> {
    let plain = word == "0" || word.starts_with(|c: char| matches!(c, '1'..='9'));
    if plain { word.parse().map_err(|_| Defect::Words) } else { Err(Defect::Words) }
}

/// The two ends of the client's connection, where the client's can be an end of one.
fn source(client: (IpAddr, u16), reached: (IpAddr, u16)) -> Result<Source, Defect> {
    let at = |(address, port): (IpAddr, u16)| SocketAddr::new(address.to_canonical(), port);
    let (client, reached) = (at(client), at(reached));
    let address = client.ip();
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || broadcast {
        return Err(Defect::Address);
    }
    Ok(Source::Client { client, reached })
}
