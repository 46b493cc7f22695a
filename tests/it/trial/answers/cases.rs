//! Answers that no well-behaved application sends, by class.
use crate::trial::case::raw;
use crate::trial::hostile::{Hostile, Wanted};
use Wanted::{Cut, Passed, Refused, Safe};

/// An answer that nobody asked for.
pub const SECOND: &str = "HTTP/1.1 200 OK\r\nX-Planted: yes\r\nContent-Length: 7\r\n\r\nplanted";

fn hostile(class: &'static str, name: String, text: &str, wants: Wanted) -> Hostile {
    let name = name.chars().flat_map(char::escape_default).collect();
    Hostile { class, name, method: "GET", bytes: raw(text), closes: false, wants }
}

fn body(text: &str) -> Wanted {
    Passed(text.to_owned())
}

pub fn cases() -> Vec<Hostile> {
    let mut all = Vec::new();
    lengths(&mut all);
    codings(&mut all);
    chunks(&mut all);
    heads(&mut all);
    interims(&mut all);
    bodiless(&mut all);
    ends(&mut all);
    all
}

fn lengths(all: &mut Vec<Hostile>) {
    let mut add = |name: String, fields: &str, wants: Wanted| {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nabcde{SECOND}");
        all.push(hostile("Content-Length", name, &text, wants));
    };
    add("good".to_owned(), "Content-Length: 5", body("abcde"));
    for value in [
        "",
        " ",
        "+5",
        "-5",
        "-0",
        "05",
        "0x5",
        "5x",
        "5L",
        "5.0",
        "5e0",
        "5_",
        "5 5",
        "5,5",
        "5, 5",
        "5, 6",
        "5,",
        ",5",
        "5;5",
        "\"5\"",
        "'5'",
        "(5)",
        "%35",
        "five",
        "NaN",
        "\u{b}5",
        "5\u{b}",
        "5\u{c}",
        "5\u{0}",
        "\u{0}5",
        "5\u{7f}",
        "5\u{80}",
        "5\u{a0}",
        "\u{665}",
        "\u{ff15}",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551621",
        "9223372036854775808",
        "99999999999999999999999999",
        "-18446744073709551611",
        "5\r\n 5",
        "\r\n 5",
        "5\n",
        "\n5",
        "5\r",
        "\r5",
        "chunked",
        "*",
    ] {
        add(format!("value {value}"), &format!("Content-Length: {value}"), Refused);
    }
    for (first, second) in [
        ("5", "5"),
        ("5", "0"),
        ("0", "5"),
        ("5", "6"),
        ("5", "05"),
        ("5", ""),
        ("", "5"),
        ("5", "-1"),
        ("5", "x"),
        ("x", "5"),
    ] {
        add(
            format!("twice {first} and {second}"),
            &format!("Content-Length: {first}\r\nContent-Length: {second}"),
            Refused,
        );
        add(
            format!("apart {first} and {second}"),
            &format!("Content-Length: {first}\r\nX: y\r\ncontent-length: {second}"),
            Refused,
        );
    }
    for name in [
        "Content-Length ",
        "Content-Length\t",
        " Content-Length",
        "\tContent-Length",
        "Content-Length\u{0}",
        "Content-Length\u{b}",
        "Content-Length\u{a0}",
        "Content -Length",
        "X: y\nContent-Length",
        "X: y\rContent-Length",
        "X: y\u{0}Content-Length",
    ] {
        add(format!("name {name}"), &format!("Content-Length: 5\r\n{name}: 60"), Refused);
    }
    for name in ["Content_Length", "Content.Length", "ContentLength", "X-Content-Length"] {
        add(format!("stranger {name}"), &format!("Content-Length: 5\r\n{name}: 60"), body("abcde"));
    }
}

