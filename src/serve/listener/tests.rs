//! The listener over real sockets, in front of pingora's proxy and a small application.
mod edge;
mod fixture;
mod heads;
mod http2;
mod limits;
mod plaintext;
mod proxied;
mod tls;
