//! The demo's sample application: several tenants, no security of its own, and some bad habits for the gateway to mend.
use super::page;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Bodies that the application keeps in memory end here; `/upload` counts without keeping.
const BODY_MAX: usize = 64 * 1024;
const BOOKINGS_MAX: usize = 200;
const TENANTS_MAX: usize = 1000;
const SLOW_MAX: Duration = Duration::from_secs(60);
const STREAM_MAX: u64 = 1 << 30;

type Reply = Response<BoxBody<Bytes, Infallible>>;

/// What the gateway says about the caller. The application believes it because nothing else can reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Caller {
    /// `x-tenant-id`
    pub tenant: String,
    /// `x-user-id`; empty on public routes.
    pub subject: String,
    /// `x-user-roles`, comma-separated.
    pub roles: String,
    /// `x-request-id`
    pub request: String,
}

impl Caller {
    fn of(headers: &HeaderMap) -> Caller {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        Caller {
            tenant: text("x-tenant-id"),
            subject: text("x-user-id"),
            roles: text("x-user-roles"),
            request: text("x-request-id"),
        }
    }
}

/// Bookings of each tenant, in memory, for as long as the demo runs.
#[derive(Debug, Default)]
struct Store(Mutex<HashMap<String, Vec<Value>>>);

impl Store {
    fn list(&self, tenant: &str) -> Vec<Value> {
        let first = || vec![json!({"id": 1, "guest": format!("first guest of {tenant}"), "nights": 3})];
        self.lock().get(tenant).cloned().unwrap_or_else(first)
    }

    /// Adds a booking; `None` when the shop is full.
    fn add(&self, tenant: &str, mut booking: Value) -> Option<Value> {
        let mut all = self.list(tenant);
        let mut tenants = self.lock();
        if all.len() >= BOOKINGS_MAX || (tenants.len() >= TENANTS_MAX && !tenants.contains_key(tenant)) {
            return None;
        }
        booking.as_object_mut()?.insert("id".into(), json!(all.len() + 1));
        all.push(booking.clone());
        tenants.insert(tenant.to_owned(), all);
        Some(booking)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Value>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves HTTP/1.1 until `shutdown`, then drops what is still open.
///
/// # Errors
/// Only where the listener itself fails.
pub async fn serve(listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let store = Arc::new(Store::default());
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let stream = tokio::select! {
            () = &mut shutdown => return Ok(()),
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted?.0,
        };
        let _ = stream.set_nodelay(true);
        let store = store.clone();
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let store = store.clone();
                async move { Ok::<_, Infallible>(answer(&store, request).await) }
            });
            // A connection that breaks is the client's business.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(store: &Store, request: Request<Incoming>) -> Reply {
    let caller = Caller::of(request.headers());
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET | &Method::HEAD, "/" | "/account") => {
            let nonce = request.headers().get("x-csp-nonce").and_then(|v| v.to_str().ok()).unwrap_or_default();
            html(page::home(&caller, nonce))
        }
        (&Method::GET | &Method::HEAD, "/login") => html(page::login()),
        (&Method::GET | &Method::HEAD, "/healthz") => text("ok\n"),
        (_, "/api/echo") => echo(request).await,
        (&Method::GET | &Method::HEAD, "/api/bookings") => {
            reply_json(StatusCode::OK, &json!({"tenant": caller.tenant, "bookings": store.list(&caller.tenant)}))
        }
        (&Method::POST, "/api/bookings") => book(store, &caller, request).await,
        (&Method::POST, "/api/refunds") => {
            reply_json(StatusCode::CREATED, &json!({"tenant": caller.tenant, "by": caller.subject, "refund": "booked"}))
        }
        (&Method::GET | &Method::HEAD, "/api/reports") => {
            reply_json(StatusCode::OK, &json!({"tenant": caller.tenant, "nights": 3}))
        }
        (&Method::POST, "/api/exports") => {
            reply_json(StatusCode::ACCEPTED, &json!({"tenant": caller.tenant, "export": "queued"}))
        }
        (&Method::GET, "/api/slow") => slow(request.uri().query()).await,
        (&Method::GET, "/api/stream") => stream(request.uri().query()),
        (&Method::POST | &Method::PUT, "/api/upload") => upload(request).await,
        (&Method::GET | &Method::HEAD, "/leaky") => leaky(),
        _ => reply_json(StatusCode::NOT_FOUND, &json!({"error": "the application has no such page"})),
    }
}

/// What arrived, as it arrived: shows what the gateway removed and added.
async fn echo(request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let headers: Vec<[String; 2]> = head
        .headers
        .iter()
        .map(|(name, value)| [name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()])
        .collect();
    let Some(body) = collect(body).await else { return too_large() };
    reply_json(
        StatusCode::OK,
        &json!({
            "method": head.method.as_str(),
            "target": head.uri.to_string(),
            "headers": headers,
            "body": String::from_utf8_lossy(&body),
        }),
    )
}

async fn book(store: &Store, caller: &Caller, request: Request<Incoming>) -> Reply {
    let Some(body) = collect(request.into_body()).await else { return too_large() };
    match serde_json::from_slice::<Value>(&body) {
        Ok(booking) if booking.is_object() => match store.add(&caller.tenant, booking) {
            Some(booking) => reply_json(StatusCode::CREATED, &booking),
            None => reply_json(StatusCode::INSUFFICIENT_STORAGE, &json!({"error": "the hotel is full"})),
        },
        Ok(_) | Err(_) => reply_json(StatusCode::BAD_REQUEST, &json!({"error": "send a JSON object"})),
    }
}

