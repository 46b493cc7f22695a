//! Answers of introspection endpoints: who passes, who is refused, and what is no answer at all.
use super::vectors::*;
use super::*;
use crate::facts::Bound;
use serde_json::{Value, json};

const ALL: [Member; 4] = [Member::Iss, Member::Aud, Member::Iat, Member::TokenType];

fn answer() -> Value {
    let mut members = claims();
    members["active"] = json!(true);
    members["token_type"] = json!("Bearer");
    members["client_id"] = json!("app");
    members
}

fn with(changes: &Value) -> Value {
    let mut members = answer();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(members.as_object_mut().unwrap().remove(name)),
            value => members[name] = value.clone(),
        }
    }
    members
}

fn read(body: &str, may_lack: &[Member]) -> String {
    match introspected(body.as_bytes(), &rules(), may_lack, NOW) {
        Introspected::Active(identity) if identity.expires_at <= NOW => "expired".to_owned(),
        Introspected::Active(identity) => match &identity.bound_to {
            Some(Bound::Key(key)) => format!("active, bound to {key}"),
            Some(Bound::Certificate(certificate)) => format!("active, bound to certificate {certificate}"),
            None => "active".to_owned(),
        },
        Introspected::Refused(cause) => cause.to_owned(),
        Introspected::Nonsense(cause) => format!("nonsense: {cause}"),
    }
}

#[test]
fn an_active_token_names_whom_a_signed_one_would() {
    let Introspected::Active(asked) = introspected(answer().to_string().as_bytes(), &rules(), &[], NOW) else {
        panic!("not active");
    };
    let signed = verify(&good(Algorithm::Es256), &rules(), &keys(), NOW).unwrap();
    assert_eq!((&asked.subject, &asked.tenant, &asked.roles), (&signed.subject, &signed.tenant, &signed.roles));
    assert_eq!((&asked.session, asked.auth_time, &asked.acr), (&signed.session, signed.auth_time, &signed.acr));
    assert_eq!((asked.issued_at, asked.expires_at), (signed.issued_at, signed.expires_at));
}

#[test]
fn each_member_counts() {
    let key = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
    let bound = format!("active, bound to {key}");
    let certified = format!("active, bound to certificate {key}");
    const UNCHECKED: &str = "the token is bound to something that is not checked here";
    const NO_ACCESS: &str = "the token is no access token";
    const UNSAID: &str = "nonsense: its answer does not say whether the token is active";
    for (change, expected) in [
        (json!({}), "active"),
        (json!({"active": false}), "the issuer says that the token is not active"),
        (json!({"active": "true"}), UNSAID),
        (json!({"active": 1}), UNSAID),
        (json!({"active": null}), UNSAID),
        (json!({"iss": "https://evil.example/"}), "`iss` is not this issuer"),
        (json!({"iss": null}), "`iss` is not this issuer"),
        (json!({"aud": "another-api"}), "`aud` does not name us"),
        (json!({"aud": []}), "`aud` does not name us"),
        (json!({"aud": null}), "`aud` does not name us"),
        (json!({"sub": null}), "`sub` is missing, empty or too long"),
        (json!({"sub": "a\nb"}), "`sub` is missing, empty or too long"),
        (json!({"exp": null}), "`exp` is missing"),
        (json!({"exp": NOW}), "expired"),
        (json!({"exp": "soon"}), "a date is not a number of seconds since 1970"),
        (json!({"nbf": NOW + 3600}), "`nbf` is in the future"),
        (json!({"iat": NOW + 3600, "exp": NOW + 7200}), "`iat` is in the future"),
        (json!({"iat": null}), "`iat` is missing"),
        (json!({"token_type": null}), "`token_type` is missing"),
        (json!({"token_type": "bearer"}), "active"),
        (json!({"token_type": "refresh_token"}), NO_ACCESS),
        (json!({"token_type": "N_A"}), NO_ACCESS),
        (json!({"token_use": "refresh_token"}), NO_ACCESS),
        (json!({"typ": "Refresh"}), NO_ACCESS),
        (json!({"typ": "ID"}), NO_ACCESS),
        (json!({"typ": "Bearer", "token_use": "access_token"}), "active"),
        (json!({"cnf": {"jkt": key}}), &*bound),
        (json!({"cnf": {"jkt": key}, "token_type": "DPoP"}), &bound),
        (json!({"token_type": "DPoP"}), "`token_type` is `DPoP`, and the token is bound to no key"),
        (json!({"cnf": {"x5t#S256": key}}), &certified),
        (
            json!({"cnf": {"x5t#S256": key}, "token_type": "DPoP"}),
            "`token_type` is `DPoP`, and the token is bound to no key",
        ),
        (json!({"cnf": {"jkt": key, "x5t#S256": key}}), "`cnf` is not a confirmation"),
        (json!({"cnf": {"jkt": key, "kid": "k"}}), UNCHECKED),
        (json!({"cnf": {"jwe": "x"}}), UNCHECKED),
        (json!({"cnf": {}}), UNCHECKED),
        (json!({"cnf": {"jkt": "short"}}), "`cnf` is not a confirmation"),
        (json!({"cnf": "x"}), "`cnf` is not a confirmation"),
        (json!({"roles": {"admin": true}}), "the roles claim is not a short list of names"),
    ] {
        assert_eq!(read(&with(&change).to_string(), &[]), expected, "{change}");
    }
    for body in ["", "[]", "true", "<html>", "{\"active\":true", "{\"active\":true,\"active\":false}"] {
        assert_eq!(read(body, &ALL), "nonsense: its answer is not one strict JSON object", "{body}");
    }
}

