//! A provider without a second factor: the gateway asks for codes of its own where a page needs one.
use super::fake::{Provider, begin, come_back, configure, session};
use crate::harness::{Bundle, Call, Gateway, Reply, Upstream, now};
use crate::sessions::totp::shown;

const HERE: &str = "acme.localhost";
const VAULT: &str = "/.moat/totp?return=%2Fvault";

/// `/vault` takes an authentication of class `mfa`, `/seal` one of a class that only the provider has, `/ledger` one with a
/// code, `/mint` one with a code and a key, which only the provider can ask for.
async fn with_codes(provider: &Provider) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let bundle = Bundle::standard(upstream.address);
    configure(&bundle, provider);
    bundle.replace("sessions:\n", "sessions:\n  totp: {issuer: North Lane, acr: mfa}\n");
    bundle.replace(
        "  step_up:\n",
        "  step_up:\n    second: {max_age: 15m, acr: [mfa]}\n    key: {acr: [phr]}\n    \
         code: {max_age: 15m, amr: [otp]}\n    both: {amr: [hwk, otp]}\n",
    );
    for (path, step_up) in [("vault", "second"), ("seal", "key"), ("ledger", "code"), ("mint", "both")] {
        bundle.route(&format!(
            "  {path}:\n    match: {{hosts: [\"*.localhost\"], paths: [/{path}], methods: [GET]}}\n    upstream: app\n    \
             auth: {{session: browser, on_missing: login}}\n    require: {{session: any, step_up: {step_up}}}"
        ));
    }
    (Gateway::start(bundle).await, upstream)
}

fn page<'g>(gateway: &'g Gateway, path: &str, cookie: &str) -> Call<'g> {
    gateway.get(&format!("https://{HERE}{path}")).header("accept", "text/html").header("cookie", cookie)
}

#[tokio::test]
async fn a_page_that_needs_one_asks_for_a_code_of_the_gateways() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = with_codes(&provider).await;
    // Nobody is signed in: the provider is asked who it is, and for nothing that it cannot do.
    let login = page(&gateway, "/vault", "a=1").send().await.header("location").unwrap();
    assert_eq!(login, "/.moat/login?return_to=%2Fvault");
    let begun = begin(&gateway, HERE, &login).await;
    assert!(!begun.asked.contains_key("acr_values") && !begun.asked.contains_key("max_age"), "{:?}", begun.asked);
    provider.gives(provider.id_token(&begun).signed(&provider.key));
    let reply = come_back(&gateway, HERE, &begun.cookie, &format!("code=c&state={}", begun.asked["state"])).await;
    assert_eq!(reply.header("location").as_deref(), Some(VAULT), "{reply:?}");
    let cookie = format!("__Host-session={}", session(&reply).unwrap());

    // Signed in, and not strong enough.
    assert_eq!(page(&gateway, "/vault", &cookie).send().await.header("location").as_deref(), Some(VAULT));
    let seal = page(&gateway, "/seal", &cookie).send().await.header("location").unwrap();
    assert_eq!(seal, "/.moat/login?return_to=%2Fseal&prompt=login", "of a class that codes do not have");
    assert_eq!(begin(&gateway, HERE, &seal).await.asked["acr_values"], "phr");

    let post = |form: String| {
        let call = gateway.call("POST", &format!("https://{HERE}/.moat/totp")).header("cookie", &cookie);
        let call = call.header("sec-fetch-site", "same-origin").header("accept", "text/html");
        call.header("content-type", "application/x-www-form-urlencoded").body(form).send()
    };
    let offer = page(&gateway, VAULT, &cookie).send().await.text();
    assert!(offer.contains("<button>Set up</button>") && offer.contains("value=\"/vault\""), "{offer}");
    let setup = post("do=enrol&return=%2Fvault".to_owned()).await.text();
    let secret = setup.split_once("Key: <code>").unwrap().1.split('<').next().unwrap().replace(' ', "");
    let done = post(format!("code={}&return=%2Fvault", shown(&secret, now()))).await;
    assert!(done.text().contains("<a href=\"/vault\">"), "{}", done.text());
    assert_eq!(page(&gateway, "/vault", &cookie).send().await.verdict(), "200");

    // A slower tab of the same user comes back from the provider: the session stays as strong as it was.
    let begun = begin(&gateway, HERE, "/.moat/login?return_to=/board").await;
    provider.gives(provider.id_token(&begun).auth_age(60).signed(&provider.key));
    let query = format!("code=c&state={}", begun.asked["state"]);
    let reply = come_back(&gateway, HERE, &format!("{}; {cookie}", begun.cookie), &query).await;
    assert_eq!((reply.header("location").as_deref(), session(&reply)), (Some("/board"), None), "{reply:?}");
    assert_eq!(page(&gateway, "/vault", &cookie).send().await.verdict(), "200");
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("moat_step_up_total{result=\"met\"} 1"), "{metrics}");
}

