//! The stream of a client's connection: small buffers, a request head read before anybody else sees it, and the end of one
//! request told apart from the beginning of the next.
mod carry;
mod goodbye;
mod proxied;

use super::frames::Frames;
use super::limits::Slot;
use super::listener::ConnInfo;
use super::live::Leash;
use super::live::farewell::Farewell;
use super::room::BEGIN_OUT;
use bytes::BytesMut;
use decide::chunks::Chunks;
use pingora_core::protocols::SocketDigest;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora_core::protocols::raw_connect::ProxyDigest;
use std::borrow::Cow;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

/// Most bytes that wait to be written together: head and small body leave as one record and one system call.
const WRITE_CAPACITY: usize = 8 * 1024;
/// The same for the answers of HTTP/2 that are ready together: a little more than a full frame, so that the next one, which
/// does not fit, leaves with it.
const WRITE_TOGETHER: usize = 20 * 1024 - BEGIN_OUT;
/// Room for the usual answer, taken at once instead of in steps.
const WRITE_USUAL: usize = 2 * 1024;
/// Bytes read at a time while looking for a head; they live on the stack, so that waiting costs no memory.
const READ_PIECE: usize = 4 * 1024;
/// Most bytes of a next request that are taken in while the present one is served.
const AHEAD_LIMIT: usize = 16 * 1024;
/// How long, and for how many bytes, a refused client's leftover input is read away before the socket is closed:
/// closing with unread input makes the kernel send RST, which can destroy the answer on its way (RFC 9112, 9.6).
const LINGER: (Duration, usize) = (Duration::from_secs(2), 256 * 1024);

/// What carries the bytes.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    fn fd(&self) -> i32 {
        match self {
            Transport::Plain(tcp) => tcp.as_raw_fd(),
            Transport::Tls(tls) => tls.get_ref().0.as_raw_fd(),
        }
    }

    fn poll_vectored(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match (self, slices) {
            (Transport::Plain(tcp), [one]) => Pin::new(tcp).poll_write(cx, one),
            (Transport::Plain(tcp), many) => Pin::new(tcp).poll_write_vectored(cx, many),
            (Transport::Tls(tls), [one]) => Pin::new(tls.as_mut()).poll_write(cx, one),
            (Transport::Tls(tls), many) => Pin::new(tls.as_mut()).poll_write_vectored(cx, many),
        }
    }
}

/// What pingora may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exposed {
    /// This many bytes: a head and a body of known length. What follows belongs to the next request.
    Bytes(u64),
    /// Everything: chunked bodies, connections that have been upgraded, HTTP/2.
    Everything,
}

/// A chunked body on its way to pingora, and the head before it.
struct Watched {
    /// Bytes of the head that are still to come.
    head: u64,
    chunks: Chunks,
    /// What is wrong with the body; nothing more of it is read.
    broken: Option<Cow<'static, str>>,
}

/// A client's connection, as pingora sees it.
pub struct Wire {
    transport: Option<Transport>,
    inbound: BytesMut,
    exposed: Exposed,
    may_upgrade: bool,
    chunks: Option<Watched>,
    outbound: Vec<u8>,
    written: usize,
    /// Pieces that the codec of HTTP/2 has written since it last flushed.
    pieces: u8,
    conn: Arc<ConnInfo>,
    fd: i32,
    digests: (Arc<ProxyDigest>, Arc<SocketDigest>),
    frames: Option<Box<Frames>>,
    slot: Option<Slot>,
    ended: bool,
    leash: Option<Arc<Leash>>,
    farewell: Option<Box<Farewell>>,
    /// Bytes of [`Wire::pending`] that are our own last words to the application.
    last_words: usize,
    clock: Option<Pin<Box<Sleep>>>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("peer", &self.conn.peer).field("exposed", &self.exposed).finish_non_exhaustive()
    }
}

impl Wire {
    pub(crate) fn new(transport: Transport, conn: Arc<ConnInfo>, slot: Slot) -> io::Result<Wire> {
        let response = pingora_http::ResponseHeader::build(200, Some(0)).map_err(io::Error::other)?;
        let proxy = ProxyDigest::new(Box::new(response), Some(Box::new(conn.clone())));
        let fd = transport.fd();
        let socket = SocketDigest::from_raw_fd(fd);
        // Known already; saves pingora two system calls per request. A fresh cell cannot be full.
        let _ = socket.peer_addr.set(Some(PingoraAddr::Inet(conn.peer)));
        let _ = socket.local_addr.set(Some(PingoraAddr::Inet(conn.local)));
        Ok(Wire {
            transport: Some(transport),
            inbound: BytesMut::new(),
            exposed: Exposed::Everything,
            may_upgrade: false,
            chunks: None,
            outbound: Vec::new(),
            written: 0,
            pieces: 0,
            conn,
            fd,
            digests: (Arc::new(proxy), Arc::new(socket)),
            frames: None,
            slot: Some(slot),
            ended: false,
            leash: None,
            farewell: None,
            last_words: 0,
            clock: None,
        })
    }

