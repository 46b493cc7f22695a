//! What is sent: requests that some proxy once rewrote into something else, by family.
use super::super::wire::*;
use Fate::{Arrives, Either, Stopped};

/// What must become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The application never hears of it.
    Stopped,
    /// It arrives as it was meant.
    Arrives,
    /// Either will do; if it arrives, then well-formed and alone.
    Either,
}

/// A request, frame by frame; `CASE` in its fields becomes a path of its own.
pub struct Case {
    pub about: String,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Option<Vec<u8>>,
    pub trailers: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    pub fate: Fate,
}

impl Case {
    /// The frames of it, on this stream.
    pub fn frames(&self, number: usize, stream: u32) -> Vec<u8> {
        let put = |text: &[u8]| match text.windows(4).position(|four| four == b"CASE") {
            Some(at) => [&text[..at], number.to_string().as_bytes(), &text[at + 4..]].concat(),
            None => text.to_vec(),
        };
        let fields: Vec<_> = self.fields.iter().map(|(name, value)| (name.clone(), put(value))).collect();
        let last = if self.body.is_none() { END_STREAM } else { 0 };
        let mut bytes = frame(HEADERS, END_HEADERS | last, stream, &block(&fields));
        if let Some(body) = &self.body {
            bytes.extend(frame(DATA, if self.trailers.is_none() { END_STREAM } else { 0 }, stream, body));
        }
        if let Some(trailers) = &self.trailers {
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(trailers)));
        }
        bytes
    }
}

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn owned(fields: Pairs<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    // One character, one byte: so that any byte can be written.
    let bytes = |text: &str| text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect::<Vec<u8>>();
    fields.iter().map(|(name, value)| (bytes(name), bytes(value))).collect()
}

const BASE: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "https"), (":authority", "acme.localhost"), (":path", "/case/CASE")];

/// An ordinary request with more fields and a body.
fn with(more: Pairs<'_>, body: Option<&str>, fate: Fate) -> Case {
    let fields = [&BASE[..], more].concat();
    let about = format!("{more:?} with body {body:?}");
    Case { about, fields: owned(&fields), body: body.map(Into::into), trailers: None, fate }
}

/// An ordinary request with another pseudo-field.
fn but(name: &str, value: &str, fate: Fate) -> Case {
    let fields: Vec<_> = BASE.iter().map(|(n, v)| (*n, if *n == name { value } else { *v })).collect();
    Case { about: format!("{name} {value:?}"), fields: owned(&fields), body: None, trailers: None, fate }
}

/// Just these fields.
fn just(fields: Pairs<'_>, fate: Fate) -> Case {
    Case { about: format!("{fields:?}"), fields: owned(fields), body: None, trailers: None, fate }
}

pub fn controls() -> Vec<Case> {
    let hidden = ["GET /smuggled HTTP/1.1", "transfer-encoding: chunked", "host: globex.localhost", ""];
    let mut cases = Vec::new();
    for control in ["\r\n", "\n", "\r", "\0", "\r\n\r\n", "\n\n", "\x01", "\x0b", "\x0c", "\x1b", "\x7f"] {
        for rest in hidden {
            let bad = format!("a{control}{rest}");
            cases.push(with(&[("x-a", &bad)], None, Stopped));
            if rest.starts_with("GET") {
                for name in ["cookie", "user-agent", "referer", "content-type", "authorization", "accept"] {
                    cases.push(with(&[(name, &bad)], None, Stopped));
                }
                cases.push(with(&[(&bad, "x")], None, Stopped));
                for pseudo in [":method", ":scheme", ":authority", ":path"] {
                    cases.push(but(pseudo, &format!("/{bad}"), Stopped));
                }
                cases.push(but(":path", &format!("/case/CASE?{bad}"), Stopped));
                cases.push(but(":method", &format!("POST{control}{rest}"), Stopped));
                cases.push(but(":authority", &format!("acme.localhost{control}{rest}"), Stopped));
            }
        }
    }
    cases
}

