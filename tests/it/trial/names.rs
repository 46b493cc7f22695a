//! Forged identity headers: every name that the gateway sets or strips, every spelling, place and protocol.
use super::backend::Recorder;
use super::case::Results;
use super::readers::{Read, STRICT};
use super::stage::{Doors, answers, bundle, each};
use crate::harness::Gateway;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// What a client may not say about itself.
const NAMES: [&str; 62] = [
    "x-tenant-id",
    "x-user-id",
    "x-user-roles",
    "x-request-id",
    "moat-assertion",
    "x-csp-nonce",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-client-cert",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-forwarded-access-token",
    "x-forwarded-preferred-username",
    "traceparent",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-url",
    "x-rewrite-url",
    "x-original-uri",
    "x-original-host",
    "x-original-forwarded-for",
    "x-host",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "client-ip",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-middleware-subrequest",
    "x-envoy-external-address",
    "x-envoy-original-path",
    "remote-user",
    "remote-groups",
    "remote-email",
    "remote-name",
    "x-remote-user",
    "x-remote-group",
    "x-remote-extra-scopes",
    "x-auth-request-user",
    "x-auth-request-email",
    "x-authenticated-user",
    "x-webauth-user",
    "x-authentik-username",
    "x-pomerium-jwt-assertion",
    "x-amzn-oidc-identity",
    "x-amzn-oidc-data",
    "x-goog-authenticated-user-email",
    "x-goog-iap-jwt-assertion",
    "x-ms-client-principal",
    "ssl-client-cert",
    "x-ssl-client-dn",
    "x-client-cert",
];

/// The mark of what was forged; the length keeps it out of everything honest.
const FORGED: &str = "f0rg3d-by-the-client";

/// A forged request: fields, and trailers.
struct Forged {
    name: String,
    fields: String,
    trailers: Option<String>,
}

fn forgeries() -> Vec<Forged> {
    let mut all = Vec::new();
    let mut add = |name: String, fields: String| all.push(Forged { name, fields, trailers: None });
    for name in NAMES {
        let capital: Vec<String> = name.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        for spelling in [name.to_owned(), name.to_uppercase(), capital.join("-")] {
            add(format!("as it is: {spelling}"), format!("{spelling}: {FORGED}\r\n"));
        }
        add(
            format!("repeated: {name}"),
            format!("{name}: {FORGED}\r\nX-Between: 1\r\n{}: {FORGED}\r\n", name.to_uppercase()),
        );
        add(format!("a list: {name}"), format!("{name}: a, {FORGED}, b\r\n"));
        if name.contains('-') {
            for mark in ["_", ".", "!", "~"] {
                add(format!("with {mark}: {name}"), format!("{}: {FORGED}\r\n", name.replace('-', mark)));
            }
            add(format!("with one mark: {name}"), format!("{}: {FORGED}\r\n", name.replacen('-', "_", 1)));
            add(
                format!("in capitals with marks: {name}"),
                format!("{}: {FORGED}\r\n", name.replace('-', "_").to_uppercase()),
            );
            add(format!("with a space: {name}"), format!("{}: {FORGED}\r\n", name.replacen('-', " ", 1)));
        }
        for (what, spelling) in [
            ("behind", format!("{name} ")),
            ("before", format!(" {name}")),
            ("tab", format!("{name}\t")),
            ("NUL", format!("{name}\0")),
            ("vertical tab", format!("{name}\u{b}")),
        ] {
            add(format!("white space {what}: {name}"), format!("{spelling}: {FORGED}\r\n"));
        }
        add(format!("folded: {name}"), format!("X-Before: y\r\n {name}: {FORGED}\r\n"));
        add(format!("behind a line feed: {name}"), format!("X-Before: y\n{name}: {FORGED}\r\n"));
        add(format!("behind a carriage return: {name}"), format!("X-Before: y\r{name}: {FORGED}\r\n"));
        add(format!("named in Connection: {name}"), format!("Connection: {name}\r\n{name}: {FORGED}\r\n"));
        add(format!("named in Connection behind close: {name}"), format!("Connection: close, {name}\r\n"));
    }
    for name in NAMES {
        for spelling in [name.to_owned(), name.replace('-', "_"), name.to_uppercase()] {
            let announced = format!("Trailer: {spelling}\r\n");
            let trailers = Some(format!("{spelling}: {FORGED}\r\n"));
            all.push(Forged { name: format!("in the trailers: {spelling}"), fields: announced, trailers });
        }
    }
    all
}