fn codings(all: &mut Vec<Hostile>) {
    let mut add = |name: String, version: &str, fields: &str, wants: Wanted| {
        let text = format!("HTTP/{version} 200 OK\r\n{fields}\r\n\r\n5\r\nabcde\r\n0\r\n\r\n{SECOND}");
        all.push(hostile("Transfer-Encoding", name, &text, wants));
    };
    for good in ["chunked", "Chunked", " chunked "] {
        add(format!("good {good}"), "1.1", &format!("Transfer-Encoding:{good}"), body("abcde"));
    }
    for value in [
        "",
        "chunked,",
        ",chunked",
        "chunked, chunked",
        "gzip, chunked",
        "chunked, gzip",
        "identity",
        "identity, chunked",
        "chunked, identity",
        "chunked;q=1",
        "\"chunked\"",
        "xchunked",
        "chunkedx",
        "chunke",
        "chu nked",
        "chunked gzip",
        "gzip",
        "deflate",
        "cow",
        "5",
        "\u{b}chunked",
        "chunked\u{b}",
        "chunked\u{0}",
        "chunked\u{80}",
        "\u{a0}chunked",
        "chun\u{212a}ed",
        "%63hunked",
        "chunked=1",
        "(chunked)",
        "\r\n chunked",
        "chunked\r\n ",
        "chunked\n",
        "\nchunked",
        "chunked\r",
        "chunked\rX: y",
    ] {
        add(format!("value {value}"), "1.1", &format!("Transfer-Encoding: {value}"), Refused);
        add(
            format!("with length {value}"),
            "1.1",
            &format!("Content-Length: 5\r\nTransfer-Encoding: {value}"),
            Refused,
        );
    }
    for length in ["0", "5", "15", "100000"] {
        add(
            format!("good, behind length {length}"),
            "1.1",
            &format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
            Refused,
        );
        add(
            format!("good, before length {length}"),
            "1.1",
            &format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"),
            Refused,
        );
    }
    for (first, second) in [
        ("chunked", "chunked"),
        ("chunked", "identity"),
        ("identity", "chunked"),
        ("gzip", "chunked"),
        ("", "chunked"),
        ("chunked", ""),
    ] {
        add(
            format!("twice {first} and {second}"),
            "1.1",
            &format!("Transfer-Encoding: {first}\r\nTransfer-Encoding: {second}"),
            Refused,
        );
    }
    for more in ["", "\r\nConnection: keep-alive", "\r\nContent-Length: 5"] {
        add(format!("HTTP/1.0 with {more}"), "1.0", &format!("Transfer-Encoding: chunked{more}"), Refused);
    }
    for name in [
        "Transfer-Encoding ",
        " Transfer-Encoding",
        "Transfer-Encoding\u{0}",
        "X: y\nTransfer-Encoding",
        "X: y\rTransfer-Encoding",
    ] {
        add(format!("name {name}"), "1.1", &format!("Content-Length: 5\r\n{name}: chunked"), Refused);
    }
}

fn chunks(all: &mut Vec<Hostile>) {
    let mut add = |name: String, chunks: &str, wants: Wanted| {
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{SECOND}");
        all.push(hostile("chunks and trailers", name, &text, wants));
    };
    for good in ["5", "05", "5;a=b", "5;a=\"b;c\""] {
        add(format!("good size {good}"), &format!("{good}\r\nabcde\r\n0\r\n\r\n"), body("abcde"));
    }
    for bad in [
        "0000000000000005",
        "0x5",
        "+5",
        "-5",
        "5 ",
        " 5",
        "5\t",
        "5,5",
        "5.0",
        "5_",
        "5h",
        "g",
        "",
        "\u{b}5",
        "5\u{b}",
        "5\u{0}",
        "5\u{80}",
        "\u{665}",
        "5;\u{0}",
        "5\n",
        "5;\n",
        "5;a\nb",
        "5\r",
        "5;a\rb",
        "ffffffffffffffff",
        "10000000000000005",
        "\r\n5",
        "\n5",
    ] {
        add(format!("bad size {bad}"), &format!("{bad}\r\nabcde\r\n0\r\n\r\n"), Cut);
    }
    for data in ["abcde\n", "abcde", "abcdef\r\n", "abcde\r\r\n", "abcdeXX", "abcde\r\n\r\n", "abcd\r\n"] {
        add(format!("bad end of data {data}"), &format!("5\r\n{data}0\r\n\r\n"), Cut);
    }
    for end in [
        "0\n\n",
        "0\r\n\n",
        "0\r\r\n\r\n",
        "-0\r\n\r\n",
        "0x0\r\n\r\n",
        " 0\r\n\r\n",
        "0\u{0}\r\n\r\n",
        "0000000000000000\r\n\r\n",
    ] {
        add(format!("bad end {end}"), &format!("5\r\nabcde\r\n{end}"), Cut);
    }
    for name in [
        "Set-Cookie",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Location",
        "Content-Security-Policy",
        "Strict-Transport-Security",
        "Access-Control-Allow-Origin",
        "Clear-Site-Data",
        "X-Tenant-Id",
        "Set_Cookie",
        "Content-Type",
        "WWW-Authenticate",
        "Refresh",
        "Link",
        "Alt-Svc",
        "Server",
        "X-Sum",
    ] {
        add(format!("trailer {name}"), &format!("5\r\nabcde\r\n0\r\n{name}: forged\r\n\r\n"), body("abcde"));
    }
    for bad in [
        "X\r\n",
        "X : y\r\n",
        " X: y\r\n",
        ": y\r\n",
        "X: y\n",
        "X: a\0\r\n",
        "X: y\r\n z\r\n",
        "HTTP/1.1 200 OK\r\n",
        "X: y\r\r\n",
    ] {
        add(format!("bad trailer {bad}"), &format!("5\r\nabcde\r\n0\r\n{bad}\r\n"), Cut);
    }
    add("trailers without end".to_owned(), &("5\r\nabcde\r\n0\r\n".to_owned() + &"a: b\r\n".repeat(5000)), Cut);
}

