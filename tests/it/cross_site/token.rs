//! `csrf: token` on the wire: a page hands out a token, a form or script of that page sends it back, and nobody else's
//! token does.
use super::ask;
use crate::harness::{Bundle, Gateway, Reply, Seen, Token, Upstream, entries, moat};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;

const FORM: &str = "application/x-www-form-urlencoded";
const COOKIE: &str = "__Host-csrf";

/// Pages that say that everybody may keep them, and an interface in JSON.
fn application(seen: &Seen) -> Response<Full<Bytes>> {
    let kind = if seen.target.starts_with("/old/api") { "application/json" } else { "Text/HTML; charset=utf-8" };
    let answer = Response::builder().header("content-type", kind).header("cache-control", "public, max-age=60");
    answer.header("set-cookie", "seen=1").body(Full::from("{}")).unwrap()
}

fn routes(bundle: &Bundle) {
    let session = "auth: {any_of: [{bearer: workforce}, {cookie: {name: __Host-nl, issuer: workforce}}]}\n    require: {session: any}";
    for (name, rest) in [
        ("old", format!("{session}\n    csrf: token")),
        ("watched", format!("{session}\n    csrf: token\n    shadow: [csrf]")),
        (
            "django",
            format!("{session}\n    csrf: {{mode: token, cookie: __Host-csrftoken, field: csrfmiddlewaretoken}}"),
        ),
        ("contact", "public: \"anybody may write\"\n    csrf: token".to_owned()),
        ("both", "public: \"anybody may sign in\"\n    csrf: token\n    rate_limits: [by-account]".to_owned()),
    ] {
        bundle.route(&format!(
            "  {name}:\n    match: {{hosts: [\"*.localhost\"], paths: [\"/{name}\", \"/{name}/**\"], methods: [GET, POST]}}\n    upstream: app\n    {rest}\n    headers: base"
        ));
    }
    let limits = bundle.read("policies/rate-limits.yaml");
    let limit = "  by-account: {key: [form.username_hash], rate: 2/h, burst: 2}\n";
    bundle.write("policies/rate-limits.yaml", &format!("{limits}{limit}"));
}

async fn start() -> (Gateway, Upstream) {
    let upstream = Upstream::answering(application).await;
    let bundle = Bundle::standard(upstream.address);
    routes(&bundle);
    (Gateway::start(bundle).await, upstream)
}

/// The cookie of a session of this tenant.
fn session(gateway: &Gateway, tenant: &str, id: &str) -> String {
    format!("__Host-nl={}", Token::of(tenant, &["viewer"]).claim("sid", id).signed(&gateway.bundle.key))
}

/// The token that a page sets, `NAME=TOKEN`, and what stands behind it.
fn set(reply: &Reply) -> Option<(String, String)> {
    let all = reply.headers.get_all("set-cookie");
    let line = all.iter().find(|line| line.as_bytes().starts_with(b"__Host-csrf"))?;
    let (pair, attributes) = line.to_str().unwrap().split_once("; ").unwrap();
    Some((pair.to_owned(), attributes.to_owned()))
}

/// What a page sets for whoever sends these cookies.
async fn page(gateway: &Gateway, h2: bool, path: &str, cookies: &str) -> Option<(String, String)> {
    set(&ask(gateway, h2, &format!("GET {path}"), &[("cookie", cookies)]).await)
}

fn value(pair: &str) -> &str {
    pair.split_once('=').unwrap().1
}