pub fn fields_of_the_connection() -> Vec<Case> {
    let mut cases = Vec::new();
    for body in [None, Some("0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: acme.localhost\r\n\r\n")] {
        for (name, value) in [
            ("transfer-encoding", "chunked"),
            ("transfer-encoding", "Chunked"),
            ("transfer-encoding", "identity"),
            ("transfer-encoding", "gzip, chunked"),
            ("transfer-encoding", "chunked, identity"),
            ("transfer-encoding", ""),
            ("transfer-encoding", "\x0bchunked"),
            ("transfer-encoding", "chunked;q=1"),
            ("connection", "close"),
            ("connection", "keep-alive"),
            ("connection", "upgrade"),
            ("connection", "transfer-encoding"),
            ("connection", "x-user-id"),
            ("connection", "content-length"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "websocket"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
            ("te", "gzip"),
            ("te", "chunked"),
            ("te", "trailers, chunked"),
            ("te", "trailers;q=0.5"),
        ] {
            cases.push(with(&[(name, value)], body, Stopped));
        }
        cases.push(with(&[("te", "trailers")], body, Arrives));
    }
    cases
}

pub fn names() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "X-A",
        "cOokie",
        "",
        " ",
        "x y",
        " x",
        "x ",
        "x\t",
        "x:",
        ":x",
        "x:y",
        "x(",
        "x)",
        "x/y",
        "x,y",
        "x;y",
        "x=y",
        "x@y",
        "x[y",
        "x{y",
        "x\"y",
        "x\\y",
        "transfer-encoding ",
        "transfer-encoding:",
        " transfer-encoding",
        "content-length ",
        "content-length:",
        "tr\u{e4}nsfer-encoding",
        "transfer-encoding\u{a0}",
        "content_length",
        "transfer_encoding",
        "transfer.encoding",
        "x_forwarded_for",
        "x-http-method-override",
        "x-original-url",
        "proxy",
    ] {
        for value in ["chunked", "5"] {
            cases.push(with(&[(name, value)], Some("5\r\nhello\r\n0\r\n\r\n"), Stopped));
        }
    }
    cases
}

pub fn pseudo_fields() -> Vec<Case> {
    let [method, scheme, authority, path] = BASE;
    vec![
        just(&[scheme, authority, path], Stopped),
        just(&[method, authority, path], Stopped),
        just(&[method, scheme, authority], Stopped),
        just(&[method, scheme, path], Stopped),
        just(&[], Stopped),
        just(&[("x-a", "1")], Stopped),
        just(&[method, method, scheme, authority, path], Stopped),
        just(&[method, scheme, scheme, authority, path], Stopped),
        just(&[method, scheme, authority, authority, path], Stopped),
        just(&[method, scheme, authority, path, path], Stopped),
        just(&[method, scheme, authority, path, (":path", "/smuggled")], Stopped),
        just(&[method, scheme, authority, (":authority", "globex.localhost"), path], Stopped),
        just(&[method, (":method", "GET"), scheme, authority, path], Stopped),
        just(&[method, scheme, authority, ("x-a", "1"), path], Stopped),
        just(&[("x-a", "1"), method, scheme, authority, path], Stopped),
        just(&[method, scheme, authority, path, ("x-a", "1"), (":path", "/smuggled")], Stopped),
        just(&[path, authority, scheme, method], Arrives),
        just(&[method, scheme, authority, path, (":status", "200")], Stopped),
        just(&[method, scheme, authority, path, (":unknown", "x")], Stopped),
        just(&[method, scheme, authority, path, (":", "x")], Stopped),
        just(&[method, scheme, authority, path, (":protocol", "websocket")], Stopped),
        just(&[method, scheme, authority, path, (":Path", "/smuggled")], Stopped),
        just(&[method, scheme, authority, path, (":host", "x")], Stopped),
        just(&[(":method", "CONNECT"), scheme, authority, path], Stopped),
        just(&[(":method", "CONNECT"), authority], Stopped),
        just(&[(":method", "CONNECT"), (":authority", "acme.localhost:443")], Stopped),
        just(&[(":method", "CONNECT"), (":protocol", "websocket"), scheme, authority, path], Stopped),
        just(&[(":method", "CONNECT"), (":protocol", "connect-udp"), scheme, authority, path], Stopped),
    ]
}

