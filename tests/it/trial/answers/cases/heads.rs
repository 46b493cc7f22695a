//! Heads of answers: status lines and fields, interim answers, and those that have no body.
use super::{SECOND, body, hostile};
use crate::trial::hostile::{Hostile, Wanted};
use Wanted::{Refused, Safe};

pub fn heads(all: &mut Vec<Hostile>) {
    let mut add = |name: &str, text: String, wants: Wanted| all.push(hostile("heads", name.to_owned(), &text, wants));
    let rest = format!("Content-Length: 5\r\n\r\nabcde{SECOND}");
    for line in [
        "HTTP/1.1 200",
        "HTTP/1.1 200 ",
        "HTTP/1.1 200 A reason of words",
        "HTTP/1.1 200 caf\u{e9}",
        "HTTP/1.1 200 a\tb",
        "HTTP/1.1 299 OK",
        "HTTP/1.1 599 OK",
    ] {
        add(&format!("good line {line}"), format!("{line}\r\n{rest}"), body("abcde"));
    }
    for line in [
        "",
        " ",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 000 OK",
        "HTTP/1.1 600 OK",
        "HTTP/1.1 999 OK",
        "HTTP/1.1 -20 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1 0xC8 OK",
        "HTTP/1.1 \u{662}00 OK",
        "HTTP/2 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/0.9 200 OK",
        "HTTP/1.10 200 OK",
        "http/1.1 200 OK",
        "HTTPS/1.1 200 OK",
        "ICY 200 OK",
        " HTTP/1.1 200 OK",
        "\tHTTP/1.1 200 OK",
        "\r\nHTTP/1.1 200 OK",
        "\nHTTP/1.1 200 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\u{b}K",
        "HTTP/1.1 200 O\u{7f}K",
        "HTTP/1.1 200 OK\rX-Split: yes",
        "HTTP/1.1 200 OK\nX-Split: yes",
        "HTTP/1.1 200OK",
        "HTTP/1.1 200,OK",
        "HTTP/1.1 200.5 OK",
        "GET / HTTP/1.1",
        "garbage",
        "\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{28}",
    ] {
        add(&format!("bad line {line}"), format!("{line}\r\n{rest}"), Refused);
    }
    let with = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 5\r\n\r\nabcde{SECOND}");
    for field in [
        "X: y\n",
        "X: y\r",
        "X: y\r\r\n",
        "X: y\r\n z\r\n",
        "X: y\r\n\tz\r\n",
        " X: y\r\n",
        "X : y\r\n",
        "X\t: y\r\n",
        ": y\r\n",
        "X\r\n",
        "X y\r\n",
        "X\0: y\r\n",
        "X: a\0b\r\n",
        "X: a\u{b}b\r\n",
        "X: a\u{1b}[2Jb\r\n",
        "X: a\u{7f}\r\n",
        "X(: y\r\n",
        "X\u{80}: y\r\n",
        "\"X\": y\r\n",
        "X: y\rSet-Cookie: planted=1\r\n",
        "X: y\nSet-Cookie: planted=1\r\n",
        "X: y\n\nplanted\r\n",
        "Location: /a\rb\r\n",
        "Set-Cookie: a=b\0; Path=/\r\n",
        "X: y\r\n Set-Cookie: planted=1\r\n",
    ] {
        add(&format!("bad field {field}"), with(field), Refused);
    }
    for field in [
        "X: caf\u{e9}\r\n",
        "X:\r\n",
        "X: \t\r\n",
        "X: %0d%0aX-Planted:%20yes\r\n",
        "X: \\r\\nX-Planted: yes\r\n",
        "X: \u{560a}\u{560d}\r\n",
        "X_Y.Z: y\r\n",
    ] {
        add(&format!("good field {field}"), with(field), body("abcde"));
    }
    add("a field of a megabyte", with(&format!("X: {}\r\n", "a".repeat(1 << 20))), Refused);
    add("a field of 60 KiB", with(&format!("X: {}\r\n", "a".repeat(60 << 10))), body("abcde"));
    add("a name of 100 KiB", with(&format!("{}: y\r\n", "a".repeat(100 << 10))), Refused);
    add("a thousand fields", with(&(0..1000).map(|i| format!("X-{i}: y\r\n")).collect::<String>()), Refused);
    add("a head without end", format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(50_000)), Refused);
    add("a status line without end", format!("HTTP/1.1 200 {}", "a".repeat(200_000)), Refused);
    add("bare line feeds", format!("HTTP/1.1 200 OK\nContent-Length: 5\n\nabcde{SECOND}"), Refused);
    add("bare carriage returns", format!("HTTP/1.1 200 OK\rContent-Length: 5\r\rabcde{SECOND}"), Refused);
    add("a line feed at the end", format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nabcde{SECOND}"), Refused);
    add("frames of HTTP/2", "\0\0\u{6}\u{4}\0\0\0\0\0\0\u{3}\0\0\0\u{64}\r\n\r\n".to_owned(), Refused);
}

