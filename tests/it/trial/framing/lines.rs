//! Request lines: methods, targets in all four forms, versions.
use crate::trial::case::Case;
use crate::trial::case::Wants::{self, Refused, Served};

const LINE: &str = "request lines";

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    methods(&mut all);
    targets(&mut all);
    versions(&mut all);
    all
}

fn line(name: String, line: &str, wants: Wants) -> Case {
    Case::new(LINE, name, &format!("{line}\r\nHost: acme.localhost\r\n\r\n"), wants)
}

fn methods(all: &mut Vec<Case>) {
    for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] {
        all.push(line(format!("method {method}"), &format!("{method} /t/0000 HTTP/1.1"), Served(1)));
    }
    for method in [
        "",
        " ",
        "get",
        "Get",
        "GeT",
        "GET\t",
        "\tGET",
        "G ET",
        "GET,",
        "GET,POST",
        "(GET)",
        "\"GET\"",
        "G(T",
        "G@T",
        "G/T",
        "G:T",
        "G;T",
        "G=T",
        "G[T",
        "G{T",
        "G\\T",
        "GET\0",
        "\0GET",
        "G\u{e9}T",
        "GET\u{80}",
        "GET\u{a0}",
        "GET GET",
        "GET POST",
        "\u{b}GET",
        "GET\u{b}",
        "GET\u{7f}",
    ] {
        // Methods that cannot be routed leave the connection as it is: their end is known.
        let wants = if matches!(method, "get" | "Get" | "GeT") { Wants::Safe } else { Refused(0) };
        all.push(line(format!("bad method {method}"), &format!("{method} /t/0000 HTTP/1.1"), wants));
    }
    for method in [
        "TRACE",
        "TRACK",
        "CONNECT",
        "DEBUG",
        "PROPFIND",
        "SEARCH",
        "MOVE",
        "LOCK",
        "PURGE",
        "BREW",
        "QUERY",
        "PRI",
        "SSTP_DUPLEX_POST",
        "M-SEARCH",
        "INVOKE",
        "OPTION",
        "HEADER",
        "GETS",
        "GE",
        "G",
        "X",
        "!",
        "$GET",
        "GET!",
        "GET|POST",
        &"A".repeat(4000),
    ] {
        all.push(line(format!("foreign method {method}"), &format!("{method} /t/0000 HTTP/1.1"), Wants::Safe));
    }
}

