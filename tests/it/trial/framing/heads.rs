//! Control characters, foreign bytes and other ends of lines, each at every place of a head; names and folded lines.
use crate::trial::case::Case;
use crate::trial::case::Wants::{self, Refused, Safe, Served};

const CLASS: &str = "bytes in heads";

/// A head, cut where something is put in.
const PLACES: [(&str, &str, &str); 17] = [
    ("before the method", "", "GET /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\nX: y\r\n\r\n"),
    ("in the method", "G", "ET /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\nX: y\r\n\r\n"),
    ("behind the method", "GET", " /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\nX: y\r\n\r\n"),
    ("before the target", "GET ", "/t/0000 HTTP/1.1\r\nHost: acme.localhost\r\nX: y\r\n\r\n"),
    ("in the target", "GET /t/0000/a", "b HTTP/1.1\r\nHost: acme.localhost\r\nX: y\r\n\r\n"),
    ("in the query", "GET /t/0000?a", "b HTTP/1.1\r\nHost: acme.localhost\r\nX: y\r\n\r\n"),
    ("behind the target", "GET /t/0000", " HTTP/1.1\r\nHost: acme.localhost\r\nX: y\r\n\r\n"),
    ("in the version", "GET /t/0000 HTTP", "/1.1\r\nHost: acme.localhost\r\nX: y\r\n\r\n"),
    ("behind the version", "GET /t/0000 HTTP/1.1", "\r\nHost: acme.localhost\r\nX: y\r\n\r\n"),
    ("before a name", "GET /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\n", "X: y\r\n\r\n"),
    ("in a name", "GET /t/0000 HTTP/1.1\r\nHo", "st: acme.localhost\r\nX: y\r\n\r\n"),
    ("behind a name", "GET /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\nX", ": y\r\n\r\n"),
    ("behind the colon", "GET /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\nX:", "y\r\n\r\n"),
    ("in the host", "GET /t/0000 HTTP/1.1\r\nHost: acme", ".localhost\r\nX: y\r\n\r\n"),
    ("in a value", "GET /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\nX: a", "b\r\n\r\n"),
    ("behind a value", "GET /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\nX: y", "\r\n\r\n"),
    ("before the empty line", "GET /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\nX: y\r\n", "\r\n"),
];

const BYTES: [&str; 24] = [
    "\0", "\u{1}", "\u{8}", "\t", "\n", "\u{b}", "\u{c}", "\r", "\u{1a}", "\u{1b}", "\u{1f}", " ", "\u{7f}", "\u{80}",
    "\u{85}", "\u{a0}", "\u{ff}", "\r\n", "\n\n", "\r\r\n", "\n\r", "\r\n ", "\r\n\t", "\u{2028}",
];

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (place, before, behind) in PLACES {
        for bytes in BYTES {
            let wants = wants(place, bytes);
            all.push(Case::new(CLASS, format!("{bytes} {place}"), &format!("{before}{bytes}{behind}"), wants));
        }
    }
    fields(&mut all);
    all
}

fn wants(place: &str, bytes: &str) -> Wants {
    let in_value = matches!(place, "behind the colon" | "in a value" | "behind a value");
    match bytes {
        " " | "\t" if in_value => Served(1),
        // Bytes beyond ASCII are text in the value of a field that decides nothing (RFC 9110, 5.5).
        "\u{80}" | "\u{85}" | "\u{a0}" | "\u{ff}" | "\u{2028}" if in_value => Served(1),
        // The head ends there, and what follows has to be a request.
        "\r\n" if place == "before the empty line" || place == "behind a value" => Refused(1),
        "\r\n" if place == "before a name" => Refused(1),
        "\r\n" if place == "behind the colon" || place == "in a value" || place == "behind a name" => Refused(0),
        // Two empty lines, of which the second begins with white space.
        "\r\n " | "\r\n\t" if place == "before the empty line" => Refused(1),
        "\r\n " | "\r\n\t" if place == "before a name" => Refused(1),
        _ => Refused(0),
    }
}

