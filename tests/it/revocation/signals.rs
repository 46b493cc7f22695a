//! Security events pushed by an issuer: what they end, when they are accepted, and how others are refused.
use crate::harness::{Gateway, Reply, Token, now, with};
use serde_json::{Map, Value, json};

const SIGNALS: &str = "https://acme.localhost/.moat/signals/workforce";
const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";

async fn gateway() -> Gateway {
    let (gateway, upstream) = with(|bundle| {
        bundle.replace(
            "issuers:\n  workforce:\n",
            "issuers:\n  workforce:\n    signals: {caep: \"https://login.test/ssf\"}\n",
        );
    })
    .await;
    // It answers for as long as its process lives.
    std::mem::forget(upstream);
    gateway
}

/// An event about a user, signed by the issuer's key.
pub fn event(gateway: &Gateway, name: &str, user: &str, change: impl FnOnce(&mut Map<String, Value>)) -> String {
    let header = json!({"alg": "ES256", "typ": "secevent+jwt"});
    let claims = json!({
        "iss": "https://login.test/ssf", "aud": "northlane-api", "iat": now(), "jti": format!("{name} {user}"),
        "sub_id": {"format": "iss_sub", "iss": "https://login.test/", "sub": user},
        "events": {format!("{CAEP}{name}"): {"event_timestamp": now()}},
    });
    let mut token = Token { header: header.as_object().unwrap().clone(), claims: claims.as_object().unwrap().clone() };
    change(&mut token.claims);
    token.signed(&gateway.bundle.key)
}

pub async fn push(gateway: &Gateway, token: &str) -> Reply {
    let call = gateway.call("POST", SIGNALS).header("content-type", "application/secevent+jwt");
    call.body(token.to_owned()).send().await
}

async fn verdict(gateway: &Gateway, user: &str) -> String {
    let token = Token::of("acme", &["cashier"]).claim("sub", user).signed(&gateway.bundle.key);
    gateway.get("https://acme.localhost/api/bookings").bearer(&token).send().await.verdict()
}

