//! The connection as pingora and the codec of HTTP/2 see it: bytes to read as far as a request goes, and a place to write to.
use super::{Exposed, Transport, Wire};
use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.exposed == Exposed::Bytes(0) {
            return this.poll_ahead(cx);
        }
        let owed = match this.poll_goodbye(cx, buf) {
            Ok(answer) => return answer,
            Err(owed) => owed,
        };
        if let Some(cause) = this.chunks.as_ref().and_then(|watched| watched.broken.clone()) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, cause)));
        }
        let limit = match this.exposed {
            Exposed::Bytes(left) => usize::try_from(left).unwrap_or(usize::MAX).min(buf.remaining()),
            Exposed::Everything => buf.remaining(),
        };
        let limit = owed.map_or(limit, |owed| owed.min(limit));
        let taken = if this.inbound.is_empty() {
            // The connection's loop has been told, and ends it.
            if this.frames.as_ref().is_some_and(|frames| frames.over()) {
                return Poll::Pending;
            }
            let before = buf.filled().len();
            let taken = ready!(this.poll_limited(cx, buf, limit))?;
            if let Some(frames) = &mut this.frames {
                frames.received(buf.filled().get(before..).unwrap_or_default());
                if frames.over() {
                    buf.set_filled(before);
                    return Poll::Pending;
                }
            }
            taken
        } else {
            let taken = limit.min(this.inbound.len());
            buf.put_slice(this.inbound.get(..taken).unwrap_or_default());
            this.inbound.advance(taken);
            if this.inbound.is_empty() {
                this.inbound = BytesMut::new();
            }
            taken
        };
        if let Some(watched) = &mut this.chunks {
            let before = buf.filled().len().saturating_sub(taken);
            let of_head = usize::try_from(watched.head).unwrap_or(usize::MAX).min(taken);
            watched.head = watched.head.saturating_sub(of_head as u64);
            let body = before + of_head;
            if let Err(refusal) = watched.chunks.take(buf.filled().get(body..).unwrap_or_default()) {
                let error = io::Error::new(io::ErrorKind::InvalidData, refusal.cause.clone());
                watched.broken = Some(refusal.cause);
                // The head is good, and the request is answered as one with a broken body.
                buf.set_filled(body);
                if of_head == 0 {
                    return Poll::Ready(Err(error));
                }
            }
        }
        if let Exposed::Bytes(left) = &mut this.exposed {
            *left = left.saturating_sub(taken as u64);
        }
        if let Some(farewell) = &mut this.farewell {
            let filled = buf.filled();
            farewell.went_to_application(filled.get(filled.len().saturating_sub(taken)..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.may_upgrade {
            this.note_answer(buf);
        }
        let said = this.poll_say(cx, buf);
        if let Some(frames) = &mut this.frames {
            frames.blocked(said.is_pending());
            if said.is_pending() {
                // The codec is woken when there is room, and not before.
                frames.held_back(false);
            }
            if let Poll::Ready(Ok(sent)) = &said {
                this.pieces = this.pieces.saturating_add(1);
                frames.sent(buf.get(..*sent).unwrap_or_default());
            }
        }
        said
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.flush_can_wait() {
            return Poll::Ready(Ok(()));
        }
        let flushed = match this.poll_send(cx) {
            Poll::Ready(Ok(())) => match this.transport.as_mut() {
                Some(Transport::Plain(tcp)) => Pin::new(tcp).poll_flush(cx),
                Some(Transport::Tls(tls)) => Pin::new(tls.as_mut()).poll_flush(cx),
                None => Poll::Ready(Ok(())),
            },
            not_yet => not_yet,
        };
        if let Some(frames) = &this.frames {
            frames.blocked(flushed.is_pending());
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        match this.transport.as_mut() {
            Some(Transport::Plain(tcp)) => Pin::new(tcp).poll_shutdown(cx),
            Some(Transport::Tls(tls)) => Pin::new(tls.as_mut()).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        // The client may be gone already; there is nobody to tell.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Wire {
    fn id(&self) -> i32 {
        self.fd
    }
}

impl Ssl for Wire {}

#[async_trait]
impl Peek for Wire {}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Wire {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.digests.0.clone())
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.digests.1.clone())
    }
}