pub fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [
        "4",
        "6",
        "00",
        "05",
        "+5",
        "-5",
        "5 ",
        " 5",
        "5,5",
        "5, 5",
        "5;5",
        "0x5",
        "5.0",
        "1e1",
        "",
        "a",
        "5a",
        "\u{b2}",
        "18446744073709551621",
        "9223372036854775808",
        "99999999999999999999999999",
        "5\t",
        "five",
    ] {
        cases.push(with(&[("content-length", value)], Some("hello"), Stopped));
    }
    for twice in [["5", "5"], ["5", "6"], ["6", "5"], ["0", "5"], ["5", "0"], ["5", ""]] {
        cases.push(with(&twice.map(|value| ("content-length", value)), Some("hello"), Stopped));
    }
    cases.push(with(&[("content-length", "0")], Some("hello"), Either));
    cases.push(with(&[("content-length", "5")], Some("hello"), Arrives));
    cases.push(with(&[("content-length", "5")], None, Stopped));
    cases.push(with(&[("content-length", "0")], None, Arrives));
    cases.push(with(&[], Some("hello"), Arrives));
    cases.push(with(&[], None, Arrives));
    for smuggled in
        ["0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: acme.localhost\r\n\r\n", "\r\n\r\n", "GET /smuggled HTTP/1.1"]
    {
        cases.push(with(&[], Some(smuggled), Arrives));
        cases.push(with(&[("content-length", &smuggled.len().to_string())], Some(smuggled), Arrives));
        // A request without body is complete before its body comes; the body goes nowhere.
        cases.push(with(&[("content-length", "0")], Some(smuggled), Either));
        cases.push(with(&[("content-length", "0"), ("transfer-encoding", "chunked")], Some(smuggled), Stopped));
        cases.push(with(&[("expect", "100-continue")], Some(smuggled), Either));
    }
    cases
}

pub fn authorities() -> Vec<Case> {
    let mut cases = Vec::new();
    for host in
        ["globex.localhost", "acme.localhost:443", "ACME.localhost", "acme.localhost.", "", "a b", "evil.example"]
    {
        cases.push(with(&[("host", host)], None, Stopped));
    }
    cases.push(with(&[("host", "acme.localhost")], None, Arrives));
    cases.push(with(&[("host", "acme.localhost"), ("host", "acme.localhost")], None, Stopped));
    cases.push(with(&[("host", "acme.localhost"), ("host", "globex.localhost")], None, Stopped));
    let [method, scheme, _, path] = BASE;
    cases.push(just(&[method, scheme, path, ("host", "acme.localhost")], Arrives));
    cases.push(just(&[method, scheme, path, ("host", "acme.localhost"), ("host", "globex.localhost")], Stopped));
    cases.push(just(&[method, scheme, path, ("host", "")], Stopped));
    cases.push(just(&[method, scheme, path, ("host", "me@acme.localhost")], Stopped));
    for (authority, fate) in [
        ("", Stopped),
        ("me@acme.localhost", Stopped),
        ("me:secret@acme.localhost", Stopped),
        ("acme.localhost@globex.localhost", Stopped),
        ("acme.localhost,globex.localhost", Stopped),
        ("acme.localhost globex.localhost", Stopped),
        ("acme.localhost/x", Stopped),
        ("acme.localhost?x", Stopped),
        ("acme.localhost#x", Stopped),
        ("acme.localhost\\x", Stopped),
        ("acme.localhost:", Stopped),
        ("acme.localhost:x", Stopped),
        ("acme.localhost:99999", Stopped),
        ("acme.localhost:443:443", Stopped),
        ("[acme.localhost]", Stopped),
        ("acme%2elocalhost", Stopped),
        ("acme..localhost", Stopped),
        (".acme.localhost", Stopped),
        ("acme.localhost\u{a0}", Stopped),
        ("ACME.LOCALHOST", Arrives),
        ("acme.localhost:443", Arrives),
        ("acme.localhost.", Arrives),
    ] {
        cases.push(but(":authority", authority, fate));
    }
    cases
}