fn targets(all: &mut Vec<Case>) {
    for target in [
        "/t/0000",
        "/t/0000?",
        "/t/0000?a=b",
        "/t/0000??",
        "/t/0000?a?b/c",
        "http://acme.localhost/t/0000",
        "https://acme.localhost/t/0000",
        "HTTP://acme.localhost/t/0000",
        "hTTps://acme.localhost/t/0000?x",
    ] {
        all.push(line(format!("target {target}"), &format!("GET {target} HTTP/1.1"), Served(1)));
    }
    for target in [
        "",
        " /t/0000",
        "/t/0000 ",
        "/t/0000 a",
        "/t/0000  ",
        "\t/t/0000",
        "/t/0000\t",
        "/t/0000\ta",
        "/t/0000\u{b}",
        "/t/0000\u{c}",
        "/t/0000\0",
        "/t/0000\u{1}",
        "/t/0000\u{7f}",
        "/t/0000\u{80}",
        "/t/0000\u{a0}",
        "/t/0000\u{ff}",
        "/t/0000\u{3000}",
        "/t/0000#",
        "/t/0000#a",
        "/t/0000?#",
        "/t/0000?a#b",
        "/t/0000\\",
        "/t/0000?\\",
        "/t/0000\"",
        "/t/0000<",
        "/t/0000>",
        "/t/0000`",
        "/t/0000{",
        "/t/0000}",
        "/t/0000?<",
        "/t/0000?\"",
        "/t/0000?%",
        "/t/0000?%0",
        "/t/0000?%zz",
        "/t/0000?%00",
        "/t/0000?\u{e9}",
        "/t/0000%",
        "/t/0000%0d%0aX:y",
        "/t/0000%0a",
        "/t/0000%00",
        "/t/0000%20HTTP/1.1%0d%0aHost:b",
        "t/0000",
        "t/0000/x",
        "?a",
        "#",
        ".",
        "..",
        "*",
        "*/t/0000",
        "**",
        "/*#",
        "//acme.localhost/t/0000",
        "///t/0000",
        "\\t\\0000",
        "\\\\acme.localhost\\t",
        "acme.localhost",
        "acme.localhost:443",
        "acme.localhost:443/t/0000",
        "acme.localhost/t/0000",
        "[::1]:443",
        "127.0.0.1:80",
        "@acme.localhost",
        ":443",
        "http:/t/0000",
        "http:///t/0000",
        "http:t/0000",
        "http:acme.localhost/t/0000",
        "http://",
        "http://?",
        "http://acme.localhost#",
        "http:\\\\acme.localhost\\t",
        "http://acme.localhost\\@globex.localhost/t/0000",
        "http://acme.localhost@globex.localhost/t/0000",
        "http://globex.localhost@acme.localhost/t/0000",
        "http://user:secret@acme.localhost/t/0000",
        "http://acme.localhost:80@globex.localhost/t/0000",
        "http://globex.localhost/t/0000",
        "http://globex.localhost:80/t/0000",
        "http://ACME.localhost/t/0000",
        "http://acme.localhost./t/0000",
        "http://acme.localhost:80/t/0000",
        "https://acme.localhost:443/t/0000",
        "http://acme.localhost:8080/t/0000",
        "http://acme.localhost:/t/0000",
        "http://acme.localhost:0/t/0000",
        "http://acme.localhost:99999/t/0000",
        "http://acme.localhost:a/t/0000",
        "http://%61cme.localhost/t/0000",
        "http://acme%2elocalhost/t/0000",
        "http://acme.localhost%2ft/0000",
        "http://acme.localhost%00/t/0000",
        "http://acme.localhost%0d%0a/t/0000",
        "http://acme .localhost/t/0000",
        "http://acme.localhost/t/0000 HTTP/1.1 GET",
        "http://acme.localhost//t/0000",
        "http://acme.localhost/../t/0000",
        "http://[acme.localhost]/t/0000",
        "http://acme\u{3002}localhost/t/0000",
        "http://\u{ff41}cme.localhost/t/0000",
        "ftp://acme.localhost/t/0000",
        "file:///t/0000",
        "javascript:alert(1)",
        "data:text/html,x",
        "gopher://acme.localhost/t/0000",
        "ws://acme.localhost/t/0000",
        "wss://acme.localhost/t/0000",
        "unix:/t/0000",
        "h2c://acme.localhost/t/0000",
        "httpx://acme.localhost/t/0000",
        "http+unix://x/t/0000",
        "://acme.localhost/t/0000",
        "//",
        "/",
        "/t/0000/../0000",
        "/t//0000",
        "/./t/0000",
        "/t/0000;a",
        "/t/0000/;/",
    ] {
        // A slash is a page of its own, which takes GET.
        let wants = if target == "/" { Wants::Safe } else { Refused(0) };
        if target == "/" {
            continue;
        }
        all.push(line(format!("bad target {target}"), &format!("GET {target} HTTP/1.1"), wants));
    }
    for (method, target) in [
        ("OPTIONS", "*"),
        ("GET", "*"),
        ("POST", "*"),
        ("OPTIONS", "http://acme.localhost"),
        ("OPTIONS", "http://acme.localhost?"),
        ("CONNECT", "acme.localhost:443"),
        ("CONNECT", "127.0.0.1:22"),
        ("CONNECT", "/t/0000"),
        ("CONNECT", "http://acme.localhost/t/0000"),
        ("CONNECT", "*"),
    ] {
        let wants = if method == "CONNECT" { Wants::Safe } else { Refused(0) };
        all.push(line(format!("{method} of {target}"), &format!("{method} {target} HTTP/1.1"), wants));
    }
}

