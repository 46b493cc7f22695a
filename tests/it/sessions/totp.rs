//! A second factor that the gateway keeps: set up, shown, guessed, lost.
use super::*;
use crate::harness::{PATIENCE, Redis, Token, now};
use crate::live::{App, echoes, websocket};
use aws_lc_rs::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

const TOTP: &str = "https://acme.localhost/.moat/totp";
const BOOKS: &str = "https://acme.localhost/books";

/// `/books` takes an authentication of class `mfa` that is not older than a quarter of an hour.
async fn with_factor() -> (Gateway, Upstream) {
    with(factor).await
}

fn factor(bundle: &mut Bundle) {
    held(bundle, BROWSER);
    bundle.replace("sessions:\n", "sessions:\n  totp: {issuer: North Lane, acr: mfa}\n");
    bundle.replace("  step_up:\n", "  step_up:\n    second: {max_age: 15m, acr: [mfa]}\n");
    bundle.route(
        "  books:
    match: {hosts: [\"*.localhost\"], paths: [/books, \"/books/**\"], methods: [GET]}
    upstream: app
    auth: {session: browser}
    require: {session: any, step_up: second}",
    );
}

/// What an app shows at a time (RFC 6238), by its own arithmetic.
pub fn shown(secret: &str, at_s: u64) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bits: Vec<u8> = secret
        .bytes()
        .flat_map(|letter| {
            let value = letters.iter().position(|known| *known == letter).unwrap();
            (0..5).rev().map(move |bit| (value >> bit & 1) as u8)
        })
        .collect();
    let key: Vec<u8> = bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit)).collect();
    let tag = sign(&Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key), &(at_s / 30).to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[19] & 0xf);
    let number = u32::from_be_bytes(tag[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

fn shown_now(secret: &str) -> String {
    shown(secret, now())
}

pub fn post<'g>(gateway: &'g Gateway, cookie: &str, form: &str) -> Call<'g> {
    gateway
        .call("POST", TOTP)
        .header("cookie", cookie)
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.to_owned())
}

/// Uses the session until the handle that its promotion makes due has come.
async fn promoted(gateway: &Gateway, before: &str) -> String {
    let reply = me(gateway, before).send().await;
    assert_eq!(reply.verdict(), "200");
    let after = cookie(&reply).expect("a stronger session has another handle");
    assert_ne!(after, before);
    after
}

pub async fn enrolled(gateway: &Gateway) -> (String, String, Vec<String>) {
    let cookie = open(gateway).await;
    let begun = post(gateway, &cookie, "do=enrol").send().await;
    assert_eq!(begun.verdict(), "201", "{}", begun.text());
    let secret = begun.json()["secret"].as_str().unwrap().to_owned();
    // A step back, so that the code of now is still good afterwards.
    let done = post(gateway, &cookie, &format!("code={}", shown(&secret, now() - 30))).send().await;
    assert_eq!(done.verdict(), "200", "{}", done.text());
    let answer = done.json();
    let codes = answer["recovery_codes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned());
    let codes: Vec<String> = codes.collect();
    assert_eq!(codes.len(), 10);
    (cookie, secret, codes)
}

#[tokio::test]
async fn a_code_makes_a_session_stronger_and_replaces_its_handle() {
    let (gateway, upstream) = with_factor().await;
    let weak = open(&gateway).await;
    let refused = gateway.get(BOOKS).header("cookie", &weak).send().await;
    assert_eq!(refused.verdict(), "401 session.step-up");
    let (cookie, secret, _) = enrolled(&gateway).await;
    let strong = promoted(&gateway, &cookie).await;
    assert_eq!(gateway.get(BOOKS).header("cookie", &strong).send().await.verdict(), "200");
    assert!(upstream.last().header("moat-assertion").is_some());
    let shown_twice = post(&gateway, &strong, &format!("code={}", shown(&secret, now() - 30))).send().await;
    assert_eq!(shown_twice.verdict(), "403 access.denied", "a code is good once");

    // Another browser of the same user: a session is as strong as what was shown in it.
    assert_eq!(gateway.get(BOOKS).header("cookie", &weak).send().await.verdict(), "401 session.step-up");
    let page = gateway.get(TOTP).header("cookie", &weak).header("accept", "text/html").send().await;
    assert!(page.text().contains("autocomplete=\"one-time-code\"") && !page.text().contains(&secret));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("form-action 'self'") && policy.contains("default-src 'none'"), "{policy}");
    let again = post(&gateway, &weak, "do=enrol").send().await;
    assert_eq!(again.verdict(), "403 access.denied", "nobody's app is replaced by whoever has a session");

    let entry = gateway.audit_entry(|entry| entry["kind"] == "request" && entry["action"] == "factor.enrolled").await;
    assert_eq!(entry["facts"]["tenant"], "acme", "{entry}");
    let everything = format!("{:?}{:?}", crate::harness::entries(&gateway), gateway.log_lines());
    assert!(!everything.contains(&secret), "a secret was written down");
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("moat_second_factor_total{result=\"code\"} 1"), "{metrics}");
    assert!(metrics.contains("moat_second_factor_total{result=\"wrong\"} 1"));
    for (result, count) in [("met", 1), ("unmet", 1)] {
        assert!(metrics.contains(&format!("moat_step_up_total{{result=\"{result}\"}} {count}\n")), "{metrics}");
    }
}

