//! Whose token is good for whom, for how long, and under which key.
use super::*;
use crate::facts::Person;
use crate::guards::tests::plain_identity;
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000;
const HOUR: u32 = 3600;

fn submit() -> Submit {
    Submit {
        cookie: "__Host-csrf".into(),
        header: Some(HeaderName::from_static("x-csrf-token")),
        field: Some("csrf_token".into()),
        max_age_s: HOUR,
        inspect: 1024,
    }
}

fn keys(secrets: &[&str]) -> Keys {
    Keys::derive(secrets.iter().map(|secret| secret.as_bytes()))
}

fn session(id: &str) -> Identity {
    Identity { session: Some(id.into()), ..plain_identity() }
}

/// Of what a desk is made, to be changed one by one.
struct Setup {
    submit: Submit,
    keys: Keys,
    host: &'static str,
    tenant: Option<&'static str>,
    identity: Option<Identity>,
    now_s: u64,
}

fn setup() -> Setup {
    Setup {
        submit: submit(),
        keys: keys(&["first"]),
        host: "acme.localhost",
        tenant: Some("acme"),
        identity: Some(session("s1")),
        now_s: NOW,
    }
}

impl Setup {
    fn desk(&self) -> Desk<'_> {
        let holder = Holder { host: self.host, tenant: self.tenant, identity: self.identity.as_ref() };
        Desk { submit: &self.submit, keys: &self.keys, holder, now_s: self.now_s }
    }

    fn issue(&self, nonce: u8) -> String {
        let line = self.desk().due([], || [nonce; NONCE]).unwrap();
        let (_, rest) = line.to_str().unwrap().split_once('=').unwrap();
        rest.split_once(';').unwrap().0.to_owned()
    }

    /// What becomes of `sent` beside a `Cookie` header.
    fn told(&self, cookie: &str, sent: &str) -> String {
        match self.desk().check([cookie.as_bytes()], sent) {
            Ok(()) => "ok".to_owned(),
            Err(refusal) => format!("{} {}", refusal.code.id(), refusal.cause),
        }
    }

    fn both(&self, token: &str) -> String {
        self.told(&format!("a=1; __Host-csrf={token}"), token)
    }
}

#[test]
fn a_token_is_good_for_whom_it_was_made() {
    let ours = setup();
    let token = ours.issue(7);
    assert_eq!(token.len(), LENGTH);
    assert_eq!(ours.both(&token), "ok");
    let foreign = "csrf.unproven the token in the cookie is of another session, tenant, host or key";
    let mut no_session = plain_identity();
    no_session.session = None;
    let mut other_subject = no_session.clone();
    other_subject.subject = Person("somebody else".into());
    let by_subject = Setup { identity: Some(no_session.clone()), ..setup() };
    assert_eq!(by_subject.both(&by_subject.issue(7)), "ok");
    let others = [
        Setup { identity: Some(session("s2")), ..setup() },
        Setup { identity: Some(Identity { issuer: "partners".into(), ..session("s1") }), ..setup() },
        Setup { identity: Some(no_session), ..setup() },
        Setup { identity: Some(other_subject), ..setup() },
        Setup { identity: None, ..setup() },
        Setup { tenant: Some("globex"), ..setup() },
        Setup { tenant: None, ..setup() },
        Setup { host: "globex.localhost", ..setup() },
        Setup { keys: keys(&["second"]), ..setup() },
        Setup { keys: keys(&[]), ..setup() },
    ];
    for (index, theirs) in others.iter().enumerate() {
        assert_eq!(theirs.both(&token), foreign, "{index}");
        if !theirs.keys.0.is_empty() {
            let planted = theirs.issue(9);
            assert_eq!(ours.both(&planted), foreign, "{index}");
            let beside = ours.told(&format!("__Host-csrf={token}"), &planted);
            assert_eq!(beside, foreign.replace("in the cookie", "that was sent"), "{index}");
        }
    }
}

#[test]
fn a_token_that_is_replaced_stays_good_while_its_key_does() {
    let rotated = Setup { keys: keys(&["new", "first"]), ..setup() };
    let token = setup().issue(7);
    assert_eq!(rotated.both(&token), "ok");
    assert_eq!(Setup { keys: keys(&["new"]), ..setup() }.both(&rotated.issue(7)), "ok", "the first key signs");
}

