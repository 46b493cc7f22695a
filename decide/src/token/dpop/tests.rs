//! Proofs that hold, and every way in which one does not.
use super::*;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

const NOW: u64 = 1_562_262_616;
const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
const NONCE: &str = "a-nonce-of-ours";

fn expected() -> Expected<'static> {
    Expected {
        method: "POST",
        scheme: "https",
        host: "server.example.com",
        port: None,
        path: "/token",
        token: None,
        nonces: None,
        now_s: NOW,
        max_age_s: 60,
        skew_s: 5,
        algorithms: &[Algorithm::Es256, Algorithm::EdDsa],
    }
}

/// RFC 9449, 4.1, figure 2: a proof of somebody else's making.
const OF_THE_RFC: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6Ik\
    VDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCR\
    nMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JE\
    QSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIj\
    oiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwia\
    WF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg\
    4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";

#[test]
fn the_example_of_the_rfc_holds() {
    let proof = verify(OF_THE_RFC, &expected()).unwrap();
    // RFC 9449, 6.1: the thumbprint that tokens of this key are bound to.
    assert_eq!(&*proof.thumbprint, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    assert_eq!(proof.dies_at_s, NOW + 60);
    // RFC 9449, 7.1.
    assert_eq!(hash_of(TOKEN), "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
    let other = Expected { path: "/other", ..expected() };
    assert_eq!(verify(OF_THE_RFC, &other), Err(ProofError::Invalid("`htu` is not the target")));
}

struct Client {
    key: EcdsaKeyPair,
}

impl Client {
    fn new() -> Client {
        Client { key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap() }
    }

    fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..])})
    }

    fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk()})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn claims() -> Value {
    json!({"jti": "-BwC3ESc6acc2lTc", "htm": "POST", "htu": "https://server.example.com/token", "iat": NOW})
}

fn with(mut value: Value, name: &str, member: Value) -> Value {
    value.as_object_mut().unwrap().insert(name.to_owned(), member);
    value
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().unwrap().remove(name);
    value
}

#[test]
fn each_claim_is_checked() {
    let client = Client::new();
    let header = client.header();
    let refused: &[(Value, &str)] = &[
        (without(claims(), "jti"), "`jti` is missing, empty or too long"),
        (with(claims(), "jti", json!("")), "`jti` is missing, empty or too long"),
        (with(claims(), "jti", json!(7)), "`jti` is missing, empty or too long"),
        (with(claims(), "jti", json!("x".repeat(257))), "`jti` is missing, empty or too long"),
        (without(claims(), "htm"), "`htm` is not the method"),
        (with(claims(), "htm", json!("GET")), "`htm` is not the method"),
        (with(claims(), "htm", json!("post")), "`htm` is not the method"),
        (with(claims(), "htm", json!(["POST"])), "`htm` is not the method"),
        (without(claims(), "htu"), "`htu` is missing, empty or too long"),
        (with(claims(), "htu", json!("x".repeat(2100))), "`htu` is missing, empty or too long"),
        (without(claims(), "iat"), "`iat` is missing or not a moment"),
        (with(claims(), "iat", json!("1562262616")), "`iat` is missing or not a moment"),
        (with(claims(), "iat", json!(-5)), "`iat` is missing or not a moment"),
        (with(claims(), "iat", json!(NOW + 6)), "`iat` is in the future"),
        (with(claims(), "iat", json!(NOW - 60)), "it is too old"),
        (with(claims(), "iat", json!(0)), "it is too old"),
    ];
    for (claims, cause) in refused {
        assert_eq!(verify(&client.sign(&header, claims), &expected()), Err(ProofError::Invalid(cause)), "{claims}");
    }
    for fine in [
        claims(),
        with(claims(), "iat", json!(NOW + 5)),
        with(claims(), "iat", json!(NOW - 59)),
        with(claims(), "iat", json!(NOW as f64 + 0.5)),
    ] {
        assert!(verify(&client.sign(&header, &fine), &expected()).is_ok(), "{fine}");
    }
}

#[test]
fn a_target_is_compared_in_one_reading() {
    let client = Client::new();
    let here = Expected { path: "/a/b", ..expected() };
    for (uri, holds) in [
        ("https://server.example.com/a/b", true),
        ("HTTPS://SERVER.example.com/a/b", true),
        ("https://server.example.com:443/a/b", true),
        ("https://server.example.com./a/b", true),
        ("https://server.example.com/%61/b", true),
        ("https://server.example.com/a/b?query=1", true),
        ("https://server.example.com/a/b#fragment", true),
        ("http://server.example.com/a/b", false),
        ("https://server.example.com:444/a/b", false),
        ("https://other.example.com/a/b", false),
        ("https://server.example.com@evil.example/a/b", false),
        ("https://evil.example?https://server.example.com/a/b", false),
        ("https://server.example.com/a/b/", false),
        ("https://server.example.com/a/../a/b", false),
        ("https://server.example.com/a%2fb", false),
        ("https://server.example.com/A/b", false),
        ("https://server.example.com", false),
        ("//server.example.com/a/b", false),
        ("/a/b", false),
        ("https:/server.example.com/a/b", false),
        ("https:///a/b", false),
    ] {
        let proof = client.sign(&client.header(), &with(claims(), "htu", json!(uri)));
        assert_eq!(verify(&proof, &here).is_ok(), holds, "{uri}");
    }
    let root = Expected { path: "/", port: Some(8443), ..expected() };
    let proof = |uri| client.sign(&client.header(), &with(claims(), "htu", json!(uri)));
    assert!(verify(&proof("https://server.example.com:8443"), &root).is_ok());
    assert!(verify(&proof("https://server.example.com/"), &root).is_err());
}

