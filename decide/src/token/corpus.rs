//! Tokens, signatures and JSON that others have collected, under `#[cfg(test)]` only; sources are in `tests/corpus`.
use super::{Algorithm, KeySet, TokenError, json, parse};
use serde_json::Value;

const SIGNATURES: &str = include_str!("../../../tests/corpus/wycheproof/signatures.json");
const TOKENS: &str = include_str!("../../../tests/corpus/wycheproof/json_web_signature.json");
const JSON: &str = include_str!("../../../tests/corpus/json/parsing.json");

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn set_of(key: &Value) -> Result<KeySet, super::KeySetError> {
    KeySet::parse(serde_json::json!({ "keys": [key] }).to_string().as_bytes()).map(|(keys, _)| keys)
}

/// Where we differ from Wycheproof on purpose: algorithm, number, reason.
const SIGNATURES_REFUSED: [(&str, u64, &str); 1] =
    [("RS256", 8, "a DigestInfo without NULL, which Wycheproof leaves free: RFC 8017, 9.2 asks for one")];

#[test]
fn every_signature_of_wycheproof_is_judged_as_it_says() {
    let groups: Vec<Value> = serde_json::from_str(SIGNATURES).unwrap();
    let (mut valid, mut invalid, mut differ) = (0, 0, Vec::new());
    for group in &groups {
        let name = group["alg"].as_str().unwrap();
        let algorithm = Algorithm::parse(name).unwrap();
        let keys = set_of(&group["key"]);
        for test in group["tests"].as_array().unwrap() {
            let text = |at: usize| test[at].as_str().unwrap();
            let (message, signature) = (hex(text(2)), hex(text(3)));
            let accepted = keys
                .as_ref()
                .is_ok_and(|keys| keys.find(None, algorithm).is_ok_and(|key| key.verifies(&message, &signature)));
            let expected = text(4) == "valid";
            if accepted {
                valid += 1
            } else {
                invalid += 1
            }
            let known = SIGNATURES_REFUSED.iter().any(|(a, n, _)| *a == name && Some(*n) == test[0].as_u64());
            if accepted != expected || (known && text(4) == "valid") {
                differ.push(format!("{name} {} {}: accepted {accepted}, expected {}", test[0], test[1], test[4]));
            }
        }
    }
    assert_eq!(differ, Vec::<String>::new());
    assert_eq!((valid, invalid), (526, 534));
}

/// The steps of [`super::verify`] up to the signature.
fn authentic(token: &str, keys: &KeySet) -> Result<(), TokenError> {
    let compact = parse::Compact::split(token)?;
    let header = parse::Header::parse(compact.header)?;
    let key = keys.find(header.kid.as_deref(), header.algorithm)?;
    if key.verifies(compact.signed, &parse::decode(compact.signature)?) {
        Ok(())
    } else {
        Err(TokenError::Invalid("the signature does not verify"))
    }
}

/// Valid tokens that we refuse on purpose: number, reason.
const TOKENS_REFUSED: [(u64, &str); 1] = [(1, "HMAC: whoever can check such a token can make one")];

#[test]
fn every_token_of_wycheproof_is_judged_as_it_says() {
    let groups: Vec<Value> = serde_json::from_str(TOKENS).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for group in &groups {
        let symmetric = set_of(&group["key"]).is_err();
        assert_eq!(symmetric, group["group"] == "hs256", "no set of public keys holds a secret");
        // A symmetric key is none of ours: its tokens are judged by the key of another group.
        let keys = set_of(if symmetric { &groups[1]["key"] } else { &group["key"] }).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let verdict = authentic(test[2].as_str().unwrap(), &keys);
            let refused_on_purpose = TOKENS_REFUSED.iter().any(|(n, _)| Some(*n) == test[0].as_u64());
            assert_eq!(verdict.is_ok(), test[3] == "valid" && !refused_on_purpose, "{} {}", test[0], test[1]);
            if verdict.is_ok() { accepted += 1 } else { refused += 1 }
        }
    }
    assert_eq!((accepted, refused), (1, 34));
}

/// Texts that are JSON, and not for us: name, reason. Their values are judged as members of an object.
const JSON_REFUSED: [(&str, &str); 2] = [
    ("y_object_duplicated_key", "a member named twice has two readings (RFC 8725, 2.6)"),
    ("y_object_duplicated_key_and_value", "a member named twice has two readings (RFC 8725, 2.6)"),
];

/// Texts on which the suite leaves the choice, and which we accept: all hold numbers that a double can round.
const JSON_FREE_AND_ACCEPTED: [&str; 5] = [
    "i_number_double_huge_neg_exp",
    "i_number_real_underflow",
    "i_number_too_big_neg_int",
    "i_number_too_big_pos_int",
    "i_number_very_big_negative_int",
];

#[test]
fn the_json_suite_is_read_as_strictly_as_it_asks() {
    let cases: Vec<Value> = serde_json::from_str(JSON).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    let deep = [
        ("n_structure_100000_opening_arrays", "[".repeat(100_000)),
        ("n_structure_open_array_object", "[{\"\":".repeat(50_000)),
    ];
    let cases = cases.iter().map(|case| (case["name"].as_str().unwrap(), case["input"].as_str().unwrap().to_owned()));
    for (name, input) in cases.chain(deep) {
        // Tokens hold objects only: each case is judged as it is where it is one, and as the value of a member.
        let inside = json::object(format!("{{\"x\":{input}}}").as_bytes()).is_some();
        let itself = json::object(input.as_bytes()).is_some();
        let expected = match &name[..2] {
            "y_" => !JSON_REFUSED.iter().any(|(refused, _)| *refused == name),
            "n_" => false,
            _ => JSON_FREE_AND_ACCEPTED.contains(&name),
        };
        assert_eq!(inside, expected, "{name}");
        assert_eq!(itself, expected && input.trim_start().starts_with('{'), "{name} by itself");
        if inside { accepted += 1 } else { refused += 1 }
    }
    assert_eq!((accepted, refused), (98, 195));
}
