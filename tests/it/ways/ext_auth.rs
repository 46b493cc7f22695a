//! A service that says who somebody is: asked as nginx asks, believed in what it was told to say, and in nothing else.
use crate::harness::{Bundle, Gateway, Scripted, Upstream, free_address, outcomes};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;

const PAGE: &str = "https://acme.localhost/asked";

/// A service that knows three cookies and a bearer token.
async fn service() -> Upstream {
    Upstream::answering(|seen| {
        let known = seen.header("cookie").or_else(|| seen.header("authorization")).unwrap_or_default();
        let (status, user) = match known.as_str() {
            "sid=good" | "Bearer opaque" => (204, Some("ann")),
            "sid=bad" => (401, Some("ann")),
            "sid=no" => (403, Some("ann")),
            "sid=moved" => (302, Some("ann")),
            "sid=broken" => (500, Some("ann")),
            _ => (200, None),
        };
        let mut answer = Response::builder()
            .status(status)
            .header("x-auth-tenant", "acme")
            .header("x-auth-roles", "viewer, cashier")
            .header("set-cookie", "sid=other")
            .header("x-user-id", "root")
            .header("location", "https://elsewhere.test/");
        if let Some(user) = user {
            answer = answer.header("x-auth-user", user);
        }
        answer.body(Full::new(Bytes::new())).unwrap()
    })
    .await
}

fn route(bundle: &Bundle, name: &str, service: &str) {
    bundle.route(&format!(
        "  {name}:\n    match: {{hosts: [\"*.localhost\"], paths: [/{name}], methods: [GET, POST]}}\n    upstream: app\n    headers: api-json\n    auth: {{ext_auth: {service}}}\n    require: {{permission: bookings.read}}"
    ));
}

fn section(bundle: &Bundle, services: &[(&str, String)]) {
    let mut text = "ext_auth:\n".to_owned();
    for (name, address) in services {
        text.push_str(&format!(
            "  {name}: {{url: \"http://{address}/check?from=moat\", send: [cookie, authorization], timeout: 400ms, identity: {{subject: x-auth-user, tenant: x-auth-tenant, roles: x-auth-roles}}}}\n"
        ));
    }
    bundle.replace("tenancy:\n", &format!("{text}tenancy:\n"));
}

