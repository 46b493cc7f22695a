//! Answers that end too early, too late, or that somebody goes on after.
use super::{SECOND, body, hostile};
use crate::trial::hostile::{Hostile, Wanted};
use Wanted::{Cut, Refused};

pub fn ends(all: &mut Vec<Hostile>) {
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
