//! Edits of a request on its way to the application: what a client may not say about itself goes, what we verified comes.
//!
//! | header | what reaches the application |
//! | --- | --- |
//! | tenant, subject, roles, request id, assertion, nonce | ours, or none; names as configured |
//! | `forwarded`, `x-forwarded-for`, `x-forwarded-proto`, `x-forwarded-host` | ours |
//! | `traceparent`, `tracestate`, `baggage` | a new trace, or the inbound one where it is trusted and valid |
//! | every other `x-forwarded…`, and what proxies call the client's address, host, path or certificate | none |
//! | `x-http-method-override` and its kin | none: the decision was about the method of the request line |
//! | `x-middleware-subrequest` | none: frameworks take it as leave to skip their own checks |
//! | `proxy` | none: CGI programs would take it for their outgoing proxy (CVE-2016-5385) |
//! | `remote-user` and its kin | none: programs behind older proxies take them as signed in |
//! | any other | as it came |
//!
//! "Goes" means the name in any case, and every twin of it: CGI and its heirs turn `-`, `_` and other marks into `_`.
use super::known;
use super::problems::{Problems, ProfileProblem};
use super::trace::TraceParent;
use super::{Fields, Nonce};
use crate::cookie;
use crate::facts::{Identity, RequestId};
use http::header::{AUTHORIZATION, COOKIE, FORWARDED, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::net::IpAddr;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
static BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// `identity:` the names under which the application learns who calls. The tenant's is `tenancy.forward_as`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityOptions {
    /// Carries the subject, percent-encoded where it is not visible ASCII. Default: `x-user-id`.
    pub subject: String,
    /// Carries the roles, comma-separated, each percent-encoded. Default: `x-user-roles`.
    pub roles: String,
    /// Carries our id of the request. Default: `x-request-id`.
    pub request_id: String,
    /// Carries the signed assertion. Default: `moat-assertion`.
    pub assertion: String,
    /// Carries the nonce of the response's content security policy. Default: `x-csp-nonce`.
    pub nonce: String,
    /// Whether the credential itself, bearer token or session cookie, is forwarded too. Default: false, the assertion
    /// says who calls. Danger: an application that logs its requests logs credentials.
    pub forward_credential: bool,
}

impl Default for IdentityOptions {
    fn default() -> IdentityOptions {
        IdentityOptions {
            subject: "x-user-id".to_owned(),
            roles: "x-user-roles".to_owned(),
            request_id: "x-request-id".to_owned(),
            assertion: "moat-assertion".to_owned(),
            nonce: "x-csp-nonce".to_owned(),
            forward_credential: false,
        }
    }
}

/// The compiled names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeaders {
    /// In the order tenant, subject, roles, request id, assertion, nonce.
    names: [HeaderName; 6],
    forward_credential: bool,
}

impl Default for IdentityHeaders {
    fn default() -> IdentityHeaders {
        let names = ["x-tenant-id", "x-user-id", "x-user-roles", "x-request-id", "moat-assertion", "x-csp-nonce"];
        IdentityHeaders { names: names.map(HeaderName::from_static), forward_credential: false }
    }
}

impl IdentityHeaders {
    /// Checks the names: each a header name, no two alike, none that means something else already.
    pub fn compile(tenant: &str, options: &IdentityOptions) -> Result<IdentityHeaders, Vec<ProfileProblem>> {
        let mut problems = Problems::default();
        let written = [
            ("tenancy.forward_as", tenant),
            ("identity.subject", &options.subject),
            ("identity.roles", &options.roles),
            ("identity.request_id", &options.request_id),
            ("identity.assertion", &options.assertion),
            ("identity.nonce", &options.nonce),
        ];
        let mut names = IdentityHeaders::default().names;
        for (i, ((at, text), slot)) in written.iter().zip(&mut names).enumerate() {
            match known::name(&text.to_ascii_lowercase()) {
                Ok(name) if is_taken(name.as_str()) => {
                    let hint = "choose a name of your own, e.g. `x-user-id`";
                    problems.hinted(at, format!("`{text}` means something else"), hint);
                }
                Ok(name) => *slot = name,
                Err((message, hint)) => problems.hinted(at, message, hint),
            }
            if let Some((other, _)) = written.iter().take(i).find(|(_, earlier)| earlier.eq_ignore_ascii_case(text)) {
                problems.hinted(at, format!("`{text}` is also the name under `{other}`"), "give each its own name");
            }
        }
        if problems.0.is_empty() {
            Ok(IdentityHeaders { names, forward_credential: options.forward_credential })
        } else {
            Err(problems.0)
        }
    }

