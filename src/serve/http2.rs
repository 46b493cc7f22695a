//! HTTP/2 connections: the codec under our limits and our clocks, with an eye on every frame, and its streams in the
//! connection's own task.
mod account;
mod streams;

use super::drain;
use super::frames::{Frames, LEFT_BEHIND, Watch};
use super::gather::glimpse;
use super::lane::Handover;
use super::listener::{ConnInfo, Front, House};
use super::live::{LEASH, Leash};
use super::stream::Wire;
use crate::config::settings::Listener;
use account::{Account, Clocks, End};
use decide::frames::Limits;
use decide::refusal::{Code, Refusal};
use decide::request::Methods;
use http::Method;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake};
use pingora_core::protocols::{Digest, GetProxyDigest, GetSocketDigest};
use pingora_http::{RequestHeader, ResponseHeader};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use streams::Streams;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Flow-control window of a stream: what a client may send before we have read it.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Flow-control window of a connection: what its requests may leave unread, and as much of it as is held for them where
/// their connection has a place among what waits (`server.unread_answers`).
const CONNECTION_WINDOW: u32 = 65_535;
const WIDE_WINDOW: u32 = 512 * 1024;
/// Bytes of bodies and of answers that the codec may hold for a connection without such a place.
pub(super) const HELD: u64 = CONNECTION_WINDOW as u64 + LEFT_BEHIND;
/// Bytes of an answer that a stream may hold ready for a client that does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that a client may reset before we have looked at them (rapid reset, CVE-2023-44487), at the least: where
/// the listener allows more resets per second, those decide.
const PENDING_RESETS: usize = 20;
/// Streams of one connection that we may have to reset for the client's errors (MadeYouReset, CVE-2025-8671). Our own
/// count, which gives back with time, comes before it; a connection that lives for days is not to end for it.
const LOCAL_RESETS: usize = 1024;
/// Streams beyond the announced number that are refused per second before the connection is, at the least: a client
/// that has not read our settings yet may open as many as it likes.
const LEAST_REFUSED: u32 = 200;
/// Time for saying goodbye to a client that misbehaves.
const GOODBYE: Duration = Duration::from_secs(1);
/// Error code ENHANCE_YOUR_CALM (RFC 9113, 7).
const ENHANCE_YOUR_CALM: u32 = 0xb;

