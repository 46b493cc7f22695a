//! A request head as the lane works with it: read once, its values slices of the bytes that came.
use super::body::Source;
use crate::serve::admit::Asked;
use crate::serve::head::{After, Taken};
use bytes::Bytes;
use decide::facts::Protocol;
use http::{HeaderMap, Method};

/// A request head.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) target: Bytes,
    pub(super) fields: HeaderMap,
    pub(super) after: After,
    /// Whether the client speaks HTTP/1.0: no interim answers, no chunks.
    pub(super) old: bool,
    pub(super) keep_alive: bool,
    /// Whether it waits for `100 Continue` before it sends its body.
    pub(super) expects: bool,
    /// Whether it reads trailers.
    pub(super) trailers: bool,
    /// Whether it says how long its body is.
    pub(super) says_length: bool,
    /// Whether the body comes on a stream that says by itself where it ends.
    pub(super) streamed: bool,
}

impl Ask {
    /// A head that was taken from the wire, and its bytes.
    pub(super) fn of_wire(taken: Taken) -> (Bytes, Ask) {
        let Taken { raw, head, method, target, fields } = taken;
        let ask = Ask {
            method,
            target,
            fields,
            after: head.after,
            old: head.old,
            keep_alive: head.keep_alive,
            expects: head.expects && head.after != After::Body(0),
            trailers: head.trailers,
            says_length: head.says_length,
            streamed: false,
        };
        (raw, ask)
    }

    pub(super) fn asked(&self) -> Asked<'_> {
        Asked {
            method: self.method.as_str(),
            target: &self.target,
            authority: None,
            headers: &self.fields,
            protocol: Protocol::Http1,
            body: !matches!(self.after, After::Body(0) | After::WebSocket(0)),
            upgrade: self.upgrade(),
        }
    }

    /// Whether it asks for a WebSocket.
    pub(super) fn upgrade(&self) -> bool {
        matches!(self.after, After::WebSocket(_))
    }

    pub(super) fn to_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// `Content-Length`, where the body has one; an upgrade has no body.
    pub(super) fn length(&self) -> Option<u64> {
        match self.after {
            After::Body(0) => self.says_length.then_some(0),
            After::Body(length) => Some(length),
            After::Chunks | After::WebSocket(_) => None,
        }
    }

    /// Whether it has a body under a method whose bodies some servers do not read: to those it is the next request, whose
    /// answer must be nobody's.
    pub(super) fn has_odd_body(&self) -> bool {
        let odd = [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS].contains(&self.method);
        odd && !matches!(self.after, After::Body(0) | After::WebSocket(0))
    }

    /// The body as it comes.
    pub(super) fn body(&self) -> Source {
        match self.after {
            After::Body(length) if self.streamed => Source::Stream { ended: length == 0 },
            After::Chunks if self.streamed => Source::Stream { ended: false },
            After::Body(length) | After::WebSocket(length) => Source::Length(length),
            After::Chunks => Source::chunks(),
        }
    }
}
