//! `decide::record`: what is written comes back on one line, and whatever else a log holds is a flaw with a place.
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use decide::facts::Person;
use decide::record::head::{VerifyKey, VerifyKeys};
use decide::record::{Chain, Entry, Event, Head, Kind, Verifier};
use serde_json::Value;
use std::sync::LazyLock;

static PAIR: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[9; 32]).expect("a seed is a key"));

fn key() -> VerifyKey {
    VerifyKey::new("moat.audit/gw".to_owned(), PAIR.public_key().as_ref().try_into().expect("32 bytes"))
}

pub fn run(data: &[u8]) {
    let (mode, rest) = crate::input::line(data);
    match mode {
        b"lines" => lines(rest),
        b"bodies" => bodies(rest),
        b"note" => note(rest),
        b"keys" => keys(rest),
        _ => entry(rest),
    }
}

/// A file of somebody's.
fn lines(file: &[u8]) {
    for mut verifier in [Verifier::chain_only(), Verifier::new(VerifyKeys(vec![key()]))] {
        for line in file.split_inclusive(|b| *b == b'\n') {
            if verifier.line(line).is_err() {
                break;
            }
        }
        let _ = verifier.finish();
    }
}

/// Lines whose hashes fit, from a sequence number on that the first line says.
fn bodies(file: &[u8]) {
    let (start, rest) = crate::input::line(file);
    let seq = std::str::from_utf8(start).ok().and_then(|text| text.parse().ok()).unwrap_or(0u64);
    let mut chain = Chain { seq: seq.min(u64::MAX - 20), ..Chain::default() };
    let mut verifier = Verifier::chain_only();
    let mut read = 0;
    for body in rest.split(|b| *b == b'\n').take(16) {
        let mut line = Vec::new();
        chain.seal(body, &mut line);
        if verifier.line(&line).is_err() {
            return;
        }
        read += 1;
        assert_eq!(verifier.chain(), Some(chain));
        assert_eq!(decide::record::chain::body(&line), Some(body));
    }
    let report = verifier.finish().expect("a chain without heads is whole");
    assert_eq!((report.entries(), report.requests + report.intents + report.system <= read), (read, true));
}

/// A note with a signature that fits.
fn note(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let keys = VerifyKeys(vec![key()]);
    let _ = Head::open(text, &keys);
    let made = Head { origin: String::new(), size: 0, root: Default::default(), time_ms: 0 };
    let whole = made.note(&key(), PAIR.sign(text.as_bytes()).as_ref());
    let line = whole.rsplit("\n\n").next().unwrap_or_default();
    if let Ok(head) = Head::open(&format!("{text}\n{line}"), &keys) {
        assert_eq!(head.text(), text, "a head has two spellings");
    }
}

fn keys(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(keys) = VerifyKeys::parse(text) else { return };
    for key in &keys.0 {
        assert_eq!(VerifyKey::parse(&key.to_string()).as_ref(), Some(key));
    }
}

/// Whatever words an entry holds, it is one line of JSON, and the words come back, or their beginning does.
fn entry(words: &[u8]) {
    let words = String::from_utf8_lossy(words);
    let (node, call) = words.split_once('\n').unwrap_or((&words, &words));
    let mut body = Vec::new();
    let event = Event::Admin { actor: Person("operator"), call };
    Entry { time_ms: words.len() as u64, node, kind: Kind::System(event) }.write(&mut body);
    let mut line = Vec::new();
    let mut chain = Chain::default();
    chain.seal(&body, &mut line);
    assert_eq!(line.iter().position(|b| *b < b' '), Some(line.len() - 1), "more than one line");
    let json: Value = serde_json::from_slice(&line).expect("JSON");
    let text = json.to_string();
    let shown: Value = json["detail"]["call"].clone();
    let shown = shown.as_str().unwrap_or_else(|| panic!("no call in {text}"));
    let start = shown.split("…(+").next().unwrap_or_default();
    assert!(shown == call || (call.starts_with(start) && call.len() > 1000), "{shown:?}");
    let mut verifier = Verifier::chain_only();
    verifier.line(&line).expect("an entry of ours");
}
