//! `decide::cookie`: one cookie of the name or none, and what is taken out is out for every reader.
use decide::cookie::{find, pairs, without};

const NAMES: [&str; 2] = ["__Host-session", "sid"];

pub fn run(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|b| *b == b'\n').collect();
    let joined = lines.join(b"; ".as_slice());
    for name in NAMES {
        let found = find(lines.iter().copied(), name);
        assert_eq!(found.as_ref().ok(), find([joined.as_slice()], name).as_ref().ok(), "lines are one list");
        if let Ok(found) = found {
            let mut named = naive(&joined).into_iter().filter(|(other, _)| *other == name.as_bytes());
            assert_eq!(named.next().map(|(_, value)| value), found.map(str::as_bytes));
            assert_eq!(named.next(), None, "two cookies of one name");
        }
        let rest = without(&joined, name);
        assert_eq!(find([&*rest], name), Ok(None), "what is removed is found");
        assert_eq!(without(&rest, name), rest);
        let others: Vec<_> = pairs(&joined).filter(|(other, _)| !alike(other, name)).collect();
        assert_eq!(pairs(&rest).collect::<Vec<_>>(), others, "another cookie is touched");
    }
}

/// A cookie header as a program without a library reads it.
fn naive(header: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut found = Vec::new();
    for piece in header.split(|b| *b == b';') {
        if let Some(at) = piece.iter().position(|b| *b == b'=') {
            let trim = crate::input::without_space;
            found.push((trim(&piece[..at]), trim(&piece[at + 1..])));
        }
    }
    found
}

/// The folding of PHP and of browsers' prefixes together.
fn alike(other: &[u8], name: &str) -> bool {
    let fold = |text: &[u8]| -> Vec<u8> {
        text.iter().map(|b| if b". [".contains(b) { b'_' } else { b.to_ascii_lowercase() }).collect()
    };
    fold(other) == fold(name.as_bytes())
}
