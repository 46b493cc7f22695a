//! Chunked bodies: sizes, extensions, ends of lines and trailers that end in two places for two readers.
use crate::trial::case::Case;
use crate::trial::case::Wants::{self, Refused, Safe, Served};

const CLASS: &str = "chunks and trailers";

fn case(name: String, body: &str, wants: Wants) -> Case {
    let text = format!(
        "POST /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\nTransfer-Encoding: chunked\r\nTrailer: x-checksum\r\n\r\n{body}"
    );
    Case::new(CLASS, name, &text, wants)
}

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let (long, longer) = ("x".repeat(1020), "x".repeat(1100));
    for good in [
        "5",
        "05",
        "0000000005",
        "000000000000005",
        "5;",
        "5;a",
        "5;a=b",
        "5;a=\"b\"",
        "5;a=\"b;c\"",
        "5;a;b;c",
        "5; a = b",
        "5;a=\"GET /t/0000/hidden HTTP/1.1\"",
        "5;\t",
        "5;=",
        "5;a=\"",
        "5;\u{80}",
        &format!("5;{long}"),
    ] {
        all.push(case(format!("good size {good}"), &format!("{good}\r\nabcde\r\n0\r\n\r\n"), Served(1)));
    }
    for bad in [
        "0000000000000005",
        "0x5",
        "0X5",
        "x5",
        "+5",
        "-5",
        "--5",
        "5 ",
        " 5",
        "5\t",
        "\t5",
        "5 ;a",
        "5,5",
        "5, 5",
        "5 5",
        "5.0",
        "5.",
        "5_",
        "_5",
        "5h",
        "5L",
        "5u",
        "5g",
        "g5",
        "G",
        "",
        " ",
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
        "\u{feff}5",
        "5#a",
        "5:a",
        "5=a",
        "5/",
        "5\"",
        "\"5\"",
        "(5)",
        "%35",
        "5\\",
        "5&a",
        "5|",
        "5;a\u{0}",
        "5;a\u{b}",
        "5;a\u{7f}",
        "5;\u{1}",
        "5;a\n",
        "5;\n",
        "5;a\nb",
        "5;a\rb",
        "5;a=\"\n\"",
        "5;a=\"\r\n\"",
        "5;a=\"\r\n0\r\n\r\nGET /t/0000/hidden HTTP/1.1\r\nHost: a\r\n\r\n\"",
        "5\r",
        "5\r\r",
        "5\n",
        "5\n\r",
        "5;a\r",
        "5\r;a",
        "ffffffffffffffff",
        "10000000000000005",
        "100000000000000000005",
        "fffffffffffffffffffffffff5",
        "8000000000000005",
        "-fffffffffffffffb",
        &format!("5;{longer}"),
        "\r\n5",
        "\n5",
        "\r\n\r\n5",
        "5\u{85}",
        "5;a=\"\\\r\n\"",
    ] {
        all.push(case(format!("bad size {bad}"), &format!("{bad}\r\nabcde\r\n0\r\n\r\n"), Refused(0)));
    }
    // Sizes of other chunks that mean the same five bytes to whoever loses the upper bits: never so many bytes come.
    for great in ["100000005", "80000005", "ffffffff", "7ffffffffffffff", "100000000000005", "fffffffffffffff"] {
        all.push(case(format!("great size {great}"), &format!("{great}\r\nabcde\r\n0\r\n\r\n"), Safe));
    }
    for last in ["0", "00", "000000000000000", "0;", "0;a=b", "0;a=\"b\""] {
        all.push(case(format!("good last chunk {last}"), &format!("5\r\nabcde\r\n{last}\r\n\r\n"), Served(1)));
    }
    for last in [
        "0000000000000000",
        "0 ",
        " 0",
        "0\t",
        "-0",
        "+0",
        "0x0",
        "0x",
        "0h",
        "",
        "00000000000000000000",
        "0\u{0}",
        "0\u{b}",
        "o",
        "0,",
        "0.",
        "0\r",
        "0\n",
        "0;\n",
        "0;a\r",
        "0;\u{0}",
    ] {
        all.push(case(format!("bad last chunk {last}"), &format!("5\r\nabcde\r\n{last}\r\n\r\n"), Refused(0)));
    }
    for end in [
        "\n\n",
        "\r\n\n",
        "\n\r\n",
        "\r\r\n",
        "\r\n\r",
        "\r\r",
        "\n",
        "\r\n\r\r\n",
        "\r\n \r\n",
        "\r\n\0\r\n\r\n",
        "\u{b}\r\n\r\n",
    ] {
        all.push(case(format!("bad end {end}"), &format!("5\r\nabcde\r\n0{end}GET"), Refused(0)));
    }
    for data in [
        "abcde\n",
        "abcde\r",
        "abcde",
        "abcdef\r\n",
        "abcdeX\r\n",
        "abcde\r\r\n",
        "abcde\n\r\n",
        "abcde \r\n",
        "abcde\0\r\n",
        "abcde\r\0\n",
        "abcde\u{b}\r\n",
        "abcde\r\n\r\n",
        "abcde\r\n ",
        "abcdeXX",
        "abcde\n\n",
        "abcde;\r\n",
    ] {
        all.push(case(format!("bad end of data {data}"), &format!("5\r\n{data}0\r\n\r\n"), Refused(0)));
    }
    // Fewer bytes than said: the next line is data, and so it goes on to the first that is none.
    for data in ["abcd\r\n", "abc\r\n", "ab\r\n", "a\r\n", "\r\n"] {
        all.push(case(format!("short data {data}"), &format!("5\r\n{data}0\r\n\r\n"), Refused(0)));
    }
    trailers(&mut all);
    all
}

