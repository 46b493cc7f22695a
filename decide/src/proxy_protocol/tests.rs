//! Tables and properties of the PROXY header. Vectors: HAProxy's `proxy-protocol.txt`, 2.1, and headers that HAProxy sends.
use super::v2::crc32c;
use super::*;
use proptest::prelude::*;

/// The header read from these bytes, in one word.
fn seen(bytes: &[u8]) -> String {
    match read(bytes) {
        Ok(None) => "more".to_owned(),
        Ok(Some(Header { source: Source::Own, length })) => format!("own after {length}"),
        Ok(Some(Header { source: Source::Client { client, reached }, length })) => {
            format!("{client} to {reached} after {length}")
        }
        Err(defect) => format!("{defect:?}"),
    }
}

/// A header of version 2 with its length as it is.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &length, body].concat()
}

const V4: [u8; 12] = [198, 51, 100, 7, 10, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb];

fn v6(client: &str) -> Vec<u8> {
    let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets().to_vec();
    [octets(client), octets("fd00::1"), vec![0x30, 0x39, 0x01, 0xbb]].concat()
}

/// Puts the checksum into a header that ends with the room for it.
fn sealed(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = v2(command, family, &[body, &[3, 0, 4, 0, 0, 0, 0]].concat());
    let at = header.len() - 4;
    let sum = crc32c(&header, at).to_be_bytes();
    header[at..].copy_from_slice(&sum);
    header
}

#[test]
fn lines_of_version_1() {
    for (line, expected) in [
        ("PROXY TCP4 198.51.100.7 10.0.0.1 12345 443\r\n", "198.51.100.7:12345 to 10.0.0.1:443 after 44"),
        (
            "PROXY TCP4 255.255.255.254 255.255.255.255 65535 65535\r\n",
            "255.255.255.254:65535 to 255.255.255.255:65535 after 56",
        ),
        ("PROXY TCP6 2001:db8::7 fd00::1 12345 443\r\n", "[2001:db8::7]:12345 to [fd00::1]:443 after 42"),
        ("PROXY TCP6 ::ffff:198.51.100.7 fd00::1 1 0\r\n", "198.51.100.7:1 to [fd00::1]:0 after 44"),
        ("PROXY UNKNOWN\r\n", "own after 15"),
        ("PROXY UNKNOWN anything at all\r\n", "own after 31"),
        (
            "PROXY TCP4 198.51.100.7 10.0.0.1 12345 443\r\nGET / HTTP/1.1\r\n",
            "198.51.100.7:12345 to 10.0.0.1:443 after 44",
        ),
        ("", "more"),
        ("PRO", "more"),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 12345 443\r", "more"),
        ("GET / HTTP/1.1\r\n", "Absent"),
        ("PRI * HTTP/2.0\r\n", "Absent"),
        ("POST /", "Absent"),
        ("proxy TCP4 198.51.100.7 10.0.0.1 12345 443\r\n", "Absent"),
        ("PROXY\r\n", "Absent"),
        ("PROXY \r\n", "Words"),
        ("PROXY  TCP4 198.51.100.7 10.0.0.1 12345 443\r\n", "Words"),
        ("PROXY TCP4  198.51.100.7 10.0.0.1 12345 443\r\n", "Words"),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 12345 443 \r\n", "Words"),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 12345 443 1\r\n", "Words"),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 12345\r\n", "Words"),
        ("PROXY TCP4 2001:db8::7 fd00::1 12345 443\r\n", "Words"),
        ("PROXY TCP6 198.51.100.7 10.0.0.1 12345 443\r\n", "Words"),
        ("PROXY TCP6 fe80::1%eth0 fd00::1 12345 443\r\n", "Words"),
        ("PROXY TCP6 [2001:db8::7] fd00::1 12345 443\r\n", "Words"),
        ("PROXY UDP4 198.51.100.7 10.0.0.1 12345 443\r\n", "Words"),
        ("PROXY UNKNOWNS\r\n", "Words"),
        ("PROXY tcp4 198.51.100.7 10.0.0.1 12345 443\r\n", "Words"),
        ("PROXY TCP4 198.51.100.07 10.0.0.1 12345 443\r\n", "Words"),
        ("PROXY TCP4 198.51.100 10.0.0.1 12345 443\r\n", "Words"),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 012345 443\r\n", "Words"),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 +1 443\r\n", "Words"),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 65536 443\r\n", "Words"),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 12345 443\n", "Line"),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 12345 443\r\r\n", "Line"),
        ("PROXY TCP4 198.51.100.7\t10.0.0.1 12345 443\r\n", "Line"),
        ("PROXY TCP4 198.51.100.7\0 10.0.0.1 12345 443\r\n", "Line"),
        ("PROXY UNKNOWN caf\u{e9}\r\n", "Line"),
        ("PROXY TCP4 0.0.0.0 10.0.0.1 12345 443\r\n", "Address"),
        ("PROXY TCP4 224.0.0.1 10.0.0.1 12345 443\r\n", "Address"),
        ("PROXY TCP4 255.255.255.255 10.0.0.1 12345 443\r\n", "Address"),
        ("PROXY TCP6 :: fd00::1 12345 443\r\n", "Address"),
        ("PROXY TCP6 ff02::1 fd00::1 12345 443\r\n", "Address"),
        ("PROXY TCP6 ::ffff:0.0.0.0 fd00::1 12345 443\r\n", "Address"),
    ] {
        assert_eq!(seen(line.as_bytes()), expected, "{line:?}");
    }
}