/// Serves streams on `wire` until one side has had enough. Streams end with the connection.
pub(crate) async fn run<A, F>(mut wire: Box<Wire>, settings: &Listener, house: &House<A, F>)
where
    A: HttpServerApp + Send + Sync + 'static,
    F: Front,
{
    let limits = Limits {
        resets_per_second: settings.h2_resets_per_second,
        control_per_second: settings.h2_control_frames_per_second,
        window_updates_per_second: settings.h2_window_updates_per_second,
        block_bytes: codec_bound(settings),
        refused_streams: settings.h2_concurrent_streams.saturating_mul(2).max(LEAST_REFUSED),
    };
    let conn = wire.conn().clone();
    let (frames, watch) = Frames::new(&limits, conn.unsent.clone());
    wire.observe(frames);
    wire.expose(None);
    let places = wire.streams();
    let digest = Arc::new(Digest {
        ssl_digest: None,
        timing_digest: Vec::new(),
        proxy_digest: wire.get_proxy_digest(),
        socket_digest: wire.get_socket_digest(),
    });
    let mut account = Account::new(&*house.front, &conn, &watch);
    let shaken = tokio::select! {
        biased;
        shaken = timeout(settings.header_timeout, handshake(wire, Some(options(settings)))) => shaken,
        // Before the codec has its preface, there is but one thing to tell.
        () = told(&watch) => return account.end(End::of(watch.news().flood)).await,
    };
    let Ok(Ok(mut h2)) = shaken else { return };

    let shutdown = house.drain.watch();
    let mut draining = house.drain.watch_left();
    let mut fresh_draining = shutdown.clone();
    // Each of them is waited for once, across all turns. A client that has just connected has something to ask, and may not
    // have asked it yet.
    let mut left = pin!(drain::begun(&mut draining));
    let mut patience = pin!(drain::idle_over(&mut fresh_draining));
    let (mut going, mut fresh, mut busy) = (false, true, false);
    let mut streams = Streams::new();
    let mut wide = None;
    let mut idle_since = Instant::now();
    // Set again only when it has struck: most connections are not idle for so long.
    let mut idle = pin!(sleep_until(idle_since + settings.idle_timeout));
    let mut clocks = Clocks::new(settings);
    let mut tick = pin!(sleep(clocks.period()));
    let end = loop {
        if watch.over() {
            break End::of(watch.news().flood);
        }
        if std::mem::replace(&mut busy, !streams.is_empty()) && !busy {
            idle_since = Instant::now();
            clocks.rest();
            if wide.take().is_some() {
                h2.set_target_window_size(CONNECTION_WINDOW);
            }
        }
        let accepted = tokio::select! {
            biased;
            () = poll_fn(|cx| if fresh { patience.as_mut().poll(cx) } else { left.as_mut().poll(cx) }), if !going => {
                // GOAWAY; accepted streams finish, and the codec ends the connection after the last one.
                h2.graceful_shutdown();
                going = true;
                continue;
            }
            // Before the codec, which then sends all that they have said at once.
            () = poll_fn(|cx| streams.poll_ended(cx)), if !streams.is_empty() => continue,
            accepted = HttpSession::from_h2_conn(&mut h2, digest.clone()) => accepted,
            // What the codec has taken in by now has been accepted, or never will be.
            () = told(&watch) => {
                let news = watch.news();
                clocks.headers_since = news.headers_since;
                match streams.beside(account.of(&news)).await {
                    Some(end) => break end,
                    None => continue,
                }
            }
            () = tick.as_mut(), if !streams.is_empty() || clocks.headers_since.is_some() || watch.is_blocked() => {
                if let Some(flood) = clocks.strike(&watch, !streams.is_empty()) {
                    break End::Flood(flood);
                }
                tick.as_mut().reset(Instant::now() + clocks.period());
                continue;
            }
            () = idle.as_mut(), if streams.is_empty() => {
                let over = idle_since + settings.idle_timeout;
                let now = Instant::now();
                if now >= over + GOODBYE {
                    return;
                }
                if now >= over && !going {
                    house.front.connection_idle(&conn.listener);
                    h2.graceful_shutdown();
                    going = true;
                }
                idle.as_mut().reset(if now >= over || going { over + GOODBYE } else { over });
                continue;
            }
        };
        match accepted {
            Ok(Some(H2Accept::Session(mut session))) => {
                fresh = false;
                account.surfaced();
                session.set_write_timeout(Some(settings.h2_stall_timeout));
                let mut refusal = None;
                if session.req_header().method == Method::CONNECT {
                    // Pingora would refuse a tunnel by itself, undressed and unrecorded.
                    let tunnel = Refusal::new(Code::MethodNotAllowed, "tunnels are not served");
                    refusal = Some(Refusal { allow: Some(Methods::all()), ..tunnel });
                }
                if !spoken_here(session.req_header()) {
                    refusal = Some(Refusal::new(Code::RequestMalformed, "the scheme is neither http nor https"));
                }
                if wide.is_none() && !session.is_body_empty() {
                    wide = house.front.unread(&conn);
                    if wide.is_some() {
                        h2.set_target_window_size(WIDE_WINDOW);
                    }
                }
                let place = places.clone().map(Semaphore::try_acquire_owned);
                if let Some(Err(_)) = &place {
                    let cause = "too many requests of this address are under way";
                    refusal = Some(Refusal::new(Code::QuotaExceeded, cause).retry_after(1));
                }
                // In a box: it changes hands several times.
                let session = Box::new(session);
                streams.push(|| serve(house, &conn, &shutdown, session, refusal, place));
            }
            Ok(Some(H2Accept::Rejected)) => {
                account.surfaced();
                if let Some(end) = streams.beside(account.rejected()).await {
                    break end;
                }
            }
            // The connection has ended, well or badly; without it no stream can.
            Ok(None) | Err(_) => match streams.beside(account.of(&watch.news())).await {
                Some(end) => break end,
                None => return,
            },
        }
    };
    streams.beside(account.end(end)).await;
    streams.cut();
    if matches!(end, End::Flood(_)) {
        h2.abrupt_shutdown(ENHANCE_YOUR_CALM.into());
    }
    // The client gets its GOAWAY if it reads; new streams are not looked at any more.
    let _ = timeout(GOODBYE, poll_fn(|cx| h2.poll_closed(cx))).await;
}