    pub(crate) fn conn(&self) -> &Arc<ConnInfo> {
        &self.conn
    }

    /// Has the frames of HTTP/2 read along from now on.
    pub(crate) fn observe(&mut self, frames: Frames) {
        self.frames = Some(Box::new(frames));
    }

    /// Places for HTTP/2 requests of this client; `None` where they are not counted.
    pub(crate) fn streams(&self) -> Option<Arc<Semaphore>> {
        self.slot.as_ref().and_then(Slot::streams)
    }

    /// What has arrived and nobody has taken.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.inbound
    }

    /// Lets pingora read the next `bytes`, or everything.
    pub(crate) fn expose(&mut self, bytes: Option<u64>) {
        self.exposed = bytes.map_or(Exposed::Everything, Exposed::Bytes);
        self.may_upgrade = false;
        self.chunks = None;
    }

    /// Lets pingora read a head of `bytes` with a chunked body, whose grammar is watched: pingora's own is tolerant.
    pub(crate) fn expose_chunks(&mut self, bytes: u64) {
        self.expose(None);
        self.chunks = Some(Watched { head: bytes, chunks: Chunks::default(), broken: None });
    }

    /// Lets pingora read a head of `bytes`, and everything once it has been answered with 101: what a client sends
    /// before that is no WebSocket frame yet, and may never be one.
    pub(crate) fn expose_upgrade(&mut self, bytes: u64) {
        self.exposed = Exposed::Bytes(bytes);
        self.may_upgrade = true;
    }

    /// Takes the leash of the request that comes next, for the goodbye of a WebSocket.
    pub(crate) fn hold(&mut self, leash: Arc<Leash>) {
        self.leash = Some(leash);
        self.farewell = None;
    }

    /// Looks at the beginning of an answer, which pingora writes in one piece.
    fn note_answer(&mut self, answer: &[u8]) {
        if answer.starts_with(b"HTTP/1.1 101 ") {
            self.exposed = Exposed::Everything;
            self.farewell = self.leash.take().map(|leash| Box::new(Farewell::new(leash)));
        }
        // 100 and 103 come before the answer proper.
        self.may_upgrade = self.exposed != Exposed::Everything && answer.starts_with(b"HTTP/1.1 1");
    }

    /// After a request: whether all of it was read, so that the next one can begin. Gives memory back.
    pub(crate) fn settled(&mut self) -> bool {
        self.outbound = Vec::new();
        self.written = 0;
        self.leash = None;
        if self.inbound.is_empty() {
            self.inbound = BytesMut::new();
        }
        match self.exposed {
            Exposed::Bytes(left) => left == 0,
            // Here only pingora knows where the request ended. It hands the stream back only if nothing was read past it.
            Exposed::Everything => true,
        }
    }

    /// Says goodbye: flushes, sends our end of the stream, then reads the rest away for a while.
    pub(crate) async fn close(mut self: Box<Self>) {
        let Some(transport) = self.transport.take() else { return };
        let slot = self.slot.take();
        linger(transport, slot).await;
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Not zeroed: most polls find nothing to read.
        let mut piece = [MaybeUninit::uninit(); READ_PIECE];
        let mut buf = ReadBuf::uninit(&mut piece);
        ready!(self.poll_transport(cx, &mut buf))?;
        self.inbound.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Reads at most `limit` bytes into `buf`.
    fn poll_limited(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, limit: usize) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        if limit >= buf.remaining() {
            ready!(self.poll_transport(cx, buf))?;
        } else {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(limit));
            ready!(self.poll_transport(cx, &mut part))?;
            let taken = part.filled().len();
            buf.advance(taken);
        }
        Poll::Ready(Ok(buf.filled().len() - before))
    }

    fn poll_transport(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = match self.transport.as_mut() {
            Some(Transport::Plain(tcp)) => ready!(Pin::new(tcp).poll_read(cx, buf)),
            Some(Transport::Tls(tls)) => match ready!(Pin::new(tls.as_mut()).poll_read(cx, buf)) {
                // Many clients close without close_notify; to framed HTTP that is an end like any other.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
                other => other,
            },
            None => Ok(()),
        };
        self.ended |= read.is_err() || buf.filled().len() == before;
        Poll::Ready(read)
    }

    /// Between the end of a request and its answer only one thing may happen on the wire: the client leaves. Whatever
    /// else arrives is the next request and waits.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.inbound.len() < AHEAD_LIMIT {
            if ready!(self.poll_fill(cx))? == 0 {
                // With a next request in hand the client has only closed its sending side.
                return if self.inbound.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
        }
        Poll::Pending
    }

    /// Takes bytes for the client, as many as there is room for.
    fn poll_put(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let capacity = if self.frames.is_some() { WRITE_TOGETHER } else { WRITE_CAPACITY };
        // Of nothing, a line that takes none of it would look broken.
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.outbound.len() + buf.len() > capacity {
            return self.poll_send_with(cx, buf);
        }
        let begin = if self.outbound.is_empty() { BEGIN_OUT } else { 0 };
        // In three sizes, and never more than may wait.
        let needed = self.outbound.len() + begin + buf.len();
        let most = capacity + BEGIN_OUT;
        let room = [WRITE_USUAL, WRITE_CAPACITY].into_iter().find(|room| needed <= *room).unwrap_or(most);
        self.outbound.reserve_exact(room.saturating_sub(self.outbound.len()));
        if begin > 0 {
            self.outbound.resize(begin, 0);
            self.written = begin;
        }
        self.outbound.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    /// Sends what waits, and of `more` what the line takes in the same call; returns how much of `more` that is.
    fn poll_send_with(&mut self, cx: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let waiting = self.outbound.get(self.written..).unwrap_or_default();
            let both = [IoSlice::new(waiting), IoSlice::new(more)];
            let (waits, slices) = (waiting.len(), if waiting.is_empty() { &both[1..] } else { &both[..] });
            let sent = match &mut self.transport {
                Some(transport) => ready!(transport.poll_vectored(cx, slices))?,
                None => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += sent.min(waits);
            if sent >= waits {
                self.all_sent();
            }
            if sent > waits {
                return Poll::Ready(Ok(sent - waits));
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.outbound.get(self.written..).filter(|rest| !rest.is_empty()) {
            let sent = match &mut self.transport {
                Some(transport) => ready!(transport.poll_vectored(cx, &[IoSlice::new(rest)]))?,
                None => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += sent;
        }
        self.all_sent();
        Poll::Ready(Ok(()))
    }

    /// What waited has left. A large buffer is given back: making it smaller would copy it.
    fn all_sent(&mut self) {
        self.outbound.clear();
        if self.outbound.capacity() > WRITE_CAPACITY {
            self.outbound = Vec::new();
        }
        self.written = 0;
    }

    /// Whether a flush can wait for the next, which comes in the same turn: the codec of HTTP/2 flushes behind each piece of
    /// a body (`FramedWrite::flush` of h2 0.4), and once more when it has nothing left to write. So all answers that are ready
    /// together leave in one record and one system call. Should the next flush not come, the connection's loop sees to it.
    fn flush_can_wait(&mut self) -> bool {
        let pieces = std::mem::take(&mut self.pieces);
        let Some(frames) = &self.frames else { return false };
        // A body that lies apart is a second piece.
        let waits = pieces > 1 && !self.outbound.is_empty();
        frames.held_back(waits);
        waits
    }
}

async fn linger(mut transport: Transport, slot: Option<Slot>) {
    let drained = async {
        match &mut transport {
            Transport::Plain(tcp) => {
                tcp.shutdown().await?;
                discard(tcp).await
            }
            Transport::Tls(tls) => {
                tls.shutdown().await?;
                // Below TLS: what it says is of no interest any more.
                discard(tls.get_mut().0).await
            }
        }
    };
    // Whether the client was still there to read makes no difference now.
    let _ = tokio::time::timeout(LINGER.0, drained).await;
    drop(slot);
}

async fn discard(tcp: &mut TcpStream) -> io::Result<()> {
    let mut left = LINGER.1;
    let mut piece = vec![0u8; READ_PIECE];
    while left > 0 {
        match tcp.read(&mut piece).await? {
            0 => break,
            n => left = left.saturating_sub(n),
        }
    }
    Ok(())
}

impl Drop for Wire {
    /// Pingora drops a stream that it will not use again. Where the client may still be sending, its answer would be lost.
    fn drop(&mut self) {
        let all_read = self.exposed == Exposed::Bytes(0) && self.inbound.is_empty();
        if !all_read
            && !self.ended
            && let Some(transport) = self.transport.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(linger(transport, self.slot.take()));
        }
    }
}