/// What may be left out may be left out; it may not be wrong.
#[test]
fn a_member_that_may_be_lacking_still_counts_where_it_stands() {
    for (member, name, wrong, cause) in [
        (Member::Iss, "iss", json!("https://evil.example/"), "`iss` is not this issuer"),
        (Member::Aud, "aud", json!("another-api"), "`aud` does not name us"),
        (Member::Iat, "iat", json!("x"), "a date is not a number of seconds since 1970"),
        (Member::TokenType, "token_type", json!("refresh_token"), "the token is no access token"),
    ] {
        let without = with(&json!({name: null})).to_string();
        assert_eq!(read(&without, &[member]), "active", "{name}");
        let others: Vec<Member> = ALL.into_iter().filter(|other| *other != member).collect();
        assert_ne!(read(&without, &others), "active", "{name}");
        assert_eq!(read(&with(&json!({name: wrong})).to_string(), &ALL), cause, "{name}");
        // In JSON, `null` stands there.
        let mut null = answer();
        null[name] = Value::Null;
        assert_ne!(read(&null.to_string(), &ALL), "active", "{name}");
    }
    let bare = with(&json!({"iat": null, "auth_time": null, "exp": NOW + 9_999_999})).to_string();
    let Introspected::Active(identity) = introspected(bare.as_bytes(), &rules(), &ALL, NOW) else { panic!("{bare}") };
    assert_eq!(identity.issued_at, 0, "as old as can be: every revocation counts");
}

#[test]
fn signed_tokens_are_told_from_opaque_ones() {
    assert!(!is_opaque(&good(Algorithm::Es256)));
    for token in ["", "abc", "a.b", "a.b.c", "ory_at_x.y.z", "a.b.c.d.e", "e30", "W10.e30.e30"] {
        assert!(is_opaque(token), "{token}");
    }
    assert!(!is_opaque("e30.x.y"), "a header that is an object");
    for (token, expected) in
        [("abc-._~+/=", true), ("", false), ("a b", false), ("a\"b", false), ("a&b", false), ("\u{e4}", false)]
    {
        assert_eq!(is_token(token), expected, "{token}");
    }
    assert!(is_token(&"a".repeat(MAX_TOKEN_BYTES)) && !is_token(&"a".repeat(MAX_TOKEN_BYTES + 1)));
}
