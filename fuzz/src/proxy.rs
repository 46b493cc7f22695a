//! `decide::proxy_protocol`: a header ends where it ends, in whatever pieces it comes, and says what a naive reader finds in it.
use decide::proxy_protocol::{Header, MAX_V1, MAX_V2, Source, read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

pub fn run(data: &[u8]) {
    let whole = read(data);
    let mut settled = None;
    for end in 0..=data.len() {
        let now = read(&data[..end]);
        match &settled {
            Some(before) => assert_eq!(&now, before, "more bytes change what was said at {end}"),
            None if now != Ok(None) => settled = Some(now),
            None => assert!(end < MAX_V2, "waits for more than a header has"),
        }
    }
    assert_eq!(whole, settled.unwrap_or(Ok(None)));
    let Ok(Some(header)) = whole else { return };
    assert!(header.length <= data.len());
    let own = &data[..header.length];
    assert_eq!(read(own), Ok(Some(header)), "what follows is looked at");
    let text = own[0] == b'P';
    assert!(header.length <= if text { MAX_V1 } else { MAX_V2 });
    assert_eq!(header.source, if text { naive_line(own) } else { naive_binary(own) });
    let Source::Client { client, reached } = header.source else { return };
    assert_eq!(client.ip(), client.ip().to_canonical());
    assert!(!client.ip().is_unspecified() && !client.ip().is_multicast(), "nobody's address");
    // Said in the other version, it is the same.
    if client.is_ipv4() == reached.is_ipv4() {
        let line = format!(
            "PROXY TCP{} {} {} {} {}\r\n",
            if client.is_ipv4() { 4 } else { 6 },
            client.ip(),
            reached.ip(),
            client.port(),
            reached.port()
        );
        assert_eq!(read(line.as_bytes()), Ok(Some(Header { source: header.source, length: line.len() })));
        let binary = binary(client, reached);
        assert_eq!(read(&binary), Ok(Some(Header { source: header.source, length: binary.len() })));
    }
}

/// Words of a line that is one, as somebody reads it who has the whole of it.
fn naive_line(own: &[u8]) -> Source {
    let text = std::str::from_utf8(own).unwrap().strip_suffix("\r\n").unwrap();
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        ["PROXY", "TCP4" | "TCP6", client, reached, from, to] => {
            let end = |address: &str, port: &str| {
                SocketAddr::new(address.parse::<IpAddr>().unwrap().to_canonical(), port.parse().unwrap())
            };
            Source::Client { client: end(client, from), reached: end(reached, to) }
        }
        ["PROXY", "UNKNOWN", ..] => Source::Own,
        _ => panic!("no such line: {text}"),
    }
}

fn naive_binary(own: &[u8]) -> Source {
    let size = match own[12..14] {
        [0x21, 0x11] => 4,
        [0x21, 0x21] => 16,
        _ => return Source::Own,
    };
    let address = |at: usize| -> IpAddr {
        let bytes = &own[at..at + size];
        match <[u8; 4]>::try_from(bytes) {
            Ok(four) => four.into(),
            Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap()).to_canonical(),
        }
    };
    let port = |at: usize| u16::from_be_bytes([own[at], own[at + 1]]);
    let ports = 16 + 2 * size;
    Source::Client {
        client: SocketAddr::new(address(16), port(ports)),
        reached: SocketAddr::new(address(16 + size), port(ports + 2)),
    }
}

fn binary(client: SocketAddr, reached: SocketAddr) -> Vec<u8> {
    let mut body = Vec::new();
    for address in [client.ip(), reached.ip()] {
        match address {
            IpAddr::V4(four) => body.extend(four.octets()),
            IpAddr::V6(six) => body.extend(six.octets()),
        }
    }
    body.extend(client.port().to_be_bytes());
    body.extend(reached.port().to_be_bytes());
    let family = if client.is_ipv4() { 0x11 } else { 0x21 };
    [b"\r\n\r\n\0\r\nQUIT\n\x21".as_slice(), &[family], &(body.len() as u16).to_be_bytes(), &body].concat()
}
