//! Guessed passwords: counted by account, whatever the guesser writes, and the form reaches the application as it was.
use super::{limited, over, post_form};
use crate::harness::{Bundle, Gateway, Scripted, Upstream, read_head, read_until, with};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NAME: &str = "zebediah";

#[tokio::test]
async fn an_account_is_counted_however_it_is_spelt_and_nothing_tells_its_name() {
    for h2 in [false, true] {
        let (mut gateway, upstream) = with(|bundle: &mut Bundle| {
            limited(bundle, "login", "{key: [form.username_hash, client.ip_prefix], rate: 3/h, burst: 3}");
        })
        .await;
        let bodies = [
            format!("username={NAME}&password=1"),
            "password=2&username=%5Aebe%44iah+".to_owned(),
            "username=%EF%BC%BAEBEDI%C3%81H&password=a%20b+c&next=%2F".to_owned(),
        ];
        for body in &bodies {
            assert_eq!(post_form(&gateway, h2, "/login", body).await.verdict(), "200", "{body}");
            assert_eq!(upstream.last().body, body.as_bytes(), "byte for byte");
        }
        let refused = post_form(&gateway, h2, "/login", &bodies[1]).await;
        assert_eq!(refused.verdict(), "429 quota.exceeded", "h2: {h2}");
        assert_eq!(post_form(&gateway, h2, "/login", "username=other&password=1").await.verdict(), "200");
        for _ in 0..5 {
            assert_eq!(
                over(h2, gateway.get("https://acme.localhost/login")).send().await.verdict(),
                "200",
                "the page itself"
            );
        }
        assert_eq!(gateway.stop(), Some(0));
        let folder = gateway.bundle.path("state/audit");
        let logs =
            std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap_or_default());
        let all: String = logs.map(|bytes| String::from_utf8_lossy(&bytes).to_lowercase()).collect();
        assert!(all.contains("quota.body") && !all.contains(NAME), "an entry names the account");
        assert!(!gateway.log_lines().join("\n").to_lowercase().contains(NAME), "a log line names the account");
    }
}