#[tokio::test]
async fn an_app_is_set_up_right_after_signing_in() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = with_codes(&provider).await;
    let begun = begin(&gateway, HERE, "/.moat/login?return_to=/vault").await;
    provider.gives(provider.id_token(&begun).auth_age(901).signed(&provider.key));
    let reply = come_back(&gateway, HERE, &begun.cookie, &format!("code=c&state={}", begun.asked["state"])).await;
    assert_eq!(reply.header("location").as_deref(), Some(VAULT));
    let cookie = format!("__Host-session={}", session(&reply).unwrap());
    let shown = page(&gateway, VAULT, &cookie).send().await.text();
    let again = "/.moat/login?return_to=%2Fvault&prompt=login";
    assert!(shown.contains(&format!("<a href=\"{}\">Sign in again</a>", again.replace('&', "&amp;"))), "{shown}");
    let begun = begin(&gateway, HERE, again).await;
    provider.gives(provider.id_token(&begun).signed(&provider.key));
    let query = format!("code=c&state={}", begun.asked["state"]);
    let reply = come_back(&gateway, HERE, &format!("{}; {cookie}", begun.cookie), &query).await;
    assert_eq!(reply.header("location").as_deref(), Some(VAULT));
    assert!(page(&gateway, VAULT, &cookie).send().await.text().contains("<button>Set up</button>"));
}

/// Signs in for a page with a provider that says these methods.
async fn signed_in(gateway: &Gateway, provider: &Provider, login: &str, amr: &[&str], cookie: &str) -> Reply {
    let begun = begin(gateway, HERE, login).await;
    provider.gives(provider.id_token(&begun).claim("amr", amr).signed(&provider.key));
    let query = format!("code=c&state={}", begun.asked["state"]);
    come_back(gateway, HERE, &format!("{}; {cookie}", begun.cookie), &query).await
}

#[tokio::test]
async fn a_method_that_codes_have_is_asked_of_them_and_any_other_of_the_provider() {
    let provider = Provider::start(false).await;
    let (gateway, _upstream) = with_codes(&provider).await;
    let ledger = "/.moat/totp?return=%2Fledger";
    let login = page(&gateway, "/ledger", "a=1").send().await.header("location").unwrap();
    let reply = signed_in(&gateway, &provider, &login, &["pwd"], "a=1").await;
    assert_eq!(reply.header("location").as_deref(), Some(ledger), "{reply:?}");
    let cookie = format!("__Host-session={}", session(&reply).unwrap());
    assert_eq!(page(&gateway, "/ledger", &cookie).send().await.header("location").as_deref(), Some(ledger));
    // A code does not do where the sign-in had no key: not the page of codes, but the provider, and anew.
    let mint = page(&gateway, "/mint", &cookie).send().await.header("location").unwrap();
    assert_eq!(mint, "/.moat/login?return_to=%2Fmint&prompt=login");

    let post = |form: String| {
        let call = gateway.call("POST", &format!("https://{HERE}/.moat/totp")).header("cookie", &cookie);
        let call = call.header("sec-fetch-site", "same-origin").header("accept", "text/html");
        call.header("content-type", "application/x-www-form-urlencoded").body(form).send()
    };
    let setup = post("do=enrol&return=%2Fledger".to_owned()).await.text();
    let secret = setup.split_once("Key: <code>").unwrap().1.split('<').next().unwrap().replace(' ', "");
    let done = post(format!("code={}&return=%2Fledger", shown(&secret, now() - 30))).await;
    assert!(done.text().contains("<a href=\"/ledger\">"), "{}", done.text());
    let reply = page(&gateway, "/ledger", &cookie).send().await;
    assert_eq!(reply.verdict(), "200");
    let cookie = session(&reply).map_or(cookie.clone(), |handle| format!("__Host-session={handle}"));
    assert_eq!(page(&gateway, "/mint", &cookie).send().await.header("location").as_deref(), Some(&*mint));

    // The provider does not do what it was asked for: the browser is told, and does not go round.
    let first = begin(&gateway, HERE, "/.moat/login?return_to=/mint").await;
    assert_eq!(first.asked.get("prompt").map(String::as_str), Some("login"), "also of whom nobody has seen yet");
    assert!(!first.asked.contains_key("acr_values"), "{:?}", first.asked);
    let refused = signed_in(&gateway, &provider, &mint, &["pwd"], &cookie).await;
    assert_eq!((refused.verdict(), session(&refused)), ("401 session.step-up".to_owned(), None));
    // It does: a code is what is left.
    let reply = signed_in(&gateway, &provider, &mint, &["hwk"], &cookie).await;
    assert_eq!(reply.header("location").as_deref(), Some("/.moat/totp?return=%2Fmint"), "{reply:?}");
    let cookie = session(&reply).map_or(cookie, |handle| format!("__Host-session={handle}"));
    let led = page(&gateway, "/mint", &cookie).send().await;
    assert_eq!(led.header("location").as_deref(), Some("/.moat/totp?return=%2Fmint"));
    let cookie = session(&led).map_or(cookie, |handle| format!("__Host-session={handle}"));
    let call = gateway.call("POST", &format!("https://{HERE}/.moat/totp")).header("cookie", &cookie);
    let call = call.header("sec-fetch-site", "same-origin").header("accept", "text/html");
    let call = call.header("content-type", "application/x-www-form-urlencoded");
    let code = format!("code={}&return=%2Fmint", shown(&secret, now()));
    assert_eq!(call.body(code).send().await.header("location").as_deref(), Some("/mint"));
    assert_eq!(page(&gateway, "/mint", &cookie).send().await.verdict(), "200");
}
