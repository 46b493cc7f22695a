//! Futures that are made where they will be.
use std::future::Future;
use std::pin::Pin;

/// Boxes the future that `make` makes. `Box::pin` makes it on the stack first and then copies all of it, several kilobytes for
/// each request of which nothing but its arguments is there yet; with the box there before, the compiler writes only those.
#[inline(always)]
pub(crate) fn in_place<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::into_pin(Box::write(Box::new_uninit(), make()))
}