    /// All configured names, lowercase.
    pub fn names(&self) -> &[HeaderName] {
        &self.names
    }

    /// Whether an inbound header of this lowercase name, or a twin of it, must not reach the application.
    fn forbids(&self, name: &str) -> bool {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if name.bytes().all(plain) {
            return is_reserved(name) || self.names.iter().any(|ours| ours.as_str() == name);
        }
        let folded: String = name.bytes().map(|b| if plain(b) { char::from(b) } else { '-' }).collect();
        self.forbids(&folded)
    }
}

/// Names that mean something to everybody, so that ours cannot be one of them.
fn is_taken(name: &str) -> bool {
    is_reserved(name)
        || known::check_remove(name).is_err()
        || matches!(
            name,
            "authorization"
                | "proxy-authorization"
                | "cookie"
                | "origin"
                | "referer"
                | "accept"
                | "accept-encoding"
                | "accept-language"
                | "user-agent"
                | "expect"
                | "range"
                | "if-match"
                | "if-none-match"
                | "if-range"
                | "if-modified-since"
                | "if-unmodified-since"
                | "cache-control"
                | "traceparent"
                | "tracestate"
                | "baggage"
                | "via"
                | "server"
        )
        || name.starts_with("sec-")
}

/// Names by which proxies and frameworks are told what a client must not tell them.
fn is_reserved(name: &str) -> bool {
    if let Some(rest) = name.strip_prefix("x-") {
        return rest.starts_with("forward")
            || rest.starts_with("original-")
            || rest.starts_with("client-cert")
            || rest.starts_with("ssl-")
            || rest.starts_with("auth-request-")
            || matches!(
                rest,
                "real-ip"
                    | "client-ip"
                    | "cluster-client-ip"
                    | "true-client-ip"
                    | "remote-ip"
                    | "remote-addr"
                    | "originating-ip"
                    | "envoy-external-address"
                    | "envoy-original-path"
                    | "rewrite-url"
                    | "host"
                    | "http-method-override"
                    | "http-method"
                    | "method-override"
                    | "middleware-subrequest"
                    | "remote-user"
                    | "authenticated-user"
                    | "webauth-user"
                    | "accel-internal"
            );
    }
    name.starts_with("ssl-client-")
        || name.starts_with("cf-connecting-ip")
        || matches!(
            name,
            "forwarded"
                | "forwarded-for"
                | "client-cert"
                | "client-cert-chain"
                | "client-ip"
                | "true-client-ip"
                | "fastly-client-ip"
                | "fly-client-ip"
                | "proxy-client-ip"
                | "wl-proxy-client-ip"
                | "proxy"
                | "remote-user"
                | "remote-addr"
        )
}

/// Where a request came from, as verified.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The client's address, after trusted hops.
    pub client: IpAddr,
    /// Trusted hops between client and us, the nearest to us last; empty when the client connected directly.
    pub hops: &'a [IpAddr],
    /// Whether the client's side speaks TLS.
    pub https: bool,
    /// The authority that the client asked for, canonical, with its port where it has one.
    pub authority: &'a str,
}

/// The credential that the request was let in with, so that it can be kept from the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented<'a> {
    /// None, or one that we know nothing about.
    Nothing,
    /// `Authorization`.
    Bearer,
    /// The cookie of this name.
    Cookie(&'a str),
}