fn heads(all: &mut Vec<Hostile>) {
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

fn interims(all: &mut Vec<Hostile>) {
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

fn bodiless(all: &mut Vec<Hostile>) {
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

fn ends(all: &mut Vec<Hostile>) {
    let mut add = |name: &str, closes: bool, text: String, wants: Wanted| {
        let case = hostile("ends", name.to_owned(), &text, wants);
        all.push(Hostile { closes, ..case });
    };
    let long = "a".repeat(100_000);
    for closes in [false, true] {
        let how = if closes { "and closes" } else { "and stays" };
        add(
            &format!("two answers {how}"),
            closes,
            format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde{SECOND}"),
            body("abcde"),
        );
        add(
            &format!("ten answers {how}"),
            closes,
            format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde{}", SECOND.repeat(9)),
            body("abcde"),
        );
        add(
            &format!("an answer behind close {how}"),
            closes,
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nabcde{SECOND}"),
            body("abcde"),
        );
        add(
            &format!("an answer behind an empty one {how}"),
            closes,
            format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{SECOND}"),
            body(""),
        );
        add(
            &format!("an answer behind chunks {how}"),
            closes,
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n{SECOND}"),
            body("abcde"),
        );
        add(
            &format!("an answer behind a redirect {how}"),
            closes,
            format!("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n{SECOND}"),
            body(""),
        );
        add(
            &format!("an answer behind HTTP/1.0 {how}"),
            closes,
            format!("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nabcde{SECOND}"),
            body("abcde"),
        );
        add(
            &format!("an answer behind HTTP/1.0 that is kept {how}"),
            closes,
            format!("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nabcde{SECOND}"),
            body("abcde"),
        );
        add(
            &format!("half an answer behind {how}"),
            closes,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcdeHTTP/1.1 200 OK\r\nX-Plan".to_owned(),
            body("abcde"),
        );
        add(
            &format!("one byte behind {how}"),
            closes,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde\n".to_owned(),
            body("abcde"),
        );
        add(
            &format!("an empty line behind {how}"),
            closes,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde\r\n".to_owned(),
            body("abcde"),
        );
    }
    add("a length that is not reached", true, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nabcde".to_owned(), Cut);
    add(
        "a great length that is not reached",
        true,
        format!("HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n{long}"),
        Cut,
    );
    add(
        "the greatest length",
        true,
        "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\nabcde".to_owned(),
        Cut,
    );
    add(
        "chunks without end",
        true,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n".to_owned(),
        Cut,
    );
    add("half a chunk", true, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab".to_owned(), Cut);
    add("half a size", true, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5".to_owned(), Cut);
    add(
        "no last empty line",
        true,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n".to_owned(),
        Cut,
    );
    add(
        "half a trailer",
        true,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\nX-Su".to_owned(),
        Cut,
    );
    add("half a head", true, "HTTP/1.1 200 OK\r\nContent-Le".to_owned(), Refused);
    add("half a status line", true, "HTTP/1.".to_owned(), Refused);
    add("nothing", true, String::new(), Refused);
    add("the end is the end of the body", true, "HTTP/1.1 200 OK\r\n\r\nabcde".to_owned(), body("abcde"));
    add("the end is the end of a body of HTTP/1.0", true, "HTTP/1.0 200 OK\r\n\r\nabcde".to_owned(), body("abcde"));
}
