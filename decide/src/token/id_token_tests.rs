//! ID tokens and logout tokens: what verifies, and what a hostile or broken provider could send instead.
use super::vectors::*;
use super::*;
use crate::revocation::Target;
use serde_json::{Value, json};

const CLIENT: &str = "moat";
const ACCESS: &str = "an-access-token";

fn client_rules() -> IssuerRules {
    IssuerRules { audiences: vec![CLIENT.to_owned()], max_lifetime_s: None, ..rules() }
}

fn id_claims() -> Value {
    json!({
        "iss": "https://login.example/", "aud": CLIENT, "sub": "user-1", "nonce": "n-1", "iat": NOW, "exp": NOW + 300,
        "auth_time": NOW - 5, "acr": "mfa", "amr": ["pwd", "otp"], "sid": "s-1", "tenant": "acme", "roles": ["clerk"],
    })
}

fn id_header(algorithm: Algorithm) -> Value {
    json!({"alg": algorithm.as_str(), "kid": kid(algorithm), "typ": "JWT"})
}

const EXPECTED: IdTokenRules<'static> =
    IdTokenRules { client_id: CLIENT, nonce: "n-1", access_token: Some(ACCESS), not_before_s: NOW - 60 };

fn judged(header: &Value, claims: &Value, expected: &IdTokenRules<'_>) -> String {
    let token = token(Algorithm::Es256, header, claims);
    match verify_id_token(&token, &client_rules(), expected, &keys(), NOW) {
        Ok(_) => "valid".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The base object with members changed; `null` removes one.
fn with(mut base: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(base.as_object_mut().unwrap().remove(name)),
            value => base[name] = value.clone(),
        }
    }
    base
}

#[test]
fn an_id_token_names_the_user_and_the_session() {
    for algorithm in Algorithm::ALL {
        let token = token(algorithm, &id_header(algorithm), &id_claims());
        let identity = verify_id_token(&token, &client_rules(), &EXPECTED, &keys(), NOW).unwrap();
        assert_eq!((&*identity.subject.0, identity.tenant.as_deref()), ("user-1", Some("acme")));
        assert_eq!(identity.session, Some(rules().session_hash("s-1")));
        assert_eq!((identity.auth_time, identity.acr.as_deref()), (Some(NOW - 5), Some("mfa")));
        // The session that comes of it ends with the key, should that be stolen.
        let key = Target::Key { issuer: "https://login.example/", id: kid(algorithm) };
        assert!(identity.handles.has(&key));
    }
}

#[test]
fn every_claim_counts() {
    let es = || id_header(Algorithm::Es256);
    for (change, expected) in [
        (json!({}), "valid"),
        (json!({"iss": "https://evil.example/"}), "`iss` is not this issuer"),
        (json!({"iss": "https://login.example"}), "`iss` is not this issuer"),
        (json!({"aud": "orders-api"}), "`aud` does not name us"),
        (json!({"aud": null}), "`aud` does not name us"),
        (json!({"aud": [CLIENT]}), "valid"),
        (json!({"aud": [CLIENT, "other"]}), "several audiences, and no `azp`"),
        (json!({"aud": [CLIENT, "other"], "azp": CLIENT}), "valid"),
        (json!({"azp": CLIENT}), "valid"),
        (json!({"azp": "other"}), "`azp` is another client"),
        (json!({"azp": [CLIENT]}), "`azp` is another client"),
        (json!({"nonce": null}), "`nonce` is not the flow's"),
        (json!({"nonce": "n-2"}), "`nonce` is not the flow's"),
        (json!({"nonce": ["n-1"]}), "`nonce` is not the flow's"),
        (json!({"iat": NOW - 10, "exp": NOW}), "the ID token has expired"),
        (json!({"exp": NOW}), "`exp` is not after `iat`"),
        (json!({"exp": null}), "`exp` is missing"),
        (json!({"iat": NOW + 31}), "`iat` is in the future"),
        (json!({"iat": NOW - 90}), "valid"),
        (json!({"iat": NOW - 91}), "the ID token is older than the sign-in"),
        (json!({"iat": null}), "`iat` is missing"),
        (json!({"sub": null}), "`sub` is missing, empty or too long"),
        (json!({"sub": ""}), "`sub` is missing, empty or too long"),
        (json!({"auth_time": NOW + 31}), "the time of authentication is in the future"),
        (json!({"at_hash": "AAAA"}), "`at_hash` is not that of the access token"),
        (json!({"at_hash": 1}), "`at_hash` is not that of the access token"),
        // left half of SHA-256 of the access token
        (json!({"at_hash": half(ACCESS)}), "valid"),
        (json!({"events": {}}), "a security event, not an ID token"),
    ] {
        assert_eq!(judged(&es(), &with(id_claims(), change.clone()), &EXPECTED), expected, "{change}");
    }
    let bare = IdTokenRules { access_token: None, ..EXPECTED };
    let named = with(id_claims(), json!({"at_hash": half(ACCESS)}));
    assert_eq!(judged(&es(), &named, &bare), "`at_hash` is not that of the access token");
}

