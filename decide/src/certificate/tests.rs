//! Whom certificates are taken for, and all that they are not.
use super::*;
use proptest::prelude::*;

fn shown(uris: &[&str], dns: &[&str], emails: &[&str]) -> Shown {
    let texts = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect();
    Shown {
        fingerprint: "ab12".into(),
        thumbprint: "q-8".into(),
        not_before_s: 100,
        expires_at_s: 200,
        signs: false,
        uris: texts(uris),
        dns: texts(dns),
        emails: texts(emails),
    }
}

fn holders(patterns: Vec<Pattern>) -> Holders {
    let tenant = if patterns.iter().any(Pattern::names_tenant) { Tenant::Caught } else { Tenant::None };
    Holders { name: "partners".into(), patterns, subject: Subject::Name, tenant, roles: vec!["partner".into()] }
}

fn spiffe(text: &str) -> Pattern {
    Pattern::spiffe(text).unwrap()
}

/// `subject of tenant`, or the cause.
fn who(holders: &Holders, shown: &Shown) -> String {
    match holders.identify(shown) {
        Ok(identity) => format!("{} of {}", identity.subject.0, identity.tenant.as_deref().unwrap_or("nobody")),
        Err(cause) => cause.to_owned(),
    }
}

#[test]
fn a_spiffe_id_is_read_as_its_specification_says() {
    let any = holders(vec![spiffe("spiffe://example.org/ns/*/sa/*"), spiffe("spiffe://example.org/root/**")]);
    let other = "no name of the certificate matches";
    let broken = "the URI of the certificate is no SPIFFE ID";
    for (uri, expected) in [
        ("spiffe://example.org/ns/shop/sa/api", "spiffe://example.org/ns/shop/sa/api of nobody"),
        ("spiffe://example.org/root/a", "spiffe://example.org/root/a of nobody"),
        ("spiffe://example.org/root/a/b/c", "spiffe://example.org/root/a/b/c of nobody"),
        ("spiffe://example.org/root", other),
        ("spiffe://example.org/ns/shop/sa", other),
        ("spiffe://example.org/ns/shop/sa/api/more", other),
        ("spiffe://example.org/ns/shop/SA/api", other),
        ("spiffe://example.org.evil/ns/shop/sa/api", other),
        ("spiffe://evil.example.org/ns/shop/sa/api", other),
        ("spiffe://example.org/ns//sa/api", broken),
        ("spiffe://example.org/ns/../sa/api", broken),
        ("spiffe://example.org/ns/./sa/api", broken),
        ("spiffe://example.org/ns/sh%6Fp/sa/api", broken),
        ("spiffe://example.org/ns/shop/sa/api/", broken),
        ("spiffe://example.org/ns/shop/sa/api?x=1", broken),
        ("spiffe://example.org/ns/shop/sa/api#x", broken),
        ("spiffe://example.org:443/ns/shop/sa/api", broken),
        ("spiffe://user@example.org/ns/shop/sa/api", broken),
        ("spiffe://EXAMPLE.org/ns/shop/sa/api", broken),
        ("SPIFFE://example.org/ns/shop/sa/api", broken),
        ("spiffe://example.org", broken),
        ("spiffe://example.org/", broken),
        ("spiffe:///ns/shop/sa/api", broken),
        ("https://example.org/ns/shop/sa/api", broken),
        ("spiffe://example.org/ns/shop/sa/*", broken),
        ("", broken),
    ] {
        assert_eq!(who(&any, &shown(&[uri], &[], &[])), expected, "{uri}");
    }
    let long = format!("spiffe://example.org/root/{}", "a".repeat(300));
    assert_eq!(who(&any, &shown(&[&long], &[], &[])), "the name of the certificate is too long, or no text");
    let longer = format!("spiffe://example.org/root/{}", "a".repeat(2048));
    assert_eq!(who(&any, &shown(&[&longer], &[], &[])), broken);
}

