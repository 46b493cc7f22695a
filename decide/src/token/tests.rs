//! What verifies, what does not, and why.
//!
//! The attacks are those of RFC 8725, 2 and of published corpora (Wycheproof, `json_web_signature_test`), made here
//! with keys of our own: algorithm `none`, HMAC with the public key, a key of another type, DER and zero ECDSA
//! signatures, base64 in a second spelling.
mod keys;

use super::vectors::*;
use super::*;
use aws_lc_rs::hmac;
use proptest::prelude::*;
use serde_json::{Value, json};

/// One word for the outcome, or the cause.
fn verdict(result: Result<Identity, TokenError>) -> String {
    match result {
        Ok(_) => "valid".to_owned(),
        Err(TokenError::UnknownKey { .. }) => "unknown key".to_owned(),
        Err(TokenError::Expired { .. }) => "expired".to_owned(),
        Err(TokenError::Invalid(cause)) => cause.to_owned(),
    }
}

fn verify_now(token: &str, rules: &IssuerRules) -> String {
    verdict(verify(token, rules, &keys(), NOW))
}

#[test]
fn each_algorithm_verifies_and_names_the_caller() {
    for algorithm in Algorithm::ALL {
        let identity = verify(&good(algorithm), &rules(), &keys(), NOW).unwrap();
        assert_eq!(&*identity.issuer, "workforce");
        assert_eq!(&*identity.subject.0, "user-1");
        assert_eq!(identity.tenant.as_deref(), Some("acme"));
        assert_eq!(identity.roles, vec!["buyer".into(), "clerk".into()] as Vec<Arc<str>>);
        assert_eq!(identity.acr.as_deref(), Some("mfa"));
        assert_eq!(identity.amr, vec!["pwd".into(), "otp".into()] as Vec<Arc<str>>);
        assert_eq!(
            (identity.issued_at, identity.not_before, identity.expires_at, identity.auth_time),
            (NOW - 60, 0, NOW + 600, Some(NOW - 120))
        );
        assert_eq!(identity.session, Some(rules().session_hash("s-1")));
    }
}

/// Another implementation, the crate jsonwebtoken, agrees on both sides.
#[test]
fn jsonwebtoken_agrees() {
    use jsonwebtoken as other;
    let mut validation = other::Validation::new(other::Algorithm::ES256);
    validation.set_audience(&["orders-api"]);
    validation.validate_exp = false;
    let jwk: other::jwk::Jwk = serde_json::from_value(jwk(Algorithm::Es256)).unwrap();
    let key = other::DecodingKey::from_jwk(&jwk).unwrap();
    assert!(other::decode::<Value>(good(Algorithm::Es256), &key, &validation).is_ok());

    let pkcs8 = PAIRS.p256.to_pkcs8v1().unwrap();
    let mut header = other::Header::new(other::Algorithm::ES256);
    header.kid = Some(kid(Algorithm::Es256).into());
    header.typ = Some("at+jwt".into());
    let theirs = other::encode(&header, &claims(), &other::EncodingKey::from_ec_der(pkcs8.as_ref())).unwrap();
    assert_eq!(verify_now(&theirs, &rules()), "valid");
}

/// RFC 8037, A.4 (key of A.1): a signature that we did not make. Its claims are no JSON, and only that is refused.
#[test]
fn the_rfc_8037_signature_verifies() {
    let jwks = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let (keys, _) = KeySet::parse(jwks).unwrap();
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
                 hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let rules = IssuerRules { token_types: vec!["jwt".into()], ..rules() };
    assert_eq!(verdict(verify(token, &rules, &keys, NOW)), "`typ` is missing or not one of the issuer's");
    let key = keys.find(None, Algorithm::EdDsa).unwrap();
    let compact = parse::Compact::split(token).unwrap();
    assert!(key.verifies(compact.signed, &parse::decode(compact.signature).unwrap()));
}

const SHAPE: &str = "not three segments";
const BASE64: &str = "a segment is not canonical base64url";
const SIGNATURE: &str = "the signature does not verify";
const ALG: &str = "`alg` is missing or not one of ours";
const PARAMETER: &str = "a header parameter that is never accepted";
const TYP: &str = "`typ` is missing or not one of the issuer's";