fn half(text: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    b64(&hash.as_ref()[..16])
}

#[test]
fn the_header_counts_too() {
    let es = |change: Value| with(id_header(Algorithm::Es256), change);
    for (header, expected) in [
        (es(json!({"typ": null})), "valid"),
        (es(json!({"typ": "application/jwt"})), "valid"),
        (es(json!({"typ": "at+jwt"})), "`typ` is that of another kind of token"),
        (es(json!({"typ": "logout+jwt"})), "`typ` is that of another kind of token"),
        (es(json!({"alg": "none"})), "`alg` is missing or not one of ours"),
        (es(json!({"alg": "HS256"})), "`alg` is missing or not one of ours"),
        (es(json!({"alg": "RS256"})), "the algorithm does not belong to the key"),
        (es(json!({"kid": "other"})), "no key of the issuer has the token's key id"),
        (es(json!({"jwk": {}})), "a header parameter that is never accepted"),
    ] {
        assert_eq!(judged(&header, &id_claims(), &EXPECTED), expected, "{header}");
    }
    // `alg: none` as the attack writes it, with nothing behind the last dot.
    let bare = format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64(id_claims().to_string()));
    let unsigned = verify_id_token(&bare, &client_rules(), &EXPECTED, &keys(), NOW);
    assert_eq!(unsigned, Err(TokenError::Invalid("not three segments")));
    let only = IssuerRules { algorithms: vec![Algorithm::EdDsa], ..client_rules() };
    let token = token(Algorithm::Es256, &id_header(Algorithm::Es256), &id_claims());
    let other = verify_id_token(&token, &only, &EXPECTED, &keys(), NOW);
    assert_eq!(other, Err(TokenError::Invalid("the algorithm is not allowed for this issuer")));
}

fn logout_claims() -> Value {
    json!({
        "iss": "https://login.example/", "aud": CLIENT, "iat": NOW - 1, "exp": NOW + 120, "jti": "j-1", "sub": "user-1",
        "sid": "s-1", "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    })
}

#[test]
fn a_logout_token_is_one_and_nothing_else_is() {
    let judged = |header: &Value, claims: &Value| {
        let token = token(Algorithm::Es256, header, claims);
        match verify_logout_token(&token, &client_rules(), &keys(), NOW) {
            Ok(token) => {
                let whom = [token.subject.is_some().then_some("sub"), token.session.is_some().then_some("sid")];
                format!("ends {}", whom.into_iter().flatten().collect::<Vec<_>>().join(" and "))
            }
            Err(error) => error.to_string(),
        }
    };
    let header = json!({"alg": "ES256", "kid": kid(Algorithm::Es256), "typ": "logout+jwt"});
    for (change, expected) in [
        (json!({}), "ends sub and sid"),
        (json!({"sid": null}), "ends sub"),
        (json!({"sub": null}), "ends sid"),
        (json!({"sub": null, "sid": null}), "a logout of nobody: neither `sub` nor a session"),
        (json!({"exp": null}), "ends sub and sid"),
        (json!({"exp": NOW}), "the logout token has expired"),
        (json!({"nonce": "n-1"}), "a logout token has no `nonce`"),
        (json!({"events": null}), "`events` does not hold a logout"),
        (json!({"events": {}}), "`events` does not hold a logout"),
        (json!({"events": ["http://schemas.openid.net/event/backchannel-logout"]}), "`events` does not hold a logout"),
        (
            json!({"events": {"http://schemas.openid.net/event/backchannel-logout": 1}}),
            "`events` does not hold a logout",
        ),
        (json!({"jti": null}), "`jti` is missing or not a short string"),
        (json!({"jti": ""}), "`jti` is missing or not a short string"),
        (json!({"iat": null}), "`iat` is missing"),
        (json!({"iat": NOW + 31}), "`iat` is in the future"),
        (json!({"iat": NOW - 601}), "the logout token is older than ten minutes"),
        (json!({"aud": "other"}), "`aud` does not name us"),
        (json!({"iss": "https://evil.example/"}), "`iss` is not this issuer"),
        (json!({"sid": 5}), "the session claim is not a short string"),
    ] {
        assert_eq!(judged(&header, &with(logout_claims(), change.clone())), expected, "{change}");
    }
    for (change, expected) in [
        (json!({"typ": null}), "ends sub and sid"),
        (json!({"typ": "JWT"}), "ends sub and sid"),
        (json!({"typ": "at+jwt"}), "`typ` is that of another kind of token"),
        (json!({"alg": "none"}), "`alg` is missing or not one of ours"),
    ] {
        assert_eq!(judged(&with(header.clone(), change.clone()), &logout_claims()), expected, "{change}");
    }
    // And the two kinds cannot be passed off as each other.
    assert_eq!(judged(&id_header(Algorithm::Es256), &id_claims()), "`events` does not hold a logout");
}
