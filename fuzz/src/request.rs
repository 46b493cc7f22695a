//! `decide::request`, `path`, `authority`: what is accepted is in canonical form, and every reader finds the same there.
use crate::input;
use decide::authority::Authority;
use decide::path::{MAX_PATH, MAX_QUERY, MAX_SEGMENTS};
use decide::request::Request;

pub fn run(data: &[u8]) {
    let Some((method, rest)) = input::text_line(data) else { return };
    let Some((host, rest)) = input::text_line(rest) else { return };
    authority(host);
    let Ok(target) = std::str::from_utf8(rest) else { return };
    let Ok(request) = Request::parse(method, target, host) else { return };

    let port = request.port.map(|port| format!(":{port}")).unwrap_or_default();
    let named = format!("{}{port}", request.host);
    let again = Request::parse(request.method.as_str(), &request.target(), &named).expect("canonical form is accepted");
    assert_eq!(again, request);
    let absolute = format!("http://{named}{}", request.target());
    assert_eq!(Request::parse(method, &absolute, &named).expect("absolute-form of what passes"), request);
    assert!(Request::parse(method, &absolute, "another.example").is_err());

    path(&request.path);
    if let Some(query) = &request.query {
        assert!(query.len() <= MAX_QUERY && query.bytes().all(|b| b.is_ascii_graphic() && b != b'#'));
    }
    // A reader of URIs that is not ours splits it in the same places.
    let uri: http::Uri = request.target().parse().expect("a URI");
    assert_eq!((uri.path(), uri.query()), (&*request.path, request.query.as_deref()));
}

fn path(path: &str) {
    assert!(path.starts_with('/') && path.len() <= MAX_PATH && !path.contains("//"));
    assert!(path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'?' | b'#' | b';' | b'%') || b == b'%'));
    let segments: Vec<&str> = path[1..].split('/').collect();
    assert!(segments.len() <= MAX_SEGMENTS);
    let decoded: Vec<String> = segments.iter().map(|s| decoded(s)).collect();
    for segment in &decoded {
        assert!(!segment.contains(['/', '\\', ';']) && !segment.chars().any(char::is_control), "{segment:?}");
        assert!(!matches!(segment.trim(), "." | ".."), "{segment:?}");
        // Whoever decodes once more gets no further.
        assert_eq!(self::decoded(segment), *segment);
    }
    // Decoding first and splitting then is the same as the other way round.
    let whole = self::decoded(&path[1..]);
    assert_eq!(whole.split('/').collect::<Vec<_>>(), decoded.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Percent-decoding as a careless server does it; what is no triplet stands for itself.
fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let triplet = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let value = triplet.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match value.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *byte == b'%') {
            Some(value) => {
                out.push(value);
                rest = &after[2..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8(out).expect("a path is UTF-8 when decoded")
}

fn authority(text: &str) {
    let Ok(read) = Authority::parse(text) else { return };
    assert_eq!(Authority::parse(&read.host).expect("canonical form is accepted").host, read.host);
    assert!(read.host.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()) && read.port != Some(0));
    // Others take it apart in the same places.
    let other: http::uri::Authority = text.parse().expect("an authority");
    let host = other.host().strip_suffix('.').unwrap_or(other.host());
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().ok();
    let ours = read.host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().ok();
    assert!(host.eq_ignore_ascii_case(&read.host) || (address.is_some() && address == ours), "{text}");
    assert_eq!(other.port_u16(), read.port);
}
