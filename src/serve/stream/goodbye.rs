//! How a connection says goodbye to a WebSocket that is ended from outside, in the midst of its bytes.
use super::Wire;
use bytes::Buf;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncWrite, ReadBuf};

impl Wire {
    /// Says what there is to say at the end of a WebSocket, as far as it can be said now. `Some` is the answer to a
    /// read; without one, so many bytes of the client's frame are still to be passed on.
    pub(super) fn poll_goodbye(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Result<Poll<io::Result<()>>, Option<usize>> {
        let Some(farewell) = self.farewell.as_mut().filter(|farewell| farewell.begun()) else { return Err(None) };
        if let Some(word) = farewell.word_to_client() {
            self.outbound.extend(word);
        }
        if let Some(word) = farewell.word_to_application() {
            // What the client has sent after that frame is not passed on.
            self.inbound.clear();
            self.inbound.extend_from_slice(&word);
            self.last_words = word.len();
        }
        let owed = farewell.owed_to_application();
        // A client that does not take it is let go by the clock.
        if let Poll::Ready(Err(error)) = Pin::new(&mut *self).poll_flush(cx) {
            return Ok(Poll::Ready(Err(error)));
        }
        if let Some(owed) = owed {
            return Err(Some(usize::try_from(owed).unwrap_or(usize::MAX)));
        }
        if self.last_words > 0 {
            let piece = self.last_words.min(buf.remaining());
            buf.put_slice(self.inbound.get(..piece).unwrap_or_default());
            self.inbound.advance(piece);
            self.last_words -= piece;
            return Ok(Poll::Ready(Ok(())));
        }
        self.inbound.clear();
        // Whatever the client still says, nobody listens; its end is passed on.
        loop {
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Ok(Poll::Ready(Ok(()))),
                Poll::Ready(Ok(_)) => self.inbound.clear(),
                Poll::Ready(Err(error)) => return Ok(Poll::Ready(Err(error))),
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
    }

    /// Takes bytes of the application for the client; once the WebSocket is being ended, only those of the frame under
    /// way.
    pub(super) fn poll_say(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(mut farewell) = self.farewell.take() else { return self.poll_put(cx, buf) };
        let passable = if farewell.begun() { farewell.passable(buf) } else { buf.len() };
        let put = match buf.get(..passable).filter(|piece| !piece.is_empty()) {
            Some(piece) => self.poll_put(cx, piece),
            None => {
                self.outbound.extend(farewell.word_to_client().unwrap_or_default());
                // Past the last word: the application is heard out, and nothing of it goes on.
                Poll::Ready(Ok(buf.len()))
            }
        };
        if let Poll::Ready(Ok(put)) = &put {
            farewell.went_to_client(buf.get(..passable.min(*put)).unwrap_or_default());
        }
        self.farewell = Some(farewell);
        put
    }
}
