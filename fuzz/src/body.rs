//! `decide::body`: the fields of a body that limits count by. One reading or a refusal, the same one that lenient readers
//! have, and one value for all spellings of an account.
//!
//! The first line is the `Content-Type`, the second the query, the rest is the body.
use crate::input;
use decide::body::{FieldValue, Kind, kind, read};
use decide::refusal::Code;
use decide::rules::{FieldKey, FieldSource};

const NAMES: [&str; 3] = ["username", "user.name", "user[email]"];

pub fn run(data: &[u8]) {
    let (content_type, rest) = input::line(data);
    let Some((query, body)) = input::text_line(rest) else { return };
    let query = Some(query).filter(|query| !query.is_empty());
    for name in NAMES {
        let key = FieldKey { source: FieldSource::Any, name: name.into() };
        let keys = [&key];
        let said = match kind([content_type].into_iter(), std::iter::empty(), &keys) {
            Ok(said) => Some(said),
            Err(refusal) => {
                assert_eq!(refusal.code, Code::BodyUnsupported);
                None
            }
        };
        for kind in [Kind::Form, Kind::Json] {
            match read(kind, body, query, &keys) {
                Ok(values) => holds(kind, body, query, &key, &values),
                Err(refusal) => assert_eq!(refusal.code, Code::BodyInvalid),
            }
        }
        if said.is_some() {
            assert!(content_type.is_ascii() && !content_type.contains(&b','), "a list of types is none");
        }
    }
}

/// What must hold of a body whose field was found.
fn holds(kind: Kind, body: &[u8], query: Option<&str>, key: &FieldKey, values: &[FieldValue]) {
    let [value] = values else { panic!("{} values of one field", values.len()) };
    let again = |body: &[u8], query: Option<&str>| read(kind, body, query, &[key]);
    let plain = |value: &FieldValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
    assert!(again(body, Some(&format!("{}=x", key.name))).is_err(), "a second field in the query passes");
    match kind {
        Kind::Form => {
            let found = lenient(body, &key.name);
            let [one] = &*found else { panic!("a lenient reader finds {} fields", found.len()) };
            assert_eq!(again(&form(&key.name, one), None).unwrap(), values, "written in canonical form it is another");
            let twice = [body, b"&", &form(&key.name, b"somebody else")].concat();
            assert!(again(&twice, query).is_err(), "a second field passes");
            let first = [&form(&key.name, b"somebody else"), b"&".as_slice(), body].concat();
            assert!(again(&first, query).is_err(), "a field before it passes");
            let apart = [b"zzz=1&".as_slice(), body, b"&zzz=2"].concat();
            assert_eq!(again(&apart, query).unwrap(), values, "other fields change it");
        }
        Kind::Json => {
            let found: serde_json::Value = serde_json::from_slice(body).unwrap();
            let one = key.name.split('.').fold(&found, |object, name| &object[name]);
            let text = one.as_str().map_or_else(|| one.as_u64().unwrap().to_string(), str::to_owned);
            assert_eq!(
                again(&json(&key.name, &text), None).unwrap(),
                values,
                "written in canonical form it is another"
            );
            assert_eq!(again(found.to_string().as_bytes(), query).unwrap(), values, "spaces or order change it");
        }
    }
    // The application would look for the folded name too: it must be the same account.
    let folded = plain(value);
    let once_more = match kind {
        Kind::Form => again(&form(&key.name, folded.as_bytes()), None),
        Kind::Json => again(&json(&key.name, &folded), None),
    };
    assert_eq!(plain(&once_more.unwrap()[0]), folded, "folding twice is not folding once");
    let upper = folded.to_uppercase();
    let loud = again(
        &match kind {
            Kind::Form => form(&key.name, upper.as_bytes()),
            Kind::Json => json(&key.name, &upper),
        },
        None,
    );
    assert_eq!(plain(&loud.unwrap()[0]), folded, "case makes another account");
}

/// One field with every byte of both halves percent-encoded.
fn form(name: &str, value: &[u8]) -> Vec<u8> {
    let encoded = |text: &[u8]| text.iter().map(|b| format!("%{b:02X}")).collect::<String>();
    format!("{}={}", encoded(name.as_bytes()), encoded(value)).into_bytes()
}

fn json(path: &str, value: &str) -> Vec<u8> {
    let text = serde_json::Value::from(value);
    path.rsplit('.').fold(text, |inner, name| serde_json::json!({ name: inner })).to_string().into_bytes()
}

/// The values of all fields of this name, as the most tolerant of readers finds them: what is no digit stays as it is, and
/// a semicolon separates too.
fn lenient(body: &[u8], name: &str) -> Vec<Vec<u8>> {
    let pieces = body.split(|b| *b == b'&').flat_map(|piece| {
        let has_name = |part: &[u8]| decoded(part.split(|b| *b == b'=').next().unwrap_or_default()) == name.as_bytes();
        let parts: Vec<&[u8]> = piece.split(|b| *b == b';').collect();
        if parts.iter().any(|part| has_name(part)) && parts.len() > 1 { parts } else { vec![piece] }
    });
    let pairs = pieces.filter_map(|piece| {
        let at = piece.iter().position(|b| *b == b'=').unwrap_or(piece.len());
        (decoded(&piece[..at]) == name.as_bytes()).then(|| decoded(piece.get(at + 1..).unwrap_or_default()))
    });
    pairs.collect()
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|b| char::from(*b).to_digit(16)).map(|digit| digit as u8);
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 2;
            }
            (b'+', _, _) => out.push(b' '),
            (other, _, _) => out.push(other),
        }
        at += 1;
    }
    out
}
