//! HTTP/1 connections: each head is read under a deadline and judged on its raw bytes before pingora may see it.
use super::drain;
use super::head::{After, Read, read_head};
use super::in_place::in_place;
use super::lane::{Turn, UNREAD};
use super::listener::{Front, Glimpse, House, Reply};
use super::live::{LEASH, Leash};
use super::stream::Wire;
use crate::config::settings::Listener;
use bytes::{BufMut, BytesMut};
use decide::refusal::{Code, Refusal};
use http::header;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Time for reading away what is left of a request body after the answer, before the connection is given up.
const BODY_DRAIN: Duration = Duration::from_secs(5);

/// Serves requests on `wire` until one side has had enough.
pub(crate) async fn run<A, F>(mut wire: Box<Wire>, settings: &Listener, house: &House<A, F>)
where
    A: HttpServerApp + Send + Sync + 'static,
    F: Front,
{
    let shutdown = house.drain.watch();
    let conn = wire.conn().clone();
    let mut draining = shutdown.clone();
    // One wait for all requests of the connection: it ends at most once, and then only with an empty wire.
    let mut begun = pin!(drain::idle_over(&mut draining));
    wire.expose(Some(0));
    let mut leash = Arc::new(Leash::default());
    loop {
        let read = tokio::select! {
            // A request that has arrived is still served; only waiting ends, and not that of a connection which was
            // accepted a moment ago for its first request: that has a deadline of its own.
            biased;
            read = read_head(&mut wire, settings) => read,
            () = &mut begun, if conn.requests() > 0 && wire.pending().is_empty() => Read::Idle,
        };
        let taken = match read {
            Read::Head(taken) => taken,
            Read::Gone => return,
            Read::Idle => {
                if !conn.draining() {
                    house.front.connection_idle(&conn.listener);
                }
                return wire.close().await;
            }
            Read::Refused(refusal, glimpse) => return Box::pin(refuse(wire, house, refusal, glimpse)).await,
        };
        let head = taken.head;
        // Mostly nobody holds that of the request before any more.
        match Arc::get_mut(&mut leash) {
            Some(free) => *free = Leash::default(),
            None => leash = Arc::new(Leash::default()),
        }
        wire.hold(leash.clone());
        let before = conn.requests();
        // In a box of its own: its kilobytes are given back before the connection waits again.
        let carried = LEASH.scope(leash.clone(), in_place(|| house.front.carry(&mut wire, taken)));
        let turn = tokio::select! {
            biased;
            turn = carried => turn,
            // The answer stops where it is; the request accounts for itself when it is dropped.
            () = leash.parted() => return,
        };
        match turn {
            Turn::Next => {
                wire.settled();
                wire.expose(Some(0));
                continue;
            }
            Turn::Close => return wire.close().await,
            Turn::Cut => return wire.cut(),
            Turn::Pingora => {}
        }
        match head.after {
            After::Body(bytes) => wire.expose(Some((head.length as u64).saturating_add(bytes))),
            After::Chunks => wire.expose_chunks(head.length as u64),
            After::WebSocket(bytes) => wire.expose_upgrade((head.length as u64).saturating_add(bytes)),
        }
        let mut session = ServerSession::new_http1(wire);
        session.set_read_timeout(Some(settings.stall_timeout));
        session.set_write_timeout(Some(settings.stall_timeout));
        session.set_total_drain_timeout(Some(BODY_DRAIN));
        let served = LEASH.scope(leash.clone(), house.app.process_new_http(session, &shutdown));
        let reused = tokio::select! {
            biased;
            reused = served => reused,
            // The answer stops where it is; the request accounts for itself when it is dropped.
            () = leash.parted() => return,
        };
        if conn.handover.clear() {
            return;
        }
        if conn.requests() == before {
            // Our grammar is the stricter one, so this does not happen; were it otherwise, pingora has answered by itself.
            let refusal = Refusal::new(Code::RequestMalformed, UNREAD);
            Box::pin(house.front.refuse(&conn, refusal, Glimpse::default())).await;
            return;
        }
        let Some(reused) = reused else { return };
        let Ok(ours) = reused.consume().0.into_any().downcast::<Wire>() else { return };
        wire = ours;
        if !wire.settled() {
            return wire.close().await;
        }
        wire.expose(Some(0));
    }
}

/// Has the gateway make an answer, sends it, and closes so that the client can still read it.
async fn refuse<A, F: Front>(wire: Box<Wire>, house: &House<A, F>, refusal: Refusal, glimpse: Glimpse) {
    let head = glimpse.method.as_deref() == Some("HEAD");
    let reply = house.front.refuse(wire.conn(), refusal, glimpse).await;
    send_last(wire, &reply, head).await;
}

/// Sends the last answer of a connection.
pub(crate) async fn send_last(mut wire: Box<Wire>, reply: &Reply, to_head: bool) {
    let bytes = last_reply(reply, to_head);
    let patience = wire.conn().settings.stall_timeout;
    let sent = tokio::time::timeout(patience, async {
        wire.write_all(&bytes).await?;
        wire.flush().await
    });
    if matches!(sent.await, Ok(Ok(()))) {
        wire.close().await;
    }
}

/// An answer as HTTP/1.1 bytes, framed by us alone.
fn last_reply(reply: &Reply, to_head: bool) -> BytesMut {
    let mut out = BytesMut::with_capacity(1024 + reply.body.len());
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(reply.status.as_str().as_bytes());
    out.put_slice(b" ");
    out.put_slice(reply.status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
    for (name, value) in &reply.headers {
        if [header::CONTENT_LENGTH, header::CONNECTION, header::TRANSFER_ENCODING].contains(name) {
            continue;
        }
        out.put_slice(name.as_str().as_bytes());
        out.put_slice(b": ");
        out.put_slice(value.as_bytes());
        out.put_slice(b"\r\n");
    }
    out.put_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", reply.body.len()).as_bytes());
    if !to_head {
        out.put_slice(&reply.body);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::{HeaderValue, StatusCode};

    #[test]
    fn an_answer_is_framed_by_us_alone() {
        let reply = Reply {
            status: StatusCode::BAD_REQUEST,
            headers: vec![
                (header::CONTENT_TYPE, HeaderValue::from_static("text/plain")),
                (header::CONTENT_LENGTH, HeaderValue::from_static("99")),
                (header::CONNECTION, HeaderValue::from_static("keep-alive")),
            ],
            body: Bytes::from_static(b"no"),
        };
        let text =
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nconnection: close\r\n\r\n";
        assert_eq!(last_reply(&reply, false), format!("{text}no"));
        assert_eq!(last_reply(&reply, true), text);
    }
}
