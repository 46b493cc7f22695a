//! Logs with a flaw: every bit, every cut, every change is found, and said where.
use super::super::head::{VerifyKey, origin};
use super::super::{Entry, Event, Kind as Entries};
use super::*;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use proptest::prelude::*;

struct Written {
    lines: Vec<Vec<u8>>,
    keys: VerifyKeys,
    head: Head,
}

/// A log of `count` heartbeats and a head after each third, closed by a head.
fn written(count: u64) -> Written {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    let key = VerifyKey::new(origin("gw"), pair.public_key().as_ref().try_into().unwrap());
    let mut chain = Chain::default();
    let mut lines = Vec::new();
    let mut head = None;
    let mut push = |chain: &mut Chain, kind: Entries<'_>| {
        let mut body = Vec::new();
        Entry { time_ms: chain.seq * 10, node: "gw", kind }.write(&mut body);
        let mut line = Vec::new();
        chain.seal(&body, &mut line);
        lines.push(line);
    };
    for i in 1..=count {
        push(&mut chain, Entries::System(Event::Heartbeat));
        if i % 3 == 0 || i == count {
            let signed = Head { origin: origin("gw"), size: chain.seq, root: chain.hash, time_ms: i };
            let note = signed.note(&key, pair.sign(signed.text().as_bytes()).as_ref());
            push(&mut chain, Entries::Head(&note));
            head = Some(signed);
        }
    }
    Written { lines, keys: VerifyKeys(vec![key]), head: head.unwrap() }
}

impl Written {
    fn verify(&self, lines: &[Vec<u8>]) -> Result<Report, Flaw> {
        self.verify_bytes(&lines.concat())
    }

    fn verify_bytes(&self, bytes: &[u8]) -> Result<Report, Flaw> {
        let mut verifier = Verifier::new(self.keys.clone());
        verifier.expect(self.head.clone());
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            verifier.line(line)?;
        }
        verifier.finish()
    }
}

#[test]
fn an_untouched_log_is_fine() {
    let log = written(7);
    let report = log.verify(&log.lines).unwrap();
    assert_eq!((report.entries(), report.system, report.heads, report.signed_to), (10, 7, 3, 9));
    assert_eq!((report.first_ms, report.last_ms, report.backwards), (0, 90, 0));
}

/// Found by fuzzing: what follows it could not be counted.
#[test]
fn the_greatest_sequence_number_is_no_entry() {
    let mut line = Vec::new();
    Chain { seq: u64::MAX - 1, ..Chain::default() }.seal(b"\"kind\":\"head\"", &mut line);
    assert_eq!(Line::read(&line).unwrap_err(), Reason::Form);
}

#[test]
fn every_flipped_bit_is_found() {
    let log = written(4);
    let bytes = log.lines.concat();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(log.verify_bytes(&changed).is_err(), "bit {} of byte {}", bit % 8, bit / 8);
    }
}

#[test]
fn every_cut_before_the_last_head_is_found() {
    let log = written(5);
    let bytes = log.lines.concat();
    let whole_without_head = bytes.len() - log.lines.last().unwrap().len();
    for end in 0..bytes.len() {
        let result = log.verify_bytes(&bytes[..end]);
        // The head beside the log covers everything before the head entry, and vouches for no more.
        assert_eq!(result.is_ok(), end == whole_without_head, "cut at {end}: {result:?}");
    }
}

#[test]
fn a_changed_line_says_where_and_why() {
    let log = written(6);
    let check = |lines: &[Vec<u8>], expected: &str| {
        assert_eq!(log.verify(lines).map_err(|flaw| flaw.to_string()).unwrap_err(), expected);
    };
    let mut deleted = log.lines.clone();
    deleted.remove(2);
    check(&deleted, "entry 3: the sequence number is 4");
    check(&log.lines[1..], "entry 2: entries before this one are missing, and no retention entry accounts for them");
    let mut rehashed = log.lines[..2].to_vec();
    let mut chain = Chain { seq: 2, hash: Hash::of(b"forged") };
    let mut line = Vec::new();
    chain.seal(b"\"time\":\"1970-01-01T00:00:00.000Z\",\"kind\":\"system\"", &mut line);
    rehashed.push(line);
    check(&rehashed, "entry 3: the predecessor's hash is not the one that the line names");
    let mut edited = log.lines.clone();
    edited[1] = String::from_utf8(edited[1].clone()).unwrap().replace("gw", "wg").into_bytes();
    check(&edited, "entry 2: the line does not have the hash that it names");
    check(&log.lines[..5], "entry 6: the log ends here, but a signed head covers 7 entries: the tail was cut");
    check(&[], "entry 1: the log ends here, but a signed head covers 7 entries: the tail was cut");
}

#[test]
fn a_log_rewritten_whole_lacks_the_signature() {
    let log = written(4);
    let mut chain = Chain::default();
    let mut line = Vec::new();
    chain.seal(b"\"time\":\"1970-01-01T00:00:00.000Z\",\"kind\":\"system\",\"event\":\"heartbeat\"", &mut line);
    let mut verifier = Verifier::new(log.keys);
    verifier.line(&line).unwrap();
    assert_eq!(verifier.finish().unwrap_err().reason, Reason::Unsigned);
}

#[test]
fn a_log_after_retention_begins_where_it_says() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    let key = VerifyKey::new(origin("gw"), pair.public_key().as_ref().try_into().unwrap());
    let anchor = Chain { seq: 99, hash: Hash::of(b"gone") };
    for (first, fine) in [(100, true), (99, false)] {
        let mut chain = anchor;
        let mut verifier = Verifier::new(VerifyKeys(vec![key.clone()]));
        let retention = Entries::System(Event::Retention { first, prev: anchor.hash });
        let mut push = |kind: Entries<'_>, chain: &mut Chain| {
            let (mut body, mut line) = (Vec::new(), Vec::new());
            Entry { time_ms: 0, node: "gw", kind }.write(&mut body);
            chain.seal(&body, &mut line);
            verifier.line(&line).unwrap();
        };
        push(retention, &mut chain);
        let head = Head { origin: origin("gw"), size: chain.seq, root: chain.hash, time_ms: 0 };
        push(Entries::Head(&head.note(&key, pair.sign(head.text().as_bytes()).as_ref())), &mut chain);
        assert_eq!(verifier.finish().is_ok(), fine, "{first}");
    }
}

proptest! {
    #[test]
    fn moved_repeated_and_foreign_lines_are_found(from in 0usize..16, to in 0usize..16, copy: bool) {
        let log = written(12);
        let mut lines = log.lines.clone();
        let line = if copy { lines[from].clone() } else { lines.remove(from) };
        lines.insert(to.min(lines.len()), line);
        prop_assert_eq!(log.verify(&lines).is_ok(), lines == log.lines);
    }

    #[test]
    fn no_bytes_upset_it(bytes: Vec<u8>) {
        let _ = Line::read(&bytes);
    }
}