fn versions(all: &mut Vec<Case>) {
    for version in [
        "",
        " ",
        "HTTP",
        "HTTP/",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/1.2",
        "HTTP/1.3",
        "HTTP/1.9",
        "HTTP/1.10",
        "HTTP/1.11",
        "HTTP/1.01",
        "HTTP/01.1",
        "HTTP/1.1.1",
        "HTTP/1.00",
        "HTTP/0.9",
        "HTTP/0.0",
        "HTTP/2",
        "HTTP/2.0",
        "HTTP/2.1",
        "HTTP/3",
        "HTTP/3.0",
        "HTTP/9.9",
        "HTTP/11",
        "HTTP/1,1",
        "HTTP/1_1",
        "HTTP/1;1",
        "HTTP/-1.1",
        "HTTP/+1.1",
        "HTTP/1.1 ",
        " HTTP/1.1",
        "HTTP/1.1\t",
        "HTTP/ 1.1",
        "HTTP /1.1",
        "HTTP/1 .1",
        "HTTP/1. 1",
        "http/1.1",
        "Http/1.1",
        "hTTP/1.1",
        "HTTPS/1.1",
        "ICAP/1.0",
        "RTSP/1.0",
        "SIP/2.0",
        "SHTTP/1.1",
        "XHTTP/1.1",
        "HTTPX/1.1",
        "HTTP\\1.1",
        "HTTP//1.1",
        "HTTP:1.1",
        "HTTP-1.1",
        "HTTP1.1",
        "/HTTP/1.1",
        "HTTP/1.1/",
        "HTTP/1.1a",
        "HTTP/1.a",
        "HTTP/a.1",
        "HTTP/1.1;a",
        "HTTP/1.1\0",
        "\0HTTP/1.1",
        "HTTP/1.1\u{b}",
        "HTTP/1.1\u{a0}",
        "HTTP/\u{661}.1",
        "HTTP/1.\u{661}",
        "HTTP/1.\u{b9}",
        "HTTP/1.1 HTTP/1.1",
        "HTTP/1.1 HTTP/1.0",
        "\"HTTP/1.1\"",
        "HTTP/1.1,",
        "HTTP/0x1.1",
        "HTTP/1.1\r",
        "HTTP/4294967297.1",
    ] {
        all.push(line(format!("version {version}"), &format!("GET /t/0000 {version}"), Refused(0)));
    }
    for (name, text) in [
        ("HTTP/0.9", "GET /t/0000\r\n\r\n"),
        ("HTTP/0.9 with a host", "GET /t/0000\r\nHost: acme.localhost\r\n\r\n"),
        ("HTTP/0.9 with a line feed", "GET /t/0000\n\n"),
        ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (
            "the preface of HTTP/2 with a host",
            "PRI * HTTP/2.0\r\nHost: acme.localhost\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0",
        ),
        (
            "the preface of HTTP/2 behind a body",
            "POST /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\nContent-Length: 0\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ),
        ("two spaces behind the method", "GET  /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\n\r\n"),
        ("two spaces before the version", "GET /t/0000  HTTP/1.1\r\nHost: acme.localhost\r\n\r\n"),
        ("tabs for spaces", "GET\t/t/0000\tHTTP/1.1\r\nHost: acme.localhost\r\n\r\n"),
        ("a tab for the first space", "GET\t/t/0000 HTTP/1.1\r\nHost: acme.localhost\r\n\r\n"),
        ("vertical tabs for spaces", "GET\u{b}/t/0000\u{b}HTTP/1.1\r\nHost: acme.localhost\r\n\r\n"),
        ("NUL for spaces", "GET\0/t/0000\0HTTP/1.1\r\nHost: acme.localhost\r\n\r\n"),
        ("no spaces", "GET/t/0000HTTP/1.1\r\nHost: acme.localhost\r\n\r\n"),
        ("a folded request line", "GET /t/0000\r\n HTTP/1.1\r\nHost: acme.localhost\r\n\r\n"),
        ("a bare line feed for its end", "GET /t/0000 HTTP/1.1\nHost: acme.localhost\r\n\r\n"),
        ("a bare carriage return for its end", "GET /t/0000 HTTP/1.1\rHost: acme.localhost\r\n\r\n"),
        ("nothing but an empty line", "\r\n"),
        ("nothing but spaces", "   \r\n\r\n"),
    ] {
        let wants = if name.contains("behind a body") { Refused(1) } else { Refused(0) };
        all.push(Case::new(LINE, name, text, wants));
    }
    for (name, fields, wants) in [
        ("HTTP/1.0", "", Wants::Safe),
        ("HTTP/1.0 keep-alive", "Connection: keep-alive\r\n", Served(1)),
        ("HTTP/1.0 with a length and a body", "Connection: keep-alive\r\nContent-Length: 5\r\n", Refused(0)),
        ("HTTP/1.0 and an upgrade", "Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\n", Refused(0)),
    ] {
        let text = format!("GET /t/0000 HTTP/1.0\r\nHost: acme.localhost\r\n{fields}\r\n");
        all.push(Case::new(LINE, name, &text, wants));
    }
}
