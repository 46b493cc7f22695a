//! Key sets: which keys are used, which are skipped, which sets are refused.
use super::*;

fn set(keys: Value) -> String {
    match KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()) {
        Ok((set, skipped)) if skipped.is_empty() => format!("{}", set.count()),
        Ok((set, skipped)) => format!("{}, skipped {}", set.count(), skipped.join("; ")),
        Err(error) => error.to_string(),
    }
}

#[test]
fn keys_that_are_skipped() {
    let usable = jwk(Algorithm::Es256);
    let edit = |algorithm: Algorithm, edits: &[(&str, Value)]| {
        let mut key = jwk(algorithm);
        for (name, value) in edits {
            match value {
                Value::Null => drop(key.as_object_mut().unwrap().remove(*name)),
                _ => key[*name] = value.clone(),
            }
        }
        key["kid"] = "second".into();
        key
    };
    let x = jwk(Algorithm::Es256)["x"].clone();
    let rsa = |n: Vec<u8>, e: &[u8]| edit(Algorithm::Rs256, &[("n", json!(b64(n))), ("e", json!(b64(e)))]);
    let modulus = |bytes: usize| [vec![0x80], vec![1; bytes - 1]].concat();
    for (key, reason) in [
        (json!({"kty": "oct", "k": b64("secret"), "alg": "HS256"}), "private or symmetric key material"),
        (json!({"kty": "oct"}), "symmetric key"),
        (edit(Algorithm::Es256, &[("d", json!("AA"))]), "private or symmetric key material"),
        (edit(Algorithm::Rs256, &[("p", json!("AA"))]), "private or symmetric key material"),
        (edit(Algorithm::Es256, &[("use", json!("enc"))]), "`use` is not `sig`"),
        (edit(Algorithm::Es256, &[("use", json!(["sig"]))]), "`use` is not `sig`"),
        (edit(Algorithm::Es256, &[("key_ops", json!(["sign"]))]), "`key_ops` does not hold `verify`"),
        (edit(Algorithm::Es256, &[("key_ops", json!("verify"))]), "`key_ops` does not hold `verify`"),
        (edit(Algorithm::Es256, &[("alg", json!("ES512"))]), "`alg` is not one of ours"),
        (edit(Algorithm::Es256, &[("alg", json!("none"))]), "`alg` is not one of ours"),
        (edit(Algorithm::Es256, &[("alg", json!(1))]), "`alg` is not a string"),
        (edit(Algorithm::Es256, &[("alg", json!("RS256"))]), "`alg` does not fit the key type"),
        (edit(Algorithm::Rs256, &[("alg", json!("ES256"))]), "`alg` does not fit the key type"),
        (edit(Algorithm::Es256, &[("crv", json!("P-521"))]), "a curve that is not one of ours"),
        (edit(Algorithm::Es256, &[("crv", json!("secp256k1"))]), "a curve that is not one of ours"),
        (edit(Algorithm::EdDsa, &[("crv", json!("X25519"))]), "a curve that is not one of ours"),
        (edit(Algorithm::Es256, &[("kty", json!("AKP"))]), "a key type that is not one of ours"),
        (edit(Algorithm::Es256, &[("kty", Value::Null)]), "a key type that is not one of ours"),
        (edit(Algorithm::Es256, &[("y", Value::Null)]), "a key member is missing"),
        (edit(Algorithm::Es256, &[("y", json!("AA="))]), "a key member is not canonical base64url"),
        (edit(Algorithm::Es256, &[("y", json!("AA"))]), "a coordinate of the wrong length"),
        (edit(Algorithm::Es256, &[("y", x)]), "not a point of its curve"),
        (edit(Algorithm::Es384, &[("crv", json!("P-256")), ("alg", Value::Null)]), "a coordinate of the wrong length"),
        (edit(Algorithm::EdDsa, &[("x", json!("AA"))]), "a coordinate of the wrong length"),
        (rsa(modulus(255), &[1, 0, 1]), "RSA outside 2048 to 8192 bits"),
        (rsa([vec![0x7f], vec![1; 255]].concat(), &[1, 0, 1]), "RSA outside 2048 to 8192 bits"),
        (rsa(modulus(1025), &[1, 0, 1]), "RSA outside 2048 to 8192 bits"),
        (rsa([vec![0], modulus(256)].concat(), &[1, 0, 1]), "a number with leading zeros"),
        (rsa(modulus(256), &[0, 3]), "a number with leading zeros"),
        (rsa(modulus(256), &[1]), "an unsafe RSA exponent"),
        (rsa(modulus(256), &[2]), "an unsafe RSA exponent"),
        (rsa(modulus(256), &[1; 6]), "an unsafe RSA exponent"),
        (rsa(modulus(256), &[]), "an unsafe RSA exponent"),
    ] {
        let expected = format!("1, skipped keys[1]: {reason}");
        assert_eq!(set(json!([usable, key])), expected, "{key}");
        assert_eq!(set(json!([key])), "the key set holds no usable key");
    }
    let mut nameless = usable.clone();
    nameless["kid"] = json!(7);
    assert_eq!(set(json!([usable, nameless])), "1, skipped keys[1]: `kid` is not a short string");
    let twin = "1, skipped keys[1]: an earlier key has the same `kid` and algorithm";
    assert_eq!(set(json!([usable, usable])), twin);
    let operations = edit(Algorithm::Es256, &[("key_ops", json!(["verify"])), ("use", Value::Null)]);
    assert_eq!(set(json!([operations])), "1");
    assert_eq!(set(json!([edit(Algorithm::Rs256, &[("alg", Value::Null)])])), "1");
}

