//! Each tenant has a provider of its own: whom one vouches for is nobody at the other.
use super::fake::{Provider, begin, come_back, configure, session};
use crate::harness::{Bundle, Gateway, Upstream};

const ACME: &str = "acme.localhost";
const GLOBEX: &str = "globex.localhost";

async fn two() -> (Provider, Provider, Gateway, Upstream) {
    let (one, two) = (Provider::start(true).await, Provider::start(true).await);
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    configure(&bundle, &one);
    bundle.write("op-ca-2.crt", &two.authority.pem());
    let second = format!(
        "issuers:\n  partners:\n    issuer: {}\n    algorithms: [ES256]\n    claims: {{tenant: org_id}}\n    ca: op-ca-2.crt\n    \
         client: {{id: moat, secret: {{file: client-secret}}}}\n",
        two.issuer
    );
    bundle.replace("issuers:\n", &second);
    bundle.replace("  acme: {", "  acme: {issuers: [people], ");
    bundle.replace("  globex: {", "  globex: {issuers: [partners], ");
    (one, two, Gateway::start(bundle).await, upstream)
}

/// Where a browser is sent to sign in for a page of a host.
async fn sent_to(gateway: &Gateway, host: &str) -> String {
    let reply = gateway.get(&format!("https://{host}/.moat/login?return_to=/board")).send().await;
    reply.header("location").unwrap().split('?').next().unwrap().to_owned()
}

#[tokio::test]
async fn each_tenant_signs_in_with_its_own_provider() {
    let (people, partners, gateway, _upstream) = two().await;
    assert_eq!(sent_to(&gateway, ACME).await, format!("{}/auth", people.issuer));
    assert_eq!(sent_to(&gateway, GLOBEX).await, format!("{}/auth", partners.issuer));
    let foreign = gateway.get(&format!("https://{ACME}/.moat/login?issuer=partners")).send().await;
    assert_eq!(foreign.verdict(), "404 route.unknown");
    for (host, tenant, provider) in [(ACME, "acme", &people), (GLOBEX, "globex", &partners)] {
        let begun = begin(&gateway, host, "/.moat/login?return_to=/board").await;
        provider.gives(provider.id_token(&begun).claim("org_id", tenant).signed(&provider.key));
        let query = format!("code=c&state={}&iss={}", begun.asked["state"], decide::sign_in::encoded(&provider.issuer));
        let reply = come_back(&gateway, host, &begun.cookie, &query).await;
        let cookie = format!("__Host-session={}", session(&reply).unwrap());
        for (other, expected) in [(ACME, tenant == "acme"), (GLOBEX, tenant == "globex")] {
            let reply = gateway.get(&format!("https://{other}/board")).header("cookie", &cookie).send().await;
            assert_eq!(reply.status == 200, expected, "{tenant}'s session at {other}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn the_provider_of_one_tenant_vouches_for_nobody_at_another() {
    let (people, partners, gateway, _upstream) = two().await;
    // The provider of Globex says that somebody is of Acme: at Globex that is a mismatch, and at Acme nobody asks it.
    let begun = begin(&gateway, GLOBEX, "/.moat/login?return_to=/board").await;
    partners.gives(partners.id_token(&begun).claim("org_id", "acme").signed(&partners.key));
    let query = format!("code=c&state={}&iss={}", begun.asked["state"], decide::sign_in::encoded(&partners.issuer));
    let reply = come_back(&gateway, GLOBEX, &begun.cookie, &query).await;
    assert_eq!((reply.verdict(), session(&reply)), ("403 tenant.mismatch".to_owned(), None));

    // It answers a flow that was sent to the other.
    let begun = begin(&gateway, ACME, "/.moat/login?return_to=/board").await;
    let query = format!("code=c&state={}&iss={}", begun.asked["state"], decide::sign_in::encoded(&partners.issuer));
    let reply = come_back(&gateway, ACME, &begun.cookie, &query).await;
    assert_eq!((reply.verdict(), session(&reply)), ("401 session.invalid".to_owned(), None));
    assert!(people.asked.lock().unwrap().is_empty(), "no code of it was sent anywhere");

    // It ends sessions of its own only.
    let begun = begin(&gateway, ACME, "/.moat/login?return_to=/board").await;
    people.gives(people.id_token(&begun).signed(&people.key));
    let query = format!("code=c&state={}&iss={}", begun.asked["state"], decide::sign_in::encoded(&people.issuer));
    let cookie =
        format!("__Host-session={}", session(&come_back(&gateway, ACME, &begun.cookie, &query).await).unwrap());
    let token = partners.logout_token().signed(&partners.key);
    let call = gateway.call("POST", "https://acme.localhost/.moat/backchannel-logout");
    let call = call.header("content-type", "application/x-www-form-urlencoded").body(format!("logout_token={token}"));
    assert_eq!(call.send().await.verdict(), "200");
    let reply = gateway.get(&format!("https://{ACME}/board")).header("cookie", &cookie).send().await;
    assert_eq!(reply.status, 200, "the same `sid`, of another issuer");
}
