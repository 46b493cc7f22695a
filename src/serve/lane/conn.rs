//! A connection to an application: plain or TLS, with what has been read of it and not been used.
use crate::serve::room::make_room;
use crate::serve::upstream::Target;
use bytes::BytesMut;
use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Room for reading the head of an answer; what it leaves is of the body.
pub(super) const HEAD_ROOM: usize = 4 * 1024;

/// What carries the bytes.
#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    io: Io,
    /// What was read and not used.
    pub(super) inbound: BytesMut,
    /// Whether it has carried a request before.
    pub(super) reused: bool,
    /// When it was last used.
    pub(super) used: Instant,
}

/// Why no connection came about.
#[derive(Debug)]
pub(super) enum NotConnected {
    Timeout,
    Io(io::Error),
    Tls(io::Error),
}

impl Connection {
    /// Connects within `limit`, the TLS handshake included.
    pub(super) async fn open(target: &Target, limit: Duration) -> Result<Connection, NotConnected> {
        let open = async {
            let tcp = TcpStream::connect(target.address).await.map_err(NotConnected::Io)?;
            tcp.set_nodelay(true).map_err(NotConnected::Io)?;
            let Some(tls) = &target.tls else { return Ok(Io::Plain(tcp)) };
            let connector = TlsConnector::from(tls.config.clone());
            let stream = connector.connect(tls.server_name.clone(), tcp).await.map_err(NotConnected::Tls)?;
            Ok(Io::Tls(Box::new(stream)))
        };
        let io = tokio::time::timeout(limit, open).await.map_err(|_| NotConnected::Timeout)??;
        Ok(Connection { io, inbound: BytesMut::new(), reused: false, used: Instant::now() })
    }

    /// Whether the application has neither closed it nor said anything. `certain` asks the kernel too, whose word may
    /// not have reached us yet.
    pub(super) fn is_quiet(&mut self, certain: bool) -> bool {
        let (tcp, mut byte) = (self.tcp(), [MaybeUninit::uninit()]);
        let waits = |r: io::Result<usize>| r.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        if certain && !waits(socket2::SockRef::from(tcp).peek(&mut byte)) {
            return false;
        }
        // With TLS, session tickets may wait, which are for nobody but the session.
        let mut buf = ReadBuf::uninit(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        self.inbound.is_empty() && self.poll_read_into(&mut cx, &mut buf).is_pending()
    }

    /// Keeps the room that the head of the next answer will need, and no more.
    pub(super) fn keep_room(&mut self) {
        self.inbound.clear();
        if self.inbound.capacity() > HEAD_ROOM {
            self.inbound = BytesMut::new();
        }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.io {
            Io::Plain(tcp) => tcp,
            Io::Tls(tls) => tls.get_ref().0,
        }
    }

    fn poll_read_into(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Io::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
        }
    }

    /// Reads more, with room for `room` bytes; 0 at the end of the stream.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        make_room(&mut self.inbound, room);
        match &mut self.io {
            Io::Plain(tcp) => pin!(tcp.read_buf(&mut self.inbound)).poll(cx),
            Io::Tls(tls) => pin!(tls.read_buf(&mut self.inbound)).poll(cx),
        }
    }

    pub(super) fn poll_vectored(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write_vectored(cx, slices)
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_read_into(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Io::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match (&mut self.get_mut().io, slices) {
            (Io::Plain(tcp), [one]) => Pin::new(tcp).poll_write(cx, one),
            (Io::Plain(tcp), many) => Pin::new(tcp).poll_write_vectored(cx, many),
            (Io::Tls(tls), many) => Pin::new(tls.as_mut()).poll_write_vectored(cx, many),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Io::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Io::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}
