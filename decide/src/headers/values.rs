//! Header values that are written one after the other into one buffer.
use bytes::BytesMut;
use http::HeaderValue;

/// Bytes that the values of one request and its answer need as a rule.
const USUAL: usize = 512;

/// Makes header values that share one buffer, so that a request's dozen of them are allocated at once. The buffer lives
/// as long as the last of them.
#[derive(Debug, Default)]
pub struct Values(BytesMut);

impl Values {
    /// A value of what `write` appends; `None` where that is not a header value.
    pub fn write(&mut self, write: impl FnOnce(&mut BytesMut)) -> Option<HeaderValue> {
        if self.0.capacity() == 0 {
            self.0.reserve(USUAL);
        }
        write(&mut self.0);
        HeaderValue::from_maybe_shared(self.0.split().freeze()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_apart_whatever_becomes_of_the_others() {
        let mut values = Values::default();
        let mut copy = |bytes: &[u8]| values.write(|out| out.extend_from_slice(bytes));
        let first = copy(b"one").unwrap();
        assert_eq!(copy(b"t\nwo"), None);
        let long = copy(&[b'x'; 4 * USUAL]).unwrap();
        drop(copy(b"three"));
        let last = copy(b"").unwrap();
        drop(values);
        assert_eq!((first.as_bytes(), long.len(), last.len()), (b"one".as_slice(), 4 * USUAL, 0));
    }
}