/// 2.1: 107 characters with the end, and not one more.
#[test]
fn a_line_has_an_end() {
    let line = |length: usize| format!("PROXY UNKNOWN {}", "x".repeat(length - 16));
    assert_eq!(seen(format!("{}\r\n", line(107)).as_bytes()), "own after 107");
    assert_eq!(seen(format!("{}\r", line(107)).as_bytes()), "more");
    assert_eq!(seen(format!("{}\r\n", line(108)).as_bytes()), "Line");
    assert_eq!(seen(format!("{}\r", line(108)).as_bytes()), "Line");
    assert_eq!(seen(&[b'P'; 200]), "Absent");
    assert_eq!(seen(format!("{}xx", line(107)).as_bytes()), "Line");
}

#[test]
fn headers_of_version_2() {
    let with = |extensions: &[u8]| [V4.as_slice(), extensions].concat();
    for (header, expected, why) in [
        (v2(0x21, 0x11, &V4), "198.51.100.7:12345 to 10.0.0.1:443 after 28", "TCP over IPv4"),
        (v2(0x21, 0x21, &v6("2001:db8::7")), "[2001:db8::7]:12345 to [fd00::1]:443 after 52", "TCP over IPv6"),
        (v2(0x21, 0x21, &v6("::ffff:198.51.100.7")), "198.51.100.7:12345 to [fd00::1]:443 after 52", "wrapped IPv4"),
        (v2(0x20, 0x00, &[]), "own after 16", "LOCAL"),
        (v2(0x20, 0x11, &V4), "own after 28", "LOCAL with addresses that do not count"),
        (v2(0x20, 0x31, &[0; 216]), "own after 232", "LOCAL of whatever family"),
        (v2(0x20, 0x11, &[1, 2]), "own after 18", "LOCAL with a block of its own"),
        (v2(0x21, 0x00, &[]), "own after 16", "unspecified"),
        (v2(0x21, 0x00, &[4, 0, 1, 0]), "own after 20", "unspecified with an extension"),
        (
            v2(0x21, 0x11, &with(&[4, 0, 2, 0, 0, 0xea, 0, 1, 1])),
            "198.51.100.7:12345 to 10.0.0.1:443 after 37",
            "extensions",
        ),
        (sealed(0x21, 0x11, &V4), "198.51.100.7:12345 to 10.0.0.1:443 after 35", "checksum"),
        (sealed(0x21, 0x00, &[]), "own after 23", "checksum without addresses"),
        (v2(0x11, 0x11, &V4), "Command", "version 1 in binary"),
        (v2(0x22, 0x11, &V4), "Command", "no such command"),
        (v2(0x31, 0x11, &V4), "Command", "version 3"),
        (v2(0x21, 0x12, &V4), "Family", "UDP"),
        (v2(0x21, 0x22, &v6("2001:db8::7")), "Family", "UDP over IPv6"),
        (v2(0x21, 0x31, &[0; 216]), "Family", "a Unix socket"),
        (v2(0x21, 0x10, &V4), "Family", "no transport"),
        (v2(0x21, 0x01, &V4), "Family", "no family"),
        (v2(0x21, 0x11, &V4[..11]), "Length", "shorter than its addresses"),
        (v2(0x21, 0x21, &V4), "Length", "IPv4 in the room of IPv6"),
        (v2(0x21, 0x11, &with(&[4])), "Extensions", "half an extension"),
        (v2(0x21, 0x11, &with(&[4, 0, 2, 0])), "Extensions", "an extension that is longer than the header"),
        (v2(0x21, 0x11, &with(&[3, 0, 4, 0, 0, 0, 0])), "Checksum", "wrong checksum"),
        (v2(0x21, 0x11, &with(&[3, 0, 2, 0, 0])), "Checksum", "short checksum"),
        (sealed(0x21, 0x11, &with(&[3, 0, 4, 0, 0, 0, 0])), "Checksum", "two checksums"),
        (v2(0x21, 0x11, &[&[0; 4], &V4[4..]].concat()), "Address", "from nowhere"),
        (v2(0x21, 0x11, &[&[255; 4], &V4[4..]].concat()), "Address", "from everybody"),
        (v2(0x21, 0x21, &v6("ff02::1")), "Address", "from many"),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), "Absent", "another signature"),
        (b"\r\nGET / HTTP/1.1\r\n".to_vec(), "Absent", "an empty line"),
        (vec![0x16, 3, 1, 2, 0, 1], "Absent", "a ClientHello"),
    ] {
        assert_eq!(seen(&header), expected, "{why}");
    }
}

