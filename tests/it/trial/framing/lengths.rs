//! `Content-Length` in every spelling that some reader has taken for a number, in other company and under other names.
use crate::trial::case::Wants::{Refused, Safe, Served};
use crate::trial::case::{Case, Wants};

const CLASS: &str = "Content-Length";
/// Behind five bytes of body: a request of its own for whoever reads another length.
const HIDDEN: &str = "GET /t/0000/hidden HTTP/1.1\r\nHost: acme.localhost\r\n\r\n";

fn case(name: String, fields: &str, wants: Wants) -> Case {
    let text = format!("POST /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\n{fields}\r\n\r\nabcde{HIDDEN}");
    Case::new(CLASS, name, &text, wants)
}

pub fn cases() -> Vec<Case> {
    let long = |digit: &str, count: usize| digit.repeat(count);
    let mut all = Vec::new();
    // The body has five bytes, so that the hidden request is an honest one.
    for good in ["5", " 5", "\t5", "5 ", "5\t", " \t 5 \t "] {
        all.push(case(format!("good {good}"), &format!("Content-Length:{good}"), Served(2)));
    }
    let values = [
        "",
        " ",
        "+5",
        "-5",
        "-0",
        "+0",
        "--5",
        "+-5",
        "5-",
        "5+",
        "05",
        "005",
        "0x5",
        "0X5",
        "x5",
        "5x",
        "5h",
        "5L",
        "5u",
        "5l",
        "5n",
        "0b101",
        "0o5",
        "5.0",
        "5.",
        ".5",
        "5e0",
        "5E0",
        "1e1",
        "5_",
        "5_0",
        "_5",
        "5 5",
        "5\t5",
        "5,5",
        "5, 5",
        "5 ,5",
        "5,6",
        "5,",
        ",5",
        ",",
        "5,,5",
        "5;5",
        "5;",
        "5;q=1",
        "5|5",
        "5/5",
        "5:5",
        "5&5",
        "5=5",
        "\"5\"",
        "'5'",
        "`5`",
        "(5)",
        "[5]",
        "{5}",
        "<5>",
        "5(comment)",
        "5\"",
        "$5",
        "#5",
        "%35",
        "5%",
        "5%20",
        "\\5",
        "\\x35",
        "*",
        "*5",
        "5*",
        "?5",
        "!5",
        "~5",
        "^5",
        "@5",
        "five",
        "NaN",
        "null",
        "nil",
        "true",
        "inf",
        "Infinity",
        "undefined",
        "chunked",
        "\u{b}5",
        "5\u{b}",
        "\u{c}5",
        "5\u{c}",
        "5\u{0}",
        "\u{0}5",
        "5\u{1}",
        "5\u{8}",
        "5\u{1b}",
        "5\u{1f}",
        "5\u{7f}",
        "\u{7f}5",
        "5\u{80}",
        "\u{80}5",
        "5\u{a0}",
        "\u{a0}5",
        "5\u{c2}\u{a0}",
        "\u{85}5",
        "5\u{85}",
        "5\u{ff}",
        "\u{b2}",
        "\u{c2}\u{b2}",
        "\u{0665}",
        "\u{06f5}",
        "\u{ff15}",
        "\u{0e55}",
        "\u{feff}5",
        "5\u{200b}",
        "\u{2085}",
        "\u{2464}",
        "\u{1d7d3}",
        "\u{4e94}",
        "\u{2003}5",
        "5\u{2028}",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551621",
        "9223372036854775807",
        "9223372036854775808",
        "9223372036854775813",
        "4294967295",
        "4294967296",
        "4294967301",
        "2147483648",
        "99999999999999999999999999999999",
        "-18446744073709551611",
        "340282366920938463463374607431768211461",
        "5\r",
        "5\r\r",
        "\r5",
        "5\n",
        "\n5",
        "5\r\n 5",
        "\r\n 5",
        "\r\n\t5",
        "5\r\n\t",
        "5\r\n,5",
        "5 \r\n ",
    ];
    for value in values {
        // These are numbers, and too great for the route, which is a matter of the body; the rest are none.
        all.push(case(format!("value {value}"), &format!("Content-Length: {value}"), Refused(0)));
    }
    for (name, value) in [
        ("twenty nines", long("9", 20)),
        ("a hundred nines", long("9", 100)),
        ("a thousand nines", long("9", 1000)),
        ("fifty zeros and five", long("0", 50) + "5"),
        ("a thousand zeros and five", long("0", 1000) + "5"),
        ("a hundred times five", long("5,", 99) + "5"),
    ] {
        all.push(case(name.to_owned(), &format!("Content-Length: {value}"), Refused(0)));
    }
    for (first, second) in [
        ("5", "5"),
        ("5", "0"),
        ("0", "5"),
        ("5", "6"),
        ("6", "5"),
        ("5", "05"),
        ("5", "+5"),
        ("5", ""),
        ("", "5"),
        ("5", "-1"),
        ("5", "5, 5"),
        ("0", "0"),
        ("5", "0x5"),
        ("5", "abc"),
        ("abc", "5"),
        ("5", " "),
        ("18446744073709551621", "5"),
    ] {
        for between in ["\r\n", "\r\nX-Between: 1\r\n"] {
            let fields = format!("Content-Length: {first}{between}Content-Length: {second}");
            all.push(case(format!("twice {first} and {second} by {between}"), &fields, Refused(0)));
            let fields = format!("Content-Length: {first}{between}content-length: {second}");
            all.push(case(format!("twice in other case {first} and {second} by {between}"), &fields, Refused(0)));
        }
    }
    // Other names, beside an honest length of five.
    for name in [
        "Content_Length",
        "CONTENT_LENGTH",
        "content_length",
        "Content.Length",
        "Content~Length",
        "Content!Length",
        "Content*Length",
        "Content-Length ",
        "Content-Length\t",
        " Content-Length",
        "\tContent-Length",
        "Content-Length\u{0}",
        "Content-Length\u{b}",
        "\u{b}Content-Length",
        "Content-Length\u{a0}",
        "\u{a0}Content-Length",
        "Content-Length\u{80}",
        "Content -Length",
        "Content- Length",
        "Content Length",
        "Content\u{0}-Length",
        "\"Content-Length\"",
        "(Content-Length)",
        "Content-Length;",
        "Content-Length=",
        "Content-Length/",
        "Content\u{ad}-Length",
        "Content\u{2010}Length",
        "\u{421}ontent-Length",
        "",
    ] {
        all.push(case(format!("name {name}"), &format!("Content-Length: 5\r\n{name}: 60"), Refused(0)));
        all.push(case(format!("name first {name}"), &format!("{name}: 60\r\nContent-Length: 5"), Refused(0)));
    }
    // Harmless for everybody: no known reader takes these for the length.
    for name in ["ContentLength", "X-Content-Length", "Content-Length-X", "Content--Length", "Content-Lengt"] {
        all.push(case(format!("stranger {name}"), &format!("Content-Length: 5\r\n{name}: 60"), Served(2)));
    }
    // In the values and lines of others.
    for (name, fields) in [
        ("in a value", "X: Content-Length: 60\r\nContent-Length: 5"),
        ("behind a tab", "X: a\tContent-Length: 60\r\nContent-Length: 5"),
    ] {
        all.push(case(name.to_owned(), fields, Served(2)));
    }
    for (name, fields) in [
        ("behind a bare line feed", "X: a\nContent-Length: 60\r\nContent-Length: 5"),
        ("behind a bare carriage return", "X: a\rContent-Length: 60\r\nContent-Length: 5"),
        ("behind NUL", "X: a\u{0}Content-Length: 60\r\nContent-Length: 5"),
        ("folded behind another", "X: a\r\n Content-Length: 60\r\nContent-Length: 5"),
        ("before a fold", "Content-Length: 5\r\n X: 60"),
    ] {
        all.push(case(name.to_owned(), fields, Refused(0)));
    }
    methods(&mut all);
    all
}

/// Bad lengths with each method; and honest ones, where the body is the next request for whoever does not expect one.
fn methods(all: &mut Vec<Case>) {
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let head = format!("{method} /t/0000 HTTP/1.1\r\nHost: acme.localhost\r\n");
        for value in ["+5", "05", "5,5", "0x5", "-1", "5 5", "", "5\u{b}"] {
            let text = format!("{head}Content-Length: {value}\r\n\r\nabcde{HIDDEN}");
            all.push(Case::new(CLASS, format!("{method} with {value}"), &text, Refused(0)));
        }
        let text = format!("{head}Content-Length: 0\r\n\r\n{HIDDEN}");
        all.push(Case::new(CLASS, format!("{method} with nothing"), &text, Served(2)));
        let wants = if matches!(method, "GET" | "HEAD") { Refused(0) } else { Served(1) };
        let text = format!("{head}Content-Length: {}\r\n\r\n{HIDDEN}", HIDDEN.len());
        all.push(Case::new(CLASS, format!("{method} with a request inside"), &text, wants));
        let text = format!("{head}Content-Length: {}\r\n\r\n{HIDDEN}", HIDDEN.len() + 500);
        all.push(Case::new(CLASS, format!("{method} with less than it says"), &text, Safe));
    }
}
