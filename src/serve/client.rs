//! The client of one request, as far as its decision may need more of it than its head.
use super::admit::Asked;
use decide::refusal::Refusal;
use std::future::Future;

/// Whoever sent a request, on whatever path its bytes come.
pub trait Client: Send {
    /// The head.
    fn asked(&self) -> Asked<'_>;

    /// The whole body, where it has at most `most` bytes; `request.too-large` otherwise. Nothing of it is taken: it is
    /// forwarded afterwards as it came. A client that waits to be told to send it is told. Asked for once.
    fn body(&mut self, most: usize) -> impl Future<Output = Result<Vec<u8>, Refusal>> + Send;

    /// Completes when the client has left.
    fn gone(&mut self) -> impl Future<Output = ()> + Send;
}
