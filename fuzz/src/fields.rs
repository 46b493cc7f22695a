//! `decide::fields`: the fields of an HTTP/2 request obey one policy with those of HTTP/1, in whatever order they come.
use crate::input;
use decide::fields::{check_fields, twin_of};
use decide::head::{HeadLimits, check};

const LIMITS: HeadLimits = HeadLimits { bytes: 2048, count: 24, line: 300 };

pub fn run(data: &[u8]) {
    let Some((authority, rest)) = input::text_line(data) else { return };
    let authority = Some(authority).filter(|text| !text.is_empty());
    let fields = input::fields(rest);
    for (name, _) in &fields {
        twins(name);
    }
    let Ok(view) = check_fields(authority, fields.iter().copied(), &LIMITS) else { return };
    for (name, value) in &fields {
        assert!(!name.iter().any(u8::is_ascii_uppercase) && !name.starts_with(b":"));
        assert!(!value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)), "a line of somebody's own");
    }
    let reversed = check_fields(authority, fields.iter().rev().copied(), &LIMITS).expect("order decides");
    assert_eq!(reversed, view);

    // What passes here would pass as HTTP/1, with the same body and the same host.
    let plain = !view.host.is_empty() && view.host.bytes().all(|b| b.is_ascii_graphic());
    let cookies = fields.iter().filter(|(name, _)| *name == b"cookie").count();
    if !plain || cookies > 1 {
        return;
    }
    let mut head = format!("GET / HTTP/1.1\r\nhost: {}\r\n", view.host).into_bytes();
    for (name, value) in fields.iter().filter(|(name, _)| *name != b"host") {
        head.extend([name, b":".as_slice(), value, b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    let limits = HeadLimits { bytes: 8192, count: 32, line: 300 };
    let other = check(&head, &limits).expect("HTTP/1 refuses what HTTP/2 lets pass");
    assert_eq!(
        (other.host, other.content_length, other.expect_continue, other.chunked, other.websocket),
        (view.host, view.content_length, view.expect_continue, false, false)
    );
}

/// A twin is what CGI makes the same variable of, and is not the name itself.
fn twins(name: &[u8]) {
    const OURS: [&str; 3] = ["x-tenant-id", "forwarded", "content-length"];
    let variable = |name: &[u8]| -> Vec<u8> {
        let fold = |b: &u8| if b.is_ascii_alphanumeric() { b.to_ascii_uppercase() } else { b'_' };
        name.iter().map(fold).collect()
    };
    let same = OURS.iter().any(|our| name.eq_ignore_ascii_case(our.as_bytes()));
    let clash = OURS.iter().any(|our| variable(our.as_bytes()) == variable(name));
    assert_eq!(twin_of(name, &OURS), clash && !same, "{}", String::from_utf8_lossy(name));
}
