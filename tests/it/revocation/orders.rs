//! Orders of operators: what each kind of them ends, what it leaves, and what is written down about it.
use super::{ended, revoke};
use crate::harness::{Gateway, PATIENCE, Token, now, read_until, standard};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

const IN: &str = "200";
const OUT: &str = "401 session.revoked";

async fn verdict(gateway: &Gateway, tenant: &str, token: &str) -> String {
    let url = format!("https://{tenant}.localhost/api/bookings");
    gateway.get(&url).bearer(token).send().await.verdict()
}

/// A token of acme that was issued so long ago, with more claims.
fn token(gateway: &Gateway, age: u64, claims: &[(&str, &str)]) -> String {
    let token = Token::of("acme", &["cashier"]).claim("iat", now() - age).without("auth_time");
    let token = claims.iter().fold(token, |token, (name, value)| token.claim(name, *value));
    token.signed(&gateway.bundle.key)
}

/// Since no clock may be waited for: as if the user had signed in after the order.
fn later(gateway: &Gateway, claims: &[(&str, &str)]) -> String {
    let token = Token::of("acme", &["cashier"]).claim("iat", now() + 20).without("auth_time");
    let token = claims.iter().fold(token, |token, (name, value)| token.claim(name, *value));
    token.claim("exp", now() + 600).signed(&gateway.bundle.key)
}

#[tokio::test]
async fn each_kind_of_order_ends_what_it_names_and_leaves_the_rest() {
    let (gateway, upstream) = standard().await;
    let g = &gateway;
    let kid = g.bundle.key.kid.clone();
    for (round, args, scope, revived) in [
        ("1", &["--token-id", "tok-1"][..], "token", false),
        ("2", &["--session", "sid-2", "--issuer", "workforce"], "session", false),
        ("3", &["--subject", "ann-3"], "subject", true),
        ("4", &["--subject", "ann-4", "--tenant", "acme", "--issuer", "workforce"], "subject", true),
    ] {
        // Each round has a user, a token and a session of its own: marks stay.
        let [ann, bob, t1, t2, s1, s2] =
            ["ann-", "bob-", "tok-", "tok-of-bob-", "sid-", "sid-of-bob-"].map(|name| format!("{name}{round}"));
        let hers = [("sub", ann.as_str()), ("jti", &t1), ("sid", &s1)];
        let his = [("sub", bob.as_str()), ("jti", &t2), ("sid", &s2)];
        let (first, other) = (token(g, 30, &hers), token(g, 30, &his));
        // Twice: the second time it is remembered.
        for _ in 0..2 {
            assert_eq!((verdict(g, "acme", &first).await, verdict(g, "acme", &other).await), (IN.into(), IN.into()));
        }
        let told = ended(g, args);
        assert!(told.starts_with("ended: 1 tokens seen here lately"), "{told}");
        assert_eq!(verdict(g, "acme", &first).await, OUT, "{scope}");
        assert_eq!(verdict(g, "acme", &token(g, 29, &hers)).await, OUT, "{scope}: another token of hers");
        assert_eq!(verdict(g, "acme", &other).await, IN, "{scope}");
        let again = verdict(g, "acme", &later(g, &hers)).await;
        assert_eq!(again, if revived { IN } else { OUT }, "{scope}");
        let handle = told.split("mark: ").nth(1).unwrap().trim();
        let entry = g.audit_entry(|entry| entry["detail"]["handle"] == handle).await;
        assert_eq!((&entry["event"], &entry["actor"]), (&"revoke".into(), &"olga".into()), "{entry:#}");
        assert_eq!((&entry["detail"]["scope"], &entry["detail"]["via"]), (&scope.into(), &"admin".into()));
        let text = entry.to_string();
        assert!(!text.contains(&t1) && !text.contains(&s1), "ids are not written down: {text}");
    }

    let reached = upstream.seen().len();
    let (globex, acme) = (g.token("globex", &["cashier"]), token(g, 30, &[]));
    ended(g, &["--tenant", "acme", "--yes"]);
    assert_eq!((verdict(g, "acme", &acme).await, verdict(g, "globex", &globex).await), (OUT.into(), IN.into()));
    assert_eq!(verdict(g, "acme", &later(g, &[])).await, IN);
    ended(g, &["--issuer", "workforce", "--yes"]);
    assert_eq!(verdict(g, "globex", &globex).await, OUT);
    assert_eq!(verdict(g, "acme", &later(g, &[])).await, IN);
    ended(g, &["--key", &kid, "--yes"]);
    assert_eq!(verdict(g, "acme", &later(g, &[])).await, OUT, "a stolen key signs whatever time it wants");
    assert_eq!(upstream.seen().len(), reached + 3, "only what was let in reached the application");
    let metrics = g.metrics().await;
    for line in [
        "moat_revocations{kind=\"token\"} 1",
        "moat_revocations{kind=\"subject\"} 2",
        "moat_revocations{kind=\"key\"} 1",
        "moat_revocation_orders_total{kind=\"tenant\",result=\"ok\",via=\"admin\"} 1",
        "moat_revocation_propagation_seconds_count 7",
    ] {
        assert!(metrics.contains(line), "`{line}` in {metrics}");
    }
}

