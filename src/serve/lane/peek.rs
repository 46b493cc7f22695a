//! The client of a request on our own path: its body can be read before it is decided what becomes of it.
use super::Ask;
use crate::serve::admit::Asked;
use crate::serve::client::Client;
use crate::serve::head::After;
use crate::serve::stream::Wire;
use decide::chunks::{Chunks, Piece};
use decide::refusal::{Code, Refusal};
use std::future::poll_fn;
use std::io::IoSlice;
use std::task::ready;

/// Told to a client that waits before it sends its body.
const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A client on our wire.
pub(super) struct Peek<'a> {
    pub(super) wire: &'a mut Wire,
    pub(super) ask: &'a mut Ask,
}

impl Client for Peek<'_> {
    fn asked(&self) -> Asked<'_> {
        self.ask.asked()
    }

    async fn body(&mut self, most: usize) -> Result<Vec<u8>, Refusal> {
        let too_large = || Refusal::new(Code::RequestTooLarge, "the body is longer than a limit may look into");
        match self.ask.after {
            After::Body(length) | After::WebSocket(length) => {
                let length = usize::try_from(length).ok().filter(|length| *length <= most).ok_or_else(too_large)?;
                while self.wire.pending().len() < length {
                    self.more().await?;
                }
                Ok(self.wire.pending().get(..length).unwrap_or_default().to_vec())
            }
            After::Chunks => {
                // Framing and trailers count too, so that tiny chunks do not make us hold many times as much.
                let most_framed = most.saturating_mul(4).saturating_add(4096);
                let (mut chunks, mut at, mut body) = (Chunks::default(), 0, Vec::new());
                while !chunks.done() {
                    let rest = self.wire.pending().get(at..).unwrap_or_default();
                    if rest.is_empty() {
                        self.more().await?;
                        continue;
                    }
                    let (taken, piece) = chunks.step(rest)?;
                    if piece == Piece::Data {
                        body.extend_from_slice(rest.get(..taken).unwrap_or_default());
                    }
                    at += taken;
                    if body.len() > most || at > most_framed {
                        return Err(too_large());
                    }
                }
                Ok(body)
            }
        }
    }

    async fn gone(&mut self) {
        poll_fn(|cx| self.wire.poll_left(cx)).await;
    }
}

impl Peek<'_> {
    /// Reads more of the body; first tells a client that waits for leave to go on.
    async fn more(&mut self) -> Result<(), Refusal> {
        let gone = || Refusal::new(Code::RequestMalformed, "the client left before its body was there");
        if self.ask.expects && !self.ask.old && self.wire.pending().is_empty() {
            let mut at = 0;
            let sent = poll_fn(|cx| {
                while let Some(rest) = GO_ON.get(at..).filter(|rest| !rest.is_empty()) {
                    at += ready!(self.wire.poll_vectored(cx, &[IoSlice::new(rest)]))?;
                }
                self.wire.poll_flush_all(cx)
            });
            sent.await.map_err(|_| gone())?;
        }
        // Its body is on the way: nobody needs to be asked for leave any more.
        self.ask.expects = false;
        match poll_fn(|cx| self.wire.poll_more(cx)).await {
            Ok(0) | Err(_) => Err(gone()),
            Ok(_) => Ok(()),
        }
    }
}
