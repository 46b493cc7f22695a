//! What the admin listener answers to one request.
use super::{Desk, Paths, guard};
use crate::serve::metrics::CONTENT_TYPE as METRICS_TEXT;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use std::sync::Arc;

/// Something that must be in order for the gateway to be ready. Not whether an identity provider or a shared store can
/// be reached: their outage must not become ours.
pub struct Check {
    name: &'static str,
    check: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl Check {
    /// A check by name. `check` must be quick; its error says in a few words what is wrong.
    pub fn new(name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Check {
        Check { name, check: Box::new(check) }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

/// Answers one request. The body, if any, is not read.
pub(super) async fn answer(desk: Arc<Desk>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if !guard::reaches_us(request.headers()) {
        return problem(StatusCode::MISDIRECTED_REQUEST);
    }
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let Paths { metrics, live, ready } = &desk.paths;
    if path != metrics && path != live && path != ready {
        return problem(StatusCode::NOT_FOUND);
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = problem(StatusCode::METHOD_NOT_ALLOWED);
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    if path == metrics {
        metrics_page(&desk).await
    } else if path == live {
        health("livez", &[], query)
    } else {
        health("readyz", &desk.checks, query)
    }
}

async fn metrics_page(desk: &Arc<Desk>) -> Response<Full<Bytes>> {
    let metrics = desk.metrics.clone();
    // Many series take a while to write, and the requests in this runtime must not wait for it.
    let rendered = tokio::task::spawn_blocking(move || metrics.render()).await;
    match rendered {
        Ok(Ok(text)) => response(StatusCode::OK, METRICS_TEXT, text.into()),
        Ok(Err(fault)) => {
            tracing::error!(%fault, "the metrics cannot be written");
            problem(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Err(fault) => {
            tracing::error!(%fault, "writing the metrics did not come to an end");
            problem(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// Runs all checks that `exclude=NAME` does not name. Lists them where `verbose` asks for it, or where one fails.
fn health(name: &str, checks: &[Check], query: &str) -> Response<Full<Bytes>> {
    let excluded: Vec<&str> = query.split('&').filter_map(|part| part.strip_prefix("exclude=")).collect();
    let verbose = query
        .split('&')
        .any(|part| matches!(part.split_once('=').unwrap_or((part, "")), ("verbose", "" | "1" | "true")));
    let mut report = String::new();
    let mut failed = false;
    for check in checks {
        if excluded.contains(&check.name) {
            report += &format!("[-] {} excluded\n", check.name);
            continue;
        }
        match (check.check)() {
            Ok(()) => report += &format!("[+] {} ok\n", check.name),
            Err(why) => {
                failed = true;
                let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                report += &format!("[!] {} failed: {why}\n", check.name);
            }
        }
    }
    let unknown = excluded.iter().filter(|name| checks.iter().all(|check| check.name != **name)).count();
    if unknown > 0 {
        report += &format!("[?] {unknown} unknown in `exclude`\n");
    }
    let (status, verdict) = match failed {
        false => (StatusCode::OK, "ok"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
    };
    let body = if verbose || failed { format!("{report}{name} {verdict}\n") } else { "ok\n".to_owned() };
    response(status, TEXT, body.into())
}

/// An RFC 9457 problem without details.
fn problem(status: StatusCode) -> Response<Full<Bytes>> {
    let title = status.canonical_reason().unwrap_or_default();
    let body = serde_json::json!({"type": "about:blank", "title": title, "status": status.as_u16()});
    response(status, "application/problem+json", body.to_string().into())
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response
}