#[test]
fn a_header_brings_one_public_key_and_nothing_else() {
    let client = Client::new();
    let header = client.header();
    let private = with(client.jwk(), "d", json!("AAAA"));
    let weak = json!({"kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([0xff; 128])});
    let off_curve = with(client.jwk(), "x", json!(URL_SAFE_NO_PAD.encode([7; 32])));
    for refused in [
        without(header.clone(), "typ"),
        with(header.clone(), "typ", json!("JWT")),
        with(header.clone(), "typ", json!("at+jwt")),
        without(header.clone(), "alg"),
        with(header.clone(), "alg", json!("none")),
        with(header.clone(), "alg", json!("HS256")),
        with(header.clone(), "alg", json!("ES384")),
        with(header.clone(), "alg", json!("EdDSA")),
        without(header.clone(), "jwk"),
        with(header.clone(), "jwk", json!("https://evil.example/key")),
        with(header.clone(), "jwk", json!({"kty": "oct", "k": "AAAA"})),
        with(header.clone(), "jwk", private),
        with(header.clone(), "jwk", weak),
        with(header.clone(), "jwk", off_curve),
        with(header.clone(), "jwk", with(client.jwk(), "use", json!("enc"))),
        with(header.clone(), "jwk", Client::new().jwk()),
        with(header.clone(), "crit", json!(["jwk"])),
        with(header.clone(), "jku", json!("https://evil.example/keys")),
        with(header.clone(), "x5c", json!([])),
        with(header.clone(), "zip", json!("DEF")),
    ] {
        assert!(verify(&client.sign(&refused, &claims()), &expected()).is_err(), "{refused}");
    }
    for fine in [with(header.clone(), "typ", json!("application/DPoP+JWT")), with(header.clone(), "kid", json!("mine"))]
    {
        assert!(verify(&client.sign(&fine, &claims()), &expected()).is_ok(), "{fine}");
    }
    let twice = header.to_string().replacen('{', "{\"alg\":\"none\",", 1);
    assert!(verify(&client.sign_text(&twice, &claims().to_string()), &expected()).is_err());
    let proof = client.sign(&header, &claims());
    for torn in [&proof[..proof.len() - 4], &format!("{proof}."), &format!("{proof}=="), "", "a.b.c", &"x".repeat(5000)]
    {
        assert!(verify(torn, &expected()).is_err(), "{torn}");
    }
}

#[test]
fn with_a_token_comes_the_hash_of_that_token() {
    let client = Client::new();
    let here = Expected { token: Some(TOKEN), ..expected() };
    for (ath, holds) in [
        (json!(hash_of(TOKEN)), true),
        (json!(hash_of("another")), false),
        (json!(format!("{}=", hash_of(TOKEN))), false),
        (json!(null), false),
    ] {
        let proof = client.sign(&client.header(), &with(claims(), "ath", ath.clone()));
        assert_eq!(verify(&proof, &here).is_ok(), holds, "{ath}");
    }
    assert!(verify(&client.sign(&client.header(), &claims()), &here).is_err());
}

#[test]
fn a_nonce_is_one_of_ours_where_one_is_asked_for() {
    let client = Client::new();
    let ours: [Box<str>; 2] = [NONCE.into(), "the-one-before".into()];
    let here = Expected { nonces: Some(&ours), ..expected() };
    for (nonce, result) in [
        (json!(NONCE), Ok(())),
        (json!("the-one-before"), Ok(())),
        (json!("another"), Err(ProofError::Nonce)),
        (json!(""), Err(ProofError::Nonce)),
        (json!(null), Err(ProofError::Nonce)),
    ] {
        let proof = client.sign(&client.header(), &with(claims(), "nonce", nonce.clone()));
        assert_eq!(verify(&proof, &here).map(|_| ()), result, "{nonce}");
    }
}

#[test]
fn ids_are_per_key() {
    let (one, two) = (Client::new(), Client::new());
    let id = |client: &Client, claims: &Value| verify(&client.sign(&client.header(), claims), &expected()).unwrap().id;
    assert_eq!(id(&one, &claims()), id(&one, &with(claims(), "iat", json!(NOW - 5))));
    assert_ne!(id(&one, &claims()), id(&two, &claims()));
    assert_ne!(id(&one, &claims()), id(&one, &with(claims(), "jti", json!("another"))));
}

/// RFC 8037, A.3: the thumbprint of an Ed25519 key; and a proof by one.
#[test]
fn other_kinds_of_keys() {
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    assert_eq!(
        thumbprint(&json::object(jwk.to_string().as_bytes()).unwrap()).unwrap(),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
    // RFC 7638, 3.1.
    let rsa = json!({"kty": "RSA", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"});
    assert_eq!(
        thumbprint(&json::object(rsa.to_string().as_bytes()).unwrap()).unwrap(),
        "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    );
    let key = Ed25519KeyPair::generate().unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(key.public_key().as_ref())});
    let header = json!({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk});
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims().to_string()));
    let proof = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())));
    assert!(verify(&proof, &expected()).is_ok());
    let only_ecdsa = Expected { algorithms: &[Algorithm::Es256], ..expected() };
    assert!(verify(&proof, &only_ecdsa).is_err());
}
