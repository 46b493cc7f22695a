//! What pages of other origins may do, on the wire over both protocols and in a real browser.
mod browser;
mod token;

use crate::harness::{Bundle, Gateway, Reply, Seen, Upstream, moat, outcomes};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;

const SPA: &str = "https://spa.example";

/// An application that would share everything with everybody.
fn careless(seen: &Seen) -> Response<Full<Bytes>> {
    Response::builder()
        .header("access-control-allow-origin", seen.header("origin").unwrap_or_else(|| "*".to_owned()))
        .header("access-control-allow-credentials", "true")
        .header("alt-svc", "h3=\":8443\"")
        .header("vary", "Accept-Encoding")
        .header("etag", "\"1\"")
        .body(Full::from("secret"))
        .unwrap()
}

/// Routes for a page on another origin, for widgets of tenants, and for signing in.
fn open_to(bundle: &Bundle, origin: &str) {
    bundle.replace("acme: {class: standard}", "acme: {class: standard, embed_origins: [\"https://www.acme.example\"]}");
    let match_ =
        |path: &str, methods: &str| format!("{{hosts: [\"*.localhost\"], paths: [{path}], methods: [{methods}]}}");
    let cookie = "{any_of: [{bearer: workforce}, {cookie: {name: __Host-nl, issuer: workforce}}]}";
    bundle.route(&format!(
        "  spa:
    match: {}
    upstream: app
    auth: {cookie}
    require: {{session: any}}
    cors: {{origins: [\"{origin}\"], methods: [GET, PUT], headers: [content-type], expose: [etag], credentials: true}}
    headers: api-json
  widget:
    match: {}
    upstream: app
    public: \"anybody may see it within a customer's page\"
    cors: {{origins_from: tenant.embed_origins, methods: [GET], max_age: 10m}}
    headers: embeddable
  mirror:
    match: {}
    upstream: app
    public: \"the application answers for itself\"
    cors: application
    headers: api-json
  sign-in:
    match: {}
    upstream: app
    public: \"there is no session yet\"
    csrf: strict
    headers: api-json",
        match_("/spa", "GET, HEAD, POST, PUT, DELETE"),
        match_("/widget", "GET"),
        match_("/mirror", "GET, OPTIONS"),
        match_("/sign-in", "POST"),
    ));
    let profiles = bundle.read("policies/headers.yaml");
    bundle.write("policies/headers.yaml", &format!("{profiles}{EMBEDDABLE}"));
}

const EMBEDDABLE: &str = r#"  embeddable:
    extends: base
    set:
      content-security-policy:
        directives: {default-src: ["'self'"], frame-ancestors: ["tenant.embed_origins"], object-src: ["'none'"], base-uri: ["'none'"]}
      cross-origin-resource-policy: cross-origin
"#;

async fn start() -> (Gateway, Upstream) {
    let upstream = Upstream::answering(careless).await;
    let bundle = Bundle::standard(upstream.address);
    open_to(&bundle, SPA);
    (Gateway::start(bundle).await, upstream)
}

/// Asks with these headers, `name: value` each.
async fn ask(gateway: &Gateway, h2: bool, line: &str, headers: &[(&'static str, &str)]) -> Reply {
    let (method, path) = line.split_once(' ').unwrap();
    let url = match path.starts_with('/') {
        true => format!("https://acme.localhost{path}"),
        false => format!("https://{path}"),
    };
    let call = headers.iter().fold(gateway.call(method, &url), |call, (name, value)| call.header(name, value));
    if h2 { call.h2().send().await } else { call.send().await }
}

const METHOD: &str = "access-control-request-method";
const HEADERS: &str = "access-control-request-headers";
const ISOLATED: &str = "sec-fetch-site, sec-fetch-mode, sec-fetch-dest";

#[tokio::test]
async fn preflights_are_the_gateways_to_answer() {
    let (gateway, upstream) = start().await;
    for h2 in [false, true] {
        let granted =
            ask(&gateway, h2, "OPTIONS /spa", &[("origin", SPA), (METHOD, "PUT"), (HEADERS, "content-type")]).await;
        assert_eq!(granted.status, 204, "{granted:?}");
        for (name, value) in [
            ("access-control-allow-origin", Some(SPA)),
            ("access-control-allow-methods", Some("PUT")),
            ("access-control-allow-headers", Some("content-type")),
            ("access-control-allow-credentials", Some("true")),
            ("access-control-max-age", Some("600")),
            ("access-control-allow-private-network", None),
            ("x-content-type-options", Some("nosniff")),
            ("content-length", None),
        ] {
            assert_eq!(granted.header(name).as_deref(), value, "{name}, h2: {h2}");
        }
        assert!(granted.header("vary").unwrap().starts_with("origin, "), "{granted:?}");
        for (line, headers) in [
            ("OPTIONS /spa", vec![("origin", "https://spa.example."), (METHOD, "PUT")]),
            ("OPTIONS /spa", vec![("origin", "https://evil.spa.example"), (METHOD, "PUT")]),
            ("OPTIONS /spa", vec![("origin", "null"), (METHOD, "PUT")]),
            ("OPTIONS /spa", vec![("origin", SPA), (METHOD, "DELETE")]),
            ("OPTIONS /spa", vec![("origin", SPA), (METHOD, "PUT"), (HEADERS, "authorization")]),
            (
                "OPTIONS /spa",
                vec![("origin", SPA), (METHOD, "PUT"), ("access-control-request-private-network", "true")],
            ),
            ("OPTIONS /api/bookings", vec![("origin", SPA), (METHOD, "POST")]),
            ("OPTIONS globex.localhost/widget", vec![("origin", "https://www.acme.example"), (METHOD, "GET")]),
        ] {
            let refused = ask(&gateway, h2, line, &headers).await;
            assert_eq!(refused.verdict(), "403 csrf.unproven", "{line} {headers:?}");
            assert_eq!(refused.header("access-control-allow-methods"), None, "{line} {headers:?}");
        }
        let twice = [("origin", SPA), (METHOD, "PUT"), (METHOD, "GET")];
        assert_eq!(ask(&gateway, h2, "OPTIONS /spa", &twice).await.verdict(), "400 request.ambiguous");
        let nowhere = [("origin", SPA), (METHOD, "PATCH")];
        assert_eq!(ask(&gateway, h2, "OPTIONS /spa", &nowhere).await.verdict(), "405 method.not-allowed");
        let suspended = [("origin", SPA), (METHOD, "PUT")];
        assert_eq!(
            ask(&gateway, h2, "OPTIONS initech.localhost/spa", &suspended).await.verdict(),
            "403 tenant.suspended"
        );
        assert_eq!(upstream.seen().len(), 0, "the application was asked");
    }
    let mirrored = ask(&gateway, false, "OPTIONS /mirror", &[("origin", "https://any.example"), (METHOD, "GET")]).await;
    assert_eq!(mirrored.header("access-control-allow-origin").as_deref(), Some("https://any.example"));
    assert_eq!(upstream.last().method, "OPTIONS");
    let asked = |g: &Gateway| outcomes(g).iter().filter(|entry| entry.to_string().contains("\"OPTIONS\"")).count();
    gateway.until("each has its entry", async |g| asked(g) == 2 * 12 + 1).await;
}

#[tokio::test]
async fn answers_say_what_the_route_shares_and_what_caches_must_tell_apart() {
    let (gateway, upstream) = start().await;
    let token = gateway.token("acme", &["viewer"]);
    let cookie = format!("__Host-nl={token}");
    let both = format!("Accept-Encoding, origin, {ISOLATED}");
    for h2 in [false, true] {
        let spa = ask(&gateway, h2, "GET /spa", &[("origin", SPA), ("cookie", &cookie)]).await;
        assert_eq!(spa.status, 200, "{spa:?}");
        assert_eq!(spa.header("access-control-allow-origin").as_deref(), Some(SPA));
        assert_eq!(spa.header("access-control-allow-credentials").as_deref(), Some("true"));
        assert_eq!(spa.header("access-control-expose-headers").as_deref(), Some("etag"));
        assert_eq!(spa.header("vary").as_deref(), Some(&*both));
        assert_eq!(spa.header("alt-svc"), None);

        let own = ask(&gateway, h2, "GET /spa", &[("cookie", &cookie)]).await;
        assert_eq!((own.status, own.header("access-control-allow-origin")), (200, None));
        assert_eq!(own.header("vary").as_deref(), Some(&*both), "also where nobody else asks");

        // A script of another origin: without evidence where it runs, the browser keeps the answer from it.
        let other = [("origin", "https://evil.example"), ("cookie", &cookie)];
        let unread = ask(&gateway, h2, "GET /spa", &other).await;
        assert_eq!((unread.status, unread.header("access-control-allow-origin")), (200, None));
        let elsewhere = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")];
        let before = upstream.seen().len();
        let refused = ask(&gateway, h2, "GET /spa", &[&other[..], &elsewhere].concat()).await;
        assert_eq!(refused.verdict(), "403 csrf.unproven");
        assert_eq!(refused.header("vary").as_deref(), Some(&*format!("accept, origin, {ISOLATED}")));
        let posted = ask(&gateway, h2, "POST /spa", &other).await;
        assert_eq!(posted.verdict(), "403 csrf.unproven");
        assert_eq!(upstream.seen().len(), before, "the application was asked");

        // The page may read why it was refused.
        let missing = ask(&gateway, h2, "GET /spa", &[("origin", SPA)]).await;
        assert_eq!(missing.verdict(), "401 session.missing");
        assert_eq!(missing.header("access-control-allow-origin").as_deref(), Some(SPA));

        let plain = ask(&gateway, h2, "GET /", &[("origin", SPA)]).await;
        assert_eq!(plain.header("access-control-allow-origin"), None, "a route without `cors`");
        assert_eq!(plain.header("vary").as_deref(), Some("Accept-Encoding"));

        let customer = "https://www.acme.example";
        let widget = ask(&gateway, h2, "GET /widget", &[("origin", customer)]).await;
        assert_eq!(widget.header("access-control-allow-origin").as_deref(), Some(customer));
        assert_eq!(widget.header("access-control-allow-credentials"), None);
        let policy = widget.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors https://www.acme.example;"), "{policy}");
        let globex = ask(&gateway, h2, "GET globex.localhost/widget", &[("origin", customer)]).await;
        assert_eq!((globex.status, globex.header("access-control-allow-origin")), (200, None));
        let policy = globex.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none';"), "{policy}");
    }
    let metrics = gateway.metrics().await;
    for line in ["{kind=\"cors\"}", "{kind=\"alt-svc\"}"] {
        let line = format!("moat_response_headers_stripped_total{line} ");
        let count = metrics.lines().find_map(|l| l.strip_prefix(&line)).unwrap_or_else(|| panic!("{line}"));
        assert!(count.parse::<u64>().unwrap() >= 12, "{line}{count}");
    }
}

#[tokio::test]
async fn nobody_is_signed_in_by_another_page() {
    let (gateway, upstream) = start().await;
    for h2 in [false, true] {
        for (headers, verdict) in [
            (vec![("origin", "https://acme.localhost")], "200"),
            (vec![("sec-fetch-site", "same-origin"), ("origin", "null")], "200"),
            (vec![("origin", "https://evil.example")], "403 csrf.unproven"),
            (vec![("origin", "https://globex.localhost")], "403 csrf.unproven"),
            (vec![("origin", "null")], "403 csrf.unproven"),
            (vec![("sec-fetch-site", "same-site")], "403 csrf.unproven"),
            (vec![("referer", "https://evil.example/https://acme.localhost/")], "403 csrf.unproven"),
            (vec![], "403 csrf.unproven"),
        ] {
            let before = upstream.seen().len();
            let reply = ask(&gateway, h2, "POST /sign-in", &headers).await;
            assert_eq!(reply.verdict(), verdict, "{headers:?}");
            assert_eq!(upstream.seen().len() - before, usize::from(verdict == "200"), "{headers:?}");
        }
    }
}

#[tokio::test]
async fn of_two_session_cookies_neither_counts_however_they_come() {
    let (gateway, upstream) = start().await;
    let (mine, theirs) = (gateway.token("acme", &["viewer"]), gateway.token("acme", &["cashier"]));
    let one = |name: &str, token: &str| format!("{name}={token}");
    let name = "__Host-nl";
    for h2 in [false, true] {
        for cookie in [
            format!("{}; {}", one(name, &mine), one(name, &theirs)),
            format!("{}; {}", one(name, &mine), one("__host-NL", &theirs)),
            format!("{}; {}", one("..Host-nl", &theirs), one(name, &mine)),
            format!("{name}=\"{mine}\""),
            format!("a=\"x; {}; b=\"", one(name, &mine)),
            format!("$Version=1; {}", one(name, &mine)),
        ] {
            let reply = ask(&gateway, h2, "GET /spa", &[("cookie", &cookie)]).await;
            assert_eq!(reply.verdict(), "401 session.invalid", "{cookie}");
        }
        let fine = format!("theme=dark; {}; x=y", one(name, &mine));
        assert_eq!(ask(&gateway, h2, "GET /spa", &[("cookie", &fine)]).await.status, 200);
    }
    let count = upstream.seen().len();
    let split = [("cookie", &*one(name, &mine)), ("cookie", &*one(name, &theirs))];
    assert_eq!(ask(&gateway, true, "GET /spa", &split).await.verdict(), "401 session.invalid", "split by HTTP/2");
    assert_eq!(ask(&gateway, false, "GET /spa", &split).await.verdict(), "400 request.ambiguous", "repeated in HTTP/1");
    assert_eq!(upstream.seen().len(), count, "the application was asked");
}

/// `docs/cross-site.md`: its commands answer, and its keys are ones that `moat check` accepts.
#[test]
fn the_page_about_it_says_what_holds() {
    let page = include_str!("../../docs/cross-site.md");
    let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
    open_to(&bundle, SPA);
    let commands = page.split_once("```sh\n").unwrap().1.split("```").next().unwrap();
    let ends = [
        "=> granted, to be answered by the gateway\n",
        "=> 403 csrf.unproven: a page of another site fetches this\n",
        "=> 403 csrf.unproven: neither Sec-Fetch-Site nor Origin nor Referer\n",
    ];
    assert_eq!(commands.lines().count(), ends.len());
    for (command, end) in commands.lines().zip(ends) {
        let ran = moat(bundle.root(), &command.split(' ').skip(1).collect::<Vec<_>>());
        assert!(ran.stdout.ends_with(end), "{command}: {ran:?}");
    }
    for (old, key, new) in [
        ("https://spa.example\"]", "origins", "https://spa.example/\"]"),
        ("https://spa.example\"]", "origins", "*\"]"),
        ("https://spa.example\"]", "origins", "null\"]"),
        ("methods: [GET, PUT], headers", "methods", "methods: [GET, PATCH], headers"),
        ("headers: [content-type]", "headers", "headers: [\"*\"]"),
        ("max_age: 10m", "max_age", "max_age: 0s"),
        ("origins_from: tenant.embed_origins", "cors", "credentials: false"),
        ("https://www.acme.example", "embed_origins", "https://*.acme.example"),
    ] {
        let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
        open_to(&bundle, SPA);
        bundle.replace(old, new);
        let checked = moat(bundle.root(), &["check"]);
        assert_eq!(checked.code, Some(78), "{key} {new}: {checked:?}");
        assert!(format!("{checked:?}").contains("1 problem"), "{key} {new}: {checked:?}");
    }
}

/// Every piece of YAML on the page is one that `moat check` accepts, in the smallest bundle that has what it names.
#[test]
fn the_examples_of_the_page_load() {
    let page = include_str!("../../docs/cross-site.md");
    let blocks: Vec<&str> = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 7);
    let forms = blocks.iter().find(|block| block.starts_with("routes:\n  forms:")).unwrap();
    let profiles = blocks.iter().find(|block| block.starts_with("# policies/headers.yaml")).unwrap();
    for block in blocks.iter().filter(|block| !block.starts_with('#')) {
        let indented = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let whole = match block.split(':').next().unwrap() {
            // Keys of tokens, and a route that has some.
            "sessions" => format!("{block}{forms}"),
            "cors" => format!(
                "routes:\n  one:\n    match: {{hosts: [api.example.com], paths: [\"/v1/**\"], methods: [GET, PUT]}}\n    upstream: api\n    auth: {{cookie: {{name: __Host-session, issuer: workforce}}}}\n    require: {{session: any}}\n{}",
                indented(block)
            ),
            _ => (*block).to_owned(),
        };
        let bundle = Bundle::empty();
        bundle.write("csrf.keys", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
        let mut gateway = "version: 1
server: {state_dir: state}
admin: {address: 127.0.0.1:0}
listeners: {public: {address: 127.0.0.1:0}}
tls: {certificates: certs/}
tenancy: {resolve: [{host: \"{tenant}.example.com\"}], forward_as: x-tenant-id}
"
        .to_owned();
        if !whole.starts_with("tenants:") {
            gateway += "tenants: {api: {}, old: {}}\n";
        }
        if whole.contains("issuer: workforce") {
            gateway += "issuers: {workforce: {issuer: \"https://login.test/\", audiences: [a], algorithms: [ES256], claims: {tenant: org_id, session: sid}, jwks: {file: jwks.json}}}\n";
        }
        let upstream = if whole.contains("upstream: web") { "web" } else { "api" };
        gateway += &format!("upstreams: {{{upstream}: {{endpoints: [\"127.0.0.1:9\"]}}}}\n");
        if whole.contains("headers: embeddable") {
            bundle.write("policies/headers.yaml", &format!("version: 1\n{profiles}"));
            gateway += "policies: {headers: policies/headers.yaml}\n";
        }
        bundle.write("gateway.yaml", &format!("{gateway}{whole}"));
        let checked = moat(bundle.root(), &["check"]);
        assert_eq!(checked.code, Some(0), "{whole}\n{checked:?}");
    }
}

/// What is wrong with a token's names, each with its place and cure.
#[test]
fn names_of_tokens_that_protect_nothing_are_problems() {
    const SOUND: &str = "csrf: token";
    let check = |csrf: &str, more: &str| {
        let bundle = Bundle::standard("127.0.0.1:9".parse().unwrap());
        let session = "auth: {cookie: {name: __Host-nl, issuer: workforce}}\n    require: {session: any}";
        bundle.route(&format!(
            "  old:\n    match: {{hosts: [\"*.localhost\"], paths: [/old], methods: [GET, POST]}}\n    upstream: app\n    {session}\n    {csrf}{more}"
        ));
        let checked = moat(bundle.root(), &["check"]);
        (checked.code, format!("{checked:?}"))
    };
    assert_eq!(check(SOUND, "").0, Some(0));
    let public = "\n  form:\n    match: {hosts: [\"*.localhost\"], paths: [/form], methods: [GET, POST]}\n    upstream: app\n    public: \"a test\"\n    csrf: ";
    let bearer = "\n  calls:\n    match: {hosts: [\"*.localhost\"], paths: [/calls], methods: [GET, POST]}\n    upstream: app\n    auth: {bearer: workforce}\n    require: {session: any}\n    csrf: token";
    let alone = "\n  alone:\n    match: {hosts: [\"*.localhost\"], paths: [/alone], methods: [POST]}\n    upstream: app\n    public: \"a test\"\n    csrf: token";
    let shared = format!("{public}{{mode: token, cookie: __Host-csrf}}");
    assert_eq!(check(SOUND, &format!("{public}token")).0, Some(0));
    for (csrf, more, message) in [
        ("csrf: {mode: token, cookie: csrf}", "", "`csrf` cannot be the cookie of a token"),
        ("csrf: {mode: token, cookie: __Host-}", "", "`__Host-` cannot be the cookie of a token"),
        ("csrf: {mode: token, cookie: __Host-nl}", "", "`__Host-nl` is the cookie of a session"),
        ("csrf: {mode: token, header: content-type}", "", "`content-type` cannot be the header of a token"),
        ("csrf: {mode: token, field: \"a b\"}", "", "`a b` cannot be the field of a token"),
        ("csrf: {mode: token, max_age: 1m}", "", "expected at least `10m`, found `1m`"),
        ("csrf: {mode: token, inspect: 1MiB}", "", "expected at most `32KiB`, found `1MiB`"),
        ("csrf: {mode: strict}", "", "strict"),
        ("csrf: {cookie: __Host-a}", "", "mode"),
        ("csrf: tokens", "", "expected `strict`, `token` or `off`, found `tokens`"),
        (SOUND, bearer, "the route accepts no cookie, so no token is ever asked for"),
        (SOUND, alone, "no page sets the cookie `__Host-csrf-visitor`: no route with it serves GET"),
        (SOUND, &*shared, "the tokens of route `old` in the same cookie are bound to a session"),
    ] {
        let (code, told) = check(csrf, more);
        assert_eq!(code, Some(78), "{csrf}{more}: {told}");
        assert!(told.contains(message) && told.contains("1 problem"), "{csrf}{more}: {told}");
    }
}