#[test]
fn key_sets_that_are_refused() {
    const MALFORMED: KeySetError = KeySetError::Malformed;
    let key = jwk(Algorithm::Es256).to_string();
    let twice = format!("{{\"kid\":\"x\",{}", &key[1..]);
    let many = vec![key.as_str(); 101].join(",");
    for (document, expected) in [
        (String::new(), MALFORMED),
        ("<html>".into(), MALFORMED),
        ("[]".into(), MALFORMED),
        ("{}".into(), MALFORMED),
        ("{\"keys\":{}}".into(), MALFORMED),
        ("{\"keys\":[7]}".into(), MALFORMED),
        (key.clone(), MALFORMED),
        (format!("{{\"keys\":[{twice}]}}"), MALFORMED),
        (format!("{{\"keys\":[],\"keys\":[{key}]}}"), MALFORMED),
        (format!("{{\"keys\":[{key}]"), MALFORMED),
        ("{\"keys\":[]}".into(), KeySetError::NoUsableKey),
        (format!("{{\"keys\":[{many}]}}"), KeySetError::TooMany),
        (format!("{{\"keys\":[{key}]}}{}", " ".repeat(MAX_KEY_SET_BYTES)), KeySetError::TooLarge),
    ] {
        assert_eq!(KeySet::parse(document.as_bytes()).unwrap_err(), expected, "{document:.100}");
    }
}

#[test]
fn a_token_without_key_id_needs_the_only_key() {
    let mut other = jwk(Algorithm::Es256);
    other["kid"] = "other".into();
    let parse = |keys: Value| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap().0;
    let mut header = header(Algorithm::Es256);
    header.as_object_mut().unwrap().remove("kid");
    let token = token(Algorithm::Es256, &header, &claims());
    for (keys, expected) in [
        (json!([jwk(Algorithm::Es256), jwk(Algorithm::Rs256)]), "valid"),
        (json!([jwk(Algorithm::Es256), other]), "`kid` is missing and several keys fit"),
        (json!([jwk(Algorithm::Rs256)]), "`kid` is missing and no key fits"),
    ] {
        assert_eq!(verdict(verify(&token, &rules(), &parse(keys), NOW)), expected);
    }
}

#[test]
fn the_digest_of_a_key_set_is_about_keys() {
    let digest = |keys: Value| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap().0.digest();
    let (a, b) = (jwk(Algorithm::Es256), jwk(Algorithm::EdDsa));
    let mut renamed = a.clone();
    renamed["kid"] = "renamed".into();
    let mut noted = a.clone();
    noted["x5t"] = "a note".into();
    assert_eq!(digest(json!([a, b])), digest(json!([b, noted])));
    assert_ne!(digest(json!([a, b])), digest(json!([a])));
    assert_ne!(digest(json!([a])), digest(json!([renamed])));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn one_changed_byte_never_verifies(algorithm in 0..5usize, at in any::<prop::sample::Index>(), byte in 0x20..0x7fu8) {
        static TOKENS: std::sync::LazyLock<(Vec<String>, KeySet)> =
            std::sync::LazyLock::new(|| (Algorithm::ALL.map(good).to_vec(), keys()));
        let mut token = TOKENS.0[algorithm].clone().into_bytes();
        let at = at.index(token.len());
        prop_assume!(token[at] != byte);
        token[at] = byte;
        let token = String::from_utf8(token).unwrap();
        prop_assert!(verify(&token, &rules(), &TOKENS.1, NOW).is_err());
    }

    #[test]
    fn nothing_panics(token in "(?s).{0,200}", document in any::<Vec<u8>>()) {
        let _ = verify(&token, &rules(), &keys(), NOW);
        let _ = peek_issuer(&token);
        let _ = KeySet::parse(&document);
    }

    #[test]
    fn no_segments_panic(header in "\\PC{0,60}", claims in any::<Vec<u8>>(), signature in any::<Vec<u8>>()) {
        let token = format!("{}.{}.{}", b64(header), b64(claims), b64(signature));
        let _ = peek_issuer(&token);
        prop_assert!(verify(&token, &rules(), &keys(), NOW).is_err());
    }

    #[test]
    fn no_claims_panic(claims in "\\{(\"(exp|iat|nbf|aud|iss|sub|roles)\":(-?[0-9]{1,25}(e[0-9]{1,3})?|\"a\"|\\[\\]),?){0,4}\\}") {
        let token = token_of(Algorithm::EdDsa, &header(Algorithm::EdDsa).to_string(), &claims);
        prop_assert!(verify(&token, &rules(), &keys(), NOW).is_err());
    }
}
