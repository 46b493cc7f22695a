//! `decide::head`: a request head that passes has one reading, whoever reads it.
use crate::input::naive_section;
use decide::head::{HeadLimits, HeadView, Version, check};
use decide::request::Method;

/// Small, so that the edges are within reach.
const LIMITS: HeadLimits = HeadLimits { bytes: 2048, count: 24, line: 300 };

type Reading = (Method, String, Version, String, Option<u64>, [bool; 4]);

fn reading(view: &HeadView<'_>) -> Reading {
    let flags = [view.chunked, view.keep_alive, view.expect_continue, view.websocket];
    (view.method, view.target.to_owned(), view.version, view.host.to_owned(), view.content_length, flags)
}

pub fn run(data: &[u8]) {
    let Ok(view) = check(data, &LIMITS) else { return };
    let fields: Vec<_> = view.fields().collect();
    let line = data.windows(2).position(|pair| pair == b"\r\n").expect("a head has lines");

    // Another reader, who knows nothing but CRLF and the colon, reads the same.
    let version = if view.version == Version::Http11 { "HTTP/1.1" } else { "HTTP/1.0" };
    assert_eq!(&data[..line], format!("{} {} {version}", view.method.as_str(), view.target).as_bytes());
    assert_eq!(naive_section(&data[line + 2..]).expect("a naive reader stumbles"), fields);
    let named = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| *v).collect()
    };
    assert_eq!(named("host"), [view.host.as_bytes()]);
    assert!(named("transfer-encoding").len() + named("content-length").len() <= 1, "two ends of one body");
    assert_eq!(view.chunked, named("transfer-encoding") == [b"chunked"]);
    let length = named("content-length").first().map(|v| std::str::from_utf8(v).unwrap().parse::<u64>().unwrap());
    assert_eq!(view.content_length, length);
    assert_eq!(view.has_body(), view.chunked || length.unwrap_or(0) > 0);
    for name in ["authorization", "cookie", "origin", "upgrade", "expect", "content-type"] {
        assert!(named(name).len() <= 1, "two of {name}");
    }
    assert!(!view.websocket || (!view.has_body() && view.method == Method::Get && view.version == Version::Http11));

    // Written again in one spelling, and with its fields the other way round, it says the same.
    let mut reversed = fields.clone();
    reversed.reverse();
    for order in [&fields, &reversed] {
        let mut again = data[..line + 2].to_vec();
        for (name, value) in order {
            again.extend([name, b": ".as_slice(), value, b"\r\n"].concat());
        }
        again.extend(b"\r\n");
        let roomy = HeadLimits { bytes: 2 * LIMITS.bytes, ..LIMITS };
        let view_again = check(&again, &roomy).expect("a head that passed passes when written again");
        assert_eq!(reading(&view_again), reading(&view));
        assert_eq!(view_again.fields().collect::<Vec<_>>(), *order);
    }

    // It ends where it ends.
    assert!(check(&data[..data.len() - 1], &LIMITS).is_err());
    assert!(check(&[data, b"\r"].concat(), &LIMITS).is_err());

    // Limits are inclusive.
    let exact = HeadLimits { bytes: data.len(), count: fields.len(), line };
    assert!(check(data, &exact).is_ok());
    assert!(check(data, &HeadLimits { bytes: exact.bytes - 1, ..exact }).is_err());
    assert!(check(data, &HeadLimits { count: exact.count - 1, ..exact }).is_err());
    assert!(check(data, &HeadLimits { line: exact.line - 1, ..exact }).is_err());
}
