//! Listeners without TLS: the redirecting one, and the one that proxies because the operator says so.
use super::fixture::*;
use crate::config::settings::ListenerKind;
use crate::serve::inherited::Inherited;
use crate::serve::listener::bind;
use decide::refusal::Code;

async fn redirecting(https_port: Option<u16>) -> Gate {
    Gate::open(settings(ListenerKind::Redirect { https_port })).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn get_and_head_are_told_where_tls_is() {
    let gate = redirecting(Some(8443)).await;
    for (request, location) in [
        ("GET / HTTP/1.1\r\nHost: main.example\r\n\r\n", "https://main.example:8443/"),
        ("GET /a?b=//c&d HTTP/1.1\r\nHost: MAIN.example:80\r\n\r\n", "https://main.example:8443/a?b=//c&d"),
    ] {
        let mut tcp = gate.tcp().await;
        let answer = ask(&mut tcp, request.as_bytes()).await.unwrap();
        assert_eq!((answer.status(), answer.header("location")), ("308", Some(location)));
        assert_eq!((answer.header("connection"), answer.header("x-dressed")), (Some("close"), Some("yes")));
        assert!(closed(&mut tcp).await);
    }
    let mut tcp = gate.tcp().await;
    tokio::io::AsyncWriteExt::write_all(&mut tcp, b"HEAD /h HTTP/1.1\r\nHost: main.example\r\n\r\n").await.unwrap();
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut tcp, &mut text).await.unwrap();
    assert!(text.contains("location: https://main.example:8443/h\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    let gate = redirecting(None).await;
    let answer = ask(&mut gate.tcp().await, &get("/x", "main.example")).await.unwrap();
    assert_eq!(answer.header("location"), Some("https://main.example/x"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_else_is_refused_and_leads_nowhere() {
    let gate = redirecting(None).await;
    for (request, code) in [
        ("POST / HTTP/1.1\r\nHost: main.example\r\nContent-Length: 0\r\n\r\n", Code::RequestPlaintext),
        ("DELETE / HTTP/1.1\r\nHost: main.example\r\n\r\n", Code::RequestPlaintext),
        ("GET / HTTP/1.1\r\nHost: main.example\r\nContent-Length: 3\r\n\r\nabc", Code::RequestPlaintext),
        ("GET //evil.example/ HTTP/1.1\r\nHost: main.example\r\n\r\n", Code::RequestAmbiguous),
        ("GET /a%0d%0aSet-Cookie:x HTTP/1.1\r\nHost: main.example\r\n\r\n", Code::RequestAmbiguous),
        ("GET /\\evil.example HTTP/1.1\r\nHost: main.example\r\n\r\n", Code::RequestAmbiguous),
        ("GET / HTTP/1.1\r\nHost: good.example@evil.example\r\n\r\n", Code::RequestAmbiguous),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Code::RequestMalformed),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: main.example\r\n\r\n", Code::RequestAmbiguous),
        ("GET / HTTP/1.1\nHost: main.example\n\n", Code::RequestMalformed),
    ] {
        let answer = ask(&mut gate.tcp().await, request.as_bytes()).await.unwrap();
        let (refusal, _) = gate.front.refused.lock().unwrap().pop().unwrap_or_else(|| panic!("{request:?}"));
        assert_eq!((refusal.code, answer.header("location")), (code, None), "{request:?}: {}", refusal.cause);
        assert_eq!(answer.header("x-code"), Some(code.id()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plaintext_listener_proxies_without_tls_facts() {
    let gate = Gate::open(settings(ListenerKind::Plaintext)).await;
    let mut tcp = gate.tcp().await;
    for path in ["/a", "/b"] {
        let answer = ask(&mut tcp, &get(path, "anything.example")).await.unwrap();
        assert_eq!((answer.status(), answer.body.clone()), ("200", format!("GET {path} ")));
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_the_listeners_name() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings(ListenerKind::Plaintext);
    settings.address = taken.local_addr().unwrap();
    let error = bind(&settings.into(), None, &mut Inherited::none(), false).unwrap_err();
    assert!(error.to_string().starts_with("listener `public`: cannot listen on"), "{error}");
    let error = bind(&super::fixture::settings(modern()).into(), None, &mut Inherited::none(), false).unwrap_err();
    assert!(error.to_string().contains("no certificates"));
}