/// Completes when something was told. To be asked after the codec, which reads and writes what is followed.
fn told(watch: &Watch) -> impl Future<Output = ()> {
    poll_fn(|cx| {
        if watch.is_held_back() {
            // The codec's next turn flushes it.
            cx.waker().wake_by_ref();
        }
        if watch.told() { Poll::Ready(()) } else { Poll::Pending }
    })
}

/// Serves one stream, to its end or to that of its leash.
async fn serve<A, F>(
    house: &House<A, F>,
    conn: &Arc<ConnInfo>,
    shutdown: &watch::Receiver<bool>,
    session: Box<HttpSession>,
    refusal: Option<Refusal>,
    _place: Option<Result<OwnedSemaphorePermit, TryAcquireError>>,
) where
    A: HttpServerApp + Send + Sync + 'static,
    F: Front,
{
    if let Some(refusal) = refusal {
        return Box::pin(refuse(&*house.front, conn, session, refusal)).await;
    }
    let leash = Arc::new(Leash::default());
    // Pinned where they stand: a future that is handed on is copied.
    let carried = pin!(async {
        let Some(session) = pin!(house.front.carry_stream(session, conn)).await else { return };
        let handover = session.req_header().extensions.get::<Arc<Handover>>().cloned();
        house.app.process_new_http(ServerSession::new_http2(*session), shutdown).await;
        if let Some(handover) = handover {
            handover.clear();
        }
    });
    tokio::select! {
        biased;
        () = LEASH.scope(leash.clone(), carried) => {}
        // A stream that is dropped unfinished is reset by the codec.
        () = leash.parted() => {}
    }
}

/// Whether `:scheme` is one of HTTP's. Without `:authority` the codec does not tell; nobody who reads a request behind us
/// gets to see it either.
fn spoken_here(request: &RequestHeader) -> bool {
    let known = |scheme: &str| scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
    request.method == Method::CONNECT
        || request.uri.authority().is_none()
        || request.uri.scheme_str().is_some_and(known)
}

/// Answers a request that the proxy does not get to see.
async fn refuse<F: Front>(front: &F, conn: &Arc<ConnInfo>, mut session: Box<HttpSession>, refusal: Refusal) {
    let to_head = session.req_header().method == Method::HEAD;
    let asked = session.req_header();
    let authority = asked.uri.authority().map(http::uri::Authority::as_str);
    let seen = glimpse(asked.method.as_str(), asked.raw_path(), authority, &asked.headers);
    let reply = front.refuse(conn, refusal, seen).await;
    let Ok(mut response) = ResponseHeader::build_no_case(reply.status, Some(reply.headers.len())) else { return };
    for (name, value) in &reply.headers {
        let _ = response.append_header(name, value);
    }
    if session.write_response_header(Box::new(response), to_head).is_ok() && !to_head {
        // The client may be gone; there is nobody to tell.
        let _ = session.write_body(reply.body, true).await;
    }
}

fn options(settings: &Listener) -> H2Options {
    // From pingora's defaults, not from the codec's, which know no bound on header lists (CVE-2026-105297).
    let mut options = default_h2_options();
    let resets = usize::try_from(settings.h2_resets_per_second).unwrap_or(usize::MAX);
    options
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(settings.h2_concurrent_streams)
        .max_header_list_size(u32::try_from(codec_bound(settings)).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS.max(resets))
        .max_local_error_reset_streams(Some(LOCAL_RESETS));
    options
}

/// What the codec decodes at most. It answers longer lists itself, with a bare 431 that nobody dresses or records, so
/// there must be room above our own limit, which does both. It also counts 32 bytes a field (RFC 9113, 6.5.2).
pub(super) fn codec_bound(settings: &Listener) -> usize {
    settings.head.bytes.saturating_mul(2).saturating_add(settings.head.line).max(64 * 1024)
}