/// `/api/slow?ms=1500`
async fn slow(query: Option<&str>) -> Reply {
    let wait = Duration::from_millis(number(query, "ms").unwrap_or(1000)).min(SLOW_MAX);
    tokio::time::sleep(wait).await;
    reply_json(StatusCode::OK, &json!({"waited_ms": u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)}))
}

/// `/api/stream?bytes=1048576`: chunked, no length.
fn stream(query: Option<&str>) -> Reply {
    let left = number(query, "bytes").unwrap_or(1 << 20).min(STREAM_MAX);
    with_type(Response::new(BoxBody::new(Stripes { left })), "application/octet-stream")
}

/// Counts and hashes a body of any size as it arrives.
async fn upload(request: Request<Incoming>) -> Reply {
    let mut body = request.into_body();
    let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut bytes: u64 = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return reply_json(StatusCode::BAD_REQUEST, &json!({"error": "body cut short"})) };
        if let Some(data) = frame.data_ref() {
            bytes += u64::try_from(data.len()).unwrap_or(u64::MAX);
            hash.update(data);
        }
    }
    let sha256: String = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    reply_json(StatusCode::OK, &json!({"bytes": bytes, "sha256": sha256}))
}

/// Headers and cookies as careless applications send them.
fn leaky() -> Reply {
    let mut reply = html("<!doctype html><title>leaky</title><p>Look at the response headers.".to_owned());
    let headers = reply.headers_mut();
    let mut add = |name: HeaderName, value: &'static str| headers.append(name, HeaderValue::from_static(value));
    add(header::SERVER, "SampleApp/1.0 (Debian)");
    add(HeaderName::from_static("x-powered-by"), "SampleFramework 4.2");
    add(header::SET_COOKIE, "theme=dark; Path=/");
    add(header::SET_COOKIE, "basket=17; Path=/; SameSite=None");
    reply
}

async fn collect(body: Incoming) -> Option<Bytes> {
    Limited::new(body, BODY_MAX).collect().await.ok().map(http_body_util::Collected::to_bytes)
}

fn number(query: Option<&str>, key: &str) -> Option<u64> {
    query?.split('&').find_map(|pair| pair.split_once('=').filter(|(k, _)| *k == key)?.1.parse().ok())
}

fn too_large() -> Reply {
    reply_json(StatusCode::PAYLOAD_TOO_LARGE, &json!({"error": "more than the application takes"}))
}

fn reply_json(status: StatusCode, value: &Value) -> Reply {
    let mut reply = with_type(full(format!("{value}\n")), "application/json");
    *reply.status_mut() = status;
    reply
}

fn html(page: String) -> Reply {
    with_type(full(page), "text/html; charset=utf-8")
}

fn text(text: &'static str) -> Reply {
    with_type(full(text), "text/plain; charset=utf-8")
}

fn full(body: impl Into<Bytes>) -> Reply {
    Response::new(BoxBody::new(Full::new(body.into())))
}

fn with_type(mut reply: Reply, content_type: &'static str) -> Reply {
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// A body of so many bytes, made as it is read.
#[derive(Debug)]
struct Stripes {
    left: u64,
}

impl Body for Stripes {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static BLOCK: [u8; 16 * 1024] = [b'.'; 16 * 1024];
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let size = usize::try_from(self.left).unwrap_or(usize::MAX).min(BLOCK.len());
        self.left = self.left.saturating_sub(size as u64);
        let block = BLOCK.get(..size).unwrap_or(&BLOCK);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(block)))))
    }

    fn size_hint(&self) -> SizeHint {
        // No exact size, so that the answer is chunked like a real stream.
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Sends one request over a socket; returns head and body.
    async fn ask(request: &str) -> (String, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, async { drop(stopped.await) }));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn bookings_belong_to_the_tenant_that_the_gateway_names() {
        let (head, body) =
            ask("GET /api/bookings HTTP/1.1\r\nhost: x\r\nx-tenant-id: acme\r\nconnection: close\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(body.contains("first guest of acme"), "{body}");
        let store = Store::default();
        store.add("acme", json!({"guest": "b"})).unwrap();
        assert_eq!((store.list("acme").len(), store.list("globex").len()), (2, 1));
    }

    #[tokio::test]
    async fn the_page_escapes_what_it_shows_and_marks_its_script_with_the_nonce() {
        let (_, body) = ask(
            "GET / HTTP/1.1\r\nhost: x\r\nx-csp-nonce: n0nce\r\nx-tenant-id: acme\r\nx-user-id: <b>eve</b>\r\nconnection: close\r\n\r\n",
        )
        .await;
        assert!(body.contains("&lt;b&gt;eve&lt;/b&gt;") && !body.contains("<b>eve"), "{body}");
        assert!(body.contains("<script nonce=\"n0nce\">"), "{body}");
    }

    #[tokio::test]
    async fn streams_and_uploads_are_not_kept_in_memory() {
        let (head, _) = ask("GET /api/stream?bytes=40000 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(head.to_lowercase().contains("transfer-encoding: chunked"), "{head}");
        let (_, body) =
            ask("POST /api/upload HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc").await;
        assert!(body.contains("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), "{body}");
    }
}
