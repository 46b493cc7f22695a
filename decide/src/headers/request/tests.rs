//! Requests as applications see them: nothing forged, everything verified.
use super::*;
use crate::facts::Person;
use crate::revocation::{Handles, Source};
use http::HeaderMap;
use proptest::prelude::*;

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
        handles: Handles::of(&Source::default()),
        bound_to: None,
        scopes: None,
    }
}

const AUTHORITY: &[u8] = b"acme.example";
const WITH_PORT: &[u8] = b"acme.example:8443";

fn edit(fields: &mut HeaderMap, headers: &IdentityHeaders, out: &Outbound<'_>) {
    super::edit(fields, headers, out, &mut Values::default());
}

fn outbound<'a>(identity: Option<&'a Identity>, hops: &'a [IpAddr]) -> Outbound<'a> {
    Outbound {
        request_id: RequestId(7),
        tenant: identity.map(|_| "acme"),
        identity,
        assertion: None,
        nonce: None,
        origin: Origin { client: "192.0.2.7".parse().unwrap(), hops, https: true, authority: AUTHORITY },
        trace: (TraceParent::begin([1; 24], 0), false),
        presented: Presented::default(),
        certificates: None,
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
    map.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect::<Vec<_>>().join(" | ")
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
        origin: Origin { authority: WITH_PORT, https: false, ..outbound(None, &hops).origin },
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
    let names = [Arc::from("__Host-old"), Arc::from("__Host-nl")];
    let (bearer, cookie) =
        (Presented { bearer: true, ..Presented::default() }, Presented { cookies: &names, ..Presented::default() });
    let both = Presented { bearer: true, cookies: &names, accept: &[] };
    for (headers, presented, jar, expected) in [
        (&strip, both, "a=1; __Host-old=tok; __Host-nl=tok; b=2", "a=1; b=2 / "),
        (&strip, cookie, "a=1; __Host-nl=tok; b=2", "a=1; b=2 / Bearer t"),
        (&strip, cookie, "__Host-nl=tok", " / Bearer t"),
        (&strip, cookie, "__Host-nl=tok;b=\"x=1\"", "b=\"x=1\" / Bearer t"),
        (&strip, cookie, "__Host-nlx=1; a=__Host-nl", "__Host-nlx=1; a=__Host-nl / Bearer t"),
        (&strip, bearer, "__Host-nl=tok", "__Host-nl=tok / "),
        (&strip, Presented::default(), "__Host-nl=tok", "__Host-nl=tok / Bearer t"),
        (&forward, both, "__Host-nl=tok", "__Host-nl=tok / Bearer t"),
        (&forward, both, "__Host-moat-sign-in-x=1; a=2; __host-MOAT-signed-in=1", "a=2 / Bearer t"),
        (&strip, Presented::default(), "__Host-moat-signed-in=1", " / Bearer t"),
        (&strip, Presented::default(), "__Host-moatless=1", "__Host-moatless=1 / Bearer t"),
    ] {
        let mut fields = map(&[("cookie", jar), ("authorization", "Bearer t")]);
        edit(&mut fields, headers, &Outbound { presented, ..outbound(None, &[]) });
        assert_eq!(format!("{} / {}", shown(&fields, "cookie"), shown(&fields, "authorization")), expected);
    }
}

#[test]
fn a_proof_of_possession_goes_where_its_token_goes() {
    let strip = IdentityHeaders::default();
    let forward = IdentityHeaders { forward_credential: true, ..IdentityHeaders::default() };
    for (headers, bearer, kept) in [(&strip, true, 0), (&strip, false, 2), (&forward, true, 2)] {
        let mut fields = map(&[("authorization", "DPoP t"), ("dpop", "a.b.c"), ("DPoP", "d.e.f")]);
        let presented = Presented { bearer, ..Presented::default() };
        edit(&mut fields, headers, &Outbound { presented, ..outbound(None, &[]) });
        assert_eq!(fields.get_all("dpop").iter().count(), kept, "{bearer}");
        assert_eq!(fields.contains_key("authorization"), kept > 0, "{bearer}");
    }
}

#[test]
fn other_schemes_are_not_our_credential() {
    for (value, kept) in [("Basic YTpi", true), ("bEARER x", false), ("Bearer", false)] {
        let mut fields = map(&[("authorization", value)]);
        let presented = Presented { bearer: true, ..Presented::default() };
        edit(&mut fields, &IdentityHeaders::default(), &Outbound { presented, ..outbound(None, &[]) });
        assert_eq!(fields.contains_key("authorization"), kept, "{value}");
    }
}

#[test]
fn what_other_proxies_say_about_users_never_comes_from_a_client() {
    for name in [
        "remote-groups",
        "x-remote-group",
        "x-remote-extra-scopes",
        "x-webauth-role",
        "x-authentik-username",
        "x-amzn-oidc-data",
        "x-goog-iap-jwt-assertion",
        "x-ms-client-principal-name",
        "cf-access-jwt-assertion",
        "x-forwarded-user",
        "x_remote_user",
    ] {
        let mut fields = map(&[(name, "forged")]);
        edit(&mut fields, &IdentityHeaders::default(), &outbound(None, &[]));
        assert!(!fields.contains_key(name), "{name}");
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
    assert_eq!(IdentityHeaders::compile("x-tenant-id", &IdentityOptions::default()), Ok(IdentityHeaders::default()));
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
}

#[test]
fn cookies_leave_in_one_line() {
    for (lines, expected) in [
        (&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=\"x; y\"")][..], "a=1; b=2; c=\"x; y\""),
        (&[("cookie", "a=1; b=2"), ("cookie", "__Host-nl=tok"), ("cookie", "c=3")], "a=1; b=2; c=3"),
        (&[("cookie", "a=1"), ("cookie", ""), ("cookie", "b=2")], "a=1; b=2"),
        (&[("cookie", "a=1;b=2")], "a=1;b=2"),
        (&[], ""),
    ] {
        let mut fields = map(lines);
        let names = ["__Host-nl".into()];
        let presented = Presented { cookies: &names, ..Presented::default() };
        edit(&mut fields, &IdentityHeaders::default(), &Outbound { presented, ..outbound(None, &[]) });
        assert_eq!(shown(&fields, "cookie"), expected);
    }
}
