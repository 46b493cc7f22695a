//! Origins as written, preflights as read, and what answers say to whom.
use super::*;
use crate::cors::Sharing;
use crate::headers::vary;
use crate::rules::*;

#[test]
fn origins_have_one_spelling() {
    for fine in [
        "https://app.example.com",
        "https://app.example.com:8443",
        "https://xn--bcher-kva.example",
        "https://192.0.2.7",
        "https://[2001:db8::1]:8443",
        "http://localhost:5173",
        "http://spa.localhost:5173",
        "http://127.0.0.1:5173",
        "http://[::1]",
    ] {
        assert_eq!(check_origin(fine), Ok(()), "{fine}");
    }
    for (wrong, message) in [
        ("null", "every sandboxed frame and every local file says `null`"),
        ("", "an origin has a scheme"),
        ("app.example.com", "an origin has a scheme"),
        ("//app.example.com", "an origin has a scheme"),
        ("HTTPS://app.example.com", "the scheme is not `https`"),
        ("javascript://app.example.com", "the scheme is not `https`"),
        ("https://app.example.com/", "an origin has no path"),
        ("https://app.example.com?", "an origin has no path"),
        ("https://app.example.com#", "an origin has no path"),
        ("https://*.example.com", "an origin has no stars"),
        ("https://b\u{fc}cher.example", "the host is not ASCII"),
        ("https://", "this is no host"),
        ("https://user@app.example.com", "this is no host"),
        ("https://a b.example", "this is no host"),
        ("https://app.example.com:", "this is no host"),
        ("https://app.example.com:0443", "this is no host"),
        ("https://app.example.com:443", "browsers leave out the scheme's own port"),
        ("http://localhost:80", "browsers leave out the scheme's own port"),
        ("https://APP.example.com", "browsers write this host otherwise"),
        ("https://app.example.com.", "browsers write this host otherwise"),
        ("https://[2001:DB8::1]", "browsers write this host otherwise"),
        ("http://app.example.com", "anybody on the way can speak as an origin of plain `http`"),
        ("http://127.0.0.1.example.com", "anybody on the way can speak as an origin of plain `http`"),
        ("http://localhost.example.com", "anybody on the way can speak as an origin of plain `http`"),
    ] {
        assert_eq!(check_origin(wrong).map_err(|e| e.message), Err(message), "{wrong}");
    }
}

fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    fields
}

fn shown(fields: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<String> = fields.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
    lines.sort();
    lines
}