#[test]
fn the_compact_form_has_one_spelling() {
    let token = good(Algorithm::Es256);
    let [h, p, s] = token.split('.').collect::<Vec<_>>()[..] else { panic!() };
    // The last sextet of 64 bytes carries four unused bits: its neighbour decodes alike in a lax reader.
    let stray = |text: &str| {
        const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let (front, last) = text.split_at(text.len() - 1);
        format!("{front}{}", &ALPHABET[ALPHABET.find(last).unwrap() + 1..][..1])
    };
    let long = "A".repeat(MAX_TOKEN_BYTES);
    for (case, expected) in [
        (format!("{h}.{p}.{s}"), "valid"),
        (String::new(), SHAPE),
        (".".into(), SHAPE),
        ("..".into(), SHAPE),
        (format!("{h}.{p}"), SHAPE),
        (format!("{h}.{p}."), SHAPE),
        (format!(".{p}.{s}"), SHAPE),
        (format!("{h}..{s}"), SHAPE),
        (format!("{h}.{p}.{s}."), SHAPE),
        (format!("{h}.{p}.{s}.{s}"), SHAPE),
        (format!("{h}.{p}.{s}.{s}.{s}"), SHAPE),
        (format!("{h}.{p}.{}", stray(s)), BASE64),
        (format!("{h}.{p}.{s}="), BASE64),
        (format!("{h}.{p}.{s}=="), BASE64),
        (format!("{h}==.{p}.{s}"), BASE64),
        (format!("{h}.{p}.{s} "), BASE64),
        (format!("{h}.{p}.{s}\n"), BASE64),
        (format!(" {h}.{p}.{s}"), BASE64),
        (format!("{h}.{p}.{}+/", &s[..s.len() - 2]), BASE64),
        (format!("{h}.{p}.{}ä", &s[..s.len() - 2]), BASE64),
        (format!("{h}.{p}.{s}{long}"), "larger than 16 KiB"),
        (format!("{long}.{p}.{s}")[..MAX_TOKEN_BYTES].to_owned(), SHAPE),
        (format!("{}.{p}.{s}", &long[..2049]), "the header is larger than 2 KiB"),
        ("{\"protected\":\"\",\"payload\":\"\",\"signature\":\"\"}".into(), SHAPE),
    ] {
        assert_eq!(verify_now(&case, &rules()), expected, "{case:.200}");
    }
}