/// A form as an old browser sends it: it says nothing of where it stands.
async fn post(gateway: &Gateway, h2: bool, path: &str, headers: &[(&'static str, &str)], body: &str) -> Reply {
    let call = gateway.call("POST", &format!("https://acme.localhost{path}")).body(body.to_owned());
    let call = headers.iter().fold(call, |call, (name, value)| call.header(name, value));
    if h2 { call.h2().send().await } else { call.send().await }
}

#[tokio::test]
async fn a_page_hands_out_a_token_and_takes_it_back_in_a_header_or_form() {
    let (gateway, upstream) = start().await;
    let session = session(&gateway, "acme", "s1");
    for h2 in [false, true] {
        let first = ask(&gateway, h2, "GET /old", &[("cookie", &session)]).await;
        let (pair, attributes) = set(&first).unwrap();
        assert!(pair.starts_with(&format!("{COOKIE}=")) && value(&pair).len() == 75, "{pair}");
        assert_eq!(attributes, "Path=/; Max-Age=43200; Secure; SameSite=Lax", "scripts can read it");
        assert_eq!(first.header("cache-control").as_deref(), Some("private"), "no cache gives it to others");
        assert!(first.header("set-cookie").unwrap().contains("seen=1"), "beside the application's own");
        let cookies = format!("{session}; {pair}");
        let again = ask(&gateway, h2, "GET /old", &[("cookie", &cookies)]).await;
        assert_eq!(set(&again), None, "a token that is good for long yet");
        assert_eq!(again.header("cache-control").as_deref(), Some("public, max-age=60"));
        assert_eq!(page(&gateway, h2, "/old/api", &session).await, None, "what is no page");
        assert_eq!(page(&gateway, h2, "/api/bookings", &session).await, None, "a route without tokens");

        let cookie = ("cookie", &*cookies);
        let form = format!("name=a%20b&csrf_token={}&x=1", value(&pair));
        let said = ("x-csrf-token", value(&pair));
        let kind = ("content-type", FORM);
        for (headers, body, verdict) in [
            (vec![cookie, said], "", "200"),
            (vec![cookie, said, ("content-type", "application/json")], "{}", "200"),
            (vec![cookie, kind], &*form, "200"),
            (vec![cookie, said, kind], "csrf_token=another", "200"),
            (vec![cookie, said, ("origin", "null")], "", "200"),
            (vec![cookie, ("sec-fetch-site", "same-origin")], "", "200"),
            (vec![cookie], "", "403 csrf.unproven"),
            (vec![cookie, kind], "name=a", "403 csrf.unproven"),
            // What a browser says against it stands.
            (vec![cookie, said, ("origin", "https://evil.example")], "", "403 csrf.unproven"),
            (vec![cookie, said, ("origin", "https://globex.localhost")], "", "403 csrf.unproven"),
            (vec![cookie, said, ("referer", "https://evil.example/")], "", "403 csrf.unproven"),
            (vec![cookie, said, ("sec-fetch-site", "cross-site")], "", "403 csrf.unproven"),
            (vec![cookie, said, ("sec-fetch-site", "same-site")], "", "403 csrf.unproven"),
            (vec![cookie, kind, ("origin", "https://evil.example")], &form, "403 csrf.unproven"),
        ] {
            let before = upstream.seen().len();
            let reply = post(&gateway, h2, "/old", &headers, body).await;
            assert_eq!(reply.verdict(), verdict, "h2: {h2} {headers:?} {body}");
            assert_eq!(upstream.seen().len() - before, usize::from(verdict == "200"), "{headers:?} {body}");
            if verdict == "200" {
                assert_eq!(upstream.last().body, body.as_bytes(), "byte for byte");
            }
        }
        let token = Token::of("acme", &["viewer"]).signed(&gateway.bundle.key);
        let bearer = format!("Bearer {token}");
        assert_eq!(post(&gateway, h2, "/old", &[("authorization", &bearer)], "").await.verdict(), "200");
        assert_eq!(ask(&gateway, h2, "GET /old", &[("authorization", &bearer)]).await.status, 200);
    }
    let log = format!("{:?}{}", entries(&gateway), gateway.log_lines().join("\n"));
    let (pair, _) = page(&gateway, false, "/old", &session).await.unwrap();
    assert!(!log.contains(&value(&pair)[..10]) && !log.contains("csrf_token="), "a log tells of a token");
    assert!(gateway.metrics().await.contains("moat_csrf_denied_total{reason=\"no_evidence\"}"));
}

/// A page that one replica has served posts to another: they make tokens with the same keys, where they are told which.
#[tokio::test]
async fn a_token_of_one_replica_is_good_at_another_that_has_its_keys() {
    let upstream = Upstream::answering(application).await;
    let replica = async |named: &str, keys: &str| {
        let bundle = Bundle::standard(upstream.address);
        routes(&bundle);
        bundle.replace("sessions:\n", &format!("sessions:\n  {named}: {{file: csrf.keys}}\n"));
        bundle.write("csrf.keys", keys);
        Gateway::start(bundle).await
    };
    let (one, two) = (format!("{}\n", "01ab".repeat(16)), format!("{}\n", "02cd".repeat(16)));
    let here = replica("csrf_keys", &one).await;
    let there = replica("csrf_keys", &format!("{two}{one}")).await;
    let by_sessions = replica("keys", &one).await;
    let stranger = replica("csrf_keys", &two).await;
    let (pair, _) = page(&here, false, "/contact", "").await.unwrap();
    let headers = [("cookie", pair.as_str()), ("x-csrf-token", value(&pair))];
    for (replica, verdict) in [(&here, "200"), (&there, "200"), (&by_sessions, "200"), (&stranger, "403 csrf.unproven")]
    {
        assert_eq!(post(replica, false, "/contact", &headers, "").await.verdict(), verdict);
    }
    // Keys that nobody uses are a mistake.
    let bundle = Bundle::standard(upstream.address);
    bundle.replace("sessions:\n", "sessions:\n  csrf_keys: {file: csrf.keys}\n");
    bundle.write("csrf.keys", &one);
    let check = moat(bundle.root(), &["check"]);
    let said = format!("{check:?}");
    assert!(check.code == Some(78) && said.contains("keys of tokens that no route asks for"), "{said}");
}

#[tokio::test]
async fn nobody_elses_token_is_good_and_no_other_place_for_it() {
    let (gateway, upstream) = start().await;
    let (mine, theirs) = (session(&gateway, "acme", "victim"), session(&gateway, "acme", "attacker"));
    let elsewhere = session(&gateway, "globex", "attacker");
    let (good, _) = page(&gateway, false, "/old", &mine).await.unwrap();
    let (planted, _) = page(&gateway, false, "/old", &theirs).await.unwrap();
    let (visitor, _) = page(&gateway, false, "/contact", "").await.unwrap();
    let other_tenant = ask(&gateway, false, "GET globex.localhost/old", &[("cookie", &elsewhere)]).await;
    let (other_tenant, _) = set(&other_tenant).unwrap();
    let visitor = format!("{COOKIE}={}", value(&visitor));
    let long = "t".repeat(4000);
    let token = value(&good);
    let field = format!("csrf_token={token}");
    let before = upstream.seen().len();
    for h2 in [false, true] {
        // Both halves of the attacker's own, as a sibling host or somebody on the wire could set a cookie in old browsers.
        for foreign in [&planted, &other_tenant, &visitor] {
            let cookies = format!("{mine}; {foreign}");
            let sent = ("x-csrf-token", value(foreign));
            assert_eq!(
                post(&gateway, h2, "/old", &[("cookie", &cookies), sent], "").await.verdict(),
                "403 csrf.unproven"
            );
            // And beside the victim's own: which one is read would be chance.
            for cookies in [format!("{mine}; {good}; {foreign}"), format!("{foreign}; {mine}; {good}")] {
                for sent in [value(foreign), token] {
                    let headers = [("cookie", &*cookies), ("x-csrf-token", sent)];
                    assert_eq!(post(&gateway, h2, "/old", &headers, "").await.verdict(), "403 csrf.unproven");
                }
            }
        }
        let cookies = format!("{mine}; {good}");
        let cookie = ("cookie", &*cookies);
        let kind = ("content-type", FORM);
        let shouted = format!("{mine}; {}", good.replace("__Host", "__HOST"));
        let huge = format!("{mine}; {COOKIE}={long}");
        for (headers, path, body, verdict) in [
            (vec![("cookie", &*mine), ("x-csrf-token", token)], "/old", "", "403 csrf.unproven"),
            (vec![("cookie", &*shouted), ("x-csrf-token", token)], "/old", "", "403 csrf.unproven"),
            (vec![("cookie", &*huge), ("x-csrf-token", token)], "/old", "", "403 csrf.unproven"),
            (vec![("cookie", &*huge), ("x-csrf-token", &*long)], "/old", "", "403 csrf.unproven"),
            (vec![cookie, ("x-csrf-token", "")], "/old", "", "403 csrf.unproven"),
            (vec![cookie, ("x-csrf-token", ""), kind], "/old", &*field, "403 csrf.unproven"),
            (vec![cookie, ("x-csrf-token", token), ("x-csrf-token", token)], "/old", "", "403 csrf.unproven"),
            (vec![cookie, kind], &format!("/old?{field}"), "", "403 csrf.unproven"),
            (vec![cookie, kind], &format!("/old?{field}"), &*field, "403 csrf.unproven"),
            (vec![cookie, kind], "/old", &format!("{field}&{field}"), "403 csrf.unproven"),
            (vec![cookie, kind], "/old", &format!("{field}&CSRF_TOKEN={}", value(&planted)), "403 csrf.unproven"),
            (vec![cookie, ("content-type", "text/plain")], "/old", &*field, "403 csrf.unproven"),
            (vec![cookie, ("content-type", "multipart/form-data; boundary=x")], "/old", "--x--", "403 csrf.unproven"),
            (vec![cookie, ("content-type", "application/json")], "/old", "{}", "403 csrf.unproven"),
            (vec![cookie, kind], "/old", &format!("{field}&p={}", "p".repeat(8 << 10)), "413 request.too-large"),
        ] {
            let reply = post(&gateway, h2, path, &headers, body).await;
            assert_eq!(reply.verdict(), verdict, "h2: {h2} {path} {body:.60}");
        }
        assert_eq!(post(&gateway, h2, "/old", &[cookie, ("x-csrf-token", token)], "").await.verdict(), "200");
    }
    assert_eq!(upstream.seen().len() - before, 2, "only the two good ones");
}

#[tokio::test]
async fn a_token_of_an_old_key_is_replaced() {
    let (gateway, _upstream) = start().await;
    let session = session(&gateway, "acme", "s1");
    let (pair, _) = page(&gateway, false, "/old", &session).await.unwrap();
    let cookies = format!("{session}; {pair}");
    let sent = [("cookie", &*cookies), ("x-csrf-token", value(&pair))];
    let gateway = gateway.restart().await;
    assert_eq!(post(&gateway, false, "/old", &sent, "").await.verdict(), "200", "a restart keeps the key");
    std::fs::remove_file(gateway.bundle.path("state/csrf-key")).unwrap();
    let gateway = gateway.restart().await;
    assert_eq!(post(&gateway, false, "/old", &sent, "").await.verdict(), "403 csrf.unproven");
    let (fresh, _) = page(&gateway, false, "/old", &cookies).await.unwrap();
    assert_ne!(fresh, pair);
    let cookies = format!("{session}; {fresh}");
    let sent = [("cookie", &*cookies), ("x-csrf-token", value(&fresh))];
    assert_eq!(post(&gateway, false, "/old", &sent, "").await.verdict(), "200");
}

/// As Django's own: the field `csrfmiddlewaretoken`, which the application fills in from a cookie that scripts need not see.
#[tokio::test]
async fn forms_that_the_application_fills_in_need_no_script() {
    let (gateway, upstream) = start().await;
    let session = session(&gateway, "acme", "s1");
    for h2 in [false, true] {
        let (pair, attributes) = page(&gateway, h2, "/django/edit", &session).await.unwrap();
        assert!(pair.starts_with("__Host-csrftoken=") && attributes.ends_with("; HttpOnly"), "{pair} {attributes}");
        let cookies = format!("{session}; {pair}");
        ask(&gateway, h2, "GET /django/edit", &[("cookie", &cookies)]).await;
        assert!(upstream.last().header("cookie").unwrap().contains(&pair), "the application reads it there");
        let headers = [("cookie", &*cookies), ("content-type", FORM)];
        let form = format!("csrfmiddlewaretoken={}&title=a+b", value(&pair));
        assert_eq!(post(&gateway, h2, "/django/edit", &headers, &form).await.verdict(), "200");
        assert_eq!(upstream.last().body, form.as_bytes());
        let headers = [("cookie", &*cookies), ("x-csrf-token", value(&pair))];
        assert_eq!(
            post(&gateway, h2, "/django/edit", &headers, "").await.verdict(),
            "403 csrf.unproven",
            "no such header"
        );
    }
}

#[tokio::test]
async fn visitors_have_tokens_too_and_one_body_is_read_for_token_and_limit() {
    let (gateway, upstream) = start().await;
    for h2 in [false, true] {
        let (pair, _) = page(&gateway, h2, "/contact", "").await.unwrap();
        assert!(pair.starts_with("__Host-csrf-visitor="), "{pair}");
        let (other, _) = page(&gateway, h2, "/contact", "").await.unwrap();
        let headers = [("cookie", &*pair), ("content-type", FORM)];
        let form = |token: &str| format!("csrf_token={token}&text=hello");
        assert_eq!(post(&gateway, h2, "/contact", &headers, &form(value(&pair))).await.verdict(), "200");
        assert_eq!(post(&gateway, h2, "/contact", &headers, &form(value(&other))).await.verdict(), "403 csrf.unproven");
        assert_eq!(
            post(&gateway, h2, "/contact", &headers[1..], &form(value(&pair))).await.verdict(),
            "403 csrf.unproven"
        );
        let name = if h2 { "ann" } else { "bob" };
        let sign_in = format!("username={name}&csrf_token={}", value(&pair));
        for verdict in ["200", "200", "429 quota.exceeded"] {
            assert_eq!(post(&gateway, h2, "/both", &headers, &sign_in).await.verdict(), verdict);
        }
        assert_eq!(upstream.last().body, sign_in.as_bytes());
        // Who has no token takes nothing from the account's limit.
        let foreign = format!("username=carol-{h2}&csrf_token={}", value(&other));
        for _ in 0..3 {
            assert_eq!(post(&gateway, h2, "/both", &headers, &foreign).await.verdict(), "403 csrf.unproven");
        }
    }
}

#[tokio::test]
async fn in_shadow_a_token_is_looked_for_and_nobody_is_refused() {
    let (gateway, upstream) = start().await;
    let session = session(&gateway, "acme", "s1");
    for h2 in [false, true] {
        let headers = [("cookie", &*session), ("content-type", FORM)];
        let long = format!("a=1&padding={}", "p".repeat(20 << 10));
        for body in ["a=1", "a=1&csrf_token=x", &long] {
            let reply = post(&gateway, h2, "/watched", &headers, body).await;
            assert_eq!(reply.verdict(), "200", "{body:.30}");
            assert_eq!(upstream.last().body, body.as_bytes());
            let entry = gateway.outcome(&reply.header("x-request-id").unwrap()).await;
            assert!(entry.to_string().contains("[\"csrf\",\"shadow:"), "{entry}");
        }
    }
}

#[test]
fn it_is_explained() {
    let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
    routes(&bundle);
    let ask = "explain POST https://acme.localhost/old --tenant acme --by cookie --unsaid";
    for (more, end) in [
        ("", "=> 403 csrf.unproven: no double-submit token is shown\n"),
        (" --csrf-token", "=> permit, to upstream `app`\n"),
    ] {
        let ran = moat(bundle.root(), &format!("{ask}{more}").split(' ').collect::<Vec<_>>());
        assert!(ran.stdout.ends_with(end), "{ran:?}");
        assert!(
            ran.stdout.contains("token          cookie `__Host-csrf` and header `x-csrf-token` or field `csrf_token`"),
            "{ran:?}"
        );
    }
    let crossed = "explain POST https://acme.localhost/old --tenant acme --by cookie --cross-site --csrf-token";
    let ran = moat(bundle.root(), &crossed.split(' ').collect::<Vec<_>>());
    assert!(ran.stdout.ends_with("=> 403 csrf.unproven: the request comes from another site\n"), "{ran:?}");
}
