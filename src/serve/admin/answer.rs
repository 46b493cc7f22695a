//! What the admin listener answers to one request.
use super::{Desk, Paths, factors, guard, keys, sessions};
use crate::serve::metrics::{CONTENT_TYPE as METRICS_TEXT, OPENMETRICS, prefers_openmetrics};
use crate::serve::status::{self, Page, Status};
use bytes::Bytes;
use decide::facts::Person;
use decide::record::Event;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use std::sync::Arc;

/// Something that must be in order for the gateway to be ready. Not whether an identity provider or a shared store can
/// be reached: their outage must not become ours.
pub struct Check {
    name: &'static str,
    check: Box<dyn Fn() -> Finding + Send + Sync>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// All is well; what there is to tell follows, if anything.
    Good(String),
    /// It can serve, and somebody should look at it: this is why.
    Noted(String),
    /// It cannot serve, for this reason.
    Failed(String),
}

impl Check {
    /// A check by name. `check` must be quick; its error says in a few words what is wrong.
    pub fn new(name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Check {
        Check { name, check: Box::new(move || check().map_or_else(Finding::Failed, |()| Finding::Good(String::new()))) }
    }

    /// One that never fails, and says what somebody should look at.
    pub fn noting(name: &'static str, note: impl Fn() -> Option<String> + Send + Sync + 'static) -> Check {
        Check { name, check: Box::new(move || note().map_or_else(|| Finding::Good(String::new()), Finding::Noted)) }
    }

    /// Something that is told and never fails: what others are to blame for.
    pub fn note(name: &'static str, note: impl Fn() -> String + Send + Sync + 'static) -> Check {
        Check { name, check: Box::new(move || Finding::Good(format!(": {}", note()))) }
    }
}

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const TEXT: &str = "text/plain; charset=utf-8";

/// Answers one request. Only orders about sessions, factors and keys have a body that is read.
pub(super) async fn answer(desk: Arc<Desk>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if !guard::reaches_us(request.headers()) {
        return problem(StatusCode::MISDIRECTED_REQUEST);
    }
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let Some(place) = Place::of(&desk, path) else {
        return problem(StatusCode::NOT_FOUND);
    };
    let order = matches!(place, Place::Reload | Place::Revoke | Place::Sessions | Place::Factors | Place::Keys);
    let allowed = if order { "POST" } else { "GET, HEAD" };
    if !allowed.split(", ").any(|method| request.method().as_str() == method) {
        let mut refused = problem(StatusCode::METHOD_NOT_ALLOWED);
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        return refused;
    }
    match place {
        Place::Metrics => metrics_page(&desk, prefers_openmetrics(request.headers())).await,
        Place::Live => health("livez", &[], query),
        Place::Ready => health("readyz", &desk.checks, query),
        Place::Page(status) => status_page(status.clone(), Page::of_query(query)).await,
        Place::Json(status) => status_json(status.clone()).await,
        Place::Reload => reload(&desk, request.headers(), query).await,
        Place::Revoke => sessions::revoke(&desk, request).await,
        Place::Sessions => sessions::list(&desk, request).await,
        Place::Factors => factors::answer(&desk, request).await,
        Place::Keys => keys::answer(&desk, request).await,
    }
}

/// What is where.
enum Place<'d> {
    Metrics,
    Live,
    Ready,
    Page(&'d Arc<Status>),
    Json(&'d Arc<Status>),
    Reload,
    Revoke,
    Sessions,
    Factors,
    Keys,
}

impl Place<'_> {
    fn of<'d>(desk: &'d Desk, path: &str) -> Option<Place<'d>> {
        let Paths { metrics, live, ready } = desk.paths();
        match (path, &desk.status) {
            (path, _) if *path == *metrics => Some(Place::Metrics),
            (path, _) if *path == *live => Some(Place::Live),
            (path, _) if *path == *ready => Some(Place::Ready),
            ("/" | "/status", Some(status)) => Some(Place::Page(status)),
            ("/status.json", Some(status)) => Some(Place::Json(status)),
            ("/reload", _) => Some(Place::Reload),
            ("/sessions/revoke", _) => Some(Place::Revoke),
            ("/sessions/list", _) => Some(Place::Sessions),
            ("/factors", _) => Some(Place::Factors),
            ("/keys", _) => Some(Place::Keys),
            (_, _) => None,
        }
    }
}