#[test]
fn what_a_preflight_announces() {
    let read = |method: &str, lines: &[(&'static str, &str)]| {
        let request = Request::parse(method, "/a", "acme.localhost").unwrap();
        match Preflight::read(&request, &fields(lines)) {
            Ok(Some(p)) => format!("{} [{}] {}", p.method.as_str(), p.headers.join(" "), p.private_network),
            Ok(None) => "none".to_owned(),
            Err(refusal) => format!("{}: {}", refusal.code.id(), refusal.cause),
        }
    };
    const ORIGIN: (&str, &str) = ("origin", "https://spa.example");
    const METHOD: &str = "access-control-request-method";
    const HEADERS: &str = "access-control-request-headers";
    const PRIVATE: (&str, &str) = ("access-control-request-private-network", "true");
    assert_eq!(read("OPTIONS", &[ORIGIN]), "none");
    assert_eq!(read("OPTIONS", &[(METHOD, "PUT")]), "none");
    assert_eq!(read("GET", &[ORIGIN, (METHOD, "PUT")]), "none");
    assert_eq!(read("OPTIONS", &[ORIGIN, (METHOD, "PUT")]), "PUT [] false");
    let listed = [ORIGIN, (METHOD, "PUT"), (HEADERS, "Content-Type,,x-a ,\tx-b"), PRIVATE];
    assert_eq!(read("OPTIONS", &listed), "PUT [content-type x-a x-b] true");
    assert_eq!(read("OPTIONS", &[ORIGIN, (METHOD, "put")]), "method.not-allowed: method cannot be routed");
    assert_eq!(read("OPTIONS", &[ORIGIN, (METHOD, "P UT")]), "request.malformed: method is not a token");
    assert_eq!(read("OPTIONS", &[ORIGIN, (METHOD, "")]), "request.malformed: method is not a token");
    for twice in [METHOD, HEADERS, PRIVATE.0] {
        let lines = [ORIGIN, (METHOD, "PUT"), (HEADERS, "a"), PRIVATE, (twice, "PUT")];
        assert_eq!(read("OPTIONS", &lines), "request.ambiguous: repeated field of a preflight");
    }
    assert_eq!(
        read("OPTIONS", &[ORIGIN, (METHOD, "PUT"), (HEADERS, "x-a, b c")]),
        "request.malformed: Access-Control-Request-Headers is no list of names"
    );
}

fn route(cors: Cors, isolation: Isolation) -> Route {
    Route {
        name: "r".into(),
        templates: Vec::new(),
        methods: Methods::all(),
        upstream: None,
        regions: Vec::new(),
        timeouts: Timeouts::default(),
        tenant: RouteTenant::None,
        access: Access::Public { reason: "a test".into() },
        csrf: Csrf::Strict,
        isolation,
        cors,
        limits: Vec::new(),
        headers: 0,
        body: BodyRules { max_bytes: None, content_types: Vec::new(), with_get: false },
        audit: AuditRules::default(),
        certificate: Default::default(),
        shadow: Vec::new(),
        origin: String::new(),
    }
}

fn sharing(credentials: bool) -> Sharing {
    Sharing {
        origins: Origins::Listed(["https://spa.example".into()].into()),
        methods: Methods::default().with(Method::Get).with(Method::Put),
        headers: ["content-type".into()].into(),
        expose: Some(HeaderValue::from_static("etag")),
        credentials,
        max_age_s: 600,
        private_network: true,
    }
}

fn from(origin: &str) -> Site {
    Site { foreign: Some(origin.into()), same_origin: Some(false), ..Site::default() }
}

#[test]
fn an_answer_says_what_the_route_shares_and_nothing_of_the_application() {
    let application = [
        ("access-control-allow-origin", "https://evil.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-origin", "null"),
    ];
    let told = |cors: Cors, site: &Site| {
        let mut fields = fields(&application);
        let removed = share(&mut fields, &route(cors, Isolation::Off), None, site);
        format!("{removed} {}", shown(&fields).join(" "))
    };
    let spa = from("https://spa.example");
    let shared = |credentials| Cors::Shared(Box::new(sharing(credentials)));
    let origin = "access-control-allow-origin: https://spa.example access-control-expose-headers: etag vary: origin";
    assert_eq!(told(Cors::Closed, &spa), "2 ");
    assert_eq!(told(Cors::Application, &spa), format!("0 {}", shown(&fields(&application)).join(" ")));
    assert_eq!(told(shared(false), &spa), format!("2 {origin}"));
    assert_eq!(told(shared(true), &spa), format!("2 access-control-allow-credentials: true {origin}"));
    let null = Site { opaque: true, same_origin: Some(false), ..Site::default() };
    for nobody in [Site::default(), from("https://spa.example."), null] {
        assert_eq!(told(shared(true), &nobody), "2 vary: origin", "{nobody:?}");
    }
    let anybody = || Cors::Shared(Box::new(Sharing { origins: Origins::Any, expose: None, ..sharing(false) }));
    assert_eq!(told(anybody(), &Site::default()), "2 access-control-allow-origin: * vary: origin");
    assert_eq!(told(anybody(), &spa), "2 access-control-allow-origin: * vary: origin");
}

#[test]
fn the_answer_to_a_preflight() {
    let preflight = Preflight { method: Method::Put, headers: ["content-type".into()].into(), private_network: true };
    let mut fields = HeaderMap::new();
    let route = route(Cors::Shared(Box::new(sharing(true))), Isolation::SameSite);
    preflight.answer(&mut fields, &route, None, &from("https://spa.example"));
    let vary = "vary: origin, sec-fetch-site, sec-fetch-mode, sec-fetch-dest, access-control-request-method, \
                access-control-request-headers";
    assert_eq!(
        shown(&fields),
        [
            "access-control-allow-credentials: true",
            "access-control-allow-headers: content-type",
            "access-control-allow-methods: PUT",
            "access-control-allow-origin: https://spa.example",
            "access-control-allow-private-network: true",
            "access-control-max-age: 600",
            vary,
        ]
    );
}

#[test]
fn vary_is_one_line_without_repetition() {
    for (before, names, after) in [
        (&[][..], "origin", "vary: origin"),
        (&["Accept-Encoding"][..], "origin", "vary: Accept-Encoding, origin"),
        (&["Origin"][..], "origin", "vary: Origin"),
        (&["accept", "ORIGIN , te"][..], "origin, sec-fetch-site", "vary: accept, ORIGIN , te, sec-fetch-site"),
        (&["*"][..], "origin", "vary: *"),
        (&["accept, *"][..], "origin", "vary: accept, *"),
    ] {
        let lines: Vec<(&'static str, &str)> = before.iter().map(|value| ("vary", *value)).collect();
        let mut fields = fields(&lines);
        vary(&mut fields, names);
        vary(&mut fields, names);
        assert_eq!(shown(&fields).last().map(String::as_str), Some(after));
    }
}