#[test]
fn what_stands_in_the_cookie_is_sent_once_more() {
    let ours = setup();
    let (token, other) = (ours.issue(7), ours.issue(8));
    assert_ne!(token, other);
    for (cookie, sent, cause) in [
        (format!("__Host-csrf={other}"), token.clone(), "the token that was sent is not the one of the cookie"),
        (String::new(), token.clone(), "the token's cookie is missing"),
        (format!("csrf={token}"), token.clone(), "the token's cookie is missing"),
        (
            format!("__Host-csrf={token}; __Host-csrf={token}"),
            token.clone(),
            "of the token's cookie: two cookies of one name",
        ),
        (
            format!("__host-csrf={token}; __Host-csrf={token}"),
            token.clone(),
            "of the token's cookie: another spelling of the cookie's name",
        ),
        (format!("__Host-csrf={token}"), String::new(), "the token that was sent is no token"),
        (format!("__Host-csrf={token}"), format!("{token}="), "the token that was sent is no token"),
        (format!("__Host-csrf={token}"), "a".repeat(1 << 20), "the token that was sent is no token"),
        (format!("__Host-csrf={}", "a".repeat(1 << 16)), token.clone(), "the token in the cookie is no token"),
        ("__Host-csrf=".to_owned(), String::new(), "the token in the cookie is no token"),
    ] {
        assert_eq!(ours.told(&cookie, &sent), format!("csrf.unproven {cause}"), "{cookie:.60}");
    }
}

#[test]
fn tokens_end_and_are_renewed_before() {
    let ours = setup();
    let token = ours.issue(7);
    let at = |seconds: i64| Setup { now_s: NOW.saturating_add_signed(seconds), ..setup() };
    let last = i64::from(HOUR) - 1;
    assert_eq!(at(last).both(&token), "ok");
    assert_eq!(at(last + 1).both(&token), "csrf.unproven the token in the cookie is too old");
    assert_eq!(at(-60).both(&token), "ok", "another replica's clock");
    assert_eq!(at(-61).both(&token), "csrf.unproven the token in the cookie is too old");
    let cookie = format!("__Host-csrf={token}");
    let due = |at: &Setup| at.desk().due([cookie.as_bytes()], || [9; NONCE]);
    assert_eq!(due(&at(i64::from(HOUR / 2) - 1)), None);
    let late = at(i64::from(HOUR / 2));
    let renewed = due(&late).unwrap();
    let (line, attributes) = renewed.to_str().unwrap().split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Max-Age=3600; Secure; SameSite=Lax");
    assert_ne!(line, cookie);
    assert_eq!(late.told(line, &token), "ok", "a page that was open meanwhile");
    // What is not good any more is nobody's nonce.
    let gone = at(last + 1);
    let fresh = due(&gone).unwrap();
    assert!(gone.told(fresh.to_str().unwrap().split_once(';').unwrap().0, &token).ends_with("too old"));
    let mut hidden = setup();
    hidden.submit.header = None;
    assert!(hidden.desk().due([], || [1; NONCE]).unwrap().to_str().unwrap().ends_with("; SameSite=Lax; HttpOnly"));
}

#[test]
fn keys_cannot_be_printed() {
    assert_eq!(format!("{:?}", keys(&["secret"])), "Keys");
}

proptest! {
    #[test]
    fn a_changed_bit_is_no_token(bit in 0..(NONCE + TIME + CODE) * 8) {
        let ours = setup();
        let token = ours.issue(7);
        let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_ne!(ours.both(&URL_SAFE_NO_PAD.encode(bytes)), "ok");
    }

    #[test]
    fn nothing_is_too_strange(cookie: Vec<u8>, sent: String) {
        prop_assert!(setup().desk().check([cookie.as_slice()], &sent).is_err());
    }

    /// Parts do not run into one another: what one of them gains, another does not lose.
    #[test]
    fn parts_are_kept_apart(host in "[a-c]{0,3}", tenant in proptest::option::of("[a-c]{0,3}"), other_host in "[a-c]{0,3}", other in proptest::option::of("[a-c]{0,3}")) {
        let token = Token { nonce: [1; NONCE], issued_s: NOW };
        let covered = |host: &str, tenant: Option<&str>| token.covered(&Holder { host, tenant, identity: None });
        let same = (&host, &tenant) == (&other_host, &other);
        prop_assert_eq!(covered(&host, tenant.as_deref()) == covered(&other_host, other.as_deref()), same);
    }
}