#[test]
fn headers_that_are_refused() {
    let with = |name: &str, value: Value| {
        let mut header = header(Algorithm::Rs256);
        header[name] = value;
        header.to_string()
    };
    let without = |name: &str| {
        let mut header = header(Algorithm::Rs256);
        header.as_object_mut().unwrap().remove(name);
        header.to_string()
    };
    const KID: &str = "`kid` is not a short string";
    const STRICT: &str = "the header is not one strict JSON object";
    for (header, expected) in [
        (with("x-note", json!("ignored")), "valid"),
        (with("x5t", json!("ignored")), "valid"),
        (with("typ", json!("application/at+jwt")), "valid"),
        (with("typ", json!("Application/AT+JWT")), "valid"),
        (with("typ", json!("JWT")), TYP),
        (with("typ", json!("")), TYP),
        (with("typ", json!("at+jwt ")), TYP),
        (with("typ", json!("application/application/at+jwt")), TYP),
        (without("typ"), TYP),
        (with("typ", json!(["at+jwt"])), "`typ` is not a string"),
        (with("alg", json!("none")), ALG),
        (with("alg", json!("None")), ALG),
        (with("alg", json!("NONE")), ALG),
        (with("alg", json!("nOnE")), ALG),
        (with("alg", json!("")), ALG),
        (with("alg", json!("rs256")), ALG),
        (with("alg", json!(" RS256")), ALG),
        (with("alg", json!("RS512")), ALG),
        (with("alg", json!("HS256")), ALG),
        (with("alg", json!(["RS256"])), ALG),
        (with("alg", json!(null)), ALG),
        (without("alg"), ALG),
        (with("crit", json!([])), PARAMETER),
        (with("crit", json!(["exp"])), PARAMETER),
        (with("b64", json!(true)), PARAMETER),
        (with("zip", json!("DEF")), PARAMETER),
        (with("jku", json!("https://attacker.example/jwks")), PARAMETER),
        (with("x5u", json!("https://attacker.example/chain")), PARAMETER),
        (with("jwk", jwk(Algorithm::Rs256)), PARAMETER),
        (with("x5c", json!([])), PARAMETER),
        (with("kid", json!("../../dev/null")), "unknown key"),
        (with("kid", json!("RS256' OR '1'='1")), "unknown key"),
        (with("kid", json!("rs256")), "unknown key"),
        (with("kid", json!("")), KID),
        (with("kid", json!("k".repeat(257))), KID),
        (with("kid", json!(1)), KID),
        (with("kid", json!(null)), KID),
        // A key of the set, but another algorithm's.
        (with("kid", json!("ES256")), "the algorithm does not belong to the key"),
        (with("kid", json!("PS256")), "the algorithm does not belong to the key"),
        (without("kid"), "valid"),
        (r#"{"alg":"none","alg":"RS256","kid":"RS256","typ":"at+jwt"}"#.into(), STRICT),
        (r#"{"alg":"RS256","\u0061lg":"none","kid":"RS256","typ":"at+jwt"}"#.into(), STRICT),
        (r#"{"alg":"RS256","kid":"RS256","typ":"at+jwt","x":{"a":1,"a":2}}"#.into(), STRICT),
        (r#"{"alg":"RS256","kid":"RS256","typ":"at+jwt"}{}"#.into(), STRICT),
        ("[]".into(), STRICT),
        ("\"RS256\"".into(), STRICT),
        ("RS256".into(), STRICT),
    ] {
        let token = token_of(Algorithm::Rs256, &header, &claims().to_string());
        assert_eq!(verify_now(&token, &rules()), expected, "{header}");
    }
}

#[test]
fn the_key_decides_the_algorithm() {
    // Signed with A's key, said to be B under B's key id.
    for signer in Algorithm::ALL {
        for said in Algorithm::ALL.into_iter().filter(|a| *a != signer) {
            let token = token(signer, &header(said), &claims());
            assert_eq!(verify_now(&token, &rules()), SIGNATURE, "{signer:?} said to be {said:?}");
        }
    }
    // An algorithm that the issuer may not use, although the key set has a key for it.
    for algorithm in Algorithm::ALL {
        let others = Algorithm::ALL.into_iter().filter(|a| *a != algorithm).collect();
        let rules = IssuerRules { algorithms: others, ..rules() };
        let expected = "the algorithm is not allowed for this issuer";
        assert_eq!(verify_now(&good(algorithm), &rules), expected);
    }
}

#[test]
fn hmac_with_the_public_key_is_no_signature() {
    let rsa = jwk(Algorithm::Rs256);
    for secret in [rsa["n"].as_str().unwrap().to_owned(), rsa.to_string()] {
        for alg in ["HS256", "RS256"] {
            let mut header = header(Algorithm::Rs256);
            header["alg"] = alg.into();
            let signed = format!("{}.{}", b64(header.to_string()), b64(claims().to_string()));
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
            let expected = if alg == "HS256" { ALG } else { SIGNATURE };
            assert_eq!(verify_now(&format!("{signed}.{}", b64(tag)), &rules()), expected);
        }
    }
}

#[test]
fn signatures_that_are_none() {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    let token = good(Algorithm::Es256);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let raw = parse::decode(signature).unwrap();
    let pkcs8 = PAIRS.p256.to_pkcs8v1().unwrap();
    let der = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref())
        .unwrap()
        .sign(&aws_lc_rs::rand::SystemRandom::new(), signed.as_bytes())
        .unwrap();
    // The order of P-256: r = s = n is zero again.
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&order[2 * i..2 * i + 2], 16).unwrap()).collect();
    for (case, bytes) in [
        ("DER instead of r and s", der.as_ref().to_vec()),
        ("r = s = 0", vec![0; 64]),
        ("r = s = order", [order.clone(), order].concat()),
        ("r and s swapped", [&raw[32..], &raw[..32]].concat()),
        ("one byte short", raw[..63].to_vec()),
        ("one byte long", [&raw[..], &[0]].concat()),
        ("one byte", vec![0]),
        ("of P-384's length", vec![1; 96]),
    ] {
        assert_eq!(verify_now(&format!("{signed}.{}", b64(bytes)), &rules()), SIGNATURE, "{case}");
    }
    for (algorithm, length) in [(Algorithm::Rs256, 256), (Algorithm::Ps256, 256), (Algorithm::EdDsa, 64)] {
        let token = good(algorithm);
        let (signed, _) = token.rsplit_once('.').unwrap();
        for byte in [0, 1, 0xff] {
            let case = format!("{signed}.{}", b64(vec![byte; length]));
            assert_eq!(verify_now(&case, &rules()), SIGNATURE, "{algorithm:?} of {byte}");
        }
    }
}

#[test]
fn ed25519_has_two_names() {
    for name in ["EdDSA", "Ed25519"] {
        let mut header = header(Algorithm::EdDsa);
        header["alg"] = name.into();
        assert_eq!(verify_now(&token(Algorithm::EdDsa, &header, &claims()), &rules()), "valid", "{name}");
    }
}

#[test]
fn claims_one_by_one() {
    const AUD: &str = "`aud` does not name us";
    const DATE: &str = "a date is not a number of seconds since 1970";
    const ISS: &str = "`iss` is not this issuer";
    const SUB: &str = "`sub` is missing, empty or too long";
    const ROLES: &str = "the roles claim is not a short list of names";
    const LONG: &str = "it lives longer than the issuer may let it";
    let absent = Value::Null; // stands for removal below
    let cases: &[(&str, Value, &str)] = &[
        ("iss", absent.clone(), ISS),
        ("iss", json!("https://login.example"), ISS),
        ("iss", json!("https://LOGIN.example/"), ISS),
        ("iss", json!(["https://login.example/"]), ISS),
        ("aud", absent.clone(), AUD),
        ("aud", json!(""), AUD),
        ("aud", json!([]), AUD),
        ("aud", json!({"orders-api": true}), AUD),
        ("aud", json!("orders-api-2"), AUD),
        ("aud", json!(["x", "y"]), AUD),
        ("aud", json!(["orders-api", 1]), "`aud` is not made of strings"),
        ("aud", json!(["x", "billing-api"]), "valid"),
        ("sub", absent.clone(), SUB),
        ("sub", json!(""), SUB),
        ("sub", json!(7), SUB),
        ("sub", json!("a\r\nx-role: admin"), SUB),
        ("sub", json!("s".repeat(256)), "valid"),
        ("sub", json!("s".repeat(257)), SUB),
        ("exp", absent.clone(), "`exp` is missing"),
        ("exp", json!("1800000600"), DATE),
        ("exp", json!(-1), DATE),
        ("exp", json!(1e300), DATE),
        ("exp", json!(u64::MAX), DATE),
        ("exp", json!(true), DATE),
        ("exp", json!([NOW + 600]), DATE),
        ("exp", json!(NOW + 1), "valid"),
        ("exp", json!(NOW), "expired"),
        ("exp", json!(NOW as f64 + 0.9), "expired"),
        ("exp", json!(NOW as f64 + 1.5), "valid"),
        ("exp", json!(NOW - 31), "expired"),
        ("exp", json!(NOW - 60), "`exp` is not after `iat`"),
        ("exp", json!(0), "`exp` is not after `iat`"),
        ("exp", json!(NOW + 3540), "valid"),
        ("exp", json!(NOW + 3541), LONG),
        ("exp", json!(253_402_300_799_u64), LONG),
        ("iat", absent.clone(), "`iat` is missing"),
        ("iat", json!("0"), DATE),
        ("iat", json!(NOW + 30), "valid"),
        ("iat", json!(NOW + 31), "`iat` is in the future"),
        ("iat", json!(NOW as f64 + 30.2), "`iat` is in the future"),
        ("iat", json!(0), LONG),
        ("nbf", json!(NOW + 30), "valid"),
        ("nbf", json!(NOW + 31), "`nbf` is in the future"),
        ("nbf", json!(NOW as f64 + 30.2), "`nbf` is in the future"),
        ("nbf", json!("soon"), DATE),
        ("auth_time", absent.clone(), "valid"),
        ("auth_time", json!(NOW + 31), "the time of authentication is in the future"),
        ("auth_time", json!(-5), DATE),
        ("tenant", absent.clone(), "valid"),
        ("tenant", json!(7), "the tenant claim is not a short string"),
        ("tenant", json!(""), "the tenant claim is not a short string"),
        ("tenant", json!(["acme", "globex"]), "the tenant claim is not a short string"),
        ("tenant", json!("ac\0me"), "the tenant claim is not a short string"),
        ("roles", absent.clone(), "valid"),
        ("roles", json!([]), "valid"),
        ("roles", json!(vec!["r"; 64]), "valid"),
        ("roles", json!(vec!["r"; 65]), ROLES),
        ("roles", json!("r ".repeat(65)), ROLES),
        ("roles", json!(["a,admin"]), ROLES),
        ("roles", json!(["a\nb"]), ROLES),
        ("roles", json!([""]), ROLES),
        ("roles", json!(["a", 1]), ROLES),
        ("roles", json!({"admin": true}), ROLES),
        ("roles", json!(["r".repeat(257)]), ROLES),
        ("sid", json!(1), "the session claim is not a short string"),
        ("acr", json!(["mfa"]), "the `acr` claim is not a short string"),
        ("amr", json!("pwd"), "valid"),
        ("amr", json!([1]), "the `amr` claim is not a short list of names"),
        ("unknown", json!({"deep": [1, 2, {"er": null}]}), "valid"),
    ];
    for (name, value, expected) in cases {
        let mut claims = claims();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(*name)),
            _ => claims[*name] = value.clone(),
        }
        let token = token(Algorithm::Es256, &header(Algorithm::Es256), &claims);
        assert_eq!(verify_now(&token, &rules()), *expected, "{name}: {value}");
    }
    for (text, expected) in [
        (claims().to_string().replacen('{', "{\"sub\":\"admin\",", 1), "the claims are not one strict JSON object"),
        (
            claims().to_string().replacen('{', "{\"x\":{\"y\":[{\"z\":1,\"z\":1}]},", 1),
            "the claims are not one strict JSON object",
        ),
        (claims().to_string().replacen('{', "{\"x\":1e999,", 1), "the claims are not one strict JSON object"),
        (claims().to_string().replace("\"exp\":1800000600", "\"exp\":18000006e2"), "valid"),
        ("[]".into(), "the claims are not one strict JSON object"),
        ("{}".into(), ISS),
    ] {
        let token = token_of(Algorithm::Es256, &header(Algorithm::Es256).to_string(), &text);
        assert_eq!(verify_now(&token, &rules()), expected, "{text}");
    }
    let nobody = IssuerRules { audiences: vec![], ..rules() };
    assert_eq!(verify_now(&good(Algorithm::Es256), &nobody), AUD);
}

