//! `decide::reply`: the head of an application's answer has one reading, and the body one end.
use crate::input::naive_section;
use decide::head::Version;
use decide::reply::{Ending, check};

const MOST_FIELDS: usize = 24;

pub fn run(data: &[u8]) {
    let Ok(view) = check(data, MOST_FIELDS) else { return };
    let fields: Vec<_> = view.fields().collect();
    let line = data.windows(2).position(|pair| pair == b"\r\n").expect("a head has lines");
    assert_eq!(naive_section(&data[line + 2..]).expect("a naive reader stumbles"), fields);
    let version = if view.version == Version::Http11 { "HTTP/1.1" } else { "HTTP/1.0" };
    assert!(data.starts_with(format!("{version} {}", view.status).as_bytes()));
    assert!((100..600).contains(&view.status) && fields.len() <= MOST_FIELDS);

    let named = |name: &str| fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).count();
    assert!(named("transfer-encoding") + named("content-length") <= 1, "two ends of one body");
    assert_eq!(view.chunked, named("transfer-encoding") == 1);
    assert_eq!(view.content_length.is_some(), named("content-length") == 1);
    assert!(!view.websocket || view.status == 101);
    assert_eq!(view.ending(true), Ending::Length(0));
    let expected = match (view.status, view.chunked, view.content_length) {
        (100..200 | 204 | 304, _, _) => Ending::Length(0),
        (_, true, _) => Ending::Chunks,
        (_, false, Some(length)) => Ending::Length(length),
        (_, false, None) => Ending::Close,
    };
    assert_eq!(view.ending(false), expected);

    let mut reversed = data[..line + 2].to_vec();
    for (name, value) in fields.iter().rev() {
        reversed.extend([name, b": ".as_slice(), value, b"\r\n"].concat());
    }
    reversed.extend(b"\r\n");
    let other = check(&reversed, MOST_FIELDS).expect("order decides");
    assert_eq!(
        (other.status, other.content_length, other.chunked, other.keep_alive),
        (view.status, view.content_length, view.chunked, view.keep_alive)
    );
    assert!(check(&data[..data.len() - 1], MOST_FIELDS).is_err());
    assert!(check(&[data, b"H"].concat(), MOST_FIELDS).is_err());
    assert!(fields.is_empty() || check(data, fields.len() - 1).is_err());
}