/// What the application is told.
#[derive(Clone, Copy, Debug)]
pub struct Outbound<'a> {
    /// Our id of the request.
    pub request_id: RequestId,
    /// The tenant, where the route has one.
    pub tenant: Option<&'a str>,
    /// The caller, where one was verified.
    pub identity: Option<&'a Identity>,
    /// The signed assertion about the caller.
    pub assertion: Option<&'a HeaderValue>,
    /// The nonce of the response's policy.
    pub nonce: Option<&'a Nonce>,
    /// Where the request came from.
    pub origin: Origin<'a>,
    /// The trace, and whether it continues the inbound one (then `tracestate` and `baggage` stay).
    pub trace: (TraceParent, bool),
    /// How the caller proved who it is.
    pub presented: Presented<'a>,
}

/// Edits a request. What is not verified is not said: without identity no subject header leaves, whatever came.
pub fn edit(fields: &mut impl Fields, headers: &IdentityHeaders, out: &Outbound<'_>) {
    let unwanted: Vec<HeaderName> = fields.names().filter(|name| headers.forbids(name.as_str())).cloned().collect();
    unwanted.iter().for_each(|name| fields.remove(name));
    if !headers.forward_credential {
        match out.presented {
            Presented::Nothing => {}
            Presented::Bearer => fields.remove(&AUTHORIZATION),
            Presented::Cookie(name) => remove_cookie(fields, name),
        }
    }

    let [tenant, subject, roles, request_id, assertion, nonce] = &headers.names;
    let mut say = |name: &HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            fields.set(name, value);
        }
    };
    say(tenant, out.tenant.and_then(encode));
    if let Some(identity) = out.identity {
        say(subject, encode(&identity.subject.0));
        say(roles, encode_list(&identity.roles));
        say(assertion, out.assertion.cloned());
    }
    say(request_id, HeaderValue::try_from(out.request_id.to_string()).ok());
    say(nonce, out.nonce.and_then(|nonce| HeaderValue::from_str(nonce.as_str()).ok()));
    forward(&mut say, &out.origin);

    let (trace, continued) = &out.trace;
    say(&TRACEPARENT, trace.value());
    if !continued {
        fields.remove(&TRACESTATE);
        fields.remove(&BAGGAGE);
    }
}

/// `Forwarded` (RFC 7239) and the three `X-Forwarded-…` that say the same.
fn forward(say: &mut impl FnMut(&HeaderName, Option<HeaderValue>), origin: &Origin<'_>) {
    let proto = if origin.https { "https" } else { "http" };
    let mut forwarded = String::with_capacity(64 + origin.authority.len() + 24 * origin.hops.len());
    let mut addresses = String::with_capacity(24 + 24 * origin.hops.len());
    node(&mut forwarded, origin.client);
    let quoted = !origin.authority.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    let mark = if quoted { "\"" } else { "" };
    // An authority has neither quotes nor backslashes; were there one, it could not be quoted, and is not said.
    if !origin.authority.is_empty() && !origin.authority.contains(['"', '\\']) {
        let _ = write!(forwarded, ";host={mark}{}{mark}", origin.authority);
    }
    let _ = write!(forwarded, ";proto={proto}");
    let _ = write!(addresses, "{}", origin.client.to_canonical());
    for hop in origin.hops {
        forwarded.push_str(", ");
        node(&mut forwarded, *hop);
        let _ = write!(addresses, ", {}", hop.to_canonical());
    }
    say(&FORWARDED, HeaderValue::try_from(forwarded).ok());
    say(&X_FORWARDED_FOR, HeaderValue::try_from(addresses).ok());
    say(&X_FORWARDED_PROTO, Some(HeaderValue::from_static(proto)));
    say(&X_FORWARDED_HOST, HeaderValue::from_str(origin.authority).ok());
}

