//! Sessions that the gateway holds for browsers: opened, used, replaced, stolen, ended, over real sockets.
mod exchange;
mod grants;
mod rotation;
pub mod totp;

use crate::harness::{Bundle, Call, Gateway, Reply, Upstream, with};

pub const SESSION: &str = "https://acme.localhost/.moat/session";
pub const ME: &str = "https://acme.localhost/me";

/// A gateway that exchanges tokens of `workforce` and serves `/me` to sessions; `browser` is `sessions.browser`.
pub async fn gateway(browser: &str) -> (Gateway, Upstream) {
    with(|bundle| held(bundle, browser)).await
}

pub fn held(bundle: &mut Bundle, browser: &str) {
    bundle.replace("sessions:\n", &format!("sessions:\n  browser: {{{browser}}}\n"));
    bundle.route(
        "  me:
    match: {hosts: [\"*.localhost\"], paths: [/me], methods: [GET, POST]}
    upstream: app
    auth: {any_of: [{bearer: workforce}, {session: browser}]}
    require: {session: any}",
    );
}

/// Lets one address ask the gateway itself as often as a test does that asks until something has changed.
pub fn unhurried(bundle: &Bundle) {
    let limits = bundle.read("policies/rate-limits.yaml");
    let many = "  moat-own: {key: [client.ip_prefix], rate: 100000/m, burst: 10000}\n";
    bundle.write("policies/rate-limits.yaml", &format!("{limits}{many}"));
}

pub const BROWSER: &str = "cookie: __Host-sid, exchange: [workforce]";

/// The cookie of an answer, `NAME=HANDLE`, where it sets one.
pub fn cookie(reply: &Reply) -> Option<String> {
    let mut lines = reply.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap());
    let line = lines.rfind(|line| line.starts_with("__Host-sid="))?;
    Some(line.split(';').next().unwrap().to_owned())
}

pub async fn open(gateway: &Gateway) -> String {
    let reply = gateway.call("POST", SESSION).bearer(&gateway.token("acme", &["cashier"])).send().await;
    assert_eq!(reply.verdict(), "201", "{}", reply.text());
    cookie(&reply).unwrap()
}

/// Uses a session until it is refused.
async fn until_refused(gateway: &Gateway, cookie: &str) -> Reply {
    let refused = std::sync::OnceLock::new();
    gateway
        .until("the session is refused", async |gateway| {
            let reply = me(gateway, cookie).send().await;
            reply.status == 401 && refused.set(reply).is_ok()
        })
        .await;
    refused.into_inner().unwrap()
}

pub fn me<'g>(gateway: &'g Gateway, cookie: &str) -> Call<'g> {
    gateway.get(ME).header("cookie", cookie)
}