#[test]
fn an_extension_block_has_a_greatest_size() {
    let filled = |length: u16| {
        let value = length - 12 - 3;
        [V4.as_slice(), &[4], &value.to_be_bytes(), &vec![0; usize::from(value)]].concat()
    };
    assert_eq!(seen(&v2(0x21, 0x11, &filled(4096))), "198.51.100.7:12345 to 10.0.0.1:443 after 4112");
    // Refused by what it announces, without its bytes.
    assert_eq!(seen(&v2(0x21, 0x11, &filled(4097))[..16]), "Length");
    assert_eq!(seen(&v2(0x20, 0x00, &vec![0; 65535])[..16]), "Length");
}

/// RFC 3720, B.4, and the check value of the CRC catalogues.
#[test]
fn checksums() {
    assert_eq!(crc32c(b"123456789", 100), 0xe306_9283);
    assert_eq!(crc32c(&[0; 32], 100), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32], 100), 0x62a8_ab43);
    assert_eq!(crc32c(&[0, 0, 9, 9, 9, 9, 0], 2), crc32c(&[0; 7], 100));
}

fn good() -> Vec<Vec<u8>> {
    vec![
        b"PROXY TCP4 198.51.100.7 10.0.0.1 12345 443\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::7 fd00::1 12345 443\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2(0x21, 0x11, &V4),
        v2(0x21, 0x21, &v6("2001:db8::7")),
        v2(0x20, 0x00, &[]),
        sealed(0x21, 0x11, &[V4.as_slice(), &[4, 0, 2, 0, 0]].concat()),
    ]
}

/// Nothing is taken from the header early, late or twice, wherever the network cuts it, and what follows stays untouched.
#[test]
fn a_header_is_the_same_in_any_pieces() {
    for header in good() {
        let whole = read(&header).unwrap().unwrap();
        assert_eq!(whole.length, header.len());
        for cut in 0..header.len() {
            assert_eq!(read(&header[..cut]), Ok(None), "{cut} of {header:?}");
        }
        for behind in [b"\r\n".as_slice(), b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1], b"PROXY UNKNOWN\r\n", &[0; 5000]] {
            assert_eq!(read(&[header.as_slice(), behind].concat()), Ok(Some(whole)));
        }
    }
}

#[test]
fn no_flipped_bit_passes_a_checksum() {
    let header = sealed(0x21, 0x11, &V4);
    for bit in 0..header.len() * 8 {
        let mut flipped = header.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match read(&flipped) {
            // LOCAL takes nothing from the block, and a longer header waits for bytes that do not come.
            Ok(Some(Header { source: Source::Own, .. }) | None) | Err(_) => {}
            // Another type of extension is no checksum at all.
            Ok(Some(Header { source: Source::Client { client, .. }, .. })) => {
                assert_eq!((bit / 8, client.to_string().as_str()), (28, "198.51.100.7:12345"));
            }
        }
    }
}

proptest! {
    /// A decision once made stands, whatever comes behind it; and before it, every byte belongs to the header.
    #[test]
    fn more_bytes_change_no_verdict(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            "PROXY (TCP4|TCP6|UNKNOWN)?[ -~]{0,110}(\r\n)?".prop_map(String::into_bytes),
            (0x1fu8..0x23, any::<u8>(), prop::collection::vec(any::<u8>(), 0..80)).prop_map(|(c, f, b)| v2(c, f, &b)),
        ],
        cut in any::<prop::sample::Index>(),
        behind: Vec<u8>,
    ) {
        let early = read(&bytes[..cut.index(bytes.len() + 1)]);
        if early != Ok(None) {
            prop_assert_eq!(early, read(&bytes));
            prop_assert_eq!(early, read(&[bytes.as_slice(), &behind].concat()));
        }
        if let Ok(Some(header)) = early {
            prop_assert!(header.length <= bytes.len() && header.length <= MAX_V2);
        }
        prop_assert!(read(&[bytes.as_slice(), &vec![b'x'; MAX_V2 + 1]].concat()) != Ok(None));
    }
}