fn trailers(all: &mut Vec<Case>) {
    let body = |trailers: &str| format!("5\r\nabcde\r\n0\r\n{trailers}\r\n");
    // Well-formed: the request is served, and the trailer is left behind unless it only informs.
    for name in [
        "x-checksum",
        "grpc-status",
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Connection",
        "Upgrade",
        "TE",
        "Trailer",
        "Expect",
        "Authorization",
        "Cookie",
        "Proxy-Authorization",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Real-IP",
        "X-Tenant-Id",
        "X-User-Id",
        "X-User-Roles",
        "X-Request-Id",
        "Moat-Assertion",
        "X-CSP-Nonce",
        "x_tenant_id",
        "X_User_Id",
        "x.user.id",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X_HTTP_Method_Override",
        "Proxy",
        "Via",
        "Content-Type",
        "Content-Encoding",
        "Content_Length",
        "Transfer_Encoding",
        "Content-Range",
        "Range",
        "If-Match",
        "If-None-Match",
        "Cache-Control",
        "Origin",
        "Referer",
        "Sec-Fetch-Site",
        "Remote-User",
        "X-Remote-User",
        "Ssl-Client-Cert",
        "Idempotency-Key",
        "Traceparent",
        "Keep-Alive",
        "Proxy-Connection",
        "HTTP2-Settings",
        "Max-Forwards",
        "Date",
        "Server",
        "Set-Cookie",
    ] {
        let value = if name.eq_ignore_ascii_case("content-length") { "60" } else { "forged" };
        all.push(case(format!("trailer {name}"), &body(&format!("{name}: {value}\r\n")), Served(1)));
    }
    for bad in [
        "GET /t/0000/hidden HTTP/1.1\r\nHost: acme.localhost\r\n",
        "X\r\n",
        "X y: z\r\n",
        "X : y\r\n",
        " X: y\r\n",
        "\tX: y\r\n",
        ": y\r\n",
        ":\r\n",
        "X: y\n",
        "X: y\r",
        "X: y\r\r\n",
        "X: a\0\r\n",
        "X: a\u{b}\r\n",
        "X: a\u{7f}\r\n",
        "X\0: y\r\n",
        "X: y\r\n z\r\n",
        "X: y\r\n\tz\r\n",
        "X: y\n\r\n",
        "X: y\nContent-Length: 60\r\n",
        "X: y\rContent-Length: 60\r\n",
        "\"X\": y\r\n",
        "(X): y\r\n",
        "X;: y\r\n",
        "X=y\r\n",
        "\u{80}: y\r\n",
        "X\u{a0}: y\r\n",
        "0\r\n",
        "5\r\nabcde\r\n0\r\n",
        "\u{0}",
        "\u{b}\r\n",
        "@: y\r\n",
        "[: y\r\n",
        "X/: y\r\n",
        "{X}: y\r\n",
        ":path: /admin\r\n",
        ":authority: b\r\n",
    ] {
        all.push(case(format!("bad trailer {bad}"), &body(bad), Refused(0)));
    }
    let many = "a: b\r\n".repeat(2000);
    all.push(case("trailers without end".to_owned(), &body(&many), Refused(0)));
    all.push(case("a trailer without end".to_owned(), &body(&format!("a: {}\r\n", "b".repeat(9000))), Refused(0)));
    all.push(case("many extensions".to_owned(), &("1;123456789\r\na\r\n".repeat(120) + "0\r\n\r\n"), Refused(0)));
    all.push(case("a thousand chunks".to_owned(), &("1\r\na\r\n".repeat(1000) + "0\r\n\r\n"), Served(1)));
    all.push(case(
        "more than the route takes".to_owned(),
        &format!("180000\r\n{}\r\n0\r\n\r\n", "a".repeat(0x180000)),
        Refused(0),
    ));
}
