//! Upstreams over TLS and HTTP/2, and how they live: checks, ejection, bounds, retries, regions.
mod grpc;
mod life;
mod secure;

use crate::harness::{Bundle, Gateway};

/// A bundle whose upstream `app` is this, in the words of `gateway.yaml`.
fn bundle(upstream: &str) -> Bundle {
    let bundle = Bundle::standard(([127, 0, 0, 1], 9).into());
    let text = bundle.read("gateway.yaml");
    let (before, rest) = text.split_once("  app:\n").unwrap();
    let (_, after) = rest.split_once("sessions:\n").unwrap();
    bundle.write("gateway.yaml", &format!("{before}  app:\n{upstream}\nsessions:\n{after}"));
    bundle
}

/// The value of a series, by its whole name with labels.
async fn metric(gateway: &Gateway, series: &str) -> Option<f64> {
    let text = gateway.metrics().await;
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// The cause in the audit entry of the request with this answer.
async fn cause(gateway: &Gateway, path: &str) -> String {
    gateway.outcome_of_path(path).await["cause"].as_str().unwrap_or_default().to_owned()
}