/// Whoever has read a code over a shoulder sends the head at once, and the body when it suits.
#[tokio::test]
async fn a_code_does_not_stay_good_while_the_body_is_held_back() {
    let (gateway, _upstream) = with(|bundle| {
        factor(bundle);
        bundle.clock_that_jumps();
    })
    .await;
    let (weak, secret, _) = enrolled(&gateway).await;
    let cookie = promoted(&gateway, &weak).await;
    let lines = format!("Cookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n");
    let held = gateway.withhold("/.moat/totp", &lines, &format!("code={}", shown_now(&secret))).await;
    gateway.bundle.jump("+90s");
    assert_eq!(held.refused().await, "access.denied");
    let next = post(&gateway, &cookie, &format!("code={}", shown(&secret, now() + 90))).send().await;
    assert_eq!(next.verdict(), "200", "{}", next.text());
}

#[tokio::test]
async fn a_browser_is_led_through_it_and_back_to_where_it_was_going() {
    let (gateway, _upstream) = with_factor().await;
    let cookie = open(&gateway).await;
    let page = async |form: &str| post(&gateway, &cookie, form).header("accept", "text/html").send().await;
    let offer = gateway.get(&format!("{TOTP}?return=/books")).header("cookie", &cookie).header("accept", "text/html");
    assert!(offer.send().await.text().contains("value=\"/books\""));
    let begun = page("do=enrol&return=/books").await;
    assert!(begun.text().contains("<svg") && begun.text().contains("value=\"/books\""), "{}", begun.text());
    let key = begun.text().split("Key: <code>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let wrong = page("code=000000&return=/books").await;
    assert_eq!((wrong.status, wrong.text().contains("role=\"alert\"")), (403, true));
    let done = page(&format!("code={}&return=/books", shown(&key, now() - 30))).await;
    assert!(done.text().contains("href=\"/books\"") && done.text().contains("recovery"), "{}", done.text());
    let next = page(&format!("code={}&return=/books", shown(&key, now()))).await;
    assert_eq!((next.status, next.header("location").as_deref()), (303, Some("/books")));
    for elsewhere in ["//evil.example/", "https://evil.example/", "/%5cevil.example", "javascript:alert(1)"] {
        let url = format!("{TOTP}?return={elsewhere}");
        let page = gateway.get(&url).header("cookie", &cookie).header("accept", "text/html").send().await;
        assert!(!page.text().contains("evil") && !page.text().contains("javascript"), "{elsewhere}");
    }
}

#[tokio::test]
async fn recovery_codes_work_once_and_guessing_does_not_pay() {
    let (gateway, _upstream) = with_factor().await;
    let (cookie, _, codes) = enrolled(&gateway).await;
    let cookie = promoted(&gateway, &cookie).await;
    let once = post(&gateway, &cookie, &format!("code={}", codes[3].to_lowercase())).send().await;
    assert_eq!(once.verdict(), "200", "{}", once.text());
    let twice = post(&gateway, &cookie, &format!("code={}", codes[3])).send().await;
    assert_eq!(twice.verdict(), "403 access.denied");
    for _ in 0..4 {
        assert_eq!(post(&gateway, &cookie, "code=000001").send().await.verdict(), "403 access.denied");
    }
    let held_up = post(&gateway, &cookie, &format!("code={}", codes[4])).send().await;
    assert_eq!(held_up.verdict(), "429 quota.exceeded", "the right one too");
    assert!(held_up.header("retry-after").unwrap().parse::<u32>().unwrap() <= 30);
    let left = gateway.get(TOTP).header("cookie", &cookie).send().await;
    assert_eq!((&left.json()["factor"], &left.json()["recovery_codes_left"]), (&"enrolled".into(), &9.into()));
}

#[tokio::test]
async fn whoever_has_no_fresh_session_of_ours_sets_nothing_up() {
    let (gateway, _upstream) = with_factor().await;
    let token = Token::of("acme", &["cashier"]).claim("auth_time", now() - 3600).signed(&gateway.bundle.key);
    let reply = gateway.call("POST", SESSION).bearer(&token).send().await;
    let old = cookie(&reply).unwrap();
    assert_eq!(post(&gateway, &old, "do=enrol").send().await.verdict(), "401 session.step-up");
    let cookie = open(&gateway).await;
    let cross = gateway
        .call("POST", TOTP)
        .header("cookie", &cookie)
        .header("sec-fetch-site", "cross-site")
        .header("content-type", "application/x-www-form-urlencoded")
        .body("do=enrol");
    assert_eq!(cross.send().await.verdict(), "403 csrf.unproven");
    let foreign = post(&gateway, &cookie, "do=enrol");
    assert_eq!(foreign.header("host", "globex.localhost").send().await.status / 100, 4);
    for (form, expected) in
        [("code=1&code=2", "422 body.invalid"), ("", "422 body.invalid"), ("code=123456", "403 access.denied")]
    {
        assert_eq!(post(&gateway, &cookie, form).send().await.verdict(), expected, "{form}");
    }
    assert_eq!(post(&gateway, "theme=dark", "do=enrol").send().await.verdict(), "401 session.missing");
    let json = gateway.call("POST", TOTP).header("cookie", &cookie).header("sec-fetch-site", "same-origin");
    assert_eq!(
        json.header("content-type", "application/json").body("{}").send().await.verdict(),
        "415 body.unsupported"
    );
}

/// A user who lost app and recovery codes: an operator takes the factor away, and with it what it had added.
#[tokio::test]
async fn an_operator_takes_a_factor_away_and_sessions_lose_what_it_added() {
    let (gateway, _upstream) = with_factor().await;
    let (cookie, secret, _) = enrolled(&gateway).await;
    let strong = promoted(&gateway, &cookie).await;
    assert_eq!(gateway.get(BOOKS).header("cookie", &strong).send().await.verdict(), "200");
    let admin = gateway.address("admin").to_string();
    let factors = |args: &[&str]| {
        let whose = ["factors", args[0], "--admin", &admin, "--subject", args[1]];
        crate::harness::moat(gateway.bundle.root(), &[&whose[..], &args[2..]].concat())
    };
    let ann = ["--tenant", "acme"];
    let shown = factors(&["show", "someone@acme", ann[0], ann[1]]);
    assert_eq!((shown.code, shown.stdout.as_str()), (Some(0), "enrolled, 10 recovery codes left\n"), "{shown:?}");
    for (args, code, said) in [
        (&["remove", "someone@acme"][..], 1, "has no second factor"),
        (&["remove", "someone@acme", "--tenant", "acne"], 1, "there is no tenant `acne`"),
        (
            &["remove", "someone@acme", "--tenant", "acme", "--issuer", "workforse"],
            1,
            "there is no issuer `workforse`\n  hint: did you mean `workforce`?",
        ),
        (&["show", "someone@acme", "--issuer", "nobody"], 1, "no issuer `nobody`\n  hint: there are `workforce`"),
        (&["remove", "else@acme", "--tenant", "acme"], 1, "has no second factor"),
    ] {
        let output = factors(args);
        assert!(output.code == Some(code) && output.stderr.contains(said), "{args:?}: {output:?}");
    }
    let removed = factors(&["remove", "someone@acme", "--tenant", "acme", "--actor", "olga"]);
    assert_eq!(
        (removed.code, removed.stdout.as_str()),
        (Some(0), "removed; 1 sessions lost what it had added\n"),
        "{removed:?}"
    );
    assert_eq!(gateway.get(BOOKS).header("cookie", &strong).send().await.verdict(), "401 session.step-up");
    assert_eq!(me(&gateway, &strong).send().await.verdict(), "200", "still signed in");
    let gone = post(&gateway, &strong, &format!("code={}", shown_now(&secret))).send().await;
    assert_eq!(gone.verdict(), "403 access.denied");
    let entry = gateway.audit_entry(|entry| entry["event"] == "factor.remove" && entry["actor"] == "olga").await;
    let detail = (&entry["detail"]["subject"], &entry["detail"]["tenant"]);
    assert_eq!(detail, (&"someone@acme".into(), &"acme".into()), "{entry:#}");
    // And another app can be set up.
    assert_eq!(post(&gateway, &strong, "do=enrol").send().await.verdict(), "201");
}

/// A socket that only a code could open ends with the app, on all replicas; one that needed none stays.
#[tokio::test]
async fn what_a_code_has_opened_ends_when_the_app_is_taken_away() {
    let (app, redis) = (App::start().await, Redis::start(&[]).await);
    let replica = async |number: usize| {
        app.gateway(|bundle| {
            factor(bundle);
            bundle.replace("instance: test-1", &format!("instance: replica-{number}"));
            bundle.replace("paths: [/me]", "paths: [/me, \"/me/**\"]");
            bundle.share(redis.address, "revocations, sessions, factors");
        })
        .await
    };
    let (one, two) = (replica(1).await, replica(2).await);
    // Both accept what the first one's issuer signs.
    let (cookie, secret, _) = enrolled(&one).await;
    let more = format!("Cookie: {cookie}\r\n");
    let mut sockets = Vec::new();
    for gateway in [&one, &two] {
        let mut strong = websocket(gateway, "acme", "/books/socket", &more).await;
        let mut weak = websocket(gateway, "acme", "/me/socket", &more).await;
        echoes(&mut strong, &app).await;
        echoes(&mut weak, &app).await;
        sockets.push((strong, weak));
    }
    let admin = one.address("admin").to_string();
    let args = ["factors", "remove", "--admin", &admin, "--subject", "someone@acme", "--tenant", "acme"];
    let removed = crate::harness::moat(one.bundle.root(), &args);
    assert_eq!(removed.code, Some(0), "{removed:?}");
    for (strong, _) in &mut sockets {
        let expected = [&[0x88, 17, 3, 0xf0], &b"session.step-up"[..]].concat();
        let mut frame = vec![0; expected.len()];
        timeout(PATIENCE, strong.read_exact(&mut frame)).await.expect("it stays open").unwrap();
        assert_eq!(frame, expected);
        assert_eq!(app.hears().await.first(), Some(&0x88));
    }
    for (_, weak) in &mut sockets {
        echoes(weak, &app).await;
    }
    let again = post(&two, &cookie, &format!("code={}", shown_now(&secret))).send().await;
    assert_eq!(again.verdict(), "403 access.denied", "there is no app any more");
}

/// Whoever finds another of the user's sessions open must not learn the key of the app that the user is setting up.
#[tokio::test]
async fn the_key_of_an_app_that_is_being_set_up_is_shown_to_a_fresh_sign_in_only() {
    let (gateway, _upstream) = with_factor().await;
    let token = Token::of("acme", &["cashier"]).auth_age(3600).signed(&gateway.bundle.key);
    let old = cookie(&gateway.call("POST", SESSION).bearer(&token).send().await).unwrap();
    let fresh = open(&gateway).await;
    let begun = post(&gateway, &fresh, "do=enrol").send().await;
    let secret = begun.json()["secret"].as_str().unwrap().to_owned();
    let page = async |cookie: &str| {
        gateway.get(TOTP).header("cookie", cookie).header("accept", "text/html").send().await.text()
    };
    assert!(page(&fresh).await.contains(&secret));
    let shown = page(&old).await;
    assert!(!shown.contains(&secret) && !shown.contains("<svg"), "{shown}");
    assert!(shown.contains("right after signing in"), "{shown}");
}

/// The one that a code has made stronger is behind all that are listed.
#[tokio::test]
async fn however_many_sessions_a_user_has_all_lose_what_a_factor_had_added() {
    let (gateway, _upstream) = with(|bundle| {
        factor(bundle);
        unhurried(bundle);
    })
    .await;
    let mut all = Vec::new();
    for _ in 0..201 {
        let reply = gateway.call("POST", SESSION).bearer(&gateway.token("acme", &["cashier"])).send().await;
        assert_eq!(reply.verdict(), "201", "{}", reply.text());
        all.push((reply.json()["session"].as_str().unwrap().to_owned(), cookie(&reply).unwrap()));
    }
    let (_, last) = all.into_iter().max().unwrap();
    let begun = post(&gateway, &last, "do=enrol").send().await;
    let secret = begun.json()["secret"].as_str().unwrap().to_owned();
    assert_eq!(post(&gateway, &last, &format!("code={}", shown_now(&secret))).send().await.verdict(), "200");
    let last = promoted(&gateway, &last).await;
    assert_eq!(gateway.get(BOOKS).header("cookie", &last).send().await.verdict(), "200");
    let admin = gateway.address("admin").to_string();
    let args = ["factors", "remove", "--admin", &admin, "--subject", "someone@acme", "--tenant", "acme"];
    let removed = crate::harness::moat(gateway.bundle.root(), &args);
    assert_eq!(removed.stdout, "removed; 1 sessions lost what it had added\n", "{removed:?}");
    assert_eq!(gateway.get(BOOKS).header("cookie", &last).send().await.verdict(), "401 session.step-up");
}

/// A session of a host that names no tenant is kept for none, whatever tenant its user is of.
#[tokio::test]
async fn a_factor_is_taken_away_at_hosts_that_name_no_tenant_too() {
    let (gateway, _upstream) = with(|bundle| {
        factor(bundle);
        bundle.route(
            "  desk:
    match: {hosts: [localhost], paths: [/desk], methods: [GET]}
    upstream: app
    tenant: {from: session}
    auth: {session: browser}
    require: {session: any, step_up: second}",
        );
    })
    .await;
    let at = |method: &str, path: &str| gateway.call(method, &format!("https://localhost{path}"));
    let token = gateway.token("acme", &["cashier"]);
    let cookie = cookie(&at("POST", "/.moat/session").bearer(&token).send().await).unwrap();
    let shows = async |form: &str| {
        let call = at("POST", "/.moat/totp").header("cookie", &cookie).header("sec-fetch-site", "same-origin");
        call.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned()).send().await
    };
    let secret = shows("do=enrol").await.json()["secret"].as_str().unwrap().to_owned();
    assert_eq!(shows(&format!("code={}", shown_now(&secret))).await.verdict(), "200");
    let desk = async || at("GET", "/desk").header("cookie", &cookie).send().await.verdict();
    assert_eq!(desk().await, "200");
    let admin = gateway.address("admin").to_string();
    let whose = ["--admin", &admin, "--subject", "someone@acme", "--tenant", "acme"];
    let moat = |command: &[&str]| crate::harness::moat(gateway.bundle.root(), &[command, &whose[..]].concat());
    assert_eq!(moat(&["sessions", "list"]).stdout.lines().count(), 1, "the one session");
    let removed = moat(&["factors", "remove"]);
    assert_eq!(removed.stdout, "removed; 1 sessions lost what it had added\n", "{removed:?}");
    assert_eq!(desk().await, "401 session.step-up");
}