#[test]
fn expired_is_said_only_of_what_was_valid() {
    let mut claims = claims();
    claims["exp"] = (NOW - 1).into();
    let token = token(Algorithm::Es256, &header(Algorithm::Es256), &claims);
    match verify(&token, &rules(), &keys(), NOW) {
        Err(TokenError::Expired { identity }) => assert_eq!(&*identity.subject.0, "user-1"),
        other => panic!("{other:?}"),
    }
    let forged = format!("{}{}", &token[..token.len() - 4], "AAAA");
    assert_eq!(verify_now(&forged, &rules()), SIGNATURE);
    let elsewhere = IssuerRules { audiences: vec!["other".into()], ..rules() };
    assert_eq!(verify_now(&token, &elsewhere), "`aud` does not name us");
}

#[test]
fn an_extreme_clock_refuses_without_overflow() {
    let token = good(Algorithm::EdDsa);
    assert_eq!(verdict(verify(&token, &rules(), &keys(), u64::MAX)), "expired");
    assert_eq!(verdict(verify(&token, &rules(), &keys(), 0)), "`iat` is in the future");
    let lax = IssuerRules { clock_skew_s: u64::MAX, max_lifetime_s: None, ..rules() };
    assert_eq!(verdict(verify(&token, &lax, &keys(), u64::MAX)), "expired");
}

