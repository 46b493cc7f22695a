//! Which events put whom out, and which tokens are none.
use super::event::*;
use super::vectors::{NOW, header, keys, rules, token, token_of};
use super::{Algorithm, KeySet};
use proptest::prelude::*;
use serde_json::{Value, json};

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";

fn event_header() -> Value {
    let mut header = header(Algorithm::Es256);
    header["typ"] = "secevent+jwt".into();
    header
}

fn ann() -> Value {
    json!({"format": "iss_sub", "iss": "https://login.example/", "sub": "ann"})
}

fn claims(uri: &str, event: Value, subject: Value) -> Value {
    json!({
        "iss": "https://login.example/ssf", "aud": ["orders-api"], "jti": "e-1", "iat": NOW - 5,
        "sub_id": subject, "events": {uri: event},
    })
}

fn verified(header: &Value, claims: &Value, keys: &KeySet) -> Result<Events, EventError> {
    let issuer = rules();
    let rules =
        EventRules { transmitter: "https://login.example/ssf", audiences: &["orders-api".to_owned()], issuer: &issuer };
    verify_events(&token(Algorithm::Es256, header, claims), &rules, keys, NOW)
}

fn read(claims: &Value) -> Result<Events, EventError> {
    verified(&event_header(), claims, &keys())
}

/// `name: session user tenant @ seconds ago`, or why not.
fn told(claims: &Value) -> String {
    match read(claims) {
        Err(error) => format!("{}: {error}", error.code()),
        Ok(Events { events, .. }) => {
            let or = |text: &Option<String>| text.clone().unwrap_or("-".to_owned());
            let line = |event: &Event| match &event.ends {
                None => event.name.to_owned(),
                Some(e) => {
                    let (session, user, tenant) = (or(&e.session), or(&e.user), or(&e.tenant));
                    format!("{}: {session} {user} {tenant} @{}", event.name, NOW - e.at_s)
                }
            };
            events.iter().map(line).collect::<Vec<_>>().join(", ")
        }
    }
}

#[test]
fn what_puts_whom_out() {
    let of = |family: &str, name: &str, event: Value| told(&claims(&format!("{family}{name}"), event, ann()));
    for (family, name, event, expected) in [
        (CAEP, "session-revoked", json!({}), "session-revoked: - ann - @5"),
        (CAEP, "session-revoked", json!({"event_timestamp": NOW - 60}), "session-revoked: - ann - @60"),
        (CAEP, "session-revoked", json!({"event_timestamp": (NOW - 60) * 1000}), "session-revoked: - ann - @60"),
        (CAEP, "session-revoked", json!({"event_timestamp": NOW + 900}), "session-revoked: - ann - @5"),
        (CAEP, "credential-change", json!({"change_type": "revoke"}), "credential-change: - ann - @5"),
        (CAEP, "credential-change", json!({"change_type": "create"}), "credential-change"),
        (CAEP, "token-claims-change", json!({"claims": {"roles": []}}), "token-claims-change: - ann - @5"),
        (CAEP, "assurance-level-change", json!({"change_direction": "decrease"}), "assurance-level-change: - ann - @5"),
        (CAEP, "assurance-level-change", json!({"change_direction": "increase"}), "assurance-level-change"),
        (
            CAEP,
            "device-compliance-change",
            json!({"current_status": "not-compliant"}),
            "device-compliance-change: - ann - @5",
        ),
        (CAEP, "device-compliance-change", json!({"current_status": "compliant"}), "device-compliance-change"),
        (CAEP, "session-established", json!({}), "session-established"),
        (CAEP, "session-invented", json!({}), "other"),
        (RISC, "account-disabled", json!({}), "account-disabled: - ann - @5"),
        (RISC, "credential-compromise", json!({}), "credential-compromise: - ann - @5"),
        (RISC, "account-enabled", json!({}), "account-enabled"),
        (SSF, "verification", json!({"state": "x"}), "verification"),
        ("https://example.com/", "anything", json!({}), "other"),
    ] {
        assert_eq!(of(family, name, event.clone()), expected, "{family}{name} {event}");
    }
}