/// Has the files read, and answers with what became of them once that is known.
async fn reload(desk: &Desk, headers: &HeaderMap, query: &str) -> Response<Full<Bytes>> {
    if !guard::may_change(headers) {
        return problem(StatusCode::FORBIDDEN);
    }
    let dry_run = match query {
        "" => false,
        "dry_run=1" => true,
        // An order that is not understood must not be taken for another.
        _ => return problem(StatusCode::BAD_REQUEST),
    };
    let Some(shared) = desk.gateway.upgrade() else { return problem(StatusCode::SERVICE_UNAVAILABLE) };
    if !dry_run {
        let event = Event::Admin { actor: Person("admin listener"), call: "reload" };
        if shared.audit.system(event).is_err() {
            return problem(StatusCode::SERVICE_UNAVAILABLE);
        }
    }
    match shared.asks.ask(dry_run).await.map(|report| serde_json::to_vec(&report)) {
        Some(Ok(text)) => response(StatusCode::OK, "application/json", text.into()),
        Some(Err(_)) | None => problem(StatusCode::SERVICE_UNAVAILABLE),
    }
}

async fn status_page(status: Arc<Status>, page: Page) -> Response<Full<Bytes>> {
    match tokio::task::spawn_blocking(move || page.render(&status.document())).await {
        Ok(html) => {
            let mut response = response(StatusCode::OK, "text/html; charset=utf-8", html.into());
            if let Ok(policy) = HeaderValue::from_str(status::policy()) {
                response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
            }
            response
        }
        Err(fault) => {
            tracing::error!(%fault, "the status page did not come to an end");
            problem(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

async fn status_json(status: Arc<Status>) -> Response<Full<Bytes>> {
    match tokio::task::spawn_blocking(move || serde_json::to_vec_pretty(&status.document())).await {
        Ok(Ok(mut text)) => {
            text.push(b'\n');
            response(StatusCode::OK, "application/json", text.into())
        }
        Ok(Err(fault)) => {
            tracing::error!(%fault, "the status cannot be written");
            problem(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Err(fault) => {
            tracing::error!(%fault, "the status did not come to an end");
            problem(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

async fn metrics_page(desk: &Arc<Desk>, open: bool) -> Response<Full<Bytes>> {
    let metrics = desk.metrics.clone();
    // Many series take a while to write, and the requests in this runtime must not wait for it.
    let rendered = tokio::task::spawn_blocking(move || match open {
        true => (OPENMETRICS, metrics.render_open()),
        false => (METRICS_TEXT, metrics.render()),
    });
    match rendered.await {
        Ok((format, Ok(text))) => response(StatusCode::OK, format, text.into()),
        Ok((_, Err(fault))) => {
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
            Finding::Good(note) => report += &format!("[+] {} ok{note}\n", check.name),
            Finding::Noted(why) => report += &format!("[~] {} {}\n", check.name, one_line(&why)),
            Finding::Failed(why) => {
                failed = true;
                report += &format!("[!] {} failed: {}\n", check.name, one_line(&why));
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

fn one_line(why: &str) -> String {
    why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// An RFC 9457 problem without details.
pub(super) fn problem(status: StatusCode) -> Response<Full<Bytes>> {
    let title = status.canonical_reason().unwrap_or_default();
    let body = serde_json::json!({"type": "about:blank", "title": title, "status": status.as_u16()});
    response(status, "application/problem+json", body.to_string().into())
}

/// An RFC 9457 problem, told to the operator.
pub(super) fn told(status: StatusCode, detail: &str) -> Response<Full<Bytes>> {
    let title = status.canonical_reason().unwrap_or_default();
    let body = serde_json::json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    response(status, "application/problem+json", body.to_string().into())
}

pub(super) fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}
