//! The conversation of two gateway processes: framed messages over a Unix socket, some with descriptors beside them.
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Longest payload of a frame.
const LONGEST: usize = 64 << 20;
/// Descriptors beside one frame; the kernel allows 253.
pub(super) const DESCRIPTORS: usize = 64;

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub(super) enum Message {
    /// New to old: give me your sockets.
    TakeOver { protocol: u32, version: String, pid: u32 },
    /// Old to new: sockets, whose descriptors are beside the frame in this order. `more` frames of them follow.
    Sockets { names: Vec<String>, more: bool },
    /// New to old: everything is ready but for the audit log in this folder.
    Prepared { audit: String },
    /// Old to new: write it. Not `yours` where the folder is another one: each writes its own.
    Log { yours: bool },
    /// New to old: I accept connections.
    Serving,
    /// Old to new: I drain now.
    Draining,
    /// Either side: it comes to nothing.
    Failed { reason: String },
    /// A person to old: replace yourself.
    Upgrade,
    /// Old to a person: done.
    Replaced { pid: u32 },
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A [`Message`] as JSON.
    Message = b'm' as isize,
    /// Audit entries of a process that drains.
    Delivery = b'd' as isize,
    /// They are written.
    Receipt = b'r' as isize,
    /// Counts of rate limits.
    Counts = b'c' as isize,
}

/// One side of it. Blocking, with a deadline for each frame.
#[derive(Debug)]
pub(super) struct Line(UnixStream);

impl Line {
    /// Speaks over a socket; `patience` is the longest wait for a piece of a frame, in either direction.
    pub(super) fn new(stream: UnixStream, patience: Duration) -> io::Result<Line> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(patience))?;
        let line = Line(stream);
        line.wait_at_most(Some(patience))?;
        Ok(line)
    }

    /// Sets the longest wait for what the other side says; `None` waits for ever.
    pub(super) fn wait_at_most(&self, patience: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(patience)
    }

    /// User and process at the other end, as the kernel knows them.
    pub(super) fn peer(&self) -> io::Result<(u32, i32)> {
        let credentials = rustix::net::sockopt::socket_peercred(&self.0)?;
        Ok((credentials.uid.as_raw(), credentials.pid.as_raw_nonzero().get()))
    }

    /// Says something.
    pub(super) fn say(&mut self, message: &Message) -> io::Result<()> {
        self.send(Content::Message, &serde_json::to_vec(message)?, &[])
    }

    /// Says something with descriptors beside it.
    pub(super) fn pass(&mut self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send(Content::Message, &serde_json::to_vec(message)?, descriptors)
    }

    /// Hears something, with the descriptors beside it. What the other side says has failed is an error here.
    pub(super) fn hear(&mut self) -> io::Result<(Message, Vec<OwnedFd>)> {
        match self.receive()? {
            (Content::Message, payload, descriptors) => match serde_json::from_slice(&payload)? {
                Message::Failed { reason } => Err(io::Error::other(reason)),
                message => Ok((message, descriptors)),
            },
            (content, ..) => Err(unexpected(&format!("{content:?}"))),
        }
    }

    /// Sends a frame.
    pub(super) fn send(&mut self, content: Content, payload: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
        let length = u32::try_from(payload.len()).ok().filter(|length| *length as usize <= LONGEST);
        let length = length.ok_or_else(|| unexpected("a frame that is too long"))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(unexpected("too many descriptors"));
        }
        // The descriptors are beside the first byte, which is sent alone: it goes whole or not at all.
        let first = [content as u8];
        rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(&self.0, &[IoSlice::new(&first)], &mut ancillary, SendFlags::NOSIGNAL)
        })?;
        self.0.write_all(&length.to_be_bytes())?;
        self.0.write_all(payload)
    }

    /// Waits for a frame.
    pub(super) fn receive(&mut self) -> io::Result<(Content, Vec<u8>, Vec<OwnedFd>)> {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut first = [0];
        let got = rustix::io::retry_on_intr(|| {
            let mut slices = [IoSliceMut::new(&mut first)];
            rustix::net::recvmsg(&self.0, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })?;
        if got.bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other process is gone"));
        }
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            match message {
                RecvAncillaryMessage::ScmRights(received) => descriptors.extend(received),
                _ => return Err(unexpected("something beside a frame")),
            }
        }
        let content = match first {
            [b'm'] => Content::Message,
            [b'd'] => Content::Delivery,
            [b'r'] => Content::Receipt,
            [b'c'] => Content::Counts,
            _ => return Err(unexpected("a frame of another kind")),
        };
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > LONGEST {
            return Err(unexpected("a frame that is too long"));
        }
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload)?;
        Ok((content, payload, descriptors))
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An error about what the other side said.
pub(super) fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the other process said what was not expected: {what}"))
}
