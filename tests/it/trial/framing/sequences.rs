//! What is behind a request: pipelines, bodies that are requests, `Connection`, `Expect`, upgrades, and bytes behind the end.
use crate::trial::case::Case;
use crate::trial::case::Wants::{self, Refused, Safe, Served};

const CONNECTION: &str = "Connection and upgrades";
const PIPELINE: &str = "pipelines and bodies";
const EXPECT: &str = "Expect";
const HIDDEN: &str = "GET /t/0000/hidden HTTP/1.1\r\nHost: acme.localhost\r\n\r\n";
const SOCKET: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    connections(&mut all);
    upgrades(&mut all);
    expectations(&mut all);
    pipelines(&mut all);
    all
}

fn get(fields: &str) -> String {
    format!("GET /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\n{fields}\r\n")
}

fn connections(all: &mut Vec<Case>) {
    let mut add = |name: String, fields: &str, behind: &str, wants: Wants| {
        all.push(Case::new(CONNECTION, name, &(get(fields) + behind), wants));
    };
    for value in ["keep-alive", "Keep-Alive", "te", "trailer", "", ",", "keep-alive,", ",keep-alive", "keep-alive, te"]
    {
        add(format!("good {value}"), &format!("Connection: {value}\r\n"), HIDDEN, Served(2));
    }
    for named in [
        "host",
        "content-length",
        "transfer-encoding",
        "authorization",
        "cookie",
        "x-tenant-id",
        "x-user-id",
        "x-forwarded-for",
        "forwarded",
        "x-real-ip",
        "via",
        "date",
        "content-type",
        "origin",
        "expect",
        "range",
        "upgrade-insecure-requests",
        "x",
        "*",
        "close-x",
        "keep alive",
        "close;",
        "\"close\"",
        "close keep-alive",
        "http2-settings",
        "proxy-authorization",
        "connection",
        "transfer-encoding, close",
        "close, host",
        "x, close",
        "keep-alive, x-forwarded-for",
        "\u{b}close",
        "close\u{b}",
        "close\0",
    ] {
        add(format!("naming {named}"), &format!("Connection: {named}\r\n"), HIDDEN, Refused(0));
        add(
            format!("naming in a second {named}"),
            &format!("Connection: keep-alive\r\nConnection: {named}\r\n"),
            HIDDEN,
            Refused(0),
        );
    }
    // Whatever stands behind a request that closes is not looked at: one answer, and no second.
    for value in
        ["close", "Close", "CLOSE", "keep-alive, close", "close, keep-alive", "close,close", "te, close", " close "]
    {
        let behind = format!("{HIDDEN}{HIDDEN}");
        add(format!("bytes behind {value}"), &format!("Connection: {value}\r\n"), &behind, Wants::Safe);
    }
    add("bytes behind a second close".to_owned(), "Connection: keep-alive\r\nConnection: close\r\n", HIDDEN, Safe);
    for (name, value) in [
        ("Keep-Alive", "timeout=9999"),
        ("Keep-Alive", "max=0"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Connection", "close"),
    ] {
        add(format!("beside {name}: {value}"), &format!("{name}: {value}\r\n"), HIDDEN, Served(2));
    }
}

fn upgrades(all: &mut Vec<Case>) {
    let mut add = |name: String, fields: &str, behind: &str, wants: Wants| {
        all.push(Case::new(CONNECTION, name, &(get(fields) + behind), wants));
    };
    let settings = "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
    for (name, fields) in [
        ("h2c as in the standard", format!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n{settings}")),
        ("h2c with one option", format!("Connection: Upgrade\r\nUpgrade: h2c\r\n{settings}")),
        ("h2c without settings", "Connection: Upgrade\r\nUpgrade: h2c\r\n".to_owned()),
        ("h2c without Connection", format!("Upgrade: h2c\r\n{settings}")),
        ("h2c in capitals", "Connection: upgrade\r\nUpgrade: H2C\r\n".to_owned()),
        ("h2", "Connection: upgrade\r\nUpgrade: h2\r\n".to_owned()),
        ("HTTP/2.0", "Connection: upgrade\r\nUpgrade: HTTP/2.0\r\n".to_owned()),
        ("TLS/1.2", "Connection: upgrade\r\nUpgrade: TLS/1.2\r\n".to_owned()),
        ("connect-udp", "Connection: upgrade\r\nUpgrade: connect-udp\r\n".to_owned()),
        ("SPDY", "Connection: upgrade\r\nUpgrade: SPDY/3.1\r\n".to_owned()),
        ("tcp", "Connection: upgrade\r\nUpgrade: tcp\r\n".to_owned()),
        ("postgres", "Connection: upgrade\r\nUpgrade: postgres\r\n".to_owned()),
        ("websocket and h2c", "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n".to_owned()),
        ("h2c and websocket", "Connection: upgrade\r\nUpgrade: h2c, websocket\r\n".to_owned()),
        ("websocket and h2c in two lines", "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n".to_owned()),
        ("websocket twice", "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n".to_owned()),
        ("websocket with a version", "Connection: upgrade\r\nUpgrade: websocket/13\r\n".to_owned()),
        ("websocket behind a vertical tab", "Connection: upgrade\r\nUpgrade: \u{b}websocket\r\n".to_owned()),
        ("websocket without Connection", "Upgrade: websocket\r\n".to_owned()),
        ("Connection without Upgrade", "Connection: upgrade\r\n".to_owned()),
        ("an empty Upgrade", "Connection: upgrade\r\nUpgrade:\r\n".to_owned()),
        ("HTTP2-Settings alone", settings.to_owned()),
        ("HTTP2-Settings in Connection", format!("Connection: HTTP2-Settings\r\n{settings}")),
        ("websocket with a body", "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n".to_owned()),
        (
            "websocket with chunks",
            "Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        ),
    ] {
        add(format!("upgrade {name}"), &fields, HIDDEN, Refused(0));
        let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
        add(format!("upgrade {name} and a preface"), &fields, preface, Refused(0));
    }
    for method in ["POST", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        let text = format!(
            "{method} /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n{SOCKET}\r\n{HIDDEN}"
        );
        all.push(Case::new(CONNECTION, format!("upgrade by {method}"), &text, Refused(0)));
    }
    // The application refuses, with 200; what the client believed to be the tunnel is ordinary requests again.
    let websocket = format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{SOCKET}");
    let admin = "GET /admin HTTP/1.1\r\nHost: acme.localhost\r\n\r\n";
    let mut add = |name: &str, behind: &str, wants: Wants| {
        all.push(Case::new(CONNECTION, name, &(get(&websocket) + behind), wants));
    };
    add("websocket that is not granted", "", Safe);
    add("websocket that is not granted and a request", HIDDEN, Safe);
    add("websocket that is not granted and a frame", "\u{81}\u{85}abcdabcde", Safe);
    add("websocket that is not granted and a forbidden request", admin, Safe);
    add("websocket without a key", HIDDEN, Safe);
}

fn expectations(all: &mut Vec<Case>) {
    let mut add = |name: String, method: &str, fields: &str, body: &str, wants: Wants| {
        let text = format!("{method} /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\n{fields}\r\n{body}{HIDDEN}");
        all.push(Case::new(EXPECT, name, &text, wants));
    };
    for value in ["100-continue", "100-Continue", "100-CONTINUE", " 100-continue "] {
        add(format!("good {value}"), "POST", &format!("Expect:{value}\r\nContent-Length: 5\r\n"), "abcde", Served(2));
        let chunks = "5\r\nabcde\r\n0\r\n\r\n";
        add(
            format!("good with chunks {value}"),
            "POST",
            &format!("Expect:{value}\r\nTransfer-Encoding: chunked\r\n"),
            chunks,
            Served(2),
        );
        add(format!("without a body {value}"), "GET", &format!("Expect:{value}\r\n"), "", Served(2));
        add(
            format!("with an empty body {value}"),
            "POST",
            &format!("Expect:{value}\r\nContent-Length: 0\r\n"),
            "",
            Served(2),
        );
    }
    for value in [
        "",
        "100",
        "continue",
        "100-continue, 100-continue",
        "100-continue,",
        "100-continue;q=1",
        "100-continued",
        "x100-continue",
        "100 continue",
        "100_continue",
        "200-ok",
        "100-continue, x",
        "x, 100-continue",
        "\"100-continue\"",
        "\u{b}100-continue",
        "100-continue\0",
        "100-continue\u{80}",
        "x",
        "foo=bar",
        "100-continue\r\n x",
    ] {
        add(format!("bad {value}"), "POST", &format!("Expect: {value}\r\nContent-Length: 5\r\n"), "abcde", Refused(0));
    }
    add(
        "twice".to_owned(),
        "POST",
        "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n",
        "abcde",
        Refused(0),
    );
    add(
        "twice and different".to_owned(),
        "POST",
        "Expect: 100-continue\r\nExpect: x\r\nContent-Length: 5\r\n",
        "abcde",
        Refused(0),
    );
    add("with a bad length".to_owned(), "POST", "Expect: 100-continue\r\nContent-Length: 05\r\n", "abcde", Refused(0));
    add(
        "with both framings".to_owned(),
        "POST",
        "Expect: 100-continue\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "abcde",
        Refused(0),
    );
    add(
        "with a bad chunk".to_owned(),
        "POST",
        "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n",
        "5\nabcde\r\n0\r\n\r\n",
        Refused(0),
    );
    add(
        "with too large a body".to_owned(),
        "POST",
        "Expect: 100-continue\r\nContent-Length: 99999999\r\n",
        "abcde",
        Refused(0),
    );
    add("in other marks".to_owned(), "POST", "Expect_: 100-continue\r\nContent-Length: 5\r\n", "abcde", Served(2));
    for method in ["GET", "HEAD"] {
        let hidden = format!("Expect: 100-continue\r\nContent-Length: {}\r\n", HIDDEN.len());
        add(format!("{method} with a body"), method, &hidden, HIDDEN, Refused(0));
    }
    let old = "POST /t/0000 HTTP/1.0\r\nHost: acme.localhost\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nabcde";
    all.push(Case::new(EXPECT, "in HTTP/1.0", &(old.to_owned() + HIDDEN), Served(2)));
}

fn pipelines(all: &mut Vec<Case>) {
    let mut add = |name: String, text: String, wants: Wants| all.push(Case::new(PIPELINE, name, &text, wants));
    for count in [2, 3, 10, 50] {
        add(format!("{count} requests"), get("").repeat(count), Served(count));
    }
    let post =
        |framing: &str, body: &str| format!("POST /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\n{framing}\r\n\r\n{body}");
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
    for inside in [
        HIDDEN,
        "GET /admin HTTP/1.1\r\nHost: acme.localhost\r\n\r\n",
        "0\r\n\r\n",
        "\r\n\r\n",
        "0\r\n\r\nGET /t/0000/hidden HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "POST /t/0000/hidden HTTP/1.1\r\nHost: acme.localhost\r\nContent-Length: 100\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\0\0\0\0",
        "GET /t/0000/hidden HTTP/1.1\r\nX: ",
    ] {
        add(
            format!("inside a length: {inside}"),
            post(&format!("Content-Length: {}", inside.len()), inside),
            Served(1),
        );
        add(format!("inside a chunk: {inside}"), post("Transfer-Encoding: chunked", &chunk(inside)), Served(1));
        let extension = inside.replace(['\r', '\n', '\0'], " ");
        let body = format!("1;a={extension}\r\nx\r\n0;b={extension}\r\n\r\n");
        add(format!("inside an extension: {inside}"), post("Transfer-Encoding: chunked", &body), Served(1));
        let value = inside.replace(['\r', '\n', '\0'], " ");
        add(format!("inside a value: {inside}"), get(&format!("X: {value}\r\n")), Served(1));
        for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH"] {
            let wants = if matches!(method, "GET" | "HEAD") { Refused(0) } else { Served(1) };
            let head = format!("{method} /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\n");
            add(
                format!("inside {method} by length: {inside}"),
                format!("{head}Content-Length: {}\r\n\r\n{inside}", inside.len()),
                wants,
            );
            add(
                format!("inside {method} by chunks: {inside}"),
                format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk(inside)),
                wants,
            );
        }
    }
    let good = get("");
    for (name, text, wants) in [
        ("good, then bad", format!("{good}GET /t/0000 BROKEN\r\n\r\n{HIDDEN}"), Refused(1)),
        ("good, then garbage", format!("{good}\u{16}\u{3}\u{1}\r\n\r\n{HIDDEN}"), Refused(1)),
        ("good, then an empty line", format!("{good}\r\n{HIDDEN}"), Refused(1)),
        ("bad, then good", format!("GET /t/0000 BROKEN\r\n\r\n{HIDDEN}"), Refused(0)),
        ("a length that is one too short", post("Content-Length: 4", "abcde") + HIDDEN, Refused(1)),
        ("a length that is one too long", post("Content-Length: 6", "abcde") + HIDDEN, Refused(1)),
        (
            "a length, and nothing behind a close",
            post("Connection: close\r\nContent-Length: 5", "abcde") + HIDDEN,
            Safe,
        ),
        ("chunks, then a request", post("Transfer-Encoding: chunked", &chunk("abcde")) + HIDDEN, Served(2)),
        ("chunks, then garbage", post("Transfer-Encoding: chunked", &chunk("abcde")) + "x\r\n\r\n", Refused(1)),
        (
            "chunks in one, a length in the other",
            post("Transfer-Encoding: chunked", &chunk("abcde")) + &post("Content-Length: 5", "abcde"),
            Served(2),
        ),
        (
            "a refused path with a body",
            format!(
                "POST /a%2fb/t/0000 HTTP/1.1\r\nHost: acme.localhost\r\nContent-Length: {}\r\n\r\n{HIDDEN}{HIDDEN}",
                HIDDEN.len()
            ),
            Refused(0),
        ),
        (
            "a forbidden path with a body",
            format!(
                "POST /api/bookings HTTP/1.1\r\nHost: acme.localhost\r\nContent-Length: {}\r\n\r\n{HIDDEN}",
                HIDDEN.len()
            ),
            Safe,
        ),
        (
            "a forbidden path with chunks",
            format!(
                "POST /api/bookings HTTP/1.1\r\nHost: acme.localhost\r\nTransfer-Encoding: chunked\r\n\r\n{}",
                chunk(HIDDEN)
            ),
            Safe,
        ),
        (
            "a forbidden path with broken chunks",
            format!(
                "POST /api/bookings HTTP/1.1\r\nHost: acme.localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\n{HIDDEN}"
            ),
            Safe,
        ),
        ("a body that is too large, and a request in it", post("Content-Length: 2000000", HIDDEN), Refused(0)),
    ] {
        add(name.to_owned(), text, wants);
    }
}

/// Whole conversations, to be cut at each byte.
pub fn samples() -> Vec<Case> {
    let end = "GET /t/0000/end HTTP/1.1\r\nHost: acme.localhost\r\nConnection: close\r\n\r\n";
    let post =
        |framing: &str, body: &str| format!("POST /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\n{framing}\r\n\r\n{body}");
    let both = "Content-Length: 4\r\nTransfer-Encoding: chunked";
    [
        ("a length", post("Content-Length: 5", "abcde") + end, Served(1)),
        (
            "chunks and trailers",
            post("Transfer-Encoding: chunked", "5;a=b\r\nabcde\r\n0\r\nX-Checksum: 1\r\n\r\n") + end,
            Served(1),
        ),
        ("a bad chunk", post("Transfer-Encoding: chunked", "5;a\nbcde\r\n0\r\n\r\n") + end, Refused(0)),
        ("both framings", post(both, "0\r\n\r\n") + end, Refused(0)),
        ("a bare line feed", "GET /t/0000 HTTP/1.1\r\nHost: acme.localhost\nX: y\r\n\r\n".to_owned() + end, Refused(0)),
    ]
    .into_iter()
    .map(|(name, text, wants)| Case::new("cuts", name, &text, wants))
    .collect()
}