#[test]
fn more_than_one_uri_is_nobody() {
    let good = "spiffe://example.org/ns/shop/sa/api";
    let any = holders(vec![spiffe("spiffe://example.org/ns/*/sa/*")]);
    for uris in [[good, "spiffe://example.org/ns/other/sa/api"], [good, "https://example.org/"], [good, good]] {
        assert_eq!(who(&any, &shown(&uris, &[], &[])), "the certificate holds more than one URI", "{uris:?}");
    }
    let with_host = shown(&[good], &["api.shop.internal"], &[]);
    assert_eq!(who(&any, &with_host), format!("{good} of nobody"), "other kinds of names are no matter");
}

#[test]
fn host_names_match_by_their_first_label_and_never_by_a_star_of_their_own() {
    let pattern = |text: &str| holders(vec![Pattern::dns(text).unwrap()]);
    let none = "no name of the certificate matches";
    for (text, name, expected) in [
        ("*.partner.example", "api.partner.example", "api.partner.example of nobody"),
        ("*.Partner.example", "api.PARTNER.example", "api.PARTNER.example of nobody"),
        ("api.partner.example", "api.partner.example", "api.partner.example of nobody"),
        ("api.partner.example", "API.partner.example", "API.partner.example of nobody"),
        ("{tenant}.partner.example", "acme.partner.example", "acme.partner.example of acme"),
        ("{tenant}.partner.example", "ACME.partner.example", none),
        ("*.partner.example", "*.partner.example", none),
        ("*.partner.example", "a.b.partner.example", none),
        ("*.partner.example", "partner.example", none),
        ("*.partner.example", ".partner.example", none),
        ("*.partner.example", "api.partner.example.evil.test", none),
        ("*.partner.example", "api.partner.example\0.evil.test", none),
        ("*.partner.example", "evilpartner.example", none),
        ("api.partner.example", "api.partner.example.", none),
    ] {
        assert_eq!(who(&pattern(text), &shown(&[], &[name], &[])), expected, "{text} {name}");
    }
}

#[test]
fn mailboxes_match_byte_for_byte() {
    let pattern = |text: &str| holders(vec![Pattern::email(text).unwrap()]);
    let none = "no name of the certificate matches";
    for (text, name, expected) in [
        ("*@partner.example", "ops@partner.example", "ops@partner.example of nobody"),
        ("ops@partner.example", "ops@Partner.example", "ops@Partner.example of nobody"),
        ("ops@partner.example", "Ops@partner.example", none),
        ("*@partner.example", "ops@sub.partner.example", none),
        ("*@partner.example", "@partner.example", none),
        ("*@partner.example", "ops@evil.test@partner.example", none),
        ("*@partner.example", "\"a b\"@partner.example", none),
    ] {
        assert_eq!(who(&pattern(text), &shown(&[], &[], &[name])), expected, "{text} {name}");
    }
}

#[test]
fn two_names_that_fit_are_nobody_unless_they_are_one() {
    let both = holders(vec![Pattern::dns("*.partner.example").unwrap(), Pattern::email("*@partner.example").unwrap()]);
    let several = "several names of the certificate match";
    let two = shown(&[], &["a.partner.example", "b.partner.example"], &[]);
    assert_eq!(who(&both, &two), several);
    assert_eq!(who(&both, &shown(&[], &["a.partner.example"], &["a@partner.example"])), several);
    let same = shown(&[], &["a.partner.example", "other.example", "a.partner.example"], &[]);
    assert_eq!(who(&both, &same), "a.partner.example of nobody");
    let twice = holders(vec![spiffe("spiffe://d.example/a/{tenant}/*"), spiffe("spiffe://d.example/a/*/{tenant}")]);
    assert_eq!(who(&twice, &shown(&["spiffe://d.example/a/x/y"], &[], &[])), several, "one name, two tenants");
    assert_eq!(who(&twice, &shown(&["spiffe://d.example/a/x/x"], &[], &[])), "spiffe://d.example/a/x/x of x");
}

