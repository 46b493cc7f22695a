//! What is wrong with `client_certificates` is said when the files are read, each with its place.
use super::clients::{Ca, Leaf};
use crate::harness::{Bundle, Gateway, field, message, moat};
use std::net::SocketAddr;

fn bundle(ca: &Ca) -> Bundle {
    let bundle = Bundle::standard(SocketAddr::from(([127, 0, 0, 1], 1)));
    bundle.write("partners.pem", &ca.pem());
    bundle.write("partners.crl", &ca.list(&[]));
    bundle.replace("    tls: modern\n", "    tls: modern\n    client_certificates: {accept: [partners]}\n");
    bundle.replace(
        "tenancy:\n",
        "client_certificates:\n  partners:\n    ca: partners.pem\n    crl: [partners.crl]\n    match: {dns: [\"*.partner.example\"]}\n    tenant: acme\ntenancy:\n",
    );
    bundle.route(
        "  shown:\n    match: {hosts: [\"*.localhost\"], paths: [/shown], methods: [GET]}\n    upstream: app\n    auth: {certificate: partners}\n    require: {session: any}",
    );
    bundle
}

#[test]
fn each_mistake_has_its_message() {
    let ca = Ca::new("partners");
    let whole = bundle(&ca);
    let check = moat(whole.root(), &["check"]);
    assert_eq!(check.code, Some(0), "{check:?}");
    let below = ca.below("below");
    let leaf = ca.leaf(Leaf::of("a.partner.example"));
    assert_eq!(leaf.chain.len(), 1);
    for (old, new, message) in [
        ("accept: [partners]", "accept: [partnrs]", "unknown entry of `client_certificates` `partnrs`"),
        ("accept: [partners]", "accept: []", "`accept` is empty"),
        ("accept: [partners]", "accept: [partners, partners]", "`partners` stands twice"),
        ("    client_certificates: {accept: [partners]}\n", "", "no listener accepts certificates of `partners`"),
        ("ca: partners.pem", "ca: nowhere.pem", "`nowhere.pem` does not exist"),
        ("ca: partners.pem", "ca: gateway.yaml", "holds no certificates"),
        ("crl: [partners.crl]", "crl: [nowhere.crl]", "`nowhere.crl` does not exist"),
        ("crl: [partners.crl]", "crl: [gateway.yaml]", "holds no revocation list"),
        ("crl: [partners.crl]", "crl: [partners.pem]", "holds no revocation list"),
        ("crl: [partners.crl]", "crl: [late.crl]", "`late.crl` is out of date"),
        ("crl: [partners.crl]", "crl: [below.crl]", "there is no revocation list of `CN=partners`"),
        ("match: {dns: [\"*.partner.example\"]}", "match: {}", "`match` names nobody"),
        ("match: {dns: [\"*.partner.example\"]}", "match: {dns: [\"*\"]}", "`*` matches no name"),
        ("match: {dns: [\"*.partner.example\"]}", "match: {spiffe: [\"spiffe://*/a\"]}", "this is no trust domain"),
        ("match: {dns: [\"*.partner.example\"]}", "match: {email: [\"*\"]}", "it has no `@`"),
        ("    match: {dns: [\"*.partner.example\"]}\n    tenant: acme\n", "", "has no `match`"),
        ("    match: {dns: [\"*.partner.example\"]}\n", "", "there is no `match`"),
        ("dns: [\"*.partner.example\"]", "dns: [\"{tenant}.partner.example\"]", "one of them says whose the holder is"),
        ("tenant: acme\n", "tenant: acmee\n", "unknown tenant `acmee`"),
        ("tenant: acme\n", "tenant: {map: nowhere.yaml}\n", "`nowhere.yaml` does not exist"),
        ("tenant: acme\n", "tenant: acme\n    roles: [cashir]\n", "unknown role `cashir`"),
        ("tenant: acme\n", "tenant: acme\n    subject: cn\n", "subject"),
        ("auth: {certificate: partners}", "auth: {certificate: partnrs}", "unknown entry of `client_certificates`"),
        ("  partners:\n", "  workforce:\n", "somebody else who vouches for users"),
        (
            "redirect: https}",
            "redirect: https, client_certificates: {accept: [partners]}}",
            "on a listener without TLS",
        ),
        (
            "client_certificates: {accept: [partners]}\n",
            "client_certificates: {accept: [partners]}\n    client_ip: {edge: {ranges: [127.0.0.0/8], client_certificate: {ca: partners.pem}}}\n",
            "beside `client_ip.edge.client_certificate`",
        ),
    ] {
        let bundle = bundle(&ca);
        bundle.write("late.crl", &ca.list_until(&[], 1_700_000_000));
        bundle.write("below.crl", &below.list(&[]));
        bundle.replace(old, new);
        let check = moat(bundle.root(), &["check"]);
        assert_eq!(check.code, Some(78), "{new}: {check:?}");
        assert!(check.stderr.contains(message), "{new}: {}", check.stderr);
    }
    let nobody = bundle(&ca);
    nobody.replace("    client_certificates: {accept: [partners]}\n", "");
    nobody.replace("auth: {certificate: partners}", "auth: {bearer: workforce}\n    forward_certificate: leaf");
    let check = moat(nobody.root(), &["check"]);
    for message in ["is not used by any listener", "no listener asks for certificates to forward"] {
        assert!(check.stderr.contains(message), "{message}: {}", check.stderr);
    }
}

#[tokio::test]
async fn what_a_reload_lets_in_is_named() {
    let ca = Ca::new("partners");
    let (start, below) = (bundle(&ca), ca.below("below"));
    start.write("below.pem", &format!("{}{}", ca.pem(), below.pem()));
    start.replace("accept: [partners]", "accept: [partners], required: true");
    start.replace("auth: {certificate: partners}", "auth: {any_of: [{certificate: partners}, {bearer: workforce}]}");
    let gateway = Gateway::start(start).await;
    // A newer list is everyday.
    gateway.bundle.write("partners.crl", &ca.list(&[77]));
    gateway.signal("HUP");
    let loosened = |line: &serde_json::Value| field(line, "loosened").unwrap_or_default().to_owned();
    let reloaded = |line: &serde_json::Value| message(line).is_some_and(|text| text.starts_with("reloaded"));
    let line = gateway.wait_for_log("the list", reloaded).unwrap();
    assert_eq!(loosened(&line), "[]");
    for (old, new, expected) in [
        ("required: true", "required: false", "takes clients without certificate"),
        (
            "dns: [\"*.partner.example\"]",
            "dns: [\"*.partner.example\", \"*.friend.example\"]",
            "`*.friend.example` too",
        ),
        ("    tenant: acme\n", "", "belong to other tenants"),
        ("    crl: [partners.crl]\n", "", "has no revocation list any more"),
        ("ca: partners.pem", "ca: below.pem", "has other authorities"),
        ("    match: {dns", "    roles: [viewer]\n    match: {dns", "have more roles"),
        (
            "auth: {any_of: [{certificate: partners}, {bearer: workforce}]}",
            "auth: {any_of: [{certificate: partners}, {bearer: workforce}]}\n    forward_certificate: leaf",
            "forwards more of client certificates",
        ),
    ] {
        if !gateway.bundle.read("gateway.yaml").contains(old) {
            panic!("{old}");
        }
        let text = gateway.bundle.read("gateway.yaml").replacen(old, new, 1);
        gateway.bundle.write("gateway.yaml", &text);
        gateway.signal("HUP");
        let named = |line: &serde_json::Value| reloaded(line) && loosened(line).contains(expected);
        gateway.wait_for_log(expected, named);
    }
}
