//! One connection to the server: opened under a deadline, shared by all requests, gone at the first doubt.
use super::resp::{self, Reply};
use super::{Fault, Options, Place};
use rustls::pki_types::ServerName;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Calls that may wait to be written. A server that does not read is noticed by the time limit of calls long before.
const QUEUE: usize = 4096;
/// Bytes of replies read at once.
const READ: usize = 16 << 10;
/// A reply that has not ended after so many bytes is none of ours.
const MAX_REPLY: usize = 4 << 20;

/// A call on its way.
struct Order {
    bytes: Vec<u8>,
    tell: oneshot::Sender<Reply>,
}

/// An open connection. Dropping it closes it.
pub struct Link {
    orders: mpsc::Sender<Order>,
    over: watch::Receiver<bool>,
    carrier: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

impl Link {
    /// Connects and introduces itself, all within `Options::connect_timeout`.
    pub async fn open(options: &Options) -> Result<Link, Fault> {
        let open = async {
            let link = match &options.place {
                Place::Unix(path) => Link::start(UnixStream::connect(path).await?),
                Place::Tcp { host, port } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    match &options.tls {
                        None => Link::start(stream),
                        Some(tls) => {
                            let name = ServerName::try_from(host.clone())
                                .map_err(|_| Fault::Refused(format!("`{host}` is no name for a certificate")))?;
                            Link::start(tokio_rustls::TlsConnector::from(tls.clone()).connect(name, stream).await?)
                        }
                    }
                }
            };
            link.introduce(options).await?;
            Ok(link)
        };
        timeout(options.connect_timeout, open).await.unwrap_or(Err(Fault::Silent))
    }

    fn start(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Link {
        let (orders, queue) = mpsc::channel(QUEUE);
        let (ended, over) = watch::channel(false);
        let carrier = tokio::spawn(async move {
            // How it ended is told to nobody: those who wait find their answers missing.
            let _ = carry(stream, queue).await;
            ended.send_replace(true);
        });
        Link { orders, over, carrier }
    }

    async fn introduce(&self, options: &Options) -> Result<(), Fault> {
        let password = match &options.password {
            None => None,
            Some(read) => {
                let read = read.clone();
                let password = tokio::task::spawn_blocking(move || read()).await.map_err(std::io::Error::other)?;
                Some(password.map_err(|error| Fault::Refused(format!("the password: {error}")))?)
            }
        };
        if let Some(password) = &password {
            let mut parts: Vec<&[u8]> = vec![b"AUTH"];
            parts.extend(options.username.as_deref().map(str::as_bytes));
            parts.push(password.as_bytes());
            self.expect_ok(&parts).await?;
        }
        if options.database != 0 {
            self.expect_ok(&[b"SELECT", options.database.to_string().as_bytes()]).await?;
        }
        Ok(())
    }

    async fn expect_ok(&self, parts: &[&[u8]]) -> Result<(), Fault> {
        let mut bytes = Vec::new();
        resp::command(&mut bytes, parts.iter().copied());
        match self.send(bytes)?.await {
            Ok(Reply::Status(_)) => Ok(()),
            Ok(Reply::Error(text)) => Err(Fault::Refused(text)),
            Ok(Reply::Nil | Reply::Number(_) | Reply::Bulk(_) | Reply::List(_)) => Err(Fault::Malformed),
            Err(_) => Err(Fault::Closed),
        }
    }

    /// One call and its reply. A call that takes longer than `limit` may still be carried out by the server.
    pub async fn call(&self, bytes: Vec<u8>, limit: Duration) -> Result<Reply, Fault> {
        let answer = self.send(bytes)?;
        match timeout(limit, answer).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(Fault::Closed),
            Err(_) => Err(Fault::Silent),
        }
    }

    fn send(&self, bytes: Vec<u8>) -> Result<oneshot::Receiver<Reply>, Fault> {
        let (tell, answer) = oneshot::channel();
        self.orders.try_send(Order { bytes, tell }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Fault::Silent,
            mpsc::error::TrySendError::Closed(_) => Fault::Closed,
        })?;
        Ok(answer)
    }

    /// Waits for its end.
    pub async fn ended(&self) {
        // An error is the end of the carrier too.
        let _ = self.over.clone().wait_for(|over| *over).await;
    }
}

/// Writes calls as they come, many at once where many wait, and hands replies out in the same order.
async fn carry<S: AsyncRead + AsyncWrite + Unpin>(stream: S, mut queue: mpsc::Receiver<Order>) -> Result<(), Fault> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut waiting: VecDeque<oneshot::Sender<Reply>> = VecDeque::new();
    let (mut incoming, mut outgoing) = (Vec::with_capacity(READ), Vec::new());
    let mut orders = Vec::new();
    loop {
        tokio::select! {
            count = queue.recv_many(&mut orders, 256) => {
                if count == 0 {
                    return Ok(());
                }
                outgoing.clear();
                for order in orders.drain(..) {
                    outgoing.extend_from_slice(&order.bytes);
                    waiting.push_back(order.tell);
                }
                writer.write_all(&outgoing).await?;
                writer.flush().await?;
            }
            read = reader.read_buf(&mut incoming) => {
                if read? == 0 {
                    return Err(Fault::Closed);
                }
                let mut taken = 0;
                while let Some((reply, length)) = resp::reply(incoming.get(taken..).unwrap_or_default())? {
                    taken += length;
                    // Who asked may have lost patience. An answer that nobody asked for is no answer.
                    let _ = waiting.pop_front().ok_or(Fault::Malformed)?.send(reply);
                }
                incoming.drain(..taken);
                if incoming.len() > MAX_REPLY {
                    return Err(Fault::Malformed);
                }
            }
        }
    }
}
