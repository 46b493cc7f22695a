//! Client certificates as a way of being somebody: real handshakes, by clients that hold what they show and by others.
mod clients;
mod documented;
mod life;
mod mistakes;
mod streams;
mod told;
mod tokens;

use crate::harness::{Bundle, Gateway, Upstream, outcomes};
use clients::{Ca, Caller, Leaf};

/// A gateway that takes holders of certificates of `partners` for somebody; `change` sees the bundle first.
async fn gateway(ca: &Ca, entry: &str, change: impl FnOnce(&Bundle)) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    bundle.write("partners.pem", &ca.pem());
    bundle.write("partners.crl", &ca.list(&[]));
    bundle.replace("    tls: modern\n", "    tls: modern\n    client_certificates: {accept: [partners]}\n");
    let entry = format!("client_certificates:\n  partners: {{ca: partners.pem, crl: [partners.crl], {entry}}}\n");
    bundle.replace("tenancy:\n", &format!("{entry}tenancy:\n"));
    bundle.route(
        "  shown:\n    match: {hosts: [\"*.localhost\"], paths: [/shown], methods: [GET, POST]}\n    upstream: app\n    \
         headers: api-json\n    auth: {certificate: partners}\n    require: {session: any}\n    forward_certificate: chain",
    );
    change(&bundle);
    (Gateway::start(bundle).await, upstream)
}

const SHOWN: &str = "https://acme.localhost/shown";
const OPEN: &str = "https://acme.localhost/";
const BY_HOST: &str = "match: {dns: [\"{tenant}.partner.example\"]}, roles: [cashier]";

#[tokio::test]
async fn a_certificate_is_somebody_and_none_or_another_is_nobody() {
    let ca = Ca::new("partners");
    let (gateway, upstream) = gateway(&ca, BY_HOST, |_| ()).await;
    let good = ca.leaf(Leaf::of("acme.partner.example"));
    let stranger = Ca::new("partners").leaf(Leaf::of("acme.partner.example"));
    let expired = ca.leaf(Leaf { until_s: 1_700_000_000, ..Leaf::of("acme.partner.example") });
    let future = ca.leaf(Leaf { from_s: 3_000_000_000, ..Leaf::of("acme.partner.example") });
    let server = ca.leaf(Leaf { server: true, ..Leaf::of("acme.partner.example") });
    let authority = ca.leaf(Leaf { signs: true, ..Leaf::of("acme.partner.example") });
    let self_signed = clients::self_signed("acme.partner.example");
    let other = ca.leaf(Leaf::of("acme.elsewhere.example"));
    let globex = ca.leaf(Leaf::of("globex.partner.example"));
    for h2 in [false, true] {
        let verdict = async |leaf: Option<&clients::Client>, url: &str| {
            Caller::new(&gateway, leaf, h2).once("GET", url, &[]).await.map_or("refused".to_owned(), |r| r.verdict())
        };
        assert_eq!(verdict(Some(&good), SHOWN).await, "200", "h2: {h2}");
        let seen = upstream.last();
        assert_eq!(seen.header("x-user-id").as_deref(), Some("acme.partner.example"));
        assert_eq!(seen.header("x-tenant-id").as_deref(), Some("acme"));
        assert_eq!(seen.header("x-user-roles").as_deref(), Some("cashier"));
        assert_eq!(verdict(None, SHOWN).await, "401 session.missing");
        assert_eq!(verdict(None, OPEN).await, "200", "routes decide");
        assert_eq!(verdict(Some(&other), SHOWN).await, "401 session.invalid");
        assert_eq!(verdict(Some(&other), OPEN).await, "200", "good, and nobody here");
        assert_eq!(verdict(Some(&globex), SHOWN).await, "403 tenant.mismatch");
        for (what, bad) in [
            ("of another authority of the same name", &stranger),
            ("expired", &expired),
            ("of the future", &future),
            ("for servers", &server),
            ("of an authority", &authority),
            ("its own", &self_signed),
        ] {
            assert_eq!(verdict(Some(bad), SHOWN).await, "refused", "{what}");
            assert_eq!(verdict(Some(bad), OPEN).await, "refused", "{what}");
        }
    }
    let reply = Caller::new(&gateway, Some(&good), true).once("GET", SHOWN, &[]).await.unwrap();
    let entry = gateway.outcome(&reply.header("x-request-id").unwrap()).await;
    assert_eq!(entry["facts"]["carrier"], "certificate", "{entry:#}");
    assert_eq!(entry["facts"]["issuer"], "partners");
    assert_eq!(entry["facts"]["session"].as_str(), Some(good.fingerprint().as_str()));
    let metrics = gateway.metrics().await;
    for wanted in [
        "result=\"uncertified\"",
        "moat_tls_revocation_list_next_update_seconds{name=\"partners\"}",
        "moat_authn_total{method=\"certificate\"",
    ] {
        assert!(metrics.contains(wanted), "{wanted}: {metrics}");
    }
    assert!(!outcomes(&gateway).is_empty());
}