/// Where the mark is in a request that reached the application.
fn found(read: &Read) -> Vec<String> {
    let fields = read.fields.iter().chain(&read.trailers);
    let marked = fields.filter(|(name, value)| value.contains(FORGED) || name.contains(FORGED));
    let mut wrong: Vec<String> = marked.map(|field| format!("{field:?} in {} {}", read.method, read.target)).collect();
    for (name, value) in [
        ("x-tenant-id", "acme"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-user-id", "someone@acme"),
        ("x-user-roles", "viewer"),
    ] {
        if read.values(name).collect::<Vec<_>>() != [value] {
            wrong.push(format!(
                "{name} is {:?} in {} {}",
                read.values(name).collect::<Vec<_>>(),
                read.method,
                read.target
            ));
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_forged_header_gets_through() {
    let all = forgeries();
    let backend = Recorder::start().await;
    let bundle = bundle(backend.address, backend.address);
    bundle.route("  signed-in:\n    match: {hosts: [\"*.localhost\"], paths: [\"/s/**\"], methods: [GET, POST]}\n    upstream: app\n    auth: {bearer: workforce}\n    require: {session: any}\n    csrf: off\n    headers: api-json");
    let mut gateway = Gateway::start(bundle).await;
    let doors = Doors::of(&gateway);
    let token = gateway.token("acme", &["viewer"]);
    let mut results = Results::default();

    let sent: Vec<Vec<u8>> = all
        .iter()
        .enumerate()
        .map(|(number, forged)| {
            let (method, body) = match &forged.trailers {
                None => ("GET", "\r\n".to_owned()),
                Some(trailers) => ("POST", format!("Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{trailers}\r\n")),
            };
            let fields = &forged.fields;
            let close = if fields.starts_with("Connection") { "" } else { "Connection: close\r\n" };
            format!("{method} /s/{number:04} HTTP/1.1\r\nHost: acme.localhost\r\nAuthorization: Bearer {token}\r\n{close}{fields}{body}").into_bytes()
        })
        .collect();
    let played = {
        let doors = doors.clone();
        each(sent, move |_, bytes| {
            let doors = doors.clone();
            async move { doors.send(false, &[&bytes]).await }
        })
        .await
    };
    for (forged, came) in all.iter().zip(played) {
        let (mut wrong, mut served, mut refused) = (Vec::new(), false, false);
        match came.map_err(|_| "the connection stays open".to_owned()).and_then(|bytes| answers(&bytes)).as_deref() {
            Ok([answer]) => {
                served = answer.field("x-seen").is_some();
                refused = answer.code().is_some_and(|code| code.starts_with("request."));
                if served == refused {
                    wrong.push(format!("{}: {answer:?}", forged.name));
                }
            }
            other => wrong.push(format!("{}: {other:?}", forged.name)),
        }
        let class = forged.name.split(':').next().unwrap_or_default();
        results.add(if class.contains("trailers") { "trailers" } else { "headers" }, served, refused, wrong);
    }

    // Over HTTP/2, as far as a client says it at all.
    let io = TokioIo::new(doors.http2("acme.localhost").await);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut spelt: Vec<String> = NAMES.map(str::to_owned).to_vec();
    for mark in ["_", ".", "!"] {
        spelt.extend(NAMES.iter().filter(|name| name.contains('-')).map(|name| name.replace('-', mark)));
    }
    for name in spelt {
        for times in [1, 2] {
            let mut request =
                Request::get("https://acme.localhost/s/http2").header("authorization", format!("Bearer {token}"));
            for _ in 0..times {
                request = request.header(&*name, FORGED);
            }
            let response = sender.clone().send_request(request.body(Full::<bytes::Bytes>::default()).unwrap()).await;
            let (head, body) = response.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let (served, refused) = (head.headers.contains_key("x-seen"), head.status == 400);
            let wrong =
                if served == refused { vec![format!("{name} over HTTP/2: {head:?} {body:?}")] } else { Vec::new() };
            results.add("HTTP/2", served, refused, wrong);
        }
    }
    assert_eq!(gateway.stop(), Some(0));
    let mut arrived = 0;
    for transcript in backend.transcripts() {
        let (reads, left) = STRICT.all(&transcript);
        results.failures.extend(left);
        arrived += reads.len();
        results.failures.extend(reads.iter().flat_map(found));
    }
    println!("{} forgeries, {arrived} requests arrived without them", results.count());
    assert!(results.count() >= 340, "{}", results.count());
    results.judge("names");
}
