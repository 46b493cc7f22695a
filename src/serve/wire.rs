//! pingora's headers as plain `HeaderMap`s. It keeps the spelling of each name in a second map beside the values, and
//! every change to a header pays for both: names leave lowercase instead, as they do in HTTP/2, and the second map goes.
use http::HeaderMap;
use pingora_http::{RequestHeader, ResponseHeader};

/// Forgets how a request spelt the names of its fields. The target becomes the one of its URI.
pub fn forget_spelling(header: &mut RequestHeader) {
    edit_request(header, |_| {});
}

/// Lets `edit` change the fields of a request. The target becomes the one of its URI.
pub fn edit_request<T>(header: &mut RequestHeader, edit: impl FnOnce(&mut HeaderMap) -> T) -> T {
    let (empty, ()) = http::Request::new(()).into_parts();
    let mut parts = http::request::Parts::from(std::mem::replace(header, RequestHeader::from(empty)));
    let edited = edit(&mut parts.headers);
    *header = RequestHeader::from(parts);
    edited
}

/// Lets `edit` change the fields of a response. The words after its status become the standard's own.
pub fn edit_response<T>(header: &mut ResponseHeader, edit: impl FnOnce(&mut HeaderMap) -> T) -> T {
    let (empty, ()) = http::Response::new(()).into_parts();
    let mut parts = http::response::Parts::from(std::mem::replace(header, ResponseHeader::from(empty)));
    let edited = edit(&mut parts.headers);
    *header = ResponseHeader::from(parts);
    edited
}