#[tokio::test]
async fn names_are_matched_as_their_kind_asks() {
    let ca = Ca::new("workloads");
    let entry = "match: {spiffe: [\"spiffe://example.org/ns/*/sa/*\"], email: [\"*@partner.example\"]}, tenant: acme";
    let (gateway, upstream) = gateway(&ca, entry, |_| ()).await;
    let invalid = "401 session.invalid";
    let id = "spiffe://example.org/ns/shop/sa/api";
    for (uris, emails, expected) in [
        (&[id][..], &[][..], "200"),
        (&["spiffe://example.com/ns/shop/sa/api"], &[], invalid),
        (&["spiffe://example.org/ns/shop/sa/api/x"], &[], invalid),
        (&["spiffe://example.org/ns/../sa/api"], &[], invalid),
        (&["spiffe://example.org/ns/%2e%2e/sa/api"], &[], invalid),
        (&[id, "spiffe://example.org/ns/shop/sa/other"], &[], invalid),
        (&[id, "https://example.org/"], &[], invalid),
        (&["https://example.org/"], &["ops@partner.example"], invalid),
        (&[], &["ops@partner.example"], "200"),
        (&[], &["ops@partner.example.evil.test"], invalid),
        (&[], &["a@partner.example", "b@partner.example"], invalid),
        (&[], &[], invalid),
    ] {
        let leaf = ca.leaf(Leaf { uris: uris.to_vec(), emails: emails.to_vec(), ..Leaf::of("host.internal") });
        let reply = Caller::new(&gateway, Some(&leaf), true).once("GET", SHOWN, &[]).await.unwrap();
        assert_eq!(reply.verdict(), expected, "{uris:?} {emails:?}");
        if expected == "200" {
            let subject = uris.first().or(emails.first()).unwrap().replace('%', "%25");
            assert_eq!(upstream.last().header("x-user-id"), Some(subject));
        }
    }
    // What a common name says is nobody's name.
    let leaf = ca.leaf(Leaf { common_name: Some("ops@partner.example"), ..Leaf::of("host.internal") });
    let reply = Caller::new(&gateway, Some(&leaf), true).once("GET", SHOWN, &[]).await.unwrap();
    assert_eq!(reply.verdict(), invalid);
}

