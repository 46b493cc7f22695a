//! The request on its way to the application: its head with the first of its body in one write, then the rest as it comes.
use super::body::Step;
use super::caller::Caller;
use super::exchange::{Exchange, Fail};
use crate::serve::forward::take_body;
use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};
use tokio::io::AsyncWrite;

impl<C: Caller> Exchange<'_, C> {
    /// Sends until the request is over, or something must be waited for. That the application takes no more is no
    /// failure: it may have answered already.
    pub(super) fn poll_upload(&mut self, cx: &mut Task<'_>) -> Poll<Result<(), Fail>> {
        loop {
            if self.upload.held && !self.client.pending().is_empty() {
                // The client has not waited.
                self.go_on();
            }
            if !self.upload.ended && !self.upload.held && self.upload.out.has_room() {
                self.add_body()?;
            }
            if !self.upload.out.is_empty() {
                self.upload.wants_client = false;
                let (up, out) = (&mut *self.up, &mut self.upload.out);
                match ready!(out.poll(self.client.inbound(), |slices| up.poll_vectored(cx, slices))) {
                    Ok(sent) => self.upload.sent += sent,
                    Err(error) => return self.upload_refused(error.to_string()),
                }
                self.moved.0 = self.now();
            }
            if self.upload.ended && self.upload.out.is_empty() {
                if let Err(error) = ready!(Pin::new(&mut *self.up).poll_flush(cx)) {
                    return self.upload_refused(error.to_string());
                }
                self.upload.over = true;
                self.client.body_over();
                return Poll::Ready(Ok(()));
            }
            if self.upload.held || self.upload.out.has_room() && self.client.pending().is_empty() {
                if let Err(error) = ready!(self.flush_upload(cx)) {
                    return self.upload_refused(error.to_string());
                }
                self.upload.wants_client = true;
                match ready!(self.client.poll_more(cx)) {
                    Ok(0) if !self.upload.source.end() => return Poll::Ready(Err(Fail::Gone)),
                    Ok(_) => {}
                    Err(fail) => return Poll::Ready(Err(fail)),
                }
                self.upload.wants_client = false;
            }
        }
    }

    fn flush_upload(&mut self, cx: &mut Task<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.up).poll_flush(cx)
    }

    /// Adds what has come of the body to what is to be sent.
    fn add_body(&mut self) -> Result<(), Fail> {
        let step = self.upload.source.step(self.client.inbound()).map_err(Fail::Refused)?;
        match step {
            Step::Data(bytes) => {
                self.upload.begun = true;
                take_body(self.ctx, bytes).map_err(Fail::Refused)?;
                self.upload.out.data(bytes, self.upload.chunked);
                self.upload.ended = !self.upload.chunked && self.upload.source.over();
            }
            Step::Over => {
                if self.upload.chunked {
                    self.upload.out.last_chunk(&self.upload.source, &self.ctx.active.snapshot.identity);
                }
                self.upload.ended = true;
            }
            Step::More => {}
        }
        Ok(())
    }

    fn upload_refused(&mut self, cause: String) -> Poll<Result<(), Fail>> {
        self.upload.refused = Some(cause);
        self.upload.over = true;
        Poll::Ready(Ok(()))
    }
}