#[test]
fn claims_are_found_where_the_issuer_puts_them() {
    let mut rules = rules();
    rules.claims.tenant = ClaimName::new("https://claims.example/org");
    rules.claims.roles = ClaimName::new("/realm_access/roles");
    rules.claims.session = ClaimName::new("/a~1b/~0");
    let mut claims = claims();
    claims["https://claims.example/org"] = "globex".into();
    claims["realm_access"] = json!({"roles": "clerk, buyer  admin,"});
    claims["a/b"] = json!({"~": "s-9"});
    let token = token(Algorithm::Es256, &header(Algorithm::Es256), &claims);
    let identity = verify(&token, &rules, &keys(), NOW).unwrap();
    assert_eq!(identity.tenant.as_deref(), Some("globex"));
    assert_eq!(identity.roles.iter().map(|r| &**r).collect::<Vec<_>>(), ["clerk", "buyer", "admin"]);
    assert_eq!(identity.session, Some(rules.session_hash("s-9")));
    rules.claims.roles = ClaimName::new("/tenant/roles");
    assert!(verify(&token, &rules, &keys(), NOW).unwrap().roles.is_empty());
}

#[test]
fn session_hashes_depend_on_issuer_and_pepper() {
    let other_issuer = IssuerRules { issuer: "https://other.example/".into(), ..rules() };
    let other_pepper = IssuerRules { session_pepper: [8; 32], ..rules() };
    let hash = rules().session_hash("s-1");
    assert_eq!(hash.len(), 32);
    assert_ne!(hash, other_issuer.session_hash("s-1"));
    assert_ne!(hash, other_pepper.session_hash("s-1"));
    assert!(!format!("{:?}", rules()).contains("pepper"));
}