#[tokio::test]
async fn a_user_who_signed_in_before_stays_out_with_every_token_that_is_refreshed() {
    let (gateway, _upstream) = standard().await;
    ended(&gateway, &["--subject", "someone@acme"]);
    let refreshed = Token::of("acme", &["cashier"]).claim("iat", now() + 20).claim("auth_time", now() - 60);
    assert_eq!(verdict(&gateway, "acme", &refreshed.signed(&gateway.bundle.key)).await, OUT);
    let anew = Token::of("acme", &["cashier"]).claim("iat", now() + 20).claim("auth_time", now() + 19);
    assert_eq!(verdict(&gateway, "acme", &anew.signed(&gateway.bundle.key)).await, IN);
}

#[tokio::test]
async fn a_user_of_that_name_in_another_tenant_notices_nothing() {
    let (gateway, _upstream) = standard().await;
    let of = |tenant: &str| Token::of(tenant, &["cashier"]).claim("sub", "admin").signed(&gateway.bundle.key);
    let (acme, globex) = (of("acme"), of("globex"));
    ended(&gateway, &["--subject", "admin", "--tenant", "acme"]);
    assert_eq!(
        (verdict(&gateway, "acme", &acme).await, verdict(&gateway, "globex", &globex).await),
        (OUT.into(), IN.into())
    );
    ended(&gateway, &["--subject", "admin"]);
    assert_eq!(verdict(&gateway, "globex", &globex).await, OUT);
}

#[tokio::test]
async fn what_was_ended_is_still_ended_after_a_power_cut() {
    let (gateway, _upstream) = standard().await;
    let token = gateway.token("acme", &["cashier"]);
    assert_eq!(verdict(&gateway, "acme", &token).await, IN);
    ended(&gateway, &["--subject", "someone@acme"]);
    let gateway = gateway.restart().await;
    gateway.until("the marks were read", async |g: &Gateway| g.admin("/readyz").await.status == 200).await;
    assert_eq!(verdict(&gateway, "acme", &token).await, OUT);
}

#[tokio::test]
async fn a_mass_order_needs_a_yes_and_says_how_many_it_would_end() {
    let (gateway, _upstream) = standard().await;
    let token = gateway.token("acme", &["cashier"]);
    assert_eq!(verdict(&gateway, "acme", &token).await, IN);
    for args in [&["--tenant", "acme"][..], &["--issuer", "workforce"], &["--key", "main"]] {
        let unsure = revoke(&gateway, args);
        assert_eq!(unsure.code, Some(5), "{unsure:?}");
        assert!(unsure.stdout.starts_with("would end: "), "{unsure:?}");
        assert!(unsure.stderr.contains("say so with `--yes`"), "{unsure:?}");
    }
    let dry = revoke(&gateway, &["--tenant", "acme", "--dry-run", "--json"]);
    let receipt: serde_json::Value = serde_json::from_str(&dry.stdout).unwrap();
    assert_eq!((dry.code, &receipt["ended"], &receipt["tokens"]), (Some(0), &false.into(), &1.into()));
    assert_eq!(verdict(&gateway, "acme", &token).await, IN, "nothing was ended");
}

#[tokio::test]
async fn orders_that_cannot_be_meant_are_refused_with_a_reason() {
    let (gateway, _upstream) = standard().await;
    for (args, words) in [
        (&[][..], "nothing is named"),
        (&["--tenant", "acmee", "--yes"], "there is no tenant `acmee`"),
        (
            &["--subject", "ann", "--issuer", "workforse"],
            "there is no issuer `workforse`\n  hint: did you mean `workforce`?",
        ),
        (&["--session", "s", "--tenant", "acme"], "`--tenant` goes alone or with `--subject`"),
        (&["--tenant", "acme", "--issuer", "workforce"], "leave `--issuer` out"),
    ] {
        let output = revoke(&gateway, args);
        assert!(output.code == Some(1) && output.stderr.contains(words), "{args:?}: {output:?}");
    }
    assert_eq!(revoke(&gateway, &["--session", "s", "--subject", "t"]).code, Some(2), "two things at once");
}

#[tokio::test]
async fn no_web_page_can_give_the_order() {
    let (gateway, _upstream) = standard().await;
    let body = r#"{"what":{"tenant":{"id":"acme"}},"dry_run":false,"actor":null}"#;
    for (more, status) in [
        ("", "403"),
        ("x-moat-admin: 1\r\norigin: http://evil.example\r\n", "403"),
        ("x-moat-admin: 1\r\nsec-fetch-site: cross-site\r\n", "403"),
        ("x-moat-admin: 1\r\n", "200"),
    ] {
        let mut stream = TcpStream::connect(gateway.address("admin")).await.unwrap();
        let head = format!(
            "POST /sessions/revoke HTTP/1.1\r\nhost: localhost\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = timeout(PATIENCE, read_until(&mut stream, "\r\n\r\n")).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{more}: {answer}");
    }
}

#[tokio::test]
async fn operators_can_be_left_out() {
    let (gateway, _upstream) = crate::harness::with(|bundle| {
        bundle.replace("sessions:\n", "sessions:\n  revocation: {listen: [users]}\n");
    })
    .await;
    let output = revoke(&gateway, &["--subject", "ann"]);
    assert!(output.code == Some(1) && output.stderr.contains("does not list `admin`"), "{output:?}");
}