/// RFC 7239, 6: IPv6 in brackets and quotes.
fn node(text: &mut String, address: IpAddr) {
    let _ = match address.to_canonical() {
        IpAddr::V4(v4) => write!(text, "for={v4}"),
        IpAddr::V6(v6) => write!(text, "for=\"[{v6}]\""),
    };
}

/// Text as a header value: visible ASCII as it is; `%`, `,` and everything else percent-encoded (RFC 3986, 2.1), so
/// that no value can be read as two, and decoding gives back the very text.
pub fn encode(text: &str) -> Option<HeaderValue> {
    if text.bytes().all(is_plain) {
        return HeaderValue::from_str(text).ok();
    }
    let mut encoded = String::with_capacity(text.len() * 2);
    push_encoded(&mut encoded, text);
    HeaderValue::try_from(encoded).ok()
}

fn encode_list(items: &[impl AsRef<str>]) -> Option<HeaderValue> {
    if items.is_empty() {
        return None;
    }
    let mut text = String::with_capacity(items.iter().map(|item| item.as_ref().len() + 1).sum());
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        push_encoded(&mut text, item.as_ref());
    }
    HeaderValue::try_from(text).ok()
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'%' && byte != b','
}

fn push_encoded(text: &mut String, item: &str) {
    for byte in item.bytes() {
        if is_plain(byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

/// Takes one cookie, and every other spelling of it, out of `Cookie`.
fn remove_cookie(fields: &mut impl Fields, name: &str) {
    let without = |line: &HeaderValue| HeaderValue::from_bytes(&cookie::without(line.as_bytes(), name)).ok();
    let lines: Vec<HeaderValue> = fields.values(&COOKIE).filter_map(without).collect();
    fields.remove(&COOKIE);
    lines.into_iter().filter(|line| !line.is_empty()).for_each(|line| fields.append(&COOKIE, line));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Person;
    use http::HeaderMap;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn identity(subject: &str, roles: &[&str]) -> Identity {
        Identity {
            issuer: "workforce".into(),
            subject: Person(subject.into()),
            tenant: Some("acme".into()),
            roles: roles.iter().map(|r| Arc::from(*r)).collect(),
            session: None,
            auth_time: None,
            acr: None,
            amr: Vec::new(),
            issued_at: 0,
            not_before: 0,
            expires_at: 1,
        }
    }

    fn outbound<'a>(identity: Option<&'a Identity>, hops: &'a [IpAddr]) -> Outbound<'a> {
        Outbound {
            request_id: RequestId(7),
            tenant: identity.map(|_| "acme"),
            identity,
            assertion: None,
            nonce: None,
            origin: Origin { client: "192.0.2.7".parse().unwrap(), hops, https: true, authority: "acme.example" },
            trace: (TraceParent::begin([1; 24], 0), false),
            presented: Presented::Nothing,
        }
    }

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        map
    }

    fn shown(map: &HeaderMap, name: &str) -> String {
        map.get_all(name)
            .iter()
            .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
            .collect::<Vec<_>>()
            .join(" | ")
    }

    const GONE: &[&str] = &[
        "x-tenant-id",
        "x-user-id",
        "x-user-roles",
        "moat-assertion",
        "x-csp-nonce",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-client-cert",
        "x-forwarded",
        "x-forwarded-server",
        "x-real-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-original-host",
        "x-host",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "client-cert",
        "client-cert-chain",
        "x-client-cert-dn",
        "ssl-client-verify",
        "x-ssl-client-cn",
        "proxy",
        "true-client-ip",
        "cf-connecting-ip",
        "cf-connecting-ipv6",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-remote-user",
        "remote-user",
        "x-auth-request-email",
        "x-middleware-subrequest",
        "tracestate",
        "baggage",
    ];
    const OURS: &[&str] =
        &["x-request-id", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "traceparent"];

    #[test]
    fn nothing_a_client_says_about_itself_passes() {
        let mut fields = map(&[("accept", "*/*"), ("x-own", "1"), ("x_own_too", "2"), ("authorization", "Bearer t")]);
        for name in GONE.iter().chain(OURS) {
            fields.append(HeaderName::from_static(name), HeaderValue::from_static("evil"));
        }
        edit(&mut fields, &IdentityHeaders::default(), &outbound(None, &[]));
        for name in GONE {
            assert_eq!(fields.get(*name), None, "{name}");
        }
        assert!(fields.values().all(|value| value != "evil"), "{fields:?}");
        for (name, value) in [
            ("accept", "*/*"),
            ("x-own", "1"),
            ("x_own_too", "2"),
            ("authorization", "Bearer t"),
            ("x-request-id", "00000000-0000-0000-0000-000000000007"),
            ("forwarded", "for=192.0.2.7;host=acme.example;proto=https"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "acme.example"),
            ("traceparent", "00-01010101010101010101010101010101-0101010101010101-00"),
        ] {
            assert_eq!(shown(&fields, name), value, "{name}");
        }
    }

    #[test]
    fn the_verified_is_said() {
        let nonce = Nonce::new([0; 16]);
        let token = HeaderValue::from_static("a.b.c");
        let hops: [IpAddr; 2] = ["2001:db8::1".parse().unwrap(), "::ffff:10.0.0.9".parse().unwrap()];
        let caller = identity("auth0|5f,7 50%\r\nx: é", &["buyer", "a,b", ""]);
        let out = Outbound {
            assertion: Some(&token),
            nonce: Some(&nonce),
            origin: Origin { authority: "acme.example:8443", https: false, ..outbound(None, &hops).origin },
            trace: (TraceParent::begin([1; 24], 1_000_000), true),
            ..outbound(Some(&caller), &hops)
        };
        let mut fields = map(&[("tracestate", "a=b"), ("x-user-id", "root"), ("X-User-Id", "admin")]);
        edit(&mut fields, &IdentityHeaders::default(), &out);
        for (name, value) in [
            ("x-tenant-id", "acme"),
            ("x-user-id", "auth0|5f%2C7%2050%25%0D%0Ax:%20%C3%A9"),
            ("x-user-roles", "buyer,a%2Cb,"),
            ("moat-assertion", "a.b.c"),
            ("x-csp-nonce", "AAAAAAAAAAAAAAAAAAAAAA=="),
            ("forwarded", "for=192.0.2.7;host=\"acme.example:8443\";proto=http, for=\"[2001:db8::1]\", for=10.0.0.9"),
            ("x-forwarded-for", "192.0.2.7, 2001:db8::1, 10.0.0.9"),
            ("x-forwarded-proto", "http"),
            ("traceparent", "00-01010101010101010101010101010101-0101010101010101-01"),
            ("tracestate", "a=b"),
        ] {
            assert_eq!(shown(&fields, name), value, "{name}");
        }
        edit(&mut fields, &IdentityHeaders::default(), &Outbound { assertion: Some(&token), ..outbound(None, &[]) });
        assert_eq!((fields.get("moat-assertion"), fields.get("x-user-id")), (None, None), "no identity, nothing said");
    }

    #[test]
    fn credentials_stay_here_where_asked() {
        let strip = IdentityHeaders::default();
        let forward = IdentityHeaders { forward_credential: true, ..IdentityHeaders::default() };
        for (headers, presented, cookie, expected) in [
            (&strip, Presented::Cookie("__Host-nl"), "a=1; __Host-nl=tok; b=2", "a=1; b=2 / Bearer t"),
            (&strip, Presented::Cookie("__Host-nl"), "__Host-nl=tok", " / Bearer t"),
            (&strip, Presented::Cookie("__Host-nl"), "__Host-nl=tok;b=\"x=1\"", "b=\"x=1\" / Bearer t"),
            (
                &strip,
                Presented::Cookie("__Host-nl"),
                "__Host-nlx=1; a=__Host-nl",
                "__Host-nlx=1; a=__Host-nl / Bearer t",
            ),
            (&strip, Presented::Bearer, "__Host-nl=tok", "__Host-nl=tok / "),
            (&strip, Presented::Nothing, "__Host-nl=tok", "__Host-nl=tok / Bearer t"),
            (&forward, Presented::Bearer, "a=1", "a=1 / Bearer t"),
        ] {
            let mut fields = map(&[("cookie", cookie), ("authorization", "Bearer t")]);
            edit(&mut fields, headers, &Outbound { presented, ..outbound(None, &[]) });
            assert_eq!(format!("{} / {}", shown(&fields, "cookie"), shown(&fields, "authorization")), expected);
        }
    }

    #[test]
    fn names_are_checked_at_load() {
        let compile = |tenant: &str, subject: &str| {
            let options = IdentityOptions { subject: subject.into(), ..IdentityOptions::default() };
            match IdentityHeaders::compile(tenant, &options) {
                Ok(headers) => headers.names().iter().take(2).map(HeaderName::as_str).collect::<Vec<_>>().join(" "),
                Err(problems) => {
                    problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect::<Vec<_>>().join(" | ")
                }
            }
        };
        for (tenant, subject, expected) in [
            ("X-Tenant-Id", "x-user-id", "x-tenant-id x-user-id"),
            ("x-org", "x-sub", "x-org x-sub"),
            ("x_org", "x-sub", "tenancy.forward_as: `x_org` is not a header name"),
            ("", "x-sub", "tenancy.forward_as: `` is not a header name"),
            ("x-org", "X-Org", "identity.subject: `X-Org` is also the name under `tenancy.forward_as`"),
            ("x-org", "cookie", "identity.subject: `cookie` means something else"),
            ("x-org", "authorization", "identity.subject: `authorization` means something else"),
            (
                "host",
                "x-real-ip",
                "tenancy.forward_as: `host` means something else | identity.subject: `x-real-ip` means something else",
            ),
            (
                "content-length",
                "sec-x",
                "tenancy.forward_as: `content-length` means something else | identity.subject: `sec-x` means something else",
            ),
        ] {
            assert_eq!(compile(tenant, subject), expected);
        }
        assert_eq!(
            IdentityHeaders::compile("x-tenant-id", &IdentityOptions::default()),
            Ok(IdentityHeaders::default())
        );
    }

    proptest! {
        #[test]
        fn no_twin_survives(
            which in 0..GONE.len() + OURS.len(),
            marks in proptest::collection::vec(0..6usize, 8),
            upper in any::<u32>(),
            value in "[ -~]{0,20}",
        ) {
            let name = GONE.iter().chain(OURS).nth(which).unwrap();
            prop_assume!(!matches!(*name, "tracestate" | "baggage" | "traceparent"));
            let mut seen = 0;
            let twin: String = name.chars().enumerate().map(|(i, c)| {
                let c = if upper >> (i % 32) & 1 == 1 { c.to_ascii_uppercase() } else { c };
                if c != '-' { return c; }
                seen += 1;
                ['-', '_', '.', '~', '!', '|'][marks[(seen - 1) % marks.len()]]
            }).collect();
            let mut fields = map(&[(&twin, &format!("evil{value}")), (&twin, "evil")]);
            edit(&mut fields, &IdentityHeaders::default(), &outbound(None, &[]));
            prop_assert!(fields.iter().all(|(_, v)| !v.as_bytes().starts_with(b"evil")), "{twin}: {fields:?}");
        }

        #[test]
        fn encoding_is_one_word_and_reversible(text in "\\PC{0,30}|[\\x00-\\x7f]{0,30}") {
            let value = encode(&text).unwrap();
            let shown = value.to_str().unwrap();
            prop_assert!(shown.bytes().all(|b| b.is_ascii_graphic() && b != b','));
            let mut bytes = Vec::new();
            let mut rest = shown.bytes();
            while let Some(b) = rest.next() {
                bytes.push(if b == b'%' {
                    let hex = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
                } else { b });
            }
            prop_assert_eq!(String::from_utf8(bytes).unwrap(), text);
        }
    }
}
