//! `Host`, alone and beside the target.
use crate::trial::case::Case;
use crate::trial::case::Wants::{self, Refused, Served};

const HOST: &str = "Host";

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |name: String, fields: &str, wants: Wants| {
        all.push(Case::new(HOST, name, &format!("GET /t/0000 HTTP/1.1\r\n{fields}\r\n"), wants));
    };
    for good in [
        "acme.localhost",
        "ACME.localhost",
        "acme.localhost.",
        "acme.localhost:8443",
        " \tacme.localhost\t ",
        "acme.localhost.:443",
    ] {
        add(format!("good {good}"), &format!("Host:{good}\r\n"), Served(1));
    }
    for host in [
        "",
        " ",
        ".",
        "..",
        "acme..localhost",
        ".acme.localhost",
        "acme.localhost..",
        "acme.localhost,",
        "acme.localhost, globex.localhost",
        "acme.localhost globex.localhost",
        "acme.localhost;",
        "acme.localhost/",
        "acme.localhost/t",
        "acme.localhost?",
        "acme.localhost#",
        "acme.localhost\\",
        "/acme.localhost",
        "http://acme.localhost",
        "//acme.localhost",
        "acme.localhost@globex.localhost",
        "globex.localhost@acme.localhost",
        "@acme.localhost",
        "acme.localhost@",
        "user:secret@acme.localhost",
        "acme.localhost:",
        "acme.localhost:0",
        "acme.localhost:00443",
        "acme.localhost:0443",
        "acme.localhost:-1",
        "acme.localhost:+443",
        "acme.localhost:65536",
        "acme.localhost:99999999999999999999",
        "acme.localhost:443:443",
        "acme.localhost:a",
        "acme.localhost:443a",
        "acme.localhost: 443",
        "acme.localhost :443",
        "acme.localhost:443,80",
        "acme.localhost:4 43",
        "acme.localhost::",
        "%61cme.localhost",
        "acme%2elocalhost",
        "acme.localhost%00",
        "acme.localhost%0d%0a",
        "acme.localhost%20",
        "acme\0.localhost",
        "acme\u{b}.localhost",
        "acme\t.localhost",
        "acme .localhost",
        "\u{7f}acme.localhost",
        "acme\u{e9}.localhost",
        "acme\u{3002}localhost",
        "\u{ff41}cme.localhost",
        "acme.localhost\u{80}",
        "acme.localhost\u{a0}",
        "acme.\u{131}localhost",
        "\"acme.localhost\"",
        "'acme.localhost'",
        "(acme.localhost)",
        "<acme.localhost>",
        "[acme.localhost]",
        "{acme.localhost}",
        "*.localhost",
        "acme*.localhost",
        "acme!.localhost",
        "acme$.localhost",
        "acme=.localhost",
        "acme~.localhost",
        "acme|.localhost",
        "acme^.localhost",
        "acme`.localhost",
        "127.1",
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "127.0.0.1.",
        "[::1",
        "::1",
        "[::1]x",
        "[::1%25lo]",
        "[::1%lo]",
        "[v1.x]",
        "[]",
        "acme.localhost\r\n globex.localhost",
        "acme.localhost\r",
        "acme.localhost\n",
        &"a".repeat(64),
        &format!("{}localhost", "a.".repeat(130)),
    ] {
        add(format!("bad {host}"), &format!("Host: {host}\r\n"), Refused(0));
    }
    // Well-formed, and not ours: other hosts, addresses, suspended and unknown tenants.
    for host in [
        "localhost",
        "globex.localhost",
        "initech.localhost",
        "umbrella.localhost",
        "nobody.localhost",
        "acme.localhost.evil.example",
        "evil.example",
        "127.0.0.1",
        "[::1]",
        "admin",
        "acme_.localhost",
        "xn--acme.localhost",
    ] {
        add(format!("foreign {host}"), &format!("Host: {host}\r\n"), Wants::Safe);
    }
    for (name, fields) in [
        ("none", ""),
        ("twice", "Host: acme.localhost\r\nHost: acme.localhost\r\n"),
        ("another behind", "Host: acme.localhost\r\nHost: globex.localhost\r\n"),
        ("another before", "Host: globex.localhost\r\nHost: acme.localhost\r\n"),
        ("an empty one before", "Host:\r\nHost: acme.localhost\r\n"),
        ("an empty one behind", "Host: acme.localhost\r\nHost:\r\n"),
        ("in other case", "Host: acme.localhost\r\nhost: globex.localhost\r\n"),
        ("with a space before the colon", "Host : acme.localhost\r\n"),
        ("with a space before the colon behind", "Host: acme.localhost\r\nHost : globex.localhost\r\n"),
        ("with a space before the name", "X: y\r\n Host: globex.localhost\r\nHost: acme.localhost\r\n"),
        ("with a space before the name first", " Host: globex.localhost\r\nHost: acme.localhost\r\n"),
        ("with NUL in the name", "Host: acme.localhost\r\nHost\0: globex.localhost\r\n"),
        ("with a vertical tab", "Host: acme.localhost\r\nHost\u{b}: globex.localhost\r\n"),
        ("without colon", "Host acme.localhost\r\n"),
        ("behind a bare line feed", "X: y\nHost: globex.localhost\r\nHost: acme.localhost\r\n"),
        ("under the name of another", "X-Host-: acme.localhost\r\n"),
        ("as a pseudo-field", ":authority: acme.localhost\r\n"),
    ] {
        add(name.to_owned(), fields, Refused(0));
    }
    for name in
        ["X-Forwarded-Host", "X-Host", "X-Forwarded-Server", "X-Original-Host", "Forwarded", "X-HTTP-Host-Override"]
    {
        let value = if name == "Forwarded" { "host=globex.localhost" } else { "globex.localhost" };
        add(format!("beside {name}"), &format!("Host: acme.localhost\r\n{name}: {value}\r\n"), Served(1));
    }
    all
}