/// Two entries on one listener: whoever one of them vouches for is nobody to the other, whatever names stand in the
/// certificate; and one listener's certificates count for all its hosts.
#[tokio::test]
async fn an_authority_vouches_for_its_own_entry_only() {
    let (partners, workloads) = (Ca::new("partners"), Ca::new("workloads"));
    let (gateway, upstream) = gateway(&partners, BY_HOST, |bundle| {
        bundle.write("workloads.pem", &workloads.pem());
        bundle.replace("accept: [partners]", "accept: [partners, workloads]");
        bundle.replace(
            "tenancy:\n",
            "  workloads: {ca: workloads.pem, match: {spiffe: [\"spiffe://example.org/**\"]}, subject: fingerprint, tenant: acme}\ntenancy:\n",
        );
        for (path, auth) in [
            ("internal", "{certificate: workloads}"),
            ("either", "{any_of: [{certificate: partners}, {certificate: workloads}, {cookie: {name: __Host-nl, issuer: workforce}}]}"),
        ] {
            bundle.route(&format!(
                "  {path}:\n    match: {{hosts: [\"*.localhost\"], paths: [/{path}], methods: [GET]}}\n    upstream: app\n    auth: {auth}\n    require: {{session: any}}"
            ));
        }
    })
    .await;
    // The partners' authority signs the name of a workload.
    let forged = partners.leaf(Leaf { uris: vec!["spiffe://example.org/admin"], ..Leaf::of("acme.partner.example") });
    let workload =
        workloads.leaf(Leaf { uris: vec!["spiffe://example.org/admin"], ..Leaf::of("acme.partner.example") });
    let cookie = format!("__Host-nl={}", gateway.token("acme", &["viewer"]));
    for h2 in [false, true] {
        let verdict = async |leaf: &clients::Client, path: &str, headers: &[(&'static str, &str)]| {
            let url = format!("https://acme.localhost{path}");
            Caller::new(&gateway, Some(leaf), h2).once("GET", &url, headers).await.unwrap().verdict()
        };
        assert_eq!(verdict(&forged, "/internal", &[]).await, "401 session.invalid");
        assert_eq!(verdict(&forged, "/shown", &[]).await, "200");
        assert_eq!(verdict(&workload, "/shown", &[]).await, "401 session.invalid");
        assert_eq!(verdict(&workload, "/internal", &[]).await, "200");
        assert_eq!(upstream.last().header("x-user-id"), Some(workload.fingerprint()));
        assert_eq!(verdict(&forged, "/either", &[]).await, "200");
        assert_eq!(upstream.last().header("x-user-id").as_deref(), Some("acme.partner.example"));
        assert_eq!(verdict(&workload, "/either", &[]).await, "200");
        // A browser with a certificate for something else, and a session.
        let other = workloads.leaf(Leaf::of("laptop.internal"));
        assert_eq!(verdict(&other, "/either", &[]).await, "401 session.invalid");
        assert_eq!(verdict(&other, "/either", &[("cookie", &cookie)]).await, "200");
        assert_eq!(upstream.last().header("x-user-id").as_deref(), Some("someone@acme"));
    }
    // One connection for several hosts: what was shown on it counts for each, and for a tenant that is not the holder's it
    // is no help.
    let mut talk = Caller::new(&gateway, Some(&workload), true).connect("acme.localhost").await.unwrap();
    assert_eq!(talk.ask("GET", "https://acme.localhost/internal", &[]).await.unwrap().verdict(), "200");
    let other = talk.ask("GET", "https://globex.localhost/internal", &[]).await.unwrap();
    assert_eq!(other.verdict(), "403 tenant.mismatch");
    assert_eq!(talk.ask("GET", "https://globex.localhost/", &[]).await.unwrap().verdict(), "200");
}

/// A browser shows its certificate to whichever page asks.
#[tokio::test]
async fn other_sites_cannot_act_in_the_name_of_a_certificate() {
    let ca = Ca::new("partners");
    let (gateway, _upstream) = gateway(&ca, BY_HOST, |_| ()).await;
    let good = ca.leaf(Leaf::of("acme.partner.example"));
    for (headers, expected) in [
        (&[("sec-fetch-site", "cross-site")][..], "403 csrf.unproven"),
        (&[("origin", "https://evil.test")], "403 csrf.unproven"),
        (&[], "403 csrf.unproven"),
        (&[("origin", "https://acme.localhost")], "200"),
        (&[("sec-fetch-site", "same-origin")], "200"),
    ] {
        let reply = Caller::new(&gateway, Some(&good), true).once("POST", SHOWN, headers).await.unwrap();
        assert_eq!(reply.verdict(), expected, "{headers:?}");
    }
    let read = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")];
    let reply = Caller::new(&gateway, Some(&good), true).once("GET", SHOWN, &read).await.unwrap();
    assert_eq!(reply.status, 403, "isolation is as for cookies");
}
