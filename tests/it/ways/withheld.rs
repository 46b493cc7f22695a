//! Credentials stay at the gate on each of its ways through: HTTP/1.1 and HTTP/2 from clients, and to applications.
use crate::families::bound::{Key, opened};
use crate::families::text;
use crate::harness::{Bundle, Gateway, Upstream};
use crate::sessions::{BROWSER, held, open};

const SHOWN: &str = "https://acme.localhost/shown";

/// `/shown` takes a token, a token with proof, and a session; `app` speaks what `version` says.
async fn gateway(version: &str, more: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let mut bundle = Bundle::standard(upstream.address);
    held(&mut bundle, BROWSER);
    bundle.replace("sessions:\n", "sessions:\n  tokens: {exchange: [workforce]}\n");
    bundle.replace("http: {connect_timeout: 1s,", &format!("http: {{version: {version}, connect_timeout: 1s,"));
    bundle.route(
        "  shown:
    match: {hosts: [\"*.localhost\"], paths: [/shown], methods: [GET]}
    upstream: app
    auth: {any_of: [{bearer: workforce}, {dpop: moat}, {session: browser}]}
    require: {session: any}",
    );
    bundle.replace("routes:\n  home:", &format!("{more}routes:\n  home:"));
    (Gateway::start(bundle).await, upstream)
}

/// What reached the application of each credential, by the version of HTTP that the client speaks.
async fn arrived(gateway: &Gateway, upstream: &Upstream) -> Vec<String> {
    let key = Key::new();
    let bound = text(&opened(gateway, &key).await, "access_token");
    let (bearer, cookie) = (gateway.token("acme", &["viewer"]), open(gateway).await);
    let mut all = Vec::new();
    for h2 in [false, true] {
        let dpop = [("authorization", format!("DPoP {bound}")), ("dpop", key.proof("GET", SHOWN, Some(&bound)))];
        for (what, headers) in [
            ("proof", &dpop[..]),
            ("token", &[("authorization", format!("Bearer {bearer}"))]),
            ("session", &[("cookie", format!("theme=dark; {cookie}"))]),
        ] {
            let call = gateway.get(SHOWN).header("sec-fetch-site", "same-origin");
            let call = headers.iter().fold(call, |call, (name, value)| call.header(name, value));
            let reply = if h2 { call.h2() } else { call }.send().await;
            assert_eq!(reply.verdict(), "200", "{what}, h2: {h2}: {}", reply.text());
            let seen = upstream.last();
            assert_eq!(
                (seen.header("x-tenant-id").as_deref(), seen.header("moat-assertion").is_some()),
                (Some("acme"), true)
            );
            let here =
                |name: &str| seen.header(name).map(|value| format!("{name}: {}", value.split(' ').next().unwrap()));
            let there: Vec<String> = ["authorization", "dpop", "cookie"].into_iter().filter_map(here).collect();
            let whole = format!("{seen:?}");
            let leaked =
                [&bound, &bearer, cookie.split_once('=').unwrap().1].iter().any(|secret| whole.contains(*secret));
            all.push(format!(
                "{what} {leaked} {}",
                there.iter().map(|one| one.split(": ey").next().unwrap()).collect::<Vec<_>>().join(", ")
            ));
        }
    }
    all
}

#[tokio::test]
async fn no_credential_reaches_an_application_on_any_way_through() {
    for version in ["http/1.1", "h2"] {
        let (gateway, upstream) = gateway(version, "").await;
        let nothing = ["proof false ", "token false ", "session false cookie: theme=dark"];
        assert_eq!(arrived(&gateway, &upstream).await, [nothing, nothing].concat(), "application: {version}");
    }
}

#[tokio::test]
async fn credentials_are_forwarded_where_the_configuration_says_so() {
    for version in ["http/1.1", "h2"] {
        let (gateway, upstream) = gateway(version, "identity: {forward_credential: true}\n").await;
        let all = ["proof true authorization: DPoP, dpop", "token true authorization: Bearer"];
        let found = arrived(&gateway, &upstream).await;
        for tokens in [&found[..2], &found[3..5]] {
            assert_eq!(tokens, all, "application: {version}");
        }
    }
}
