//! Fragments are found however a path is written, and nothing else is.
use super::*;

/// The codes of the characters that these tests write (RFC 7541, appendix B).
fn coded(text: &str) -> Vec<u8> {
    let bits: String = text
        .bytes()
        .map(|byte| match byte {
            b'/' => "011000",
            b'a' => "00011",
            b'?' => "1111111100",
            b'#' => "111111111010",
            b'>' => "111111111011",
            b'\\' => "1111111111111110000",
            b'z' => "1111011",
            b':' => "1011100",
            b'p' => "101011",
            b't' => "01001",
            b'h' => "100111",
            other => panic!("{other}"),
        })
        .collect();
    let padded = format!("{bits}{}", "1".repeat((8 - bits.len() % 8) % 8));
    padded.as_bytes().chunks(8).map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap()).collect()
}

fn text(coded_too: bool, text: &str) -> Vec<u8> {
    let (mark, bytes) = if coded_too { (0x80, coded(text)) } else { (0, text.as_bytes().to_vec()) };
    let mut out = match u8::try_from(bytes.len()).unwrap() {
        short @ 0..=126 => vec![mark | short],
        long => vec![mark | 127, long - 127],
    };
    out.extend(bytes);
    out
}

/// A field whose representation begins with these bytes, and ends with a value.
fn field(begin: &[u8], coded: bool, value: &str) -> Vec<u8> {
    [begin, &text(coded, value)].concat()
}

fn named(first: u8, coded: bool, name: &str, value: &str) -> Vec<u8> {
    [&[first][..], &text(coded, name), &text(coded, value)].concat()
}

/// What becomes of blocks that come one after the other, in pieces of every size.
fn found(blocks: &[Vec<u8>]) -> bool {
    let sizes = [1, 2, 3, 7, 1000];
    let all: Vec<bool> = sizes
        .iter()
        .map(|size| {
            let mut walker = Walker::new();
            blocks.iter().any(|block| {
                walker.begin(0, block.len());
                block.chunks(*size).any(|piece| walker.take(piece).is_err())
            })
        })
        .collect();
    assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
    all[0]
}

#[test]
fn a_fragment_is_found_however_the_path_is_written() {
    assert_eq!(coded(":path"), NAME.1);
    for coded in [false, true] {
        for begin in [&[0x44][..], &[0x45], &[0x04], &[0x05], &[0x14], &[0x15]] {
            for path in ["/a#a", "/a#", "#", "/a?a#a", "/\\#", "/?z>z#a"] {
                assert!(found(&[field(begin, coded, path)]), "{begin:?} {path}");
                assert!(found(&[[vec![0x82, 0x86], field(begin, coded, path), vec![0x80]].concat()]), "among others");
            }
            for path in ["/a", "/", "", "/a?a", "/\\>>z", "/?>\\>\\"] {
                assert!(!found(&[[vec![0x82, 0x86], field(begin, coded, path)].concat()]), "{begin:?} {path}");
            }
        }
        for first in [0x40, 0x00, 0x10] {
            assert!(found(&[named(first, coded, ":path", "/a#a")]));
            assert!(!found(&[named(first, coded, ":path", "/a")]));
            assert!(!found(&[named(first, coded, ":pat", "/a#a")]), "another name");
            assert!(!found(&[named(first, coded, ":pathh", "/a#a")]), "another name");
        }
    }
    // Whatever stands before it, with whatever bits it ends.
    for before in ["/", "/a", "/z", "/?", "/>", "/\\", "/zz", "/az", "/aaz", "/p", "/pp", "/t", "/tta"] {
        for after in ["", "a", "z", "?"] {
            assert!(found(&[field(&[0x44], true, &format!("{before}#{after}"))]), "{before}#{after}");
            assert!(!found(&[field(&[0x44], true, &format!("{before}>{after}"))]), "{before}>{after}");
        }
    }
    let long = format!("/{}", "a".repeat(180));
    assert!(!found(&[field(&[0x44], false, &long)]) && found(&[field(&[0x44], false, &format!("{long}#"))]));
}

#[test]
fn other_fields_may_hold_what_they_like() {
    for coded in [false, true] {
        assert!(!found(&[[field(&[0x7a], coded, "#a"), field(&[0x0f, 0x10], coded, "#a")].concat()]));
        assert!(!found(&[named(0, coded, "aaa", "/a#a")]));
    }
    // The name of a field that was remembered; it is a path's only where one was.
    let by_index = field(&[0x7e], false, "/a#a");
    assert!(!found(&[named(0x40, false, "aaa", "a"), by_index.clone()]));
    assert!(!found(&[named(0x00, false, ":path", "/a"), by_index.clone()]), "not remembered");
    assert!(found(&[named(0x40, false, ":path", "/a"), by_index]));
}

#[test]
fn padding_priority_and_continuation_are_no_obstacles() {
    let path = field(&[0x44], false, "/a#a");
    let mut walker = Walker::new();
    let payload = [&[3][..], &[0, 0, 0, 0, 9], &path, &[0; 3]].concat();
    walker.begin(0x28, payload.len());
    assert_eq!(walker.take(&payload), Err(Fragment));
    let good = [&[4][..], &field(&[0x44], false, "/a"), b"\x44\x01#!"].concat();
    walker.begin(0x8, good.len());
    assert_eq!(walker.take(&good), Ok(()), "what looks like a field is padding");
    for cut in 0..=path.len() {
        walker.begin(0, cut);
        let first = walker.take(&path[..cut]);
        walker.go_on(path.len() - cut);
        assert!(first.is_err() || walker.take(&path[cut..]).is_err(), "cut at {cut}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_walked_through(block: Vec<u8>, flags: u8, size in 1_usize..20) {
        let mut walker = Walker::new();
        walker.begin(flags, block.len());
        for piece in block.chunks(size) {
            let _ = walker.take(piece);
        }
    }
}
