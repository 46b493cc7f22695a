//! Sessions that an application grants in the header of its answer.
use super::*;
use http::Response;
use http_body_util::Full;

const LOGIN: &str = "https://acme.localhost/login";
const GRANT: &str = "cookie: __Host-sid, grant: {issuer: shop}";

/// An application whose answers all hold what the request's `x-say` says, as a grant.
async fn granting() -> (Gateway, Upstream) {
    let upstream = Upstream::answering(|seen| {
        let mut response = Response::new(Full::default());
        for line in seen.header("x-say").unwrap_or_default().split('|').filter(|line| !line.is_empty()) {
            response.headers_mut().append("x-moat-session-grant", line.parse().unwrap());
        }
        response
            .headers_mut()
            .insert("x-app-saw", seen.header("x-moat-session-grant").unwrap_or_default().parse().unwrap());
        response
    })
    .await;
    let mut bundle = Bundle::standard(upstream.address);
    held(&mut bundle, GRANT);
    bundle.route(
        "  login:
    match: {hosts: [\"*.localhost\"], paths: [/login], methods: [GET, POST]}
    upstream: app
    public: \"the sign-in\"
    grants: session",
    );
    (Gateway::start(bundle).await, upstream)
}

fn login<'g>(gateway: &'g Gateway, says: &str) -> Call<'g> {
    gateway.post(LOGIN, "{}").header("sec-fetch-site", "same-origin").header("x-say", says)
}

#[tokio::test]
async fn an_application_signs_users_in_and_nobody_sees_the_grant() {
    let (gateway, upstream) = granting().await;
    let says = r#"{"subject":"ada","roles":["cashier"],"amr":["pwd"]}"#;
    for h2 in [false, true] {
        let call = login(&gateway, says);
        let reply = if h2 { call.h2().send().await } else { call.send().await };
        assert_eq!(reply.verdict(), "200");
        assert_eq!(reply.header("x-moat-session-grant"), None, "it is ours alone");
        assert_eq!(reply.header("cache-control").as_deref(), Some("no-store"));
        let cookie = cookie(&reply).unwrap();
        assert_eq!(me(&gateway, &cookie).send().await.verdict(), "200");
        assert_eq!(upstream.last().header("x-user-id").as_deref(), Some("ada"));
        assert_eq!(upstream.last().header("x-user-roles").as_deref(), Some("cashier"));
        let entry = gateway.outcome(&reply.header("x-request-id").unwrap()).await;
        assert_eq!(
            (&entry["action"], &entry["facts"]["issuer"]),
            (&"session.opened".into(), &"shop".into()),
            "{entry}"
        );
    }
    let globex = gateway.get("https://globex.localhost/me").header("cookie", "__Host-sid=x").send().await;
    assert_eq!(globex.verdict(), "401 session.invalid");
}

#[tokio::test]
async fn a_grant_counts_where_it_is_expected_and_is_removed_everywhere() {
    let (gateway, _upstream) = granting().await;
    let says = r#"{"subject":"ada"}"#;
    let elsewhere = gateway.get("https://acme.localhost/page").header("x-say", says).send().await;
    let header = |reply: &Reply| (reply.verdict(), reply.header("x-moat-session-grant"), cookie(reply));
    assert_eq!(header(&elsewhere), ("200".to_owned(), None, None));
    // Nor is what a client sends.
    let sent = login(&gateway, "").header("x-moat-session-grant", says).send().await;
    assert_eq!((header(&sent), sent.header("x-app-saw").as_deref()), (("200".to_owned(), None, None), Some("")));
    // Somebody else's page cannot sign a visitor in.
    let foreign = gateway.post(LOGIN, "{}").header("sec-fetch-site", "cross-site").header("x-say", says).send().await;
    assert_eq!(foreign.verdict(), "403 csrf.unproven");
}

#[tokio::test]
async fn nonsense_and_other_tenants_are_not_granted() {
    let (gateway, _upstream) = granting().await;
    for says in ["ada", "{}", r#"{"subject":"ada","tenant":"globex"}"#, r#"{"subject":"ada"}|{"subject":"bob"}"#] {
        for call in [login(&gateway, says), login(&gateway, says).h2()] {
            let reply = call.send().await;
            assert_eq!((reply.verdict().as_str(), cookie(&reply)), ("502 upstream.unreachable", None), "{says}");
        }
    }
}

/// The application is known by the name that the configuration gives it, as issuers are.
#[tokio::test]
async fn operators_end_the_sessions_of_the_applications_users() {
    let (gateway, _upstream) = granting().await;
    let of =
        async |subject: &str| cookie(&login(&gateway, &format!("{{\"subject\":\"{subject}\"}}")).send().await).unwrap();
    let (ada, bob) = (of("ada").await, of("bob").await);
    crate::revocation::ended(&gateway, &["--subject", "ada", "--issuer", "shop"]);
    assert_eq!(me(&gateway, &ada).send().await.verdict(), "401 session.revoked");
    assert_eq!(me(&gateway, &bob).send().await.verdict(), "200");
    crate::revocation::ended(&gateway, &["--issuer", "shop", "--yes"]);
    assert_eq!(me(&gateway, &bob).send().await.verdict(), "401 session.revoked");
}

/// Who is taken for another issuer's user would go on, and the operator would have read that all is done.
#[tokio::test]
async fn an_operator_says_whose_user_it_is_where_an_application_vouches_too() {
    let (gateway, _upstream) = granting().await;
    let ada = cookie(&login(&gateway, r#"{"subject":"ada"}"#).send().await).unwrap();
    let admin = gateway.address("admin").to_string();
    let moat = |args: &[&str]| {
        crate::harness::moat(gateway.bundle.root(), &[args, &["--admin", &admin, "--subject", "ada"]].concat())
    };
    for (args, said) in [
        (&["sessions", "revoke"][..], "there is not just one issuer\n  hint: name one of `workforce`, `shop`"),
        (&["sessions", "list"], "there is not just one issuer\n  hint: name one of `workforce`, `shop`"),
        (&["sessions", "list", "--issuer", "shp"], "there is no issuer `shp`\n  hint: did you mean `shop`?"),
        (&["sessions", "list", "--issuer", "moat"], "there is no issuer `moat`\n  hint: there are `workforce`, `shop`"),
        (&["sessions", "revoke", "--issuer", "nobody"], "no issuer `nobody`\n  hint: there are `workforce`, `shop`"),
    ] {
        let output = moat(args);
        assert!(output.code == Some(1) && output.stderr.contains(said), "{args:?}: {output:?}");
        assert_eq!(me(&gateway, &ada).send().await.verdict(), "200", "{args:?}");
    }
    let listed = moat(&["sessions", "list", "--issuer", "shop", "--tenant", "acme"]);
    assert_eq!((listed.code, listed.stdout.lines().count()), (Some(0), 1), "{listed:?}");
}
