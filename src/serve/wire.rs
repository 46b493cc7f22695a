//! pingora's headers as `decide::headers::Fields`: it keeps the case of names in a map of its own beside the values.
use decide::headers::Fields;
use http::{HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

/// A header of pingora's that is being edited.
pub struct Wire<'a, H>(pub &'a mut H);

macro_rules! fields {
    ($header:ty) => {
        impl Fields for Wire<'_, $header> {
            fn value(&self, name: &HeaderName) -> Option<&HeaderValue> {
                self.0.headers.get(name)
            }

            fn values(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue> {
                self.0.headers.get_all(name).into_iter()
            }

            fn names(&self) -> impl Iterator<Item = &HeaderName> {
                self.0.headers.keys()
            }

            fn set(&mut self, name: &HeaderName, value: HeaderValue) {
                // Name and value are valid already, so this cannot fail.
                let _ = self.0.insert_header(name.clone(), value);
            }

            fn append(&mut self, name: &HeaderName, value: HeaderValue) {
                let _ = self.0.append_header(name.clone(), value);
            }

            fn remove(&mut self, name: &HeaderName) {
                self.0.remove_header(name);
            }
        }
    };
}
fields!(RequestHeader);
fields!(ResponseHeader);