#[test]
fn a_tenant_is_fixed_caught_or_listed() {
    let name = "spiffe://example.org/t/acme/api";
    let one = shown(&[name], &[], &[]);
    let caught = holders(vec![spiffe("spiffe://example.org/t/{tenant}/*")]);
    assert_eq!(who(&caught, &one), format!("{name} of acme"));
    let odd = shown(&["spiffe://example.org/t/Ac.me/api"], &[], &[]);
    assert_eq!(who(&caught, &odd), "the certificate names no tenant");
    let plain = || holders(vec![spiffe("spiffe://example.org/t/*/*")]);
    let fixed = Holders { tenant: Tenant::Fixed("globex".into()), ..plain() };
    assert_eq!(who(&fixed, &one), format!("{name} of globex"));
    let map = [(Box::from(name), Arc::from("initech"))].into_iter().collect();
    let listed = Holders { tenant: Tenant::Map(map), ..plain() };
    assert_eq!(who(&listed, &one), format!("{name} of initech"));
    assert_eq!(who(&listed, &odd), "the certificate's name has no tenant");
}

#[test]
fn an_identity_ends_with_its_certificate_and_by_its_fingerprint() {
    let holders =
        Holders { subject: Subject::Fingerprint, ..holders(vec![Pattern::dns("*.partner.example").unwrap()]) };
    let one = shown(&[], &["a.partner.example"], &[]);
    let identity = holders.identify(&one).unwrap();
    assert_eq!((&*identity.subject.0, identity.session.as_deref()), ("ab12", Some("ab12")));
    assert_eq!((identity.issued_at, identity.expires_at, identity.auth_time), (100, 200, None));
    use crate::revocation::{Mark, Target, Within};
    let ends = |target: Target<'_>| Mark::of(&target, 500_000, 0, 900).ends(&identity.handles, identity.began_s());
    assert!(ends(Target::Key { issuer: "partners", id: "ab12" }));
    assert!(!ends(Target::Key { issuer: "partners", id: "cd34" }));
    assert!(ends(Target::Subject { issuer: "partners", subject: "ab12", within: Within::Anywhere }));
    assert!(ends(Target::Issuer { issuer: "partners" }));
    assert_eq!(who(&holders, &Shown { signs: true, ..one }), "the certificate is one of an authority");
}

#[test]
fn patterns_that_would_match_everybody_or_nobody_are_refused() {
    for text in [
        "spiffe://example.org",
        "spiffe://example.org/",
        "spiffe://*/a",
        "spiffe://Example.org/a",
        "spiffe://example.org/a/**/b",
        "spiffe://example.org/a*",
        "spiffe://example.org/{tenant}/{tenant}",
        "spiffe://example.org/{name}",
        "https://example.org/a",
    ] {
        assert!(Pattern::spiffe(text).is_err(), "{text}");
    }
    for text in
        ["*", "*.example", "{tenant}.example", "a", "a..b", "*.*.example", "a b.example", "api*.partner.example"]
    {
        assert!(Pattern::dns(text).is_err(), "{text}");
    }
    for text in ["*", "*@example", "@partner.example", "a@b@partner.example ", "*ops@partner example", "ops"] {
        assert!(Pattern::email(text).is_err(), "{text}");
    }
    assert!(Pattern::spiffe("spiffe://example.org/**").is_ok());
    assert!(Pattern::dns("host.example").is_ok());
}

#[test]
fn certificates_are_told_as_structured_fields() {
    assert_eq!(field([&b"\x00\x01\x02"[..]].into_iter()), ":AAEC:");
    assert_eq!(field([&b"ab"[..], b"c"].into_iter()), ":YWI=:, :Yw==:");
    assert_eq!(field(std::iter::empty()), "");
}

proptest! {
    /// Whatever names a certificate holds: nobody is somebody by a name that no pattern is for.
    #[test]
    fn no_name_is_anybody_by_chance(uri in ".{0,60}", name in ".{0,40}", mail in ".{0,40}") {
        let all = holders(vec![
            spiffe("spiffe://example.org/ns/*/sa/*"),
            Pattern::dns("*.partner.example").unwrap(),
            Pattern::email("*@partner.example").unwrap(),
        ]);
        if let Ok(identity) = all.identify(&shown(&[&uri], &[&name], &[&mail])) {
            let subject = &*identity.subject.0;
            let lower = subject.to_ascii_lowercase();
            prop_assert!(
                subject.starts_with("spiffe://example.org/ns/")
                    || lower.ends_with(".partner.example")
                    || lower.ends_with("@partner.example")
            );
        }
    }
}
