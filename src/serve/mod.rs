//! The only place that names pingora or hyper: listeners, proxy, keys, metrics, admin.
pub mod admin;
pub mod logs;
pub mod metrics;
pub mod listener;
pub mod accept;
pub mod tls;
pub mod certificates;
pub mod stream;
pub mod head;
pub mod http1;
pub mod http2;
pub mod redirect;
pub mod limits;
pub mod drain;
pub mod keys;
pub mod tokens;
pub mod assertion;
