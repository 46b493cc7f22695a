//! `traceparent`: what is read is what is written.
use decide::headers::TraceParent;
use http::HeaderValue;

pub fn run(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let Some(read) = TraceParent::parse(&value) else { return };
    assert!(read.trace != 0 && read.span != 0 && !data.starts_with(b"ff"));
    let written = HeaderValue::from_bytes(&read.text()).expect("a value");
    assert_eq!(TraceParent::parse(&written), Some(read));
    // The ids of the header, letter by letter.
    assert_eq!(&written.as_bytes()[3..52], &data[3..52]);
    assert_eq!(TraceParent::inbound([&value, &value].into_iter()), None, "two headers are believed");
}