#[tokio::test]
async fn a_service_is_asked_as_nginx_asks_and_believed_in_what_it_was_told_to_say() {
    let service = service().await;
    let mute = Scripted::start(|_, stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    section(
        &bundle,
        &[
            ("app-login", service.address.to_string()),
            ("mute", mute.address.to_string()),
            ("dead", free_address().to_string()),
        ],
    );
    for (name, service) in [("asked", "app-login"), ("unanswered", "mute"), ("unreachable", "dead")] {
        route(&bundle, name, service);
    }
    let mut gateway = Gateway::start(bundle).await;

    for h2 in [false, true] {
        let call = gateway
            .call("POST", &format!("{PAGE}?q=1"))
            .header("content-type", "application/json")
            .header("cookie", "sid=good")
            .header("sec-fetch-site", "same-origin")
            .header("x-other", "secret")
            .header("x-original-uri", "/admin")
            .header("x-user-id", "root")
            .body("{\"amount\":1}");
        let reply = if h2 { call.h2() } else { call }.send().await;
        assert_eq!(reply.verdict(), "200", "{reply:?}");
        assert_eq!(reply.header("set-cookie"), None, "what the service sets is not for the client");
        let asked = service.last();
        assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/check?from=moat"));
        assert!(asked.body.is_empty(), "the body is nobody's but the application's");
        for (name, value) in [
            ("cookie", Some("sid=good")),
            ("x-original-method", Some("POST")),
            ("x-original-uri", Some("/asked?q=1")),
            ("x-forwarded-host", Some("acme.localhost")),
            ("x-forwarded-proto", Some("https")),
            ("x-forwarded-for", Some("127.0.0.1")),
            ("x-other", None),
            ("x-user-id", None),
            ("content-type", None),
            ("authorization", None),
        ] {
            assert_eq!(asked.header(name).as_deref(), value, "{name}");
        }
        assert_eq!(asked.header("x-request-id"), reply.header("x-request-id"));
        let seen = upstream.last();
        assert_eq!(seen.header("x-user-id").as_deref(), Some("ann"));
        assert_eq!(seen.header("x-tenant-id").as_deref(), Some("acme"));
        assert_eq!(seen.header("x-user-roles").as_deref(), Some("viewer,cashier"));
        assert_eq!(seen.header("cookie").as_deref(), Some("sid=good"), "the session is the application's own");
        assert_eq!(&seen.body[..], b"{\"amount\":1}");
    }

    let (before, asked) = (upstream.seen().len(), service.seen().len());
    let verdict = async |url: &str, cookie: &str| gateway.get(url).header("cookie", cookie).send().await.verdict();
    for (cookie, expected) in [
        ("sid=bad", "401 session.invalid"),
        ("sid=no", "403 access.denied"),
        ("sid=moved", "503 gateway.unavailable"),
        ("sid=broken", "503 gateway.unavailable"),
        ("sid=nobody", "503 gateway.unavailable"),
    ] {
        assert_eq!(verdict(PAGE, cookie).await, expected, "{cookie}");
    }
    assert_eq!(verdict("https://globex.localhost/asked", "sid=good").await, "403 tenant.mismatch");
    assert_eq!(service.seen().len(), asked + 6, "one question for one request, and no answer is kept");
    assert_eq!(verdict("https://acme.localhost/unanswered", "sid=good").await, "503 gateway.unavailable");
    assert_eq!(verdict("https://acme.localhost/unreachable", "sid=good").await, "503 gateway.unavailable");
    assert_eq!(gateway.get(PAGE).send().await.verdict(), "401 session.missing");
    assert_eq!(service.seen().len(), asked + 6, "nobody is asked about a request that carries nothing");
    // A cookie is sent by browsers whoever asks; a token is not.
    let forged = gateway.post(PAGE, "{}").header("cookie", "sid=good").header("sec-fetch-site", "cross-site");
    assert_eq!(forged.send().await.verdict(), "403 csrf.unproven");
    assert_eq!(upstream.seen().len(), before, "a refused request reached the application");
    assert_eq!(gateway.post(PAGE, "{}").header("authorization", "Bearer opaque").send().await.verdict(), "200");

    let unsaid = crate::revocation::revoke(&gateway, &["--subject", "ann"]);
    assert!(unsaid.code == Some(1) && unsaid.stderr.contains("one of `workforce`, `app-login`"), "{unsaid:?}");

    let metrics = gateway.metrics().await;
    let line = |result: &str| {
        metrics.lines().any(|l| l.starts_with("moat_authn_total{") && l.contains("\"asked\"") && l.contains(result))
    };
    assert!(line("\"ext_auth\"") && line("\"unavailable\"") && line("\"ok\""), "{metrics}");
    assert_eq!(gateway.stop(), Some(0));
    let entries = outcomes(&gateway);
    let known = entries.iter().find(|entry| entry["facts"]["carrier"] == "ext_auth").unwrap();
    assert_eq!(
        (known["facts"]["issuer"].as_str(), known["facts"]["subject"].as_str()),
        (Some("app-login"), Some("ann"))
    );
    let causes: Vec<&str> = entries.iter().filter_map(|entry| entry["cause"].as_str()).collect();
    assert!(
        causes.contains(&"`app-login` says 302") && causes.contains(&"`mute` did not answer within 400 ms"),
        "{causes:?}"
    );
}

#[tokio::test]
async fn what_a_service_may_be_is_said_at_once() {
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    section(&bundle, &[("app-login", "127.0.0.1:9".to_owned())]);
    route(&bundle, "asked", "app-login");
    let whole = bundle.read("gateway.yaml");
    for (old, new, message) in [
        ("http://127.0.0.1:9/", "http://auth.example/", "credentials would cross the network in the clear"),
        ("http://127.0.0.1:9/", "ftp://127.0.0.1/", "is no http or https URL"),
        ("send: [cookie, authorization]", "send: []", "cannot say who somebody is"),
        ("send: [cookie, authorization]", "send: [host]", "`host` cannot be a header"),
        ("timeout: 400ms", "timeout: 0s", "expected at least `10ms`"),
        ("timeout: 400ms", "timeout: 400ms, max_in_flight: 0", "expected at least `1`"),
        ("auth: {ext_auth: app-login}", "auth: {ext_auth: app-logon}", "did you mean `app-login`?"),
        ("  app-login: {", "  workforce: {", "somebody else who vouches for users"),
    ] {
        bundle.write("gateway.yaml", &whole.replace(old, new));
        let output = crate::harness::moat(bundle.root(), &["check"]);
        assert!(output.code == Some(78) && output.stderr.contains(message), "{new}: {output:?}");
    }
    bundle.write("gateway.yaml", &whole);
    assert_eq!(crate::harness::moat(bundle.root(), &["check"]).code, Some(0));
}
