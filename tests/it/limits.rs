//! Limits from end to end, over both protocols and both data paths: caps, costs, guessed passwords, turns.
mod caps;
mod costs;
mod draining;
mod login;
mod turns;

use crate::harness::{Bundle, Call, Gateway, Reply};

/// Adds a limit, and a public route `/NAME` that lists it.
fn limited(bundle: &Bundle, name: &str, limit: &str) {
    let limits = bundle.read("policies/rate-limits.yaml");
    bundle.write("policies/rate-limits.yaml", &format!("{limits}  {name}: {limit}\n"));
    bundle.route(&format!(
        "  {name}:\n    match: {{hosts: [\"*.localhost\"], paths: [/{name}], methods: [GET, POST]}}\n    upstream: app\n    public: \"a test\"\n    rate_limits: [{name}]"
    ));
}

fn over(h2: bool, call: Call<'_>) -> Call<'_> {
    if h2 { call.h2() } else { call }
}

/// A form, sent as browsers send it.
async fn post_form(gateway: &Gateway, h2: bool, path: &str, body: &str) -> Reply {
    let call = gateway.call("POST", &format!("https://acme.localhost{path}"));
    over(h2, call.header("content-type", "application/x-www-form-urlencoded").body(body.to_owned())).send().await
}

/// The value of a gauge or counter.
async fn value(gateway: &Gateway, series: &str) -> Option<f64> {
    let text = gateway.metrics().await;
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}