#[tokio::test]
async fn an_event_is_accepted_once_what_it_ends_is_ended() {
    let gateway = gateway().await;
    for name in ["session-revoked", "credential-change", "token-claims-change"] {
        let user = format!("user of {name}");
        assert_eq!(verdict(&gateway, &user).await, "200");
        let token = event(&gateway, name, &user, |_| ());
        let accepted = push(&gateway, &token).await;
        assert_eq!((accepted.status, accepted.text().as_str()), (202, ""), "{name}");
        assert_eq!(verdict(&gateway, &user).await, "401 session.revoked", "{name}");
        assert_eq!(push(&gateway, &token).await.status, 202, "what is sent again is accepted again");
    }
    assert_eq!(verdict(&gateway, "somebody else").await, "200");
    // The session alone, where one is named.
    let session = |claims: &mut Map<String, Value>| {
        let user = json!({"format": "iss_sub", "iss": "https://login.test/", "sub": "carl"});
        let session = json!({"format": "opaque", "id": "session-1"});
        claims.insert("sub_id".into(), json!({"format": "complex", "user": user, "session": session}));
    };
    assert_eq!(push(&gateway, &event(&gateway, "session-revoked", "carl", session)).await.status, 202);
    let of =
        |sid: &str| Token::of("acme", &["cashier"]).claim("sub", "carl").claim("sid", sid).signed(&gateway.bundle.key);
    let get =
        async |token: String| gateway.get("https://acme.localhost/api/bookings").bearer(&token).send().await.verdict();
    assert_eq!(get(of("session-1")).await, "401 session.revoked");
    assert_eq!(get(of("session-2")).await, "200");
    let entry =
        gateway.audit_entry(|e| e["event"] == "revoke" && e["detail"]["subject"] == "user of credential-change").await;
    assert_eq!((&entry["actor"], &entry["detail"]["via"]), (&"workforce".into(), &"signals".into()), "{entry:#}");
    let metrics = gateway.metrics().await;
    for line in [
        "moat_signals_total{event=\"session-revoked\",issuer=\"workforce\",result=\"ended\"} 2",
        "moat_signals_total{event=\"none\",issuer=\"workforce\",result=\"again\"} 3",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn what_is_no_event_of_the_issuer_is_refused_in_the_words_of_the_standard() {
    let gateway = gateway().await;
    let of = |change: fn(&mut Map<String, Value>)| event(&gateway, "session-revoked", "ann", change);
    let access = Token::of("acme", &["cashier"]).claim("sub", "ann").signed(&gateway.bundle.key);
    let stranger = crate::harness::TokenKey::new(&gateway.bundle.key.kid);
    let mut forged = Token::of("acme", &[]);
    forged.header.insert("typ".into(), "secevent+jwt".into());
    for (token, code) in
        [
            (String::new(), "invalid_request"),
            ("not a token".to_owned(), "invalid_request"),
            (access, "invalid_request"),
            (forged.signed(&stranger), "invalid_key"),
            (of(|claims| drop(claims.insert("iss".into(), "https://login.test/".into()))), "invalid_issuer"),
            (of(|claims| drop(claims.insert("aud".into(), "another".into()))), "invalid_audience"),
            (
                of(|claims| drop(claims.insert("sub_id".into(), json!({"format": "email", "email": "a@b"})))),
                "invalid_request",
            ),
            (
                of(|claims| {
                    drop(claims.insert(
                        "sub_id".into(),
                        json!({"format": "iss_sub", "iss": "https://other.test/", "sub": "ann"}),
                    ));
                }),
                "invalid_request",
            ),
        ]
    {
        let reply = push(&gateway, &token).await;
        assert_eq!((reply.status, &reply.json()["err"]), (400, &code.into()), "{}", reply.text());
        assert!(reply.json()["description"].is_string() && reply.header("content-language").as_deref() == Some("en"));
    }
    let plain = gateway.call("POST", SIGNALS).header("content-type", "application/jwt").body(of(|_| ())).send().await;
    assert_eq!((plain.status, &plain.json()["err"]), (400, &"invalid_request".into()));
    assert_eq!(verdict(&gateway, "ann").await, "200", "nothing was ended");
    let elsewhere = SIGNALS.replace("workforce", "nobody");
    let reply = gateway.call("POST", &elsewhere).header("content-type", "application/secevent+jwt").body(of(|_| ()));
    assert_eq!(reply.send().await.verdict(), "404 route.unknown");
}

#[tokio::test]
async fn a_delivery_carries_what_the_stream_was_set_up_with() {
    let (gateway, _upstream) = with(|bundle| {
        bundle.replace(
            "issuers:\n  workforce:\n",
            "issuers:\n  workforce:\n    signals: {caep: \"https://login.test/ssf\", authorization: {file: stream-word}}\n",
        );
        bundle.write("stream-word", "Bearer 0123456789abcdef\n");
    })
    .await;
    let token = event(&gateway, "session-revoked", "dora", |_| ());
    let deliver = async |words: &[&str]| {
        let call = gateway.call("POST", SIGNALS).header("content-type", "application/secevent+jwt");
        let call = words.iter().fold(call, |call, word| call.header("authorization", word));
        let reply = call.body(token.clone()).send().await;
        let error =
            serde_json::from_slice::<Value>(&reply.body).ok().and_then(|body| body["err"].as_str().map(str::to_owned));
        (reply.status, error.unwrap_or_default())
    };
    let (right, refused) = ("Bearer 0123456789abcdef", (400, "authentication_failed".to_owned()));
    // Two of them are refused as ambiguous, before anybody is asked.
    for words in [&[][..], &["Bearer 0123456789abcdeg"], &["bearer 0123456789abcdef"], &["Bearer 0123456789abcde"]] {
        assert_eq!(deliver(words).await, refused, "{words:?}");
    }
    assert_eq!(verdict(&gateway, "dora").await, "200");
    assert_eq!(deliver(&[right]).await, (202, String::new()));
    assert_eq!(verdict(&gateway, "dora").await, "401 session.revoked");
}