pub fn targets() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in [
        "",
        "*",
        "case",
        "?q",
        "#f",
        "https://acme.localhost/case/CASE",
        "http://globex.localhost/case/CASE",
        "//globex.localhost/case/CASE",
        "/\\globex.localhost",
        "/case/CASE x",
        "/case/CASE HTTP/1.1",
        "/case/ CASE",
        "/case/CASE\t",
        "/case/../smuggled",
        "/case/%2e%2e/smuggled",
        "/case/..;/smuggled",
        "/case//smuggled",
        "/case/%0d%0aGET%20/smuggled",
        "/case/%00",
        "/case/%2fsmuggled",
        "/case/%5csmuggled",
        "/case/%",
        "/case/%zz",
        "/case/\u{e4}",
        "/case/\u{ff}",
        "/case/%c0%af",
        "acme.localhost:443",
        "/case/CASE?a=\u{e4}",
        "/case/CASE?a b",
    ] {
        cases.push(but(":path", path, Stopped));
    }
    for path in ["/case/CASE#", "/case/CASE#f", "/case/CASE?a#b", "/case/CASE#/../smuggled", "#/case/CASE"] {
        cases.push(but(":path", path, Stopped));
    }
    for path in ["/case/CASE?", "/case/CASE?q=https://globex.localhost/", "/case/CASE?a=1&b=%20", "/case/CASE/%41"] {
        cases.push(but(":path", path, Either));
    }
    for method in [
        "",
        " ",
        "POST ",
        " POST",
        "POST /smuggled HTTP/1.1",
        "GET /smuggled",
        "post",
        "PO ST",
        "POST\t",
        "PRI",
        "TRACE",
        "TRACK",
        "POST:",
        "P(ST",
        "P\u{d6}ST",
        "{}",
        "GET/",
        "CONNECT",
        "DEBUG",
        "*",
    ] {
        cases.push(but(":method", method, Stopped));
    }
    for scheme in ["", "ftp", "file", "javascript", "https://", "https://globex.localhost/", "ht tps", "1", "h:", "ws"]
    {
        cases.push(but(":scheme", scheme, Stopped));
    }
    for scheme in ["http", "HTTPS"] {
        cases.push(but(":scheme", scheme, Either));
    }
    cases
}

pub fn trailers() -> Vec<Case> {
    let trailing = |fields: Pairs<'_>, fate| {
        let about = format!("trailers {fields:?}");
        Case { about, trailers: Some(owned(fields)), ..with(&[], Some("hello"), fate) }
    };
    let mut cases = vec![trailing(&[("x-sum", "1")], Stopped)];
    for (name, value) in [
        (":path", "/smuggled"),
        (":method", "GET"),
        (":status", "200"),
        (":authority", "globex.localhost"),
        ("X-Sum", "1"),
        ("x-sum", "1\r\nGET /smuggled HTTP/1.1"),
        ("x-sum\r\n", "1"),
        ("", "1"),
    ] {
        cases.push(trailing(&[(name, value)], Either));
    }
    for (name, value) in [
        ("content-length", "0"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("host", "globex.localhost"),
        ("authorization", "Bearer x"),
        ("x-user-id", "root"),
        ("cookie", "a=1"),
    ] {
        cases.push(trailing(&[(name, value)], Either));
    }
    cases
}