#[test]
fn firebase_has_rules_of_its_own() {
    let rules = IssuerRules::firebase("shop", "shop-1", ClaimNames::default(), [0; 32]);
    let good_header = json!({"alg": "RS256", "kid": "RS256", "typ": "JWT"});
    let mut good = claims();
    good["iss"] = "https://securetoken.google.com/shop-1".into();
    good["aud"] = "shop-1".into();
    good["firebase"] = json!({"sign_in_provider": "password", "tenant": "acme"});
    let edit = |value: &Value, name: &str, to: Value| {
        let mut value = value.clone();
        match to {
            Value::Null => drop(value.as_object_mut().unwrap().remove(name)),
            _ => value[name] = to,
        }
        value
    };
    let check = |header: &Value, claims: &Value, expected: &str| {
        assert_eq!(verify_now(&token(Algorithm::Rs256, header, claims), &rules), expected, "{header} {claims}");
    };
    check(&good_header, &good, "valid");
    check(&edit(&good_header, "typ", Value::Null), &good, "valid");
    check(&edit(&good_header, "typ", json!("at+jwt")), &good, TYP);
    check(&edit(&good_header, "kid", Value::Null), &good, "`kid` is missing");
    check(
        &good_header,
        &edit(&good, "iss", json!("https://securetoken.google.com/shop-2")),
        "`iss` is not this issuer",
    );
    check(&good_header, &edit(&good, "aud", json!("shop-2")), "`aud` does not name us");
    check(&good_header, &edit(&good, "sub", json!("")), "`sub` is missing, empty or too long");
    check(&good_header, &edit(&good, "sub", json!("s".repeat(128))), "valid");
    check(&good_header, &edit(&good, "sub", json!("s".repeat(129))), "`sub` is missing, empty or too long");
    check(&good_header, &edit(&good, "auth_time", Value::Null), "the time of authentication is missing");
    check(&good_header, &edit(&good, "auth_time", json!(NOW + 60)), "the time of authentication is in the future");

    // RS256 only, even where a file lists more.
    let lax = IssuerRules { algorithms: Algorithm::ALL.to_vec(), ..rules.clone() };
    let es256 = token(Algorithm::Es256, &edit(&header(Algorithm::Es256), "typ", json!("JWT")), &good);
    assert_eq!(verify_now(&es256, &lax), "the algorithm is not allowed for this issuer");
}

#[test]
fn the_issuer_can_be_peeked_at() {
    assert_eq!(peek_issuer(&good(Algorithm::Es256)).as_deref(), Some("https://login.example/"));
    for token in ["", "a.b.c", "..", "e30.e30.e30", "e30.eyJpc3MiOjF9.e30", "e30.eyJpc3MiOiIiLCJpc3MiOiIifQ.e30"] {
        assert_eq!(peek_issuer(token), None, "{token}");
    }
}

/// Refusals go into audit entries: nothing that a token holds may be among them.
#[test]
fn causes_hold_nothing_of_the_token() {
    let mut header = header(Algorithm::Es256);
    header["kid"] = "canary".into();
    let error = verify(&token(Algorithm::Es256, &header, &claims()), &rules(), &keys(), NOW).unwrap_err();
    assert!(!error.to_string().contains("canary"));
}