#[tokio::test]
async fn what_cannot_be_counted_never_reaches_the_application() {
    let (gateway, upstream) = with(|bundle: &mut Bundle| {
        limited(bundle, "login", "{key: [form.username_hash], rate: 100/s, burst: 100}");
        limited(bundle, "api-login", "{key: [json.user.email_hash], rate: 100/s, burst: 100, inspect: 1KiB}");
    })
    .await;
    let long = format!("username=ann&padding={}", "p".repeat(17 * 1024));
    let wide = format!("{{\"user\":{{\"email\":\"a@b.c\"}},\"p\":\"{}\"}}", "p".repeat(1024));
    let form = "application/x-www-form-urlencoded";
    for h2 in [false, true] {
        for (path, content_type, body, verdict) in [
            ("/login", form, "username=ann&username=bob", "422 body.invalid"),
            ("/login", form, "password=x", "422 body.invalid"),
            ("/login", form, "", "422 body.invalid"),
            ("/login", form, "Username=bob", "422 body.invalid"),
            ("/login?username=bob", form, "username=ann", "422 body.invalid"),
            ("/login", form, &long, "413 request.too-large"),
            ("/login", "application/json", "{\"username\":\"ann\"}", "415 body.unsupported"),
            ("/login", "multipart/form-data; boundary=x", "--x--", "415 body.unsupported"),
            ("/login", "application/x-www-form-urlencoded; charset=utf-7", "username=ann", "415 body.unsupported"),
            ("/login", "text/plain", "username=ann", "415 body.unsupported"),
            ("/api-login", "application/json", "{\"user\":{\"email\":\"a\",\"email\":\"b\"}}", "422 body.invalid"),
            ("/api-login", "application/json", "{\"user\":{\"email\":{\"$ne\":1}}}", "422 body.invalid"),
            ("/api-login", "application/json", &wide, "413 request.too-large"),
        ] {
            let call = gateway.call("POST", &format!("https://acme.localhost{path}"));
            let reply = over(h2, call.header("content-type", content_type).body(body.to_owned())).send().await;
            assert_eq!(reply.verdict(), verdict, "h2: {h2} {content_type} {body:.60}");
        }
        let call = gateway.call("POST", "https://acme.localhost/login").header("content-type", form);
        let zipped = over(h2, call.header("content-encoding", "gzip").body("username=ann")).send().await;
        assert_eq!(zipped.verdict(), "415 body.unsupported");
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    let ok = gateway.post("https://acme.localhost/api-login", "{\"user\":{\"email\":\"a@b.c\"}}").send().await;
    assert_eq!(ok.verdict(), "200");
    assert_eq!(upstream.last().body, "{\"user\":{\"email\":\"a@b.c\"}}");
}

/// An application that takes a sign-in with the password `right` (303), and shows the form again otherwise (200).
async fn sign_in() -> Upstream {
    Upstream::answering(|seen| {
        let right = seen.body.ends_with(b"password=right");
        Response::builder().status(if right { 303 } else { 200 }).body(Full::from("")).unwrap()
    })
    .await
}

#[tokio::test]
async fn only_failed_sign_ins_count_and_the_owner_is_slowed_down_not_locked_out() {
    for h2 in [false, true] {
        let upstream = sign_in().await;
        let bundle = Bundle::standard(upstream.address);
        limited(
            &bundle,
            "login",
            "{key: [form.username_hash], rate: 2/h, burst: 2, count: [200, 4xx], on_exceed: {delay: 200ms, waiting: 3}}",
        );
        let gateway = Gateway::start(bundle).await;
        let guess = async |password: &str| {
            let reply = post_form(&gateway, h2, "/login", &format!("username=ann&password={password}")).await;
            let entry = gateway.outcome(&reply.header("x-request-id").unwrap()).await;
            (reply.status, entry["outcome"]["delayed_ms"].as_u64().is_some())
        };
        for _ in 0..6 {
            assert_eq!(guess("right").await, (303, false), "the owner signs in as often as she likes; h2: {h2}");
        }
        assert_eq!(guess("1").await, (200, false));
        assert_eq!(guess("2").await, (200, false));
        assert_eq!(guess("3").await, (200, true), "h2: {h2}");
        assert_eq!(guess("right").await, (303, true), "slower, but in");
        let many: Vec<_> = (0..20)
            .map(|n| post_form(&gateway, h2, "/login", ["username=ann&password=x", "username=ANN&password=y"][n % 2]))
            .collect();
        let mut statuses = Vec::new();
        let mut tasks = at_once(many).await;
        statuses.append(&mut tasks);
        let passed = statuses.iter().filter(|status| **status == 200).count();
        assert!((1..=4).contains(&passed), "{statuses:?}");
        assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    }
}

/// Runs all of them at once.
async fn at_once(calls: Vec<impl Future<Output = crate::harness::Reply>>) -> Vec<u16> {
    let mut calls: Vec<_> = calls.into_iter().map(|call| (Box::pin(call), None)).collect();
    std::future::poll_fn(|cx| {
        for (call, done) in &mut calls {
            if done.is_none()
                && let std::task::Poll::Ready(reply) = call.as_mut().poll(cx)
            {
                *done = Some(reply.status);
            }
        }
        match calls.iter().map(|(_, done)| *done).collect() {
            Some(all) => std::task::Poll::Ready(all),
            None => std::task::Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn bodies_in_pieces_and_those_that_wait_to_be_asked_for_arrive_as_they_came() {
    let arrived = Arc::new(Mutex::new(String::new()));
    let kept = arrived.clone();
    let script = Scripted::start(move |_, mut stream| {
        let kept = kept.clone();
        async move {
            let head = read_head(&mut stream).await;
            let body = match head.contains("chunked") {
                true => read_until(&mut stream, "0\r\n\r\n").await,
                false => read_until(&mut stream, "password=x").await,
            };
            *kept.lock().unwrap() = format!("{head}{body}");
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let bundle = Bundle::standard(script.address);
    limited(&bundle, "login", "{key: [form.username_hash], rate: 2/h, burst: 2}");
    let gateway = Gateway::start(bundle).await;
    let head = "POST /login HTTP/1.1\r\nHost: acme.localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n";

    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    stream.write_all(format!("{head}Expect: 100-continue\r\nContent-Length: 23\r\n\r\n").as_bytes()).await.unwrap();
    assert_eq!(read_head(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
    for piece in ["username=", "ann&", "password=x"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    let seen = arrived.lock().unwrap().clone();
    assert!(seen.ends_with("\r\n\r\nusername=ann&password=x"), "{seen}");
    assert!(!seen.to_lowercase().contains("expect"), "its body was there already: {seen}");

    // Chunks of one byte, and on the same connection the next request.
    let chunks: String = "username=ANN".chars().map(|c| format!("1\r\n{c}\r\n")).collect();
    let next = "GET /login HTTP/1.1\r\nHost: acme.localhost\r\nConnection: close\r\n\r\n";
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    let all = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n{next}");
    stream.write_all(all.as_bytes()).await.unwrap();
    let answer = read_head(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(arrived.lock().unwrap().contains("1\r\nA\r\n"), "{arrived:?}");
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 "), "the next request was not swallowed");

    // Both were the same account: the third is refused, and the connection goes on.
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    let third = format!("{head}Content-Length: 12\r\n\r\nusername=annGET /login HTTP/1.1\r\n");
    stream.write_all(third.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 429"));
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_form_is_recorded_and_forwards_nothing() {
    let (gateway, upstream) = with(|bundle: &mut Bundle| {
        limited(bundle, "login", "{key: [form.username_hash], rate: 2/h, burst: 2}");
    })
    .await;
    let mut stream = gateway.tls("acme.localhost", &[b"http/1.1"]).await;
    let head = "POST /login HTTP/1.1\r\nHost: acme.localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 500\r\n\r\nusername=ann";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    let entry = gateway.outcome_of_path("/login").await;
    assert_eq!(entry["verdict"], "request.malformed", "{entry}");
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn an_application_behind_http2_gets_the_form_too() {
    let upstream = Upstream::start().await;
    let app = crate::harness::secure::App::start("second", None).await;
    let bundle = Bundle::standard(upstream.address);
    bundle.replace(
        "upstreams:\n",
        &format!("upstreams:\n  second:\n    endpoints: [\"{}\"]\n    http: {{version: h2}}\n", app.address),
    );
    limited(&bundle, "login", "{key: [body.username_hash], rate: 2/h, burst: 2}");
    let text = bundle.read("gateway.yaml");
    let (before, login) = text.split_once("  login:\n").unwrap();
    bundle.write("gateway.yaml", &format!("{before}  login:\n{}", login.replace("upstream: app", "upstream: second")));
    let gateway = Gateway::start(bundle).await;
    for h2 in [false, true] {
        let reply = post_form(&gateway, h2, "/login", "username=ann&password=x").await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "second"), "h2: {h2}");
        let entry = gateway.outcome(&reply.header("x-request-id").unwrap()).await;
        assert_eq!(entry["outcome"]["bytes_in"], 23, "{entry}");
    }
    let json = gateway.post("https://acme.localhost/login", "{\"username\":\"Ann\"}").send().await;
    assert_eq!(json.verdict(), "429 quota.exceeded", "a form and JSON are the same account");
}

#[tokio::test]
async fn a_large_form_over_http2_arrives_whole() {
    let (gateway, upstream) = with(|bundle: &mut Bundle| {
        limited(bundle, "login", "{key: [form.username_hash], rate: 20/h, burst: 20, inspect: 32KiB}");
    })
    .await;
    let body = format!("a={}&username=ann&b={}", "1234567890".repeat(1500), "x".repeat(15_000));
    for h2 in [false, true] {
        assert_eq!(post_form(&gateway, h2, "/login", &body).await.verdict(), "200", "h2: {h2}");
        assert_eq!(upstream.last().body, Bytes::from(body.clone()), "h2: {h2}");
    }
}

#[tokio::test]
async fn a_shadow_limit_lets_pass_what_it_cannot_read() {
    let (gateway, upstream) = with(|bundle: &mut Bundle| {
        limited(bundle, "login", "{key: [form.username_hash], rate: 1/h, burst: 1, shadow: true}");
    })
    .await;
    for h2 in [false, true] {
        let long = format!("username=ann&padding={}", "p".repeat(40 * 1024));
        for body in ["username=ann&username=bob", "username=ann", "username=ann", &long] {
            assert_eq!(post_form(&gateway, h2, "/login", body).await.verdict(), "200", "h2: {h2} {body:.40}");
            assert_eq!(upstream.last().body, body.as_bytes(), "h2: {h2}");
        }
    }
}
