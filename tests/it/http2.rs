//! HTTP/2 frame by frame: conformance, floods, what becomes of requests on their way to HTTP/1, and hostile applications.
mod conformance;
mod downgrade;
mod floods;
mod large;
mod streams;
mod together;
mod unread;
mod upstream;
mod wire;
