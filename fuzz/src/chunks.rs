//! `decide::chunks`, `trailers`: a chunked body ends in one place, however it is cut and whoever reads it.
use crate::input;
use decide::chunks::{Chunks, Piece};
use decide::fields::twin_of;
use decide::head::section;
use decide::headers::IdentityHeaders;
use decide::trailers::may_trail;

struct Body {
    data: Vec<u8>,
    trailers: Vec<u8>,
    length: usize,
}

pub fn run(data: &[u8]) {
    let (cut, body) = input::number(data);
    let whole = take(body, body.len().max(1));
    for size in [1, cut % 7 + 2, cut + 1] {
        assert_eq!(take(body, size), whole, "cut into pieces of {size}");
    }
    let stepped = step(body, cut % 50 + 1);
    let (Ok(stepped), Ok(done)) = (&stepped, &whole) else {
        assert!(stepped.is_err() && whole.is_err(), "one way of reading refuses, the other does not");
        return;
    };
    assert_eq!(stepped.is_some(), *done);
    let Some(stepped) = stepped else { return };

    let naive = naive(body).expect("a naive reader stumbles");
    assert_eq!((&stepped.data, &stepped.trailers, stepped.length), (&naive.data, &naive.trailers, naive.length));
    let read: Vec<_> = section(&stepped.trailers).collect();
    assert_eq!(input::naive_section(&stepped.trailers).expect("a naive reader stumbles"), read);
    for (name, value) in read {
        assert!(!name.is_empty() && !value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
        trailer(&String::from_utf8_lossy(name).to_ascii_lowercase());
    }
}

/// What may not trail may not trail under a name that CGI takes for it either.
fn trailer(name: &str) {
    const NEVER: [&str; 6] =
        ["content-length", "transfer-encoding", "host", "cookie", "x-tenant-id", "x-forwarded-for"];
    let ours = NEVER.contains(&name) || twin_of(name.as_bytes(), &NEVER);
    assert!(!(ours && may_trail(name, &IdentityHeaders::default())), "`{name}` trails");
}

fn take(body: &[u8], size: usize) -> Result<bool, String> {
    let mut chunks = Chunks::default();
    for part in body.chunks(size) {
        chunks.take(part).map_err(|refusal| refusal.cause.into_owned())?;
    }
    Ok(chunks.done())
}

fn step(body: &[u8], size: usize) -> Result<Option<Body>, String> {
    let mut chunks = Chunks::default();
    let mut read = Body { data: Vec::new(), trailers: Vec::new(), length: 0 };
    while !chunks.done() && read.length < body.len() {
        let piece = &body[read.length..body.len().min(read.length + size)];
        let (taken, what) = chunks.step(piece).map_err(|refusal| refusal.cause.into_owned())?;
        assert!(taken > 0 && taken <= piece.len(), "no progress");
        match what {
            Piece::Data => read.data.extend(&piece[..taken]),
            Piece::Trailers => read.trailers.extend(&piece[..taken]),
            Piece::Framing | Piece::End => {}
        }
        read.length += taken;
    }
    Ok(chunks.done().then_some(read))
}

/// RFC 9112, 7.1 read line by line.
fn naive(body: &[u8]) -> Option<Body> {
    let mut read = Body { data: Vec::new(), trailers: Vec::new(), length: 0 };
    let mut rest = body;
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let (line, after) = (&rest[..end], &rest[end + 2..]);
        let digits = line.split(|b| *b == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            let end = if after.starts_with(b"\r\n") { 2 } else { after.windows(4).position(|w| w == b"\r\n\r\n")? + 4 };
            read.trailers.extend(&after[..end]);
            read.length = body.len() - after.len() + end;
            return Some(read);
        }
        read.data.extend(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix(b"\r\n")?;
    }
}
