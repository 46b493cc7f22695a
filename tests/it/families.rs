//! Tokens of the gateway's own: families of refresh tokens, access tokens, proof of possession.
pub mod bound;
mod documented;
mod issued;
mod library;
mod listed;
mod refreshed;
mod together;
mod waited;

use crate::harness::{self, Bundle, Gateway, Reply, Token, Upstream};
use serde_json::Value;

/// The token endpoint of tenant `acme`.
pub const ACME: &str = "https://acme.localhost/.moat/token";
const EXCHANGE: &str = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange";
const ACCESS_TOKEN: &str = "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token";

/// Issues tokens, and has a route for those who hold them.
fn issuing(bundle: &mut Bundle, tokens: &str) {
    let sessions = format!("sessions:\n  tokens: {{exchange: [workforce]{tokens}}}\n");
    bundle.replace("sessions:\n", &sessions);
    bundle.route(
        "  held:
    match: {hosts: [\"*.localhost\"], paths: [/api/held], methods: [GET, POST]}
    upstream: app
    auth: {any_of: [{bearer: moat}, {dpop: moat}]}
    require: {session: any}
    headers: api-json",
    );
}

async fn start(tokens: &str) -> (Gateway, Upstream) {
    harness::with(|bundle| issuing(bundle, tokens)).await
}

pub async fn form(gateway: &Gateway, url: &str, body: &str) -> Reply {
    let call = gateway.call("POST", url).header("content-type", "application/x-www-form-urlencoded");
    call.body(body.to_owned()).send().await
}

pub fn exchange(token: &str) -> String {
    format!("grant_type={EXCHANGE}&subject_token_type={ACCESS_TOKEN}&subject_token={token}")
}

/// Opens a family for a token of the issuer.
async fn open(gateway: &Gateway, token: &Token) -> Reply {
    form(gateway, ACME, &exchange(&token.signed(&gateway.bundle.key))).await
}

pub async fn refresh(gateway: &Gateway, token: &str) -> Reply {
    form(gateway, ACME, &format!("grant_type=refresh_token&refresh_token={token}")).await
}

pub fn text(reply: &Reply, name: &str) -> String {
    reply.json()[name].as_str().unwrap_or_else(|| panic!("no `{name}`: {}", reply.text())).to_owned()
}

/// `400 invalid_grant session.reused` of a refusal, the bare status of anything else.
fn said(reply: &Reply) -> String {
    match serde_json::from_slice::<Value>(&reply.body).ok().filter(|body| body["error"].is_string()) {
        Some(body) => {
            format!("{} {} {}", reply.status, body["error"].as_str().unwrap(), body["code"].as_str().unwrap())
        }
        None => reply.status.to_string(),
    }
}

pub async fn held(gateway: &Gateway, access: &str) -> String {
    gateway.get("https://acme.localhost/api/held").bearer(access).send().await.verdict()
}