#[test]
fn who_a_subject_is() {
    const FORMAT: &str = "invalid_request: no user or session is known by a subject of this format: send `iss_sub`, or `opaque` with its id";
    let opaque = |id: &str| json!({"format": "opaque", "id": id});
    let email = json!({"format": "email", "email": "ann@example.com"});
    for (subject, expected) in [
        (ann(), "session-revoked: - ann - @5"),
        (opaque("ann"), "session-revoked: - ann - @5"),
        (
            json!({"subject_type": "iss-sub", "iss": "https://login.example/", "sub": "ann"}),
            "session-revoked: - ann - @5",
        ),
        (json!({"format": "complex", "user": ann(), "session": opaque("s-1")}), "session-revoked: s-1 ann - @5"),
        (json!({"user": ann(), "session": opaque("s-1")}), "session-revoked: s-1 ann - @5"),
        (json!({"format": "complex", "session": opaque("s-1")}), "session-revoked: s-1 - - @5"),
        (json!({"format": "complex", "user": ann(), "tenant": opaque("acme")}), "session-revoked: - ann acme @5"),
        (json!({"format": "aliases", "identifiers": [email, ann()]}), "session-revoked: - ann - @5"),
        (json!({"format": "aliases", "identifiers": [{"format": "aliases", "identifiers": [ann()]}]}), FORMAT),
        (email.clone(), FORMAT),
        (json!({"format": "complex", "user": email}), FORMAT),
        (json!({"format": "phone_number", "phone_number": "+1"}), FORMAT),
        (json!({}), FORMAT),
        (
            json!({"format": "iss_sub", "iss": "https://other.example/", "sub": "ann"}),
            "invalid_request: the subject is another issuer's",
        ),
        (
            json!({"format": "complex", "tenant": opaque("acme")}),
            "invalid_request: the subject names neither a user nor a session",
        ),
        (json!({"format": "opaque", "id": ""}), "invalid_request: an id in the subject is not a short string"),
        (json!({"format": "opaque", "id": 7}), "invalid_request: an id in the subject is not a short string"),
        (json!("ann"), "invalid_request: the subject is not an object"),
    ] {
        assert_eq!(told(&claims(&format!("{CAEP}session-revoked"), json!({}), subject.clone())), expected, "{subject}");
    }
    let both = json!({"format": "complex", "user": ann(), "session": opaque("s-1")});
    let change = claims(&format!("{CAEP}credential-change"), json!({"change_type": "update"}), both);
    assert_eq!(told(&change), "credential-change: - ann - @5", "a new password ends all sessions");
    let mut inside = claims(&format!("{CAEP}session-revoked"), json!({"subject": ann()}), Value::Null);
    inside.as_object_mut().unwrap().remove("sub_id");
    assert_eq!(told(&inside), "session-revoked: - ann - @5", "the subject of older senders stands in the event");
    inside["sub_id"] = opaque("bob");
    assert_eq!(told(&inside), "invalid_request: two subjects that differ");
    inside.as_object_mut().unwrap().remove("sub_id");
    inside["events"] = json!({format!("{CAEP}session-revoked"): {}});
    inside["sub"] = "ann".into();
    assert_eq!(told(&inside), "invalid_request: an event without a subject", "`sub` means nothing in an event");
}

#[test]
fn tokens_that_are_no_events() {
    let good = claims(&format!("{CAEP}session-revoked"), json!({}), ann());
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        told(&claims)
    };
    for (name, value, expected) in [
        ("iss", json!("https://login.example/"), "invalid_issuer: `iss` is not the transmitter"),
        ("aud", json!("another"), "invalid_audience: `aud` does not name us"),
        ("aud", json!([]), "invalid_audience: `aud` does not name us"),
        ("jti", json!(""), "invalid_request: `jti` is not a short string"),
        ("jti", json!("x".repeat(257)), "invalid_request: `jti` is not a short string"),
        ("iat", json!(NOW + 31), "invalid_request: `iat` is in the future"),
        ("iat", json!("now"), "invalid_request: `iat` is not a number of seconds"),
        ("events", json!({}), "invalid_request: `events` holds none, or more than 16"),
        ("events", json!([]), "invalid_request: `events` is not an object"),
        ("events", json!({"x": 1}), "invalid_request: an event is not an object"),
    ] {
        assert_eq!(with(name, value), expected, "{name}");
    }
    for typ in ["jwt", "at+jwt", "logout+jwt", "JWT"] {
        let mut header = event_header();
        header["typ"] = typ.into();
        assert_eq!(verified(&header, &good, &keys()).unwrap_err().code(), "invalid_request", "{typ}");
    }
    let mut unknown = event_header();
    unknown["kid"] = "another".into();
    assert_eq!(verified(&unknown, &good, &keys()), Err(EventError::UnknownKey { kid: "another".to_owned() }));
    let forged = token_of(Algorithm::Es256, &event_header().to_string(), &good.to_string());
    let (front, _) = forged.rsplit_once('.').unwrap();
    let issuer = rules();
    let audiences = ["orders-api".to_owned()];
    let rules = EventRules { transmitter: "https://login.example/ssf", audiences: &audiences, issuer: &issuer };
    let other = super::vectors::b64([7; 64]);
    let error = verify_events(&format!("{front}.{other}"), &rules, &keys(), NOW).unwrap_err();
    assert_eq!(error, EventError::Key("the signature does not verify"));
    let twice = good.to_string().replacen("\"jti\":\"e-1\"", "\"jti\":\"e-1\",\"jti\":\"e-2\"", 1);
    let twice = token_of(Algorithm::Es256, &event_header().to_string(), &twice);
    assert_eq!(verify_events(&twice, &rules, &keys(), NOW).unwrap_err().code(), "invalid_request");
}

proptest! {
    #[test]
    fn nothing_panics(subject in any_json(), event in any_json(), name in "[a-z-]{0,24}") {
        let _ = read(&claims(&format!("{CAEP}{name}"), event.clone(), subject.clone()));
        let _ = read(&claims(&format!("{CAEP}session-revoked"), event, subject));
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(iss_sub|opaque|complex|aliases|ann|)".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let name = prop::sample::select(vec![
            "format",
            "iss",
            "sub",
            "id",
            "user",
            "session",
            "identifiers",
            "event_timestamp",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())),
        ]
    })
}