fn fields(all: &mut Vec<Case>) {
    let mut add = |name: &str, fields: &str, wants: Wants| {
        let text = format!("GET /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\n{fields}\r\n");
        all.push(Case::new(CLASS, name, &text, wants));
    };
    for name in [
        "",
        " ",
        "X ",
        "X\t",
        " X",
        "\tX",
        "X Y",
        "X(Y)",
        "X;Y",
        "X=Y",
        "X,Y",
        "X/Y",
        "X@Y",
        "X?Y",
        "X[Y]",
        "X{Y}",
        "X\"Y\"",
        "X\\Y",
        "X<Y>",
        "\u{e9}",
        "X\u{80}",
        "X\u{ff}",
        "\u{feff}X",
        ":",
        ":path",
        ":authority",
        ":method",
        "X\u{0}",
        "X\r",
        "X\n",
    ] {
        add(&format!("name {name}"), &format!("{name}: y\r\n"), Refused(0));
    }
    for name in ["X", "x", "X-Y", "X.Y", "X_Y", "X!#$%&'*+-.^_`|~1", "1", "-", "_", "~"] {
        add(&format!("good name {name}"), &format!("{name}: y\r\n"), Served(1));
    }
    for (name, lines, wants) in [
        ("a line without colon", "X y\r\n", Refused(0)),
        ("a line of one word", "X\r\n", Refused(0)),
        ("an empty value", "X:\r\n", Served(1)),
        ("a value of white space", "X: \t \r\n", Served(1)),
        ("a value of colons", "X:::::\r\n", Served(1)),
        ("a value with quotes", "X: \"a\\\"b\r\n", Served(1)),
        ("a fold by a space", "X: a\r\n b\r\n", Refused(0)),
        ("a fold by a tab", "X: a\r\n\tb\r\n", Refused(0)),
        ("a fold of white space", "X: a\r\n \r\n", Refused(0)),
        ("a fold into an empty value", "X:\r\n b\r\n", Refused(0)),
        ("two folds", "X: a\r\n b\r\n c\r\n", Refused(0)),
        ("a fold by a bare line feed", "X: a\n b\r\n", Refused(0)),
        ("a fold of a host", "X: y\r\n Host: b\r\n", Refused(0)),
        ("a fold that looks like a request", "X: y\r\n GET /t/0000/hidden HTTP/1.1\r\n", Refused(0)),
        ("CR CR LF", "X: y\r\r\n", Refused(0)),
        ("LF CR LF", "X: y\n\r\n", Refused(0)),
        ("a bare CR before a field", "X: y\rContent-Length: 5\r\n", Refused(0)),
        ("a bare LF before a field", "X: y\nContent-Length: 5\r\n", Refused(0)),
        ("a request in a value", "X: y GET /t/0000/hidden HTTP/1.1\r\n", Served(1)),
        ("a request behind a bare LF", "X: y\n\nGET /t/0000/hidden HTTP/1.1\nHost: acme.localhost\n\n\r\n", Refused(0)),
        ("a request behind a bare CR", "X: y\r\rGET /t/0000/hidden HTTP/1.1\rHost: acme.localhost\r\r\r\n", Refused(0)),
        ("a second request line", "GET /t/0000/hidden HTTP/1.1\r\n", Refused(0)),
    ] {
        add(name, lines, wants);
    }
    let many: String = (0..63).map(|i| format!("X-{i}: y\r\n")).collect();
    add("as many fields as may be", &many, Served(1));
    add("one field more", &format!("{many}X: y\r\n"), Refused(0));
    add("ten thousand fields", &"a:b\r\n".repeat(10_000), Refused(0));
    add("a large value", &format!("X: {}\r\n", "a".repeat(15_000)), Served(1));
    add("a value that is too large", &format!("X: {}\r\n", "a".repeat(17_000)), Refused(0));
    add("a large name", &format!("{}: y\r\n", "a".repeat(15_000)), Served(1));
    add("a name that is too large", &format!("{}: y\r\n", "a".repeat(70_000)), Refused(0));
    for (name, bytes) in [
        ("empty lines before a request", "\r\n\r\nGET /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\n\r\n"),
        ("a line feed before a request", "\nGET /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\n\r\n"),
        ("line feeds everywhere", "GET /t/0000 HTTP/1.1\nHost: acme.localhost\n\n"),
        ("carriage returns everywhere", "GET /t/0000 HTTP/1.1\rHost: acme.localhost\r\r"),
        ("a line feed at the very end", "GET /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\n\n"),
        ("a byte order mark", "\u{feff}GET /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\n\r\n"),
        ("UTF-16", "G\0E\0T\0 \0/\0t\0/\x000\x000\x000\x000\0 \0H\0T\0T\0P\0/\x001\0.\x001\0\r\0\n\0\r\0\n\0"),
        ("a TLS hello", "\u{16}\u{3}\u{1}\0\u{5}\u{1}\0\0\u{1}\0\r\n\r\n"),
        (
            "a PROXY header",
            "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\n\r\n",
        ),
        ("an answer", "HTTP/1.1 200 OK\r\nHost: acme.localhost\r\n\r\n"),
        ("an SMTP greeting", "EHLO acme.localhost\r\n\r\n"),
    ] {
        all.push(Case::new(CLASS, name, bytes, Refused(0)));
    }
    let long_line = format!("GET /t/0000/{} HTTP/1.1\r\nHost: acme.localhost\r\n\r\n", "a".repeat(9000));
    all.push(Case::new(CLASS, "a line that is too long", &long_line, Refused(0)));
    let endless = format!("GET /t/0000/{}", "a".repeat(70_000));
    all.push(Case::new(CLASS, "a line without end", &endless, Safe));
}
