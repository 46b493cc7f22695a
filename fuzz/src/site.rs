//! `decide::site`: what counts as our own origin is our own origin to others too.
use crate::input;
use decide::site::{Own, Said, read};

const OWNS: [Own<'static>; 3] = [
    Own { scheme: "https", host: "app.example", port: None },
    Own { scheme: "https", host: "app.example", port: Some(8443) },
    Own { scheme: "http", host: "[::1]", port: Some(80) },
];

pub fn run(data: &[u8]) {
    let (fetch_site, rest) = input::line(data);
    let (origin, referer) = input::line(rest);
    for own in &OWNS {
        let default = if own.scheme == "https" { 443 } else { 80 };
        let port = own.port.unwrap_or(default);
        let site = |origin, referer| {
            let fetch_site = Some(fetch_site);
            read(own, &Said { fetch_site, fetch_mode: fetch_site, fetch_dest: fetch_site, origin, referer })
        };

        let ours = site(Some(origin), Some(referer)).same_origin == Some(true);
        let spelled = |text: String| text.as_bytes() == origin;
        let expected = spelled(format!("{}://{}:{port}", own.scheme, own.host))
            || (port == default && spelled(format!("{}://{}", own.scheme, own.host)));
        assert_eq!(ours, expected, "{}", String::from_utf8_lossy(origin));
        assert_eq!(site(Some(origin), None).same_origin, Some(ours), "`Referer` changes what `Origin` says");

        if site(None, Some(referer)).same_origin == Some(true) {
            // Up to where its path begins, it is what `Origin` would be.
            let prefix = format!("{}://", own.scheme).len();
            let end = referer[prefix..].iter().position(|b| matches!(b, b'/' | b'?' | b'#'));
            let origin = &referer[..end.map_or(referer.len(), |end| prefix + end)];
            assert_eq!(site(Some(origin), None).same_origin, Some(true), "{}", String::from_utf8_lossy(referer));
            if let Ok(uri) = http::Uri::try_from(referer) {
                assert_eq!((uri.host(), uri.port_u16().unwrap_or(default)), (Some(own.host), port));
            }
        }
        assert_eq!(site(None, None).same_origin, None);
    }
}