pub fn interims(all: &mut Vec<Hostile>) {
    let mut add =
        |name: &str, text: String, wants: Wanted| all.push(hostile("interim answers", name.to_owned(), &text, wants));
    let good = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde{SECOND}");
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    add("one hint", format!("{hint}{good}"), body("abcde"));
    add("hints without end", hint.repeat(500), Refused);
    add("many hints", format!("{}{good}", hint.repeat(40)), Refused);
    add("100 that nobody waits for", format!("HTTP/1.1 100 Continue\r\n\r\n{good}"), body("abcde"));
    add("100 without end", "HTTP/1.1 100 Continue\r\n\r\n".repeat(500), Refused);
    add("102", format!("HTTP/1.1 102 Processing\r\n\r\n{good}"), body("abcde"));
    add("199", format!("HTTP/1.1 199 X\r\n\r\n{good}"), body("abcde"));
    // A length of an interim answer means nothing: what follows its head is the next one.
    add("103 with a length", format!("HTTP/1.1 103 X\r\nContent-Length: 5\r\n\r\nabcde{good}"), Refused);
    add("103 with chunks", format!("HTTP/1.1 103 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{good}"), Refused);
    add("103 that is broken", format!("HTTP/1.1 103 X\r\nX : y\r\n\r\n{good}"), Refused);
    add(
        "101 that nobody asked for",
        format!("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n{SECOND}"),
        Refused,
    );
    add("101 to h2c", format!("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n{SECOND}"), Refused);
    add("101 without a protocol", format!("HTTP/1.1 101 S\r\n\r\n{good}"), Refused);
    add("101 with a length", format!("HTTP/1.1 101 S\r\nContent-Length: 5\r\n\r\nabcde{good}"), Refused);
}

pub fn bodiless(all: &mut Vec<Hostile>) {
    let mut add = |name: &str, method: &'static str, text: String, wants: Wanted| {
        let case = hostile("no body", format!("{method}: {name}"), &text, wants);
        all.push(Hostile { method, ..case });
    };
    for (status, name) in [("204 No Content", "204"), ("304 Not Modified", "304")] {
        for fields in [
            "",
            "Content-Length: 0\r\n",
            "Content-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Content-Length: 71\r\n",
        ] {
            let text = |behind: &str| format!("HTTP/1.1 {status}\r\n{fields}\r\n{behind}");
            add(&format!("{name} {fields}and an answer"), "GET", text(SECOND), body(""));
            add(&format!("{name} {fields}and a body"), "GET", text("abcde"), body(""));
            add(&format!("{name} {fields}and chunks"), "GET", text("5\r\nabcde\r\n0\r\n\r\n"), body(""));
        }
    }
    for fields in ["Content-Length: 5\r\n", "Content-Length: 71\r\n", "Transfer-Encoding: chunked\r\n", ""] {
        for (what, behind) in [("an answer", SECOND), ("a body", "abcde"), ("chunks", "5\r\nabcde\r\n0\r\n\r\n")] {
            add(
                &format!("200 {fields}and {what}"),
                "HEAD",
                format!("HTTP/1.1 200 OK\r\n{fields}\r\n{behind}"),
                body(""),
            );
        }
    }
    add("200 that is broken", "HEAD", format!("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n{SECOND}"), Refused);
    add("205 and a body", "GET", format!("HTTP/1.1 205 Reset Content\r\nContent-Length: 5\r\n\r\nabcde{SECOND}"), Safe);
    add(
        "205 and an answer",
        "GET",
        format!("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n{SECOND}"),
        body(""),
    );
}
