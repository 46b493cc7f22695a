//! Answers that no well-behaved application sends, by class.
mod ends;
mod heads;

use crate::trial::case::raw;
use crate::trial::hostile::{Hostile, Wanted};
use Wanted::{Cut, Passed, Refused};

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
    heads::heads(&mut all);
    heads::interims(&mut all);
    heads::bodiless(&mut all);
    ends::ends(&mut all);
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
