//! `Transfer-Encoding` in every spelling that some reader has taken for `chunked` and another not.
use crate::trial::case::Case;
use crate::trial::case::Wants::{self, Refused, Served};

const CLASS: &str = "Transfer-Encoding";
const HIDDEN: &str = "GET /t/0000/hidden HTTP/1.1\r\nHost: acme.localhost\r\n\r\n";

/// The body is one chunk with the hidden request, or, for whoever reads no chunks, two bytes and a request.
fn case(name: String, version: &str, fields: &str, wants: Wants) -> Case {
    let chunk = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
    let text = format!("POST /t/0000 HTTP/{version}\r\nHost: acme.localhost\r\n{fields}\r\n\r\n{chunk}");
    Case::new(CLASS, name, &text, wants)
}

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for good in ["chunked", " chunked", "chunked ", " \tchunked\t "] {
        all.push(case(format!("good {good}"), "1.1", &format!("Transfer-Encoding:{good}"), Served(1)));
    }
    let values = [
        "Chunked",
        "CHUNKED",
        "cHuNkEd",
        "chunkeD",
        "",
        " ",
        "chunked,",
        ",chunked",
        ", chunked",
        "chunked ,",
        "chunked,chunked",
        "chunked, chunked",
        "gzip, chunked",
        "chunked, gzip",
        "deflate, chunked",
        "compress, chunked",
        "identity",
        "identity, chunked",
        "chunked, identity",
        "chunked;q=1",
        "chunked;",
        "chunked; a=b",
        "chunked;a=\"b\"",
        "\"chunked\"",
        "'chunked'",
        "`chunked`",
        "xchunked",
        "chunkedx",
        "x-chunked",
        "chunked-x",
        "chunke",
        "hunked",
        "chu nked",
        "chunked chunked",
        "chunked gzip",
        "gzip",
        "deflate",
        "br",
        "compress",
        "x-gzip",
        "trailers",
        "cow",
        "cow, chunked",
        "chunked, cow",
        "null",
        "none",
        "0",
        "5",
        "*",
        "chunked\u{b}",
        "\u{b}chunked",
        "\u{c}chunked",
        "chunked\u{c}",
        "chunked\u{0}",
        "\u{0}chunked",
        "chunked\u{1f}",
        "\u{1}chunked",
        "chunked\u{7f}",
        "\u{7f}chunked",
        "chunked\u{80}",
        "\u{80}chunked",
        "\u{a0}chunked",
        "chunked\u{a0}",
        "\u{85}chunked",
        "chunked\u{ff}",
        "chun\u{212a}ed",
        "\u{ff43}hunked",
        "\u{441}hunked",
        "\u{200b}chunked",
        "chunked\u{200b}",
        "\u{feff}chunked",
        "\u{2003}chunked",
        "%63hunked",
        "chunked%00",
        "chunked%20",
        "chunked#",
        "chunked/1",
        "chunked=1",
        "chunked:",
        ":chunked",
        "=chunked",
        "[chunked]",
        "{chunked}",
        "(chunked)",
        "<chunked>",
        "chunked(comment)",
        "(comment)chunked",
        "ch\\unked",
        "\\chunked",
        "chunked\\",
        "chunked|gzip",
        "chunked&gzip",
        "chunked+gzip",
        "chunked\t,",
        "chunked\r",
        "\rchunked",
        "chunked\n",
        "\nchunked",
        "\r\n chunked",
        "\r\n\tchunked",
        "chunked\r\n ",
        "chunked\r\n\t,gzip",
        "\r\n gzip,\r\n chunked",
        "gzip\r\n chunked",
        "chunked\rX: y",
        "chunked\nX: y",
    ];
    for value in values {
        let field = format!("Transfer-Encoding: {value}");
        all.push(case(format!("value {value}"), "1.1", &field, Refused(0)));
        // A chunk of this size has 55 bytes for whoever counts, and none for whoever reads the length.
        all.push(case(format!("length before {value}"), "1.1", &format!("Content-Length: 4\r\n{field}"), Refused(0)));
        all.push(case(format!("length behind {value}"), "1.1", &format!("{field}\r\nContent-Length: 4"), Refused(0)));
    }
    for good in ["chunked", "Chunked", "CHUNKED"] {
        for length in ["0", "4", "5", "68", "100000", "", "abc"] {
            for (order, fields) in [
                ("before", format!("Content-Length: {length}\r\nTransfer-Encoding: {good}")),
                ("behind", format!("Transfer-Encoding: {good}\r\nContent-Length: {length}")),
            ] {
                all.push(case(format!("good {good}, length {length} {order}"), "1.1", &fields, Refused(0)));
            }
        }
    }
    for (first, second) in [
        ("chunked", "chunked"),
        ("chunked", "identity"),
        ("identity", "chunked"),
        ("gzip", "chunked"),
        ("chunked", "gzip"),
        ("", "chunked"),
        ("chunked", ""),
        ("chunked", "cow"),
        ("cow", "chunked"),
        ("chunked", " "),
        ("CHUNKED", "chunked"),
        ("chunked", "xchunked"),
        ("x", "chunked"),
        ("trailers", "chunked"),
    ] {
        for between in ["\r\n", "\r\nX-Between: 1\r\n"] {
            let fields = format!("Transfer-Encoding: {first}{between}Transfer-Encoding: {second}");
            all.push(case(format!("twice {first} and {second} by {between}"), "1.1", &fields, Refused(0)));
        }
        let fields = format!("Transfer-Encoding: {first}\r\ntransfer-encoding: {second}");
        all.push(case(format!("twice in other case {first} and {second}"), "1.1", &fields, Refused(0)));
    }
    for name in [
        "Transfer_Encoding",
        "TRANSFER_ENCODING",
        "transfer_encoding",
        "Transfer.Encoding",
        "Transfer~Encoding",
        "Transfer!Encoding",
        "Transfer*Encoding",
        "Transfer-Encoding ",
        "Transfer-Encoding\t",
        " Transfer-Encoding",
        "\tTransfer-Encoding",
        "Transfer-Encoding\u{0}",
        "Transfer-Encoding\u{b}",
        "\u{b}Transfer-Encoding",
        "Transfer-Encoding\u{a0}",
        "\u{a0}Transfer-Encoding",
        "Transfer-Encoding\u{80}",
        "Transfer -Encoding",
        "Transfer- Encoding",
        "Transfer Encoding",
        "Transfer\u{0}-Encoding",
        "\"Transfer-Encoding\"",
        "Transfer-Encoding;",
        "Transfer-Encoding=",
        "Transfer\u{2010}Encoding",
        "\u{422}ransfer-Encoding",
        "X: y\nTransfer-Encoding",
        "X: y\rTransfer-Encoding",
        "X: y\r\n Transfer-Encoding",
        "X: y\u{0}Transfer-Encoding",
        "X: y\u{b}\r\nX Transfer-Encoding",
    ] {
        let both = format!("Content-Length: 68\r\n{name}: chunked");
        all.push(case(format!("name {name}"), "1.1", &both, Refused(0)));
        all.push(case(
            format!("name first {name}"),
            "1.1",
            &format!("{name}: chunked\r\nContent-Length: 68"),
            Refused(0),
        ));
        all.push(case(format!("name alone {name}"), "1.1", &format!("{name}: chunked"), Refused(0)));
    }
    for name in ["TransferEncoding", "X-Transfer-Encoding", "Transfer-Encodin", "Transfer--Encoding", "TE"] {
        let chunk = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
        let fields = format!("Content-Length: {}\r\n{name}: chunked", chunk.len());
        all.push(case(format!("stranger {name}"), "1.1", &fields, Served(1)));
    }
    for value in ["chunked", "Chunked", "identity", "gzip, chunked", "chunked, identity", ""] {
        for more in ["", "\r\nConnection: keep-alive", "\r\nContent-Length: 4"] {
            let fields = format!("Transfer-Encoding: {value}{more}");
            all.push(case(format!("HTTP/1.0 {value} with {more}"), "1.0", &fields, Refused(0)));
        }
    }
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        for value in ["chunked, identity", "xchunked", "\u{b}chunked", "chunked\r\nTransfer-Encoding: x"] {
            let text = format!(
                "{method} /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\nTransfer-Encoding: {value}\r\n\r\n0\r\n\r\n{HIDDEN}"
            );
            all.push(Case::new(CLASS, format!("{method} with {value}"), &text, Refused(0)));
        }
        let wants = if matches!(method, "GET" | "HEAD") { Refused(0) } else { Served(2) };
        let text = format!(
            "{method} /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
        );
        all.push(Case::new(CLASS, format!("{method} in chunks"), &text, wants));
    }
    all
}
